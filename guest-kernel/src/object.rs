//! What handles stand for: a tagged reference to a kernel object, counted.

use core::cell::Cell;
use core::ptr::NonNull;

use xinim_abi::error::{Error, Result};
use xinim_abi::object::{Kind, Rights};
use xinim_kernel_logic::handles::{Full, HandlePage, Slot};
use xinim_kernel_logic::refs::Ref;

use crate::device::{self, Device};
use crate::endpoint::{self, Endpoint};
use crate::interrupt::{self, Interrupt};
use crate::memory_object::{self, MemoryObject};
use crate::physical;
use crate::ports::{self, Ports};
use crate::process::{self, Process};
use crate::thread::{self, Thread};

#[derive(Clone, Copy, PartialEq)]
pub enum Object {
    Process(Ref<Process>),
    Thread(Ref<Thread>),
    Endpoint(Ref<Endpoint>),
    Memory(Ref<MemoryObject>),
    Interrupt(Ref<Interrupt>),
    Ports(Ref<Ports>),
    Device(Ref<Device>),
    Resource,
}

/// Low bits of the packed form that hold the kind; objects are 16-aligned.
const KIND_BITS: u64 = 15;

/// # Safety
/// `word` must be the packed form of a reference to a `T`.
#[inline(always)]
unsafe fn unpack<T>(word: u64) -> Ref<T> {
    // SAFETY: the caller's; the address came out of a `Ref<T>`.
    unsafe { Ref::new(NonNull::new_unchecked((word & !KIND_BITS) as *mut T)) }
}

impl Object {
    /// The word that stands in a handle table.
    pub fn pack(self) -> u64 {
        let address = match self {
            Object::Process(r) => r.address(),
            Object::Thread(r) => r.address(),
            Object::Endpoint(r) => r.address(),
            Object::Memory(r) => r.address(),
            Object::Interrupt(r) => r.address(),
            Object::Ports(r) => r.address(),
            Object::Device(r) => r.address(),
            Object::Resource => 0,
        };
        address | self.kind() as u64
    }

    pub fn kind(self) -> Kind {
        match self {
            Object::Process(_) => Kind::Process,
            Object::Thread(_) => Kind::Thread,
            Object::Endpoint(_) => Kind::Endpoint,
            Object::Memory(_) => Kind::Memory,
            Object::Interrupt(_) => Kind::Interrupt,
            Object::Ports(_) => Kind::Ports,
            Object::Device(_) => Kind::Device,
            Object::Resource => Kind::Resource,
        }
    }

    pub fn unpack(word: u64) -> Object {
        // SAFETY: words in handle tables are made by `pack` only, and the tag is that of the type.
        unsafe {
            match word & KIND_BITS {
                1 => Object::Process(unpack(word)),
                2 => Object::Thread(unpack(word)),
                3 => Object::Endpoint(unpack(word)),
                4 => Object::Memory(unpack(word)),
                5 => Object::Interrupt(unpack(word)),
                6 => Object::Ports(unpack(word)),
                7 => Object::Device(unpack(word)),
                _ => Object::Resource,
            }
        }
    }

    /// The endpoint in a packed word, without the detour (system calls that must be fast).
    #[inline(always)]
    pub fn unpack_endpoint(word: u64) -> Option<Ref<Endpoint>> {
        // SAFETY: as in `unpack`.
        (word & KIND_BITS == Kind::Endpoint as u64).then(|| unsafe { unpack(word) })
    }

    fn references(self) -> Option<&'static Cell<u32>> {
        Some(match self {
            Object::Process(r) => &r.get().references,
            Object::Thread(r) => &r.get().references,
            Object::Endpoint(r) => &r.get().references,
            Object::Memory(r) => &r.get().references,
            Object::Interrupt(r) => &r.get().references,
            Object::Ports(r) => &r.get().references,
            Object::Device(r) => &r.get().references,
            Object::Resource => return None,
        })
    }

    /// Counts one reference more.
    pub fn retain(self) {
        if let Some(count) = self.references() {
            count.set(count.get() + 1);
        }
    }

    /// Counts one less; the last one destroys.
    pub fn release(self) {
        let Some(count) = self.references() else { return };
        count.set(count.get() - 1);
        if count.get() > 0 {
            return;
        }
        match self {
            Object::Process(r) => process::destroy(r),
            Object::Thread(r) => thread::destroy(r),
            Object::Endpoint(r) => endpoint::destroy(r),
            Object::Memory(r) => memory_object::destroy(r),
            Object::Interrupt(r) => interrupt::destroy(r),
            Object::Ports(r) => ports::destroy(r),
            Object::Device(r) => device::destroy(r),
            Object::Resource => (),
        }
    }
}

