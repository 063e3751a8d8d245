//! The machine as gdbstub's target.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use gdbstub::arch::Arch;
use gdbstub::common::{Signal, Tid};
use gdbstub::conn::ConnectionExt;
use gdbstub::stub::MultiThreadStopReason;
use gdbstub::stub::run_blocking::{BlockingEventLoop, Event, WaitForStopReasonError};
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::multithread::{
    MultiThreadBase, MultiThreadResume, MultiThreadResumeOps, MultiThreadSchedulerLocking,
    MultiThreadSchedulerLockingOps, MultiThreadSingleStep, MultiThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints as BreakpointsExt, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint,
    HwWatchpointOps, SwBreakpoint, SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::monitor_cmd::MonitorCmdOps;
use gdbstub::target::ext::thread_extra_info::{ThreadExtraInfo, ThreadExtraInfoOps};
use gdbstub::target::{Target, TargetError, TargetResult};
use gdbstub_arch::x86::X86_64_SSE;
use gdbstub_arch::x86::reg::X86_64CoreRegs;
use vm_memory::{Bytes, GuestAddress};

use super::Wire;
use super::breakpoints::{Breakpoints, INT3, Kind, Planted, Slot, in_kernel, watch};
use super::registers;
use crate::dump::CpuState;
use crate::halt::{Cause, Held, Stop};
use crate::shared::Shared;
use crate::vcpu::exit::Runner;
use crate::walk::{Paging, translate};

/// Between two looks at the debugger's socket while the guest runs.
const STEP: Duration = Duration::from_millis(5);
/// A single step takes an instruction; this long only if the vCPU waits for something.
const STEP_LIMIT: Duration = Duration::from_millis(500);
const PAGE: u64 = 4096;
/// Bits of CR3 that are the address of the tables.
const ROOT: u64 = 0x000F_FFFF_FFFF_F000;

type Stopped = MultiThreadStopReason<u64>;

/// A debugging session.
pub struct Debugger<'a> {
    pub shared: &'a Arc<Shared>,
    /// While the guest stands still.
    pub held: Option<Held<'a>>,
    pub breaks: Breakpoints,
    /// vCPUs to single-step when the guest goes on.
    steps: HashSet<u32>,
    /// vCPUs that met an `int3` of the guest's own, which they still have to take.
    inject: HashSet<u32>,
    /// The address space picked with `monitor pick`: process and page tables.
    pub picked: Option<(u32, u64)>,
}

impl<'a> Debugger<'a> {
    pub fn new(shared: &'a Arc<Shared>, held_already: bool) -> Self {
        let held = shared.halt.hold();
        if held_already {
            // The machine was made held, for us: that hold has an owner now.
            shared.halt.release_initial();
        }
        Self {
            shared,
            held: Some(held),
            breaks: Breakpoints::default(),
            steps: HashSet::new(),
            inject: HashSet::new(),
            picked: None,
        }
    }

    /// Takes everything back and lets the guest run.
    pub fn leave(&mut self) {
        if self.held.is_none() {
            self.held = Some(self.shared.halt.hold());
        }
        self.breaks.clear();
        for (_, planted) in std::mem::take(&mut self.breaks.planted) {
            let _ = self.poke(planted.physical, planted.original);
        }
        self.steps.clear();
        self.go_on();
    }

    fn poke(&self, physical: u64, byte: u8) -> Result<(), ()> {
        self.shared.ram.map().write_obj(byte, GuestAddress(physical)).map_err(|_| ())
    }

    pub fn cpu(&self, vcpu: u32) -> Option<CpuState> {
        self.held.as_ref()?.on(vcpu, |runner| runner.state())?
    }

    /// The page tables that a thread's memory is read through.
    pub fn paging(&self, vcpu: u32) -> Option<Paging> {
        let paging = self.cpu(vcpu)?.paging();
        Some(match self.picked {
            Some((_, root)) => Paging { cr3: root, ..paging },
            None => paging,
        })
    }

    /// Tells KVM what to stop for, and releases the vCPUs.
    fn go_on(&mut self) {
        let Some(held) = self.held.take() else { return };
        for vcpu in held.vcpus() {
            let inject = self.inject.remove(&vcpu);
            let debug = self.breaks.control(self.steps.contains(&vcpu), inject);
            held.on(vcpu, move |runner: &mut Runner| runner.debug(&debug));
        }
    }

