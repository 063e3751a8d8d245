//! Rules of configuration space and MSI-X (PCI Local Bus 3.0).

use super::Found;
use super::shadow::{Shadow, Touch};
use std::collections::BTreeMap;
use xinim_abi::hw::pci::{self, Command, msix};

const COMMAND: u32 = pci::COMMAND as u32;
const FIRST_BAR: u32 = pci::BAR0 as u32;
const BARS_END: u32 = FIRST_BAR + 4 * pci::BAR_COUNT as u32;
const CONTROL: u32 = msix::MESSAGE_CONTROL as u32;
const VECTOR_CONTROL: u32 = 12;

/// What a driver has made of one function's header and vectors.
#[derive(Default)]
pub struct Pci {
    /// `None` until the driver has read or written it: firmware was there before.
    command: Option<u64>,
    msix_control: u64,
    /// Vectors unmasked, and their last address and data.
    unmasked: BTreeMap<u16, bool>,
}

impl Pci {
    pub fn access(&mut self, touch: &Touch, shadow: &Shadow, found: &mut Found) {
        if touch.is(pci::HEADER) {
            self.header(touch, shadow, found);
        } else if touch.is(pci::MSIX_CAPABILITY) {
            if let Some(control) = touch.part(CONTROL) {
                self.msix_control = control;
            }
        } else if touch.is(pci::MSIX_ENTRY) && touch.write {
            self.entry(touch, shadow, found);
        }
    }

    fn header(&mut self, touch: &Touch, shadow: &Shadow, found: &mut Found) {
        if let Some(command) = touch.part(COMMAND) {
            self.command = Some(command);
        }
        let decodes = |command: u64| command & u64::from(Command::MEMORY_SPACE.bits()) != 0;
        if !touch.write || !self.command.is_some_and(decodes) {
            return;
        }
        for (register, value, _) in touch.parts() {
            let is_bar = (FIRST_BAR..BARS_END).contains(&register.offset);
            let known = shadow.last_read(pci::HEADER, touch.index, register.offset);
            if is_bar && known != Some(value) {
                found.add(
                    "pci-bar-live",
                    format!(
                        "{} was written with {value:#x} while memory decoding is on",
                        register.name
                    ),
                );
            }
        }
    }

    fn entry(&mut self, touch: &Touch, shadow: &Shadow, found: &mut Found) {
        let vector = touch.index.unwrap_or(0);
        let on = self.msix_control & u64::from(msix::CONTROL_ENABLE) != 0
            && self.msix_control & u64::from(msix::CONTROL_FUNCTION_MASK) == 0;
        let live = on && self.unmasked.get(&vector).copied().unwrap_or(false);
        for (register, value, _) in touch.parts() {
            if register.offset == VECTOR_CONTROL {
                self.unmasked.insert(vector, value & 1 == 0);
            } else if live
                && shadow.last_written(pci::MSIX_ENTRY, touch.index, register.offset) != Some(value)
            {
                found.add(
                    "pci-msix-live",
                    format!("{} of vector {vector} was changed while unmasked", register.name),
                );
            }
        }
    }
}
