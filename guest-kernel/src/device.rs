//! PCI functions as DMA domains: which memory a device may reach, and what happens to that memory
//! when its driver dies.
//!
//! ```text
//!            pin                    driver dies                  DEVICE_RESET_DONE
//! memory ---------> pinned ---------------------------> quarantine ---------------> free
//!                     | unpin           (bus mastering off)
//!                     +-----> free
//! ```
//! Without an IOMMU the domain is a promise kept by drivers; the quarantine keeps a device that still
//! writes from hitting memory that was given to others. A *confined* device has an IOMMU before it, whose
//! driver reads the grants from here ([`grants`]) and says when it has carried them out ([`released`]):
//!
//! ```text
//! unpin, or DEVICE_RESET_DONE --> held --DEVICE_GRANTS--> releasing --DEVICE_RELEASED--> free
//! ```
//! so that no frame is given to others while the device can still reach it.

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
    /// An IOMMU stands before it.
    confined: Cell<bool>,
    /// Not granted any more, and mapped by the IOMMU perhaps.
    held: List<Pin, 1>,
    /// The same when the grants were last read.
    releasing: List<Pin, 1>,
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
        confined: Cell::new(false),
        held: List::new(),
        releasing: List::new(),
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
        if trace::grants_on() {
            memory.extents(0, memory.length).for_each(|(address, bytes)| {
                let owner = u64::from(process.pid) | (bytes / 4096) << 32;
                trace::grant(trace::kind::DMA_GRANT, device.address, address, owner);
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
    if device.confined.get() {
        keep(&memory);
        device.held.push_back(pin);
    } else {
        free(pin);
    }
    Ok(())
}

/// Counts memory as kept for a device that may still reach it.
fn keep(memory: &MemoryObject) {
    if memory.quarantined.replace(memory.quarantined.get() + 1) == 0 {
        QUARANTINED.set(QUARANTINED.get() + memory.frames());
    }
}

/// Nothing reaches the memory of a kept pin any more.
fn release(pin: Ref<Pin>) {
    let memory = pin.memory;
    memory.quarantined.set(memory.quarantined.get() - 1);
    if memory.quarantined.get() == 0 {
        QUARANTINED.set(QUARANTINED.get() - memory.frames());
    }
    free(pin);
}

/// Drops a pin that is on no list any more.
fn free(pin: Ref<Pin>) {
    let (memory, device) = (pin.memory, pin.device);
    if trace::grants_on() {
        memory.extents(0, memory.length).for_each(|(address, bytes)| {
            let pages = bytes / 4096;
            trace::grant(trace::kind::DMA_REVOKE, device.address, address, pages << 32);
        });
    }
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
        pin.device.pins.remove(pin);
        pin.device.quarantine.push_back(pin);
        keep(&pin.memory);
    }
}

/// The device was reset: quarantined memory is free, or held until the IOMMU has let go of it.
pub fn reset_done(device: Ref<Device>) {
    while let Some(pin) = device.quarantine.pop_front() {
        if device.confined.get() {
            device.held.push_back(pin);
        } else {
            release(pin);
        }
    }
}

/// An IOMMU stands before the device from now on.
pub fn confine(device: Ref<Device>) {
    device.confined.set(true);
}

/// Calls `take` with address, bytes and process of each run of memory that is granted now. What is not
/// among it, and was before, is free at [`released`].
pub fn grants(
    device: Ref<Device>,
    mut take: impl FnMut(u64, u64, u32) -> Result<()>,
) -> Result<()> {
    for pin in device.pins.iter() {
        let mut runs = pin.memory.extents(0, pin.memory.length);
        runs.try_for_each(|(at, bytes)| take(at, bytes, pin.process.pid))?;
    }
    while let Some(pin) = device.held.pop_front() {
        device.releasing.push_back(pin);
    }
    Ok(())
}

/// The IOMMU lets the device reach what the last [`grants`] told, and nothing else.
pub fn released(device: Ref<Device>) {
    while let Some(pin) = device.releasing.pop_front() {
        release(pin);
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
