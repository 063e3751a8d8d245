//! Start, announcement, death, restart, failure.

use crate::core_file::Dead;
use crate::functions::PCI_LABEL;
use crate::history::{Cause, Death, Launched, Made};
use crate::host::{Answer, Host, Launch};
use crate::slot::{Doom, Reason, SlotId, State, Until};
use crate::spare::Spare;
use crate::system::{Caller, Core};
use crate::{BACKOFF_MAX, STOP_TIMEOUT};
use xinim_abi::error::Error;
use xinim_abi::event::{Obituary, cause};
use xinim_abi::interface::Name;
use xinim_abi::ipc::{BADGE_ADMIN, BADGE_LABEL_SHIFT, bits};
use xinim_abi::syscall::priority;
use xinim_abi::trace::life;
use xinim_manifest::{Policy, Stop};

const MS: u64 = 1_000_000;

impl Core {
    pub(crate) fn start(&mut self, host: &mut impl Host, id: SlotId) {
        let now = host.now();
        let slot = &mut self.slots[id];
        slot.incarnation = slot.launches;
        slot.launches = slot.launches.wrapping_add(1);
        (slot.by_hand, slot.dump) = (false, false);
        slot.doom = None;
        // The launch uses or ends it.
        let spare = core::mem::take(&mut slot.spare);
        let launched = match host.launch(&self.launch_of(id, self.slots[id].incarnation)) {
            Err(Error::NoMem) if self.release_spares(host) => {
                host.launch(&self.launch_of(id, self.slots[id].incarnation))
            }
            launched => launched,
        };
        let slot = &mut self.slots[id];
        let deadline = now + u64::from(self.catalog.get(slot.manifest).start_timeout) * MS;
        match launched {
            Ok(pid) => {
                slot.pid = pid;
                let made = match spare {
                    Spare::Ready { pid: ready } if ready == pid => Made::Spare,
                    Spare::Warming { pid: warming, .. } if warming == pid => Made::Ahead,
                    _ => Made::New,
                };
                let launch = Launched { made, begun: now, done: host.now() };
                self.history.launched(slot.label, launch);
                let state = match slot.crashed {
                    true => State::Recovering { deadline },
                    false => State::Starting { deadline },
                };
                slot.enter(state, now);
                host.life(slot.label, life::STARTING);
            }
            Err(_) if slot.update.is_some() => {
                self.roll_back(host, id);
            }
            Err(error @ (Error::NoEnt | Error::NoExec)) => {
                self.fail(host, id, Reason::Program(error));
            }
            Err(error) => {
                host.log(format_args!("{}: cannot start: {error}", slot.label));
                match slot.spawner {
                    Some(_) if !slot.was_up => self.fail(host, id, Reason::Program(error)),
                    _ => self.restart_later(host, id),
                }
            }
        }
    }

