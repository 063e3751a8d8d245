//! Pipes: a bounded buffer and who waits for it.
//!
//! A reader waits while the buffer is empty and a writer is left; a writer waits until all its
//! bytes are in. Up to [`ATOMIC`] bytes go in at once, never mixed with another's. Waiting requests
//! are answered in their order, by `Server::pump`.

use alloc::collections::VecDeque;

use xinim_abi::ipc::ReplyToken;

pub type PipeId = u32;

/// Bytes a pipe holds.
pub const CAPACITY: usize = 64 * 1024;
/// Writes up to here are not split (POSIX `PIPE_BUF`).
pub const ATOMIC: usize = 4096;

/// A request that waits: `len` bytes at `at` of the window of `pid`, `done` of them moved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub token: ReplyToken,
    pub pid: u32,
    pub at: usize,
    pub len: usize,
    pub done: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Pipe {
    pub buffer: VecDeque<u8>,
    /// Open files of each end.
    pub readers: u32,
    pub writers: u32,
    pub waiting_readers: VecDeque<Waiter>,
    pub waiting_writers: VecDeque<Waiter>,
}

impl Pipe {
    pub fn room(&self) -> usize {
        CAPACITY - self.buffer.len()
    }

    /// Bytes of this writer that may go in now.
    pub fn acceptable(&self, writer: &Waiter) -> usize {
        let left = writer.len - writer.done;
        if writer.len <= ATOMIC && self.room() < left { 0 } else { left.min(self.room()) }
    }

    pub fn forget(&mut self, pid: u32) {
        self.waiting_readers.retain(|waiter| waiter.pid != pid);
        self.waiting_writers.retain(|waiter| waiter.pid != pid);
    }
}
