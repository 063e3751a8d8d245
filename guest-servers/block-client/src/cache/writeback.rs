//! Writing back: when, in which order, and who waits.

use xinim_abi::error::{Error, Result};
use xinim_abi::services::block::{Submission, op};

use super::line::mask;
use super::requests::Plan;
use super::{Cache, SECTOR};
use crate::Transport;

/// Ticks of [`Cache::background`] after which a dirty line is written.
pub const OLD: u64 = 5;

impl<T: Transport> Cache<T> {
    /// Writes everything dirty and has the device make it durable: what was written before is
    /// there after a power cut. The first error since the last flush is answered, and what failed
    /// stays dirty.
    pub fn flush(&mut self) -> Result<()> {
        let result = self.write_all();
        if self.unflushed && !self.info.read_only {
            if self.limits.write_cache {
                self.stats.flushes += 1;
                self.command(Submission { op: op::FLUSH, ..Submission::default() })?;
            }
            self.unflushed = false;
        }
        let failure = self.failure.take();
        result?;
        failure.map_or(Ok(()), Err)
    }

    /// Nothing written later reaches the medium before everything written until now has. (Today
    /// that is a [`Cache::flush`]; only the promise is less.)
    pub fn barrier(&mut self) -> Result<()> {
        self.flush()
    }

    /// Whether anything is not on the device yet; then to be called about once a second with
    /// `tick`, which writes what has been dirty for long, without waiting. Errors are kept for the
    /// next [`Cache::flush`].
    pub fn background(&mut self, tick: bool) -> bool {
        self.tick += u64::from(tick);
        if tick && self.collect_ready().is_ok() {
            self.round += 1;
            self.last_written = super::NO_LINE;
            let now = self.tick;
            self.start_write_back(self.depth(), |since| since + OLD <= now);
            self.transport.kick();
        }
        !self.dirty.is_empty() || self.writes_under_way > 0
    }

    /// Bytes that are not on the device yet.
    pub fn dirty_bytes(&self) -> u64 {
        let bits: u32 = self.lines.iter().map(|l| (l.dirty | l.writing).count_ones()).sum();
        u64::from(bits) * self.granule as u64
    }

    /// Writes everything dirty and waits for it.
    fn write_all(&mut self) -> Result<()> {
        self.round += 1;
        self.last_written = super::NO_LINE;
        let mut result = Ok(());
        loop {
            let room = self.depth().saturating_sub(self.requests.len());
            let started = self.start_write_back(room, |_| true);
            if self.writes_under_way == 0 {
                if started == 0 && room > 0 {
                    break;
                }
                if self.requests.is_empty() {
                    continue;
                }
            }
            // With nothing left to start, one wake-up for all is enough.
            let wanted = if started == 0 && room > 0 { self.requests.len() } else { 1 };
            result = result.and(self.collect(wanted));
            if result.is_err() {
                break;
            }
        }
        result?;
        match self.dirty.is_empty() {
            true => Ok(()),
            false => Err(self.failure.unwrap_or(Error::Io)),
        }
    }

    /// Starts writing dirty lines that `wanted` says (by the tick since which they are dirty),
    /// with at most `room` requests, in the elevator's order. Answers how many lines.
    fn start_write_back(&mut self, room: usize, wanted: impl Fn(u64) -> bool) -> usize {
        let room = room.min(self.depth().saturating_sub(self.requests.len()));
        let mut plan = Plan::default();
        let (mut started, mut at, mut wrapped) = (0, self.elevator, false);
        let begin = at;
        while plan.pieces.len() < room {
            let next = match self.dirty.range(at..).next() {
                Some(&number) if !wrapped || number < begin => number,
                None if !wrapped && begin > 0 => {
                    (at, wrapped) = (0, true);
                    continue;
                }
                _ => break,
            };
            at = next + 1;
            let Some(&slot) = self.index.get(&next) else { continue };
            let line = &self.lines[slot];
            if line.refused == self.round || next == self.last_written || !wanted(line.dirty_since)
            {
                continue;
            }
            let before = plan.pieces.len();
            let granules = line.dirty;
            self.add_runs(&mut plan, slot, granules);
            if plan.pieces.len() > room && before > 0 {
                // It does not fit any more; what was merged or added for it goes next time.
                self.unplan(&mut plan, before, slot);
                break;
            }
            let line = &mut self.lines[slot];
            line.writing |= granules;
            line.dirty = 0;
            self.dirty.remove(&next);
            started += 1;
            self.elevator = at;
        }
        self.stats.writes += plan.pieces.len() as u64;
        // An error has made the lines dirty again and is noted.
        let _ = self.submit(op::WRITE, &plan.pieces);
        started
    }

