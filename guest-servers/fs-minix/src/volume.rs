//! A volume: inodes, the zones of files, allocation, and the order of writes.
//!
//! **Order.** MINIX has no journal. What keeps a power cut from costing a file that was fsynced:
//! * fsync flushes everything, so at that moment the medium holds a whole, consistent state;
//! * a zone that was freed is not given out again before a barrier: no old inode or indirect block
//!   that is still on the medium can point into another file's data;
//! * an indirect or directory block is on the medium before anything points to it;
//! * a rename makes the new name durable before the old one goes (see `tree`).
//!
//! What a cut leaves then is repaired by [`crate::check`]: at the next mount, or by fsck.minix.

use alloc::collections::BTreeSet;
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::mode;
use xinim_block_client::{Storage, Watched};

use crate::layout::{DIRECT, Geometry, Inode};
use crate::maps::Map;

/// Zones remembered as freed before a barrier is made to forget them.
const FREED_MAX: usize = 16 * 1024;

pub struct Volume<S> {
    pub storage: Watched<S>,
    pub geometry: Geometry,
    pub imap: Map,
    pub zmap: Map,
    /// Freed since the last barrier.
    freed: BTreeSet<u32>,
}

/// The way from an inode to a block: which of its numbers, then which number in each indirect block.
struct Path {
    root: usize,
    levels: usize,
    offsets: [usize; 3],
}

/// Contiguous bytes waiting to be written at once.
#[derive(Default)]
struct Run {
    at: u64,
    from: usize,
    len: usize,
}

impl<S: Storage> Volume<S> {
    pub fn open(storage: S) -> Result<Self> {
        let mut storage = Watched::new(storage);
        let geometry = Geometry::read(&mut storage)?;
        let (imap, zmap) = (Map::inodes(&geometry), Map::zones(&geometry));
        Ok(Self { storage, geometry, imap, zmap, freed: BTreeSet::new() })
    }

    pub fn barrier(&mut self) -> Result<()> {
        self.storage.barrier()?;
        self.freed.clear();
        Ok(())
    }

    pub fn flush(&mut self) -> Result<()> {
        self.storage.flush()?;
        self.freed.clear();
        Ok(())
    }

    /// An inode in use. `Stale` if the number names none.
    pub fn inode(&mut self, ino: u32) -> Result<Inode> {
        let at = self.geometry.inode_at(ino).ok_or(Error::Stale)?;
        let mut raw = [0; 64];
        let raw = &mut raw[..self.geometry.inode_len()];
        self.storage.read(at, raw)?;
        let inode = self.geometry.decode_inode(raw);
        if inode.mode == 0 { Err(Error::Stale) } else { Ok(inode) }
    }

    pub fn put_inode(&mut self, ino: u32, inode: &Inode) -> Result<()> {
        let at = self.geometry.inode_at(ino).ok_or(Error::Stale)?;
        self.storage.write(at, &self.geometry.encode_inode(inode))
    }

    /// A free inode's number, marked as used. `NoSpc`.
    pub fn take_inode(&mut self) -> Result<u32> {
        let ino = self.imap.find(&mut self.storage, 0, |_| false)?;
        self.imap.put(&mut self.storage, ino, true)?;
        Ok(ino)
    }

    /// Everything an inode has, and itself.
    pub fn destroy(&mut self, ino: u32, inode: &Inode) -> Result<()> {
        self.put_inode(ino, &Inode::default())?;
        let freed = self.free_zones(inode);
        self.imap.put(&mut self.storage, ino, false)?;
        self.imap.rewind();
        freed
    }

    fn free_zones(&mut self, inode: &Inode) -> Result<()> {
        if !has_zones(inode.mode) {
            return Ok(());
        }
        let cut = self.cut(&mut inode.clone(), 0);
        self.prune_all(cut)
    }

    fn take_zone(&mut self, goal: u32) -> Result<u32> {
        let first = self.geometry.first_data;
        let bit = if goal == 0 { 0 } else { goal.saturating_sub(first) + 1 };
        let freed = &self.freed;
        let skip = |bit: u32| freed.contains(&(bit + first - 1));
        let found = match self.zmap.find(&mut self.storage, bit, skip) {
            Err(Error::NoSpc) if !self.freed.is_empty() => {
                self.barrier()?;
                self.zmap.find(&mut self.storage, bit, |_| false)
            }
            found => found,
        };
        let bit = found?;
        self.zmap.put(&mut self.storage, bit, true)?;
        Ok(bit + first - 1)
    }

