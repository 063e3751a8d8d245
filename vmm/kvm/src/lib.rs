//! The engine that runs a XINIM machine on Linux KVM.

mod acpi;
mod cpuid;
mod cpuid_names;
mod host;
mod layout;
mod memory;
mod probe;
mod pvh;
#[cfg(test)]
mod testing;
mod vcpu;

pub use probe::{ProbeReport, probe};
