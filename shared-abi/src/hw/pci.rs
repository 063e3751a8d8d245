//! PCI: configuration header, capabilities and MSI-X.
//!
//! Sections are those of the *PCI Local Bus Specification* 3.0 ("PCI") and of the *PCI Express
//! Base Specification* ("PCIe"). Only type 0 (endpoint) headers are described.

use super::register::{Field, Register};
use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Type 1 configuration mechanism: address port (PCI 3.2.2.3.2).
pub const CONFIG_ADDRESS: u16 = 0xCF8;
/// Type 1 configuration mechanism: data port.
pub const CONFIG_DATA: u16 = 0xCFC;
/// Bit of [`CONFIG_ADDRESS`] that makes [`CONFIG_DATA`] reach configuration space.
pub const CONFIG_ENABLE: u32 = 1 << 31;

/// Conventional configuration space of one function, in bytes.
pub const CONFIG_SIZE: usize = 256;
/// Configuration space of one function in ECAM (PCIe 7.2.2), in bytes.
pub const ECAM_FUNCTION_SIZE: u64 = 4096;

// Offsets in a type 0 header (PCI 6.1).
pub const VENDOR_ID: usize = 0x00;
pub const DEVICE_ID: usize = 0x02;
pub const COMMAND: usize = 0x04;
pub const STATUS: usize = 0x06;
pub const REVISION_ID: usize = 0x08;
pub const CLASS_PROG_IF: usize = 0x09;
pub const CLASS_SUBCLASS: usize = 0x0A;
pub const CLASS_BASE: usize = 0x0B;
pub const CACHE_LINE_SIZE: usize = 0x0C;
pub const LATENCY_TIMER: usize = 0x0D;
pub const HEADER_TYPE: usize = 0x0E;
pub const BIST: usize = 0x0F;
/// First of six base address registers.
pub const BAR0: usize = 0x10;
pub const BAR_COUNT: usize = 6;
pub const SUBSYSTEM_VENDOR_ID: usize = 0x2C;
pub const SUBSYSTEM_ID: usize = 0x2E;
pub const EXPANSION_ROM: usize = 0x30;
pub const CAPABILITIES: usize = 0x34;
pub const INTERRUPT_LINE: usize = 0x3C;
pub const INTERRUPT_PIN: usize = 0x3D;
pub const MIN_GNT: usize = 0x3E;
pub const MAX_LAT: usize = 0x3F;
/// First offset behind the header; capabilities live from here on.
pub const HEADER_SIZE: usize = 0x40;

/// What an absent function returns as vendor id.
pub const VENDOR_NONE: u16 = 0xFFFF;
/// Bit of [`HEADER_TYPE`]: more functions than function 0.
pub const HEADER_MULTIFUNCTION: u8 = 0x80;

bitflags! {
    /// Command register (PCI 6.2.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Command: u16 {
        /// Respond to I/O space accesses.
        const IO_SPACE = 1 << 0;
        /// Respond to memory space accesses.
        const MEMORY_SPACE = 1 << 1;
        /// May start memory accesses: DMA and message-signalled interrupts.
        const BUS_MASTER = 1 << 2;
        const PARITY_ERROR_RESPONSE = 1 << 6;
        const SERR_ENABLE = 1 << 8;
        /// May not assert INTx.
        const INTX_DISABLE = 1 << 10;
    }
}

bitflags! {
    /// Status register (PCI 6.2.3).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Status: u16 {
        const INTERRUPT = 1 << 3;
        const CAPABILITIES_LIST = 1 << 4;
        const MASTER_DATA_PARITY_ERROR = 1 << 8;
        const SIGNALED_TARGET_ABORT = 1 << 11;
        const RECEIVED_TARGET_ABORT = 1 << 12;
        const RECEIVED_MASTER_ABORT = 1 << 13;
        const SIGNALED_SYSTEM_ERROR = 1 << 14;
        const DETECTED_PARITY_ERROR = 1 << 15;
    }
}

