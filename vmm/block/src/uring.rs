//! Requests to a plain file through io_uring: any number in flight, data straight between file and guest
//! memory, one system call for a batch.
//!
//! ```text
//!   submit --> submission queue --start--> kernel --> completion queue --poll--> done
//!                    ^                                       |
//!                    `------ the rest of a short transfer ---'
//! ```
//! What the host has in its page cache completes within `start`. The ring's descriptor is readable
//! while completions wait.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use io_uring::{IoUring, opcode, squeue, types};
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use xinim_devices::backend::{BackendError, Completion, Operation};

use crate::image::Image;
use crate::memory::Pieces;
use crate::pool::Job;
use crate::raw::{RawImage, unsupported};

/// Entries of the submission queue; more requests than that are submitted in several calls.
const ENTRIES: u32 = 256;
/// Completions that the kernel keeps without effort: what a device has in flight.
const COMPLETIONS: u32 = 2048;
const PUNCH: FallocateFlags = FallocateFlags::PUNCH_HOLE.union(FallocateFlags::KEEP_SIZE);
const ZERO: FallocateFlags = FallocateFlags::ZERO_RANGE.union(FallocateFlags::KEEP_SIZE);

/// The ring of one disk.
pub struct Uring {
    ring: IoUring,
    image: Arc<dyn Image>,
    /// By slot, which is the ring's user data. Their vectors' addresses are with the kernel.
    flights: Vec<Option<Flight>>,
    free: Vec<usize>,
    /// Entries in the submission queue.
    queued: usize,
    done: VecDeque<Completion>,
}

struct Flight {
    job: Job,
    step: Step,
}

/// What the kernel is asked to do for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Read,
    Write { stable: bool },
    Sync,
    Clear { flags: FallocateFlags, then: Fallback },
}

/// Where the file system cannot clear ranges that way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fallback {
    /// It was a hint.
    Nothing,
    ZeroRange,
    WriteZeros,
}

impl Uring {
    /// `image` must be a plain file. An error means that this host has no (usable) io_uring.
    pub fn new(image: Arc<dyn Image>) -> io::Result<Self> {
        if image.as_raw().is_none() {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let ring: IoUring = IoUring::builder().setup_cqsize(COMPLETIONS).build(ENTRIES)?;
        let mut probe = io_uring::Probe::new();
        ring.submitter().register_probe(&mut probe)?;
        let needed = [opcode::Readv::CODE, opcode::Writev::CODE, opcode::Fsync::CODE]
            .into_iter()
            .chain([opcode::Fallocate::CODE]);
        if !ring.params().is_feature_nodrop()
            || !needed.into_iter().all(|op| probe.is_supported(op))
        {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let (flights, free, done) = (Vec::new(), Vec::new(), VecDeque::new());
        Ok(Self { ring, image, flights, free, queued: 0, done })
    }

    /// Readable while completions wait.
    pub fn wake(&self) -> BorrowedFd<'_> {
        // SAFETY: the ring's descriptor is open as long as `self`, which the result borrows.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }

    fn raw(&self) -> Option<&RawImage> {
        self.image.as_raw()
    }

    pub fn submit(&mut self, job: Job) {
        let step = match job.operation {
            Operation::Read => Step::Read,
            Operation::Write { fua } => Step::Write { stable: fua },
            Operation::Flush => Step::Sync,
            Operation::Discard => Step::Clear { flags: PUNCH, then: Fallback::Nothing },
            Operation::WriteZeroes { unmap: true } => {
                Step::Clear { flags: PUNCH, then: Fallback::ZeroRange }
            }
            Operation::WriteZeroes { unmap: false } => {
                Step::Clear { flags: ZERO, then: Fallback::WriteZeros }
            }
        };
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                self.flights.push(None);
                self.flights.len() - 1
            }
        };
        self.flights[slot] = Some(Flight { job, step });
        self.push(slot);
    }

    /// Puts the (rest of the) request in `slot` on the submission queue.
    fn push(&mut self, slot: usize) {
        let Some(entry) = self.entry(slot) else {
            return self.end(slot, Err(BackendError::UNKNOWN));
        };
        if self.queued == ENTRIES as usize {
            self.start();
        }
        // SAFETY: what the entry points to is the slot's: its vectors do not move and its memory
        // stays until the kernel's completion has been taken (`poll`, and `drop` waits for all).
        if unsafe { self.ring.submission().push(&entry) }.is_ok() {
            self.queued += 1;
        } else {
            self.end(slot, Err(BackendError { errno: Errno::AGAIN.raw_os_error() }));
        }
    }

