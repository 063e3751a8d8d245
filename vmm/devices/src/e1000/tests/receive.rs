//! Filters, rings, overruns, checksums, timers, formats.

use super::*;
use crate::net::checksum::crc32;
use crate::testing::net::{Kind, packet};
use xinim_abi::hw::e1000::RFCTL_EXSTEN;
use xinim_abi::hw::e1000::descriptor::{RxExtended, RxSplit, rx_error, rx_status};

#[test]
fn a_frame_arrives_padded_and_with_its_crc_when_asked() {
    let mut rig = Rig::new(Model::I82540em);
    rig.feed(&frame(MAC, 30));
    let (desc, data) = rig.received().unwrap();
    assert_eq!(desc.length, 60);
    assert_eq!(desc.status & (rx_status::DD | rx_status::EOP), 3);
    assert_eq!(data[..30], frame(MAC, 30));
    rig.write(reg::RCTL, (Rctl::EN | Rctl::BAM).bits());
    rig.feed(&frame(MAC, 100));
    let (desc, data) = rig.received().unwrap();
    assert_eq!(desc.length, 104);
    assert_eq!(data[100..], crc32(&frame(MAC, 100)).to_le_bytes());
}

#[test]
fn filters_take_what_they_should() {
    let mut rig = Rig::new(Model::I82540em);
    let passes = |rig: &mut Rig, to: [u8; 6]| {
        rig.feed(&frame(to, 60));
        rig.received().map(|(desc, _)| desc.status & rx_status::PIF != 0)
    };
    let multicast = [0x01, 0x00, 0x5E, 0x00, 0x00, 0xFB];
    assert_eq!(passes(&mut rig, MAC), Some(false));
    assert_eq!(passes(&mut rig, OTHER), None);
    assert_eq!(passes(&mut rig, multicast), None);
    assert_eq!(passes(&mut rig, [0xFF; 6]), Some(false));
    // Multicast table, offset 0: bits 47:36 of the address.
    let index = (u32::from(multicast[5]) << 8 | u32::from(multicast[4])) >> 4 & 0xFFF;
    rig.write(reg::MTA + 4 * (index >> 5), 1 << (index & 31));
    assert_eq!(passes(&mut rig, multicast), Some(true));
    rig.write(reg::MTA + 4 * (index >> 5), 0);
    // A second receive address.
    rig.write(reg::RAL + 8 * 5, u32::from_le_bytes([2, 2, 2, 2]));
    rig.write(reg::RAH + 8 * 5, 0x8000_0202);
    assert_eq!(passes(&mut rig, OTHER), Some(false));
    rig.write(reg::RAH + 8 * 5, 0x0000_0202);
    assert_eq!(passes(&mut rig, OTHER), None, "not valid");
    let on = Rctl::EN | Rctl::SECRC;
    rig.write(reg::RCTL, (on | Rctl::UPE).bits());
    assert_eq!(passes(&mut rig, OTHER), Some(true));
    assert_eq!(passes(&mut rig, [0xFF; 6]), None, "BAM is off");
    rig.write(reg::RCTL, (on | Rctl::MPE).bits());
    assert_eq!(passes(&mut rig, multicast), Some(true));
    rig.write(reg::RCTL, Rctl::BAM.bits());
    assert_eq!(passes(&mut rig, MAC), None, "receiver off");
}

#[test]
fn vlans_are_filtered_and_stripped() {
    let mut rig = Rig::new(Model::I82545em);
    let mut tagged = frame(MAC, 100);
    tagged.splice(12..12, [0x81, 0x00, 0x60, 0x2A]);
    rig.write(reg::RCTL, (Rctl::EN | Rctl::SECRC | Rctl::VFE).bits());
    rig.feed(&tagged);
    assert!(rig.received().is_none());
    rig.write(reg::VFTA + 4, 1 << 10);
    rig.feed(&tagged);
    let (desc, data) = rig.received().unwrap();
    assert_eq!((desc.status & rx_status::VP, data), (0, tagged.clone()));
    rig.write(reg::CTRL, (Ctrl::SLU | Ctrl::VME).bits());
    rig.feed(&tagged);
    let (desc, data) = rig.received().unwrap();
    assert_eq!((desc.status & rx_status::VP, desc.special), (rx_status::VP, 0x602A));
    assert_eq!(data, frame(MAC, 100));
}

