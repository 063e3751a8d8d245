//! The table of slots, who is asking, and the step that starts whatever can start.

use crate::host::Host;
use crate::lookup::EarlyLookup;
use crate::slot::{Reason, Slot, SlotId, State};
use crate::{Alert, Function, History, ProgramId, SLOTS_MAX};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::ipc::BADGE_LABEL_SHIFT;
use xinim_manifest::{Catalog, Index, Instances, Start};

/// All services of the system.
#[derive(Clone, Debug)]
pub struct Core {
    pub(crate) catalog: Catalog,
    pub(crate) slots: Vec<Slot>,
    pub(crate) functions: Vec<Function>,
    /// Every function present at boot is in the table.
    pub(crate) functions_done: bool,
    /// Look-ups of drivers whose function may still be found.
    pub(crate) early: Vec<EarlyLookup>,
    pub(crate) history: History,
    /// The system goes down; `true`: to come up again.
    pub(crate) shutdown: Option<bool>,
    pub(crate) ended: bool,
    /// Manifests that were loaded at run time, and their programs.
    pub(crate) loaded: BTreeMap<Index, ProgramId>,
    pub(crate) alerts: VecDeque<Alert>,
    /// Only services marked `safe`, and what they need, are started.
    pub(crate) safe_mode: bool,
    /// RS's own process id.
    pub(crate) pid: u32,
}

/// Who sent a request, by the badge RS gave it and the process id the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    Program,
    Service(SlotId),
    /// A badge of a service in another process's hands, or of a dead instance.
    Stranger,
}

/// State of what a service needs or wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dependency {
    Up,
    Coming,
    Gone,
}

enum Ready {
    Yes,
    NotYet,
    Never(Index),
}

impl Core {
    /// `pid`: RS's own.
    pub fn new(catalog: Catalog, pid: u32) -> Self {
        Core {
            catalog,
            slots: Vec::new(),
            functions: Vec::new(),
            functions_done: false,
            early: Vec::new(),
            history: History::with_room(),
            shutdown: None,
            ended: false,
            loaded: BTreeMap::new(),
            alerts: VecDeque::new(),
            safe_mode: false,
            pid,
        }
    }

    /// Starts what starts at boot.
    pub fn boot(&mut self, host: &mut impl Host) {
        let now = host.now();
        self.functions_done = self.catalog.find(crate::functions::PCI_LABEL).is_none();
        for at in 0..self.catalog.order().len() {
            let index = self.catalog.order()[at];
            if self.catalog.get(index).instances != Instances::One {
                continue;
            }
            match self.add_slot(index, now) {
                Ok(id) if self.catalog.get(index).start == Start::FirstUse => {
                    self.slots[id].state = State::Idle;
                }
                Ok(_) => {}
                Err(_) => {
                    host.log(format_args!("no room for {}", self.catalog.get(index).label));
                }
            }
        }
        self.settle(host);
    }

    /// A slot for one more instance, waiting to be started. Labels are `name`, `name.1`, …
    pub(crate) fn add_slot(&mut self, manifest: Index, now: u64) -> Result<SlotId> {
        let base = self.catalog.get(manifest).label.as_str();
        let mut number = 0;
        let label = loop {
            let label = match number {
                0 => Name::new(base)?,
                n => Name::new(&format!("{base}.{n}"))?,
            };
            if self.find(&label).is_none() {
                break label;
            }
            number += 1;
        };
        let mut slot = Slot::new(label, manifest, now);
        slot.program = self.program_of(manifest);
        if let Some(free) = self.slots.iter().position(|slot| slot.label.as_str().is_empty()) {
            self.slots[free] = slot;
            return Ok(free);
        }
        if self.slots.len() == SLOTS_MAX {
            return Err(Error::Limit);
        }
        self.slots.push(slot);
        Ok(self.slots.len() - 1)
    }

    /// Slots in use.
    pub fn slots(&self) -> impl Iterator<Item = (SlotId, &Slot)> {
        self.slots.iter().enumerate().filter(|(_, slot)| !slot.label.as_str().is_empty())
    }

    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    pub fn history(&self) -> &History {
        &self.history
    }

    pub(crate) fn find(&self, label: &Name) -> Option<SlotId> {
        self.slots().find(|(_, slot)| slot.label == *label).map(|(id, _)| id)
    }

