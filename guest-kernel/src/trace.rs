//! The trace page: tells the machine which process runs, for its traces; and the kernel's own events.
//!
//! While nobody listens an event costs the comparison in [`on`]. The ring is allocated by the first
//! event; where that fails there are no events. Layouts and kinds: `xinim_abi::trace`.

use core::cell::Cell;
use core::sync::atomic::{Ordering, compiler_fence};

use xinim_abi::error::{Error, Result};
use xinim_abi::platform::{
    PORT_TRACE_PAGE, TRACE_CPUS, TRACE_MAGIC, TRACE_NOBODY, TRACE_PAGES, TRACE_ROOTS_OFFSET,
    TRACE_SLOTS,
};
use xinim_abi::trace::{
    KERNEL_RING_AT, KERNEL_RING_LEN, PROCESS_RING_LEN, RECORD_SIZE, RING_HEADER, RINGS_OFFSET,
    SWITCH_AT, TSC_AFTER, TSC_BEFORE, capacity,
};
use xinim_kernel_logic::refs::Ref;

use crate::arch::cpu::cpu;
use crate::arch::instructions::{out32, rdtsc};
use crate::global::Global;
use crate::kip;
use crate::memory_object::MemoryObject;
use crate::object::Object;
use crate::physical;
use crate::process::Process;
use crate::smp::MAX_CPUS;

pub use xinim_abi::trace::kind;

const RINGS: usize = 4;
const PAGE_WORDS: usize = 512;
const ROOTS_WORD: usize = TRACE_ROOTS_OFFSET / 8;

/// `TracePageHeader` and what follows it, as cells.
#[repr(C, align(4096))]
struct TracePage {
    magic: Cell<u32>,
    version: Cell<u32>,
    running: [Cell<u32>; TRACE_CPUS],
    /// Switch, TSC before and after the announcement, the kernel's ring.
    rings: [Cell<u64>; RINGS],
    gap: [u64; ROOTS_WORD - 8 - RINGS],
    roots: [Cell<u64>; TRACE_SLOTS],
    padding: [u64; PAGE_WORDS - ROOTS_WORD - TRACE_SLOTS],
    table: [[Cell<u32>; 8]; TRACE_SLOTS],
    /// By slot.
    process_rings: [Cell<u64>; PAGE_WORDS],
}

const _: () = assert!(size_of::<TracePage>() == TRACE_PAGES * 4096);
const _: () = assert!(TRACE_SLOTS <= PAGE_WORDS);
const _: () = assert!(core::mem::offset_of!(TracePage, rings) == RINGS_OFFSET);
const _: () = assert!(
    core::mem::offset_of!(TracePage, process_rings) == xinim_abi::trace::PROCESS_RINGS_OFFSET
);

const fn word(offset: usize) -> usize {
    (offset - RINGS_OFFSET) / 8
}

static PAGE: Global<TracePage> = Global::new(TracePage {
    magic: Cell::new(0),
    version: Cell::new(0),
    running: [const { Cell::new(0) }; TRACE_CPUS],
    rings: [const { Cell::new(0) }; RINGS],
    gap: [0; ROOTS_WORD - 8 - RINGS],
    roots: [const { Cell::new(0) }; TRACE_SLOTS],
    padding: [0; PAGE_WORDS - ROOTS_WORD - TRACE_SLOTS],
    table: [const { [const { Cell::new(0) }; 8] }; TRACE_SLOTS],
    process_rings: [const { Cell::new(0) }; PAGE_WORDS],
});

/// No memory for a ring.
static REFUSED: Global<Cell<bool>> = Global::new(Cell::new(false));

/// Announces the page.
pub fn start() {
    PAGE.magic.set(TRACE_MAGIC);
    PAGE.version.set(2);
    PAGE.running.iter().for_each(|slot| slot.set(TRACE_NOBODY));
    PAGE.rings[word(SWITCH_AT)].set(kip::trace_switch());
    PAGE.rings[word(TSC_BEFORE)].set(rdtsc());
    out32(PORT_TRACE_PAGE, (physical::of_image(&*PAGE) >> 12) as u32);
    PAGE.rings[word(TSC_AFTER)].set(rdtsc());
}

