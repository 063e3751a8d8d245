//! Base address registers: what they are, how large, and where (PCI 6.2.5.1).
//!
//! Sizing writes ones into a BAR, so it is done with decoding off, and the old values are put
//! back. It disturbs a device at work; only a driver that starts asks for it, for its own.

use crate::ConfigAccess;
use crate::enumerate::Found;
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::hw::pci::decode_bar;
use xinim_abi::hw::pci::{BAR_COUNT, BAR_IO, BAR_TYPE_64, BAR_TYPE_MASK};
use xinim_abi::hw::pci::{BAR_IO_MASK, BAR_MEMORY_MASK, BAR0, BarKind, Bdf, COMMAND, Command};
use xinim_abi::platform::{MMIO32_BASE, MMIO32_END};

const PAGE: u64 = 4096;

/// A BAR that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    pub space: Space,
    /// Physical address or port; 0: not assigned.
    pub address: u64,
    pub len: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    Memory32,
    Memory64,
    Ports,
}

/// Offset of BAR `index`.
fn at(index: u8) -> usize {
    BAR0 + 4 * usize::from(index)
}

/// Whether BAR `index` is the upper half of the one before it. The halves are told apart by
/// reading upwards from BAR 0, as any bits may stand in an upper half.
fn is_upper_half(config: &impl ConfigAccess, function: Bdf, index: u8) -> bool {
    let mut below = 0;
    while below < index {
        let low = config.read32(function, at(below));
        let is_64 = low & BAR_IO == 0 && low & BAR_TYPE_MASK == BAR_TYPE_64;
        below += 1 + u8::from(is_64);
    }
    below > index
}

/// Sizes BAR `index`. `NoEnt`: there is none of that number. Decoding is as before afterwards.
pub fn size(config: &impl ConfigAccess, function: &Found, index: u8) -> Result<Bar> {
    // A bridge has two BARs; others kinds of header have none that concern us.
    let count = [BAR_COUNT as u8, 2].get(usize::from(function.header)).copied().unwrap_or(0);
    let bdf = function.bdf;
    if index >= count || is_upper_half(config, bdf, index) {
        return Err(Error::NoEnt);
    }
    let low = config.read32(bdf, at(index));
    let is_64 = low & BAR_IO == 0 && low & BAR_TYPE_MASK == BAR_TYPE_64 && index + 1 < count;
    let high = if is_64 { config.read32(bdf, at(index + 1)) } else { 0 };
    let command = config.read16(bdf, COMMAND);
    let quiet = command & !(Command::IO_SPACE | Command::MEMORY_SPACE).bits();
    if quiet != command {
        config.write16(bdf, COMMAND, quiet);
    }
    config.write32(bdf, at(index), u32::MAX);
    let low_mask = config.read32(bdf, at(index));
    config.write32(bdf, at(index), low);
    let high_mask = if is_64 {
        config.write32(bdf, at(index + 1), u32::MAX);
        let mask = config.read32(bdf, at(index + 1));
        config.write32(bdf, at(index + 1), high);
        mask
    } else {
        0
    };
    if quiet != command {
        config.write16(bdf, COMMAND, command);
    }
    let memory = u64::from(high) << 32 | u64::from(low & BAR_MEMORY_MASK);
    let (space, address, len) = match decode_bar(low_mask, high_mask) {
        BarKind::Unimplemented => return Err(Error::NoEnt),
        BarKind::Io { size } => {
            (Space::Ports, u64::from(low & BAR_IO_MASK & 0xFFFF), u64::from(size))
        }
        BarKind::Memory32 { size, .. } => (Space::Memory32, memory & 0xFFFF_FFFF, u64::from(size)),
        BarKind::Memory64 { size, .. } => (Space::Memory64, memory, size),
    };
    // Hardware decodes powers of two; anything else is no BAR.
    if !len.is_power_of_two() {
        return Err(Error::NoEnt);
    }
    Ok(Bar { space, address, len })
}

/// Whether another BAR begins in the page of this one: firmware packs small BARs, but a driver gets
/// whole pages. Reads addresses only, sizes nothing.
pub fn shares_page(
    config: &impl ConfigAccess,
    function: &Found,
    index: u8,
    bar: Bar,
    all: &[Found],
) -> bool {
    let page = bar.address & !(PAGE - 1);
    all.iter().any(|other| {
        (0..BAR_COUNT as u8).filter(|&i| (other.bdf, i) != (function.bdf, index)).any(|i| {
            let low = config.read32(other.bdf, at(i));
            low & BAR_IO == 0 && u64::from(low & !(PAGE as u32 - 1)) == page
        })
    })
}

/// Puts a BAR that firmware left at 0, or packed, somewhere: from the top of the 32-bit window downwards,
/// where nothing else is. `others` are the functions whose BARs must be kept clear of. `NoMem`.
pub fn assign(
    config: &impl ConfigAccess,
    function: &Found,
    index: u8,
    bar: Bar,
    others: &[Found],
) -> Result<Bar> {
    if bar.space == Space::Ports {
        return Err(Error::NoMem);
    }
    let mut taken = Vec::new();
    for other in others {
        for index in 0..BAR_COUNT as u8 {
            let Ok(bar) = size(config, other, index) else { continue };
            if bar.space != Space::Ports && bar.address != 0 {
                taken.push((bar.address, bar.address.saturating_add(bar.len)));
            }
        }
    }
    let len = bar.len.max(PAGE);
    let mut start = MMIO32_END.saturating_sub(len) & !(len - 1);
    while start >= MMIO32_BASE {
        let end = start + len;
        match taken.iter().find(|(from, to)| *from < end && start < *to) {
            None => {
                let command = config.read16(function.bdf, COMMAND);
                config.write16(function.bdf, COMMAND, command & !Command::MEMORY_SPACE.bits());
                config.write32(function.bdf, at(index), start as u32);
                if bar.space == Space::Memory64 {
                    config.write32(function.bdf, at(index + 1), 0);
                }
                config.write16(function.bdf, COMMAND, command);
                return Ok(Bar { address: start, ..bar });
            }
            Some((from, _)) => start = from.saturating_sub(len) & !(len - 1),
        }
    }
    Err(Error::NoMem)
}

/// Takes the pages that hold `hidden` (offset and length in the BAR) away from a BAR: what is left
/// is its beginning up to the first such page. `None` where that is nothing.
pub fn visible(len: u64, hidden: &[(u64, u64)]) -> Option<u64> {
    let mut end = len;
    for &(offset, bytes) in hidden {
        if bytes > 0 && offset < len {
            end = end.min(offset & !(PAGE - 1));
        }
    }
    (end > 0).then_some(end)
}

#[cfg(test)]
#[path = "bar_tests.rs"]
mod tests;
