//! Where the engine puts things into the first mebibyte, and the machine's fixed interrupts.
//!
//! Everything the loader leaves for the kernel lies in the firmware area below 1 MiB, which the
//! memory map calls reserved: no kernel hands it out before it has read it.

/// End of conventional memory; above it the BIOS data and video areas of a PC.
pub const CONVENTIONAL_END: u64 = 0x9_FC00;
/// Start of the firmware area, reserved in the memory map up to [`LOW_MEGABYTE`].
pub const FIRMWARE_BASE: u64 = 0xE_0000;
/// ACPI tables, the RSDP first (found by a scan, too, as it is 16-byte aligned).
pub const ACPI_BASE: u64 = FIRMWARE_BASE;
pub const ACPI_END: u64 = 0xF_0000;
/// The boot GDT: null, code, data, task state.
pub const BOOT_GDT: u64 = 0xF_0000;
/// `hvm_start_info`, then its memory map and module list.
pub const START_INFO: u64 = 0xF_0100;
pub const MEMMAP: u64 = 0xF_0200;
pub const MODLIST: u64 = 0xF_0400;
/// Kernel command line, NUL-terminated.
pub const CMDLINE: u64 = 0xF_1000;
/// Longest command line in bytes, the NUL not counted.
pub const CMDLINE_MAX: usize = 16 << 10;
pub const LOW_MEGABYTE: u64 = 0x10_0000;

/// Bytes of the PCI configuration window: 256 buses of 1 MiB.
pub const ECAM_SIZE: u64 = 256 << 20;

/// Inputs of the I/O APIC, and so the first interrupt number free for MSI routes.
pub const IOAPIC_PINS: u32 = 24;
/// The ACPI system control interrupt.
pub const SCI_IRQ: u8 = 9;

/// Three pages KVM needs on Intel hosts without unrestricted guests, and its identity map; both
/// in the hole below 4 GiB that no device and no RAM uses.
pub const KVM_TSS: usize = 0xFFFB_D000;
pub const KVM_IDENTITY_MAP: u64 = 0xFFFB_C000;
