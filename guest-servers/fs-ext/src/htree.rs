//! Indexed directories: names found by their hash.
//!
//! ```text
//!   block 0: "." and "..", root: (hash, block) ..      indirect levels: 0 to 2 (3 with large_dir)
//!        └─ node: (hash, block) ..                     looks like an empty block of entries
//!             └─ leaf: entries whose hash is >= its own and < the next; not sorted
//! ```
//! The lowest bit of a hash in the index says that the leaf before it ends within names of the same
//! hash, so a search goes on there. A leaf that is full is split in two by hash; a node that is full
//! likewise; a full root moves into a node below it.
//!
//! Levels only lead downwards and are bounded, so a looped index ends in an error or is merely
//! searched in vain.

use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};

use crate::dir::{Found, NewEntry, enter, entry_len, put_entry, put_tail, slots};
use crate::groups::corrupt;
use crate::hash;
use crate::inode::Inode;
use crate::layout::{Le16, Le32, feature::incompat, inode};
use crate::meta::Seal;
use crate::volume::Volume;

/// Offsets of the entries (the first one's hash is limit and count).
pub const ROOT_ENTRIES: u16 = 0x20;
pub const NODE_ENTRIES: u16 = 8;
const HASH_VERSION: usize = 0x1C;
const INFO_LEN: usize = 0x1D;
const LEVELS: usize = 0x1E;
const ENTRY: usize = 8;

/// A node on the way to a leaf.
#[derive(Clone, Copy, Debug)]
struct Frame {
    logical: u64,
    block: u64,
    base: usize,
    count: usize,
    limit: usize,
    /// Entry taken.
    at: usize,
}

/// The hash of a name in one directory.
#[derive(Clone, Copy, Debug)]
struct Hasher {
    version: u8,
    seed: [u32; 4],
}

impl Hasher {
    fn hash(&self, name: &[u8]) -> Result<(u32, u32)> {
        hash::hash(self.version, &self.seed, name).ok_or(Error::NotSup)
    }
}

fn entry_hash(raw: &[u8], frame: &Frame, index: usize) -> u32 {
    if index == 0 { 0 } else { Le32(frame.base + index * ENTRY).get(raw) }
}

fn entry_block(raw: &[u8], frame: &Frame, index: usize) -> u64 {
    // The upper four bits are reserved.
    u64::from(Le32(frame.base + index * ENTRY + 4).get(raw) & 0x0FFF_FFFF)
}

