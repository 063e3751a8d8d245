//! Threads: a register frame, FPU state, and what the thread is waiting for.

use core::cell::{Cell, UnsafeCell};
use core::mem::offset_of;

use xinim_abi::error::{Error, Result};
use xinim_abi::info::state;
use xinim_kernel_logic::list::{Link, Linked};
use xinim_kernel_logic::refs::{Ref, Slab};
use xinim_kernel_logic::timers::{Node, Timed};

use crate::arch::cpu::{Cpu, cpu};
use crate::arch::entry::{Frame, USER_CODE, USER_DATA};
use crate::endpoint::Endpoint;
use crate::global::Global;
use crate::object::Object;
use crate::physical;
use crate::process::{self, Process};
use crate::scheduler;
use crate::smp;

/// Numbered as others see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum State {
    Running = state::RUNNING,
    Ready = state::READY,
    /// Known to its endpoint as a receiver.
    Receiving = state::RECEIVING,
    /// On its endpoint's `callers`.
    Sending = state::SENDING,
    /// Counted in its endpoint's `awaiting`.
    AwaitingReply = state::AWAITING_REPLY,
    Sleeping = state::SLEEPING,
    Dead = state::DEAD,
}

/// A thread is on one of the queues (ready, callers, receivers) at a time.
pub const QUEUE: usize = 0;
/// Its process's threads.
pub const SIBLING: usize = 1;

#[repr(C, align(16))]
pub struct Thread {
    fpu: UnsafeCell<[u8; 512]>,
    pub frame: Frame,
    pub process: Ref<Process>,
    pub state: Cell<State>,
    /// Changed by [`scheduler::set_priority`] only.
    pub priority: Cell<u32>,
    pub references: Cell<u32>,
    /// Where it waits, while it does.
    pub endpoint: Cell<Option<Ref<Endpoint>>>,
    /// Badge of the handle it calls through.
    pub badge: Cell<u64>,
    /// Identifies its current call; see `tokens`.
    pub token: Cell<u64>,
    slot: u32,
    pub fs_base: Cell<u64>,
    /// TSC ticks it ran.
    pub ticks: Cell<u64>,
    /// What is left of its quantum since it was preempted (TSC); 0: it gets a whole one.
    pub quantum: Cell<u64>,
    pub system_calls: Cell<u64>,
    /// System calls and ticks at the last look of PROBE that found it after a new system call.
    looked: Cell<(u64, u64)>,
    queue: Link<Thread>,
    sibling: Link<Thread>,
    timer: Node<Thread>,
}

impl Linked<QUEUE> for Thread {
    #[inline(always)]
    fn link(&self) -> &Link<Self> {
        &self.queue
    }
}

impl Linked<SIBLING> for Thread {
    fn link(&self) -> &Link<Self> {
        &self.sibling
    }
}

impl Timed for Thread {
    fn timer(&self) -> &Node<Self> {
        &self.timer
    }
}

const FRAME_OFFSET: usize = offset_of!(Thread, frame);
const FRAME_END: usize = FRAME_OFFSET + size_of::<Frame>();
// The CPU aligns the stack to 16 before it pushes.
const _: () = assert!(FRAME_END.is_multiple_of(16));

static THREADS: Global<Slab<Thread>> = Global::new(Slab::new());

/// Threads in the whole system.
pub const MAX_THREADS: usize = 4096;

/// Slot numbers, so that a reply token leads to its thread without being an address. Whoever looks from
/// outside finds the threads here, see `debug`.
#[unsafe(export_name = "xinim_threads")]
static SLOTS: Global<[Cell<Option<Ref<Thread>>>; MAX_THREADS]> =
    Global::new([const { Cell::new(None) }; MAX_THREADS]);
static SLOTS_USED: Global<Cell<u32>> = Global::new(Cell::new(0));
/// First free slot + 1 among those used before; links are in `FREE_SLOTS`.
static FREE_SLOT: Global<Cell<u32>> = Global::new(Cell::new(0));
static FREE_SLOTS: Global<[Cell<u32>; MAX_THREADS]> =
    Global::new([const { Cell::new(0) }; MAX_THREADS]);
/// Counts calls, so that no two tokens are ever the same.
static CALLS: Global<Cell<u64>> = Global::new(Cell::new(1));

const SLOT_BITS: u32 = 12;

const INITIAL_FPU: [u8; 512] = {
    let mut area = [0; 512];
    // FCW = 0x037F, MXCSR = 0x1F80: all exceptions masked.
    area[0] = 0x7F;
    area[1] = 0x03;
    area[24] = 0x80;
    area[25] = 0x1F;
    area
};

/// What a new thread starts with.
#[derive(Clone, Copy)]
pub struct Start {
    pub entry: u64,
    pub stack: u64,
    pub argument: u64,
    pub priority: u32,
    pub fs_base: u64,
}

