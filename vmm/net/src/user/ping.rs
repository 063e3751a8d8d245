//! Echo requests, ICMP and ICMPv6: the gateway and the name server answer themselves; others are asked through the
//! kernel's unprivileged ICMP sockets, where the host allows them (`net.ipv4.ping_group_range`), and
//! otherwise do not answer.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send,
    socket_with,
};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpProtocol};
use xinim_machine::net::user;

use super::{Outbox, token};
use crate::reactor::Reactor;

/// Conversations (address and identifier) at a time.
const FLOWS_MAX: usize = 32;
const IDLE: Duration = Duration::from_secs(30);

/// All of them.
#[derive(Debug, Default)]
pub struct Pings {
    flows: HashMap<u64, Flow>,
    next: u64,
}

#[derive(Debug)]
struct Flow {
    socket: OwnedFd,
    guest: IpAddr,
    remote: IpAddr,
    ident: u16,
    used: Instant,
}

impl Pings {
    pub fn is_empty(&self) -> bool {
        self.flows.is_empty()
    }

    /// An ICMP message from the guest.
    pub fn request(
        &mut self,
        message: &[u8],
        guest: IpAddr,
        to: IpAddr,
        reachable: bool,
        reactor: &Reactor,
        outbox: &mut Outbox,
    ) {
        let Some(Echo { ident, seq_no, data }) = request(message, guest, to) else { return };
        if is_ours(to) {
            return reply(outbox, to, guest, Echo { ident, seq_no, data });
        }
        if !reachable {
            return;
        }
        let known = self.flows.iter().find(|(_, flow)| (flow.remote, flow.ident) == (to, ident));
        let number = match known.map(|(number, _)| *number) {
            Some(number) => number,
            None => match self.open(guest, to, ident, reactor) {
                Ok(number) => number,
                // The host does not let us: nobody answers.
                Err(_) => return,
            },
        };
        if let Some(flow) = self.flows.get_mut(&number) {
            flow.used = Instant::now();
            let _ = send(&flow.socket, message, SendFlags::DONTWAIT);
        }
    }

    fn open(
        &mut self,
        guest: IpAddr,
        remote: IpAddr,
        ident: u16,
        reactor: &Reactor,
    ) -> rustix::io::Result<u64> {
        if self.flows.len() >= FLOWS_MAX {
            let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.used).map(|(n, _)| *n);
            oldest.into_iter().for_each(|number| drop(self.flows.remove(&number)));
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (family, protocol) = match remote {
            IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP),
            IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6),
        };
        let socket = socket_with(family, SocketType::DGRAM, flags, Some(protocol))?;
        connect(&socket, &SocketAddr::new(remote, 0))?;
        let number = self.next;
        self.next = (self.next + 1) & token::NUMBER;
        reactor.add(&socket, token::PING | number)?;
        self.flows.insert(number, Flow { socket, guest, remote, ident, used: Instant::now() });
        Ok(number)
    }

    /// An answer may have come.
    pub fn ready(&mut self, number: u64, outbox: &mut Outbox) {
        let Some(flow) = self.flows.get(&number) else { return };
        let mut buffer = [0; 2048];
        while let Ok((length, _)) = recv(&flow.socket, &mut buffer[..], RecvFlags::DONTWAIT) {
            // The kernel has put its own identifier in, and looked at checksums.
            if let Some(Echo { seq_no, data, .. }) = answer(&buffer[..length], flow.remote) {
                let echo = Echo { ident: flow.ident, seq_no, data };
                reply(outbox, flow.remote, flow.guest, echo);
            }
        }
    }

    pub fn sweep(&mut self, now: Instant) {
        self.flows.retain(|_, flow| now.duration_since(flow.used) < IDLE);
    }
}

/// What a request and its answer have in common.
struct Echo<'a> {
    ident: u16,
    seq_no: u16,
    data: &'a [u8],
}

/// Whether the gateway answers for this address.
fn is_ours(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => matches!(address, user::GATEWAY | user::DNS),
        IpAddr::V6(address) => matches!(address, user::GATEWAY6 | user::DNS6 | user::ROUTER6),
    }
}

fn request(message: &[u8], from: IpAddr, to: IpAddr) -> Option<Echo<'_>> {
    let caps = Default::default();
    match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let packet = Icmpv6Packet::new_checked(message).ok()?;
            match Icmpv6Repr::parse(&from, &to, &packet, &caps).ok()? {
                Icmpv6Repr::EchoRequest { ident, seq_no, data } => {
                    Some(Echo { ident, seq_no, data })
                }
                _ => None,
            }
        }
        _ => {
            let packet = Icmpv4Packet::new_checked(message).ok()?;
            match Icmpv4Repr::parse(&packet, &caps).ok()? {
                Icmpv4Repr::EchoRequest { ident, seq_no, data } => {
                    Some(Echo { ident, seq_no, data })
                }
                _ => None,
            }
        }
    }
}

/// An answer as the host's kernel hands it over.
fn answer(message: &[u8], remote: IpAddr) -> Option<Echo<'_>> {
    const ANSWER4: u8 = 0;
    const ANSWER6: u8 = 129;
    let (head, data) = message.split_first_chunk::<8>()?;
    let [kind, code, _, _, ident @ ..] = *head;
    let [a, b, c, d] = ident;
    let wanted = if remote.is_ipv6() { ANSWER6 } else { ANSWER4 };
    let (ident, seq_no) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    ((kind, code) == (wanted, 0)).then_some(Echo { ident, seq_no, data })
}

fn reply(outbox: &mut Outbox, from: IpAddr, to: IpAddr, echo: Echo<'_>) {
    let Echo { ident, seq_no, data } = echo;
    let caps = Default::default();
    let (protocol, payload) = match (from, to) {
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let repr = Icmpv6Repr::EchoReply { ident, seq_no, data };
            let mut payload = vec![0; repr.buffer_len()];
            repr.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(&mut payload), &caps);
            (IpProtocol::Icmpv6, payload)
        }
        _ => {
            let repr = Icmpv4Repr::EchoReply { ident, seq_no, data };
            let mut payload = vec![0; repr.buffer_len()];
            repr.emit(&mut Icmpv4Packet::new_unchecked(&mut payload), &caps);
            (IpProtocol::Icmp, payload)
        }
    };
    outbox.ip(from, to, protocol, &payload);
}
