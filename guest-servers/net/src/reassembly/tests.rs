//! Packets cut into fragments, which come in any order, again, of others and not at all.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    EthernetAddress, EthernetFrame, EthernetProtocol, EthernetRepr, IpAddress, IpProtocol, IpRepr,
    Ipv4Address, Ipv4Packet, Ipv6Address,
};

use super::{PACKETS_MAX, RANGES_MAX, Reassembly, TIMEOUT, Taken};

const ETHERNET: usize = 14;
const NOW: Instant = Instant::from_micros_const(1_000_000_000);

/// An Ethernet frame of an IPv4 packet in fragments of at most `size` bytes of payload; other frames as
/// they are.
pub fn fragments(frame: &[u8], size: usize, ident: u16) -> Vec<Vec<u8>> {
    let is_v4 = EthernetFrame::new_checked(frame)
        .is_ok_and(|head| head.ethertype() == EthernetProtocol::Ipv4);
    let Some(ip) = frame.get(ETHERNET..).filter(|_| is_v4) else { return vec![frame.to_vec()] };
    let packet = Ipv4Packet::new_checked(ip).expect("a packet");
    let header = ETHERNET + usize::from(packet.header_len());
    let end = ETHERNET + usize::from(packet.total_len());
    let parts: Vec<&[u8]> = frame[header..end].chunks(size & !7).collect();
    if parts.len() < 2 {
        return vec![frame.to_vec()];
    }
    let mut from = 0;
    let cut = |(number, part): (usize, &&[u8])| {
        let mut fragment = [&frame[..header], part].concat();
        let mut packet = Ipv4Packet::new_unchecked(&mut fragment[ETHERNET..]);
        packet.set_ident(ident);
        packet.set_total_len((header - ETHERNET + part.len()) as u16);
        packet.set_frag_offset(from as u16);
        packet.set_more_frags(number + 1 < parts.len());
        packet.fill_checksum();
        from += part.len();
        fragment
    };
    parts.iter().enumerate().map(cut).collect()
}

fn ethernet(ethertype: EthernetProtocol, len: usize) -> Vec<u8> {
    let (src_addr, dst_addr) = (EthernetAddress([2; 6]), EthernetAddress([4; 6]));
    let mut frame = vec![0; ETHERNET + len];
    let head = EthernetRepr { src_addr, dst_addr, ethertype };
    head.emit(&mut EthernetFrame::new_unchecked(&mut frame[..]));
    frame
}

/// A whole IPv4 packet, as a frame.
fn v4(payload: &[u8]) -> Vec<u8> {
    let (from, to) = (Ipv4Address::new(10, 0, 0, 1), Ipv4Address::new(10, 0, 0, 2));
    let ip =
        IpRepr::new(IpAddress::Ipv4(from), IpAddress::Ipv4(to), IpProtocol::Udp, payload.len(), 64);
    let mut frame = ethernet(EthernetProtocol::Ipv4, 20);
    ip.emit(&mut frame[ETHERNET..], &Default::default());
    frame.extend_from_slice(payload);
    frame
}

fn v6_header(payload: usize, next: IpProtocol) -> Vec<u8> {
    let (from, to) = (
        Ipv6Address::new(0xFD00, 0, 0, 0, 0, 0, 0, 1),
        Ipv6Address::new(0xFD00, 0, 0, 0, 0, 0, 0, 2),
    );
    let ip = IpRepr::new(IpAddress::Ipv6(from), IpAddress::Ipv6(to), next, payload, 64);
    let mut frame = ethernet(EthernetProtocol::Ipv6, 40);
    ip.emit(&mut frame[ETHERNET..], &Default::default());
    frame
}

/// A fragment of an IPv6 packet.
fn v6(from: usize, more: bool, ident: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = v6_header(8 + payload.len(), IpProtocol::Ipv6Frag);
    frame.extend([IpProtocol::Udp.into(), 0]);
    frame.extend((from as u16 | u16::from(more)).to_be_bytes());
    frame.extend(ident.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed).collect()
}

