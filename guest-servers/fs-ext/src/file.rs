//! File bodies: mapping, reading, writing, cutting, and the end of a file.
//!
//! Data goes to the device at once (its cache, in the guest), in pieces as long as blocks lie together;
//! what a commit then makes durable never names blocks whose data are not (ordered mode).
//!
//! Freeing a long file takes several operations. Between them the inode is on the list of orphans, so that
//! after a crash the next mount goes on.

use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::mode;

use crate::groups::corrupt;
use crate::inode::{Inode, Time};
use crate::layout::{feature::incompat, inode};
use crate::volume::Volume;

/// Bytes that one operation writes at most.
pub const WRITE_MAX: usize = 1 << 20;

/// Blocks of a file that lie together, or are missing together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// `None`: a hole.
    pub physical: Option<u64>,
    pub len: u64,
    /// Reads as zeros although it has blocks.
    pub unwritten: bool,
}

impl Run {
    pub fn hole(len: u64) -> Self {
        Self { physical: None, len, unwritten: false }
    }
}

impl Volume<'_> {
    /// What lies at block `logical` of a file, and how long that goes on; at most `most` blocks, at
    /// least one.
    pub fn map(&mut self, inode: &Inode, logical: u64, most: u64) -> Result<Run> {
        if inode.has(inode::FLAG_INLINE_DATA) {
            return corrupt();
        }
        if inode.has(inode::FLAG_EXTENTS) {
            self.extent_map(inode, logical, most)
        } else {
            self.indirect_map(inode, logical, most)
        }
    }

    /// Largest size of a file with this kind of map.
    fn max_size(&self, inode: &Inode) -> u64 {
        let block = self.geo.block_size as u64;
        if inode.has(inode::FLAG_EXTENTS) {
            (u64::from(u32::MAX) - 1) * block
        } else {
            // Sizes count sectors in 32 bits there.
            (self.indirect_max() * block).min(u64::from(u32::MAX) * 512 - (8 << 20))
        }
    }

    /// Makes sure that blocks stand at `logical`. True: they are new, their bytes are anything.
    pub fn map_new(&mut self, inode: &mut Inode, logical: u64, want: u64) -> Result<(Run, bool)> {
        let run = self.map(inode, logical, want)?;
        match run.physical {
            Some(_) if !run.unwritten => Ok((run, false)),
            Some(_) => {
                self.extent_convert(inode, logical, run.len)?;
                Ok((Run { unwritten: false, ..run }, true))
            }
            None => {
                let goal = self.goal(inode, logical)?;
                let want = u32::try_from(run.len).unwrap_or(u32::MAX);
                let (start, count) = self.allocate(inode.number, goal, want)?;
                let count = u64::from(count);
                inode.add_blocks(&self.geo, count as i64)?;
                if inode.has(inode::FLAG_EXTENTS) {
                    self.extent_insert(inode, logical, start, count)?;
                } else {
                    self.indirect_insert(inode, logical, start, count)?;
                }
                Ok((Run { physical: Some(start), len: count, unwritten: false }, true))
            }
        }
    }

    /// All blocks of a file's map, those that hold the map itself included: start and length. In case
    /// of an error what was found before it.
    pub fn pieces(&mut self, inode: &Inode, out: &mut Vec<(u64, u64)>) -> Result<()> {
        if inode.has(inode::FLAG_EXTENTS) {
            self.extent_pieces(inode, out)
        } else {
            self.indirect_pieces(inode, out)
        }
    }

    /// Where a block at `logical` would best lie: behind the one before it.
    fn goal(&mut self, inode: &Inode, logical: u64) -> Result<u64> {
        if logical > 0 {
            let before = self.map(inode, logical - 1, 1)?;
            if let Some(block) = before.physical {
                return Ok(block + 1);
            }
        }
        let (group, _) = self.inode_place(inode.number);
        Ok(self.geo.first_block(group))
    }

    /// Reads up to the end of the file.
    pub fn read_file(&mut self, inode: &Inode, offset: u64, out: &mut [u8]) -> Result<usize> {
        let size = inode.size(&self.geo);
        if offset >= size {
            return Ok(0);
        }
        let len = usize::try_from(size - offset).unwrap_or(usize::MAX).min(out.len());
        if inode.has(inode::FLAG_INLINE_DATA) {
            let data = self.inline_data(inode)?;
            let from = data.get(offset as usize..).unwrap_or_default();
            let part = from.len().min(len);
            out[..part].copy_from_slice(&from[..part]);
            out[part..len].fill(0);
            return Ok(len);
        }
        let block = self.geo.block_size as u64;
        let mut done = 0;
        while done < len {
            let at = offset + done as u64;
            let (logical, within) = (at / block, at % block);
            let most = (within + (len - done) as u64).div_ceil(block);
            let run = self.map(inode, logical, most)?;
            let bytes = (run.len * block - within).min((len - done) as u64) as usize;
            let part = &mut out[done..done + bytes];
            match run.physical {
                Some(start) if !run.unwritten => {
                    self.meta.device.read(start * block + within, part)?;
                }
                _ => part.fill(0),
            }
            done += bytes;
        }
        Ok(len)
    }

    /// Writes `data`, or as much as there is space for.
    pub fn write_file(&mut self, number: u64, offset: u64, data: &[u8]) -> Result<usize> {
        let inode = self.inode(number)?;
        match inode.kind() {
            mode::REGULAR => {}
            mode::DIRECTORY => return Err(Error::IsDir),
            _ => return Err(Error::Inval),
        }
        if inode.has(inode::FLAG_IMMUTABLE) {
            return Err(Error::Perm);
        }
        let end = offset.checked_add(data.len() as u64);
        end.filter(|&end| end <= self.max_size(&inode)).ok_or(Error::FBig)?;
        if data.is_empty() {
            return Ok(0);
        }
        let block = self.geo.block_size;
        let mut most = WRITE_MAX.max(block);
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let to_boundary = most - (at % block as u64) as usize;
            let part = &data[done..(done + to_boundary).min(data.len())];
            match self.operation(|volume| volume.write_part(number, at, part)) {
                Ok(count) => done += count,
                // Perhaps a shorter piece fits.
                Err(Error::NoSpc) if most > block => most = (most / 2).max(block) / block * block,
                Err(_) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// One operation's part of a write: all of it, or what made enough changes for one.
    fn write_part(&mut self, number: u64, offset: u64, data: &[u8]) -> Result<usize> {
        let mut inode = self.inode(number)?;
        let block = self.geo.block_size as u64;
        let size = inode.size(&self.geo);
        if offset > size {
            self.clear_tail(&inode, size)?;
        }
        let mut done = 0;
        let mut grown = None;
        while done < data.len() && (done == 0 || self.has_room()) {
            let at = offset + done as u64;
            let (logical, within) = (at / block, (at % block) as usize);
            let most = (within + data.len() - done).div_ceil(block as usize) as u64;
            let (run, new) = self.map_new(&mut inode, logical, most)?;
            let Some(start) = run.physical else { return corrupt() };
            let bytes = ((run.len * block) as usize - within).min(data.len() - done);
            self.write_run(start, within, &data[done..done + bytes], new)?;
            if new {
                grown = Some(start + run.len);
            }
            done += bytes;
        }
        let end = offset + done as u64;
        if end > size {
            if end > i32::MAX as u64 {
                self.allow_large_files()?;
            }
            inode.set_size(end);
            if let Some(behind) = grown {
                self.keep_window(inode.number, behind);
            }
        }
        let now = (self.around.now)();
        inode.set_time(Time::Modify, now);
        inode.set_time(Time::Change, now);
        self.write_inode(&mut inode)?;
        Ok(done)
    }

    /// Writes into blocks that lie together; in new ones, what `data` leaves of the first and last
    /// becomes zeros.
    fn write_run(&mut self, start: u64, within: usize, data: &[u8], new: bool) -> Result<()> {
        let block = self.geo.block_size;
        let base = self.meta.offset(start)?;
        let mut rest = data;
        let mut at = within;
        if new && (within != 0 || data.len() < block) {
            let mut first = vec![0; block];
            let count = data.len().min(block - within);
            first[within..within + count].copy_from_slice(&data[..count]);
            self.meta.device.write(base, &first)?;
            (rest, at) = (&data[count..], block);
        }
        let odd = rest.len() % block;
        if new && odd > 0 {
            let (whole, tail) = rest.split_at(rest.len() - odd);
            let mut last = vec![0; block];
            last[..odd].copy_from_slice(tail);
            self.meta.device.write(base + (at + whole.len()) as u64, &last)?;
            rest = whole;
        }
        if rest.is_empty() { Ok(()) } else { self.meta.device.write(base + at as u64, rest) }
    }

    /// Zeros behind `size` in the block that it lies in.
    fn clear_tail(&mut self, inode: &Inode, size: u64) -> Result<()> {
        let block = self.geo.block_size as u64;
        let within = size % block;
        if within == 0 {
            return Ok(());
        }
        let run = self.map(inode, size / block, 1)?;
        if let (Some(start), false) = (run.physical, run.unwritten) {
            let zeros = vec![0; (block - within) as usize];
            self.meta.device.write(start * block + within, &zeros)?;
        }
        Ok(())
    }

    /// Frees blocks from `from` on, as many as one operation may. True: all are gone.
    fn cut(&mut self, inode: &mut Inode, from: u64) -> Result<bool> {
        self.drop_window(inode.number);
        if self.is_unmapped(inode) {
            return Ok(true);
        }
        let from = from.div_ceil(self.geo.block_size as u64);
        // A first step is always made; an operation has room for it.
        loop {
            let more = if inode.has(inode::FLAG_EXTENTS) {
                self.extent_cut(inode, from)?
            } else {
                self.indirect_cut(inode, from)?
            };
            if !more {
                return Ok(true);
            }
            if !self.has_room() {
                return Ok(false);
            }
        }
    }

    /// Has no map of blocks at all: devices, short links, data within the inode.
    pub fn is_unmapped(&self, inode: &Inode) -> bool {
        inode.has(inode::FLAG_INLINE_DATA)
            || inode.is_fast_link(&self.geo)
            || !matches!(inode.kind(), mode::REGULAR | mode::DIRECTORY | mode::SYMLINK)
    }

    /// Sets a file's size.
    pub fn resize(&mut self, number: u64, size: u64) -> Result<()> {
        let inode = self.inode(number)?;
        match inode.kind() {
            mode::REGULAR => {}
            mode::DIRECTORY => return Err(Error::IsDir),
            _ => return Err(Error::Inval),
        }
        if inode.has(inode::FLAG_IMMUTABLE | inode::FLAG_APPEND) {
            return Err(Error::Perm);
        }
        if size > self.max_size(&inode) {
            return Err(Error::FBig);
        }
        let whole = self.operation(|volume| {
            let mut inode = volume.inode(number)?;
            let old = inode.size(&volume.geo);
            volume.clear_tail(&inode, size.min(old))?;
            inode.set_size(size);
            if size > i32::MAX as u64 {
                volume.allow_large_files()?;
            }
            let now = (volume.around.now)();
            inode.set_time(Time::Modify, now);
            inode.set_time(Time::Change, now);
            let whole = size >= old || volume.cut(&mut inode, size)?;
            if !whole {
                volume.add_orphan(&mut inode)?;
            }
            volume.write_inode(&mut inode)?;
            Ok(whole)
        })?;
        if whole { Ok(()) } else { self.finish_cut(number as u32) }
    }

    /// Goes on with a cut that took more than one operation: down to the inode's size, or to its
    /// end if it has no name. Then it is no orphan any more.
    pub fn finish_cut(&mut self, number: u32) -> Result<()> {
        while !self.operation(|volume| {
            let mut inode = volume.raw_inode(number)?;
            let held = volume.holds.contains_key(&number);
            let gone = inode.links() == 0 && !held;
            let size = if gone { 0 } else { inode.size(&volume.geo) };
            let whole = volume.cut(&mut inode, size)?;
            if !whole {
                volume.write_inode(&mut inode)?;
                return Ok(false);
            }
            // Without a name it stays one until it is released.
            if inode.links() > 0 || gone {
                volume.remove_orphan(&mut inode)?;
            }
            if gone {
                volume.destroy(&mut inode)?
            } else {
                volume.write_inode(&mut inode)?
            }
            Ok(true)
        })? {}
        Ok(())
    }

    /// The last name is gone: frees the file in the operation under way, or makes it an orphan when
    /// it is held or long. Call [`Volume::finish_cut`] afterwards if this says so.
    pub fn drop_file(&mut self, inode: &mut Inode) -> Result<bool> {
        inode.set_links(0);
        inode.set_time(Time::Change, (self.around.now)());
        if self.holds.contains_key(&inode.number) {
            self.add_orphan(inode)?;
            self.write_inode(inode)?;
            return Ok(false);
        }
        if self.cut(inode, 0)? {
            self.destroy(inode)?;
            return Ok(false);
        }
        self.add_orphan(inode)?;
        self.write_inode(inode)?;
        Ok(true)
    }

    /// An inode without blocks goes back.
    fn destroy(&mut self, inode: &mut Inode) -> Result<()> {
        self.drop_attributes(inode)?;
        let directory = inode.is_dir();
        inode.set_size(0);
        inode::DTIME.set(&mut inode.raw, self.seconds());
        self.write_inode(inode)?;
        self.free_inode(inode.number, directory)
    }

    /// Gives up an inode's block of extended attributes, which several may share.
    fn drop_attributes(&mut self, inode: &mut Inode) -> Result<()> {
        use crate::checksum::crc32c;
        use crate::layout::Le32;
        use crate::meta::Seal;

        const MAGIC: u32 = 0xEA02_0000;
        const USERS: Le32 = Le32(4);
        let block = inode.attributes_block();
        if block == 0 {
            return Ok(());
        }
        if !self.is_data(block, 1) {
            return corrupt();
        }
        let seal = self.seal(Seal::Attributes(crc32c(self.geo.seed, &block.to_le_bytes())));
        let raw = self.meta.read(block, seal)?;
        if Le32(0).get(raw) != MAGIC {
            return corrupt();
        }
        let users = USERS.get(raw);
        if users > 1 {
            USERS.set(self.meta.modify(block, seal)?, users - 1);
        } else {
            self.free(block, 1, true)?;
        }
        inode.set_attributes_block(0);
        inode.add_blocks(&self.geo, -1)
    }

    /// Writes the target of a link that is too long for the inode.
    pub fn write_link(&mut self, inode: &mut Inode, target: &[u8]) -> Result<()> {
        if self.geo.has_incompat(incompat::EXTENTS) {
            crate::extents::initialise(inode);
        }
        let (run, new) = self.map_new(inode, 0, 1)?;
        let Some(start) = run.physical else { return corrupt() };
        // One zero behind the target, as others expect.
        self.write_run(start, 0, target, new)
    }
}
