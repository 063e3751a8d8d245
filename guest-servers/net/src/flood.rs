//! More datagrams than programs take: the server, which runs before them, could spend all its time on
//! throwing them away (receive livelock). Once most of what came in has found no room, nothing is taken
//! in for a while, and what comes meanwhile is lost where that costs least: at the device's full ring.
//!
//! ```text
//!            most of a turn's datagrams found no room
//!   open ───────────────────────────────────────────────> closed: LEAST, then until half of what waited
//!     ^                                                      │    has been read, MOST at the longest
//!     └──────────────────────────────────────────────────────┘
//! ```
//! Connections wait as long as datagrams do; they repeat what was lost.

use smoltcp::time::{Duration, Instant};

/// Fewer datagrams in a turn are no flood.
const MANY: u64 = 32;
const LEAST: Duration = Duration::from_millis(2);
const MOST: Duration = Duration::from_millis(10);

/// Datagrams that came in so far, and the bytes of their payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Datagrams {
    pub count: u64,
    pub bytes: u64,
}

#[derive(Debug)]
struct Closed {
    since: Instant,
    /// Bytes that waited to be read then.
    waiting: usize,
}

#[derive(Debug, Default)]
pub struct Flood {
    closed: Option<Closed>,
    /// The last turn took in many.
    many: bool,
    /// Times that it was closed.
    pub times: u64,
}

impl Flood {
    /// Must be told what waits to be read before a turn.
    pub fn is_watching(&self) -> bool {
        self.many || self.closed.is_some()
    }

    /// May frames be taken in? `waiting`: bytes of datagrams that programs have not read yet.
    pub fn is_open(&mut self, now: Instant, waiting: usize) -> bool {
        let Some(closed) = &self.closed else { return true };
        let rested = now >= closed.since + LEAST && waiting <= closed.waiting / 2;
        if rested || now >= closed.since + MOST || now < closed.since {
            self.closed = None;
        }
        self.closed.is_none()
    }

    /// A turn took in `came`; `before` and `after` it so much waited to be read (if it was watched).
    pub fn took_in(&mut self, now: Instant, came: Datagrams, before: usize, after: usize) {
        let flood = self.many && came.count >= MANY;
        self.many = came.count >= MANY;
        let found_room = after.saturating_sub(before) as u64;
        if flood && found_room.saturating_mul(2) < came.bytes.max(came.count) {
            self.closed = Some(Closed { since: now, waiting: after });
            self.times += 1;
        }
    }

    /// When to look again, while it is closed.
    pub fn due(&self, now: Instant) -> Option<Instant> {
        let closed = self.closed.as_ref()?;
        let least = closed.since + LEAST;
        Some(if now < least { least } else { closed.since + MOST })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const MANY_BYTES: Datagrams = Datagrams { count: MANY, bytes: MANY * 1000 };

    fn flooded(now: Instant) -> Flood {
        let mut flood = Flood::default();
        flood.took_in(now, MANY_BYTES, 0, 0);
        assert!(flood.is_watching() && flood.is_open(now, 8000));
        flood.took_in(now, MANY_BYTES, 8000, 9000);
        flood
    }

    #[test]
    fn closed_until_programs_have_read() {
        let now = Instant::from_millis(5);
        let mut flood = flooded(now);
        assert_eq!(flood.due(now), Some(now + LEAST));
        assert!(!flood.is_open(now + MS, 0));
        assert!(!flood.is_open(now + LEAST, 4501));
        assert_eq!(flood.due(now + LEAST), Some(now + MOST));
        assert!(flood.is_open(now + LEAST + MS, 4500));
        assert_eq!((flood.due(now), flood.times), (None, 1));
    }

    #[test]
    fn closed_no_longer_than_that_for_programs_that_never_read() {
        let now = Instant::from_millis(5);
        let mut flood = flooded(now);
        assert!(!flood.is_open(now + MOST - MS, 9000));
        assert!(flood.is_open(now + MOST, 9000));
        // Nor by a clock that went back.
        assert!(flooded(now).is_open(now - MS, 9000));
    }

    #[test]
    fn what_finds_room_is_no_flood() {
        let now = Instant::from_millis(5);
        let mut flood = Flood::default();
        for turn in 0..10 {
            let at = turn * 20_000;
            flood.took_in(now, MANY_BYTES, at, at + 16_000);
            assert!(flood.is_open(now, at));
        }
        flood.took_in(now, Datagrams { count: MANY - 1, bytes: 1 << 20 }, 0, 0);
        assert!(flood.is_open(now, 0));
        assert!(!flood.is_watching());
    }
}
