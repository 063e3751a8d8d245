//! The I/O thread: everything that happens to devices without a guest access.
//!
//! ```text
//!   doorbell eventfd ------> bus.notify          (again while the device says so)
//!   disk's completions ----> DriveBays::ready
//!   host bytes in ---------> port.input_ready
//!   room for host bytes ---> port.output_ready
//!   ending's eventfd ------> stop; work vCPUs left behind
//! ```
//!
//! It is the thread that called the engine. After the machine's end it still carries out the
//! doorbells that were rung before, and waits until every byte the guest has sent is with its
//! reader: a guest that writes and powers off loses nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vmm_sys_util::epoll::{Epoll, EpollEvent};
use xinim_abi::hw::pci::Bdf;
use xinim_devices::backend::Clock;
use xinim_devices::bus::lock;
use xinim_devices::device::Origin;
use xinim_machine::{EngineError, Stopper};

use crate::disks::Disks;
use crate::doorbell::{Doorbells, FIRST_TOKEN};
use crate::exits::{Counts, Kind};
use crate::host::host_io;
use crate::shared::{Pending, Shared};
use crate::stream::{OutputState, Tokens};

/// Token of [`crate::shared::Ending`]'s eventfd.
pub const WAKE_TOKEN: u64 = 0;
const EVENTS: usize = 32;
/// How long a reader may take for the last bytes of a machine that was stopped.
const STOPPED_DRAIN: Duration = Duration::from_millis(50);
/// Between two looks at whether the front wants to stop waiting for a reader.
const DRAIN_STEP_MS: i32 = 20;

/// A device with a byte stream to the host. The calls return whether there is more to do.
pub struct Port {
    pub tokens: Tokens,
    pub output: Option<Arc<OutputState>>,
    pub input_ready: Box<dyn FnMut(&Origin) -> bool>,
    pub output_ready: Box<dyn FnMut(&Origin) -> bool>,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Queue(Bdf, u16),
    Disk(Bdf, u16),
    Input(usize),
    Output(usize),
}

/// The loop and what it serves.
pub struct IoLoop {
    pub epoll: Arc<Epoll>,
    pub shared: Arc<Shared>,
    pub doorbells: Option<Arc<Doorbells>>,
    pub ports: Vec<Port>,
    pub counts: Counts,
    work: Vec<Work>,
}

impl IoLoop {
    pub fn new(
        epoll: Arc<Epoll>,
        shared: Arc<Shared>,
        doorbells: Option<Arc<Doorbells>>,
        ports: Vec<Port>,
    ) -> Self {
        // Input that was there before the machine.
        let work = (0..ports.len()).map(Work::Input).collect();
        Self { epoll, shared, doorbells, ports, counts: Counts::default(), work }
    }

    /// Serves until the machine ends.
    pub fn run(&mut self) -> Result<(), EngineError> {
        while !self.shared.ending.stopping() {
            self.collect(if self.work.is_empty() { -1 } else { 0 })?;
            self.perform();
        }
        Ok(())
    }

    /// After the last vCPU has stopped: what it left behind.
    pub fn finish(&mut self, stop: &Stopper) -> Result<(), EngineError> {
        let start = Instant::now();
        let patience = || !stop.is_stopped() || start.elapsed() < STOPPED_DRAIN;
        loop {
            self.collect(0)?;
            if self.work.is_empty() || !patience() {
                break;
            }
            self.perform();
        }
        for index in 0..self.ports.len() {
            loop {
                self.work = vec![Work::Output(index)];
                while !self.work.is_empty() && patience() {
                    self.perform();
                }
                match &self.ports[index].output {
                    Some(output) if output.is_blocked() && patience() => {
                        output.wait(DRAIN_STEP_MS);
                    }
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Adds what has become ready.
    fn collect(&mut self, timeout: i32) -> Result<(), EngineError> {
        let mut events = [EpollEvent::default(); EVENTS];
        let count = match self.epoll.wait(timeout, &mut events) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => 0,
            Err(error) => return Err(host_io("waiting for events")(error)),
        };
        for event in &events[..count] {
            self.collect_one(event.data());
        }
        let left: Vec<Pending> = std::mem::take(&mut *lock(&self.shared.pending));
        for (function, queue) in left {
            add(&mut self.work, Work::Queue(function, queue));
        }
        Ok(())
    }

    fn collect_one(&mut self, token: u64) {
        if token == WAKE_TOKEN {
            // Non-blocking; the counter only says that something happened.
            let _ = self.shared.ending.wake().read();
        } else if let Some((function, unit)) = Disks::unit(token) {
            add(&mut self.work, Work::Disk(function, unit));
        } else if token >= FIRST_TOKEN {
            let rung = self.doorbells.as_ref().and_then(|doorbells| doorbells.take(token));
            if let Some(rung) = rung {
                self.counts.add(Kind::Doorbell);
                let access = (u64::from(rung.function.bits()) << 12, 0, u64::from(rung.queue));
                self.shared.record(None, Kind::Doorbell, access, 0);
                if self.shared.bus.doorbell(rung.function, rung.queue) {
                    add(&mut self.work, Work::Queue(rung.function, rung.queue));
                }
            }
        } else {
            for (index, port) in self.ports.iter().enumerate() {
                if token == port.tokens.input {
                    add(&mut self.work, Work::Input(index));
                } else if token == port.tokens.output {
                    add(&mut self.work, Work::Output(index));
                }
            }
        }
    }

    /// Does a bounded piece of each; what is not done stays.
    fn perform(&mut self) {
        let origin = Origin::host(self.shared.clock.monotonic().as_nanos() as u64);
        let mut work = std::mem::take(&mut self.work);
        work.retain(|item| match *item {
            Work::Queue(function, queue) => self.shared.bus.notify(function, queue, &origin),
            Work::Disk(function, unit) => {
                let bus = &self.shared.bus;
                bus.bays(function, |bays| bays.ready(unit, &origin)).unwrap_or(false)
            }
            Work::Input(index) => (self.ports[index].input_ready)(&origin),
            Work::Output(index) => {
                let port = &mut self.ports[index];
                if let Some(output) = &port.output {
                    output.unblock();
                }
                (port.output_ready)(&origin)
            }
        });
        self.work = work;
        if let Some(strict) = &self.shared.strict {
            strict.flush(None, &self.shared.ram, &self.shared.images, || None);
        }
    }
}

fn add(work: &mut Vec<Work>, item: Work) {
    if !work.contains(&item) {
        work.push(item);
    }
}
