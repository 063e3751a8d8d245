//! Finding what is inconsistent: fsck.ext2, fsck.ext3, fsck.ext4.
//!
//! ```text
//!   journal (replayed if it may be) ─ superblock, descriptors ─ every inode: map, blocks claimed once ─
//!   every directory from the root on: entries ─ then: link counts, bitmaps, counters
//! ```
//! What can be computed anew is repaired when asked for: link counts, bitmaps, counters, the state
//! mark. Damage to the structure itself (maps, directories, blocks with two owners, directories that no
//! path leads to) is reported; e2fsck on another system is the tool for it.
//!
//! Every block is claimed once and every inode visited once, so a check ends whatever the volume
//! holds. Memory: a bit for each block, six bytes for each inode.

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use core::fmt::Display;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::mode;
use xinim_block_client::Storage;

use crate::dir::{mode_of, slots};
use crate::groups::{bit, change};
use crate::inode::Inode;
use crate::layout::{
    dirent, feature::compat, feature::incompat, feature::ro_compat, gd, inode, sb,
};
use crate::meta::Seal;
use crate::superblock::Refusal;
use crate::volume::{Surroundings, Volume};

/// Problems that are told one by one; the others are counted.
const TOLD: usize = 100;

/// What a check found.
#[derive(Debug, Default)]
pub struct Report {
    /// The first [`TOLD`], a line each.
    pub problems: Vec<String>,
    pub found: u64,
    /// Of those found.
    pub unrepaired: u64,
    /// Transactions that were in the journal and are in their places now.
    pub replayed: u32,
    pub inodes: u32,
    pub inodes_used: u32,
    pub directories: u32,
    pub blocks: u64,
    pub blocks_used: u64,
    /// ext2, ext3 or ext4.
    pub kind: String,
}

impl Report {
    /// Nothing is wrong any more.
    pub fn repaired(&self) -> bool {
        self.unrepaired == 0
    }
}

/// Why there was no check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no ext file system.
    Foreign,
    /// A sentence.
    Refused(String),
    Device(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Device(error)
    }
}

/// Was it unmounted cleanly, with nothing to replay and no error noted?
pub fn is_clean(device: &mut dyn Storage) -> core::result::Result<bool, Failure> {
    let mut raw = vec![0; sb::LEN];
    if device.len() < sb::OFFSET + sb::LEN as u64 {
        return Err(Failure::Foreign);
    }
    device.read(sb::OFFSET, &mut raw)?;
    let dirty = sb::FEATURE_INCOMPAT.get(&raw) & incompat::RECOVER != 0;
    match crate::superblock::Geometry::parse(&raw, device.len()) {
        Ok(_) => Ok(sb::STATE.get(&raw) & 3 == sb::STATE_CLEAN && !dirty),
        Err(Refusal::Foreign) => Err(Failure::Foreign),
        Err(_) => Ok(false),
    }
}

/// Checks what lies on `device`; `repair`: and mends what it can.
pub fn check(
    device: &mut dyn Storage,
    repair: bool,
    around: Surroundings,
) -> core::result::Result<Report, Failure> {
    let mut report = Report::default();
    if repair {
        // Mounting replays the journal and frees what was removed while in use.
        let mut volume = open(&mut *device, false, around)?;
        report.replayed = volume.replayed;
        if volume.read_only {
            return Err(Failure::Refused("it cannot be repaired here".into()));
        }
        volume.unmount()?;
    }
    let mut volume = open(&mut *device, true, around)?;
    if volume.geo.has_ro_compat(0x200) || volume.geo.has_incompat(incompat::EA_INODE) {
        return Err(Failure::Refused("clusters and attribute inodes are not checked".into()));
    }
    volume.read_only = false;
    let mut check = Check::new(volume, repair, report)?;
    check.inodes()?;
    check.directories()?;
    check.links()?;
    check.bitmaps()?;
    check.superblock()?;
    Ok(check.report)
}

fn open<'d>(
    device: &'d mut dyn Storage,
    read_only: bool,
    around: Surroundings,
) -> core::result::Result<Volume<'d>, Failure> {
    let opened = if read_only {
        Volume::examine(Box::new(device), around)
    } else {
        Volume::mount(Box::new(device), false, around, None, &[])
    };
    opened.map_err(|refusal| match refusal {
        Refusal::Foreign => Failure::Foreign,
        Refusal::Damaged(what) | Refusal::Unsupported(what) => Failure::Refused(what),
    })
}

