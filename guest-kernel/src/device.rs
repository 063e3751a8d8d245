//! PCI functions as DMA domains: which memory a device may reach, and what happens to that memory
//! when its driver dies.
//!
//! ```text
//!            pin                    driver dies                  DEVICE_RESET_DONE
//! memory ---------> pinned ---------------------------> quarantine ---------------> free
//!                     | unpin           (bus mastering off)
//!                     +-----> free
//! ```
//! There is no IOMMU yet, so the domain is a promise kept by drivers; the quarantine keeps a device
//! that still writes from hitting memory that was given to others.

use core::cell::Cell;

use xinim_abi::error::{Error, Result};
use xinim_kernel_logic::list::{Link, Linked, List};
use xinim_kernel_logic::refs::{Ref, Slab};

use crate::arch::instructions::{in32, out32};
use crate::global::Global;
use crate::memory_object::MemoryObject;
use crate::object::Object;
use crate::physical;
use crate::process::Process;
use crate::trace;

#[repr(C, align(16))]
pub struct Device {
    /// bus << 8 | device << 3 | function
    address: u32,
    /// Physical address of its configuration space; 0: ports 0xCF8/0xCFC.
    config: u64,
    pins: List<Pin, 1>,
    quarantine: List<Pin, 1>,
    pub references: Cell<u32>,
    all: Link<Device>,
}

impl Linked<0> for Device {
    fn link(&self) -> &Link<Self> {
        &self.all
    }
}

/// Memory that a device may reach, and the process that said so. Holds a reference to the memory.
#[repr(C, align(16))]
pub struct Pin {
    device: Ref<Device>,
    memory: Ref<MemoryObject>,
    process: Ref<Process>,
    by_process: Link<Pin>,
    by_device: Link<Pin>,
}

impl Linked<0> for Pin {
    fn link(&self) -> &Link<Self> {
        &self.by_process
    }
}

impl Linked<1> for Pin {
    fn link(&self) -> &Link<Self> {
        &self.by_device
    }
}

static DEVICES: Global<Slab<Device>> = Global::new(Slab::new());
static PINS: Global<Slab<Pin>> = Global::new(Slab::new());
static ALL: Global<List<Device, 0>> = Global::new(List::new());
static QUARANTINED: Global<Cell<u64>> = Global::new(Cell::new(0));

/// PCI command register, its bus-master and interrupt-disable bits (PCI 3.0, 6.2.2).
const COMMAND: u64 = 4;
const BUS_MASTER: u32 = 1 << 2;
const INTX_DISABLE: u32 = 1 << 10;

/// The function at `address`: the object that exists, or a new one. The caller owns a reference.
pub fn create(address: u64, config: u64) -> Result<Ref<Device>> {
    let address = u32::try_from(address).ok().filter(|&a| a < 1 << 16).ok_or(Error::Inval)?;
    if !config.is_multiple_of(4096) || config >= 1 << 46 || physical::is_ram(config, config + 4096)
    {
        return Err(Error::Inval);
    }
    if let Some(device) = ALL.iter().find(|device| device.address == address) {
        if device.config != config {
            return Err(Error::Inval);
        }
        device.references.set(device.references.get() + 1);
        return Ok(device);
    }
    let device = Device {
        address,
        config,
        pins: List::new(),
        quarantine: List::new(),
        references: Cell::new(1),
        all: Link::new(),
    };
    let device = DEVICES.allocate(device, physical::slab_page).ok_or(Error::NoMem)?;
    ALL.push_back(device);
    Ok(device)
}

