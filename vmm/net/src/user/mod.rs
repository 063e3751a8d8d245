//! `--net user`: a network of the machine's own, whose gateway carries its traffic to the host's
//! network through ordinary sockets. It needs no rights and no other program.
//!
//! ```text
//! 10.0.2.0/24   10.0.2.2  gateway: ARP, DHCP, ping; with host_loopback also 127.0.0.1
//!               10.0.2.3  name service: passed to the host's name server
//!               10.0.2.15 the guest
//! fd58:494e:494d::/64  ::2 gateway, ::3 name service, the guest by SLAAC
//!   guest frame -> inbox -> mod.rs: ARP, NDP, DHCP, ICMP -> policy -> tcp.rs (smoltcp), udp.rs, ping.rs
//!   guest frame <- outbox <-----------------------------------------------'     host sockets
//! ```
//! What the guest may reach is decided in one place, [`policy`]: not the host's loopback unless
//! asked for, never link-local, multicast or other special addresses.
//!
//! Bounds: 512 connections, 256 UDP conversations, queues of
//! [`QUEUE_BYTES`] each way. UDP in single packets (fragments are dropped).

mod dhcp;
mod ndp;
mod ping;
pub mod policy;
mod tcp;
mod udp;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use smoltcp::wire::{
    ArpOperation, ArpPacket, ArpRepr, EthernetAddress, IpProtocol, Ipv4Packet, Ipv4Repr,
    Ipv6Packet, Ipv6Repr,
};
use xinim_abi::hw::virtio_net::gso;
use xinim_devices::net::packet::{
    Ip, PROTOCOL_TCP, PROTOCOL_UDP, TYPE_ARP, TYPE_IPV4, TYPE_IPV6, word,
};
use xinim_devices::net::{ETHERNET_HEADER, Frame, NetBackend, Offloads, Sent, offload};
use xinim_machine::net::{UserNet, user};

use crate::Endpoint;
use crate::reactor::Reactor;
use ping::Pings;
use policy::Policy;
use tcp::Tcp;
use udp::Udp;

/// Frames waiting in one direction, in bytes.
pub const QUEUE_BYTES: usize = 2 << 20;
/// From here on datagrams wait with the host.
const BUSY_BYTES: usize = 256 << 10;
/// The gateway's own Ethernet address.
const MAC: EthernetAddress = EthernetAddress([0x52, 0x55, 0x0A, 0x00, 0x02, 0x02]);
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMPV6: u8 = 58;
const HOP_LIMIT: u8 = 64;
/// How often idle UDP conversations are looked for.
const SWEEP: Duration = Duration::from_secs(10);

/// Whose descriptor a reactor token is.
pub(crate) mod token {
    pub const TCP: u64 = 1 << 32;
    pub const TCP_LISTENER: u64 = 2 << 32;
    pub const UDP: u64 = 3 << 32;
    pub const UDP_PUBLISHED: u64 = 4 << 32;
    pub const PING: u64 = 5 << 32;
    pub const KIND: u64 = 0xFFFF_FFFF << 32;
    pub const NUMBER: u64 = 0xFFFF_FFFF;
}

/// Frames to the guest.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    frames: VecDeque<Frame>,
    bytes: usize,
    guest_mac: EthernetAddress,
}

impl Outbox {
    pub fn is_full(&self) -> bool {
        self.bytes >= QUEUE_BYTES
    }

    /// Datagrams should wait: connections share the queue with them.
    pub fn is_busy(&self) -> bool {
        self.bytes >= BUSY_BYTES
    }

    fn push(&mut self, frame: Frame) {
        self.bytes += frame.data.len();
        self.frames.push_back(frame);
    }

    fn pop(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front()?;
        self.bytes -= frame.data.len();
        Some(frame)
    }

    fn ethernet(&self, to: EthernetAddress, protocol: u16) -> Vec<u8> {
        let mut data = Vec::with_capacity(ETHERNET_HEADER + 64);
        data.extend(to.0);
        data.extend(MAC.0);
        data.extend(protocol.to_be_bytes());
        data
    }

