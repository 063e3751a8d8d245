//! Rules against each adapter, without a guest: for each action a case that triggers it and one that
//! does not.

mod disk;
mod dma;
mod function;
mod grammar;
mod irq;
mod matrix;
mod net;

use super::*;
use crate::backend::Clock;
use crate::device::Origin;
use crate::testing::net::TimerLog;
use crate::testing::{ManualClock, TraceLog};
use crate::trace::Tracer;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const MS: Duration = Duration::from_millis(1);

/// A machine's rules, with time and trace in the test's hand.
pub struct Rig {
    pub faults: Arc<Faults>,
    pub clock: Arc<ManualClock>,
    pub timer: Arc<TimerLog>,
    pub trace: Arc<TraceLog>,
    pub site: Site,
    pub target: Arc<Log>,
}

/// What a device was told to do.
#[derive(Default)]
pub struct Log(pub Mutex<Vec<String>>);

impl Log {
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    fn note(&self, what: String) {
        self.0.lock().unwrap().push(what);
    }
}

impl Target for Log {
    fn ready(&self, _origin: &Origin) -> bool {
        self.note("ready".into());
        false
    }
    fn notify(&self, queue: u16, _origin: &Origin) -> bool {
        self.note(format!("notify {queue}"));
        false
    }
    fn set_link(&self, up: bool, _origin: &Origin) -> bool {
        self.note(format!("link {up}"));
        true
    }
}

impl Rig {
    /// With one device of these names.
    pub fn new(names: &[&str]) -> Self {
        let (clock, timer) = (ManualClock::new(Duration::ZERO), TimerLog::new());
        let trace = TraceLog::new();
        let faults = Faults::new(clock.clone(), timer.clone(), Tracer::new(trace.clone()));
        let site = faults.site(names);
        let target = Arc::new(Log::default());
        site.connect(target.clone());
        Self { faults, clock, timer, trace, site, target }
    }

    #[track_caller]
    pub fn add(&self, rule: &str) -> u32 {
        self.faults.add(rule).unwrap()
    }

    /// Lets time pass, and what falls due then happen.
    pub fn pass(&self, time: Duration) {
        self.clock.advance(time);
        let now = self.clock.monotonic();
        let origin = Origin::host(now.as_nanos() as u64);
        while self.timer.fire(now) {
            while self.faults.run_due(&origin) {}
        }
    }

    #[track_caller]
    pub fn hits(&self, id: u32) -> (u64, u64) {
        let list = self.faults.list();
        let found = list.iter().find(|status| status.id == id).unwrap();
        (found.matches, found.hits)
    }
}
