//! Echo requests: the gateway and the name server answer themselves; others are asked through the
//! kernel's unprivileged ICMP sockets, where the host allows them (`net.ipv4.ping_group_range`), and
//! otherwise do not answer.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, ipproto, recv, send,
    socket_with,
};
use smoltcp::wire::{Icmpv4Packet, Icmpv4Repr, IpProtocol};
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
    guest: Ipv4Addr,
    remote: Ipv4Addr,
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
        guest: Ipv4Addr,
        to: Ipv4Addr,
        reachable: bool,
        reactor: &Reactor,
        outbox: &mut Outbox,
    ) {
        let Ok(packet) = Icmpv4Packet::new_checked(message) else { return };
        let Ok(Icmpv4Repr::EchoRequest { ident, seq_no, data }) =
            Icmpv4Repr::parse(&packet, &Default::default())
        else {
            return;
        };
        if matches!(to, user::GATEWAY | user::DNS) {
            return reply(outbox, to, guest, ident, seq_no, data);
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
        guest: Ipv4Addr,
        remote: Ipv4Addr,
        ident: u16,
        reactor: &Reactor,
    ) -> rustix::io::Result<u64> {
        if self.flows.len() >= FLOWS_MAX {
            let oldest = self.flows.iter().min_by_key(|(_, flow)| flow.used).map(|(n, _)| *n);
            oldest.into_iter().for_each(|number| drop(self.flows.remove(&number)));
        }
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            socket_with(AddressFamily::INET, SocketType::DGRAM, flags, Some(ipproto::ICMP))?;
        connect(&socket, &SocketAddrV4::new(remote, 0))?;
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
            let Ok(packet) = Icmpv4Packet::new_checked(&buffer[..length]) else { continue };
            if let Ok(Icmpv4Repr::EchoReply { seq_no, data, .. }) =
                Icmpv4Repr::parse(&packet, &Default::default())
            {
                // The kernel has put its own identifier in.
                reply(outbox, flow.remote, flow.guest, flow.ident, seq_no, data);
            }
        }
    }

    pub fn sweep(&mut self, now: Instant) {
        self.flows.retain(|_, flow| now.duration_since(flow.used) < IDLE);
    }
}

fn reply(outbox: &mut Outbox, from: Ipv4Addr, to: Ipv4Addr, ident: u16, seq_no: u16, data: &[u8]) {
    let repr = Icmpv4Repr::EchoReply { ident, seq_no, data };
    let mut payload = vec![0; repr.buffer_len()];
    repr.emit(&mut Icmpv4Packet::new_unchecked(&mut payload), &Default::default());
    outbox.ipv4(from, to, IpProtocol::Icmp, &payload);
}
