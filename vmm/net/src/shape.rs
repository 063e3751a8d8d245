//! A link with faults: rate, delay, loss, duplication, reordering, each direction by itself.
//!
//! ```text
//!   frame --> lost? --> rate (when has the one before it gone?) --> delay + jitter --> due
//!                                            reordered: without its delay ----------> due
//! ```
//! Decisions come from a seeded generator: for the same frames they are the same again. A
//! direction holds up to [`QUEUE_BYTES`]; beyond that frames from the guest wait in its own ring and
//! frames to the guest stay with the back end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use xinim_devices::net::{Frame, NetBackend, Offloads, Sent};
use xinim_devices::random::draw;
use xinim_machine::net::Shape;

use crate::Endpoint;
use crate::reactor::Reactor;

/// Frames held back in one direction, in bytes.
pub const QUEUE_BYTES: usize = 4 << 20;
const MILLION: u64 = 1_000_000;
const INNER: u64 = 0;

/// A back end behind a shaped link.
pub struct Shaper {
    inner: Box<dyn Endpoint>,
    reactor: Reactor,
    outgoing: Direction,
    incoming: Direction,
}

impl Shaper {
    pub fn new(inner: Box<dyn Endpoint>, shape: Shape) -> Result<Self, String> {
        let failed = |error| format!("a shaped link cannot be made: {error}");
        let reactor = Reactor::new().map_err(failed)?;
        if let Some(fd) = inner.watch() {
            reactor.add(fd, INNER).map_err(failed)?;
        }
        Ok(Self {
            inner,
            reactor,
            outgoing: Direction::new(shape, shape.seed),
            incoming: Direction::new(shape, !shape.seed),
        })
    }

    /// Passes on what is due towards the host.
    fn flush(&mut self, now: Instant) {
        while let Some(frame) = self.outgoing.due(now) {
            if self.inner.send(&frame) == Sent::Later {
                self.outgoing.give_back(frame, now);
                break;
            }
        }
    }

    fn arm(&mut self) {
        let next = [self.outgoing.next(), self.incoming.next()].into_iter().flatten().min();
        self.reactor.arm(next);
    }
}

impl NetBackend for Shaper {
    fn send(&mut self, frame: &Frame) -> Sent {
        let now = Instant::now();
        self.flush(now);
        if self.outgoing.is_full() {
            self.arm();
            return Sent::Later;
        }
        self.outgoing.put(frame, now);
        self.flush(now);
        self.arm();
        Sent::Done
    }

    fn receive(&mut self, frame: &mut Frame) -> bool {
        self.reactor.poll();
        let now = Instant::now();
        self.flush(now);
        let mut next = Frame::default();
        while !self.incoming.is_full() && self.inner.receive(&mut next) {
            self.incoming.put(&next, now);
        }
        let due = self.incoming.due(now);
        self.arm();
        match due {
            Some(due) => {
                *frame = due;
                true
            }
            None => false,
        }
    }

    fn offloads(&self) -> Offloads {
        // What is lost or delayed are frames as they go over a wire.
        self.inner.offloads() & Offloads::CHECKSUM
    }

    fn accept(&mut self, offloads: Offloads) {
        self.inner.accept(offloads & Offloads::CHECKSUM);
    }
}

impl Endpoint for Shaper {
    fn watch(&self) -> Option<BorrowedFd<'_>> {
        Some(self.reactor.fd())
    }
}

/// One direction.
#[derive(Debug)]
pub struct Direction {
    shape: Shape,
    random: u64,
    /// When the wire is free again.
    free: Option<Instant>,
    held: BinaryHeap<Reverse<Held>>,
    bytes: usize,
    count: u64,
}

#[derive(Debug)]
struct Held {
    due: Instant,
    /// Keeps frames that are due together in order.
    number: u64,
    frame: Frame,
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.due, self.number).cmp(&(other.due, other.number))
    }
}

impl Direction {
    pub fn new(shape: Shape, seed: u64) -> Self {
        let held = BinaryHeap::new();
        Self { shape, random: seed, free: None, held, bytes: 0, count: 0 }
    }

    fn draw(&mut self) -> u64 {
        draw(&mut self.random)
    }

    fn chance(&mut self, in_a_million: u32) -> bool {
        self.draw() % MILLION < u64::from(in_a_million)
    }

    pub fn is_full(&self) -> bool {
        self.bytes >= QUEUE_BYTES
    }

    /// Takes a frame at `now`.
    pub fn put(&mut self, frame: &Frame, now: Instant) {
        // Always drawn, so that each decision depends on its frame's number only.
        let lost = self.chance(self.shape.loss);
        let twice = self.chance(self.shape.duplicate);
        let early = self.chance(self.shape.reorder);
        let jitter = self.draw();
        if lost {
            return;
        }
        let mut sent = now;
        if let Some(rate) = self.shape.rate {
            let bits = 8 * (frame.data.len() as u64 + 24);
            let time = Duration::from_nanos(bits.saturating_mul(1_000_000_000) / rate.max(1));
            sent = self.free.map_or(now, |free| free.max(now)) + time;
            self.free = Some(sent);
        }
        let spread = self.shape.jitter.as_nanos() as u64;
        let jitter = Duration::from_nanos(if spread == 0 { 0 } else { jitter % spread });
        let due = if early { sent } else { sent + self.shape.delay + jitter };
        for _ in 0..if twice { 2 } else { 1 } {
            self.hold(frame.clone(), due);
        }
    }

    fn hold(&mut self, frame: Frame, due: Instant) {
        self.bytes += frame.data.len();
        self.count += 1;
        self.held.push(Reverse(Held { due, number: self.count, frame }));
    }

    /// The next frame that is due at `now`.
    pub fn due(&mut self, now: Instant) -> Option<Frame> {
        if self.next()? > now {
            return None;
        }
        let Reverse(held) = self.held.pop()?;
        self.bytes -= held.frame.data.len();
        Some(held.frame)
    }

    /// A frame that nobody took: it stays the first.
    fn give_back(&mut self, frame: Frame, now: Instant) {
        self.bytes += frame.data.len();
        self.held.push(Reverse(Held { due: now, number: 0, frame }));
    }

    /// When the next frame is due.
    pub fn next(&self) -> Option<Instant> {
        self.held.peek().map(|Reverse(held)| held.due)
    }
}

#[cfg(test)]
#[path = "shape_tests.rs"]
mod tests;
