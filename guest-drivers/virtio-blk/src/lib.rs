//! virtio block device driver (VIRTIO 1.2 section 5.2).
//!
//! ```text
//! clients' shared rings --> service::Service --> disk::Disk --> xinim_virtio::{Queue, Transport}
//!   (services::block)        checks, fairness     requests,       descriptors, registers
//!                                                 recovery
//! ```
//! This library is the driver's logic: no system calls, no `unsafe`, over the traits of
//! `xinim_driver_kit`. `main.rs` is the server around it.
//!
//! Not here: discard, write zeroes, several queues.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod disk;
pub mod ring;
pub mod service;

pub use disk::{Disk, Info, Operation};
pub use service::Service;
