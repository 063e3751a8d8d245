//! virtio-net (VIRTIO 1.2 section 5.1): features, configuration, packet header, control commands.
//!
//! Queues: receive 0, transmit 0, receive 1, transmit 1, ..., then the control queue. Without MQ
//! there is one pair, and the control queue is number 2 (5.1.2).

use super::register::{Field, Register};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Receive queue of a pair (5.1.2).
pub const fn rx_queue(pair: u16) -> u16 {
    2 * pair
}

/// Transmit queue of a pair (5.1.2).
pub const fn tx_queue(pair: u16) -> u16 {
    2 * pair + 1
}

/// Feature bits (5.1.3), as masks of the 64-bit feature word.
pub mod feature {
    /// The device completes checksums for the driver.
    pub const CSUM: u64 = 1 << 0;
    /// The driver takes packets with incomplete checksums.
    pub const GUEST_CSUM: u64 = 1 << 1;
    /// The driver can change its receive offloads while running.
    pub const CTRL_GUEST_OFFLOADS: u64 = 1 << 2;
    pub const MTU: u64 = 1 << 3;
    pub const MAC: u64 = 1 << 5;
    pub const GUEST_TSO4: u64 = 1 << 7;
    pub const GUEST_TSO6: u64 = 1 << 8;
    pub const GUEST_ECN: u64 = 1 << 9;
    pub const GUEST_UFO: u64 = 1 << 10;
    pub const HOST_TSO4: u64 = 1 << 11;
    pub const HOST_TSO6: u64 = 1 << 12;
    pub const HOST_ECN: u64 = 1 << 13;
    pub const HOST_UFO: u64 = 1 << 14;
    /// A received packet may span several buffers.
    pub const MRG_RXBUF: u64 = 1 << 15;
    /// `status` is in the configuration.
    pub const STATUS: u64 = 1 << 16;
    pub const CTRL_VQ: u64 = 1 << 17;
    pub const CTRL_RX: u64 = 1 << 18;
    pub const CTRL_VLAN: u64 = 1 << 19;
    pub const CTRL_RX_EXTRA: u64 = 1 << 20;
    pub const GUEST_ANNOUNCE: u64 = 1 << 21;
    /// Several queue pairs.
    pub const MQ: u64 = 1 << 22;
    pub const CTRL_MAC_ADDR: u64 = 1 << 23;
    pub const SPEED_DUPLEX: u64 = 1 << 63;
}

/// Offsets in the device configuration (5.1.4).
pub mod config {
    pub const MAC: usize = 0;
    pub const STATUS: usize = 6;
    pub const MAX_VIRTQUEUE_PAIRS: usize = 8;
    pub const MTU: usize = 10;
    /// Mb/s.
    pub const SPEED: usize = 12;
    /// 1: full.
    pub const DUPLEX: usize = 16;
    pub const SIZE: usize = 17;
}

/// Bits of `status` (5.1.4).
pub mod status {
    pub const LINK_UP: u16 = 1;
    /// The driver should announce itself to the network (5.1.6.5.4).
    pub const ANNOUNCE: u16 = 2;
}

/// Device configuration (5.1.4).
pub const CONFIG: &[Register] = &[
    Register::ro(0, "mac", 4, "VIRTIO 5.1.4"),
    Register::ro(4, "mac_high", 2, "VIRTIO 5.1.4"),
    Register::ro(6, "status", 2, "VIRTIO 5.1.4")
        .fields(&[Field::bit(0, "link_up"), Field::bit(1, "announce")]),
    Register::ro(8, "max_virtqueue_pairs", 2, "VIRTIO 5.1.4"),
    Register::ro(10, "mtu", 2, "VIRTIO 5.1.4"),
    Register::ro(12, "speed", 4, "VIRTIO 5.1.4"),
    Register::ro(16, "duplex", 1, "VIRTIO 5.1.4"),
];

/// Header in front of every packet (5.1.6), in both directions.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Header {
    /// [`header_flag`]
    pub flags: u8,
    /// [`gso`]
    pub gso_type: u8,
    /// Bytes of the headers that each segment repeats; a hint.
    pub hdr_len: u16,
    /// Payload bytes per segment.
    pub gso_size: u16,
    /// First byte of the packet that the checksum covers.
    pub csum_start: u16,
    /// Where the checksum goes, from `csum_start`.
    pub csum_offset: u16,
    /// Buffers the packet spans, with MRG_RXBUF; else 1 on receive, 0 on transmit.
    pub num_buffers: u16,
}

/// Bytes of [`Header`].
pub const HEADER_SIZE: usize = size_of::<Header>();
const _: () = assert!(HEADER_SIZE == 12);

/// [`Header::flags`].
pub mod header_flag {
    /// The checksum field holds the pseudo header's sum only.
    pub const NEEDS_CSUM: u8 = 1;
    /// The device has checked the checksum.
    pub const DATA_VALID: u8 = 2;
}

/// [`Header::gso_type`].
pub mod gso {
    pub const NONE: u8 = 0;
    pub const TCPV4: u8 = 1;
    pub const UDP: u8 = 3;
    pub const TCPV6: u8 = 4;
    pub const ECN: u8 = 0x80;
}

/// Control commands (5.1.6.5): class, command.
pub mod control {
    pub const CLASS_RX: u8 = 0;
    pub const RX_PROMISC: u8 = 0;
    pub const RX_ALLMULTI: u8 = 1;
    /// CTRL_RX_EXTRA.
    pub const RX_ALLUNI: u8 = 2;
    pub const RX_NOMULTI: u8 = 3;
    pub const RX_NOUNI: u8 = 4;
    pub const RX_NOBCAST: u8 = 5;
    pub const CLASS_MAC: u8 = 1;
    /// Two tables, unicast then multicast: u32 count, then six bytes each.
    pub const MAC_TABLE_SET: u8 = 0;
    pub const MAC_ADDR_SET: u8 = 1;
    pub const CLASS_VLAN: u8 = 2;
    pub const VLAN_ADD: u8 = 0;
    pub const VLAN_DEL: u8 = 1;
    pub const CLASS_ANNOUNCE: u8 = 3;
    pub const ANNOUNCE_ACK: u8 = 0;
    pub const CLASS_MQ: u8 = 4;
    /// u16: pairs in use.
    pub const MQ_VQ_PAIRS_SET: u8 = 0;
    pub const CLASS_GUEST_OFFLOADS: u8 = 5;
    /// u64: the GUEST_* feature bits in force.
    pub const GUEST_OFFLOADS_SET: u8 = 0;
    /// Answers.
    pub const OK: u8 = 0;
    pub const ERR: u8 = 1;
}

/// Smallest buffer of a receive queue without MRG_RXBUF: the header and a frame (5.1.6.3.1).
pub const RX_BUFFER_MIN: usize = HEADER_SIZE + 1514;
/// The same with GUEST_TSO4 or GUEST_TSO6.
pub const RX_BUFFER_TSO: usize = HEADER_SIZE + 65_550;
