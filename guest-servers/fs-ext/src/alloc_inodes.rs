//! Giving out and taking back inodes.
//!
//! Files and deep directories go to their parent's group, so that what is used together lies
//! together. Directories of the root are spread: to the emptiest group.

use alloc::vec;

use xinim_abi::error::{Error, Result};

use crate::groups::{bit, change, corrupt};
use crate::inode::Inode;
use crate::layout::{gd, inode};
use crate::meta::Seal;
use crate::volume::Volume;

impl Volume<'_> {
    /// Group and index within its table.
    pub fn inode_place(&self, number: u32) -> (u32, u32) {
        ((number - 1) / self.geo.inodes_per_group, (number - 1) % self.geo.inodes_per_group)
    }

    /// A new, empty inode below directory `parent`. `NoSpc` when there is none.
    pub fn allocate_inode(&mut self, parent: u32, directory: bool) -> Result<Inode> {
        let groups = self.geo.groups;
        let first = if directory && parent == inode::ROOT {
            self.emptiest_group()?
        } else {
            self.inode_place(parent).0
        };
        for step in 0..groups {
            let group = (first + step) % groups;
            if self.desc(group)?.free_inodes == 0 {
                continue;
            }
            let block = self.inode_bitmap(group)?;
            let per = self.geo.inodes_per_group;
            let from = if group == 0 { self.geo.first_ino - 1 } else { 0 };
            let bitmap = self.meta.read(block, Seal::None)?;
            // A number given back in this transaction may be used at once: its inode is written
            // with the same commit.
            let Some(index) = (from..per).find(|&index| !bit(bitmap, index)) else { continue };
            change(self.meta.modify(block, Seal::None)?, index, 1, true);
            if self.state.free_inodes == 0 {
                return corrupt();
            }
            self.state.free_inodes -= 1;
            self.update_desc(group, |desc| {
                desc.free_inodes -= 1;
                desc.used_dirs += u32::from(directory);
                desc.unused_inodes = desc.unused_inodes.min(per - 1 - index);
            })?;
            return self.blank_inode(group * per + index + 1);
        }
        Err(Error::NoSpc)
    }

    fn emptiest_group(&mut self) -> Result<u32> {
        let mut best = (0, 0);
        for group in 0..self.geo.groups {
            let desc = self.desc(group)?;
            let room = u64::from(desc.free_inodes).min(desc.free_blocks.into());
            if room > best.0 {
                best = (room, group);
            }
        }
        Ok(best.1)
    }

    /// An inode of zeros with the fields that each one has.
    pub fn blank_inode(&mut self, number: u32) -> Result<Inode> {
        let mut raw = vec![0; self.geo.inode_size];
        // A new generation, so that checksums of the number's former owner do not fit.
        self.generation = self.generation.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        inode::GENERATION.set(&mut raw, self.generation);
        if self.geo.inode_size > inode::SMALL {
            let most = (self.geo.inode_size - inode::SMALL) as u16;
            // 32 holds everything this code writes.
            let extra = if self.geo.want_extra == 0 { 32 } else { self.geo.want_extra };
            inode::EXTRA_ISIZE.set(&mut raw, extra.clamp(28, most.max(28)).min(most) & !3);
        }
        Ok(Inode { number, raw })
    }

    /// Takes an inode back; its blocks are free already.
    pub fn free_inode(&mut self, number: u32, directory: bool) -> Result<()> {
        let (group, index) = self.inode_place(number);
        if self.desc(group)?.has(gd::FLAG_INODE_UNINIT) {
            return corrupt();
        }
        let block = self.inode_bitmap(group)?;
        if !change(self.meta.modify(block, Seal::None)?, index, 1, false) {
            return corrupt();
        }
        let desc = self.desc(group)?;
        if desc.free_inodes >= self.geo.inodes_per_group || (directory && desc.used_dirs == 0) {
            return corrupt();
        }
        self.state.free_inodes += 1;
        self.update_desc(group, |desc| {
            desc.free_inodes += 1;
            desc.used_dirs -= u32::from(directory);
        })
    }
}
