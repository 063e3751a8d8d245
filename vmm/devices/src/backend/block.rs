//! Disks as devices see them: requests go in with a tag, completions come out in any order.
//!
//! ```text
//!   device                          back end
//!     submit(tag, ...) ------------->  takes it; never waits for the host
//!     submit(tag, ...) ------------->
//!     start() ---------------------->  what was submitted is on its way (one host call)
//!     poll() -> Completion(tag) <----  now (memory, page cache), or later
//!        ...
//!     DriveBays::ready <---- machine   completions have come in the meantime: poll again
//!     cancel() --------------------->  what the host has not begun ends with ECANCELED
//! ```
//!
//! Every request submitted has exactly one completion. Until then the back end may touch its
//! guest memory, so a device that is reset, or loses its disk, calls [`BlockBackend::cancel`] and
//! goes on only when [`BlockBackend::in_flight`] is 0. Requests in flight have no order among
//! each other: a driver that needs one waits (or flushes) in between.
//!
//! A request's data lies in guest memory, where the back end moves it to or from by itself: through
//! the [`Dma`] it is given with the request when it finishes at once, else through a view of the
//! same memory that it was made with. It checks the addresses, as the device has done before.

use crate::dma::{Dma, DmaError, Segment};
use crate::trace::HostOp;

/// A host failure while serving a disk request, kept as an errno where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendError {
    /// 0: no errno (a short file, an injected fault).
    pub errno: i32,
}

impl BackendError {
    /// Without an errno.
    pub const UNKNOWN: Self = Self { errno: 0 };
    /// EIO.
    pub const IO: Self = Self { errno: 5 };
    /// EFAULT: the request's memory is no RAM.
    pub const FAULT: Self = Self { errno: 14 };
    /// EINVAL: a range or length that the disk does not have.
    pub const INVALID: Self = Self { errno: 22 };
    /// EROFS: a change to a read-only disk.
    pub const READ_ONLY: Self = Self { errno: 30 };
    /// EOPNOTSUPP: not an operation of this disk.
    pub const UNSUPPORTED: Self = Self { errno: 95 };
    /// ECANCELED: taken back before it began.
    pub const CANCELLED: Self = Self { errno: 125 };
}

impl From<DmaError> for BackendError {
    fn from(_: DmaError) -> Self {
        Self::FAULT
    }
}

/// What a disk is. All sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockInfo {
    /// Length; a multiple of `logical_block`. May change while the machine runs
    /// ([`super::DriveBays::resized`]).
    pub length: u64,
    /// Smallest unit of a request, a power of two of at least 512.
    pub logical_block: u32,
    /// Unit that is written without reading first, a power of two of at least `logical_block`.
    pub physical_block: u32,
    pub read_only: bool,
    /// Whether writes may stay in a volatile cache until the next flush. Otherwise each is
    /// stable when it completes.
    pub write_cache: bool,
    /// DISCARD does something. It is accepted in any case.
    pub discard: bool,
}

impl BlockInfo {
    /// 512-byte blocks, writable, with a write cache.
    pub const fn new(length: u64) -> Self {
        Self {
            length,
            logical_block: 512,
            physical_block: 512,
            read_only: false,
            write_cache: true,
            discard: false,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write {
        /// Stable when it completes (forced unit access), whatever the cache.
        fua: bool,
    },
    /// Every write that completed before this was submitted is stable when it completes.
    Flush,
    /// The contents are not needed any more; undefined afterwards (old bytes or zeros, usually).
    Discard,
    /// Reads give zeros afterwards.
    WriteZeroes {
        /// The space may be given back to the host.
        unmap: bool,
    },
}

impl Operation {
    /// As the trace calls it.
    pub const fn host(self) -> HostOp {
        match self {
            Self::Read => HostOp::Read,
            Self::Write { .. } => HostOp::Write,
            Self::Flush => HostOp::Flush,
            Self::Discard => HostOp::Discard,
            Self::WriteZeroes { .. } => HostOp::Zero,
        }
    }
}

/// One request to a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The device's own; comes back with the completion. Unique among those in flight.
    pub tag: u64,
    pub operation: Operation,
    /// First byte on the disk; 0 for a flush.
    pub offset: u64,
    /// Bytes; 0 for a flush.
    pub length: u64,
    /// Guest memory of a read or write, `length` bytes together, of any alignment; empty
    /// otherwise.
    pub segments: Vec<Segment>,
}

impl Request {
    pub const fn flush(tag: u64) -> Self {
        Self { tag, operation: Operation::Flush, offset: 0, length: 0, segments: Vec::new() }
    }