    pub(crate) fn caller(&self, badge: u64, sender: u32) -> Caller {
        let Some(id) = (badge >> BADGE_LABEL_SHIFT).checked_sub(1) else { return Caller::Program };
        match usize::try_from(id).ok().and_then(|id| Some((id, self.slots.get(id)?))) {
            Some((id, slot)) if slot.pid == sender && slot.state.is_live() => Caller::Service(id),
            _ => Caller::Stranger,
        }
    }

    /// The manifest that says what the caller may do.
    pub(crate) fn rights(&self, caller: Caller) -> Option<Index> {
        match caller {
            Caller::Program => self.catalog.programs(),
            Caller::Service(slot) => Some(self.slots[slot].manifest),
            Caller::Stranger => None,
        }
    }

    /// Whether somebody may control services, and see what is in them.
    pub fn is_operator(&self, badge: u64, sender: u32) -> bool {
        self.may_control(self.caller(badge, sender))
    }

    pub(crate) fn may_control(&self, caller: Caller) -> bool {
        self.rights(caller).is_some_and(|index| self.catalog.get(index).control)
    }

    /// A request was refused that its sender has no right to make.
    pub fn count_refusal(&mut self, badge: u64, sender: u32) {
        if let Caller::Service(id) = self.caller(badge, sender) {
            self.slots[id].statistics.refused += 1;
        }
    }

    /// Starts all that waits for nothing any more, and fails what waits in vain.
    pub(crate) fn settle(&mut self, host: &mut impl Host) {
        if self.shutdown.is_some() {
            return;
        }
        let mut changed = true;
        while changed {
            changed = false;
            for id in 0..self.slots.len() {
                match self.slots[id].state {
                    _ if self.slots[id].label.as_str().is_empty() => continue,
                    State::Waiting => {
                        changed |= self.wake_needs(host, id);
                    }
                    State::Crashed { until } if until <= host.now() => {}
                    // What it needed in vain may have come up by hand.
                    State::Failed(Reason::Needs(target))
                        if self.dependency(target) != Dependency::Gone =>
                    {
                        self.slots[id].enter(State::Waiting, host.now());
                    }
                    _ => continue,
                }
                match self.ready(id) {
                    Ready::Yes => self.start(host, id),
                    Ready::Never(target) => self.fail(host, id, Reason::Needs(target)),
                    Ready::NotYet => continue,
                }
                changed = true;
            }
        }
    }

    /// Asks for what a service needs that was not used so far.
    fn wake_needs(&mut self, host: &impl Host, id: SlotId) -> bool {
        let needs = self.catalog.needs(self.slots[id].manifest);
        let idle = |slot: &Slot| slot.state == State::Idle && needs.contains(&slot.manifest);
        let mut woken = false;
        for slot in self.slots.iter_mut().filter(|slot| idle(slot)) {
            slot.enter(State::Waiting, host.now());
            woken = true;
        }
        woken
    }

    fn ready(&self, id: SlotId) -> Ready {
        let slot = &self.slots[id];
        for &target in self.catalog.needs(slot.manifest) {
            match self.dependency(target) {
                Dependency::Up => {}
                Dependency::Coming => return Ready::NotYet,
                Dependency::Gone => return Ready::Never(target),
            }
        }
        let wants = self.catalog.wants(slot.manifest);
        if wants.iter().any(|&target| self.dependency(target) == Dependency::Coming) {
            return Ready::NotYet;
        }
        // A restarted pci service announces the functions again, with new handles.
        match slot.function {
            Some(at) if !self.functions[at].fresh => Ready::NotYet,
            _ => Ready::Yes,
        }
    }

    fn dependency(&self, target: Index) -> Dependency {
        let instances =
            || self.slots().filter(|(_, s)| s.manifest == target && s.spawner.is_none());
        let unknown =
            !self.functions_done && self.catalog.get(target).instances == Instances::PerFunction;
        if unknown || instances().any(|(_, slot)| slot.state.is_coming()) {
            Dependency::Coming
        } else if instances().any(|(_, slot)| slot.state == State::Running) {
            Dependency::Up
        } else {
            Dependency::Gone
        }
    }

    /// Everything the service needs runs.
    pub(crate) fn needs_are_up(&self, id: SlotId) -> bool {
        let needs = self.catalog.needs(self.slots[id].manifest);
        needs.iter().all(|&target| self.dependency(target) == Dependency::Up)
    }
}
