//! Finding and repairing what is inconsistent: fsck.minix, and the mount of a volume that was in use
//! when the machine died.
//!
//! ```text
//! from the root: each directory's entries ── each file's zones, claimed once
//! then: inodes without a name are freed, link counts set, both bitmaps rewritten
//! ```
//! The tree of names decides. A zone number out of range, or of a zone that another file has
//! claimed already, becomes a hole; an entry that leads to no file, or to a directory that has a
//! name elsewhere, is removed. Every zone is claimed once and every inode visited once, so the
//! check ends whatever the volume holds.

use alloc::collections::{BTreeSet, VecDeque};
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Display;
use core::ops::ControlFlow;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::mode;
use xinim_block_client::Storage;
use xinim_fs_kit::check_name;

use crate::directory::is_directory;
use crate::layout::{DIRECT, Geometry, Inode, MAPS_AT, ROOT};
use crate::volume::{Volume, has_zones};

/// Problems that are told one by one; the others are counted.
const TOLD: usize = 100;
/// Inodes that can be checked: two bytes of memory each.
const INODES_MAX: u32 = 1 << 24;

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// The first [`TOLD`], a line each.
    pub problems: Vec<String>,
    pub found: u64,
    /// Of those found.
    pub unrepaired: u64,
    pub inodes_used: u32,
    pub zones_used: u32,
}

impl Report {
    /// Nothing is wrong any more.
    pub fn repaired(&self) -> bool {
        self.unrepaired == 0
    }
}

struct Bits(Vec<u8>);

impl Bits {
    fn new(bits: u32) -> Self {
        Self(vec![0; bits as usize / 8 + 1])
    }

    fn get(&self, bit: u32) -> bool {
        self.0[bit as usize / 8] & 1 << (bit % 8) != 0
    }

    fn set(&mut self, bit: u32) {
        self.0[bit as usize / 8] |= 1 << (bit % 8);
    }
}

struct Check<'a> {
    volume: Volume<&'a mut dyn Storage>,
    repair: bool,
    report: Report,
    /// By inode number: reached, and how many names it should have.
    seen: Bits,
    links: Vec<u16>,
    /// By bit of the zone map.
    claimed: Bits,
    queue: VecDeque<(u32, u32)>,
}

/// Checks a volume, and with `repair` puts right what it can and marks it clean. `Inval`: no MINIX
/// volume.
pub fn check(storage: &mut dyn Storage, repair: bool) -> Result<Report> {
    check_held(storage, repair, &[])
}

/// As [`check`], for a volume on which files without a name are still open: they stay.
pub fn check_held(storage: &mut dyn Storage, repair: bool, held: &[u32]) -> Result<Report> {
    let volume = Volume::open(storage)?;
    let geometry = volume.geometry;
    if geometry.inodes > INODES_MAX {
        return Err(Error::NoMem);
    }
    let mut check = Check {
        volume,
        repair,
        report: Report::default(),
        seen: Bits::new(geometry.inodes),
        links: vec![0; geometry.inodes as usize + 1],
        claimed: Bits::new(geometry.zones - geometry.first_data),
        queue: VecDeque::new(),
    };
    check.walk()?;
    for &ino in held {
        check.visit_held(ino)?;
    }
    if check.report.unrepaired == 0 || !repair {
        check.counts()?;
        check.maps()?;
    }
    if repair && check.report.unrepaired == 0 {
        check.volume.flush()?;
        geometry.set_clean(&mut check.volume.storage, true)?;
        check.volume.flush()?;
    }
    Ok(check.report)
}

