//! Processes: an address space, a handle table, threads, and an end that others hear of.
//!
//! # The end
//! In this order: threads stop; interrupts bound to its endpoints are masked; the devices it pinned
//! memory for lose bus mastering and keep that memory in quarantine; its endpoints die (callers get
//! `ServerDied`); address space and handles go; at last the obituaries are published.

use core::cell::Cell;

use xinim_abi::error::{Error, Result};
use xinim_abi::event::{Obituary, Registers, cause};
use xinim_kernel_logic::handles::HandleTable;
use xinim_kernel_logic::list::{Link, Linked, List};
use xinim_kernel_logic::refs::{Ref, Slab};

use crate::arch::cpu::Cpu;
use crate::device::{self, Pin};
use crate::endpoint::{self, Endpoint, Watch};
use crate::global::Global;
use crate::memory_object::{Mapping, MemoryObject};
use crate::object::{self, Object};
use crate::physical;
use crate::smp;
use crate::space::{self, Tables};
use crate::thread::{self, SIBLING, Thread};
use crate::time;
use crate::trace;

#[repr(C, align(16))]
pub struct Process {
    pub pid: u32,
    pub parent: u32,
    pub alive: Cell<bool>,
    /// Its first thread was started: limits are fixed.
    pub started: Cell<bool>,
    /// Top-level page table.
    pub pml4: Cell<u64>,
    pub tables: Tables,
    pub handles: HandleTable,
    pub threads: List<Thread, SIBLING>,
    pub thread_count: Cell<u32>,
    pub thread_limit: Cell<u32>,
    pub priority_limit: Cell<u32>,
    /// Frames of the memory objects it created.
    pub frames: Cell<u64>,
    pub frame_limit: Cell<u64>,
    pub mappings: List<Mapping, 0>,
    pub mapping_count: Cell<u32>,
    /// Frames mapped.
    pub mapped: Cell<u64>,
    /// System calls refused, for `INFO`.
    pub refused: Cell<u64>,
    /// Endpoints it serves.
    pub endpoints: List<Endpoint, 0>,
    pub pins: List<Pin, 0>,
    /// Frames of its pins, and how many it may have.
    pub pinned: Cell<u64>,
    pub pinned_limit: Cell<u64>,
    /// Who hears of its end.
    pub watches: List<Watch, 0>,
    pub watch_count: Cell<u32>,
    pub trace_slot: Cell<u32>,
    /// Memory of its own trace events.
    pub trace_ring: Cell<Option<Ref<MemoryObject>>>,
    /// TSC ticks and system calls of threads that ended.
    pub ticks: Cell<u64>,
    pub system_calls: Cell<u64>,
    pub name: [u8; 32],
    /// Handles to it, and 1 while it lives.
    pub references: Cell<u32>,
    all: Link<Process>,
}

impl Linked<0> for Process {
    fn link(&self) -> &Link<Self> {
        &self.all
    }
}

static PROCESSES: Global<Slab<Process>> = Global::new(Slab::new());
/// The living, in order of their pids.
static ALL: Global<List<Process, 0>> = Global::new(List::new());
static LAST_PID: Global<Cell<u32>> = Global::new(Cell::new(0));
static COUNT: Global<Cell<u32>> = Global::new(Cell::new(0));
/// System calls of processes that ended.
static PAST_CALLS: Global<Cell<u64>> = Global::new(Cell::new(0));

/// The first process; the system ends with it.
pub const RS_PID: u32 = 1;

const DEFAULT_HANDLES: u32 = 256;
const DEFAULT_THREADS: u32 = 16;
const DEFAULT_PRIORITY: u32 = 8;
/// Most watches on one process.
const MAX_WATCHES: u32 = 64;
/// Processes in the whole system.
const MAX_PROCESSES: u32 = 1024;

/// Makes a process without threads. The caller owns one reference.
pub fn create(parent: u32, name: [u8; 32]) -> Result<Ref<Process>> {
    if COUNT.get() >= MAX_PROCESSES || LAST_PID.get() == i32::MAX as u32 {
        return Err(Error::Limit);
    }
    let tables = Tables::new();
    let pml4 = space::create(&tables).ok_or(Error::NoMem)?;
    let pid = LAST_PID.get() + 1;
    let process = Process {
        pid,
        parent,
        alive: Cell::new(true),
        started: Cell::new(false),
        pml4: Cell::new(pml4),
        tables,
        handles: HandleTable::new(DEFAULT_HANDLES),
        threads: List::new(),
        thread_count: Cell::new(0),
        thread_limit: Cell::new(DEFAULT_THREADS),
        priority_limit: Cell::new(DEFAULT_PRIORITY),
        frames: Cell::new(0),
        frame_limit: Cell::new(u64::MAX),
        mappings: List::new(),
        mapping_count: Cell::new(0),
        mapped: Cell::new(0),
        refused: Cell::new(0),
        endpoints: List::new(),
        pins: List::new(),
        pinned: Cell::new(0),
        pinned_limit: Cell::new(u64::MAX),
        watches: List::new(),
        watch_count: Cell::new(0),
        trace_slot: Cell::new(trace::add(pid, &name, pml4)),
        trace_ring: Cell::new(None),
        ticks: Cell::new(0),
        system_calls: Cell::new(0),
        name,
        references: Cell::new(2),
        all: Link::new(),
    };
    let Some(process) = PROCESSES.allocate(process, physical::slab_page) else {
        physical::release_kernel(pml4);
        return Err(Error::NoMem);
    };
    trace::event(trace::kind::BIRTH, 0, parent.into(), pid.into());
    LAST_PID.set(pid);
    COUNT.set(COUNT.get() + 1);
    ALL.push_back(process);
    Ok(process)
}

