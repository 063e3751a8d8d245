//! `/dev` as a file system.
//!
//! ```text
//! null zero full random urandom      read and written here
//! console tty   log                  served by tty and log: `Redirect`
//! host/stdin host/stdout host/stderr served by virtio-console: `Redirect`
//! vda vda1 sda sr0 …                 raw access to a driver of class "block", uncached
//! disk/by-id/… by-uuid by-label by-partuuid      links to those
//! ```
//! Block devices are found by asking RS which drivers run, and those which units they have; both
//! tell when that changes. Partitions are found by reading their tables. Nothing can be created,
//! renamed or removed. Raw access reads and writes the device itself: reading a mounted one shows
//! what its file system has written back; writing it is refused by the driver (`Busy`).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod devfs;
mod disks;
mod random;
mod raw;
mod table;

pub use devfs::{DevFs, Platform};
pub use disks::UnitInfo;
pub use random::Random;
pub use raw::RawDisk;

#[cfg(test)]
mod devfs_tests;
#[cfg(test)]
mod raw_tests;
