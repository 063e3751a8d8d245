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
pub struct Transport {
    pub at: usize,
    pub end: usize,
    protocol: IpProtocol,
    pub source: IpAddress,
    pub destination: IpAddress,
}

/// Bytes of the link's header before the packet; `None`: it carries none.
pub fn packet_at(frame: &[u8], ethernet: bool) -> Option<usize> {
    if !ethernet {
        return Some(0);
    }
    let head = EthernetFrame::new_checked(frame).ok()?;
    let is_ip = matches!(head.ethertype(), EthernetProtocol::Ipv4 | EthernetProtocol::Ipv6);
    is_ip.then(EthernetFrame::<&[u8]>::header_len)
}

fn transport(frame: &[u8], ethernet: bool) -> Option<Transport> {
    let base = packet_at(frame, ethernet)?;
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

/// Where a frame's TCP segment is, if it has one.
pub fn tcp(frame: &[u8], ethernet: bool) -> Option<Transport> {
    transport(frame, ethernet).filter(|found| found.protocol == IpProtocol::Tcp)
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

/// Shorter Ethernet frames are filled up.
const SHORTEST: usize = 60;

/// Is a TCP or UDP frame as long as its packet says? One that is not was put together wrongly on its way
/// from the device, whose word on its checksum is of another.
pub fn is_whole(frame: &[u8], ethernet: bool) -> bool {
    let found = transport(frame, ethernet);
    found.is_none_or(|found| found.end == frame.len() || frame.len() <= SHORTEST)
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

#[cfg(test)]
mod tests {
    use super::*;
    use smoltcp::phy::ChecksumCapabilities;
    use smoltcp::wire::{EthernetAddress, EthernetRepr, Ipv4Address, Ipv4Repr, UdpRepr};
    use std::vec;
    use std::vec::Vec;

    fn datagram_of(payload: usize) -> Vec<u8> {
        let (from, to) = (Ipv4Address::new(10, 0, 0, 1), Ipv4Address::new(10, 0, 0, 2));
        let udp = UdpRepr { src_port: 7, dst_port: 9 };
        let ip = Ipv4Repr {
            src_addr: from,
            dst_addr: to,
            next_header: IpProtocol::Udp,
            payload_len: 8 + payload,
            hop_limit: 64,
        };
        let ethernet = EthernetRepr {
            src_addr: EthernetAddress([2; 6]),
            dst_addr: EthernetAddress([4; 6]),
            ethertype: EthernetProtocol::Ipv4,
        };
        let mut frame = vec![0; 14 + 20 + 8 + payload];
        ethernet.emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
        ip.emit(&mut Ipv4Packet::new_unchecked(&mut frame[14..]), &Default::default());
        udp.emit(
            &mut UdpPacket::new_unchecked(&mut frame[34..]),
            &from.into(),
            &to.into(),
            payload,
            |out| out.fill(7),
            &ChecksumCapabilities::default(),
        );
        frame
    }

    /// A part that came out longer or shorter than it is, with the device's word that all is well.
    #[test]
    fn a_frame_of_another_length_is_not_taken_at_its_word() {
        for payload in [19, 100, 1472] {
            let frame = datagram_of(payload);
            assert!(is_whole(&frame, true) && verify(&frame, true));
            let mut longer = frame.clone();
            longer.splice(50..50, [1, 2, 3, 4]);
            assert!(!is_whole(&longer, true) && !verify(&longer, true), "{payload}");
            let mut shorter = frame.clone();
            shorter.drain(50..54);
            // Too short for its packet: smoltcp does not take it, whatever anybody says.
            assert!(Ipv4Packet::new_checked(&shorter[14..]).is_err());
        }
        // Short ones are filled up, and are what they are.
        let mut short = datagram_of(2);
        short.resize(SHORTEST, 0);
        assert!(is_whole(&short, true) && verify(&short, true));
    }
}
