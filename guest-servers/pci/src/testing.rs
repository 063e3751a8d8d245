//! Configuration spaces in memory, with BARs that size themselves.

use crate::ConfigAccess;
use alloc::collections::BTreeMap;
use core::cell::{Cell, RefCell};
use xinim_abi::hw::pci::{BAR0, Bdf};

struct Space {
    bytes: [u8; 256],
    /// Writable bits of each BAR.
    bars: [u32; 6],
}

#[derive(Default)]
pub struct FakeConfig {
    functions: RefCell<BTreeMap<Bdf, Space>>,
    accesses: Cell<usize>,
    writes: Cell<usize>,
    sized_while_decoding: Cell<bool>,
}

impl FakeConfig {
    pub fn add(&self, bdf: Bdf, id: u32, class: u32, header: u8) {
        let mut bytes = [0; 256];
        bytes[..4].copy_from_slice(&id.to_le_bytes());
        bytes[8..12].copy_from_slice(&(class << 8).to_le_bytes());
        bytes[14] = header;
        self.functions.borrow_mut().insert(bdf, Space { bytes, bars: [0; 6] });
    }

    pub fn set(&self, bdf: Bdf, at: usize, value: u8) {
        self.functions.borrow_mut().get_mut(&bdf).unwrap().bytes[at] = value;
    }

    pub fn set_bytes(&self, bdf: Bdf, at: usize, value: &[u8]) {
        let mut functions = self.functions.borrow_mut();
        functions.get_mut(&bdf).unwrap().bytes[at..at + value.len()].copy_from_slice(value);
    }

    pub fn set_bar(&self, bdf: Bdf, index: usize, value: u32, writable: u32) {
        self.set_bytes(bdf, BAR0 + 4 * index, &value.to_le_bytes());
        self.functions.borrow_mut().get_mut(&bdf).unwrap().bars[index] = writable;
    }

    pub fn dump(&self, bdf: Bdf) -> [u8; 256] {
        self.functions.borrow()[&bdf].bytes
    }

    pub fn accesses(&self) -> usize {
        self.accesses.get()
    }

    pub fn writes(&self) -> usize {
        self.writes.get()
    }

    pub fn sized_while_decoding(&self) -> bool {
        self.sized_while_decoding.get()
    }
}

impl ConfigAccess for FakeConfig {
    fn read(&self, function: Bdf, offset: u8, size: u8) -> u32 {
        assert!(offset.is_multiple_of(size), "unaligned");
        self.accesses.set(self.accesses.get() + 1);
        let functions = self.functions.borrow();
        (0..size).rev().fold(0, |value, i| {
            let byte = functions.get(&function).map_or(0xFF, |f| f.bytes[usize::from(offset + i)]);
            value << 8 | u32::from(byte)
        })
    }

    fn write(&self, function: Bdf, offset: u8, size: u8, value: u32) {
        assert!(offset.is_multiple_of(size), "unaligned");
        self.accesses.set(self.accesses.get() + 1);
        self.writes.set(self.writes.get() + 1);
        let mut functions = self.functions.borrow_mut();
        let Some(space) = functions.get_mut(&function) else { return };
        let at = usize::from(offset);
        let mut value = value;
        if (BAR0..BAR0 + 24).contains(&at) && size == 4 {
            if space.bytes[4] & 3 != 0 {
                self.sized_while_decoding.set(true);
            }
            let writable = space.bars[(at - BAR0) / 4];
            let old = u32::from_le_bytes(space.bytes[at..at + 4].try_into().unwrap());
            value = old & !writable | value & writable;
        }
        let bytes = value.to_le_bytes();
        space.bytes[at..at + usize::from(size)].copy_from_slice(&bytes[..usize::from(size)]);
    }
}
