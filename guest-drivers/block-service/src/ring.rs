//! The driver's side of one client's rings (`services::block`). Everything in the memory is the
//! client's word: indices are compared with the driver's own copies, entries are read once.

use xinim_abi::services::block::{
    CQ_OFFSET, Completion, DATA_OFFSET, ENTRIES, SQ_OFFSET, Submission, index, passes,
};
use xinim_driver_kit::SharedMemory;
use xinim_driver_kit::memory::full_barrier;

/// The client broke the ring: an index further ahead than there are entries. Nothing in it can be
/// understood any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// Rings and buffers of one client.
pub struct Ring<S> {
    memory: S,
    sq_head: u32,
    cq_tail: u32,
    /// What the client sees of `cq_tail`.
    published: u32,
    /// Taken and not completed.
    in_flight: u32,
}

impl<S: SharedMemory> Ring<S> {
    /// Starts with the indices found: zeros in fresh memory, those of the last instance where a
    /// client attaches its memory again. `None` where the memory is too small for the rings.
    pub fn new(memory: S) -> Option<Self> {
        if memory.len() < DATA_OFFSET {
            return None;
        }
        let sq_head = memory.load_u32(index::SQ_HEAD);
        let cq_tail = memory.load_u32(index::CQ_TAIL);
        Some(Self { memory, sq_head, cq_tail, published: cq_tail, in_flight: 0 })
    }

    pub fn memory(&self) -> &S {
        &self.memory
    }

    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// The next submission without taking it; `None` when there is none, or no place for its
    /// completion would be left.
    pub fn peek(&self) -> Result<Option<Submission>, Broken> {
        let waiting = self.memory.load_u32(index::SQ_TAIL).wrapping_sub(self.sq_head);
        if waiting > ENTRIES {
            return Err(Broken);
        }
        if waiting == 0 {
            return Ok(None);
        }
        let unread = self.cq_tail.wrapping_sub(self.memory.load_u32(index::CQ_HEAD));
        if unread > ENTRIES {
            return Err(Broken);
        }
        if unread + self.in_flight >= ENTRIES {
            return Ok(None);
        }
        let slot = (self.sq_head % ENTRIES) as usize;
        Ok(Some(self.memory.read_value(SQ_OFFSET + slot * size_of::<Submission>())))
    }

    /// Takes the submission last peeked at.
    pub fn take(&mut self) {
        self.sq_head = self.sq_head.wrapping_add(1);
        self.in_flight += 1;
        self.memory.store_u32(index::SQ_HEAD, self.sq_head);
    }

    /// Writes the completion of a request taken before; [`publish`](Self::publish) shows it.
    pub fn complete(&mut self, id: u64, status: u32) {
        let slot = (self.cq_tail % ENTRIES) as usize;
        let entry = Completion { id, status, reserved: 0 };
        self.memory.write_value(CQ_OFFSET + slot * size_of::<Completion>(), &entry);
        self.cq_tail = self.cq_tail.wrapping_add(1);
        self.in_flight -= 1;
    }

    /// Shows the client what was completed; true if the completion it waits for is among it, so that
    /// it must be told.
    pub fn publish(&mut self) -> bool {
        let old = core::mem::replace(&mut self.published, self.cq_tail);
        if old == self.cq_tail {
            return false;
        }
        self.memory.store_u32(index::CQ_TAIL, self.cq_tail);
        full_barrier();
        passes(self.memory.load_u32(index::CQ_EVENT), old, self.cq_tail)
    }
}
