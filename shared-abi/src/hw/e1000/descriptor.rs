//! Receive and transmit descriptors, 16 bytes each (8254x 3.2 and 3.3, 82574 7.1 and 7.2). All
//! little-endian.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of a descriptor, packet split (32) excepted.
pub const SIZE: usize = 16;
pub const PACKET_SPLIT_SIZE: usize = 32;

/// Legacy receive descriptor. The driver gives `address`; the device writes the rest.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RxDesc {
    pub address: u64,
    /// Bytes in this buffer.
    pub length: u16,
    /// Complement of the one's complement sum from RXCSUM.PCSS to the end of the packet.
    pub checksum: u16,
    /// [`rx_status`]
    pub status: u8,
    /// [`rx_error`]
    pub errors: u8,
    /// The stripped VLAN tag.
    pub special: u16,
}

/// Extended receive descriptor as the device writes it back (82574 7.1.5); the driver gives the
/// address in the first eight bytes and zero behind it.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RxExtended {
    /// RSS type in bits 3:0, queue in 12:8.
    pub mrq: u32,
    /// RSS hash, or IP identification (low) and packet checksum (high half).
    pub hash: u32,
    /// Status in the low 20 bits as [`rx_status`], errors in bits 31:24 as [`rx_error`].
    pub status_error: u32,
    pub length: u16,
    pub vlan: u16,
}

/// Packet split receive descriptor as the device writes it back (82574 7.1.6); the driver gives
/// four buffer addresses.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct RxSplit {
    pub mrq: u32,
    pub hash: u32,
    pub status_error: u32,
    /// Bytes in buffer 0.
    pub length0: u16,
    pub vlan: u16,
    /// Length of the headers in bits 9:0; bit 15: they are in buffer 0 alone.
    pub header_status: u16,
    /// Bytes in buffers 1 to 3.
    pub lengths: [u16; 3],
    pub reserved: u64,
}

const _: () = assert!(size_of::<RxDesc>() == SIZE);
const _: () = assert!(size_of::<RxExtended>() == SIZE);
const _: () = assert!(size_of::<RxSplit>() == PACKET_SPLIT_SIZE);

/// Receive status.
pub mod rx_status {
    /// Descriptor done.
    pub const DD: u8 = 1 << 0;
    pub const EOP: u8 = 1 << 1;
    /// The checksum bits mean nothing.
    pub const IXSM: u8 = 1 << 2;
    /// The VLAN tag was stripped.
    pub const VP: u8 = 1 << 3;
    /// 82574: UDP checksum checked.
    pub const UDPCS: u8 = 1 << 4;
    /// TCP (8254x: or UDP) checksum checked.
    pub const TCPCS: u8 = 1 << 5;
    /// IPv4 header checksum checked.
    pub const IPCS: u8 = 1 << 6;
    /// Passed an inexact filter.
    pub const PIF: u8 = 1 << 7;
    /// Extended status (bit 15 of the extended descriptor): a pure TCP acknowledgement.
    pub const EXTENDED_ACK: u32 = 1 << 15;
}

/// Receive errors.
pub mod rx_error {
    /// CRC or alignment.
    pub const CE: u8 = 1 << 0;
    pub const TCPE: u8 = 1 << 5;
    pub const IPE: u8 = 1 << 6;
    pub const RXE: u8 = 1 << 7;
}

/// RSS type (82574 7.1.2.8).
pub mod rss_type {
    pub const NONE: u32 = 0;
    pub const IPV4_TCP: u32 = 1;
    pub const IPV4: u32 = 2;
    pub const IPV6_TCP: u32 = 3;
    pub const IPV6: u32 = 5;
}

/// Transmit descriptor; what its bits mean depends on `command`.DEXT and the type.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct TxDesc {
    pub address: u64,
    /// Legacy: length in bits 15:0, checksum offset in 23:16. Data: length in 19:0, type in 23:20.
    /// Both: [`tx_command`] in bits 31:24.
    pub command: u32,
    /// [`TX_DD`]
    pub status: u8,
    /// Legacy: checksum start. Data: [`tx_options`].
    pub options: u8,
    /// VLAN tag.
    pub special: u16,
}

/// Context descriptor: offsets for the checksums and segmentation of the packets that follow.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct TxContext {
    /// IP checksum: start, where it goes, last byte (inclusive; 0: none).
    pub ipcss: u8,
    pub ipcso: u8,
    pub ipcse: u16,
    /// TCP/UDP checksum: start, where it goes, last byte (inclusive; 0: end of packet).
    pub tucss: u8,
    pub tucso: u8,
    pub tucse: u16,
    /// Payload of the whole segmented packet in bits 19:0, type in 23:20, [`context_command`] in
    /// 31:24.
    pub command: u32,
    pub status: u8,
    /// Headers in front of each segment.
    pub header_length: u8,
    /// Payload per segment.
    pub mss: u16,
}

const _: () = assert!(size_of::<TxDesc>() == SIZE);
const _: () = assert!(size_of::<TxContext>() == SIZE);

/// Status of a transmit descriptor: done.
pub const TX_DD: u8 = 1;
/// Type of a descriptor with DEXT, in bits 23:20.
pub const TX_TYPE_SHIFT: u32 = 20;
pub const TX_TYPE_CONTEXT: u32 = 0;
pub const TX_TYPE_DATA: u32 = 1;
pub const TX_LENGTH_MASK: u32 = 0xF_FFFF;
pub const TX_LEGACY_LENGTH_MASK: u32 = 0xFFFF;

/// Commands of legacy and data descriptors, in place.
pub mod tx_command {
    pub const EOP: u32 = 1 << 24;
    /// Insert the CRC.
    pub const IFCS: u32 = 1 << 25;
    /// Legacy: insert a checksum. Data: segment.
    pub const IC: u32 = 1 << 26;
    pub const TSE: u32 = 1 << 26;
    /// Report status.
    pub const RS: u32 = 1 << 27;
    /// 8254x: report when sent.
    pub const RPS: u32 = 1 << 28;
    pub const DEXT: u32 = 1 << 29;
    /// Insert the VLAN tag.
    pub const VLE: u32 = 1 << 30;
    /// The interrupt waits for TIDV.
    pub const IDE: u32 = 1 << 31;
}

/// Commands of a context descriptor, in place.
pub mod context_command {
    pub const TCP: u32 = 1 << 24;
    pub const IPV4: u32 = 1 << 25;
    pub const TSE: u32 = 1 << 26;
    pub const RS: u32 = 1 << 27;
    pub const DEXT: u32 = 1 << 29;
    pub const IDE: u32 = 1 << 31;
}

/// Options of a data descriptor; those of a packet's first count.
pub mod tx_options {
    /// Insert the IP checksum.
    pub const IXSM: u8 = 1;
    /// Insert the TCP/UDP checksum.
    pub const TXSM: u8 = 2;
}
