//! Waiting.

use xinim_abi::object::Handle;

use crate::{kip, sys};

pub use kip::{now_ns, wall_clock_ns};

pub fn sleep_ns(ns: u64) {
    sys::thread_sleep(now_ns().saturating_add(ns).max(1));
}

pub fn sleep_ms(ms: u64) {
    sleep_ns(ms.saturating_mul(1_000_000));
}

/// An endpoint's timer, for a server that looks at everything that is due whenever it is woken: setting it
/// costs a system call and one that rings too early only a look, so it is only ever moved forward.
#[derive(Debug, Default)]
pub struct Alarm {
    /// When it rings, ns since boot.
    at: Option<u64>,
}

impl Alarm {
    /// It rings at `at` (ns since boot) or before: `bits::TIMER` of `endpoint`.
    pub fn set(&mut self, endpoint: Handle, at: u64) {
        if self.at.is_none_or(|set| at < set) {
            self.at = sys::timer_set(endpoint, at).is_ok().then_some(at);
        }
    }

    /// `bits::TIMER` was raised.
    pub fn rang(&mut self) {
        self.at = None;
    }
}
