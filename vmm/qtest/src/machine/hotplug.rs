//! Where a guest lets go of a PCI device, as on QEMU's `pc`: a bit per slot, written to port 0xAE08.
//! Nothing is told there: what was plugged in is found on the bus.

use xinim_devices::device::{Access, Device, GuestError, Op, Outcome};

pub const PORT: u16 = 0xAE08;
pub const PORTS: u16 = 4;

/// The register.
#[derive(Debug, Default)]
pub struct Ejector {
    slots: u32,
}

impl Ejector {
    /// Slots written since the last call, as a mask.
    pub fn take(&mut self) -> u32 {
        std::mem::take(&mut self.slots)
    }
}

impl Device for Ejector {
    fn name(&self) -> &str {
        "pci-hotplug"
    }

    fn access(&mut self, access: Access) -> Outcome {
        match (access.offset, access.size, access.op) {
            (0, 4, Op::Write(slots)) => {
                self.slots |= slots as u32;
                Outcome::done()
            }
            (0, 4, Op::Read) => Outcome::value(0),
            _ => Outcome::error(GuestError::NoRegister, access.size),
        }
    }

    fn reset(&mut self) {
        self.slots = 0;
    }
}
