//! `/proc` as a file system: text made at the moment it is read.
//!
//! ```text
//! /proc/<pid>/{name,status}     kernel: INFO Process
//! /proc/{meminfo,uptime,stat,interrupts,cmdline,version}
//! /proc/{services,history,pci}  RS: LIST, HISTORY, FUNCTIONS
//! /proc/{diskstats,disks}       block drivers: Info, Limits, Identity, Statistics
//! ```
//! A reader that reads on (offset above 0) gets the rest of the text of its first read, so that
//! one file read in pieces is of one moment. Names come and go by themselves, so VFS is told not to
//! remember them (`mounted::VOLATILE`). VFS calls procfs, so procfs must not call VFS: the mount
//! table is not here (`mount` asks VFS itself).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod disks;
mod procfs;
mod text;

pub use disks::DiskReport;
pub use procfs::{ProcFs, System};

#[cfg(test)]
mod procfs_tests;
