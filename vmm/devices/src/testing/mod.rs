//! Stand-ins for everything around a device, for tests (of this crate and of drivers that are
//! run against these models in one process): memory, disks, streams, interrupts, clock, trace.

pub mod disk;
pub mod driver;
pub mod net;

pub use disk::MemoryDisk;

use crate::backend::{ByteStream, Clock};
use crate::dma::{Dma, DmaError};
use crate::irq::{IrqLine, MsiMessage, MsiRoute, MsiSink};
use crate::trace::{Event, TraceSink};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Guest memory from address `base`, shared by device and driver.
#[derive(Debug)]
pub struct FlatMemory {
    base: u64,
    bytes: Mutex<Vec<u8>>,
}

impl FlatMemory {
    /// `size` zero bytes at `base`.
    pub fn new(base: u64, size: usize) -> Arc<Self> {
        Arc::new(Self { base, bytes: Mutex::new(vec![0; size]) })
    }

    pub fn base(&self) -> u64 {
        self.base
    }

    pub fn len(&self) -> usize {
        lock(&self.bytes).len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `count` bytes; empty where they are not all memory.
    pub fn dump(&self, address: u64, count: usize) -> Vec<u8> {
        let mut data = vec![0; count];
        if self.read(address, &mut data).is_err() {
            data.clear();
        }
        data
    }

    fn with<T>(
        &self,
        address: u64,
        length: usize,
        work: impl FnOnce(&mut [u8]) -> T,
    ) -> Result<T, DmaError> {
        let error = DmaError { address, length: length as u64 };
        let start = address.checked_sub(self.base).ok_or(error)?;
        let start = usize::try_from(start).map_err(|_| error)?;
        let end = start.checked_add(length).ok_or(error)?;
        lock(&self.bytes).get_mut(start..end).map(work).ok_or(error)
    }
}

impl Dma for FlatMemory {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        self.with(address, data.len(), |bytes| data.copy_from_slice(bytes))
    }

    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        self.with(address, data.len(), |bytes| bytes.copy_from_slice(data))
    }

    fn load_u16(&self, address: u64) -> Result<u16, DmaError> {
        let mut value = [0; 2];
        self.read(address, &mut value)?;
        Ok(u16::from_le_bytes(value))
    }

    fn store_u16(&self, address: u64, value: u16) -> Result<(), DmaError> {
        self.write(address, &value.to_le_bytes())
    }

    fn reaches(&self, address: u64, length: u64, _write: bool) -> bool {
        usize::try_from(length).is_ok_and(|length| self.with(address, length, |_| ()).is_ok())
    }
}

/// A stream whose far end is the test; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Pipe(Arc<Mutex<PipeState>>);

#[derive(Debug, Default)]
struct PipeState {
    input: VecDeque<u8>,
    output: Vec<u8>,
    /// Bytes the host still takes; `None`: any number.
    room: Option<usize>,
}

impl Pipe {
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes for the guest; the device must then be told `input_ready`.
    pub fn feed(&self, data: &[u8]) {
        lock(&self.0).input.extend(data);
    }

    /// What the guest sent since the last call.
    pub fn take(&self) -> Vec<u8> {
        std::mem::take(&mut lock(&self.0).output)
    }

    /// Lets the host take only so many more bytes.
    pub fn limit(&self, room: Option<usize>) {
        lock(&self.0).room = room;
    }

    /// Bytes the guest has not fetched.
    pub fn unread(&self) -> usize {
        lock(&self.0).input.len()
    }
}

impl ByteStream for Pipe {
    fn write(&mut self, data: &[u8]) -> usize {
        let mut state = lock(&self.0);
        let count = state.room.map_or(data.len(), |room| room.min(data.len()));
        state.output.extend_from_slice(&data[..count]);
        state.room = state.room.map(|room| room - count);
        count
    }

    fn read(&mut self, data: &mut [u8]) -> usize {
        let mut state = lock(&self.0);
        let count = data.len().min(state.input.len());
        for (to, from) in data.iter_mut().zip(state.input.drain(..count)) {
            *to = from;
        }
        count
    }
}

/// Remembers messages and routes.
#[derive(Debug, Default)]
pub struct MsiLog {
    signals: Mutex<Vec<(u16, MsiMessage)>>,
    routes: Mutex<Vec<(u16, MsiRoute)>>,
}

impl MsiLog {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Messages since the last call.
    pub fn take(&self) -> Vec<(u16, MsiMessage)> {
        std::mem::take(&mut lock(&self.signals))
    }

    /// Route changes since the last call.
    pub fn take_routes(&self) -> Vec<(u16, MsiRoute)> {
        std::mem::take(&mut lock(&self.routes))
    }
}

impl MsiSink for MsiLog {
    fn route(&self, vector: u16, route: MsiRoute) {
        lock(&self.routes).push((vector, route));
    }

    fn signal(&self, vector: u16, message: MsiMessage) {
        lock(&self.signals).push((vector, message));
    }
}

/// Remembers a line's level and how often it rose.
#[derive(Debug, Default)]
pub struct IrqLog(Mutex<(bool, usize)>);

impl IrqLog {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    pub fn level(&self) -> bool {
        lock(&self.0).0
    }

    pub fn rises(&self) -> usize {
        lock(&self.0).1
    }
}

impl IrqLine for IrqLog {
    fn set(&self, level: bool) {
        let mut state = lock(&self.0);
        state.1 += usize::from(level && !state.0);
        state.0 = level;
    }
}

/// A clock that stands still until moved.
#[derive(Debug, Default)]
pub struct ManualClock(Mutex<(Duration, Duration)>);

impl ManualClock {
    /// `wall` is the time since 1970.
    pub fn new(wall: Duration) -> Arc<Self> {
        Arc::new(Self(Mutex::new((Duration::ZERO, wall))))
    }

    pub fn advance(&self, by: Duration) {
        let mut state = lock(&self.0);
        state.0 += by;
        state.1 += by;
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        lock(&self.0).0
    }

    fn wall(&self) -> Duration {
        lock(&self.0).1
    }
}

/// Keeps events as lines of text.
#[derive(Debug, Default)]
pub struct TraceLog(Mutex<Vec<String>>);

impl TraceLog {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Lines since the last call.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.0))
    }
}

impl TraceSink for TraceLog {
    fn event(&self, event: &Event<'_>) {
        lock(&self.0).push(event.to_string());
    }
}
