//! The client's end of the two rings in shared memory.
//!
//! Layout and rules are in `xinim_abi::services::block`. The submission ring cannot overflow as
//! long as at most [`ENTRIES`] requests are outstanding, which `push` checks.

use alloc::vec::Vec;
use core::sync::atomic::{Ordering, fence};

use xinim_abi::error::{Error, Result};
use xinim_abi::services::block::{CQ_OFFSET, Completion, ENTRIES, SQ_OFFSET, Submission, index};
use zerocopy::{FromZeros, IntoBytes};

/// Memory shared with the driver. Indices are loaded with acquire and stored with release order.
pub trait SharedMemory {
    fn load_u32(&self, at: usize) -> Result<u32>;
    fn store_u32(&self, at: usize, value: u32) -> Result<()>;
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()>;
    fn write(&self, at: usize, data: &[u8]) -> Result<()>;
}

/// Positions of the client's side.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ring {
    sq_tail: u32,
    cq_head: u32,
}

fn entry(base: usize, position: u32, size: usize) -> usize {
    base + (position % ENTRIES) as usize * size
}

impl Ring {
    /// An empty ring in `memory`, before it is attached to a driver.
    pub fn reset(memory: &impl SharedMemory) -> Result<Self> {
        for at in [index::SQ_TAIL, index::SQ_HEAD, index::CQ_TAIL, index::CQ_HEAD, index::CQ_EVENT]
        {
            memory.store_u32(at, 0)?;
        }
        Ok(Self::default())
    }

    /// Puts requests into the ring and publishes them together. `Busy`: more than fit.
    pub fn push(&mut self, memory: &impl SharedMemory, requests: &[Submission]) -> Result<()> {
        let head = memory.load_u32(index::SQ_HEAD)?;
        let used = self.sq_tail.wrapping_sub(head);
        if used > ENTRIES {
            return Err(Error::Proto);
        }
        if requests.len() > (ENTRIES - used) as usize {
            return Err(Error::Busy);
        }
        for request in requests {
            let at = entry(SQ_OFFSET, self.sq_tail, size_of::<Submission>());
            memory.write(at, request.as_bytes())?;
            self.sq_tail = self.sq_tail.wrapping_add(1);
        }
        memory.store_u32(index::SQ_TAIL, self.sq_tail)
    }

    /// Asks to be woken when `wanted` (at least 1) more completions are there. True: they are already,
    /// and nobody will wake us.
    pub fn arm(&mut self, memory: &impl SharedMemory, wanted: u32) -> Result<bool> {
        memory.store_u32(index::CQ_EVENT, self.cq_head.wrapping_add(wanted - 1))?;
        // The driver stores its tail, then looks for the event; so one of us sees the other's.
        fence(Ordering::SeqCst);
        Ok(memory.load_u32(index::CQ_TAIL)?.wrapping_sub(self.cq_head) >= wanted)
    }

    /// Takes all completions that are there. `Proto`: the driver's index lies.
    pub fn pop(
        &mut self,
        memory: &impl SharedMemory,
        completions: &mut Vec<Completion>,
    ) -> Result<()> {
        let tail = memory.load_u32(index::CQ_TAIL)?;
        let count = tail.wrapping_sub(self.cq_head);
        if count > ENTRIES {
            return Err(Error::Proto);
        }
        for _ in 0..count {
            let mut completion = Completion::new_zeroed();
            let at = entry(CQ_OFFSET, self.cq_head, size_of::<Completion>());
            memory.read(at, completion.as_mut_bytes())?;
            completions.push(completion);
            self.cq_head = self.cq_head.wrapping_add(1);
        }
        if count > 0 {
            memory.store_u32(index::CQ_HEAD, self.cq_head)?;
        }
        Ok(())
    }
}
