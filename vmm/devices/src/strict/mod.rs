//! The strict checker: says what a driver does that the specification forbids, although the device
//! puts up with it.
//!
//! ```text
//!   trace::Event --> Checker --> per device: shadows of its registers, rings and commands
//!                       |            |
//!                       |            `--> any.rs      accesses, by the register tables
//!                       |                 pci.rs      configuration space, MSI-X
//!                       |                 virtio.rs   status protocol; rings.rs: virtqueues
//!                       |                 e1000.rs    rings, reset, interrupts
//!                       |                 ahci.rs     ports; commands.rs: what is issued
//!                       `--> Report(Violation): rule, what exactly, last accesses, guest stack
//!                       `--> trace::Event, every time
//! ```
//! The checker is a [`TraceSink`]: it sees what the trace sees and nothing else of the devices, so
//! that a device model cannot excuse its driver. What a driver hands over in memory (descriptors,
//! command tables) it reads for itself, remembers, and compares when the device is done.
//!
//! Rules are data ([`RULES`]) with stable ids. An access that breaks a rule of its device's own is
//! not reported once more by the general ones.
//!
//! Limits: it knows the devices of this crate. Doorbells must come as accesses (the machine sees to
//! that). A ring that the driver changes and changes back between two events is not noticed.

mod ahci;
mod any;
mod commands;
mod e1000;
mod grants;
mod memory;
mod pci;
mod rings;
mod rules;
mod shadow;
mod virtio;

pub use rules::{RULES, Rule, find as rule};

use crate::device::Origin;
use crate::dma::Dma;
use crate::trace::{Event, EventKind, Hub, Interest, Owner, TraceSink};
use memory::Memory;
use shadow::Touch;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

/// Accesses of a device kept for a report.
const HISTORY: usize = 12;
/// Reports of one rule for one device that are made in full; later ones are only counted.
const REPORTS: u64 = 3;
/// Devices followed; a machine has far fewer.
const DEVICES_MAX: usize = 64;

/// A rule was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    pub rule: &'static Rule,
    pub device: String,
    /// What exactly, in words.
    pub what: String,
    pub origin: Origin,
    /// It was found when its origin had gone on: where that is now says nothing.
    pub late: bool,
    /// The device's last accesses, the latest last, as lines of the trace.
    pub history: Vec<String>,
    /// How often this device's driver has broken this rule, this time included.
    pub count: u64,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "strict: {} [{}] {}: {}", self.device, self.rule.id, self.rule.title, self.what)?;
        write!(f, " ({})", self.rule.section)?;
        if let Some(process) = &self.origin.process {
            write!(f, ", by process {} ({})", process.pid, process.name())?;
        }
        if self.origin.vcpu.is_some() {
            write!(f, ", rip={:#x}", self.origin.rip)?;
        }
        Ok(())
    }
}

/// Who is told. Called with the emitting device locked: it must not call back into it.
pub trait Report: Send + Sync {
    /// The first few times for each rule and device; see [`Checker::counts`] for all.
    fn violation(&self, violation: &Violation);
}

/// How often one device's driver broke one rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    pub device: String,
    pub rule: &'static str,
    pub count: u64,
}

/// See the module's head.
pub struct Checker {
    // Glue
    memory: Memory,
    /// Of the devices that reach memory in a way of their own.
    own: RwLock<HashMap<String, Memory>>,
    report: Arc<dyn Report>,
    /// Where what was found is shown among the other events.
    hub: Weak<Hub>,
    // Volatile state
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    devices: BTreeMap<String, Watched>,
    counts: BTreeMap<(String, &'static str), u64>,
    grants: grants::Grants,
    accesses: u64,
}

/// One device as the checker knows it.
#[derive(Default)]
struct Watched {
    history: VecDeque<Kept>,
    registers: shadow::Shadow,
    pci: pci::Pci,
    virtio: virtio::Virtio,
    e1000: e1000::E1000,
    ahci: ahci::Ahci,
}

/// An access kept as it came; it is put into words only for a report.
struct Kept {
    origin: Origin,
    kind: EventKind,
}

/// Collects what one event breaks.
struct Found {
    list: Vec<(&'static str, String)>,
}

impl Found {
    /// `rule` is one of [`RULES`].
    fn add(&mut self, rule: &'static str, what: impl Into<String>) {
        debug_assert!(rules::find(rule).is_some(), "{rule} is no rule");
        self.list.push((rule, what.into()));
    }

    fn is_empty(&self) -> bool {
        self.list.is_empty()
    }
}

impl Checker {
    /// `dma`: the machine's memory, for what drivers hand over in it.
    pub fn new(dma: Arc<dyn Dma>, report: Arc<dyn Report>) -> Self {
        let (own, hub) = (RwLock::default(), Weak::new());
        Self { memory: Memory::new(dma), own, report, hub, state: Mutex::default() }
    }

