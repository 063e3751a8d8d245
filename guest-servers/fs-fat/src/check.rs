//! Finding and repairing what is inconsistent: fsck.fat, and the mount of a volume that was in use
//! when the machine died.
//!
//! The tree of names decides. Each cluster belongs to the first entry that reaches it; a chain that
//! runs into another's, or out of the volume, ends before. An entry whose first cluster is that of
//! one seen before is what a rename left that was cut off: the second name goes. Clusters that
//! nothing reaches become free. Every cluster is claimed once, so the check ends.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Display;
use core::ops::ControlFlow;

use xinim_abi::error::Result;
use xinim_block_client::Storage;

use crate::raw::{Entry, Found, Layout, Width, erase_slot};

/// Problems that are told one by one; the others are counted.
const TOLD: usize = 100;
const CHUNK: usize = 32 * 1024;
/// Entries of the FAT read at once.
const PIECE: u32 = 8 * 1024;

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// The first [`TOLD`], a line each.
    pub problems: Vec<String>,
    pub found: u64,
    pub files: u64,
    pub clusters_used: u32,
    pub clusters: u32,
}

struct Check<'a> {
    storage: &'a mut dyn Storage,
    layout: Layout,
    repair: bool,
    report: Report,
    claimed: Vec<u8>,
    /// First clusters of files and directories.
    heads: BTreeSet<u32>,
    /// Directories to be read: their cluster, their parent's, their path.
    queue: VecDeque<(u32, u32, String)>,
}

/// Was the volume in use when the machine died?
pub fn is_dirty(storage: &mut dyn Storage) -> Result<bool> {
    let layout = Layout::read(storage)?;
    let mut flags = [0];
    storage.read(state_at(&layout), &mut flags)?;
    let word = match layout.width {
        Width::Fat12 => u32::MAX,
        _ => layout.entry(storage, 1)?,
    };
    Ok(flags[0] & 1 != 0 || word & clean_bit(&layout) == 0)
}

/// Byte of the boot sector whose lowest bit says "in use".
fn state_at(layout: &Layout) -> u64 {
    if layout.width == Width::Fat32 { 0x41 } else { 0x25 }
}

/// Bit of the FAT's second entry that says "in order".
fn clean_bit(layout: &Layout) -> u32 {
    match layout.width {
        Width::Fat12 => 1,
        Width::Fat16 => 1 << 15,
        Width::Fat32 => 1 << 27,
    }
}

/// Checks a volume, and with `repair` puts it right and marks it clean. `Inval`: no FAT volume.
pub fn check(storage: &mut dyn Storage, repair: bool) -> Result<Report> {
    let layout = Layout::read(storage)?;
    let claimed = vec![0; layout.end as usize / 8 + 1];
    let report = Report { clusters: layout.end - 2, ..Report::default() };
    let (heads, queue) = (BTreeSet::new(), VecDeque::new());
    let mut check = Check { storage, layout, repair, report, claimed, heads, queue };
    check.copies()?;
    check.root()?;
    while let Some((dir, parent, path)) = check.queue.pop_front() {
        check.directory(dir, parent, &path)?;
    }
    check.lost()?;
    if repair {
        check.storage.barrier()?;
        mark(check.storage, false)?;
        check.storage.flush()?;
    }
    Ok(check.report)
}

