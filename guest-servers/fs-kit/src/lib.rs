//! What every file-system server and VFS share.
//!
//! ```text
//!   VFS core ── FileSystem ── remote::Remote ══ fs messages + window ══ serve::Serve ── FileSystem ── format
//! ```
//! * [`FileSystem`]: the operations, as a trait. A server implements it; VFS is generic over it. So a
//!   host test can put VFS straight on top of a server's logic, with no messages between.
//! * [`serve`]: turns messages of `services::fs` into calls of the trait (server side).
//! * [`remote`]: the trait made of messages (VFS side).
//! * [`conformance`]: what must hold of every file system; run by each server's host tests.
//!
//! No system calls here: memory and message passing come through [`Window`] and
//! [`remote::Transport`].
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod conformance;
mod entries;
mod filesystem;
pub mod remote;
pub mod serve;
mod transfer;

pub use entries::{DirBuffer, Entry, entries};
pub use filesystem::{FileSystem, Ino, Map, MountInfo, NewFile, SetAttributes, check_name};
pub use transfer::{Sink, Source, Window};
