//! Small DMA blocks of one size out of one buffer, in constant time and without system calls.

use crate::dma::{Constraints, Dma, DmaBuffer, Segment};
use crate::memory::SharedMemory;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use xinim_abi::error::{Error, Result};

#[derive(Debug)]
struct Shared<B> {
    buffer: B,
    /// Indices of free blocks; the one freed last is used first, while it is in the cache.
    free: RefCell<Vec<u16>>,
    block: usize,
    count: u16,
}

/// A pool of equal blocks.
#[derive(Debug)]
pub struct Pool<B>(Rc<Shared<B>>);

impl<B: DmaBuffer> Pool<B> {
    /// `count` blocks of `len` bytes, each aligned to `align` (a power of two up to 4096). Blocks
    /// are contiguous for the device. `Inval` for sizes that make no sense, `NoMem`.
    pub fn new<D: Dma<Buffer = B>>(dma: &D, len: usize, align: usize, count: u16) -> Result<Self> {
        if len == 0 || count == 0 || !align.is_power_of_two() || align > 4096 {
            return Err(Error::Inval);
        }
        let block = len.checked_next_multiple_of(align).ok_or(Error::Inval)?;
        let total = block.checked_mul(usize::from(count)).ok_or(Error::Inval)?;
        let buffer = dma.allocate(total, Constraints { align, ..Constraints::RING })?;
        let free = RefCell::new((0..count).rev().collect());
        Ok(Self(Rc::new(Shared { buffer, free, block, count })))
    }

    /// A free block with whatever it held before; `None` when all are in use. Constant time.
    pub fn take(&self) -> Option<Block<B>> {
        let index = self.0.free.borrow_mut().pop()?;
        Some(Block { pool: Rc::clone(&self.0), index })
    }

    /// Blocks not in use.
    pub fn available(&self) -> usize {
        self.0.free.borrow().len()
    }

    pub fn capacity(&self) -> usize {
        usize::from(self.0.count)
    }
}

/// A block of a [`Pool`]; goes back when dropped.
#[derive(Debug)]
pub struct Block<B> {
    pool: Rc<Shared<B>>,
    index: u16,
}

impl<B> Drop for Block<B> {
    fn drop(&mut self) {
        self.pool.free.borrow_mut().push(self.index);
    }
}

impl<B: DmaBuffer> Block<B> {
    fn at(&self, at: usize, len: usize) -> usize {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.pool.block), "outside the block");
        usize::from(self.index) * self.pool.block + at
    }
}

impl<B: DmaBuffer> SharedMemory for Block<B> {
    fn len(&self) -> usize {
        self.pool.block
    }
    fn read_bytes(&self, at: usize, out: &mut [u8]) {
        self.pool.buffer.read_bytes(self.at(at, out.len()), out);
    }
    fn write_bytes(&self, at: usize, data: &[u8]) {
        self.pool.buffer.write_bytes(self.at(at, data.len()), data);
    }
    fn load_u16(&self, at: usize) -> u16 {
        self.pool.buffer.load_u16(self.at(at, 2))
    }
    fn load_u32(&self, at: usize) -> u32 {
        self.pool.buffer.load_u32(self.at(at, 4))
    }
    fn store_u16(&self, at: usize, value: u16) {
        self.pool.buffer.store_u16(self.at(at, 2), value);
    }
    fn store_u32(&self, at: usize, value: u32) {
        self.pool.buffer.store_u32(self.at(at, 4), value);
    }
}

impl<B: DmaBuffer> DmaBuffer for Block<B> {
    fn device_address(&self, at: usize) -> Segment {
        let run = self.pool.buffer.device_address(self.at(at, 1));
        Segment { address: run.address, len: run.len.min((self.pool.block - at) as u32) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeDma;

    #[test]
    fn blocks_are_aligned_apart_and_come_back() {
        let dma = FakeDma::new(1 << 16);
        let pool = Pool::new(&dma, 100, 64, 8).unwrap();
        let blocks: Vec<_> = core::iter::from_fn(|| pool.take()).collect();
        assert_eq!((blocks.len(), pool.available()), (8, 0));
        let mut addresses: Vec<u64> = blocks.iter().map(|b| b.device_address(0).address).collect();
        addresses.sort_unstable();
        assert!(addresses.iter().all(|a| a % 64 == 0));
        assert!(addresses.windows(2).all(|w| w[1] - w[0] >= 100));
        assert_eq!(blocks[0].device_address(28).len, 100);
        blocks[3].write_bytes(0, b"three");
        let mut seen = [0; 5];
        blocks[3].read_bytes(0, &mut seen);
        assert_eq!(&seen, b"three");
        drop(blocks);
        assert_eq!(pool.available(), 8);
        drop(pool);
        assert_eq!(dma.statistics().buffers, 0);
    }

    #[test]
    fn impossible_pools_are_refused() {
        let dma = FakeDma::new(1 << 16);
        assert_eq!(Pool::new(&dma, 0, 1, 1).err(), Some(Error::Inval));
        assert_eq!(Pool::new(&dma, 1, 3, 1).err(), Some(Error::Inval));
        assert_eq!(Pool::new(&dma, 1, 1, 0).err(), Some(Error::Inval));
        assert_eq!(Pool::new(&dma, usize::MAX, 4096, 2).err(), Some(Error::Inval));
        assert_eq!(Pool::new(&dma, 1 << 20, 64, 1).err(), Some(Error::NoMem));
    }
}
