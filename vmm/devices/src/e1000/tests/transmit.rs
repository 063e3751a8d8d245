//! Descriptors, checksums, segmentation, write-back, back-pressure, nonsense.

use super::*;
use crate::net::packet::{Ip, set_word, word};
use crate::net::{Frame, MAX_FRAME, Offloads, checksum, offload};
use crate::testing::net::{Kind, packet};
use proptest::prelude::*;
use std::collections::VecDeque;
use xinim_abi::hw::e1000::descriptor::{TxContext, context_command, tx_options};
use xinim_abi::hw::virtio_net::gso;

const DATA: u32 = tx_command::DEXT | 1 << 20;

/// The context a driver gives for a TCP or UDP packet.
fn context(data: &[u8], mss: u16) -> TxContext {
    let ip = Ip::parse(data).unwrap();
    let tcp = ip.protocol == 6;
    let header = ip.payload + if tcp { 20 } else { 8 };
    let mut command = tx_command::DEXT | (data.len() - header) as u32;
    command |= if tcp { context_command::TCP } else { 0 };
    command |= if ip.v6 { 0 } else { context_command::IPV4 };
    command |= if mss > 0 { context_command::TSE } else { 0 };
    TxContext {
        ipcss: ip.at as u8,
        ipcso: ip.at as u8 + 10,
        ipcse: ip.payload as u16 - 1,
        tucss: ip.payload as u8,
        tucso: (ip.payload + if tcp { 16 } else { 6 }) as u8,
        tucse: 0,
        command,
        status: 0,
        header_length: header as u8,
        mss,
    }
}

/// The packet as a driver hands it over: IP checksum 0, the pseudo header's sum (without the
/// length when it is to be segmented) in the TCP checksum.
fn open(data: &[u8], segmented: bool) -> Vec<u8> {
    let mut data = data.to_vec();
    let ip = Ip::parse(&data).unwrap();
    let length = if segmented { 0 } else { ip.end - ip.payload };
    let sum = checksum::pseudo_header(&data[ip.addresses()], ip.protocol, length);
    set_word(&mut data, ip.payload + if ip.protocol == 6 { 16 } else { 6 }, checksum::fold(sum));
    if !ip.v6 {
        set_word(&mut data, ip.at + 10, 0);
    }
    data
}

fn send_offloaded(rig: &mut Rig, data: &[u8], mss: u16) {
    rig.put(context(data, mss).as_bytes());
    let ip = Ip::parse(data).unwrap();
    let open = open(data, mss > 0);
    rig.poke(TX_DATA, &open);
    let options = tx_options::TXSM | if ip.v6 { 0 } else { tx_options::IXSM };
    let segment = if mss > 0 { tx_command::TSE } else { 0 };
    // In pieces, as a driver with scattered buffers.
    let cut = open.len() / 3;
    let command = DATA | segment;
    let first =
        TxDesc { address: TX_DATA, command: command | cut as u32, options, ..TxDesc::default() };
    rig.put(first.as_bytes());
    let rest = (open.len() - cut) as u32 | tx_command::EOP | tx_command::RS;
    let second =
        TxDesc { address: TX_DATA + cut as u64, command: command | rest, ..TxDesc::default() };
    let last = rig.put(second.as_bytes());
    rig.go();
    assert!(rig.is_done(last));
}

#[test]
fn a_legacy_descriptor_sends_and_reports() {
    let mut rig = Rig::new(Model::I82540em);
    let index = rig.send(&frame(OTHER, 100), tx_command::RS);
    assert_eq!(rig.sent(), [frame(OTHER, 100)]);
    assert!(rig.is_done(index));
    let causes = rig.read(reg::ICR);
    assert_eq!(causes & 3, (Cause::TXDW | Cause::TXQE).bits());
    let index = rig.send(&frame(OTHER, 20), 0);
    assert_eq!(rig.sent()[0].len(), 60, "padded");
    assert!(!rig.is_done(index), "no RS, no report");
    assert_eq!(rig.read(reg::TDH), 2);
}

