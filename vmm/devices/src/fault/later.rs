//! What has to happen later, what is stuck, and what is gone.

use super::plan::{Faults, Hit, STUCK, Site, State};
use crate::bus::lock;
use crate::device::Origin;
use std::sync::Arc;
use std::time::Duration;

/// Things of one call of [`Faults::run_due`] at most.
const BATCH: usize = 64;

/// Done at a time; returns whether to do it again at once.
pub(super) struct Later {
    at: Duration,
    work: Box<dyn FnMut(&Origin) -> bool + Send>,
}

/// Where nothing moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum What {
    /// Requests of a disk complete no more.
    Requests,
    /// No frames to the guest, or none from it.
    Frames {
        sent: bool,
    },
    /// This register keeps its value.
    Register {
        name: &'static str,
        index: Option<u16>,
        value: u64,
    },
    Interrupts,
    Queue(u16),
}

impl What {
    /// Whether both are about the same thing.
    pub fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Register { name: a, index: i, .. },
                Self::Register { name: b, index: j, .. },
            ) => (a, i) == (b, j),
            (a, b) => a == b,
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct Stuck {
    pub rule: u32,
    names: Arc<[String]>,
    what: What,
    until: Option<Duration>,
}

impl Faults {
    /// Has `work` done at `at`, on the thread that calls [`run_due`](Self::run_due).
    pub(super) fn later(&self, at: Duration, work: impl FnMut(&Origin) -> bool + Send + 'static) {
        let mut state = lock(&self.state);
        state.later.push(Later { at, work: Box::new(work) });
        self.arm(&state);
    }

    fn arm(&self, state: &State) {
        self.timer.arm(state.later.iter().map(|later| later.at).min());
    }

    /// Does what is due. Whether to call again at once.
    pub fn run_due(&self, origin: &Origin) -> bool {
        let now = self.clock.monotonic();
        let mut due = Vec::new();
        {
            let mut state = lock(&self.state);
            // In the order of their times; those of one time in the order they came.
            state.later.sort_by_key(|later| later.at);
            let count = state.later.iter().take_while(|later| later.at <= now).count();
            due.extend(state.later.drain(..count.min(BATCH)));
            self.free_stuck(&mut state, now);
        }
        for mut later in due {
            if (later.work)(origin) {
                later.at = now;
                lock(&self.state).later.push(later);
            }
        }
        let state = lock(&self.state);
        self.arm(&state);
        state.later.iter().any(|later| later.at <= now)
    }

    fn free_stuck(&self, state: &mut State, now: Duration) {
        let before = state.stuck.len();
        state.stuck.retain(|stuck| stuck.until.is_none_or(|until| now < until));
        if state.stuck.len() != before {
            self.refresh(state);
        }
    }

    /// From now on nothing moves there.
    pub(super) fn stick(&self, site: &Site, what: What, hit: &Hit) {
        let now = self.clock.monotonic();
        let until = hit.time.map(|time| now + time);
        {
            let mut state = lock(&self.state);
            let names = site.names.clone();
            if state.stuck.iter().any(|s| s.names == names && s.what.same(&what)) {
                return;
            }
            state.stuck.push(Stuck { rule: hit.rule, names, what, until });
            self.refresh(&state);
        }
        if let Some(until) = until {
            site.wake(until);
        }
    }

    /// What sticks there now; a stuck register tells its value.
    pub(super) fn stuck(&self, names: &[String], what: &What) -> Option<What> {
        let now = self.clock.monotonic();
        let mut state = lock(&self.state);
        self.free_stuck(&mut state, now);
        let found = state.stuck.iter().find(|s| *s.names == *names && s.what.same(what));
        found.map(|stuck| stuck.what.clone())
    }

    /// The device of this name was reset by its driver: what stuck there is free.
    pub(super) fn reset_seen(&self, name: &str) {
        self.unstick(|stuck| stuck.names.first().is_some_and(|first| first == name));
    }

    /// The same for one site.
    pub(super) fn free(&self, names: &[String], what: &What) {
        self.unstick(|stuck| *stuck.names == *names && stuck.what.same(what));
    }

    fn unstick(&self, which: impl Fn(&Stuck) -> bool) {
        if !self.watches(STUCK) {
            return;
        }
        let mut state = lock(&self.state);
        state.stuck.retain(|stuck| !which(stuck));
        self.refresh(&state);
    }

    pub(super) fn is_gone(&self, name: &str) -> bool {
        lock(&self.state).gone.iter().any(|gone| gone == name)
    }
}