/// The living process `pid`.
pub fn find(pid: u32) -> Result<Ref<Process>> {
    ALL.iter().find(|p| p.pid == pid).ok_or(Error::Srch)
}

/// The first living process with at least this pid.
pub fn find_from(pid: u32) -> Option<Ref<Process>> {
    ALL.iter().find(|p| p.pid >= pid)
}

/// Living processes.
pub fn live() -> u32 {
    COUNT.get()
}

/// System calls since boot.
pub fn system_calls() -> u64 {
    ALL.iter().fold(PAST_CALLS.get(), |sum, process| sum + process.calls())
}

impl Process {
    /// System calls so far.
    pub fn calls(&self) -> u64 {
        let live = self.threads.iter().map(|thread| thread.system_calls.get());
        live.fold(self.system_calls.get(), |sum, calls| sum + calls)
    }

    /// TSC ticks it ran so far, the turns of threads that run now included.
    pub fn run_time(&self) -> u64 {
        let live = self.threads.iter().map(|thread| thread.ticks.get());
        let turns = smp::all()
            .filter(|cpu| cpu.current.get().is_some_and(|thread| thread.process.pid == self.pid))
            .map(Cpu::turn);
        self.ticks.get() + live.chain(turns).sum::<u64>()
    }

    /// The name without its padding.
    pub fn name_bytes(&self) -> &[u8] {
        let len = self.name.iter().position(|&b| b == 0).unwrap_or(self.name.len());
        &self.name[..len]
    }
}

/// Registers a watch of `process`, within its bound.
pub fn watch(
    process: Ref<Process>,
    endpoint: Ref<Endpoint>,
    cookie: u64,
    supervises: bool,
) -> Result<()> {
    if process.watch_count.get() >= MAX_WATCHES {
        return Err(Error::Limit);
    }
    endpoint::watch(endpoint, process, cookie, supervises)
}

/// Why a process ends.
pub enum Cause {
    Exit(i64),
    Killed(i64),
    Fault { vector: u64, error: u64, address: u64, registers: Registers },
}

/// Ends a process; see the module head. Does nothing for one that ended already.
pub fn end(process: Ref<Process>, why: Cause) {
    if !process.alive.replace(false) {
        return;
    }
    let mut obituary = Obituary {
        pid: process.pid,
        time: time::now_ns(),
        refused: process.refused.get(),
        ..Obituary::default()
    };
    match why {
        Cause::Exit(code) => (obituary.cause, obituary.code) = (cause::EXIT, code),
        Cause::Killed(code) => {
            (obituary.cause, obituary.code) = (cause::KILLED, code);
            // Where it was: who kills a process that hangs wants to know.
            if let Some(thread) = process.threads.first() {
                obituary.registers = crate::trap::registers(&thread.frame);
            }
        }
        Cause::Fault { vector, error, address, registers } => {
            obituary.cause = cause::FAULT;
            obituary.vector = vector;
            obituary.error_code = error;
            obituary.address = address;
            obituary.registers = registers;
        }
    }
    if process.pid == RS_PID {
        crate::panic::first_process_died(&obituary);
    }
    smp::evict(process);
    while let Some(thread) = process.threads.first() {
        thread::end(thread);
    }
    PAST_CALLS.set(PAST_CALLS.get() + process.system_calls.get());
    for endpoint in process.endpoints.iter() {
        endpoint.interrupts.iter().for_each(crate::interrupt::unbind);
    }
    device::quarantine(process);
    while let Some(endpoint) = process.endpoints.first() {
        endpoint::die(endpoint);
    }
    space::destroy(process);
    object::close_all(process);
    ALL.remove(process);
    COUNT.set(COUNT.get() - 1);
    trace::remove(process.trace_slot.get());
    if let Some(memory) = process.trace_ring.take() {
        Object::Memory(memory).release();
    }
    let pid = u64::from(process.pid);
    if obituary.cause == cause::FAULT {
        trace::event(trace::kind::FAULT, obituary.vector, obituary.address, pid);
    }
    trace::event(trace::kind::DEATH, obituary.cause.into(), obituary.code as u64, pid);
    endpoint::publish(process, obituary);
    Object::Process(process).release();
}

/// A process that never ran and is not wanted after all: no obituary.
pub fn abandon(process: Ref<Process>) {
    endpoint::withdraw_all(process);
    end(process, Cause::Exit(0));
}

/// The last handle to a dead process is gone.
pub fn destroy(process: Ref<Process>) {
    PROCESSES.release(process);
}
