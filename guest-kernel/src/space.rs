//! User address spaces: page tables, mappings, and the pages that every process has.

use core::cell::Cell;

use xinim_abi::error::{Error, Result};
use xinim_abi::kip::KIP_ADDRESS;
use xinim_abi::object::{DeviceMemoryFlags, PAGE_SIZE, Protection, USER_END, USER_MIN};
use xinim_kernel_logic::paging::{self, Table, TableMemory};
use xinim_kernel_logic::refs::Ref;

use crate::arch::instructions::{invlpg, read_cr4, write_cr4};
use crate::global::Global;
use crate::memory_object::{self, Mapping, MemoryObject};
use crate::object::Object;
use crate::physical;
use crate::process::Process;
use crate::scheduler;
use crate::smp;

/// The kernel information page and the gate have this GiB of addresses to themselves, so that all
/// processes share its page directory.
const KIP_REGION: u64 = 1 << 30;
/// Most mappings of a process (finding a free place walks them).
const MAX_MAPPINGS: u32 = 1024;
const PAGE: u64 = PAGE_SIZE as u64;

pub const CR4_GLOBAL_PAGES: u64 = 1 << 7;

unsafe extern "C" {
    static boot_pml4: Table;
}

static KIP_DIRECTORY: Global<Cell<u64>> = Global::new(Cell::new(0));

/// Top-level table that maps the kernel only.
pub fn kernel_pml4() -> u64 {
    // SAFETY: part of the image.
    physical::of_image(unsafe { &boot_pml4 })
}

/// Frames a process's page tables take, remembered so that they can be given back without walking
/// the tables. Overflow frames hold the number before in their first word.
pub struct Tables {
    count: Cell<u32>,
    first: [Cell<u64>; INLINE],
    overflow: Cell<u64>,
}

const INLINE: usize = 20;
const PER_OVERFLOW: usize = 511;

impl Tables {
    pub const fn new() -> Self {
        Self {
            count: Cell::new(0),
            first: [const { Cell::new(0) }; INLINE],
            overflow: Cell::new(0),
        }
    }

    fn release_all(&self) {
        let count = self.count.replace(0) as usize;
        self.first.iter().take(count).for_each(|frame| physical::release_kernel(frame.get()));
        let mut left = count.saturating_sub(INLINE);
        let mut page = self.overflow.replace(0);
        while page != 0 {
            let table = physical::Tables.table(page);
            let here =
                if left.is_multiple_of(PER_OVERFLOW) { PER_OVERFLOW } else { left % PER_OVERFLOW };
            table[1..=here.min(left)]
                .iter()
                .for_each(|frame| physical::release_kernel(frame.get()));
            left -= here.min(left);
            physical::release_kernel(page);
            page = table[0].get();
        }
    }
}

impl TableMemory for Tables {
    #[inline(always)]
    fn table(&self, address: u64) -> &'static Table {
        physical::Tables.table(address)
    }

    fn allocate(&self) -> Option<u64> {
        let count = self.count.get() as usize;
        if count >= INLINE && (count - INLINE).is_multiple_of(PER_OVERFLOW) {
            let page = physical::allocate_kernel()?;
            self.table(page)[0].set(self.overflow.replace(page));
        }
        let frame = physical::allocate_kernel()?;
        match self.first.get(count) {
            Some(slot) => slot.set(frame),
            None => self.table(self.overflow.get())[1 + (count - INLINE) % PER_OVERFLOW].set(frame),
        }
        self.count.set(count as u32 + 1);
        Some(frame)
    }
}

/// Builds the part of the address space that all processes share: the kernel information page and
/// the gate behind it.
pub fn start(kip: u64, gate: u64) {
    let no_memory = "no memory for the kernel information page";
    let directory = physical::allocate_kernel().expect(no_memory);
    let table = physical::allocate_kernel().expect(no_memory);
    let inner = paging::PRESENT | paging::USER | paging::WRITE | paging::ACCESSED;
    physical::Tables.table(directory)[0].set(table | inner);
    let entries = physical::Tables.table(table);
    entries[0].set(kip | paging::PRESENT | paging::USER | paging::ACCESSED | paging::NO_EXECUTE);
    entries[1].set(gate | paging::PRESENT | paging::USER | paging::ACCESSED);
    KIP_DIRECTORY.set(directory);
    // SAFETY: part of the image. The identity map was needed for the jump upwards only.
    let table = unsafe { &boot_pml4 };
    table[0].set(0);
    // SAFETY: every x86_64 CPU has global pages. Turning them on forgets all translations, also
    // those of the identity map, where programs will be.
    unsafe { write_cr4(read_cr4() | CR4_GLOBAL_PAGES) }
}

