//! Network links: the network server shares memory with rings and packet buffers in it; the driver
//! hands the buffers' device addresses to the device, so a packet is copied once on its way to a
//! socket and once from it, and by no driver.
//!
//! ```text
//! 0        indices, one cache line each
//! 4096     TX SQ: TX_ENTRIES x Transmit       server writes, driver reads
//! 12288    TX CQ: TX_ENTRIES x u32 (id)       driver writes, server reads
//! 16384    RX SQ: RX_ENTRIES x Buffer         server writes: empty buffers
//! 24576    RX CQ: RX_ENTRIES x Received       driver writes: filled ones
//! DATA_OFFSET ..                              packet buffers, by offset in this memory
//! ```
//! Indices count up freely, the entry is `index % ENTRIES`; rules of release, acquire and distrust are
//! those of [`super::block`]. The server raises the bit it got at `Attach` on the driver's endpoint after it
//! has put something into an SQ. The driver raises the server's bit when it has put something into the RX
//! CQ, or into the TX CQ while [`index::TX_WAKE`] is 1, and the next higher bit when the link goes up or
//! down, which the server then learns by `Info`.
//!
//! When the driver dies the server attaches the same memory, its indices cleared, to the next
//! instance, with the same addresses and filters; packets that were not reported as sent are sent
//! again (a duplicate is better than a loss) and all receive buffers are given anew.

crate::interface! {
    /// Operations of a network driver.
    pub mod link = 0x0B {
        /// `mac` in its first six bytes, lowest first; flags: see [`super::info`]. `mtu`: longest IP
        /// packet. `queues`: pairs in use on the device. `speed` Mbit/s, 0 unknown.
        1 idempotent Info { } -> InfoReply { mac: u64, flags: u32, mtu: u32, queues: u32, speed: u32 }
        /// `len` bytes of `memory`; `bit` (and the next) of `notify` are the server's. The older memory
        /// of the same caller is forgotten. One client at a time: `Busy` for others. Answers the
        /// doorbell's bit.
        2 once Attach { len: u64, bit: u32; memory: handle, notify: handle } -> Attached { bit: u32 }
        3 idempotent Detach { } -> Detached { }
        /// What beside its own and broadcast frames it takes: see [`super::filter`].
        4 idempotent SetFilter { flags: u32 } -> FilterSet { }
        /// Adds a multicast address to those received (or takes it away).
        5 idempotent Multicast { mac: u64, join: bool } -> MulticastSet { }
        /// Text, `name value` a line, of the device's and the driver's counters into `memory`.
        6 idempotent Statistics { ; memory: handle } -> StatisticsReply { len: u64 }
        /// Stops or starts the transmitter and receiver.
        7 idempotent SetUp { up: bool } -> UpSet { }
    }
}

/// Flags of `Info`.
pub mod info {
    pub const LINK_UP: u32 = 1;
    /// Puts TCP and UDP checksums into packets sent ([`super::transmit::CHECKSUM`]).
    pub const TX_CHECKSUM: u32 = 2;
    /// Tells of checksums found right ([`super::received::CHECKSUM_GOOD`]).
    pub const RX_CHECKSUM: u32 = 4;
    /// Cuts large TCP segments up ([`super::transmit::SEGMENT`]), IPv4 and IPv6.
    pub const TSO4: u32 = 8;
    pub const TSO6: u32 = 16;
    /// The address is no address from the device's memory but was made up.
    pub const MAC_MADE_UP: u32 = 32;
    pub const FULL_DUPLEX: u32 = 64;
}

/// Flags of `SetFilter`.
pub mod filter {
    pub const PROMISCUOUS: u32 = 1;
    pub const ALL_MULTICAST: u32 = 2;
}

