//! TCP segmentation: one large segment as the several that fit the link, each with the headers of
//! the whole. Sequence numbers, lengths, IPv4 identifications and checksums follow; FIN and PSH stay
//! on the last segment, CWR on the first (RFC 3168 6.1.2).

use super::packet::{Ip, set_word, word};
use super::{Frame, checksum};
use std::collections::VecDeque;
use xinim_abi::hw::virtio_net::{Header, gso, header_flag};

/// Segments made of one frame at most: 64 KiB in the smallest segments TCP allows (RFC 6691).
pub const SEGMENTS_MAX: usize = 65_536 / 48;

const FIN_PSH: u8 = 0x09;
const CWR: u8 = 0x80;

/// Splits a frame whose header says TCP; anything else is dropped.
pub fn tcp(frame: &Frame, out: &mut VecDeque<Frame>) {
    let data = &frame.data;
    let Some(ip) = Ip::parse(data) else { return };
    let Some(tcp) = ip.tcp_header(data) else { return };
    let v6 = frame.header.gso_type & !gso::ECN == gso::TCPV6;
    let size = usize::from(frame.header.gso_size);
    let start = ip.payload + tcp;
    let payload = &data[start..ip.end];
    if ip.v6 != v6 || size == 0 || payload.len() > size * SEGMENTS_MAX {
        return;
    }
    let header = Header { flags: header_flag::DATA_VALID, ..Header::default() };
    // An empty payload is one segment too.
    let count = payload.len().div_ceil(size).max(1);
    for index in 0..count {
        let from = index * size;
        let part = &payload[from..(from + size).min(payload.len())];
        let mut segment = Vec::with_capacity(start + part.len());
        segment.extend_from_slice(&data[..start]);
        segment.extend_from_slice(part);
        adjust(&mut segment, &ip, from, index, index + 1 == count);
        out.push_back(Frame { header, data: segment });
    }
}

fn adjust(segment: &mut [u8], whole: &Ip, from: usize, index: usize, last: bool) {
    let (at, tcp) = (whole.at, whole.payload);
    let length = (segment.len() - at) as u16;
    if whole.v6 {
        set_word(segment, at + 4, length - 40);
    } else {
        set_word(segment, at + 2, length);
        let identification = word(segment, at + 4).wrapping_add(index as u16);
        set_word(segment, at + 4, identification);
        set_word(segment, at + 10, 0);
        let sum = checksum::checksum(&segment[at..tcp]);
        set_word(segment, at + 10, sum);
    }
    let sequence = u32::from(word(segment, tcp + 4)) << 16 | u32::from(word(segment, tcp + 6));
    let sequence = sequence.wrapping_add(from as u32);
    set_word(segment, tcp + 4, (sequence >> 16) as u16);
    set_word(segment, tcp + 6, sequence as u16);
    if !last {
        segment[tcp + 13] &= !FIN_PSH;
    }
    if index > 0 {
        segment[tcp + 13] &= !CWR;
    }
    set_word(segment, tcp + 16, 0);
    let part = Ip { end: segment.len(), ..whole.clone() };
    let sum = part.pseudo_header(segment) + checksum::sum(&segment[tcp..]);
    set_word(segment, tcp + 16, !checksum::fold(sum));
}
