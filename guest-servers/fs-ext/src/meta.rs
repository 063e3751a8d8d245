//! Metadata blocks in memory, and what makes a change of several of them one change.
//!
//! ```text
//!          read ─────────────┐                      ┌── seal (checksums) ── journal ── home
//!   disk ──────> buffer ── modify ── dirty ── commit┤
//!                  ^         │                      └── home (no journal)
//!                  └─ undo <─┘ the operation failed: buffers are as before it
//! ```
//! A dirty buffer stays here until its transaction is committed: metadata reaches its place on the
//! disk only after the journal has it. Clean buffers beyond [`CLEAN_MAX`] are forgotten.
//!
//! Blocks with a checksum of their own carry a [`Seal`]: checked when a block is first read,
//! written when it is committed.

use alloc::boxed::Box;
use alloc::collections::btree_map::{BTreeMap, Entry};
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};

use crate::checksum::crc32c;
use crate::layout::{Le32, dirent, extent};
use xinim_block_client::Storage;

/// Bytes of clean buffers kept.
const CLEAN_MAX: usize = 4 << 20;

/// Where and how a block keeps its checksum. The number is the start value (see
/// [`crate::inode::Inode::seed`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seal {
    None,
    /// Directory block: an entry at the end.
    Directory(u32),
    /// Index block of a directory whose limit and count lie at this offset.
    Index(u32, u16),
    /// Block of an extent tree.
    Extents(u32),
    /// Extended attributes; the start value covers the block's number.
    Attributes(u32),
    /// The superblock, at this offset of its block.
    Superblock(u16),
}

fn le16(bytes: &[u8], at: usize) -> u16 {
    crate::layout::Le16(at).get(bytes)
}

impl Seal {
    /// Where the checksum lies and what it should be. `None`: there is no room, so it is wrong.
    fn compute(self, data: &[u8]) -> Option<(usize, u32)> {
        let len = data.len();
        match self {
            Seal::None => None,
            Seal::Directory(seed) => {
                let tail = len - dirent::TAIL;
                let head = [0, 0, 0, 0, dirent::TAIL as u8, 0, 0, dirent::TAIL_TYPE];
                (data[tail..tail + 8] == head).then(|| (len - 4, crc32c(seed, &data[..tail])))
            }
            Seal::Index(seed, at) => {
                let at = usize::from(at);
                let limit = usize::from(le16(data, at));
                let count = usize::from(le16(data, at + 2));
                let tail = at + limit * 8;
                if count > limit || tail + 8 > len {
                    return None;
                }
                let crc = crc32c(seed, &data[..at + count * 8]);
                Some((tail + 4, crc32c(crc32c(crc, &data[tail..tail + 4]), &[0; 4])))
            }
            Seal::Extents(seed) => {
                let tail = extent::ENTRY * (1 + usize::from(le16(data, 4)));
                (tail + 4 <= len).then(|| (tail, crc32c(seed, &data[..tail])))
            }
            Seal::Attributes(seed) => {
                let crc = crc32c(crc32c(crc32c(seed, &data[..16]), &[0; 4]), &data[20..]);
                Some((16, crc))
            }
            Seal::Superblock(at) => {
                let at = usize::from(at) + crate::layout::sb::CHECKSUM.0;
                let start = at - crate::layout::sb::CHECKSUM.0;
                Some((at, crc32c(!0, &data[start..at])))
            }
        }
    }

    fn holds(self, data: &[u8]) -> bool {
        self == Seal::None || self.compute(data).is_some_and(|(at, crc)| Le32(at).get(data) == crc)
    }

    fn put(self, data: &mut [u8]) {
        if let Some((at, crc)) = self.compute(data) {
            Le32(at).set(data, crc);
        }
    }
}

#[derive(Clone, Debug)]
struct Buffer {
    data: Box<[u8]>,
    dirty: bool,
    verified: bool,
    seal: Seal,
    used: u64,
    /// Operation that saved it last.
    saved: u64,
    /// Changed outside of operations: what changed is known to nobody.
    unknown: bool,
}

/// What an operation did to a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub block: u64,
    /// `None`: it is metadata no more.
    pub content: Option<Content>,
}

/// See [`Change`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// What it held before does not matter: zeros.
    pub fresh: bool,
    pub seal: Seal,
    /// Places and their new bytes.
    pub ranges: Vec<(u32, Box<[u8]>)>,
}

/// Equal words between two differences that make them two.
const APART: usize = 4;

