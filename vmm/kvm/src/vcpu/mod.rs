//! Virtual CPUs: their start, their loop, and how another thread gets hold of them.

pub mod exit;
pub mod setup;
