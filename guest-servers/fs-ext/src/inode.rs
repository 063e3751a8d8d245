//! Inodes: their fields, their checksum, reading and writing them in the tables.

use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{Stat, mode};

use crate::checksum::crc32c;
use crate::groups::corrupt;
use crate::layout::{Le16, Le32, feature::incompat, feature::ro_compat, gd, inode};
use crate::meta::Seal;
use crate::superblock::Geometry;
use crate::volume::Volume;

const SECOND: u64 = 1_000_000_000;
/// Last second that 34 bits with the old sign can hold: the year 2446.
const LAST_SECOND: u64 = 0x3_7FFF_FFFF;

/// One inode's bytes, read from its table.
#[derive(Clone, Debug)]
pub struct Inode {
    pub number: u32,
    pub raw: Vec<u8>,
}

/// The four times of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Time {
    Access,
    Change,
    Modify,
    Birth,
}

impl Inode {
    pub fn mode(&self) -> u32 {
        inode::MODE.get(&self.raw).into()
    }

    pub fn kind(&self) -> u32 {
        self.mode() & mode::TYPE_MASK
    }

    pub fn is_dir(&self) -> bool {
        self.kind() == mode::DIRECTORY
    }

    pub fn links(&self) -> u32 {
        inode::LINKS.get(&self.raw).into()
    }

    pub fn set_links(&mut self, links: u32) {
        inode::LINKS.set(&mut self.raw, links as u16);
    }

    pub fn has(&self, flag: u32) -> bool {
        inode::FLAGS.get(&self.raw) & flag != 0
    }

    pub fn set_flag(&mut self, flag: u32, on: bool) {
        let flags = inode::FLAGS.get(&self.raw);
        inode::FLAGS.set(&mut self.raw, if on { flags | flag } else { flags & !flag });
    }

    /// Size in bytes.
    pub fn size(&self, geo: &Geometry) -> u64 {
        let low = u64::from(inode::SIZE_LO.get(&self.raw));
        let wide = self.kind() == mode::REGULAR || geo.has_incompat(incompat::LARGEDIR);
        low | if wide { u64::from(inode::SIZE_HI.get(&self.raw)) << 32 } else { 0 }
    }

    pub fn set_size(&mut self, size: u64) {
        inode::SIZE_LO.set(&mut self.raw, size as u32);
        inode::SIZE_HI.set(&mut self.raw, (size >> 32) as u32);
    }

    /// Space it takes, in 512-byte sectors.
    pub fn sectors(&self, geo: &Geometry) -> u64 {
        let low = u64::from(inode::BLOCKS_LO.get(&self.raw));
        if !geo.has_ro_compat(ro_compat::HUGE_FILE) {
            return low;
        }
        let count = low | u64::from(inode::BLOCKS_HI.get(&self.raw)) << 32;
        let unit = if self.has(inode::FLAG_HUGE_FILE) { geo.block_size as u64 / 512 } else { 1 };
        count.saturating_mul(unit)
    }

    /// Counts `blocks` more (or less) as this file's.
    pub fn add_blocks(&mut self, geo: &Geometry, blocks: i64) -> Result<()> {
        let unit = geo.block_size as i64 / 512;
        let now = self.sectors(geo).checked_add_signed(blocks * unit);
        let Some(now) = now else { return corrupt() };
        if now <= u32::MAX.into() {
            self.set_flag(inode::FLAG_HUGE_FILE, false);
            inode::BLOCKS_LO.set(&mut self.raw, now as u32);
            if geo.has_ro_compat(ro_compat::HUGE_FILE) {
                inode::BLOCKS_HI.set(&mut self.raw, 0);
            }
            return Ok(());
        }
        if !geo.has_ro_compat(ro_compat::HUGE_FILE) {
            return Err(Error::FBig);
        }
        let huge = now >= 1 << 48;
        let count = if huge { now / unit as u64 } else { now };
        self.set_flag(inode::FLAG_HUGE_FILE, huge);
        inode::BLOCKS_LO.set(&mut self.raw, count as u32);
        inode::BLOCKS_HI.set(&mut self.raw, (count >> 32) as u16);
        Ok(())
    }

    /// The 60 bytes of block numbers, extents or a short link's target.
    pub fn block(&self) -> &[u8] {
        &self.raw[inode::BLOCK..inode::BLOCK + inode::BLOCK_LEN]
    }

    pub fn block_mut(&mut self) -> &mut [u8] {
        &mut self.raw[inode::BLOCK..inode::BLOCK + inode::BLOCK_LEN]
    }

    /// Block of extended attributes, 0 if none.
    pub fn attributes_block(&self) -> u64 {
        let high = u64::from(inode::FILE_ACL_HI.get(&self.raw)) << 32;
        u64::from(inode::FILE_ACL_LO.get(&self.raw)) | high
    }

