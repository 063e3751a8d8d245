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
use crate::process::Process;
use crate::smp;
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
/// For when some CPU's timer is set because of sleepers and alarms (or earlier), and which one's.
static WATCHED: Global<Cell<u64>> = Global::new(Cell::new(u64::MAX));
static WATCHER: Global<Cell<u32>> = Global::new(Cell::new(0));
/// Threads that are ready.
static READY_COUNT: Global<Cell<u32>> = Global::new(Cell::new(0));

/// Makes a waiting thread ready; it will preempt a lesser one.
#[inline]
pub fn make_ready(thread: Ref<Thread>) {
    thread.state.set(State::Ready);
    enqueue(thread, false);
    let cpu = cpu();
    // An equal one cannot preempt, but the quantum must end some time.
    // With more CPUs, another may take it.
    if smp::several()
        || cpu.current.get().is_none_or(|current| thread.priority.get() >= current.priority.get())
    {
        cpu.reschedule.set(true);
    }
}

#[inline]
fn enqueue(thread: Ref<Thread>, front: bool) {
    let priority = thread.priority.get() as usize % PRIORITIES;
    let queue = &READY[priority];
    if front {
        queue.push_front(thread);
    } else {
        queue.push_back(thread);
    }
    READY_MASK.set(READY_MASK.get() | 1 << priority);
    READY_COUNT.set(READY_COUNT.get() + 1);
}

/// It was taken from the queue of `priority`.
fn dequeued(priority: usize) {
    READY_COUNT.set(READY_COUNT.get() - 1);
    if READY[priority].is_empty() {
        READY_MASK.set(READY_MASK.get() & !(1 << priority));
    }
}

/// Takes a ready thread out of its queue.
pub fn remove_ready(thread: Ref<Thread>) {
    let priority = thread.priority.get() as usize % PRIORITIES;
    READY[priority].remove(thread);
    dequeued(priority);
}

/// From now on the thread has another priority, wherever it waits.
pub fn set_priority(thread: Ref<Thread>, priority: u32) {
    let ready = thread.state.get() == State::Ready;
    if ready {
        remove_ready(thread);
    }
    thread.priority.set(priority);
    if ready {
        enqueue(thread, false);
    }
    cpu().reschedule.set(true);
}

/// `current` has stopped running (its state and queue are the caller's business) and `next` may
/// go on. Switches to it directly, unless somebody better is ready.
#[inline(always)]
pub fn hand_over(current: Ref<Thread>, next: Ref<Thread>) {
    let cpu = cpu();
    // Others of its priority, too: then the timer must end the quantum, which `settle` sees to.
    match READY_MASK.get() >> (next.priority.get() % 32) {
        0 => {
            let ticks = run(cpu, next);
            current.ticks.set(current.ticks.get() + ticks);
            // A running thread's FPU state is in the registers.
            fxsave(current.fpu_area());
            fxrstor(next.fpu_area());
            cpu.fpu_owner.set(Some(next));
            let process = next.process;
            enter(cpu, next, (current.process != process).then_some(process));
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

/// Loads what belongs to the thread besides its frame and FPU state; `other`: its process, if another
/// one's address space is loaded.
#[inline(always)]
fn enter(cpu: &Cpu, next: Ref<Thread>, other: Option<Ref<Process>>) {
    let fs_base = next.fs_base.get();
    if fs_base | cpu.fs_base.get() != 0 {
        cpu.fs_base.set(fs_base);
        // SAFETY: a user address, checked when it was set.
        unsafe { wrmsr(msr::FS_BASE, fs_base) }
    }
    if let Some(process) = other {
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
    let process = next.process;
    enter(cpu, next, (process.pml4.get() != cpu.pml4.get()).then_some(process));
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
    cpu.kicked.set(false);
    choose(cpu);
    if smp::several() && READY_COUNT.get() != 0 {
        spread(cpu);
    }
    // One CPU's timer is enough for the deadlines of all.
    let watched = SLEEPERS.earliest().min(ALARMS.earliest());
    let mut deadline = u64::MAX;
    if watched < WATCHED.get() {
        WATCHED.set(watched);
        WATCHER.set(cpu.index.get());
        deadline = watched;
    }
    if let Some(current) = cpu.current.get()
        && READY_MASK.get() >> (current.priority.get() % 32) & 1 != 0
    {
        deadline = deadline.min(cpu.quantum_end.get());
    }
    if deadline < cpu.armed.get() {
        cpu.armed.set(deadline);
        apic::arm(deadline);
    }
}

/// Threads are ready that this CPU does not run: others should, those that idle first, then those
/// that run something lesser. Not more of them than there are threads.
#[cold]
#[inline(never)]
fn spread(cpu: &Cpu) {
    let best = 31 - READY_MASK.get().leading_zeros();
    let coming = smp::others(cpu).filter(|other| other.kicked.get()).count() as u32;
    for _ in coming..READY_COUNT.get() {
        // What a CPU runs, idling below everything.
        let level =
            |other: &&Cpu| other.current.get().map_or(0, |thread| thread.priority.get() + 1);
        let free = smp::others(cpu).filter(|other| !other.kicked.get());
        let Some(lowest) = free.min_by_key(level) else { return };
        let running = level(&lowest);
        // An equal one need not give way, but its turn must end some time.
        let endless = running == best + 1
            && lowest.armed.get() > lowest.quantum_end.get()
            && cpu.current.get().is_none_or(|current| current.priority.get() != best);
        if running > best && !endless {
            return;
        }
        smp::kick(lowest);
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
        if mask >> (current.priority.get() % 32) <= 1 {
            return;
        }
        // Preempted: first of its kind when its turn comes, for what is left of its quantum. With a
        // whole one again it would keep its equals out where somebody better wakes up often.
        current.state.set(State::Ready);
        let left = cpu.quantum_end.get().saturating_sub(rdtsc());
        current.quantum.set(left);
        enqueue(current, left != 0);
    }
    if mask == 0 {
        if let Some(last) = cpu.current.take() {
            let now = rdtsc();
            last.ticks.set(last.ticks.get() + now.wrapping_sub(cpu.since.replace(now)));
            trace::running(cpu.index.get(), xinim_abi::platform::TRACE_NOBODY);
            trace::event(trace::kind::SWITCH, 0, 0, 0);
            if smp::several() {
                // It may go on elsewhere, and its process end without this CPU.
                if let Some(owner) = cpu.fpu_owner.take() {
                    fxsave(owner.fpu_area());
                }
                leave_address_space(cpu.pml4.get());
            }
        }
        return;
    }
    let priority = 31 - mask.leading_zeros() as usize;
    if let Some(next) = READY[priority].pop_front() {
        dequeued(priority);
        switch_to(cpu, next);
        let quantum = match next.quantum.take() {
            0 => time::ticks(QUANTUM_NS),
            left => left,
        };
        cpu.quantum_end.set(cpu.since.get() + quantum);
    }
}

/// The timer interrupt.
pub fn timer_expired() {
    let cpu = cpu();
    cpu.armed.set(u64::MAX);
    if WATCHER.get() == cpu.index.get() {
        WATCHED.set(u64::MAX);
    }
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
        && READY_MASK.get() >> (current.priority.get() % 32) & 1 != 0
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