/// An object with what a handle adds.
#[derive(Clone, Copy)]
pub struct Capability {
    pub object: Object,
    pub rights: Rights,
    /// Rights on a resource handle beyond the common ones (`syscall::resource`).
    pub extra: u32,
    pub badge: u64,
}

impl Capability {
    pub fn new(object: Object, rights: Rights) -> Self {
        Self { object, rights, extra: 0, badge: 0 }
    }

    pub fn rights_word(&self) -> u32 {
        self.rights.bits() | self.extra
    }

    pub fn has(&self, rights: Rights) -> Result<()> {
        if self.rights.contains(rights) { Ok(()) } else { Err(Error::BadHandle) }
    }
}

/// What handle `number` of `process` is.
pub fn lookup(process: Ref<Process>, number: u32) -> Result<Capability> {
    let slot = process.handles.get(number).ok_or(Error::BadHandle)?;
    Ok(capability(slot))
}

fn capability(slot: Slot) -> Capability {
    Capability {
        object: Object::unpack(slot.object),
        rights: Rights::from_bits_truncate(slot.rights),
        extra: slot.rights & !Rights::all().bits(),
        badge: slot.badge,
    }
}

/// Gives `process` a handle, with a reference of its own.
pub fn install(process: Ref<Process>, capability: Capability) -> Result<u32> {
    let slot = Slot {
        object: capability.object.pack(),
        badge: capability.badge,
        rights: capability.rights_word(),
    };
    let number = process.handles.insert(slot, handle_page).map_err(|full| match full {
        Full::Limit => Error::Limit,
        Full::Memory => Error::NoMem,
    })?;
    capability.object.retain();
    if let Object::Endpoint(endpoint) = capability.object
        && capability.rights.contains(Rights::RECEIVE)
    {
        endpoint.receivers_possible.set(endpoint.receivers_possible.get() + 1);
    }
    Ok(number)
}

/// Installs a capability on a new object whose only reference is the caller's, and drops that.
pub fn install_new(process: Ref<Process>, capability: Capability) -> Result<u32> {
    let result = install(process, capability);
    capability.object.release();
    result
}

/// Closes a handle.
pub fn close(process: Ref<Process>, number: u32) -> Result<()> {
    let slot = process.handles.remove(number).ok_or(Error::BadHandle)?;
    drop_slot(slot);
    Ok(())
}

/// Closes every handle of a dead process.
pub fn close_all(process: Ref<Process>) {
    let mut from = 0;
    while let Some((slot, next)) = process.handles.take_any(from) {
        drop_slot(slot);
        from = next;
    }
    for page in process.get().handles.take_pages() {
        physical::release_kernel(physical::of_direct(page.address()));
    }
}

fn drop_slot(slot: Slot) {
    let capability = capability(slot);
    if let Object::Endpoint(endpoint) = capability.object
        && capability.rights.contains(Rights::RECEIVE)
    {
        endpoint.receivers_possible.set(endpoint.receivers_possible.get() - 1);
        if endpoint.receivers_possible.get() == 0 {
            // Nobody can ever receive here again.
            endpoint::die(endpoint);
        }
    }
    capability.object.release();
}

fn handle_page() -> Option<Ref<HandlePage>> {
    let frame = physical::allocate_kernel()?;
    // SAFETY: the frame is zero, which is a page of free entries, and is given back only when the
    // table that holds the only reference has dropped it.
    Some(unsafe { Ref::new(NonNull::new_unchecked(physical::direct(frame) as *mut HandlePage)) })
}
