//! Several descriptors and a timer behind one descriptor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

const TIMER: u64 = u64::MAX;
const ALARM: u64 = u64::MAX - 1;
/// Events taken at a time.
const EVENTS: usize = 64;

/// An epoll instance with a timer and an alarm that its owner can ring.
#[derive(Debug)]
pub struct Reactor {
    epoll: OwnedFd,
    timer: OwnedFd,
    alarm: OwnedFd,
    armed: Option<Instant>,
}

impl Reactor {
    pub fn new() -> Result<Self, Errno> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let alarm = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let edge = EventFlags::IN | EventFlags::ET;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), edge)?;
        epoll::add(&epoll, &alarm, EventData::new_u64(ALARM), edge)?;
        Ok(Self { epoll, timer, alarm, armed: None })
    }

    /// What the outside watches.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// Watches a descriptor for edges of input and output under `token`, which is not one of the
    /// two highest numbers.
    pub fn add(&self, fd: impl AsFd, token: u64) -> Result<(), Errno> {
        let edges = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.epoll, fd, EventData::new_u64(token), edges)
    }

    pub fn remove(&self, fd: impl AsFd) {
        // Closing would do it as well.
        let _ = epoll::delete(&self.epoll, fd);
    }

    /// Tokens of the descriptors with news, once each.
    pub fn poll(&mut self) -> Vec<u64> {
        let mut tokens = Vec::new();
        loop {
            let mut events = [const { std::mem::MaybeUninit::<Event>::uninit() }; EVENTS];
            let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
            let found = match epoll::wait(&self.epoll, &mut events, Some(&zero)) {
                Ok((found, _)) => found,
                Err(_) => break,
            };
            let count = found.len();
            for event in found.iter() {
                let token = event.data.u64();
                if token != TIMER && token != ALARM {
                    tokens.push(token);
                }
            }
            if count < EVENTS {
                break;
            }
        }
        tokens
    }

    /// Makes the descriptor readable now.
    pub fn ring(&self) {
        // Full means that it is readable already.
        let _ = rustix::io::write(&self.alarm, &1u64.to_ne_bytes());
    }

    /// Makes the descriptor readable at a time, or not at any.
    pub fn arm(&mut self, at: Option<Instant>) {
        if at == self.armed {
            return;
        }
        self.armed = at;
        let wait = at.map_or(Duration::ZERO, |at| {
            // Zero would disarm.
            at.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1))
        });
        let value = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
        let interval = Timespec { tv_sec: 0, tv_nsec: 0 };
        let setting = Itimerspec { it_interval: interval, it_value: value };
        // Fails only for values out of range.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting);
    }
}
