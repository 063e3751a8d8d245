//! ISO 9660 (ECMA-119) behind the `fs` interface, read-only: the logic, without system calls.
//!
//! ```text
//! Iso: FileSystem ── Volume      descriptors: which tree of names is used
//!                      └ record     directory records, dates
//!                      └ susp       what Rock Ridge adds to a record
//! ```
//! Of the trees of names that an image may hold the best is taken: Rock Ridge (long names, owners,
//! permissions, symbolic links, devices, deep directories), else Joliet (Unicode), else the plain one,
//! shown in lower case and without version numbers.
//!
//! An inode number is the byte offset of a directory record on the medium: of a directory the one
//! that is its `.`, of a file the (first) one that names it. So nothing is kept in memory.
//!
//! Limits: one volume (no sets), no sessions after the first, no compressed files (zisofs; `NotSup`),
//! files in interleaved or extended-attribute form are not read.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod fs;
mod record;
mod susp;
mod volume;

#[cfg(test)]
mod tests;

pub use fs::{Iso, OpenDevice};
