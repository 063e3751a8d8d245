//! A sender of numbered bytes, its wire, and an other side that says what it has.

use std::vec;
use std::vec::Vec;

extern crate std;

use proptest::prelude::*;
use smoltcp::phy::ChecksumCapabilities;
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{
    IpAddress, IpProtocol, IpRepr, Ipv4Address, Ipv4Packet, Ipv4Repr, TcpControl, TcpPacket,
    TcpRepr, TcpSeqNumber,
};

use crate::wire::Segment;
use crate::{FLOWS_MAX, HELD_MAX, Recovery, Verdict, part_end};

const OURS: Ipv4Address = Ipv4Address::new(10, 0, 0, 1);
const THEIRS: Ipv4Address = Ipv4Address::new(10, 0, 0, 2);
/// As an Ethernet header.
const FRONT: usize = 14;
const MSS: usize = 1000;

fn frame(outgoing: bool, tcp: &TcpRepr<'_>) -> Vec<u8> {
    let (from, to) = if outgoing { (OURS, THEIRS) } else { (THEIRS, OURS) };
    let ip = Ipv4Repr {
        src_addr: from,
        dst_addr: to,
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let mut frame = vec![0xEE; FRONT + ip.buffer_len() + tcp.buffer_len()];
    let caps = ChecksumCapabilities::default();
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut frame[FRONT..]), &caps);
    let ip = IpRepr::Ipv4(ip);
    tcp.emit(
        &mut TcpPacket::new_unchecked(&mut frame[FRONT + 20..]),
        &ip.src_addr(),
        &ip.dst_addr(),
        &caps,
    );
    frame
}

fn tcp(outgoing: bool, seq: u32, ack: u32, payload: &[u8]) -> TcpRepr<'_> {
    TcpRepr {
        src_port: if outgoing { 1000 } else { 80 },
        dst_port: if outgoing { 80 } else { 1000 },
        control: TcpControl::Psh,
        seq_number: TcpSeqNumber(seq as i32),
        ack_number: Some(TcpSeqNumber(ack as i32)),
        window_len: 5000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload,
    }
}

struct World {
    recovery: Recovery,
    now: Instant,
    start: u32,
}

impl World {
    /// A connection whose first byte has the number `start`.
    fn new(start: u32) -> Self {
        let mut world =
            Self { recovery: Recovery::new(1500), now: Instant::from_millis(1000), start };
        let mut syn = tcp(true, start.wrapping_sub(1), 0, &[]);
        (syn.control, syn.ack_number) = (TcpControl::Syn, None);
        world.recovery.sent(world.now, &frame(true, &syn), FRONT);
        let mut answer = tcp(false, 9, start, &[]);
        (answer.control, answer.max_seg_size) = (TcpControl::Syn, Some(MSS as u16));
        assert_eq!(world.hear(&answer), (Verdict::Deliver, vec![]));
        world
    }

    fn seq(&self, segment: usize) -> u32 {
        self.start.wrapping_add((segment * MSS) as u32)
    }

    /// Segments by number, all of the same size.
    fn send(&mut self, segments: core::ops::Range<usize>) {
        for segment in segments {
            let payload = vec![segment as u8; MSS];
            let sent = frame(true, &tcp(true, self.seq(segment), 10, &payload));
            self.recovery.sent(self.now, &sent, FRONT);
        }
    }

    fn hear(&mut self, repr: &TcpRepr<'_>) -> (Verdict, Vec<Vec<u8>>) {
        let mut again = Vec::new();
        let verdict = self.recovery.received(self.now, &frame(false, repr), FRONT, &mut again);
        (verdict, again)
    }

    /// `ack`: all segments below arrived; `have`: and these.
    fn ack(&mut self, ack: usize, have: Option<core::ops::Range<usize>>) -> (Verdict, Vec<usize>) {
        let mut repr = tcp(false, 10, self.seq(ack), &[]);
        repr.sack_ranges[0] = have.map(|have| (self.seq(have.start), self.seq(have.end)));
        let (verdict, again) = self.hear(&repr);
        (verdict, self.segments(&again))
    }

    fn expire(&mut self) -> Vec<usize> {
        let mut again = Vec::new();
        self.recovery.expire(self.now, &mut again);
        self.segments(&again)
    }

