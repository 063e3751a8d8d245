//! What every driver needs, as traits: registers ([`mmio`]), memory shared with a device
//! ([`memory`], [`dma`], [`carve`]), scatter-gather lists ([`sg`]), small-block pools ([`pool`]), ownership
//! hand-over ([`transfer`]), time ([`clock`], [`deadline`]), events for a trace ([`trace`]) and the PCI function it drives ([`pci`]).
//!
//! Driver *logic* is written over these traits and nothing else: no system calls, no `unsafe`.
//! So the same logic runs in its driver process (the crate `xinim-driver-rt` implements the
//! traits there), in unit tests over the fakes of `testing`, and face to face with our own
//! device models in one host process.
//!
//! Two rules hold throughout:
//! * what a device wrote is untrusted: read it once, into a local, and judge the copy;
//! * an offset out of range is a bug of the driver and panics, like a slice index; so offsets and
//!   lengths that come from a device are checked before they are used as such.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod carve;
pub mod clock;
pub mod deadline;
pub mod dma;
pub mod memory;
pub mod mmio;
pub mod pci;
pub mod pool;
pub mod sg;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod trace;
pub mod transfer;

pub use carve::{Carver, Slice};
pub use clock::{Clock, wait_until};
pub use dma::{Constraints, Dma, DmaBuffer, Segment};
pub use memory::SharedMemory;
pub use mmio::{Mmio, Region};
pub use sg::SgList;
