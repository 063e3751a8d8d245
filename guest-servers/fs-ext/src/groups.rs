//! Block groups: descriptors, bitmaps and where metadata lies.
//!
//! Descriptors are read from their blocks each time, so that undoing an operation undoes them too.
//! Their checksums, and those of the bitmaps kept in them, are computed once, at commit
//! ([`Volume::seal_groups`]).

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};

use crate::checksum::crc32c;
use crate::layout::gd;
use crate::meta::Seal;
use crate::superblock::{Checksums, Geometry};
use crate::volume::Volume;

/// A group descriptor's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Desc {
    pub block_bitmap: u64,
    pub inode_bitmap: u64,
    pub inode_table: u64,
    pub free_blocks: u32,
    pub free_inodes: u32,
    pub used_dirs: u32,
    pub unused_inodes: u32,
    pub flags: u16,
    pub block_bitmap_checksum: u32,
    pub inode_bitmap_checksum: u32,
}

impl Desc {
    pub fn parse(raw: &[u8]) -> Self {
        let large = raw.len() >= gd::LARGE;
        let block = |low: crate::layout::Le32, high: crate::layout::Le32| {
            u64::from(low.get(raw)) | if large { u64::from(high.get(raw)) << 32 } else { 0 }
        };
        let count = |low: crate::layout::Le16, high: crate::layout::Le16| {
            u32::from(low.get(raw)) | if large { u32::from(high.get(raw)) << 16 } else { 0 }
        };
        Self {
            block_bitmap: block(gd::BLOCK_BITMAP_LO, gd::BLOCK_BITMAP_HI),
            inode_bitmap: block(gd::INODE_BITMAP_LO, gd::INODE_BITMAP_HI),
            inode_table: block(gd::INODE_TABLE_LO, gd::INODE_TABLE_HI),
            free_blocks: count(gd::FREE_BLOCKS_LO, gd::FREE_BLOCKS_HI),
            free_inodes: count(gd::FREE_INODES_LO, gd::FREE_INODES_HI),
            used_dirs: count(gd::USED_DIRS_LO, gd::USED_DIRS_HI),
            unused_inodes: count(gd::ITABLE_UNUSED_LO, gd::ITABLE_UNUSED_HI),
            flags: gd::FLAGS.get(raw),
            block_bitmap_checksum: count(gd::BLOCK_BITMAP_CSUM_LO, gd::BLOCK_BITMAP_CSUM_HI),
            inode_bitmap_checksum: count(gd::INODE_BITMAP_CSUM_LO, gd::INODE_BITMAP_CSUM_HI),
        }
    }

    /// Writes everything into a descriptor's bytes but its own checksum.
    pub fn store(&self, raw: &mut [u8]) {
        let large = raw.len() >= gd::LARGE;
        let blocks = [
            (gd::BLOCK_BITMAP_LO, gd::BLOCK_BITMAP_HI, self.block_bitmap),
            (gd::INODE_BITMAP_LO, gd::INODE_BITMAP_HI, self.inode_bitmap),
            (gd::INODE_TABLE_LO, gd::INODE_TABLE_HI, self.inode_table),
        ];
        for (low, high, value) in blocks {
            low.set(raw, value as u32);
            if large {
                high.set(raw, (value >> 32) as u32);
            }
        }
        let counts = [
            (gd::FREE_BLOCKS_LO, gd::FREE_BLOCKS_HI, self.free_blocks),
            (gd::FREE_INODES_LO, gd::FREE_INODES_HI, self.free_inodes),
            (gd::USED_DIRS_LO, gd::USED_DIRS_HI, self.used_dirs),
            (gd::ITABLE_UNUSED_LO, gd::ITABLE_UNUSED_HI, self.unused_inodes),
            (gd::BLOCK_BITMAP_CSUM_LO, gd::BLOCK_BITMAP_CSUM_HI, self.block_bitmap_checksum),
            (gd::INODE_BITMAP_CSUM_LO, gd::INODE_BITMAP_CSUM_HI, self.inode_bitmap_checksum),
        ];
        for (low, high, value) in counts {
            low.set(raw, value as u16);
            if large {
                high.set(raw, (value >> 16) as u16);
            }
        }
        gd::FLAGS.set(raw, self.flags);
    }

    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }
}

/// Is bit `at` set?
pub fn bit(bitmap: &[u8], at: u32) -> bool {
    bitmap[at as usize / 8] >> (at % 8) & 1 != 0
}

