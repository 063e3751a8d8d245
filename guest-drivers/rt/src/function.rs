//! The driver's PCI function: its handles and the pci service behind it.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use xinim_abi::error::{Error, Result};
use xinim_abi::hw::pci::{BAR_COUNT, CAP_MSIX, CAP_VENDOR};
use xinim_abi::hw::virtio::CfgType;
use xinim_abi::object::{Handle, Protection};
use xinim_abi::services::pci::pci;
use xinim_abi::start::role;
use xinim_driver_kit::mmio::Mmio;
use xinim_driver_kit::pci::{CAPABILITY_MAX, Capability, PciFunction};
use xinim_rt::handle::OwnedHandle;
use xinim_rt::memory::{Mapping, Memory};
use xinim_rt::{ipc, server, start, sys};

/// A function as RS gave it to this process. What does not change while the process lives is asked for once.
#[derive(Clone, Debug)]
pub struct PciDevice {
    device: Handle,
    pci: Handle,
    known: Rc<RefCell<Known>>,
}

/// What the pci service has answered.
#[derive(Debug, Default)]
struct Known {
    id: Option<u16>,
    /// By id and index; `None`: there is no such capability.
    capabilities: BTreeMap<(u8, usize), Option<Capability>>,
    bars: BTreeMap<u8, (Rc<Mapping>, usize)>,
    /// Messages that were routed ahead.
    messages: BTreeMap<u32, OwnedHandle>,
}

/// Messages that a driver may want: of its queues, and of changes.
const MESSAGES_AHEAD: u32 = 2;
/// Most capabilities of one kind that are asked for ahead.
const CAPABILITIES_MAX: usize = 16;

impl PciDevice {
    /// From the start block. `NoDev` in a process that was not started as a function's driver.
    pub fn from_start() -> Result<Self> {
        let device = start::handle(role::DEVICE).ok_or(Error::NoDev)?;
        let pci = start::handle(role::PCI).ok_or(Error::NoDev)?;
        Ok(Self { device, pci, known: Rc::default() })
    }

    /// Asks for what a driver may want to know, without touching the device. What fails here is asked for
    /// again when it is needed.
    pub(crate) fn prepare(&self) {
        let _ = self.device_id();
        // As far as a virtio driver goes: what comes behind is a window to registers.
        let mut missing = Vec::from([CfgType::Common, CfgType::Notify, CfgType::Device]);
        for index in 0..CAPABILITIES_MAX {
            let Ok(Some(capability)) = self.capability(CAP_VENDOR, index) else { break };
            missing.retain(|kind| CfgType::from_u8(capability.bytes[3]) != Some(*kind));
            if missing.is_empty() {
                break;
            }
        }
        let _ = self.capability(CAP_MSIX, 0);
        for index in 0..BAR_COUNT as u8 {
            let _ = self.find_bar(index, true);
        }
        for index in 0..MESSAGES_AHEAD {
            if let Ok(reply) = ipc::call(self.pci, &pci::Interrupt { index, ahead: true }) {
                let message = OwnedHandle::from_raw(reply.interrupt);
                self.known.borrow_mut().messages.insert(index, message);
            }
        }
        let _ = crate::grants::changed();
    }

    /// The DMA domain's handle.
    pub fn device(&self) -> Handle {
        self.device
    }

    /// The PCI device id, by which a driver of several models tells them apart.
    pub fn device_id(&self) -> Result<u16> {
        if let Some(id) = self.known.borrow().id {
            return Ok(id);
        }
        let offset = xinim_abi::hw::pci::DEVICE_ID as u32;
        let reply = ipc::call(self.pci, &pci::ConfigRead { offset, size: 2 })?;
        Ok(*self.known.borrow_mut().id.insert(reply.value as u16))
    }