    /// Takes the pieces of `slot`, the last that was added, out again.
    fn unplan(&self, plan: &mut Plan, before: usize, slot: usize) {
        plan.pieces.truncate(before);
        let begin = slot * self.line_len();
        if let Some((_, offset, len)) = plan.pieces.last_mut()
            && *offset + *len > begin
            && *offset < begin
        {
            *len = begin - *offset;
        }
    }

    /// After a write: starts writing back where much is dirty, and waits where too much is.
    pub(super) fn throttle(&mut self) {
        let lines = self.lines.len();
        if self.dirty.len() < lines / 4 {
            return;
        }
        if self.collect_ready().is_err() {
            return;
        }
        self.round += 1;
        self.start_write_back(self.depth(), |_| true);
        let mut waited = false;
        while self.dirty.len() + self.writes_under_way > lines / 2 && self.writes_under_way > 0 {
            waited = true;
            if self.collect(1).is_err() {
                return;
            }
            self.start_write_back(self.depth(), |_| true);
        }
        self.stats.throttled += u64::from(waited);
    }

    /// A slot for another line, written back and waited for if need be.
    pub(super) fn wait_for_slot(&mut self) -> Result<usize> {
        self.round += 1;
        loop {
            if let Some(slot) = self.clean_slot() {
                return Ok(slot);
            }
            self.last_written = super::NO_LINE;
            let started = self.start_write_back(self.depth(), |_| true);
            if started == 0 && self.requests.is_empty() {
                return Err(self.failure.unwrap_or(Error::Io));
            }
            if !self.requests.is_empty() {
                self.collect(1)?;
            }
        }
    }

    /// Drops what is cached of `first..end` (whole blocks), once none of it is under way.
    pub(super) fn forget(&mut self, first: u64, end: u64) -> Result<()> {
        let line_len = self.line_len() as u64;
        let range = first / line_len..=(end - 1) / line_len;
        let numbers: alloc::vec::Vec<u64> = self.index.range(range).map(|(&n, _)| n).collect();
        for number in numbers {
            let begin = number * line_len;
            let from = (first.max(begin) - begin) as usize / self.granule;
            let last = (end.min(begin + line_len) - begin) as usize / self.granule - 1;
            let granules = mask(from, last);
            let Some(&slot) = self.index.get(&number) else { continue };
            while (self.lines[slot].reading | self.lines[slot].writing) & granules != 0 {
                self.collect(1)?;
            }
            let line = &mut self.lines[slot];
            line.valid &= !granules;
            line.dirty &= !granules;
            if line.dirty == 0 {
                self.dirty.remove(&number);
            }
            self.settle(slot, granules);
        }
        Ok(())
    }

    /// A device that does not know DISCARD ignores the hint.
    pub(super) fn discard_on_device(&mut self, first: u64, end: u64) -> Result<()> {
        let most = u64::from(self.limits.max_discard) / self.granule as u64 * self.granule as u64;
        if most == 0 {
            return Ok(());
        }
        let mut at = first;
        while at < end {
            let len = most.min(end - at);
            let sector = (self.start + at) / SECTOR;
            let submission =
                Submission { sector, len: len as u32, op: op::DISCARD, ..Submission::default() };
            match self.command(submission) {
                Err(Error::NotSup) => return Ok(()),
                other => other?,
            }
            self.unflushed = true;
            at += len;
        }
        Ok(())
    }
}
