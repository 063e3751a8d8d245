//! Device models as pure functions of their accesses.
//!
//! A model is told of an [`Access`] and answers with an
//! [`Outcome`]; it reaches guest memory through [`Dma`](dma::Dma), raises
//! interrupts through [`IrqLine`](irq::IrqLine) and [`MsiSink`](irq::MsiSink), and touches the
//! host only through small back-end traits ([`backend`]). There are no threads, file descriptors
//! or hypervisor types in here, so that one model serves the VMM, a unit test, the fuzzer, and a
//! test that pairs it with the guest's own driver logic.
//!
//! ```text
//!   vCPU exit ----> bus::Bus ----> Device / PciDevice ----> backend
//!                      |                |    \
//!                      v                v     `--> Dma, IrqLine, MsiSink
//!                  trace::Event <--- trace::Tracer
//! ```
//!
//! Whatever a guest does is data: a mistake is a [`GuestError`] in the
//! outcome and in the trace, never a panic, and one call does a bounded amount of work.
#![forbid(unsafe_code)]

pub mod ahci;
pub mod backend;
pub mod bus;
pub mod chipset;
pub mod device;
pub mod dma;
pub mod e1000;
pub mod fault;
pub mod iommu;
pub mod irq;
pub mod net;
pub mod pci;
pub mod random;
pub mod rtc;
pub mod strict;
pub mod testing;
pub mod trace;
pub mod uart;
pub mod virtio;

pub use device::{Access, Action, Device, GuestError, Outcome};
