//! Who owns a streaming buffer: the CPU or the device, as two types.
//!
//! ```text
//!            hand_over(self)              take_back(self)
//! Idle<B>  ------------------>  InFlight<B>  ------------------>  Idle<B>
//! read, write                   device address only               read, write
//! ```
//! Handing over fences what the CPU wrote before the device is told; taking back fences the
//! device's writes before the CPU reads. While the device has the buffer there is nothing to read
//! or write here, so a driver cannot race with it by mistake; and dropping it then would free
//! memory under the device, so an [`InFlight`] that is dropped leaks the buffer instead.

use crate::dma::{DmaBuffer, Segment};
use core::mem::ManuallyDrop;
use core::sync::atomic::{Ordering, fence};

/// A buffer the CPU owns.
#[derive(Debug)]
pub struct Idle<B>(B);

/// A buffer the device owns.
#[derive(Debug)]
pub struct InFlight<B>(ManuallyDrop<B>);

impl<B: DmaBuffer> Idle<B> {
    pub fn new(buffer: B) -> Self {
        Self(buffer)
    }

    /// Copies out of the buffer; see [`SharedMemory::read_bytes`](crate::SharedMemory).
    pub fn read(&self, at: usize, out: &mut [u8]) {
        self.0.read_bytes(at, out);
    }

    pub fn write(&mut self, at: usize, data: &[u8]) {
        self.0.write_bytes(at, data);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The device may use it from now on.
    pub fn hand_over(self) -> InFlight<B> {
        fence(Ordering::Release);
        InFlight(ManuallyDrop::new(self.0))
    }
}

impl<B: DmaBuffer> InFlight<B> {
    pub fn device_address(&self, at: usize) -> Segment {
        self.0.device_address(at)
    }

    /// The device has finished with it: it said so, or it was reset.
    pub fn take_back(self) -> Idle<B> {
        fence(Ordering::Acquire);
        Idle(ManuallyDrop::into_inner(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dma::{Constraints, Dma};
    use crate::testing::FakeDma;

    #[test]
    fn memory_of_a_forgotten_transfer_is_never_freed() {
        let dma = FakeDma::new(1 << 16);
        let mut buffer = Idle::new(dma.allocate(4096, Constraints::DATA).unwrap());
        buffer.write(0, b"x");
        let back = buffer.hand_over().take_back();
        let mut seen = [0];
        back.read(0, &mut seen);
        assert_eq!(&seen, b"x");
        drop(back);
        assert_eq!(dma.statistics().buffers, 0);
        Idle::new(dma.allocate(4096, Constraints::DATA).unwrap()).hand_over();
        assert_eq!(dma.statistics().buffers, 1);
    }
}
