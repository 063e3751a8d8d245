//! Frames that are lost, late, come twice, overtake each other, arrive with a wrong bit, or do not
//! move at all.

use super::function::DELAY;
use super::later::What;
use super::plan::{STUCK, Site};
use super::rule::{Action, Direction, Point, Protocol, Span};
use crate::net::packet::{self, Ip, PROTOCOL_TCP, PROTOCOL_UDP};
use crate::net::{Frame, NetBackend, Offloads, Sent};
use std::collections::VecDeque;
use std::time::Duration;

/// Bytes of frames held in one direction; beyond them rules let pass.
const HELD_MAX: usize = 4 << 20;
const PROTOCOL_ICMP: u8 = 1;
const PROTOCOL_ICMPV6: u8 = 58;

/// Whether a frame is of this protocol, with one of these ports.
pub(super) fn is(protocol: Option<Protocol>, port: Option<Span>, frame: &[u8]) -> bool {
    if protocol.is_none() && port.is_none() {
        return true;
    }
    let ip = || Ip::parse(frame).or_else(|| Ip::parse_whole(frame));
    let upper = |wanted: &[u8]| ip().is_some_and(|ip| wanted.contains(&ip.protocol));
    let fits = protocol.is_none_or(|protocol| match protocol {
        Protocol::Arp => packet::network_layer(frame).1 == packet::TYPE_ARP,
        Protocol::Ipv4 => packet::network_layer(frame).1 == packet::TYPE_IPV4,
        Protocol::Ipv6 => packet::network_layer(frame).1 == packet::TYPE_IPV6,
        Protocol::Icmp => upper(&[PROTOCOL_ICMP, PROTOCOL_ICMPV6]),
        Protocol::Tcp => upper(&[PROTOCOL_TCP]),
        Protocol::Udp => upper(&[PROTOCOL_UDP]),
    });
    fits && port.is_none_or(|span| {
        let ports = ip().and_then(|ip| ip.ports(frame));
        ports.is_some_and(|both| {
            span.contains(u64::from(both >> 16)) || span.contains(u64::from(both & 0xFFFF))
        })
    })
}

/// Frames of one direction that wait.
#[derive(Default)]
struct Wire {
    held: VecDeque<(Duration, Frame)>,
    /// To go before anything else.
    next: VecDeque<Frame>,
    /// Waits to be overtaken, at the latest at that time.
    behind: Option<(Duration, Frame)>,
}

impl Wire {
    fn is_full(&self) -> bool {
        self.held.iter().map(|(_, frame)| frame.data.len()).sum::<usize>() >= HELD_MAX
    }

    /// Moves what is due.
    fn free(&mut self, now: Duration) {
        while let Some(at) = self.held.iter().position(|(at, _)| *at <= now) {
            self.next.extend(self.held.remove(at).map(|(_, frame)| frame));
        }
        if self.behind.as_ref().is_some_and(|(at, _)| *at <= now) {
            self.overtake();
        }
    }

    fn overtake(&mut self) {
        self.next.extend(self.behind.take().map(|(_, frame)| frame));
    }
}

/// A back end behind a wire with faults.
pub struct FaultNet<B> {
    inner: B,
    site: Site,
    outgoing: Wire,
    incoming: Wire,
}

impl<B: NetBackend> FaultNet<B> {
    pub fn new(inner: B, site: Site) -> Self {
        Self { inner, site, outgoing: Wire::default(), incoming: Wire::default() }
    }

    fn is_stuck(&self, sent: bool) -> bool {
        let faults = &self.site.faults;
        let what = What::Frames { sent };
        faults.watches(STUCK) && faults.stuck(&self.site.names, &what).is_some()
    }

    /// Puts what becomes of a frame on its wire.
    fn pass(&mut self, direction: Direction, mut frame: Frame) {
        let now = self.site.faults.clock.monotonic();
        let hit = self.site.decide(&Point::Packet { direction, frame: &frame.data });
        let sent = direction == Direction::Out;
        let wire = if sent { &mut self.outgoing } else { &mut self.incoming };
        let Some(hit) = hit.filter(|_| !wire.is_full()) else {
            wire.next.push_back(frame);
            wire.overtake();
            return;
        };
        let at = now + hit.time.unwrap_or(DELAY);
        match hit.action {
            Action::Drop => {}
            Action::Duplicate => wire.next.extend([frame.clone(), frame]),
            Action::Corrupt => {
                let bit = hit.random % (8 * frame.data.len().max(1) as u64);
                if let Some(byte) = frame.data.get_mut((bit / 8) as usize) {
                    *byte ^= 1 << (bit % 8);
                }
                wire.next.push_back(frame);
            }
            Action::Delay => {
                wire.held.push_back((at, frame));
                self.site.wake(at);
            }
            Action::Reorder => {
                wire.overtake();
                wire.behind = Some((at, frame));
                self.site.wake(at);
            }
            Action::Stick => {
                wire.next.push_back(frame);
                self.site.faults.stick(&self.site, What::Frames { sent }, &hit);
            }
            _ => wire.next.push_back(frame),
        }
    }

    /// Hands what may go to the back end.
    fn flush(&mut self) -> Sent {
        if self.is_stuck(true) {
            return Sent::Later;
        }
        self.outgoing.free(self.site.faults.clock.monotonic());
        while let Some(frame) = self.outgoing.next.pop_front() {
            if self.inner.send(&frame) == Sent::Later {
                self.outgoing.next.push_front(frame);
                return Sent::Later;
            }
        }
        Sent::Done
    }
}

impl<B: NetBackend> NetBackend for FaultNet<B> {
    fn send(&mut self, frame: &Frame) -> Sent {
        if self.site.is_gone() {
            return Sent::Done;
        }
        if self.flush() == Sent::Later {
            return Sent::Later;
        }
        self.pass(Direction::Out, frame.clone());
        // It is with us now, whether the back end takes it or not.
        self.flush();
        Sent::Done
    }

    fn receive(&mut self, frame: &mut Frame) -> bool {
        // The machine calls when something held back is due, too.
        self.flush();
        if self.is_stuck(false) || self.site.is_gone() {
            return false;
        }
        loop {
            self.incoming.free(self.site.faults.clock.monotonic());
            if let Some(next) = self.incoming.next.pop_front() {
                *frame = next;
                return true;
            }
            let mut next = Frame::default();
            if !self.inner.receive(&mut next) {
                return false;
            }
            self.pass(Direction::In, next);
            if self.is_stuck(false) {
                return false;
            }
        }
    }

    fn offloads(&self) -> Offloads {
        self.inner.offloads()
    }

    fn accept(&mut self, offloads: Offloads) {
        self.inner.accept(offloads);
    }
}
