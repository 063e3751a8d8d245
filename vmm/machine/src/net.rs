//! Network devices of a machine: what the guest sees and what is behind it on the host.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::time::Duration;

/// A network device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetSpec {
    pub backend: NetBackend,
    pub model: NetModel,
    pub mac: [u8; 6],
    /// Whether the cable is in at the start.
    pub link: bool,
    /// Queue pairs, 1 to 8 (virtio only).
    pub queues: u16,
    /// Frames both ways are written to this file, as pcapng.
    pub pcap: Option<PathBuf>,
    pub shape: Shape,
}

/// The card.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NetModel {
    #[default]
    Virtio,
    /// 82540EM
    E1000,
    /// 82545EM
    E1000_82545em,
    /// 82574L
    E1000e,
}

/// What is at the other end of the cable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetBackend {
    /// Nothing.
    None,
    /// A network of our own, reaching the host's with the rights of an ordinary program.
    User(UserNet),
    /// A TAP device of this name.
    Tap(String),
    /// A unix stream socket on which frames follow their length (passt, QEMU's `stream`).
    Passt(PathBuf),
    /// The machines on this host that name the same hub.
    Hub(String),
}

/// Options of the user network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserNet {
    pub publish: Vec<Publish>,
    /// The gateway's address reaches the host's loopback.
    pub host_loopback: bool,
    /// Nothing but the gateway, name service and published ports.
    pub restrict: bool,
    /// The name server asked; default: the first of /etc/resolv.conf.
    pub dns: Option<SocketAddrV4>,
}

/// A port of the host that leads to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish {
    pub udp: bool,
    pub host: SocketAddr,
    pub guest: u16,
}

/// What is done to frames on their way, each direction by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// Bits a second.
    pub rate: Option<u64>,
    /// Chances in a million.
    pub loss: u32,
    pub duplicate: u32,
    pub reorder: u32,
    pub delay: Duration,
    /// Added to the delay, evenly spread from 0.
    pub jitter: Duration,
    /// Of the random numbers; the same seed gives the same decisions for the same frames.
    pub seed: u64,
}

impl Shape {
    /// Whether it changes nothing.
    pub fn is_plain(&self) -> bool {
        *self == Self { seed: self.seed, ..Self::default() }
    }
}

/// Addresses of the user network.
pub mod user {
    use super::{Ipv4Addr, Ipv6Addr};
    pub const NETWORK: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 0);
    pub const PREFIX: u8 = 24;
    pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 2);
    pub const DNS: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 3);
    pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 0, 2, 15);
    /// Unique local (RFC 4193), the guest's own by what the router advertises.
    pub const NETWORK6: Ipv6Addr = Ipv6Addr::new(0xFD58, 0x494E, 0x494D, 0, 0, 0, 0, 0);
    pub const PREFIX6: u8 = 64;
    pub const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xFD58, 0x494E, 0x494D, 0, 0, 0, 0, 2);
    pub const DNS6: Ipv6Addr = Ipv6Addr::new(0xFD58, 0x494E, 0x494D, 0, 0, 0, 0, 3);
    /// The gateway's on the link, made from its Ethernet address.
    pub const ROUTER6: Ipv6Addr = Ipv6Addr::new(0xFE80, 0, 0, 0, 0x5055, 0x0AFF, 0xFE00, 0x0202);
    /// Longest IP packet.
    pub const MTU: u16 = 1500;
}

/// The address of the `index`th device of a machine when none is given: locally administered.
pub const fn default_mac(index: u8) -> [u8; 6] {
    [0x52, 0x54, 0x00, 0x58, 0x4E, index]
}