    /// A checker that listens at `hub` from now on, and whose findings are events there.
    pub fn listen(dma: Arc<dyn Dma>, report: Arc<dyn Report>, hub: &Arc<Hub>) -> Arc<Self> {
        let checker = Self { hub: Arc::downgrade(hub), ..Self::new(dma, report) };
        let checker = Arc::new(checker);
        hub.add(checker.clone(), None, true);
        checker
    }

    /// The device of this name has an IOMMU in front of its memory: `dma` looks through it.
    pub fn set_memory(&self, device: &str, dma: Arc<dyn Dma>) {
        let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
        own.insert(device.to_owned(), Memory::new(dma));
    }

    /// Grants of memory up to this time have been told; not all of them, if some were `lost`: then
    /// transfers are not judged by them any more.
    pub fn settle(&self, until_ns: u64, lost: bool) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        for outside in state.grants.settle(until_ns, lost) {
            let kind = EventKind::Dma {
                write: outside.write,
                address: outside.address,
                length: outside.length,
                ok: true,
                owner: Owner::Unknown,
            };
            let event = Event { origin: outside.origin, device: &outside.device, kind, data: &[] };
            let mut found = Found { list: Vec::new() };
            found.add("dma-not-granted", outside.words());
            self.tell(state, &event, found, true);
        }
    }

    /// All rules broken so far, by device.
    pub fn counts(&self) -> Vec<Count> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |((device, rule), count): (&(String, &'static str), &u64)| Count {
            device: device.clone(),
            rule,
            count: *count,
        };
        state.counts.iter().map(count).collect()
    }

    /// Accesses looked at.
    pub fn accesses(&self) -> u64 {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).accesses
    }

    /// Counts and reports what was found.
    fn tell(&self, state: &mut State, event: &Event<'_>, found: Found, late: bool) {
        for (id, what) in found.list {
            let Some(rule) = rules::find(id) else { continue };
            let key = (event.device.to_owned(), rule.id);
            let count = state.counts.entry(key).or_default();
            *count += 1;
            let count = *count;
            if let Some(hub) = self.hub.upgrade() {
                // The checker does not want events of its own: this does not come back.
                let kind = EventKind::Violation { rule: rule.id };
                hub.send(&Event { kind, data: what.as_bytes(), ..*event });
            }
            if count > REPORTS {
                continue;
            }
            let history = state.devices.get(event.device).map(|watched| &watched.history);
            let line = |kept: &Kept| {
                let Kept { origin, kind } = *kept;
                Event { origin, device: event.device, kind, data: &[] }.to_string()
            };
            self.report.violation(&Violation {
                rule,
                device: event.device.to_owned(),
                what,
                origin: event.origin,
                late,
                history: history.into_iter().flatten().map(line).collect(),
                count,
            });
        }
    }
}

impl TraceSink for Checker {
    fn interest(&self) -> Interest {
        Interest::ACCESS
            | Interest::ATTRIBUTED
            | Interest::CONFIG
            | Interest::QUEUE
            | Interest::DMA
            | Interest::IRQ
            | Interest::ATA
            | Interest::DESCRIPTOR
            | Interest::REQUEST
            | Interest::IOMMU
            | Interest::GRANT
    }

    fn event(&self, event: &Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        if state.grants.event(event) {
            return;
        }
        if !state.devices.contains_key(event.device) {
            if state.devices.len() >= DEVICES_MAX {
                return;
            }
            state.devices.insert(event.device.to_owned(), Watched::default());
        }
        let Some(watched) = state.devices.get_mut(event.device) else { return };
        let mut found = Found { list: Vec::new() };
        if let EventKind::Access { .. } = event.kind {
            state.accesses += 1;
            if watched.history.len() == HISTORY {
                watched.history.pop_front();
            }
            watched.history.push_back(Kept { origin: event.origin, kind: event.kind });
        }
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        let memory = own.get(event.device).unwrap_or(&self.memory);
        watched.look(event, memory, &mut found);
        if !found.is_empty() {
            self.tell(state, event, found, false);
        }
    }
}

impl Watched {
    fn look(&mut self, event: &Event<'_>, memory: &Memory, found: &mut Found) {
        let EventKind::Access { error, .. } = event.kind else {
            self.virtio.event(&event.kind, memory, found);
            self.e1000.event(&event.kind, memory, found);
            self.ahci.event(&event.kind, memory, found);
            any::event(&event.kind, found);
            return;
        };
        if let Some(touch) = Touch::of(&event.kind) {
            self.pci.access(&touch, &self.registers, found);
            self.virtio.access(&touch, found);
            self.e1000.access(&touch, event.origin.time_ns, memory, found);
            self.ahci.access(&touch, &self.registers, memory, found);
            if found.is_empty() {
                any::reserved(&touch, &self.registers, found);
            }
            self.registers.note(&touch);
        }
        let said = self.virtio.take_reported();
        if found.is_empty()
            && !said
            && let Some(error) = error
        {
            any::mistake(error, &event.kind, found);
        }
    }
}

#[cfg(test)]
mod tests;
