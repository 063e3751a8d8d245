use super::*;
use crate::net::{Frame, NetBackend, Sent};
use crate::testing::net::NetPipe;

struct Bench {
    rig: Rig,
    pipe: NetPipe,
    net: FaultNet<NetPipe>,
}

fn bench(rule: &str) -> Bench {
    let rig = Rig::new(&["e1000.0", "net0"]);
    let pipe = NetPipe::new();
    let net = FaultNet::new(pipe.clone(), rig.site.clone());
    rig.add(rule);
    Bench { rig, pipe, net }
}

/// A UDP packet from port 1000 to `port`, `tag` as its last byte.
fn udp(port: u16, tag: u8) -> Frame {
    let mut data = vec![0; 14 + 20 + 8 + 20];
    data[12..14].copy_from_slice(&[8, 0]);
    data[14] = 0x45;
    data[17] = 48;
    data[23] = 17;
    data[34..36].copy_from_slice(&1000u16.to_be_bytes());
    data[36..38].copy_from_slice(&port.to_be_bytes());
    *data.last_mut().unwrap() = tag;
    Frame::plain(data)
}

fn arp(tag: u8) -> Frame {
    let mut data = vec![0; 42];
    data[12..14].copy_from_slice(&[8, 6]);
    data[41] = tag;
    Frame::plain(data)
}

fn tags(frames: &[Frame]) -> Vec<u8> {
    frames.iter().map(|frame| *frame.data.last().unwrap()).collect()
}

impl Bench {
    fn send(&mut self, frames: impl IntoIterator<Item = Frame>) {
        for frame in frames {
            assert_eq!(self.net.send(&frame), Sent::Done);
        }
    }

    fn sent(&self) -> Vec<u8> {
        tags(&self.pipe.take())
    }

    fn received(&mut self) -> Vec<u8> {
        let mut frames = Vec::new();
        let mut frame = Frame::default();
        while self.net.receive(&mut frame) {
            frames.push(frame.clone());
        }
        tags(&frames)
    }
}

#[test]
fn drop_by_direction_protocol_and_port() {
    let mut b = bench("direction=out,protocol=udp,port=53,action=drop");
    b.send([udp(53, 1), udp(54, 2), arp(3)]);
    assert_eq!(b.sent(), [2, 3]);
    b.pipe.feed(udp(53, 4));
    assert_eq!(b.received(), [4], "the other direction");
    let mut b = bench("protocol=arp,action=drop");
    b.send([udp(53, 1), arp(2)]);
    assert_eq!(b.sent(), [1]);
    let mut b = bench("port=990-1000,length=1-62,action=drop");
    b.send([udp(5, 1), arp(2)]);
    assert_eq!(b.sent(), [2], "the source port counts, too");
}

#[test]
fn delay() {
    let mut b = bench("direction=in,nth=1,action=delay,time=5ms");
    b.pipe.feed(udp(1, 1));
    b.pipe.feed(udp(1, 2));
    assert_eq!(b.received(), [2]);
    b.rig.pass(4 * MS);
    assert!(b.received().is_empty());
    b.rig.pass(MS);
    assert_eq!(b.rig.target.take(), ["ready"]);
    assert_eq!(b.received(), [1]);
    let mut b = bench("direction=out,nth=1,action=delay,time=5ms");
    b.send([udp(1, 1), udp(1, 2)]);
    assert_eq!(b.sent(), [2]);
    b.rig.pass(5 * MS);
    assert!(b.received().is_empty());
    assert_eq!(b.sent(), [1]);
}

#[test]
fn duplicate() {
    let mut b = bench("on=packet,every=2,action=duplicate");
    b.send([udp(1, 1), udp(1, 2), udp(1, 3)]);
    assert_eq!(b.sent(), [1, 2, 2, 3]);
}

#[test]
fn reorder() {
    let mut b = bench("direction=in,nth=2,action=reorder");
    for tag in 1..=3 {
        b.pipe.feed(udp(1, tag));
    }
    assert_eq!(b.received(), [1, 3, 2]);
    let mut b = bench("direction=out,nth=1,action=reorder");
    b.send([udp(1, 1)]);
    assert!(b.sent().is_empty());
    b.rig.pass(100 * MS);
    b.received();
    assert_eq!(b.sent(), [1], "nobody came to overtake it");
}

#[test]
fn corrupt_flips_one_bit() {
    let mut b = bench("direction=out,nth=2,action=corrupt,seed=3");
    b.send([udp(1, 1), udp(1, 1)]);
    let sent = b.pipe.take();
    assert_eq!(sent[0], udp(1, 1));
    let bits = sent[0].data.iter().zip(&sent[1].data).map(|(a, b)| (a ^ b).count_ones());
    assert_eq!(bits.sum::<u32>(), 1);
}

#[test]
fn stick_holds_one_direction() {
    let mut b = bench("direction=out,nth=2,action=stick,time=10ms");
    b.send([udp(1, 1), udp(1, 2)]);
    assert_eq!(b.net.send(&udp(1, 3)), Sent::Later, "frames wait in the guest's ring");
    assert_eq!(b.sent(), [1]);
    b.pipe.feed(udp(1, 4));
    assert_eq!(b.received(), [4]);
    b.rig.pass(10 * MS);
    assert_eq!(b.rig.target.take(), ["ready"]);
    b.send([udp(1, 3)]);
    assert_eq!(b.sent(), [2, 3]);
}

#[test]
fn link_down_pulls_the_cable_and_puts_it_back() {
    let mut b = bench("direction=out,nth=2,action=link-down,time=30ms");
    b.send([udp(1, 1)]);
    b.rig.pass(MS);
    assert!(b.rig.target.take().is_empty());
    b.send([udp(1, 2)]);
    b.rig.pass(MS);
    assert_eq!(b.rig.target.take(), ["link false"]);
    b.rig.pass(30 * MS);
    assert_eq!(b.rig.target.take(), ["link true"]);
    assert_eq!(b.sent(), [1, 2]);
}

#[test]
fn link_down_needs_no_event() {
    let b = bench("device=net0,after=5ms,action=link-down");
    b.rig.pass(4 * MS);
    assert!(b.rig.target.take().is_empty());
    b.rig.pass(MS);
    assert_eq!(b.rig.target.take(), ["link false"]);
    assert_eq!(b.rig.hits(1), (1, 1));
    b.rig.pass(Duration::from_secs(9));
    assert!(b.rig.target.take().is_empty(), "for good");
}

#[test]
fn frames_that_nobody_takes_stay_in_order() {
    let mut b = bench("direction=out,nth=9,action=drop");
    b.pipe.limit(Some(1));
    b.send([udp(1, 1), udp(1, 2)]);
    assert_eq!(b.net.send(&udp(1, 3)), Sent::Later);
    b.pipe.limit(None);
    b.send([udp(1, 3)]);
    assert_eq!(b.sent(), [1, 2, 3]);
}

#[test]
fn unplug_by_a_packet() {
    let mut b = bench("direction=out,nth=2,action=unplug");
    b.send([udp(1, 1)]);
    b.rig.pass(MS);
    assert!(!b.rig.site.is_gone());
    b.net.send(&udp(1, 2));
    b.rig.pass(MS);
    assert!(b.rig.site.is_gone());
}
