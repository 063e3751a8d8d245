//! The text trace: a line per event, written as events come. Nothing is lost: a slow file holds the
//! guest up.

use std::io::{BufWriter, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use xinim_devices::trace::{Event, TraceSink};

/// Large, so that a trace costs few system calls.
const BUFFER: usize = 256 << 10;

/// Writes one line per event.
pub struct TextTrace {
    state: Mutex<State>,
    events: AtomicU64,
}

struct State {
    output: BufWriter<Box<dyn Write + Send>>,
    error: Option<std::io::Error>,
}

impl TextTrace {
    pub fn new(output: impl Write + Send + 'static) -> Self {
        let output: Box<dyn Write + Send> = Box::new(output);
        let output = BufWriter::with_capacity(BUFFER, output);
        Self { state: Mutex::new(State { output, error: None }), events: AtomicU64::new(0) }
    }

    pub fn events(&self) -> u64 {
        self.events.load(Ordering::Relaxed)
    }

    /// Writes out what is buffered; the first error of the whole trace, if there was one.
    pub fn finish(&self) -> std::io::Result<()> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        match state.error.take() {
            Some(error) => Err(error),
            None => state.output.flush(),
        }
    }
}

impl TraceSink for TextTrace {
    fn event(&self, event: &Event<'_>) {
        self.events.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.error.is_none()
            && let Err(error) = writeln!(state.output, "{event}")
        {
            state.error = Some(error);
        }
    }
}