impl Check<'_> {
    /// Notes a problem; true if it is to be put right now.
    fn problem(&mut self, text: impl Display) -> bool {
        self.report.found += 1;
        if self.report.problems.len() < TOLD {
            self.report.problems.push(format!("{text}"));
        }
        self.repair
    }

    /// All copies of the FAT say the same.
    fn copies(&mut self) -> Result<()> {
        let layout = self.layout;
        let (mut first, mut other) = (vec![0; CHUNK], vec![0; CHUNK]);
        for copy in 1..layout.fats {
            let mut differ = false;
            for at in (0..layout.fat_len).step_by(CHUNK) {
                let len = (layout.fat_len - at).min(CHUNK as u64) as usize;
                self.storage.read(layout.fat_at + at, &mut first[..len])?;
                let to = layout.fat_at + copy * layout.fat_len + at;
                self.storage.read(to, &mut other[..len])?;
                if first[..len] != other[..len] {
                    differ = true;
                    if self.repair {
                        self.storage.write(to, &first[..len])?;
                    }
                }
            }
            if differ {
                self.problem(format_args!("copy {} of the FAT differs from the first", copy + 1));
            }
        }
        Ok(())
    }

    fn root(&mut self) -> Result<()> {
        let root = self.layout.root();
        if root != 0 {
            self.heads.insert(root);
            self.claim(root, u64::MAX, "/")?;
        }
        self.queue.push_back((root, 0, String::new()));
        Ok(())
    }

    fn is_claimed(&self, cluster: u32) -> bool {
        self.claimed[cluster as usize / 8] & 1 << (cluster % 8) != 0
    }

    /// Claims a chain of at most `most` clusters from `first`, which is free to claim; ends it where
    /// it goes wrong or is longer. How many.
    fn claim(&mut self, first: u32, most: u64, path: &str) -> Result<u64> {
        let layout = self.layout;
        let mut cluster = first;
        let mut count = 0;
        loop {
            self.claimed[cluster as usize / 8] |= 1 << (cluster % 8);
            self.report.clusters_used += 1;
            count += 1;
            let next = layout.entry(self.storage, cluster)?;
            if next >= layout.end_mark() {
                return Ok(count);
            }
            let wrong = if count >= most {
                "has more clusters than bytes"
            } else if !layout.is_cluster(next) {
                "leads out of the volume"
            } else if self.is_claimed(next) {
                "runs into another file"
            } else {
                cluster = next;
                continue;
            };
            if self.problem(format_args!("{path}: the chain {wrong}")) {
                // The highest mark: what others write.
                layout.put_entry(self.storage, cluster, layout.end_mark() | 7)?;
            }
            return Ok(count);
        }
    }

    fn directory(&mut self, dir: u32, parent: u32, path: &str) -> Result<()> {
        let layout = self.layout;
        let mut entries: Vec<Entry> = Vec::new();
        let mut strays: Vec<u64> = Vec::new();
        layout.walk(self.storage, dir, |found| {
            match found {
                Found::Entry(entry) => entries.push(entry),
                Found::Strays(slots) => strays.extend(slots),
            }
            ControlFlow::Continue(())
        })?;
        if !strays.is_empty()
            && self
                .problem(format_args!("{path}/: {} parts of long names of nothing", strays.len()))
        {
            for at in strays {
                erase_slot(self.storage, at)?;
            }
        }
        for (n, mut entry) in entries.into_iter().enumerate() {
            let path = format!("{path}/{}", entry.name);
            if entry.is_label() {
                continue;
            }
            if entry.is_dots() && dir != layout.root() {
                // `..` of a directory in the root says 0 also on FAT32.
                let right = if n == 0 { dir } else { parent };
                if n < 2
                    && entry.cluster() != right
                    && self.problem(format_args!("{path}: leads to the wrong directory"))
                {
                    entry.set_cluster(self.storage, right)?;
                }
                continue;
            }
            self.file(&mut entry, dir, &path)?;
        }
        Ok(())
    }

    fn file(&mut self, entry: &mut Entry, dir: u32, path: &str) -> Result<()> {
        let layout = self.layout;
        let first = entry.cluster();
        let directory = entry.is_directory();
        let wrong = if !plausible(&entry.short) {
            Some("no name")
        } else if first != 0 && self.heads.contains(&first) {
            Some("another name of a file that has one")
        } else if directory && (!layout.is_cluster(first) || self.is_claimed(first)) {
            Some("a directory without clusters")
        } else if directory && !self.begins_with_dots(first)? {
            Some("no directory")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            if self.problem(format_args!("{path}: {wrong}")) {
                entry.erase(self.storage)?;
            }
            return Ok(());
        }
        self.report.files += 1;
        if directory {
            self.heads.insert(first);
            self.claim(first, u64::MAX, path)?;
            if entry.size() != 0 && self.problem(format_args!("{path}: a directory with a size")) {
                entry.set_size(self.storage, 0)?;
            }
            let parent = if dir == layout.root() { 0 } else { dir };
            self.queue.push_back((first, parent, path.into()));
            return Ok(());
        }
        let needed = u64::from(entry.size()).div_ceil(layout.cluster_len);
        let usable = layout.is_cluster(first) && !self.is_claimed(first);
        let count = match usable && needed > 0 {
            true => {
                self.heads.insert(first);
                self.claim(first, needed, path)?
            }
            false => 0,
        };
        if count == 0
            && first != 0
            && self.problem(format_args!("{path}: its first cluster is not its own"))
        {
            entry.set_cluster(self.storage, 0)?;
        }
        if count < needed
            && self.problem(format_args!("{path}: {} bytes in {count} clusters", entry.size()))
        {
            entry.set_size(self.storage, (count * layout.cluster_len) as u32)?;
        }
        Ok(())
    }

    /// Is this cluster the beginning of a directory?
    fn begins_with_dots(&mut self, cluster: u32) -> Result<bool> {
        let mut raw = [0; 64];
        self.storage.read(self.layout.cluster_at(cluster), &mut raw)?;
        Ok(&raw[..11] == b".          " && &raw[32..43] == b"..         ")
    }

    /// Clusters that are in use but not reached; the summary of FAT32.
    fn lost(&mut self) -> Result<()> {
        let layout = self.layout;
        let (mut lost, mut free) = (0u32, 0u32);
        let mut piece = Vec::new();
        for cluster in 2..layout.end {
            let at = (cluster - 2) as usize % PIECE as usize;
            if at == 0 {
                piece = layout.entries(self.storage, cluster, PIECE.min(layout.end - cluster))?;
            }
            let value = piece[at];
            if value == 0 {
                free += u32::from(!self.is_claimed(cluster));
            } else if !self.is_claimed(cluster) && value != layout.bad_mark() {
                (lost, free) = (lost + 1, free + 1);
                if self.repair {
                    layout.put_entry(self.storage, cluster, 0)?;
                }
            }
        }
        if lost > 0 {
            self.problem(format_args!("{lost} clusters belong to no file"));
        }
        let Some(at) = layout.info_at else { return Ok(()) };
        let mut raw = [0; 4];
        self.storage.read(at + 488, &mut raw)?;
        let said = u32::from_le_bytes(raw);
        // All ones: not known, which is allowed.
        if said != free
            && said != u32::MAX
            && self.problem(format_args!("the summary says {said} clusters are free, not {free}"))
        {
            self.storage.write(at + 488, &free.to_le_bytes())?;
        }
        Ok(())
    }
}

