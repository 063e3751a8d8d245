//! FAT12, FAT16 and FAT32 behind the `fs` interface: the logic, without system calls.
//!
//! ```text
//! Fat: FileSystem ── nodes (inode number <-> parent and name) ── volume (lamfat, open files)
//!                    names (making and moving)                     │
//!                      └ raw: directory slots, chains ─────────── device: our storage as lamfat's
//! check   fsck: chains, directories, what no file has        format   mkfs
//! ```
//! FAT has no inode numbers, no permissions, no links and no files without a name. Here
//! * an inode number stands for a place in the tree, given out at first sight and kept while VFS
//!   holds it, across renames;
//! * a file that is removed while held moves to a hidden name in the root and goes at its release
//!   (or at the next mount, after a crash);
//! * holes are filled with zeros, times have steps of two seconds and count as UTC.
//!
//! Nothing is durable before `sync` or `fsync`. From mount to unmount the volume is marked as in use;
//! one that is found so at a mount for writing is repaired first.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod check;
mod codepage;
mod device;
mod directory;
mod fat;
pub mod format;
mod names;
mod nodes;
mod raw;
mod time;
mod volume;

#[cfg(test)]
mod tests;

pub use fat::Fat;
