//! Checksums and segmentation left to the device: what smoltcp does not compute, the device needs
//! prepared (the pseudo-header's sum, where the headers are); what the device did not verify is
//! verified here.

use smoltcp::wire::{
    EthernetFrame, EthernetProtocol, IpAddress, IpProtocol, Ipv4Packet, Ipv6Packet, TcpPacket,
    UdpPacket,
};

use crate::link::{Offload, transmit};

/// Where the transport header is and between whom. `None`: no TCP or UDP in an unfragmented packet
/// without extension headers.
struct Transport {
    at: usize,
    end: usize,
    protocol: IpProtocol,
    source: IpAddress,
    destination: IpAddress,
}

fn transport(frame: &[u8], ethernet: bool) -> Option<Transport> {
    let base = if ethernet {
        let head = EthernetFrame::new_checked(frame).ok()?;
        match head.ethertype() {
            EthernetProtocol::Ipv4 | EthernetProtocol::Ipv6 => EthernetFrame::<&[u8]>::header_len(),
            _ => return None,
        }
    } else {
        0
    };
    let ip = frame.get(base..)?;
    let (at, len, protocol, source, destination) = match ip.first()? >> 4 {
        4 => {
            let packet = Ipv4Packet::new_checked(ip).ok()?;
            if packet.more_frags() || packet.frag_offset() != 0 {
                return None;
            }
            let len = usize::from(packet.total_len());
            let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
            (usize::from(packet.header_len()), len, packet.next_header(), source, destination)
        }
        6 => {
            let packet = Ipv6Packet::new_checked(ip).ok()?;
            let len = 40 + usize::from(packet.payload_len());
            let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
            (40, len, packet.next_header(), source, destination)
        }
        _ => return None,
    };
    // A packet too long for its length field has zero there: it ends with the frame.
    let end = if len <= at { frame.len() } else { (base + len).min(frame.len()) };
    Some(Transport { at: base + at, end, protocol, source, destination })
}

/// Is the TCP or UDP checksum of a received frame right? Frames without are right.
pub fn verify(frame: &[u8], ethernet: bool) -> bool {
    let Some(found) = transport(frame, ethernet) else { return true };
    let Some(segment) = frame.get(found.at..found.end) else { return false };
    match found.protocol {
        IpProtocol::Tcp => TcpPacket::new_checked(segment)
            .is_ok_and(|packet| packet.verify_checksum(&found.source, &found.destination)),
        IpProtocol::Udp => UdpPacket::new_checked(segment)
            .is_ok_and(|packet| packet.verify_checksum(&found.source, &found.destination)),
        _ => true,
    }
}

/// Bytes of payload, if an Ethernet frame is a UDP datagram.
pub fn datagram(frame: &[u8]) -> Option<usize> {
    let found = transport(frame, true)?;
    let header = smoltcp::wire::UDP_HEADER_LEN;
    let is_udp = found.protocol == IpProtocol::Udp;
    is_udp.then(|| found.end.saturating_sub(found.at + header))
}

/// One's complement sum of 16-bit words, folded, not inverted.
fn sum(parts: &[&[u8]]) -> u16 {
    let mut total = 0u64;
    for part in parts {
        let (words, rest) = part.as_chunks::<2>();
        total += words.iter().map(|word| u64::from(u16::from_be_bytes(*word))).sum::<u64>();
        total += rest.first().map_or(0, |&byte| u64::from(byte) << 8);
    }
    while total >> 16 != 0 {
        total = (total & 0xFFFF) + (total >> 16);
    }
    total as u16
}

fn octets(address: &IpAddress) -> ([u8; 16], usize) {
    let mut bytes = [0; 16];
    match address {
        IpAddress::Ipv4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
        IpAddress::Ipv6(ip) => bytes = ip.octets(),
    }
    (bytes, if matches!(address, IpAddress::Ipv4(_)) { 4 } else { 16 })
}

/// Prepares an Ethernet frame whose TCP or UDP checksum the device is to compute, and says how.
/// `segment`: payload bytes of each segment it is to be cut into.
pub fn prepare(frame: &mut [u8], segment: Option<u16>) -> Offload {
    let Some(found) = transport(frame, true) else { return Offload::default() };
    let checksum_offset = match found.protocol {
        IpProtocol::Tcp => 16,
        IpProtocol::Udp => 6,
        _ => return Offload::default(),
    };
    let field = found.at + checksum_offset;
    if field + 2 > found.end {
        return Offload::default();
    }
    let (source, n) = octets(&found.source);
    let (destination, _) = octets(&found.destination);
    let len = (found.end - found.at) as u32;
    // A device that segments puts each segment's own length in (virtio 1.2, 5.1.6.2, note on
    // GSO: the pseudo-header's length is then that of the whole, as Linux has it).
    let tail = (len + u32::from(u8::from(found.protocol))).to_be_bytes();
    let pseudo = sum(&[&source[..n], &destination[..n], &tail]);
    frame[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
    // Ports and addresses, mixed well enough to spread over a few queues.
    let ports = u32::from_be_bytes([
        frame[found.at],
        frame[found.at + 1],
        frame[found.at + 2],
        frame[found.at + 3],
    ]);
    let mut offload = Offload {
        flow: (ports ^ u32::from(pseudo)).wrapping_mul(0x9E37_79B1) >> 16,
        flags: transmit::CHECKSUM,
        checksum_start: found.at as u16,
        checksum_offset: checksum_offset as u16,
        ..Offload::default()
    };
    if let (Some(size), IpProtocol::Tcp) = (segment, found.protocol) {
        let header = usize::from(frame[found.at + 12] >> 4) * 4;
        offload.flags |= transmit::SEGMENT;
        if n == 16 {
            offload.flags |= transmit::IPV6;
        }
        offload.header_len = (found.at + header) as u16;
        offload.segment_size = size;
    }
    offload
}
