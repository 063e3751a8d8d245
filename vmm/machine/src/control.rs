//! What can be done to a machine while it runs. The front calls it for its control socket; an engine
//! registers what it can do when its devices exist, and takes it back before they go.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::DiskSpec;
use crate::net::{NetModel, NetSpec};
use crate::statistics::MachineStatistics;
use crate::trace::TraceStatus;

/// A disk as the machine has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskStatus {
    /// `disk0`, `disk1`, ... in the order they came.
    pub name: String,
    pub spec: DiskSpec,
    /// Port of the AHCI controller; `None` on other buses.
    pub port: Option<u16>,
    /// Length in bytes now; `None`: no medium in the drive.
    pub bytes: Option<u64>,
}

/// A network device as the machine has it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetStatus {
    /// `net0`, `net1`, ... in the order of the machine's description.
    pub name: String,
    pub model: NetModel,
    pub mac: [u8; 6],
    /// Whether the cable is in.
    pub link: bool,
}

impl NetStatus {
    /// The devices of a machine as it starts.
    pub fn all(specs: &[NetSpec]) -> Vec<Self> {
        let status = |(index, spec): (usize, &NetSpec)| Self {
            name: format!("net{index}"),
            model: spec.model,
            mac: spec.mac,
            link: spec.link,
        };
        specs.iter().enumerate().map(status).collect()
    }
}

/// A fault rule of a running machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FaultStatus {
    pub id: u32,
    /// As it was written.
    pub rule: String,
    /// How often what it is about has passed.
    pub matches: u64,
    /// How often it struck.
    pub hits: u64,
}

/// A thread of the guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadStatus {
    pub pid: u32,
    pub process: String,
    /// `running`, `ready`, `receiving`, `sending`, `awaiting reply`, `sleeping`.
    pub state: &'static str,
    pub priority: u32,
    pub system_calls: u64,
    /// TSC ticks that it has run.
    pub ticks: u64,
    /// Whom it has called: number and name of the process.
    pub waits_for: Option<(u32, String)>,
    /// Notification bits that nobody has fetched where it waits.
    pub bits: u64,
    /// Where it is, and its callers.
    pub stack: Vec<String>,
}

/// What is done to a process (see `xinim-vmm ctl SOCKET inject`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectionKind {
    /// A bit of its text.
    Text,
    /// An instruction becomes one that a programming mistake would have made.
    Instruction,
    /// A bit of its stack or of its image's data.
    Data,
    /// A bit of a register that holds an address.
    Pointer,
    /// Goes on somewhere else.
    Jump,
    /// Never comes back from where it is.
    Spin,
}

impl InjectionKind {
    pub const ALL: [Self; 6] =
        [Self::Text, Self::Instruction, Self::Data, Self::Pointer, Self::Jump, Self::Spin];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Instruction => "instruction",
            Self::Data => "data",
            Self::Pointer => "pointer",
            Self::Jump => "jump",
            Self::Spin => "spin",
        }
    }

    /// Whether it must run in user mode at that moment.
    pub const fn needs_registers(self) -> bool {
        matches!(self, Self::Pointer | Self::Jump | Self::Spin)
    }
}

impl std::str::FromStr for InjectionKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| format!("`{text}` is none of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

/// Damage to be done to a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    /// Its name: a service's label.
    pub process: String,
    pub kind: InjectionKind,
    /// Of the choice of place and bit.
    pub seed: u64,
}

/// What an engine says that has no fault rules.
pub const NO_FAULTS: &str =
    "fault rules are for the kvm engine, whose devices are ours; this machine runs on another";

/// Operations on a running machine. Errors are sentences for the user. Calls may wait for the
/// host, but not for the guest.
pub trait MachineControl: Send + Sync {
    fn disks(&self) -> Result<Vec<DiskStatus>, String>;
    /// Plugs a disk in, at this port or the first free one; its name.
    fn attach(&self, disk: &DiskSpec, port: Option<u16>) -> Result<String, String>;
    /// Pulls a disk out, whatever the guest is doing with it.
    fn detach(&self, name: &str) -> Result<(), String>;
    /// Puts a disc into a CD-ROM drive.
    fn insert(&self, name: &str, disc: &DiskSpec) -> Result<(), String>;
    /// Takes the disc out; even when the guest has locked the drive if `force`.
    fn eject(&self, name: &str, force: bool) -> Result<(), String>;
    /// Gives a disk another length in bytes and tells the guest.
    fn resize(&self, name: &str, bytes: u64) -> Result<(), String>;
    /// The traces it was started with.
    fn traces(&self) -> Result<Vec<TraceStatus>, String> {
        Err("this engine writes no traces that can be switched".into())
    }
    /// Switches the trace of this file on or off, or all of them.
    fn switch_traces(&self, path: Option<&Path>, on: bool) -> Result<(), String> {
        let _ = (path, on);
        Err("this engine writes no traces that can be switched".into())
    }
    /// What it has done since the first call.
    fn statistics(&self) -> Result<MachineStatistics, String> {
        Err("this engine counts nothing".into())
    }
    /// Every thread of the guest as it is now: what it waits for, and how it came there.
    fn threads(&self) -> Result<Vec<ThreadStatus>, String> {
        Err("only the kvm engine can look at the guest's threads".into())
    }
    /// Writes an ELF core of the guest as it is now.
    fn dump(&self, file: &std::path::Path) -> Result<(), String>;
    fn nets(&self) -> Result<Vec<NetStatus>, String>;
    /// Puts a network device's cable in or pulls it out.
    fn set_link(&self, name: &str, up: bool) -> Result<(), String>;
    fn faults(&self) -> Result<Vec<FaultStatus>, String> {
        Err(NO_FAULTS.into())
    }
    /// Adds a fault rule; its number.
    fn add_fault(&self, _rule: &str) -> Result<u32, String> {
        Err(NO_FAULTS.into())
    }
    fn remove_fault(&self, _id: u32) -> Result<(), String> {
        Err(NO_FAULTS.into())
    }
    fn clear_faults(&self) -> Result<(), String> {
        Err(NO_FAULTS.into())
    }
    /// Damages a process the next time it runs, within `patience`; what was done. This one waits for
    /// the guest.
    fn inject(&self, _injection: &Injection, _patience: Duration) -> Result<String, String> {
        Err("only the kvm engine can damage a process".into())
    }
}

/// The place where the running machine can be found.
#[derive(Clone, Default)]
pub struct Controller(Arc<Mutex<Option<Arc<dyn MachineControl>>>>);

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Controller")
    }
}

impl Controller {
    /// For engines: from now on this is the machine, until the result is dropped.
    pub fn register(&self, machine: Arc<dyn MachineControl>) -> Registered {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(machine);
        Registered(self.clone())
    }

    /// The machine, if one is running.
    pub fn machine(&self) -> Option<Arc<dyn MachineControl>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Takes the machine out of its place when dropped.
#[derive(Debug)]
pub struct Registered(Controller);

impl Drop for Registered {
    fn drop(&mut self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}