    fn free_zone(&mut self, zone: u32) -> Result<()> {
        self.geometry.zone_at(zone)?;
        self.zmap.put(&mut self.storage, zone - self.geometry.first_data + 1, false)?;
        self.zmap.rewind();
        self.freed.insert(zone);
        if self.freed.len() > FREED_MAX { self.barrier() } else { Ok(()) }
    }

    /// Discards runs of free zones within a byte range, those of at least `min_len` bytes; how many
    /// bytes.
    pub fn trim(&mut self, offset: u64, len: u64, min_len: u64) -> Result<u64> {
        // What was freed just now is free on the medium too.
        self.flush()?;
        let (block, first) = (self.geometry.block as u64, self.geometry.first_data);
        let end = offset.saturating_add(len) / block;
        let start = offset.div_ceil(block).max(first.into());
        let mut discarded = 0;
        let mut run = start;
        let end = end.min(self.geometry.zones.into()).max(start);
        for zone in start..=end {
            let used = zone == end
                || self.zmap.get(&mut self.storage, (zone - u64::from(first)) as u32 + 1)?;
            if used {
                let bytes = (zone - run) * block;
                if bytes > 0 && bytes >= min_len {
                    self.storage.discard(run * block, bytes)?;
                    discarded += bytes;
                }
                run = zone + 1;
            }
        }
        Ok(discarded)
    }

    fn path(&self, index: u64) -> Result<Path> {
        if index < DIRECT as u64 {
            return Ok(Path { root: index as usize, levels: 0, offsets: [0; 3] });
        }
        let pointers = self.geometry.pointers() as u64;
        let mut rest = index - DIRECT as u64;
        for levels in 1..=self.geometry.levels() {
            let span = pointers.pow(levels as u32);
            if rest < span {
                let mut offsets = [0; 3];
                for (level, offset) in offsets[..levels].iter_mut().enumerate() {
                    let below = pointers.pow((levels - 1 - level) as u32);
                    *offset = (rest / below % pointers) as usize;
                }
                return Ok(Path { root: DIRECT + levels - 1, levels, offsets });
            }
            rest -= span;
        }
        Err(Error::FBig)
    }

    fn pointer(&mut self, zone: u32, offset: usize) -> Result<u32> {
        let len = self.geometry.pointer_len();
        let mut raw = [0; 4];
        let at = self.geometry.zone_at(zone)? + (offset * len) as u64;
        self.storage.read(at, &mut raw[..len])?;
        Ok(u32::from_le_bytes(raw))
    }

    fn put_pointer(&mut self, zone: u32, offset: usize, value: u32) -> Result<()> {
        let len = self.geometry.pointer_len();
        let at = self.geometry.zone_at(zone)? + (offset * len) as u64;
        self.storage.write(at, &value.to_le_bytes()[..len])
    }

    /// The zone of block `index` of a file; 0: a hole.
    pub fn zone(&mut self, inode: &Inode, index: u64) -> Result<u32> {
        let path = self.path(index)?;
        let mut zone = inode.zones[path.root];
        for &offset in &path.offsets[..path.levels] {
            if zone == 0 {
                break;
            }
            zone = self.pointer(zone, offset)?;
        }
        Ok(zone)
    }

    /// As [`Volume::zone`], filling holes; with it whether it is new. The inode may have changed also
    /// where this fails.
    fn zone_for_writing(
        &mut self,
        inode: &mut Inode,
        index: u64,
        goal: u32,
    ) -> Result<(u32, bool)> {
        let path = self.path(index)?;
        let mut fresh = false;
        let mut zone = inode.zones[path.root];
        if zone == 0 {
            (zone, fresh) = (self.take_for(path.levels, goal)?, true);
            inode.zones[path.root] = zone;
        }
        for (level, &offset) in path.offsets[..path.levels].iter().enumerate() {
            let mut next = self.pointer(zone, offset)?;
            fresh = next == 0;
            if next == 0 {
                next = self.take_for(path.levels - level - 1, goal)?;
                self.put_pointer(zone, offset, next)?;
            }
            zone = next;
        }
        Ok((zone, fresh))
    }

