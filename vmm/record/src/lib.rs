//! Record and replay at the device boundary.
//!
//! ```text
//!            record                                        replay
//!   machine --call--> Recorded<D> --> device       file --call--> device
//!                         |            | asks                      | asks
//!                         v            v                           v
//!                       file <------ taps --> the real thing     taps <--> file: same question?
//! ```
//! A device model is a function of the calls it gets (accesses, doorbells, "your back end has
//! something") and of the answers to what it asks (memory, clock, back ends). Both are written down
//! in the order in which they happen; a device works under its lock, so that order is total. Replay
//! makes the calls again with no guest, answers from the file, and compares every question and every
//! result: bit for bit, or the first difference.
//!
//! A recording that ends in the middle of a call (its device panicked, its machine was killed) is
//! replayed to there: the call is made, and compared as far as the file goes.
//!
//! What a back end moves between a disk image and guest memory by itself is not a question of the
//! device's, and not in the file.
//!
//! * [`entry`]: what is written; [`file`](mod@file): how;
//! * [`tape`]: recording and replaying sides of one conversation; [`taps`]: the traits around a
//!   device, led over a tape; [`recorded`]: a device whose calls are recorded;
//! * [`replay`]: the models built again and driven from a file;
//! * [`against`]: QEMU's devices driven from it, and compared.
#![forbid(unsafe_code)]

pub mod against;
pub mod entry;
pub mod file;
pub mod recorded;
pub mod replay;
pub mod tape;
pub mod taps;

pub use entry::{AhciManner, Answer, Ask, Call, Description, Entry, Kind, Return};
pub use file::{Damage, Recorder};
pub use recorded::Recorded;
pub use replay::{Outcome, replay};
pub use tape::Tape;

#[cfg(test)]
mod tests;