    fn entry(&self, slot: usize) -> Option<squeue::Entry> {
        let Flight { job, step } = self.flights.get(slot)?.as_ref()?;
        let raw = self.raw()?;
        let (vectors, count) = job.data.next();
        let fd = |fd: BorrowedFd<'_>| types::Fd(fd.as_raw_fd());
        let file = || fd(raw.descriptor(job.offset, &job.data));
        Some(
            match *step {
                Step::Read => {
                    opcode::Readv::new(file(), vectors, count as u32).offset(job.offset).build()
                }
                Step::Write { stable } => {
                    let flags = if stable { libc::RWF_DSYNC } else { 0 };
                    opcode::Writev::new(file(), vectors, count as u32)
                        .offset(job.offset)
                        .rw_flags(flags)
                        .build()
                }
                Step::Sync => {
                    opcode::Fsync::new(fd(raw.file())).flags(types::FsyncFlags::DATASYNC).build()
                }
                Step::Clear { flags, .. } => opcode::Fallocate::new(fd(raw.file()), job.length)
                    .offset(job.offset)
                    .mode(flags.bits() as i32)
                    .build(),
            }
            .user_data(slot as u64),
        )
    }

    pub fn start(&mut self) {
        while self.queued > 0 {
            match self.ring.submit() {
                Ok(count) => self.queued = self.queued.saturating_sub(count.max(1)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The kernel has no memory for it, or too many completions wait: the entries stay
                // queued, and `poll`, which makes room, starts them again.
                Err(_) => return,
            }
        }
    }

    pub fn poll(&mut self) -> Option<Completion> {
        loop {
            if let Some(completion) = self.done.pop_front() {
                return Some(completion);
            }
            let Some(entry) = self.ring.completion().next() else {
                if self.queued == 0 {
                    return None;
                }
                let before = self.queued;
                self.start();
                if self.queued == before {
                    return None;
                }
                continue;
            };
            self.completed(entry.user_data() as usize, entry.result());
        }
    }

    /// The kernel has finished with the request in `slot`.
    fn completed(&mut self, slot: usize, result: i32) {
        let Some(Some(flight)) = self.flights.get_mut(slot) else { return };
        let errno = if result < 0 { Some(Errno::from_raw_os_error(-result)) } else { None };
        match (flight.step, result) {
            (Step::Read | Step::Write { .. }, 1..) => {
                flight.job.data.advance(result as usize);
                flight.job.offset += result as u64;
                if flight.job.data.left() == 0 {
                    self.end(slot, Ok(()));
                } else {
                    self.again(slot);
                }
            }
            // The file has become shorter.
            (Step::Read | Step::Write { .. }, 0) if flight.job.data.left() > 0 => {
                self.end(slot, Err(BackendError::UNKNOWN));
            }
            (_, 0..) => self.end(slot, Ok(())),
            _ if matches!(errno, Some(Errno::INTR | Errno::AGAIN)) => self.again(slot),
            (Step::Clear { then, .. }, _) if errno.is_some_and(unsupported) => {
                flight.step = match then {
                    Fallback::Nothing => return self.end(slot, Ok(())),
                    Fallback::ZeroRange => Step::Clear { flags: ZERO, then: Fallback::WriteZeros },
                    Fallback::WriteZeros => {
                        flight.job.data = Pieces::zeros(flight.job.length);
                        Step::Write { stable: false }
                    }
                };
                self.again(slot);
            }
            _ => self.end(slot, Err(BackendError { errno: -result })),
        }
    }

    fn again(&mut self, slot: usize) {
        self.push(slot);
        self.start();
    }

    fn end(&mut self, slot: usize, result: Result<(), BackendError>) {
        if let Some(flight) = self.flights.get_mut(slot).and_then(Option::take) {
            self.free.push(slot);
            self.done.push_back(Completion { tag: flight.job.tag, result });
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        // The kernel may touch guest memory until its last completion.
        while self.flights.iter().any(Option::is_some) {
            self.start();
            if self.ring.submit_and_wait(1).is_err_and(|e| e.kind() != io::ErrorKind::Interrupted) {
                // Cannot be waited for: rather leak what the kernel still points to.
                std::mem::forget(std::mem::take(&mut self.flights));
                return;
            }
            while self.poll().is_some() {}
        }
    }
}