/// Where `new` differs from `old`, or from zeros.
fn differences(old: Option<&[u8]>, new: &[u8]) -> Vec<(u32, Box<[u8]>)> {
    let mut ranges: Vec<(usize, usize)> = Vec::new();
    for (at, word) in new.as_chunks::<8>().0.iter().enumerate() {
        let same = match old {
            Some(old) => old.get(at * 8..at * 8 + 8) == Some(&word[..]),
            None => *word == [0; 8],
        };
        match ranges.last_mut() {
            _ if same => {}
            Some((_, end)) if *end + APART > at => *end = at + 1,
            _ => ranges.push((at, at + 1)),
        }
    }
    let range = |(from, end): (usize, usize)| ((from * 8) as u32, new[from * 8..end * 8].into());
    ranges.into_iter().map(range).collect()
}

/// The buffers; see the module.
pub struct Meta<'d> {
    pub device: Box<dyn Storage + 'd>,
    block_size: usize,
    buffers: BTreeMap<u64, Buffer>,
    dirty: usize,
    clock: u64,
    operation: u64,
    /// What the operation under way found.
    undo: Option<Vec<(u64, Option<Buffer>)>>,
}

impl<'d> Meta<'d> {
    pub fn new(device: Box<dyn Storage + 'd>, block_size: usize) -> Self {
        Self {
            device,
            block_size,
            buffers: BTreeMap::new(),
            dirty: 0,
            clock: 0,
            operation: 0,
            undo: None,
        }
    }

    /// Byte offset of a block.
    pub fn offset(&self, block: u64) -> Result<u64> {
        block.checked_mul(self.block_size as u64).ok_or(Error::Io)
    }

    fn load(&mut self, block: u64) -> Result<()> {
        if self.buffers.contains_key(&block) {
            return Ok(());
        }
        self.make_room();
        let mut data = vec![0; self.block_size].into_boxed_slice();
        let offset = self.offset(block)?;
        self.device.read(offset, &mut data).map_err(|_| Error::Io)?;
        let buffer = Buffer {
            data,
            dirty: false,
            verified: false,
            seal: Seal::None,
            used: 0,
            saved: 0,
            unknown: false,
        };
        self.buffers.insert(block, buffer);
        Ok(())
    }

    /// Forgets the older half of the clean buffers when there are too many.
    fn make_room(&mut self) {
        let most = (CLEAN_MAX / self.block_size).max(64);
        if self.buffers.len() - self.dirty < most {
            return;
        }
        let mut ages: Vec<u64> = self
            .buffers
            .values()
            .filter(|buffer| !buffer.dirty)
            .map(|buffer| buffer.used)
            .collect();
        let middle = ages.len() / 2;
        let (_, &mut age, _) = ages.select_nth_unstable(middle);
        self.buffers.retain(|_, buffer| buffer.dirty || buffer.used > age);
    }

    fn touch(&mut self, block: u64, seal: Seal) -> Result<&mut Buffer> {
        self.load(block)?;
        self.clock += 1;
        let clock = self.clock;
        let buffer = self.buffers.get_mut(&block).ok_or(Error::Io)?;
        buffer.used = clock;
        if !buffer.verified {
            if !seal.holds(&buffer.data) {
                return Err(Error::Io);
            }
            buffer.verified = true;
        }
        Ok(buffer)
    }

    /// A block's bytes. `Io` when its checksum is wrong.
    pub fn read(&mut self, block: u64, seal: Seal) -> Result<&[u8]> {
        self.touch(block, seal).map(|buffer| &*buffer.data)
    }

    /// A block's bytes whose seal the content decides.
    pub fn read_as(&mut self, block: u64, seal: impl FnOnce(&[u8]) -> Seal) -> Result<&[u8]> {
        self.load(block)?;
        let found = self.buffers.get(&block).ok_or(Error::Io)?;
        let seal = if found.verified { found.seal } else { seal(&found.data) };
        let buffer = self.touch(block, seal)?;
        buffer.seal = seal;
        Ok(&buffer.data)
    }

    /// A block whose checksum is kept elsewhere: `good` judges it when it is first read.
    pub fn read_judged(&mut self, block: u64, good: impl FnOnce(&[u8]) -> bool) -> Result<&[u8]> {
        self.load(block)?;
        let found = self.buffers.get_mut(&block).ok_or(Error::Io)?;
        if !found.verified && !good(&found.data) {
            return Err(Error::Io);
        }
        found.verified = true;
        self.read(block, Seal::None)
    }

    fn save(&mut self, block: u64) {
        let Some(undo) = &mut self.undo else { return };
        match self.buffers.get_mut(&block) {
            Some(buffer) if buffer.saved == self.operation => {}
            Some(buffer) => {
                undo.push((block, Some(buffer.clone())));
                buffer.saved = self.operation;
            }
            None => undo.push((block, None)),
        }
    }

    /// A block's bytes, to be changed.
    pub fn modify(&mut self, block: u64, seal: Seal) -> Result<&mut [u8]> {
        self.touch(block, seal)?;
        self.save(block);
        let buffer = self.buffers.get_mut(&block).ok_or(Error::Io)?;
        self.dirty += usize::from(!buffer.dirty);
        buffer.dirty = true;
        buffer.seal = seal;
        buffer.unknown |= self.undo.is_none();
        Ok(&mut buffer.data)
    }

