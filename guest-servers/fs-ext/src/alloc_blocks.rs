//! Giving out and taking back blocks.
//!
//! A request says how many blocks it would like and where: right behind the file's last block if it
//! can be, else the first run that is long enough, else the longest of the groups looked at. Behind
//! a growing file some blocks are kept for it (*windows*, in memory only), so that files written
//! at the same time do not alternate on the disk.
//!
//! Blocks freed by a transaction are not given out before it is committed: until then a crash would
//! bring their old owner back.

use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};

use crate::groups::{bit, change, corrupt};
use crate::layout::gd;
use crate::meta::Seal;
use crate::volume::Volume;

/// Groups looked at before the longest run found so far is good enough.
const GROUPS_TRIED: u32 = 8;
/// Files with a window, and blocks in one.
const WINDOWS: usize = 16;
const WINDOW_LEN: u32 = 512;

/// Blocks kept for a growing file.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    owner: u32,
    group: u32,
    start: u32,
    len: u32,
}

/// A run of free blocks within a group: first bit and length.
type Run = (u32, u32);

/// The first run of at least `want` clear bits in `from..end`, else the longest.
fn find_run(bitmap: &[u8], from: u32, end: u32, want: u32) -> Option<Run> {
    let mut best: Option<Run> = None;
    let mut at = from;
    while at < end {
        if at.is_multiple_of(64) && end - at >= 64 {
            let byte = at as usize / 8;
            if bitmap[byte..byte + 8] == [0xFF; 8] {
                at += 64;
                continue;
            }
        }
        if bit(bitmap, at) {
            at += 1;
            continue;
        }
        let len = free_from(bitmap, at, end, want);
        if len >= want {
            return Some((at, len));
        }
        if best.is_none_or(|run| run.1 < len) {
            best = Some((at, len));
        }
        at += len;
    }
    best
}

/// Clear bits from `at`, at most `want`.
fn free_from(bitmap: &[u8], at: u32, end: u32, want: u32) -> u32 {
    let end = end.min(at.saturating_add(want));
    let mut next = at;
    while next < end {
        if next.is_multiple_of(8) && end - next >= 8 && bitmap[next as usize / 8] == 0 {
            next += 8;
        } else if bit(bitmap, next) {
            break;
        } else {
            next += 1;
        }
    }
    next - at
}

