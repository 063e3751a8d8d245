//! Traces of a machine, from the event to the answer.
//!
//! ```text
//! hub (xinim_devices::trace) -> filter -> text, binary, pcapng      sinks
//! binary file -> reader -> show, stat, diff, convert (Perfetto ...) tools
//! ```
//! Everything here is without KVM, threads but the one that writes a file, and guests; what comes
//! from a file is checked and bounded.
#![forbid(unsafe_code)]

pub mod code;
pub mod convert;
pub mod diff;
pub mod encode;
pub mod filter;
pub mod grants;
pub mod order;
pub mod pcapng;
pub mod perfetto;
pub mod read;
pub mod sinks;
pub mod stat;
pub mod tables;
pub mod text;
pub mod wire;
pub mod write;

pub use filter::{Filter, FilterError};
pub use read::{Item, ReadError, Reader};
pub use sinks::Trace;

#[cfg(test)]
mod tests;