struct Check<'d> {
    volume: Volume<'d>,
    repair: bool,
    report: Report,
    /// A bit for each block from 0 on.
    claimed: Vec<u8>,
    /// By inode number: in use, a directory, reached by a path.
    used: Vec<u8>,
    directory: Vec<u8>,
    reached: Vec<u8>,
    /// Names found, and what the inode says.
    found: Vec<u16>,
    links: Vec<u16>,
    /// Directories whose links may be counted as 1.
    queue: VecDeque<(u32, u32)>,
}

impl<'d> Check<'d> {
    fn new(volume: Volume<'d>, repair: bool, report: Report) -> Result<Self> {
        let inodes = volume.geo.inodes as usize + 1;
        let blocks = usize::try_from(volume.geo.blocks).map_err(|_| Error::NoMem)?;
        let bits = || vec![0; inodes / 8 + 1];
        Ok(Self {
            repair,
            report,
            claimed: vec![0; blocks / 8 + 1],
            used: bits(),
            directory: bits(),
            reached: bits(),
            found: vec![0; inodes],
            links: vec![0; inodes],
            queue: VecDeque::new(),
            volume,
        })
    }

    fn problem(&mut self, what: impl Display, repaired: bool) {
        self.report.found += 1;
        self.report.unrepaired += u64::from(!repaired);
        if self.report.problems.len() < TOLD {
            self.report.problems.push(what.to_string());
        }
    }

    /// Claims blocks for inode `number`.
    fn claim(&mut self, number: u32, start: u64, len: u64) -> bool {
        if !self.volume.is_data(start, len) {
            self.problem(
                format_args!("inode {number}: blocks {start} to {} cannot be its own", start + len),
                false,
            );
            return false;
        }
        for block in start..start + len {
            if bit(&self.claimed, block as u32) {
                self.problem(format_args!("inode {number}: block {block} has two owners"), false);
                return false;
            }
            change(&mut self.claimed, block as u32, 1, true);
        }
        true
    }

    /// Every inode in the tables.
    fn inodes(&mut self) -> Result<()> {
        for (start, len) in self.volume.zones.clone() {
            for block in start..start + len {
                change(&mut self.claimed, block as u32, 1, true);
            }
        }
        let per = self.volume.geo.inodes_per_group;
        for group in 0..self.volume.geo.groups {
            let desc = self.volume.desc(group)?;
            if desc.has(gd::FLAG_INODE_UNINIT) {
                continue;
            }
            for index in 0..per - desc.unused_inodes {
                self.inode(group * per + index + 1)?;
            }
        }
        Ok(())
    }

    /// In use without a name: reserved, or the file that orphans are kept in.
    fn is_special(&self, number: u32) -> bool {
        let geo = &self.volume.geo;
        (number < geo.first_ino && number != inode::ROOT) || number == geo.orphan_file
    }

    fn inode(&mut self, number: u32) -> Result<()> {
        let special = self.is_special(number);
        let file = match self.volume.raw_inode(number) {
            Ok(file) => file,
            Err(_) => {
                self.problem(format_args!("inode {number} is damaged"), false);
                return Ok(());
            }
        };
        let in_use = file.links() > 0 && file.mode() != 0;
        if !in_use && !special {
            if number == inode::ROOT {
                self.problem("there is no root directory", false);
            }
            return Ok(());
        }
        change(&mut self.used, number, 1, true);
        if !in_use && file.block().iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        self.links[number as usize] = file.links() as u16;
        if file.is_dir() {
            change(&mut self.directory, number, 1, true);
        } else if number == inode::ROOT {
            self.problem("the root is no directory", false);
        }
        let known = [
            mode::REGULAR,
            mode::DIRECTORY,
            mode::SYMLINK,
            mode::FIFO,
            mode::SOCKET,
            mode::CHARACTER,
            mode::BLOCK,
        ];
        if in_use && !special && !known.contains(&file.kind()) {
            self.problem(format_args!("inode {number}: there is no such type of file"), false);
            return Ok(());
        }
        self.blocks_of(&file, special)
    }

