//! What the guest's `cpuid` shows: all that KVM supports, the machine's topology, a leaf with the
//! clock frequencies, and the changes the user asked for by feature name.

use kvm_bindings::{CpuId, kvm_cpuid_entry2};
use xinim_abi::platform::CPUID_FREQUENCIES;
use xinim_machine::CpuidChange;

use crate::cpuid_names::{self, Register};

/// Room for every leaf current hosts report, about 75.
pub const ENTRIES_MAX: usize = 256;

/// Signature leaf of the hypervisor range.
const HYPERVISOR_LEAF: u32 = 0x4000_0000;
/// KVM's local APIC timer counts nanoseconds (`APIC_BUS_CYCLE_NS`).
const LAPIC_TIMER_KHZ: u32 = 1_000_000;
const FLAG_INDEX: u32 = 1;

/// Figures of the machine that the leaves show.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub cpus: u32,
    /// 0: unknown, the guest calibrates.
    pub tsc_khz: u32,
    pub tsc_deadline: bool,
}

/// The leaves all vCPUs share; [`for_vcpu`] adds each one's own.
pub fn common(
    supported: &CpuId,
    shape: Shape,
    changes: &[CpuidChange],
) -> Result<Vec<kvm_cpuid_entry2>, String> {
    let mut leaves = supported.as_slice().to_vec();
    let shared = (shape.cpus - 1).min(0xFF);
    for leaf in &mut leaves {
        match leaf.function {
            1 => {
                leaf.ebx = leaf.ebx & 0xFF00_FFFF | shape.cpus.min(255) << 16;
                leaf.ecx |= 1 << 31; // runs under a hypervisor
                if shape.tsc_deadline {
                    leaf.ecx |= 1 << 24;
                }
                if shape.cpus > 1 {
                    leaf.edx |= 1 << 28; // the count in EBX is valid
                }
            }
            // Intel: cores of the package, and each cache private to its core but the last level.
            4 if leaf.eax & 0x1F != 0 => {
                let sharing = if leaf.eax >> 5 & 7 >= 3 { shared } else { 0 };
                leaf.eax = leaf.eax & 0x3FFF | sharing << 14 | shared.min(0x3F) << 26;
            }
            // AMD: cores of the package.
            0x8000_0008 => leaf.ecx = leaf.ecx & !0xF0FF | shared,
            0x8000_001D if leaf.eax & 0x1F != 0 => {
                let sharing = if leaf.eax >> 5 & 7 >= 3 { shared } else { 0 };
                leaf.eax = leaf.eax & 0x3FFF | sharing << 14;
            }
            HYPERVISOR_LEAF => leaf.eax = leaf.eax.max(CPUID_FREQUENCIES),
            _ => {}
        }
    }
    // Rewritten per vCPU; what KVM copies from the host describes the host.
    leaves.retain(|leaf| !matches!(leaf.function, 0xB | 0x1F | CPUID_FREQUENCIES));
    leaves.push(kvm_cpuid_entry2 {
        function: CPUID_FREQUENCIES,
        eax: shape.tsc_khz,
        ebx: LAPIC_TIMER_KHZ,
        ..Default::default()
    });
    for change in changes {
        apply(&mut leaves, change)?;
    }
    Ok(leaves)
}

/// The leaves of one vCPU; its local APIC identifier is its index.
pub fn for_vcpu(common: &[kvm_cpuid_entry2], shape: Shape, index: u32) -> Result<CpuId, String> {
    let mut leaves = common.to_vec();
    for leaf in &mut leaves {
        match leaf.function {
            1 => leaf.ebx = leaf.ebx & 0x00FF_FFFF | index << 24,
            0x8000_001E => {
                leaf.eax = index;
                leaf.ebx = index & 0xFF; // core, one thread each
                leaf.ecx = 0;
            }
            _ => {}
        }
    }
    let basic_max = leaves.iter().find(|leaf| leaf.function == 0).map_or(0, |leaf| leaf.eax);
    if basic_max >= 0xB {
        leaves.extend(topology(shape.cpus, index));
    }
    CpuId::from_entries(&leaves).map_err(|_| "KVM supports too many CPUID leaves".into())
}

/// Extended topology (leaf 0xB): one thread per core, all cores in one package.
fn topology(cpus: u32, index: u32) -> [kvm_cpuid_entry2; 3] {
    const THREADS: u32 = 1;
    const CORES: u32 = 2;
    let bits = u32::BITS - (cpus - 1).leading_zeros();
    let level = |level, shift, count, kind| kvm_cpuid_entry2 {
        function: 0xB,
        index: level,
        flags: FLAG_INDEX,
        eax: shift,
        ebx: count,
        ecx: level | kind << 8,
        edx: index,
        ..Default::default()
    };
    [level(0, 0, 1, THREADS), level(1, bits, cpus, CORES), level(2, 0, 0, 0)]
}

/// Hides a feature, or shows one that KVM supports.
fn apply(leaves: &mut [kvm_cpuid_entry2], change: &CpuidChange) -> Result<(), String> {
    let feature = cpuid_names::find(&change.feature).ok_or_else(|| {
        let known: Vec<&str> = cpuid_names::names().collect();
        format!("unknown CPU feature {:?}; known are {}", change.feature, known.join(", "))
    })?;
    let leaf = leaves
        .iter_mut()
        .find(|leaf| leaf.function == feature.leaf && leaf.index == feature.subleaf);
    let Some(leaf) = leaf else {
        // A leaf that is not there hides all its features.
        return if change.enable { Err(unsupported(&change.feature)) } else { Ok(()) };
    };
    let register = match feature.register {
        Register::Eax => &mut leaf.eax,
        Register::Ebx => &mut leaf.ebx,
        Register::Ecx => &mut leaf.ecx,
        Register::Edx => &mut leaf.edx,
    };
    let bit = 1 << feature.bit;
    if !change.enable {
        *register &= !bit;
    } else if *register & bit == 0 {
        return Err(unsupported(&change.feature));
    }
    Ok(())
}

/// Features that were to be hidden and that KVM shows all the same, as it says itself: one that runs
/// the guest's ring 0 in ring 3 cannot intercept `cpuid` everywhere and keeps the host's bits.
pub fn shown_anyway<'a>(shown: &[kvm_cpuid_entry2], changes: &'a [CpuidChange]) -> Vec<&'a str> {
    let hidden = changes.iter().filter(|change| !change.enable);
    let is_there = |change: &&CpuidChange| {
        let Some(feature) = cpuid_names::find(&change.feature) else { return false };
        let is_its = |leaf: &&kvm_cpuid_entry2| {
            leaf.function == feature.leaf && leaf.index == feature.subleaf
        };
        shown
            .iter()
            .find(is_its)
            .is_some_and(|leaf| register(leaf, feature.register) & 1 << feature.bit != 0)
    };
    hidden.filter(is_there).map(|change| change.feature.as_str()).collect()
}

fn register(leaf: &kvm_cpuid_entry2, register: Register) -> u32 {
    match register {
        Register::Eax => leaf.eax,
        Register::Ebx => leaf.ebx,
        Register::Ecx => leaf.ecx,
        Register::Edx => leaf.edx,
    }
}

fn unsupported(feature: &str) -> String {
    format!("this host's KVM does not support CPU feature {feature:?}")
}

#[cfg(test)]
#[path = "cpuid_tests.rs"]
mod tests;