/// Discards runs of free clusters within a byte range of the device, those of at least `min_len` bytes;
/// how many bytes. What was freed must be free on the medium already.
pub fn trim(storage: &mut dyn Storage, offset: u64, len: u64, min_len: u64) -> Result<u64> {
    let layout = Layout::read(storage)?;
    let (mut discarded, mut run, mut piece) = (0, None, Vec::new());
    let end = offset.saturating_add(len);
    for cluster in 2..=layout.end {
        let at = (cluster - 2) as usize % PIECE as usize;
        if at == 0 && cluster < layout.end {
            piece = layout.entries(storage, cluster, PIECE.min(layout.end - cluster))?;
        }
        let start = layout.cluster_at(cluster);
        let inside = start >= offset && start.saturating_add(layout.cluster_len) <= end;
        if cluster < layout.end && inside && piece[at] == 0 {
            run.get_or_insert(start);
        } else if let Some(first) = run.take() {
            let bytes = start - first;
            if bytes >= min_len {
                storage.discard(first, bytes)?;
                discarded += bytes;
            }
        }
    }
    Ok(discarded)
}

/// Marks a volume as in use, or as in order.
pub fn mark(storage: &mut dyn Storage, dirty: bool) -> Result<()> {
    let layout = Layout::read(storage)?;
    let mut flags = [0];
    storage.read(state_at(&layout), &mut flags)?;
    let flags = if dirty { flags[0] | 1 } else { flags[0] & !1 };
    storage.write(state_at(&layout), &[flags])?;
    if !dirty && layout.width != Width::Fat12 {
        let word = layout.entry(storage, 1)?;
        layout.put_entry(storage, 1, word | clean_bit(&layout))?;
    }
    Ok(())
}

/// Could this be a short name? Others come from data that was taken for a directory.
fn plausible(short: &[u8; 32]) -> bool {
    let bad = |byte: &u8| *byte < 0x20 && *byte != 0x05 || b"\"*+,./:;<=>?[\\]|\x7F".contains(byte);
    short[0] != b' ' && !short[..11].iter().any(bad)
}
