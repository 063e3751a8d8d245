//! Sockets: what programs ask of the network server (`net`), which makes each socket known by a
//! random 64-bit *cookie*, so that knowing it is the right to use it. A descriptor for it comes from
//! VFS, which tells inheritors endpoint and cookie and closes the socket with its last copy.
//!
//! Data and addresses travel through the caller's window, shared once by `Attach`. An address is an
//! [`Address`] (Internet) or the bytes of a path (Unix domain). Operations that would wait keep the
//! caller until done, unless `flags` has [`flags::DONT_WAIT`]: then `Again` (`InProgress` for `Connect`).

crate::interface! {
    /// Operations of the network server for programs.
    pub mod socket = 0x0C {
        1 idempotent Attach { len: u64; window: handle } -> Attached { }
        /// See [`super::domain`] and [`super::kind`]. `protocol` 0 or the IP protocol. `PACKET` is for
        /// root, as `Configure` is.
        2 once Open { domain: u32, kind: u32, protocol: u32 } -> Opened { cookie: u64 }
        /// A connected pair of Unix-domain sockets.
        3 once Pair { kind: u32 } -> Paired { first: u64, second: u64 }
        /// Address at the start of the window, `len` bytes. Internet ports below
        /// [`super::PORTS_OF_ALL`] are for root, as `Configure` is, but `Access` otherwise.
        4 once Bind { cookie: u64, len: u32 } -> Bound { }
        5 once Listen { cookie: u64, backlog: u32 } -> Listening { }
        /// A connection that has come in; the peer's address at the start of the window.
        6 once Accept { cookie: u64, flags: u32 } -> Accepted { connection: u64, address_len: u32 }
        7 once Connect { cookie: u64, len: u32, flags: u32 } -> Connected { }
        /// `len` bytes at `at`; with `address_len` > 0 to the address at the start of the window. Bytes
        /// of a stream may be taken in part, a datagram whole or not (`MsgSize`).
        8 once Send { cookie: u64, at: u32, len: u32, address_len: u32, flags: u32 } -> Sent { count: u64 }
        /// Up to `len` bytes to `at`; the sender's address to the start of the window (`at` must leave
        /// [`super::ADDRESS_MAX`] for it, or be 0: no address wanted). 0 bytes: the end of a stream.
        9 once Receive { cookie: u64, at: u32, len: u32, flags: u32 }
            -> Received { count: u64, address_len: u32, full: u64 }
        /// `how`: 0 no more receiving, 1 no more sending, 2 both.
        10 idempotent Shutdown { cookie: u64, how: u32 } -> ShutDone { }
        /// See [`super::option`].
        11 idempotent SetOption { cookie: u64, option: u32, value: u64 } -> OptionSet { }
        12 idempotent GetOption { cookie: u64, option: u32 } -> OptionValue { value: u64 }
        /// The own (or the peer's) address to the start of the window.
        13 idempotent Name { cookie: u64, peer: bool } -> Named { address_len: u32 }
        /// Which of [`super::poll`]'s events are there. If none of `events` is, `bit` of `notify` is
        /// raised once when one comes.
        14 once Poll { cookie: u64, events: u32, bit: u32; notify: handle } -> Polled { ready: u32 }
        /// VFS: the last descriptor is gone.
        15 idempotent Close { cookie: u64 } -> Closed { }
        /// VFS: a descriptor was made. Sockets that were not kept end with the process that opened them.
        19 idempotent Keep { cookie: u64 } -> Kept { }
        /// Looks a host name (`len` bytes at the start of the window) up: [`Address`]es to the window.
        /// `family` 4, 6 or 0 for both. `NoEnt`: there is no such name; `TimedOut`: no answer.
        16 once Resolve { len: u32, family: u32 } -> Resolved { count: u32 }
        /// Text about interfaces, routes, neighbours, sockets or statistics (see [`super::query`]).
        17 idempotent Query { kind: u32; memory: handle } -> QueryReply { len: u64 }
        /// A line as `ip` takes it, e.g. `addr add 10.0.0.2/24 dev eth0`: `len` bytes of the window.
        /// `Perm` unless VFS has just said (`vfs::Vouch`) that the caller is root.
        18 once Configure { len: u32 } -> Configured { }
        /// VFS only (admin badge): process `pid` acts as user `uid`, which counts for the next of its
        /// requests that only root may make. `Srch`: it has no window here.
        20 idempotent Identify { pid: u32, uid: u32 } -> Identified { }
    }
}

