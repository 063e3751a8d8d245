//! Loss recovery for smoltcp's TCP, which sends one segment again after three duplicate acknowledgements
//! and for everything else waits a second at least. This stands between a stack and its link, sees what
//! goes out and what comes in, keeps copies of what is not acknowledged, and sends again what is lost:
//!
//! ```text
//! stack ──sent()──> copy kept until acknowledged ──> link
//! stack <──Deliver/Swallow── received() <── link      acknowledgements, SACK blocks
//!                              └─> holes below what is SACKed, again      (RFC 6675, simplified)
//! due(), expire(): nothing was acknowledged for about two round trips: the first segment again
//!                  (a tail loss probe, RFC 8985 7), then two more for each one acknowledged
//! ```
//! The stack's congestion control learns of a loss as before, by the first three duplicate
//! acknowledgements of an episode; further ones are swallowed, so that it reduces its window once.
//! Its own time-out stays the last resort: eight probes in a row without an answer end the help.
//!
//! [`part_end`] makes up for another weakness of smoltcp's receiver.
//!
//! Bounds: [`FLOWS_MAX`] connections, [`HELD_MAX`] bytes of copies; beyond that a connection is the
//! stack's alone. What comes from the wire is only compared, never trusted to be a position in memory.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod flow;
mod wire;

#[cfg(test)]
mod tests;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use smoltcp::time::Instant;
use smoltcp::wire::IpAddress;

use flow::Flow;
use wire::Segment;

pub use wire::part_end;

/// Connections at a time.
pub const FLOWS_MAX: usize = 512;
/// Bytes of copies, of one connection and of all.
pub const FLOW_HELD_MAX: usize = 1 << 20;
pub const HELD_MAX: usize = 16 << 20;

/// A connection as this side sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    local: (IpAddress, u16),
    remote: (IpAddress, u16),
}

/// What the stack should do with a received packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Deliver,
    /// It says nothing that the stack should hear.
    Swallow,
}

/// All connections over one link.
#[derive(Debug)]
pub struct Recovery {
    /// Longest IP packet.
    mtu: usize,
    flows: BTreeMap<Key, Flow>,
    held: usize,
    /// Segments sent again.
    pub resent: u64,
}

impl Recovery {
    /// `mtu`: bytes of the longest IP packet.
    pub fn new(mtu: usize) -> Self {
        Self { mtu, flows: BTreeMap::new(), held: 0, resent: 0 }
    }

    /// Bytes of copies.
    pub fn held(&self) -> usize {
        self.held
    }

    /// A frame goes out whose IP packet begins at `at`; checksums need not be there yet.
    pub fn sent(&mut self, now: Instant, frame: &[u8], at: usize) {
        let Some(segment) = Segment::parse(frame, at) else { return };
        let key = Key { local: segment.source, remote: segment.destination };
        if segment.rst {
            return self.forget(&key);
        }
        if !self.flows.contains_key(&key) {
            // A bare acknowledgement is nothing that could be lost.
            if !segment.syn && segment.payload.is_empty() || !self.make_room() {
                return;
            }
            self.flows.insert(key, Flow::new(segment.seq, segment.is_v6()));
        }
        let Some(flow) = self.flows.get_mut(&key) else { return };
        let before = flow.held();
        let kept = flow.sent(now, frame, &segment);
        let after = flow.held();
        self.held = self.held + after - before;
        if !kept || after > FLOW_HELD_MAX || self.held > HELD_MAX {
            self.forget(&key);
        }
    }

    /// A frame came in, its checksums found right. What is to be sent again is added to `again`, as
    /// whole frames with their checksums.
    pub fn received(
        &mut self,
        now: Instant,
        frame: &[u8],
        at: usize,
        again: &mut Vec<Vec<u8>>,
    ) -> Verdict {
        let Some(segment) = Segment::parse(frame, at) else { return Verdict::Deliver };
        let key = Key { local: segment.destination, remote: segment.source };
        if segment.rst {
            self.forget(&key);
            return Verdict::Deliver;
        }
        if segment.syn && !self.flows.contains_key(&key) && self.make_room() {
            // Its size of segments is kept for the answer.
            self.flows.insert(key, Flow::new(0, segment.is_v6()));
        }
        let Some(flow) = self.flows.get_mut(&key) else { return Verdict::Deliver };
        let (before, count) = (flow.held(), again.len());
        let verdict = flow.received(now, &segment, self.mtu, again);
        self.held = self.held + flow.held() - before;
        self.resent += (again.len() - count) as u64;
        verdict
    }

    /// When [`expire`](Self::expire) has something to do.
    pub fn due(&self) -> Option<Instant> {
        self.flows.values().filter_map(|flow| flow.deadline()).min()
    }

    /// Adds what is to be sent again because nobody has answered for too long.
    pub fn expire(&mut self, now: Instant, again: &mut Vec<Vec<u8>>) {
        let count = again.len();
        for flow in self.flows.values_mut() {
            if flow.deadline().is_some_and(|at| at <= now) {
                flow.probe(now, self.mtu, again);
            }
        }
        self.resent += (again.len() - count) as u64;
    }

    fn forget(&mut self, key: &Key) {
        if let Some(flow) = self.flows.remove(key) {
            self.held -= flow.held();
        }
    }

    /// Whether one more connection can be kept: those with nothing to be acknowledged make room.
    fn make_room(&mut self) -> bool {
        if self.flows.len() >= FLOWS_MAX {
            self.flows.retain(|_, flow| flow.is_outstanding());
        }
        self.flows.len() < FLOWS_MAX
    }
}
