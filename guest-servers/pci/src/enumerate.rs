//! Finding functions: every device number of a bus, functions 1..8 of multi-function devices, and
//! the buses behind bridges as firmware numbered them (PCI 6.1, PCI-to-PCI Bridge 3.2.5).

use crate::ConfigAccess;
use alloc::vec;
use alloc::vec::Vec;
use xinim_abi::hw::pci::{Bdf, HEADER_MULTIFUNCTION, VENDOR_NONE};

/// A function as its header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub bdf: Bdf,
    /// Device id << 16 | vendor id.
    pub id: u32,
    /// Class << 16 | subclass << 8 | interface.
    pub class: u32,
    /// Header type without the multi-function bit: 0 endpoint, 1 bridge.
    pub header: u8,
}

const HEADER_BRIDGE: u8 = 1;
const REVISION_AND_CLASS: usize = 0x08;
/// Cache line size, latency timer, header type, BIST.
const HEADER_DWORD: usize = 0x0C;
/// Bridge: primary, secondary, subordinate bus, secondary latency.
const BRIDGE_BUSES: usize = 0x18;

/// All functions reachable from bus 0, each bus in order of device number.
pub fn enumerate(config: &impl ConfigAccess) -> Vec<Found> {
    let mut found = Vec::new();
    let mut buses = vec![0u8];
    let mut at = 0;
    // Buses are visited once each, so a bridge that points back cannot trap this loop.
    while let Some(&bus) = buses.get(at) {
        at += 1;
        for device in 0..32 {
            scan_device(config, bus, device, &mut found, &mut buses);
        }
    }
    found
}

fn scan_device(
    config: &impl ConfigAccess,
    bus: u8,
    device: u8,
    found: &mut Vec<Found>,
    buses: &mut Vec<u8>,
) {
    let mut functions = 1;
    let mut function = 0;
    while function < functions {
        let bdf = Bdf::new(bus, device, function);
        let id = config.read32(bdf, 0);
        // A vendor id of 0 answers on buses where a bridge completes with zeros.
        if id as u16 != VENDOR_NONE && id as u16 != 0 {
            let class = config.read32(bdf, REVISION_AND_CLASS) >> 8;
            let header = (config.read32(bdf, HEADER_DWORD) >> 16) as u8;
            if function == 0 && header & HEADER_MULTIFUNCTION != 0 {
                functions = 8;
            }
            let header = header & !HEADER_MULTIFUNCTION;
            found.push(Found { bdf, id, class, header });
            if header == HEADER_BRIDGE {
                let secondary = (config.read32(bdf, BRIDGE_BUSES) >> 8) as u8;
                if secondary != 0 && !buses.contains(&secondary) {
                    buses.push(secondary);
                }
            }
        }
        function += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeConfig;

    #[test]
    fn finds_functions_and_follows_bridges_once() {
        let config = FakeConfig::default();
        config.add(Bdf::new(0, 0, 0), 0x29C0_8086, 0x06_00_00, 0);
        config.add(Bdf::new(0, 2, 0), 0x1234_1AF4, 0x01_00_00, 0x80);
        config.add(Bdf::new(0, 2, 5), 0x1235_1AF4, 0x01_00_00, 0);
        // Function 3 of a device that has one function only is an echo, not a function.
        config.add(Bdf::new(0, 3, 0), 0x1236_1AF4, 0x02_00_00, 0);
        config.add(Bdf::new(0, 3, 3), 0x1236_1AF4, 0x02_00_00, 0);
        config.add(Bdf::new(0, 30, 0), 0x2448_8086, 0x06_04_00, 1);
        config.set(Bdf::new(0, 30, 0), 0x19, 7);
        config.add(Bdf::new(7, 1, 0), 0x1237_1AF4, 0x01_08_02, 0);
        // A bridge that points back.
        config.add(Bdf::new(7, 2, 0), 0x2448_8086, 0x06_04_00, 1);
        config.set(Bdf::new(7, 2, 0), 0x19, 7);
        let found = enumerate(&config);
        let at: Vec<_> =
            found.iter().map(|f| (f.bdf.bus(), f.bdf.device(), f.bdf.function())).collect();
        let expected =
            [(0, 0, 0), (0, 2, 0), (0, 2, 5), (0, 3, 0), (0, 30, 0), (7, 1, 0), (7, 2, 0)];
        assert_eq!(at, expected);
        assert_eq!((found[5].id, found[5].class), (0x1237_1AF4, 0x01_08_02));
    }

    #[test]
    fn reads_one_register_per_absent_device() {
        let config = FakeConfig::default();
        config.add(Bdf::new(0, 0, 0), 0x29C0_8086, 0x06_00_00, 0);
        enumerate(&config);
        assert_eq!(config.accesses(), 32 + 2);
        assert_eq!(config.writes(), 0);
    }
}
