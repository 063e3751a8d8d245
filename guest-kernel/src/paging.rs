//! Four-level page tables of user address spaces (Intel SDM vol. 3, 4.5), over a trait that finds
//! and allocates tables, so that they can be walked on the host too.

use core::cell::Cell;

pub const PRESENT: u64 = 1 << 0;
pub const WRITE: u64 = 1 << 1;
pub const USER: u64 = 1 << 2;
/// With PCD: uncached. PWT alone selects PAT entry 1, which the kernel sets to write-combining.
pub const WRITE_THROUGH: u64 = 1 << 3;
pub const CACHE_DISABLE: u64 = 1 << 4;
pub const ACCESSED: u64 = 1 << 5;
pub const DIRTY: u64 = 1 << 6;
pub const LARGE: u64 = 1 << 7;
pub const NO_EXECUTE: u64 = 1 << 63;
pub const ADDRESS: u64 = 0x000F_FFFF_FFFF_F000;

const PAGE: u64 = 4096;
const LARGE_PAGE: u64 = 2 * 1024 * 1024;

pub type Table = [Cell<u64>; 512];

/// Where tables are.
pub trait TableMemory {
    /// The table at a physical address that is in an entry or came from `allocate`.
    fn table(&self, address: u64) -> &'static Table;
    /// A new table, all zero.
    fn allocate(&self) -> Option<u64>;
}

/// No frame for a table.
#[derive(Debug, PartialEq, Eq)]
pub struct NoTable;

fn index(address: u64, level: u32) -> usize {
    (address >> (12 + 9 * level)) as usize & 511
}

/// Table of `level` (1: page directory, 0: page table) for `address`, made when missing.
fn table_for<M: TableMemory>(
    memory: &M,
    pml4: u64,
    address: u64,
    level: u32,
) -> Result<&'static Table, NoTable> {
    let mut table = memory.table(pml4);
    for at in (level + 1..4).rev() {
        let entry = &table[index(address, at)];
        if entry.get() & PRESENT == 0 {
            let new = memory.allocate().ok_or(NoTable)?;
            entry.set(new | PRESENT | WRITE | USER | ACCESSED);
        }
        table = memory.table(entry.get() & ADDRESS);
    }
    Ok(table)
}

/// Whether a page directory's entry leads to an (empty) table instead of a page: once small pages
/// were mapped in these 2 MiB, they stay small.
fn has_table(entry: u64) -> bool {
    entry & PRESENT != 0 && entry & LARGE == 0
}

/// Maps `length` bytes at `address` to `physical` with `flags`; large pages where all three
/// allow. What was mapped is left when a table is missing.
pub fn map<M: TableMemory>(
    memory: &M,
    pml4: u64,
    address: u64,
    physical: u64,
    length: u64,
    flags: u64,
) -> Result<(), NoTable> {
    let end = address + length;
    let (mut address, mut physical) = (address, physical);
    while address < end {
        if (address | physical).is_multiple_of(LARGE_PAGE) && end - address >= LARGE_PAGE {
            let entry = &table_for(memory, pml4, address, 1)?[index(address, 1)];
            if !has_table(entry.get()) {
                entry.set(physical | flags | LARGE);
                address += LARGE_PAGE;
                physical += LARGE_PAGE;
                continue;
            }
        }
        let table = table_for(memory, pml4, address, 0)?;
        let first = index(address, 0);
        let count = (512 - first).min(((end - address) / PAGE) as usize);
        for entry in &table[first..first + count] {
            entry.set(physical | flags);
            physical += PAGE;
        }
        address += count as u64 * PAGE;
    }
    Ok(())
}

/// Clears every entry of `length` bytes at `address` and calls `gone` with each page that was
/// mapped. Large pages inside the range must be covered whole.
pub fn unmap<M: TableMemory>(
    memory: &M,
    pml4: u64,
    address: u64,
    length: u64,
    mut gone: impl FnMut(u64),
) {
    let end = address + length;
    let mut address = address;
    while address < end {
        let mut table = memory.table(pml4);
        let mut level = 3;
        // Down to the entry that maps the address, or the hole that does not.
        let entry = loop {
            let entry = &table[index(address, level)];
            let value = entry.get();
            if value & PRESENT == 0 || level == 0 || (level == 1 && value & LARGE != 0) {
                break entry;
            }
            table = memory.table(value & ADDRESS);
            level -= 1;
        };
        if entry.replace(if level <= 1 { 0 } else { entry.get() }) & PRESENT != 0 {
            gone(address);
        }
        let size = 1u64 << (12 + 9 * level);
        address = (address & !(size - 1)) + size;
    }
}

/// Physical address and entry that `address` is mapped with. The entry's `WRITE` is that of the
/// page: upper levels always allow.
#[inline]
pub fn translate<M: TableMemory>(memory: &M, pml4: u64, address: u64) -> Option<(u64, u64)> {
    let mut table = memory.table(pml4);
    for level in (0..4).rev() {
        let entry = table[index(address, level)].get();
        if entry & PRESENT == 0 {
            return None;
        }
        if level == 0 || entry & LARGE != 0 {
            let inside = (1u64 << (12 + 9 * level)) - 1;
            return Some(((entry & ADDRESS & !inside) | (address & inside), entry));
        }
        table = memory.table(entry & ADDRESS);
    }
    None
}

#[cfg(test)]
#[path = "paging_tests.rs"]
mod tests;
