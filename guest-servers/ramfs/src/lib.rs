//! A file system in memory: XINIM's root, filled from the system bundle (cpio newc).
//!
//! ```text
//! bundle ── cpio::Archive ──> RamFs ── inode table ── Node: directory | file | symbolic link
//!                                          file = base (bytes of the bundle, in place)
//!                                               + pages written since (4 KiB each) + size
//! ```
//! File data of the bundle is used where it lies and never copied; a page is copied when it is
//! first written. Unwritten programs can be mapped in place (`map`). All memory it takes is
//! counted against a budget, so that a full file system is `NoSpc` and never exhaustion.
//! Where RS keeps memory for it, a server that dies loses nothing: pages lie in kept chunks (`store`), and
//! account of everything else is in a journal (`kept`), committed before an operation is answered.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod cpio;
mod file;
mod inode;
mod kept;
mod load;
mod ramfs;
mod store;

pub use kept::{Account, KeptMemory};
pub use ramfs::{BUNDLE_SOURCE, Bundle, RamFs, Settings};

pub use store::{CHUNK, Chunks};

#[cfg(test)]
mod kept_tests;
#[cfg(test)]
mod ramfs_tests;
#[cfg(test)]
mod remote_tests;