    /// Passes one instruction without any breakpoint, on one vCPU alone.
    fn step_over(&mut self, vcpu: u32) {
        let Some(held) = &self.held else { return };
        let pc = held.on(vcpu, |runner| runner.rip_now()).unwrap_or_default();
        let planted = self.breaks.planted.get(&pc).copied();
        if let Some(planted) = planted {
            let _ = self.poke(planted.physical, planted.original);
        }
        let debug = Breakpoints::default().control(true, false);
        held.on(vcpu, move |runner: &mut Runner| runner.debug(&debug));
        held.run_one(vcpu, STEP_LIMIT);
        if let Some(planted) = planted {
            let _ = self.poke(planted.physical, INT3);
        }
    }

    /// What gdb is told of a stop; `None`: nothing, it was none of its own.
    fn judge(&mut self, stop: Stop) -> Option<Stopped> {
        let tid = tid(stop.vcpu);
        let trap = Stopped::SignalWithThread { tid, signal: Signal::SIGTRAP };
        let (exception, pc, dr6) = match stop.cause {
            Cause::Died => {
                return Some(Stopped::SignalWithThread { tid, signal: Signal::SIGSEGV });
            }
            Cause::Debug { exception, pc, dr6 } => (exception, pc, dr6),
        };
        let root = self.cpu(stop.vcpu).map_or(0, |cpu| cpu.special.cr3 & ROOT);
        if exception == 3 {
            let Some(planted) = self.breaks.planted.get(&pc).copied() else {
                // Where the kernel is entered by `int3`, or a program debugs itself.
                self.inject.insert(stop.vcpu);
                return None;
            };
            if planted.root != root {
                self.step_over(stop.vcpu);
                return None;
            }
            return Some(Stopped::SwBreak(tid));
        }
        if self.steps.contains(&stop.vcpu) {
            return Some(trap);
        }
        let slot = self.breaks.hit(dr6).or_else(|| self.breaks.execution_at(pc));
        let Some(slot) = slot else { return Some(trap) };
        if slot.root.is_some_and(|own| own != root) {
            self.step_over(stop.vcpu);
            return None;
        }
        Some(match slot.kind {
            Kind::Execute if slot.software => Stopped::SwBreak(tid),
            Kind::Execute => Stopped::HwBreak(tid),
            Kind::Write => Stopped::Watch { tid, kind: WatchKind::Write, addr: slot.address },
            Kind::Access => Stopped::Watch { tid, kind: WatchKind::ReadWrite, addr: slot.address },
        })
    }

    /// The page tables a user breakpoint belongs to: those picked, else those in force.
    fn root(&self) -> Option<u64> {
        let first = self.held.as_ref()?.vcpus().first().copied()?;
        Some(self.paging(first)?.cr3 & ROOT)
    }

    /// Whether anything can be set at this address at all.
    fn possible(&self, address: u64) -> bool {
        in_kernel(address) || self.shared.user_breaks
    }

    fn slot(&self, address: u64, kind: Kind, length: u8, software: bool) -> Slot {
        let root = if in_kernel(address) { None } else { self.root() };
        Slot { address, kind, length, root, software }
    }

    /// An `int3` in a user program's text.
    fn plant(&mut self, address: u64) -> bool {
        let first = self.held.as_ref().and_then(|held| held.vcpus().first().copied());
        let Some(paging) = first.and_then(|vcpu| self.paging(vcpu)) else { return false };
        if in_kernel(address) {
            return false;
        }
        let ram = &self.shared.ram;
        let Some(physical) = translate(ram, paging, address) else { return false };
        let Ok(original) = ram.map().read_obj::<u8>(GuestAddress(physical)) else { return false };
        if self.poke(physical, INT3).is_err() {
            return false;
        }
        let root = paging.cr3 & ROOT;
        self.breaks.planted.insert(address, Planted { physical, original, root });
        true
    }

    /// What is at `linear`, at most `most` bytes of it: up to the end of its page.
    fn piece(&self, paging: Paging, linear: u64, most: usize) -> Option<(GuestAddress, usize)> {
        let physical = translate(&self.shared.ram, paging, linear)?;
        Some((GuestAddress(physical), ((PAGE - linear % PAGE) as usize).min(most)))
    }
}

fn tid(vcpu: u32) -> Tid {
    NonZeroUsize::new(vcpu as usize + 1).unwrap_or(NonZeroUsize::MIN)
}