#[test]
fn long_frames_need_lpe_and_span_buffers() {
    let mut rig = Rig::new(Model::I82540em);
    rig.feed(&frame(MAC, 1518));
    assert!(rig.received().is_some(), "1522 with CRC");
    rig.feed(&frame(MAC, 1519));
    assert!(rig.received().is_none());
    assert_eq!(rig.read(reg::ROC), 1);
    rig.write(reg::RCTL, (Rctl::EN | Rctl::SECRC | Rctl::LPE).bits());
    rig.feed(&frame(MAC, 5000));
    let parts: Vec<_> = (0..3).map(|_| rig.received().unwrap()).collect();
    let eop: Vec<_> = parts.iter().map(|(d, _)| d.status & rx_status::EOP != 0).collect();
    assert_eq!(eop, [false, false, true]);
    let joined: Vec<u8> = parts.into_iter().flat_map(|(_, data)| data).collect();
    assert_eq!(joined, frame(MAC, 5000));
    // 256-byte buffers.
    rig.write(reg::RCTL, (Rctl::EN | Rctl::SECRC).bits() | 3 << 16);
    rig.feed(&frame(MAC, 600));
    let lengths: Vec<_> = (0..3).map(|_| rig.received().unwrap().0.length).collect();
    assert_eq!(lengths, [256, 256, 88]);
    // 4096, by BSEX.
    rig.write(reg::RCTL, (Rctl::EN | Rctl::SECRC | Rctl::LPE | Rctl::BSEX).bits() | 3 << 16);
    rig.feed(&frame(MAC, 4000));
    assert_eq!(rig.received().unwrap().0.length, 4000);
}

#[test]
fn the_ring_wraps_and_frames_wait_for_descriptors() {
    let mut rig = Rig::new(Model::I82540em);
    for round in 0..5 {
        // 15 descriptors, 20 frames.
        for len in 0..20 {
            rig.feed(&frame(MAC, 100 + len));
        }
        for len in 0..20 {
            let (_, data) = rig.received().unwrap();
            assert_eq!(data, frame(MAC, 100 + len), "round {round}");
        }
        assert!(rig.received().is_none());
        assert_eq!(rig.read(reg::RNBC), 5);
        assert_eq!(rig.read(reg::MPC), 0);
    }
}

#[test]
fn a_full_packet_buffer_misses_packets_unless_pause_is_on() {
    let mut rig = Rig::new(Model::I82540em);
    // 8 KiB for reception.
    rig.write(reg::PBA, 8);
    for _ in 0..40 {
        rig.feed(&frame(MAC, 1000));
    }
    let missed = rig.read(reg::MPC);
    assert_eq!(missed, 40 - 15 - 8, "8 of 1004 bytes fit");
    assert_ne!(rig.read(reg::ICR) & Cause::RXO.bits(), 0);
    assert_eq!(std::iter::from_fn(|| rig.received()).count(), 23);

    rig.write(reg::CTRL, (Ctrl::SLU | Ctrl::TFCE).bits());
    for _ in 0..40 {
        rig.feed(&frame(MAC, 1000));
    }
    assert!(rig.net.unread() > 10, "the network waits");
    assert_eq!((rig.read(reg::MPC), rig.read(reg::XOFFTXC)), (0, 1));
    assert_eq!(std::iter::from_fn(|| rig.received()).count(), 40);
    assert!((1..=8).contains(&rig.read(reg::XONTXC)), "between the two thresholds nothing is said");
}

#[test]
fn the_minimum_threshold_is_told_once_when_crossed() {
    let mut rig = Rig::new(Model::I82540em);
    // A quarter of 16.
    rig.write(reg::RCTL, (Rctl::EN | Rctl::SECRC).bits() | 1 << Rctl::RDMTS_SHIFT);
    let mut crossings = Vec::new();
    for index in 0..14 {
        rig.feed(&frame(MAC, 60));
        if rig.read(reg::ICR) & Cause::RXDMT0.bits() != 0 {
            crossings.push(index);
        }
    }
    assert_eq!(crossings, [10], "4 of 15 left after the eleventh");
}

