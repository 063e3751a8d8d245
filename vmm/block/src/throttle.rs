//! A disk whose requests wait until its limits let them pass, in the order they came. A timer wakes
//! the machine when the next one may go.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};
use xinim_devices::backend::{BackendError, Completion, Operation};
use xinim_machine::Limits;

use crate::limits::Buckets;
use crate::pool::Job;

/// Requests on their way through the limits.
pub struct Throttle {
    buckets: Buckets,
    start: Instant,
    waiting: VecDeque<Job>,
    cancelled: VecDeque<Completion>,
    timer: Arc<OwnedFd>,
}

impl Throttle {
    pub fn new(limits: &Limits) -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = Arc::new(timerfd_create(TimerfdClockId::Monotonic, flags)?);
        let buckets = Buckets::new(limits, Duration::ZERO);
        let (waiting, cancelled) = (VecDeque::new(), VecDeque::new());
        Ok(Self { buckets, start: Instant::now(), waiting, cancelled, timer })
    }

    /// Readable (anew) when a request may pass.
    pub fn wake(&self) -> BorrowedFd<'_> {
        self.timer.as_fd()
    }

    pub fn submit(&mut self, job: Job) {
        self.waiting.push_back(job);
    }

    /// The next request that may go now. Otherwise the timer is set for it.
    pub fn next(&mut self) -> Option<Job> {
        let job = self.waiting.front()?;
        let bytes = match job.operation {
            Operation::Discard | Operation::Flush => 0,
            _ => job.length,
        };
        match self.buckets.pass(bytes, self.start.elapsed()) {
            Ok(()) => self.waiting.pop_front(),
            Err(wait) => {
                self.set_timer(wait);
                None
            }
        }
    }

    fn set_timer(&self, wait: Duration) {
        // Zero would switch it off; a little late is better than too early once more.
        let wait = wait.max(Duration::from_micros(50));
        let value = Timespec {
            tv_sec: wait.as_secs().min(i64::MAX as u64) as i64,
            tv_nsec: wait.subsec_nanos().into(),
        };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = Itimerspec { it_interval: never, it_value: value };
        // Cannot fail with a valid descriptor and value.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting);
    }

    /// Takes back everything that waits.
    pub fn cancel(&mut self) {
        let result = Err(BackendError::CANCELLED);
        let ended = self.waiting.drain(..).map(|job| Completion { tag: job.tag, result });
        self.cancelled.extend(ended);
    }

    pub fn poll(&mut self) -> Option<Completion> {
        self.cancelled.pop_front()
    }
}
