//! Extent trees (ext4's block maps).
//!
//! ```text
//!   inode: header, up to 4 entries ──index──> block: header, entries ──index──> leaf: extents
//! ```
//! A node is read into a list, changed there and written back whole. Adding an extent joins it with a
//! neighbour where it can; a full node is split, with everything in the old one when the new entry
//! is the last (files mostly grow at their end); a full root moves into a block of its own.
//!
//! Depth decreases with each step down, so a looped tree ends in an error.

use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};

use crate::file::Run;
use crate::groups::corrupt;
use crate::inode::Inode;
use crate::layout::{Le16, Le32, extent, inode};
use crate::meta::Seal;
use crate::volume::Volume;

const MAGIC: Le16 = Le16(0);
const ENTRIES: Le16 = Le16(2);
const MAX: Le16 = Le16(4);
const DEPTH: Le16 = Le16(6);

/// Pieces of one file that a check will look at: 64 MiB of memory.
pub const PIECES_MAX: usize = 4 << 20;

/// An extent, or in nodes above the leaves an index: then `block` is the child and `len` 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub logical: u32,
    /// As kept: above [`extent::INIT_MAX`] it is unwritten.
    pub len: u16,
    pub block: u64,
}

impl Entry {
    pub fn count(&self) -> u64 {
        u64::from(if self.unwritten() { self.len - extent::INIT_MAX } else { self.len })
    }

    pub fn unwritten(&self) -> bool {
        self.len > extent::INIT_MAX
    }

    fn end(&self) -> u64 {
        u64::from(self.logical) + self.count()
    }

    fn make(logical: u64, block: u64, count: u64, unwritten: bool) -> Self {
        let len = count as u16 + if unwritten { extent::INIT_MAX } else { 0 };
        Self { logical: logical as u32, len, block }
    }

    /// This and `next` as one, if they are one.
    fn joined(&self, next: &Entry) -> Option<Entry> {
        let most = u64::from(extent::INIT_MAX) - u64::from(self.unwritten());
        let together = self.unwritten() == next.unwritten()
            && self.end() == u64::from(next.logical)
            && self.block + self.count() == next.block
            && self.count() + next.count() <= most;
        together.then(|| Entry { len: self.len + next.count() as u16, ..*self })
    }
}

/// One node in memory.
struct Node {
    /// `None`: in the inode.
    place: Option<u64>,
    depth: u16,
    max: usize,
    entries: Vec<Entry>,
}

/// Makes an inode's map an empty tree.
pub fn initialise(inode: &mut Inode) {
    let root = inode.block_mut();
    root.fill(0);
    MAGIC.set(root, extent::MAGIC);
    MAX.set(root, 4);
    inode.set_flag(inode::FLAG_EXTENTS, true);
}

fn parse_entry(raw: &[u8], leaf: bool) -> Entry {
    let logical = Le32(0).get(raw);
    if leaf {
        let high = u64::from(Le16(6).get(raw)) << 32;
        Entry { logical, len: Le16(4).get(raw), block: u64::from(Le32(8).get(raw)) | high }
    } else {
        let high = u64::from(Le16(8).get(raw)) << 32;
        Entry { logical, len: 0, block: u64::from(Le32(4).get(raw)) | high }
    }
}

fn store_entry(entry: &Entry, raw: &mut [u8], leaf: bool) {
    raw.fill(0);
    Le32(0).set(raw, entry.logical);
    if leaf {
        Le16(4).set(raw, entry.len);
        Le16(6).set(raw, (entry.block >> 32) as u16);
        Le32(8).set(raw, entry.block as u32);
    } else {
        Le32(4).set(raw, entry.block as u32);
        Le16(8).set(raw, (entry.block >> 32) as u16);
    }
}

/// Number of entries and depth, if the header is sound. `depth`: what it must be, below the root.
fn header(raw: &[u8], depth: Option<u16>) -> Result<(usize, u16)> {
    let (entries, max, found) = (ENTRIES.get(raw), MAX.get(raw), DEPTH.get(raw));
    let sound = MAGIC.get(raw) == extent::MAGIC
        && entries <= max
        && usize::from(max) < raw.len() / extent::ENTRY
        && depth.map_or(found <= extent::DEPTH_MAX, |depth| depth == found);
    if sound { Ok((entries.into(), found)) } else { corrupt() }
}

