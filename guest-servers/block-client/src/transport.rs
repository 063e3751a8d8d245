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

/// An attached driver: requests name data by offset in memory shared with it.
pub trait Transport {
    fn info(&self) -> Info;

    /// Bytes of data memory.
    fn data_len(&self) -> usize;
    /// Copies out of or into data memory; `Fault` out of bounds. Offsets count from its start.
    fn read_data(&self, offset: usize, out: &mut [u8]) -> Result<()>;
    fn write_data(&self, offset: usize, data: &[u8]) -> Result<()>;

    /// Hands requests to the driver; at most `depth` may be outstanding. `offset` of each counts
    /// from the start of data memory.
    fn submit(&mut self, requests: &[Submission]) -> Result<()>;

    /// Appends at least one completion of what was submitted; waits for it. An error means that
    /// the device is gone for good; then everything outstanding has failed.
    fn wait(&mut self, completions: &mut Vec<Completion>) -> Result<()>;
}

impl<T: Transport + ?Sized> Transport for alloc::boxed::Box<T> {
    fn info(&self) -> Info {
        (**self).info()
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
    fn wait(&mut self, completions: &mut Vec<Completion>) -> Result<()> {
        (**self).wait(completions)
    }
}