// Base address registers (PCI 6.2.5.1).
/// Set in an I/O BAR, clear in a memory BAR.
pub const BAR_IO: u32 = 1 << 0;
pub const BAR_TYPE_MASK: u32 = 3 << 1;
/// The BAR and its successor hold one 64-bit address.
pub const BAR_TYPE_64: u32 = 2 << 1;
pub const BAR_PREFETCHABLE: u32 = 1 << 3;
pub const BAR_MEMORY_MASK: u32 = !0xF;
pub const BAR_IO_MASK: u32 = !0x3;

// Capability identifiers (PCI appendix H).
pub const CAP_POWER_MANAGEMENT: u8 = 0x01;
pub const CAP_MSI: u8 = 0x05;
pub const CAP_VENDOR: u8 = 0x09;
pub const CAP_PCI_EXPRESS: u8 = 0x10;
pub const CAP_MSIX: u8 = 0x11;
/// Longest capability list a reader follows: 48 dwords of 4 bytes lie behind the header.
pub const CAP_LIST_MAX: usize = 48;

/// Offsets inside an MSI capability with 64-bit addresses and without masks (PCI 6.8.1).
pub mod msi {
    pub const MESSAGE_CONTROL: usize = 2;
    pub const ADDRESS_LOW: usize = 4;
    pub const ADDRESS_HIGH: usize = 8;
    pub const DATA: usize = 12;
    pub const CAPABILITY_SIZE: usize = 14;
    /// Message control: MSI on, INTx off.
    pub const CONTROL_ENABLE: u16 = 1 << 0;
    /// Message control: the address has an upper half.
    pub const CONTROL_64: u16 = 1 << 7;
}

/// Offsets inside the MSI-X capability (PCI 6.8.2).
pub mod msix {
    pub const MESSAGE_CONTROL: usize = 2;
    pub const TABLE: usize = 4;
    pub const PBA: usize = 8;
    pub const CAPABILITY_SIZE: usize = 12;

    /// Message control: number of table entries minus one.
    pub const CONTROL_SIZE_MASK: u16 = 0x07FF;
    /// Message control: all vectors masked.
    pub const CONTROL_FUNCTION_MASK: u16 = 1 << 14;
    /// Message control: MSI-X on, INTx off.
    pub const CONTROL_ENABLE: u16 = 1 << 15;
    /// Table and PBA registers: low bits name the BAR, the rest is the offset in it.
    pub const BIR_MASK: u32 = 7;

    /// Bytes of one table entry.
    pub const ENTRY_SIZE: usize = 16;
    pub const ENTRY_ADDRESS_LOW: usize = 0;
    pub const ENTRY_ADDRESS_HIGH: usize = 4;
    pub const ENTRY_DATA: usize = 8;
    pub const ENTRY_CONTROL: usize = 12;
    /// Vector control: the vector is masked.
    pub const ENTRY_MASKED: u32 = 1;
    pub const MAX_VECTORS: usize = 2048;
}

/// One entry of the MSI-X table (PCI 6.8.2.6 to 6.8.2.9).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct MsixEntry {
    pub address_low: u32,
    pub address_high: u32,
    pub data: u32,
    pub control: u32,
}

const _: () = assert!(size_of::<MsixEntry>() == msix::ENTRY_SIZE);

/// A function's address on the bus: bus, device (0..32), function (0..8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf(u16);

impl Bdf {
    /// Device and function are taken modulo 32 and 8.
    pub const fn new(bus: u8, device: u8, function: u8) -> Self {
        Self((bus as u16) << 8 | ((device as u16) & 31) << 3 | (function as u16) & 7)
    }

    /// From a requester id: bus in bits 15:8, device in 7:3, function in 2:0.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    pub const fn bits(self) -> u16 {
        self.0
    }

    pub const fn bus(self) -> u8 {
        (self.0 >> 8) as u8
    }

    pub const fn device(self) -> u8 {
        (self.0 >> 3) as u8 & 31
    }

    pub const fn function(self) -> u8 {
        self.0 as u8 & 7
    }

    /// Offset of the function's configuration space in ECAM (PCIe 7.2.2).
    pub const fn ecam_offset(self) -> u64 {
        (self.0 as u64) << 12
    }

    /// Value for [`CONFIG_ADDRESS`] that selects the dword holding `offset`.
    pub const fn config_address(self, offset: u8) -> u32 {
        CONFIG_ENABLE | (self.0 as u32) << 8 | (offset & 0xFC) as u32
    }
}

