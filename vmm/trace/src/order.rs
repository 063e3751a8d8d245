//! Events in the order of their times, as far as a bounded window allows.
//!
//! A trace is written in the order in which things become known: an access after what it led to, the
//! guest's own events when its ring is read. Readers that join events need them by time. This
//! keeps up to [`WINDOW`] events and gives out the earliest once it is surely the earliest of the
//! window or older than [`HORIZON_NS`] against the newest.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use xinim_devices::device::Origin;
use xinim_devices::trace::{Event, EventKind};

/// Events kept at most.
const WINDOW: usize = 1 << 16;
/// The rings are read every millisecond or so, on a loaded host later.
const HORIZON_NS: u64 = 500_000_000;

/// An event with its texts.
#[derive(Clone, Debug)]
pub struct Owned {
    pub origin: Origin,
    pub device: std::rc::Rc<str>,
    pub kind: EventKind,
    pub data: Vec<u8>,
}

impl Owned {
    /// As the sinks see it.
    pub fn event(&self) -> Event<'_> {
        let Self { origin, device, kind, data } = self;
        Event { origin: *origin, device, kind: *kind, data }
    }
}

struct Entry {
    time: u64,
    serial: u64,
    event: Owned,
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.time, self.serial) == (other.time, other.serial)
    }
}
impl Eq for Entry {}
impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time, self.serial).cmp(&(other.time, other.serial))
    }
}

/// The window.
#[derive(Default)]
pub struct Order {
    heap: BinaryHeap<Reverse<Entry>>,
    devices: Vec<std::rc::Rc<str>>,
    serial: u64,
    newest: u64,
}

impl Order {
    /// Takes an event in; hands the ones that are due to `take`.
    pub fn push(&mut self, event: &Event<'_>, mut take: impl FnMut(&Owned)) {
        let known = self.devices.iter().find(|known| ***known == *event.device).cloned();
        let device = known.unwrap_or_else(|| {
            let name: std::rc::Rc<str> = event.device.into();
            self.devices.push(name.clone());
            name
        });
        let owned =
            Owned { origin: event.origin, device, kind: event.kind, data: event.data.to_vec() };
        let time = event.origin.time_ns;
        self.newest = self.newest.max(time);
        self.serial += 1;
        self.heap.push(Reverse(Entry { time, serial: self.serial, event: owned }));
        while self.heap.peek().is_some_and(|Reverse(first)| {
            self.heap.len() > WINDOW || self.newest - first.time.min(self.newest) > HORIZON_NS
        }) {
            self.pop(&mut take);
        }
    }

    /// Hands out what is left.
    pub fn finish(&mut self, mut take: impl FnMut(&Owned)) {
        while !self.heap.is_empty() {
            self.pop(&mut take);
        }
    }

    fn pop(&mut self, take: &mut impl FnMut(&Owned)) {
        if let Some(Reverse(entry)) = self.heap.pop() {
            take(&entry.event);
        }
    }
}
