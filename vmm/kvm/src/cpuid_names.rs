//! CPU feature names, as Linux's `/proc/cpuinfo` and QEMU's `-cpu` write them, and where `cpuid`
//! shows them (Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E).

/// Result register of `cpuid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

/// One feature bit.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    pub name: &'static str,
    pub leaf: u32,
    pub subleaf: u32,
    pub register: Register,
    pub bit: u32,
}

/// Finds a feature; hyphens and underscores are the same, as are common second names.
pub fn find(name: &str) -> Option<&'static Feature> {
    let canonical = name.to_ascii_lowercase().replace(['-', '.'], "_");
    let canonical = match canonical.as_str() {
        "pni" => "sse3",
        "sse4" => "sse4_2",
        "tsc_deadline_timer" => "tsc_deadline",
        "pclmuldq" => "pclmulqdq",
        "sha_ni" => "sha",
        other => other,
    };
    FEATURES.iter().find(|feature| feature.name == canonical)
}

/// All names, for messages.
pub fn names() -> impl Iterator<Item = &'static str> {
    FEATURES.iter().map(|feature| feature.name)
}

const fn f(name: &'static str, leaf: u32, register: Register, bit: u32) -> Feature {
    Feature { name, leaf, subleaf: 0, register, bit }
}

const fn sub(name: &'static str, leaf: u32, subleaf: u32, register: Register, bit: u32) -> Feature {
    Feature { name, leaf, subleaf, register, bit }
}

use Register::{Eax, Ebx, Ecx, Edx};

const EXTENDED: u32 = 0x8000_0001;

