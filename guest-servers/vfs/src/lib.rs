//! The virtual file system: one tree of names over several file-system servers.
//!
//! ```text
//! server::Server     messages, windows, waiting pipe requests
//!   └ Vfs            operations of a process: open, read, rename, mount …
//!       ├ tree       nodes: names looked up so far, each with the server's inode number
//!       ├ mounts     which file system stands where
//!       ├ files      open files (position, flags), shared by descriptors
//!       ├ processes  descriptor tables, working directories
//!       └ pipes      buffers
//! Host               what the surroundings give: file-system servers, windows, replies
//! ```
//! * VFS is the only client of a file system, so what it looked up stays true until it changes it
//!   itself: nodes are remembered, and most paths resolve without a message.
//! * **State lives here, not in the servers.** An open file is a node (a name in a tree) and a
//!   position. When a server dies, its mount gets a new generation; each node finds its inode number
//!   again, by its name, when it is next used. A file that had no name any more is `Stale`.
//! * VFS never waits for a client or a character device: pipe requests keep their reply token,
//!   devices are `Redirect`ed. It waits for file systems only.
//!
//! Not here: permissions (there are no users yet), byte-range locks, directory-change events.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod data;
mod files;
mod mounting;
mod mounts;
mod names;
mod open;
mod path;
mod pipe;
mod process;
mod pump;
pub mod server;
mod slab;
#[cfg(test)]
mod tests;
mod tree;
mod vfs;

pub use data::Transfer;
pub use server::Server;
pub use vfs::{Host, Vfs};
pub use xinim_fs_kit::{FileSystem, conformance};