pub fn vcpu(tid: Tid) -> u32 {
    (tid.get() - 1) as u32
}

impl Target for Debugger<'_> {
    type Arch = X86_64_SSE;
    type Error = String;

    fn base_ops(&mut self) -> BaseOps<'_, Self::Arch, Self::Error> {
        BaseOps::MultiThread(self)
    }

    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }

    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }

    /// gdb decides what is planted; we plant it.
    fn guard_rail_implicit_sw_breakpoints(&self) -> bool {
        true
    }
}

impl MultiThreadBase for Debugger<'_> {
    fn read_registers(&mut self, regs: &mut X86_64CoreRegs, tid: Tid) -> TargetResult<(), Self> {
        let cpu = self.cpu(vcpu(tid)).ok_or(TargetError::NonFatal)?;
        *regs = registers::to_gdb(&cpu);
        Ok(())
    }

    fn write_registers(&mut self, regs: &X86_64CoreRegs, tid: Tid) -> TargetResult<(), Self> {
        let regs = regs.clone();
        let held = self.held.as_ref().ok_or(TargetError::NonFatal)?;
        let written = held.on(vcpu(tid), move |runner| {
            let mut cpu = runner.state()?;
            registers::from_gdb(&regs, &mut cpu.general, &mut cpu.fpu);
            runner.set_state(&cpu)
        });
        written.flatten().ok_or(TargetError::NonFatal)
    }

    fn read_addrs(&mut self, start: u64, data: &mut [u8], tid: Tid) -> TargetResult<usize, Self> {
        let paging = self.paging(vcpu(tid)).ok_or(TargetError::NonFatal)?;
        let mut done = 0;
        while done < data.len() {
            let piece = self.piece(paging, start.wrapping_add(done as u64), data.len() - done);
            let Some((place, length)) = piece else { break };
            let part = &mut data[done..done + length];
            if self.shared.ram.map().read_slice(part, place).is_err() {
                break;
            }
            done += length;
        }
        // gdb sees its program, not what was planted there.
        for (address, planted) in &self.breaks.planted {
            let at = address.wrapping_sub(start);
            if at < done as u64 {
                data[at as usize] = planted.original;
            }
        }
        if done == 0 && !data.is_empty() { Err(TargetError::NonFatal) } else { Ok(done) }
    }

    fn write_addrs(&mut self, start: u64, data: &[u8], tid: Tid) -> TargetResult<(), Self> {
        let paging = self.paging(vcpu(tid)).ok_or(TargetError::NonFatal)?;
        let mut done = 0;
        while done < data.len() {
            let piece = self.piece(paging, start.wrapping_add(done as u64), data.len() - done);
            let (place, length) = piece.ok_or(TargetError::NonFatal)?;
            let written = self.shared.ram.map().write_slice(&data[done..done + length], place);
            written.map_err(|_| TargetError::NonFatal)?;
            done += length;
        }
        Ok(())
    }

    fn list_active_threads(&mut self, active: &mut dyn FnMut(Tid)) -> Result<(), String> {
        let held = self.held.as_ref().ok_or("the guest runs")?;
        held.vcpus().into_iter().for_each(|vcpu| active(tid(vcpu)));
        Ok(())
    }

    fn support_resume(&mut self) -> Option<MultiThreadResumeOps<'_, Self>> {
        Some(self)
    }

    fn support_thread_extra_info(&mut self) -> Option<ThreadExtraInfoOps<'_, Self>> {
        Some(self)
    }
}

impl ThreadExtraInfo for Debugger<'_> {
    fn thread_extra_info(&self, tid: Tid, buffer: &mut [u8]) -> Result<usize, String> {
        let text = self.whereabouts(vcpu(tid));
        let length = text.len().min(buffer.len());
        buffer[..length].copy_from_slice(&text.as_bytes()[..length]);
        Ok(length)
    }
}

impl MultiThreadResume for Debugger<'_> {
    fn resume(&mut self) -> Result<(), String> {
        self.go_on();
        Ok(())
    }

    fn clear_resume_actions(&mut self) -> Result<(), String> {
        self.steps.clear();
        Ok(())
    }

    fn set_resume_action_continue(
        &mut self,
        tid: Tid,
        _signal: Option<Signal>,
    ) -> Result<(), String> {
        self.steps.remove(&vcpu(tid));
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<MultiThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_scheduler_locking(&mut self) -> Option<MultiThreadSchedulerLockingOps<'_, Self>> {
        Some(self)
    }
}