    /// A zone for data (`levels` 0), or for zone numbers: then zeroed, and on the medium before
    /// anything points to it.
    fn take_for(&mut self, levels: usize, goal: u32) -> Result<u32> {
        let zone = self.take_zone(goal)?;
        if levels > 0 {
            self.write_fresh(zone, &[])?;
        }
        Ok(zone)
    }

    /// Fills a new block with `data` and zeros, durably before what comes.
    pub fn write_fresh(&mut self, zone: u32, data: &[u8]) -> Result<()> {
        let mut block = vec![0; self.geometry.block];
        block[..data.len()].copy_from_slice(data);
        let at = self.geometry.zone_at(zone)?;
        self.storage.write(at, &block)?;
        self.barrier()
    }

    /// Up to the end of the file; how much.
    pub fn read(&mut self, inode: &Inode, offset: u64, out: &mut [u8]) -> Result<usize> {
        let size = u64::from(inode.size);
        let Some(left) = size.checked_sub(offset) else { return Ok(0) };
        let total = out.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let block = self.geometry.block;
        let mut run = Run::default();
        let mut done = 0;
        while done < total {
            let position = offset + done as u64;
            let within = (position % block as u64) as usize;
            let count = (block - within).min(total - done);
            let zone = self.zone(inode, position / block as u64)?;
            if zone == 0 {
                out[done..done + count].fill(0);
            } else {
                let at = self.geometry.zone_at(zone)? + within as u64;
                if run.len > 0 && run.at + run.len as u64 == at && run.from + run.len == done {
                    run.len += count;
                } else {
                    self.read_run(&run, out)?;
                    run = Run { at, from: done, len: count };
                }
            }
            done += count;
        }
        self.read_run(&run, out)?;
        Ok(total)
    }

    /// Writes and extends; the inode is not written here, but must be, also after an error. Less
    /// than all where space ran out, `NoSpc` where that is nothing.
    pub fn write(&mut self, inode: &mut Inode, offset: u64, data: &[u8]) -> Result<usize> {
        if data.is_empty() {
            return Ok(0);
        }
        let left = self.geometry.max_size.checked_sub(offset).filter(|left| *left > 0);
        let left = usize::try_from(left.ok_or(Error::FBig)?).unwrap_or(usize::MAX);
        let data = &data[..data.len().min(left)];
        if offset > inode.size.into() {
            self.zero_tail(inode)?;
        }
        let written = self.write_blocks(inode, offset, data);
        let done = *written.as_ref().unwrap_or(&0) as u64;
        // At most `max_size`, which fits.
        inode.size = inode.size.max((offset + done) as u32 * u32::from(done > 0));
        written
    }

    fn write_blocks(&mut self, inode: &mut Inode, offset: u64, data: &[u8]) -> Result<usize> {
        let block = self.geometry.block;
        let mut run = Run::default();
        let mut goal = self.goal(inode, offset / block as u64);
        let mut done = 0;
        while done < data.len() {
            let position = offset + done as u64;
            let within = (position % block as u64) as usize;
            let count = (block - within).min(data.len() - done);
            let (zone, fresh) = match self.zone_for_writing(inode, position / block as u64, goal) {
                Ok(found) => found,
                Err(Error::NoSpc) if done > 0 => break,
                Err(error) => return Err(error),
            };
            let at = self.geometry.zone_at(zone)?;
            goal = zone + 1;
            if fresh && count < block {
                let mut whole = vec![0; block];
                whole[within..within + count].copy_from_slice(&data[done..done + count]);
                self.storage.write(at, &whole)?;
            } else if run.len > 0
                && run.at + run.len as u64 == at + within as u64
                && run.from + run.len == done
            {
                run.len += count;
            } else {
                self.write_run(&run, data)?;
                run = Run { at: at + within as u64, from: done, len: count };
            }
            done += count;
        }
        self.write_run(&run, data)?;
        Ok(done)
    }

    fn read_run(&mut self, run: &Run, out: &mut [u8]) -> Result<()> {
        match &mut out[run.from..run.from + run.len] {
            [] => Ok(()),
            part => self.storage.read(run.at, part),
        }
    }

    fn write_run(&mut self, run: &Run, data: &[u8]) -> Result<()> {
        match &data[run.from..run.from + run.len] {
            [] => Ok(()),
            part => self.storage.write(run.at, part),
        }
    }