/// Pins `memory` for `process`; gives the device's address of `offset` and how many bytes are
/// contiguous from there.
pub fn pin(
    device: Ref<Device>,
    memory: Ref<MemoryObject>,
    process: Ref<Process>,
    offset: u64,
) -> Result<(u64, u64)> {
    if !device.quarantine.is_empty() {
        return Err(Error::Quarantined);
    }
    if memory.device.is_some() || offset >= memory.length {
        return Err(Error::Inval);
    }
    if find(device, memory, process).is_none() {
        let pinned = process.pinned.get() + memory.frames();
        if pinned > process.pinned_limit.get() {
            return Err(Error::Limit);
        }
        let pin = Pin { device, memory, process, by_process: Link::new(), by_device: Link::new() };
        let pin = PINS.allocate(pin, physical::slab_page).ok_or(Error::NoMem)?;
        Object::Memory(memory).retain();
        Object::Device(device).retain();
        process.pinned.set(pinned);
        if trace::on() {
            memory.extents(0, memory.length).for_each(|(address, bytes)| {
                let owner = u64::from(process.pid) | (bytes / 4096) << 32;
                trace::event(trace::kind::DMA_GRANT, 0, address, owner);
            });
        }
        process.pins.push_back(pin);
        device.pins.push_back(pin);
    }
    memory.extents(offset, memory.length - offset).next().ok_or(Error::Inval)
}

fn find(device: Ref<Device>, memory: Ref<MemoryObject>, process: Ref<Process>) -> Option<Ref<Pin>> {
    device.pins.iter().find(|pin| pin.memory == memory && pin.process == process)
}

pub fn unpin(device: Ref<Device>, memory: Ref<MemoryObject>, process: Ref<Process>) -> Result<()> {
    let pin = find(device, memory, process).ok_or(Error::Inval)?;
    process.pins.remove(pin);
    process.pinned.set(process.pinned.get() - memory.frames());
    device.pins.remove(pin);
    free(pin);
    Ok(())
}

/// Drops a pin that is on no list any more.
fn free(pin: Ref<Pin>) {
    let (memory, device) = (pin.memory, pin.device);
    PINS.release(pin);
    Object::Memory(memory).release();
    Object::Device(device).release();
}

/// A process ends: its devices lose bus mastering, and what it pinned stays put.
pub fn quarantine(process: Ref<Process>) {
    for pin in process.pins.iter() {
        silence(&pin.device);
    }
    while let Some(pin) = process.pins.pop_front() {
        let memory = pin.memory;
        pin.device.pins.remove(pin);
        pin.device.quarantine.push_back(pin);
        if memory.quarantined.replace(memory.quarantined.get() + 1) == 0 {
            QUARANTINED.set(QUARANTINED.get() + memory.frames());
        }
    }
}

/// The device was reset: quarantined memory is free.
pub fn reset_done(device: Ref<Device>) {
    while let Some(pin) = device.quarantine.pop_front() {
        let memory = pin.memory;
        memory.quarantined.set(memory.quarantined.get() - 1);
        if memory.quarantined.get() == 0 {
            QUARANTINED.set(QUARANTINED.get() - memory.frames());
        }
        free(pin);
    }
}

/// Bus mastering off for every function that has memory pinned.
pub fn silence_all() {
    ALL.iter().filter(|device| !device.pins.is_empty()).for_each(|device| silence(&device));
}

fn silence(device: &Device) {
    if device.config != 0 {
        let register = physical::map_registers_briefly(device.config) + COMMAND;
        let value = physical::read32(register);
        // The upper half is the status register, whose bits are cleared by ones: write zeros.
        physical::write32(register, value & 0xFFFF & !BUS_MASTER | INTX_DISABLE);
    } else {
        // The pci service may be between its two accesses: it finds its address as it left it.
        let address = in32(0xCF8);
        out32(0xCF8, 1 << 31 | device.address << 8 | COMMAND as u32);
        let value = in32(0xCFC);
        out32(0xCFC, value & 0xFFFF & !BUS_MASTER | INTX_DISABLE);
        out32(0xCF8, address);
    }
}

/// No handle and no pin is left.
pub fn destroy(device: Ref<Device>) {
    ALL.remove(device);
    DEVICES.release(device);
}

/// Devices, and frames in quarantine.
pub fn counts() -> (u32, u64) {
    (DEVICES.live(), QUARANTINED.get())
}
