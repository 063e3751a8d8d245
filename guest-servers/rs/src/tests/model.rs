//! The life of services explored exhaustively: a model checker drives the real [`Core`] through every
//! order of events that a small system can see, within a budget of what comes from outside.
//!
//! Events that follow by themselves (announcements, obituaries, deadlines, a service's orderly end)
//! happen in every order; crashes, the operator's commands, look-ups, an update and the end of the
//! system are put in at every point, as often as the budget says. A state is what matters for the
//! future: deadlines count from now, process ids and statistics do not.
//!
//! `XINIM_MODEL=2` (or more) in the environment adds that many crashes and commands to the budget.

use super::world::*;
use crate::slot::{Slot, Until};
use crate::spare::Spare;
use crate::*;
use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;
use core::hash::{Hash, Hasher};
use stateright::{Checker, Model, Property};
use xinim_abi::event::{Obituary, cause};
use xinim_abi::ipc::bits;
use xinim_abi::services::rs::control;

/// `top` needs `base`; `side` uses both but can do without; `lone` has nothing to do with them.
const SYSTEM: [(&str, &str); 5] = [
    ("base", "heartbeat = 0\nrestart = { limit = 1, backoff = 100, stable = 3600000 }"),
    ("top", "heartbeat = 0\nneeds = [\"base\"]\nrestart = { stable = 3600000 }"),
    (
        "side",
        "heartbeat = 0\nwants = [\"top\"]\ncalls = [\"base\"]\nrestart = { stable = 3600000 }",
    ),
    ("lone", "heartbeat = 0"),
    ("programs", "instances = \"programs\"\ncalls = [\"base\", \"top\"]\ncontrol = true"),
];
/// The same with a spare, and less of the rest: each spare has a life of its own.
const SYSTEM_WITH_SPARES: [(&str, &str); 5] = [
    (
        "base",
        "heartbeat = 0\nspare = true\nrestart = { limit = 1, backoff = 100, stable = 3600000 }",
    ),
    ("top", "instances = \"on-demand\""),
    ("side", "instances = \"on-demand\""),
    SYSTEM[3],
    SYSTEM[4],
];
/// More steps than this without anything from outside: the system does not come to rest.
const STEPS_MAX: u32 = 80;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Budget {
    crashes: u8,
    commands: u8,
    lookups: u8,
    updates: u8,
    shutdowns: u8,
    /// Starts that take too long.
    timeouts: u8,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Announce(SlotId),
    /// The oldest obituary reaches RS.
    Obituary,
    /// One that was asked to ends.
    Comply(SlotId),
    /// A spare comes to where it waits.
    Ready(SlotId),
    /// A spare dies.
    SpareDies(SlotId),
    Deadline,
    Crash(SlotId),
    Command(u32, SlotId),
    Lookup(SlotId),
    Update(SlotId),
    Shutdown,
}

#[derive(Clone)]
struct State {
    core: Core,
    host: Fake,
    budget: Budget,
    /// Processes that are dead and not reported yet.
    dead: Vec<Obituary>,
    /// Asked to end.
    told: BTreeSet<SlotId>,
    /// Requests without an answer.
    unanswered: BTreeSet<u64>,
    tokens: u64,
    steps: u32,
    /// Somebody stopped a service by hand.
    meddled: bool,
}

impl State {
    fn is_dead(&self, id: SlotId) -> bool {
        let pid = self.host.live.get(&id).map(|(pid, ..)| *pid);
        pid.is_some_and(|pid| self.dead.iter().any(|obituary| obituary.pid == pid))
    }

    /// Has a process that lives.
    fn lives(&self, id: SlotId) -> bool {
        self.host.live.contains_key(&id) && !self.is_dead(id)
    }

    fn spare_dies(&mut self, id: SlotId) {
        if let Some((pid, cookie, ..)) = self.host.spares.get(&id).copied() {
            let (cause, time) = (cause::KILLED, self.host.now);
            self.dead.push(Obituary { pid, cookie, cause, time, ..Default::default() });
        }
    }

    /// A spare whose obituary has not come.
    fn spare_is_dead(&self, id: SlotId) -> bool {
        let pid = self.host.spares.get(&id).map(|(pid, ..)| *pid);
        pid.is_some_and(|pid| self.dead.iter().any(|obituary| obituary.pid == pid))
    }

    fn die(&mut self, id: SlotId, cause: u32) {
        if let Some((pid, cookie, ..)) = self.host.live.get(&id).filter(|_| !self.is_dead(id)) {
            let (pid, cookie, time) = (*pid, *cookie, self.host.now);
            self.dead.push(Obituary { pid, cookie, cause, time, ..Default::default() });
        }
    }

