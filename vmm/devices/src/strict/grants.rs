//! Whether a device moves data only where its driver was granted memory, as the guest's kernel tells.
//!
//! ```text
//!   grants, revocations  (a millisecond late, with their own times) --+
//!   transfers            (at once) --> covered now? --no--> waiting --+--> settle(until) --> outside
//! ```
//! The guest's events are read after they happened, so a transfer that no grant covers waits until
//! the grants of its time are known. Times of the two sides differ by some microseconds, and a grant
//! counts [`SLACK_NS`] longer at both ends. Which function a device is, its configuration space shows.
//!
//! Judged are data transfers of devices whose function has had a grant; rings and descriptors are not
//! among the events.

use crate::device::Origin;
use crate::trace::{Event, EventKind, Space};
use std::collections::{BTreeMap, HashMap, VecDeque};
use xinim_abi::trace::kind;

/// By how much times may differ, ns.
const SLACK_NS: u64 = 2_000_000;
/// Transfers that wait, and grants that are remembered after their end.
const WAITING_MAX: usize = 4096;
const PAST_MAX: usize = 1 << 16;
const GRANTS_MAX: usize = 1 << 20;
const PAGE: u64 = 4096;

/// A transfer to be judged, or found outside.
#[derive(Clone, Debug)]
pub struct Transfer {
    pub device: String,
    pub origin: Origin,
    pub write: bool,
    pub address: u64,
    pub length: u64,
    function: u16,
}

impl Transfer {
    pub fn words(&self) -> String {
        let verb = if self.write { "wrote" } else { "read" };
        format!("the device {verb} {:#x} bytes at {:#x}", self.length, self.address)
    }
}

/// Pages that a function had, and when.
#[derive(Clone, Copy, Debug)]
struct Past {
    function: u16,
    start: u64,
    end: u64,
    from_ns: u64,
    to_ns: u64,
}

#[derive(Default)]
pub struct Grants {
    functions: HashMap<String, u16>,
    /// By function and first address: end, and since when.
    live: BTreeMap<(u16, u64), (u64, u64)>,
    past: VecDeque<Past>,
    waiting: Vec<Transfer>,
    /// Functions that have had a grant.
    known: HashMap<u16, ()>,
    /// Some were not told.
    lost: bool,
}

impl Grants {
    /// Takes an event; whether it is for nobody else.
    pub fn event(&mut self, event: &Event<'_>) -> bool {
        match event.kind {
            EventKind::Guest(guest) => {
                let (start, pages) = (guest.a, guest.b >> 32);
                let end = start.saturating_add(pages.saturating_mul(PAGE));
                let time = event.origin.time_ns;
                if guest.kind == u16::from(kind::DMA_GRANT) {
                    self.granted(guest.name, (start, end), time);
                } else if guest.kind == u16::from(kind::DMA_REVOKE) {
                    self.revoked(guest.name, start, time);
                }
                true
            }
            EventKind::Access { space: Space::Config, address, .. } => {
                if !self.functions.contains_key(event.device) && event.device != "pci" {
                    self.functions.insert(event.device.to_owned(), (address >> 12) as u16);
                }
                false
            }
            EventKind::Dma { write, address, length, ok: true, .. } if length > 0 => {
                self.moved(event, (write, address, length));
                false
            }
            _ => false,
        }
    }

    fn granted(&mut self, function: u16, (start, end): (u64, u64), time: u64) {
        if self.live.len() >= GRANTS_MAX {
            self.lost = true;
            return;
        }
        self.known.insert(function, ());
        // The same memory granted twice: the older one ends here.
        self.revoked(function, start, time);
        self.live.insert((function, start), (end, time));
    }

    fn revoked(&mut self, function: u16, start: u64, time: u64) {
        if let Some((end, from_ns)) = self.live.remove(&(function, start)) {
            if self.past.len() == PAST_MAX {
                self.past.pop_front();
            }
            self.past.push_back(Past { function, start, end, from_ns, to_ns: time });
        }
    }

    fn moved(&mut self, event: &Event<'_>, (write, address, length): (bool, u64, u64)) {
        let Some(&function) = self.functions.get(event.device) else { return };
        if self.lost || self.covered(function, address, length) {
            return;
        }
        if self.waiting.len() < WAITING_MAX {
            let (device, origin) = (event.device.to_owned(), event.origin);
            self.waiting.push(Transfer { device, origin, write, address, length, function });
        }
    }

    /// Whether the grants of now cover the range, neighbours together.
    fn covered(&self, function: u16, address: u64, length: u64) -> bool {
        let Some(end) = address.checked_add(length) else { return false };
        let mut at = address;
        while at < end {
            let found = self.live.range((function, 0)..=(function, at)).next_back();
            match found {
                Some((_, &(stop, _))) if stop > at => at = stop,
                _ => return false,
            }
        }
        true
    }

    /// Whether grants of that time, a little earlier or later, cover the range.
    fn covered_then(&self, transfer: &Transfer) -> bool {
        let Transfer { function, address, length, origin, .. } = *transfer;
        let Some(end) = address.checked_add(length) else { return false };
        let (soon, late) = (origin.time_ns + SLACK_NS, origin.time_ns.saturating_sub(SLACK_NS));
        let mut at = address;
        while at < end {
            let live = self.live.range((function, 0)..=(function, at)).next_back();
            let live = live.filter(|(_, (_, from))| *from <= soon).map(|(_, (stop, _))| *stop);
            let past = self.past.iter().filter(|past| {
                past.function == function
                    && (past.start..past.end).contains(&at)
                    && past.from_ns <= soon
                    && past.to_ns >= late
            });
            match past.map(|past| past.end).chain(live).max() {
                Some(stop) if stop > at => at = stop,
                _ => return false,
            }
        }
        true
    }

    /// Everything up to this time has been told: what is outside, in order.
    pub fn settle(&mut self, until_ns: u64, lost: bool) -> Vec<Transfer> {
        self.lost |= lost;
        if self.lost {
            self.waiting.clear();
            self.past.clear();
        }
        let ripe = |transfer: &mut Transfer| transfer.origin.time_ns + SLACK_NS <= until_ns;
        let due: Vec<Transfer> = self.waiting.extract_if(.., ripe).collect();
        let known = |transfer: &Transfer| self.known.contains_key(&transfer.function);
        let outside = due.into_iter().filter(|t| known(t) && !self.covered_then(t)).collect();
        // What ended so long ago can be nobody's defence any more.
        let oldest = self.waiting.iter().map(|t| t.origin.time_ns).min().unwrap_or(until_ns);
        while self.past.front().is_some_and(|past| past.to_ns + 2 * SLACK_NS < oldest) {
            self.past.pop_front();
        }
        outside
    }
}
