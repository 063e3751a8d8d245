//! The machine's disks between their devices and the host: whose completions have come, and what the
//! control socket may do with them.
//!
//! ```text
//!   HostDisk's wake descriptors --epoll token--> (function, unit) --> DriveBays::ready
//! ```
//! Descriptors are watched edge-triggered and never read; closing the disk ends the watch.

use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use xinim_abi::hw::pci::Bdf;
use xinim_block::{DiskHandle, HostDisk};
use xinim_devices::bus::lock;
use xinim_machine::{DiskSpec, EngineError};

use crate::host::host_io;

/// Epoll tokens from this one on are disks: it, the function's 16 bits, the unit's 16 bits.
pub const FIRST_TOKEN: u64 = 1 << 32;

/// A disk behind a device.
#[derive(Clone)]
pub struct Known {
    /// As in the trace: `virtio-blk.0`.
    pub name: String,
    pub function: Bdf,
    pub unit: u16,
    pub spec: DiskSpec,
    pub handle: DiskHandle,
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

    /// Watches a disk that is (or is about to be) behind `unit` of `function`, and remembers it.
    pub fn add(
        &self,
        name: &str,
        spec: &DiskSpec,
        disk: &HostDisk,
        function: Bdf,
        unit: u16,
    ) -> Result<(), EngineError> {
        let token = FIRST_TOKEN | u64::from(function.bits()) << 16 | u64::from(unit);
        for wake in disk.wakes() {
            let event = EpollEvent::new(EventSet::IN | EventSet::EDGE_TRIGGERED, token);
            self.epoll
                .ctl(ControlOperation::Add, wake.as_raw_fd(), event)
                .map_err(host_io("watching a disk"))?;
        }
        let (name, spec, handle) = (name.to_owned(), spec.clone(), disk.handle());
        lock(&self.known).push(Known { name, function, unit, spec, handle });
        Ok(())
    }

    /// Which disk a token stands for.
    pub fn unit(token: u64) -> Option<(Bdf, u16)> {
        let bits = token.checked_sub(FIRST_TOKEN)?;
        Some((Bdf::from_bits((bits >> 16) as u16), bits as u16))
    }

    pub fn list(&self) -> Vec<Known> {
        lock(&self.known).clone()
    }

    pub fn find(&self, name: &str) -> Option<Known> {
        lock(&self.known).iter().find(|known| known.name == name).cloned()
    }

    /// The disk has been taken from its device.
    pub fn forget(&self, name: &str) {
        lock(&self.known).retain(|known| known.name != name);
    }
}
