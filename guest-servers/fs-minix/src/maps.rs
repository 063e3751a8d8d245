//! The two bitmaps: what is in use.
//!
//! Both are read from the storage (a cache) block by block when needed; in memory are only where the
//! last search ended and how much is free.

use alloc::vec;

use xinim_abi::error::{Error, Result};
use xinim_block_client::Storage;

use crate::layout::{Geometry, MAPS_AT};

#[derive(Clone, Copy, Debug)]
pub struct Map {
    /// Byte offset on the device.
    start: u64,
    block: usize,
    /// Bits with a meaning: 1 to this one.
    last: u32,
    /// Where the next search begins.
    next: u32,
    /// Counted at the first need.
    free: Option<u32>,
}

impl Map {
    pub fn inodes(geometry: &Geometry) -> Self {
        Self::new(geometry, MAPS_AT, geometry.inodes)
    }

    pub fn zones(geometry: &Geometry) -> Self {
        let last = geometry.zones - geometry.first_data;
        Self::new(geometry, MAPS_AT + geometry.imap_blocks, last)
    }

    fn new(geometry: &Geometry, block: u32, last: u32) -> Self {
        let start = u64::from(block) * geometry.block as u64;
        Self { start, block: geometry.block, last, next: 1, free: None }
    }

    /// Whether a bit is set; those without a meaning are.
    pub fn get(&self, storage: &mut dyn Storage, bit: u32) -> Result<bool> {
        if bit == 0 || bit > self.last {
            return Ok(true);
        }
        let mut byte = [0];
        storage.read(self.start + u64::from(bit / 8), &mut byte)?;
        Ok(byte[0] & 1 << (bit % 8) != 0)
    }

    /// Sets or clears a bit. `Io` where it had the value already: two owners, or none.
    pub fn put(&mut self, storage: &mut dyn Storage, bit: u32, used: bool) -> Result<()> {
        if bit == 0 || bit > self.last {
            return Err(Error::Io);
        }
        let at = self.start + u64::from(bit / 8);
        let mut byte = [0];
        storage.read(at, &mut byte)?;
        let mask = 1 << (bit % 8);
        if (byte[0] & mask != 0) == used {
            return Err(Error::Io);
        }
        byte[0] ^= mask;
        storage.write(at, &byte)?;
        if let Some(free) = &mut self.free {
            *free = if used { free.saturating_sub(1) } else { free.saturating_add(1) };
        }
        Ok(())
    }

    /// A clear bit at `goal` or behind it (0: where the last search ended), then from the start; those
    /// that `skip` names are passed over. `NoSpc` when there is none.
    pub fn find(
        &mut self,
        storage: &mut dyn Storage,
        goal: u32,
        skip: impl Fn(u32) -> bool,
    ) -> Result<u32> {
        let goal = if goal == 0 { self.next } else { goal };
        let goal = if goal > self.last { 1 } else { goal };
        let found = match self.search(storage, goal, self.last, &skip)? {
            None => self.search(storage, 1, goal - 1, &skip)?,
            found => found,
        };
        let found = found.ok_or(Error::NoSpc)?;
        self.next = found + 1;
        Ok(found)
    }

    /// A search from the start next time: something was freed down there.
    pub fn rewind(&mut self) {
        self.next = 1;
    }

    fn search(
        &self,
        storage: &mut dyn Storage,
        from: u32,
        to: u32,
        skip: &impl Fn(u32) -> bool,
    ) -> Result<Option<u32>> {
        // Most searches end where they begin: a few bytes first, whole blocks later.
        let mut len = 16;
        let mut buffer = vec![0; self.block];
        let mut bit = from;
        while bit <= to {
            let first = bit / 8;
            let within = self.block - first as usize % self.block;
            let part = &mut buffer[..within.min(len)];
            storage.read(self.start + u64::from(first), part)?;
            let end = (u64::from(first) + part.len() as u64) * 8;
            while u64::from(bit) < end && bit <= to {
                let byte = part[(bit / 8 - first) as usize];
                if byte == 0xFF && bit.is_multiple_of(8) {
                    bit = bit.saturating_add(8);
                } else if byte & 1 << (bit % 8) == 0 && !skip(bit) {
                    return Ok(Some(bit));
                } else {
                    bit = bit.saturating_add(1);
                }
            }
            len = self.block;
        }
        Ok(None)
    }

    /// Clear bits.
    pub fn count_free(&mut self, storage: &mut dyn Storage) -> Result<u32> {
        if let Some(free) = self.free {
            return Ok(free);
        }
        let mut buffer = vec![0; self.block];
        let bytes = self.last / 8 + 1;
        let mut used: u32 = 0;
        for first in (0..bytes).step_by(self.block) {
            let part = &mut buffer[..(bytes - first).min(self.block as u32) as usize];
            storage.read(self.start + u64::from(first), part)?;
            if first == 0 {
                part[0] &= !1;
            }
            if first as usize + part.len() == bytes as usize
                && let Some(byte) = part.last_mut()
            {
                *byte &= (0xFFu16 >> (7 - self.last % 8)) as u8;
            }
            used += part.iter().map(|byte| byte.count_ones()).sum::<u32>();
        }
        let free = self.last - used;
        self.free = Some(free);
        Ok(free)
    }
}
