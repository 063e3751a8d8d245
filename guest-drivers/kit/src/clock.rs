//! Time for drivers, and the only way they may wait for a device: with a limit.

/// A monotonic clock that can also let time pass.
pub trait Clock {
    /// Nanoseconds since some fixed moment; never goes back.
    fn now_ns(&self) -> u64;

    /// Lets about `ns` nanoseconds pass (other threads may run).
    fn pause(&self, ns: u64);

    /// Lets `ns` nanoseconds pass, and not much more: for a device that wants to be left alone for less time
    /// than it may take to get the processor back.
    fn delay(&self, ns: u64) {
        self.pause(ns);
    }
}

impl<C: Clock + ?Sized> Clock for &C {
    fn now_ns(&self) -> u64 {
        (**self).now_ns()
    }
    fn pause(&self, ns: u64) {
        (**self).pause(ns);
    }
    fn delay(&self, ns: u64) {
        (**self).delay(ns);
    }
}

/// Polls this often without a pause first: most devices answer at once, and on a virtual machine
/// each poll is an exit that costs more than any pause would save.
const EAGER_POLLS: u32 = 4;
/// Longest pause between two polls.
const MAX_PAUSE_NS: u64 = 1_000_000;

/// Polls `condition` until it holds or `timeout_ns` have passed; says whether it held. The
/// condition is tried at least once, and once more after the time is up.
pub fn wait_until<C: Clock>(
    clock: &C,
    timeout_ns: u64,
    mut condition: impl FnMut() -> bool,
) -> bool {
    for _ in 0..EAGER_POLLS {
        if condition() {
            return true;
        }
    }
    let start = clock.now_ns();
    let mut pause = 10_000;
    loop {
        let over = clock.now_ns().saturating_sub(start) >= timeout_ns;
        if condition() {
            return true;
        }
        if over {
            return false;
        }
        clock.pause(pause);
        pause = (pause * 2).min(MAX_PAUSE_NS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeClock;

    #[test]
    fn gives_up_after_the_time_but_tries_once_more() {
        let clock = FakeClock::default();
        let mut polls = 0;
        assert!(!wait_until(&clock, 5_000_000, || {
            polls += 1;
            false
        }));
        assert!(clock.now_ns() >= 5_000_000 && clock.now_ns() < 10_000_000);
        assert!(polls > 5);
    }

    #[test]
    fn a_condition_that_comes_true_ends_the_wait() {
        let clock = FakeClock::default();
        assert!(wait_until(&clock, 5_000_000, || clock.now_ns() > 100_000));
        assert!(clock.now_ns() < 5_000_000);
        assert!(wait_until(&clock, 0, || true));
    }
}
