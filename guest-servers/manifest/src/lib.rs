//! Service manifests: one TOML file for each service, `configs/services/<label>.toml`, in the
//! bundle `/etc/services/<label>.toml`. The reference is docs/services.md.
//!
//! * [`Manifest::parse`] reads one file; unknown keys and values out of range are refused with
//!   the line;
//! * [`Catalog`] holds all of them and the graph they make. A target that no manifest defines, and
//!   a cycle, are refused with the path of the cycle.
//!
//! The same code runs in RS, which drops a manifest that is refused and boots the rest, and on
//! the host ([`Catalog::strict`]), where the build and the tests refuse the whole directory.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod catalog;
mod error;
mod graph;
mod manifest;
#[cfg(test)]
mod tests;

pub use catalog::{Catalog, Index};
pub use error::Error;
pub use manifest::{
    CpuBudget, Escalate, HEARTBEATS, Instances, Manifest, PciMatch, Policy, PortRange, Resource,
    Restart, Start, Stop,
};

/// Longest label: instance labels add `.` and a number, and the whole is at most 32 bytes.
pub const LABEL_MAX: usize = 24;
/// Services in one catalog.
pub const SERVICES_MAX: usize = 128;
