//! The trace page: tells the machine which process runs, for its traces.

use core::cell::Cell;

use xinim_abi::platform::{
    PORT_TRACE_PAGE, TRACE_CPUS, TRACE_MAGIC, TRACE_NOBODY, TRACE_PAGES, TRACE_SLOTS,
};

use crate::arch::instructions::out32;
use crate::global::Global;
use crate::physical;

/// `TracePageHeader` and the table, as cells.
#[repr(C, align(4096))]
struct TracePage {
    magic: Cell<u32>,
    version: Cell<u32>,
    running: [Cell<u32>; TRACE_CPUS],
    padding: [u64; 504],
    table: [[Cell<u32>; 8]; TRACE_SLOTS],
}

const _: () = assert!(size_of::<TracePage>() == TRACE_PAGES * 4096);

static PAGE: Global<TracePage> = Global::new(TracePage {
    magic: Cell::new(0),
    version: Cell::new(0),
    running: [const { Cell::new(0) }; TRACE_CPUS],
    padding: [0; 504],
    table: [const { [const { Cell::new(0) }; 8] }; TRACE_SLOTS],
});

/// Announces the page.
pub fn start() {
    PAGE.magic.set(TRACE_MAGIC);
    PAGE.version.set(1);
    PAGE.running.iter().for_each(|slot| slot.set(TRACE_NOBODY));
    out32(PORT_TRACE_PAGE, (physical::of_image(&*PAGE) >> 12) as u32);
}

/// Enters a process; gives its slot, [`TRACE_NOBODY`] when all are taken.
pub fn add(pid: u32, name: &[u8; 32]) -> u32 {
    let Some(slot) = PAGE.table.iter().position(|entry| entry[0].get() == 0) else {
        return TRACE_NOBODY;
    };
    let words = name.chunks_exact(4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
    PAGE.table[slot][1..].iter().zip(words).for_each(|(cell, word)| cell.set(word));
    PAGE.table[slot][0].set(pid);
    slot as u32
}

pub fn remove(slot: u32) {
    if let Some(entry) = PAGE.table.get(slot as usize) {
        entry[0].set(0);
    }
}

/// `slot` runs on `cpu` from now on.
#[inline(always)]
pub fn running(cpu: u32, slot: u32) {
    if let Some(entry) = PAGE.running.get(cpu as usize) {
        entry.set(slot);
    }
}
