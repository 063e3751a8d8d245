//! Guest page tables, walked in software: the way from a guest's virtual address to its RAM.
//!
//! Used for reports, dumps, the debugger and faults put into processes, so it sets no bits. All
//! four paging modes of the architecture (SDM volume 3, chapter 4).

use vm_memory::{Bytes, GuestAddress};

use crate::backtrace::View;
use crate::memory::GuestRam;

const CR0_PG: u64 = 1 << 31;
const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_LA57: u64 = 1 << 12;
const EFER_LMA: u64 = 1 << 10;
const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// 64 MiB.
const PAGES_MAX: usize = 16384;
/// Bits 12 to 51 of an entry.
const FRAME: u64 = 0x000F_FFFF_FFFF_F000;

/// The control registers that choose the paging mode.
#[derive(Clone, Copy, Debug)]
pub struct Paging {
    pub cr0: u64,
    pub cr3: u64,
    pub cr4: u64,
    pub efer: u64,
}

/// Memory as a vCPU with these registers sees it.
pub struct Linear<'a> {
    pub ram: &'a GuestRam,
    pub paging: Paging,
}

impl View for Linear<'_> {
    /// Within one page.
    fn read(&self, linear: u64, data: &mut [u8]) -> bool {
        let physical = translate(self.ram, self.paging, linear);
        physical.is_some_and(|at| self.ram.map().read_slice(data, GuestAddress(at)).is_ok())
    }
}

/// The physical address behind a linear one, if it is mapped.
pub fn translate(ram: &GuestRam, paging: Paging, linear: u64) -> Option<u64> {
    if paging.cr0 & CR0_PG == 0 {
        return Some(linear & 0xFFFF_FFFF);
    }
    if paging.efer & EFER_LMA != 0 {
        let levels = if paging.cr4 & CR4_LA57 != 0 { 5 } else { 4 };
        return walk_64(ram, paging.cr3 & FRAME, levels, linear);
    }
    let linear = linear & 0xFFFF_FFFF;
    if paging.cr4 & CR4_PAE != 0 {
        let pointer: u64 = read(ram, (paging.cr3 & 0xFFFF_FFE0) + (linear >> 30) * 8)?;
        return (pointer & PRESENT != 0)
            .then(|| walk_64(ram, pointer & FRAME, 2, linear))
            .flatten();
    }
    walk_32(ram, paging, linear)
}

fn read<T: vm_memory::ByteValued>(ram: &GuestRam, at: u64) -> Option<T> {
    ram.map().read_obj(GuestAddress(at)).ok()
}

/// Tables of 512 entries of eight bytes; level 1 holds pages of 4 KiB.
fn walk_64(ram: &GuestRam, mut table: u64, levels: u32, linear: u64) -> Option<u64> {
    for level in (1..=levels).rev() {
        let shift = 12 + 9 * (level - 1);
        let entry: u64 = read(ram, table + (linear >> shift & 0x1FF) * 8)?;
        if entry & PRESENT == 0 {
            return None;
        }
        if level == 1 || (entry & LARGE != 0 && level <= 3) {
            let offset = (1 << shift) - 1;
            return Some(entry & FRAME & !offset | linear & offset);
        }
        table = entry & FRAME;
    }
    None
}

/// A page that a process can use in user mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserPage {
    pub linear: u64,
    pub physical: u64,
    pub writable: bool,
    pub executable: bool,
    /// It was used since the bit was last cleared.
    pub accessed: bool,
}

/// Pages of 4 KiB of the lower half of a four-level address space; the first [`PAGES_MAX`] of them.
pub fn user_pages(ram: &GuestRam, cr3: u64) -> Vec<UserPage> {
    let mut pages = Vec::new();
    // Table, level, linear base, writable, executable so far.
    let mut tables = vec![(cr3 & FRAME, 4u32, 0u64, true, true)];
    while let Some((table, level, base, writable, executable)) = tables.pop() {
        let count = if level == 4 { 256 } else { 512 };
        for index in 0..count {
            let Some(entry) = read::<u64>(ram, table + index * 8) else { break };
            if entry & (PRESENT | USER) != PRESENT | USER {
                continue;
            }
            let linear = base + (index << (12 + 9 * (level - 1)));
            let writable = writable && entry & WRITABLE != 0;
            let executable = executable && entry & NO_EXECUTE == 0;
            if level > 1 && entry & LARGE == 0 {
                tables.push((entry & FRAME, level - 1, linear, writable, executable));
            } else if level == 1 {
                let (physical, accessed) = (entry & FRAME, entry & ACCESSED != 0);
                pages.push(UserPage { linear, physical, writable, executable, accessed });
            }
            if pages.len() >= PAGES_MAX {
                return pages;
            }
        }
    }
    pages
}