/// Makes a thread of `process`, not yet ready to run. The caller owns one reference; being alive
/// holds another.
pub fn create(process: Ref<Process>, start: Start) -> Result<Ref<Thread>> {
    let slot = match FREE_SLOT.get() {
        0 if SLOTS_USED.get() as usize == MAX_THREADS => return Err(Error::Limit),
        0 => SLOTS_USED.get(),
        next => next - 1,
    };
    let thread = Thread {
        fpu: UnsafeCell::new(INITIAL_FPU),
        frame: Frame::default(),
        process,
        state: Cell::new(State::Sleeping),
        priority: Cell::new(start.priority),
        references: Cell::new(2),
        endpoint: Cell::new(None),
        badge: Cell::new(0),
        token: Cell::new(0),
        slot,
        fs_base: Cell::new(start.fs_base),
        ticks: Cell::new(0),
        quantum: Cell::new(0),
        system_calls: Cell::new(0),
        looked: Cell::new((0, 0)),
        queue: Link::new(),
        sibling: Link::new(),
        timer: Node::new(),
    };
    let thread = THREADS.allocate(thread, physical::slab_page).ok_or(Error::NoMem)?;
    if slot == SLOTS_USED.get() {
        SLOTS_USED.set(slot + 1);
    } else {
        FREE_SLOT.set(FREE_SLOTS[slot as usize].get());
    }
    SLOTS[slot as usize].set(Some(thread));
    let frame = &thread.get().frame;
    frame.rip.set(start.entry);
    frame.cs.set(USER_CODE);
    frame.rflags.set(0x202);
    frame.rsp.set(start.stack);
    frame.ss.set(USER_DATA);
    frame.rdi.set(start.argument);
    process.threads.push_back(thread);
    process.thread_count.set(process.thread_count.get() + 1);
    Ok(thread)
}

impl Thread {
    /// Address the CPU pushes below when ring 3 is interrupted.
    #[inline(always)]
    pub fn frame_end(this: Ref<Self>) -> u64 {
        this.address() + FRAME_END as u64
    }

    /// What `resume` loads.
    #[inline(always)]
    pub fn frame_start(this: Ref<Self>) -> u64 {
        this.address() + FRAME_OFFSET as u64
    }

    #[inline(always)]
    pub fn fpu_area(&self) -> *mut u8 {
        self.fpu.get().cast()
    }

    /// Its number among all threads, below [`MAX_THREADS`].
    #[inline(always)]
    pub fn slot(&self) -> u32 {
        self.slot
    }

    /// Begins a call: a token that was never used before.
    #[inline(always)]
    pub fn new_token(&self) -> u64 {
        let call = CALLS.get();
        CALLS.set(call + 1);
        let token = call << SLOT_BITS | u64::from(self.slot);
        self.token.set(token);
        token
    }

    /// TSC ticks it has run since a look found it with the system call behind it that is its last.
    pub fn spinning(&self) -> u64 {
        let (calls, ticks) = (self.system_calls.get(), self.ticks.get() + self.turn());
        let (before, since) = self.looked.get();
        if calls != before || !matches!(self.state.get(), State::Running | State::Ready) {
            self.looked.set((calls, ticks));
            return 0;
        }
        ticks - since
    }

    /// Ticks of its turn, if it runs now.
    fn turn(&self) -> u64 {
        let own = |cpu: &&Cpu| cpu.current.get().is_some_and(|thread| thread.slot == self.slot);
        smp::all().find(own).map_or(0, Cpu::turn)
    }

    /// Sets the status a waiting thread will see.
    pub fn set_status(&self, status: u64) {
        self.frame.rax.set(status);
    }
}

/// The thread that waits for the reply `token` names.
#[inline(always)]
pub fn by_token(token: u64) -> Option<Ref<Thread>> {
    let thread = SLOTS[token as usize & (MAX_THREADS - 1)].get()?;
    (thread.token.get() == token && thread.state.get() == State::AwaitingReply).then_some(thread)
}

/// All threads that wait for a reply of `endpoint`.
pub fn awaiting(endpoint: Ref<Endpoint>) -> impl Iterator<Item = Ref<Thread>> {
    SLOTS.iter().take(SLOTS_USED.get() as usize).filter_map(Cell::get).filter(move |thread| {
        thread.state.get() == State::AwaitingReply && thread.endpoint.get() == Some(endpoint)
    })
}

/// Ends a thread: off every queue, never to run again. Its process is told by the caller.
pub fn end(thread: Ref<Thread>) {
    match thread.state.get() {
        State::Ready => scheduler::remove_ready(thread),
        State::Sleeping => scheduler::cancel_sleep(thread),
        State::Receiving | State::Sending | State::AwaitingReply => {
            if let Some(endpoint) = thread.endpoint.take() {
                endpoint.forget_waiter(thread);
            }
        }
        State::Running => {
            // On this CPU: a process that ends was taken from the others, and no thread ends another.
            let cpu = cpu();
            if cpu.current.get() == Some(thread) {
                cpu.current.set(None);
                cpu.reschedule.set(true);
            }
        }
        State::Dead => return,
    }
    thread.state.set(State::Dead);
    if cpu().fpu_owner.get() == Some(thread) {
        cpu().fpu_owner.set(None);
    }
    let process = thread.process;
    process.threads.remove(thread);
    process.thread_count.set(process.thread_count.get() - 1);
    process.ticks.set(process.ticks.get() + thread.ticks.get());
    process.system_calls.set(process.system_calls.get() + thread.system_calls.get());
    SLOTS[thread.slot as usize].set(None);
    FREE_SLOTS[thread.slot as usize].set(FREE_SLOT.get());
    FREE_SLOT.set(thread.slot + 1);
    Object::Thread(thread).release();
}

/// Ends the calling thread, and its process with the last one.
pub fn exit(thread: Ref<Thread>) {
    let process = thread.process;
    end(thread);
    if process.thread_count.get() == 0 {
        process::end(process, process::Cause::Exit(0));
    }
}

pub fn destroy(thread: Ref<Thread>) {
    THREADS.release(thread);
}

pub fn live() -> u32 {
    THREADS.live()
}