    /// Whether the disk may be asked for this: within its length, writable if it changes it, and
    /// segments as long as the transfer. Back ends answer anything else with the error.
    pub fn check(&self, info: &BlockInfo) -> Result<(), BackendError> {
        let changes = !matches!(self.operation, Operation::Read | Operation::Flush);
        if changes && info.read_only {
            return Err(BackendError::READ_ONLY);
        }
        let inside = self.offset.checked_add(self.length).is_some_and(|end| end <= info.length);
        let data = matches!(self.operation, Operation::Read | Operation::Write { .. });
        let memory: u64 = self.segments.iter().map(|s| u64::from(s.length)).sum();
        if !inside || memory != if data { self.length } else { 0 } {
            return Err(BackendError::INVALID);
        }
        Ok(())
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// [`Request::tag`]
    pub tag: u64,
    /// After an error the data of a read, or the contents under a write, are undefined.
    pub result: Result<(), BackendError>,
}

/// A disk image, served asynchronously. See the module's head.
pub trait BlockBackend: Send {
    fn info(&self) -> BlockInfo;
    /// Takes a request. Errors come as completions, too. Never waits.
    fn submit(&mut self, request: Request, dma: &dyn Dma);
    /// Everything submitted so far is to begin. Never waits.
    fn start(&mut self) {}
    /// The next completion that has come.
    fn poll(&mut self) -> Option<Completion>;
    /// Requests submitted whose completion has not been polled.
    fn in_flight(&self) -> usize;
    /// Requests the host has not begun complete with an error. The others complete as they do.
    fn cancel(&mut self) {}
}

impl<T: BlockBackend + ?Sized> BlockBackend for Box<T> {
    fn info(&self) -> BlockInfo {
        (**self).info()
    }
    fn submit(&mut self, request: Request, dma: &dyn Dma) {
        (**self).submit(request, dma);
    }
    fn start(&mut self) {
        (**self).start();
    }
    fn poll(&mut self) -> Option<Completion> {
        (**self).poll()
    }
    fn in_flight(&self) -> usize {
        (**self).in_flight()
    }
    fn cancel(&mut self) {
        (**self).cancel();
    }
}

/// A disk whose operations end at once: memory, or a host file where waiting does no harm. Ranges
/// asked for lie within its length.
pub trait Disk: Send {
    fn info(&self) -> BlockInfo;
    /// Fills `data` from `offset`.
    fn read_at(&mut self, offset: u64, data: &mut [u8]) -> Result<(), BackendError>;
    /// Stores all of `data` at `offset`. Volatile until [`flush`](Self::flush).
    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), BackendError>;
    fn flush(&mut self) -> Result<(), BackendError>;
    fn discard(&mut self, offset: u64, length: u64) -> Result<(), BackendError>;
    fn write_zeroes(&mut self, offset: u64, length: u64, unmap: bool) -> Result<(), BackendError>;
}

/// Piece in which [`carry_out`] moves data.
const CHUNK: u64 = 256 << 10;

/// Carries a request out on a [`Disk`], from checks to the last byte.
pub fn carry_out(
    disk: &mut (impl Disk + ?Sized),
    request: &Request,
    dma: &dyn Dma,
) -> Result<(), BackendError> {
    request.check(&disk.info())?;
    match request.operation {
        Operation::Read | Operation::Write { .. } => transfer(disk, request, dma)?,
        Operation::Flush => disk.flush()?,
        Operation::Discard => disk.discard(request.offset, request.length)?,
        Operation::WriteZeroes { unmap } => {
            disk.write_zeroes(request.offset, request.length, unmap)?;
        }
    }
    if request.operation == (Operation::Write { fua: true }) {
        disk.flush()?;
    }
    Ok(())
}

fn transfer(
    disk: &mut (impl Disk + ?Sized),
    request: &Request,
    dma: &dyn Dma,
) -> Result<(), BackendError> {
    let mut bounce = vec![0; request.length.min(CHUNK) as usize];
    let mut offset = request.offset;
    for segment in &request.segments {
        let mut done = 0;
        while done < u64::from(segment.length) {
            let take = (u64::from(segment.length) - done).min(CHUNK);
            let piece = &mut bounce[..take as usize];
            let address = segment.address.checked_add(done).ok_or(BackendError::FAULT)?;
            if request.operation == Operation::Read {
                disk.read_at(offset, piece)?;
                dma.write(address, piece)?;
            } else {
                dma.read(address, piece)?;
                disk.write_at(offset, piece)?;
            }
            offset += take;
            done += take;
        }
    }
    Ok(())
}
