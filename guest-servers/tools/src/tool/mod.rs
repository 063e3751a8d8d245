//! The tools, one file each; the very short ones together.

pub mod blkbench;
pub mod cat;
pub mod chmod;
pub mod copy;
pub mod dd;
pub mod diff;
pub mod du;
pub mod echo;
pub mod filesystems;
pub mod find;
pub mod grep;
pub mod hexdump;
pub mod kill;
pub mod link;
pub mod ls;
pub mod owner;
pub mod printf;
pub mod processes;
pub mod recoverbench;
pub mod remove;
pub mod service;
pub mod service_batch;
pub mod sha256sum;
pub mod simple;
pub mod spawn;
pub mod special;
pub mod stat;
pub mod tar;
pub mod test;
pub mod text;
pub mod tr;
pub mod workload;
pub mod xargs;

/// See [`crate::mode_change`].
pub fn mode_change(text: &str, old: u32) -> Option<u32> {
    chmod::change(text, old, false, 0)
}

/// Bytes moved at once: what one request to VFS can carry.
pub const BUFFER: usize = 128 * 1024;
