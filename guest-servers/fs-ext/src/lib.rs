//! ext2, ext3 and ext4 behind the `fs` interface: the logic, without system calls.
//!
//! ```text
//!   Ext: FileSystem ── names ── dir, htree ─┐
//!                   └─ file ─── extents | indirect ── alloc_blocks ── groups ─┐
//!                                └─ orphan, inode ─── alloc_inodes ───────────┤
//!                                                                           meta (buffers, undo)
//!   volume: mount, operations, commit ── journal, recovery ─────────────────┬─┘
//!                                                                         device
//! ```
//! What it is: its own implementation of the on-disk format, written against the format's
//! documentation and checked against e2fsprogs. Metadata changes go through the journal where there
//! is one, data are on the disk before the commit that names them (ordered mode).
//!
//! Limits: extended attributes are kept but not shown; blocks reserved for root are given to everyone;
//! new directories of more than one block are indexed only if the volume has the feature; fast commits,
//! case folding and encryption are not supported; volumes with inline data, bigalloc, quotas, shared
//! attribute inodes, multi-mount protection or verity are mounted read-only.
//!
//! Everything read from the disk is checked before it is used: an error of a mount or of one
//! operation, never a panic, an endless loop or unbounded memory.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
#[macro_use]
extern crate std;

mod alloc_blocks;
mod alloc_inodes;
pub mod check;
mod checksum;
mod dir;
mod ext;
mod extents;
mod file;
pub mod format;
mod groups;
mod hash;
mod htree;
mod indirect;
mod inline;
mod inode;
mod journal;
mod kept;
mod layout;
mod meta;
mod names;
mod orphan;
mod recovery;
mod superblock;
mod volume;

pub use ext::{Ext, OpenAccount, OpenDevice};
pub use volume::Surroundings;

#[cfg(test)]
mod tests;
