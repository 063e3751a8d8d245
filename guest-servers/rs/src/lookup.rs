//! Names: who is found, by whom, and when.

use crate::host::{Answer, Host};
use crate::slot::{Lookup, SlotId, State, Until, Waiter};
use crate::system::{Caller, Core};
use crate::{SLOTS_MAX, WAITERS_MAX};
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::ipc::{BADGE_ADMIN, BADGE_LABEL_SHIFT, ReplyToken};
use xinim_manifest::{Index, Instances, Resource};

/// A look-up of a driver whose function may still be found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EarlyLookup {
    token: ReplyToken,
    label: Name,
    badge: u64,
}

/// As the label in a look-up: RS itself, for a program.
const RS_LABEL: &str = "rs";
/// Behind the label in a look-up: a handle to pass on, without the caller's badge.
const USER_SUFFIX: &str = ":user";

impl Core {
    /// `Lookup`. `None`: answered later.
    pub fn lookup(
        &mut self,
        host: &mut impl Host,
        badge: u64,
        sender: u32,
        token: ReplyToken,
        name: &Name,
        wait: bool,
    ) -> Option<Answer> {
        match self.try_lookup(host, badge, sender, token, name, wait) {
            Ok(answer) => answer,
            Err(error) => Some(Answer::Error(error)),
        }
    }

    fn try_lookup(
        &mut self,
        host: &mut impl Host,
        badge: u64,
        sender: u32,
        token: ReplyToken,
        name: &Name,
        wait: bool,
    ) -> Result<Option<Answer>> {
        let caller = self.caller(badge, sender);
        let rights = self.rights(caller).ok_or(Error::Access)?;
        let passes_on = self.catalog.get(rights).has(Resource::Process);
        if name.as_str() == RS_LABEL {
            return if passes_on { Ok(Some(Answer::FoundRs)) } else { Err(Error::Access) };
        }
        let label = match name.as_str().strip_suffix(USER_SUFFIX) {
            Some(_) if !passes_on => return Err(Error::Access),
            Some(label) => Name::new(label)?,
            None => *name,
        };
        let found = self.find(&label);
        let manifest = match found {
            Some(id) => self.slots[id].manifest,
            None => self.manifest_of(label.as_str()).ok_or(Error::NoEnt)?,
        };
        let admin = self.catalog.may_call(rights, manifest).ok_or(Error::Access)?;
        let badge = match caller {
            Caller::Service(id) if label == *name => {
                (id as u64 + 1) << BADGE_LABEL_SHIFT | if admin { BADGE_ADMIN } else { 0 }
            }
            _ => 0,
        };
        let lookup = Lookup { token, badge };
        let Some(id) = found else {
            let per_function = self.catalog.get(manifest).instances == Instances::PerFunction;
            return match per_function && !self.functions_done && self.shutdown.is_none() {
                true if !wait => Err(Error::Again),
                true if self.early.len() >= WAITERS_MAX => Err(Error::Limit),
                true => {
                    self.early.push(EarlyLookup { token, label, badge });
                    Ok(None)
                }
                false => Err(Error::NoEnt),
            };
        };
        if let Caller::Service(caller) = caller
            && self.slots[id].spawner == Some(caller as u64 + 1)
        {
            self.slots[id].adopted = true;
        }
        let may_start = self.shutdown.is_none() && self.may_start(manifest);
        if self.slots[id].state == State::Idle && may_start {
            self.slots[id].enter(State::Waiting, host.now());
            self.settle(host);
        }
        self.found(id, lookup, wait)
    }

    fn found(&mut self, id: SlotId, lookup: Lookup, wait: bool) -> Result<Option<Answer>> {
        let slot = &mut self.slots[id];
        match slot.state {
            State::Running => {
                Ok(Some(Answer::Found { slot: id, pid: slot.pid, badge: lookup.badge }))
            }
            state if !state.is_coming() || self.shutdown.is_some() => Err(Error::ServerDied),
            _ if !wait => Err(Error::Again),
            _ if slot.lookups.len() >= WAITERS_MAX => Err(Error::Limit),
            _ => {
                slot.lookups.push(lookup);
                Ok(None)
            }
        }
    }

    /// The manifest of `name` or `name.N`.
    fn manifest_of(&self, label: &str) -> Option<Index> {
        let base = match label.rsplit_once('.') {
            Some((base, number)) if number.parse::<u16>().is_ok() => base,
            _ => label,
        };
        self.catalog.find(base)
    }

    /// All functions are known: whoever waits for a driver gets it, waits for its slot, or learns
    /// that there is none.
    pub(crate) fn answer_early_lookups(&mut self, host: &mut impl Host) {
        for early in core::mem::take(&mut self.early) {
            let lookup = Lookup { token: early.token, badge: early.badge };
            let result = match self.find(&early.label) {
                Some(id) => self.found(id, lookup, true),
                None => Err(Error::NoEnt),
            };
            match result {
                Ok(Some(answer)) => host.answer(early.token, answer),
                Ok(None) => {}
                Err(error) => host.answer(early.token, Answer::Error(error)),
            }
        }
    }

    /// `Spawn`. `None`: answered later.
    pub fn spawn(
        &mut self,
        host: &mut impl Host,
        badge: u64,
        sender: u32,
        token: ReplyToken,
        program: &Name,
    ) -> Option<Answer> {
        match self.try_spawn(host, badge, sender, token, program) {
            Ok(()) => None,
            Err(error) => Some(Answer::Error(error)),
        }
    }

    fn try_spawn(
        &mut self,
        host: &mut impl Host,
        badge: u64,
        sender: u32,
        token: ReplyToken,
        program: &Name,
    ) -> Result<()> {
        let Caller::Service(caller) = self.caller(badge, sender) else { return Err(Error::Access) };
        let manifest = self.catalog.find(program.as_str()).ok_or(Error::NoEnt)?;
        if !self.catalog.spawns(self.slots[caller].manifest).contains(&manifest) {
            return Err(Error::Access);
        }
        if self.shutdown.is_some() || !self.may_start(manifest) {
            return Err(Error::ServerDied);
        }
        // Half of the slots stay for those that start at boot or by a function.
        if self.slots().filter(|(_, slot)| slot.spawner.is_some()).count() >= SLOTS_MAX / 2 {
            return Err(Error::Limit);
        }
        let id = self.add_slot(manifest, host.now())?;
        let caller = caller as u64 + 1;
        self.slots[id].spawner = Some(caller);
        self.slots[id].adopted = true;
        self.slots[id].waiters.push(Waiter { token, until: Until::Spawned { caller } });
        self.settle(host);
        Ok(())
    }
}
