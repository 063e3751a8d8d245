//! The configuration as text for the next instance: lines as [`configure`] takes them, and leases.
//!
//! ```text
//! dns set 10.0.2.3                       of all: name servers, the loopback's own addresses
//! interface eth0 virtio-net              what follows belongs to that driver's interface
//! dhcp on dev eth0
//! lease 10.0.2.15/24 via 10.0.2.2 dev eth0 dns 10.0.2.3
//! addr add 192.168.7.1/24 dev eth0
//! route add 10.9.0.0/16 via 10.0.2.7 dev eth0
//! link set dev eth0 down
//! ```
//! A driver that is not back yet keeps its lines, and its interface its name, until it is.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use smoltcp::wire::IpCidr;
use xinim_abi::error::{Error, Result};

use crate::configure::{configure, parse_address, parse_cidr};
use crate::netif::{Lease, Netif, Origin};
use crate::stack::{INTERFACES_MAX, Stack};

/// Lines of one interface and what it is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Section {
    name: String,
    driver: String,
    lines: Vec<String>,
}

/// What the last instance left and this one has not taken up yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    of_all: Vec<String>,
    sections: Vec<Section>,
}

impl Kept {
    /// `BadMessage`: nothing that [`Stack::configuration`] would write.
    pub fn read(text: &str) -> Result<Self> {
        let mut kept = Self::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("interface ") {
                let (name, driver) = rest.split_once(' ').ok_or(Error::BadMessage)?;
                let same = |old: &Section| old.name == name || old.driver == driver;
                if kept.sections.len() >= INTERFACES_MAX || kept.sections.iter().any(same) {
                    return Err(Error::BadMessage);
                }
                let (name, driver) = (name.to_owned(), driver.to_owned());
                kept.sections.push(Section { name, driver, lines: Vec::new() });
            } else {
                let lines = kept.sections.last_mut().map_or(&mut kept.of_all, |s| &mut s.lines);
                lines.push(line.to_owned());
            }
        }
        Ok(kept)
    }

    /// What belongs to no driver.
    pub fn take_up(&mut self, stack: &mut Stack) -> Result<()> {
        core::mem::take(&mut self.of_all).iter().try_for_each(|line| apply(stack, line))
    }

    /// The name for the interface of `driver`: the one it had, or the first that is nobody's.
    pub fn name_for(&self, driver: &str, stack: &Stack) -> String {
        if let Some(own) = self.sections.iter().find(|section| section.driver == driver) {
            return own.name.clone();
        }
        let free = |name: &String| {
            let is_kept = self.sections.iter().any(|section| section.name == *name);
            !is_kept && stack.net.interface(name).is_err()
        };
        let mut names = (0..2 * INTERFACES_MAX).map(|n| format!("eth{n}"));
        names.find(free).unwrap_or_default()
    }

    /// What belongs to the interface of `driver`, which is there now.
    pub fn take_up_of(&mut self, driver: &str, stack: &mut Stack) -> Result<()> {
        let found = self.sections.iter().position(|section| section.driver == driver);
        let Some(at) = found else { return Ok(()) };
        self.sections.remove(at).lines.iter().try_for_each(|line| apply(stack, line))
    }

    /// As it was read, without what was taken up.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for Section { name, driver, lines } in &self.sections {
            text += &format!("interface {name} {driver}\n");
            lines.iter().for_each(|line| text += &format!("{line}\n"));
        }
        text
    }
}

fn apply(stack: &mut Stack, line: &str) -> Result<()> {
    let Some(rest) = line.strip_prefix("lease ") else { return configure(stack, line) };
    let (rest, resolvers) = rest.split_once(" dns ").unwrap_or((rest, ""));
    let words: Vec<&str> = rest.split(' ').collect();
    let (address, gateway, name) = match words[..] {
        [address, "dev", name] => (address, None, name),
        [address, "via", gateway, "dev", name] => (address, Some(gateway), name),
        _ => return Err(Error::BadMessage),
    };
    let resolvers: Result<_> = resolvers.split_ascii_whitespace().map(parse_address).collect();
    let mut lease = Lease {
        address: Some(parse_cidr(address)?),
        gateway: gateway.map(parse_address).transpose()?,
        resolvers: resolvers?,
    };
    let interface = stack.net.interface(name)?;
    stack.net.interfaces[interface].take_lease(&lease);
    // Those in use have a line of their own.
    lease.resolvers.clear();
    stack.net.take_lease(interface, &lease);
    Ok(())
}

impl Stack {
    /// What a next instance has to know, as lines.
    pub fn configuration(&self) -> String {
        let mut text = String::new();
        if !self.net.resolvers.is_empty() {
            text += "dns set";
            self.net.resolvers.iter().for_each(|server| text += &format!(" {server}"));
            text += "\n";
        }
        for (i, netif) in self.net.interfaces.iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = self.interface_lines(i, netif, &mut text);
        }
        text
    }

    fn interface_lines(&self, i: usize, netif: &Netif, out: &mut String) -> core::fmt::Result {
        let name = &netif.name;
        let lease = &netif.lease;
        if i > 0 {
            writeln!(out, "interface {name} {}", netif.port.link_ref().driver())?;
            writeln!(out, "dhcp {} dev {name}", if netif.has_dhcp() { "on" } else { "off" })?;
            if let Some(address) = lease.address {
                let via = lease.gateway.map(|gateway| format!(" via {gateway}"));
                write!(out, "lease {address}{} dev {name}", via.unwrap_or_default())?;
                for (i, server) in lease.resolvers.iter().enumerate() {
                    write!(out, "{} {server}", if i == 0 { " dns" } else { "" })?;
                }
                writeln!(out)?;
            }
        }
        for (address, origin) in netif.addresses() {
            if origin == Origin::Static {
                writeln!(out, "addr add {address} dev {name}")?;
            }
        }
        for route in self.net.routes.iter().filter(|route| route.interface == i) {
            let everywhere = matches!(route.destination, IpCidr::Ipv4(to) if to.prefix_len() == 0);
            if everywhere && lease.gateway.is_some() && route.gateway == lease.gateway {
                continue;
            }
            let via = route.gateway.map(|gateway| format!(" via {gateway}"));
            let via = via.unwrap_or_default();
            writeln!(out, "route add {}{via} dev {name}", route.destination)?;
        }
        if !netif.up {
            writeln!(out, "link set dev {name} down")?;
        }
        Ok(())
    }
}
