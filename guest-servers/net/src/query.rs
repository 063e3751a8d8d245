//! The stack as text: see `services::socket::query` for the records.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Write;

use smoltcp::wire::IpAddress;
use xinim_abi::error::{Error, Result};
use xinim_abi::services::socket::{Address, query};
use zerocopy::FromBytes;

use crate::address;
use crate::socket::Body;
use crate::stack::Stack;

/// `address:port` or `[address]:port` of a window's address; a path as it is.
fn endpoint(bytes: &[u8]) -> String {
    let Ok(end) = address::decode(bytes) else {
        return String::from_utf8_lossy(bytes).into_owned();
    };
    let ipv6 = Address::read_from_bytes(bytes).is_ok_and(|address| address.family == 6);
    let port = if end.port == 0 { "*".to_string() } else { end.port.to_string() };
    match end.addr {
        Some(IpAddress::Ipv4(ip)) => format!("{ip}:{port}"),
        Some(IpAddress::Ipv6(ip)) => format!("[{ip}]:{port}"),
        None if ipv6 => format!("[::]:{port}"),
        None => format!("0.0.0.0:{port}"),
    }
}

fn mac(mac: [u8; 6]) -> String {
    let [a, b, c, d, e, f] = mac;
    format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
}

impl Stack {
    /// `Inval`: no such kind.
    pub fn query(&mut self, kind: u32) -> Result<String> {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = match kind {
            query::LINKS => self.links(&mut text),
            query::ADDRESSES => self.addresses(&mut text),
            query::ROUTES => self.routes(&mut text),
            query::SOCKETS => self.list_sockets(&mut text),
            query::STATISTICS => self.statistics(&mut text),
            query::RESOLVERS => {
                self.net.resolvers.iter().try_for_each(|server| writeln!(text, "{server}"))
            }
            _ => return Err(Error::Inval),
        };
        Ok(text)
    }

    fn links(&self, out: &mut String) -> core::fmt::Result {
        for netif in &self.net.interfaces {
            let state = match (netif.up, netif.port.link_ref().is_up()) {
                (false, _) => "down",
                (true, false) => "no-carrier",
                (true, true) => "up",
            };
            let counters = netif.port.counters();
            let (rx_dropped, tx_dropped) = netif.port.link_ref().dropped();
            let driver = netif.port.link_ref().driver();
            let driver = if driver.is_empty() { "-" } else { driver.as_str() };
            writeln!(
                out,
                "{}\t{state}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{}\t{driver}",
                netif.name,
                mac(netif.port.mac()),
                netif.port.mtu(),
                if netif.has_dhcp() { "dhcp" } else { "-" },
                counters.rx_bytes,
                counters.rx_packets,
                rx_dropped + counters.rx_bad,
                counters.tx_bytes,
                counters.tx_packets,
                tx_dropped,
            )?;
        }
        Ok(())
    }

    fn addresses(&self, out: &mut String) -> core::fmt::Result {
        for netif in &self.net.interfaces {
            for (cidr, origin) in netif.addresses() {
                writeln!(out, "{}\t{cidr}\t{}", netif.name, origin.name())?;
            }
        }
        Ok(())
    }

    fn routes(&self, out: &mut String) -> core::fmt::Result {
        for route in self.net.routes.iter() {
            let name = &self.net.interfaces[route.interface].name;
            match route.gateway {
                Some(gateway) => writeln!(out, "{}\t{gateway}\t{name}", route.destination)?,
                None => writeln!(out, "{}\t-\t{name}", route.destination)?,
            }
        }
        for netif in &self.net.interfaces {
            for cidr in netif.interface.ip_addrs() {
                writeln!(out, "{cidr}\t-\t{}", netif.name)?;
            }
        }
        Ok(())
    }

    fn list_sockets(&self, out: &mut String) -> core::fmt::Result {
        for socket in self.sockets.values() {
            let owner = socket.owner;
            match &socket.body {
                Body::Tcp(tcp) => {
                    let (state, receive, send) = tcp.describe(&self.net);
                    let local = endpoint(&tcp.name(false).unwrap_or_default());
                    let peer = tcp.name(true).map_or("*".into(), |peer| endpoint(&peer));
                    writeln!(out, "tcp\t{local}\t{peer}\t{state}\t{receive}\t{send}\t{owner}")?;
                }
                Body::Udp(udp) => {
                    let (receive, send) = udp.queues(&self.net);
                    let local = endpoint(&udp.name(false).unwrap_or_default());
                    let peer = udp.name(true).map_or("*".into(), |peer| endpoint(&peer));
                    writeln!(out, "udp\t{local}\t{peer}\t-\t{receive}\t{send}\t{owner}")?;
                }
                Body::Icmp(icmp) => {
                    let local = endpoint(&icmp.name());
                    writeln!(out, "icmp\t{local}\t*\t-\t0\t0\t{owner}")?;
                }
                Body::Packet(packet) => {
                    writeln!(out, "packet\t*\t*\t-\t{}\t0\t{owner}", packet.lost)?;
                }
                Body::Unix(unix) => {
                    let (state, receive, name) = unix.describe();
                    let name = String::from_utf8_lossy(name);
                    let kind = if unix.is_stream() { "unix-stream" } else { "unix-dgram" };
                    writeln!(out, "{kind}\t{name}\t*\t{state}\t{receive}\t0\t{owner}")?;
                }
            }
        }
        Ok(())
    }

    fn statistics(&self, out: &mut String) -> core::fmt::Result {
        writeln!(out, "sockets\t{}", self.sockets.len())?;
        writeln!(out, "connections_ending\t{}", self.net.orphans.len())?;
        // Those that end with this server: there was no memory for more, or it failed.
        let lost = self.net.interfaces.iter().map(|netif| netif.port.tap_ref().lost).sum::<u64>();
        writeln!(out, "connections_not_kept\t{}", self.net.lasting.refused + lost)?;
        writeln!(out, "interfaces\t{}", self.net.interfaces.len())
    }
}
