//! Finishing in software what a frame's header leaves to be done (VIRTIO 5.1.6.2, 5.1.6.4).

use super::packet::{Ip, PROTOCOL_TCP, PROTOCOL_UDP, set_word};
use super::{Frame, MAX_FRAME, Offloads, checksum, segment};
use std::collections::VecDeque;
use xinim_abi::hw::virtio_net::{Header, gso, header_flag};

/// Whether header and frame fit each other. A frame that fails is dropped.
pub fn is_sound(frame: &Frame) -> bool {
    let Frame { header, data } = frame;
    if data.len() < super::ETHERNET_HEADER || data.len() > MAX_FRAME {
        return false;
    }
    let needs = header.flags & header_flag::NEEDS_CSUM != 0;
    let field = usize::from(header.csum_start) + usize::from(header.csum_offset);
    if needs && (field + 2 > data.len() || usize::from(header.csum_start) < 14) {
        return false;
    }
    match header.gso_type & !gso::ECN {
        gso::NONE => true,
        gso::TCPV4 | gso::TCPV6 => header.gso_size != 0 && needs,
        _ => false,
    }
}

/// What the receiver of this frame must be able to do.
pub fn needed(header: &Header) -> Offloads {
    let mut needed = Offloads::empty();
    needed.set(Offloads::CHECKSUM, header.flags & header_flag::NEEDS_CSUM != 0);
    match header.gso_type & !gso::ECN {
        gso::TCPV4 => needed |= Offloads::TSO4,
        gso::TCPV6 => needed |= Offloads::TSO6,
        _ => {}
    }
    needed
}

/// Appends `frame` to `out` as frames that need no more than `able`. What cannot be done
/// (segmentation of what is no TCP) is dropped: the sender broke its word.
pub fn adapt(mut frame: Frame, able: Offloads, out: &mut VecDeque<Frame>) {
    if !is_sound(&frame) {
        return;
    }
    let missing = needed(&frame.header) - able;
    if missing.intersects(Offloads::TSO4 | Offloads::TSO6) {
        segment::tcp(&frame, out);
        return;
    }
    if missing.contains(Offloads::CHECKSUM) {
        complete(&mut frame);
    }
    out.push_back(frame);
}

/// Fills in the checksum that the header leaves open.
pub fn complete(frame: &mut Frame) {
    let start = usize::from(frame.header.csum_start);
    let field = start + usize::from(frame.header.csum_offset);
    // A UDP checksum of zero would mean none.
    let udp = usize::from(frame.header.csum_offset) == 6;
    let Some(covered) = frame.data.get(start..end_of_packet(&frame.data)) else { return };
    let value = checksum::checksum(covered);
    set_word(&mut frame.data, field, if value == 0 && udp { 0xFFFF } else { value });
    frame.header = Header { flags: header_flag::DATA_VALID, ..Header::default() };
}

/// Padding of short frames is no part of a checksum.
fn end_of_packet(frame: &[u8]) -> usize {
    Ip::parse(frame).map_or(frame.len(), |ip| ip.end)
}

/// A header that leaves the TCP or UDP checksum of this packet open, with the pseudo header's sum
/// in its place, as [`complete`] expects it.
pub fn open_checksum(data: &mut [u8], ip: &Ip) -> Option<Header> {
    if !matches!(ip.protocol, PROTOCOL_TCP | PROTOCOL_UDP) {
        return None;
    }
    let offset = ip.checksum_offset()?;
    let pseudo = checksum::fold(ip.pseudo_header(data));
    set_word(data, ip.payload + offset, pseudo);
    Some(Header {
        flags: header_flag::NEEDS_CSUM,
        csum_start: ip.payload as u16,
        csum_offset: offset as u16,
        ..Header::default()
    })
}