#[test]
fn receive_timers_delay_the_interrupt() {
    let mut rig = Rig::new(Model::I82540em);
    rig.write(reg::RDTR, 100);
    rig.write(reg::RADV, 150);
    let seen = |rig: &mut Rig| rig.read(reg::ICR) & Cause::RXT0.bits() != 0;
    rig.feed(&frame(MAC, 60));
    assert!(!seen(&mut rig));
    rig.pass(Duration::from_nanos(90 * 1024));
    rig.feed(&frame(MAC, 60));
    rig.pass(Duration::from_nanos(50 * 1024));
    assert!(!seen(&mut rig), "the second packet restarted the delay");
    rig.pass(Duration::from_nanos(10 * 1024));
    assert!(seen(&mut rig), "the absolute timer");
    rig.feed(&frame(MAC, 60));
    rig.write(reg::RDTR, 100 | xinim_abi::hw::e1000::RDTR_FPD);
    assert!(seen(&mut rig), "flushed");
    rig.write(reg::RSRPD, 64);
    rig.feed(&frame(MAC, 60));
    assert_ne!(rig.read(reg::ICR) & Cause::SRPD.bits(), 0, "a small packet");
}

#[test]
fn checksums_are_checked_as_a_reference_does() {
    for model in Model::ALL {
        let mut rig = Rig::new(model);
        let checked = |rig: &mut Rig, data: &[u8]| {
            rig.feed(data);
            let (desc, _) = rig.received().unwrap();
            (desc.status & 0x74, desc.errors)
        };
        let good = packet(MAC, OTHER, false, Kind::Tcp, b"hello");
        assert_eq!(checked(&mut rig, &good), (rx_status::IXSM, 0), "offload is off");
        rig.write(reg::RXCSUM, (RxCsum::IPOFL | RxCsum::TUOFL).bits());
        let both = rx_status::IPCS | rx_status::TCPCS;
        assert_eq!(checked(&mut rig, &good), (both, 0));
        let mut bad = good.clone();
        bad[56] ^= 1;
        assert_eq!(checked(&mut rig, &bad), (both, rx_error::TCPE));
        let mut bad = good.clone();
        bad[22] ^= 1;
        assert_eq!(checked(&mut rig, &bad).1 & rx_error::IPE, rx_error::IPE);
        let udp = packet(MAC, OTHER, false, Kind::Udp, b"hello");
        let extra = if model.is_82574() { rx_status::UDPCS } else { 0 };
        assert_eq!(checked(&mut rig, &udp), (both | extra, 0));
        let mut fragment = udp.clone();
        fragment[20] = 0x20;
        assert_eq!(checked(&mut rig, &fragment).0 & rx_status::TCPCS, 0);
        assert_eq!(checked(&mut rig, &frame(MAC, 60)), (rx_status::IXSM, 0), "no IP");
    }
}

#[test]
fn pause_frames_stop_the_transmitter_for_their_time() {
    let mut rig = Rig::new(Model::I82540em);
    let mut pause = frame([0x01, 0x80, 0xC2, 0, 0, 1], 60);
    pause[12..18].copy_from_slice(&[0x88, 0x08, 0, 1, 0, 100]);
    rig.write(reg::CTRL, (Ctrl::SLU | Ctrl::RFCE).bits());
    rig.feed(&pause);
    assert!(rig.received().is_none(), "not for software");
    assert_eq!(rig.read(reg::XOFFRXC), 1);
    rig.send(&frame(OTHER, 60), 0);
    assert!(rig.sent().is_empty());
    // 100 times 512 bit times at 1 Gb/s.
    rig.pass(Duration::from_nanos(51_200));
    assert_eq!(rig.sent().len(), 1);
}