    pub fn set_attributes_block(&mut self, block: u64) {
        inode::FILE_ACL_LO.set(&mut self.raw, block as u32);
        inode::FILE_ACL_HI.set(&mut self.raw, (block >> 32) as u16);
    }

    /// Is the target kept in the inode itself?
    pub fn is_fast_link(&self, geo: &Geometry) -> bool {
        let attributes = if self.attributes_block() == 0 { 0 } else { geo.block_size as u64 / 512 };
        self.kind() == mode::SYMLINK
            && !self.has(inode::FLAG_EXTENTS)
            && self.sectors(geo) == attributes
            && self.size(geo) < inode::BLOCK_LEN as u64
    }

    /// Does the inode have the field that ends at byte `end`?
    fn reaches(&self, end: usize) -> bool {
        self.raw.len() > inode::SMALL
            && inode::SMALL + usize::from(inode::EXTRA_ISIZE.get(&self.raw)) >= end
            && self.raw.len() >= end
    }

    fn time_fields(time: Time) -> (Le32, Le32) {
        match time {
            Time::Access => (inode::ATIME, inode::ATIME_EXTRA),
            Time::Change => (inode::CTIME, inode::CTIME_EXTRA),
            Time::Modify => (inode::MTIME, inode::MTIME_EXTRA),
            Time::Birth => (inode::CRTIME, inode::CRTIME_EXTRA),
        }
    }

    /// Nanoseconds since 1970; what is before counts as 1970.
    pub fn time(&self, time: Time) -> u64 {
        let (seconds, extra) = Self::time_fields(time);
        let low = i64::from(seconds.get(&self.raw) as i32);
        let extra = if self.reaches(extra.0 + 4) { extra.get(&self.raw) } else { 0 };
        let seconds = (low + (i64::from(extra & 3) << 32)).max(0) as u64;
        seconds * SECOND + u64::from(extra >> 2).min(SECOND - 1)
    }

    pub fn set_time(&mut self, time: Time, ns: u64) {
        let (field, extra) = Self::time_fields(time);
        if time == Time::Birth && !self.reaches(extra.0 + 4) {
            return;
        }
        if self.reaches(extra.0 + 4) {
            let seconds = (ns / SECOND).min(LAST_SECOND);
            let epoch = (seconds as i64 - i64::from(seconds as i32)) >> 32;
            field.set(&mut self.raw, seconds as u32);
            extra.set(&mut self.raw, ((ns % SECOND) as u32 * 4) | (epoch as u32 & 3));
        } else {
            field.set(&mut self.raw, (ns / SECOND).min(i32::MAX as u64) as u32);
        }
    }

    fn wide(&self, low: Le16, high: Le16) -> u32 {
        u32::from(low.get(&self.raw)) | u32::from(high.get(&self.raw)) << 16
    }

    pub fn uid(&self) -> u32 {
        self.wide(inode::UID, inode::UID_HI)
    }

    pub fn gid(&self) -> u32 {
        self.wide(inode::GID, inode::GID_HI)
    }

    pub fn set_uid(&mut self, uid: u32) {
        inode::UID.set(&mut self.raw, uid as u16);
        inode::UID_HI.set(&mut self.raw, (uid >> 16) as u16);
    }

    pub fn set_gid(&mut self, gid: u32) {
        inode::GID.set(&mut self.raw, gid as u16);
        inode::GID_HI.set(&mut self.raw, (gid >> 16) as u16);
    }

    /// Major << 16 | minor of a device node.
    pub fn device(&self) -> u32 {
        if !matches!(self.kind(), mode::CHARACTER | mode::BLOCK) {
            return 0;
        }
        let (old, new) = (Le32(0).get(self.block()), Le32(4).get(self.block()));
        let (major, minor) = if old != 0 {
            ((old >> 8) & 0xFF, old & 0xFF)
        } else {
            ((new >> 8) & 0xFFF, (new & 0xFF) | ((new >> 12) & 0xFFF00))
        };
        (major << 16) | (minor & 0xFFFF)
    }

    pub fn set_device(&mut self, device: u32) {
        let (major, minor) = (device >> 16, device & 0xFFFF);
        if major < 256 && minor < 256 {
            Le32(0).set(self.block_mut(), major << 8 | minor);
        } else {
            let new = (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & !0xFF) << 12;
            Le32(4).set(self.block_mut(), new);
        }
    }

    /// Start value of the checksums of everything this inode owns.
    pub fn seed(&self, geo: &Geometry) -> u32 {
        let crc = crc32c(geo.seed, &self.number.to_le_bytes());
        crc32c(crc, &inode::GENERATION.get(&self.raw).to_le_bytes())
    }

