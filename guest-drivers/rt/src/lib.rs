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

use xinim_driver_kit::Clock;

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
}