/// Linear addresses that are mapped to consecutive RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub linear: u64,
    pub physical: u64,
    pub length: u64,
}

/// Entries of tables looked at: the guest may have pointed them at each other.
const ENTRIES_MAX: usize = 1 << 20;

/// Everything that long-mode tables map to RAM, in runs, at most `most` of them. Other modes have
/// none: there a linear address is what it is in RAM, or nobody asks.
pub fn mappings(ram: &GuestRam, paging: Paging, most: usize, found: &mut dyn FnMut(Mapping)) {
    if paging.cr0 & CR0_PG == 0 || paging.efer & EFER_LMA == 0 {
        return;
    }
    let levels = if paging.cr4 & CR4_LA57 != 0 { 5 } else { 4 };
    let mut search = Search { ram, budget: ENTRIES_MAX, left: most, run: None, found };
    search.table(paging.cr3 & FRAME, levels, 0, levels);
    search.flush();
}

struct Search<'a> {
    ram: &'a GuestRam,
    budget: usize,
    left: usize,
    run: Option<Mapping>,
    found: &'a mut dyn FnMut(Mapping),
}

impl Search<'_> {
    fn table(&mut self, table: u64, level: u32, base: u64, levels: u32) {
        let shift = 12 + 9 * (level - 1);
        for index in 0..512u64 {
            if self.budget == 0 || self.left == 0 {
                return;
            }
            self.budget -= 1;
            let Some(entry) = read::<u64>(self.ram, table + index * 8) else { return };
            if entry & PRESENT == 0 {
                continue;
            }
            let mut linear = base | index << shift;
            // The upper half: sign extension.
            if level == levels && index >= 256 {
                linear |= u64::MAX << (12 + 9 * levels);
            }
            if level == 1 || (entry & LARGE != 0 && level <= 3) {
                let size = 1u64 << shift;
                self.add(linear, entry & FRAME & !(size - 1), size);
            } else {
                self.table(entry & FRAME, level - 1, linear, levels);
            }
        }
    }

    /// Takes in one page, as far as there is RAM behind it.
    fn add(&mut self, linear: u64, physical: u64, size: u64) {
        for part in self.ram.parts() {
            let start = physical.max(part.base);
            let end = physical.saturating_add(size).min(part.base + part.size);
            if start >= end {
                continue;
            }
            let (linear, length) = (linear + (start - physical), end - start);
            match &mut self.run {
                Some(run)
                    if run.linear.checked_add(run.length) == Some(linear)
                        && run.physical + run.length == start
                        && run.physical >= part.base =>
                {
                    run.length += length;
                }
                _ => {
                    self.flush();
                    self.run = Some(Mapping { linear, physical: start, length });
                }
            }
        }
    }

    fn flush(&mut self) {
        if let Some(run) = self.run.take()
            && self.left > 0
        {
            self.left -= 1;
            (self.found)(run);
        }
    }
}

/// Two levels of 1024 entries of four bytes.
fn walk_32(ram: &GuestRam, paging: Paging, linear: u64) -> Option<u64> {
    let directory = paging.cr3 & 0xFFFF_F000;
    let entry = u64::from(read::<u32>(ram, directory + (linear >> 22) * 4)?);
    if entry & PRESENT == 0 {
        return None;
    }
    if entry & LARGE != 0 && paging.cr4 & CR4_PSE != 0 {
        // Bits 13 to 20 are bits 32 to 39 of the address (PSE-36).
        return Some(entry & 0xFFC0_0000 | (entry >> 13 & 0xFF) << 32 | linear & 0x3F_FFFF);
    }
    let entry = u64::from(read::<u32>(ram, (entry & 0xFFFF_F000) + (linear >> 12 & 0x3FF) * 4)?);
    (entry & PRESENT != 0).then_some(entry & 0xFFFF_F000 | linear & 0xFFF)
}

#[cfg(test)]
#[path = "walk_tests.rs"]
mod tests;