    fn blocks_of(&mut self, file: &Inode, special: bool) -> Result<()> {
        let number = file.number;
        let mut count = 0;
        if number == inode::RESIZE {
            // It names the blocks kept for more descriptors, which lie where no file's do; only the
            // block that lists them is its own.
            let list = crate::layout::Le32(13 * 4).get(file.block());
            if list != 0 {
                self.claim(number, list.into(), 1);
            }
            return Ok(());
        }
        if !self.volume.is_unmapped(file) || (special && file.kind() == 0) {
            let mut pieces = Vec::new();
            let complete = self.volume.pieces(file, &mut pieces);
            for (start, len) in pieces {
                if self.claim(number, start, len) {
                    count += len;
                }
            }
            if complete.is_err() {
                self.problem(format_args!("inode {number}: its map of blocks is damaged"), false);
                return Ok(());
            }
        }
        let attributes = file.attributes_block();
        if attributes != 0 {
            // Several files may share one, which has no other owner then.
            if self.volume.is_data(attributes, 1) {
                change(&mut self.claimed, attributes as u32, 1, true);
                count += 1;
            } else {
                self.problem(format_args!("inode {number}: bad attribute block"), false);
            }
        }
        let unit = self.volume.geo.block_size as u64 / 512;
        if file.sectors(&self.volume.geo) != count * unit && !special {
            self.problem(
                format_args!(
                    "inode {number} has {} sectors, not {}",
                    count * unit,
                    file.sectors(&self.volume.geo)
                ),
                false,
            );
        }
        Ok(())
    }

    /// Every directory that a path leads to.
    fn directories(&mut self) -> Result<()> {
        if bit(&self.directory, inode::ROOT) {
            change(&mut self.reached, inode::ROOT, 1, true);
            self.queue.push_back((inode::ROOT, inode::ROOT));
        }
        while let Some((number, parent)) = self.queue.pop_front() {
            if self.entries(number, parent).is_err() {
                self.problem(format_args!("directory {number} is damaged"), false);
            }
        }
        for number in 1..=self.volume.geo.inodes {
            if bit(&self.directory, number) && !bit(&self.reached, number) {
                self.problem(format_args!("no path leads to directory {number}"), false);
            }
        }
        Ok(())
    }

    fn entries(&mut self, number: u32, parent: u32) -> Result<()> {
        self.report.directories += 1;
        let dir = self.volume.raw_inode(number)?;
        if dir.has(inode::FLAG_INLINE_DATA) {
            for (inode, kind, name) in self.volume.inline_entries(&dir)? {
                self.entry(number, inode, kind, &name);
            }
            self.found[number as usize] += 1;
            self.found[parent as usize] += 1;
            return Ok(());
        }
        let inodes = self.volume.geo.inodes;
        let mut dots = (None, None);
        for logical in 0..self.volume.dir_blocks(&dir) {
            let Some(block) = self.volume.dir_block(&dir, logical)? else {
                self.problem(format_args!("directory {number} has a hole"), false);
                continue;
            };
            let raw = self.volume.meta.read(block, Seal::None)?.to_vec();
            for slot in slots(&raw, inodes) {
                let slot = slot?;
                match slot.name {
                    _ if slot.inode == 0 => {}
                    b"." => dots.0 = Some(slot.inode),
                    b".." => dots.1 = Some(slot.inode),
                    name => self.entry(number, slot.inode, slot.kind, name),
                }
            }
        }
        if dots != (Some(number), Some(parent)) {
            self.problem(format_args!("directory {number}: its . or .. is wrong"), false);
        }
        for number in [number, parent] {
            let found = &mut self.found[number as usize];
            *found = found.saturating_add(1);
        }
        if self.volume.is_indexed(&dir) {
            self.index(&dir)?;
        }
        Ok(())
    }