    /// A TCP packet, its IP header finished, its checksum open.
    pub fn tcp(&mut self, packet: &[u8], segment: Option<u16>) {
        let v6 = packet.first().is_some_and(|byte| byte >> 4 == 6);
        let mut data = self.ethernet(self.guest_mac, if v6 { TYPE_IPV6 } else { TYPE_IPV4 });
        data.extend_from_slice(packet);
        let Some(ip) = Ip::parse(&data) else { return };
        let Some(mut header) = offload::open_checksum(&mut data, &ip) else { return };
        if let Some(size) = segment {
            header.gso_type = if v6 { gso::TCPV6 } else { gso::TCPV4 };
            header.gso_size = size;
            let tcp = ip.tcp_header(&data).unwrap_or(20);
            header.hdr_len = (ip.payload + tcp) as u16;
        }
        self.push(Frame { header, data });
    }

    /// A packet of `protocol`, or nothing when the queue is full or it is too long: networks lose
    /// packets.
    pub fn ip(&mut self, from: IpAddr, to: IpAddr, protocol: IpProtocol, payload: &[u8]) {
        self.ip_with(from, to, protocol, HOP_LIMIT, payload);
    }

    pub fn ip_with(
        &mut self,
        from: IpAddr,
        to: IpAddr,
        protocol: IpProtocol,
        hop_limit: u8,
        payload: &[u8],
    ) {
        let (header, kind) = if to.is_ipv6() { (40, TYPE_IPV6) } else { (20, TYPE_IPV4) };
        if self.is_full() || payload.len() + header > usize::from(user::MTU) {
            return;
        }
        let mac = match to {
            IpAddr::V4(Ipv4Addr::BROADCAST) => EthernetAddress::BROADCAST,
            IpAddr::V6(to) if to.is_multicast() => {
                let [.., a, b, c, d] = to.octets();
                EthernetAddress([0x33, 0x33, a, b, c, d])
            }
            _ => self.guest_mac,
        };
        let mut data = self.ethernet(mac, kind);
        data.resize(ETHERNET_HEADER + header, 0);
        let (next_header, payload_len) = (protocol, payload.len());
        let place = &mut data[ETHERNET_HEADER..];
        match (from, to) {
            (IpAddr::V4(src_addr), IpAddr::V4(dst_addr)) => {
                let repr = Ipv4Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
                repr.emit(&mut Ipv4Packet::new_unchecked(place), &Default::default());
            }
            (IpAddr::V6(src_addr), IpAddr::V6(dst_addr)) => {
                let repr = Ipv6Repr { src_addr, dst_addr, next_header, payload_len, hop_limit };
                repr.emit(&mut Ipv6Packet::new_unchecked(place));
            }
            _ => return,
        }
        data.extend_from_slice(payload);
        self.push(Frame::plain(data));
    }
}

/// The network's gateway, which is all there is to it.
pub struct Gateway {
    reactor: Reactor,
    policy: Policy,
    guest: Ipv4Addr,
    inbox: VecDeque<Frame>,
    inbox_bytes: usize,
    /// A frame was refused: say when there is room.
    refused: bool,
    outbox: Outbox,
    tcp: Tcp,
    udp: Udp,
    pings: Pings,
    swept: Instant,
    /// The host reaches the IPv6 internet, and so may the guest.
    routes6: bool,
    /// When the guest was last told what this network is; `None`: it has not asked.
    advertised: Option<Instant>,
}

impl Gateway {
    /// Binds the published ports. `mac` is the guest's.
    pub fn open(options: &UserNet, mac: [u8; 6]) -> Result<Self, String> {
        let failed = |error| format!("the user network cannot be made: {error}");
        let reactor = Reactor::new().map_err(failed)?;
        let start = Instant::now();
        let mut gateway = Self {
            reactor,
            policy: Policy::new(options),
            guest: user::GUEST,
            inbox: VecDeque::new(),
            inbox_bytes: 0,
            refused: false,
            outbox: Outbox { guest_mac: EthernetAddress(mac), ..Outbox::default() },
            tcp: Tcp::new(start),
            udp: Udp::default(),
            pings: Pings::default(),
            swept: start,
            routes6: !options.restrict && ndp::host_has_ipv6(),
            advertised: None,
        };
        for publish in &options.publish {
            let bound = if publish.udp {
                gateway.udp.publish(publish.host, publish.guest, &gateway.reactor)
            } else {
                gateway.tcp.publish(publish.host, publish.guest, &gateway.reactor)
            };
            bound.map_err(|error| format!("port {} cannot be published: {error}", publish.host))?;
        }
        Ok(gateway)
    }

