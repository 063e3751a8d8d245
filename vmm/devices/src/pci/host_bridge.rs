//! Host bridge at 00:00.0, with the identity of q35's memory controller (Intel 82G33/Q35,
//! 8086:29c0). It has no behaviour of its own: MMCONFIG is fixed and described by MCFG.

use super::{ConfigSpace, Identity, PciDevice};
use crate::device::{Access, GuestError, Outcome};

#[derive(Debug)]
pub struct HostBridge {
    config: ConfigSpace,
}

impl HostBridge {
    pub fn new() -> Self {
        let config = ConfigSpace::new(&Identity {
            vendor: 0x8086,
            device: 0x29C0,
            revision: 0,
            class: [0x06, 0x00, 0x00],
            subsystem_vendor: 0,
            subsystem: 0,
            interrupt_pin: 0,
        });
        Self { config }
    }
}

impl Default for HostBridge {
    fn default() -> Self {
        Self::new()
    }
}

impl PciDevice for HostBridge {
    fn name(&self) -> &str {
        "host-bridge"
    }

    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_access(&mut self, access: Access) -> Outcome {
        self.config.access(access)
    }

    fn bar_access(&mut self, _bar: u8, access: Access) -> Outcome {
        Outcome::error(GuestError::Unclaimed, access.size)
    }

    fn reset(&mut self) {
        self.config.reset();
    }
}
