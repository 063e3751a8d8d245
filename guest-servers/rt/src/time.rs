//! Waiting.

use crate::{kip, sys};

pub use kip::{now_ns, wall_clock_ns};

pub fn sleep_ns(ns: u64) {
    sys::thread_sleep(now_ns().saturating_add(ns).max(1));
}

pub fn sleep_ms(ms: u64) {
    sleep_ns(ms.saturating_mul(1_000_000));
}
