//! Token buckets: so many bytes and requests a second, with a burst.
//!
//! A request passes when each of its buckets holds at least one token, and then takes as many as it
//! costs; that may leave a debt, which the time must pay back first. So requests larger than the
//! burst pass, too, and the average is kept all the same.

use std::time::Duration;

use xinim_machine::{Limits, Rate};

const NANOS: u128 = 1_000_000_000;

/// One bucket; its level counts in tokens times nanoseconds, so that nothing is rounded away.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    rate: Rate,
    /// Tokens times 10^9; negative: debt.
    level: i128,
    at: Duration,
}

impl Bucket {
    fn new(rate: Rate, now: Duration) -> Self {
        let rate = Rate { per_second: rate.per_second.max(1), burst: rate.burst.max(1) };
        Self { rate, level: i128::from(rate.burst) * NANOS as i128, at: now }
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at).as_nanos() as i128;
        let full = i128::from(self.rate.burst) * NANOS as i128;
        let gained = passed.saturating_mul(self.rate.per_second.into());
        self.level = self.level.saturating_add(gained).min(full);
        self.at = self.at.max(now);
    }

    /// How long until it holds a token.
    fn wait(&self) -> Duration {
        let missing = NANOS as i128 - self.level;
        if missing <= 0 {
            return Duration::ZERO;
        }
        let nanos = (missing as u128).div_ceil(self.rate.per_second.into());
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

/// A disk's buckets. Times are since any fixed moment.
#[derive(Clone, Debug)]
pub struct Buckets {
    bytes: Option<Bucket>,
    operations: Option<Bucket>,
}

impl Buckets {
    /// Full ones.
    pub fn new(limits: &Limits, now: Duration) -> Self {
        let bucket = |rate: Option<Rate>| rate.map(|rate| Bucket::new(rate, now));
        Self { bytes: bucket(limits.bytes), operations: bucket(limits.operations) }
    }

    /// Lets one request of `bytes` pass now, or says how long it has to wait.
    pub fn pass(&mut self, bytes: u64, now: Duration) -> Result<(), Duration> {
        let mut wait = Duration::ZERO;
        // A flush costs no bytes, and does not wait for any.
        let counted = self.bytes.iter_mut().filter(|_| bytes > 0);
        for bucket in counted.chain(&mut self.operations) {
            bucket.refill(now);
            wait = wait.max(bucket.wait());
        }
        if wait > Duration::ZERO {
            return Err(wait);
        }
        if let Some(bucket) = &mut self.bytes {
            bucket.level -= i128::from(bytes) * NANOS as i128;
        }
        if let Some(bucket) = &mut self.operations {
            bucket.level -= NANOS as i128;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