    /// Ports of the host that were bound for published ones, TCP first; for tests that let the
    /// host choose.
    pub fn published(&self) -> Vec<u16> {
        self.tcp.published().into_iter().chain(self.udp.published()).collect()
    }

    /// TCP connections and UDP conversations that exist.
    pub fn flows(&self) -> (usize, usize) {
        (self.tcp.len(), self.udp.len())
    }

    fn work(&mut self) {
        for token in self.reactor.poll() {
            let number = token & token::NUMBER;
            match token & token::KIND {
                token::TCP => self.tcp.ready(number),
                token::TCP_LISTENER => self.tcp.accept(number, self.guest, &self.reactor),
                token::UDP => self.udp.ready(number),
                token::UDP_PUBLISHED => self.udp.accept(number),
                token::PING => self.pings.ready(number, &mut self.outbox),
                _ => {}
            }
        }
        while let Some(frame) = self.inbox.pop_front() {
            self.inbox_bytes -= frame.data.len();
            self.handle(&frame);
        }
        if std::mem::take(&mut self.refused) {
            self.reactor.ring();
        }
        if self.udp.work(self.guest, &mut self.outbox) {
            self.reactor.ring();
        }
        self.tcp.work(&mut self.outbox, &self.reactor);
        let now = Instant::now();
        if now.duration_since(self.swept) >= SWEEP {
            self.swept = now;
            self.udp.sweep(now);
            self.pings.sweep(now);
        }
        if self.advertised.is_some_and(|at| now.duration_since(at) >= ndp::AGAIN) {
            self.advertised = Some(now);
            ndp::advertise_to_all(self.routes6, &mut self.outbox);
        }
        let mut next = self.tcp.next_work();
        if let Some(at) = self.advertised {
            next = Some(next.map_or(at + ndp::AGAIN, |next| next.min(at + ndp::AGAIN)));
        }
        if !self.udp.is_empty() || !self.pings.is_empty() {
            let sweep = self.swept + SWEEP;
            next = Some(next.map_or(sweep, |next| next.min(sweep)));
        }
        self.reactor.arm(next);
    }

    fn handle(&mut self, frame: &Frame) {
        let data = &frame.data;
        let Some(from) = data.get(6..12) else { return };
        if from[0] & 1 != 0 {
            return;
        }
        let to_us = data[..6] == MAC.0 || data[0] & 1 != 0;
        self.outbox.guest_mac = EthernetAddress::from_bytes(from);
        match word(data, 12) {
            TYPE_ARP => self.arp(&data[ETHERNET_HEADER..]),
            TYPE_IPV4 | TYPE_IPV6 if to_us => self.ip(frame),
            _ => {}
        }
    }

