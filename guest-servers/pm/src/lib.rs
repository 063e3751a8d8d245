//! The process manager's logic, without system calls: who is whose child, who waits for whom, what a
//! death means, what a spawn request says.
//!
//! ```text
//! spawn -> Running --dies--> Zombie --waited for--> gone
//!             |                 |
//!             | parent dies     | parent dies
//!             v                 v
//!          orphan --dies-->   gone
//! ```
//! A child's end is told once, to its parent. An orphan's is told to nobody.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod identity;
pub mod kept;
pub mod request;
pub mod script;
pub mod status;
pub mod table;
#[cfg(test)]
mod tests;

/// Programs at one time, zombies included. A parent that does not wait for its children runs out
/// of them, not the system: see [`CHILDREN_MAX`].
pub const PROCESSES_MAX: usize = 1024;
/// Children of one parent, zombies included.
pub const CHILDREN_MAX: usize = 256;
