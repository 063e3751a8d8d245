//! UDP of the user network: a connected host socket for each conversation, so that only the
//! address the guest wrote to can answer; published ports.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use smoltcp::wire::{IpProtocol, UdpPacket, UdpRepr};
use xinim_machine::net::user;

use super::{Outbox, token};
use crate::reactor::Reactor;

/// Conversations at a time; the longest idle one makes room.
pub const FLOWS_MAX: usize = 256;
/// Peers of published ports remembered.
const PEERS_MAX: usize = 256;
const IDLE: Duration = Duration::from_secs(60);
/// Packets taken from one socket before the others have their turn.
const BURST: usize = 64;
/// First port by which the guest sees peers of published ports.
const ALIAS_BASE: u16 = 40_000;

/// All conversations.
#[derive(Debug, Default)]
pub struct Udp {
    flows: HashMap<u64, Flow>,
    /// By guest and remote address.
    keys: HashMap<(SocketAddr, SocketAddr), u64>,
    next: u64,
    published: Vec<Published>,
    /// Conversations and published ports whose sockets may hold more.
    unread: BTreeSet<u64>,
    unread_published: BTreeSet<u64>,
}

#[derive(Debug)]
struct Flow {
    socket: UdpSocket,
    guest: SocketAddr,
    remote: SocketAddr,
    used: Instant,
}

#[derive(Debug)]
struct Published {
    socket: UdpSocket,
    guest_port: u16,
    /// Who wrote, by the port of the gateway that stands for them.
    peers: Vec<SocketAddr>,
}

impl Flow {
    /// True: there may be more.
    fn carry(&mut self, outbox: &mut Outbox) -> bool {
        let mut buffer = [0; 2048];
        for _ in 0..BURST {
            if outbox.is_busy() {
                return true;
            }
            match self.socket.recv(&mut buffer) {
                Ok(length) => {
                    self.used = Instant::now();
                    emit(outbox, self.remote, self.guest, &buffer[..length]);
                }
                // Nobody listens there: ICMP said so, and the next packet may do better.
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
                Err(_) => return false,
            }
        }
        true
    }
}

impl Published {
    /// True: there may be more.
    fn carry(&mut self, number: usize, guest: Ipv4Addr, outbox: &mut Outbox) -> bool {
        let mut buffer = [0; 2048];
        for _ in 0..BURST {
            if outbox.is_busy() {
                return true;
            }
            let Ok((length, peer)) = self.socket.recv_from(&mut buffer) else { return false };
            let index = match self.peers.iter().position(|known| *known == peer) {
                Some(index) => index,
                None if self.peers.len() < PEERS_MAX => {
                    self.peers.push(peer);
                    self.peers.len() - 1
                }
                None => continue,
            };
            let from = SocketAddr::from((user::GATEWAY, alias(number, index)));
            let to = SocketAddr::from((guest, self.guest_port));
            emit(outbox, from, to, &buffer[..length]);
        }
        true
    }
}

