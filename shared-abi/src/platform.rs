//! What the XINIM machine and its guest kernel agree on outside any device specification.
//!
//! Every item here is optional for the guest: on a machine without it (a plain QEMU, say) a read
//! gives ones and a write does nothing. Port numbers are x86 I/O ports.

/// Debug console (as QEMU's `isa-debugcon`): a write emits one byte, a read gives
/// [`DEBUGCON_PRESENT`] where the device exists. The kernel writes its panic report here, and its
/// log when the command line has `klog=debugcon`.
pub const PORT_DEBUGCON: u16 = 0xE9;
pub const DEBUGCON_PRESENT: u8 = 0xE9;

/// Exit device (as QEMU's `isa-debug-exit`, iobase 0xF4, iosize 4): a 32-bit write ends the
/// machine. QEMU itself then exits with `(value << 1) | 1`.
pub const PORT_EXIT: u16 = 0xF4;
/// Orderly power-off. Exit statuses of programs travel over the host link, not here.
pub const EXIT_POWEROFF: u32 = 0x10;
/// The guest asks for a reboot.
pub const EXIT_REBOOT: u32 = 0x11;
/// The kernel panicked; its report has gone to [`PORT_DEBUGCON`].
pub const EXIT_PANIC: u32 = 0x43;

/// Panic device (as QEMU's `pvpanic`): a byte whose bits are events; a read gives those that the device
/// knows. [`PVPANIC_PANICKED`] ends the machine as [`EXIT_PANIC`] does, but QEMU then stands still and
/// can be looked at.
pub const PORT_PVPANIC: u16 = 0x505;
pub const PVPANIC_PANICKED: u8 = 1 << 0;

/// The kernel announces its trace page: a 32-bit write of the page frame number of a
/// [`TracePageHeader`].
pub const PORT_TRACE_PAGE: u16 = 0xE8;

/// Reset control register of the PC chipset; writing 6 resets the machine.
pub const PORT_RESET: u16 = 0xCF9;

/// Legacy serial port COM1, the interactive console.
pub const COM1: u16 = 0x3F8;
pub const COM1_IRQ: u8 = 4;

/// ACPI power-management block; the FADT says where it is, these are our and q35's values.
pub const PM1A_EVENT: u16 = 0x600;
pub const PM1A_CONTROL: u16 = 0x604;
pub const PM_TIMER: u16 = 0x608;

/// PCI configuration space, memory-mapped (MCFG table); 256 buses of 1 MiB.
pub const ECAM_BASE: u64 = 0xB000_0000;
/// Window for 32-bit BARs.
pub const MMIO32_BASE: u64 = 0xC000_0000;
pub const MMIO32_END: u64 = 0xFEC0_0000;
pub const IOAPIC_BASE: u64 = 0xFEC0_0000;
pub const LAPIC_BASE: u64 = 0xFEE0_0000;
/// RAM below 4 GiB ends here at the latest; the rest starts at 4 GiB.
pub const LOW_RAM_MAX: u64 = 0x8000_0000;

/// CPUID leaf (hypervisor range) with EAX = TSC frequency in kHz and EBX = local APIC timer
/// frequency in kHz, as KVM guests of several VMMs know it. Absent: the guest calibrates.
pub const CPUID_FREQUENCIES: u32 = 0x4000_0010;

/// Kernel command line words this machine adds.
/// `mode=exec`: take a command from the host link, run it and power off. Default: a terminal.
pub const CMDLINE_MODE_EXEC: &str = "mode=exec";
/// The machine promises that RAM was zero before kernel, bundle and boot data were put there, so
/// that the kernel need not clear frames it hands out for the first time. Never said after a
/// reset that keeps RAM.
pub const CMDLINE_RAM_ZEROED: &str = "ram=zeroed";
/// RS gives each service a copy of its program's text instead of mapping the bundle's: a host that
/// damages a running service's text (`ctl inject`) then damages that instance alone.
pub const CMDLINE_TEXT_PRIVATE: &str = "text=private";
/// `heartbeat=MS`: RS finds a hung service within this time at the latest, whatever its manifest says (100
/// to 60000). Services that are not watched stay so.
pub const CMDLINE_HEARTBEAT: &str = "heartbeat=";
/// RS gives no service up for crashing too often and forgives crashes after 200 ms: for experiments, in which
/// a crash after the other is somebody else's doing.
pub const CMDLINE_RESTARTS_UNLIMITED: &str = "restarts=unlimited";

/// First 64 bytes of the trace page; a table of [`TRACE_SLOTS`] [`TraceProcess`] follows at
/// [`TRACE_TABLE_OFFSET`]. Physically contiguous, [`TRACE_PAGES`] pages. Written by the kernel
/// only, read by the machine at any time without synchronisation: a torn name is possible, a
/// wrong slot number is not.
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
pub struct TracePageHeader {
    /// [`TRACE_MAGIC`]
    pub magic: u32,
    /// 2: since then the rings of `trace` follow.
    pub version: u32,
    /// Per CPU, the slot of the running process; [`TRACE_NOBODY`] when idle or in boot.
    pub running: [u32; TRACE_CPUS],
}

/// Behind the header and the words of `trace` that follow it: per slot, the physical address of the process's page tables as CR3 has it (a
/// `u64`); 0 where the kernel does not say. For debuggers.
pub const TRACE_ROOTS_OFFSET: usize = 128;

pub const TRACE_MAGIC: u32 = 0x584E_5450;
pub const TRACE_CPUS: usize = 14;
pub const TRACE_NOBODY: u32 = u32::MAX;
pub const TRACE_TABLE_OFFSET: usize = 4096;
pub const TRACE_SLOTS: usize = 256;
pub const TRACE_PAGES: usize = 4;

/// One process as the machine sees it.
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
pub struct TraceProcess {
    /// 0: the slot is free.
    pub pid: u32,
    /// UTF-8, padded with zeros.
    pub name: [u8; 28],
}

const _: () = assert!(size_of::<TracePageHeader>() == 64);
const _: () = assert!(size_of::<TraceProcess>() == 32);
const _: () = assert!(TRACE_ROOTS_OFFSET + TRACE_SLOTS * 8 <= TRACE_TABLE_OFFSET);
const _: () = assert!(size_of::<TracePageHeader>() <= TRACE_ROOTS_OFFSET);
const _: () = assert!(TRACE_TABLE_OFFSET + TRACE_SLOTS * 32 <= TRACE_PAGES * 4096);
