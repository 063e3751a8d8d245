//! Devices that have disks behind them, as the machine talks to them while it runs.
//!
//! ```text
//!   back end's eventfd --> machine --> ready(unit)          completions to fetch
//!   control socket -----------------> resized, attach, detach, insert, eject
//! ```
//! A unit is a port of an AHCI controller; virtio-blk has unit 0 only, and it is fixed.
//! [`detach`](DriveBays::detach) is a cable pulled out: what was in flight ends in errors. The
//! device keeps the back end until nothing is in flight any more, and then drops it.

use super::block::BlockBackend;
use crate::device::Origin;

/// What turns in a drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    Disk,
    /// 2048-byte blocks, read-only, can be ejected.
    CdRom,
}

/// A drive to be attached.
pub struct Drive {
    /// `None`: a CD-ROM drive without a disc.
    pub backend: Option<Box<dyn BlockBackend>>,
    pub medium: Medium,
    /// What the guest knows it by: at most 20 printable ASCII characters.
    pub serial: String,
}

/// Why a bay does not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BayError {
    #[error("the device cannot change its disks while it runs; AHCI can (bus=ahci)")]
    Fixed,
    #[error("the controller has no such port")]
    NoUnit,
    #[error("a drive is there already")]
    Occupied,
    #[error("no drive is there")]
    Vacant,
    #[error("the drive has no medium that can be changed")]
    NotRemovable,
    #[error("the guest has locked the drive")]
    Locked,
}

/// See the module's head.
pub trait DriveBays {
    /// The back end of `unit` has completions. Returns whether to call again.
    fn ready(&mut self, unit: u16, origin: &Origin) -> bool;
    /// The back end of `unit` has another length; the guest is to be told.
    fn resized(&mut self, unit: u16, origin: &Origin);
    fn attach(&mut self, _unit: u16, _drive: Drive, _origin: &Origin) -> Result<(), BayError> {
        Err(BayError::Fixed)
    }
    fn detach(&mut self, _unit: u16, _origin: &Origin) -> Result<(), BayError> {
        Err(BayError::Fixed)
    }
    /// Puts a disc into the CD-ROM drive at `unit`.
    fn insert(
        &mut self,
        _unit: u16,
        _disc: Box<dyn BlockBackend>,
        _origin: &Origin,
    ) -> Result<(), BayError> {
        Err(BayError::NotRemovable)
    }
    /// Takes the disc out; even when the guest has locked the drive if `force`.
    fn eject(&mut self, _unit: u16, _force: bool, _origin: &Origin) -> Result<(), BayError> {
        Err(BayError::NotRemovable)
    }
}
