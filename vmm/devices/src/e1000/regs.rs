//! Storage of the registers.

use std::ops::{Index, IndexMut};
use xinim_abi::hw::e1000::{
    BAR_SIZE, BLOCKS, Model, REGISTERS, REGISTERS_8254X, REGISTERS_82574, reg,
};

/// All of BAR 0 as words, indexed by byte offset.
pub struct Regs(Box<[u32]>);

/// The 82574's packet buffer is of 40 KiB, one half for each direction; the 8254x' of 64.
const PBA_82574: u32 = 0x0014_0014;

impl Regs {
    /// Reset values.
    pub fn new(model: Model) -> Self {
        let mut regs = Self(vec![0; BAR_SIZE as usize / 4].into());
        let own = if model.is_82574() { REGISTERS_82574 } else { REGISTERS_8254X };
        for register in REGISTERS.iter().chain(own) {
            regs[register.offset] = register.reset as u32;
        }
        if model.is_82574() {
            regs[reg::PBA] = PBA_82574;
        }
        for block in BLOCKS {
            for register in block.table {
                for index in 0..block.count {
                    let at = block.first + index * block.stride + register.offset;
                    regs[at] = register.reset as u32;
                }
            }
        }
        regs
    }
}

impl Index<u32> for Regs {
    type Output = u32;
    fn index(&self, offset: u32) -> &u32 {
        &self.0[offset as usize / 4]
    }
}

impl IndexMut<u32> for Regs {
    fn index_mut(&mut self, offset: u32) -> &mut u32 {
        &mut self.0[offset as usize / 4]
    }
}
