//! An interface: its link, smoltcp's state for it, how it gets its addresses.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::socket::{Socket, dhcpv4, dns};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, HardwareAddress, IPV6_LINK_LOCAL_ALL_NODES,
    Icmpv6Packet, Icmpv6Repr, IpAddress, IpCidr, IpProtocol, Ipv6Address, Ipv6Cidr, Ipv6Packet,
    Ipv6Repr, NdiscRepr, NdiscRouterFlags,
};
use xinim_abi::error::{Error, Result};

use crate::flood::{Datagrams, Flood};
use crate::link::Link;
use crate::port::Port;
use crate::route::{self, Route};

/// Addresses smoltcp keeps for an interface (its feature `iface-max-addr-count-8`).
const ADDRESSES_MAX: usize = 8;
/// Frames taken in from one interface before others have a turn.
const INGRESS_MAX: usize = 128;

/// How long programs wait for an interface's first address instead of being told that nothing can
/// be reached.
const CONFIGURING: Duration = Duration::from_secs(5);

/// smoltcp asks for a turn at once, had one and did nothing: it gets the next one so much later.
const IDLE: Duration = Duration::from_millis(5);

/// How often a link without room is looked at all the same.
const STARVED: Duration = Duration::from_millis(20);

/// Where an address is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Static,
    Dhcp,
    /// Made from the MAC address.
    LinkLocal,
    /// From a router's advertisement.
    Slaac,
    Host,
}

impl Origin {
    pub fn name(self) -> &'static str {
        match self {
            Origin::Static => "static",
            Origin::Dhcp => "dhcp",
            Origin::LinkLocal => "link",
            Origin::Slaac => "slaac",
            Origin::Host => "host",
        }
    }
}

/// What an interface's turn changed beside its sockets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// A lease was got, confirmed or lost: the default gateway, and name servers that are new.
    pub lease: Option<Lease>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    pub address: Option<IpCidr>,
    pub gateway: Option<IpAddress>,
    pub resolvers: Vec<IpAddress>,
}

pub struct Netif {
    pub name: String,
    pub port: Port,
    pub interface: Interface,
    pub sockets: SocketSet<'static>,
    /// Wanted up by the user.
    pub up: bool,
    link_was_up: bool,
    /// The lease is being asked for anew after the link came back; it holds until the answer.
    confirming: bool,
    /// When it last began or ceased to run.
    changed: Instant,
    /// The last turn moved nothing.
    idle: bool,
    /// No router has answered, and it was told to stop asking.
    alone: bool,
    dhcp: Option<SocketHandle>,
    pub lease: Lease,
    dns: SocketHandle,
    addresses: Vec<(IpCidr, Origin)>,
    flood: Flood,
}

fn link_local(mac: [u8; 6]) -> Ipv6Cidr {
    let [a, b, c, d, e, f] = mac;
    let words = [
        0xFE80,
        0,
        0,
        0,
        u16::from_be_bytes([a ^ 2, b]),
        u16::from_be_bytes([c, 0xFF]),
        u16::from_be_bytes([0xFE, d]),
        u16::from_be_bytes([e, f]),
    ];
    let [s0, s1, s2, s3, s4, s5, s6, s7] = words;
    Ipv6Cidr::new(Ipv6Address::new(s0, s1, s2, s3, s4, s5, s6, s7), 64)
}

/// A router's advertisement that it is none.
fn no_router() -> Vec<u8> {
    let (from, to) = (Ipv6Address::new(0xFE80, 0, 0, 0, 0, 0, 0, 1), IPV6_LINK_LOCAL_ALL_NODES);
    let message = Icmpv6Repr::Ndisc(NdiscRepr::RouterAdvert {
        hop_limit: 64,
        flags: NdiscRouterFlags::empty(),
        router_lifetime: Duration::ZERO,
        reachable_time: Duration::ZERO,
        retrans_time: Duration::ZERO,
        lladdr: None,
        mtu: None,
        prefix_info: None,
    });
    let packet = Ipv6Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Icmpv6,
        payload_len: message.buffer_len(),
        hop_limit: 255,
    };
    let head = EthernetFrame::<&[u8]>::header_len();
    let mut frame = vec![0; head + packet.buffer_len() + message.buffer_len()];
    let mut ethernet = EthernetFrame::new_unchecked(&mut frame);
    ethernet.set_dst_addr(EthernetAddress([0x33, 0x33, 0, 0, 0, 1]));
    ethernet.set_src_addr(EthernetAddress([2, 0, 0, 0, 0, 1]));
    ethernet.set_ethertype(EthernetProtocol::Ipv6);
    let (ip, payload) = frame[head..].split_at_mut(packet.buffer_len());
    packet.emit(&mut Ipv6Packet::new_unchecked(ip));
    message.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(payload), &Default::default());
    frame
}

/// For an answer of a DHCP server, RFC 2131 4.1; smoltcp waits 10 s, which a network that comes back behind a
/// lossy wire has to wait, too.
const AGAIN: Duration = Duration::from_secs(4);

