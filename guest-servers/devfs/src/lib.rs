//! `/dev` as a file system.
//!
//! ```text
//! null zero full random urandom      read and written here
//! console tty   log                  served by tty and log: `Redirect`
//! host/stdin host/stdout host/stderr served by virtio-console: `Redirect`
//! vda vda1 …                         raw access to a driver of class "block", uncached
//! ```
//! Block devices are found by asking RS which drivers run; partitions by reading their tables.
//! Nothing can be created, renamed or removed. Raw access reads and writes the device itself, so it
//! agrees with a file system's own cache only while that is not mounted, or synced.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod devfs;
mod random;
mod raw;
mod table;

pub use devfs::{DevFs, Platform};
pub use random::Random;
pub use raw::RawDisk;

#[cfg(test)]
mod devfs_tests;
#[cfg(test)]
mod raw_tests;
