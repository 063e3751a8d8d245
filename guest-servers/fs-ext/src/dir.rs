//! Directories as lists of entries; indexed ones too, whose index is in [`crate::htree`].
//!
//! ```text
//!   block: inode u32, rec_len u16, name_len u8, type u8, name .. | inode .. | [checksum entry]
//! ```
//! `rec_len` leads from entry to entry and to the block's end; an entry with inode 0 is free. Removing an
//! entry gives its room to the one before it. Entries never move except when an indexed block is
//! split.

use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::mode;

use crate::groups::corrupt;
use crate::inode::Inode;
use crate::layout::{Le16, Le32, dirent, feature::compat, feature::incompat, inode};
use crate::meta::Seal;
use crate::volume::Volume;

/// Bytes of an entry with a name of this length.
pub fn entry_len(name: usize) -> usize {
    (dirent::HEAD + name).next_multiple_of(4)
}

/// One entry of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot<'a> {
    pub at: usize,
    pub rec_len: usize,
    pub inode: u32,
    pub kind: u8,
    pub name: &'a [u8],
}

fn rec_len(block: &[u8], at: usize) -> usize {
    let kept = usize::from(Le16(at + 4).get(block));
    // 64 KiB does not fit; it is kept as the largest or as 0.
    if block.len() == 1 << 16 && (kept == 0 || kept == 0xFFFF) { 1 << 16 } else { kept }
}

fn set_rec_len(block: &mut [u8], at: usize, len: usize) {
    Le16(at + 4).set(block, len.min(0xFFFF) as u16);
}

/// The entry at `at`, if it is sound.
fn slot_at(block: &[u8], at: usize, inodes: u32) -> Result<Slot<'_>> {
    if at + dirent::HEAD > block.len() {
        return corrupt();
    }
    let len = rec_len(block, at);
    let (number, name_len) = (Le32(at).get(block), usize::from(block[at + 6]));
    if len < dirent::HEAD
        || !len.is_multiple_of(4)
        || at + len > block.len()
        || (number != 0 && len < entry_len(name_len))
        || number > inodes
        || (number != 0 && name_len == 0)
    {
        return corrupt();
    }
    let name = if number == 0 { &[][..] } else { &block[at + 8..at + 8 + name_len] };
    Ok(Slot { at, rec_len: len, inode: number, kind: block[at + 7], name })
}

/// All entries of a block, free ones too; ends after the first error.
pub fn slots(block: &[u8], inodes: u32) -> impl Iterator<Item = Result<Slot<'_>>> {
    let mut at = Some(0);
    core::iter::from_fn(move || {
        let here = at.filter(|&here| here < block.len())?;
        let slot = slot_at(block, here, inodes);
        at = slot.as_ref().ok().map(|slot| here + slot.rec_len);
        Some(slot)
    })
}

/// Puts an entry into the bytes at `at`, which it may fill up to `len`.
pub fn put_entry(block: &mut [u8], at: usize, len: usize, entry: &NewEntry<'_>) {
    Le32(at).set(block, entry.inode);
    set_rec_len(block, at, len);
    block[at + 6] = entry.name.len() as u8;
    block[at + 7] = entry.kind;
    block[at + 8..at + 8 + entry.name.len()].copy_from_slice(entry.name);
}

/// Puts the entry at a block's end that holds its checksum.
pub fn put_tail(block: &mut [u8]) {
    let at = block.len() - dirent::TAIL;
    block[at..].fill(0);
    set_rec_len(block, at, dirent::TAIL);
    block[at + 7] = dirent::TAIL_TYPE;
}

/// What is to be entered.
#[derive(Clone, Copy, Debug)]
pub struct NewEntry<'a> {
    pub inode: u32,
    pub kind: u8,
    pub name: &'a [u8],
}

/// Where an entry was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub inode: u32,
    pub logical: u64,
    pub at: usize,
}

