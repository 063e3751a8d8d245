//! The Reincarnation Server's logic, without system calls: who runs, who may be found by whom,
//! what happens when somebody dies. `main.rs` is the server around it.
//!
//! ```text
//!                 needs up            announces
//! Dead --> Waiting -------> Starting -----------> Running
//!  ^          ^                 |                  |  |  ^
//!  |          | restart         | dies             |  |  | announces
//!  |          |                 v       dies       |  |  |
//!  |          |              Crashed <-------------+  |  |
//!  |          |               |   |  back-off over     |  |
//!  |          |     too often |   +--------------------|--+-- Recovering
//!  |          |               v                        |
//!  |          |             Failed                     | stop, restart, shutdown
//!  +----------+---------------------- Stopping <-------+
//! ```
//! [`Core`] holds a [`Slot`] for each instance of a service. Everything that happens is a method
//! of it (a request, an obituary, the timer); what it wants done it asks of a [`Host`], and a
//! `Host` never calls back. RS calls nobody: answers that must wait are kept as tokens in the slot
//! they wait for.
//!
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod bundle;
mod control;
pub mod core_file;
mod escalate;
mod functions;
mod health;
mod history;
mod host;
mod keep;
mod life;
mod lookup;
mod query;
mod shutdown;
mod slot;
mod spare;
mod system;
#[cfg(test)]
mod tests;
mod update;

pub use escalate::Alert;
pub use functions::Function;
pub use history::{Cause, Death, History, Launched, Made};
pub use host::{Answer, End, Host, Launch, Usage};
pub use slot::{Reason, Slot, SlotId, State};
pub use system::Core;
pub use update::{ProgramId, Refusal};

/// How long a service may take to end after `bits::TERMINATE`, ns.
pub const STOP_TIMEOUT: u64 = 2_000_000_000;
/// How long a new program must live for an update to hold, ns.
pub const UPDATE_TRIAL: u64 = 1_000_000_000;
/// A service has been up this long when its spare process is made, ns: those that wait for it go first.
pub const SPARE_DELAY: u64 = 100_000_000;
/// How long a spare may take until it stands by, ns. It runs only when nobody else has work to do.
pub const SPARE_TIMEOUT: u64 = 10_000_000_000;
/// A spare that could not be made, or was lost, is made again after this long, ns; doubled when it is lost
/// again.
pub const SPARE_RETRY: u64 = 1_000_000_000;
/// Longest back-off, ns.
pub const BACKOFF_MAX: u64 = 5_000_000_000;
/// How long a service may keep from its endpoint while it works or waits for others, ns: the slowest
/// disk has given up by then.
pub const PATIENCE: u64 = 30_000_000_000;
/// A service is restarted at most this often for others' complaints, ns.
pub const COMPLAINT_INTERVAL: u64 = 1_000_000_000;
/// Instances of services at one time.
pub const SLOTS_MAX: usize = 256;
/// PCI functions.
pub const FUNCTIONS_MAX: usize = 256;
/// Kept requests of one kind at one place; more are refused with `Limit`.
pub const WAITERS_MAX: usize = 256;
/// Crashes in a row after which a service's kept memory is given up: what is in it may be what
/// kills it.
pub const KEEP_CRASHES: u32 = 3;
/// Objects kept for one service.
pub const KEPT_MAX: usize = 256;
/// Alerts that are kept.
pub const ALERTS_MAX: usize = 32;
/// Deaths that the history keeps.
pub const HISTORY_MAX: usize = 1024;