    /// Which segments frames hold; each must be sound.
    fn segments(&self, frames: &[Vec<u8>]) -> Vec<usize> {
        let number = |frame: &Vec<u8>| {
            assert_eq!(&frame[..FRONT], &[0xEE; FRONT]);
            let ip = Ipv4Packet::new_checked(&frame[FRONT..]).unwrap();
            assert!(ip.verify_checksum());
            assert_eq!(usize::from(ip.total_len()), frame.len() - FRONT);
            let tcp = TcpPacket::new_checked(ip.payload()).unwrap();
            assert!(tcp.verify_checksum(&IpAddress::Ipv4(OURS), &IpAddress::Ipv4(THEIRS)));
            let at = (tcp.seq_number().0 as u32).wrapping_sub(self.start) as usize;
            assert_eq!((at % MSS, tcp.payload().len()), (0, MSS));
            assert!(tcp.payload().iter().all(|byte| *byte == (at / MSS) as u8));
            at / MSS
        };
        frames.iter().map(number).collect()
    }
}

#[test]
fn holes_are_filled_when_sack_shows_them() {
    // Around the wrap of sequence numbers.
    for start in [1, u32::MAX - 2500] {
        let mut world = World::new(start);
        world.send(0..10);
        assert_eq!(world.recovery.held(), 10 * MSS);
        // 1, 3 and 4 are lost.
        assert_eq!(world.ack(1, None), (Verdict::Deliver, vec![]));
        assert_eq!(world.ack(1, Some(2..3)), (Verdict::Deliver, vec![]));
        assert_eq!(world.ack(1, Some(5..6)), (Verdict::Deliver, vec![]));
        assert_eq!(world.ack(1, Some(5..7)), (Verdict::Deliver, vec![1, 3, 4]));
        // The stack hears no more of the same; nothing is sent twice.
        assert_eq!(world.ack(1, Some(5..8)), (Verdict::Swallow, vec![]));
        assert_eq!(world.ack(3, Some(5..10)), (Verdict::Deliver, vec![]));
        assert_eq!(world.ack(10, None), (Verdict::Deliver, vec![]));
        assert_eq!((world.recovery.held(), world.recovery.due()), (0, None));
        assert_eq!(world.recovery.resent, 3);
    }
}

#[test]
fn without_sack_the_first_goes_again() {
    let mut world = World::new(1);
    world.send(0..6);
    for _ in 0..3 {
        assert_eq!(world.ack(0, None).1, []);
    }
    assert_eq!(world.ack(0, None).1, [0]);
    assert_eq!(world.ack(0, None), (Verdict::Swallow, vec![]));
    // Partly acknowledged: what is in front now is lost, too.
    assert_eq!(world.ack(2, None), (Verdict::Deliver, vec![2]));
    assert_eq!(world.ack(6, None), (Verdict::Deliver, vec![]));
}

#[test]
fn silence_is_probed_and_the_answer_doubles_what_follows() {
    let mut world = World::new(1);
    world.send(0..1);
    world.now += Duration::from_millis(4);
    world.ack(1, None);
    world.send(1..20);
    let due = world.recovery.due().expect("a probe");
    assert!(due - world.now < Duration::from_millis(40), "{}", due - world.now);
    assert_eq!(world.expire(), []);
    world.now = due;
    assert_eq!(world.expire(), [1]);
    assert_eq!(world.ack(2, None).1, [2, 3]);
    assert_eq!(world.ack(3, None).1, [4, 5]);
    assert_eq!(world.ack(4, None).1, [6, 7]);
    // Nobody there: ever longer apart, then no more.
    let mut waits = Vec::new();
    while let Some(due) = world.recovery.due() {
        waits.push(due - world.now);
        world.now = due;
        world.expire();
    }
    assert_eq!(waits.len(), 9);
    assert!(waits.is_sorted() && waits[7] >= Duration::from_millis(1000), "{waits:?}");
}

#[test]
fn a_lost_end_is_sent_again() {
    let mut world = World::new(1);
    let mut fin = tcp(true, 1, 10, &[]);
    fin.control = TcpControl::Fin;
    world.recovery.sent(world.now, &frame(true, &fin), FRONT);
    world.now = world.recovery.due().expect("a probe");
    let mut again = Vec::new();
    world.recovery.expire(world.now, &mut again);
    let sent = TcpPacket::new_checked(&again[0][FRONT + 20..]).unwrap();
    assert!(sent.fin() && sent.seq_number().0 == 1);
    world.hear(&tcp(false, 10, 2, &[]));
    assert_eq!(world.recovery.due(), None);
}

