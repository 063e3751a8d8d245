//! Addresses as they stand in windows and as smoltcp has them.

use smoltcp::wire::{IpAddress, IpEndpoint, IpListenEndpoint, Ipv4Address, Ipv6Address};
use xinim_abi::error::{Error, Result};
use xinim_abi::services::socket::{Address, PORTS_OF_ALL};
use zerocopy::{FromBytes, IntoBytes};

const MAPPED: [u8; 12] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF];

/// An Internet address and port out of a window's bytes.
pub fn decode(bytes: &[u8]) -> Result<IpListenEndpoint> {
    let address = Address::read_from_bytes(bytes).map_err(|_| Error::Inval)?;
    let port = u16::from_be_bytes(address.port);
    let ip = match address.family {
        4 if address.ip[..12] == MAPPED => {
            let [a, b, c, d] = [12, 13, 14, 15].map(|i: usize| address.ip[i]);
            IpAddress::Ipv4(Ipv4Address::new(a, b, c, d))
        }
        6 => {
            let ip = Ipv6Address::from(address.ip);
            ip.to_ipv4_mapped().map_or(IpAddress::Ipv6(ip), IpAddress::Ipv4)
        }
        _ => return Err(Error::AfNoSup),
    };
    Ok(IpListenEndpoint { addr: (!ip.is_unspecified()).then_some(ip), port })
}

/// Does this bind to a port that is for root?
pub fn is_reserved(bytes: &[u8]) -> bool {
    decode(bytes).is_ok_and(|local| (1..PORTS_OF_ALL).contains(&local.port))
}

/// An endpoint somebody can be reached at. `DestAddrReq`: no address or port.
pub fn decode_remote(bytes: &[u8]) -> Result<IpEndpoint> {
    let endpoint = decode(bytes)?;
    match endpoint.addr {
        Some(addr) if endpoint.port != 0 => Ok(IpEndpoint { addr, port: endpoint.port }),
        // As elsewhere, "no address" is this machine.
        None if endpoint.port != 0 => {
            Ok(IpEndpoint { addr: IpAddress::Ipv4(Ipv4Address::LOCALHOST), port: endpoint.port })
        }
        _ => Err(Error::DestAddrReq),
    }
}

fn raw(ip: IpAddress) -> (u8, [u8; 16]) {
    match ip {
        IpAddress::Ipv4(ip) => {
            let mut bytes = [0; 16];
            bytes[..12].copy_from_slice(&MAPPED);
            bytes[12..].copy_from_slice(&ip.octets());
            (4, bytes)
        }
        IpAddress::Ipv6(ip) => (6, ip.octets()),
    }
}

pub fn encode(ip: IpAddress, port: u16) -> Address {
    let (family, ip) = raw(ip);
    Address { family, port: port.to_be_bytes(), ip, ..Address::default() }
}

/// The bytes of [`encode`].
pub fn bytes(ip: IpAddress, port: u16) -> alloc::vec::Vec<u8> {
    encode(ip, port).as_bytes().to_vec()
}

/// An unbound or wildcard address of family 4 or 6.
pub fn wildcard(ipv6: bool, port: u16) -> alloc::vec::Vec<u8> {
    let ip = if ipv6 {
        IpAddress::Ipv6(Ipv6Address::UNSPECIFIED)
    } else {
        IpAddress::Ipv4(Ipv4Address::UNSPECIFIED)
    };
    bytes(ip, port)
}