impl Check<'_> {
    fn geometry(&self) -> Geometry {
        self.volume.geometry
    }

    /// A problem that a repair puts right; true if it is to be done now.
    fn problem(&mut self, text: impl Display) -> bool {
        self.report.found += 1;
        self.report.unrepaired += u64::from(!self.repair);
        if self.report.problems.len() < TOLD {
            self.report.problems.push(format!("{text}"));
        }
        self.repair
    }

    fn walk(&mut self) -> Result<()> {
        match self.volume.inode(ROOT) {
            Ok(root) if is_directory(&root) => {}
            Ok(_) | Err(Error::Stale) => {
                self.problem("the root is no directory");
                self.report.unrepaired = self.report.unrepaired.max(1);
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.visit(ROOT, ROOT)?;
        while let Some((ino, parent)) = self.queue.pop_front() {
            self.directory(ino, parent)?;
        }
        Ok(())
    }

    /// First sight of a file: its zones are claimed.
    fn visit(&mut self, ino: u32, parent: u32) -> Result<()> {
        self.seen.set(ino);
        let old = self.volume.inode(ino)?;
        let mut inode = old;
        let mut end = 0;
        if has_zones(inode.mode) {
            for root in 0..DIRECT + self.geometry().levels() {
                let level = (root + 1).saturating_sub(DIRECT);
                let first = self.first_block(root);
                let zone = &mut inode.zones[root];
                let mut copy = *zone;
                self.claim(ino, &mut copy, level, first, &mut end)?;
                *zone = copy;
            }
        }
        let most = match is_directory(&inode) {
            true => end * self.geometry().block as u64,
            false => self.geometry().max_size,
        };
        if u64::from(inode.size) > most
            && self.problem(format_args!("inode {ino}: size {} is too large", inode.size))
        {
            inode.size = most as u32;
        }
        if inode != old && self.repair {
            self.volume.put_inode(ino, &inode)?;
        }
        if is_directory(&inode) {
            self.links[ino as usize] = 2;
            self.queue.push_back((ino, parent));
        }
        Ok(())
    }

    /// A file that is to stay without a name.
    fn visit_held(&mut self, ino: u32) -> Result<()> {
        let inside = (1..=self.geometry().inodes).contains(&ino) && !self.seen.get(ino);
        if inside && self.volume.inode(ino).is_ok_and(|inode| !is_directory(&inode)) {
            self.visit(ino, ino)?;
        }
        Ok(())
    }

    /// Index of the first block that zone number `root` of an inode leads to.
    fn first_block(&self, root: usize) -> u64 {
        let pointers = self.geometry().pointers() as u64;
        match (root + 1).saturating_sub(DIRECT) {
            0 => root as u64,
            level => {
                DIRECT as u64 + (1..level as u32).map(|below| pointers.pow(below)).sum::<u64>()
            }
        }
    }

    /// Claims a zone with what it leads to; sets the number to 0 where it may not stand. `end`
    /// becomes the index behind the last block.
    fn claim(
        &mut self,
        ino: u32,
        zone: &mut u32,
        level: usize,
        first: u64,
        end: &mut u64,
    ) -> Result<()> {
        if *zone == 0 {
            return Ok(());
        }
        let Ok(at) = self.geometry().zone_at(*zone) else {
            self.problem(format_args!("inode {ino}: no such zone: {zone}"));
            *zone = 0;
            return Ok(());
        };
        let bit = *zone - self.geometry().first_data + 1;
        if self.claimed.get(bit) {
            self.problem(format_args!("inode {ino}: zone {zone} belongs to another file"));
            *zone = 0;
            return Ok(());
        }
        self.claimed.set(bit);
        self.report.zones_used += 1;
        if level == 0 {
            *end = (*end).max(first + 1);
            return Ok(());
        }
        let len = self.geometry().pointer_len();
        let span = (self.geometry().pointers() as u64).pow(level as u32 - 1);
        let mut block = vec![0; self.geometry().block];
        self.volume.storage.read(at, &mut block)?;
        let mut changed = false;
        for (offset, raw) in block.chunks_exact_mut(len).enumerate() {
            let mut number = [0; 4];
            number[..len].copy_from_slice(raw);
            let old = u32::from_le_bytes(number);
            let mut child = old;
            self.claim(ino, &mut child, level - 1, first + offset as u64 * span, end)?;
            if child != old {
                raw.copy_from_slice(&child.to_le_bytes()[..len]);
                changed = true;
            }
        }
        if changed && self.repair { self.volume.storage.write(at, &block) } else { Ok(()) }
    }

    fn directory(&mut self, ino: u32, parent: u32) -> Result<()> {
        let mut inode = self.volume.inode(ino)?;
        let len = match self.volume.directory_len(&inode) {
            Ok(len) => len,
            // Reported by `visit`, which only a repair changes.
            Err(_) => return Ok(()),
        };
        let entry_len = self.geometry().entry_len() as u64;
        self.dots(ino, &mut inode, parent, len / entry_len)?;
        let mut entries: Vec<(u64, u32, Vec<u8>)> = Vec::new();
        self.volume.scan(&inode, 2 * entry_len, |at, ino, name| {
            if ino != 0 {
                entries.push((at, ino, name.to_vec()));
            }
            ControlFlow::Continue(())
        })?;
        let mut names = BTreeSet::new();
        for (at, child, name) in entries {
            let wrong = match self.entry(child, &name) {
                None if names.contains(&name) => Some("there is another of this name"),
                wrong => wrong,
            };
            if let Some(wrong) = wrong {
                let shown = String::from_utf8_lossy(&name).into_owned();
                if self.problem(format_args!("directory {ino}: entry '{shown}': {wrong}")) {
                    self.volume.clear_entry(&mut inode, at)?;
                }
                continue;
            }
            names.insert(name);
            let links = &mut self.links[child as usize];
            *links = links.saturating_add(1);
            if !self.seen.get(child) {
                self.links[child as usize] = 1;
                self.visit(child, ino)?;
                if self.links[child as usize] == 2 {
                    let links = &mut self.links[ino as usize];
                    *links = links.saturating_add(1);
                }
            }
        }
        if self.repair { self.volume.put_inode(ino, &inode) } else { Ok(()) }
    }

    /// What is wrong with an entry.
    fn entry(&mut self, child: u32, name: &[u8]) -> Option<&'static str> {
        if check_name(name).is_err() {
            return Some("not a name");
        }
        if child > self.geometry().inodes {
            return Some("no such inode");
        }
        let Ok(inode) = self.volume.inode(child) else { return Some("its inode is not in use") };
        match u32::from(inode.mode) & mode::TYPE_MASK {
            mode::DIRECTORY if self.seen.get(child) => Some("a directory that stands elsewhere"),
            mode::DIRECTORY | mode::REGULAR | mode::SYMLINK | mode::FIFO => None,
            mode::SOCKET | mode::CHARACTER | mode::BLOCK => None,
            _ => Some("a file of no known type"),
        }
    }

    /// The first two entries are `.` and `..`.
    fn dots(&mut self, ino: u32, inode: &mut Inode, parent: u32, slots: u64) -> Result<()> {
        let entry_len = self.geometry().entry_len() as u64;
        for (index, name, right) in [(0, &b"."[..], ino), (1, b"..", parent)] {
            let mut found = false;
            self.volume.scan(inode, index * entry_len, |_, ino, own| {
                found = ino == right && own == name;
                ControlFlow::Break(())
            })?;
            let right_here = found && index < slots;
            if !right_here
                && self.problem(format_args!(
                    "directory {ino}: entry {index} is not '{}'",
                    String::from_utf8_lossy(name)
                ))
            {
                match self.put_dot(inode, index * entry_len, right, name) {
                    Ok(()) => {}
                    Err(Error::NoSpc) => self.report.unrepaired += 1,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    fn put_dot(&mut self, inode: &mut Inode, at: u64, to: u32, name: &[u8]) -> Result<()> {
        if self.volume.zone(inode, 0)? == 0 {
            // The bitmap is not right yet: a zone must not be taken from it.
            return Err(Error::NoSpc);
        }
        let mut longer = *inode;
        longer.size = longer.size.max((at + self.geometry().entry_len() as u64) as u32);
        self.volume.put_entry(&mut longer, at, to, name)?;
        *inode = longer;
        Ok(())
    }

    /// Inodes without a name, and link counts.
    fn counts(&mut self) -> Result<()> {
        for ino in 1..=self.geometry().inodes {
            let seen = self.seen.get(ino);
            self.report.inodes_used += u32::from(seen);
            match self.volume.inode(ino) {
                Ok(mut inode) if seen => {
                    let right = self.links[ino as usize];
                    if inode.links != right
                        && self.problem(format_args!(
                            "inode {ino}: {} names, says {}",
                            right, inode.links
                        ))
                    {
                        inode.links = right;
                        self.volume.put_inode(ino, &inode)?;
                    }
                }
                Ok(_) => {
                    let used = self.volume.imap.get(&mut self.volume.storage, ino)?;
                    if used && self.problem(format_args!("inode {ino}: in use, but has no name")) {
                        self.volume.put_inode(ino, &Inode::default())?;
                    }
                }
                Err(Error::Stale) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn maps(&mut self) -> Result<()> {
        let geometry = self.geometry();
        let zmap_at = MAPS_AT + geometry.imap_blocks;
        let zones = geometry.zones - geometry.first_data;
        let seen = core::mem::replace(&mut self.seen, Bits::new(0));
        let claimed = core::mem::replace(&mut self.claimed, Bits::new(0));
        self.map("inode map", MAPS_AT, geometry.imap_blocks, geometry.inodes, &seen)?;
        self.map("zone map", zmap_at, geometry.zmap_blocks, zones, &claimed)
    }

    fn map(&mut self, what: &str, at: u32, blocks: u32, last: u32, right: &Bits) -> Result<()> {
        let len = self.geometry().block;
        let mut block = vec![0; len];
        for index in 0..blocks {
            let offset = u64::from(at + index) * len as u64;
            self.volume.storage.read(offset, &mut block)?;
            let mut changed = false;
            for (within, byte) in block.iter_mut().enumerate() {
                let position = index as usize * len + within;
                let first = position as u64 * 8;
                if first > last.into() {
                    break;
                }
                // Bit 0 is always set; bits behind the last are not looked at.
                let mut meant = 0xFF;
                if first + 7 > last.into() {
                    meant = (0xFFu16 >> (7 - last % 8)) as u8;
                }
                let wanted = right.0[position] | u8::from(position == 0);
                let wrong = (*byte ^ wanted) & meant;
                if wrong != 0 {
                    let (used, free) =
                        ((*byte & wrong).count_ones(), (wanted & wrong).count_ones());
                    self.problem(format_args!(
                        "{what}, {first} on: {used} set without need, {free} not set"
                    ));
                    *byte ^= wrong;
                    changed = true;
                }
            }
            if changed && self.repair {
                self.volume.storage.write(offset, &block)?;
            }
        }
        Ok(())
    }
}
