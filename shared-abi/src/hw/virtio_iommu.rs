//! virtio-iommu (VIRTIO 1.2 section 5.13): what other devices' DMA may reach.
//!
//! An *endpoint* is a device as the platform numbers it (ACPI's VIOT table), a *domain* an address
//! space that endpoints are attached to, a *mapping* a range of it. Requests travel on the request
//! queue as a head and a body that the device reads, and a tail that it writes; faults come on the
//! event queue.

use super::register::Register;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Requests (5.13.2).
pub const REQUEST_QUEUE: u16 = 0;
/// Fault reports (5.13.2).
pub const EVENT_QUEUE: u16 = 1;

/// Feature bits (5.13.3).
pub mod feature {
    /// Addresses outside `input_range` cannot be mapped.
    pub const INPUT_RANGE: u64 = 1 << 0;
    /// Domains are numbered within `domain_range`.
    pub const DOMAIN_RANGE: u64 = 1 << 1;
    pub const MAP_UNMAP: u64 = 1 << 2;
    /// Endpoints without a domain reach everything (superseded by BYPASS_CONFIG).
    pub const BYPASS: u64 = 1 << 3;
    pub const PROBE: u64 = 1 << 4;
    pub const MMIO: u64 = 1 << 5;
    /// `bypass` says what endpoints without a domain reach, and can be written.
    pub const BYPASS_CONFIG: u64 = 1 << 6;
}

/// Offsets in the device configuration (5.13.4).
pub mod config {
    pub const PAGE_SIZE_MASK: usize = 0;
    pub const INPUT_START: usize = 8;
    pub const INPUT_END: usize = 16;
    pub const DOMAIN_START: usize = 24;
    pub const DOMAIN_END: usize = 28;
    pub const PROBE_SIZE: usize = 32;
    pub const BYPASS: usize = 36;
    pub const SIZE: usize = 40;
}

/// Device configuration (5.13.4). Ends of ranges are their last members.
pub const CONFIG: &[Register] = &[
    Register::ro(0, "page_size_mask", 8, "VIRTIO 5.13.4"),
    Register::ro(8, "input_range.start", 8, "VIRTIO 5.13.4"),
    Register::ro(16, "input_range.end", 8, "VIRTIO 5.13.4"),
    Register::ro(24, "domain_range.start", 4, "VIRTIO 5.13.4"),
    Register::ro(28, "domain_range.end", 4, "VIRTIO 5.13.4"),
    Register::ro(32, "probe_size", 4, "VIRTIO 5.13.4"),
    Register::rw(36, "bypass", 1, "VIRTIO 5.13.4").writable(1),
];

/// Request types (5.13.6).
pub mod request {
    pub const ATTACH: u8 = 1;
    pub const DETACH: u8 = 2;
    pub const MAP: u8 = 3;
    pub const UNMAP: u8 = 4;
    pub const PROBE: u8 = 5;

    /// The name of a request type.
    pub const fn name(kind: u8) -> Option<&'static str> {
        Some(match kind {
            ATTACH => "attach",
            DETACH => "detach",
            MAP => "map",
            UNMAP => "unmap",
            PROBE => "probe",
            _ => return None,
        })
    }
}

/// How a request ended (5.13.6).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok = 0,
    IoErr = 1,
    Unsupported = 2,
    DevErr = 3,
    Invalid = 4,
    Range = 5,
    NoEntry = 6,
    Fault = 7,
    NoMemory = 8,
}

/// Bytes of the tail: status and three reserved.
pub const TAIL_SIZE: usize = 4;
/// Bytes of the head: type and three reserved.
pub const HEAD_SIZE: usize = 4;

/// ATTACH (5.13.6.3).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Attach {
    pub kind: u8,
    pub reserved: [u8; 3],
    pub domain: u32,
    pub endpoint: u32,
    /// [`ATTACH_BYPASS`]
    pub flags: u32,
    pub reserved2: [u8; 4],
}

/// Flag of ATTACH: everything in the domain is identity-mapped.
pub const ATTACH_BYPASS: u32 = 1;

/// DETACH (5.13.6.4).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Detach {
    pub kind: u8,
    pub reserved: [u8; 3],
    pub domain: u32,
    pub endpoint: u32,
    pub reserved2: [u8; 8],
}

/// MAP (5.13.6.5): `virt_start..=virt_end` goes to `phys_start` on.
#[repr(C, packed)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Map {
    pub kind: u8,
    pub reserved: [u8; 3],
    pub domain: u32,
    pub virt_start: u64,
    /// The last byte.
    pub virt_end: u64,
    pub phys_start: u64,
    /// See [`map_flag`].
    pub flags: u32,
}

/// Flags of MAP (5.13.6.5).
pub mod map_flag {
    /// The device may read.
    pub const READ: u32 = 1;
    /// The device may write.
    pub const WRITE: u32 = 2;
    pub const MMIO: u32 = 4;
}

/// UNMAP (5.13.6.6).
#[repr(C, packed)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Unmap {
    pub kind: u8,
    pub reserved: [u8; 3],
    pub domain: u32,
    pub virt_start: u64,
    pub virt_end: u64,
    pub reserved2: [u8; 4],
}

/// PROBE (5.13.6.7); `probe_size` bytes of properties follow in the writable part.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Probe {
    pub kind: u8,
    pub reserved: [u8; 3],
    pub endpoint: u32,
    pub reserved2: [u8; 64],
}

/// The RESV_MEM property (5.13.6.7.4): addresses that cannot be mapped.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct ReservedMemory {
    /// [`PROPERTY_RESV_MEM`]
    pub kind: u16,
    /// Bytes that follow this field.
    pub length: u16,
    /// [`RESV_MEM_RESERVED`] or [`RESV_MEM_MSI`]
    pub subtype: u8,
    pub reserved: [u8; 3],
    pub start: u64,
    /// The last byte.
    pub end: u64,
}

pub const PROPERTY_RESV_MEM: u16 = 1;
pub const RESV_MEM_RESERVED: u8 = 0;
/// Writes there are interrupt messages, and not translated.
pub const RESV_MEM_MSI: u8 = 1;

/// A fault report (5.13.6.9).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Fault {
    /// See [`fault`].
    pub reason: u8,
    pub reserved: [u8; 3],
    /// See [`fault`].
    pub flags: u32,
    pub endpoint: u32,
    pub reserved1: u32,
    pub address: u64,
}

/// Reasons and flags of a [`Fault`] (5.13.6.9).
pub mod fault {
    /// The endpoint is attached to no domain.
    pub const DOMAIN: u8 = 1;
    /// Nothing is mapped there, or not for this access.
    pub const MAPPING: u8 = 2;
    pub const READ: u32 = 1 << 0;
    pub const WRITE: u32 = 1 << 1;
    /// `address` is valid.
    pub const ADDRESS: u32 = 1 << 8;
}

/// Where messages of interrupts go on a PC: 0xFEE0_0000 on, 1 MiB (Intel SDM 3A 11.11.1).
pub const MSI_START: u64 = 0xFEE0_0000;
/// The last byte.
pub const MSI_END: u64 = 0xFEEF_FFFF;

const _: () = assert!(size_of::<Attach>() == 20);
const _: () = assert!(size_of::<Detach>() == 20);
const _: () = assert!(size_of::<Map>() == 36);
const _: () = assert!(size_of::<Unmap>() == 28);
const _: () = assert!(size_of::<Probe>() == 72);
const _: () = assert!(size_of::<ReservedMemory>() == 24);
const _: () = assert!(size_of::<Fault>() == 24);