#[rustfmt::skip]
static FEATURES: &[Feature] = &[
    f("sse3", 1, Ecx, 0), f("pclmulqdq", 1, Ecx, 1), f("monitor", 1, Ecx, 3), f("vmx", 1, Ecx, 5),
    f("ssse3", 1, Ecx, 9), f("fma", 1, Ecx, 12), f("cx16", 1, Ecx, 13), f("pcid", 1, Ecx, 17),
    f("sse4_1", 1, Ecx, 19), f("sse4_2", 1, Ecx, 20), f("x2apic", 1, Ecx, 21),
    f("movbe", 1, Ecx, 22), f("popcnt", 1, Ecx, 23), f("tsc_deadline", 1, Ecx, 24),
    f("aes", 1, Ecx, 25), f("xsave", 1, Ecx, 26), f("avx", 1, Ecx, 28), f("f16c", 1, Ecx, 29),
    f("rdrand", 1, Ecx, 30), f("hypervisor", 1, Ecx, 31),
    f("fpu", 1, Edx, 0), f("vme", 1, Edx, 1), f("de", 1, Edx, 2), f("pse", 1, Edx, 3),
    f("tsc", 1, Edx, 4), f("msr", 1, Edx, 5), f("pae", 1, Edx, 6), f("mce", 1, Edx, 7),
    f("cx8", 1, Edx, 8), f("apic", 1, Edx, 9), f("sep", 1, Edx, 11), f("mtrr", 1, Edx, 12),
    f("pge", 1, Edx, 13), f("mca", 1, Edx, 14), f("cmov", 1, Edx, 15), f("pat", 1, Edx, 16),
    f("pse36", 1, Edx, 17), f("clflush", 1, Edx, 19), f("mmx", 1, Edx, 23), f("fxsr", 1, Edx, 24),
    f("sse", 1, Edx, 25), f("sse2", 1, Edx, 26), f("ht", 1, Edx, 28),
    f("arat", 6, Eax, 2),
    f("fsgsbase", 7, Ebx, 0), f("tsc_adjust", 7, Ebx, 1), f("bmi1", 7, Ebx, 3),
    f("hle", 7, Ebx, 4), f("avx2", 7, Ebx, 5), f("smep", 7, Ebx, 7), f("bmi2", 7, Ebx, 8),
    f("erms", 7, Ebx, 9), f("invpcid", 7, Ebx, 10), f("rtm", 7, Ebx, 11), f("mpx", 7, Ebx, 14),
    f("avx512f", 7, Ebx, 16), f("avx512dq", 7, Ebx, 17), f("rdseed", 7, Ebx, 18),
    f("adx", 7, Ebx, 19), f("smap", 7, Ebx, 20), f("avx512ifma", 7, Ebx, 21),
    f("clflushopt", 7, Ebx, 23), f("clwb", 7, Ebx, 24), f("avx512cd", 7, Ebx, 28),
    f("sha", 7, Ebx, 29), f("avx512bw", 7, Ebx, 30), f("avx512vl", 7, Ebx, 31),
    f("avx512vbmi", 7, Ecx, 1), f("umip", 7, Ecx, 2), f("pku", 7, Ecx, 3), f("waitpkg", 7, Ecx, 5),
    f("gfni", 7, Ecx, 8), f("vaes", 7, Ecx, 9), f("vpclmulqdq", 7, Ecx, 10), f("la57", 7, Ecx, 16),
    f("rdpid", 7, Ecx, 22), f("movdiri", 7, Ecx, 27), f("movdir64b", 7, Ecx, 28),
    f("fsrm", 7, Edx, 4), f("serialize", 7, Edx, 14), f("spec_ctrl", 7, Edx, 26),
    f("arch_capabilities", 7, Edx, 29), f("ssbd", 7, Edx, 31),
    sub("avx_vnni", 7, 1, Eax, 4), sub("fzrm", 7, 1, Eax, 10), sub("fsrs", 7, 1, Eax, 11),
    sub("xsaveopt", 0xD, 1, Eax, 0), sub("xsavec", 0xD, 1, Eax, 1), sub("xgetbv1", 0xD, 1, Eax, 2),
    sub("xsaves", 0xD, 1, Eax, 3),
    f("lahf_lm", EXTENDED, Ecx, 0), f("svm", EXTENDED, Ecx, 2), f("abm", EXTENDED, Ecx, 5),
    f("lzcnt", EXTENDED, Ecx, 5), f("sse4a", EXTENDED, Ecx, 6), f("misalignsse", EXTENDED, Ecx, 7),
    f("3dnowprefetch", EXTENDED, Ecx, 8), f("xop", EXTENDED, Ecx, 11), f("fma4", EXTENDED, Ecx, 16),
    f("tbm", EXTENDED, Ecx, 21), f("topoext", EXTENDED, Ecx, 22), f("perfctr_core", EXTENDED, Ecx, 23),
    f("syscall", EXTENDED, Edx, 11), f("nx", EXTENDED, Edx, 20), f("mmxext", EXTENDED, Edx, 22),
    f("fxsr_opt", EXTENDED, Edx, 25), f("pdpe1gb", EXTENDED, Edx, 26), f("rdtscp", EXTENDED, Edx, 27),
    f("lm", EXTENDED, Edx, 29),
    f("invtsc", 0x8000_0007, Edx, 8), f("clzero", 0x8000_0008, Ebx, 0),
    f("wbnoinvd", 0x8000_0008, Ebx, 9), f("ibpb", 0x8000_0008, Ebx, 12),
    f("kvmclock", 0x4000_0001, Eax, 3), f("kvm_asyncpf", 0x4000_0001, Eax, 4),
    f("kvm_steal_time", 0x4000_0001, Eax, 5), f("kvm_pv_eoi", 0x4000_0001, Eax, 6),
    f("kvm_pv_unhalt", 0x4000_0001, Eax, 7), f("kvm_pv_tlb_flush", 0x4000_0001, Eax, 9),
    f("kvm_pv_ipi", 0x4000_0001, Eax, 11), f("kvm_poll_control", 0x4000_0001, Eax, 12),
    f("kvmclock_stable_bit", 0x4000_0001, Eax, 24),
];
