//! `Control`: the operator's hand on a service.

use crate::WAITERS_MAX;
use crate::host::{Answer, End, Host};
use crate::slot::{SlotId, State, Until, Waiter};
use crate::system::{Caller, Core};
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::ipc::{ReplyToken, bits};
use xinim_abi::services::rs::control;

impl Core {
    /// `Control`. `None`: answered when it is done.
    pub fn control(
        &mut self,
        host: &mut impl Host,
        badge: u64,
        sender: u32,
        token: ReplyToken,
        operation: u32,
        name: &Name,
    ) -> Option<Answer> {
        let result = self.try_control(host, badge, sender, token, operation, name);
        self.settle(host);
        match result {
            Ok(answer) => answer,
            Err(error) => Some(Answer::Error(error)),
        }
    }

    fn try_control(
        &mut self,
        host: &mut impl Host,
        badge: u64,
        sender: u32,
        token: ReplyToken,
        operation: u32,
        name: &Name,
    ) -> Result<Option<Answer>> {
        let caller = self.caller(badge, sender);
        let found = self.find(name);
        let own = match (caller, found) {
            (Caller::Service(caller), Some(id)) => {
                operation == control::STOP && self.slots[id].spawner == Some(caller as u64 + 1)
            }
            _ => false,
        };
        if !own && !self.may_control(caller) {
            return Err(Error::Perm);
        }
        if name.as_str() == "rs" {
            // Whoever may control may also reboot, which is what comes of it.
            if operation != control::KILL {
                return Err(Error::Perm);
            }
            host.end(End::Fall);
            return Ok(None);
        }
        let id = found.ok_or(Error::NoEnt)?;
        if self.shutdown.is_some() {
            return Err(Error::Busy);
        }
        if self.slots[id].waiters.len() >= WAITERS_MAX {
            return Err(Error::Limit);
        }
        let state = self.slots[id].state;
        let pid = self.slots[id].pid;
        match operation {
            control::START => {
                if state == State::Running {
                    return Ok(Some(Answer::Controlled { pid }));
                }
                self.want(host, id);
                self.wait(id, token, Until::Running)
            }
            control::STOP if state.is_live() => {
                self.wait(id, token, Until::Gone)?;
                self.stop(host, id, false);
                Ok(None)
            }
            control::STOP => {
                self.stop(host, id, false);
                Ok(Some(Answer::Controlled { pid: 0 }))
            }
            control::RESTART => {
                self.wait(id, token, Until::Running)?;
                match state.is_live() {
                    true => self.stop(host, id, true),
                    false => self.want(host, id),
                }
                Ok(None)
            }
            control::KILL
            | control::DUMP
            | control::INJECT_FAULT
            | control::INJECT_HANG
            | control::INJECT_BLOCK
                if !state.is_live() =>
            {
                // Between two lives there is nobody to kill.
                if state.is_coming() {
                    Ok(Some(Answer::Controlled { pid: 0 }))
                } else {
                    Err(Error::Srch)
                }
            }
            control::KILL | control::DUMP => {
                self.slots[id].by_hand = true;
                self.slots[id].dump = operation == control::DUMP;
                self.wait(id, token, Until::Gone)?;
                host.kill(id);
                Ok(None)
            }
            control::INJECT_FAULT => {
                self.slots[id].by_hand = true;
                self.wait(id, token, Until::Gone)?;
                host.notify(id, bits::INJECT_FAULT);
                Ok(None)
            }
            control::INJECT_HANG | control::INJECT_BLOCK => {
                self.slots[id].by_hand = true;
                let spins = operation == control::INJECT_HANG;
                host.notify(id, if spins { bits::INJECT_HANG } else { bits::INJECT_BLOCK });
                Ok(Some(Answer::Controlled { pid }))
            }
            _ => Err(Error::Inval),
        }
    }

    fn wait(&mut self, id: SlotId, token: ReplyToken, until: Until) -> Result<Option<Answer>> {
        self.slots[id].waiters.push(Waiter { token, until });
        Ok(None)
    }

    /// Asks for a service that does not run, and for all it needs.
    fn want(&mut self, host: &mut impl Host, id: SlotId) {
        let mut wanted = Vec::from([id]);
        while let Some(id) = wanted.pop() {
            let slot = &mut self.slots[id];
            match slot.state {
                State::Idle | State::Dead | State::Failed(_) => {
                    slot.failures = 0;
                    (slot.crashed, slot.demoted) = (false, false);
                    slot.enter(State::Waiting, host.now());
                }
                State::Crashed { .. } => {
                    slot.failures = 0;
                    slot.state = State::Crashed { until: 0 };
                }
                State::Stopping { deadline, .. } => {
                    slot.state = State::Stopping { deadline, restart: true };
                }
                _ => continue,
            }
            // The graph has no cycles, so this ends.
            let needs = self.catalog.needs(self.slots[id].manifest);
            let down = |s: &crate::Slot| !s.state.is_coming() && s.state != State::Running;
            let more = self.slots().filter(|(_, s)| needs.contains(&s.manifest) && down(s));
            wanted.extend(more.map(|(id, _)| id));
        }
    }
}
