//! Ranges of I/O ports.

use core::cell::Cell;

use xinim_abi::error::{Error, Result};
use xinim_kernel_logic::refs::{Ref, Slab};

use crate::arch::instructions::{in8, in16, in32, out8, out16, out32};
use crate::global::Global;
use crate::physical;

#[repr(C, align(16))]
pub struct Ports {
    first: u16,
    count: u16,
    pub references: Cell<u32>,
}

static PORTS: Global<Slab<Ports>> = Global::new(Slab::new());

/// The caller owns one reference.
pub fn create(first: u64, count: u64) -> Result<Ref<Ports>> {
    if count == 0 || first > 0xFFFF || count > 0x1_0000 - first {
        return Err(Error::Inval);
    }
    // All 65,536 ports do not fit 16 bits; nobody needs the last one.
    let ports =
        Ports { first: first as u16, count: count.min(0xFFFF) as u16, references: Cell::new(1) };
    PORTS.allocate(ports, physical::slab_page).ok_or(Error::NoMem)
}

impl Ports {
    fn port(&self, offset: u64, size: u64) -> Result<u16> {
        let count = u64::from(self.count);
        if !matches!(size, 1 | 2 | 4) || offset >= count || size > count - offset {
            return Err(Error::Inval);
        }
        Ok(self.first + offset as u16)
    }

    pub fn read(&self, offset: u64, size: u64) -> Result<u64> {
        let port = self.port(offset, size)?;
        Ok(match size {
            1 => u64::from(in8(port)),
            2 => u64::from(in16(port)),
            _ => u64::from(in32(port)),
        })
    }

    pub fn write(&self, offset: u64, size: u64, value: u64) -> Result<()> {
        let port = self.port(offset, size)?;
        match size {
            1 => out8(port, value as u8),
            2 => out16(port, value as u16),
            _ => out32(port, value as u32),
        }
        Ok(())
    }

    /// Writes bytes to one port.
    pub fn write_bytes(&self, offset: u64, bytes: impl Iterator<Item = u8>) -> Result<()> {
        let port = self.port(offset, 1)?;
        bytes.for_each(|byte| out8(port, byte));
        Ok(())
    }
}

pub fn destroy(ports: Ref<Ports>) {
    PORTS.release(ports);
}