impl MultiThreadSchedulerLocking for Debugger<'_> {
    /// The others run on while one is stepped: processors that stand still look broken to each
    /// other.
    fn set_resume_action_scheduler_lock(&mut self) -> Result<(), String> {
        Ok(())
    }
}

impl MultiThreadSingleStep for Debugger<'_> {
    fn set_resume_action_step(&mut self, tid: Tid, _signal: Option<Signal>) -> Result<(), String> {
        self.steps.insert(vcpu(tid));
        Ok(())
    }
}

impl BreakpointsExt for Debugger<'_> {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }

    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

type BreakKind = <X86_64_SSE as Arch>::BreakpointKind;

impl SwBreakpoint for Debugger<'_> {
    fn add_sw_breakpoint(&mut self, address: u64, _kind: BreakKind) -> TargetResult<bool, Self> {
        // Where nothing is mapped yet there is nothing to plant into.
        let slot = self.slot(address, Kind::Execute, 1, true);
        Ok(self.possible(address) && (self.plant(address) || self.breaks.add(slot)))
    }

    fn remove_sw_breakpoint(&mut self, address: u64, _kind: BreakKind) -> TargetResult<bool, Self> {
        if let Some(planted) = self.breaks.planted.remove(&address) {
            return Ok(self.poke(planted.physical, planted.original).is_ok());
        }
        Ok(self.breaks.remove(address, 1, |kind| kind == Kind::Execute))
    }
}

impl HwBreakpoint for Debugger<'_> {
    fn add_hw_breakpoint(&mut self, address: u64, _kind: BreakKind) -> TargetResult<bool, Self> {
        let slot = self.slot(address, Kind::Execute, 1, false);
        Ok(self.possible(address) && self.breaks.add(slot))
    }

    fn remove_hw_breakpoint(&mut self, address: u64, _kind: BreakKind) -> TargetResult<bool, Self> {
        Ok(self.breaks.remove(address, 1, |kind| kind == Kind::Execute))
    }
}

impl HwWatchpoint for Debugger<'_> {
    fn add_hw_watchpoint(
        &mut self,
        address: u64,
        length: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        let Ok(length) = u8::try_from(length) else { return Ok(false) };
        let slot = self.slot(address, watch(kind), length, false);
        Ok(self.possible(address) && self.breaks.add(slot))
    }

    fn remove_hw_watchpoint(
        &mut self,
        address: u64,
        length: u64,
        kind: WatchKind,
    ) -> TargetResult<bool, Self> {
        let Ok(length) = u8::try_from(length) else { return Ok(false) };
        let wanted = watch(kind);
        Ok(self.breaks.remove(address, length, |kind| kind == wanted))
    }
}

/// Waits for whichever comes first: the guest stops, or gdb says something.
pub struct EventLoop<'a>(std::marker::PhantomData<&'a ()>);

impl<'a> BlockingEventLoop for EventLoop<'a> {
    type Target = Debugger<'a>;
    type Connection = Wire;
    type StopReason = Stopped;

    fn wait_for_stop_reason(
        target: &mut Debugger<'a>,
        wire: &mut Wire,
    ) -> Result<Event<Stopped>, WaitForStopReasonError<String, std::io::Error>> {
        loop {
            if target.shared.ending.stopping() {
                return Ok(Event::TargetStopped(Stopped::Exited(0)));
            }
            if let Some((stop, held)) = target.shared.halt.next_event(STEP) {
                target.held = Some(held);
                match target.judge(stop) {
                    Some(reason) => return Ok(Event::TargetStopped(reason)),
                    None => {
                        target.go_on();
                        continue;
                    }
                }
            }
            if wire.peek().map_err(WaitForStopReasonError::Connection)?.is_some() {
                let byte = wire.read().map_err(WaitForStopReasonError::Connection)?;
                return Ok(Event::IncomingData(byte));
            }
        }
    }

    fn on_interrupt(target: &mut Debugger<'a>) -> Result<Option<Stopped>, String> {
        target.held = Some(target.shared.halt.hold());
        Ok(Some(Stopped::SignalWithThread { tid: tid(0), signal: Signal::SIGINT }))
    }
}
