//! Inodes without a name that are still needed or not yet freed.
//!
//! They form a chain: the superblock names the newest, each inode's deletion time field the next. What
//! the newer *orphan file* holds is cleared at mount; new orphans always go to the chain, which
//! is allowed beside it.

use alloc::vec::Vec;

use xinim_abi::error::Result;

use crate::checksum::crc32c;
use crate::groups::corrupt;
use crate::inode::Inode;
use crate::layout::{Le32, feature::ro_compat, inode, sb};
use crate::meta::Seal;
use crate::volume::Volume;

/// Orphans taken from one disk; more is a loop or a lie.
const ORPHANS_MAX: usize = 1 << 16;
const FILE_MAGIC: u32 = 0x0B10_CA04;

impl Volume<'_> {
    /// Puts an inode at the head of the chain; the caller writes the inode.
    pub fn add_orphan(&mut self, inode: &mut Inode) -> Result<()> {
        if self.state.orphans.contains(&inode.number) {
            return Ok(());
        }
        let next = self.state.orphans.first().copied().unwrap_or(0);
        inode::DTIME.set(&mut inode.raw, next);
        self.state.orphans.insert(0, inode.number);
        let number = inode.number;
        self.edit_superblock(|raw| sb::LAST_ORPHAN.set(raw, number))
    }

    /// Takes an inode out of the chain; the caller writes the inode.
    pub fn remove_orphan(&mut self, inode: &mut Inode) -> Result<()> {
        let orphans = &mut self.state.orphans;
        let Some(at) = orphans.iter().position(|&number| number == inode.number) else {
            return Ok(());
        };
        orphans.remove(at);
        let next = orphans.get(at).copied().unwrap_or(0);
        let before = at.checked_sub(1).and_then(|at| orphans.get(at)).copied();
        inode::DTIME.set(&mut inode.raw, 0);
        match before {
            None => self.edit_superblock(|raw| sb::LAST_ORPHAN.set(raw, next)),
            Some(before) => {
                let mut before = self.raw_inode(before)?;
                inode::DTIME.set(&mut before.raw, next);
                self.write_inode(&mut before)
            }
        }
    }

    /// Finishes what was not finished when the volume was last mounted.
    pub fn remove_orphans(&mut self) -> Result<()> {
        let (block, at) = self.geo.superblock();
        let raw = &self.meta.read(block, Seal::None)?[at..at + sb::LEN];
        let first = sb::LAST_ORPHAN.get(raw);
        let mut chain = Vec::new();
        let mut next = first;
        while next != 0 {
            if chain.len() >= ORPHANS_MAX || next < self.geo.first_ino || next > self.geo.inodes {
                return corrupt();
            }
            chain.push(next);
            next = inode::DTIME.get(&self.raw_inode(next)?.raw);
        }
        let mut sorted = chain.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != chain.len() {
            return corrupt();
        }
        self.state.orphans = chain.clone();
        for number in chain {
            self.finish_cut(number)?;
        }
        self.clear_orphan_file()
    }

    fn clear_orphan_file(&mut self) -> Result<()> {
        if self.geo.orphan_file == 0 || !self.geo.has_ro_compat(ro_compat::ORPHAN_PRESENT) {
            return Ok(());
        }
        let file = self.raw_inode(self.geo.orphan_file)?;
        let size = self.geo.block_size;
        let blocks = (file.size(&self.geo) / size as u64).min(ORPHANS_MAX as u64);
        for logical in 0..blocks {
            let Some(block) = self.map(&file, logical, 1)?.physical else { return corrupt() };
            let raw = self.meta.read(block, Seal::None)?;
            if Le32(size - 8).get(raw) != FILE_MAGIC {
                return corrupt();
            }
            let numbers: Vec<u32> = (0..size / 4 - 2).map(|at| Le32(at * 4).get(raw)).collect();
            for &number in numbers.iter().filter(|&&number| number != 0) {
                if number < self.geo.first_ino || number > self.geo.inodes {
                    return corrupt();
                }
                self.finish_cut(number)?;
            }
            let seed = crc32c(file.seed(&self.geo), &block.to_le_bytes());
            let sums = self.geo.all_checksums();
            self.operation(|volume| {
                let raw = volume.meta.modify(block, Seal::None)?;
                raw[..size - 8].fill(0);
                if sums {
                    let crc = crc32c(seed, &raw[..size - 8]);
                    Le32(size - 4).set(raw, crc);
                }
                Ok(())
            })?;
        }
        self.geo.ro_compat &= !ro_compat::ORPHAN_PRESENT;
        self.operation(|volume| {
            volume.edit_superblock(|raw| {
                let features = sb::FEATURE_RO_COMPAT.get(raw) & !ro_compat::ORPHAN_PRESENT;
                sb::FEATURE_RO_COMPAT.set(raw, features);
            })
        })
    }
}