fn client() -> dhcpv4::Socket<'static> {
    let mut socket = dhcpv4::Socket::new();
    let mut retry = dhcpv4::RetryConfig::default();
    (retry.discover_timeout, retry.initial_request_timeout) = (AGAIN, AGAIN);
    socket.set_retry_config(retry);
    socket
}

impl Netif {
    /// `seed`: for sequence numbers and transaction ids.
    pub fn new(name: &str, link: Box<dyn Link>, ethernet: bool, seed: u64, now: Instant) -> Self {
        let mut port = Port::new(link, ethernet);
        let address = if ethernet {
            HardwareAddress::Ethernet(EthernetAddress(port.mac()))
        } else {
            HardwareAddress::Ip
        };
        let mut config = Config::new(address);
        config.random_seed = seed;
        config.slaac = ethernet;
        let interface = Interface::new(config, &mut port, now);
        let mut sockets = SocketSet::new(vec![]);
        let dns = sockets.add(dns::Socket::new(&[], vec![]));
        let mut netif = Self {
            name: name.into(),
            port,
            interface,
            sockets,
            up: true,
            link_was_up: false,
            confirming: false,
            changed: now,
            idle: false,
            alone: false,
            dhcp: None,
            lease: Lease::default(),
            dns,
            addresses: Vec::new(),
            flood: Flood::default(),
        };
        if ethernet {
            let own = IpCidr::Ipv6(link_local(netif.port.mac()));
            let _ = netif.add_address(own, Origin::LinkLocal);
        }
        netif
    }

    pub fn is_running(&self) -> bool {
        self.up && self.port.link_ref().is_up()
    }