#[test]
fn the_ring_wraps() {
    let mut rig = Rig::new(Model::I82574l);
    for len in 60..160 {
        rig.send(&frame(OTHER, len), tx_command::RS);
        assert_eq!(rig.sent(), [frame(OTHER, len)]);
    }
}

#[test]
fn legacy_checksums_and_vlan_tags() {
    let mut rig = Rig::new(Model::I82540em);
    let whole = packet(OTHER, MAC, false, Kind::Udp, b"payload");
    let mut data = open(&whole, false);
    set_word(&mut data, 24, word(&whole, 24));
    rig.poke(TX_DATA, &data);
    rig.write(reg::CTRL, (Ctrl::SLU | Ctrl::VME).bits());
    let command = data.len() as u32 | 40 << 16;
    let flags = tx_command::EOP | tx_command::IC | tx_command::VLE;
    let desc = TxDesc {
        address: TX_DATA,
        command: command | flags,
        options: 34,
        special: 0x2007,
        ..TxDesc::default()
    };
    rig.put(desc.as_bytes());
    rig.go();
    let sent = rig.sent().remove(0);
    assert_eq!(sent[12..16], [0x81, 0x00, 0x20, 0x07]);
    assert_eq!(Ip::parse(&sent).unwrap().payload_is_valid(&sent), Some(true));
}

#[test]
fn transmit_timers_delay_the_interrupt() {
    let mut rig = Rig::new(Model::I82540em);
    rig.write(reg::TIDV, 100);
    rig.send(&frame(OTHER, 60), tx_command::RS | tx_command::IDE);
    assert_eq!(rig.read(reg::ICR) & Cause::TXDW.bits(), 0);
    rig.pass(Duration::from_nanos(100 * 1024));
    assert_ne!(rig.read(reg::ICR) & Cause::TXDW.bits(), 0);
}

#[test]
fn nothing_is_sent_without_link_and_nothing_lost() {
    let mut rig = Rig::new(Model::I82540em);
    rig.card.set_link(false, &Origin::default());
    let index = rig.send(&frame(OTHER, 100), tx_command::RS);
    assert!(rig.sent().is_empty() && !rig.is_done(index));
    rig.card.set_link(true, &Origin::default());
    rig.pass(AUTONEG_TIME);
    assert!(rig.is_done(index));
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn a_slow_network_holds_the_ring_back() {
    let mut rig = Rig::new(Model::I82540em);
    rig.net.limit(Some(2));
    for len in 60..66 {
        rig.send(&frame(OTHER, len), tx_command::RS);
    }
    assert_eq!(rig.sent().len(), 2);
    assert!(rig.read(reg::TDH) <= 3);
    rig.net.limit(None);
    rig.card.output_ready(&Origin::default());
    let lengths: Vec<_> = rig.sent().iter().map(Vec::len).collect();
    assert_eq!(lengths, [62, 63, 64, 65]);
}

#[test]
fn loopback_gives_back_what_is_sent() {
    let mut rig = Rig::new(Model::I82540em);
    rig.write(reg::RCTL, (Rctl::EN | Rctl::SECRC | Rctl::LBM_MAC).bits());
    rig.send(&frame(MAC, 200), 0);
    assert!(rig.sent().is_empty());
    assert_eq!(rig.received().unwrap().1, frame(MAC, 200));
}

#[test]
fn a_back_end_that_segments_gets_the_packet_whole() {
    let mut rig = Rig::new(Model::I82545em);
    let data = packet(OTHER, MAC, false, Kind::Tcp, &[3; 6000]);
    send_offloaded(&mut rig, &data, 1400);
    let frames = rig.net.take();
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0].header.gso_type, frames[0].header.gso_size), (gso::TCPV4, 1400));
    assert!(offload::is_sound(&frames[0]));
    assert_eq!(rig.read(reg::TPT), 5, "as many as go over the wire");
}

