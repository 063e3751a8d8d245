use super::*;
use crate::dma::Dma;
use crate::testing::driver::{Driver, Ring};
use crate::testing::net::{Kind, NetPipe, packet};
use crate::testing::{FlatMemory, MsiLog};
use crate::virtio::VirtioConfig;
use std::sync::Arc;
use xinim_abi::hw::virtio_net::{control as command, rx_queue, tx_queue};
use zerocopy::FromBytes;

const OTHER: [u8; 6] = [2, 2, 2, 2, 2, 2];
const RINGS: u64 = 0x1000;
const BUFFERS: u64 = 0x10_0000;
const SCRATCH: u64 = 0x8_0000;
const PLAIN: u64 = feature::MAC | feature::MRG_RXBUF | feature::STATUS;

struct Rig {
    function: VirtioPci<Net>,
    memory: Arc<FlatMemory>,
    msi: Arc<MsiLog>,
    net: NetPipe,
    rings: Vec<Ring>,
    mac: [u8; 6],
}

impl Rig {
    fn new(features: u64) -> Self {
        Self::with(features, NetConfig { pairs: 2, ..NetConfig::default() }, NetPipe::new())
    }

    fn with(features: u64, setup: NetConfig, net: NetPipe) -> Self {
        let memory = FlatMemory::new(0, 4 << 20);
        let msi = MsiLog::new();
        let transport = VirtioConfig::new("virtio-net.0", memory.clone(), msi.clone());
        let device = Net::new(Box::new(net.clone()), setup);
        let mut function = VirtioPci::new(device, transport).expect("capabilities fit");
        let count = function.device().queue_count();
        let mut driver = Driver::new(&mut function);
        assert!(driver.negotiate(features), "features are offered");
        driver.enable_msix(count + 1);
        let mut rings = Vec::new();
        for queue in 0..count {
            let ring = Ring::new(&memory, RINGS + u64::from(queue) * 0x1000, 64);
            driver.enable_queue(queue, &ring);
            rings.push(ring);
        }
        driver.driver_ok();
        Self { function, memory, msi, net, rings, mac: setup.mac }
    }

    fn notify(&mut self, queue: u16) {
        assert_eq!(Driver::new(&mut self.function).notify(queue).error, None);
    }

    fn send(&mut self, pair: u16, header: Header, data: &[u8]) {
        self.poke(SCRATCH, header.as_bytes());
        self.poke(SCRATCH + 0x1000, data);
        let length = data.len() as u32;
        let ring = &mut self.rings[usize::from(tx_queue(pair))];
        ring.offer(&[(SCRATCH, 12, false), (SCRATCH + 0x1000, length, false)]);
        self.notify(tx_queue(pair));
        assert_eq!(self.rings[usize::from(tx_queue(pair))].completions().len(), 1);
    }

    fn poke(&self, at: u64, data: &[u8]) {
        assert_eq!(self.memory.write(at, data), Ok(()));
    }

    /// Gives `count` buffers of `size` bytes to a pair.
    fn give(&mut self, pair: u16, count: u64, size: u32) {
        for index in 0..count {
            let at = BUFFERS + (u64::from(pair) * 32 + index) * 0x4000;
            self.rings[usize::from(rx_queue(pair))].offer(&[(at, size, true)]);
        }
        self.notify(rx_queue(pair));
    }

    fn feed(&mut self, data: Vec<u8>) {
        self.net.feed(Frame::plain(data));
        while self.function.input_ready(&Origin::default()) {}
    }

    /// Frames received by a pair, each with its header and how many buffers it took.
    fn received(&mut self, pair: u16, buffers: &mut u64) -> Vec<(Header, Vec<u8>)> {
        let mut frames = Vec::new();
        let mut left = 0;
        for (_, length) in self.rings[usize::from(rx_queue(pair))].completions() {
            let at = BUFFERS + (u64::from(pair) * 32 + *buffers) * 0x4000;
            *buffers += 1;
            let data = self.memory.dump(at, length as usize);
            if left == 0 {
                let header = Header::read_from_bytes(&data[..12]).unwrap();
                left = header.num_buffers;
                frames.push((header, data[12..].to_vec()));
            } else {
                frames.last_mut().unwrap().1.extend(data);
            }
            left -= 1;
        }
        assert_eq!(left, 0, "a frame without its end");
        frames
    }

