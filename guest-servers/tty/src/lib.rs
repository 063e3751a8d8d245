//! The terminal on COM1: line discipline ([`Discipline`]) and 16550 driver ([`Uart`]).
//!
//! ```text
//! UART -> receive -> Discipline::input -> lines (or raw bytes) -> readers
//!                        | echo
//! UART <- transmit <- output queue <- Discipline::output <- writers
//! ```
//! Both halves are pure; `main.rs` is the service around them.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod discipline;
mod kept;
mod uart;

pub use discipline::{Discipline, LINE_MAX};
pub use kept::Kept;
pub use uart::{Ports, Uart};
