//! Why a run is to end before the machine ends it: one place that remembers the first reason and
//! stops the engine, whichever thread finds out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use xinim_abi::exit;
use xinim_machine::Stopper;

use crate::terminal;

/// An engine ends within 100 ms of being stopped; one that has not after this long never will.
const ENGINE_GRACE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// `--timeout` elapsed.
    TimedOut(Duration),
    /// A signal arrived.
    Signal(i32),
    /// Ctrl-A x.
    Left,
    /// Whoever read our standard output has closed it.
    OutputClosed,
    /// Something on the host's side, as one sentence.
    Failed(String),
}

impl StopReason {
    /// The exit status of a run that ended so.
    pub fn status(&self) -> u8 {
        match self {
            StopReason::TimedOut(_) => exit::TIMEOUT,
            StopReason::Signal(_) => exit::INTERRUPTED,
            // The reader of `… --exec … | head -1` has what it wanted; so has who typed Ctrl-A x.
            StopReason::Left | StopReason::OutputClosed => 0,
            StopReason::Failed(_) => exit::VMM_FAILED,
        }
    }
}

/// Shared by all threads of a run.
#[derive(Clone, Debug, Default)]
pub struct Control {
    stopper: Stopper,
    reason: Arc<Mutex<Option<StopReason>>>,
    ended: Arc<AtomicBool>,
}

impl Control {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Ends the run; the first reason counts.
    pub fn stop(&self, reason: StopReason) {
        let (first, timed_out) = {
            let mut slot = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
            let first = slot.is_none();
            let timed_out = first && matches!(reason, StopReason::TimedOut(_));
            slot.get_or_insert(reason);
            (first, timed_out)
        };
        if first {
            self.watch_engine();
        }
        if timed_out {
            self.stopper.time_out();
        } else {
            self.stopper.stop();
        }
    }

    pub fn reason(&self) -> Option<StopReason> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The engine has returned for good.
    pub fn ended(&self) {
        self.ended.store(true, Ordering::SeqCst);
    }

    /// The last resort against an engine that does not stop: the terminal comes back and the
    /// process ends with the status it owes.
    fn watch_engine(&self) {
        let control = self.clone();
        std::thread::spawn(move || {
            std::thread::sleep(ENGINE_GRACE);
            if !control.ended.load(Ordering::SeqCst) {
                control.leave_now("the engine did not stop");
            }
        });
    }

    fn leave_now(&self, why: &str) -> ! {
        terminal::restore();
        eprintln!("xinim-vmm: {why}");
        let status = self.reason().map_or(exit::VMM_FAILED, |reason| reason.status());
        std::process::exit(status.into());
    }
}

/// Ends the run after `timeout` unless dropped before.
#[derive(Debug)]
pub struct Deadline {
    _cancel: Sender<()>,
}

impl Deadline {
    pub fn start(timeout: Duration, control: Control) -> Self {
        let (cancel, cancelled) = mpsc::channel::<()>();
        std::thread::spawn(move || {
            if cancelled.recv_timeout(timeout) == Err(RecvTimeoutError::Timeout) {
                control.stop(StopReason::TimedOut(timeout));
            }
        });
        Self { _cancel: cancel }
    }
}

/// SIGINT, SIGTERM and SIGHUP end the run; a second one ends the process at once.
#[derive(Debug)]
pub struct SignalWatch {
    handle: Handle,
}

impl SignalWatch {
    pub fn start(control: Control) -> std::io::Result<Self> {
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
        let handle = signals.handle();
        std::thread::spawn(move || {
            let mut seen = 0;
            for signal in signals.forever() {
                seen += 1;
                if seen > 1 {
                    control.leave_now("interrupted twice");
                }
                control.stop(StopReason::Signal(signal));
            }
        });
        Ok(Self { handle })
    }
}

impl Drop for SignalWatch {
    fn drop(&mut self) {
        self.handle.close();
    }
}

#[cfg(test)]
#[path = "control_tests.rs"]
mod tests;
