use super::*;

fn leaf(function: u32, index: u32, registers: [u32; 4]) -> kvm_cpuid_entry2 {
    let [eax, ebx, ecx, edx] = registers;
    kvm_cpuid_entry2 { function, index, eax, ebx, ecx, edx, ..Default::default() }
}

fn supported() -> CpuId {
    CpuId::from_entries(&[
        leaf(0, 0, [0xD, 0, 0, 0]),
        leaf(1, 0, [0, 0xFFFF_FFFF, 1 << 13 | 1 << 26, 1 << 25]),
        leaf(4, 0, [0xFC00_0121, 0, 0, 0]),
        leaf(4, 3, [0xFC00_0163, 0, 0, 0]),
        leaf(7, 0, [0, 1 << 20, 0, 0]),
        leaf(0xB, 0, [9, 9, 9, 9]),
        leaf(0x4000_0000, 0, [0x4000_0001, 0x4B4D_564B, 0x564B_4D56, 0x4D]),
    ])
    .unwrap()
}

const SHAPE: Shape = Shape { cpus: 3, tsc_khz: 2_500_000, tsc_deadline: true };

fn find(leaves: &[kvm_cpuid_entry2], function: u32, index: u32) -> kvm_cpuid_entry2 {
    let mut found =
        leaves.iter().filter(|leaf| leaf.function == function && leaf.index == index).copied();
    let leaf = found.next().unwrap();
    assert!(found.next().is_none(), "leaf {function:#x}.{index} twice");
    leaf
}

fn change(feature: &str, enable: bool) -> CpuidChange {
    CpuidChange { feature: feature.into(), enable }
}

#[test]
fn the_frequency_leaf_is_within_the_announced_range() {
    let leaves = common(&supported(), SHAPE, &[]).unwrap();
    let range = find(&leaves, 0x4000_0000, 0);
    assert_eq!((range.eax, range.ebx), (0x4000_0010, 0x4B4D_564B));
    let clocks = find(&leaves, 0x4000_0010, 0);
    assert_eq!((clocks.eax, clocks.ebx), (2_500_000, 1_000_000));
}

#[test]
fn each_vcpu_has_its_own_apic_identifier() {
    let shared = common(&supported(), SHAPE, &[]).unwrap();
    for index in 0..3 {
        let cpuid = for_vcpu(&shared, SHAPE, index).unwrap();
        let leaves = cpuid.as_slice();
        assert_eq!(find(leaves, 1, 0).ebx, index << 24 | 3 << 16 | 0xFFFF);
        assert_eq!(find(leaves, 0xB, 0).edx, index);
        let cores = find(leaves, 0xB, 1);
        assert_eq!((cores.eax, cores.ebx, cores.ecx), (2, 3, 0x201));
    }
}

#[test]
fn caches_are_private_but_the_last_level() {
    let leaves = common(&supported(), SHAPE, &[]).unwrap();
    assert_eq!(find(&leaves, 4, 0).eax, 2 << 26 | 0x121);
    assert_eq!(find(&leaves, 4, 3).eax, 2 << 26 | 2 << 14 | 0x163);
}

#[test]
fn features_are_hidden_by_name() {
    let changes = [change("cx16", false), change("SMAP", false), change("tsc-deadline", false)];
    let leaves = common(&supported(), SHAPE, &changes).unwrap();
    let basic = find(&leaves, 1, 0);
    assert_eq!(basic.ecx & (1 << 13 | 1 << 24), 0);
    assert_ne!(basic.ecx & 1 << 26, 0, "xsave was not hidden");
    assert_eq!(find(&leaves, 7, 0).ebx, 0);
    // Hiding what is not there at all is no error.
    assert!(common(&supported(), SHAPE, &[change("xsaveopt", false)]).is_ok());
}

#[test]
fn a_kvm_that_does_not_hide_is_found_out() {
    let changes = [change("cx16", false), change("xsave", false), change("smap", true)];
    assert_eq!(shown_anyway(supported().as_slice(), &changes), ["cx16", "xsave"]);
    let leaves = common(&supported(), SHAPE, &changes).unwrap();
    assert!(shown_anyway(&leaves, &changes).is_empty());
}

#[test]
fn what_kvm_lacks_cannot_be_asked_for() {
    assert!(common(&supported(), SHAPE, &[change("xsave", true)]).is_ok());
    for feature in ["avx2", "xsaves"] {
        let error = common(&supported(), SHAPE, &[change(feature, true)]).unwrap_err();
        assert!(error.contains(feature) && error.contains("not support"), "{error}");
    }
}

#[test]
fn an_unknown_name_is_answered_with_the_known_ones() {
    let error = common(&supported(), SHAPE, &[change("cx17", false)]).unwrap_err();
    assert!(error.contains("\"cx17\"") && error.contains("popcnt"), "{error}");
}

#[test]
fn names_of_the_brief_and_second_names_are_known() {
    let names = "cx16 popcnt xsave smap smep avx avx2 sse4_1 sse4_2 movbe x2apic tsc-deadline \
                 fsgsbase erms invpcid pcid rdtscp bmi1 bmi2 sse4.1 pni tsc_deadline_timer";
    for name in names.split_whitespace() {
        assert!(cpuid_names::find(name).is_some(), "{name}");
    }
    let all: Vec<&str> = cpuid_names::names().collect();
    for name in &all {
        assert_eq!(all.iter().filter(|other| other == &name).count(), 1, "{name} twice");
    }
}
