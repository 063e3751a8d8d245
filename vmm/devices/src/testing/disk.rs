//! A disk in memory that can be told to fail, to wait, and to mix up its completions.

use crate::backend::{
    BackendError, BlockBackend, BlockInfo, Completion, Disk, Operation, Request, carry_out,
};
use crate::dma::Dma;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::lock;

/// Requests complete when submitted, in order, unless `held` or `shuffle` say otherwise.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    pub data: Vec<u8>,
    pub read_only: bool,
    /// Everything fails with EIO (5).
    pub failing: bool,
    pub flushes: usize,
    /// Requests beyond the end, which a device must never make.
    pub violations: usize,
    /// Requests wait for [`finish`](Self::finish).
    pub held: bool,
    /// Completions come in an order that this seeds.
    pub shuffle: Option<u64>,
    /// Operations carried out, in order: (operation, offset, length).
    pub log: Vec<(Operation, u64, u64)>,
    /// Requests that wait.
    pub pending: Vec<Request>,
    /// Completions to be polled.
    pub done: VecDeque<Completion>,
}

impl MemoryDisk {
    pub fn new(size: usize) -> Self {
        Self { data: vec![0; size], ..Self::default() }
    }

    /// Carries out the `index`th of them (the last, if there are fewer); its completion can then
    /// be polled. Whether there was one.
    pub fn finish(&mut self, index: usize, dma: &dyn Dma) -> bool {
        let Some(last) = self.pending.len().checked_sub(1) else { return false };
        let request = self.pending.remove(index.min(last));
        self.end(&request, dma);
        true
    }

    fn end(&mut self, request: &Request, dma: &dyn Dma) {
        let Request { tag, operation, offset, length, .. } = *request;
        let outside = request.check(&Disk::info(self)).is_err();
        self.violations += usize::from(outside);
        let result =
            if self.failing { Err(BackendError::IO) } else { carry_out(self, request, dma) };
        if result.is_ok() {
            self.log.push((operation, offset, length));
        }
        self.done.push_back(Completion { tag, result });
    }

    fn range(&mut self, offset: u64, length: u64) -> Result<&mut [u8], BackendError> {
        let start = usize::try_from(offset).map_err(|_| BackendError::INVALID)?;
        let length = usize::try_from(length).map_err(|_| BackendError::INVALID)?;
        let end = start.checked_add(length).ok_or(BackendError::INVALID)?;
        self.data.get_mut(start..end).ok_or(BackendError::INVALID)
    }
}

impl Disk for MemoryDisk {
    fn info(&self) -> BlockInfo {
        let length = self.data.len() as u64 / 512 * 512;
        BlockInfo { read_only: self.read_only, discard: true, ..BlockInfo::new(length) }
    }

    fn read_at(&mut self, offset: u64, data: &mut [u8]) -> Result<(), BackendError> {
        data.copy_from_slice(self.range(offset, data.len() as u64)?);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), BackendError> {
        self.range(offset, data.len() as u64)?.copy_from_slice(data);
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BackendError> {
        self.flushes += 1;
        Ok(())
    }

    fn discard(&mut self, offset: u64, length: u64) -> Result<(), BackendError> {
        // Neither the old bytes nor zeros, so that nobody counts on either.
        self.range(offset, length)?.fill(0xDD);
        Ok(())
    }

    fn write_zeroes(&mut self, offset: u64, length: u64, _unmap: bool) -> Result<(), BackendError> {
        self.range(offset, length)?.fill(0);
        Ok(())
    }
}

impl BlockBackend for MemoryDisk {
    fn info(&self) -> BlockInfo {
        Disk::info(self)
    }

    fn submit(&mut self, request: Request, dma: &dyn Dma) {
        if self.held {
            self.pending.push(request);
        } else {
            self.end(&request, dma);
        }
    }

    fn poll(&mut self) -> Option<Completion> {
        let Some(seed) = &mut self.shuffle else { return self.done.pop_front() };
        *seed =
            seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let index = (*seed >> 33) as usize % self.done.len().max(1);
        self.done.remove(index)
    }

    fn in_flight(&self) -> usize {
        self.pending.len() + self.done.len()
    }

    fn cancel(&mut self) {
        // What is held counts as begun: a test shows what a device does with late completions.
    }
}

/// A disk that the test keeps a hand on while a device has it.
impl BlockBackend for Arc<Mutex<MemoryDisk>> {
    fn info(&self) -> BlockInfo {
        Disk::info(&*lock(self))
    }

    fn submit(&mut self, request: Request, dma: &dyn Dma) {
        lock(self).submit(request, dma);
    }

    fn poll(&mut self) -> Option<Completion> {
        lock(self).poll()
    }

    fn in_flight(&self) -> usize {
        lock(self).in_flight()
    }

    fn cancel(&mut self) {
        lock(self).cancel();
    }
}
