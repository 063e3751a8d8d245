//! What the guest may reach.
//!
//! | guest asks for | reaches |
//! |---|---|
//! | 10.0.2.2, fd58:494e:494d::2 | with `host_loopback` the host's 127.0.0.1 or ::1, else nothing |
//! | 10.0.2.3, fd58:494e:494d::3, port 53 | the name server |
//! | other addresses of 10.0.2.0/24 and fd58:494e:494d::/64 | nothing |
//! | loopback, link-local (also 169.254.169.254), multicast, broadcast, 0.0.0.0/8, 240.0.0.0/4 | nothing |
//! | IPv6 addresses that hold an IPv4 address (mapped, compatible, NAT64, 6to4) | what that one reaches |
//! | fd00:ec2::254, fd20:ce::254 (as 169.254.169.254), fec0::/10 | nothing |
//! | everything else | that, unless `restrict` |

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use xinim_machine::net::{UserNet, user};

const RESOLV_CONF: &str = "/etc/resolv.conf";
const DNS_PORT: u16 = 53;
/// Where clouds tell a machine its secrets, by IPv6.
const METADATA6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xFD00, 0x0EC2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xFD20, 0x00CE, 0, 0, 0, 0, 0, 0x254),
];

/// The rules of one network.
#[derive(Clone, Debug)]
pub struct Policy {
    host_loopback: bool,
    restrict: bool,
    dns: Option<SocketAddr>,
}

impl Policy {
    pub fn new(options: &UserNet) -> Self {
        let dns = options.dns.map(SocketAddr::V4).or_else(|| {
            let text = std::fs::read_to_string(RESOLV_CONF).ok()?;
            Some(SocketAddr::new(first_server(&text)?, DNS_PORT))
        });
        Self { host_loopback: options.host_loopback, restrict: options.restrict, dns }
    }

    pub fn mtu(&self) -> u16 {
        user::MTU
    }

    /// Where on the host's side a TCP connection or UDP packet to `to` goes.
    pub fn target(&self, to: SocketAddr) -> Option<SocketAddr> {
        let here = |address: IpAddr| Some(SocketAddr::new(address, to.port()));
        match to.ip() {
            IpAddr::V4(user::GATEWAY) if self.host_loopback => here(Ipv4Addr::LOCALHOST.into()),
            IpAddr::V6(user::GATEWAY6) if self.host_loopback => here(Ipv6Addr::LOCALHOST.into()),
            IpAddr::V4(user::DNS) | IpAddr::V6(user::DNS6) if to.port() == DNS_PORT => self.dns,
            address if self.is_outside(address) && to.port() != 0 => Some(to),
            _ => None,
        }
    }

    /// Whether an address of the outside may be pinged.
    pub fn may_ping(&self, to: IpAddr) -> bool {
        self.is_outside(to)
    }

    fn is_outside(&self, address: IpAddr) -> bool {
        let outside = match address {
            IpAddr::V4(address) => is_outside4(address),
            IpAddr::V6(address) => is_outside6(address),
        };
        !self.restrict && outside
    }
}

fn is_outside4(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    !is_own(address)
        && !address.is_loopback()
        && !address.is_link_local()
        && !address.is_multicast()
        && first != 0
        && first < 240
}

fn is_outside6(address: Ipv6Addr) -> bool {
    if let Some(inner) = embedded(address) {
        return is_outside4(inner);
    }
    let first = address.segments()[0];
    !is_own6(address)
        && !address.is_loopback()
        && !address.is_multicast()
        && !METADATA6.contains(&address)
        // Link-local, and the site-local of old.
        && !(0xFE80..=0xFEFF).contains(&first)
}

/// The IPv4 address that one of IPv6 stands for: mapped and compatible (RFC 4291 2.5.5), NAT64
/// (RFC 6052), 6to4 (RFC 3056).
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let words = address.segments();
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match words {
        // ::1 is none of these and no IPv4 address either: 0.0.0.1 is refused.
        [0, 0, 0, 0, 0, 0 | 0xFFFF, high, low] => Some(v4(high, low)),
        [0x64, 0xFF9B, 0 | 1, .., high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// Whether an address belongs to the network itself.
fn is_own(address: Ipv4Addr) -> bool {
    address.octets()[..3] == user::NETWORK.octets()[..3]
}

fn is_own6(address: Ipv6Addr) -> bool {
    address.segments()[..4] == user::NETWORK6.segments()[..4]
}

/// Whether a packet may come from this address: one of the network that is not the gateway's.
pub fn is_guest(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            let last = address.octets()[3];
            let ours = matches!(address, user::GATEWAY | user::DNS);
            is_own(address) && !ours && last != 0 && last != 255
        }
        IpAddr::V6(address) => {
            let ours = matches!(address, user::GATEWAY6 | user::DNS6 | user::ROUTER6);
            (is_own6(address) || address.is_unicast_link_local()) && !ours
        }
    }
}

/// The first name server of a resolv.conf that can be reached without naming an interface.
fn first_server(text: &str) -> Option<IpAddr> {
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let server = (words.next() == Some("nameserver")).then(|| words.next()?.parse().ok())?;
        server.filter(|address| match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(address) => !address.is_unicast_link_local(),
        })
    })
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
