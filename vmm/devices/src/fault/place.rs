//! Which register an access is about to touch, before the device is asked. What a model says
//! afterwards ([`Outcome::decode`](crate::device::Outcome)) agrees; a test compares them.

use crate::device::Access;
use crate::pci::{ConfigSpace, Doorbell};
use xinim_abi::hw::register::{Register, find};
use xinim_abi::hw::{ahci, e1000, pci, virtio, virtio_blk, virtio_console, virtio_net};

/// Blocks of virtio's register BAR.
const BLOCK: u64 = 0x1000;
const AHCI_BAR: u8 = 5;
const AHCI_CLASS: u32 = 0x0106;
/// Of virtio's PCI device ids.
const VIRTIO_BASE: u16 = 0x1040;

/// Where an access goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub table: &'static [Register],
    pub offset: u32,
    pub register: &'static Register,
    pub index: Option<u16>,
}

fn at(
    table: &'static [Register],
    offset: u64,
    index: Option<u16>,
    access: &Access,
) -> Option<Place> {
    let offset = u32::try_from(offset).ok()?;
    let register = find(table, offset, access.is_write())?;
    Some(Place { table, offset, register, index })
}

/// In a BAR; the access is relative to it.
pub(super) fn in_bar(config: &ConfigSpace, bar: u8, access: &Access) -> Option<Place> {
    let (vendor, device) = (config.get(0, 2) as u16, config.get(2, 2) as u16);
    let class = config.get(pci::REVISION_ID, 4) >> 16;
    let offset = access.offset;
    if vendor == virtio::PCI_VENDOR && bar == crate::virtio::pci::REGISTER_BAR {
        let inside = offset % BLOCK;
        return match offset / BLOCK {
            0 => at(virtio::COMMON, inside, None, access),
            1 => at(virtio::ISR, inside, None, access),
            2 => at(device_table(device.wrapping_sub(VIRTIO_BASE))?, inside, None, access),
            _ => None,
        };
    }
    if vendor == e1000::VENDOR && bar == e1000::REGISTER_BAR {
        let model = e1000::Model::ALL.into_iter().find(|model| model.device_id() == device)?;
        let offset = u32::try_from(offset & !3).ok()?;
        let (table, offset, index) = e1000::registers::locate(model, offset)?;
        return at(table, offset.into(), index, access);
    }
    if class == AHCI_CLASS && bar == AHCI_BAR {
        return match offset.checked_sub(ahci::PORT_BASE as u64) {
            None => at(ahci::HBA, offset, None, access),
            Some(inside) => {
                let size = ahci::PORT_SIZE as u64;
                at(ahci::PORT, inside % size, u16::try_from(inside / size).ok(), access)
            }
        };
    }
    None
}

fn device_table(kind: u16) -> Option<&'static [Register]> {
    Some(match kind {
        1 => virtio_net::CONFIG,
        2 => virtio_blk::CONFIG,
        3 => virtio_console::CONFIG,
        _ => return None,
    })
}

/// In the standard header of configuration space; capabilities are not told apart.
pub(super) fn in_config(access: &Access) -> Option<Place> {
    at(pci::HEADER, access.offset, None, access)
}

/// The virtqueue whose doorbell a write rings.
pub(super) fn doorbell(doorbells: &[Doorbell], bar: u8, access: &Access) -> Option<u16> {
    let found = doorbells.iter().find(|d| d.bar == bar && d.offset == access.offset);
    found.filter(|_| access.is_write()).map(|d| d.queue)
}

/// Whether this write resets the device (not just a port or a queue of it).
pub(super) fn resets(place: &Place, value: u64) -> bool {
    match place.register.name {
        "device_status" => value & 0xFF == 0,
        "GHC" => value & 1 != 0,
        "CTRL" => value & u64::from(e1000::Ctrl::RST.bits()) != 0,
        _ => false,
    }
}

/// Whether any device has a register of this name.
pub(super) fn is_known(name: &str) -> bool {
    let tables = [
        virtio::COMMON,
        virtio::ISR,
        virtio_net::CONFIG,
        virtio_blk::CONFIG,
        virtio_console::CONFIG,
        ahci::HBA,
        ahci::PORT,
        e1000::registers::REGISTERS,
        e1000::registers::REGISTERS_8254X,
        e1000::registers::REGISTERS_82574,
        pci::HEADER,
    ];
    let blocks = e1000::registers::BLOCKS.iter().map(|block| block.table);
    let mut all = tables.into_iter().chain(blocks).flatten();
    all.any(|register| register.name.eq_ignore_ascii_case(name))
}
