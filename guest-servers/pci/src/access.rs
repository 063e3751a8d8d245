//! Configuration space through ECAM where ACPI says there is one, else through the ports 0xCF8 and
//! 0xCFC, which work on every PC.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::RefCell;
use xinim_abi::error::Result;
use xinim_abi::hw::pci::{Bdf, CONFIG_ADDRESS, ECAM_FUNCTION_SIZE};
use xinim_abi::object::{DeviceMemoryFlags, Handle, LARGE_PAGE_SIZE, PAGE_SIZE, Protection};
use xinim_pci::ConfigAccess;
use xinim_pci::acpi::{self, Physical, RSDP_AREA, Viot};
use xinim_rt::handle::OwnedHandle;
use xinim_rt::memory::{Mapping, Memory};
use xinim_rt::{log, sys};

/// Mapped at a time: two buses of 1 MiB, one large page.
const CHUNK: u64 = LARGE_PAGE_SIZE as u64;

pub enum Access {
    Ecam(Ecam),
    /// Address register at offset 0, data at 4.
    Ports(OwnedHandle),
}

pub struct Ecam {
    base: u64,
    resource: Handle,
    /// Chunks mapped so far, by number; `None` where that failed.
    chunks: RefCell<BTreeMap<u64, Option<Mapping>>>,
}

impl Access {
    pub fn find(resource: Handle) -> Result<Self> {
        if let Some(base) = find_ecam(resource) {
            let ecam = Ecam { base, resource, chunks: RefCell::default() };
            // A table can promise what the chipset does not keep: bus 0 must have a device.
            if ecam.with(0, |mapping, at| mapping.read_mmio_32(at)) != Some(u32::MAX) {
                return Ok(Self::Ecam(ecam));
            }
            log!("pci: no configuration space at {base:#x}, which MCFG names");
        }
        sys::ports_create(resource, CONFIG_ADDRESS, 8)
            .map(|h| Self::Ports(OwnedHandle::from_raw(h)))
    }

    /// Physical address of a function's configuration space; 0 where it is reached by ports.
    pub fn physical(&self, function: Bdf) -> u64 {
        match self {
            Self::Ecam(ecam) => ecam.base + function.ecam_offset(),
            Self::Ports(_) => 0,
        }
    }
}

impl Ecam {
    /// Runs `work` on the mapping that holds `offset`; `None` if that cannot be mapped.
    fn with<T>(&self, offset: u64, work: impl FnOnce(&Mapping, usize) -> Result<T>) -> Option<T> {
        let mut chunks = self.chunks.borrow_mut();
        let chunk = chunks.entry(offset / CHUNK).or_insert_with_key(|number| {
            let address = self.base + number * CHUNK;
            let flags = DeviceMemoryFlags::empty();
            let memory = sys::memory_device(self.resource, address, CHUNK, flags).ok()?;
            let memory = Memory::from_handle(OwnedHandle::from_raw(memory)).ok()?;
            memory.map(Protection::READ | Protection::WRITE).ok()
        });
        work(chunk.as_ref()?, (offset % CHUNK) as usize).ok()
    }
}

impl ConfigAccess for Access {
    fn read(&self, function: Bdf, offset: u8, size: u8) -> u32 {
        let value = match self {
            Self::Ecam(ecam) => ecam.with(function.ecam_offset() + u64::from(offset), |m, at| {
                Ok(match size {
                    1 => m.read_mmio_8(at)?.into(),
                    2 => m.read_mmio_16(at)?.into(),
                    _ => m.read_mmio_32(at)?,
                })
            }),
            Self::Ports(ports) => select(ports, function, offset)
                .and_then(|at| sys::ports_read(ports.raw(), at, size.into()))
                .ok(),
        };
        value.unwrap_or(u32::MAX >> (32 - 8 * u32::from(size)))
    }

    fn write(&self, function: Bdf, offset: u8, size: u8, value: u32) {
        match self {
            Self::Ecam(ecam) => {
                ecam.with(function.ecam_offset() + u64::from(offset), |m, at| match size {
                    1 => m.write_mmio_8(at, value as u8),
                    2 => m.write_mmio_16(at, value as u16),
                    _ => m.write_mmio_32(at, value),
                });
            }
            Self::Ports(ports) => {
                // A function out of reach ignores writes, as an absent one does.
                let _ = select(ports, function, offset)
                    .and_then(|at| sys::ports_write(ports.raw(), at, size.into(), value));
            }
        }
    }
}

/// Writes the address register; answers where in the range the data are.
fn select(ports: &OwnedHandle, function: Bdf, offset: u8) -> Result<u16> {
    sys::ports_write(ports.raw(), 0, 4, function.config_address(offset))?;
    Ok(4 + u16::from(offset & 3))
}

/// Where ACPI says that configuration space is.
fn find_ecam(resource: Handle) -> Option<u64> {
    let (tables, rsdp) = find_tables(resource)?;
    let base = acpi::ecam_base(&tables, rsdp)?;
    base.is_multiple_of(CHUNK.min(ECAM_FUNCTION_SIZE * 256)).then_some(base)
}

/// The IOMMU that ACPI tells of.
pub fn find_viot(resource: Handle) -> Option<Viot> {
    let (tables, rsdp) = find_tables(resource)?;
    acpi::viot(&tables, rsdp)
}

/// The firmware's tables and the address of the first.
fn find_tables(resource: Handle) -> Option<(Tables, u64)> {
    let len = RSDP_AREA.end - RSDP_AREA.start;
    let area = map(resource, RSDP_AREA.start, len)?;
    let tables = Tables { resource, area };
    // Page by page: each page touched costs, and the first often has it.
    let rsdp = RSDP_AREA.step_by(PAGE_SIZE).find_map(|page| {
        let bytes = tables.read(page, PAGE_SIZE.min((RSDP_AREA.end - page) as usize))?;
        acpi::find_rsdp(&bytes).map(|at| page + at as u64)
    })?;
    Some((tables, rsdp))
}

fn map(resource: Handle, address: u64, len: u64) -> Option<Mapping> {
    let flags = DeviceMemoryFlags::CACHED;
    let memory = sys::memory_device(resource, address, len, flags).ok()?;
    Memory::from_handle(OwnedHandle::from_raw(memory)).ok()?.map(Protection::READ).ok()
}

/// The firmware's tables: in the area below 1 MiB, or mapped when read.
struct Tables {
    resource: Handle,
    area: Mapping,
}

impl Physical for Tables {
    fn read(&self, address: u64, len: usize) -> Option<Vec<u8>> {
        let end = address.checked_add(len as u64)?;
        if RSDP_AREA.contains(&address) && end <= RSDP_AREA.end {
            return self.area.to_vec((address - RSDP_AREA.start) as usize, len).ok();
        }
        let page = PAGE_SIZE as u64;
        let first = address & !(page - 1);
        let pages = map(self.resource, first, end.next_multiple_of(page) - first)?;
        pages.to_vec((address - first) as usize, len).ok()
    }
}