    pub fn dns(&mut self) -> &mut dns::Socket<'static> {
        self.sockets.get_mut(self.dns)
    }

    /// The DNS socket with the context it needs.
    pub fn dns_parts(&mut self) -> (&mut Interface, &mut dns::Socket<'static>) {
        (&mut self.interface, self.sockets.get_mut(self.dns))
    }

    /// All addresses and where they are from.
    pub fn addresses(&self) -> Vec<(IpCidr, Origin)> {
        let origin = |cidr: &IpCidr| {
            let known = self.addresses.iter().find(|(own, _)| own == cidr);
            known.map_or(Origin::Slaac, |(_, origin)| *origin)
        };
        self.interface.ip_addrs().iter().map(|cidr| (*cidr, origin(cidr))).collect()
    }

    pub fn has_address(&self, address: &IpAddress) -> bool {
        self.interface.ip_addrs().iter().any(|cidr| cidr.address() == *address)
    }

    /// Is `address` in one of its networks?
    pub fn is_neighbour(&self, address: &IpAddress) -> bool {
        self.interface.ip_addrs().iter().any(|cidr| route::contains(cidr, address))
    }

    /// `Inval`: no address a host can have; `Exist`; `Limit`.
    pub fn add_address(&mut self, cidr: IpCidr, origin: Origin) -> Result<()> {
        if !cidr.address().is_unicast() || cidr.address().is_unspecified() {
            return Err(Error::Inval);
        }
        if self.has_address(&cidr.address()) {
            return Err(Error::Exist);
        }
        if self.interface.ip_addrs().len() >= ADDRESSES_MAX {
            return Err(Error::Limit);
        }
        self.interface.update_ip_addrs(|list| {
            let _ = list.push(cidr);
        });
        self.port.forgets();
        self.addresses.push((cidr, origin));
        Ok(())
    }

    /// `AddrNotAvail`: it has no such address.
    pub fn remove_address(&mut self, address: IpAddress) -> Result<()> {
        if !self.has_address(&address) {
            return Err(Error::AddrNotAvail);
        }
        self.interface.update_ip_addrs(|list| list.retain(|cidr| cidr.address() != address));
        self.port.forgets();
        self.addresses.retain(|(cidr, _)| cidr.address() != address);
        Ok(())
    }

    pub fn has_dhcp(&self) -> bool {
        self.dhcp.is_some()
    }

    /// Asks for its first address and has not done so for long, or its link went a moment ago (its driver may
    /// be coming back).
    pub fn is_configuring(&self, now: Instant) -> bool {
        let young = now < self.changed + CONFIGURING;
        self.up && self.dhcp.is_some() && self.lease.address.is_none() && young
    }

    pub fn set_dhcp(&mut self, on: bool) {
        match (on, self.dhcp) {
            (true, None) => self.dhcp = Some(self.sockets.add(client())),
            (false, Some(handle)) => {
                self.sockets.remove(handle);
                self.dhcp = None;
            }
            _ => {}
        }
    }

    /// Gives smoltcp the routes of this interface.
    pub fn set_routes<'a>(&mut self, routes: impl Iterator<Item = &'a Route>) {
        self.interface.routes_mut().update(|list| {
            list.clear();
            for route in routes {
                if let Some(gateway) = route.gateway {
                    let _ = list.push(smoltcp::iface::Route {
                        cidr: route.destination,
                        via_router: gateway,
                        preferred_until: None,
                        expires_at: None,
                    });
                }
            }
        });
    }

    /// Takes in a bounded number of frames and sends what is due. True: there is more to take in.
    pub fn turn(&mut self, now: Instant, changes: &mut Changes) -> bool {
        let running = self.is_running();
        if running
            && !self.link_was_up
            && let Some(handle) = self.dhcp
        {
            // Another network may be at the other end; most often it is the same, and its
            // connections should live.
            self.sockets.get_mut::<dhcpv4::Socket>(handle).reset();
            self.confirming = true;
        }
        if running != self.link_was_up {
            self.changed = now;
        }
        self.link_was_up = running;
        if !running {
            return false;
        }
        self.interface.poll_maintenance(now);
        self.port.remind(now);
        self.port.recover(now);
        let before = self.port.counters();
        let more = self.take_in(now);
        let sent = self.interface.poll_egress(now, &mut self.port, &mut self.sockets);
        self.port.nudge(now);
        self.port.link().flush();
        let more = more || self.port.has_own();
        self.idle = sent == smoltcp::iface::PollResult::None && self.port.counters() == before;
        if let Some(handle) = self.dhcp {
            let event = match self.sockets.get_mut::<dhcpv4::Socket>(handle).poll() {
                Some(dhcpv4::Event::Configured(config)) => Some(Lease {
                    address: Some(IpCidr::Ipv4(config.address)),
                    gateway: config.router.map(IpAddress::Ipv4),
                    resolvers: config.dns_servers.iter().map(|ip| IpAddress::Ipv4(*ip)).collect(),
                }),
                Some(dhcpv4::Event::Deconfigured) if self.confirming => None,
                Some(dhcpv4::Event::Deconfigured) => Some(Lease::default()),
                None => None,
            };
            if let Some(lease) = event {
                self.confirming = false;
                let mut news = lease.clone();
                if lease.resolvers == self.lease.resolvers {
                    // The user may have chosen others since.
                    news.resolvers.clear();
                }
                self.take_lease(&lease);
                changes.lease = Some(news);
            }
        }
        more
    }

    /// True: there is more. Bounded, and see [`Flood`].
    fn take_in(&mut self, now: Instant) -> bool {
        use smoltcp::iface::PollIngressSingleResult as Ingress;
        let watched = self.flood.is_watching();
        let waiting = if watched { self.datagrams_waiting() } else { 0 };
        if !self.flood.is_open(now, waiting) {
            return false;
        }
        let before = self.port.counters().datagrams;
        let more = (0..INGRESS_MAX).all(|_| {
            let result = self.interface.poll_ingress_single(now, &mut self.port, &mut self.sockets);
            !matches!(result, Ingress::None)
        });
        let after = self.port.counters().datagrams;
        let came =
            Datagrams { count: after.count - before.count, bytes: after.bytes - before.bytes };
        let left = if watched { self.datagrams_waiting() } else { 0 };
        self.flood.took_in(now, came, waiting, left);
        more && self.flood.due(now).is_none()
    }

    /// Bytes of datagrams that programs have not read.
    fn datagrams_waiting(&self) -> usize {
        let queued = self.sockets.iter().map(|(_, socket)| match socket {
            Socket::Udp(socket) => socket.recv_queue(),
            _ => 0,
        });
        queued.sum()
    }

    /// Times that datagrams were kept out for a while, as programs did not take them.
    pub fn floods(&self) -> u64 {
        self.flood.times
    }

    pub fn take_lease(&mut self, lease: &Lease) {
        let old: Vec<IpAddress> = self
            .addresses
            .iter()
            .filter(|(cidr, origin)| *origin == Origin::Dhcp && Some(*cidr) != lease.address)
            .map(|(cidr, _)| cidr.address())
            .collect();
        for address in old {
            let _ = self.remove_address(address);
        }
        if let Some(cidr) = lease.address {
            // `Exist` when a lease is renewed, or the user chose the same.
            let _ = self.add_address(cidr, Origin::Dhcp);
        }
        self.lease = lease.clone();
    }

    /// When it wants its next turn.
    pub fn due(&mut self, now: Instant) -> Option<Instant> {
        if !self.is_running() {
            return None;
        }
        let closed = self.flood.due(now);
        let mut due = self.interface.poll_at(now, &self.sockets);
        if self.idle && due.is_some_and(|at| at <= now) {
            // smoltcp 0.14 solicits routers three times and then wants a turn at once for ever. A
            // router that is none (RFC 4861, 6.2.5: its lifetime is 0) makes it wait for others.
            if !core::mem::replace(&mut self.alone, true) && self.port.is_ethernet() {
                self.port.deliver(no_router());
                return Some(now);
            }
            due = Some(now + IDLE);
        }
        let due = due.into_iter().chain(self.port.recovery_due()).chain(closed).min();
        if self.port.link_ref().has_room() {
            return due;
        }
        // Nothing can go out: the driver says when it can again.
        due.map(|at| at.max(now + STARVED))
    }
}