/// Enters a process with the root of its page tables; gives its slot, [`TRACE_NOBODY`] when all
/// are taken.
pub fn add(pid: u32, name: &[u8; 32], root: u64) -> u32 {
    let Some(slot) = PAGE.table.iter().position(|entry| entry[0].get() == 0) else {
        return TRACE_NOBODY;
    };
    let words = name.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
    PAGE.table[slot][1..].iter().zip(words).for_each(|(cell, word)| cell.set(word));
    PAGE.roots[slot].set(root);
    PAGE.table[slot][0].set(pid);
    slot as u32
}

pub fn remove(slot: u32) {
    if let Some(entry) = PAGE.table.get(slot as usize) {
        entry[0].set(0);
        PAGE.process_rings[slot as usize].set(0);
    }
}

/// `slot` runs on `cpu` from now on.
#[inline(always)]
pub fn running(cpu: u32, slot: u32) {
    const { assert!(MAX_CPUS.is_power_of_two() && MAX_CPUS <= TRACE_CPUS) };
    // The remainder is the number itself, and spares a comparison.
    PAGE.running[cpu as usize % MAX_CPUS].set(slot);
}

/// Whether events are wanted.
#[inline(always)]
pub fn on() -> bool {
    kip::traced()
}

/// Whether grants of DMA memory are wanted.
pub fn grants_on() -> bool {
    kip::trace_switches() != 0
}

/// Writes a grant or a revocation, which [`grants_on`] has asked for.
pub fn grant(kind: u8, function: u32, address: u64, owner: u64) {
    record(kind, function as u16, address, owner);
}

/// Writes an event if somebody wants it; the arguments should be cheap.
#[inline(always)]
pub fn event(kind: u8, name: u64, a: u64, b: u64) {
    if on() {
        record(kind, name as u16, a, b);
    }
}

#[cold]
#[inline(never)]
fn record(kind: u8, name: u16, a: u64, b: u64) {
    let mut base = PAGE.rings[word(KERNEL_RING_AT)].get();
    if base == 0 {
        match make_ring() {
            Some(ring) => base = ring,
            None => return,
        }
    }
    let words = physical::direct(base) as *const Cell<u64>;
    // SAFETY: the ring is ours for good, zeroed and mapped by the direct map; the machine only
    // reads it, and the kernel's lock is held.
    let words = unsafe { core::slice::from_raw_parts(words, KERNEL_RING_LEN / 8) };
    let number = words[0].get();
    let at = (RING_HEADER + number as usize % capacity(KERNEL_RING_LEN) * RECORD_SIZE) / 8;
    // The machine reads at any time: a record counts once its number is there.
    words[at + 1].set(0);
    compiler_fence(Ordering::SeqCst);
    words[at].set(rdtsc());
    let head = u64::from(kind) | u64::from(cpu().index.get() as u8) << 8 | u64::from(name) << 16;
    words[at + 2].set(a);
    words[at + 3].set(b);
    compiler_fence(Ordering::SeqCst);
    words[at + 1].set(head << 32 | (number + 1) & 0xFFFF_FFFF);
    words[0].set(number + 1);
}

#[cold]
fn make_ring() -> Option<u64> {
    if REFUSED.get() {
        return None;
    }
    let order = (KERNEL_RING_LEN / 4096).trailing_zeros();
    let ring = physical::allocate(order, u64::MAX);
    match ring {
        Some(ring) => PAGE.rings[word(KERNEL_RING_AT)].set(ring),
        None => REFUSED.set(true),
    }
    ring
}

/// Makes `memory` the ring of `process`.
pub fn set_ring(process: &Process, memory: Ref<MemoryObject>) -> Result<u64> {
    let slot = PAGE.process_rings.get(process.trace_slot.get() as usize).ok_or(Error::Limit)?;
    if process.trace_ring.get().is_some() {
        return Err(Error::Exist);
    }
    if memory.device.is_some() || memory.length < PROCESS_RING_LEN as u64 {
        return Err(Error::Inval);
    }
    match memory.extents(0, PROCESS_RING_LEN as u64).next() {
        Some((address, length)) if length == PROCESS_RING_LEN as u64 => {
            Object::Memory(memory).retain();
            process.trace_ring.set(Some(memory));
            slot.set(address);
            Ok(0)
        }
        _ => Err(Error::Inval),
    }
}
