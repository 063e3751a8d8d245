//! What a machine is ([`MachineSpec`]), how it talks to its host ([`HostIo`]) and how its run
//! ended ([`Outcome`]). The front (`xinim-vmm`) makes a spec from the command line and TOML; an
//! [`Engine`] runs it. Engines know nothing about command lines, the front nothing about KVM.
#![forbid(unsafe_code)]

pub mod control;
pub mod disk;
pub mod image;
pub mod net;
pub mod statistics;
pub mod strict;
pub mod testing;
pub mod trace;

pub use control::{Controller, DiskStatus, FaultStatus, MachineControl, NetStatus};
pub use disk::{CacheMode, DiskBus, DiskFormat, DiskSource, DiskSpec, IoMethod, Limits, Rate};
pub use statistics::MachineStatistics;
pub use strict::{Notices, StrictCount, StrictMode, StrictStats};

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;

/// A machine, complete: every default is already filled in.
#[derive(Clone, Debug, Default)]
pub struct MachineSpec {
    /// Guest RAM in bytes, a multiple of 2 MiB.
    pub memory: u64,
    /// Virtual CPUs, at least 1.
    pub cpus: u32,
    /// Kernel ELF (with a PVH note) as a file's bytes.
    pub kernel: Bytes,
    /// System bundle or initrd, passed as the first PVH module.
    pub bundle: Option<Bytes>,
    /// Kernel command line, complete. An engine adds at most a promise about the machine it made
    /// (`ram=zeroed`, see `xinim_abi::platform`).
    pub cmdline: String,
    pub disks: Vec<DiskSpec>,
    /// Whether disks may come while the machine runs: it then has an AHCI controller in any case.
    pub hotplug: bool,
    /// Whether an IOMMU stands between devices and memory.
    pub iommu: bool,
    pub nets: Vec<net::NetSpec>,
    /// CPU features hidden from (or, where possible, forced on for) the guest.
    pub cpuid: Vec<CpuidChange>,
    pub traces: Vec<trace::TraceSpec>,
    /// What the devices are asked and answered is written here (`xinim-record`).
    pub record: Option<std::path::PathBuf>,
    /// Whether drivers are checked against the specifications.
    pub strict: Option<StrictMode>,
    /// Fault rules as they are written (`xinim_devices::fault`), in the order in which they are
    /// asked.
    pub faults: Vec<String>,
    /// Where a debugger may connect.
    pub gdb: Option<GdbSpec>,
    /// An ELF core is written here if the guest dies or its time runs out.
    pub dump: Option<PathBuf>,
    /// Confine the process to what the machine needs once it is set up.
    pub sandbox: Option<Sandbox>,
}

/// How the process is confined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sandbox {
    /// Whether files are still opened while the machine runs or after it: for a control socket, a
    /// dump, a guest that reboots.
    pub opens_files: bool,
}

/// A socket for gdb.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GdbSpec {
    pub address: GdbAddress,
    /// The guest's first instruction waits for the debugger.
    pub wait: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GdbAddress {
    Tcp(std::net::SocketAddr),
    Unix(PathBuf),
}

impl std::fmt::Display for GdbAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            GdbAddress::Tcp(address) => address.fmt(f),
            GdbAddress::Unix(path) => path.display().fmt(f),
        }
    }
}

/// `-name` hides a feature, `+name` asks for it. Names are QEMU's / Linux's lower-case ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuidChange {
    pub feature: String,
    pub enable: bool,
}

/// The machine's connections to the outside. Engines own and close them.
///
/// All are plain file descriptors, so that a unix socket, a pipe or a file serve alike.
#[derive(Debug, Default)]
pub struct HostIo {
    /// COM1. `input: None` means nothing is ever received. `output: None` discards.
    pub console_in: Option<OwnedFd>,
    pub console_out: Option<OwnedFd>,
    /// One end of a stream socket pair carrying virtio-console port 0 (the host link); the front
    /// holds the other end. `None`: the machine has no virtio-console device.
    pub host_link: Option<OwnedFd>,
    /// Debug console (port 0xE9) bytes, the kernel's panic report and log. A stream socket or
    /// pipe whose other end the front reads.
    pub debug_out: Option<OwnedFd>,
    /// Set by the front to end the run at once (time-out, signal); the engine then returns
    /// [`End::Stopped`] within 100 ms. Engines may also be woken through [`Stopper`].
    pub stop: Stopper,
    /// Where the engine leaves what can be done to the machine while it runs.
    pub control: Controller,
    /// Who is told of broken rules.
    pub notices: Notices,
}