    /// Every name of an indexed directory must be found by its hash.
    fn index(&mut self, dir: &Inode) -> Result<()> {
        let inodes = self.volume.geo.inodes;
        for logical in 1..self.volume.dir_blocks(dir) {
            let Some(block) = self.volume.dir_block(dir, logical)? else { continue };
            let raw = self.volume.meta.read(block, Seal::None)?.to_vec();
            for slot in slots(&raw, inodes) {
                let slot = slot?;
                if slot.inode == 0 || slot.rec_len < dirent::HEAD {
                    continue;
                }
                match self.volume.find_indexed(dir, slot.name) {
                    Ok(Some(found)) if found.inode == slot.inode => {}
                    // Not a function we know: the index cannot be judged.
                    Err(Error::NotSup) => return Ok(()),
                    _ => {
                        let name = String::from_utf8_lossy(slot.name);
                        self.problem(
                            format_args!("directory {}: '{name}' is not in its index", dir.number),
                            false,
                        );
                    }
                }
            }
        }
        Ok(())
    }

    fn entry(&mut self, dir: u32, number: u32, kind: u8, name: &[u8]) {
        let name = String::from_utf8_lossy(name);
        if !bit(&self.used, number) || self.is_special(number) {
            let what = format!("directory {dir}: '{name}' is inode {number}, which is not in use");
            return self.problem(what, false);
        }
        let found = &mut self.found[number as usize];
        *found = found.saturating_add(1);
        let actual = self.volume.raw_inode(number).map_or(0, |file| file.kind());
        let said = mode_of(kind);
        let wants_kind = self.volume.geo.has_incompat(incompat::FILETYPE);
        if wants_kind && said != actual {
            self.problem(format_args!("directory {dir}: '{name}' has the wrong type"), false);
        }
        if bit(&self.directory, number) {
            if bit(&self.reached, number) {
                let what = format!("directory {dir}: '{name}' is a second name of a directory");
                return self.problem(what, false);
            }
            change(&mut self.reached, number, 1, true);
            self.queue.push_back((number, dir));
        }
    }

    fn links(&mut self) -> Result<()> {
        for number in inode::ROOT..=self.volume.geo.inodes {
            if self.is_special(number) || !bit(&self.used, number) {
                continue;
            }
            self.report.inodes_used += 1;
            let (found, links) = (self.found[number as usize], self.links[number as usize]);
            let many = bit(&self.directory, number)
                && links == 1
                && self.volume.geo.has_ro_compat(ro_compat::DIR_NLINK);
            if found == links || many || (bit(&self.directory, number) && found == 0) {
                continue;
            }
            let mut repaired = false;
            // Without a name it needs a place, not a count.
            if self.repair && found > 0 {
                let mut file = self.volume.raw_inode(number)?;
                file.set_links(found.into());
                self.volume.write_inode(&mut file)?;
                repaired = true;
            }
            let what = format!("inode {number} has {found} names, its link count is {links}");
            self.problem(what, repaired);
        }
        Ok(())
    }

    /// Bitmaps and counters of all groups.
    fn bitmaps(&mut self) -> Result<()> {
        let geo = self.volume.geo.clone();
        let mut free = (0, 0);
        // A repair must not give away what an unreadable map may own.
        let repair = self.repair && self.report.unrepaired == 0;
        for group in 0..geo.groups {
            let desc = self.volume.desc(group)?;
            let (start, len) = (geo.first_block(group), geo.group_len(group));
            let bits = geo.block_size as u32 * 8;
            let mut blocks = vec![0; geo.block_size];
            change(&mut blocks, len, bits - len, true);
            let mut free_blocks = 0;
            for at in 0..len {
                if bit(&self.claimed, (start + u64::from(at)) as u32) {
                    change(&mut blocks, at, 1, true);
                } else {
                    free_blocks += 1;
                }
            }
            let per = geo.inodes_per_group;
            let mut inodes = vec![0; geo.block_size];
            change(&mut inodes, per, bits - per, true);
            let (mut free_inodes, mut dirs) = (0, 0);
            for at in 0..per {
                let number = group * per + at + 1;
                if bit(&self.used, number) || number < geo.first_ino {
                    change(&mut inodes, at, 1, true);
                } else {
                    free_inodes += 1;
                }
                dirs += u32::from(bit(&self.directory, number));
            }
            free = (free.0 + u64::from(free_blocks), free.1 + u64::from(free_inodes));
            if !desc.has(gd::FLAG_BLOCK_UNINIT) {
                let at = desc.block_bitmap;
                self.bitmap(group, "block", at, &blocks, len, repair)?;
            }
            if !desc.has(gd::FLAG_INODE_UNINIT) {
                let at = desc.inode_bitmap;
                self.bitmap(group, "inode", at, &inodes, per, repair)?;
            }
            if (desc.free_blocks, desc.free_inodes, desc.used_dirs)
                != (free_blocks, free_inodes, dirs)
            {
                if repair {
                    self.volume.update_desc(group, |desc| {
                        (desc.free_blocks, desc.free_inodes) = (free_blocks, free_inodes);
                        desc.used_dirs = dirs;
                    })?;
                }
                let what = format!(
                    "group {group} has {free_blocks} free blocks, {free_inodes} free inodes, \
                     {dirs} directories; its counters say {}, {}, {}",
                    desc.free_blocks, desc.free_inodes, desc.used_dirs
                );
                self.problem(what, repair);
            }
        }
        self.volume.state.free_blocks = free.0;
        self.volume.state.free_inodes = free.1;
        self.report.blocks = geo.blocks;
        self.report.blocks_used = geo.blocks - u64::from(geo.first_data_block) - free.0;
        self.report.inodes = geo.inodes;
        Ok(())
    }

