//! The end of the system: every service after all that use it.
//!
//! A service with `stop = "kill"` keeps nothing, so it is left to the end of the machine, unless
//! it uses one that is asked to end and could stumble over that: then it is killed first. So is
//! left whoever waits in `Shutdown`: it can do nothing else.

use crate::host::{Answer, End, Host};
use crate::slot::{SlotId, State};
use crate::system::{Caller, Core};
use xinim_abi::error::Error;
use xinim_manifest::Stop;

impl Core {
    /// `Shutdown`. Not answered on success.
    pub fn shut_down(
        &mut self,
        host: &mut impl Host,
        badge: u64,
        sender: u32,
        reboot: bool,
    ) -> Option<Answer> {
        let caller = self.caller(badge, sender);
        if !self.may_control(caller) {
            return Some(Answer::Error(Error::Perm));
        }
        if let Caller::Service(id) = caller {
            self.slots[id].shutting_down = true;
        }
        self.begin_shutdown(host, reboot);
        None
    }

    /// Begins the end, if it has not begun.
    pub(crate) fn begin_shutdown(&mut self, host: &mut impl Host, reboot: bool) {
        if self.shutdown.is_none() {
            self.shutdown = Some(reboot);
            for id in 0..self.slots.len() {
                if !self.slots[id].state.is_live() && !self.slots[id].label.as_str().is_empty() {
                    self.dead(host, id);
                }
            }
            self.answer_early_lookups(host);
        }
        self.shutdown_step(host);
    }

    /// Stops what nobody uses any more; ends the machine when nothing is left to stop.
    pub(crate) fn shutdown_step(&mut self, host: &mut impl Host) {
        let Some(reboot) = self.shutdown else { return };
        let mut left = false;
        for id in 0..self.slots.len() {
            if self.is_finished(id) {
                continue;
            }
            left = true;
            let stopping = matches!(self.slots[id].state, State::Stopping { .. });
            let used = (0..self.slots.len())
                .any(|user| user != id && !self.is_finished(user) && self.uses(user, id));
            if !stopping && !used {
                self.stop(host, id, false);
            }
        }
        if !left && !self.ended {
            self.ended = true;
            host.end(if reboot { End::Reboot } else { End::PowerOff });
        }
    }

    fn uses(&self, user: SlotId, id: SlotId) -> bool {
        self.catalog.depends(self.slots[user].manifest, self.slots[id].manifest)
    }

    /// Nothing has to be done about it before the machine ends.
    fn is_finished(&self, id: SlotId) -> bool {
        let slot = &self.slots[id];
        let saves = |id: SlotId| {
            let slot = &self.slots[id];
            slot.state.is_live() && self.catalog.get(slot.manifest).stop == Stop::Terminate
        };
        let stopping = matches!(slot.state, State::Stopping { .. });
        !slot.state.is_live()
            || slot.shutting_down
            || !stopping
                && !saves(id)
                && !(0..self.slots.len()).any(|other| saves(other) && self.uses(id, other))
    }
}