/// Sets or clears `len` bits from `at`. False if one was so already.
pub fn change(bitmap: &mut [u8], at: u32, len: u32, set: bool) -> bool {
    let mut changed = true;
    let mut at = at;
    let end = at + len;
    while at < end {
        let byte = &mut bitmap[at as usize / 8];
        let (mask, step) =
            if at.is_multiple_of(8) && end - at >= 8 { (0xFF, 8) } else { (1 << (at % 8), 1) };
        changed &= *byte & mask == if set { 0 } else { mask };
        if set {
            *byte |= mask;
        } else {
            *byte &= !mask;
        }
        at += step;
    }
    changed
}

/// Checksum of a bitmap as a descriptor of `desc_size` bytes can hold it.
pub fn bitmap_checksum(geo: &Geometry, bitmap: &[u8], bits: u32, wide: bool) -> u32 {
    let crc = crc32c(geo.seed, &bitmap[..(bits / 8) as usize]);
    if wide { crc } else { crc & 0xFFFF }
}

impl Volume<'_> {
    fn wide_checksums(&self) -> bool {
        self.geo.desc_size >= gd::LARGE
    }

    /// Uninitialised bitmaps and tables exist only with checksummed descriptors.
    fn lazy(&self) -> bool {
        self.geo.checksums != Checksums::None
    }

    pub fn desc(&mut self, group: u32) -> Result<Desc> {
        let (block, at) = self.geo.descriptor(group);
        let size = self.geo.desc_size;
        let mut desc = Desc::parse(&self.meta.read(block, Seal::None)?[at..at + size]);
        if !self.lazy() {
            desc.flags = 0;
            desc.unused_inodes = 0;
        }
        Ok(desc)
    }

    /// Changes a group's descriptor.
    pub fn update_desc(&mut self, group: u32, change: impl FnOnce(&mut Desc)) -> Result<()> {
        let (block, at) = self.geo.descriptor(group);
        let size = self.geo.desc_size;
        let raw = &mut self.meta.modify(block, Seal::None)?[at..at + size];
        let mut desc = Desc::parse(raw);
        change(&mut desc);
        desc.store(raw);
        self.touched.insert(group);
        Ok(())
    }

    /// Checks all descriptors and collects where metadata lies. The sentence says what is wrong.
    pub fn check_groups(&mut self) -> core::result::Result<(), String> {
        let (size, table) = (self.geo.desc_size, u64::from(self.geo.table_blocks()));
        let mut zones: Vec<(u64, u64)> = Vec::new();
        let mut add = |start: u64, len: u64| match zones.last_mut() {
            Some(last) if last.0 + last.1 == start => last.1 += len,
            _ => zones.push((start, len)),
        };
        for group in 0..self.geo.groups {
            let base = self.geo.base_blocks(group);
            if base > 0 {
                add(self.geo.first_block(group), base.into());
            }
        }
        for group in 0..self.geo.groups {
            let (block, at) = self.geo.descriptor(group);
            let raw = self.meta.read(block, Seal::None);
            let raw =
                &raw.map_err(|_| String::from("a group descriptor cannot be read"))?[at..at + size];
            let desc = Desc::parse(raw);
            if self.geo.checksums != Checksums::None
                && gd::CHECKSUM.get(raw) != self.geo.descriptor_checksum(group, raw)
            {
                return Err(format!("the descriptor of group {group} has a wrong checksum"));
            }
            let inside =
                [(desc.block_bitmap, 1), (desc.inode_bitmap, 1), (desc.inode_table, table)]
                    .into_iter()
                    .all(|(start, len)| {
                        self.geo.valid_block(start) && self.geo.blocks - start >= len
                    });
            if !inside
                || desc.free_blocks > self.geo.group_len(group)
                || desc.free_inodes > self.geo.inodes_per_group
                || desc.unused_inodes > self.geo.inodes_per_group
            {
                return Err(format!("the descriptor of group {group} is out of range"));
            }
            add(desc.block_bitmap, 1);
            add(desc.inode_bitmap, 1);
            add(desc.inode_table, table);
        }
        zones.sort_unstable();
        zones.dedup_by(|next, last| {
            let joins = next.0 <= last.0 + last.1;
            if joins {
                last.1 = last.1.max(next.0 + next.1 - last.0);
            }
            joins
        });
        self.zones = zones;
        Ok(())
    }

    /// May these blocks hold a file's data? Outside the file system and its fixed metadata they
    /// may not.
    pub fn is_data(&self, start: u64, len: u64) -> bool {
        let Some(end) = start.checked_add(len) else { return false };
        if len == 0 || !self.geo.valid_block(start) || end > self.geo.blocks {
            return false;
        }
        let next = self.zones.partition_point(|zone| zone.0 < end);
        next == 0 || {
            let zone = self.zones[next - 1];
            zone.0 + zone.1 <= start
        }
    }

    /// Where a group's block bitmap lies; it is in memory and sound afterwards.
    pub fn block_bitmap(&mut self, group: u32) -> Result<u64> {
        let desc = self.desc(group)?;
        if desc.has(gd::FLAG_BLOCK_UNINIT) {
            return self.make_block_bitmap(group, &desc);
        }
        let wide = self.wide_checksums();
        let geo = &self.geo;
        let good = |data: &[u8]| {
            !geo.all_checksums()
                || bitmap_checksum(geo, data, geo.blocks_per_group, wide)
                    == desc.block_bitmap_checksum
        };
        self.meta.read_judged(desc.block_bitmap, good)?;
        Ok(desc.block_bitmap)
    }

    fn make_block_bitmap(&mut self, group: u32, desc: &Desc) -> Result<u64> {
        let mut used = vec![0_u8; self.geo.block_size];
        fill_block_bitmap(&self.geo, group, desc, &mut used);
        self.meta.fresh(desc.block_bitmap, Seal::None).copy_from_slice(&used);
        self.update_desc(group, |desc| desc.flags &= !gd::FLAG_BLOCK_UNINIT)?;
        Ok(desc.block_bitmap)
    }

    /// As [`Volume::block_bitmap`], for inodes.
    pub fn inode_bitmap(&mut self, group: u32) -> Result<u64> {
        let desc = self.desc(group)?;
        let per = self.geo.inodes_per_group;
        if desc.has(gd::FLAG_INODE_UNINIT) {
            let bits = self.geo.block_size as u32 * 8;
            let bitmap = self.meta.fresh(desc.inode_bitmap, Seal::None);
            change(bitmap, per, bits - per, true);
            self.update_desc(group, |desc| desc.flags &= !gd::FLAG_INODE_UNINIT)?;
            return Ok(desc.inode_bitmap);
        }
        let wide = self.wide_checksums();
        let geo = &self.geo;
        let good = |data: &[u8]| {
            !geo.all_checksums()
                || bitmap_checksum(geo, data, per, wide) == desc.inode_bitmap_checksum
        };
        self.meta.read_judged(desc.inode_bitmap, good)?;
        Ok(desc.inode_bitmap)
    }

    /// Writes the checksums of changed groups.
    pub fn seal_groups(&mut self) -> Result<()> {
        if self.geo.checksums == Checksums::None {
            self.touched.clear();
            return Ok(());
        }
        let (size, wide) = (self.geo.desc_size, self.wide_checksums());
        while let Some(group) = self.touched.pop_first() {
            let desc = self.desc(group)?;
            let mut sums = (desc.block_bitmap_checksum, desc.inode_bitmap_checksum);
            if self.geo.all_checksums() {
                if !desc.has(gd::FLAG_BLOCK_UNINIT) {
                    let bitmap = self.meta.read(desc.block_bitmap, Seal::None)?;
                    sums.0 = bitmap_checksum(&self.geo, bitmap, self.geo.blocks_per_group, wide);
                }
                if !desc.has(gd::FLAG_INODE_UNINIT) {
                    let bitmap = self.meta.read(desc.inode_bitmap, Seal::None)?;
                    sums.1 = bitmap_checksum(&self.geo, bitmap, self.geo.inodes_per_group, wide);
                }
            }
            let (block, at) = self.geo.descriptor(group);
            let raw = &mut self.meta.modify(block, Seal::None)?[at..at + size];
            let mut desc = Desc::parse(raw);
            (desc.block_bitmap_checksum, desc.inode_bitmap_checksum) = sums;
            desc.store(raw);
            let crc = self.geo.descriptor_checksum(group, raw);
            gd::CHECKSUM.set(raw, crc);
        }
        Ok(())
    }
}

/// The block bitmap of a group in which no file has blocks yet. With flexible groups the bitmaps
/// and tables of others never lie in one whose bitmap is not written.
pub fn fill_block_bitmap(geo: &Geometry, group: u32, desc: &Desc, bitmap: &mut [u8]) {
    let len = geo.group_len(group);
    change(bitmap, 0, geo.base_blocks(group), true);
    let parts = [
        (desc.block_bitmap, 1),
        (desc.inode_bitmap, 1),
        (desc.inode_table, u64::from(geo.table_blocks())),
    ];
    for (start, count) in parts {
        for block in start..start + count {
            if geo.valid_block(block) && geo.place(block).0 == group {
                change(bitmap, geo.place(block).1, 1, true);
            }
        }
    }
    let bits = geo.block_size as u32 * 8;
    if bits > len {
        change(bitmap, len, bits - len, true);
    }
}

/// Reserves nothing and forgets nothing: an error for what the disk says and cannot be.
pub fn corrupt<T>() -> Result<T> {
    Err(Error::Io)
}