/// What came of each frame, and the packets.
fn take(reassembly: &mut Reassembly, frames: &[Vec<u8>]) -> (Vec<Taken>, Vec<Vec<u8>>) {
    let (mut taken, mut whole) = (Vec::new(), Vec::new());
    for frame in frames {
        let mut frame = frame.clone();
        taken.push(reassembly.take(NOW, &mut frame, true));
        if taken.last() == Some(&Taken::Assembled) {
            whole.push(frame);
        }
    }
    (taken, whole)
}

/// As the sender had it.
fn identified(mut frame: Vec<u8>, ident: u16) -> Vec<u8> {
    let mut packet = Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]);
    packet.set_ident(ident);
    packet.fill_checksum();
    frame
}

#[test]
fn whole_packets_are_left_alone() {
    let mut frame = v4(&bytes(100, 0));
    let same = frame.clone();
    let mut reassembly = Reassembly::default();
    assert_eq!(reassembly.take(NOW, &mut frame, true), Taken::Whole);
    assert_eq!(frame, same);
    let mut bare = frame[ETHERNET..].to_vec();
    assert_eq!(reassembly.take(NOW, &mut bare, false), Taken::Whole);
    let mut none = Vec::new();
    assert_eq!(reassembly.take(NOW, &mut none, true), Taken::Whole);
}

#[test]
fn the_longest_packet_there_is() {
    let whole = v4(&bytes(65515, 1));
    let mut frames = fragments(&whole, 1480, 7);
    frames.reverse();
    let (_, packets) = take(&mut Reassembly::default(), &frames);
    assert_eq!(packets, [identified(whole, 7)]);
    // One byte more is no packet.
    let mut last = frames[0].clone();
    last.push(0);
    let mut packet = Ipv4Packet::new_unchecked(&mut last[ETHERNET..]);
    packet.set_total_len(packet.total_len() + 1);
    packet.fill_checksum();
    frames[0] = last;
    assert!(take(&mut Reassembly::default(), &frames).1.is_empty());
}

/// Segmentation in an emulated card: one identification for everything, and a fragment is lost.
#[test]
fn a_lost_fragment_does_not_hold_up_the_next_packet() {
    let (first, second) = (v4(&bytes(6000, 1)), v4(&bytes(2900, 2)));
    let mut frames = fragments(&first, 1456, 0);
    frames.remove(2);
    frames.extend(fragments(&second, 1456, 0));
    let (_, packets) = take(&mut Reassembly::default(), &frames);
    assert_eq!(packets, [identified(second, 0)]);
}

#[test]
fn ipv6_forbids_what_overlaps() {
    let mut reassembly = Reassembly::default();
    let data = bytes(48, 3);
    let frames =
        [v6(0, true, 9, &data[..16]), v6(8, true, 9, &bytes(16, 4)), v6(16, false, 9, &data[16..])];
    assert!(take(&mut reassembly, &frames).1.is_empty());
    // In order, doubled: fine. So is one that is whole by itself (RFC 6946).
    let frames = [
        v6(16, false, 10, &data[16..]),
        v6(16, false, 10, &data[16..]),
        v6(0, true, 10, &data[..16]),
    ];
    let whole = [v6_header(48, IpProtocol::Udp), data.clone()].concat();
    assert_eq!(take(&mut reassembly, &frames).1, std::slice::from_ref(&whole));
    assert_eq!(take(&mut reassembly, &[v6(0, false, 10, &data)]).1, [whole]);
}

#[test]
fn a_damaged_header_is_of_no_packet() {
    let mut frames = fragments(&v4(&bytes(3000, 1)), 1480, 1);
    frames[1][ETHERNET + 8] ^= 1;
    let (taken, packets) = take(&mut Reassembly::default(), &frames);
    assert!(packets.is_empty());
    assert_eq!(taken, [Taken::Held, Taken::Bad, Taken::Held]);
}

