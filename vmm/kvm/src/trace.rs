//! The text trace, and the page by which the guest kernel says which process runs where.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};
use xinim_abi::platform::{
    TRACE_CPUS, TRACE_MAGIC, TRACE_PAGES, TRACE_SLOTS, TRACE_TABLE_OFFSET, TracePageHeader,
};
use xinim_devices::bus::lock;
use xinim_devices::device::Process;
use xinim_devices::trace::{Event, TraceSink};

use crate::memory::GuestRam;

const PAGE: u64 = 4096;
/// The version of the layout this engine reads.
const TRACE_VERSION: u32 = 1;
/// Large, so that a trace costs few system calls.
const BUFFER: usize = 256 << 10;

/// Writes one line per event. Flushed by [`TextTrace::finish`].
#[derive(Debug)]
pub struct TextTrace {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: BufWriter<File>,
    error: Option<std::io::Error>,
}

impl TextTrace {
    pub fn create(path: &Path) -> std::io::Result<Self> {
        let file = BufWriter::with_capacity(BUFFER, File::create(path)?);
        Ok(Self { state: Mutex::new(State { file, error: None }) })
    }

    /// Writes out what is buffered; the first error of the whole trace, if there was one.
    pub fn finish(&self) -> std::io::Result<()> {
        let mut state = lock(&self.state);
        match state.error.take() {
            Some(error) => Err(error),
            None => state.file.flush(),
        }
    }
}

impl TraceSink for TextTrace {
    fn event(&self, event: &Event<'_>) {
        let mut state = lock(&self.state);
        if state.error.is_none()
            && let Err(error) = writeln!(state.file, "{event}")
        {
            state.error = Some(error);
        }
    }
}

/// Where the guest kernel publishes its running processes, once it has said so.
#[derive(Debug, Default)]
pub struct TracePage {
    /// Guest physical address; 0: not announced (page 0 is never it).
    address: AtomicU64,
}

impl TracePage {
    /// The guest announced page frame `frame`. Ignored unless such a page is there.
    pub fn announce(&self, ram: &GuestRam, frame: u64) {
        let Some(address) = frame.checked_mul(PAGE) else { return };
        if !ram.map().check_range(GuestAddress(address), TRACE_PAGES * PAGE as usize) {
            return;
        }
        let word = |at| ram.map().read_obj::<u32>(GuestAddress(at));
        if let (Ok(TRACE_MAGIC), Ok(TRACE_VERSION)) = (word(address), word(address + 4)) {
            self.address.store(address, Ordering::Relaxed);
        }
    }

    /// The process that runs on `vcpu`; `None` in boot and when idle.
    pub fn process(&self, ram: &GuestRam, vcpu: u32) -> Option<Process> {
        let address = self.address.load(Ordering::Relaxed);
        if address == 0 || vcpu as usize >= TRACE_CPUS {
            return None;
        }
        let running = std::mem::offset_of!(TracePageHeader, running) as u64;
        let word = |at| ram.map().read_obj::<u32>(GuestAddress(at)).ok();
        let slot = word(address + running + u64::from(vcpu) * 4)?;
        if slot as usize >= TRACE_SLOTS {
            return None;
        }
        let entry = address + TRACE_TABLE_OFFSET as u64 + u64::from(slot) * 32;
        let mut process = Process { pid: word(entry)?, name: [0; 28] };
        ram.map().read_slice(&mut process.name, GuestAddress(entry + 4)).ok()?;
        (process.pid != 0).then_some(process)
    }
}

#[cfg(test)]
#[path = "trace_tests.rs"]
mod tests;
