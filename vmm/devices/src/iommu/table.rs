//! A domain's mappings: ranges of input addresses that do not overlap, with where they lead and what
//! they allow (VIRTIO 5.13.6.5, 5.13.6.6).

use std::collections::BTreeMap;
use xinim_abi::hw::virtio_iommu::{Status, map_flag};

/// A range's far side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    /// The last byte.
    end: u64,
    physical: u64,
    /// [`map_flag`] bits.
    flags: u32,
}

/// A piece of guest-physical memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub address: u64,
    pub length: u64,
}

/// See the module's head.
#[derive(Clone, Debug, Default)]
pub struct Mappings {
    by_start: BTreeMap<u64, Target>,
}

impl Mappings {
    pub fn len(&self) -> usize {
        self.by_start.len()
    }

    pub fn is_empty(&self) -> bool {
        self.by_start.is_empty()
    }

    /// Maps `start..=end` to `physical` on. `Invalid`: part of it is mapped.
    pub fn map(&mut self, start: u64, end: u64, physical: u64, flags: u32) -> Result<(), Status> {
        let before = self.by_start.range(..=end).next_back();
        if before.is_some_and(|(_, target)| target.end >= start) {
            return Err(Status::Invalid);
        }
        self.by_start.insert(start, Target { end, physical, flags });
        Ok(())
    }

    /// Removes every mapping in `start..=end`. `Range`, and nothing is removed: one of them lies only
    /// in part there (5.13.6.6: no splitting). Nothing mapped there is no error.
    pub fn unmap(&mut self, start: u64, end: u64) -> Result<usize, Status> {
        let reaches_in = |(at, target): (&u64, &Target)| *at < start && target.end >= start;
        if self.by_start.range(..start).next_back().is_some_and(reaches_in) {
            return Err(Status::Range);
        }
        if self.by_start.range(start..=end).next_back().is_some_and(|(_, t)| t.end > end) {
            return Err(Status::Range);
        }
        let inside: Vec<u64> = self.by_start.range(start..=end).map(|(at, _)| *at).collect();
        for at in &inside {
            self.by_start.remove(at);
        }
        Ok(inside.len())
    }

    /// Where `length` bytes from `address` on lie, in order, neighbours joined. An error is the first
    /// address that is not mapped for this access.
    pub fn translate(&self, address: u64, length: u64, write: bool) -> Result<Vec<Piece>, u64> {
        let mut pieces: Vec<Piece> = Vec::with_capacity(1);
        let (mut at, mut left) = (address, length);
        while left > 0 {
            let piece = self.piece(at, left, write)?;
            match pieces.last_mut() {
                Some(last) if last.address.wrapping_add(last.length) == piece.address => {
                    last.length += piece.length;
                }
                _ => pieces.push(piece),
            }
            left -= piece.length;
            // Only the end of what was asked for can be the end of all addresses.
            at = at.wrapping_add(piece.length);
        }
        Ok(pieces)
    }

    /// The first piece of `length` bytes at `address`, as long as one mapping goes.
    pub fn piece(&self, address: u64, length: u64, write: bool) -> Result<Piece, u64> {
        let wanted = if write { map_flag::WRITE } else { map_flag::READ };
        let (start, target) = self.by_start.range(..=address).next_back().ok_or(address)?;
        if target.end < address || target.flags & wanted == 0 {
            return Err(address);
        }
        let skip = address - start;
        let room = (target.end - address).saturating_add(1);
        Ok(Piece { address: target.physical + skip, length: room.min(length) })
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
