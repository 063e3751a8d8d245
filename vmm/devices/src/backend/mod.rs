//! What stands behind a device on the host: disks ([`block`]), byte streams, clocks.
//!
//! Failures are values; how they reach the guest is the device's business.

pub mod bays;
pub mod block;

pub use bays::{BayError, Drive, DriveBays, Medium};
pub use block::{
    BackendError, BlockBackend, BlockInfo, Completion, Disk, Operation, Request, carry_out,
};

use std::time::Duration;

/// A byte stream to and from the host. Never blocks.
pub trait ByteStream: Send {
    /// Takes bytes for the host; returns how many were accepted, at most `data.len()`. Fewer
    /// than offered means *later*: the machine calls the device's `output_ready` when the stream
    /// takes bytes again.
    fn write(&mut self, data: &[u8]) -> usize;
    /// Gives bytes from the host; returns how many, 0 for *none now*: the machine calls the
    /// device's `input_ready` when there are some.
    fn read(&mut self, data: &mut [u8]) -> usize;
}

impl<T: ByteStream + ?Sized> ByteStream for Box<T> {
    fn write(&mut self, data: &[u8]) -> usize {
        (**self).write(data)
    }
    fn read(&mut self, data: &mut [u8]) -> usize {
        (**self).read(data)
    }
}

/// A stream that takes everything and gives nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NullStream;

impl ByteStream for NullStream {
    fn write(&mut self, data: &[u8]) -> usize {
        data.len()
    }
    fn read(&mut self, _data: &mut [u8]) -> usize {
        0
    }
}

/// Time as devices see it; tests inject their own.
pub trait Clock: Send + Sync {
    /// Since the machine started; never goes back.
    fn monotonic(&self) -> Duration;
    /// Since 1970-01-01 00:00:00 UTC.
    fn wall(&self) -> Duration;
}
