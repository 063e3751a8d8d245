//! The machine's disks between their devices and the host: whose completions have come, and where each
//! is.
//!
//! ```text
//!   HostDisk's wake descriptors --epoll token--> (function, unit) --> DriveBays::ready
//! ```
//! Descriptors are watched edge-triggered and never read; closing the disk ends the watch.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use xinim_abi::hw::pci::Bdf;
use xinim_block::{DiskHandle, HostDisk};
use xinim_devices::ahci;
use xinim_devices::bus::lock;
use xinim_machine::{DiskBus, DiskSpec, EngineError};

use crate::host::host_io;

/// Epoll tokens from this one on are disks: it, the function's 16 bits, the unit's 16 bits.
pub const FIRST_TOKEN: u64 = 1 << 32;

/// A disk behind a device.
#[derive(Clone)]
pub struct Known {
    /// `disk0`, `disk1`, ...
    pub name: String,
    pub function: Bdf,
    pub unit: u16,
    pub spec: DiskSpec,
    /// `None`: a CD-ROM drive without a disc.
    pub handle: Option<DiskHandle>,
}

impl Known {
    /// Port of the AHCI controller.
    pub fn port(&self) -> Option<u16> {
        (self.spec.bus == DiskBus::Ahci).then_some(self.unit)
    }

    /// What the guest knows it by.
    pub fn serial(&self) -> String {
        self.spec.serial.clone().unwrap_or_else(|| format!("xinim-{}", self.name))
    }
}

/// All of them.
pub struct Disks {
    epoll: Arc<Epoll>,
    known: Mutex<Vec<Known>>,
}

impl Disks {
    pub fn new(epoll: Arc<Epoll>) -> Self {
        Self { epoll, known: Mutex::default() }
    }

    /// Watches the completions of a disk that is (or is about to be) behind a unit.
    pub fn watch(&self, disk: &HostDisk, function: Bdf, unit: u16) -> Result<(), EngineError> {
        let wakes: Vec<_> = disk.wakes().iter().map(|wake| wake.as_raw_fd()).collect();
        self.watch_all(&wakes, function, unit)
    }

    /// The same for a disk that its device has already: its wake descriptors.
    pub fn watch_all(&self, wakes: &[RawFd], function: Bdf, unit: u16) -> Result<(), EngineError> {
        let token = FIRST_TOKEN | u64::from(function.bits()) << 16 | u64::from(unit);
        for wake in wakes {
            let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, token);
            self.epoll
                .ctl(ControlOperation::Add, *wake, event)
                .map_err(host_io("watching a disk"))?;
        }
        Ok(())
    }

    /// Which disk a token stands for.
    pub fn unit(token: u64) -> Option<(Bdf, u16)> {
        let bits = token.checked_sub(FIRST_TOKEN)?;
        Some((Bdf::from_bits((bits >> 16) as u16), bits as u16))
    }

    /// A name and a port for a new disk on the AHCI controller.
    pub fn plan(&self, spec: &DiskSpec, port: Option<u16>) -> Result<Known, String> {
        let known = lock(&self.known);
        let taken = |port: &u16| known.iter().any(|disk| disk.port() == Some(*port));
        let unit = match port {
            Some(port) if port >= ahci::DEFAULT_PORTS.into() => {
                let last = ahci::DEFAULT_PORTS - 1;
                return Err(format!("the AHCI controller has ports 0 to {last}"));
            }
            Some(port) if taken(&port) => return Err(format!("there is a disk at port {port}")),
            Some(port) => port,
            None => (0..ahci::DEFAULT_PORTS.into())
                .find(|port| !taken(port))
                .ok_or("all ports of the AHCI controller are in use")?,
        };
        let name = (0..=known.len())
            .map(|number| format!("disk{number}"))
            .find(|name| known.iter().all(|disk| disk.name != *name))
            .unwrap_or_default();
        Ok(Known { name, function: ahci::PLACE, unit, spec: spec.clone(), handle: None })
    }

    pub fn list(&self) -> Vec<Known> {
        lock(&self.known).clone()
    }

    pub fn find(&self, name: &str) -> Option<Known> {
        lock(&self.known).iter().find(|known| known.name == name).cloned()
    }

    /// The disk is behind its device now; what had its name is not any more.
    pub fn remember(&self, disk: Known) {
        let mut known = lock(&self.known);
        match known.iter_mut().find(|other| other.name == disk.name) {
            Some(other) => *other = disk,
            None => known.push(disk),
        }
    }

    /// The disk has been taken from its device.
    pub fn forget(&self, name: &str) {
        lock(&self.known).retain(|known| known.name != name);
    }
}
