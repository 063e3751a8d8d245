//! A listening socket: some smoltcp sockets that listen, some half-open, and connections to be accepted.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use smoltcp::socket::tcp::State as Wire;
use smoltcp::time::Duration;
use smoltcp::wire::IpListenEndpoint;

use super::{At, make};
use crate::socket::Options;
use crate::stack::Net;

/// For the last ACK of an incoming connection.
const HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Listening at a time on each interface.
const SPARES: usize = 8;

pub struct Listening {
    pub local: IpListenEndpoint,
    pub backlog: usize,
    /// Listening or half-open.
    pub waiting: Vec<At>,
    pub ready: VecDeque<At>,
}

impl Listening {
    pub fn refresh(&mut self, net: &mut Net, options: &Options) {
        let mut spare = vec![0usize; net.interfaces.len()];
        let mut half_open = 0;
        let mut place = 0;
        while place < self.waiting.len() {
            let at = self.waiting[place];
            match net.tcp(at).state() {
                Wire::Listen => spare[at.interface] += 1,
                Wire::SynReceived => half_open += 1,
                Wire::Closed => {
                    net.drop_tcp(at);
                    self.waiting.swap_remove(place);
                    continue;
                }
                _ => {
                    self.ready.push_back(at);
                    self.waiting.swap_remove(place);
                    continue;
                }
            }
            place += 1;
        }
        let left = self.backlog.saturating_sub(half_open + self.ready.len());
        for (interface, &spare) in spare.iter().enumerate() {
            let wanted = if self.is_for(net, interface) { left.min(SPARES) } else { 0 };
            for _ in spare..wanted {
                let mut socket = make(options, true);
                socket.set_timeout(Some(HALF_OPEN_TIMEOUT));
                if socket.listen(self.local).is_err() {
                    break;
                }
                let handle = net.interfaces[interface].sockets.add(socket);
                self.waiting.push(At { interface, handle });
            }
        }
        if left == 0 {
            // The backlog is full: nobody listens.
            let full: Vec<At> = self.waiting.clone();
            for at in full {
                if net.tcp(at).state() == Wire::Listen {
                    net.drop_tcp(at);
                    self.waiting.retain(|other| *other != at);
                }
            }
        }
    }

    fn is_for(&self, net: &Net, interface: usize) -> bool {
        match self.local.addr {
            None => true,
            // What is sent to an own address comes through the loopback.
            Some(_) if interface == 0 => true,
            Some(addr) => net.interfaces[interface].has_address(&addr),
        }
    }
}