    fn bitmap(
        &mut self,
        group: u32,
        kind: &str,
        at: u64,
        right: &[u8],
        len: u32,
        repair: bool,
    ) -> Result<()> {
        let found = self.volume.meta.read(at, Seal::None)?;
        let wrong = (0..len).filter(|&at| bit(found, at) != bit(right, at)).count();
        // Bits behind the group's end belong to nobody; only what counts is judged.
        let sound = if kind == "block" {
            self.volume.block_bitmap(group).is_ok()
        } else {
            self.volume.inode_bitmap(group).is_ok()
        };
        if wrong == 0 && sound {
            return Ok(());
        }
        if repair {
            self.volume.meta.fresh(at, Seal::None).copy_from_slice(right);
            self.volume.touched.insert(group);
        }
        let what = match sound {
            true => format!("group {group}: {wrong} bits of the {kind} bitmap are wrong"),
            false => format!("group {group}: the {kind} bitmap has a wrong checksum"),
        };
        self.problem(what, repair);
        Ok(())
    }

    /// Totals and the mark of the superblock; writes what was repaired.
    fn superblock(&mut self) -> Result<()> {
        let (block, at) = self.volume.geo.superblock();
        let raw = &self.volume.meta.read(block, Seal::None)?[at..at + sb::LEN];
        let high = u64::from(sb::FREE_BLOCKS_HI.get(raw)) << 32;
        let blocks = u64::from(sb::FREE_BLOCKS_LO.get(raw))
            | if self.volume.geo.has_incompat(incompat::BIT64) { high } else { 0 };
        let totals = (blocks, u64::from(sb::FREE_INODES.get(raw)));
        let errors = sb::STATE.get(raw) & sb::STATE_ERRORS != 0;
        let dirty = sb::FEATURE_INCOMPAT.get(raw) & incompat::RECOVER != 0;
        let state = &self.volume.state;
        let repair = self.repair && self.report.unrepaired == 0;
        // While the journal is not replayed the totals are known to be old.
        if totals != (state.free_blocks, state.free_inodes) && !dirty {
            let what = format!(
                "{} blocks and {} inodes are free, the superblock says {} and {}",
                state.free_blocks, state.free_inodes, totals.0, totals.1
            );
            self.problem(what, repair);
        }
        if dirty {
            self.problem("the journal is to be replayed", repair);
        } else if errors {
            self.problem("an error was noted while it was mounted", repair);
        }
        self.report.kind = self.volume.kind();
        if !self.volume.geo.has_compat(compat::HAS_JOURNAL) {
            let clean = sb::STATE.get(&self.volume.meta.read(block, Seal::None)?[at..at + sb::LEN])
                & sb::STATE_CLEAN;
            if clean == 0 && !errors {
                self.problem("it was not unmounted", repair);
            }
        }
        if repair && (self.report.found > 0) {
            self.volume.settle()?;
        }
        Ok(())
    }
}
