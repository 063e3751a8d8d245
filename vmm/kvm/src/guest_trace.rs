//! The guest's own events: rings in its memory, read while somebody listens.
//!
//! ```text
//! hub wants GUEST --> switch in the guest's information page on --> rings fill
//!       thread: every millisecond each ring from where it stood --> times converted --> hub
//! nobody any more --> switch off, one last look, the thread sleeps
//! ```
//! Everything in a ring is the guest's word: numbers are bounded by the ring's size, and what was
//! overwritten before it was read counts as lost and is said as such ([`lost`](GuestEvents::lost)).
//! A process's ring goes with the process: its last millisecond may be missing.
//!
//! Times: the guest notes its TSC right before and after it announces its page; the machine's clock
//! stood between them. How fast the TSC runs the host's own shows, measured over the machine's
//! whole life. A guest whose TSC is scaled by KVM would be wrong by that factor; this engine never
//! asks for scaling.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use vm_memory::{Bytes, GuestAddress, GuestMemoryBackend};
use xinim_abi::platform::{TRACE_NOBODY, TRACE_SLOTS};
use xinim_abi::trace::{
    KERNEL_RING_AT, KERNEL_RING_LEN, PROCESS_RING_LEN, PROCESS_RINGS_OFFSET, RECORD_SIZE,
    RING_HEADER, Record, SWITCH_AT, SWITCH_EVENTS, SWITCH_GRANTS, TSC_AFTER, TSC_BEFORE, capacity,
    kind,
};
use xinim_devices::backend::Clock;
use xinim_devices::device::{Origin, Process};
use xinim_devices::trace::{Event, EventKind, Guest, Interest};
use zerocopy::FromBytes;

use crate::memory::GuestRam;
use crate::shared::Shared;

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(1);
/// A record that is begun and not finished is waited for so many looks.
const PATIENCE: u32 = 50;
/// Names of processes that ended are remembered for events read later.
const NAMES_MAX: usize = 4096;

/// The thread; dropping it reads what is left.
pub struct GuestEvents {
    state: Arc<Waiting>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Waiting {
    /// What the guest's switch is to be; and whether to end.
    state: Mutex<(u64, bool)>,
    wake: Condvar,
    lost: AtomicU64,
}

impl GuestEvents {
    pub fn start(shared: Arc<Shared>) -> std::io::Result<Self> {
        let state = Arc::new(Waiting::default());
        let (waiting, machine) = (state.clone(), shared.clone());
        let thread = std::thread::Builder::new()
            .name("guest-events".into())
            .spawn(move || serve(&waiting, &machine))?;
        let watched = state.clone();
        shared.hub.watch(move |interest| {
            let mut state = watched.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.0 = switches(interest);
            watched.wake.notify_one();
        });
        Ok(Self { state, thread: Some(thread) })
    }
}

impl Drop for GuestEvents {
    fn drop(&mut self) {
        self.state.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.state.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            // A panic has been reported by itself.
            let _ = thread.join();
        }
        let lost = self.state.lost.load(Ordering::Relaxed);
        if lost > 0 {
            eprintln!("xinim-vmm: trace: {lost} of the guest's own events were lost");
        }
    }
}

fn serve(waiting: &Waiting, shared: &Shared) {
    let mut rings = Rings::new(shared);
    let mut on = 0;
    loop {
        let (wanted, ending) = {
            let mut state = waiting.state.lock().unwrap_or_else(PoisonError::into_inner);
            if state.0 == 0 && !state.1 && on == 0 {
                state = waiting.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
            } else if !state.1 {
                let waited = waiting.wake.wait_timeout(state, PERIOD);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
            *state
        };
        if wanted != on || wanted != 0 {
            let set = switch(shared, if ending { 0 } else { wanted });
            on = if set { wanted } else { 0 };
        }
        let now = shared.clock.monotonic().as_nanos() as u64;
        rings.read();
        if let Some(strict) = &shared.strict {
            strict.settle(now, rings.lost);
        }
        shared.meter.rest(&shared.hub);
        waiting.lost.store(rings.lost, Ordering::Relaxed);
        if ending {
            return;
        }
    }
}

/// The guest's switch for what the sinks want.
fn switches(interest: Interest) -> u64 {
    if interest.intersects(Interest::GUEST) {
        SWITCH_EVENTS | SWITCH_GRANTS
    } else if interest.intersects(Interest::GRANT) {
        SWITCH_GRANTS
    } else {
        0
    }
}

/// Tells the guest; false while it has not announced its page.
fn switch(shared: &Shared, value: u64) -> bool {
    let Some((page, _)) = shared.page.place() else { return false };
    let ram = shared.ram.map();
    let at: u64 = ram.read_obj(GuestAddress(page + SWITCH_AT as u64)).unwrap_or(0);
    // Somewhere in RAM is all that is known of it; the guest may harm itself.
    at != 0 && ram.write_obj(value, GuestAddress(at)).is_ok()
}

/// The guest has just announced its page, and waits: what is wanted is so from its first event on.
pub fn announced(shared: &Shared) {
    switch(shared, switches(shared.hub.interest()));
}

/// Where a ring was read up to.
#[derive(Clone, Copy, Default)]
struct Position {
    address: u64,
    pid: u32,
    next: u64,
    waited: u32,
}

struct Rings<'a> {
    shared: &'a Shared,
    kernel: Position,
    processes: Vec<Position>,
    names: HashMap<u32, Process>,
    /// Host's TSC and machine's time at the start of the thread.
    start: (u64, u64),
    lost: u64,
    buffer: Vec<u8>,
}

/// What turns a TSC into the machine's time.
#[derive(Clone, Copy)]
struct Scale {
    tsc: u64,
    ns: u64,
    ns_per_tick: f64,
}