#[test]
fn extended_and_split_descriptors_of_the_82574() {
    let mut rig = Rig::new(Model::I82574l);
    rig.write(reg::RFCTL, RFCTL_EXSTEN);
    rig.write(reg::RXCSUM, (RxCsum::IPOFL | RxCsum::TUOFL).bits());
    let data = packet(MAC, OTHER, false, Kind::Tcp, &[9; 500]);
    rig.feed(&data);
    let desc = RxExtended::read_from_bytes(&rig.memory.dump(RX_RING, 16)).unwrap();
    assert_eq!(desc.status_error & 3, 3);
    assert_eq!(usize::from(desc.length), data.len());
    assert_eq!(desc.hash as u16, 0x1234, "IP identification");
    assert_eq!(rig.memory.dump(RX_DATA, data.len()), data);

    // Packet split: 128 bytes, then 1 KiB pages; a new ring of 32-byte descriptors.
    rig.write(reg::RCTL, 0);
    rig.write(reg::PSRCTL, 1 | 1 << 8 | 1 << 16);
    rig.write(reg::RDBAL, 0x3000);
    rig.write(reg::RDH, 0);
    rig.write(reg::RDLEN, 256);
    for index in 0..8u64 {
        let buffers = [0u64, 1, 2, 3].map(|part| RX_DATA + index * 0x4000 + part * 0x1000);
        rig.poke(0x3000 + index * 32, buffers.as_bytes());
    }
    rig.write(reg::RDT, 7);
    rig.write(reg::RCTL, (Rctl::EN | Rctl::SECRC).bits() | 1 << Rctl::DTYP_SHIFT);
    let data = packet(MAC, OTHER, false, Kind::Tcp, &[7; 1400]);
    rig.feed(&data);
    let desc = RxSplit::read_from_bytes(&rig.memory.dump(0x3000, 32)).unwrap();
    assert_eq!(desc.status_error & 3, 3);
    assert_eq!((desc.length0, desc.lengths), (128, [1024, data.len() as u16 - 1152, 0]));
    assert_eq!(rig.memory.dump(RX_DATA + 0x1000, 1024), data[128..1152]);
}

#[test]
fn rss_hashes_as_microsoft_says_and_steers() {
    // The verification suite's key; 66.9.149.187:2794 to 161.142.100.80:1766.
    let key = [
        0x6D, 0x5A, 0x56, 0xDA, 0x25, 0x5B, 0x0E, 0xC2, 0x41, 0x67, 0x25, 0x3D, 0x43, 0xA3, 0x8F,
        0xB0, 0xD0, 0xCA, 0x2B, 0xCB, 0xAE, 0x7B, 0x30, 0xB4, 0x77, 0xCB, 0x2D, 0xA3, 0x80, 0x30,
        0xF2, 0x0C, 0x6A, 0x42, 0xB7, 0x3B, 0xBE, 0xAC, 0x01, 0xFA,
    ];
    let input = [66, 9, 149, 187, 161, 142, 100, 80, 0x0A, 0xEA, 0x06, 0xE6];
    assert_eq!(rss::toeplitz(&key, &input), 0x51CC_C178);
    assert_eq!(rss::toeplitz(&key, &input[..8]), 0x323E_8FC2);

    let mut rig = Rig::new(Model::I82574l);
    for (index, part) in (0..).zip(key.chunks_exact(4)) {
        rig.write(reg::RSSRK + 4 * index, u32::from_le_bytes(part.try_into().unwrap()));
    }
    for index in 0..32 {
        rig.write(reg::RETA + 4 * index, 0x8080_8080);
    }
    rig.write(reg::MRQC, 1 | 3 << 16);
    rig.write(reg::RDBAL1, 0x3000);
    rig.write(reg::RDLEN1, 256);
    rig.poke(0x3000, &(RX_DATA + 0x8000).to_le_bytes());
    rig.write(reg::RDT1, 1);
    let data = packet(MAC, OTHER, false, Kind::Tcp, b"second queue");
    rig.feed(&data);
    assert!(rig.received().is_none());
    assert_eq!(rig.memory.dump(RX_DATA + 0x8000, data.len()), data);
    assert_ne!(rig.read(reg::ICR) & Cause::RXQ1.bits(), 0);
}
