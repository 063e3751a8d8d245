//! Several parts out of one DMA buffer. A buffer costs system calls and at least a page; a driver that
//! needs two rings and a table makes one buffer and cuts it up.

use crate::dma::{Constraints, Dma, DmaBuffer, Segment};
use crate::memory::SharedMemory;
use alloc::rc::Rc;
use xinim_abi::error::{Error, Result};

/// A buffer being cut up.
#[derive(Debug)]
pub struct Carver<B> {
    buffer: Rc<B>,
    next: usize,
}

impl<B: DmaBuffer> Carver<B> {
    /// A contiguous, page-aligned buffer of `len` bytes to cut.
    pub fn new<D: Dma<Buffer = B>>(dma: &D, len: usize) -> Result<Self> {
        Self::within(dma, len, Constraints::RING)
    }

    /// The same with other constraints; they hold for the whole buffer, alignment for its beginning.
    pub fn within<D: Dma<Buffer = B>>(
        dma: &D,
        len: usize,
        constraints: Constraints,
    ) -> Result<Self> {
        let constraints = Constraints { contiguous: true, ..constraints };
        Ok(Self { buffer: Rc::new(dma.allocate(len, constraints)?), next: 0 })
    }

    /// The next `len` bytes, their device address aligned to `align` (a power of two up to 4096).
    /// `NoMem` when the buffer is used up, `Inval` for an alignment that makes no sense.
    pub fn take(&mut self, len: usize, align: usize) -> Result<Slice<B>> {
        if len == 0 || !align.is_power_of_two() || align > 4096 {
            return Err(Error::Inval);
        }
        let offset = self.next.checked_next_multiple_of(align).ok_or(Error::NoMem)?;
        let end = offset.checked_add(len).ok_or(Error::NoMem)?;
        if end > self.buffer.len() {
            return Err(Error::NoMem);
        }
        self.next = end;
        Ok(Slice { buffer: Rc::clone(&self.buffer), offset, len })
    }
}

/// A part of a buffer; the buffer lives as long as any part.
#[derive(Debug)]
pub struct Slice<B> {
    buffer: Rc<B>,
    offset: usize,
    len: usize,
}

impl<B> Slice<B> {
    fn at(&self, at: usize, len: usize) -> usize {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "outside the slice");
        self.offset + at
    }
}

impl<B: DmaBuffer> SharedMemory for Slice<B> {
    fn len(&self) -> usize {
        self.len
    }
    fn read_bytes(&self, at: usize, out: &mut [u8]) {
        self.buffer.read_bytes(self.at(at, out.len()), out);
    }
    fn write_bytes(&self, at: usize, data: &[u8]) {
        self.buffer.write_bytes(self.at(at, data.len()), data);
    }
    fn load_u16(&self, at: usize) -> u16 {
        self.buffer.load_u16(self.at(at, 2))
    }
    fn load_u32(&self, at: usize) -> u32 {
        self.buffer.load_u32(self.at(at, 4))
    }
    fn store_u16(&self, at: usize, value: u16) {
        self.buffer.store_u16(self.at(at, 2), value);
    }
    fn store_u32(&self, at: usize, value: u32) {
        self.buffer.store_u32(self.at(at, 4), value);
    }
}

impl<B: DmaBuffer> DmaBuffer for Slice<B> {
    fn device_address(&self, at: usize) -> Segment {
        let run = self.buffer.device_address(self.at(at, 1));
        Segment { address: run.address, len: run.len.min((self.len - at) as u32) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeDma;

    #[test]
    fn parts_are_aligned_apart_and_keep_the_buffer() {
        let dma = FakeDma::new(1 << 16);
        let mut carver = Carver::new(&dma, 8192).unwrap();
        let first = carver.take(100, 16).unwrap();
        let second = carver.take(4096, 4096).unwrap();
        assert_eq!(carver.take(1, 1).err(), Some(Error::NoMem));
        assert_eq!(carver.take(0, 1).err(), Some(Error::Inval));
        assert_eq!(carver.take(1, 3).err(), Some(Error::Inval));
        drop(carver);
        let (a, b) = (first.device_address(0), second.device_address(0));
        assert_eq!((b.address % 4096, b.address - a.address), (0, 4096));
        assert_eq!((a.len, second.device_address(4000).len), (100, 96));
        first.write_bytes(96, b"last");
        let mut seen = [0; 4];
        second.read_bytes(0, &mut seen);
        assert_eq!(seen, [0; 4]);
        drop(first);
        assert_eq!(dma.statistics().buffers, 1);
        drop(second);
        assert_eq!(dma.statistics().buffers, 0);
    }

    #[test]
    #[should_panic(expected = "outside the slice")]
    fn a_part_does_not_reach_into_the_next() {
        let dma = FakeDma::new(1 << 16);
        let mut carver = Carver::new(&dma, 8192).unwrap();
        carver.take(100, 16).unwrap().write_bytes(98, b"abc");
    }
}