    /// Routes the function's message `index` (or its pin) to notification bit `bit` of this service, for
    /// the rest of the process's life: closing the interrupt's handle would end it, so nobody gets
    /// it.
    pub fn bind_interrupt(&self, index: u32, bit: u32) -> Result<Interrupt> {
        let ahead = self.known.borrow_mut().messages.remove(&index);
        let (interrupt, level) = match ahead {
            Some(interrupt) => (interrupt, false),
            None => {
                let reply = ipc::call(self.pci, &pci::Interrupt { index, ahead: false })?;
                (OwnedHandle::from_raw(reply.interrupt), reply.level)
            }
        };
        sys::irq_bind(interrupt.raw(), server::own_endpoint()?, bit)?;
        Ok(Interrupt { handle: interrupt.into_raw(), level })
    }
}

/// An interrupt that raises a bit of this service.
#[derive(Clone, Copy, Debug)]
pub struct Interrupt {
    handle: Handle,
    level: bool,
}

impl Interrupt {
    /// It is the function's pin, not a message.
    pub fn is_pin(&self) -> bool {
        self.level
    }

    /// The device has been asked and holds its pin no more: it may interrupt again. Costs nothing
    /// for messages, which need no acknowledgement.
    pub fn acknowledge(&self) -> Result<()> {
        if self.level { sys::irq_ack(self.handle) } else { Ok(()) }
    }
}

impl PciFunction for PciDevice {
    type Mmio = Registers;

    fn capability(&self, id: u8, index: usize) -> Result<Option<Capability>> {
        if let Some(known) = self.known.borrow().capabilities.get(&(id, index)) {
            return Ok(*known);
        }
        let number = u32::try_from(index).map_err(|_| Error::Inval)?;
        let found = match ipc::call(self.pci, &pci::Capability { id: id.into(), index: number }) {
            Err(Error::NoEnt) => None,
            reply => Some(decode(&reply?)?),
        };
        self.known.borrow_mut().capabilities.insert((id, index), found);
        Ok(found)
    }

    fn bar(&self, index: u8) -> Result<Registers> {
        self.find_bar(index, false)
    }

    fn enable(&self, bus_master: bool) -> Result<()> {
        ipc::call(self.pci, &pci::Enable { bus_master }).map(drop)
    }

    fn reset_done(&self) -> Result<()> {
        sys::device_reset_done(self.device)?;
        // What the predecessor had pinned is unmapped, and then given back.
        crate::grants::changed()
    }
}

impl PciDevice {
    /// A memory BAR, mapped; `ahead`: only if that disturbs nobody.
    fn find_bar(&self, index: u8, ahead: bool) -> Result<Registers> {
        if let Some((mapping, len)) = self.known.borrow().bars.get(&index) {
            return Ok(Registers { mapping: Rc::clone(mapping), len: *len });
        }
        let reply = ipc::call(self.pci, &pci::Bar { index: index.into(), ahead })?;
        let memory = Memory::from_handle(OwnedHandle::from_raw(reply.memory))?;
        let mapping = Rc::new(memory.map(Protection::READ | Protection::WRITE)?);
        let len = usize::try_from(reply.len).map_err(|_| Error::BadReply)?.min(mapping.len());
        self.known.borrow_mut().bars.insert(index, (Rc::clone(&mapping), len));
        Ok(Registers { mapping, len })
    }
}

fn decode(reply: &pci::CapabilityReply) -> Result<Capability> {
    let mut bytes = [0; CAPABILITY_MAX];
    let words = [reply.bytes0, reply.bytes8, reply.bytes16];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    let offset = u8::try_from(reply.offset).map_err(|_| Error::BadReply)?;
    Ok(Capability { offset, bytes })
}

/// A mapped memory BAR.
#[derive(Debug)]
pub struct Registers {
    mapping: Rc<Mapping>,
    len: usize,
}

#[cold]
#[inline(never)]
fn outside(offset: usize) -> ! {
    panic!("register access outside the BAR or unaligned: {offset:#x}")
}

macro_rules! registers {
    ($($read:ident $write:ident $ty:ty, $from:ident $to:ident;)*) => {$(
        fn $read(&self, offset: usize) -> $ty {
            self.mapping.$from(offset).unwrap_or_else(|_| outside(offset))
        }
        fn $write(&self, offset: usize, value: $ty) {
            self.mapping.$to(offset, value).unwrap_or_else(|_| outside(offset));
        }
    )*};
}

impl Mmio for Registers {
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
