//! Records of the INFO system call.

use xinim_abi::error::{Error, Result};
use xinim_abi::info::{InterruptInfo, Kind, ProcessInfo, Pulse, SystemInfo, state};

use crate::arch::cpu::Cpu;
use crate::process::{self, Process};
use crate::thread::{self, State};
use crate::{device, endpoint, interrupt, memory_object, physical, smp, time, user};

/// Writes the record of `kind` at `index` to the caller's memory.
pub fn write(caller: &Process, kind: u64, index: u64, address: u64, len: u64) -> Result<u64> {
    match Kind::from_u64(kind).ok_or(Error::Inval)? {
        Kind::System => user::write_record(caller, address, len, &system()),
        Kind::Process => {
            let from = u32::try_from(index).map_err(|_| Error::NoEnt)?;
            let process = process::find_from(from).ok_or(Error::NoEnt)?;
            user::write_record(caller, address, len, &of_process(&process))
        }
        Kind::Interrupt => {
            let interrupt = interrupt::find_from(index).ok_or(Error::NoEnt)?;
            let record = InterruptInfo {
                vector: interrupt.vector,
                gsi: interrupt.gsi,
                pid: interrupt.pid,
                reserved: 0,
                count: interrupt.count.get(),
            };
            user::write_record(caller, address, len, &record)
        }
    }
}

fn system() -> SystemInfo {
    let (frames_total, frames_free, frames_kernel) = physical::counts();
    let (devices, frames_quarantined) = device::counts();
    SystemInfo {
        frames_total,
        frames_free,
        frames_quarantined,
        frames_kernel,
        processes: process::live(),
        threads: thread::live(),
        endpoints: endpoint::live(),
        memory_objects: memory_object::live(),
        interrupts: interrupt::live(),
        devices,
        idle_ns: time::nanoseconds(smp::all().map(idle_ticks).sum()),
        uptime_ns: time::now_ns(),
        context_switches: smp::all().map(|cpu| cpu.switches.get()).sum(),
        system_calls: process::system_calls(),
    }
}

/// TSC ticks a CPU has idled, the present turn included.
fn idle_ticks(cpu: &Cpu) -> u64 {
    cpu.idle.get() + if cpu.current.get().is_none() { cpu.turn() } else { 0 }
}

/// What a server does that is not at the endpoint where it is missed. A thread that waits for
/// somebody explains the absence better than one that works.
pub fn pulse(process: &Process) -> Pulse {
    let waits = |wanted: &[State]| process.threads.iter().find(|t| wanted.contains(&t.state.get()));
    let caller = waits(&[State::Sending, State::AwaitingReply]);
    let owner = caller.and_then(|thread| thread.endpoint.get()?.owner.get());
    let thread = caller.or_else(|| waits(&[State::Receiving])).or(process.threads.first());
    Pulse {
        doing: thread.map_or(state::DEAD, |thread| thread.state.get() as u32),
        waits_for: owner.map_or(0, |owner| owner.pid),
        system_calls: process.calls(),
        cpu_ns: time::nanoseconds(process.run_time()),
        spinning_ns: spinning(process),
    }
}

/// See [`Pulse::spinning_ns`].
fn spinning(process: &Process) -> u64 {
    let several = process.thread_count.get() > 1;
    let ticks = process.threads.iter().filter(|_| several).map(|thread| thread.spinning()).max();
    time::nanoseconds(ticks.unwrap_or(0))
}

fn of_process(process: &Process) -> ProcessInfo {
    let first = process.threads.first();
    ProcessInfo {
        pid: process.pid,
        parent: process.parent,
        threads: process.thread_count.get(),
        handles: process.handles.count(),
        state: first.map_or(state::DEAD, |thread| thread.state.get() as u32),
        priority: first.map_or(process.priority_limit.get(), |thread| thread.priority.get()),
        cpu_ns: time::nanoseconds(process.run_time()),
        frames: process.mapped.get(),
        refused: process.refused.get(),
        name: process.name,
    }
}
