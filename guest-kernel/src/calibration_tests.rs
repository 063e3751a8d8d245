//! A processor that stands still now and then, while what it measures goes on.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

/// TSC ticks in the known time, of the timer for 64 of them, and of one step.
const LENGTH: u64 = 5_000_000;
const TIMER: u64 = 64;
const STEP: u64 = 2_000;

struct Host {
    now: u64,
    /// Ticks for which the processor is away before its next steps, the last first.
    away: Vec<u64>,
    timer_from: u64,
    from: u64,
    works: bool,
}

impl Host {
    fn new(mut away: Vec<u64>) -> Self {
        away.reverse();
        Self { now: 12_345, away, timer_from: 0, from: 0, works: true }
    }

    /// Something takes effect in the middle of a step, and the processor may be away on either side of it.
    fn step<T>(&mut self, effect: impl FnOnce(&mut Self) -> T) -> T {
        self.now += self.away.pop().unwrap_or(0) + STEP / 2;
        let result = effect(self);
        self.now += self.away.pop().unwrap_or(0) + STEP / 2;
        result
    }
}

impl Reference for Host {
    fn tsc(&mut self) -> u64 {
        self.now += self.away.pop().unwrap_or(0) + 10;
        self.now
    }
    fn prepare(&mut self) {
        self.step(|_| ());
    }
    fn start_timer(&mut self) {
        self.step(|host| host.timer_from = host.now);
    }
    fn timer(&mut self) -> u64 {
        self.step(|host| (host.now - host.timer_from) / TIMER)
    }
    fn begin(&mut self) {
        self.step(|host| host.from = host.now);
    }
    fn is_over(&mut self) -> bool {
        self.step(|host| host.works && host.now - host.from >= LENGTH)
    }
}

fn off(measured: u64, truth: u64) -> u64 {
    measured.abs_diff(truth) * 1000 / truth
}

#[test]
fn a_processor_of_its_own() {
    let mut host = Host::new(Vec::new());
    let measured = measure(&mut host, 1 << 20).expect("measured");
    assert!(
        off(measured.tsc, LENGTH) <= 1 && off(measured.timer, LENGTH / TIMER) <= 2,
        "{measured:?}"
    );
    // Four runs, not more.
    assert!(host.now < LENGTH * 5);
}

/// Away between the beginning and the first look at the TSC, which is to see hardly anything of the rest:
/// a fifth of the ticks, as a clock that goes five times too fast has it.
#[test]
fn away_at_the_beginning() {
    // prepare, tsc, start_timer, tsc, and behind the middle of begin.
    let run = [0, 0, 0, 0, 0, 0, 0, LENGTH * 4 / 5];
    let mut host = Host::new(run.to_vec());
    let once = once(&mut host, 1 << 20).expect("measured");
    assert!(off(once.tsc, LENGTH) > 300 && once.doubt > LENGTH / 2, "{once:?}");
    let measured = measure(&mut Host::new(run.to_vec()), 1 << 20).expect("measured");
    assert!(off(measured.tsc, LENGTH) <= 1, "{measured:?}");
}

#[test]
fn nothing_to_measure_against() {
    let mut host = Host::new(Vec::new());
    host.works = false;
    assert_eq!(measure(&mut host, 100), None);
}

proptest! {
    /// Whatever happens, the truth is within the bounds; and there are runs enough for a good one.
    #[test]
    fn the_truth_is_within_the_bounds(away in proptest::collection::vec(
        prop_oneof![8 => Just(0), 1 => 0..LENGTH * 3], 0..400,
    )) {
        let one = once(&mut Host::new(away.clone()), 1 << 20).expect("measured");
        prop_assert!(one.tsc.abs_diff(LENGTH) <= one.doubt, "{:?}", one);
        let measured = measure(&mut Host::new(away), 1 << 20).expect("measured");
        prop_assert!(measured.tsc.abs_diff(LENGTH) <= measured.doubt, "{:?}", measured);
        prop_assert!(off(measured.tsc, LENGTH) <= 16, "{:?}", measured);
        prop_assert!(off(measured.timer, LENGTH / TIMER) <= 32, "{:?}", measured);
    }
}