/// Ends a run from another thread: sets a flag, then runs what the engine registered to be woken.
#[derive(Clone, Default)]
pub struct Stopper {
    stopped: Arc<AtomicBool>,
    timed_out: Arc<AtomicBool>,
    wake: Arc<std::sync::Mutex<Option<Wake>>>,
}

/// What an engine registers to be woken.
type Wake = Box<dyn Fn() + Send>;

impl std::fmt::Debug for Stopper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stopper").field("stopped", &self.is_stopped()).finish()
    }
}

impl Stopper {
    pub fn stop(&self) {
        self.stopped.store(true, std::sync::atomic::Ordering::SeqCst);
        if let Ok(guard) = self.wake.lock()
            && let Some(wake) = guard.as_ref()
        {
            wake();
        }
    }

    /// As [`Self::stop`]; the engine then says all it can of where the guest was.
    pub fn time_out(&self) {
        self.timed_out.store(true, std::sync::atomic::Ordering::SeqCst);
        self.stop();
    }

    pub fn is_timed_out(&self) -> bool {
        self.timed_out.load(std::sync::atomic::Ordering::SeqCst)
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// Called by the engine before it starts vCPUs. Runs `wake` at once if already stopped.
    ///
    /// `wake` may run more than once, and even after the run it was registered for has ended
    /// (until the next registration), so it must tolerate both.
    pub fn on_stop(&self, wake: impl Fn() + Send + 'static) {
        let Ok(mut guard) = self.wake.lock() else { return };
        // The flag is set before `stop` takes the lock: looking at it with the lock held leaves
        // no moment in which a stop is seen by neither side.
        if self.is_stopped() {
            wake();
        }
        *guard = Some(Box::new(wake));
    }
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest powered the machine off.
    PowerOff,
    /// The guest asked for a reboot (the front runs the machine again).
    Reboot,
    /// The guest wrote another value to the exit device.
    ExitDevice(u32),
    /// The front asked for the end through [`HostIo::stop`].
    Stopped,
    /// A driver broke a rule, and that was to be the end ([`StrictMode::Stop`]).
    Strict,
    /// Kernel panic, triple fault or internal error of the hypervisor.
    Died(Death),
}

/// Why and where a guest died, ready to print.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Death {
    /// `guest kernel panic`, `triple fault`, `KVM internal error (emulation)`, ...
    pub reason: String,
    /// Registers, instruction bytes, running process, last VM exits: whole lines of text.
    pub report: String,
}

/// Figures of one run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunStats {
    /// From the call of [`Engine::run`] to just before the first vCPU instruction.
    pub to_first_instruction: Option<Duration>,
    /// VM exits to user space by kind.
    pub exits: Vec<(String, u64)>,
    /// For a run that was stopped: where each vCPU was, one line each (rip, ring, process), as
    /// far as the engine knows; after a time-out with a report on each.
    pub stopped_at: Option<String>,
    /// Of a machine whose drivers were checked.
    pub strict: Option<StrictStats>,
    /// The fault rules there were at the end.
    pub faults: Vec<FaultStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub end: End,
    pub stats: RunStats,
}

/// What kept an engine from running the machine. The text is one sentence for the user.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine cannot be used on this host (exit status 126).
    #[error("{0}")]
    Unavailable(String),
    /// The machine cannot be built as asked (exit status 125): file, size, kernel format.
    #[error("{0}")]
    Machine(String),
    /// The host refused something in the middle (exit status 125).
    #[error("{context}: {source}")]
    Host { context: String, source: std::io::Error },
}

/// Something that can run a machine.
pub trait Engine {
    fn name(&self) -> &'static str;
    /// Runs the machine to its end.
    fn run(&self, spec: &MachineSpec, io: HostIo) -> Result<Outcome, EngineError>;
}
