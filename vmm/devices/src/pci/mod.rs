//! PCI functions: configuration space, BARs, MSI, MSI-X, the bridges every machine has.

pub mod config;
pub mod host_bridge;
pub mod isa_bridge;
pub mod msi;
pub mod msix;

pub use config::{BarSpec, ConfigSpace, Identity};
pub use host_bridge::HostBridge;
pub use isa_bridge::IsaBridge;
pub use msi::Msi;
pub use msix::Msix;

use crate::backend::DriveBays;
use crate::device::{Access, Origin, Outcome};
use xinim_abi::hw::pci::Bdf;

/// A place in a BAR where a driver rings for a virtqueue. A machine may catch writes to it
/// without an access (ioeventfd) and call [`PciDevice::notify_queue`] instead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doorbell {
    pub bar: u8,
    /// Bytes from the start of the BAR.
    pub offset: u64,
    pub queue: u16,
}

/// Told where doorbells are in guest-physical memory.
///
/// Called while the function's configuration is being changed, with the function itself *not*
/// locked. Calls for one doorbell are ordered.
pub trait DoorbellSink: Send + Sync {
    /// `from`/`to` are guest-physical addresses; `None`: not decoded.
    fn moved(&self, function: Bdf, queue: u16, from: Option<u64>, to: Option<u64>);
}

/// A PCI function.
pub trait PciDevice: Send {
    /// Stable name for the trace: `virtio-blk.0`.
    fn name(&self) -> &str;

    fn config(&self) -> &ConfigSpace;

    /// An access of 1, 2 or 4 aligned bytes to configuration space; offset below 4096.
    fn config_access(&mut self, access: Access) -> Outcome;

    /// An access to a BAR; `offset + size` lies within it, size is 1, 2, 4 or 8.
    fn bar_access(&mut self, bar: u8, access: Access) -> Outcome;

    /// Where its doorbells are; fixed.
    fn doorbells(&self) -> &[Doorbell] {
        &[]
    }

    /// A doorbell was rung without an access. Returns whether work is left that one call may not
    /// do: the machine then calls again (and may let others have the device in between).
    fn notify_queue(&mut self, _queue: u16, _origin: &Origin) -> bool {
        false
    }

    /// The disks behind it, if it is that kind of device.
    fn bays(&mut self) -> Option<&mut dyn DriveBays> {
        None
    }

    /// Back to the state after power-on, BARs and command register included.
    fn reset(&mut self);
}