impl Volume<'_> {
    fn levels_max(&self) -> usize {
        if self.geo.has_incompat(incompat::LARGEDIR) { 2 } else { 1 }
    }

    /// Does the superblock name a hash function for new indexes?
    pub fn can_index(&self) -> bool {
        self.geo.hash_version <= hash::TEA
    }

    fn limit(&self, base: u16) -> usize {
        let tail = if self.geo.all_checksums() { 8 } else { 0 };
        (self.geo.block_size - usize::from(base) - tail) / ENTRY
    }

    fn hasher(&self, version: u8) -> Hasher {
        // The root names the function; whether characters are signed, the superblock.
        let version =
            if version <= hash::TEA && self.geo.unsigned_hash { version + 3 } else { version };
        Hasher { version, seed: self.geo.hash_seed }
    }

    fn frame(&mut self, dir: &Inode, logical: u64, base: u16) -> Result<Frame> {
        if logical >= self.dir_blocks(dir) {
            return corrupt();
        }
        let Some(block) = self.dir_block(dir, logical)? else { return corrupt() };
        let limit = self.limit(base);
        let raw = self.meta.read(block, Seal::None)?;
        let base = usize::from(base);
        let count = usize::from(Le16(base + 2).get(raw));
        if usize::from(Le16(base).get(raw)) != limit || count == 0 || count > limit {
            return corrupt();
        }
        Ok(Frame { logical, block, base, count, limit, at: 0 })
    }

    /// The function and levels that a directory's root names.
    fn root(&mut self, dir: &Inode) -> Result<(Hasher, usize)> {
        let Some(block) = self.dir_block(dir, 0)? else { return corrupt() };
        let raw = self.meta.read(block, Seal::None)?;
        let (version, levels) = (raw[HASH_VERSION], usize::from(raw[LEVELS]));
        if Le32(0x18).get(raw) != 0 || raw[INFO_LEN] != 8 || levels > self.levels_max() {
            return corrupt();
        }
        Ok((self.hasher(version), levels))
    }

    /// The way from the root to the leaf for `hash`.
    fn probe(&mut self, dir: &Inode, hash: u32, levels: usize) -> Result<(Vec<Frame>, u64)> {
        let mut frames = Vec::new();
        let mut frame = self.frame(dir, 0, ROOT_ENTRIES)?;
        loop {
            let raw = self.meta.read(frame.block, Seal::None)?;
            let (mut low, mut high) = (1, frame.count);
            while low < high {
                let middle = (low + high) / 2;
                if entry_hash(raw, &frame, middle) > hash {
                    high = middle;
                } else {
                    low = middle + 1;
                }
            }
            frame.at = low - 1;
            let next = entry_block(raw, &frame, frame.at);
            frames.push(frame);
            if frames.len() > levels {
                return Ok((frames, next));
            }
            frame = self.frame(dir, next, NODE_ENTRIES)?;
        }
    }

    /// The leaf behind the one that `frames` lead to, and the hash it begins with.
    fn next_leaf(&mut self, dir: &Inode, frames: &mut [Frame]) -> Result<Option<(u64, u32)>> {
        let Some(level) = frames.iter().rposition(|frame| frame.at + 1 < frame.count) else {
            return Ok(None);
        };
        frames[level].at += 1;
        let frame = frames[level];
        let raw = self.meta.read(frame.block, Seal::None)?;
        let hash = entry_hash(raw, &frame, frame.at);
        let mut next = entry_block(raw, &frame, frame.at);
        for below in frames[level + 1..].iter_mut() {
            *below = self.frame(dir, next, NODE_ENTRIES)?;
            next = entry_block(self.meta.read(below.block, Seal::None)?, below, 0);
        }
        Ok(Some((next, hash)))
    }

    /// Looks a name up. `NotSup`: the hash function is not known.
    pub fn find_indexed(&mut self, dir: &Inode, name: &[u8]) -> Result<Option<Found>> {
        let (hasher, levels) = self.root(dir)?;
        let (hash, _) = hasher.hash(name)?;
        let (mut frames, mut leaf) = self.probe(dir, hash, levels)?;
        // Each step goes on in the index, so that there are no more than it has entries.
        loop {
            if leaf == 0 || leaf >= self.dir_blocks(dir) {
                return corrupt();
            }
            if let Some(found) = self.find_in_block(dir, leaf, name)? {
                return Ok(Some(found));
            }
            match self.next_leaf(dir, &mut frames)? {
                Some((next, begins)) if begins & 1 != 0 && begins & !1 == hash => leaf = next,
                _ => return Ok(None),
            }
        }
    }

    /// Adds an entry to an indexed directory.
    pub fn add_indexed(&mut self, dir: &mut Inode, entry: &NewEntry<'_>) -> Result<()> {
        let (usable, inodes) = (self.geo.dir_usable(), self.geo.inodes);
        let (hasher, _) = self.root(dir)?;
        let (hash, _) = hasher.hash(entry.name)?;
        loop {
            let (_, levels) = self.root(dir)?;
            let (frames, leaf) = self.probe(dir, hash, levels)?;
            if leaf == 0 || leaf >= self.dir_blocks(dir) {
                return corrupt();
            }
            let Some(block) = self.dir_block(dir, leaf)? else { return corrupt() };
            if enter(self.dir_modify(dir, leaf, block)?, usable, inodes, entry)? {
                return Ok(());
            }
            let Some(&lowest) = frames.last() else { return corrupt() };
            if lowest.count < lowest.limit {
                self.split_leaf(dir, &lowest, leaf, block, &hasher)?;
            } else {
                self.widen(dir, &frames)?;
            }
        }
    }

    /// Inserts (`hash`, `logical`) behind the entry that `frame` took.
    fn insert(&mut self, dir: &Inode, frame: &Frame, hash: u32, logical: u64) -> Result<()> {
        let raw = self.dir_modify(dir, frame.logical, frame.block)?;
        let at = frame.base + (frame.at + 1) * ENTRY;
        raw.copy_within(at..frame.base + frame.count * ENTRY, at + ENTRY);
        Le32(at).set(raw, hash);
        Le32(at + 4).set(raw, logical as u32);
        Le16(frame.base + 2).set(raw, frame.count as u16 + 1);
        Ok(())
    }

    /// Moves the upper half of a full leaf, by hash, to a new one.
    fn split_leaf(
        &mut self,
        dir: &mut Inode,
        frame: &Frame,
        leaf: u64,
        block: u64,
        hasher: &Hasher,
    ) -> Result<()> {
        let mut entries = self.hashed(block, hasher)?;
        entries.sort_by_key(|entry| entry.0);
        let total: usize = entries.iter().map(|entry| entry_len(entry.3.len())).sum();
        let mut lower = 0;
        let cut = entries.iter().position(|entry| {
            lower += entry_len(entry.3.len());
            lower > total / 2
        });
        let cut = cut.unwrap_or(0).clamp(1, entries.len().max(2) - 1);
        if cut >= entries.len() {
            return corrupt();
        }
        let goes_on = entries[cut - 1].0 == entries[cut].0;
        let hash = entries[cut].0 | u32::from(goes_on);
        let (upper, number) = self.dir_append_leaf(dir)?;
        self.fill_leaf(dir, leaf, block, &entries[..cut])?;
        self.fill_leaf(dir, number, upper, &entries[cut..])?;
        self.insert(dir, frame, hash, number)
    }

    /// Entries of a leaf: hash, inode, type, name.
    fn hashed(&mut self, block: u64, hasher: &Hasher) -> Result<Vec<Hashed>> {
        let inodes = self.geo.inodes;
        let mut entries = Vec::new();
        for slot in slots(self.meta.read(block, Seal::None)?, inodes) {
            let slot = slot?;
            if slot.inode != 0 {
                let hash = hasher.hash(slot.name)?.0;
                entries.push((hash, slot.inode, slot.kind, slot.name.to_vec()));
            }
        }
        Ok(entries)
    }

    fn fill_leaf(
        &mut self,
        dir: &Inode,
        logical: u64,
        block: u64,
        entries: &[Hashed],
    ) -> Result<()> {
        let (usable, sums) = (self.geo.dir_usable(), self.geo.all_checksums());
        let raw = self.dir_modify(dir, logical, block)?;
        raw.fill(0);
        if sums {
            put_tail(raw);
        }
        let mut at = 0;
        for (index, (_, inode, kind, name)) in entries.iter().enumerate() {
            let len = if index + 1 == entries.len() { usable - at } else { entry_len(name.len()) };
            put_entry(raw, at, len, &NewEntry { inode: *inode, kind: *kind, name });
            at += len;
        }
        Ok(())
    }

    /// The lowest node is full: splits the topmost one that must be, or adds a level.
    fn widen(&mut self, dir: &mut Inode, frames: &[Frame]) -> Result<()> {
        // Below the last node that has room all are full.
        match frames.iter().rposition(|frame| frame.count < frame.limit) {
            Some(above) => self.split_node(dir, &frames[above], &frames[above + 1]),
            None if frames.len() > self.levels_max() => Err(Error::NoSpc),
            None => self.deepen(dir, &frames[0]),
        }
    }

    fn new_node(&mut self, dir: &mut Inode, entries: &[u8]) -> Result<u64> {
        let limit = self.limit(NODE_ENTRIES);
        let seed = dir.seed(&self.geo);
        let seal = Seal::Index(seed, NODE_ENTRIES);
        let (block, logical) = self.dir_append(dir, seal)?;
        let seal = self.seal(seal);
        let raw = self.meta.modify(block, seal)?;
        let size = raw.len();
        Le16(4).set(raw, size.min(0xFFFF) as u16);
        let base = usize::from(NODE_ENTRIES);
        raw[base..base + entries.len()].copy_from_slice(entries);
        Le16(base).set(raw, limit as u16);
        Le16(base + 2).set(raw, (entries.len() / ENTRY) as u16);
        Ok(logical)
    }

    fn split_node(&mut self, dir: &mut Inode, above: &Frame, node: &Frame) -> Result<()> {
        let cut = node.count / 2;
        let (from, to) = (node.base + cut * ENTRY, node.base + node.count * ENTRY);
        let raw = self.meta.read(node.block, Seal::None)?;
        let hash = entry_hash(raw, node, cut);
        let entries = raw[from..to].to_vec();
        let number = self.new_node(dir, &entries)?;
        let raw = self.dir_modify(dir, node.logical, node.block)?;
        Le16(node.base + 2).set(raw, cut as u16);
        self.insert(dir, above, hash, number)
    }

    fn deepen(&mut self, dir: &mut Inode, root: &Frame) -> Result<()> {
        let end = root.base + root.count * ENTRY;
        let entries = self.meta.read(root.block, Seal::None)?[root.base..end].to_vec();
        let number = self.new_node(dir, &entries)?;
        let raw = self.dir_modify(dir, root.logical, root.block)?;
        raw[LEVELS] += 1;
        Le16(root.base + 2).set(raw, 1);
        Le32(root.base + 4).set(raw, number as u32);
        Ok(())
    }

    /// Makes a directory of one full block an indexed one.
    pub fn make_index(&mut self, dir: &mut Inode) -> Result<()> {
        let (usable, limit) = (self.geo.dir_usable(), self.limit(ROOT_ENTRIES));
        let inodes = self.geo.inodes;
        let Some(block) = self.dir_block(dir, 0)? else { return corrupt() };
        let mut parent = None;
        let mut entries = Vec::new();
        for slot in slots(self.meta.read(block, Seal::None)?, inodes) {
            let slot = slot?;
            match slot.name {
                b"." => {}
                b".." => parent = Some((slot.inode, slot.kind)),
                name if slot.inode != 0 => entries.push((0, slot.inode, slot.kind, name.to_vec())),
                _ => {}
            }
        }
        let Some((parent, kind)) = parent else { return corrupt() };
        let (leaf, logical) = self.dir_append_leaf(dir)?;
        debug_assert!(usable > 0);
        self.fill_leaf(dir, logical, leaf, &entries)?;
        dir.set_flag(inode::FLAG_INDEX, true);
        let (number, version) = (dir.number, self.geo.hash_version);
        let size = self.geo.block_size;
        let raw = self.dir_modify(dir, 0, block)?;
        raw.fill(0);
        put_entry(raw, 0, 12, &NewEntry { inode: number, kind, name: b"." });
        put_entry(raw, 12, size - 12, &NewEntry { inode: parent, kind, name: b".." });
        raw[HASH_VERSION] = version;
        raw[INFO_LEN] = 8;
        let base = usize::from(ROOT_ENTRIES);
        Le16(base).set(raw, limit as u16);
        Le16(base + 2).set(raw, 1);
        Le32(base + 4).set(raw, logical as u32);
        Ok(())
    }

    /// Leaves in the order of hashes: entries whose (major, minor) hash is `from` or more, sorted, of
    /// the first leaf (and those that go on within its last hash) that has any. Empty at the end.
    pub fn ordered(&mut self, dir: &Inode, from: u64) -> Result<Vec<Ordered>> {
        let indexed = self.is_indexed(dir);
        let (hasher, levels) =
            if indexed { self.root(dir)? } else { (self.hasher(self.geo.hash_version), 0) };
        let (mut frames, mut leaf) = if indexed {
            let start = ((from >> 32) as u32) << 1;
            self.probe(dir, start, levels)?
        } else {
            (vec![], 0)
        };
        let mut found: Vec<Ordered> = Vec::new();
        // An index that leads in circles must not make this endless.
        for _ in 0..=self.dir_blocks(dir) {
            let Some(block) = self.dir_block(dir, leaf)? else { return corrupt() };
            let inodes = self.geo.inodes;
            for slot in slots(self.meta.read(block, Seal::None)?, inodes) {
                let slot = slot?;
                if slot.inode != 0 && slot.name != b"." && slot.name != b".." {
                    let (major, minor) = hasher.hash(slot.name)?;
                    let key = u64::from(major >> 1) << 32 | u64::from(minor);
                    if key >= from {
                        found.push((key, slot.inode, slot.kind, slot.name.to_vec()));
                    }
                }
            }
            match self.next_leaf(dir, &mut frames)? {
                Some((next, begins)) if found.is_empty() || begins & 1 != 0 => leaf = next,
                _ => break,
            }
        }
        found.sort();
        Ok(found)
    }
}

/// Hash, inode, type, name.
type Hashed = (u32, u32, u8, Vec<u8>);
/// Place in the reading order, inode, type, name.
pub type Ordered = (u64, u32, u8, Vec<u8>);
