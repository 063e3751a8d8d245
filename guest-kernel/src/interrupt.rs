//! Interrupt objects: a vector, where it comes from (an I/O APIC pin or a message), and the
//! notification bit it raises.
//!
//! Level-triggered pins are shared, as PCI's INTx must be: all objects of a pin have its vector,
//! each arrival masks the pin and raises the bit of every one that is bound, and the pin opens again
//! when all of those have acknowledged or gone.

use core::cell::Cell;

use xinim_abi::error::{Error, Result};
use xinim_abi::syscall::{IRQ_ACTIVE_LOW, IRQ_LEVEL};
use xinim_kernel_logic::list::{Link, Linked};
use xinim_kernel_logic::refs::{Ref, Slab};

use crate::apic;
use crate::arch::cpu::first;
use crate::endpoint::{self, Endpoint};
use crate::global::Global;
use crate::physical;
use crate::trace;

/// Vectors for interrupt objects; above them are the kernel's own.
const FIRST_VECTOR: u32 = 48;
const LAST_VECTOR: u32 = 238;
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
    /// Its bit was raised for a level and it has not acknowledged yet.
    owes: Cell<bool>,
    /// The next object of the same pin.
    next: Cell<Option<Ref<Interrupt>>>,
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

/// An interrupt for `gsi` (or [`MESSAGE`]); the caller owns one reference. `Busy`: the gsi is taken,
/// and not both are level-triggered with the same polarity.
pub fn create(pid: u32, gsi: u32, flags: u64) -> Result<Ref<Interrupt>> {
    let mut shared = None;
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
        shared = BY_VECTOR.iter().filter_map(Cell::get).find(|other| other.gsi == gsi);
        if shared.is_some_and(|other| flags & IRQ_LEVEL == 0 || other.flags != flags) {
            return Err(Error::Busy);
        }
    }
    if INTERRUPTS.live() > LAST_VECTOR - FIRST_VECTOR {
        return Err(Error::Limit);
    }
    let vector = match shared {
        Some(other) => other.vector,
        None => (FIRST_VECTOR..=LAST_VECTOR)
            .find(|&vector| BY_VECTOR[vector as usize].get().is_none())
            .ok_or(Error::Limit)?,
    };
    let interrupt = Interrupt {
        vector,
        gsi,
        pid,
        flags,
        bit: Cell::new(0),
        endpoint: Cell::new(None),
        owes: Cell::new(false),
        next: Cell::new(shared),
        count: Cell::new(0),
        references: Cell::new(1),
        link: Link::new(),
    };
    let interrupt = INTERRUPTS.allocate(interrupt, physical::slab_page).ok_or(Error::NoMem)?;
    BY_VECTOR[vector as usize].set(Some(interrupt));
    Ok(interrupt)
}

impl Interrupt {
    /// `msi address << 32 | msi data` for a message-signalled one, else 0. All go to the first CPU.
    pub fn message(&self) -> u64 {
        if self.gsi != MESSAGE {
            return 0;
        }
        let address = 0xFEE0_0000 | u64::from(first().apic_id.get()) << 12;
        address << 32 | u64::from(self.vector)
    }

    fn set_masked(&self, masked: bool) {
        if self.gsi != MESSAGE {
            let (level, low) = (self.flags & IRQ_LEVEL != 0, self.flags & IRQ_ACTIVE_LOW != 0);
            apic::route(self.gsi, self.vector, level, low, masked);
        }
    }

    /// Opens the pin if somebody wants it and nobody owes an acknowledgement, else masks it.
    fn settle(&self) {
        let wanted = on_vector(self.vector).any(|other| other.endpoint.get().is_some());
        let owed = on_vector(self.vector).any(|other| other.owes.get());
        self.set_masked(!wanted || owed);
    }
}

/// All objects with this vector.
fn on_vector(vector: u32) -> impl Iterator<Item = Ref<Interrupt>> {
    core::iter::successors(BY_VECTOR[vector as usize & 255].get(), |interrupt| interrupt.next.get())
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
    interrupt.settle();
    Ok(())
}

/// Takes it off its endpoint; the pin is masked when it was the last.
pub fn unbind(interrupt: Ref<Interrupt>) {
    if let Some(endpoint) = interrupt.endpoint.take() {
        endpoint.interrupts.remove(interrupt);
        interrupt.owes.set(false);
        interrupt.settle();
    }
}

/// A level-triggered interrupt may come again.
pub fn acknowledge(interrupt: Ref<Interrupt>) {
    if interrupt.owes.take() {
        interrupt.settle();
    }
}

/// The vector was delivered.
pub fn arrived(vector: u64) {
    let vector = vector as u32 & 255;
    if let Some(first) = BY_VECTOR[vector as usize].get()
        && first.flags & IRQ_LEVEL != 0
    {
        first.set_masked(true);
    }
    apic::end_of_interrupt();
    for interrupt in on_vector(vector) {
        interrupt.count.set(interrupt.count.get() + 1);
        if let Some(endpoint) = interrupt.endpoint.get() {
            interrupt.owes.set(interrupt.flags & IRQ_LEVEL != 0);
            if trace::on() {
                let owner = endpoint.owner.get().map_or(0, |owner| owner.pid);
                trace::event(trace::kind::INTERRUPT, vector.into(), 0, owner.into());
            }
            endpoint::notify(endpoint, interrupt.bit.get());
        }
    }
}

pub fn destroy(interrupt: Ref<Interrupt>) {
    unbind(interrupt);
    let first = &BY_VECTOR[interrupt.vector as usize];
    if first.get().is_some_and(|first| first == interrupt) {
        first.set(interrupt.next.get());
    } else if let Some(before) = on_vector(interrupt.vector)
        .find(|other| other.next.get().is_some_and(|next| next == interrupt))
    {
        before.next.set(interrupt.next.get());
    }
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
