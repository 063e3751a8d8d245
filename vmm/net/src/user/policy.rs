//! What the guest may reach.
//!
//! | guest asks for | reaches |
//! |---|---|
//! | 10.0.2.2 | with `host_loopback` the host's 127.0.0.1, else nothing |
//! | 10.0.2.3, port 53 | the name server |
//! | other addresses of 10.0.2.0/24 | nothing |
//! | loopback, link-local (also 169.254.169.254), multicast, broadcast, 0.0.0.0/8, 240.0.0.0/4 | nothing |
//! | everything else | that, unless `restrict` |

use std::net::{Ipv4Addr, SocketAddrV4};

use xinim_machine::net::{UserNet, user};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const DNS_PORT: u16 = 53;

/// The rules of one network.
#[derive(Clone, Debug)]
pub struct Policy {
    host_loopback: bool,
    restrict: bool,
    dns: Option<SocketAddrV4>,
}

impl Policy {
    pub fn new(options: &UserNet) -> Self {
        let dns = options.dns.or_else(|| {
            let text = std::fs::read_to_string(RESOLV_CONF).ok()?;
            Some(SocketAddrV4::new(first_server(&text)?, DNS_PORT))
        });
        Self { host_loopback: options.host_loopback, restrict: options.restrict, dns }
    }

    pub fn mtu(&self) -> u16 {
        user::MTU
    }

    /// Where on the host's side a TCP connection or UDP packet to `to` goes.
    pub fn target(&self, to: SocketAddrV4) -> Option<SocketAddrV4> {
        match *to.ip() {
            user::GATEWAY if self.host_loopback => {
                Some(SocketAddrV4::new(Ipv4Addr::LOCALHOST, to.port()))
            }
            user::DNS if to.port() == DNS_PORT => self.dns,
            address if self.is_outside(address) && to.port() != 0 => Some(to),
            _ => None,
        }
    }

    /// Whether an address of the outside may be pinged.
    pub fn may_ping(&self, to: Ipv4Addr) -> bool {
        self.is_outside(to)
    }

    fn is_outside(&self, address: Ipv4Addr) -> bool {
        let [first, ..] = address.octets();
        !self.restrict
            && !is_own(address)
            && !address.is_loopback()
            && !address.is_link_local()
            && !address.is_multicast()
            && first != 0
            && first < 240
    }
}

/// Whether an address belongs to the network itself.
fn is_own(address: Ipv4Addr) -> bool {
    address.octets()[..3] == user::NETWORK.octets()[..3]
}

/// Whether a packet may come from this address: one of the network that is not the gateway's.
pub fn is_guest(address: Ipv4Addr) -> bool {
    let last = address.octets()[3];
    is_own(address) && !matches!(address, user::GATEWAY | user::DNS) && last != 0 && last != 255
}

/// The first IPv4 name server of a resolv.conf.
fn first_server(text: &str) -> Option<Ipv4Addr> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?
    })
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
