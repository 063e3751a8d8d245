//! What the units did, for people who watch disks: counts, bytes and times by operation.

use xinim_abi::services::block::{block, op};

#[derive(Clone, Copy, Debug, Default)]
struct Kind {
    requests: u64,
    bytes: u64,
    errors: u64,
    time_ns: u64,
}

/// Counters of one unit. Times are in ns.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnitStatistics {
    kinds: [Kind; op::COUNT as usize],
    in_flight: u32,
    /// Since when something has been in flight.
    busy_since: u64,
    busy_ns: u64,
}

impl UnitStatistics {
    /// A request was given to the device.
    pub fn started(&mut self, now: u64) {
        if self.in_flight == 0 {
            self.busy_since = now;
        }
        self.in_flight += 1;
    }

    /// A request that was started at `since` came back. `operation` is one of [`op`].
    pub fn ended(&mut self, operation: u32, bytes: u32, since: u64, now: u64, good: bool) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0 {
            self.busy_ns += now.saturating_sub(self.busy_since);
        }
        if let Some(kind) = self.kinds.get_mut(operation as usize) {
            kind.requests += 1;
            kind.bytes += u64::from(if good { bytes } else { 0 });
            kind.errors += u64::from(!good);
            kind.time_ns += now.saturating_sub(since);
        }
    }

    /// Answer to `Statistics`; `None` for an operation that does not exist.
    pub fn reply(&self, operation: u32, now: u64) -> Option<block::StatisticsReply> {
        let kind = self.kinds.get(operation as usize)?;
        let running = if self.in_flight > 0 { now.saturating_sub(self.busy_since) } else { 0 };
        Some(block::StatisticsReply {
            requests: kind.requests,
            bytes: kind.bytes,
            errors: kind.errors,
            time_ns: kind.time_ns,
            in_flight: self.in_flight,
            busy_ns: self.busy_ns + running,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_time_is_the_union_of_the_requests() {
        let mut unit = UnitStatistics::default();
        unit.started(100);
        unit.started(150);
        assert_eq!(unit.reply(op::READ, 160).unwrap().busy_ns, 60);
        unit.ended(op::READ, 512, 100, 200, true);
        unit.ended(op::WRITE, 512, 150, 300, false);
        unit.started(1000);
        unit.ended(op::READ, 1024, 1000, 1001, true);
        let reads = unit.reply(op::READ, 5000).unwrap();
        assert_eq!((reads.requests, reads.bytes, reads.time_ns), (2, 1536, 101));
        assert_eq!((reads.in_flight, reads.busy_ns), (0, 201));
        let writes = unit.reply(op::WRITE, 5000).unwrap();
        assert_eq!((writes.requests, writes.bytes, writes.errors), (1, 0, 1));
        assert!(unit.reply(op::COUNT, 0).is_none());
    }
}
