//! ISA bridge at 00:1f.0, with the identity of q35's (Intel ICH9 LPC, 8086:2918).
//!
//! It is there because function 0 of a device with other functions must be (PCI 3.2.2.3.4): 00:1f.2
//! is the AHCI controller. The ports behind it are the chipset's and fixed; it has no behaviour.

use super::{ConfigSpace, Identity, PciDevice};
use crate::device::{Access, GuestError, Outcome};
use xinim_abi::hw::pci::{HEADER_MULTIFUNCTION, HEADER_TYPE};

#[derive(Debug)]
pub struct IsaBridge {
    config: ConfigSpace,
}

impl IsaBridge {
    pub fn new() -> Self {
        let mut config = ConfigSpace::new(&Identity {
            vendor: 0x8086,
            device: 0x2918,
            revision: 2,
            class: [0x06, 0x01, 0x00],
            subsystem_vendor: 0,
            subsystem: 0,
            interrupt_pin: 0,
        });
        config.preset(HEADER_TYPE, &[HEADER_MULTIFUNCTION]);
        Self { config }
    }
}

impl Default for IsaBridge {
    fn default() -> Self {
        Self::new()
    }
}

impl PciDevice for IsaBridge {
    fn name(&self) -> &str {
        "isa-bridge"
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
