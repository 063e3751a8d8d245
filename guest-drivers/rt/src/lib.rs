//! The driver kit's traits as a driver process has them: a PCI function from its start block
//! ([`PciDevice`]), DMA memory pinned to it ([`RtDma`], [`PinnedMemory`]), the system clock.
//!
//! ```text
//! start block: DEVICE (DMA domain) --> RtDma, PinnedMemory --> DEVICE_PIN
//!              PCI (pci service, badged for this function) --> BARs, capabilities, interrupts
//! ```
//! The life of a driver: [`PciDevice::from_start`], reset the device, `reset_done`, make DMA
//! buffers, start the device, announce, serve. `reset_done` is a promise to the kernel that the
//! device does nothing of its predecessor's any more: only then is the memory that a dead instance
//! had pinned given back, and only then may this one pin its own.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod dma;
mod function;
mod grants;

pub use dma::{PinnedMemory, RtDma};
pub use function::{Interrupt, PciDevice, Registers};

use xinim_abi::error::Result;
use xinim_driver_kit::Clock;
use xinim_rt::standby;

/// To be called by a driver (`xinim_rt::program!(main, prepares)`) before it touches its device: where the
/// process was made ahead it gets ready, and waits for its turn. `heap`: bytes that the driver allocates
/// until it serves.
pub fn stand_by(device: &PciDevice, dma: &RtDma, heap: usize) -> Result<()> {
    // The same whether it was made ahead or not, so that both hold as much memory.
    standby::grow_heap(heap);
    if standby::is_spare() {
        device.prepare();
        dma.prepare();
    }
    standby::wait()
}

/// Time since boot, from the kernel information page.
#[derive(Clone, Copy, Debug, Default)]
pub struct RtClock;

impl Clock for RtClock {
    fn now_ns(&self) -> u64 {
        xinim_rt::time::now_ns()
    }
    fn pause(&self, ns: u64) {
        xinim_rt::time::sleep_ns(ns);
    }
    fn delay(&self, ns: u64) {
        let end = self.now_ns().saturating_add(ns);
        while self.now_ns() < end {
            core::hint::spin_loop();
        }
    }
}
