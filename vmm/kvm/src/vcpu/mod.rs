//! Virtual CPUs: their start, their loop, and how another thread gets hold of them.
//!
//! Each vCPU is a thread in `KVM_RUN`. Every exit that is an access goes to the bus, the one
//! choke point; what a device then asks of the machine may end the run. To stop a vCPU, another
//! thread sets `immediate_exit` in its shared page and sends it a signal: whether the signal
//! comes before, during or after the entry, the next thing the vCPU does is look at the flag.

pub mod exit;
pub mod setup;

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::Duration;

use vmm_sys_util::signal::{Killable, SIGRTMIN, register_signal_handler};
use xinim_devices::backend::Clock;
use xinim_devices::bus::{Response, Space, lock};
use xinim_devices::device::{Op, Origin};
use xinim_devices::trace::{Event, EventKind, ExitReason, Interest};
use xinim_machine::{Death, End, EngineError};

use crate::confine;
use crate::death::{self, Scene};
use crate::dump::CpuState;
use crate::exits::{Counts, Kind};
use crate::halt::{Cause, Stop};
use crate::host::host_io;
use crate::lapic::describe;
use crate::shared::{Ended, Ending, Shared};
use crate::strict::Stack;
use crate::walk::Paging;
use exit::{Exit, Runner};

/// `KVM_INTERNAL_ERROR_EMULATION`: KVM met an instruction that it can neither run nor emulate.
const INTERNAL_EMULATION: u32 = 1;

const RFLAGS_IF: u64 = 1 << 9;
/// Parts of one access under way: a string instruction's page of bytes at most.
const SETTLE_MAX: usize = 4096;

/// What a vCPU thread leaves behind.
#[derive(Clone, Default)]
pub struct Finished {
    pub counts: Counts,
    /// Since the start of the machine; `None` for a vCPU that never ran.
    pub first_entry: Option<Duration>,
    /// Where it was at the end, for people.
    pub place: String,
    /// After a time-out: all there is to say of it.
    pub report: Option<String>,
    /// Its registers at the end.
    pub state: Option<CpuState>,
}

/// One vCPU on its thread.
struct Vcpu {
    index: u32,
    runner: Runner,
    shared: Arc<Shared>,
    finished: Finished,
    /// When the exit being handled came, if exits are traced.
    exit_ns: Option<u64>,
}

/// A running vCPU thread.
pub struct Handle {
    thread: JoinHandle<Vcpu>,
    immediate_exit: ImmediateExit,
}

/// The flag in a vCPU's shared page.
#[derive(Clone, Copy)]
struct ImmediateExit(*const AtomicU8);

// SAFETY: it points to an atomic, which any thread may store to, and which lives until the vCPU's
// thread has been joined or has left `Halt`.
unsafe impl Send for ImmediateExit {}

impl ImmediateExit {
    fn ask(&self) {
        // SAFETY: the page lives as long as the vCPU; see above.
        unsafe { &*self.0 }.store(1, Ordering::SeqCst);
    }
}

/// Starts a vCPU's thread.
pub fn spawn(index: u32, mut runner: Runner, shared: Arc<Shared>) -> Result<Handle, EngineError> {
    static HANDLER: Once = Once::new();
    HANDLER.call_once(|| {
        // Without a handler the signal would end the process. That it arrives is all.
        extern "C" fn nothing(_: libc::c_int, _: *mut libc::siginfo_t, _: *mut libc::c_void) {}
        let _ = register_signal_handler(SIGRTMIN(), nothing);
    });
    let immediate_exit = ImmediateExit(runner.immediate_exit());
    let mut vcpu = Vcpu { index, runner, shared, finished: Finished::default(), exit_ns: None };
    let thread = std::thread::Builder::new()
        .name(format!("vcpu{index}"))
        .spawn(move || {
            let _alarm = Alarm(vcpu.shared.ending.clone());
            let (index, shared) = (vcpu.index, vcpu.shared.clone());
            shared.halt.arrive(index, kick_for(immediate_exit));
            match if shared.sandboxed { confine::vcpu(shared.network) } else { Ok(()) } {
                Ok(()) => vcpu.run(),
                Err(why) => shared.ending.finish(Err(EngineError::Machine(why))),
            }
            shared.halt.leave(index);
            vcpu.finished.place = vcpu.place();
            vcpu.finished.state = vcpu.runner.state();
            if shared.stop.is_timed_out() {
                vcpu.finished.report = Some(vcpu.report("").report);
            }
            // The vCPU, and with it the page of its flag, lives until the thread is joined.
            vcpu
        })
        .map_err(host_io("starting a vCPU thread"))?;
    Ok(Handle { thread, immediate_exit })
}

