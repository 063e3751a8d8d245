use super::checksum::{checksum, crc32, fold, sum};
use super::offload::{adapt, is_sound, open_checksum};
use super::packet::{Ip, set_word, word};
use super::*;
use crate::testing::net::{Kind, NetPipe, packet};
use proptest::prelude::*;
use std::collections::VecDeque;
use xinim_abi::hw::virtio_net::{gso, header_flag};

const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
const B: [u8; 6] = [2, 0, 0, 0, 0, 2];

/// A large TCP segment as an offloading sender makes it.
fn large(v6: bool, payload: &[u8], size: u16) -> Frame {
    let mut data = packet(A, B, v6, Kind::Tcp, payload);
    let ip = Ip::parse(&data).unwrap();
    let mut header = open_checksum(&mut data, &ip).unwrap();
    header.gso_type = if v6 { gso::TCPV6 } else { gso::TCPV4 };
    header.gso_size = size;
    Frame { header, data }
}

#[test]
fn known_checksums() {
    // RFC 1071 section 3.
    let data = [0x00, 0x01, 0xF2, 0x03, 0xF4, 0xF5, 0xF6, 0xF7];
    assert_eq!(fold(sum(&data)), 0xDDF2);
    assert_eq!(checksum(&[0xFF]), 0x00FF);
    assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
}

#[test]
fn what_the_receiver_can_is_left_to_it() {
    let mut out = VecDeque::new();
    let frame = large(false, &[7; 5000], 1400);
    adapt(frame.clone(), Offloads::all(), &mut out);
    assert_eq!(out, [frame]);
}

#[test]
fn unsound_headers_are_dropped() {
    let good = large(false, &[7; 5000], 1400);
    assert!(is_sound(&good));
    let with = |change: fn(&mut Frame)| {
        let mut frame = good.clone();
        change(&mut frame);
        let mut out = VecDeque::new();
        adapt(frame, Offloads::empty(), &mut out);
        out.len()
    };
    assert_eq!(with(|f| f.header.gso_size = 0), 0, "no segment size");
    assert_eq!(with(|f| f.header.gso_type = 77), 0, "unknown type");
    assert_eq!(with(|f| f.header.gso_type = gso::UDP), 0, "not offered");
    assert_eq!(with(|f| f.header.gso_type = gso::TCPV6), 0, "the other family");
    assert_eq!(with(|f| f.header.csum_start = 65_000), 0, "a checksum outside");
    assert_eq!(with(|f| f.header.gso_size = 1), 0, "too many segments");
    assert_eq!(with(|f| f.data.truncate(13)), 0, "no Ethernet header");
    assert_eq!(with(|f| f.data.resize(MAX_FRAME + 1, 0)), 0, "too long");
}

#[test]
fn a_port_keeps_order_and_loses_nothing_while_the_back_end_waits() {
    let pipe = NetPipe::with_offloads(Offloads::empty());
    let mut port = Port::new(Box::new(pipe.clone()));
    pipe.limit(Some(2));
    port.send(large(false, &[1; 4000], 1000));
    assert!(!port.ready());
    assert_eq!(pipe.take().len(), 2);
    pipe.limit(None);
    assert!(port.ready());
    let rest = pipe.take();
    assert_eq!(rest.len(), 2);
    let sequence = |f: &Frame| u32::from(word(&f.data, 38)) << 16 | u32::from(word(&f.data, 40));
    assert_eq!(rest.iter().map(sequence).collect::<Vec<_>>(), [0x1000 + 2000, 0x1000 + 3000]);
}

#[test]
fn only_the_last_segment_ends_and_only_the_first_says_cwr() {
    let mut frame = large(false, &[0; 3000], 1000);
    frame.data[47] |= 0x80;
    let mut out = VecDeque::new();
    adapt(frame, Offloads::CHECKSUM, &mut out);
    let flags: Vec<u8> = out.iter().map(|f| f.data[47]).collect();
    assert_eq!(flags, [0x90, 0x10, 0x19]);
    let ids: Vec<u16> = out.iter().map(|f| word(&f.data, 18)).collect();
    assert_eq!(ids, [0x1234, 0x1235, 0x1236]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Segments are whole packets with right checksums, and together they are the payload.
    #[test]
    fn segmentation_keeps_every_byte(
        v6: bool,
        payload in prop::collection::vec(any::<u8>(), 0..20_000),
        size in 100u16..9000,
    ) {
        let mut out = VecDeque::new();
        adapt(large(v6, &payload, size), Offloads::empty(), &mut out);
        let mut joined = Vec::new();
        for frame in &out {
            let ip = Ip::parse(&frame.data).unwrap();
            prop_assert!(ip.header_is_valid(&frame.data));
            prop_assert_eq!(ip.payload_is_valid(&frame.data), Some(true));
            prop_assert_eq!(ip.end, frame.data.len());
            let start = ip.payload + 20;
            prop_assert!(frame.data.len() - start <= usize::from(size));
            let at = 0x1000 + joined.len() as u32;
            let sequence = u32::from(word(&frame.data, ip.payload + 4)) << 16
                | u32::from(word(&frame.data, ip.payload + 6));
            prop_assert_eq!(sequence, at);
            joined.extend_from_slice(&frame.data[start..]);
        }
        prop_assert_eq!(joined, payload);
    }

    /// An open checksum completed is the checksum.
    #[test]
    fn completing_a_checksum_gives_the_right_one(
        v6: bool,
        tcp: bool,
        payload in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        let kind = if tcp { Kind::Tcp } else { Kind::Udp };
        let whole = packet(A, B, v6, kind, &payload);
        let mut data = whole.clone();
        let ip = Ip::parse(&data).unwrap();
        let at = ip.payload + ip.checksum_offset().unwrap();
        set_word(&mut data, at, 0);
        let header = open_checksum(&mut data, &ip).unwrap();
        let mut out = VecDeque::new();
        adapt(Frame { header, data }, Offloads::empty(), &mut out);
        let done = &out[0];
        prop_assert_eq!(done.header.flags, header_flag::DATA_VALID);
        // Zero and all ones are the same sum; UDP writes the latter.
        let value = word(&done.data, at);
        prop_assert!(value == word(&whole, at) || (value == 0xFFFF && word(&whole, at) == 0));
    }

    /// Frames of any bytes are parsed without a panic and without reaching outside.
    #[test]
    fn parsing_is_total(data in prop::collection::vec(any::<u8>(), 0..200), kind in 0usize..4) {
        let mut data = data;
        if data.len() > 14 {
            let types = [0x0800u16, 0x86DD, 0x8100, 0x1234];
            set_word(&mut data, 12, types[kind]);
        }
        if let Some(ip) = Ip::parse(&data) {
            prop_assert!(ip.at <= ip.payload && ip.payload <= ip.end && ip.end <= data.len());
            ip.header_is_valid(&data);
            ip.payload_is_valid(&data);
            ip.tcp_header(&data);
        }
        Ip::parse_whole(&data);
    }
}