    fn arp(&mut self, data: &[u8]) {
        let Ok(packet) = ArpPacket::new_checked(data) else { return };
        let Ok(ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Request,
            source_hardware_addr,
            source_protocol_addr,
            target_protocol_addr,
            ..
        }) = ArpRepr::parse(&packet)
        else {
            return;
        };
        let ours = matches!(target_protocol_addr, user::GATEWAY | user::DNS);
        if !ours || self.outbox.is_full() {
            return;
        }
        let reply = ArpRepr::EthernetIpv4 {
            operation: ArpOperation::Reply,
            source_hardware_addr: MAC,
            source_protocol_addr: target_protocol_addr,
            target_hardware_addr: source_hardware_addr,
            target_protocol_addr: source_protocol_addr,
        };
        let mut data = self.outbox.ethernet(source_hardware_addr, TYPE_ARP);
        data.resize(ETHERNET_HEADER + reply.buffer_len(), 0);
        reply.emit(&mut ArpPacket::new_unchecked(&mut data[ETHERNET_HEADER..]));
        self.outbox.push(Frame::plain(data));
    }

    fn ip(&mut self, frame: &Frame) {
        let data = &frame.data;
        let Some(ip) = Ip::parse(data).filter(|ip| ip.at == ETHERNET_HEADER) else { return };
        if ip.fragment || !ip.header_is_valid(data) {
            return;
        }
        let Some((from, to)) = addresses(data, &ip) else { return };
        let Some(payload) = data.get(ip.payload..ip.end) else { return };
        if ip.protocol == PROTOCOL_UDP && !ip.v6 && word(payload, 2) == dhcp::SERVER_PORT {
            return dhcp::answer(
                payload.get(8..).unwrap_or(&[]),
                &mut self.outbox,
                self.policy.mtu(),
            );
        }
        if let (PROTOCOL_ICMPV6, IpAddr::V6(from), IpAddr::V6(to)) = (ip.protocol, from, to) {
            let hops = data[ip.at + 7];
            if ndp::answer(payload, (from, to), hops, self.routes6, &mut self.outbox) {
                self.advertised = Some(Instant::now());
            }
        }
        if !policy::is_guest(from) {
            return;
        }
        if let IpAddr::V4(from) = from {
            self.guest = from;
        }
        match ip.protocol {
            PROTOCOL_TCP => {
                let Some(ports) = ip.ports(data) else { return };
                let guest = SocketAddr::new(from, (ports >> 16) as u16);
                let remote = SocketAddr::new(to, ports as u16);
                let target = self.policy.target(remote);
                let (packet, header) = (&data[ip.at..ip.end], ip.payload - ip.at);
                self.tcp.input(packet, header, guest, remote, target, &self.reactor);
            }
            PROTOCOL_UDP => {
                let whole = payload.get(..usize::from(word(payload, 4)));
                let Some(content) = whole.and_then(|whole| whole.get(8..)) else { return };
                let guest = SocketAddr::new(from, word(payload, 0));
                let remote = SocketAddr::new(to, word(payload, 2));
                let target = self.policy.target(remote);
                self.udp.send(guest, remote, target, content, &self.reactor);
            }
            PROTOCOL_ICMP | PROTOCOL_ICMPV6 if ip.v6 == (ip.protocol == PROTOCOL_ICMPV6) => {
                let reachable = self.policy.may_ping(to);
                self.pings.request(payload, from, to, reachable, &self.reactor, &mut self.outbox);
            }
            _ => {}
        }
    }
}

/// Source and destination of a packet.
fn addresses(data: &[u8], ip: &Ip) -> Option<(IpAddr, IpAddr)> {
    let bytes = data.get(ip.addresses())?;
    let (from, to) = bytes.split_at(bytes.len() / 2);
    let address = |bytes: &[u8]| match ip.v6 {
        true => bytes.first_chunk::<16>().map(|bytes| Ipv6Addr::from(*bytes).into()),
        false => bytes.first_chunk::<4>().map(|bytes| Ipv4Addr::from(*bytes).into()),
    };
    Some((address(from)?, address(to)?))
}

impl NetBackend for Gateway {
    fn send(&mut self, frame: &Frame) -> Sent {
        if self.inbox_bytes >= QUEUE_BYTES {
            self.refused = true;
            self.reactor.ring();
            return Sent::Later;
        }
        if offload::is_sound(frame) {
            self.inbox_bytes += frame.data.len();
            self.inbox.push_back(frame.clone());
            if self.inbox.len() == 1 {
                self.reactor.ring();
            }
        }
        Sent::Done
    }

    fn receive(&mut self, frame: &mut Frame) -> bool {
        if self.outbox.frames.is_empty() {
            self.work();
        }
        match self.outbox.pop() {
            Some(next) => {
                *frame = next;
                true
            }
            None => false,
        }
    }

    fn offloads(&self) -> Offloads {
        Offloads::CHECKSUM | Offloads::TSO4 | Offloads::TSO6
    }

    fn accept(&mut self, offloads: Offloads) {
        self.tcp.accept_offloads(offloads);
    }
}

impl Endpoint for Gateway {
    fn watch(&self) -> Option<BorrowedFd<'_>> {
        Some(self.reactor.fd())
    }
}

#[cfg(test)]
#[path = "tests/mod.rs"]
mod tests;
