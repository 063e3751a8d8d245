//! FAT12, FAT16 and FAT32 behind the `fs` interface: the logic, without system calls.
//!
//! ```text
//! Fat: FileSystem ── nodes (inode number <-> parent and name) ── volume (lamfat, open files)
//!                                                                  │
//!                                          device: lamfat's storage over the block cache
//! ```
//! FAT has no inode numbers, no permissions, no links and no files without a name. Here
//! * an inode number stands for a place in the tree, given out at first sight and kept while VFS
//!   holds it, across renames;
//! * a file that is removed while held moves to a hidden name in the root and goes at its release
//!   (or at the next mount, after a crash);
//! * moving a directory to another parent makes it anew there and moves what is in it, because the
//!   crate underneath leaves `..` pointing to the old parent;
//! * holes are filled with zeros, times have steps of two seconds and count as UTC.
//!
//! Names that begin beyond ASCII can be read but not made (see `directory::new_name`).
//!
//! Nothing is durable before `sync` or `fsync`; until then the volume is marked dirty.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod codepage;
mod device;
mod directory;
mod fat;
mod nodes;
mod time;
mod volume;

#[cfg(test)]
mod tests;

pub use fat::Fat;