#[test]
fn two_queues_of_the_82574() {
    let mut rig = Rig::new(Model::I82574l);
    rig.write(reg::TDBAL1, 0x3000);
    rig.write(reg::TDLEN1, 256);
    rig.poke(TX_DATA, &frame(OTHER, 90));
    let desc = TxDesc {
        address: TX_DATA,
        command: 90 | tx_command::EOP | tx_command::RS,
        ..TxDesc::default()
    };
    rig.poke(0x3000, desc.as_bytes());
    rig.write(reg::TDT1, 1);
    assert_eq!(rig.sent(), [frame(OTHER, 90)]);
    assert_ne!(rig.read(reg::ICR) & Cause::TXQ1.bits(), 0);
}

#[test]
fn nonsense_is_survived_and_bounded() {
    let mut rig = Rig::new(Model::I82574l);
    // A packet without end: dropped when it is longer than any can be.
    for _ in 0..100 {
        let desc = TxDesc { address: TX_DATA, command: 0xFFFF, ..TxDesc::default() };
        rig.put(desc.as_bytes());
        rig.go();
    }
    rig.send(&frame(OTHER, 60), tx_command::RS);
    assert!(rig.sent().is_empty(), "the end of the long packet");
    rig.send(&frame(OTHER, 60), tx_command::RS);
    assert_eq!(rig.sent().len(), 1);
    // Segments of nothing, data outside memory, a ring outside memory, pointers outside the ring.
    let data = packet(OTHER, MAC, false, Kind::Tcp, &[3; 6000]);
    let mut empty = context(&data, 1400);
    empty.mss = 0;
    rig.put(empty.as_bytes());
    let desc = TxDesc {
        address: TX_DATA,
        command: DATA | tx_command::TSE | tx_command::EOP | 5000,
        ..TxDesc::default()
    };
    rig.put(desc.as_bytes());
    let desc =
        TxDesc { address: u64::MAX - 5, command: 100 | tx_command::EOP, ..TxDesc::default() };
    rig.put(desc.as_bytes());
    rig.go();
    rig.write(reg::TDBAH, 0xFFFF_FFFF);
    rig.send(&frame(OTHER, 60), 0);
    rig.write(reg::TDH, 0xFFFF);
    rig.write(reg::TDT, 0x8000);
    rig.write(reg::RDH, 0xFFFF);
    rig.feed(&frame(MAC, 60));
    assert!(rig.sent().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Checksum offload and segmentation against the software reference.
    #[test]
    fn offloads_agree_with_the_reference(
        v6: bool,
        tcp: bool,
        payload in prop::collection::vec(any::<u8>(), 1..9000),
        mss in 200u16..1460,
        segment: bool,
    ) {
        let kind = if tcp { Kind::Tcp } else { Kind::Udp };
        let segment = segment && tcp;
        let payload = if segment { &payload[..] } else { &payload[..payload.len().min(1400)] };
        let whole = packet(OTHER, MAC, v6, kind, payload);
        prop_assert!(whole.len() < MAX_FRAME);
        let net = NetPipe::with_offloads(Offloads::empty());
        let mut rig = Rig::with_net(Model::I82545em, net);
        send_offloaded(&mut rig, &whole, if segment { mss } else { 0 });
        let sent = rig.sent();
        let mut expected = VecDeque::new();
        let mut data = whole.clone();
        let ip = Ip::parse(&data).unwrap();
        let mut header = offload::open_checksum(&mut data, &ip).unwrap();
        if segment {
            header.gso_type = if v6 { gso::TCPV6 } else { gso::TCPV4 };
            header.gso_size = mss;
        }
        offload::adapt(Frame { header, data }, Offloads::empty(), &mut expected);
        prop_assert_eq!(sent.len(), expected.len());
        for (ours, reference) in sent.iter().zip(&expected) {
            prop_assert_eq!(&ours[..reference.data.len()], &reference.data[..]);
            let ip = Ip::parse(ours).unwrap();
            prop_assert!(ip.payload_is_valid(ours) != Some(false) && ip.header_is_valid(ours));
        }
    }
}
