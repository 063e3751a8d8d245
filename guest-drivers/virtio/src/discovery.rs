//! Finding a device's structures: vendor capabilities that name a BAR, an offset and a length
//! (VIRTIO 4.1.4). All of it is the device's word and checked before use.

use crate::{DeviceError, StartError};
use alloc::rc::Rc;
use alloc::vec::Vec;
use xinim_abi::hw::pci::CAP_VENDOR;
use xinim_abi::hw::virtio::{CAP_NOTIFY_MULTIPLIER, CAP_NOTIFY_SIZE, CfgType, PciCap, common};
use xinim_driver_kit::mmio::Region;
use xinim_driver_kit::pci::{Capability, PciFunction};

/// Most vendor capabilities looked at: the five types, with room for second choices.
const CAPABILITIES_MAX: usize = 16;

/// Where one structure is, as its capability says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Location {
    pub bar: u8,
    pub offset: u32,
    pub length: u32,
}

/// Where the structures are. The ISR status is not looked for: it serves INTx only, and drivers
/// here use MSI-X.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    pub common: Option<Location>,
    pub notify: Option<Location>,
    /// Bytes between the notification registers of two queues (4.1.4.4).
    pub notify_multiplier: u32,
    pub device: Option<Location>,
}

impl Layout {
    /// Takes in one capability. The first of each type wins, as the device orders them by
    /// preference (4.1.4.1); types and BARs that are not defined are passed over.
    pub fn add(&mut self, capability: &Capability) {
        let bytes = &capability.bytes;
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let (length, kind, bar) = (usize::from(bytes[2]), bytes[3], bytes[4]);
        if length < size_of::<PciCap>() || bar > 5 {
            return;
        }
        let location = Location { bar, offset: word(8), length: word(12) };
        match CfgType::from_u8(kind) {
            Some(CfgType::Common) if self.common.is_none() => self.common = Some(location),
            Some(CfgType::Notify) if self.notify.is_none() && length >= CAP_NOTIFY_SIZE => {
                self.notify = Some(location);
                self.notify_multiplier = word(CAP_NOTIFY_MULTIPLIER);
            }
            Some(CfgType::Device) if self.device.is_none() => self.device = Some(location),
            _ => {}
        }
    }

    fn complete(&self) -> bool {
        self.common.is_some() && self.notify.is_some() && self.device.is_some()
    }
}

/// The mapped structures.
pub struct Structures<M> {
    pub common: Region<M>,
    pub notify: Region<M>,
    pub notify_multiplier: u32,
    /// Device types without configuration have none.
    pub device: Option<Region<M>>,
}

/// Reads the capabilities of `function` and maps what they name.
pub fn discover<F: PciFunction>(function: &F) -> Result<Structures<F::Mmio>, StartError> {
    let mut layout = Layout::default();
    for index in 0..CAPABILITIES_MAX {
        let Some(capability) = function.capability(CAP_VENDOR, index)? else { break };
        layout.add(&capability);
        if layout.complete() {
            break;
        }
    }
    let mut bars: Vec<(u8, Rc<F::Mmio>)> = Vec::new();
    let mut map = |location: Location, least: usize, name| {
        let bar = match bars.iter().find(|(index, _)| *index == location.bar) {
            Some((_, bar)) => Rc::clone(bar),
            None => {
                let bar = Rc::new(function.bar(location.bar)?);
                bars.push((location.bar, Rc::clone(&bar)));
                bar
            }
        };
        if (location.length as usize) < least || !location.offset.is_multiple_of(4) {
            return Err(StartError::Device(DeviceError::Layout(name)));
        }
        Region::new(bar, location.offset as usize, location.length as usize)
            .ok_or(StartError::Device(DeviceError::Layout(name)))
    };
    let common = layout.common.ok_or(DeviceError::Layout("common"))?;
    let notify = layout.notify.ok_or(DeviceError::Layout("notify"))?;
    // Revisions before 1.2 end the structure behind queue_device.
    let common = map(common, common::QUEUE_NOTIFY_DATA, "common")?;
    let notify = map(notify, 2, "notify")?;
    let device = layout.device.map(|location| map(location, 1, "device")).transpose()?;
    Ok(Structures { common, notify, notify_multiplier: layout.notify_multiplier, device })
}

#[cfg(test)]
#[path = "discovery_tests.rs"]
mod tests;
