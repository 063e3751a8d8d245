//! The virtual file system: one tree of names over several file-system servers.
//!
//! ```text
//! server, dispatch   messages, windows, requests that wait or are parked
//!   └ vfs::Vfs       one worker's view: owning mounts, asking file systems, their deaths
//!       ├ names, attributes, open, data, path     operations of a process
//!       └ state::State
//!           ├ tree       nodes: names looked up so far, each with the server's inode number
//!           ├ mounts     which file system stands where
//!           ├ files      open files (position, flags), shared by descriptors
//!           ├ process    descriptor tables, working directories, credentials (access)
//!           ├ pipe, pump pipes, named pipes       locks, locking   file locks
//!           ├ polling    who waits for events     sharing          files in memory
//!           └ keeping    what outlives VFS, and how the next instance goes on: restoring, intents
//! Host               what the surroundings give: file-system servers, windows, replies
//! ```
//! * VFS is the only client of a file system, so what it looked up stays true until it changes it
//!   itself: nodes are remembered, and most paths resolve without a message.
//! * **State lives here, not in the servers.** An open file is a node (a name in a tree) and a
//!   position. When a server dies, its mount gets a new generation; each node finds its inode number
//!   again, by its name, when it is next used. A file that had no name any more is `Stale`.
//! * VFS never waits for a client or a character device: pipe and lock requests keep their reply
//!   token, devices are `Redirect`ed. A worker waits for a file system, others go on.
//!
//! Not here: bind mounts, directory-change events, access lists.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod access;
mod attributes;
mod data;
mod dispatch;
mod files;
mod intents;
mod keeping;
mod locking;
mod locks;
mod losses;
mod mounting;
mod mounts;
mod names;
mod open;
mod path;
mod pipe;
mod polling;
mod process;
mod pump;
mod restoring;
pub mod server;
mod sharing;
mod slab;
mod state;
#[cfg(test)]
mod tests;
mod tree;
mod vfs;
pub mod workers;

pub use access::Credentials;
pub use attributes::Target;
pub use data::Transfer;
pub use keeping::has_state;
pub use locking::Locking;
pub use mounts::ServerName;
pub use server::Server;
pub use vfs::{Host, QUICK_TURNS, Vfs};
pub use xinim_fs_kit::{FileSystem, conformance};
