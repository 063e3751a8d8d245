//! Faults of a PCI function: its registers, its doorbells, and its disappearance. Called by the bus
//! with the function locked.

use super::later::What;
use super::place::{self, Place};
use super::plan::{Faults, GONE, STUCK, Site};
use super::rule::{Action, Kind, Point};
use crate::device::{Access, Op, Outcome, all_ones};
use crate::pci::PciDevice;
use std::sync::Arc;
use std::time::Duration;
use xinim_abi::hw::pci::Command;

/// How long a doorbell is late when a rule does not say.
pub(super) const DELAY: Duration = Duration::from_millis(100);
const WATCHED: u32 = Kind::Register.bit() | Kind::Doorbell.bit() | GONE | STUCK;

impl Faults {
    fn function(self: &Arc<Self>, name: &str) -> Site {
        Site { names: self.names_of(name).into(), faults: self.clone() }
    }

    /// An access to a BAR of `device`, as its rules have it.
    pub fn bar_access(
        self: &Arc<Self>,
        device: &mut dyn PciDevice,
        bar: u8,
        access: Access,
    ) -> Outcome {
        if !self.watches(WATCHED) {
            return device.bar_access(bar, access);
        }
        if self.is_gone(device.name()) {
            return nothing(&access);
        }
        if let Some(queue) = place::doorbell(device.doorbells(), bar, &access) {
            let name = device.name().to_owned();
            return match self.doorbell(&name, queue) {
                true => device.bar_access(bar, access),
                false => Outcome::done(),
            };
        }
        let Some(place) = place::in_bar(device.config(), bar, &access) else {
            return device.bar_access(bar, access);
        };
        let site = self.function(device.name());
        let mut reset = false;
        let outcome = site.register(&place, access, |access| {
            reset |= matches!(access.op, Op::Write(value) if place::resets(&place, value));
            device.bar_access(bar, access)
        });
        if reset {
            self.reset_seen(device.name());
        }
        outcome
    }

    /// An access to configuration space.
    pub fn config_access(self: &Arc<Self>, device: &mut dyn PciDevice, access: Access) -> Outcome {
        if !self.watches(WATCHED) {
            return device.config_access(access);
        }
        if self.is_gone(device.name()) {
            return nothing(&access);
        }
        let Some(place) = place::in_config(&access) else {
            return device.config_access(access);
        };
        let site = self.function(device.name());
        let outcome = site.register(&place, access, |access| device.config_access(access));
        // What the kernel does when a driver dies.
        if access.is_write() && !device.config().command().contains(Command::BUS_MASTER) {
            self.reset_seen(device.name());
        }
        outcome
    }

    /// The driver rang for a queue of the function of this name: whether the device hears it now.
    pub fn doorbell(self: &Arc<Self>, function: &str, queue: u16) -> bool {
        if !self.watches(Kind::Doorbell.bit() | STUCK | GONE) {
            return true;
        }
        if self.is_gone(function) {
            return false;
        }
        let site = self.function(function);
        if self.stuck(&site.names, &What::Queue(queue)).is_some() {
            return false;
        }
        let Some(hit) = site.decide(&Point::Doorbell { queue }) else { return true };
        match hit.action {
            Action::Drop => false,
            Action::Stick => {
                self.stick(&site, What::Queue(queue), &hit);
                false
            }
            Action::Delay | Action::Duplicate => {
                let at = self.clock.monotonic() + hit.time.unwrap_or(DELAY);
                if let Some(target) = self.target_of(function) {
                    self.later(at, move |origin| target.notify(queue, origin));
                }
                hit.action == Action::Duplicate
            }
            _ => true,
        }
    }
}

impl Site {
    fn register(
        &self,
        place: &Place,
        access: Access,
        mut perform: impl FnMut(Access) -> Outcome,
    ) -> Outcome {
        let (name, index) = (place.register.name, place.index);
        let sticks = What::Register { name, index, value: 0 };
        if self.faults.watches(STUCK)
            && let Some(What::Register { value, .. }) = self.faults.stuck(&self.names, &sticks)
        {
            return Outcome::value(value).at(place.table, place.offset);
        }
        let write = match access.op {
            Op::Write(value) => Some(value),
            Op::Read => None,
        };
        let Some(hit) = self.decide(&Point::Register { name, index, write }) else {
            return perform(access);
        };
        let skipped = |value| Outcome::value(value).at(place.table, place.offset);
        let bit = 1 << (hit.random % (8 * u64::from(access.size)));
        match (hit.action, access.op) {
            (Action::Error, _) => skipped(all_ones(access.size)),
            (Action::Drop, _) => skipped(0),
            (Action::Duplicate, _) => {
                let first = perform(access);
                let second = perform(access);
                Outcome { action: first.action.or(second.action), ..second }
            }
            (Action::Corrupt, Op::Write(value)) => {
                perform(Access { op: Op::Write(value ^ bit), ..access })
            }
            (Action::Corrupt, Op::Read) => {
                let outcome = perform(access);
                Outcome { value: outcome.value ^ bit, ..outcome }
            }
            (Action::Stick, op) => {
                // A write that sticks never arrives; what the register holds then is not known
                // without reading it, which may have effects: it reads as zero.
                let outcome = if op == Op::Read { perform(access) } else { skipped(0) };
                let what = What::Register { name, index, value: outcome.value };
                self.faults.stick(self, what, &hit);
                outcome
            }
            _ => perform(access),
        }
    }
}

/// Of a function that is not there.
fn nothing(access: &Access) -> Outcome {
    match access.op {
        Op::Read => Outcome::value(all_ones(access.size)),
        Op::Write(_) => Outcome::done(),
    }
}
