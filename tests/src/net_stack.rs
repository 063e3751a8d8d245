//! A hostile network around the guest's own TCP/IP stack, on the host: an ordinary function, so that the
//! coverage-guided target (`vmm/fuzz`, `net_stack`) and a seeded test run the same.
//!
//! Input: `kind length content` over and over. A kind chooses what sound headers stand around the content,
//! and how much time goes by.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, Icmpv6Packet, IpAddress, IpProtocol,
    Ipv4Address, Ipv4Packet, Ipv6Address, Ipv6Packet, TcpPacket, UdpPacket,
};
use xinim_net::address;
use xinim_net::configure::configure;
use xinim_net::link::{Capabilities, Link, Offload};
use xinim_net::stack::Stack;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 15];
const MTU: usize = 1500;
/// Frames of one input at most.
pub const FRAMES: usize = 256;
/// Turns without anything new before the stack must want to rest.
const TURNS: usize = 200;

#[derive(Default)]
struct Wire {
    to_stack: VecDeque<Vec<u8>>,
    /// The last TCP segment that came out: what a peer who listens knows.
    heard: Option<Heard>,
}

#[derive(Clone, Copy)]
struct Heard {
    from: u16,
    to: u16,
    next: u32,
    expected: u32,
}

struct End(Rc<RefCell<Wire>>);

impl Link for End {
    fn capabilities(&self) -> Capabilities {
        Capabilities { mac: MAC, mtu: MTU as u32, ..Capabilities::default() }
    }
    fn is_up(&self) -> bool {
        true
    }
    fn receive(&mut self, frame: &mut Vec<u8>) -> Option<bool> {
        *frame = self.0.borrow_mut().to_stack.pop_front()?;
        Some(false)
    }
    fn has_room(&self) -> bool {
        true
    }
    fn transmit(&mut self, frame: &[u8], _offload: &Offload) {
        assert!(frame.len() <= MTU + 14, "a frame of {} bytes", frame.len());
        let heard = || {
            let ethernet = EthernetFrame::new_checked(frame).ok()?;
            let ip = Ipv4Packet::new_checked(ethernet.payload()).ok()?;
            let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
            let more = ip.payload().len() - usize::from(tcp.header_len());
            let ends = u32::from(tcp.syn()) + u32::from(tcp.fin());
            let next = (tcp.seq_number().0 as u32).wrapping_add(more as u32 + ends);
            let expected = tcp.ack_number().0 as u32;
            Some(Heard { from: tcp.src_port(), to: tcp.dst_port(), next, expected })
        };
        if let Some(heard) = heard() {
            self.0.borrow_mut().heard = Some(heard);
        }
    }
}

const OWN: Ipv4Address = Ipv4Address::new(10, 0, 2, 15);
const PEER: Ipv4Address = Ipv4Address::new(10, 0, 2, 2);
const PEER6: Ipv6Address = Ipv6Address::new(0xFD00, 0, 0, 0, 0, 0, 0, 2);
const OWN6: Ipv6Address = Ipv6Address::new(0xFD00, 0, 0, 0, 0, 0, 0, 15);

fn ethernet(kind: EthernetProtocol, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 14 + content.len()];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    frame.set_dst_addr(EthernetAddress(MAC));
    frame.set_src_addr(EthernetAddress([2, 0, 0, 0, 0, 2]));
    frame.set_ethertype(kind);
    frame.payload_mut().copy_from_slice(content);
    bytes
}

/// `fragment`: offset and more-fragments bit as they stand in the header.
fn ipv4(protocol: IpProtocol, fragment: u16, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 20 + content.len()];
    let mut packet = Ipv4Packet::new_unchecked(&mut bytes);
    packet.set_version(4);
    packet.set_header_len(20);
    packet.set_total_len((20 + content.len()) as u16);
    packet.set_ident(7);
    packet.set_more_frags(fragment & 0x2000 != 0);
    packet.set_frag_offset((fragment & 0x1FFF) << 3);
    packet.set_hop_limit(64);
    packet.set_next_header(protocol);
    packet.set_src_addr(PEER);
    packet.set_dst_addr(OWN);
    packet.payload_mut().copy_from_slice(content);
    packet.fill_checksum();
    ethernet(EthernetProtocol::Ipv4, &bytes)
}