impl core::fmt::Display for Bdf {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:02x}:{:02x}.{}", self.bus(), self.device(), self.function())
    }
}

/// What a BAR turns out to be when sized: the value read back after writing ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BarKind {
    Unimplemented,
    Io {
        size: u32,
    },
    Memory32 {
        size: u32,
        prefetchable: bool,
    },
    /// Size in bytes; the next BAR is the upper half.
    Memory64 {
        size: u64,
        prefetchable: bool,
    },
}

/// Decodes the sizing read-back of a BAR; `high` is the read-back of the next BAR, used only for
/// 64-bit ones.
pub const fn decode_bar(low: u32, high: u32) -> BarKind {
    if low == 0 {
        return BarKind::Unimplemented;
    }
    if low & BAR_IO != 0 {
        return BarKind::Io { size: (!(low & BAR_IO_MASK)).wrapping_add(1) & 0xFFFF };
    }
    let prefetchable = low & BAR_PREFETCHABLE != 0;
    if low & BAR_TYPE_MASK == BAR_TYPE_64 {
        let mask = (high as u64) << 32 | (low & BAR_MEMORY_MASK) as u64;
        return BarKind::Memory64 { size: (!mask).wrapping_add(1), prefetchable };
    }
    let size = (!(low & BAR_MEMORY_MASK)).wrapping_add(1);
    BarKind::Memory32 { size, prefetchable }
}

const COMMAND_FIELDS: &[Field] = &[
    Field::bit(0, "io"),
    Field::bit(1, "memory"),
    Field::bit(2, "bus_master"),
    Field::bit(6, "parity"),
    Field::bit(8, "serr"),
    Field::bit(10, "intx_disable"),
];

const STATUS_FIELDS: &[Field] = &[
    Field::bit(3, "interrupt"),
    Field::bit(4, "capabilities"),
    Field::bit(11, "sig_target_abort"),
    Field::bit(12, "rcv_target_abort"),
    Field::bit(13, "rcv_master_abort"),
    Field::bit(14, "sig_serr"),
    Field::bit(15, "parity_error"),
];

/// Type 0 header. BARs and ids depend on the device; their masks here are zero.
pub const HEADER: &[Register] = &[
    Register::ro(0x00, "vendor_id", 2, "PCI 6.2.1"),
    Register::ro(0x02, "device_id", 2, "PCI 6.2.1"),
    Register::rw(0x04, "command", 2, "PCI 6.2.2").writable(0x0547).fields(COMMAND_FIELDS),
    Register::rw(0x06, "status", 2, "PCI 6.2.3").writable(0).w1c(0xF900).fields(STATUS_FIELDS),
    Register::ro(0x08, "revision", 1, "PCI 6.2.1"),
    Register::ro(0x09, "prog_if", 1, "PCI 6.2.1"),
    Register::ro(0x0A, "subclass", 1, "PCI 6.2.1"),
    Register::ro(0x0B, "class", 1, "PCI 6.2.1"),
    Register::rw(0x0C, "cache_line_size", 1, "PCI 6.2.4"),
    Register::ro(0x0D, "latency_timer", 1, "PCI 6.2.4"),
    Register::ro(0x0E, "header_type", 1, "PCI 6.2.1"),
    Register::ro(0x0F, "bist", 1, "PCI 6.2.4"),
    Register::rw(0x10, "bar0", 4, "PCI 6.2.5").writable(0),
    Register::rw(0x14, "bar1", 4, "PCI 6.2.5").writable(0),
    Register::rw(0x18, "bar2", 4, "PCI 6.2.5").writable(0),
    Register::rw(0x1C, "bar3", 4, "PCI 6.2.5").writable(0),
    Register::rw(0x20, "bar4", 4, "PCI 6.2.5").writable(0),
    Register::rw(0x24, "bar5", 4, "PCI 6.2.5").writable(0),
    Register::ro(0x28, "cardbus_cis", 4, "PCI 6.2.4"),
    Register::ro(0x2C, "subsystem_vendor_id", 2, "PCI 6.2.4"),
    Register::ro(0x2E, "subsystem_id", 2, "PCI 6.2.4"),
    Register::ro(0x30, "expansion_rom", 4, "PCI 6.2.5.2"),
    Register::ro(0x34, "capabilities", 1, "PCI 6.7"),
    Register::rw(0x3C, "interrupt_line", 1, "PCI 6.2.4"),
    Register::ro(0x3D, "interrupt_pin", 1, "PCI 6.2.4"),
    Register::ro(0x3E, "min_gnt", 1, "PCI 6.2.4"),
    Register::ro(0x3F, "max_lat", 1, "PCI 6.2.4"),
];

