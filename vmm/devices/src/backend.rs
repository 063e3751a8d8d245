//! What stands behind a device on the host: disks, byte streams, clocks.
//!
//! Failures are values; how they reach the guest is the device's business.

use std::time::Duration;

/// A host failure while serving a disk request, kept as an errno where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendError {
    /// 0: no errno (a short file, an injected fault).
    pub errno: i32,
}

/// A disk image. Offsets and lengths are bytes; ranges asked for lie within [`len`](Self::len).
pub trait BlockBackend: Send {
    /// Fills `data` from `offset`.
    fn read_at(&mut self, offset: u64, data: &mut [u8]) -> Result<(), BackendError>;
    /// Stores all of `data` at `offset`. Volatile until [`flush`](Self::flush).
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), BackendError>;
    /// Everything written before is on stable storage when this returns.
    fn flush(&mut self) -> Result<(), BackendError>;
    /// Size; constant while the device exists.
    fn len(&self) -> u64;
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    fn read_only(&self) -> bool;
}

impl<T: BlockBackend + ?Sized> BlockBackend for Box<T> {
    fn read_at(&mut self, offset: u64, data: &mut [u8]) -> Result<(), BackendError> {
        (**self).read_at(offset, data)
    }
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), BackendError> {
        (**self).write_at(offset, data)
    }
    fn flush(&mut self) -> Result<(), BackendError> {
        (**self).flush()
    }
    fn len(&self) -> u64 {
        (**self).len()
    }
    fn read_only(&self) -> bool {
        (**self).read_only()
    }
}

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
