//! The block interface (`services::block`) for drivers: everything between the clients' rings and a
//! device that takes requests.
//!
//! ```text
//! clients' shared rings --> service::Service --> device::BlockDevice (virtio-blk, ahci)
//!   ring::Ring               checks, fairness,     requests in, completions out, units that
//!                            draining, telling     come and go, recovery
//!                            statistics
//! ```
//! The logic makes no system calls and runs in host tests; `server` (feature `guest`) is the process
//! around it, so that a driver's `main` only has to start its device.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod device;
pub mod ring;
pub mod service;
pub mod statistics;

#[cfg(feature = "guest")]
pub mod server;

pub use device::{BlockDevice, Completion, Limits, Operation, Request, Unit};
pub use service::Service;
