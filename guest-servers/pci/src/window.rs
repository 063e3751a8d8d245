//! Registers of a function that the service itself uses: part of a page (an MSI-X entry), or a BAR.

use xinim_abi::error::Result;
use xinim_abi::object::{Handle, PAGE_SIZE, Protection};
use xinim_driver_kit::mmio::Mmio;
use xinim_pci::bar::{Bar, Space};
use xinim_rt::memory::{Mapping, Memory};

use crate::device_memory;

/// Mapped device memory.
pub struct Window {
    pages: Mapping,
    offset: usize,
    len: usize,
}

impl Window {
    /// `len` bytes at a physical address.
    pub fn map(resource: Handle, address: u64, len: usize) -> Result<Self> {
        let page = PAGE_SIZE as u64;
        let offset = address % page;
        let bar = Bar {
            space: Space::Memory32,
            address: address - offset,
            len: (offset + len as u64).next_multiple_of(page),
        };
        let memory = Memory::from_handle(device_memory(resource, &bar)?)?;
        let pages = memory.map(Protection::READ | Protection::WRITE)?;
        Ok(Self { pages, offset: offset as usize, len })
    }

    /// Where in the mapping an access goes that lies in the window: elsewhere the mapping refuses.
    fn at(&self, offset: usize, size: usize) -> usize {
        match offset.checked_add(size) {
            Some(end) if end <= self.len => self.offset + offset,
            _ => usize::MAX,
        }
    }
}

macro_rules! registers {
    ($($read:ident $write:ident $ty:ty, $from:ident $to:ident;)*) => {$(
        fn $read(&self, offset: usize) -> $ty {
            self.pages.$from(self.at(offset, size_of::<$ty>())).unwrap_or(<$ty>::MAX)
        }
        fn $write(&self, offset: usize, value: $ty) {
            let _ = self.pages.$to(self.at(offset, size_of::<$ty>()), value);
        }
    )*};
}

/// Outside the window reads give ones and writes do nothing, as on a bus where nobody answers.
impl Mmio for Window {
    fn len(&self) -> usize {
        self.len
    }
    registers! {
        read8 write8 u8, read_mmio_8 write_mmio_8;
        read16 write16 u16, read_mmio_16 write_mmio_16;
        read32 write32 u32, read_mmio_32 write_mmio_32;
        read64 write64 u64, read_mmio_64 write_mmio_64;
    }
}
