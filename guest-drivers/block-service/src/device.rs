//! What a block driver's device logic offers to the service in front of it.
//!
//! ```text
//! submit()* kick()  ->  in flight  ->  poll()  ->  completions, each once, in any order
//!                          |  arm(): interrupt, please; true: poll again first
//!                          |  wake_at()/attend(): time passed, or an interrupt may mean more
//! ```
//! Recovery from errors happens inside `poll`; what it returns as an error is beyond recovery, and the
//! process ends, since only then does the kernel stop the device's DMA for certain.

use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::services::block::{Text, flags, info, op};
use xinim_driver_kit::Segment;

/// Longest request whatever its segments, in bytes.
pub const BYTES_MAX: u64 = 4 << 20;
/// Longest DISCARD or WRITE_ZEROES, in bytes: the length of a submission has 32 bits.
pub const RANGE_MAX: u32 = 1 << 31;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    Flush,
    Discard,
    WriteZeroes,
}

impl Operation {
    /// A number of [`op`]; `None` for others.
    pub fn from_op(number: u32) -> Option<Self> {
        Some(match number {
            op::READ => Self::Read,
            op::WRITE => Self::Write,
            op::FLUSH => Self::Flush,
            op::DISCARD => Self::Discard,
            op::WRITE_ZEROES => Self::WriteZeroes,
            _ => return None,
        })
    }

    /// Whether bytes move between memory and device.
    pub fn has_data(self) -> bool {
        matches!(self, Self::Read | Self::Write)
    }

    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Discard | Self::WriteZeroes)
    }
}

/// A request without its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    pub operation: Operation,
    /// First 512-byte sector.
    pub sector: u64,
    /// Bytes on the device; 0 for a flush.
    pub bytes: u32,
    /// See [`flags`].
    pub flags: u32,
}

impl Request {
    pub fn read(sector: u64, bytes: u32) -> Self {
        Self { operation: Operation::Read, sector, bytes, flags: 0 }
    }

    pub fn write(sector: u64, bytes: u32) -> Self {
        Self { operation: Operation::Write, sector, bytes, flags: 0 }
    }

    pub fn flush() -> Self {
        Self { operation: Operation::Flush, sector: 0, bytes: 0, flags: 0 }
    }

    pub fn fua(&self) -> bool {
        self.flags & flags::FUA != 0
    }
}

/// A finished request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// As passed to [`BlockDevice::submit`].
    pub cookie: u64,
    pub result: Result<()>,
}

/// What a unit is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Capacity in 512-byte sectors.
    pub sectors: u64,
    /// Logical block size in bytes, a power of two from 512: requests are multiples of it.
    pub block_size: u32,
    /// See [`info`].
    pub flags: u32,
    /// Longest read or write in bytes that fits however scattered its memory is.
    pub max_bytes: u32,
    /// Most segments of data in one request.
    pub max_segments: u32,
    /// Requests the device works on at once.
    pub depth: u32,
    pub limits: Limits,
    pub model: Text,
    pub serial: Text,
    pub firmware: Text,
}

/// Hints and limits beside the data path; see `Limits` in the interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub physical_block: u32,
    pub discard_granule: u32,
    pub max_discard: u32,
    pub max_zeroes: u32,
    pub rotation: u32,
}

impl Unit {
    pub fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether the request is possible at all: `RoFs`; `NotSup` for what the unit cannot do; `Inval`
    /// where it is empty, too long, not whole blocks or past the end, or has flags it cannot have.
    pub fn check(&self, request: &Request) -> Result<()> {
        let Request { operation, sector, bytes, flags: given } = *request;
        let (allowed, longest) = match operation {
            Operation::Flush => {
                let plain = sector == 0 && bytes == 0 && given == 0;
                return plain.then_some(()).ok_or(Error::Inval);
            }
            Operation::Read => (0, BYTES_MAX),
            Operation::Write => (flags::FUA, BYTES_MAX),
            Operation::Discard => (0, self.limits.max_discard.into()),
            Operation::WriteZeroes => (flags::MAY_UNMAP, self.limits.max_zeroes.into()),
        };
        if given & !allowed != 0 {
            return Err(Error::Inval);
        }
        if operation.writes() && self.has(info::READ_ONLY) {
            return Err(Error::RoFs);
        }
        if longest == 0 || request.fua() && !self.has(info::FUA) {
            return Err(Error::NotSup);
        }
        let bytes = u64::from(bytes);
        let block = u64::from(self.block_size);
        let whole = bytes.is_multiple_of(block) && sector.is_multiple_of(block / 512);
        let end = sector.checked_add(bytes / 512).ok_or(Error::Inval)?;
        let fits = end <= self.sectors && bytes > 0 && bytes <= longest;
        (whole && fits).then_some(()).ok_or(Error::Inval)
    }
}

/// A driver's device with its units.
pub trait BlockDevice {
    /// Why it is beyond recovery.
    type Error: core::fmt::Display + core::fmt::Debug;

    /// What stands at `unit`; `None`: nothing (now), or no such unit.
    fn unit(&self, unit: u32) -> Option<&Unit>;

    /// Numbers what has stood at the unit: another disk in the same place has another one.
    fn instance(&self, unit: u32) -> u32;

    /// Grows with every arrival, removal and resize of a unit.
    fn generation(&self) -> u64;

    /// Adds a request; `data` is where the bytes come from or go to, nothing for operations without
    /// data. The device hears of it at the next [`kick`](Self::kick) at the latest. `Again`: no room
    /// now, try after a completion. Else `NxIo`, the errors of [`Unit::check`], and `Inval` for more
    /// than `max_segments`.
    fn submit(&mut self, unit: u32, request: &Request, data: &[Segment], cookie: u64)
    -> Result<()>;

    /// Tells the device about everything submitted, if it has to be told.
    fn kick(&mut self);

    /// Moves what is finished to `done`, recovering the device where it broke.
    fn poll(&mut self, done: &mut Vec<Completion>) -> core::result::Result<(), Self::Error>;

    /// Whether [`poll`](Self::poll) would probably find anything. Cheap: no register access.
    fn has_completions(&self) -> bool;

    /// Asks for an interrupt at the next completion. True: poll again first, something is there.
    fn arm(&mut self) -> bool;

    /// Asks for no interrupts while completions are being polled for.
    fn disarm(&mut self);

    /// Time passed, or an interrupt came that may mean more than completions: the next
    /// [`poll`](Self::poll) looks at everything.
    fn attend(&mut self);

    /// When [`attend`](Self::attend) is to be called even without an interrupt, in ns.
    fn wake_at(&self) -> Option<u64>;

    /// Requests submitted and not completed.
    fn in_flight(&self) -> usize;

    fn now_ns(&self) -> u64;

    /// Stops all DMA for good: the orderly end of the driver.
    fn stop(&mut self) -> core::result::Result<(), Self::Error>;
}
