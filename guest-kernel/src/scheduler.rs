//! Who runs: 32 priorities, round robin inside one, preemption by the timer and by whoever wakes.
//!
//! A thread that was preempted goes back to the front of its queue and keeps the rest of its
//! quantum. A thread that an IPC switches to directly runs on its caller's quantum, so that two
//! threads that call each other do not starve a third. The timer is armed for the next deadline,
//! and for the end of the quantum only while another thread of the same priority is ready.

use core::cell::Cell;

use xinim_kernel_logic::list::List;
use xinim_kernel_logic::refs::Ref;
use xinim_kernel_logic::timers::Timers;

use crate::apic;
use crate::arch::cpu::{Cpu, cpu, fxrstor, fxsave, idle};
use crate::arch::instructions::{msr, rdtsc, write_cr3, wrmsr};
use crate::endpoint::{self, Endpoint};
use crate::global::Global;
use crate::lock;
use crate::thread::{QUEUE, State, Thread};
use crate::time;
use crate::trace;

const PRIORITIES: usize = 32;
/// Nanoseconds a thread may run while others of its priority wait.
const QUANTUM_NS: u64 = 10_000_000;

static READY: Global<[List<Thread, QUEUE>; PRIORITIES]> =
    Global::new([const { List::new() }; PRIORITIES]);
/// A bit for each priority with somebody ready.
static READY_MASK: Global<Cell<u32>> = Global::new(Cell::new(0));
static SLEEPERS: Global<Timers<Thread>> = Global::new(Timers::new());
static ALARMS: Global<Timers<Endpoint>> = Global::new(Timers::new());

/// Makes a waiting thread ready; it will preempt a lesser one.
#[inline]
pub fn make_ready(thread: Ref<Thread>) {
    thread.state.set(State::Ready);
    enqueue(thread, false);
    let cpu = cpu();
    // An equal one cannot preempt, but the quantum must end some time.
    if cpu.current.get().is_none_or(|current| thread.priority >= current.priority) {
        cpu.reschedule.set(true);
    }
}

#[inline]
fn enqueue(thread: Ref<Thread>, front: bool) {
    let priority = thread.priority as usize % PRIORITIES;
    let queue = &READY[priority];
    if front {
        queue.push_front(thread);
    } else {
        queue.push_back(thread);
    }
    READY_MASK.set(READY_MASK.get() | 1 << priority);
}

/// Takes a ready thread out of its queue.
pub fn remove_ready(thread: Ref<Thread>) {
    let priority = thread.priority as usize % PRIORITIES;
    READY[priority].remove(thread);
    if READY[priority].is_empty() {
        READY_MASK.set(READY_MASK.get() & !(1 << priority));
    }
}

/// `current` has stopped running (its state and queue are the caller's business) and `next` may
/// go on. Switches to it directly, unless somebody better is ready.
#[inline(always)]
pub fn hand_over(current: Ref<Thread>, next: Ref<Thread>) {
    let cpu = cpu();
    // Others of its priority, too: then the timer must end the quantum, which `settle` sees to.
    match READY_MASK.get() >> (next.priority % 32) {
        0 => {
            let ticks = run(cpu, next);
            current.ticks.set(current.ticks.get() + ticks);
            // A running thread's FPU state is in the registers.
            fxsave(current.fpu_area());
            fxrstor(next.fpu_area());
            cpu.fpu_owner.set(Some(next));
            enter(cpu, next, current.process != next.process);
        }
        1 => {
            switch_to(cpu, next);
            cpu.reschedule.set(true);
        }
        _ => {
            make_ready(next);
            cpu.reschedule.set(true);
        }
    }
}

/// The current thread has stopped running.
pub fn give_up() {
    cpu().reschedule.set(true);
}

/// Lets others of the same priority go first.
pub fn yield_now(thread: Ref<Thread>) {
    thread.state.set(State::Ready);
    enqueue(thread, false);
    cpu().reschedule.set(true);
}

/// Puts the thread to sleep until `deadline` (TSC).
pub fn sleep(thread: Ref<Thread>, deadline: u64) {
    thread.state.set(State::Sleeping);
    SLEEPERS.set(thread, deadline);
    cpu().reschedule.set(true);
}

pub fn cancel_sleep(thread: Ref<Thread>) {
    SLEEPERS.cancel(thread);
}

/// Raises the endpoint's TIMER bit at `deadline` (TSC).
pub fn set_timer(endpoint: Ref<Endpoint>, deadline: u64) {
    ALARMS.set(endpoint, deadline);
    cpu().reschedule.set(true);
}

pub fn cancel_timer(endpoint: Ref<Endpoint>) {
    ALARMS.cancel(endpoint);
}

/// Makes `next` the running thread; gives the ticks since the last switch.
#[inline(always)]
fn run(cpu: &Cpu, next: Ref<Thread>) -> u64 {
    let now = rdtsc();
    let elapsed = now.wrapping_sub(cpu.since.replace(now));
    cpu.current.set(Some(next));
    next.state.set(State::Running);
    cpu.frame_end.set(Thread::frame_end(next));
    cpu.switches.set(cpu.switches.get() + 1);
    trace::event(trace::kind::SWITCH, 0, next.process.pid.into(), next.slot().into());
    elapsed
}