#[test]
fn what_is_kept_is_bounded() {
    let whole = v4(&bytes(3000, 1));
    let mut reassembly = Reassembly::default();
    for ident in 0..100 {
        take(&mut reassembly, &fragments(&whole, 1480, ident)[..1]);
    }
    assert_eq!(reassembly.packets.len(), PACKETS_MAX);
    // The newest are there, and only for a while.
    let rest = |ident| fragments(&whole, 1480, ident)[1..].to_vec();
    assert_eq!(take(&mut reassembly, &rest(99)).1.len(), 1);
    assert_eq!(take(&mut reassembly, &rest(20)).1.len(), 0);
    let mut frame = rest(98)[0].clone();
    reassembly.take(NOW + TIMEOUT, &mut frame, true);
    assert_eq!(reassembly.packets.len(), 1);
    // Every other fragment of eight bytes.
    let mut reassembly = Reassembly::default();
    let holes: Vec<_> = fragments(&v4(&bytes(8000, 2)), 8, 5).into_iter().step_by(2).collect();
    take(&mut reassembly, &holes[..RANGES_MAX]);
    assert_eq!(reassembly.packets.len(), 1);
    take(&mut reassembly, &holes[RANGES_MAX..=RANGES_MAX]);
    assert_eq!(reassembly.packets.len(), 0);
}

proptest! {
    /// Three packets, their fragments mixed in any order, some twice: each comes whole, once or twice.
    #[test]
    fn in_any_order(
        lens in proptest::array::uniform3(1usize..5000),
        size in 8usize..1500,
        order in proptest::collection::vec(any::<u32>(), 4000),
        twice in any::<u64>(),
    ) {
        let size = size.max(128);
        let packets: Vec<_> = (0..3).map(|n| v4(&bytes(lens[n], n as u8))).collect();
        let mut frames: Vec<_> =
            (0..3).flat_map(|n| fragments(&packets[n], size, 100 + n as u16)).collect();
        for at in 0..frames.len() {
            if twice >> (at % 64) & 1 == 1 {
                frames.push(frames[at].clone());
            }
        }
        let mut keyed: Vec<_> = order.iter().zip(frames).collect();
        keyed.sort_by_key(|(key, _)| **key);
        let frames: Vec<_> = keyed.into_iter().map(|(_, frame)| frame).collect();
        let (_, whole) = take(&mut Reassembly::default(), &frames);
        for (n, packet) in packets.iter().enumerate() {
            let cut = lens[n] > size & !7;
            let wanted = identified(packet.clone(), 100 + n as u16);
            prop_assert!(!cut || whole.contains(&wanted), "packet {n}");
        }
        let known: Vec<_> = (0..3).map(|n| identified(packets[n].clone(), 100 + n as u16)).collect();
        prop_assert!(whole.iter().all(|packet| known.contains(packet)));
    }

    /// Nothing that comes does harm, and what comes out is a packet.
    #[test]
    fn anything_may_come(
        parts in proptest::collection::vec(
            (any::<bool>(), 0u16..9000, any::<bool>(), 0u16..3, 0usize..600, any::<u8>(), any::<Option<(u8, u8)>>()),
            1..200,
        ),
    ) {
        let mut reassembly = Reassembly::default();
        let mut now = NOW;
        for (six, from, more, ident, len, seed, flip) in parts {
            let mut frame = if six {
                v6((from & 0x1FFF).into(), more, ident.into(), &bytes(len, seed))
            } else {
                let mut frame = identified(v4(&bytes(len, seed)), ident);
                let mut packet = Ipv4Packet::new_unchecked(&mut frame[ETHERNET..]);
                packet.set_frag_offset(from & !7);
                packet.set_more_frags(more);
                packet.fill_checksum();
                frame
            };
            if let Some((at, bits)) = flip {
                let at = usize::from(at) % frame.len();
                frame[at] ^= bits;
            }
            now += Duration::from_millis(u64::from(seed) * 10);
            if reassembly.take(now, &mut frame, true) == Taken::Assembled {
                prop_assert_eq!(reassembly.take(now, &mut frame.clone(), true), Taken::Whole);
            }
            prop_assert!(reassembly.packets.len() <= PACKETS_MAX);
            prop_assert!(reassembly.packets.iter().all(|packet| packet.bytes.len() <= 65535));
        }
    }
}