    /// Where a new block should lie: behind the one before it; 0: anywhere.
    fn goal(&mut self, inode: &Inode, index: u64) -> u32 {
        let before = index.checked_sub(1).map(|before| self.zone(inode, before));
        before.and_then(Result::ok).filter(|zone| *zone != 0).map_or(0, |zone| zone.wrapping_add(1))
    }

    /// Zeros from the end of the file to the end of its last block: what a longer size will show.
    fn zero_tail(&mut self, inode: &Inode) -> Result<()> {
        let block = self.geometry.block as u64;
        let within = u64::from(inode.size) % block;
        if within == 0 {
            return Ok(());
        }
        let zone = self.zone(inode, u64::from(inode.size) / block)?;
        if zone == 0 {
            return Ok(());
        }
        let at = self.geometry.zone_at(zone)? + within;
        self.storage.write(at, &vec![0; (block - within) as usize])
    }

    /// Another size. Writes the inode (as it was given, with the size) before zones become free.
    pub fn resize(&mut self, ino: u32, inode: &mut Inode, size: u64) -> Result<()> {
        if size > self.geometry.max_size {
            return Err(Error::FBig);
        }
        let old = core::mem::replace(inode, Inode { size: size as u32, ..*inode });
        if size >= old.size.into() {
            self.zero_tail(&old)?;
            return self.put_inode(ino, inode);
        }
        let cut = self.cut(inode, size.div_ceil(self.geometry.block as u64));
        self.put_inode(ino, inode)?;
        self.prune_all(cut)?;
        self.zero_tail(inode)
    }

    /// Takes the blocks from `keep` on out of an inode; what [`Volume::prune_all`] is then to free.
    pub fn cut(&self, inode: &mut Inode, keep: u64) -> Vec<(u32, usize, u64)> {
        let mut start = 0;
        let mut cut = Vec::new();
        for (root, zone) in inode.zones.iter_mut().enumerate() {
            let level = (root + 1).saturating_sub(DIRECT);
            let span = (self.geometry.pointers() as u64).pow(level as u32);
            let kept = keep.saturating_sub(start).min(span);
            start += span;
            if *zone != 0 && kept < span {
                cut.push((*zone, level, kept));
                if kept == 0 {
                    *zone = 0;
                }
            }
        }
        cut
    }

    pub fn prune_all(&mut self, cut: Vec<(u32, usize, u64)>) -> Result<()> {
        cut.into_iter().try_for_each(|(zone, level, kept)| self.prune(zone, level, kept))
    }

    /// Frees the blocks from `keep` on below `zone`, which has `level` levels of numbers below it;
    /// with `keep` 0 itself too. Every zone is freed once or the bitmap says no (`Io`), so loops that
    /// an image holds come to an end.
    fn prune(&mut self, zone: u32, level: usize, keep: u64) -> Result<()> {
        if level == 0 {
            return if keep == 0 { self.free_zone(zone) } else { Ok(()) };
        }
        let span = (self.geometry.pointers() as u64).pow(level as u32 - 1);
        let len = self.geometry.pointer_len();
        let mut block = vec![0; self.geometry.block];
        let at = self.geometry.zone_at(zone)?;
        self.storage.read(at, &mut block)?;
        let mut cut: Vec<(u32, u64)> = Vec::new();
        for (offset, raw) in block.chunks_exact_mut(len).enumerate() {
            let mut number = [0; 4];
            number[..len].copy_from_slice(raw);
            let child = u32::from_le_bytes(number);
            let kept = keep.saturating_sub(offset as u64 * span).min(span);
            if child != 0 && kept < span {
                cut.push((child, kept));
                if kept == 0 {
                    raw.fill(0);
                }
            }
        }
        if keep > 0 && !cut.is_empty() {
            self.storage.write(at, &block)?;
        }
        if keep == 0 {
            // First itself: a block that names itself is met again as free.
            self.free_zone(zone)?;
        }
        cut.into_iter().try_for_each(|(child, kept)| self.prune(child, level - 1, kept))
    }
}

/// Files whose inode holds zone numbers: not devices, FIFOs, sockets.
pub fn has_zones(file_mode: u16) -> bool {
    let kind = u32::from(file_mode) & mode::TYPE_MASK;
    matches!(kind, mode::REGULAR | mode::DIRECTORY | mode::SYMLINK)
}
