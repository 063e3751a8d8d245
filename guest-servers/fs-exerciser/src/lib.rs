//! Random operations on a file system, each compared with a model in memory: fsx and fsstress in
//! one.
//!
//! ```text
//! Exercise ── Model      what must be: a tree of names over files with all their bytes
//!     └────── Target     what is:
//!               ├ OsTarget   system calls below a directory: in XINIM (the tool `fstest`), on the
//!               │            development host (which judges the model)
//!               └ FsTarget   a `FileSystem` directly: the host tests of every format
//! ```
//! Files are created, opened several times, written, read, cut and extended at random places,
//! linked, renamed over each other, removed while open; directories come, move and go. Errors
//! count too: where POSIX names one, it must come. Deterministic for a seed.
//!
//! Running out of space is no failure: the operation then must have done nothing, or for a write
//! what it says.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod exercise;
mod model;
mod operations;
mod target;

#[cfg(test)]
mod tests;

pub use exercise::{Can, Exercise, Failure, Summary, run};
pub use target::{FsTarget, OsTarget, Target};
