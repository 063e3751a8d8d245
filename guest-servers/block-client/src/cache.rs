//! A write-back cache over a [`Transport`].
//!
//! ```text
//! line:   64 granules (a granule is one logical block)      number = first granule / 64
//! masks:  valid  the granule's bytes are those of the device, or newer
//!         dirty  newer than the device (dirty implies valid)
//! reading: a fetch of the granules that are not valid is under way (read-ahead)
//! ```
//! Whole granules are written without being read first. A line with a fetch under way is waited
//! for before anything else touches it; writes to the device are waited for at once, so a buffer
//! never changes under the device's hands. Sequential misses fetch up to [`READ_AHEAD`] bytes
//! more, without waiting.
//!
//! A write that the device refused leaves its granules dirty and is reported by the operation that
//! caused it and by the next [`Cache::flush`]: nothing is dropped silently.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::block::{ENTRIES, Submission, op};

use crate::{Info, Transport};

const GRANULES: usize = 64;
/// Fetched beyond a sequential miss.
const READ_AHEAD: usize = 256 * 1024;
const SECTOR: u64 = 512;

#[derive(Clone, Copy, Debug)]
struct Line {
    /// Which part of the device; meaningless while `valid`, `dirty` and `reading` are clear.
    number: u64,
    valid: u64,
    dirty: u64,
    /// Granules being fetched.
    reading: u64,
    /// Requests of that fetch still under way.
    pending: u32,
    failed: bool,
    used: u64,
}

/// Counts since the cache was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub hits: u64,
    pub misses: u64,
    pub lines_read: u64,
    pub lines_written: u64,
}

/// The cache; see the module. Offsets and lengths are bytes within the partition it was opened for.
#[derive(Debug)]
pub struct Cache<T> {
    transport: T,
    info: Info,
    /// First byte and length of the partition on the device.
    start: u64,
    len: u64,
    granule: usize,
    lines: Vec<Line>,
    index: BTreeMap<u64, usize>,
    clock: u64,
    /// The line that a sequential reader would ask for next.
    expected: u64,
    /// First line behind what read-ahead has asked for.
    ahead: u64,
    next_id: u64,
    outstanding: usize,
    /// Line of each request under way.
    requests: BTreeMap<u64, usize>,
    failure: Option<Error>,
    pub stats: Stats,
}

/// Mask of granules `first..=last`.
fn mask(first: usize, last: usize) -> u64 {
    let high = if last >= 63 { u64::MAX } else { (1 << (last + 1)) - 1 };
    high & !((1 << first) - 1)
}

/// Runs of set bits as (first, count).
fn runs(mut bits: u64) -> impl Iterator<Item = (usize, usize)> {
    core::iter::from_fn(move || {
        if bits == 0 {
            return None;
        }
        let first = bits.trailing_zeros() as usize;
        let count = (bits >> first).trailing_ones() as usize;
        bits &= !mask(first, first + count - 1);
        Some((first, count))
    })
}

impl<T: Transport> Cache<T> {
    /// For `sectors` 512-byte sectors from `start`. `Inval` outside the device or too little data
    /// memory.
    pub fn new(transport: T, start: u64, sectors: u64) -> Result<Self> {
        let info = transport.info();
        let granule = (info.block_size as usize).max(SECTOR as usize);
        let inside = start.checked_add(sectors).is_some_and(|end| end <= info.sectors);
        let count = transport.data_len() / (granule * GRANULES);
        if !inside || !granule.is_power_of_two() || count < 2 || info.max_bytes < granule as u32 {
            return Err(Error::Inval);
        }
        let free =
            Line { number: 0, valid: 0, dirty: 0, reading: 0, pending: 0, failed: false, used: 0 };
        Ok(Self {
            transport,
            info,
            start: start * SECTOR,
            len: sectors * SECTOR,
            granule,
            lines: alloc::vec![free; count],
            index: BTreeMap::new(),
            clock: 0,
            expected: u64::MAX,
            ahead: 0,
            next_id: 0,
            outstanding: 0,
            requests: BTreeMap::new(),
            failure: None,
            stats: Stats::default(),
        })
    }

    /// Bytes of the partition.
    pub fn len(&self) -> u64 {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn read_only(&self) -> bool {
        self.info.read_only
    }

    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// Gives the transport back. Nothing may be dirty or under way: for a cache only read from.
    pub fn into_transport(mut self) -> T {
        debug_assert!(self.lines.iter().all(|line| line.dirty == 0));
        // Completions of read-ahead must not surprise the next user.
        let _ = self.drain();
        self.transport
    }

    fn line_len(&self) -> usize {
        self.granule * GRANULES
    }

    /// Fills `out` from `offset`. `Inval` beyond the end.
    pub fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.check(offset, out.len())?;
        let mut done = 0;
        while done < out.len() {
            let (number, at, count) = self.piece(offset + done as u64, out.len() - done);
            let wanted = mask(at / self.granule, (at + count - 1) / self.granule);
            let slot = self.line(number)?;
            let hit = self.lines[slot].valid & wanted == wanted;
            if hit {
                self.stats.hits += 1;
            } else {
                self.stats.misses += 1;
                self.fetch(slot)?;
            }
            let sequential = number == self.expected;
            self.expected = number + 1;
            if sequential && !hit {
                // Before waiting; a line that is being read cannot be taken for another.
                self.read_ahead(number + 1);
            }
            if !hit {
                self.settle(slot)?;
            }
            let base = slot * self.line_len();
            self.transport.read_data(base + at, &mut out[done..done + count])?;
            if sequential && hit {
                // Only now: it may take any clean line, this one too.
                self.read_ahead(number + 1);
            }
            done += count;
        }
        Ok(())
    }