    /// A new block of zeros, whatever was there.
    pub fn fresh(&mut self, block: u64, seal: Seal) -> &mut [u8] {
        self.save(block);
        self.clock += 1;
        let (operation, clock) = (self.operation, self.clock);
        let zeros = vec![0; self.block_size].into_boxed_slice();
        let buffer = Buffer {
            data: zeros,
            dirty: true,
            verified: true,
            seal,
            used: clock,
            saved: operation,
            unknown: self.undo.is_none(),
        };
        let buffer = match self.buffers.entry(block) {
            Entry::Vacant(place) => {
                self.dirty += 1;
                place.insert(buffer)
            }
            Entry::Occupied(mut place) => {
                self.dirty += usize::from(!place.get().dirty);
                place.insert(buffer);
                place.into_mut()
            }
        };
        &mut buffer.data
    }

    /// Drops a block that is not metadata any more.
    pub fn forget(&mut self, block: u64) {
        self.save(block);
        if let Some(buffer) = self.buffers.remove(&block) {
            self.dirty -= usize::from(buffer.dirty);
        }
    }

    /// Blocks changed since the last commit.
    pub fn dirty(&self) -> usize {
        self.dirty
    }

    /// From here on [`Meta::undo`] leads back to this state.
    pub fn begin(&mut self) {
        self.operation += 1;
        self.undo = Some(Vec::new());
    }

    /// The operation is done. What it changed, for who asks.
    pub fn keep(&mut self, account: bool) -> Vec<Change> {
        let undo = self.undo.take().unwrap_or_default();
        if !account {
            return Vec::new();
        }
        let changes = undo.into_iter().filter_map(|(block, old)| {
            let Some(new) = self.buffers.get_mut(&block) else {
                return old.map(|_| Change { block, content: None });
            };
            let known = !core::mem::take(&mut new.unknown);
            let old = old.filter(|old| known && !old.unknown);
            let ranges = differences(old.as_ref().map(|old| &*old.data), &new.data);
            let content = Content { fresh: old.is_none(), seal: new.seal, ranges };
            Some(Change { block, content: Some(content) })
        });
        changes.collect()
    }

    /// Does a change again, to what the disk has.
    pub fn redo(&mut self, change: Change) -> Result<()> {
        let Some(content) = change.content else {
            self.forget(change.block);
            return Ok(());
        };
        let data = match content.fresh {
            true => self.fresh(change.block, content.seal),
            false => self.modify(change.block, content.seal)?,
        };
        for (at, bytes) in content.ranges {
            let place = data.get_mut(at as usize..at as usize + bytes.len()).ok_or(Error::Io)?;
            place.copy_from_slice(&bytes);
        }
        Ok(())
    }

    pub fn undo(&mut self) {
        for (block, buffer) in self.undo.take().unwrap_or_default().into_iter().rev() {
            let now = match buffer {
                Some(buffer) => {
                    self.dirty += usize::from(buffer.dirty);
                    self.buffers.insert(block, buffer)
                }
                None => self.buffers.remove(&block),
            };
            self.dirty -= usize::from(now.is_some_and(|buffer| buffer.dirty));
        }
    }

    /// Writes all dirty blocks to their places, neighbours together. They count as clean then.
    pub fn write_home(&mut self) -> Result<()> {
        let mut run: (u64, Vec<u8>) = (0, Vec::new());
        for (&block, buffer) in self.buffers.iter_mut().filter(|(_, buffer)| buffer.dirty) {
            buffer.seal.put(&mut buffer.data);
            let end = run.0 + (run.1.len() / self.block_size) as u64;
            if end != block || run.1.len() >= 1 << 20 {
                self.device.write(run.0 * self.block_size as u64, &run.1)?;
                run = (block, Vec::new());
            }
            run.1.extend_from_slice(&buffer.data);
        }
        self.device.write(run.0 * self.block_size as u64, &run.1)?;
        for buffer in self.buffers.values_mut() {
            (buffer.dirty, buffer.unknown) = (false, false);
        }
        self.dirty = 0;
        self.make_room();
        Ok(())
    }

    /// The device, and the dirty blocks in ascending order with their checksums written.
    pub fn device_and_sealed(&mut self) -> (&mut dyn Storage, Vec<(u64, &[u8])>) {
        let blocks = self.buffers.iter_mut().filter(|(_, buffer)| buffer.dirty);
        let sealed = blocks.map(|(&block, buffer)| {
            buffer.seal.put(&mut buffer.data);
            (block, &*buffer.data)
        });
        (&mut *self.device, sealed.collect())
    }
}