    /// How the instance after `incarnation` others of a slot is started.
    pub(crate) fn launch_of(&self, id: SlotId, incarnation: u32) -> Launch<'_> {
        let slot = &self.slots[id];
        let manifest = self.catalog.get(slot.manifest);
        Launch {
            slot: id,
            cookie: u64::from(incarnation.wrapping_add(1)) << 32 | id as u64,
            label: slot.label,
            manifest,
            function: slot.function.map(|at| &self.functions[at]),
            program: slot.program,
            priority: match slot.demoted {
                true => manifest.priority.min(priority::USER as u8),
                false => manifest.priority,
            },
            incarnation,
            badge: (id as u64 + 1) << BADGE_LABEL_SHIFT,
        }
    }

    /// `Announce`.
    pub fn announce(&mut self, host: &mut impl Host, badge: u64, sender: u32) -> Answer {
        let Caller::Service(id) = self.caller(badge, sender) else {
            return Answer::Error(Error::Perm);
        };
        if !matches!(self.slots[id].state, State::Starting { .. } | State::Recovering { .. }) {
            return Answer::Announced;
        }
        let now = host.now();
        let slot = &mut self.slots[id];
        slot.enter(State::Running, now);
        host.life(slot.label, life::UP);
        slot.was_up = true;
        self.watch(id, now);
        self.begin_trial(id, now);
        self.want_spare(id, now);
        let slot = &mut self.slots[id];
        if core::mem::take(&mut slot.crashed) {
            let down = self.history.recovered(slot.label, now).unwrap_or(0);
            slot.statistics.down += down;
            slot.statistics.longest_down = slot.statistics.longest_down.max(down);
            host.log(format_args!("{} is back after {} us", slot.label, down / 1000));
        }
        let pid = slot.pid;
        self.end_unadopted(host, id);
        for lookup in core::mem::take(&mut self.slots[id].lookups) {
            host.answer(lookup.token, Answer::Found { slot: id, pid, badge: lookup.badge });
        }
        let label = self.slots[id].label;
        for waiter in core::mem::take(&mut self.slots[id].waiters) {
            match waiter.until {
                Until::Running => host.answer(waiter.token, Answer::Controlled { pid }),
                Until::Gone => self.slots[id].waiters.push(waiter),
                Until::Spawned { caller } => {
                    let badge = self.spawn_badge(caller, id);
                    host.answer(waiter.token, Answer::Spawned { slot: id, pid, label, badge });
                }
            }
        }
        let manifest = self.slots[id].manifest;
        for (peer, slot) in self.slots() {
            let listens = self.catalog.notify(slot.manifest).contains(&manifest);
            // One that is starting may have looked for it a moment ago.
            if peer != id && slot.state.is_live() && listens {
                host.notify(peer, bits::PEER_UP);
            }
        }
        self.settle(host);
        Answer::Announced
    }

    /// Badge of the handle to instance `id` for the one who spawned it.
    fn spawn_badge(&self, caller: u64, id: SlotId) -> u64 {
        let spawner = usize::try_from(caller).ok().and_then(|n| self.slots.get(n.checked_sub(1)?));
        let admin = spawner
            .and_then(|spawner| self.catalog.may_call(spawner.manifest, self.slots[id].manifest));
        caller << BADGE_LABEL_SHIFT | if admin == Some(true) { BADGE_ADMIN } else { 0 }
    }

    /// An obituary came.
    pub fn died(&mut self, host: &mut impl Host, obituary: &Obituary) {
        let id = obituary.cookie as u32 as usize;
        let known = self.slots.get(id).is_some_and(|slot| {
            u64::from(slot.launches) == obituary.cookie >> 32
                && slot.pid == obituary.pid
                && slot.pid != 0
        });
        if !known {
            self.spare_died(host, obituary);
            return;
        }
        let now = host.now();
        let slot = &mut self.slots[id];
        let (pid, label) = (core::mem::take(&mut slot.pid), slot.label);
        let died_of = match (slot.state, slot.doom) {
            // It was quicker than the kill.
            (_, Some(_)) if obituary.cause == cause::FAULT => Cause::of(obituary, slot.by_hand),
            (_, Some(doom)) => Cause::from(doom),
            (State::Stopping { .. }, None) if obituary.cause != cause::FAULT => {
                Cause::Stopped { status: obituary.code }
            }
            (_, None) => Cause::of(obituary, slot.by_hand),
        };
        if slot.dump || died_of.leaves_core() {
            let cause = alloc::format!("{}, {died_of}", died_of.name());
            let program = self.catalog.get(slot.manifest).program.as_str();
            host.keep_core(id, &Dead { label, program, obituary, cause: &cause });
        } else {
            host.forget(id);
        }
        host.life(label, life::DIED);
        let detected = now.saturating_sub(obituary.time);
        let statistics = &mut self.slots[id].statistics;
        statistics.causes[died_of.number()] += 1;
        statistics.crashes += u32::from(died_of.is_crash());
        statistics.detection = statistics.detection.max(detected);
        statistics.refused += obituary.refused;
        self.history.add(Death {
            time: obituary.time,
            label,
            pid,
            cause: died_of,
            detected,
            launch: None,
            down: None,
        });
        for waiter in core::mem::take(&mut self.slots[id].waiters) {
            match waiter.until {
                Until::Gone => host.answer(waiter.token, Answer::Controlled { pid }),
                _ => self.slots[id].waiters.push(waiter),
            }
        }
        if self.catalog.get(self.slots[id].manifest).label == PCI_LABEL {
            self.forget_pci();
        }
        let manifest = self.catalog.get(self.slots[id].manifest);
        let quiet = match died_of {
            Cause::Stopped { status } => status == 0 || manifest.stop == Stop::Kill,
            // A file-system server whose mount is gone.
            Cause::Exit { status } => status == 0 && self.slots[id].spawner.is_some(),
            _ => false,
        };
        if !quiet {
            host.log(format_args!("{label} (pid {pid}) died: {}, {died_of}", died_of.name()));
        }
        let state = self.slots[id].state;
        match state {
            _ if self.shutdown.is_some() => self.dead(host, id),
            State::Stopping { restart: false, .. } => self.dead(host, id),
            State::Stopping { restart: true, .. } => {
                self.slots[id].failures = 0;
                self.slots[id].enter(State::Waiting, now);
            }
            // The end of the old program comes under Stopping: this was the new one's.
            _ if self.roll_back(host, id) => {}
            _ => self.judge(host, id, died_of == Cause::Exit { status: 0 }),
        }
        self.slots[id].demoted |= died_of.is_hog();
        self.judge_kept(host, id);
        self.orphan_spawned(host, id);
        match self.shutdown {
            Some(_) => self.shutdown_step(host),
            None => self.settle(host),
        }
    }

    /// An instance ended though nobody stopped it.
    fn judge(&mut self, host: &mut impl Host, id: SlotId, clean: bool) {
        let slot = &self.slots[id];
        let policy = self.catalog.get(slot.manifest).restart.policy;
        if slot.spawner.is_some() && !slot.was_up {
            // Whoever spawned it waits and can decide better.
            return self.fail(host, id, Reason::Crashed);
        }
        match policy {
            Policy::OnFailure | Policy::Never if clean => self.dead(host, id),
            Policy::Never => self.fail(host, id, Reason::Crashed),
            _ => self.restart_later(host, id),
        }
    }

    /// The restart policy: at once, after a back-off, or never again.
    fn restart_later(&mut self, host: &mut impl Host, id: SlotId) {
        let now = host.now();
        let slot = &mut self.slots[id];
        let policy = self.catalog.get(slot.manifest).restart;
        slot.crashed = true;
        let mut delay = 0;
        if !slot.by_hand {
            let ran = now.saturating_sub(slot.since);
            if slot.state == State::Running && ran >= u64::from(policy.stable) * MS {
                (slot.failures, slot.escalated, slot.demoted) = (0, false, false);
            }
            slot.failures += 1;
            let crashes = slot.failures;
            if crashes > policy.limit {
                if !self.restart_dependents(host, id) {
                    return self.fail(host, id, Reason::CrashLoop { crashes });
                }
                self.slots[id].failures = 1;
            }
            if let Some(doublings) = self.slots[id].failures.checked_sub(2) {
                let factor = 1u64.checked_shl(doublings).unwrap_or(u64::MAX);
                delay = (u64::from(policy.backoff) * MS).saturating_mul(factor).min(BACKOFF_MAX);
            }
        }
        let slot = &mut self.slots[id];
        slot.restarts += 1;
        slot.enter(State::Crashed { until: now + delay }, now);
        host.life(slot.label, life::RESTARTING);
    }

    /// Ended, and not to come again by itself.
    pub(crate) fn dead(&mut self, host: &mut impl Host, id: SlotId) {
        self.slots[id].enter(State::Dead, host.now());
        host.life(self.slots[id].label, life::STOPPED);
        self.abandon_update(host, id);
        host.discard(id);
        self.slots[id].spare = Spare::None;
        self.slots[id].crashed = false;
        self.give_up(host, id, Error::ServerDied);
        if self.slots[id].spawner.is_some() {
            self.free(host, id);
        }
    }

    pub(crate) fn fail(&mut self, host: &mut impl Host, id: SlotId, reason: Reason) {
        self.abandon_update(host, id);
        let slot = &mut self.slots[id];
        slot.enter(State::Failed(reason), host.now());
        host.life(slot.label, life::FAILED);
        slot.spare = Spare::None;
        host.discard(id);
        let error = match reason {
            Reason::Program(error) => error,
            _ => Error::ServerDied,
        };
        let label = slot.label;
        let why = self.explain(reason);
        host.log(format_args!("{label} has failed: {why}"));
        self.give_up(host, id, error);
        let manifest = self.slots[id].manifest;
        if self.catalog.get(manifest).label == PCI_LABEL {
            self.functions_known(host);
        }
        let own_doing = !matches!(reason, Reason::Needs(_)) && self.shutdown.is_none();
        if own_doing && (self.slots[id].spawner.is_none() || self.slots[id].was_up) {
            self.escalate(host, id, &why);
        }
        if self.slots[id].spawner.is_some() && !self.slots[id].was_up {
            self.free(host, id);
        }
    }

    /// Answers everybody who waits for the service: it will not come.
    fn give_up(&mut self, host: &mut impl Host, id: SlotId, error: Error) {
        for lookup in core::mem::take(&mut self.slots[id].lookups) {
            host.answer(lookup.token, Answer::Error(Error::ServerDied));
        }
        for waiter in core::mem::take(&mut self.slots[id].waiters) {
            let answer = match waiter.until {
                Until::Gone => Answer::Controlled { pid: 0 },
                _ => Answer::Error(error),
            };
            host.answer(waiter.token, answer);
        }
    }

    /// The slot may be used for another service.
    pub(crate) fn free(&mut self, host: &mut impl Host, id: SlotId) {
        host.retire(id);
        let launches = self.slots[id].launches;
        // An obituary of the old service must not be taken for one of the next.
        self.slots[id] = crate::Slot::new(Name::default(), 0, host.now());
        self.slots[id].state = State::Dead;
        self.slots[id].launches = launches;
    }

    /// Begins the orderly end of an instance; of one that is not running, it ends here.
    pub(crate) fn stop(&mut self, host: &mut impl Host, id: SlotId, restart: bool) {
        let now = host.now();
        let deadline = now + STOP_TIMEOUT;
        match self.slots[id].state {
            State::Running => {
                let manifest = self.catalog.get(self.slots[id].manifest);
                match manifest.stop {
                    Stop::Terminate if restart => {
                        host.notify(id, bits::TERMINATE | bits::SUCCEEDED);
                    }
                    Stop::Terminate => host.notify(id, bits::TERMINATE),
                    Stop::Kill => host.kill(id),
                }
                self.slots[id].enter(State::Stopping { deadline, restart }, now);
            }
            State::Starting { .. } | State::Recovering { .. } => {
                host.kill(id);
                self.slots[id].enter(State::Stopping { deadline, restart }, now);
            }
            State::Stopping { deadline, .. } => {
                self.slots[id].state = State::Stopping { deadline, restart };
            }
            _ if restart => {
                self.slots[id].failures = 0;
                self.slots[id].enter(State::Waiting, now);
            }
            _ => self.dead(host, id),
        }
    }

    /// The next time at which [`Core::tick`] has something to do, ns since boot.
    pub fn next_deadline(&self, now: u64) -> Option<u64> {
        let deadlines = self.slots().filter_map(|(_, slot)| match slot.state {
            State::Starting { deadline }
            | State::Recovering { deadline }
            | State::Stopping { deadline, .. } => Some(deadline),
            // One that is over waits for a service it needs.
            State::Crashed { until } => (until > now).then_some(until),
            State::Running => {
                let trial = slot.update.map_or(u64::MAX, |update| update.trial());
                Some(slot.health.next.min(trial).min(slot.spare.due()))
            }
            _ => None,
        });
        deadlines.min().filter(|&deadline| deadline != u64::MAX)
    }

    /// Time has passed.
    pub fn tick(&mut self, host: &mut impl Host) {
        let now = host.now();
        if self.slots.iter().any(|slot| slot.spare.pid().is_some()) && host.memory_is_short() {
            self.release_spares(host);
        }
        for id in 0..self.slots.len() {
            let needs_are_up = self.needs_are_up(id);
            let slot = &mut self.slots[id];
            match &mut slot.state {
                State::Starting { deadline } | State::Recovering { deadline }
                    if *deadline <= now =>
                {
                    if needs_are_up {
                        *deadline = u64::MAX;
                        slot.doom = Some(Doom::StartTimeout);
                        host.kill(id);
                    } else {
                        // It may be waiting for one that is being restarted itself.
                        let timeout = self.catalog.get(slot.manifest).start_timeout;
                        *deadline = now + u64::from(timeout) * MS;
                    }
                }
                State::Stopping { deadline, .. } if *deadline <= now => {
                    *deadline = u64::MAX;
                    slot.doom = Some(Doom::StopTimeout);
                    host.kill(id);
                }
                State::Running => {
                    let lived = slot.update.is_some_and(|update| update.trial() <= now);
                    if slot.health.next <= now {
                        self.examine(host, id, now);
                    }
                    if lived && self.slots[id].doom.is_none() {
                        self.end_trial(host, id);
                    }
                    if self.slots[id].spare.due() <= now && self.slots[id].doom.is_none() {
                        self.tend_spare(host, id, now);
                    }
                }
                _ => {}
            }
        }
        self.settle(host);
    }
}