/// A new top-level table.
pub fn create(tables: &Tables) -> Option<u64> {
    let pml4 = physical::allocate_kernel()?;
    let table = tables.table(pml4);
    // SAFETY: part of the image.
    let kernel = unsafe { &boot_pml4 };
    table[256].set(kernel[256].get());
    table[511].set(kernel[511].get());
    let Some(pdpt) = tables.allocate() else {
        physical::release_kernel(pml4);
        return None;
    };
    let inner = paging::PRESENT | paging::USER | paging::WRITE | paging::ACCESSED;
    table[(KIP_ADDRESS >> 39) as usize].set(pdpt | inner);
    tables.table(pdpt)[(KIP_ADDRESS >> 30) as usize & 511].set(KIP_DIRECTORY.get() | inner);
    Some(pml4)
}

/// Whether `length` bytes at `address` are a place where a process may have a mapping.
fn is_user_range(address: u64, length: u64) -> bool {
    let Some(end) = address.checked_add(length) else { return false };
    length > 0
        && address >= USER_MIN
        && end <= USER_END
        && (end <= KIP_ADDRESS || address >= KIP_ADDRESS + KIP_REGION)
}

fn page_flags(protection: Protection, memory: &MemoryObject) -> u64 {
    let mut flags = paging::PRESENT | paging::USER | paging::ACCESSED | paging::DIRTY;
    if protection.contains(Protection::WRITE) {
        flags |= paging::WRITE;
    }
    if !protection.contains(Protection::EXECUTE) {
        flags |= paging::NO_EXECUTE;
    }
    match memory.device {
        Some(cache) if cache.contains(DeviceMemoryFlags::CACHED) => (),
        // Attribute 1 is write-combining (set up at boot).
        Some(cache) if cache.contains(DeviceMemoryFlags::WRITE_COMBINING) => {
            flags |= paging::WRITE_THROUGH;
        }
        Some(_) => flags |= paging::CACHE_DISABLE | paging::WRITE_THROUGH,
        None => (),
    }
    flags
}

/// Maps a part of a memory object.
pub fn map(
    process: Ref<Process>,
    memory: Ref<MemoryObject>,
    address: u64,
    offset: u64,
    length: u64,
    protection: Protection,
) -> Result<()> {
    if !(address | offset | length).is_multiple_of(PAGE) || !is_user_range(address, length) {
        return Err(Error::Inval);
    }
    let inside = offset.checked_add(length).is_some_and(|end| end <= memory.length);
    if !inside || protection.is_empty() {
        return Err(Error::Inval);
    }
    if protection.contains(Protection::WRITE | Protection::EXECUTE) {
        return Err(Error::Access);
    }
    if process.mapping_count.get() >= MAX_MAPPINGS {
        return Err(Error::Limit);
    }
    let end = address + length;
    if process.mappings.iter().any(|m| m.address < end && m.address + m.length > address) {
        return Err(Error::Exist);
    }
    let mapping = memory_object::new_mapping(address, length, memory)?;
    let flags = page_flags(protection, &memory);
    let mut at = address;
    let mapped = memory.extents(offset, length).try_for_each(|(physical, bytes)| {
        paging::map(&process.tables, process.pml4.get(), at, physical, bytes, flags)
            .map_err(|_| Error::NoMem)?;
        at += bytes;
        Ok(())
    });
    if let Err(error) = mapped {
        clear(process, address, length);
        memory_object::free_mapping(mapping);
        return Err(error);
    }
    Object::Memory(memory).retain();
    process.mappings.push_back(mapping);
    process.mapping_count.set(process.mapping_count.get() + 1);
    process.mapped.set(process.mapped.get() + length / PAGE);
    Ok(())
}

/// Takes a whole mapping away.
pub fn unmap(process: Ref<Process>, address: u64, length: u64) -> Result<()> {
    let mapping = process
        .mappings
        .iter()
        .find(|m| m.address == address && m.length == length)
        .ok_or(Error::Inval)?;
    clear(process, address, length);
    drop_mapping(process, mapping);
    Ok(())
}

/// Clears page-table entries; nobody uses them any more when this returns.
fn clear(process: Ref<Process>, address: u64, length: u64) {
    let pml4 = process.pml4.get();
    paging::unmap(&process.tables, pml4, address, length, invlpg);
    smp::flush(pml4);
}

fn drop_mapping(process: Ref<Process>, mapping: Ref<Mapping>) {
    process.mappings.remove(mapping);
    process.mapping_count.set(process.mapping_count.get() - 1);
    process.mapped.set(process.mapped.get() - mapping.length / PAGE);
    let memory = mapping.memory;
    memory_object::free_mapping(mapping);
    Object::Memory(memory).release();
}

/// Gives the address space of a dead process back.
pub fn destroy(process: Ref<Process>) {
    let pml4 = process.pml4.replace(0);
    scheduler::leave_address_space(pml4);
    while let Some(mapping) = process.mappings.first() {
        drop_mapping(process, mapping);
    }
    process.tables.release_all();
    physical::release_kernel(pml4);
}