    fn control(&mut self, class: u8, code: u8, data: &[u8]) -> u8 {
        let queue = self.function.device().control_queue();
        self.poke(SCRATCH, &[&[class, code], data].concat());
        let segments = [(SCRATCH, 2 + data.len() as u32, false), (SCRATCH + 0x2000, 1, true)];
        self.rings[usize::from(queue)].offer(&segments);
        self.notify(queue);
        self.memory.dump(SCRATCH + 0x2000, 1)[0]
    }

    fn passes(&mut self, to: [u8; 6]) -> bool {
        let data = packet(to, OTHER, false, Kind::Udp, b"x");
        self.give(0, 1, 2048);
        self.feed(data);
        let passed = !self.rings[0].completions().is_empty();
        if !passed {
            // The buffer given is still there; a frame for us takes it away.
            let mac = self.function.device().filter.mac();
            self.feed(packet(mac, OTHER, false, Kind::Udp, b"x"));
            self.rings[0].completions();
        }
        passed
    }

    fn config(&mut self, at: usize, size: u8) -> u64 {
        Driver::new(&mut self.function).read(0x2000 + at, size)
    }
}

#[test]
fn the_configuration_says_what_the_machine_gave() {
    let setup = NetConfig { mac: [2, 1, 2, 3, 4, 5], pairs: 8, mtu: 9000, ..NetConfig::default() };
    let mut rig = Rig::with(PLAIN, setup, NetPipe::new());
    assert_eq!(rig.config(config::MAC, 4), 0x0302_0102);
    assert_eq!(rig.config(config::STATUS, 2), 1);
    assert_eq!(rig.config(config::MAX_VIRTQUEUE_PAIRS, 2), 8);
    assert_eq!(rig.config(config::MTU, 2), 9000);
    assert_eq!(rig.function.device().queue_count(), 17);
}

#[test]
fn frames_go_out_and_come_in() {
    let mut rig = Rig::new(PLAIN);
    let data = packet(OTHER, rig.mac, false, Kind::Udp, b"out");
    rig.send(0, Header::default(), &data);
    assert_eq!(rig.net.take(), [Frame::plain(data)]);
    rig.give(0, 4, 2048);
    rig.msi.take();
    let data = packet(rig.mac, OTHER, false, Kind::Udp, b"in");
    rig.feed(data.clone());
    assert_eq!(rig.received(0, &mut 0), [(Header { num_buffers: 1, ..Header::default() }, data)]);
    assert_eq!(rig.msi.take().first().map(|m| m.0), Some(1), "the receive queue's vector");
}

#[test]
fn large_frames_take_several_buffers_all_at_once() {
    let mut rig = Rig::new(PLAIN | feature::GUEST_CSUM | feature::GUEST_TSO4);
    assert_eq!(rig.net.accepted(), Some(Offloads::CHECKSUM | Offloads::TSO4));
    let mut used = 0;
    rig.give(0, 4, 1526);
    let data = packet(rig.mac, OTHER, false, Kind::Tcp, &[7; 9000]);
    rig.feed(data.clone());
    assert!(rig.received(0, &mut used).is_empty(), "four buffers are too few");
    for index in 4..8 {
        rig.rings[0].offer(&[(BUFFERS + index * 0x4000, 1526, true)]);
    }
    rig.notify(0);
    let frames = rig.received(0, &mut used);
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0].0.num_buffers, &frames[0].1), (6, &data));
}

#[test]
fn without_mergeable_buffers_what_does_not_fit_is_dropped() {
    let mut rig = Rig::new(feature::MAC);
    rig.give(0, 2, 1000);
    rig.feed(packet(rig.mac, OTHER, false, Kind::Udp, &[1; 1200]));
    rig.feed(packet(rig.mac, OTHER, false, Kind::Udp, &[2; 500]));
    let frames = rig.received(0, &mut 0);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].1[42], 2);
}

#[test]
fn frames_wait_for_buffers_and_then_with_the_back_end() {
    let mut rig = Rig::new(PLAIN);
    for _ in 0..200 {
        let data = packet(rig.mac, OTHER, false, Kind::Udp, &[1; 100]);
        rig.net.feed(Frame::plain(data));
    }
    while rig.function.input_ready(&Origin::default()) {}
    assert_eq!(rig.net.unread(), 200 - BACKLOG - 1);
    let mut got = 0;
    while got < 200 {
        let before = got;
        rig.give(0, 32, 2048);
        got += rig.received(0, &mut 0).len();
        assert!(got > before, "buffers bring frames without another call");
    }
}