    /// What RS did: kills become deaths, TERMINATE is heard, answers are noted.
    fn absorb(&mut self) {
        for id in core::mem::take(&mut self.host.killed) {
            self.die(id, cause::KILLED);
        }
        for (id, raised) in core::mem::take(&mut self.host.notified) {
            if raised & bits::TERMINATE != 0 {
                self.told.insert(id);
            }
        }
        self.told.retain(|id| self.host.live.contains_key(id));
        for token in core::mem::take(&mut self.host.answers).into_keys() {
            self.unanswered.remove(&token);
        }
        // What is dead cannot be launched.
        self.host.dead_spares =
            self.host.spares.keys().copied().filter(|&id| self.spare_is_dead(id)).collect();
        self.host.log.clear();
        self.host.started.clear();
    }

    /// The next deadline is there; whether it is of a start that takes too long.
    fn deadline(&self) -> Option<bool> {
        use crate::State as S;
        let next = self.core.next_deadline(self.host.now)?;
        Some(self.core.slots().any(|(_, slot)| match slot.state {
            S::Starting { deadline } | S::Recovering { deadline } => deadline == next,
            _ => false,
        }))
    }

    /// Nothing will happen unless somebody outside wants it.
    fn is_quiet(&self) -> bool {
        let works = |state: crate::State| state.is_live() && state != crate::State::Running;
        self.dead.is_empty()
            && self.told.is_empty()
            && !self.core.slots().any(|(_, slot)| works(slot.state))
            && self.core.next_deadline(self.host.now).is_none()
    }

    fn key(&self) -> impl Hash + PartialEq + core::fmt::Debug {
        let now = self.host.now;
        let slots: Vec<_> = self.core.slots().map(|(_, slot)| slot_key(slot, now)).collect();
        let dead: Vec<_> = self.dead.iter().map(|o| (o.cookie as u32, o.cause)).collect();
        let told: Vec<_> = self.told.iter().copied().collect();
        let ends = (self.core.shutdown, self.core.ended, self.meddled);
        (slots, dead, told, self.budget, self.unanswered.len(), self.steps, ends)
    }
}

fn slot_key(slot: &Slot, now: u64) -> impl Hash + PartialEq + core::fmt::Debug + use<> {
    use crate::State as S;
    let left = |deadline: u64| match deadline {
        u64::MAX => u64::MAX,
        deadline => deadline.saturating_sub(now),
    };
    let deadline = match slot.state {
        S::Starting { deadline } | S::Recovering { deadline } => left(deadline),
        S::Stopping { deadline, .. } => left(deadline),
        S::Crashed { until } => left(until),
        _ => 0,
    };
    let restart = matches!(slot.state, S::Stopping { restart: true, .. });
    let waiters: Vec<u8> = slot
        .waiters
        .iter()
        .map(|waiter| match waiter.until {
            Until::Running => 0,
            Until::Gone => 1,
            Until::Spawned { .. } => 2,
        })
        .collect();
    let update = slot.update.map(|update| left(update.trial()));
    let flags = (slot.by_hand, slot.doom.is_some(), slot.crashed, slot.was_up, slot.escalated);
    (
        (slot.state.name(), deadline, restart),
        (slot.failures, slot.pid != 0, slot.lookups.len(), waiters),
        (update, flags, left(slot.spare.due()), slot.spare.name(), slot.spare_losses.min(4)),
    )
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Hash for State {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.key().hash(hasher);
    }
}

impl core::fmt::Debug for State {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        self.key().fmt(f)
    }
}

struct System {
    budget: Budget,
    /// `base` has a spare.
    spares: bool,
}

impl System {
    fn slot(state: &State, label: &str) -> (SlotId, Slot) {
        let found = state.core.slots().find(|(_, slot)| slot.label == name(label));
        found.map(|(id, slot)| (id, slot.clone())).expect("a service of the model")
    }
}

