//! What the cache needs of a driver it is attached to.

use alloc::vec::Vec;

use xinim_abi::error::Result;
use xinim_abi::services::block::{Completion, Submission};

/// What the driver said of its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// 512-byte sectors.
    pub sectors: u64,
    /// Logical block size in bytes; requests are multiples of it.
    pub block_size: u32,
    pub read_only: bool,
    /// Longest request in bytes.
    pub max_bytes: u32,
    /// Requests that may be under way at once.
    pub depth: u32,
}

/// What else it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Writes are volatile until a FLUSH.
    pub write_cache: bool,
    /// Longest DISCARD in bytes; 0: none.
    pub max_discard: u32,
    /// Longest WRITE_ZEROES in bytes; 0: none.
    pub max_zeroes: u32,
    /// Blocks shorter than this are written slowly, in bytes.
    pub physical_block: u32,
}

impl Default for Limits {
    /// What is safe to assume of any device.
    fn default() -> Self {
        Self { write_cache: true, max_discard: 0, max_zeroes: 0, physical_block: 512 }
    }
}

/// An attached driver: requests name data by offset in memory shared with it.
pub trait Transport {
    fn info(&self) -> Info;

    fn limits(&self) -> Limits {
        Limits::default()
    }

    /// Which driver it is, and the number that this gives what stands at the unit: another number of the same
    /// driver is another device, or one that was out.
    fn plugged(&self) -> (u32, u32) {
        (0, 0)
    }

    /// Bytes of data memory.
    fn data_len(&self) -> usize;
    /// Copies out of or into data memory; `Fault` out of bounds. Offsets count from its start.
    fn read_data(&self, offset: usize, out: &mut [u8]) -> Result<()>;
    fn write_data(&self, offset: usize, data: &[u8]) -> Result<()>;

    /// Hands requests to the driver; at most `depth` may be outstanding. `offset` of each counts
    /// from the start of data memory. On an error none of them is under way. The driver hears of them
    /// at the next `wait`, `wait_for` or `kick`.
    fn submit(&mut self, requests: &[Submission]) -> Result<()>;

    /// The driver is to begin with what was submitted although nobody waits for it yet.
    fn kick(&mut self) {}

    /// Appends at least one completion of what was submitted; waits for it. An error means that
    /// the device is gone for good; then everything outstanding has failed.
    fn wait(&mut self, completions: &mut Vec<Completion>) -> Result<()>;

    /// As `wait`, for a caller who needs `wanted` of them: being woken once for all is cheaper than
    /// for each.
    fn wait_for(&mut self, completions: &mut Vec<Completion>, wanted: usize) -> Result<()> {
        let _ = wanted;
        self.wait(completions)
    }

    /// Appends what is done already, without waiting. An error is as that of `wait`.
    fn poll(&mut self, completions: &mut Vec<Completion>) -> Result<()> {
        let _ = completions;
        Ok(())
    }
}

impl<T: Transport + ?Sized> Transport for alloc::boxed::Box<T> {
    fn info(&self) -> Info {
        (**self).info()
    }
    fn limits(&self) -> Limits {
        (**self).limits()
    }
    fn plugged(&self) -> (u32, u32) {
        (**self).plugged()
    }
    fn data_len(&self) -> usize {
        (**self).data_len()
    }
    fn read_data(&self, offset: usize, out: &mut [u8]) -> Result<()> {
        (**self).read_data(offset, out)
    }
    fn write_data(&self, offset: usize, data: &[u8]) -> Result<()> {
        (**self).write_data(offset, data)
    }
    fn submit(&mut self, requests: &[Submission]) -> Result<()> {
        (**self).submit(requests)
    }
    fn kick(&mut self) {
        (**self).kick();
    }
    fn wait(&mut self, completions: &mut Vec<Completion>) -> Result<()> {
        (**self).wait(completions)
    }
    fn wait_for(&mut self, completions: &mut Vec<Completion>, wanted: usize) -> Result<()> {
        (**self).wait_for(completions, wanted)
    }
    fn poll(&mut self, completions: &mut Vec<Completion>) -> Result<()> {
        (**self).poll(completions)
    }
}