/// Enters into a block whose entries may use `usable` bytes. `false`: no room.
pub fn enter(block: &mut [u8], usable: usize, inodes: u32, entry: &NewEntry<'_>) -> Result<bool> {
    let need = entry_len(entry.name.len());
    let mut place = None;
    for slot in slots(&block[..usable], inodes) {
        let slot = slot?;
        let used = if slot.inode == 0 { 0 } else { entry_len(slot.name.len()) };
        if slot.rec_len - used >= need {
            place = Some((slot.at, used, slot.rec_len));
            break;
        }
    }
    let Some((at, used, len)) = place else { return Ok(false) };
    if used > 0 {
        set_rec_len(block, at, used);
    }
    put_entry(block, at + used, len - used, entry);
    Ok(true)
}

/// The file type kept in an entry, by a mode.
fn kind_of(kind: u32) -> u8 {
    match kind {
        mode::REGULAR => 1,
        mode::DIRECTORY => 2,
        mode::CHARACTER => 3,
        mode::BLOCK => 4,
        mode::FIFO => 5,
        mode::SOCKET => 6,
        mode::SYMLINK => 7,
        _ => 0,
    }
}

/// The mode's type that an entry's file type stands for; 0: look at the inode.
pub fn mode_of(kind: u8) -> u32 {
    match kind {
        1 => mode::REGULAR,
        2 => mode::DIRECTORY,
        3 => mode::CHARACTER,
        4 => mode::BLOCK,
        5 => mode::FIFO,
        6 => mode::SOCKET,
        7 => mode::SYMLINK,
        _ => 0,
    }
}

