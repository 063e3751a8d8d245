//! An access cut into the registers it touches, and what each register was last seen to hold.

use crate::device::{GuestError, Op};
use crate::trace::{EventKind, Space};
use std::collections::HashMap;
use xinim_abi::hw::register::{Register, part, touched};

/// An access whose place in a register table is known.
#[derive(Clone, Copy, Debug)]
pub struct Touch {
    pub space: Space,
    pub table: &'static [Register],
    /// In the table.
    pub offset: u32,
    pub size: u8,
    /// Written, or read.
    pub value: u64,
    pub write: bool,
    pub index: Option<u16>,
    pub error: Option<GuestError>,
}

impl Touch {
    /// `None` for what is no access, or one that fell into no table.
    pub fn of(kind: &EventKind) -> Option<Self> {
        let EventKind::Access { space, size, op, value, decode, error, .. } = *kind else {
            return None;
        };
        let decode = decode?;
        let (value, write) = match op {
            Op::Read => (value, false),
            Op::Write(value) => (value, true),
        };
        let (table, offset, index) = (decode.table, decode.offset, decode.index);
        Some(Self { space, table, offset, size, value, write, index, error })
    }

    pub fn is(&self, table: &'static [Register]) -> bool {
        identity(self.table) == identity(table)
    }

    /// Registers touched, each with the bits of it that the access covers: (register, value in its
    /// place, mask).
    pub fn parts(&self) -> impl Iterator<Item = (&'static Register, u64, u64)> + '_ {
        touched(self.table, self.offset, self.size, self.write).map(|register| {
            let part = part(register, self.offset, self.size, self.value);
            (register, part.value, part.mask)
        })
    }

    /// The part of the register at this offset of the table, if the access touches it.
    pub fn part(&self, offset: u32) -> Option<u64> {
        self.parts().find(|(register, ..)| register.offset == offset).map(|(_, value, _)| value)
    }
}

/// Values last read from or written to registers, of one device.
#[derive(Default)]
pub struct Shadow {
    read: HashMap<Key, u64>,
    written: HashMap<Key, u64>,
}

/// Table, which of several equal blocks, offset.
type Key = (Identity, Option<u16>, u32);

/// What tells tables apart. A table is a constant, which has an address of its own at each use.
type Identity = (usize, &'static str);

fn identity(table: &'static [Register]) -> Identity {
    (table.len(), table.first().map_or("", |register| register.name))
}

/// Registers remembered for one device: every one that the widest device has, many times over.
const REGISTERS_MAX: usize = 8192;

fn key(table: &'static [Register], index: Option<u16>, offset: u32) -> Key {
    (identity(table), index, offset)
}

impl Shadow {
    /// What was last read there; what the table says it holds after reset if it was not.
    pub fn seen(&self, touch: &Touch, register: &Register) -> u64 {
        let key = key(touch.table, touch.index, register.offset);
        self.read.get(&key).copied().unwrap_or(register.reset)
    }

    /// What was last read from the register of this table; `None` if it never was.
    pub fn last_read(
        &self,
        table: &'static [Register],
        index: Option<u16>,
        offset: u32,
    ) -> Option<u64> {
        self.read.get(&key(table, index, offset)).copied()
    }

    /// What was last written to the register; `None` if it never was.
    pub fn last_written(
        &self,
        table: &'static [Register],
        index: Option<u16>,
        offset: u32,
    ) -> Option<u64> {
        self.written.get(&key(table, index, offset)).copied()
    }

    /// Takes the access in; after the rules have looked at it.
    pub fn note(&mut self, touch: &Touch) {
        let map = if touch.write { &mut self.written } else { &mut self.read };
        for (register, value, mask) in touch.parts() {
            let key = key(touch.table, touch.index, register.offset);
            if map.len() >= REGISTERS_MAX && !map.contains_key(&key) {
                return;
            }
            let old = map.get(&key).copied().unwrap_or(register.reset);
            map.insert(key, (old & !mask) | value);
        }
    }
}
