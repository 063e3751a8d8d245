//! Two stacks joined by a wire in one process, time being the test's own.

mod configuration;
mod flood;
mod idle;
mod kept;
mod lasting;
mod local;
mod rings;
mod semantics;
mod stall;
mod stream;
pub mod vault;
mod wire;
