//! Host tests of file systems, the same for each.
//!
//! ```text
//! format ── Storage ── Image      bytes in memory that the test keeps a handle to; counts and bounds
//!                                 accesses, so that an endless loop ends in a failed test
//!                        └ record() ── Recording ── power_cut::Cutter: what the medium may hold
//!                                                   after the power failed at some instant
//! promises          a workload that knows what fsync promised at each instant
//! hostile::assault  mount, walk, read, write on a damaged image: errors only
//! memory::Counting  a global allocator that knows the peak
//! ```
//! [`campaign`] scales test lengths: short and seeded by default, long where `XINIM_LONG` says how
//! many times longer.

mod campaign;
pub mod hostile;
mod image;
pub mod memory;
pub mod power_cut;
pub mod promises;
mod tools;

pub use campaign::campaign;
pub use image::{Image, Recording, Step};
pub use tools::{have, require, run};
pub use xinim_fs_kit::conformance::Random;

#[cfg(test)]
mod tests;