    fn checksum(&self, geo: &Geometry) -> u32 {
        let at = inode::CHECKSUM_LO.0;
        let crc = crc32c(crc32c(self.seed(geo), &self.raw[..at]), &[0; 2]);
        let crc = crc32c(crc, &self.raw[at + 2..inode::SMALL]);
        let at = inode::CHECKSUM_HI.0;
        if self.reaches(at + 2) {
            let crc = crc32c(crc32c(crc, &self.raw[inode::SMALL..at]), &[0; 2]);
            crc32c(crc, &self.raw[at + 2..])
        } else {
            crc32c(crc, &self.raw[inode::SMALL..])
        }
    }

    fn seal(&mut self, geo: &Geometry) {
        if geo.all_checksums() {
            let crc = self.checksum(geo);
            inode::CHECKSUM_LO.set(&mut self.raw, crc as u16);
            if self.reaches(inode::CHECKSUM_HI.0 + 2) {
                inode::CHECKSUM_HI.set(&mut self.raw, (crc >> 16) as u16);
            }
        }
    }

    fn holds(&self, geo: &Geometry) -> bool {
        if !geo.all_checksums() {
            return true;
        }
        let crc = self.checksum(geo);
        inode::CHECKSUM_LO.get(&self.raw) == crc as u16
            && (!self.reaches(inode::CHECKSUM_HI.0 + 2)
                || inode::CHECKSUM_HI.get(&self.raw) == (crc >> 16) as u16)
    }

    /// What VFS wants to know.
    pub fn stat(&self, geo: &Geometry) -> Stat {
        Stat {
            ino: self.number.into(),
            size: self.size(geo),
            blocks: self.sectors(geo),
            atime: self.time(Time::Access),
            mtime: self.time(Time::Modify),
            ctime: self.time(Time::Change),
            mode: self.mode(),
            links: self.links(),
            uid: self.uid(),
            gid: self.gid(),
            block_size: geo.block_size as u32,
            rdev: self.device(),
            ..Stat::default()
        }
    }
}

impl Volume<'_> {
    /// Block and offset of an inode. `Stale`: no such number.
    fn locate_inode(&mut self, number: u32) -> Result<(u64, usize)> {
        if number == 0 || number > self.geo.inodes {
            return Err(Error::Stale);
        }
        let (group, index) = self.inode_place(number);
        let at = index as usize * self.geo.inode_size;
        let desc = self.desc(group)?;
        let block = desc.inode_table + (at / self.geo.block_size) as u64;
        Ok((block, at % self.geo.block_size))
    }

    /// Reads an inode, in use or not; `Io` when its checksum is wrong.
    pub fn raw_inode(&mut self, number: u32) -> Result<Inode> {
        let (block, at) = self.locate_inode(number)?;
        let size = self.geo.inode_size;
        let raw = self.meta.read(block, Seal::None)?[at..at + size].to_vec();
        let inode = Inode { number, raw };
        if inode.raw.len() > inode::SMALL {
            let extra = usize::from(inode::EXTRA_ISIZE.get(&inode.raw));
            if extra > size - inode::SMALL || !extra.is_multiple_of(4) {
                return corrupt();
            }
        }
        // One that was never used has no checksum either.
        let blank = || inode.raw.iter().all(|&byte| byte == 0);
        if inode.holds(&self.geo) || blank() { Ok(inode) } else { corrupt() }
    }

    /// A file's inode. `Stale`: the number is nobody's.
    pub fn inode(&mut self, number: u64) -> Result<Inode> {
        let number = u32::try_from(number).map_err(|_| Error::Stale)?;
        if number != inode::ROOT && number < self.geo.first_ino {
            return Err(Error::Stale);
        }
        if number > self.geo.inodes {
            return Err(Error::Stale);
        }
        let (group, index) = self.inode_place(number);
        let desc = self.desc(group)?;
        // Beyond, the table may never have been written.
        if desc.has(gd::FLAG_INODE_UNINIT)
            || index >= self.geo.inodes_per_group - desc.unused_inodes
        {
            return Err(Error::Stale);
        }
        let inode = self.raw_inode(number)?;
        if inode.links() == 0 && !self.holds.contains_key(&number) {
            return Err(Error::Stale);
        }
        match inode.kind() {
            mode::REGULAR | mode::DIRECTORY | mode::SYMLINK => Ok(inode),
            mode::CHARACTER | mode::BLOCK | mode::FIFO | mode::SOCKET => Ok(inode),
            _ => corrupt(),
        }
    }

    /// As [`Volume::inode`], and it is a directory.
    pub fn directory(&mut self, number: u64) -> Result<Inode> {
        let inode = self.inode(number)?;
        if inode.is_dir() { Ok(inode) } else { Err(Error::NotDir) }
    }

    /// Writes an inode back.
    pub fn write_inode(&mut self, inode: &mut Inode) -> Result<()> {
        inode.seal(&self.geo);
        let (block, at) = self.locate_inode(inode.number)?;
        let raw = self.meta.modify(block, Seal::None)?;
        raw[at..at + inode.raw.len()].copy_from_slice(&inode.raw);
        Ok(())
    }
}
