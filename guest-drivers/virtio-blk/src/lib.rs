//! virtio block device driver (VIRTIO 1.2 section 5.2).
//!
//! ```text
//! clients' shared rings --> xinim_block_service --> disk::Disk --> xinim_virtio::{Queue, Transport}
//!   (services::block)        checks, fairness        requests,      descriptors, registers
//!                                                    recovery
//! ```
//! This library is the driver's logic: no system calls, no `unsafe`, over the traits of
//! `xinim_driver_kit`. `main.rs` starts it and hands it to the block service's server.
//!
//! Not here: secure erase, zoned disks, setting the cache mode (it is taken as found).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod config;
pub mod disk;

pub use disk::{Disk, Vectors};
