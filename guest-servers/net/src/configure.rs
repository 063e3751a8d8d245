//! Lines that change the configuration, as the `ip` tool sends them.
//!
//! ```text
//! link set dev NAME up|down
//! addr add ADDRESS/PREFIX dev NAME          addr del ADDRESS[/PREFIX] dev NAME
//! addr flush dev NAME
//! route add DESTINATION|default [via ADDRESS] [dev NAME]
//! route del DESTINATION|default [dev NAME]
//! dhcp on|off dev NAME
//! dns set [ADDRESS...]
//! ```

use alloc::vec::Vec;

use smoltcp::wire::{IpAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr};
use xinim_abi::error::{Error, Result};

use crate::netif::Origin;
use crate::route::Route;
use crate::stack::Stack;

/// Name servers kept.
const RESOLVERS_MAX: usize = 4;

pub fn parse_address(text: &str) -> Result<IpAddress> {
    let v4 = text.parse::<Ipv4Address>().map(IpAddress::Ipv4);
    v4.or_else(|_| text.parse::<Ipv6Address>().map(IpAddress::Ipv6)).map_err(|_| Error::Inval)
}

/// `ADDRESS/PREFIX`; without a prefix one host.
pub fn parse_cidr(text: &str) -> Result<IpCidr> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u8>().map_err(|_| Error::Inval)?)),
        None => (text, None),
    };
    match parse_address(address)? {
        IpAddress::Ipv4(ip) if prefix.unwrap_or(32) <= 32 => {
            Ok(IpCidr::Ipv4(Ipv4Cidr::new(ip, prefix.unwrap_or(32))))
        }
        IpAddress::Ipv6(ip) if prefix.unwrap_or(128) <= 128 => {
            Ok(IpCidr::Ipv6(Ipv6Cidr::new(ip, prefix.unwrap_or(128))))
        }
        _ => Err(Error::Inval),
    }
}

fn destination(text: &str, gateway: Option<IpAddress>) -> Result<IpCidr> {
    if text != "default" {
        let cidr = parse_cidr(text)?;
        return Ok(match cidr {
            IpCidr::Ipv4(cidr) => IpCidr::Ipv4(cidr.network()),
            other => other,
        });
    }
    Ok(match gateway {
        Some(IpAddress::Ipv6(_)) => IpCidr::Ipv6(Ipv6Cidr::new(Ipv6Address::UNSPECIFIED, 0)),
        _ => IpCidr::Ipv4(Ipv4Cidr::new(Ipv4Address::UNSPECIFIED, 0)),
    })
}

/// `key value` pairs behind the fixed words; an unknown or repeated key is `Inval`.
fn options<'a>(words: &[&'a str], keys: &[&str]) -> Result<Vec<Option<&'a str>>> {
    let mut values = alloc::vec![None; keys.len()];
    let (pairs, rest) = words.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(Error::Inval);
    }
    for [key, value] in pairs {
        let at = keys.iter().position(|known| known == key).ok_or(Error::Inval)?;
        if values[at].replace(*value).is_some() {
            return Err(Error::Inval);
        }
    }
    Ok(values)
}

/// Carries out one line. `Inval`: not understood; `NoDev`: no such interface.
pub fn configure(stack: &mut Stack, line: &str) -> Result<()> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let net = &mut stack.net;
    match words.as_slice() {
        ["link", "set", "dev", name, state @ ("up" | "down")] => {
            let interface = net.interface(name)?;
            if interface == 0 && *state == "down" {
                return Err(Error::NotSup);
            }
            net.interfaces[interface].up = *state == "up";
        }
        ["addr", "add", cidr, "dev", name] => {
            let (cidr, interface) = (parse_cidr(cidr)?, net.interface(name)?);
            net.interfaces[interface].add_address(cidr, Origin::Static)?;
        }
        ["addr", "del", cidr, "dev", name] => {
            let (cidr, interface) = (parse_cidr(cidr)?, net.interface(name)?);
            net.interfaces[interface].remove_address(cidr.address())?;
        }
        ["addr", "flush", "dev", name] => {
            let interface = net.interface(name)?;
            if interface == 0 {
                return Err(Error::NotSup);
            }
            let netif = &mut net.interfaces[interface];
            for (cidr, _) in netif.addresses() {
                netif.remove_address(cidr.address())?;
            }
        }
        ["route", "add", to, rest @ ..] => {
            let values = options(rest, &["via", "dev"])?;
            let gateway = values[0].map(parse_address).transpose()?;
            let interface = match (values[1], gateway) {
                (Some(name), _) => net.interface(name)?,
                (None, Some(gateway)) => (1..net.interfaces.len())
                    .find(|&i| net.interfaces[i].is_neighbour(&gateway))
                    .ok_or(Error::NetUnreach)?,
                (None, None) => return Err(Error::Inval),
            };
            let destination = destination(to, gateway)?;
            net.routes.add(Route { destination, gateway, interface })?;
            net.apply_routes();
        }
        ["route", "del", to, rest @ ..] => {
            let values = options(rest, &["dev"])?;
            let interface = values[0].map(|name| net.interface(name)).transpose()?;
            net.routes.remove(destination(to, None)?, interface)?;
            net.apply_routes();
        }
        ["dhcp", state @ ("on" | "off"), "dev", name] => {
            let interface = net.interface(name)?;
            if interface == 0 {
                return Err(Error::NotSup);
            }
            net.interfaces[interface].set_dhcp(*state == "on");
        }
        ["dns", "set", servers @ ..] if servers.len() <= RESOLVERS_MAX => {
            let servers: Result<Vec<_>> = servers.iter().map(|text| parse_address(text)).collect();
            net.resolvers = servers?;
        }
        _ => return Err(Error::Inval),
    }
    net.changed = true;
    Ok(())
}
