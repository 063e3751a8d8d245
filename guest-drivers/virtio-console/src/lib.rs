//! virtio console driver (VIRTIO 1.2 section 5.3), one port, and the guest's end of the host link that
//! runs over it.
//!
//! ```text
//! programs --chardev--> link::Link --frames--> port::Port --virtqueues--> host
//! init ----hostlink-->    |   ^                    |
//!                         |   `-- decoder::Decoder <-- bytes
//! ```
//! This library is the logic: no system calls, no `unsafe`. `main.rs` is the server around it.
//!
//! Not here: several ports at once, console size, emergency writes.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod control;
pub mod decoder;
pub mod link;
pub mod port;

pub use decoder::Decoder;
pub use link::{Link, World};
pub use port::Port;