/// An MSI capability for one message with a 64-bit address, offsets from its start.
pub const MSI_CAPABILITY: &[Register] = &[
    Register::ro(0, "msi.id", 1, "PCI 6.8.1.1").reset(CAP_MSI as u64),
    Register::ro(1, "msi.next", 1, "PCI 6.8.1.2"),
    Register::rw(2, "msi.control", 2, "PCI 6.8.1.3")
        .reset(msi::CONTROL_64 as u64)
        .writable(0x0071)
        .fields(&[
            Field::bit(0, "enable"),
            Field::span(1, 3, "log2_capable"),
            Field::span(4, 3, "log2_enabled"),
            Field::bit(7, "64"),
        ]),
    Register::rw(4, "msi.address", 4, "PCI 6.8.1.4").writable(0xFFFF_FFFC),
    Register::rw(8, "msi.address_high", 4, "PCI 6.8.1.5"),
    Register::rw(12, "msi.data", 2, "PCI 6.8.1.6"),
];

/// The MSI-X capability, offsets from its start.
pub const MSIX_CAPABILITY: &[Register] = &[
    Register::ro(0, "msix.id", 1, "PCI 6.8.2").reset(CAP_MSIX as u64),
    Register::ro(1, "msix.next", 1, "PCI 6.8.2"),
    Register::rw(2, "msix.control", 2, "PCI 6.8.2.3").writable(0xC000).fields(&[
        Field::span(0, 11, "size-1"),
        Field::bit(14, "mask"),
        Field::bit(15, "enable"),
    ]),
    Register::ro(4, "msix.table", 4, "PCI 6.8.2.4")
        .fields(&[Field::span(0, 3, "bir"), Field::span(3, 29, "offset/8")]),
    Register::ro(8, "msix.pba", 4, "PCI 6.8.2.5")
        .fields(&[Field::span(0, 3, "bir"), Field::span(3, 29, "offset/8")]),
];

/// One MSI-X table entry, offsets from its start. Vectors are masked after reset.
pub const MSIX_ENTRY: &[Register] = &[
    Register::rw(0, "msix.address", 4, "PCI 6.8.2.7").writable(0xFFFF_FFFC),
    Register::rw(4, "msix.address_high", 4, "PCI 6.8.2.8"),
    Register::rw(8, "msix.data", 4, "PCI 6.8.2.6"),
    Register::rw(12, "msix.vector_control", 4, "PCI 6.8.2.9")
        .reset(1)
        .writable(1)
        .fields(&[Field::bit(0, "masked")]),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_decode_by_their_low_bits() {
        assert_eq!(decode_bar(0, 0), BarKind::Unimplemented);
        assert_eq!(decode_bar(0xFFFF_FF01, 0), BarKind::Io { size: 0x100 });
        assert_eq!(
            decode_bar(0xFFFF_F000, 0),
            BarKind::Memory32 { size: 0x1000, prefetchable: false }
        );
        assert_eq!(
            decode_bar(0xFFFF_C00C, 0xFFFF_FFFF),
            BarKind::Memory64 { size: 0x4000, prefetchable: true }
        );
    }

    #[test]
    fn bdf_packs_as_the_requester_id() {
        let bdf = Bdf::new(0, 3, 1);
        assert_eq!((bdf.bits(), bdf.device(), bdf.function()), (0x19, 3, 1));
        assert_eq!(bdf.ecam_offset(), 0x1_9000);
        assert_eq!(bdf.config_address(0x3D), 0x8000_193C);
    }
}
