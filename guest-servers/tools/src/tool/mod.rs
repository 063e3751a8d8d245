//! The tools, one file each; the very short ones together.

pub mod blkbench;
pub mod cat;
pub mod chmod;
pub mod copy;
pub mod dd;
pub mod echo;
pub mod filesystems;
pub mod grep;
pub mod hexdump;
pub mod kill;
pub mod link;
pub mod ls;
pub mod printf;
pub mod processes;
pub mod remove;
pub mod service;
pub mod sha256sum;
pub mod simple;
pub mod spawn;
pub mod stat;
pub mod test;
pub mod text;
pub mod tr;

/// Bytes moved at once: what one request to VFS can carry.
pub const BUFFER: usize = 128 * 1024;
