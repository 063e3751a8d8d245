//! A write-back cache over a [`Transport`], for data and metadata alike.
//!
//! ```text
//!          fetch                    write                 write-back
//! absent ---------> reading     +-----------> dirty ----------------> writing
//!    ^                 |        |               ^                        |
//!    | taken for       v        |               |     refused            |
//!    +------------- valid ------+               +------------------------+
//!    another line      ^                                                 |
//!                      +-------------------------------------------------+
//! ```
//! That is the life of a *granule*, one logical block; a *line* is up to 64 of them (32 KiB with
//! 512-byte blocks), and its place in data memory is a *slot*. The slots are the ring's data
//! buffers: data moves between device and cache without a copy.
//!
//! * Requests: whole granules, neighbours in device and memory merged up to the driver's longest
//!   request, as many under way as the driver takes. Whole granules are written without being read.
//! * Reading: [`ahead`]; a failed read is asked for again alone, so that only who needs the bad
//!   block sees its error.
//! * Writing back, in the order of the device from where the last round ended (an elevator): in
//!   the background when a quarter of the lines is dirty, or for longer than [`OLD`] ticks of
//!   [`Cache::background`]; writers wait when half is dirty or under way.
//! * A granule under way to the device does not change until it is there.
//! * A write that the device refused leaves its granules dirty and is reported by the next
//!   [`Cache::flush`]: nothing is dropped silently.
//! * Order: the cache may write anything dirty at any time, in any order, except across
//!   [`Cache::barrier`] and [`Cache::flush`].
//!
//! What is dirty when the server dies is in memory that outlives it, where it has some ([`kept`]).
//! What is dirty when the driver dies is still here; what was under way is sent again by the
//! transport. When the device itself is gone every operation fails with `NxIo`.

mod ahead;
mod kept;
mod line;
mod requests;
mod writeback;

#[cfg(test)]
mod kept_tests;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod tests;

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};

use crate::{Info, Limits, Transport};
use ahead::Streams;
use kept::Kept;
use line::{Line, NO_LINE, Recency, mask};
use requests::{Plan, Request};
pub use writeback::OLD;

/// Bytes of a line, unless one block is longer or 64 are shorter.
const LINE_LEN: usize = 32 * 1024;
/// Bytes fetched at least, aligned: what file systems read one after the other anyway.
const FETCH_LEN: usize = 4096;
const SECTOR: u64 = 512;

/// Counts since the cache was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Pieces of reads that were there, and that were not.
    pub hits: u64,
    pub misses: u64,
    /// Requests to the device.
    pub reads: u64,
    pub writes: u64,
    pub flushes: u64,
    /// Runs of granules that went out as part of a neighbour's request.
    pub merged: u64,
    /// Times that a writer waited because too much was dirty.
    pub throttled: u64,
}

/// The cache; see the module. Offsets and lengths are bytes within the partition it was opened for.
#[derive(Debug)]
pub struct Cache<T> {
    transport: T,
    info: Info,
    limits: Limits,
    /// First byte and length of the partition on the device.
    start: u64,
    len: u64,
    granule: usize,
    granules: usize,
    lines: Vec<Line>,
    /// Slots by line number.
    index: BTreeMap<u64, usize>,
    recency: Recency,
    /// Numbers of lines with dirty granules.
    dirty: BTreeSet<u64>,
    streams: Streams,
    next_id: u64,
    /// What the driver has, by id.
    requests: BTreeMap<u64, Request>,
    /// How many of them are writes.
    writes_under_way: usize,
    /// Where the elevator goes on.
    elevator: u64,
    /// Counts write-backs, so that a refused line is tried once in each.
    round: u64,
    /// Counts ticks of `background`.
    tick: u64,
    /// The line written to last: more is likely to come.
    last_written: u64,
    /// Something was written since the device was flushed, as far as we know.
    unflushed: bool,
    failure: Option<Error>,
    /// Account of what is dirty, for the next instance.
    kept: Option<Kept>,
    /// Nothing that an earlier instance had written is lost.
    recovered: bool,
    pub stats: Stats,
}

