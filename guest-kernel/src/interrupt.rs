//! Interrupt objects: a vector, where it comes from (an I/O APIC pin or a message), and the
//! notification bit it raises.

use core::cell::Cell;

use xinim_abi::error::{Error, Result};
use xinim_abi::syscall::{IRQ_ACTIVE_LOW, IRQ_LEVEL};
use xinim_kernel_logic::list::{Link, Linked};
use xinim_kernel_logic::refs::{Ref, Slab};

use crate::apic;
use crate::arch::cpu::cpu;
use crate::endpoint::{self, Endpoint};
use crate::global::Global;
use crate::physical;

/// Vectors for interrupt objects; above them are the kernel's own.
const FIRST_VECTOR: u32 = 48;
const LAST_VECTOR: u32 = 239;
/// `gsi` of a message-signalled interrupt.
pub const MESSAGE: u32 = u32::MAX;

#[repr(C, align(16))]
pub struct Interrupt {
    pub vector: u32,
    pub gsi: u32,
    pub pid: u32,
    flags: u64,
    bit: Cell<u64>,
    endpoint: Cell<Option<Ref<Endpoint>>>,
    pub count: Cell<u64>,
    pub references: Cell<u32>,
    link: Link<Interrupt>,
}

impl Linked<0> for Interrupt {
    fn link(&self) -> &Link<Self> {
        &self.link
    }
}

static INTERRUPTS: Global<Slab<Interrupt>> = Global::new(Slab::new());
static BY_VECTOR: Global<[Cell<Option<Ref<Interrupt>>>; 256]> =
    Global::new([const { Cell::new(None) }; 256]);

/// An interrupt for `gsi` (or [`MESSAGE`]); the caller owns one reference. `Busy`: the gsi is taken.
pub fn create(pid: u32, gsi: u32, flags: u64) -> Result<Ref<Interrupt>> {
    if gsi == MESSAGE {
        if flags != 0 {
            return Err(Error::Inval);
        }
    } else {
        if flags & !(IRQ_LEVEL | IRQ_ACTIVE_LOW) != 0 {
            return Err(Error::Inval);
        }
        if !apic::has_gsi(gsi) {
            return Err(Error::NxIo);
        }
        if BY_VECTOR.iter().filter_map(Cell::get).any(|other| other.gsi == gsi) {
            return Err(Error::Busy);
        }
    }
    let vector = (FIRST_VECTOR..=LAST_VECTOR)
        .find(|&vector| BY_VECTOR[vector as usize].get().is_none())
        .ok_or(Error::Limit)?;
    let interrupt = Interrupt {
        vector,
        gsi,
        pid,
        flags,
        bit: Cell::new(0),
        endpoint: Cell::new(None),
        count: Cell::new(0),
        references: Cell::new(1),
        link: Link::new(),
    };
    let interrupt = INTERRUPTS.allocate(interrupt, physical::slab_page).ok_or(Error::NoMem)?;
    BY_VECTOR[vector as usize].set(Some(interrupt));
    Ok(interrupt)
}

impl Interrupt {
    /// `msi address << 32 | msi data` for a message-signalled one, else 0.
    pub fn message(&self) -> u64 {
        if self.gsi != MESSAGE {
            return 0;
        }
        let address = 0xFEE0_0000 | u64::from(cpu().apic_id.get()) << 12;
        address << 32 | u64::from(self.vector)
    }

    fn set_masked(&self, masked: bool) {
        if self.gsi != MESSAGE {
            let (level, low) = (self.flags & IRQ_LEVEL != 0, self.flags & IRQ_ACTIVE_LOW != 0);
            apic::route(self.gsi, self.vector, level, low, masked);
        }
    }
}

/// Lets the interrupt raise bit number `bit` of `endpoint`.
pub fn bind(interrupt: Ref<Interrupt>, endpoint: Ref<Endpoint>, bit: u64) -> Result<()> {
    if bit >= 64 {
        return Err(Error::Inval);
    }
    if !endpoint.alive.get() {
        return Err(Error::ServerDied);
    }
    unbind(interrupt);
    interrupt.bit.set(1 << bit);
    interrupt.endpoint.set(Some(endpoint));
    endpoint.interrupts.push_back(interrupt);
    interrupt.set_masked(false);
    Ok(())
}

/// Masks it and takes it off its endpoint.
pub fn unbind(interrupt: Ref<Interrupt>) {
    if let Some(endpoint) = interrupt.endpoint.take() {
        endpoint.interrupts.remove(interrupt);
        interrupt.set_masked(true);
    }
}

/// A level-triggered interrupt may come again.
pub fn acknowledge(interrupt: Ref<Interrupt>) {
    if interrupt.flags & IRQ_LEVEL != 0 && interrupt.endpoint.get().is_some() {
        interrupt.set_masked(false);
    }
}

/// The vector was delivered.
pub fn arrived(vector: u64) {
    if let Some(interrupt) = BY_VECTOR[vector as usize & 255].get() {
        interrupt.count.set(interrupt.count.get() + 1);
        if interrupt.flags & IRQ_LEVEL != 0 {
            interrupt.set_masked(true);
        }
        apic::end_of_interrupt();
        if let Some(endpoint) = interrupt.endpoint.get() {
            endpoint::notify(endpoint, interrupt.bit.get());
        }
    } else {
        apic::end_of_interrupt();
    }
}

pub fn destroy(interrupt: Ref<Interrupt>) {
    unbind(interrupt);
    BY_VECTOR[interrupt.vector as usize].set(None);
    INTERRUPTS.release(interrupt);
}

/// The first interrupt in use with at least this vector.
pub fn find_from(vector: u64) -> Option<Ref<Interrupt>> {
    let from = usize::try_from(vector).ok().filter(|&v| v < 256)?;
    BY_VECTOR[from..].iter().find_map(Cell::get)
}

pub fn live() -> u32 {
    INTERRUPTS.live()
}
