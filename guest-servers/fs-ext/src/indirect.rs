//! Block maps of ext2 and ext3: twelve blocks, then blocks of block numbers, one to three levels.
//!
//! A level is never followed deeper than its kind says, so a block that names itself costs three
//! steps. Cutting goes from the end: one block of numbers at a time, its entries cleared as their blocks
//! are freed, so that each step leaves a sound file.

use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};

use crate::file::Run;
use crate::groups::corrupt;
use crate::inode::Inode;
use crate::layout::Le32;
use crate::meta::Seal;
use crate::volume::Volume;

const DIRECT: u64 = 12;

fn slot(index: u64) -> Le32 {
    Le32(index as usize * 4)
}

impl Volume<'_> {
    fn per_block(&self) -> u64 {
        self.geo.block_size as u64 / 4
    }

    /// Blocks that such a map can name.
    pub fn indirect_max(&self) -> u64 {
        let per = self.per_block();
        DIRECT + per + per * per + per * per * per
    }

    /// Slot of the inode and index in each level below it.
    fn indirect_way(&self, logical: u64) -> Result<(u64, Vec<u64>)> {
        if logical < DIRECT {
            return Ok((logical, Vec::new()));
        }
        let per = self.per_block();
        let (mut rest, mut span) = (logical - DIRECT, 1);
        for level in 1..=3_u64 {
            span *= per;
            if rest < span {
                let mut way = Vec::new();
                for _ in 0..level {
                    span /= per;
                    way.push(rest / span);
                    rest %= span;
                }
                return Ok((DIRECT + level - 1, way));
            }
            rest -= span;
        }
        Err(Error::FBig)
    }

    /// See [`Volume::map`].
    pub fn indirect_map(&mut self, inode: &Inode, logical: u64, most: u64) -> Result<Run> {
        let Ok((root, way)) = self.indirect_way(logical) else { return Ok(Run::hole(most)) };
        let per = self.per_block();
        let mut number = slot(root).get(inode.block());
        let mut raw = inode.block();
        let (mut at, mut end) = (root, DIRECT);
        for (level, &index) in way.iter().enumerate() {
            if number == 0 {
                // The rest of this branch is a hole.
                let span = per.pow((way.len() - level) as u32);
                let within = way[level..].iter().fold(0, |sum, &index| sum * per + index);
                return Ok(Run::hole(most.min(span - within)));
            }
            if !self.is_data(number.into(), 1) {
                return corrupt();
            }
            raw = self.meta.read(number.into(), Seal::None)?;
            number = slot(index).get(raw);
            (at, end) = (index, per);
        }
        let end = end.min(at.saturating_add(most));
        let mut len = 1;
        while at + len < end {
            let next = slot(at + len).get(raw);
            let goes_on =
                if number == 0 { next == 0 } else { u64::from(next) == u64::from(number) + len };
            if !goes_on {
                break;
            }
            len += 1;
        }
        if number == 0 {
            return Ok(Run::hole(len));
        }
        if !self.is_data(number.into(), len) {
            return corrupt();
        }
        Ok(Run { physical: Some(number.into()), len, unwritten: false })
    }

    /// See [`Volume::pieces`].
    pub fn indirect_pieces(&mut self, inode: &Inode, out: &mut Vec<(u64, u64)>) -> Result<()> {
        let mut add = |block: u32| match out.last_mut() {
            Some((start, len)) if *start + *len == u64::from(block) => *len += 1,
            _ => out.push((block.into(), 1)),
        };
        let mut left = Vec::new();
        for index in 0..DIRECT + 3 {
            let number = slot(index).get(inode.block());
            if number != 0 {
                add(number);
                if index >= DIRECT {
                    left.push((number, index - DIRECT));
                }
            }
        }
        // Three levels of blocks that all name each other would take for ever.
        let mut visited = 0;
        while let Some((block, below)) = left.pop() {
            visited += 1;
            if !self.is_data(block.into(), 1) || visited > self.geo.blocks {
                return corrupt();
            }
            for index in 0..self.per_block() {
                let raw = self.meta.read(block.into(), Seal::None)?;
                let number = slot(index).get(raw);
                if number != 0 {
                    add(number);
                    if below > 0 {
                        left.push((number, below - 1));
                    }
                }
            }
        }
        Ok(())
    }

    /// Maps `count` blocks from `physical` at `logical`, where there was a hole.
    pub fn indirect_insert(
        &mut self,
        inode: &mut Inode,
        logical: u64,
        physical: u64,
        count: u64,
    ) -> Result<()> {
        if physical + count > u32::MAX.into() {
            return Err(Error::FBig);
        }
        for step in 0..count {
            let (root, way) = self.indirect_way(logical + step)?;
            let number = (physical + step) as u32;
            let Some((&last, above)) = way.split_last() else {
                slot(root).set(inode.block_mut(), number);
                continue;
            };
            let mut block = slot(root).get(inode.block());
            if block == 0 {
                block = self.allocate_level(inode, physical)?;
                slot(root).set(inode.block_mut(), block);
            }
            for &index in above {
                if !self.is_data(block.into(), 1) {
                    return corrupt();
                }
                let mut next = slot(index).get(self.meta.read(block.into(), Seal::None)?);
                if next == 0 {
                    next = self.allocate_level(inode, physical)?;
                    slot(index).set(self.meta.modify(block.into(), Seal::None)?, next);
                }
                block = next;
            }
            if !self.is_data(block.into(), 1) {
                return corrupt();
            }
            slot(last).set(self.meta.modify(block.into(), Seal::None)?, number);
        }
        Ok(())
    }

    fn allocate_level(&mut self, inode: &mut Inode, goal: u64) -> Result<u32> {
        let (block, _) = self.allocate(inode.number, goal, 1)?;
        let number = u32::try_from(block).map_err(|_| Error::FBig)?;
        inode.add_blocks(&self.geo, 1)?;
        self.meta.fresh(block, Seal::None);
        Ok(number)
    }

    /// Frees the last stretch of blocks at or behind `from`: what one block of numbers names. False
    /// when nothing is mapped there any more.
    pub fn indirect_cut(&mut self, inode: &mut Inode, from: u64) -> Result<bool> {
        let per = self.per_block();
        for level in (1..=3_u32).rev() {
            let base = DIRECT + (1..level).map(|below| per.pow(below)).sum::<u64>();
            let root = slot(DIRECT + u64::from(level) - 1);
            let number = root.get(inode.block());
            if number == 0 || base + per.pow(level) <= from {
                continue;
            }
            let (freed, empty) = self.cut_branch(inode, number, level, base, from)?;
            if empty {
                root.set(inode.block_mut(), 0);
            }
            if freed || empty {
                return Ok(true);
            }
        }
        let mut freed = false;
        for index in (from.min(DIRECT)..DIRECT).rev() {
            let number = slot(index).get(inode.block());
            if number != 0 {
                self.free_file_blocks(inode, number, 1)?;
                slot(index).set(inode.block_mut(), 0);
                freed = true;
            }
        }
        Ok(freed)
    }

    fn free_file_blocks(&mut self, inode: &mut Inode, start: u32, count: u64) -> Result<()> {
        self.free(start.into(), count, inode.is_dir())?;
        inode.add_blocks(&self.geo, -(count as i64))
    }

    /// Cuts within the branch below `block`, whose first entry stands for block `base`. Whether
    /// something was freed, and whether the branch is gone.
    fn cut_branch(
        &mut self,
        inode: &mut Inode,
        block: u32,
        level: u32,
        base: u64,
        from: u64,
    ) -> Result<(bool, bool)> {
        if !self.is_data(block.into(), 1) {
            return corrupt();
        }
        let per = self.per_block();
        let span = per.pow(level - 1);
        let numbers: Vec<u32> = {
            let raw = self.meta.read(block.into(), Seal::None)?;
            (0..per).map(|index| slot(index).get(raw)).collect()
        };
        let first = from.saturating_sub(base) / span;
        let mut freed = false;
        if level == 1 {
            let mut index = per;
            while index > first {
                index -= 1;
                let number = numbers[index as usize];
                if number == 0 {
                    continue;
                }
                let mut start = index;
                while start > first
                    && u64::from(numbers[start as usize - 1]) + (index - start + 1) == number.into()
                {
                    start -= 1;
                }
                self.free_file_blocks(inode, numbers[start as usize], index - start + 1)?;
                let raw = self.meta.modify(block.into(), Seal::None)?;
                raw[start as usize * 4..=index as usize * 4 + 3].fill(0);
                freed = true;
                index = start;
            }
        } else {
            for index in (first..per).rev() {
                let number = numbers[index as usize];
                if number == 0 {
                    continue;
                }
                let below = base + index * span;
                let (some, gone) = self.cut_branch(inode, number, level - 1, below, from)?;
                if gone {
                    slot(index).set(self.meta.modify(block.into(), Seal::None)?, 0);
                }
                if some || gone {
                    freed = true;
                    break;
                }
            }
        }
        let raw = self.meta.read(block.into(), Seal::None)?;
        let empty = raw.iter().all(|&byte| byte == 0);
        if empty {
            self.free(block.into(), 1, true)?;
            inode.add_blocks(&self.geo, -1)?;
        }
        Ok((freed, empty))
    }
}