impl<T: Transport> Cache<T> {
    /// For `sectors` 512-byte sectors from `start`. `Inval` outside the device or too little data
    /// memory.
    pub fn new(transport: T, start: u64, sectors: u64) -> Result<Self> {
        let (info, limits) = (transport.info(), transport.limits());
        let granule = (info.block_size as usize).max(SECTOR as usize);
        let granules = (LINE_LEN / granule).clamp(1, 64);
        let inside = start.checked_add(sectors).is_some_and(|end| end <= info.sectors);
        let count = transport.data_len() / (granule * granules);
        if !inside || !granule.is_power_of_two() || count < 2 || info.max_bytes < granule as u32 {
            return Err(Error::Inval);
        }
        let quarter = (count / 4).max(1) * granule * granules;
        Ok(Self {
            transport,
            info,
            limits,
            start: start * SECTOR,
            len: sectors * SECTOR,
            granule,
            granules,
            lines: alloc::vec![Line::FREE; count],
            index: BTreeMap::new(),
            recency: Recency::new(count),
            dirty: BTreeSet::new(),
            streams: Streams::new(quarter as u64),
            next_id: 0,
            requests: BTreeMap::new(),
            writes_under_way: 0,
            elevator: 0,
            round: 0,
            tick: 0,
            last_written: NO_LINE,
            unflushed: true,
            failure: None,
            kept: None,
            recovered: false,
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

    /// Logical block size in bytes: what the device writes at once.
    pub fn block_size(&self) -> usize {
        self.granule
    }

    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// Gives the transport back. Nothing may be dirty: for a cache only read from.
    pub fn into_transport(mut self) -> T {
        debug_assert!(self.dirty.is_empty());
        // Completions of read-ahead must not surprise the next user.
        while !self.requests.is_empty() && self.collect(self.requests.len()).is_ok() {}
        self.transport
    }

    /// Fills `out` from `offset`. `Inval` beyond the end.
    pub fn read(&mut self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.check(offset, out.len())?;
        self.prepare(offset, out.len());
        let mut done = 0;
        while done < out.len() {
            let piece = self.piece(offset + done as u64, out.len() - done);
            let slot = self.ensure(piece.number, piece.granules)?;
            let from = slot * self.line_len() + piece.at;
            self.transport.read_data(from, &mut out[done..done + piece.len])?;
            done += piece.len;
        }
        // Read-ahead that nobody has waited for.
        self.transport.kick();
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
            let piece = self.piece(offset + done as u64, data.len() - done);
            let slot = self.writable(&piece)?;
            let to = slot * self.line_len() + piece.at;
            self.transport.write_data(to, &data[done..done + piece.len])?;
            self.note(slot, piece.at, &data[done..done + piece.len]);
            self.soil(slot, piece.granules);
            done += piece.len;
        }
        self.throttle();
        self.transport.kick();
        Ok(())
    }

    /// Asks for bytes that will be wanted soon, without waiting for them. What is outside the
    /// partition, or does not fit now, is ignored.
    pub fn read_ahead(&mut self, offset: u64, len: u64) {
        self.plan_ahead(offset, len);
        self.transport.kick();
    }

    fn plan_ahead(&mut self, offset: u64, len: u64) {
        let end = offset.saturating_add(len).min(self.len);
        if offset >= end {
            return;
        }
        let line_len = self.line_len() as u64;
        let mut plan = Plan::default();
        for number in offset / line_len..=(end - 1) / line_len {
            if !self.plan_read(&mut plan, number, self.extent(number)) {
                break;
            }
        }
        // Failures are not its business: whoever needs those bytes will see them.
        let _ = self.submit_reads(plan);
    }

    /// Forgets what is in a range and tells the device that nobody needs it. Only whole blocks in
    /// it; what it reads as afterwards is undefined until written.
    pub fn discard(&mut self, offset: u64, len: u64) -> Result<()> {
        let end = offset.checked_add(len).filter(|&end| end <= self.len).ok_or(Error::Inval)?;
        if self.info.read_only {
            return Err(Error::RoFs);
        }
        let granule = self.granule as u64;
        let (first, end) = (offset.next_multiple_of(granule), end / granule * granule);
        if first >= end {
            return Ok(());
        }
        self.forget(first, end)?;
        self.discard_on_device(first, end)
    }

    fn line_len(&self) -> usize {
        self.granule * self.granules
    }

    fn check(&self, offset: u64, len: usize) -> Result<()> {
        match offset.checked_add(len as u64) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(Error::Inval),
        }
    }

    /// What of `len` bytes at `offset` lies in one line.
    fn piece(&self, offset: u64, len: usize) -> Piece {
        let line_len = self.line_len() as u64;
        let at = (offset % line_len) as usize;
        let len = len.min(self.line_len() - at);
        let granules = mask(at / self.granule, (at + len - 1) / self.granule);
        Piece { number: offset / line_len, at, len, granules }
    }

    /// Granules of line `number` that lie within the partition.
    fn extent(&self, number: u64) -> u64 {
        let start = number.saturating_mul(self.line_len() as u64);
        let bytes = self.len.saturating_sub(start).min(self.line_len() as u64) as usize;
        match bytes / self.granule {
            0 => 0,
            granules => mask(0, granules - 1),
        }
    }

    /// Starts all that a read needs at once, and what its stream will need.
    fn prepare(&mut self, offset: u64, len: usize) {
        let ahead = self.streams.read(offset, len as u64);
        let most = self.lines.len() / 4 * self.line_len();
        if len > self.granule && len <= most {
            let mut plan = Plan::default();
            let mut done = 0;
            while done < len {
                let piece = self.piece(offset + done as u64, len - done);
                let wanted = match ahead {
                    Some(_) => self.extent(piece.number),
                    None => self.widened(piece.number, piece.granules),
                };
                if !self.plan_read(&mut plan, piece.number, wanted) {
                    break;
                }
                done += piece.len;
            }
            // The read itself sees what went wrong.
            let _ = self.submit_reads(plan);
        }
        if let Some(range) = ahead {
            self.plan_ahead(range.start, range.end - range.start);
        }
    }

    /// `granules`, rounded out to [`FETCH_LEN`], within the partition.
    fn widened(&self, number: u64, granules: u64) -> u64 {
        let step = (FETCH_LEN / self.granule).clamp(1, self.granules);
        let (first, last) = (granules.trailing_zeros(), 63 - granules.leading_zeros());
        let first = first as usize / step * step;
        let last = (last as usize / step + 1) * step - 1;
        mask(first, last) & self.extent(number)
    }

    /// Adds the granules of a line that are neither there nor on the way; false where there is no
    /// place for the line without waiting.
    fn plan_read(&mut self, plan: &mut Plan, number: u64, wanted: u64) -> bool {
        let slot = match self.index.get(&number) {
            Some(&slot) => slot,
            None => match self.clean_slot() {
                Some(slot) => self.assign(slot, number),
                None => return false,
            },
        };
        self.recency.touch(slot);
        let line = &mut self.lines[slot];
        let missing = wanted & !(line.valid | line.reading);
        line.reading |= missing;
        self.add_runs(plan, slot, missing);
        true
    }

    /// The slot of a line with these granules valid. Waits.
    fn ensure(&mut self, number: u64, wanted: u64) -> Result<usize> {
        let slot = self.line(number)?;
        if self.lines[slot].valid & wanted == wanted {
            self.stats.hits += 1;
            return Ok(slot);
        }
        self.stats.misses += 1;
        // First what is sensible to fetch together, then, if that failed, what is needed.
        for granules in [self.widened(number, wanted), wanted] {
            let mut plan = Plan::default();
            self.plan_read(&mut plan, number, granules);
            self.submit_reads(plan)?;
            while self.lines[slot].reading & wanted != 0 {
                self.collect(1)?;
            }
            if self.lines[slot].valid & wanted == wanted {
                return Ok(slot);
            }
        }
        Err(self.lines[slot].error.unwrap_or(Error::Io))
    }

    /// The slot of a line that may be written to at `piece`: blocks written in part are valid,
    /// none is under way. Waits.
    fn writable(&mut self, piece: &Piece) -> Result<usize> {
        let slot = self.line(piece.number)?;
        let (at, end) = (piece.at, piece.at + piece.len);
        let mut partial = 0;
        if !at.is_multiple_of(self.granule) {
            partial |= 1 << (at / self.granule);
        }
        if !end.is_multiple_of(self.granule) {
            partial |= 1 << (end / self.granule);
        }
        if partial & !self.lines[slot].valid != 0 {
            self.ensure(piece.number, partial & !self.lines[slot].valid)?;
        }
        while (self.lines[slot].reading | self.lines[slot].writing) & piece.granules != 0 {
            self.collect(1)?;
        }
        Ok(slot)
    }

    /// Marks granules as newer than the device.
    fn soil(&mut self, slot: usize, granules: u64) {
        let line = &mut self.lines[slot];
        if line.dirty == 0 {
            line.dirty_since = self.tick;
            self.dirty.insert(line.number);
        }
        line.valid |= granules;
        line.dirty |= granules;
        self.last_written = line.number;
    }

    /// The slot of a line, taking the least recently used one if it is not there. Waits.
    fn line(&mut self, number: u64) -> Result<usize> {
        let slot = match self.index.get(&number) {
            Some(&slot) => slot,
            None => {
                let slot = self.wait_for_slot()?;
                self.assign(slot, number)
            }
        };
        self.recency.touch(slot);
        Ok(slot)
    }

    /// The least recently used slot that nobody needs.
    fn clean_slot(&self) -> Option<usize> {
        self.recency.oldest().find(|&slot| self.lines[slot].can_go())
    }

    fn assign(&mut self, slot: usize, number: u64) -> usize {
        self.drop_line(slot);
        self.lines[slot] = Line { number, ..Line::FREE };
        self.index.insert(number, slot);
        slot
    }

    fn drop_line(&mut self, slot: usize) {
        let old = core::mem::replace(&mut self.lines[slot], Line::FREE);
        if old.number != NO_LINE {
            self.index.remove(&old.number);
        }
    }
}

/// Part of a line.
#[derive(Clone, Copy, Debug)]
struct Piece {
    number: u64,
    /// Byte in the line, and bytes.
    at: usize,
    len: usize,
    granules: u64,
}