#[test]
fn a_reset_forgets() {
    let mut world = World::new(1);
    world.send(0..5);
    let mut reset = tcp(false, 10, 1, &[]);
    reset.control = TcpControl::Rst;
    world.hear(&reset);
    assert_eq!((world.recovery.held(), world.recovery.due()), (0, None));
}

#[test]
fn memory_has_a_bound() {
    let mut recovery = Recovery::new(1500);
    let payload = vec![0; 1400];
    for port in 0..2000u16 {
        for part in 0..100 {
            let mut data = tcp(true, part * 1400, 1, &payload);
            data.src_port = port;
            recovery.sent(Instant::ZERO, &frame(true, &data), FRONT);
        }
        assert!(recovery.held() <= HELD_MAX);
        assert!(recovery.flows.len() <= FLOWS_MAX);
    }
}

proptest! {
    /// Acknowledgements and ranges of any kind, as somebody hostile would send them.
    #[test]
    fn hostile_acknowledgements(
        steps in prop::collection::vec((0u8..4, any::<u32>(), any::<u32>(), 0u32..30_000), 1..200),
    ) {
        let mut world = World::new(u32::MAX - 5000);
        let mut next = 0;
        for (what, a, b, near) in steps {
            match what {
                0 => {
                    world.send(next..next + 2);
                    next += 2;
                }
                1 => {
                    let mut repr = tcp(false, 10, world.start.wrapping_add(near), &[]);
                    let base = world.start;
                    repr.sack_ranges = [
                        Some((a, b)),
                        Some((base.wrapping_add(a % 40_000), base.wrapping_add(b % 40_000))),
                        None,
                    ];
                    let (_, again) = world.hear(&repr);
                    prop_assert!(again.len() <= 4);
                }
                2 => {
                    world.now += Duration::from_millis(u64::from(a % 500));
                    let mut again = Vec::new();
                    world.recovery.expire(world.now, &mut again);
                    prop_assert!(again.len() <= 1);
                }
                _ => {
                    world.hear(&tcp(false, a, b, &[1, 2, 3]));
                }
            }
            prop_assert!(world.recovery.held() <= next * MSS);
        }
    }

    #[test]
    fn hostile_frames(frames in prop::collection::vec(
        prop::collection::vec(any::<u8>(), 0..120), 1..50
    )) {
        let mut recovery = Recovery::new(1500);
        for mut bytes in frames {
            for first in [0x45, 0x60] {
                if let Some(byte) = bytes.get_mut(FRONT) {
                    *byte = first;
                }
                recovery.sent(Instant::ZERO, &bytes, FRONT);
                recovery.received(Instant::ZERO, &bytes, FRONT, &mut Vec::new());
                recovery.expire(Instant::from_millis(10_000), &mut Vec::new());
            }
        }
    }
}

#[test]
fn an_end_with_bytes_becomes_two_segments() {
    let mut with = tcp(false, u32::MAX - 1, 10, b"the last bytes");
    with.control = TcpControl::Fin;
    let mut first = frame(false, &with);
    // An Ethernet frame that was filled up.
    first.extend([0; 3]);
    let len = first.len();
    let end = part_end(&mut first, FRONT).expect("two segments");
    assert_eq!(first.len(), len);
    let (first, end) = (Segment::parse(&first, FRONT), Segment::parse(&end, FRONT));
    let (first, end) = (first.expect("a segment"), end.expect("a segment"));
    assert_eq!((first.fin, first.payload), (false, &b"the last bytes"[..]));
    assert_eq!((end.fin, end.payload, end.seq), (true, &[][..], 12));
    assert_eq!((end.ack, end.source, end.window), (Some(10), first.source, first.window));
    for (control, payload) in
        [(TcpControl::Fin, &b""[..]), (TcpControl::Psh, b"bytes"), (TcpControl::Rst, b"")]
    {
        let whole = frame(false, &TcpRepr { control, ..tcp(false, 1, 10, payload) });
        let mut same = whole.clone();
        assert_eq!((part_end(&mut same, FRONT), same), (None, whole));
    }
}
