//! What follows beyond a service that crashes too often: its manifest's `escalate`.
//!
//! Everything but `none` is an *alert* as well: kept, written to the log and to the debug console, and
//! shown by the shell before its next prompt.

use crate::ALERTS_MAX;
use crate::host::Host;
use crate::slot::SlotId;
use crate::system::Core;
use alloc::format;
use alloc::string::String;
use xinim_manifest::{Escalate, Index};

/// Something the operator should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    /// ns since boot.
    pub time: u64,
    pub text: String,
}

impl Core {
    pub(crate) fn alert(&mut self, host: &mut impl Host, text: String) {
        host.alert(&text);
        if self.alerts.len() == ALERTS_MAX {
            self.alerts.pop_front();
        }
        self.alerts.push_back(Alert { time: host.now(), text });
    }

    /// Before a service fails for good: whether those that need it are restarted with it instead.
    pub(crate) fn restart_dependents(&mut self, host: &mut impl Host, id: SlotId) -> bool {
        let manifest = self.slots[id].manifest;
        let wanted = self.catalog.get(manifest).escalate == Escalate::RestartDependents;
        if !wanted || core::mem::replace(&mut self.slots[id].escalated, true) {
            return false;
        }
        let label = self.slots[id].label;
        self.alert(host, format!("{label} crashes again and again: restarting those that need it"));
        let dependents = self.catalog.dependents(manifest);
        for other in 0..self.slots.len() {
            let slot = &self.slots[other];
            let used = !slot.label.as_str().is_empty() && dependents.contains(&slot.manifest);
            if used && slot.state.is_live() {
                self.stop(host, other, true);
            }
        }
        true
    }

    /// A service has failed for good, by its own doing.
    pub(crate) fn escalate(&mut self, host: &mut impl Host, id: SlotId, why: &str) {
        let label = self.slots[id].label;
        match self.catalog.get(self.slots[id].manifest).escalate {
            Escalate::None => {}
            Escalate::RestartDependents | Escalate::Alert => {
                self.alert(host, format!("{label} has failed: {why}"));
            }
            Escalate::SafeMode if self.safe_mode => {
                self.alert(host, format!("{label} has failed in safe mode: {why}"));
            }
            Escalate::SafeMode => {
                let text =
                    format!("safe mode: {label} has failed: {why}; only safe services go on");
                self.alert(host, text);
                self.enter_safe_mode(host);
            }
            Escalate::Reboot => {
                self.alert(host, format!("the system reboots: {label} has failed: {why}"));
                self.begin_shutdown(host, true);
            }
        }
    }

    fn enter_safe_mode(&mut self, host: &mut impl Host) {
        self.safe_mode = true;
        for id in 0..self.slots.len() {
            let slot = &self.slots[id];
            let empty = slot.label.as_str().is_empty();
            if empty || self.goes_on_in_safe_mode(slot.manifest) {
                continue;
            }
            if slot.state.is_live() || slot.state.is_coming() {
                self.stop(host, id, false);
            }
        }
    }

    /// Marked as safe, or needed by one that is.
    pub(crate) fn goes_on_in_safe_mode(&self, manifest: Index) -> bool {
        let safe = |index: Index| self.catalog.get(index).safe;
        safe(manifest) || self.catalog.dependents(manifest).into_iter().any(safe)
    }

    /// Whether a service may be started without being asked for by hand.
    pub(crate) fn may_start(&self, manifest: Index) -> bool {
        !self.safe_mode || self.goes_on_in_safe_mode(manifest)
    }

    pub fn alerts(&self) -> impl DoubleEndedIterator<Item = &Alert> {
        self.alerts.iter()
    }

    pub fn is_safe_mode(&self) -> bool {
        self.safe_mode
    }
}