#[test]
fn only_what_was_negotiated_is_done_for_the_driver() {
    let data = packet(OTHER, [2; 6], false, Kind::Tcp, &[1; 3000]);
    let large = Header {
        flags: header_flag::NEEDS_CSUM,
        gso_type: gso::TCPV4,
        gso_size: 1000,
        csum_start: 34,
        csum_offset: 16,
        ..Header::default()
    };
    let mut rig = Rig::new(PLAIN);
    rig.send(0, large, &data);
    assert!(rig.net.take().is_empty());
    let mut rig = Rig::new(PLAIN | feature::CSUM | feature::HOST_TSO4);
    rig.send(0, large, &data);
    assert_eq!(rig.net.take(), [Frame { header: large, data: data.clone() }]);
    let pipe = NetPipe::with_offloads(Offloads::empty());
    let setup = NetConfig::default();
    let mut rig = Rig::with(PLAIN | feature::CSUM | feature::HOST_TSO4, setup, pipe);
    rig.send(0, large, &data);
    assert_eq!(rig.net.take().len(), 3, "segmented here, where the back end cannot");
}

#[test]
fn flows_come_back_on_the_pair_they_were_sent_on() {
    let several = PLAIN | feature::CTRL_VQ | feature::MQ;
    let mut rig = Rig::new(several);
    assert_eq!(rig.control(command::CLASS_MQ, command::MQ_VQ_PAIRS_SET, &2u16.to_le_bytes()), 0);
    assert_eq!(rig.control(command::CLASS_MQ, command::MQ_VQ_PAIRS_SET, &3u16.to_le_bytes()), 1);
    rig.give(0, 2, 2048);
    rig.give(1, 2, 2048);
    let out = packet(OTHER, rig.mac, false, Kind::Udp, b"flow");
    rig.send(1, Header::default(), &out);
    // The answer: addresses and ports the other way round.
    let mut back = packet(rig.mac, OTHER, false, Kind::Udp, b"flow");
    back[26..34]
        .copy_from_slice(&[out[30], out[31], out[32], out[33], out[26], out[27], out[28], out[29]]);
    back[34..38].copy_from_slice(&[out[36], out[37], out[34], out[35]]);
    rig.feed(back.clone());
    assert_eq!(rig.received(0, &mut 0).len(), 0);
    assert_eq!(rig.received(1, &mut 0)[0].1, back);
}

#[test]
fn the_control_queue_sets_the_filter() {
    let control = feature::CTRL_VQ | feature::CTRL_RX | feature::CTRL_RX_EXTRA;
    let mut rig = Rig::new(PLAIN | control | feature::CTRL_MAC_ADDR);
    let mac = rig.mac;
    let group = [1, 0, 0x5E, 0, 0, 9];
    assert!(rig.passes(mac) && rig.passes([0xFF; 6]) && rig.passes(group));
    assert!(!rig.passes(OTHER));
    let table = |addresses: &[[u8; 6]]| {
        [&(addresses.len() as u32).to_le_bytes()[..], &addresses.concat()].concat()
    };
    let tables = [table(&[OTHER]), table(&[[1, 0, 0x5E, 0, 0, 1]])].concat();
    assert_eq!(rig.control(command::CLASS_MAC, command::MAC_TABLE_SET, &tables), command::OK);
    assert!(rig.passes(OTHER) && !rig.passes(group));
    assert_eq!(rig.control(command::CLASS_RX, command::RX_ALLMULTI, &[1]), command::OK);
    assert!(rig.passes(group));
    assert_eq!(rig.control(command::CLASS_RX, command::RX_NOBCAST, &[1]), command::OK);
    assert!(!rig.passes([0xFF; 6]));
    assert_eq!(rig.control(command::CLASS_RX, command::RX_PROMISC, &[1]), command::OK);
    assert!(rig.passes([0xFF; 6]) && rig.passes([4; 6]));
    let new = [2, 9, 9, 9, 9, 9];
    assert_eq!(rig.control(command::CLASS_RX, command::RX_PROMISC, &[0]), command::OK);
    assert_eq!(rig.control(command::CLASS_MAC, command::MAC_ADDR_SET, &new), command::OK);
    assert!(rig.passes(new));
    // Not whole, not known, not negotiated.
    assert_eq!(rig.control(command::CLASS_MAC, command::MAC_TABLE_SET, &[255; 4]), command::ERR);
    assert_eq!(rig.control(command::CLASS_RX, 77, &[1]), command::ERR);
    assert_eq!(rig.control(command::CLASS_VLAN, command::VLAN_ADD, &[1, 0]), command::ERR);
}

