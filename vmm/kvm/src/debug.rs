//! The debug console's way to the host. The kernel's last words go through it, one byte per exit,
//! so nothing is dropped: bytes are gathered to lines, kept while the reader is slow, and only
//! when very many wait does the guest wait, too.

use std::sync::{Arc, Mutex};

use xinim_devices::backend::ByteStream;
use xinim_devices::bus::lock;

use crate::shared::Ending;
use crate::stream::HostStream;

/// A line is handed on when it has this many bytes, complete or not.
const LINE: usize = 256;
/// Bytes that may wait for the reader before the guest is held up.
const WAITING_MAX: usize = 256 << 10;
/// Between two looks at whether the machine is to end.
const STEP_MS: i32 = 20;

/// Shared by the device and the I/O thread.
#[derive(Clone)]
pub struct DebugStream {
    state: Arc<Mutex<State>>,
    ending: Arc<Ending>,
}

struct State {
    stream: HostStream,
    waiting: Vec<u8>,
}

impl State {
    /// Hands on what the reader takes now.
    fn flush(&mut self) {
        let taken = self.stream.write(&self.waiting);
        self.waiting.drain(..taken);
    }
}

impl DebugStream {
    pub fn new(stream: HostStream, ending: Arc<Ending>) -> Self {
        Self { state: Arc::new(Mutex::new(State { stream, waiting: Vec::new() })), ending }
    }

    /// Hands on everything the reader takes now, incomplete lines as well.
    pub fn flush(&self) {
        lock(&self.state).flush();
    }
}

impl ByteStream for DebugStream {
    fn write(&mut self, data: &[u8]) -> usize {
        let mut state = lock(&self.state);
        state.waiting.extend_from_slice(data);
        if state.waiting.len() >= LINE || data.contains(&b'\n') {
            state.flush();
        }
        while state.waiting.len() > WAITING_MAX && !self.ending.stopping() {
            if let Some(output) = state.stream.output() {
                output.wait(STEP_MS);
            }
            state.flush();
        }
        data.len()
    }

    fn read(&mut self, _data: &mut [u8]) -> usize {
        0
    }
}