impl Udp {
    pub fn len(&self) -> usize {
        self.flows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    pub fn publish(
        &mut self,
        host: SocketAddr,
        port: u16,
        reactor: &Reactor,
    ) -> std::io::Result<()> {
        let socket = UdpSocket::bind(host)?;
        socket.set_nonblocking(true)?;
        reactor.add(&socket, token::UDP_PUBLISHED | self.published.len() as u64)?;
        self.published.push(Published { socket, guest_port: port, peers: Vec::new() });
        Ok(())
    }

    pub fn published(&self) -> Vec<u16> {
        let ports = self.published.iter();
        ports.filter_map(|p| p.socket.local_addr().ok()).map(|a| a.port()).collect()
    }

    /// A packet from the guest.
    pub fn send(
        &mut self,
        guest: SocketAddr,
        remote: SocketAddr,
        target: Option<SocketAddr>,
        content: &[u8],
        reactor: &Reactor,
    ) {
        if remote.ip() == IpAddr::V4(user::GATEWAY) && self.answer(guest, remote.port(), content) {
            return;
        }
        let Some(target) = target else { return };
        let number = match self.keys.get(&(guest, remote)) {
            Some(number) => *number,
            None => match self.open(guest, remote, target, reactor) {
                Ok(number) => number,
                // No socket, no packet.
                Err(_) => return,
            },
        };
        if let Some(flow) = self.flows.get_mut(&number) {
            flow.used = Instant::now();
            // A packet that cannot be sent is lost, as packets are.
            let _ = flow.socket.send(content);
        }
    }

    fn open(
        &mut self,
        guest: SocketAddr,
        remote: SocketAddr,
        target: SocketAddr,
        reactor: &Reactor,
    ) -> std::io::Result<u64> {
        if self.flows.len() >= FLOWS_MAX {
            let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.used).map(|(n, _)| *n);
            oldest.into_iter().for_each(|number| self.remove(number));
        }
        let local: IpAddr = match (target.is_ipv6(), target.ip().is_loopback()) {
            (false, true) => Ipv4Addr::LOCALHOST.into(),
            (false, false) => Ipv4Addr::UNSPECIFIED.into(),
            (true, true) => Ipv6Addr::LOCALHOST.into(),
            (true, false) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((local, 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(target)?;
        let number = self.next;
        self.next = (self.next + 1) & token::NUMBER;
        reactor.add(&socket, token::UDP | number)?;
        self.flows.insert(number, Flow { socket, guest, remote, used: Instant::now() });
        self.keys.insert((guest, remote), number);
        Ok(number)
    }

    fn remove(&mut self, number: u64) {
        if let Some(flow) = self.flows.remove(&number) {
            self.keys.remove(&(flow.guest, flow.remote));
        }
    }

    /// The host's side of a conversation has something.
    pub fn ready(&mut self, number: u64) {
        self.unread.insert(number);
    }

    /// Somebody wrote to a published port.
    pub fn accept(&mut self, number: u64) {
        self.unread_published.insert(number);
    }

    /// Takes what has come, some from each, as far as the queue to the guest has room: the rest stays with
    /// the host's sockets, which lose what is too much. True: there may be more at once.
    pub fn work(&mut self, guest: Ipv4Addr, outbox: &mut Outbox) -> bool {
        let mut more = false;
        for number in std::mem::take(&mut self.unread) {
            let Some(flow) = self.flows.get_mut(&number) else { continue };
            if flow.carry(outbox) {
                self.unread.insert(number);
                more = true;
            }
        }
        for number in std::mem::take(&mut self.unread_published) {
            let Some(published) = self.published.get_mut(number as usize) else { continue };
            if published.carry(number as usize, guest, outbox) {
                self.unread_published.insert(number);
                more = true;
            }
        }
        more && !outbox.is_busy()
    }

    /// The guest answers somebody who wrote to a published port.
    fn answer(&mut self, guest: SocketAddr, alias_port: u16, content: &[u8]) -> bool {
        let Some(offset) = alias_port.checked_sub(ALIAS_BASE) else { return false };
        let (number, index) = (usize::from(offset) / PEERS_MAX, usize::from(offset) % PEERS_MAX);
        let Some(published) = self.published.get(number) else { return false };
        let Some(peer) = published.peers.get(index) else { return false };
        if published.guest_port == guest.port() {
            let _ = published.socket.send_to(content, peer);
        }
        true
    }

    /// Forgets conversations that are idle.
    pub fn sweep(&mut self, now: Instant) {
        let idle = |flow: &Flow| now.duration_since(flow.used) >= IDLE;
        let old: Vec<u64> =
            self.flows.iter().filter(|(_, flow)| idle(flow)).map(|(n, _)| *n).collect();
        old.into_iter().for_each(|number| self.remove(number));
    }
}

/// The gateway's port that stands for a peer. Published ports are few: the numbers fit.
fn alias(published: usize, peer: usize) -> u16 {
    ALIAS_BASE.wrapping_add((published * PEERS_MAX + peer) as u16)
}

/// A UDP packet to the guest.
fn emit(outbox: &mut Outbox, from: SocketAddr, to: SocketAddr, content: &[u8]) {
    let repr = UdpRepr { src_port: from.port(), dst_port: to.port() };
    let mut payload = vec![0; repr.header_len() + content.len()];
    repr.emit(
        &mut UdpPacket::new_unchecked(&mut payload),
        &from.ip().into(),
        &to.ip().into(),
        content.len(),
        |place| place.copy_from_slice(content),
        &Default::default(),
    );
    outbox.ip(from.ip(), to.ip(), IpProtocol::Udp, &payload);
}