impl Scale {
    fn time(self, tsc: u64) -> u64 {
        let ticks = tsc.wrapping_sub(self.tsc) as i64;
        self.ns.saturating_add_signed((ticks as f64 * self.ns_per_tick) as i64)
    }
}

fn host_tsc() -> u64 {
    // SAFETY: rdtsc touches no memory, and every x86-64 host lets programs use it.
    unsafe { std::arch::x86_64::_rdtsc() }
}

impl<'a> Rings<'a> {
    fn new(shared: &'a Shared) -> Self {
        let start = (host_tsc(), shared.clock.monotonic().as_nanos() as u64);
        Self {
            shared,
            kernel: Position::default(),
            processes: vec![Position::default(); TRACE_SLOTS],
            names: HashMap::new(),
            start,
            lost: 0,
            buffer: Vec::new(),
        }
    }

    fn ram(&self) -> &'a GuestRam {
        &self.shared.ram
    }

    fn word(&self, at: u64) -> u64 {
        self.ram().map().read_obj(GuestAddress(at)).unwrap_or(0)
    }

    fn scale(&self) -> Option<Scale> {
        let (page, announced) = self.shared.page.place()?;
        let before = self.word(page + TSC_BEFORE as u64);
        let after = self.word(page + TSC_AFTER as u64);
        let tsc = before.wrapping_add(after.wrapping_sub(before) / 2);
        let ticks = host_tsc().wrapping_sub(self.start.0).max(1);
        let now = self.shared.clock.monotonic().as_nanos() as u64;
        let ns_per_tick = now.saturating_sub(self.start.1) as f64 / ticks as f64;
        Some(Scale { tsc, ns: announced, ns_per_tick })
    }

    /// Passes on what is new in every ring.
    fn read(&mut self) {
        let (Some((page, _)), Some(scale)) = (self.shared.page.place(), self.scale()) else {
            return;
        };
        for slot in 0..TRACE_SLOTS as u32 {
            if let Some(process) = self.shared.page.in_slot(self.ram(), slot) {
                if self.names.len() >= NAMES_MAX {
                    self.names.clear();
                }
                self.names.insert(process.pid, process);
            }
        }
        let address = self.word(page + KERNEL_RING_AT as u64);
        let mut position = self.kernel;
        if position.address != address {
            position = Position { address, ..Position::default() };
        }
        self.kernel = self.ring(position, KERNEL_RING_LEN, scale, None);
        for slot in 0..TRACE_SLOTS {
            let at = page + PROCESS_RINGS_OFFSET as u64 + slot as u64 * 8;
            let address = self.word(at);
            if address == 0 {
                continue;
            }
            let Some(process) = self.shared.page.in_slot(self.ram(), slot as u32) else { continue };
            let mut position = self.processes[slot];
            if (position.address, position.pid) != (address, process.pid) {
                position = Position { address, pid: process.pid, next: 0, waited: 0 };
            }
            self.processes[slot] =
                self.ring(position, PROCESS_RING_LEN, scale, Some((process, at)));
        }
    }

    /// One ring from where it was left; `owner`: of a process's, with the place of its address.
    fn ring(
        &mut self,
        mut position: Position,
        length: usize,
        scale: Scale,
        owner: Option<(Process, u64)>,
    ) -> Position {
        let base = position.address;
        if base == 0 || !self.ram().map().check_range(GuestAddress(base), length) {
            return position;
        }
        let capacity = capacity(length) as u64;
        let head = self.word(base);
        let behind = head.wrapping_sub(position.next);
        if behind > capacity {
            // Overrun; half a ring of room before the writer is here again.
            let skipped = if behind > 1 << 62 { 0 } else { behind - capacity / 2 };
            self.lost += skipped;
            position.next = head.wrapping_sub((capacity / 2).min(head));
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.resize(length, 0);
        let copied = self.ram().map().read_slice(&mut buffer, GuestAddress(base)).is_ok();
        // Another process may have the ring's memory by now.
        let still = owner.is_none_or(|(_, at)| self.word(at) == base);
        if copied && still {
            while position.next != head {
                let at = RING_HEADER + (position.next % capacity) as usize * RECORD_SIZE;
                let Ok(record) = Record::read_from_bytes(&buffer[at..at + RECORD_SIZE]) else {
                    break;
                };
                if record.sequence != (position.next as u32).wrapping_add(1) {
                    position.waited += 1;
                    if position.waited < PATIENCE {
                        break;
                    }
                    self.lost += 1;
                } else {
                    self.pass(&record, scale, owner.map(|(process, _)| process));
                }
                position.waited = 0;
                position.next = position.next.wrapping_add(1);
            }
        }
        self.buffer = buffer;
        position
    }

    fn pass(&self, record: &Record, scale: Scale, owner: Option<Process>) {
        // Whose event it is: in the kernel's ring that depends.
        let about = match record.kind {
            kind::SWITCH => record.a as u32,
            kind::CALL | kind::DMA_GRANT => record.b as u32,
            kind::REPLY => TRACE_NOBODY,
            _ => record.b as u32,
        };
        let process = owner.or_else(|| self.names.get(&about).copied());
        let origin = Origin {
            time_ns: scale.time(record.tsc),
            vcpu: Some(record.cpu.into()),
            rip: 0,
            process,
        };
        let Record { kind, name, a, b, .. } = *record;
        let kind = EventKind::Guest(Guest { kind: kind.into(), name, a, b });
        self.shared.hub.send(&Event { origin, device: "guest", kind, data: &[] });
    }
}

#[cfg(test)]
#[path = "guest_trace_tests.rs"]
mod tests;
