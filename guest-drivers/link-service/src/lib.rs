//! The link interface (`services::link`) for drivers: everything between the network server's rings and
//! a device that sends and receives frames.
//!
//! ```text
//! the server's memory --> service::Service --> device::LinkDevice (e1000, virtio-net)
//!   ring::Rings             checks, telling       frames out, buffers in, link state,
//!                                                 recovery
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

#[cfg(feature = "guest")]
pub mod server;

pub use device::{Events, Filter, Frame, LinkDevice, LinkInfo, Peek};
pub use service::Service;

#[cfg(test)]
mod tests;