/// Loads what belongs to the thread besides its frame and FPU state.
#[inline(always)]
fn enter(cpu: &Cpu, next: Ref<Thread>, other_process: bool) {
    let fs_base = next.fs_base.get();
    if fs_base | cpu.fs_base.get() != 0 {
        cpu.fs_base.set(fs_base);
        // SAFETY: a user address, checked when it was set.
        unsafe { wrmsr(msr::FS_BASE, fs_base) }
    }
    if other_process {
        let process = next.process;
        let pml4 = process.pml4.get();
        cpu.pml4.set(pml4);
        // SAFETY: every process's table maps the kernel.
        unsafe { write_cr3(pml4) }
        trace::running(cpu.index.get(), process.trace_slot.get());
    }
}

/// Switches from whatever runs, or from idling.
fn switch_to(cpu: &Cpu, next: Ref<Thread>) {
    let previous = cpu.current.get();
    let elapsed = run(cpu, next);
    match previous {
        Some(previous) => previous.ticks.set(previous.ticks.get() + elapsed),
        None => cpu.idle.set(cpu.idle.get() + elapsed),
    }
    let owner = cpu.fpu_owner.replace(Some(next));
    if owner != Some(next) {
        if let Some(owner) = owner {
            fxsave(owner.fpu_area());
        }
        fxrstor(next.fpu_area());
    }
    enter(cpu, next, next.process.pml4.get() != cpu.pml4.get());
    if previous.is_none() {
        trace::running(cpu.index.get(), next.process.trace_slot.get());
    }
}

/// The CPU's address space goes away: continue in the kernel's own.
pub fn leave_address_space(pml4: u64) {
    let cpu = cpu();
    if cpu.pml4.get() == pml4 {
        let own = crate::space::kernel_pml4();
        cpu.pml4.set(own);
        // SAFETY: the kernel's own table.
        unsafe { write_cr3(own) }
    }
}

/// Ends an entry into the kernel: chooses who runs, arms the timer, unlocks. Gives the frame to
/// load; idles when nobody is ready.
#[inline(always)]
pub fn leave() -> u64 {
    let cpu = cpu();
    if cpu.reschedule.get() {
        settle(cpu);
    }
    let Some(current) = cpu.current.get() else { rest() };
    lock::release();
    Thread::frame_start(current)
}

/// What happened may have changed who should run, or when the timer is needed.
#[inline(never)]
fn settle(cpu: &Cpu) {
    cpu.reschedule.set(false);
    choose(cpu);
    let mut deadline = SLEEPERS.earliest().min(ALARMS.earliest());
    if let Some(current) = cpu.current.get()
        && READY_MASK.get() >> (current.priority % 32) & 1 != 0
    {
        deadline = deadline.min(cpu.quantum_end.get());
    }
    if deadline < cpu.armed.get() {
        cpu.armed.set(deadline);
        apic::arm(deadline);
    }
}

/// Nobody is ready.
#[cold]
fn rest() -> ! {
    lock::release();
    idle()
}

/// Chooses the best ready thread, or the current one if it is better still.
fn choose(cpu: &Cpu) {
    let current = cpu.current.get().filter(|thread| thread.state.get() == State::Running);
    let mask = READY_MASK.get();
    if let Some(current) = current {
        if mask >> (current.priority % 32) <= 1 {
            return;
        }
        // Preempted: first of its kind when its turn comes.
        current.state.set(State::Ready);
        enqueue(current, true);
    }
    if mask == 0 {
        if let Some(last) = cpu.current.take() {
            let now = rdtsc();
            last.ticks.set(last.ticks.get() + now.wrapping_sub(cpu.since.replace(now)));
            trace::running(cpu.index.get(), xinim_abi::platform::TRACE_NOBODY);
            trace::event(trace::kind::SWITCH, 0, 0, 0);
        }
        return;
    }
    let priority = 31 - mask.leading_zeros() as usize;
    if let Some(next) = READY[priority].pop_front() {
        if READY[priority].is_empty() {
            READY_MASK.set(READY_MASK.get() & !(1 << priority));
        }
        switch_to(cpu, next);
        cpu.quantum_end.set(cpu.since.get() + time::ticks(QUANTUM_NS));
    }
}

/// The timer interrupt.
pub fn timer_expired() {
    let cpu = cpu();
    cpu.armed.set(u64::MAX);
    // Whatever is next must be armed anew.
    cpu.reschedule.set(true);
    let now = rdtsc();
    while let Some(thread) = SLEEPERS.pop_expired(now) {
        thread.set_status(0);
        make_ready(thread);
    }
    while let Some(endpoint) = ALARMS.pop_expired(now) {
        endpoint::notify(endpoint, xinim_abi::ipc::bits::TIMER);
    }
    if let Some(current) = cpu.current.get()
        && now >= cpu.quantum_end.get()
        && READY_MASK.get() >> (current.priority % 32) & 1 != 0
    {
        yield_now(current);
    }
}

/// The current thread's FS base changed.
pub fn load_fs_base(base: u64) {
    cpu().fs_base.set(base);
    // SAFETY: a user address, as the caller checked.
    unsafe { wrmsr(msr::FS_BASE, base) }
}