impl Model for System {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut system = SYSTEM;
        if self.spares {
            system = SYSTEM_WITH_SPARES;
        }
        let world = World::boot(&system);
        let mut state = State {
            core: world.core,
            host: world.host,
            budget: self.budget,
            dead: Vec::new(),
            told: BTreeSet::new(),
            unanswered: BTreeSet::new(),
            tokens: 0,
            steps: 0,
            meddled: false,
        };
        state.absorb();
        Vec::from([state])
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.core.ended {
            return;
        }
        let (lone, _) = System::slot(state, "lone");
        for (id, slot) in state.core.slots() {
            let starts = matches!(
                slot.state,
                crate::State::Starting { .. } | crate::State::Recovering { .. }
            );
            if state.lives(id) && starts {
                actions.push(Action::Announce(id));
            }
            if state.lives(id) && state.told.contains(&id) {
                actions.push(Action::Comply(id));
            }
            if let Some((.., standby)) = state.host.spares.get(&id) {
                let waits = state.host.ready.contains_key(&id);
                if *standby && !waits && !state.spare_is_dead(id) {
                    actions.push(Action::Ready(id));
                }
                if state.budget.crashes > 0 && !state.spare_is_dead(id) {
                    actions.push(Action::SpareDies(id));
                }
            }
            // Nothing happens to `lone` but what others cause.
            if id == lone {
                continue;
            }
            if state.budget.crashes > 0 && state.lives(id) {
                actions.push(Action::Crash(id));
            }
            if state.budget.commands > 0 {
                let all = [control::START, control::STOP, control::RESTART, control::KILL];
                actions.extend(all.map(|operation| Action::Command(operation, id)));
            }
            if state.budget.lookups > 0 {
                actions.push(Action::Lookup(id));
            }
            if state.budget.updates > 0 && slot.state == crate::State::Running {
                actions.push(Action::Update(id));
            }
        }
        if !state.dead.is_empty() {
            actions.push(Action::Obituary);
        }
        if state.deadline().is_some_and(|of_start| !of_start || state.budget.timeouts > 0) {
            actions.push(Action::Deadline);
        }
        if state.budget.shutdowns > 0 {
            actions.push(Action::Shutdown);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut next = last.clone();
        let s = &mut next;
        s.steps += 1;
        s.tokens += 1;
        let token = xinim_abi::ipc::ReplyToken(s.tokens);
        let label = |s: &State, id: SlotId| s.core.slots[id].label;
        let kept = match action {
            Action::Announce(id) => {
                let (pid, _, _, _, badge) = s.host.live[&id].clone();
                assert_eq!(s.core.announce(&mut s.host, badge, pid), Answer::Announced);
                Some(Answer::Announced)
            }
            Action::Obituary => {
                let obituary = s.dead.remove(0);
                s.core.died(&mut s.host, &obituary);
                Some(Answer::Announced)
            }
            Action::Comply(id) => {
                s.die(id, cause::EXIT);
                Some(Answer::Announced)
            }
            Action::Ready(id) => {
                let (pid, _, badge, _) = s.host.spares[&id];
                // Answered when it is launched; nobody waits for that.
                let answer = s.core.stand_by(&mut s.host, badge, pid, token);
                assert_eq!(answer, None);
                Some(Answer::Announced)
            }
            Action::SpareDies(id) => {
                s.budget.crashes -= 1;
                s.steps = 0;
                s.spare_dies(id);
                Some(Answer::Announced)
            }
            Action::Deadline => {
                if s.deadline() == Some(true) {
                    s.budget.timeouts -= 1;
                    s.steps = 0;
                }
                s.host.now = s.core.next_deadline(s.host.now)?.max(s.host.now);
                s.core.tick(&mut s.host);
                Some(Answer::Announced)
            }
            Action::Crash(id) => {
                s.budget.crashes -= 1;
                s.steps = 0;
                s.die(id, cause::FAULT);
                Some(Answer::Announced)
            }
            Action::Command(operation, id) => {
                s.budget.commands -= 1;
                s.steps = 0;
                s.meddled = true;
                let label = label(s, id);
                s.core.control(&mut s.host, 0, 77, token, operation, &label)
            }
            Action::Lookup(id) => {
                s.budget.lookups -= 1;
                s.steps = 0;
                let label = label(s, id);
                s.core.lookup(&mut s.host, 0, 77, token, &label, true)
            }
            Action::Update(id) => {
                s.budget.updates -= 1;
                s.steps = 0;
                s.meddled = true;
                let label = label(s, id);
                s.core.update(&mut s.host, 0, 77, token, &label, 1)
            }
            Action::Shutdown => {
                s.budget.shutdowns -= 1;
                s.steps = 0;
                s.core.shut_down(&mut s.host, 0, 77, false).or(Some(Answer::Announced))
            }
        };
        if kept.is_none() {
            s.unanswered.insert(token.0);
        }
        s.absorb();
        // One process for each slot, and the tables agree; that nobody gets two answers, or a second
        // process, is asserted in `Fake`.
        for (id, slot) in s.core.slots() {
            assert_eq!(slot.state.is_live(), s.host.live.contains_key(&id), "{slot:?}");
            let spare = s.host.spares.get(&id).map(|(pid, ..)| *pid);
            assert_eq!(slot.spare.pid(), spare, "{slot:?}");
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = Vec::from([
            Property::always("no event is lost", |_, state: &State| {
                let settled = |slot: &Slot| {
                    use crate::State as S;
                    matches!(slot.state, S::Running | S::Dead | S::Failed(_) | S::Idle)
                };
                !state.is_quiet()
                    || state.unanswered.is_empty()
                        && state.core.slots().all(|(_, slot)| settled(slot))
            }),
            Property::always("the system comes to rest", |_, state: &State| {
                state.steps < STEPS_MAX
            }),
            Property::always("others are not touched by a crash loop", |_, state: &State| {
                let (id, slot) = System::slot(state, "lone");
                let fine =
                    matches!(slot.state, crate::State::Starting { .. } | crate::State::Running);
                // That nobody announces it before its start is over is the model's doing.
                let late = slot.doom.is_some() || slot.incarnation > 0 || state.is_dead(id);
                state.core.shutdown.is_some() || fine || late
            }),
            Property::always("users are stopped first", |_, state: &State| {
                state.core.shutdown.is_none()
                    || state.meddled
                    || state.core.slots().all(|(id, slot)| {
                        let stops = matches!(slot.state, crate::State::Stopping { .. });
                        let uses = |user: &Slot| {
                            user.state == crate::State::Running
                                && state.core.catalog().depends(user.manifest, slot.manifest)
                        };
                        !stops || !state.core.slots().any(|(user, s)| user != id && uses(s))
                    })
            }),
            Property::always("the end comes when nobody is left", |_, state: &State| {
                state.core.shutdown.is_none() || !state.is_quiet() || state.core.ended
            }),
        ]);
        // The model is worth something: with crashes enough, both ends are seen.
        if self.budget.crashes > 1 && self.budget.shutdowns == 0 {
            properties.extend([
                Property::sometimes("a service fails", |_, state: &State| {
                    state.core.slots().any(|(_, s)| matches!(s.state, crate::State::Failed(_)))
                }),
                Property::sometimes(
                    "all is well after a crash",
                    |model: &System, state: &State| {
                        let all = || state.core.slots();
                        state.budget.crashes < model.budget.crashes
                            && all().all(|(_, slot)| slot.state == crate::State::Running)
                    },
                ),
            ]);
        }
        if self.spares {
            properties.extend([
                Property::sometimes("a spare takes over", |_, state: &State| {
                    state.host.spared.iter().any(|id| state.lives(*id))
                }),
                Property::sometimes("a spare stands by", |_, state: &State| {
                    state.core.slots().any(|(_, slot)| matches!(slot.spare, Spare::Ready { .. }))
                }),
                Property::sometimes("spares are not started any more", |_, state: &State| {
                    let given_up = |slot: &Slot| slot.spare.name() == "made";
                    state.core.slots().any(|(_, slot)| given_up(slot))
                }),
            ]);
        }
        properties
    }
}

fn explore(budget: Budget) -> String {
    run(System { budget, spares: false })
}

fn run(system: System) -> String {
    let budget = system.budget;
    let checker = system.checker().spawn_dfs().join();
    checker.assert_properties();
    alloc::format!("{budget:?}: {} states", checker.unique_state_count())
}

/// More of what comes from outside than usual.
fn more() -> u8 {
    std::env::var("XINIM_MODEL").ok().and_then(|n| n.parse().ok()).unwrap_or(0)
}

const NOTHING: Budget =
    Budget { crashes: 0, commands: 0, lookups: 0, updates: 0, shutdowns: 0, timeouts: 0 };

#[test]
fn crashes_and_lookups() {
    std::println!("{}", explore(Budget { crashes: 4 + more(), lookups: 2, ..NOTHING }));
}

#[test]
fn commands_and_crashes() {
    std::println!("{}", explore(Budget { crashes: 1 + more(), commands: 2 + more(), ..NOTHING }));
}

#[test]
fn the_end_of_the_system() {
    let budget = Budget { crashes: 2 + more(), lookups: 1, shutdowns: 1, ..NOTHING };
    std::println!("{}", explore(budget));
}

#[test]
fn starts_that_take_too_long() {
    std::println!("{}", explore(Budget { crashes: 1, timeouts: 2 + more(), ..NOTHING }));
}

#[test]
fn updates() {
    std::println!("{}", explore(Budget { crashes: 2 + more(), updates: 1, ..NOTHING }));
}

#[test]
fn spares() {
    let budget = Budget { crashes: 4 + more(), commands: 1, updates: 1, shutdowns: 1, ..NOTHING };
    std::println!("{}", run(System { budget, spares: true }));
}

#[test]
fn a_little_of_everything() {
    let more = more();
    std::println!(
        "{}",
        explore(Budget {
            crashes: 1 + more,
            commands: 1,
            lookups: 1,
            updates: 0,
            shutdowns: 1,
            timeouts: more,
        })
    );
}