fn raw_entry(raw: &[u8], index: usize) -> &[u8] {
    &raw[extent::ENTRY * (1 + index)..extent::ENTRY * (2 + index)]
}

/// Index of the last entry that begins at or before `logical`, and where the next begins.
fn search(raw: &[u8], entries: usize, logical: u64) -> (Option<usize>, u64) {
    let key = |index: usize| u64::from(Le32(0).get(raw_entry(raw, index)));
    let (mut low, mut high) = (0, entries);
    while low < high {
        let middle = (low + high) / 2;
        if key(middle) <= logical {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    let next = if low < entries { key(low) } else { u64::MAX };
    (low.checked_sub(1), next)
}

impl Volume<'_> {
    fn extent_seal(&self, inode: &Inode) -> Seal {
        self.seal(Seal::Extents(inode.seed(&self.geo)))
    }

    /// See [`Volume::map`].
    pub fn extent_map(&mut self, inode: &Inode, logical: u64, most: u64) -> Result<Run> {
        if logical > u32::MAX.into() {
            return Ok(Run::hole(most));
        }
        let seal = self.extent_seal(inode);
        let mut bound = u64::MAX;
        let mut raw = inode.block();
        let mut expected = None;
        loop {
            let (entries, depth) = header(raw, expected)?;
            let (found, next) = search(raw, entries, logical);
            bound = bound.min(next);
            let Some(found) = found else { return Ok(Run::hole(most.min(bound - logical))) };
            let entry = parse_entry(raw_entry(raw, found), depth == 0);
            if depth == 0 {
                if entry.len == 0 || !self.is_data(entry.block, entry.count()) {
                    return corrupt();
                }
                if logical >= entry.end() {
                    return Ok(Run::hole(most.min(bound - logical)));
                }
                let skip = logical - u64::from(entry.logical);
                return Ok(Run {
                    physical: Some(entry.block + skip),
                    len: most.min(entry.count() - skip),
                    unwritten: entry.unwritten(),
                });
            }
            if !self.is_data(entry.block, 1) {
                return corrupt();
            }
            expected = Some(depth - 1);
            raw = self.meta.read(entry.block, seal)?;
        }
    }

    fn load_node(&mut self, inode: &Inode, place: Option<u64>, depth: Option<u16>) -> Result<Node> {
        let seal = self.extent_seal(inode);
        let raw = match place {
            None => inode.block(),
            Some(block) if self.is_data(block, 1) => self.meta.read(block, seal)?,
            Some(_) => return corrupt(),
        };
        let (count, depth) = header(raw, depth)?;
        let max = usize::from(MAX.get(raw));
        let entries: Vec<Entry> =
            (0..count).map(|index| parse_entry(raw_entry(raw, index), depth == 0)).collect();
        let ordered = entries.windows(2).all(|pair| {
            let end = if depth == 0 { pair[0].end() } else { u64::from(pair[0].logical) + 1 };
            end <= pair[1].logical.into()
        });
        if ordered { Ok(Node { place, depth, max, entries }) } else { corrupt() }
    }

    fn store_node(&mut self, inode: &mut Inode, node: &Node) -> Result<()> {
        let seal = self.extent_seal(inode);
        let raw = match node.place {
            None => inode.block_mut(),
            Some(block) => self.meta.modify(block, seal)?,
        };
        MAGIC.set(raw, extent::MAGIC);
        ENTRIES.set(raw, node.entries.len() as u16);
        MAX.set(raw, node.max as u16);
        DEPTH.set(raw, node.depth);
        for (index, entry) in node.entries.iter().enumerate() {
            let at = extent::ENTRY * (1 + index);
            store_entry(entry, &mut raw[at..at + extent::ENTRY], node.depth == 0);
        }
        Ok(())
    }

    /// See [`Volume::pieces`]. A tree has no more nodes than it has blocks; one that loops is cut off.
    pub fn extent_pieces(&mut self, inode: &Inode, out: &mut Vec<(u64, u64)>) -> Result<()> {
        let mut left = vec![(None, None)];
        while let Some((place, depth)) = left.pop() {
            let node = self.load_node(inode, place, depth)?;
            for entry in &node.entries {
                if node.depth == 0 {
                    if entry.len == 0 {
                        return corrupt();
                    }
                    out.push((entry.block, entry.count()));
                } else {
                    out.push((entry.block, 1));
                    left.push((Some(entry.block), Some(node.depth - 1)));
                }
            }
            if out.len() > PIECES_MAX {
                return corrupt();
            }
        }
        Ok(())
    }

    /// Nodes from the root to the leaf for `logical`, each with the index of the way taken.
    fn extent_path(&mut self, inode: &Inode, logical: u64) -> Result<Vec<(Node, usize)>> {
        let mut path: Vec<(Node, usize)> = Vec::new();
        let mut node = self.load_node(inode, None, None)?;
        loop {
            let after = node.entries.partition_point(|entry| u64::from(entry.logical) <= logical);
            let (depth, way) = (node.depth, after.saturating_sub(1));
            let child = node.entries.get(way).copied();
            path.push((node, way));
            if depth == 0 {
                return Ok(path);
            }
            let Some(child) = child else { return corrupt() };
            node = self.load_node(inode, Some(child.block), Some(depth - 1))?;
        }
    }

    /// Adds an extent where nothing is mapped yet.
    fn add_extent(&mut self, inode: &mut Inode, entry: Entry) -> Result<()> {
        let mut path = self.extent_path(inode, entry.logical.into())?;
        let Some((leaf, _)) = path.last_mut() else { return corrupt() };
        let at = leaf.entries.partition_point(|other| other.logical <= entry.logical);
        let before = at.checked_sub(1).and_then(|at| leaf.entries[at].joined(&entry));
        let whole = before.unwrap_or(entry);
        let after = leaf.entries.get(at).and_then(|next| whole.joined(next));
        match (before, after) {
            (Some(_), Some(all)) => {
                leaf.entries[at - 1] = all;
                leaf.entries.remove(at);
            }
            (Some(joined), None) => leaf.entries[at - 1] = joined,
            (None, Some(joined)) => leaf.entries[at] = joined,
            (None, None) => leaf.entries.insert(at, entry),
        }
        self.store_path(inode, path)
    }

    /// Writes a path whose leaf has changed: splits what is too full, corrects keys above.
    fn store_path(&mut self, inode: &mut Inode, mut path: Vec<(Node, usize)>) -> Result<()> {
        while let Some((mut node, _)) = path.pop() {
            let split = node.entries.len() > node.max;
            if !split {
                self.store_node(inode, &node)?;
            } else if node.place.is_none() {
                return self.grow_tree(inode, node);
            } else {
                let last = node.entries.len() - 1;
                // The new entry is where the list grew; at the end all others stay together.
                let appended = path.iter().all(|(above, way)| *way + 1 == above.entries.len());
                let cut = if appended { last } else { node.entries.len() / 2 };
                let right = node.entries.split_off(cut);
                let goal = node.place.unwrap_or(0);
                let block = self.allocate_node(inode, goal)?;
                let (key, max) = (right[0].logical, self.node_max());
                let new = Node { place: Some(block), depth: node.depth, max, entries: right };
                self.store_node(inode, &node)?;
                self.store_node(inode, &new)?;
                let Some((above, way)) = path.last_mut() else { return corrupt() };
                above.entries.insert(*way + 1, Entry { logical: key, len: 0, block });
            }
            let first = node.entries.first().map(|entry| entry.logical);
            if let (Some((above, way)), Some(first)) = (path.last_mut(), first)
                && let Some(entry) = above.entries.get_mut(*way)
            {
                if entry.logical <= first && !split {
                    return Ok(());
                }
                entry.logical = entry.logical.min(first);
            }
        }
        Ok(())
    }

    fn node_max(&self) -> usize {
        (self.geo.block_size - extent::ENTRY) / extent::ENTRY
    }

    fn allocate_node(&mut self, inode: &mut Inode, goal: u64) -> Result<u64> {
        let (block, _) = self.allocate(inode.number, goal, 1)?;
        inode.add_blocks(&self.geo, 1)?;
        let (seal, max) = (self.extent_seal(inode), self.node_max() as u16);
        let raw = self.meta.fresh(block, seal);
        MAGIC.set(raw, extent::MAGIC);
        MAX.set(raw, max);
        Ok(block)
    }

    /// The root has one entry too many: it moves into a block.
    fn grow_tree(&mut self, inode: &mut Inode, root: Node) -> Result<()> {
        if root.depth >= extent::DEPTH_MAX {
            return Err(Error::FBig);
        }
        let goal = root.entries.first().map_or(0, |entry| entry.block);
        let block = self.allocate_node(inode, goal)?;
        let key = root.entries.first().map_or(0, |entry| entry.logical);
        let (depth, max) = (root.depth, self.node_max());
        let moved = Node { place: Some(block), depth, max, entries: root.entries };
        self.store_node(inode, &moved)?;
        let entries = vec![Entry { logical: key, len: 0, block }];
        self.store_node(inode, &Node { place: None, depth: depth + 1, max: 4, entries })
    }

    /// Maps `count` blocks from `physical` at `logical`, where there was a hole.
    pub fn extent_insert(
        &mut self,
        inode: &mut Inode,
        logical: u64,
        physical: u64,
        count: u64,
    ) -> Result<()> {
        if logical + count > u32::MAX.into() {
            return Err(Error::FBig);
        }
        let mut done = 0;
        while done < count {
            let part = (count - done).min(extent::INIT_MAX.into());
            self.add_extent(inode, Entry::make(logical + done, physical + done, part, false))?;
            done += part;
        }
        Ok(())
    }

    /// Turns an unwritten stretch, all of one extent, into a written one.
    pub fn extent_convert(&mut self, inode: &mut Inode, logical: u64, count: u64) -> Result<()> {
        let mut path = self.extent_path(inode, logical)?;
        let Some((leaf, way)) = path.last_mut() else { return corrupt() };
        if *way >= leaf.entries.len() {
            return corrupt();
        }
        let whole = leaf.entries.remove(*way);
        let start = u64::from(whole.logical);
        if !whole.unwritten() || logical < start || logical + count > whole.end() {
            return corrupt();
        }
        let place = leaf.place;
        // Its pieces go in again one by one; until then a leaf may be empty.
        let Some((leaf, _)) = path.pop() else { return corrupt() };
        debug_assert!(leaf.place == place);
        self.store_node(inode, &leaf)?;
        let head = logical - start;
        let tail = whole.end() - logical - count;
        if head > 0 {
            self.add_extent(inode, Entry::make(start, whole.block, head, true))?;
        }
        self.add_extent(inode, Entry::make(logical, whole.block + head, count, false))?;
        if tail > 0 {
            let block = whole.block + head + count;
            self.add_extent(inode, Entry::make(logical + count, block, tail, true))?;
        }
        Ok(())
    }

    /// Frees the last extent's blocks from `from` on, and nodes that become empty. False when
    /// nothing is mapped there any more.
    pub fn extent_cut(&mut self, inode: &mut Inode, from: u64) -> Result<bool> {
        let mut path = self.extent_path(inode, u64::MAX)?;
        let Some((leaf, _)) = path.last_mut() else { return corrupt() };
        if let Some(last) = leaf.entries.last().copied() {
            if last.end() <= from {
                return Ok(false);
            }
            if last.len == 0 || !self.is_data(last.block, last.count()) {
                return corrupt();
            }
            let kept = from.saturating_sub(last.logical.into());
            let Some((leaf, _)) = path.last_mut() else { return corrupt() };
            leaf.entries.pop();
            if kept > 0 {
                let logical = last.logical.into();
                leaf.entries.push(Entry::make(logical, last.block, kept, last.unwritten()));
            }
            let metadata = inode.is_dir();
            self.free(last.block + kept, last.count() - kept, metadata)?;
            inode.add_blocks(&self.geo, -((last.count() - kept) as i64))?;
        } else if path.len() == 1 {
            return Ok(false);
        }
        // Empty nodes go, from the leaf up.
        while let Some((node, _)) = path.pop() {
            match node.place {
                Some(block) if node.entries.is_empty() => {
                    self.free(block, 1, true)?;
                    inode.add_blocks(&self.geo, -1)?;
                    let Some((above, way)) = path.last_mut() else { return corrupt() };
                    if *way >= above.entries.len() {
                        return corrupt();
                    }
                    above.entries.remove(*way);
                }
                _ => {
                    let mut node = node;
                    if node.entries.is_empty() {
                        node.depth = 0;
                    }
                    self.store_node(inode, &node)?;
                    break;
                }
            }
        }
        Ok(true)
    }
}
