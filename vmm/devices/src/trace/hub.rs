//! The fan-out of events: one stream, several sinks, each with its own filter and switch.
//!
//! ```text
//!   device -> Tracer -> Hub -> Tap (on? wanted? passes the filter?) -> sink
//!                           -> Tap ...
//! ```
//! What all switched-on sinks want together is one atomic word. It is 0 when nobody listens, and
//! then an emission is one load and one branch. Sinks can be added and switched at any time from
//! any thread; an event under way while a sink is switched off may still reach it.

use super::{Event, Interest, TraceSink};
use crate::backend::Clock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Chooses among events.
pub trait Accept: Send + Sync {
    fn accepts(&self, event: &Event<'_>) -> bool;
}

/// One sink at the hub.
pub struct Tap {
    sink: Arc<dyn TraceSink>,
    filter: Option<Arc<dyn Accept>>,
    on: AtomicBool,
}

impl Tap {
    pub fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    pub fn sink(&self) -> &Arc<dyn TraceSink> {
        &self.sink
    }
}

/// Told what all sinks together want, whenever that changes.
type Watcher = Box<dyn Fn(Interest) + Send + Sync>;

/// See the module's head.
#[derive(Default)]
pub struct Hub {
    /// Of all taps that are on.
    interest: AtomicU32,
    taps: RwLock<Arc<[Arc<Tap>]>>,
    clock: Option<Arc<dyn Clock>>,
    watchers: Mutex<Vec<Watcher>>,
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("interest", &self.interest()).finish_non_exhaustive()
    }
}

impl Hub {
    /// Without sinks. With a clock, events get the time at which they happen; without one, the time
    /// their origin has (that of the access which led to them).
    pub fn new(clock: Option<Arc<dyn Clock>>) -> Self {
        Self { clock, ..Self::default() }
    }

    /// Whether anybody listens.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.interest.load(Ordering::Relaxed) != 0
    }

    /// Whether anybody listens for one of these.
    #[inline]
    pub fn wants(&self, interest: Interest) -> bool {
        self.interest().intersects(interest)
    }

    /// What all sinks together want.
    #[inline]
    pub fn interest(&self) -> Interest {
        Interest::from_bits_retain(self.interest.load(Ordering::Relaxed))
    }

    /// Adds a sink, switched on or off.
    pub fn add(
        &self,
        sink: Arc<dyn TraceSink>,
        filter: Option<Arc<dyn Accept>>,
        on: bool,
    ) -> Arc<Tap> {
        let tap = Arc::new(Tap { sink, filter, on: AtomicBool::new(on) });
        {
            let mut taps = self.taps.write().unwrap_or_else(PoisonError::into_inner);
            *taps = taps.iter().cloned().chain([tap.clone()]).collect();
        }
        self.changed();
        tap
    }

    /// Switches a sink that was added here.
    pub fn switch(&self, tap: &Tap, on: bool) {
        tap.on.store(on, Ordering::Relaxed);
        self.changed();
    }

    /// Calls `watcher` now and at each change of what the sinks want. It must not add or switch
    /// sinks.
    pub fn watch(&self, watcher: impl Fn(Interest) + Send + Sync + 'static) {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        watcher(self.interest());
        watchers.push(Box::new(watcher));
    }

    /// Forgets the watchers: what they work on is about to go.
    pub fn unwatch(&self) {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn changed(&self) {
        // Under this lock two changes at a time cannot leave the older word behind.
        let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        let taps = self.taps();
        let on = taps.iter().filter(|tap| tap.is_on());
        let interest = on.fold(Interest::empty(), |sum, tap| sum | tap.sink.interest());
        self.interest.store(interest.bits(), Ordering::SeqCst);
        watchers.iter().for_each(|watcher| watcher(interest));
    }

    /// A copy, so that a sink may itself emit or add.
    fn taps(&self) -> Arc<[Arc<Tap>]> {
        self.taps.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Time now, where there is a clock.
    pub fn now_ns(&self) -> Option<u64> {
        self.clock.as_ref().map(|clock| clock.monotonic().as_nanos() as u64)
    }

    /// Hands an event to every sink that wants it.
    pub fn send(&self, event: &Event<'_>) {
        let interest = event.kind.interest();
        for tap in self.taps().iter() {
            let wanted = tap.is_on() && tap.sink.interest().intersects(interest);
            if wanted && tap.filter.as_ref().is_none_or(|filter| filter.accepts(event)) {
                tap.sink.event(event);
            }
        }
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