/// Makes the calling thread's vCPU leave the guest, from any thread, until it leaves `Halt`.
fn kick_for(immediate_exit: ImmediateExit) -> Box<dyn Fn() + Send> {
    // SAFETY: it has no conditions.
    let thread = unsafe { libc::pthread_self() };
    Box::new(move || {
        let immediate_exit = &immediate_exit;
        immediate_exit.ask();
        // SAFETY: the thread runs: it takes this away before it ends.
        unsafe { libc::pthread_kill(thread, SIGRTMIN()) };
    })
}

/// Ends the machine when its thread panics; nobody else would notice.
struct Alarm(Arc<Ending>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.finish(Err(EngineError::Host {
                context: "a vCPU thread failed".into(),
                source: std::io::Error::other("this is a defect of the VMM"),
            }));
        }
    }
}

impl Handle {
    /// Makes the vCPU leave the guest and look at [`Shared::ending`].
    pub fn kick(&self) {
        self.immediate_exit.ask();
        let _ = self.thread.kill(SIGRTMIN());
    }

    /// Waits for the thread to end.
    pub fn join(self) -> Finished {
        self.thread.join().map_or_else(|_| Finished::default(), |vcpu| vcpu.finished)
    }
}

impl Vcpu {
    /// Runs until the machine ends.
    fn run(&mut self) {
        self.shared.injector.enlist(self.index);
        while !self.shared.ending.stopping() {
            if self.shared.halt.wanted() && !self.park() {
                continue;
            }
            if self.finished.first_entry.is_none() {
                self.finished.first_entry = Some(self.shared.clock.monotonic());
            }
            match self.runner.run() {
                Ok(exit) => {
                    let resting = exit == Exit::Interrupted;
                    match self.shared.hub.wants(Interest::EXIT) {
                        true => self.handle_traced(exit),
                        false => self.handle(exit),
                    }
                    let shared = &self.shared;
                    shared.injector.look(self.index, self.runner.fd(), shared, resting);
                }
                Err(source) => {
                    let context = format!("running vCPU {}", self.index);
                    self.shared.ending.finish(Err(EngineError::Host { context, source }));
                }
            }
        }
    }

    /// Stands still as long as somebody wants that; whether it may run now.
    fn park(&mut self) -> bool {
        for _ in 0..SETTLE_MAX {
            match self.runner.complete() {
                Ok(Exit::Interrupted) | Err(_) => break,
                // An access in several parts, or the end of the machine.
                Ok(exit) => self.handle(exit),
            }
        }
        let shared = self.shared.clone();
        shared.halt.park(self.index, &mut self.runner, &shared.ending)
    }

    fn place(&self) -> String {
        let fd = self.runner.fd();
        let Some((general, special)) = fd.get_regs().ok().zip(fd.get_sregs().ok()) else {
            return format!("cpu {}: unknown", self.index);
        };
        let process = match self.shared.page.process(&self.shared.ram, self.index) {
            Some(process) => format!("process {} ({})", process.pid, process.name()),
            None => "no process".into(),
        };
        let apic = fd.get_lapic().map_or_else(|_| "APIC unknown".into(), |lapic| describe(&lapic));
        let enabled = if general.rflags & RFLAGS_IF == 0 { "off" } else { "on" };
        format!(
            "cpu {}: rip={:#x} ring {} {process}; interrupts {enabled}, {apic}",
            self.index, general.rip, special.ss.dpl
        )
    }

    /// Handles an exit and reports it with the time from here until the guest can go on.
    fn handle_traced(&mut self, exit: Exit) {
        let (reason, address) = match exit {
            Exit::Port { port, write: true, .. } => (ExitReason::PortOut, u64::from(port)),
            Exit::Port { port, .. } => (ExitReason::PortIn, u64::from(port)),
            Exit::Mmio { address, write: true, .. } => (ExitReason::MmioWrite, address),
            Exit::Mmio { address, .. } => (ExitReason::MmioRead, address),
            Exit::Interrupted => (ExitReason::Interrupted, 0),
            Exit::Halt => (ExitReason::Halt, 0),
            _ => (ExitReason::Other, 0),
        };
        let shared = self.shared.clone();
        let now = || shared.clock.monotonic().as_nanos() as u64;
        let start = now();
        self.exit_ns = Some(start);
        self.handle(exit);
        self.exit_ns = None;
        let origin = Origin {
            time_ns: start,
            vcpu: Some(self.index),
            rip: self.runner.rip(),
            process: shared.page.process(&shared.ram, self.index),
        };
        let kind = EventKind::Exit { reason, address, nanos: now().saturating_sub(start) };
        shared.hub.send(&Event { origin, device: "cpu", kind, data: &[] });
    }

