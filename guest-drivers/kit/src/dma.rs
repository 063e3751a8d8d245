//! DMA memory: what a device reads and writes by itself.
//!
//! ```text
//!            allocate(len, constraints)                 drop
//! Dma  ------------------------------->  DmaBuffer  ---------->  unpinned, freed
//!                                          |  device_address(at) -> Segment
//!                                          |  SharedMemory: copies in and out
//! ```
//! A buffer obeys its constraints from the moment it exists: there is no bouncing later. Two kinds
//! of use:
//! * *coherent* (rings, descriptors): both sides touch it all the time, through the acquire and
//!   release accesses of [`SharedMemory`];
//! * *streaming* (data): one side owns it at a time, see [`transfer`](crate::transfer).

use crate::memory::SharedMemory;
use core::cell::Cell;
use xinim_abi::error::{Error, Result};

/// A run of memory as the device sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Device address (guest-physical, or translated by an IOMMU).
    pub address: u64,
    /// Bytes.
    pub len: u32,
}

/// What a buffer must fulfil; checked and honoured at allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Constraints {
    /// Alignment of the device address, a power of two up to 4096.
    pub align: usize,
    /// One run of device addresses.
    pub contiguous: bool,
    /// Highest device address any byte may have.
    pub max_address: u64,
    /// No run of device addresses crosses a multiple of this, a power of two from 4096; 0: any may.
    /// A contiguous buffer is one run, so it is at most this long.
    pub boundary: u64,
}

impl Constraints {
    /// Contiguous, page-aligned, anywhere.
    pub const RING: Self =
        Self { align: 4096, contiguous: true, max_address: u64::MAX, boundary: 0 };
    /// Any pages anywhere.
    pub const DATA: Self = Self { align: 1, contiguous: false, max_address: u64::MAX, boundary: 0 };

    /// The same, reachable with 32-bit addresses.
    pub const fn below_4g(mut self) -> Self {
        self.max_address = 0xFFFF_FFFF;
        self
    }

    /// The same, reachable with 24-bit addresses (ISA).
    pub const fn below_16m(mut self) -> Self {
        self.max_address = 0xFF_FFFF;
        self
    }

    /// The same with runs that cross no multiple of `boundary`.
    pub const fn within(mut self, boundary: u64) -> Self {
        self.boundary = boundary;
        self
    }

    /// `Inval` where nobody could fulfil them.
    pub fn check(&self, len: usize) -> Result<()> {
        let bounded = self.boundary == 0
            || self.boundary.is_power_of_two()
                && self.boundary >= 4096
                && (!self.contiguous || len as u64 <= self.boundary);
        let sane = len > 0 && self.align.is_power_of_two() && self.align <= 4096;
        (sane && bounded).then_some(()).ok_or(Error::Inval)
    }

    /// How much of a run of `len` bytes at `address` comes before the boundary.
    pub fn up_to_boundary(&self, address: u64, len: u64) -> u64 {
        match self.boundary {
            0 => len,
            boundary => len.min(boundary - address % boundary),
        }
    }
}

/// Makes buffers for one device.
pub trait Dma {
    type Buffer: DmaBuffer;

    /// At least `len` bytes, zeroed. `NoMem`; `Inval` for constraints nobody can fulfil.
    fn allocate(&self, len: usize, constraints: Constraints) -> Result<Self::Buffer>;

    fn statistics(&self) -> DmaStatistics;
}

/// Memory pinned for a device; released when dropped, which the owner does only when the device
/// no longer uses it (completed, or reset).
pub trait DmaBuffer: SharedMemory {
    /// The device's address of byte `at` and how many bytes follow it without a gap (at most up
    /// to the end).
    fn device_address(&self, at: usize) -> Segment;
}

impl<B: DmaBuffer> DmaBuffer for alloc::rc::Rc<B> {
    fn device_address(&self, at: usize) -> Segment {
        (**self).device_address(at)
    }
}

/// Counters of a [`Dma`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DmaStatistics {
    /// Buffers and bytes that exist now.
    pub buffers: u64,
    pub bytes: u64,
    /// The most bytes there ever were.
    pub peak_bytes: u64,
    /// Since the start.
    pub allocations: u64,
    pub failures: u64,
}

/// Keeps [`DmaStatistics`]; shared between a `Dma` and its buffers.
#[derive(Debug, Default)]
pub struct DmaCounter(Cell<DmaStatistics>);

impl DmaCounter {
    pub fn allocated(&self, bytes: usize) {
        let mut now = self.0.get();
        now.buffers += 1;
        now.bytes += bytes as u64;
        now.peak_bytes = now.peak_bytes.max(now.bytes);
        now.allocations += 1;
        self.0.set(now);
    }

    pub fn failed(&self) {
        let mut now = self.0.get();
        now.failures += 1;
        self.0.set(now);
    }

    pub fn freed(&self, bytes: usize) {
        let mut now = self.0.get();
        now.buffers -= 1;
        now.bytes -= bytes as u64;
        self.0.set(now);
    }

    pub fn get(&self) -> DmaStatistics {
        self.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_constraints_are_refused() {
        assert!(Constraints::RING.check(0).is_err());
        assert!(Constraints { align: 3, ..Constraints::DATA }.check(1).is_err());
        assert!(Constraints { align: 8192, ..Constraints::DATA }.check(1).is_err());
        assert!(Constraints::RING.within(65536).check(65536).is_ok());
        assert!(Constraints::RING.within(65536).check(65537).is_err());
        assert!(Constraints::DATA.within(65536).check(65537).is_ok());
        assert!(Constraints::DATA.within(5000).check(1).is_err());
        assert!(Constraints::DATA.within(512).check(1).is_err());
    }

    #[test]
    fn a_run_is_cut_at_the_boundary() {
        let cut = Constraints::DATA.within(65536);
        assert_eq!(cut.up_to_boundary(0x1_F000, 0x3000), 0x1000);
        assert_eq!(cut.up_to_boundary(0x2_0000, 0x3000), 0x3000);
        assert_eq!(Constraints::DATA.up_to_boundary(0x1_F000, 0x3000), 0x3000);
    }
}