/// Until the driver has said something else, as QEMU's tests expect it.
#[test]
fn a_machine_may_have_it_begin_promiscuous() {
    let setup = NetConfig { promiscuous: true, ..NetConfig::default() };
    let mut rig = Rig::with(PLAIN | feature::CTRL_VQ | feature::CTRL_RX, setup, NetPipe::new());
    assert!(rig.passes(OTHER));
    assert_eq!(rig.control(command::CLASS_RX, command::RX_PROMISC, &[0]), command::OK);
    assert!(!rig.passes(OTHER));
}

#[test]
fn vlans_pass_when_they_were_added() {
    let mut rig = Rig::new(PLAIN | feature::CTRL_VQ | feature::CTRL_VLAN);
    let mut tagged = packet(rig.mac, OTHER, false, Kind::Udp, b"x");
    tagged.splice(12..12, [0x81, 0, 0, 42]);
    rig.give(0, 4, 2048);
    rig.feed(tagged.clone());
    assert!(rig.received(0, &mut 0).is_empty());
    assert_eq!(rig.control(command::CLASS_VLAN, command::VLAN_ADD, &[42, 0]), command::OK);
    rig.feed(tagged.clone());
    assert_eq!(rig.received(0, &mut 0).len(), 1);
    assert_eq!(rig.control(command::CLASS_VLAN, command::VLAN_DEL, &[42, 0]), command::OK);
    rig.feed(tagged);
    assert!(rig.received(0, &mut 1).is_empty());
}

#[test]
fn the_link_goes_down_and_comes_back_with_an_announcement() {
    let mut rig = Rig::new(PLAIN | feature::CTRL_VQ | feature::GUEST_ANNOUNCE);
    rig.msi.take();
    rig.function.set_link(false, &Origin::default());
    assert_eq!(rig.msi.take().first().map(|m| m.0), Some(0), "the configuration's vector");
    assert_eq!(rig.config(config::STATUS, 2), 0);
    let data = packet(OTHER, rig.mac, false, Kind::Udp, b"lost");
    rig.send(0, Header::default(), &data);
    assert!(rig.net.take().is_empty());
    rig.function.set_link(true, &Origin::default());
    assert_eq!(rig.config(config::STATUS, 2), 3);
    assert_eq!(rig.control(command::CLASS_ANNOUNCE, command::ANNOUNCE_ACK, &[]), command::OK);
    assert_eq!(rig.config(config::STATUS, 2), 1);
}

#[test]
fn a_slow_network_holds_frames_back_and_loses_none() {
    let mut rig = Rig::new(PLAIN);
    rig.net.limit(Some(1));
    let data = packet(OTHER, rig.mac, false, Kind::Udp, b"x");
    rig.poke(SCRATCH, Header::default().as_bytes());
    rig.poke(SCRATCH + 12, &data);
    for _ in 0..3 {
        rig.rings[1].offer(&[(SCRATCH, 12 + data.len() as u32, false)]);
    }
    rig.notify(1);
    assert!(rig.rings[1].completions().len() < 3);
    rig.net.limit(None);
    rig.function.output_ready(&Origin::default());
    assert_eq!(rig.net.take().len(), 3);
}

#[test]
fn guest_offloads_can_change_while_running() {
    let offloads = feature::GUEST_CSUM | feature::GUEST_TSO4;
    let mut rig = Rig::new(PLAIN | feature::CTRL_VQ | feature::CTRL_GUEST_OFFLOADS | offloads);
    let set = |rig: &mut Rig, value: u64| {
        rig.control(
            command::CLASS_GUEST_OFFLOADS,
            command::GUEST_OFFLOADS_SET,
            &value.to_le_bytes(),
        )
    };
    assert_eq!(set(&mut rig, feature::GUEST_CSUM), command::OK);
    assert_eq!(rig.net.accepted(), Some(Offloads::CHECKSUM));
    assert_eq!(set(&mut rig, feature::GUEST_TSO6), command::ERR, "was not negotiated");
}

#[test]
fn a_chain_without_a_header_breaks_the_queue() {
    let mut rig = Rig::new(PLAIN);
    rig.rings[1].offer(&[(SCRATCH, 5, false)]);
    assert!(Driver::new(&mut rig.function).notify(1).error.is_some());
    rig.rings[1].offer(&[(SCRATCH, 50, false)]);
    assert!(rig.function.serve(1, &Origin::default()).is_err(), "until it is reset");
}
