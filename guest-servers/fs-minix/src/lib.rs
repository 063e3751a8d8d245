//! MINIX file systems, versions 1, 2 and 3, behind the `fs` interface: the logic, without system
//! calls.
//!
//! ```text
//! Minix: FileSystem ── Tree     names, links, renames, files without a name that somebody holds
//!                       └ Volume   inodes, zones of files, directories; the order of writes
//!                           └ Map     the two bitmaps
//!                           └ Storage (a cache in the server, an image in tests, a file in tools)
//! check::check      fsck: walks the tree and puts right what does not fit
//! format::format    mkfs
//! ```
//! Inode numbers are those of the disk. Nothing is durable before `sync` or `fsync`; `volume` says
//! what a power cut can and cannot do. Until it is unmounted the volume is marked as in use.
//!
//! Limits: little-endian volumes with zones of one block; files of up to 2 GiB (version 1: 256 MiB); times
//! are seconds, of which version 1 has one for each file; owners above 65,535 (groups of version 1
//! above 255) are not kept.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod check;
mod directory;
pub mod format;
mod fs;
mod layout;
mod maps;
mod tree;
mod volume;

#[cfg(test)]
mod tests;

pub use fs::{Minix, OpenDevice};
pub use layout::{Geometry, Version};