/// Address families (Linux numbering).
pub mod domain {
    pub const UNIX: u32 = 1;
    pub const INET: u32 = 2;
    pub const INET6: u32 = 10;
    /// Frames of an interface, for captures.
    pub const PACKET: u32 = 17;
}

/// Kinds of socket.
pub mod kind {
    pub const STREAM: u32 = 1;
    pub const DATAGRAM: u32 = 2;
    pub const RAW: u32 = 3;
}

/// Flags of operations that may wait or look.
pub mod flags {
    pub const PEEK: u32 = 2;
    pub const DONT_WAIT: u32 = 0x40;
    /// Streams: wait until everything asked for is there.
    pub const WAIT_ALL: u32 = 0x100;
}

/// Events of `Poll` (Linux numbering).
pub mod poll {
    pub const IN: u32 = 1;
    pub const OUT: u32 = 4;
    pub const ERROR: u32 = 8;
    pub const HANG_UP: u32 = 16;
    /// The peer sends no more.
    pub const READ_HANG_UP: u32 = 0x2000;
}

/// Options of `SetOption` and `GetOption`. Times are ns, sizes bytes.
pub mod option {
    pub const REUSE_ADDRESS: u32 = 1;
    /// Reading it clears it: 0 or the number of an error.
    pub const ERROR: u32 = 2;
    pub const SEND_BUFFER: u32 = 3;
    pub const RECEIVE_BUFFER: u32 = 4;
    pub const KEEP_ALIVE: u32 = 5;
    /// 0: off; else how long `Close` tries to send what is left, in ns, plus one.
    pub const LINGER: u32 = 6;
    pub const NO_DELAY: u32 = 7;
    pub const RECEIVE_TIMEOUT: u32 = 8;
    pub const SEND_TIMEOUT: u32 = 9;
    pub const BROADCAST: u32 = 10;
    pub const KIND: u32 = 11;
    pub const DOMAIN: u32 = 12;
    pub const LISTENING: u32 = 13;
    pub const HOP_LIMIT: u32 = 14;
    /// Bytes there to be received.
    pub const AVAILABLE: u32 = 15;
    /// Longest TCP segment.
    pub const MAX_SEGMENT: u32 = 16;
    /// Nothing waits, as if every operation had [`super::flags::DONT_WAIT`] (O_NONBLOCK).
    pub const NON_BLOCKING: u32 = 17;
}

/// Kinds of `Query`; one record a line, fields separated by one tab.
pub mod query {
    /// `name up|down|no-carrier mac mtu dhcp|- rx_bytes rx_packets rx_dropped tx_bytes tx_packets
    /// tx_dropped driver|-`
    pub const LINKS: u32 = 1;
    /// `name address/prefix static|dhcp|link|slaac|host`
    pub const ADDRESSES: u32 = 2;
    /// `destination/prefix gateway|- name`
    pub const ROUTES: u32 = 3;
    /// `kind local remote state receive_queue send_queue pid`
    pub const SOCKETS: u32 = 4;
    /// `name value`
    pub const STATISTICS: u32 = 5;
    /// Name servers, one a line.
    pub const RESOLVERS: u32 = 6;
}

/// The first TCP or UDP port that everybody may bind to.
pub const PORTS_OF_ALL: u16 = 1024;

/// Longest address in a window.
pub const ADDRESS_MAX: usize = 128;

/// An Internet address and port; IPv4 in the last four bytes behind `::ffff:`.
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
    zerocopy::Unaligned,
)]
pub struct Address {
    /// 4 or 6.
    pub family: u8,
    pub reserved: u8,
    /// In the byte order of the network.
    pub port: [u8; 2],
    /// Interface number of a link-local address or a packet socket, else 0.
    pub scope: [u8; 4],
    pub ip: [u8; 16],
}

const _: () = assert!(size_of::<Address>() == 24);