    fn handle(&mut self, exit: Exit) {
        match exit {
            Exit::Port { port, size, count, write } => self.port(port, size, count, write),
            Exit::Mmio { address, size, write, value } => {
                self.mmio(address, size, write.then_some(value));
            }
            Exit::Interrupted => {
                // Before whoever asked is asked what for.
                self.runner.clear_immediate_exit();
                self.finished.counts.add(Kind::Interrupted);
            }
            Exit::Debug { exception, pc, dr6 } => {
                self.finished.counts.add(Kind::Other);
                let cause = Cause::Debug { exception, pc, dr6 };
                self.shared.halt.event(Stop { vcpu: self.index, cause });
            }
            Exit::Halt => self.finished.counts.add(Kind::Halt),
            Exit::SystemEvent { reset } => {
                let end = if reset { End::Reboot } else { End::PowerOff };
                self.shared.ending.finish(Ok(end));
            }
            Exit::Shutdown => self.died("triple fault"),
            Exit::InternalError { suberror: INTERNAL_EMULATION } => {
                self.died("KVM internal error: it cannot emulate this instruction");
            }
            Exit::InternalError { suberror } => {
                self.died(&format!("KVM internal error {suberror}"));
            }
            Exit::FailEntry { reason } => {
                self.died(&format!("the processor refused the guest's state ({reason:#x})"));
            }
            Exit::Other(reason) => {
                self.finished.counts.add(Kind::Other);
                self.died(&format!("unexpected VM exit {reason}"));
            }
        }
    }

    /// String instructions carry several operands; each is an access of its own.
    fn port(&mut self, port: u16, size: u8, count: u32, write: bool) {
        for index in 0..count {
            let op = if write { Op::Write(self.runner.port_value(index)) } else { Op::Read };
            let response = self.access(Space::Pio, u64::from(port), size, op);
            if !write {
                self.runner.set_port_value(index, response.value);
            }
        }
    }

    fn mmio(&mut self, address: u64, size: u8, written: Option<u64>) {
        let op = written.map_or(Op::Read, Op::Write);
        let response = self.access(Space::Mmio, address, size, op);
        if written.is_none() {
            self.runner.set_mmio_value(response.value);
        }
    }

    /// One access of the guest, from the bus to the end of the machine.
    fn access(&mut self, space: Space, address: u64, size: u8, op: Op) -> Response {
        let rip = self.runner.rip();
        let shared = self.shared.clone();
        let origin = if shared.hub.is_on() {
            Origin {
                time_ns: self.exit_ns.unwrap_or_else(|| shared.clock.monotonic().as_nanos() as u64),
                vcpu: Some(self.index),
                rip,
                process: shared.page.process(&shared.ram, self.index),
            }
        } else {
            Origin { time_ns: 0, vcpu: Some(self.index), rip, process: None }
        };
        let response = shared.bus.access(origin, space, address, size, op);
        if let Some(strict) = &shared.strict {
            strict.flush(Some(self.index), &shared.ram, &shared.images, || self.stack());
        }
        let (kind, value) = match (space, op) {
            (Space::Pio, Op::Write(value)) => (Kind::PortOut, value),
            (Space::Pio, Op::Read) => (Kind::PortIn, response.value),
            (_, Op::Write(value)) => (Kind::MmioWrite, value),
            (_, Op::Read) => (Kind::MmioRead, response.value),
        };
        self.finished.counts.add(kind);
        shared.record(Some(self.index), kind, (address, size, value), rip);
        match response.action.and_then(|action| shared.act(action)) {
            Some(Ended::Plain(end)) => shared.ending.finish(Ok(end)),
            Some(Ended::Panic) => self.died("guest kernel panic"),
            None => {}
        }
        response
    }

    /// Where the guest's stack begins, for a report.
    fn stack(&self) -> Option<Stack> {
        let fd = self.runner.fd();
        let (general, special) = fd.get_regs().ok().zip(fd.get_sregs().ok())?;
        let paging =
            Paging { cr0: special.cr0, cr3: special.cr3, cr4: special.cr4, efer: special.efer };
        Some(Stack { rip: general.rip, rsp: general.rsp, paging })
    }

    /// Ends the machine with a report on this vCPU.
    fn died(&mut self, reason: &str) {
        if self.shared.halt.watched() {
            // The debugger sees it first, as it stands.
            self.shared.halt.event(Stop { vcpu: self.index, cause: Cause::Died });
            let shared = self.shared.clone();
            shared.halt.park(self.index, &mut self.runner, &shared.ending);
        }
        let death = self.report(reason);
        self.shared.ending.finish(Ok(End::Died(death)));
    }

    fn report(&self, reason: &str) -> Death {
        let fd = self.runner.fd();
        let registers = fd.get_regs().ok().zip(fd.get_sregs().ok());
        let ring = lock(&self.shared.ring);
        let scene = Scene {
            vcpu: self.index,
            registers,
            interrupts: fd.get_lapic().ok().map(|lapic| describe(&lapic)),
            process: self.shared.page.process(&self.shared.ram, self.index),
            processes: self.shared.page.processes(&self.shared.ram).iter().map(|p| p.0).collect(),
            ram: &self.shared.ram,
            ring: &ring,
            images: &self.shared.images,
        };
        death::report(reason, &scene)
    }
}
