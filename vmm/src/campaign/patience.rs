//! How long a machine is waited for: time in which it could have worked. On a busy host its threads stand in the
//! queue for a processor, and that is nothing it does.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A machine that never gets a processor is waited for this many times as long.
const STRETCH_MAX: u32 = 10;

/// Nanoseconds that each thread of a process has waited for a processor, by thread.
type Delays = BTreeMap<String, u64>;

#[derive(Debug)]
pub struct Patience {
    pid: u32,
    began: Instant,
    limit: Duration,
    before: Delays,
}

impl Patience {
    /// With the process `pid`, from now on.
    pub fn with(pid: u32, limit: Duration) -> Self {
        Self { pid, began: Instant::now(), limit, before: delays(pid) }
    }

    /// What is left of it.
    pub fn left(&self) -> Duration {
        let delayed = delayed(&self.before, &delays(self.pid));
        left(self.limit, self.began.elapsed(), delayed)
    }
}

fn left(limit: Duration, elapsed: Duration, delayed: Duration) -> Duration {
    let own = elapsed.saturating_sub(delayed);
    let end = limit.saturating_mul(STRETCH_MAX);
    limit.saturating_sub(own).min(end.saturating_sub(elapsed))
}

/// What the thread waited that waited longest: threads wait at the same time.
fn delayed(before: &Delays, now: &Delays) -> Duration {
    let since =
        |(thread, ns): (&String, &u64)| ns.saturating_sub(before.get(thread).copied().unwrap_or(0));
    Duration::from_nanos(now.iter().map(since).max().unwrap_or(0))
}

/// As the host's scheduler counts them; empty where it does not.
fn delays(pid: u32) -> Delays {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let threads = threads.into_iter().flatten().flatten();
    let delay = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        Some((thread.file_name().to_string_lossy().into_owned(), waited(&text)?))
    };
    threads.filter_map(delay).collect()
}

/// Of "time on a processor, time waiting for one, turns".
fn waited(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
#[path = "patience_tests.rs"]
mod tests;
