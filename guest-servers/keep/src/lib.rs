//! State that outlives the service that has it: records in memory that RS keeps ([`rs::Keep`]) and
//! gives to the service's next instance.
//!
//! * [`Journal`]: a map from numbers to bytes whose changes come in *commits*. A commit is there as a
//!   whole or not at all, wherever its writer died.
//! * [`Ticket`]: the answers of numbered requests, as records.
//! * [`codec`]: numbers and texts in records.
//!
//! The writer may have died *because* its memory was damaged, and what damaged it may have hit the
//! kept memory as well. So every byte that is read back is under a checksum, and one that is wrong
//! makes the whole journal [`Found::Garbage`]: better a service that begins anew than one that goes
//! on from nonsense. The service still has to check that what the records say fits together: a
//! checksum tells that they are as they were written, not that the writer was sane.
//!
//! [`rs::Keep`]: xinim_abi::services::rs::rs::Keep
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod codec;
mod journal;
#[cfg(test)]
mod tests;
mod ticket;

pub use journal::{Found, Journal, sum, word_at};
pub use ticket::Ticket;

use alloc::boxed::Box;

use xinim_abi::error::Result;

/// Memory that is kept. Nobody else writes it.
pub trait Area {
    /// Bytes.
    fn len(&self) -> usize;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()>;
    fn write(&self, at: usize, bytes: &[u8]) -> Result<()>;
}

impl<A: Area + ?Sized> Area for Box<A> {
    fn len(&self) -> usize {
        (**self).len()
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        (**self).read(at, out)
    }
    fn write(&self, at: usize, bytes: &[u8]) -> Result<()> {
        (**self).write(at, bytes)
    }
}
