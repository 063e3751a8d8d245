//! The gateway's DHCP server (RFC 2131): one address for the one guest.

use std::net::Ipv4Addr;

use smoltcp::wire::{
    DhcpMessageType, DhcpOption, DhcpPacket, DhcpRepr, IpAddress, IpProtocol, UdpPacket, UdpRepr,
};
use xinim_machine::net::user;

use super::Outbox;

pub const SERVER_PORT: u16 = 67;
const CLIENT_PORT: u16 = 68;
/// A day.
const LEASE: u32 = 86_400;
const OPTION_MTU: u8 = 26;

/// Answers a message, if it is one for us.
pub fn answer(message: &[u8], outbox: &mut Outbox, mtu: u16) {
    let Ok(packet) = DhcpPacket::new_checked(message) else { return };
    let Ok(request) = DhcpRepr::parse(&packet) else { return };
    let elsewhere = request.server_identifier.is_some_and(|server| server != user::GATEWAY);
    let wanted = match (request.requested_ip, request.client_ip) {
        (Some(address), _) => address,
        (None, address) => address,
    };
    let kind = match request.message_type {
        DhcpMessageType::Discover => DhcpMessageType::Offer,
        DhcpMessageType::Request if elsewhere => return,
        DhcpMessageType::Request if wanted == user::GUEST => DhcpMessageType::Ack,
        DhcpMessageType::Request => DhcpMessageType::Nak,
        DhcpMessageType::Inform => DhcpMessageType::Ack,
        _ => return,
    };
    let inform = request.message_type == DhcpMessageType::Inform;
    let refused = kind == DhcpMessageType::Nak;
    let mtu = mtu.to_be_bytes();
    let options = [DhcpOption { kind: OPTION_MTU, data: &mtu }];
    let lease = |value| (!refused && !inform).then_some(value);
    let reply = DhcpRepr {
        message_type: kind,
        transaction_id: request.transaction_id,
        secs: 0,
        client_hardware_address: request.client_hardware_address,
        client_ip: request.client_ip,
        your_ip: if refused || inform { Ipv4Addr::UNSPECIFIED } else { user::GUEST },
        server_ip: user::GATEWAY,
        router: (!refused).then_some(user::GATEWAY),
        subnet_mask: (!refused).then_some(Ipv4Addr::new(255, 255, 255, 0)),
        relay_agent_ip: Ipv4Addr::UNSPECIFIED,
        broadcast: request.broadcast,
        requested_ip: None,
        client_identifier: None,
        server_identifier: Some(user::GATEWAY),
        parameter_request_list: None,
        dns_servers: (!refused).then(|| [user::DNS].into_iter().collect()),
        max_size: None,
        lease_duration: lease(LEASE),
        renew_duration: lease(LEASE / 2),
        rebind_duration: lease(LEASE / 8 * 7),
        additional_options: if refused { &[] } else { &options },
    };
    let to =
        if request.client_ip.is_unspecified() { Ipv4Addr::BROADCAST } else { request.client_ip };
    let udp = UdpRepr { src_port: SERVER_PORT, dst_port: CLIENT_PORT };
    let mut payload = vec![0; udp.header_len() + reply.buffer_len()];
    udp.emit(
        &mut UdpPacket::new_unchecked(&mut payload),
        &IpAddress::Ipv4(user::GATEWAY),
        &IpAddress::Ipv4(to),
        reply.buffer_len(),
        |content| {
            // The buffer is as long as it asked for.
            let _ = reply.emit(&mut DhcpPacket::new_unchecked(content));
        },
        &Default::default(),
    );
    outbox.ip(user::GATEWAY.into(), to.into(), IpProtocol::Udp, &payload);
}
