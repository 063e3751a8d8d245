//! The engine that runs a XINIM machine on Linux KVM.
//!
//! [`KvmEngine`] takes a machine from its description to its end; [`probe`] says what kind of KVM
//! the host has. The device models are in `xinim-devices`; this crate gives them memory,
//! interrupts, time and the host's files, and the guest its processors.
//!
//! ```text
//!   vCPU threads ----- bus.access -----> devices <----- bus.notify, ports ----- I/O thread
//!        |                                 |                                        ^
//!        | KVM_RUN                         | DMA, MSI-X, wires                      | epoll
//!       KVM <------------------------------+                doorbells, host streams +
//! ```
//!
//! Limits: RAM is not hot-pluggable, there is no legacy PCI interrupt routing (functions interrupt
//! by MSI-X), and disks are served synchronously on the I/O thread.

mod acpi;
mod backtrace;
mod confine;
mod control;
mod cpuid;
mod cpuid_names;
mod death;
mod debug;
mod disks;
mod dma;
mod doorbell;
mod dump;
mod engine;
mod exits;
mod fault;
mod gdb;
mod guest_trace;
mod halt;
mod host;
mod inject;
mod io;
mod irq;
mod lapic;
mod layout;
mod machine;
mod memory;
mod meter;
mod mutate;
mod net;
mod probe;
mod pvh;
mod reach;
mod record;
mod shared;
mod stream;
mod strict;
mod symbols;
#[cfg(test)]
mod testing;
mod threads;
pub mod tiny;
mod trace;
mod traces;
mod vcpu;
mod walk;

/// Programs in a bundle, and the names of places in them.
pub mod bundle {
    pub use crate::backtrace::{Place, View, write as backtrace};
    pub use crate::symbols::{Images, members, program, programs};
}

pub use engine::KvmEngine;
pub use probe::{ProbeReport, probe};