impl Volume<'_> {
    /// Type byte of entries for files of this mode.
    pub fn entry_kind(&self, kind: u32) -> u8 {
        if self.geo.has_incompat(incompat::FILETYPE) { kind_of(kind) } else { 0 }
    }

    pub fn dir_blocks(&self, dir: &Inode) -> u64 {
        dir.size(&self.geo) / self.geo.block_size as u64
    }

    pub fn is_indexed(&self, dir: &Inode) -> bool {
        self.geo.has_compat(compat::DIR_INDEX) && dir.has(inode::FLAG_INDEX)
    }

    /// How a directory's block is sealed; its content tells index blocks from others.
    fn dir_seal(&self, dir: &Inode, logical: u64) -> impl FnOnce(&[u8]) -> Seal + use<> {
        let (sums, seed) = (self.geo.all_checksums(), dir.seed(&self.geo));
        let indexed = self.is_indexed(dir);
        move |raw| {
            if !sums {
                return Seal::None;
            }
            if indexed && logical == 0 {
                return Seal::Index(seed, crate::htree::ROOT_ENTRIES);
            }
            let node = Le32(0).get(raw) == 0 && rec_len(raw, 0) == raw.len();
            if indexed && node {
                Seal::Index(seed, crate::htree::NODE_ENTRIES)
            } else {
                Seal::Directory(seed)
            }
        }
    }

    /// Where block `logical` of a directory lies; it is in memory and sound. `None`: a hole.
    pub fn dir_block(&mut self, dir: &Inode, logical: u64) -> Result<Option<u64>> {
        let Some(block) = self.map(dir, logical, 1)?.physical else { return Ok(None) };
        let seal = self.dir_seal(dir, logical);
        self.meta.read_as(block, seal)?;
        Ok(Some(block))
    }

    /// A directory block, to be changed. `block` from [`Volume::dir_block`].
    pub fn dir_modify(&mut self, dir: &Inode, logical: u64, block: u64) -> Result<&mut [u8]> {
        let seal = self.dir_seal(dir, logical);
        let seal = seal(self.meta.read(block, Seal::None)?);
        self.meta.modify(block, seal)
    }

    /// A new block at the directory's end; the caller fills it. Physical block and its number.
    pub fn dir_append(&mut self, dir: &mut Inode, seal: Seal) -> Result<(u64, u64)> {
        let logical = self.dir_blocks(dir);
        let size = (logical + 1) * self.geo.block_size as u64;
        if size > u32::MAX.into() {
            return Err(Error::NoSpc);
        }
        let (run, _) = self.map_new(dir, logical, 1)?;
        let Some(block) = run.physical else { return corrupt() };
        dir.set_size(size);
        let seal = self.seal(seal);
        self.meta.fresh(block, seal);
        Ok((block, logical))
    }

    /// An empty leaf at the directory's end.
    pub fn dir_append_leaf(&mut self, dir: &mut Inode) -> Result<(u64, u64)> {
        let seed = dir.seed(&self.geo);
        let (block, logical) = self.dir_append(dir, Seal::Directory(seed))?;
        let (usable, sums) = (self.geo.dir_usable(), self.geo.all_checksums());
        let raw = self.meta.modify(block, if sums { Seal::Directory(seed) } else { Seal::None })?;
        set_rec_len(raw, 0, usable);
        if sums {
            put_tail(raw);
        }
        Ok((block, logical))
    }

    /// Looks through one block.
    pub fn find_in_block(
        &mut self,
        dir: &Inode,
        logical: u64,
        name: &[u8],
    ) -> Result<Option<Found>> {
        let Some(block) = self.dir_block(dir, logical)? else { return Ok(None) };
        let inodes = self.geo.inodes;
        for slot in slots(self.meta.read(block, Seal::None)?, inodes) {
            let slot = slot?;
            if slot.inode != 0 && slot.name == name {
                return Ok(Some(Found { inode: slot.inode, logical, at: slot.at }));
            }
        }
        Ok(None)
    }

    /// The entry called `name`, `.` and `..` too.
    pub fn find(&mut self, dir: &Inode, name: &[u8]) -> Result<Found> {
        if dir.has(inode::FLAG_INLINE_DATA) {
            return self.find_inline(dir, name);
        }
        if self.is_indexed(dir) && name != b"." && name != b".." {
            match self.find_indexed(dir, name) {
                // An index of an unknown kind: the entries are still there.
                Err(Error::NotSup) => {}
                result => return result?.ok_or(Error::NoEnt),
            }
        }
        for logical in 0..self.dir_blocks(dir) {
            if let Some(found) = self.find_in_block(dir, logical, name)? {
                return Ok(found);
            }
        }
        Err(Error::NoEnt)
    }

    /// Number of the file called `name`, which the directory must not lie about.
    pub fn find_file(&mut self, dir: &Inode, name: &[u8]) -> Result<Inode> {
        let found = self.find(dir, name)?;
        match self.inode(found.inode.into()) {
            Err(Error::Stale) => corrupt(),
            result => result,
        }
    }

    /// Adds an entry; the name must be free. The caller writes the directory's inode.
    pub fn add_entry(&mut self, dir: &mut Inode, entry: &NewEntry<'_>) -> Result<()> {
        if self.is_indexed(dir) {
            return self.add_indexed(dir, entry);
        }
        // Written to as a list it is no index any more.
        dir.set_flag(inode::FLAG_INDEX, false);
        let (blocks, usable, inodes) =
            (self.dir_blocks(dir), self.geo.dir_usable(), self.geo.inodes);
        // The last block first: that is where there mostly is room.
        for logical in (0..blocks).rev() {
            let Some(block) = self.dir_block(dir, logical)? else { continue };
            let need = entry_len(entry.name.len());
            let raw = self.meta.read(block, Seal::None)?;
            let fits = slots(&raw[..usable], inodes).try_fold(false, |fits, slot| {
                let slot = slot?;
                let used = if slot.inode == 0 { 0 } else { entry_len(slot.name.len()) };
                Ok::<bool, Error>(fits || slot.rec_len - used >= need)
            })?;
            if fits {
                enter(self.dir_modify(dir, logical, block)?, usable, inodes, entry)?;
                return Ok(());
            }
        }
        if blocks == 1 && self.geo.has_compat(compat::DIR_INDEX) && self.can_index() {
            self.make_index(dir)?;
            return self.add_indexed(dir, entry);
        }
        let (block, logical) = self.dir_append_leaf(dir)?;
        enter(self.dir_modify(dir, logical, block)?, usable, inodes, entry)?;
        Ok(())
    }

    /// Removes an entry found before.
    pub fn remove_entry(&mut self, dir: &Inode, found: &Found) -> Result<()> {
        let Some(block) = self.dir_block(dir, found.logical)? else { return corrupt() };
        let inodes = self.geo.inodes;
        let raw = self.dir_modify(dir, found.logical, block)?;
        let mut before: Option<(usize, usize)> = None;
        let mut here = None;
        for slot in slots(raw, inodes) {
            let slot = slot?;
            if slot.at == found.at {
                here = Some(slot.rec_len);
                break;
            }
            before = Some((slot.at, slot.rec_len));
        }
        let Some(len) = here else { return corrupt() };
        match before {
            Some((at, before)) => {
                set_rec_len(raw, at, before + len);
                raw[found.at..found.at + dirent::HEAD].fill(0);
            }
            None => Le32(found.at).set(raw, 0),
        }
        Ok(())
    }

    /// Lets an entry found before name another file.
    pub fn retarget(&mut self, dir: &Inode, found: &Found, inode: u32, kind: u8) -> Result<()> {
        let Some(block) = self.dir_block(dir, found.logical)? else { return corrupt() };
        let raw = self.dir_modify(dir, found.logical, block)?;
        Le32(found.at).set(raw, inode);
        raw[found.at + 7] = kind;
        Ok(())
    }

    /// The first block of a new directory.
    pub fn make_directory(&mut self, dir: &mut Inode, parent: u32) -> Result<()> {
        let kind = self.entry_kind(mode::DIRECTORY);
        let (block, logical) = self.dir_append_leaf(dir)?;
        let (usable, number) = (self.geo.dir_usable(), dir.number);
        let raw = self.dir_modify(dir, logical, block)?;
        put_entry(raw, 0, 12, &NewEntry { inode: number, kind, name: b"." });
        put_entry(raw, 12, usable - 12, &NewEntry { inode: parent, kind, name: b".." });
        Ok(())
    }

    /// Has it entries beside `.` and `..`?
    pub fn is_empty_dir(&mut self, dir: &Inode) -> Result<bool> {
        let inodes = self.geo.inodes;
        for logical in 0..self.dir_blocks(dir) {
            let Some(block) = self.dir_block(dir, logical)? else { continue };
            for slot in slots(self.meta.read(block, Seal::None)?, inodes) {
                let slot = slot?;
                if slot.inode != 0 && slot.name != b"." && slot.name != b".." {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Entries of a directory kept in its inode: the parent's number, then two lists.
    pub fn inline_entries(&mut self, dir: &Inode) -> Result<Vec<(u32, u8, Vec<u8>)>> {
        let data = self.inline_data(dir)?;
        let mut all = Vec::new();
        let split = data.len().min(inode::BLOCK_LEN);
        let (first, second) = data.split_at(split);
        for part in [first.get(4..).unwrap_or_default(), second] {
            for slot in slots(part, self.geo.inodes) {
                let slot = slot?;
                if slot.inode != 0 {
                    all.push((slot.inode, slot.kind, slot.name.to_vec()));
                }
            }
        }
        Ok(all)
    }

    fn find_inline(&mut self, dir: &Inode, name: &[u8]) -> Result<Found> {
        let inode = match name {
            b"." => dir.number,
            b".." => Le32(0).get(dir.block()),
            _ => {
                let all = self.inline_entries(dir)?;
                all.iter().find(|entry| entry.2 == name).ok_or(Error::NoEnt)?.0
            }
        };
        Ok(Found { inode, logical: 0, at: 0 })
    }
}