fn ipv6(protocol: IpProtocol, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 40 + content.len()];
    let mut packet = Ipv6Packet::new_unchecked(&mut bytes);
    packet.set_version(6);
    packet.set_payload_len(content.len() as u16);
    packet.set_hop_limit(255);
    packet.set_next_header(protocol);
    packet.set_src_addr(PEER6);
    packet.set_dst_addr(OWN6);
    packet.payload_mut().copy_from_slice(content);
    ethernet(EthernetProtocol::Ipv6, &bytes)
}

/// Content as a TCP segment or UDP datagram with a right checksum, ports within it as they are.
fn sealed(protocol: IpProtocol, v6: bool, mut content: Vec<u8>) -> Vec<u8> {
    let (from, to): (IpAddress, IpAddress) =
        if v6 { (PEER6.into(), OWN6.into()) } else { (PEER.into(), OWN.into()) };
    match protocol {
        IpProtocol::Tcp if content.len() >= 20 => {
            TcpPacket::new_unchecked(&mut content).fill_checksum(&from, &to);
        }
        IpProtocol::Udp if content.len() >= 8 => {
            let len = content.len() as u16;
            let mut packet = UdpPacket::new_unchecked(&mut content);
            packet.set_len(len);
            packet.fill_checksum(&from, &to);
        }
        IpProtocol::Icmpv6 if content.len() >= 4 => {
            Icmpv6Packet::new_unchecked(&mut content).fill_checksum(&PEER6, &OWN6);
        }
        _ => {}
    }
    if v6 { ipv6(protocol, &content) } else { ipv4(protocol, 0, &content) }
}

/// A segment that fits the connection heard of last: flags, window and data are the input's.
fn fitting(heard: Heard, content: &[u8]) -> Vec<u8> {
    let (head, data) = content.split_at(content.len().min(4));
    let byte = |at: usize| head.get(at).copied().unwrap_or(0);
    let mut segment = vec![0; 20];
    segment[..2].copy_from_slice(&heard.to.to_be_bytes());
    segment[2..4].copy_from_slice(&heard.from.to_be_bytes());
    let sequence = heard.expected.wrapping_add(u32::from(byte(3)).wrapping_sub(128) & !63);
    segment[4..8].copy_from_slice(&sequence.to_be_bytes());
    segment[8..12].copy_from_slice(&heard.next.to_be_bytes());
    segment[12] = 0x50;
    segment[13] = byte(0);
    segment[14..16].copy_from_slice(&[byte(1), byte(2)]);
    segment.extend_from_slice(data);
    sealed(IpProtocol::Tcp, false, segment)
}

fn frame(kind: u8, content: &[u8], heard: Option<Heard>) -> Vec<u8> {
    let own = |at: usize, port: u16, mut content: Vec<u8>| {
        if let Some(place) = content.get_mut(at..at + 2) {
            place.copy_from_slice(&port.to_be_bytes());
        }
        content
    };
    match kind % 16 {
        0 => content.to_vec(),
        1 => ethernet(EthernetProtocol::Arp, content),
        2 => ethernet(EthernetProtocol::Ipv4, content),
        3 => ethernet(EthernetProtocol::Ipv6, content),
        4 => sealed(IpProtocol::Tcp, false, own(2, 80, content.to_vec())),
        5 => sealed(IpProtocol::Tcp, true, own(2, 80, content.to_vec())),
        6 => sealed(IpProtocol::Udp, false, own(2, 53, content.to_vec())),
        7 => sealed(IpProtocol::Udp, true, own(2, 53, content.to_vec())),
        8 => sealed(IpProtocol::Udp, false, own(2, 68, own(0, 67, content.to_vec()))),
        9 => ipv4(IpProtocol::Icmp, 0, content),
        10 | 11 => sealed(IpProtocol::Icmpv6, true, content.to_vec()),
        12 => {
            let (offset, rest) = content.split_at(content.len().min(2));
            let offset = offset.iter().fold(0, |word, byte| word << 8 | u16::from(*byte));
            ipv4(IpProtocol::Udp, offset & 0x3FFF, rest)
        }
        13 => ipv6(IpProtocol::from(content.first().copied().unwrap_or(0)), content),
        _ => heard.map_or_else(Vec::new, |heard| fitting(heard, content)),
    }
}

