//! Device registers.

use alloc::rc::Rc;

/// A block of device registers (a memory BAR). Every access is one bus access of exactly that
/// width, in program order, never repeated or merged by the compiler.
///
/// # Panics
/// An access beyond [`len`](Self::len) or not aligned to its width is a bug of the driver.
pub trait Mmio {
    /// Bytes.
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    fn read8(&self, offset: usize) -> u8;
    fn read16(&self, offset: usize) -> u16;
    fn read32(&self, offset: usize) -> u32;
    fn read64(&self, offset: usize) -> u64;
    fn write8(&self, offset: usize, value: u8);
    fn write16(&self, offset: usize, value: u16);
    fn write32(&self, offset: usize, value: u32);
    fn write64(&self, offset: usize, value: u64);
}

/// Part of a register block; several regions may share one block.
#[derive(Debug)]
pub struct Region<M> {
    block: Rc<M>,
    offset: usize,
    len: usize,
}

impl<M> Clone for Region<M> {
    fn clone(&self) -> Self {
        Self { block: Rc::clone(&self.block), offset: self.offset, len: self.len }
    }
}

impl<M: Mmio> Region<M> {
    /// `len` bytes from `offset` of `block`; `None` if they do not all lie in it.
    pub fn new(block: Rc<M>, offset: usize, len: usize) -> Option<Self> {
        let end = offset.checked_add(len)?;
        (end <= block.len()).then_some(Self { block, offset, len })
    }

    fn at(&self, offset: usize, width: usize) -> usize {
        assert!(
            offset.checked_add(width).is_some_and(|end| end <= self.len),
            "register {offset:#x}"
        );
        self.offset + offset
    }
}

macro_rules! forward {
    ($($read:ident $write:ident $ty:ty;)*) => {$(
        fn $read(&self, offset: usize) -> $ty {
            self.block.$read(self.at(offset, size_of::<$ty>()))
        }
        fn $write(&self, offset: usize, value: $ty) {
            self.block.$write(self.at(offset, size_of::<$ty>()), value);
        }
    )*};
}

impl<M: Mmio> Mmio for Region<M> {
    fn len(&self) -> usize {
        self.len
    }
    forward! {
        read8 write8 u8;
        read16 write16 u16;
        read32 write32 u32;
        read64 write64 u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeMmio;

    #[test]
    fn a_region_is_a_window_of_its_block() {
        let block = Rc::new(FakeMmio::new(64));
        let region = Region::new(Rc::clone(&block), 16, 8).unwrap();
        region.write32(4, 0x1234_5678);
        assert_eq!(block.read32(20), 0x1234_5678);
        assert_eq!(region.read16(6), 0x1234);
        assert!(Region::new(Rc::clone(&block), 60, 8).is_none());
        assert!(Region::new(block, usize::MAX, 8).is_none());
    }

    #[test]
    #[should_panic(expected = "register 0x8")]
    fn outside_the_window_is_a_bug() {
        let region = Region::new(Rc::new(FakeMmio::new(64)), 0, 8).unwrap();
        region.read8(8);
    }
}