    /// Writes `data` at `offset` into the cache. `RoFs` on a read-only device, `Inval` beyond the
    /// end.
    pub fn write(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        self.check(offset, data.len())?;
        if self.info.read_only {
            return Err(Error::RoFs);
        }
        let mut done = 0;
        while done < data.len() {
            let (number, at, count) = self.piece(offset + done as u64, data.len() - done);
            let slot = self.line(number)?;
            self.settle(slot)?;
            let (first, last) = (at / self.granule, (at + count - 1) / self.granule);
            let mut partial = 0;
            if !at.is_multiple_of(self.granule) {
                partial |= 1 << first;
            }
            if !(at + count).is_multiple_of(self.granule) {
                partial |= 1 << last;
            }
            if partial & !self.lines[slot].valid != 0 {
                self.stats.misses += 1;
                self.fetch(slot)?;
                self.settle(slot)?;
            }
            let base = slot * self.line_len();
            self.transport.write_data(base + at, &data[done..done + count])?;
            let written = mask(first, last);
            self.lines[slot].valid |= written;
            self.lines[slot].dirty |= written;
            done += count;
        }
        Ok(())
    }

    /// Writes everything dirty and has the device make it durable.
    pub fn flush(&mut self) -> Result<()> {
        let result = self.write_back(|_| true);
        if !self.info.read_only {
            self.flush_device()?;
        }
        let failure = self.failure.take();
        result?;
        failure.map_or(Ok(()), Err)
    }