/// A stack with something of everything, and what `data` says on its wire. Panics where the stack does,
/// when it never rests, or sends what is no frame.
pub fn hostile_network(data: &[u8]) {
    let wire = Rc::new(RefCell::new(Wire::default()));
    let mut now = Instant::from_secs(1);
    let mut stack = Stack::new([1, 2, 3, 4], now);
    let Ok(_) = stack.add_interface("eth0", Box::new(End(wire.clone())), true) else { return };
    for line in
        ["addr add 10.0.2.15/24 dev eth0", "addr add fd00::f/64 dev eth0", "dns set 10.0.2.2"]
    {
        configure(&mut stack, line).expect("a sound line");
    }
    let sockets = sockets(&mut stack);
    let mut rest = data;
    for _ in 0..FRAMES {
        let Some((&[kind, length], behind)) = rest.split_first_chunk::<2>() else { break };
        let (content, behind) = behind.split_at(behind.len().min(usize::from(length)));
        rest = behind;
        let heard = wire.borrow().heard;
        let frame = frame(kind, content, heard);
        if frame.len() <= MTU + 14 {
            wire.borrow_mut().to_stack.push_back(frame);
        }
        let mut turns = 0;
        while stack.turn(now).is_some_and(|due| due <= now) {
            turns += 1;
            assert!(turns < TURNS, "the stack does not rest");
        }
        now += Duration::from_millis(if kind & 0x80 != 0 { 500 } else { 1 });
        use_all(&mut stack, &sockets, content);
    }
    sockets.into_iter().for_each(|socket| stack.close(socket));
    for _ in 0..10 {
        now += Duration::from_secs(30);
        stack.turn(now);
    }
    assert!(stack.net.orphans.is_empty(), "connections that never end");
}

/// Listeners, datagram sockets, a capture, a connection being made.
fn sockets(stack: &mut Stack) -> Vec<u64> {
    let mut all = Vec::new();
    let mut open = |stack: &mut Stack, domain, kind, protocol| {
        let socket = stack.open(domain, kind, protocol, 1).expect("room for a socket");
        all.push(socket);
        socket
    };
    let any = |v6: bool, port| address::wildcard(v6, port);
    let listener = open(stack, 10, 1, 0);
    stack.bind(listener, &any(true, 80)).expect("port 80");
    stack.listen(listener, 16).expect("listening");
    let datagrams = open(stack, 10, 2, 0);
    stack.bind(datagrams, &any(true, 53)).expect("port 53");
    let echo = open(stack, 2, 2, 1);
    let _ = stack.send(echo, &[8, 0, 0, 0, 0, 0, 0, 1], &address::bytes(PEER.into(), 0));
    open(stack, 17, 3, 0);
    let client = open(stack, 2, 1, 0);
    let _ = stack.connect(client, &address::bytes(PEER.into(), 8080));
    all
}

/// Programs that take what comes and answer a part of it.
fn use_all(stack: &mut Stack, sockets: &[u64], content: &[u8]) {
    let mut buffer = [0; 2048];
    for &socket in sockets {
        if let Ok((connection, _)) = stack.accept(socket, 1) {
            let _ = stack.send(connection, content, &[]);
            if content.len().is_multiple_of(2) {
                stack.close(connection);
            }
        }
        stack.ready(socket);
        if let Ok(got) = stack.receive(socket, &mut buffer, 0) {
            assert!(got.count <= buffer.len());
            let _ = stack.send(socket, &buffer[..got.count.min(64)], &got.from);
        }
    }
}
