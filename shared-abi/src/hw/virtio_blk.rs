//! virtio-blk (VIRTIO 1.2 section 5.2): features, configuration layout and requests.

use super::register::Register;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Unit of `capacity` and of a request's `sector`, in bytes, whatever `blk_size` says (5.2.4).
pub const SECTOR_SIZE: u64 = 512;
/// The single request queue of a device without MQ (5.2.2).
pub const REQUEST_QUEUE: u16 = 0;

/// Feature bits (5.2.3), as masks of the 64-bit feature word.
pub mod feature {
    pub const SIZE_MAX: u64 = 1 << 1;
    pub const SEG_MAX: u64 = 1 << 2;
    pub const GEOMETRY: u64 = 1 << 4;
    pub const RO: u64 = 1 << 5;
    pub const BLK_SIZE: u64 = 1 << 6;
    pub const FLUSH: u64 = 1 << 9;
    pub const TOPOLOGY: u64 = 1 << 10;
    pub const CONFIG_WCE: u64 = 1 << 11;
    pub const MQ: u64 = 1 << 12;
    pub const DISCARD: u64 = 1 << 13;
    pub const WRITE_ZEROES: u64 = 1 << 14;
}

/// Offsets in the device configuration (5.2.4).
pub mod config {
    pub const CAPACITY: usize = 0;
    pub const SIZE_MAX: usize = 8;
    pub const SEG_MAX: usize = 12;
    pub const GEOMETRY: usize = 16;
    pub const BLK_SIZE: usize = 20;
    pub const PHYSICAL_BLOCK_EXP: usize = 24;
    pub const ALIGNMENT_OFFSET: usize = 25;
    pub const MIN_IO_SIZE: usize = 26;
    pub const OPT_IO_SIZE: usize = 28;
    pub const WRITEBACK: usize = 32;
    pub const NUM_QUEUES: usize = 34;
    pub const MAX_DISCARD_SECTORS: usize = 36;
    pub const MAX_DISCARD_SEG: usize = 40;
    pub const DISCARD_SECTOR_ALIGNMENT: usize = 44;
    pub const MAX_WRITE_ZEROES_SECTORS: usize = 48;
    pub const MAX_WRITE_ZEROES_SEG: usize = 52;
    pub const WRITE_ZEROES_MAY_UNMAP: usize = 56;
    /// End of the fields described here.
    pub const SIZE: usize = 60;
}

/// Request types (5.2.6).
pub mod request {
    /// Read.
    pub const IN: u32 = 0;
    /// Write.
    pub const OUT: u32 = 1;
    pub const FLUSH: u32 = 4;
    /// Returns [`ID_LEN`](super::ID_LEN) bytes of ASCII.
    pub const GET_ID: u32 = 8;
    pub const DISCARD: u32 = 11;
    pub const WRITE_ZEROES: u32 = 13;
}

/// Length of the GET_ID answer; padded with zeros, not terminated when full.
pub const ID_LEN: usize = 20;

/// Status byte at the end of a request (5.2.6).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok = 0,
    IoErr = 1,
    Unsupported = 2,
}

impl Status {
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            0 => Status::Ok,
            1 => Status::IoErr,
            2 => Status::Unsupported,
            _ => return None,
        })
    }
}

/// Device-readable head of a request (5.2.6). Data and one status byte follow.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RequestHeader {
    /// [`request`]
    pub kind: u32,
    pub reserved: u32,
    /// In units of [`SECTOR_SIZE`]; IN and OUT only.
    pub sector: u64,
}

const _: () = assert!(size_of::<RequestHeader>() == 16);

/// One range of a DISCARD or WRITE_ZEROES request; the request's data are some of these (5.2.6).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RangeSegment {
    /// In units of [`SECTOR_SIZE`].
    pub sector: u64,
    pub num_sectors: u32,
    /// [`RANGE_UNMAP`]; the other bits are reserved and 0.
    pub flags: u32,
}

/// WRITE_ZEROES may give the space back to the host; must be 0 for DISCARD.
pub const RANGE_UNMAP: u32 = 1 << 0;

const _: () = assert!(size_of::<RangeSegment>() == 16);

/// Device configuration (5.2.4).
pub const CONFIG: &[Register] = &[
    Register::ro(0, "capacity", 8, "VIRTIO 5.2.4"),
    Register::ro(8, "size_max", 4, "VIRTIO 5.2.4"),
    Register::ro(12, "seg_max", 4, "VIRTIO 5.2.4"),
    Register::ro(16, "cylinders", 2, "VIRTIO 5.2.4"),
    Register::ro(18, "heads", 1, "VIRTIO 5.2.4"),
    Register::ro(19, "sectors", 1, "VIRTIO 5.2.4"),
    Register::ro(20, "blk_size", 4, "VIRTIO 5.2.4"),
    Register::ro(24, "physical_block_exp", 1, "VIRTIO 5.2.4"),
    Register::ro(25, "alignment_offset", 1, "VIRTIO 5.2.4"),
    Register::ro(26, "min_io_size", 2, "VIRTIO 5.2.4"),
    Register::ro(28, "opt_io_size", 4, "VIRTIO 5.2.4"),
    Register::rw(32, "writeback", 1, "VIRTIO 5.2.4"),
    Register::ro(34, "num_queues", 2, "VIRTIO 5.2.4"),
    Register::ro(36, "max_discard_sectors", 4, "VIRTIO 5.2.4"),
    Register::ro(40, "max_discard_seg", 4, "VIRTIO 5.2.4"),
    Register::ro(44, "discard_sector_alignment", 4, "VIRTIO 5.2.4"),
    Register::ro(48, "max_write_zeroes_sectors", 4, "VIRTIO 5.2.4"),
    Register::ro(52, "max_write_zeroes_seg", 4, "VIRTIO 5.2.4"),
    Register::ro(56, "write_zeroes_may_unmap", 1, "VIRTIO 5.2.4"),
];
