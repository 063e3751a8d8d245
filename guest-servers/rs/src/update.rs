//! Programs that change while the system runs: services loaded from files, live update.
//!
//! ```text
//!            Update                ended               announces         lived a second
//! Running ----------> Stopping ----------> Starting ------------> trial -----------------> Running
//!                     (TERMINATE: the      (new program)            |                      (the old
//!                      quiet point)              | any end          | any end               program
//!                                                v                  v                       is dropped)
//!                                            rolled back: the old program starts again
//! ```
//! A service comes to rest by the orderly end every service has: between two requests, with what must
//! not be lost written back or in the memory that RS keeps for it (manifest key `keep`), which its
//! next instance takes up. Clients see what they see of a restart. An end during the trial counts as
//! no crash of the service: it goes back to the program that worked.

use crate::host::{Answer, Host};
use crate::slot::{SlotId, State};
use crate::system::{Caller, Core};
use crate::{STOP_TIMEOUT, UPDATE_TRIAL};
use alloc::format;
use alloc::string::{String, ToString};
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::ipc::{ReplyToken, bits};
use xinim_manifest::{Index, Instances, Manifest, Start};

/// A program's number with the [`Host`]; 0: the one in the bundle that the manifest names.
pub type ProgramId = u32;

/// An update under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Update {
    /// What the service goes back to.
    old: ProgramId,
    /// Who asked.
    token: ReplyToken,
    /// The new program has announced itself and must live until then.
    trial: Option<u64>,
}

impl Update {
    pub fn trial(&self) -> u64 {
        self.trial.unwrap_or(u64::MAX)
    }
}

/// Why a manifest is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    Error(Error),
    /// In words.
    Text(String),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Error(error)
    }
}

impl Core {
    /// `Update`. The program belongs to the core from here on. `None`: answered later.
    pub fn update(
        &mut self,
        host: &mut impl Host,
        badge: u64,
        sender: u32,
        token: ReplyToken,
        name: &Name,
        program: ProgramId,
    ) -> Option<Answer> {
        match self.updatable(self.caller(badge, sender), name) {
            Ok(id) => {
                self.begin_update(host, id, token, program);
                None
            }
            Err(error) => {
                host.drop_program(program);
                Some(Answer::Error(error))
            }
        }
    }

    /// The instance that is to be updated.
    fn updatable(&self, caller: Caller, name: &Name) -> Result<SlotId> {
        if !self.may_control(caller) || name.as_str() == "rs" {
            return Err(Error::Perm);
        }
        let id = self.find(name).ok_or(Error::NoEnt)?;
        let slot = &self.slots[id];
        let busy = slot.update.is_some() || slot.doom.is_some() || self.shutdown.is_some();
        if slot.state == State::Running && !busy { Ok(id) } else { Err(Error::Busy) }
    }

    fn begin_update(
        &mut self,
        host: &mut impl Host,
        id: SlotId,
        token: ReplyToken,
        program: ProgramId,
    ) {
        let now = host.now();
        let slot = &mut self.slots[id];
        let old = core::mem::replace(&mut slot.program, program);
        slot.update = Some(Update { old, token, trial: None });
        slot.enter(State::Stopping { deadline: now + STOP_TIMEOUT, restart: true }, now);
        host.log(format_args!("{}: update", slot.label));
        host.notify(id, bits::TERMINATE | bits::SUCCEEDED);
    }

    /// The new program has announced itself.
    pub(crate) fn begin_trial(&mut self, id: SlotId, now: u64) {
        if let Some(update) = &mut self.slots[id].update {
            update.trial = Some(now + UPDATE_TRIAL);
        }
    }

    /// The new program has lived long enough.
    pub(crate) fn end_trial(&mut self, host: &mut impl Host, id: SlotId) {
        let slot = &mut self.slots[id];
        if let Some(update) = slot.update.take() {
            let pid = slot.pid;
            host.log(format_args!("{}: updated", slot.label));
            host.drop_program(update.old);
            host.answer(update.token, Answer::Updated { pid, rolled_back: false });
        }
    }

    /// An instance ended, or its program could not be started. Goes back to the old program if that
    /// was the new one's doing.
    pub(crate) fn roll_back(&mut self, host: &mut impl Host, id: SlotId) -> bool {
        let now = host.now();
        let slot = &mut self.slots[id];
        let Some(update) = slot.update.take() else { return false };
        let bad = core::mem::replace(&mut slot.program, update.old);
        slot.crashed = true;
        slot.enter(State::Waiting, now);
        host.log(format_args!("{}: the new program failed: back to the old one", slot.label));
        host.drop_program(bad);
        host.answer(update.token, Answer::Updated { pid: 0, rolled_back: true });
        true
    }

