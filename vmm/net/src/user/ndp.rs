//! Neighbour discovery (RFC 4861): who the gateway is on the link, and the prefix that guests make their
//! addresses of (SLAAC, RFC 4862), with the name server (RFC 8106).
//!
//! The gateway calls itself a default router only if the host has a way to the IPv6 internet: a guest
//! without one should not try addresses that nobody can reach before those that work.

use std::net::{IpAddr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use smoltcp::wire::{
    Icmpv6Packet, Icmpv6Repr, IpProtocol, NdiscNeighborFlags, NdiscPrefixInfoFlags,
    NdiscPrefixInformation, NdiscRepr, NdiscRouterFlags,
};
use xinim_machine::net::user;

use super::{MAC, Outbox};

/// Packets that came through a router are not about this link.
const HOP_LIMIT: u8 = 255;
/// How long what is advertised holds; advertised again every [`AGAIN`].
const LIFETIME: Duration = Duration::from_secs(9000);
pub const AGAIN: Duration = Duration::from_secs(600);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xFF02, 0, 0, 0, 0, 0, 0, 1);
/// Any global address: asked is the host's routing table, nothing is sent.
const FAR: Ipv6Addr = Ipv6Addr::new(0x2001, 0xDB8, 0, 0, 0, 0, 0, 1);
/// Recursive name server option (RFC 8106 5.1): its length is in units of eight bytes.
const RDNSS: u8 = 25;
const RDNSS_UNITS: u8 = 3;

/// Whether the host has a route to the IPv6 internet.
pub fn host_has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).and_then(|socket| socket.connect((FAR, 9))).is_ok()
}

/// Answers a message of neighbour discovery; true: it was a router solicitation.
pub fn answer(
    message: &[u8],
    (from, to): (Ipv6Addr, Ipv6Addr),
    hop_limit: u8,
    routes: bool,
    outbox: &mut Outbox,
) -> bool {
    if hop_limit != HOP_LIMIT {
        return false;
    }
    let Ok(packet) = Icmpv6Packet::new_checked(message) else { return false };
    // Its checksum is looked at here.
    let Ok(Icmpv6Repr::Ndisc(question)) =
        Icmpv6Repr::parse(&from, &to, &packet, &Default::default())
    else {
        return false;
    };
    match question {
        NdiscRepr::RouterSolicit { .. } => {
            advertise(if from.is_unspecified() { ALL_NODES } else { from }, routes, outbox);
            true
        }
        NdiscRepr::NeighborSolicit { target_addr, .. } => {
            if matches!(target_addr, user::GATEWAY6 | user::DNS6 | user::ROUTER6) {
                // Somebody without an address yet asks whether it may have ours.
                let nobody = from.is_unspecified();
                let mut flags = NdiscNeighborFlags::ROUTER | NdiscNeighborFlags::OVERRIDE;
                flags.set(NdiscNeighborFlags::SOLICITED, !nobody);
                let answer =
                    NdiscRepr::NeighborAdvert { flags, target_addr, lladdr: Some(MAC.into()) };
                let to = if nobody { ALL_NODES } else { from };
                emit(&Icmpv6Repr::Ndisc(answer), target_addr, to, &[], outbox);
            }
            false
        }
        _ => false,
    }
}

/// Tells all what this network is.
pub fn advertise_to_all(routes: bool, outbox: &mut Outbox) {
    advertise(ALL_NODES, routes, outbox);
}

fn advertise(to: Ipv6Addr, routes: bool, outbox: &mut Outbox) {
    let lifetime = smoltcp::time::Duration::from_secs(LIFETIME.as_secs());
    let advertisement = NdiscRepr::RouterAdvert {
        hop_limit: 64,
        flags: NdiscRouterFlags::empty(),
        router_lifetime: if routes { lifetime } else { smoltcp::time::Duration::ZERO },
        reachable_time: smoltcp::time::Duration::ZERO,
        retrans_time: smoltcp::time::Duration::ZERO,
        lladdr: Some(MAC.into()),
        mtu: Some(user::MTU.into()),
        prefix_info: Some(NdiscPrefixInformation {
            prefix_len: user::PREFIX6,
            flags: NdiscPrefixInfoFlags::ON_LINK | NdiscPrefixInfoFlags::ADDRCONF,
            valid_lifetime: lifetime,
            preferred_lifetime: lifetime,
            prefix: user::NETWORK6,
        }),
    };
    let mut servers = vec![RDNSS, RDNSS_UNITS, 0, 0];
    servers.extend((LIFETIME.as_secs() as u32).to_be_bytes());
    servers.extend(user::DNS6.octets());
    emit(&Icmpv6Repr::Ndisc(advertisement), user::ROUTER6, to, &servers, outbox);
}

/// A message with options behind it.
fn emit(message: &Icmpv6Repr<'_>, from: Ipv6Addr, to: Ipv6Addr, more: &[u8], outbox: &mut Outbox) {
    let mut payload = vec![0; message.buffer_len()];
    let caps = Default::default();
    message.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(&mut payload), &caps);
    payload.extend_from_slice(more);
    Icmpv6Packet::new_unchecked(&mut payload).fill_checksum(&from, &to);
    outbox.ip_with(IpAddr::V6(from), IpAddr::V6(to), IpProtocol::Icmpv6, HOP_LIMIT, &payload);
}
