//! What all sockets share: interfaces, routes, ports, random numbers.

use alloc::vec::Vec;

use smoltcp::time::Instant;
use smoltcp::wire::{IpAddress, IpCidr, Ipv4Address, Ipv4Cidr};
use xinim_abi::error::{Error, Result};

use crate::lasting::Lasting;
use crate::netif::{Lease, Netif};
use crate::ports::Ports;
use crate::route::{Route, Routes};
use crate::tcp::{Orphan, SuspendedOrphan};

/// Random numbers: xoshiro256** (Blackman and Vigna), seeded from outside. Unpredictable as long as
/// the seed is and nobody sees its output raw: cookies, ports, seeds.
#[derive(Debug)]
pub struct Random([u64; 4]);

impl Random {
    pub fn new(seed: [u64; 4]) -> Self {
        // All zeros is the one state it never leaves.
        Self(if seed == [0; 4] { [1, 2, 3, 4] } else { seed })
    }

    pub fn draw(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }
}

/// What all sockets share.
pub struct Net {
    /// The loopback is the first.
    pub interfaces: Vec<Netif>,
    pub routes: Routes,
    pub resolvers: Vec<IpAddress>,
    pub tcp_ports: Ports,
    /// Those of them that programs bound themselves.
    pub tcp_bound: Ports,
    pub udp_ports: Ports,
    pub icmp_idents: Ports,
    pub orphans: Vec<Orphan>,
    /// Orphans of the last instance whose interface is not there.
    pub suspended: Vec<SuspendedOrphan>,
    /// What outlives this server.
    pub lasting: Lasting,
    pub random: Random,
    pub now: Instant,
    /// Addresses, routes or name servers are not what they were: the next instance is to know.
    pub changed: bool,
}

impl Net {
    pub fn is_own(&self, address: &IpAddress) -> bool {
        is_loopback(address) || self.interfaces.iter().any(|netif| netif.has_address(address))
    }

    /// The interface through which `address` is reached. One whose link is down for the moment (its driver
    /// may be coming back) takes what is sent, as on other systems: connections wait for it. `NetUnreach`:
    /// none; `NetDown`: it was switched off.
    pub fn way(&self, address: &IpAddress) -> Result<usize> {
        if self.is_own(address) {
            return Ok(0);
        }
        let running = |i: usize| self.interfaces[i].is_running();
        let beyond = 1..self.interfaces.len();
        if *address == IpAddress::Ipv4(Ipv4Address::BROADCAST) || address.is_multicast() {
            return beyond.clone().find(|&i| running(i)).ok_or(Error::NetUnreach);
        }
        if let Some(i) =
            beyond.clone().find(|&i| running(i) && self.interfaces[i].is_neighbour(address))
        {
            return Ok(i);
        }
        if let Some(route) = self.routes.find(address, running) {
            return Ok(route.interface);
        }
        let up = |i: usize| self.interfaces[i].up;
        let waits = beyond.clone().find(|&i| up(i) && self.interfaces[i].is_neighbour(address));
        if let Some(i) = waits.or_else(|| self.routes.find(address, up).map(|r| r.interface)) {
            return Ok(i);
        }
        let down = beyond.clone().any(|i| self.interfaces[i].is_neighbour(address))
            || self.routes.find(address, |_| true).is_some();
        Err(if down { Error::NetDown } else { Error::NetUnreach })
    }

    /// Some interface will probably have its first address in a moment.
    pub fn is_configuring(&self) -> bool {
        self.interfaces.iter().any(|netif| netif.is_configuring(self.now))
    }

    /// The own address that speaks to `remote` through `interface`.
    pub fn source(&self, interface: usize, remote: &IpAddress) -> Option<IpAddress> {
        if interface == 0 {
            // To oneself from oneself.
            return Some(*remote);
        }
        self.interfaces[interface].interface.get_source_address(remote)
    }

    pub fn apply_routes(&mut self) {
        for (i, netif) in self.interfaces.iter_mut().enumerate().skip(1) {
            netif.set_routes(self.routes.iter().filter(|route| route.interface == i));
        }
    }

    pub fn interface(&self, name: &str) -> Result<usize> {
        self.interfaces.iter().position(|netif| netif.name == name).ok_or(Error::NoDev)
    }

    pub fn take_lease(&mut self, interface: usize, lease: &Lease) {
        let everywhere = IpCidr::Ipv4(Ipv4Cidr::new(Ipv4Address::UNSPECIFIED, 0));
        let gateway = lease.gateway;
        // In the place of an older one: a lease that is renewed changes nothing.
        let _ = match gateway {
            Some(_) => self.routes.add(Route { destination: everywhere, gateway, interface }),
            None => self.routes.remove(everywhere, Some(interface)),
        };
        if !lease.resolvers.is_empty() {
            self.resolvers = lease.resolvers.clone();
        }
        self.apply_routes();
        self.changed = true;
    }
}

fn is_loopback(address: &IpAddress) -> bool {
    match address {
        IpAddress::Ipv4(ip) => ip.is_loopback(),
        IpAddress::Ipv6(ip) => ip.is_loopback(),
    }
}
