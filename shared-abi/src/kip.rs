//! The kernel information page: one read-only page at [`KIP_ADDRESS`] in every process, and the
//! entry gate, an executable page behind it.
//!
//! User code enters the kernel by *calling* [`GATE_ADDRESS`] with the system call's number in
//! `rax`. What stands there is the kernel's business: `syscall; ret` where `syscall` enters ring 0,
//! a trap (`int3; ret`) where it does not (nested page-table-based KVM). A raw `syscall`
//! instruction works everywhere too.

/// Where the page is mapped.
pub const KIP_ADDRESS: u64 = 0x0000_7FFF_0000_0000;
pub const GATE_ADDRESS: u64 = KIP_ADDRESS + 4096;

pub const KIP_MAGIC: u64 = u64::from_le_bytes(*b"XINIMKIP");

/// Contents of the page. Time: `ns = (rdtsc - tsc_base) * tsc_mult >> tsc_shift` (64x64 -> 128
/// bit product), counted from boot.
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
pub struct KernelInfoPage {
    pub magic: u64,
    /// Version of this layout and of the system calls.
    pub abi_version: u32,
    pub cpus: u32,
    pub tsc_base: u64,
    pub tsc_mult: u64,
    pub tsc_shift: u32,
    /// See [`entry`].
    pub entry_kind: u32,
    /// Seconds since 1970 at `tsc_base` as the RTC told, 0 if unknown.
    pub boot_time: u64,
    pub memory_total: u64,
    /// See [`features`].
    pub features: u64,
    /// Kernel command line, UTF-8, padded with zeros.
    pub cmdline: [u8; 512],
    /// Which of the guest's own events somebody wants; the machine writes it (see `trace::SWITCH_EVENTS`).
    pub trace: u64,
}

pub const ABI_VERSION: u32 = 1;

/// Values of [`KernelInfoPage::entry_kind`].
pub mod entry {
    pub const SYSCALL: u32 = 1;
    pub const TRAP: u32 = 2;
}

/// Bits of [`KernelInfoPage::features`].
pub mod features {
    /// `syscall` raises ring 3 to ring 0 as the architecture says.
    pub const NATIVE_SYSCALL: u64 = 1 << 0;
}

const _: () = assert!(size_of::<KernelInfoPage>() <= 4096);