    /// The service is not to run any more: neither program is tried.
    pub(crate) fn abandon_update(&mut self, host: &mut impl Host, id: SlotId) {
        let slot = &mut self.slots[id];
        if let Some(update) = slot.update.take() {
            let bad = core::mem::replace(&mut slot.program, update.old);
            host.drop_program(bad);
            host.answer(update.token, Answer::Error(Error::ServerDied));
        }
    }

    /// `Load`: one manifest more, and its program if that is not in the bundle. The program belongs to
    /// the core from here on, whatever is answered.
    pub fn load(
        &mut self,
        host: &mut impl Host,
        badge: u64,
        sender: u32,
        name: &Name,
        text: &str,
        program: ProgramId,
    ) -> core::result::Result<(), Refusal> {
        let index = match self.add_manifest(self.caller(badge, sender), name, text) {
            Ok(index) => index,
            Err(refusal) => {
                host.drop_program(program);
                return Err(refusal);
            }
        };
        self.loaded.insert(index, program);
        if let Err(error) = self.add_instances(index, host.now()) {
            self.remove_instances(host, index);
            // Nobody can have named it so far.
            let _ = self.catalog.remove(index);
            return Err(error.into());
        }
        host.log(format_args!("{name}: loaded"));
        self.settle(host);
        Ok(())
    }

    /// Takes a manifest in, if it is sound and its bringer may.
    fn add_manifest(
        &mut self,
        caller: Caller,
        name: &Name,
        text: &str,
    ) -> core::result::Result<Index, Refusal> {
        if !self.may_control(caller) {
            return Err(Error::Perm.into());
        }
        if self.shutdown.is_some() {
            return Err(Error::Busy.into());
        }
        let refuse = |error: xinim_manifest::Error| Refusal::Text(error.to_string());
        let manifest = Manifest::parse(name.as_str(), text).map_err(refuse)?;
        if manifest.instances == Instances::Programs {
            let text = format!("{name}.toml: instances: \"programs\" is for the bundle");
            return Err(Refusal::Text(text));
        }
        self.catalog.add(manifest).map_err(refuse)
    }

    /// The instances that a new manifest begins with.
    fn add_instances(&mut self, index: Index, now: u64) -> Result<()> {
        let manifest = self.catalog.get(index);
        match (manifest.instances, manifest.start) {
            (Instances::One, start) => {
                let id = self.add_slot(index, now)?;
                if start == Start::FirstUse {
                    self.slots[id].state = State::Idle;
                }
            }
            (Instances::PerFunction, _) => {
                for at in 0..self.functions.len() {
                    let function = self.functions[at];
                    let free = function.slot.is_none();
                    if free && self.catalog.driver(function.id, function.class) == Some(index) {
                        let id = self.add_slot(index, now)?;
                        self.slots[id].function = Some(at);
                        self.functions[at].slot = Some(id);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// `Unload`: takes back a manifest that was loaded. `Busy`: an instance of it runs or will; `Perm`:
    /// it is of the bundle.
    pub fn unload(
        &mut self,
        host: &mut impl Host,
        badge: u64,
        sender: u32,
        name: &Name,
    ) -> core::result::Result<(), Refusal> {
        if !self.may_control(self.caller(badge, sender)) {
            return Err(Error::Perm.into());
        }
        let index = self.catalog.find(name.as_str()).ok_or(Error::NoEnt)?;
        if !self.loaded.contains_key(&index) {
            return Err(Error::Perm.into());
        }
        let mine = |slot: &crate::Slot| slot.manifest == index && !slot.label.as_str().is_empty();
        let live = |slot: &crate::Slot| slot.state.is_live() || slot.state.is_coming();
        if self.slots.iter().any(|slot| mine(slot) && live(slot)) {
            return Err(Error::Busy.into());
        }
        self.catalog.remove(index).map_err(|error| Refusal::Text(error.to_string()))?;
        self.remove_instances(host, index);
        host.log(format_args!("{name}: unloaded"));
        Ok(())
    }

    /// Frees the slots of a loaded manifest, none of which has a process, and gives up its program.
    fn remove_instances(&mut self, host: &mut impl Host, index: Index) {
        for id in 0..self.slots.len() {
            let slot = &self.slots[id];
            if slot.manifest == index && !slot.label.as_str().is_empty() {
                if let Some(at) = slot.function {
                    self.functions[at].slot = None;
                }
                let program = slot.program;
                if program != self.program_of(index) {
                    host.drop_program(program);
                }
                self.free(host, id);
            }
        }
        host.drop_program(self.loaded.remove(&index).unwrap_or(0));
    }

    /// What instances of a service begin with.
    pub(crate) fn program_of(&self, manifest: Index) -> ProgramId {
        self.loaded.get(&manifest).copied().unwrap_or(0)
    }
}
