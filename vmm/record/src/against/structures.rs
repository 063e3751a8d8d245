//! What a place in memory is to a device, for a difference's name: rings and areas whose addresses
//! the driver wrote into registers.

use std::collections::BTreeMap;
use xinim_abi::hw::e1000::reg;

/// A ring or area: bytes of an element, and how many bytes there are.
#[derive(Clone, Copy, Debug)]
struct Area {
    name: &'static str,
    element: u64,
    length: u64,
}

const COMMANDS: Area = Area { name: "command header", element: 32, length: 1024 };
const FIS: Area = Area { name: "received FIS", element: 256, length: 256 };
/// Longest descriptor ring.
const RING: u64 = 1 << 20;
const PORTS: u64 = 0x100;
const PORT_SIZE: u64 = 0x80;

/// By the register that holds the address.
#[derive(Clone, Debug, Default)]
pub struct Structures(BTreeMap<u64, (u64, Option<Area>)>);

impl Structures {
    /// The driver wrote a register of the device's own.
    pub fn write(&mut self, offset: u64, value: u64, is_net: bool) {
        let (register, area) = if is_net {
            let receive = Area { name: "receive descriptor", element: 16, length: RING };
            let send = Area { name: "transmit descriptor", element: 16, length: RING };
            match (offset & !4) as u32 {
                reg::RDBAL | reg::RDBAL1 => (offset & !4, receive),
                reg::TDBAL | reg::TDBAL1 => (offset & !4, send),
                _ => return,
            }
        } else {
            if offset < PORTS {
                return;
            }
            let area = match (offset - PORTS) % PORT_SIZE {
                0 | 4 => COMMANDS,
                8 | 12 => FIS,
                _ => return,
            };
            (offset & !4, area)
        };
        let entry = self.0.entry(register).or_default();
        entry.0 = if offset & 4 == 0 {
            (entry.0 & !0xFFFF_FFFF) | value
        } else {
            (entry.0 & 0xFFFF_FFFF) | (value << 32)
        };
        entry.1 = Some(area);
    }

    /// What is there, if it is one of them.
    pub fn name(&self, address: u64) -> Option<String> {
        let inside = |(base, area): &(u64, Option<Area>)| {
            let area = (*area)?;
            let offset = address.checked_sub(*base).filter(|offset| *offset < area.length)?;
            Some((offset, area))
        };
        // The nearest before it: a ring's length is not looked at.
        let found = self.0.values().filter_map(inside).min_by_key(|(offset, _)| *offset);
        found.map(|(offset, area)| format!("{} +{:#x}", area.name, offset % area.element))
    }
}
