//! Pipes: a bounded buffer and who waits for it.
//!
//! A reader waits while the buffer is empty and a writer is left; a writer waits until all its
//! bytes are in. Up to [`ATOMIC`] bytes go in at once, never mixed with another's. Waiting requests
//! are answered in their order, by `Server::pump`. A named pipe (FIFO) has its pipe while somebody
//! has it open; who opens one end waits for the other.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::ipc::ReplyToken;
use xinim_abi::services::vfs::{open, poll};
use xinim_fs_kit::Ino;

use crate::files::Object;
use crate::mounts::MountId;
use crate::tree::NodeId;
use crate::vfs::{Host, Vfs};

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
    /// It takes what can be had now.
    pub at_once: bool,
}

/// Somebody opened one end of a FIFO, as `fd`, and waits for the other end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub token: ReplyToken,
    pub pid: u32,
    pub fd: u32,
    /// It waits for a writer, else for a reader.
    pub for_writer: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Pipe {
    pub buffer: VecDeque<u8>,
    /// Open files of each end.
    pub readers: u32,
    pub writers: u32,
    pub waiting_readers: VecDeque<Waiter>,
    pub waiting_writers: VecDeque<Waiter>,
    pub opening: Vec<Opening>,
    /// Which FIFO it belongs to.
    pub fifo: Option<(MountId, Ino)>,
    /// Bytes that were taken out.
    pub taken: u64,
    pub kept: KeptBytes,
}

/// Which bytes of a pipe are in records; positions count from the first byte ever put in.
#[derive(Debug, Default)]
pub(crate) struct KeptBytes {
    /// Records from the oldest: number, first byte, end.
    pub records: VecDeque<(u32, u64, u64)>,
    /// Number of the next record.
    pub next: u32,
}

impl Pipe {
    pub fn room(&self) -> usize {
        CAPACITY - self.buffer.len()
    }

    /// Takes bytes out from the front.
    pub fn take(&mut self, count: usize) {
        self.buffer.drain(..count);
        self.taken += count as u64;
    }

    /// Bytes of this writer that may go in now.
    pub fn acceptable(&self, writer: &Waiter) -> usize {
        let left = writer.len - writer.done;
        if writer.len <= ATOMIC && self.room() < left { 0 } else { left.min(self.room()) }
    }

    pub fn forget(&mut self, pid: u32) {
        self.waiting_readers.retain(|waiter| waiter.pid != pid);
        self.waiting_writers.retain(|waiter| waiter.pid != pid);
        self.opening.retain(|opening| opening.pid != pid);
    }

    pub fn is_unused(&self) -> bool {
        self.readers == 0
            && self.writers == 0
            && self.waiting_readers.is_empty()
            && self.waiting_writers.is_empty()
    }

    /// Takes out who need not wait any more for the other end.
    pub fn opened(&mut self) -> Vec<Opening> {
        let (readers, writers) = (self.readers, self.writers);
        let there = |o: &Opening| if o.for_writer { writers > 0 } else { readers > 0 };
        let found = self.opening.iter().copied().filter(there).collect();
        self.opening.retain(|opening| !there(opening));
        found
    }

    /// Events at an end, or both.
    pub fn events(&self, reads: bool, writes: bool) -> u16 {
        let mut events = 0;
        if reads && !self.buffer.is_empty() {
            events |= poll::IN;
        }
        if reads && self.writers == 0 {
            events |= poll::HANG_UP;
        }
        if writes && self.readers == 0 {
            events |= poll::ERROR;
        }
        if writes && self.room() >= ATOMIC {
            events |= poll::OUT;
        }
        events
    }
}

impl<H: Host> Vfs<H> {
    /// Opens an end of a FIFO, or both. Without NONBLOCK the caller then waits as long as
    /// [`Vfs::open_waits`] says.
    pub(crate) fn open_fifo(&mut self, pid: u32, node: NodeId, flags: u32) -> Result<u32> {
        let ino = self.live_ino(node)?;
        let key = (self.tree.node(node).mount, ino);
        let known = self.fifos.get(&key).copied();
        let writes = flags & open::ACCESS_MASK != open::READ;
        let reads = flags & open::ACCESS_MASK != open::WRITE;
        let readers = known.and_then(|id| self.pipes.get(id)).map_or(0, |pipe| pipe.readers);
        if !reads && readers == 0 && flags & open::NONBLOCK != 0 {
            return Err(Error::NxIo);
        }
        let id = match known {
            Some(id) => id,
            None => {
                let id = self.pipes.insert(Pipe { fifo: Some(key), ..Pipe::default() });
                self.fifos.insert(key, id);
                id
            }
        };
        self.pin(node);
        let fd = match self.install(pid, Object::Pipe(id, Some(node)), flags) {
            Ok(fd) => fd,
            Err(error) => {
                self.unpin(node);
                self.drop_pipe_if_unused(id);
                return Err(error);
            }
        };
        if let Some(pipe) = self.pipes.get_mut(id) {
            pipe.readers += u32::from(reads);
            pipe.writers += u32::from(writes);
        }
        self.touched.push(id);
        Ok(fd)
    }

    /// The pipe whose other end is missing, if the descriptor was opened to wait for it.
    pub(crate) fn open_waits(&self, pid: u32, fd: u32) -> Option<(PipeId, bool)> {
        let file = self.file(pid, fd).ok()?;
        let Object::Pipe(id, Some(_)) = file.object else { return None };
        let pipe = self.pipes.get(id)?;
        let alone = match (file.readable(), file.writable()) {
            (true, false) => pipe.writers == 0,
            (false, true) => pipe.readers == 0,
            _ => false,
        };
        (alone && !file.non_blocking()).then_some((id, file.readable()))
    }
}
