//! Faults by rule: what a device, its memory, its interrupts, its disk or its wire do wrong on
//! purpose, at the boundary where all of it can be seen.
//!
//! ```text
//!   guest access --> Bus ---[register, doorbell]---> model ---[dma]------> guest memory
//!                                                      |  ---[interrupt]--> MsiSink, IrqLine
//!                                                      |  ---[request]---> BlockBackend
//!                                                      `  ---[packet]----> NetBackend
//! ```
//! The models know nothing of it. Each bracket is an adapter that shows what passes to
//! [`Faults::decide`]; the first rule that matches and whose turn it is says what happens to it.
//! A rule's own generator (splitmix64 from its seed) makes every choice, so that the same events
//! in the same order meet the same fate. What has to happen later (late interrupts, held
//! completions, a plug pulled) waits in one list for the machine's timer ([`Faults::run_due`]).
//!
//! Without rules an adapter costs one relaxed load. The grammar is in [`parse`], what each action
//! does to what in `docs/faults.md`.

mod disk;
mod dma;
mod function;
mod irq;
mod later;
mod net;
pub mod parse;
mod place;
mod plan;
mod rule;

pub use disk::FaultDisk;
pub use dma::FaultDma;
pub use irq::{FaultLine, FaultMsi};
pub use net::FaultNet;
pub use parse::{HELP, RuleError};
pub use plan::{Faults, RuleStatus, Site, Target};
pub use rule::{Action, Direction, Kind, Operation, Protocol, Rule, Span};

#[cfg(test)]
mod tests;