impl Volume<'_> {
    /// Up to `want` blocks in a row for file `owner`, near `goal`. `NoSpc` when there is none.
    pub fn allocate(&mut self, owner: u32, goal: u64, want: u32) -> Result<(u64, u32)> {
        if self.state.free_blocks == 0 {
            return Err(Error::NoSpc);
        }
        let goal = if self.geo.valid_block(goal) { goal } else { self.geo.first_block(0) };
        let want = want.clamp(1, self.geo.blocks_per_group);
        let found = self.search(owner, goal, want, true)?;
        let (group, run) = match found {
            Some(found) => found,
            // Only what is kept for others is left.
            None => self.search(owner, goal, want, false)?.ok_or(Error::NoSpc)?,
        };
        let len = run.1.min(want);
        let start = self.geo.first_block(group) + u64::from(run.0);
        if !self.is_data(start, len.into()) {
            return corrupt();
        }
        let bitmap = self.block_bitmap(group)?;
        if !change(self.meta.modify(bitmap, Seal::None)?, run.0, len, true) {
            return corrupt();
        }
        if self.desc(group)?.free_blocks < len || self.state.free_blocks < len.into() {
            return corrupt();
        }
        self.update_desc(group, |desc| desc.free_blocks -= len)?;
        self.state.free_blocks -= u64::from(len);
        Ok((start, len))
    }

    fn search(
        &mut self,
        owner: u32,
        goal: u64,
        want: u32,
        keep: bool,
    ) -> Result<Option<(u32, Run)>> {
        let (first, goal_bit) = self.geo.place(goal);
        let mut best: Option<(u32, Run)> = None;
        let mut tried = 0;
        for step in 0..self.geo.groups {
            let group = (first + step) % self.geo.groups;
            if self.desc(group)?.free_blocks == 0 {
                continue;
            }
            let end = self.geo.group_len(group);
            let bitmap = self.occupied(owner, group, keep)?;
            let from = if step == 0 { goal_bit } else { 0 };
            if step == 0 && !bit(&bitmap, from) {
                return Ok(Some((group, (from, free_from(&bitmap, from, end, want)))));
            }
            let run = match find_run(&bitmap, from, end, want) {
                Some(run) if run.1 >= want || from == 0 => Some(run),
                other => {
                    let whole = find_run(&bitmap, 0, end, want);
                    whole.filter(|run| other.is_none_or(|other| run.1 > other.1)).or(other)
                }
            };
            if let Some(run) = run
                && best.is_none_or(|(_, best)| best.1 < run.1)
            {
                best = Some((group, run));
            }
            tried += 1;
            let enough = best.is_some_and(|(_, run)| run.1 >= want);
            if enough || (best.is_some() && tried >= GROUPS_TRIED) {
                break;
            }
        }
        Ok(best)
    }

    /// A group's bitmap with everything set that `owner` must not take now.
    fn occupied(&mut self, owner: u32, group: u32, keep: bool) -> Result<Vec<u8>> {
        let block = self.block_bitmap(group)?;
        let mut bitmap = self.meta.read(block, Seal::None)?.to_vec();
        let pending = self.pending.get(&group).into_iter().flatten();
        let fresh = self.freed.iter().filter(|freed| freed.0 == group);
        for (start, len) in pending.copied().chain(fresh.map(|freed| (freed.1, freed.2))) {
            change(&mut bitmap, start, len, true);
        }
        if keep {
            for window in &self.windows {
                if window.group == group && window.owner != owner {
                    change(&mut bitmap, window.start, window.len, true);
                }
            }
        }
        Ok(bitmap)
    }

    /// Keeps blocks behind `end` for `owner`, which has just grown up to there.
    pub fn keep_window(&mut self, owner: u32, end: u64) {
        self.windows.retain(|window| window.owner != owner);
        if !self.geo.valid_block(end) {
            return;
        }
        let (group, start) = self.geo.place(end);
        let len = WINDOW_LEN.min(self.geo.group_len(group) - start);
        if self.windows.len() >= WINDOWS {
            self.windows.remove(0);
        }
        self.windows.push(Window { owner, group, start, len });
    }

    /// Gives a file's window up.
    pub fn drop_window(&mut self, owner: u32) {
        self.windows.retain(|window| window.owner != owner);
    }

    /// Tells the device of runs of free blocks in `len` bytes from `offset`, of at least `min_len`
    /// bytes. Answers how many bytes.
    pub fn trim(&mut self, offset: u64, len: u64, min_len: u64) -> Result<u64> {
        if self.read_only {
            return Err(Error::RoFs);
        }
        // What was freed is free when that is durable.
        self.commit()?;
        let block = self.geo.block_size as u64;
        let first = offset.div_ceil(block).max(self.geo.first_data_block.into());
        let last = offset.saturating_add(len).min(self.meta.device.len()) / block;
        let mut done = 0;
        for group in 0..self.geo.groups {
            let start = self.geo.first_block(group);
            let from = first.saturating_sub(start).min(u32::MAX.into()) as u32;
            let to = last.saturating_sub(start).min(self.geo.group_len(group).into()) as u32;
            let desc = self.desc(group)?;
            if from >= to || desc.free_blocks == 0 || desc.has(gd::FLAG_BLOCK_UNINIT) {
                continue;
            }
            let bitmap = self.block_bitmap(group)?;
            let bitmap = self.meta.read(bitmap, Seal::None)?.to_vec();
            let mut at = from;
            while let Some(run) = find_run(&bitmap, at, to, 1) {
                let count = free_from(&bitmap, run.0, to, u32::MAX);
                let bytes = u64::from(count) * block;
                if bytes >= min_len {
                    self.meta.device.discard((start + u64::from(run.0)) * block, bytes)?;
                    done += bytes;
                }
                at = run.0 + count;
            }
        }
        Ok(done)
    }

    /// Takes blocks back. Those that held metadata must not be written by a replay of an older
    /// transaction any more.
    pub fn free(&mut self, start: u64, len: u64, metadata: bool) -> Result<()> {
        if !self.is_data(start, len) {
            return corrupt();
        }
        let (mut block, end) = (start, start + len);
        while block < end {
            let (group, at) = self.geo.place(block);
            let count = (end - block).min(u64::from(self.geo.group_len(group) - at)) as u32;
            if self.desc(group)?.has(gd::FLAG_BLOCK_UNINIT) {
                return corrupt();
            }
            let bitmap = self.block_bitmap(group)?;
            if !change(self.meta.modify(bitmap, Seal::None)?, at, count, false) {
                return corrupt();
            }
            if self.desc(group)?.free_blocks + count > self.geo.group_len(group) {
                return corrupt();
            }
            self.update_desc(group, |desc| desc.free_blocks += count)?;
            self.state.free_blocks += u64::from(count);
            if self.journal.is_some() {
                self.freed.push((group, at, count));
            }
            block += u64::from(count);
        }
        if metadata {
            for block in start..end {
                self.meta.forget(block);
                self.revoked.push(block);
            }
        }
        Ok(())
    }
}
