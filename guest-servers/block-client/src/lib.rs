//! Client side of the block interface (`xinim_abi::services::block`).
//!
//! ```text
//! file system ── Cache ── Transport ══ ring in shared memory ══ block driver
//!                           │
//!                           └ disk::Disk (feature `guest`): attaches, waits, and when the driver
//!                             died attaches to the next instance and submits again
//! ```
//! * [`ring`]: the two rings in shared memory, the peer's indices distrusted;
//! * [`cache`]: write-back cache whose lines *are* the ring's data buffers, so that data moves
//!   between device and cache without a copy; merging, elevator, growing read-ahead, back-pressure;
//! * [`Storage`]: what file systems ask of a cache, or of an image in a test;
//! * [`partition`]: MBR and GPT tables; [`names`]: what /dev calls devices; [`probe`]: what file
//!   system a device holds.
//!
//! One cache serves one opened device or partition; two openings of the same sectors do not see
//! each other's dirty lines, which is why VFS refuses to mount a device twice.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod cache;
pub mod marks;
pub mod names;
pub mod partition;
pub mod probe;
pub mod ring;
mod storage;
mod transport;

#[cfg(feature = "guest")]
pub mod disk;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod partition_tests;

pub use cache::Cache;
pub use storage::{Storage, Watched};
pub use transport::{Info, Limits, Transport};