pub const TX_ENTRIES: u32 = 256;
pub const RX_ENTRIES: u32 = 512;
pub const TX_SQ_OFFSET: usize = 4096;
pub const TX_CQ_OFFSET: usize = 12288;
pub const RX_SQ_OFFSET: usize = 16384;
pub const RX_CQ_OFFSET: usize = 24576;
pub const DATA_OFFSET: usize = 32768;
/// Bytes of a receive buffer: what the devices of this world call 2 KiB buffers.
pub const RX_BUFFER: u32 = 2048;
/// Longest packet to send, with TSO; without, the MTU and 18 bytes of Ethernet.
pub const TX_MAX: u32 = 65536;
/// Offsets of the indices, u32 each, in the header page. SQ tails and CQ heads are the server's.
pub mod index {
    pub const TX_SQ_TAIL: usize = 0;
    pub const TX_SQ_HEAD: usize = 64;
    pub const TX_CQ_TAIL: usize = 128;
    pub const TX_CQ_HEAD: usize = 192;
    pub const RX_SQ_TAIL: usize = 256;
    pub const RX_SQ_HEAD: usize = 320;
    pub const RX_CQ_TAIL: usize = 384;
    pub const RX_CQ_HEAD: usize = 448;
    /// Written by the server; no index.
    pub const TX_WAKE: usize = 512;
}

/// Flags of [`Transmit`].
pub mod transmit {
    /// Put the Internet checksum from `checksum_start` to the end at `checksum_start +
    /// checksum_offset`, where the pseudo-header's sum already is, counting the length of the whole
    /// packet also where it is to be cut up.
    pub const CHECKSUM: u16 = 1;
    /// A TCP segment to be cut into such of `segment_size` bytes of payload.
    pub const SEGMENT: u16 = 2;
    /// The packet is IPv6 (with `SEGMENT`).
    pub const IPV6: u16 = 4;
}

/// Flags of [`Received`].
pub mod received {
    /// Goes on in the next entry.
    pub const MORE: u16 = 1;
    /// TCP's or UDP's checksum was found right.
    pub const CHECKSUM_GOOD: u16 = 2;
    /// Goes on from the entry before. A frame whose beginning is there and whose end is not, because the
    /// device was reset in between, ends where an entry comes without this; and what goes on from nothing is
    /// nothing.
    pub const CONTINUED: u16 = 4;
}

macro_rules! entry {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(
            Clone,
            Copy,
            Debug,
            Default,
            PartialEq,
            Eq,
            zerocopy::FromBytes,
            zerocopy::IntoBytes,
            zerocopy::Immutable,
            zerocopy::KnownLayout,
        )]
        pub struct $name { $($(#[$field_doc])* pub $field: $ty,)* }
    };
}

entry! {
    /// A frame to send, without its FCS.
    Transmit {
        /// The server's, below [`TX_ENTRIES`]; returned in the TX CQ.
        id: u32,
        offset: u32,
        len: u32,
        /// See [`transmit`].
        flags: u16,
        /// Bytes before the TCP payload (with `SEGMENT`).
        header_len: u16,
        checksum_start: u16,
        checksum_offset: u16,
        segment_size: u16,
        reserved: u16,
        /// Frames with the same number stay in order; others may overtake them on another queue.
        flow: u32,
        reserved2: u32,
    }
}

entry! {
    /// An empty buffer of [`RX_BUFFER`] bytes.
    Buffer {
        offset: u32,
        reserved: u32,
    }
}

entry! {
    /// A frame, or a part of one, that has come in, without its FCS.
    Received {
        /// Where it begins, in one of the buffers given.
        offset: u32,
        len: u16,
        /// See [`received`].
        flags: u16,
    }
}

const _: () = assert!(size_of::<Transmit>() == 32 && size_of::<Buffer>() == 8);
const _: () = assert!(size_of::<Received>() == 8);
const _: () = assert!(TX_SQ_OFFSET + TX_ENTRIES as usize * 32 <= TX_CQ_OFFSET);
const _: () = assert!(TX_CQ_OFFSET + TX_ENTRIES as usize * 4 <= RX_SQ_OFFSET);
const _: () = assert!(RX_SQ_OFFSET + RX_ENTRIES as usize * 8 <= RX_CQ_OFFSET);
const _: () = assert!(RX_CQ_OFFSET + RX_ENTRIES as usize * 8 <= DATA_OFFSET);
