//! Requests carried out by threads: for images that are more than a plain file, and for hosts without
//! io_uring. Threads start when there is work for them, and end with the queue.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use rustix::event::EventfdFlags;
use xinim_devices::backend::{BackendError, Completion, Operation};

use crate::image::{Image, carry_out};
use crate::memory::Pieces;

/// Threads of one disk.
const THREADS: usize = 4;

/// One request, resolved.
pub struct Job {
    pub tag: u64,
    pub operation: Operation,
    pub offset: u64,
    pub length: u64,
    pub data: Pieces,
}

/// What the threads share.
struct Shared {
    image: Arc<dyn Image>,
    state: Mutex<State>,
    work: Condvar,
    wake: OwnedFd,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    done: VecDeque<Completion>,
    idle: usize,
    ending: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The queue of one disk.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    pub fn new(image: Arc<dyn Image>) -> io::Result<Self> {
        let wake = rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let (state, work) = (Mutex::default(), Condvar::new());
        Ok(Self { shared: Arc::new(Shared { image, state, work, wake }), threads: Vec::new() })
    }

    /// Readable (anew) when completions have come.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.shared.wake.as_fd()
    }

    pub fn submit(&mut self, job: Job) {
        let mut state = self.shared.lock();
        state.jobs.push_back(job);
        if state.idle > 0 {
            self.shared.work.notify_one();
        } else if self.threads.len() < THREADS {
            let shared = self.shared.clone();
            let started = thread::Builder::new().name("disk".into()).spawn(move || serve(&shared));
            match started {
                Ok(thread) => self.threads.push(thread),
                Err(error) if self.threads.is_empty() => {
                    let result = Err(crate::image::backend_error(&error));
                    let job = state.jobs.pop_back();
                    state.done.extend(job.map(|job| Completion { tag: job.tag, result }));
                }
                Err(_) => {}
            }
        }
    }

    pub fn poll(&mut self) -> Option<Completion> {
        self.shared.lock().done.pop_front()
    }

    /// Takes back what no thread has begun.
    pub fn cancel(&mut self) {
        let mut state = self.shared.lock();
        let jobs = std::mem::take(&mut state.jobs);
        let result = Err(BackendError::CANCELLED);
        state.done.extend(jobs.iter().map(|job| Completion { tag: job.tag, result }));
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.cancel();
        self.shared.lock().ending = true;
        self.shared.work.notify_all();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

fn serve(shared: &Shared) {
    let mut state = shared.lock();
    loop {
        if let Some(mut job) = state.jobs.pop_front() {
            drop(state);
            let Job { tag, operation, offset, length, data } = &mut job;
            let result = carry_out(&*shared.image, *operation, *offset, *length, data);
            let completion = Completion { tag: *tag, result };
            // Gives the memory up before the guest may hear of it.
            drop(job);
            state = shared.lock();
            state.done.push_back(completion);
            // Whoever polls takes all there is: the first of several wakes it.
            if state.done.len() == 1 {
                let _ = rustix::io::write(&shared.wake, &1u64.to_ne_bytes());
            }
        } else if state.ending {
            return;
        } else {
            state.idle += 1;
            state = shared.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }
}
