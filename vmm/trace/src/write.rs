//! The binary trace on its way to the file: events are encoded where they happen, into a bounded
//! buffer that a thread writes out.
//!
//! A disk that is slower than the guest fills the buffer; then events are dropped, counted, and the
//! count stands in the file where they are missing. Memory is at most two buffers.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use xinim_devices::trace::{Event, TraceSink};

use crate::encode::{Encoder, header, numbers, tag};

/// Bytes that may wait for the thread.
pub const BUFFER_MAX: usize = 8 << 20;
/// The thread is woken when so many wait, or after [`PATIENCE`].
const CHUNK: usize = 128 << 10;
const PATIENCE: Duration = Duration::from_millis(100);

/// What a finished trace came to.
#[derive(Debug, Default)]
pub struct Written {
    pub events: u64,
    pub lost: u64,
    pub error: Option<std::io::Error>,
}

struct State {
    encoder: Encoder,
    waiting: Vec<u8>,
    limit: usize,
    events: u64,
    lost: u64,
    /// Of those, not yet in the file.
    untold: u64,
    finishing: bool,
    error: Option<std::io::Error>,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// The thread has taken what waited.
    taken: Condvar,
}

/// A sink that writes a binary trace.
pub struct BinaryTrace {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

fn lock(shared: &Shared) -> MutexGuard<'_, State> {
    shared.state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BinaryTrace {
    /// Writes to `output`, beginning with the header.
    pub fn start(
        output: impl Write + Send + 'static,
        about: &serde_json::Value,
    ) -> std::io::Result<Arc<Self>> {
        Self::with_limit(output, about, BUFFER_MAX)
    }

    /// Waits for a slow output instead of losing events: for conversions, not for machines.
    pub fn unbounded(
        output: impl Write + Send + 'static,
        about: &serde_json::Value,
    ) -> std::io::Result<Arc<Self>> {
        Self::with_limit(output, about, usize::MAX)
    }

    pub(crate) fn with_limit(
        output: impl Write + Send + 'static,
        about: &serde_json::Value,
        limit: usize,
    ) -> std::io::Result<Arc<Self>> {
        let state = State {
            encoder: Encoder::default(),
            waiting: header(about),
            limit,
            events: 0,
            lost: 0,
            untold: 0,
            finishing: false,
            error: None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            wake: Condvar::new(),
            taken: Condvar::new(),
        });
        let worker = shared.clone();
        let thread = std::thread::Builder::new()
            .name("trace".into())
            .spawn(move || write_out(&worker, output))?;
        Ok(Arc::new(Self { shared, thread: Mutex::new(Some(thread)) }))
    }

    /// Events seen and lost so far.
    pub fn counts(&self) -> (u64, u64) {
        let state = lock(&self.shared);
        (state.events, state.lost)
    }

    /// Waits until everything is in the file.
    pub fn finish(&self) -> Written {
        {
            let mut state = lock(&self.shared);
            if !state.finishing {
                state.tell_losses();
                let (events, lost) = (state.events, state.lost);
                numbers(&mut state.waiting, tag::END, &[events, lost]);
            }
            state.finishing = true;
        }
        self.shared.wake.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic of the thread has been reported by itself.
            let _ = thread.join();
        }
        let mut state = lock(&self.shared);
        Written { events: state.events, lost: state.lost, error: state.error.take() }
    }
}

impl Drop for BinaryTrace {
    fn drop(&mut self) {
        self.finish();
    }
}

impl State {
    fn tell_losses(&mut self) {
        if self.untold > 0 {
            numbers(&mut self.waiting, tag::LOST, &[self.untold]);
            self.untold = 0;
        }
    }
}

impl TraceSink for BinaryTrace {
    fn event(&self, event: &Event<'_>) {
        let mut state = lock(&self.shared);
        while state.limit == usize::MAX && state.waiting.len() >= BUFFER_MAX {
            self.shared.wake.notify_one();
            let waited = self.shared.taken.wait_timeout(state, PATIENCE);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let state = &mut *state;
        if state.finishing {
            return;
        }
        if state.waiting.len() >= state.limit || state.error.is_some() {
            state.lost += 1;
            state.untold += 1;
            return;
        }
        state.tell_losses();
        let before = state.waiting.len();
        state.encoder.event(event, &mut state.waiting);
        state.events += 1;
        if before < CHUNK && state.waiting.len() >= CHUNK {
            self.shared.wake.notify_one();
        }
    }
}

fn write_out(shared: &Shared, mut output: impl Write) {
    let mut taken = Vec::with_capacity(CHUNK);
    loop {
        let last = {
            let mut state = lock(shared);
            if state.waiting.len() < CHUNK && !state.finishing {
                let waited = shared.wake.wait_timeout(state, PATIENCE);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            std::mem::swap(&mut state.waiting, &mut taken);
            state.finishing
        };
        shared.taken.notify_all();
        let mut result = output.write_all(&taken);
        if last && result.is_ok() {
            result = output.flush();
        }
        if let Err(error) = result {
            lock(shared).error.get_or_insert(error);
        }
        taken.clear();
        if last {
            return;
        }
    }
}
