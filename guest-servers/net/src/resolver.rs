//! Looking names up: numbers, `localhost`, this machine's own name, then DNS over the interface that
//! leads to the name server.

use alloc::vec::Vec;

use smoltcp::socket::dns::{GetQueryResultError, QueryHandle, StartQueryError};
use smoltcp::wire::{DnsQueryType, IpAddress, Ipv4Address, Ipv6Address};
use xinim_abi::error::{Error, Result};

use crate::stack::Net;

/// Look-ups at a time.
const LOOKUPS_MAX: usize = 64;
/// Addresses one answer has at most.
pub const ADDRESSES_MAX: usize = 16;

/// A look-up under way.
pub struct Lookup {
    interface: usize,
    queries: Vec<QueryHandle>,
    found: Vec<IpAddress>,
    failed: bool,
}

/// The answer at once, or a look-up to be continued.
pub enum Started {
    Done(Vec<IpAddress>),
    Pending(Lookup),
}

/// `family` 4, 6 or 0.
pub fn start(net: &mut Net, name: &str, family: u32, running: usize) -> Result<Started> {
    let (four, six) = (family != 6, family != 4);
    let name = name.strip_suffix('.').unwrap_or(name);
    let literal = name.parse::<Ipv4Address>().map(IpAddress::Ipv4);
    let literal = literal.or_else(|_| name.parse::<Ipv6Address>().map(IpAddress::Ipv6));
    if let Ok(address) = literal {
        let fits = if matches!(address, IpAddress::Ipv4(_)) { four } else { six };
        return if fits { Ok(Started::Done([address].into())) } else { Err(Error::NoEnt) };
    }
    if name.eq_ignore_ascii_case("localhost") {
        let mut found = Vec::new();
        if four {
            found.push(IpAddress::Ipv4(Ipv4Address::LOCALHOST));
        }
        if six {
            found.push(IpAddress::Ipv6(Ipv6Address::LOCALHOST));
        }
        return Ok(Started::Done(found));
    }
    if running >= LOOKUPS_MAX {
        return Err(Error::Again);
    }
    // `NetUnreach` without a server: nobody can be asked.
    let server = *net.resolvers.first().ok_or(Error::NetUnreach)?;
    let interface = net.way(&server)?;
    let servers: Vec<IpAddress> =
        net.resolvers.iter().copied().filter(|s| net.way(s) == Ok(interface)).take(4).collect();
    let (context, socket) = net.interfaces[interface].dns_parts();
    socket.update_servers(&servers);
    let mut queries = Vec::new();
    for (wanted, kind) in [(four, DnsQueryType::A), (six, DnsQueryType::Aaaa)] {
        if wanted {
            queries.push(match socket.start_query(context.context(), name, kind) {
                Ok(query) => query,
                Err(StartQueryError::InvalidName | StartQueryError::NameTooLong) => {
                    return Err(Error::NoEnt);
                }
                Err(StartQueryError::NoFreeSlot) => return Err(Error::Again),
            });
        }
    }
    Ok(Started::Pending(Lookup { interface, queries, found: Vec::new(), failed: false }))
}

impl Lookup {
    /// `Again`: not yet; `NoEnt`: no such name.
    pub fn poll(&mut self, net: &mut Net) -> Result<Vec<IpAddress>> {
        let (found, failed) = (&mut self.found, &mut self.failed);
        let socket = net.interfaces[self.interface].dns();
        self.queries.retain(|&query| match socket.get_query_result(query) {
            Ok(addresses) => {
                let left = ADDRESSES_MAX - found.len().min(ADDRESSES_MAX);
                found.extend(addresses.iter().take(left));
                false
            }
            Err(GetQueryResultError::Pending) => true,
            Err(GetQueryResultError::Failed) => {
                *failed = true;
                false
            }
        });
        if !self.queries.is_empty() {
            return Err(Error::Again);
        }
        if found.is_empty() { Err(Error::NoEnt) } else { Ok(core::mem::take(found)) }
    }

    /// Nobody waits for it any more.
    pub fn cancel(self, net: &mut Net) {
        let socket = net.interfaces[self.interface].dns();
        for query in self.queries {
            socket.cancel_query(query);
        }
    }
}