    fn check(&self, offset: u64, len: usize) -> Result<()> {
        match offset.checked_add(len as u64) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(Error::Inval),
        }
    }

    /// Line, offset in it and length of what can be done at `offset` at once.
    fn piece(&self, offset: u64, len: usize) -> (u64, usize, usize) {
        let line_len = self.line_len() as u64;
        let at = (offset % line_len) as usize;
        (offset / line_len, at, len.min(self.line_len() - at))
    }

    /// Granules of line `number` that lie within the partition.
    fn extent(&self, number: u64) -> u64 {
        let start = number * self.line_len() as u64;
        let bytes = self.len.saturating_sub(start).min(self.line_len() as u64) as usize;
        match bytes / self.granule {
            0 => 0,
            granules => mask(0, granules - 1),
        }
    }

    /// The slot of a line, taking the least recently used one if it is not there.
    fn line(&mut self, number: u64) -> Result<usize> {
        self.clock += 1;
        let slot = match self.index.get(&number) {
            Some(&slot) => slot,
            None => self.take(number)?,
        };
        self.lines[slot].used = self.clock;
        Ok(slot)
    }

    fn take(&mut self, number: u64) -> Result<usize> {
        if self.oldest_clean().is_none() {
            // Everything is dirty or being read: write back the older half, wait for the rest.
            let limit = self.clock.saturating_sub(self.lines.len() as u64 / 2);
            self.write_back(|line| line.used <= limit)?;
            if self.oldest_clean().is_none() {
                self.write_back(|_| true)?;
                self.drain()?;
            }
        }
        let slot = self.oldest_clean().ok_or(Error::Io)?;
        let line = &mut self.lines[slot];
        if line.used != 0 {
            self.index.remove(&line.number);
        }
        *line = Line { number, valid: 0, dirty: 0, reading: 0, pending: 0, failed: false, used: 0 };
        self.index.insert(number, slot);
        Ok(slot)
    }

    fn oldest_clean(&self) -> Option<usize> {
        let lines = self.lines.iter().enumerate();
        let clean = lines.filter(|(_, line)| line.dirty == 0 && line.pending == 0);
        clean.min_by_key(|(_, line)| line.used).map(|(slot, _)| slot)
    }

    /// Starts reading what is not valid in a line.
    fn fetch(&mut self, slot: usize) -> Result<()> {
        let line = self.lines[slot];
        if line.pending > 0 {
            return Ok(());
        }
        let missing = self.extent(line.number) & !line.valid;
        self.lines[slot].failed = false;
        self.lines[slot].reading = missing;
        self.stats.lines_read += u64::from(missing != 0);
        self.transfer(slot, op::READ, missing)
    }

    /// Starts reading what a sequential reader will want. Failures are not its business: whoever
    /// needs those bytes will see them.
    fn read_ahead(&mut self, from: u64) {
        let lines = (READ_AHEAD / self.line_len()).max(1).min(self.lines.len() / 4) as u64;
        if lines == 0 || self.ahead >= from + lines / 2 && self.ahead <= from + lines {
            return;
        }
        for number in from..from + lines {
            if self.extent(number) == 0 {
                break;
            }
            if !self.index.contains_key(&number)
                && self.line(number).and_then(|slot| self.fetch(slot)).is_err()
            {
                break;
            }
            self.ahead = number + 1;
        }
    }

    /// Waits until no fetch of this line is under way. The fetch's error, once.
    fn settle(&mut self, slot: usize) -> Result<()> {
        while self.lines[slot].pending > 0 {
            self.collect()?;
        }
        if core::mem::take(&mut self.lines[slot].failed) { Err(Error::Io) } else { Ok(()) }
    }

    /// Waits for everything under way.
    fn drain(&mut self) -> Result<()> {
        while self.outstanding > 0 {
            self.collect()?;
        }
        Ok(())
    }

    /// Writes the dirty granules of the lines that `which` picks, in the device's order.
    fn write_back(&mut self, which: impl Fn(&Line) -> bool) -> Result<()> {
        let slots: Vec<usize> = self
            .index
            .values()
            .copied()
            .filter(|&slot| self.lines[slot].dirty != 0 && which(&self.lines[slot]))
            .collect();
        for &slot in &slots {
            self.settle(slot).or_else(|error| match self.lines[slot].dirty {
                0 => Err(error),
                _ => Ok(()), // a failed read-ahead beside dirty granules concerns its reader only
            })?;
            self.stats.lines_written += 1;
            self.transfer(slot, op::WRITE, self.lines[slot].dirty)?;
        }
        self.drain()?;
        let mut result = Ok(());
        for &slot in &slots {
            let line = &mut self.lines[slot];
            if core::mem::take(&mut line.failed) {
                self.failure.get_or_insert(Error::Io);
                result = Err(Error::Io);
            } else {
                line.dirty = 0;
            }
        }
        result
    }

    /// Submits requests for runs of granules of one line.
    fn transfer(&mut self, slot: usize, operation: u32, granules: u64) -> Result<()> {
        let most = (self.info.max_bytes as usize / self.granule).max(1);
        let number = self.lines[slot].number;
        let line_start = self.start + number * self.line_len() as u64;
        let mut batch: Vec<Submission> = Vec::new();
        for (first, count) in runs(granules) {
            let mut done = 0;
            while done < count {
                let part = (count - done).min(most);
                let at = (first + done) * self.granule;
                batch.push(Submission {
                    id: 0,
                    sector: (line_start + at as u64) / SECTOR,
                    offset: (slot * self.line_len() + at) as u32,
                    len: (part * self.granule) as u32,
                    op: operation,
                    flags: 0,
                });
                done += part;
            }
        }
        let depth = (self.info.depth.min(ENTRIES) as usize).max(1);
        let mut rest = batch.as_mut_slice();
        while !rest.is_empty() {
            while self.outstanding >= depth {
                self.collect()?;
            }
            let (now, later) = rest.split_at_mut(rest.len().min(depth - self.outstanding));
            for request in now.iter_mut() {
                self.next_id += 1;
                request.id = self.next_id;
            }
            self.transport.submit(now)?;
            for request in now.iter() {
                self.requests.insert(request.id, slot);
                self.lines[slot].pending += 1;
                self.outstanding += 1;
            }
            rest = later;
        }
        Ok(())
    }

    /// A FLUSH by itself, waited for.
    fn flush_device(&mut self) -> Result<()> {
        self.drain()?;
        self.next_id += 1;
        let id = self.next_id;
        self.transport.submit(&[Submission { id, op: op::FLUSH, ..Submission::default() }])?;
        let mut completions = Vec::new();
        loop {
            self.transport.wait(&mut completions)?;
            if let Some(completion) = completions.drain(..).find(|c| c.id == id) {
                return if completion.status == 0 { Ok(()) } else { Err(Error::Io) };
            }
        }
    }

    /// Takes in completions.
    fn collect(&mut self) -> Result<()> {
        let mut completions = Vec::new();
        if let Err(error) = self.transport.wait(&mut completions) {
            // The device is gone: everything under way has failed.
            for (_, slot) in core::mem::take(&mut self.requests) {
                self.lines[slot].pending = 0;
                self.lines[slot].reading = 0;
                self.lines[slot].failed = true;
            }
            self.outstanding = 0;
            return Err(error);
        }
        for completion in completions {
            // An unknown id is the driver's mistake and changes nothing here.
            let Some(slot) = self.requests.remove(&completion.id) else { continue };
            self.outstanding -= 1;
            let line = &mut self.lines[slot];
            line.pending -= 1;
            line.failed |= completion.status != 0;
            if line.pending == 0 {
                if !line.failed {
                    line.valid |= line.reading;
                }
                line.reading = 0;
            }
        }
        Ok(())
    }
}
