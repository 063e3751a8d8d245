//! An E1000's descriptor rings, followed through the trace: how many descriptors the driver has
//! given and the device not yet used. A ring of N takes N - 1 (8254x manual, 3.2.6): with one more
//! the tail passes the head, and the device believes the ring to be empty.
//!
//! The head moves when the device gives a descriptor back. Where the trace has no event for that
//! (`descriptor ... done`), received frames stand for it, one descriptor each; a read of the head
//! register always counts.

use std::collections::HashMap;

use super::trace::Line;
use crate::spec::{ValueError, bad};

/// Bytes of a descriptor.
const DESCRIPTOR: u64 = 16;

#[derive(Debug, Default)]
pub struct Rings {
    by_tail: HashMap<String, Ring>,
    /// The trace tells of descriptors.
    descriptors: bool,
}

#[derive(Clone, Copy, Debug, Default)]
struct Ring {
    size: u64,
    head: u64,
    tail: u64,
    used: bool,
}

impl Rings {
    /// Whether these are tail and head of one ring.
    pub fn pair(tail: &str, head: &str) -> Result<(), ValueError> {
        match (tail, head) {
            ("RDT", "RDH") | ("RDT1", "RDH1") | ("TDT", "TDH") | ("TDT1", "TDH1") => Ok(()),
            _ => bad("knows RDT and RDH, TDT and TDH (RDT1, ... of a second queue)"),
        }
    }

    pub fn used(&self, tail: &str) -> bool {
        self.by_tail.get(tail).is_some_and(|ring| ring.used)
    }

    /// Follows an event of the device; a sentence if the tail passes the head now.
    pub fn line(&mut self, line: &Line<'_>, tail: &str, head: &str) -> Option<String> {
        let length = tail.replacen("DT", "DLEN", 1);
        let descriptors = self.descriptors;
        let ring = self.by_tail.entry(tail.to_owned()).or_default();
        let receive = tail.starts_with('R');
        if let Some((write, _)) = line.access() {
            for (name, value) in line.registers() {
                if name == head {
                    ring.head = value;
                } else if write && name == length {
                    *ring = Ring { size: value / DESCRIPTOR, used: ring.used, ..Ring::default() };
                } else if write && name == "CTRL" && value & (1 << 26) != 0 {
                    // A reset: rings are set up anew.
                    *ring = Ring { used: ring.used, ..Ring::default() };
                } else if write && name == tail {
                    return ring.advance(value, tail, head);
                }
            }
            return None;
        }
        let words: Vec<&str> = line.what.split(' ').take(5).collect();
        match words[..] {
            ["descriptor", direction, queue, index, "done"] => {
                let queue_of_ring = if tail.ends_with('1') { "queue=1" } else { "queue=0" };
                let index = index.strip_prefix("index=").and_then(|index| index.parse().ok());
                if (direction == "rx") == receive && queue == queue_of_ring {
                    ring.head = index.map_or(ring.head, |index: u64| ring.after(index));
                }
                self.descriptors = true;
            }
            ["frame", "received", ..] if receive && !descriptors && !tail.ends_with('1') => {
                ring.head = ring.after(ring.head);
            }
            _ => {}
        }
        None
    }
}

impl Ring {
    fn after(&self, index: u64) -> u64 {
        if self.size == 0 { 0 } else { (index + 1) % self.size }
    }

    fn advance(&mut self, new: u64, tail: &str, head: &str) -> Option<String> {
        let (old, size) = (std::mem::replace(&mut self.tail, new), self.size);
        self.used = true;
        if size == 0 {
            // Set up in another order, or before the trace: nothing is known of the ring.
            return None;
        }
        if new >= size {
            return Some(format!("{tail} = {new} lies beyond the ring of {size}"));
        }
        let distance = |from: u64, to: u64| (to + size - from % size) % size;
        let (given, free) = (distance(old, new), size - 1 - distance(self.head, old));
        (given > free).then(|| {
            format!(
                "{tail} went from {old} to {new} past {head} = {} in a ring of {size}",
                self.head
            )
        })
    }
}
