//! What can be done to a machine while it runs. The front calls it for its control socket; an engine
//! registers what it can do when its devices exist, and takes it back before they go.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

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
    fn nets(&self) -> Result<Vec<NetStatus>, String>;
    /// Puts a network device's cable in or pulls it out.
    fn set_link(&self, name: &str, up: bool) -> Result<(), String>;
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
