//! RAM: the frame allocator, the direct map, and slots for device registers.

use core::cell::Cell;
use core::ptr::NonNull;

use xinim_kernel_logic::frames::{Block, CHUNK, Chunk, FRAME, Frames};
use xinim_kernel_logic::paging::{self, Table, TableMemory};
use xinim_kernel_logic::refs::SlabPage;

use crate::arch::instructions::{cpuid, invlpg};
use crate::arch::{DIRECT_BASE, KERNEL_BASE, clear};
use crate::boot_info::{BootInfo, Range};
use crate::global::Global;
use crate::kip;

static FRAMES: Global<Frames> = Global::new(Frames::new());
static KERNEL_FRAMES: Global<Cell<u64>> = Global::new(Cell::new(0));
static MMIO_SLOTS: Global<Cell<u64>> = Global::new(Cell::new(0));

/// Below this there is no point in going on: kernel, tables and RS want most of it.
pub const MIN_RAM: u64 = 15 << 20;
/// RAM from here on is preferred, so that what lies below is left for old DMA engines.
const PREFERRED: u64 = 16 << 20;
/// The direct map is one entry of the top-level table.
const MAX_PHYSICAL: u64 = 512 << 30;

unsafe extern "C" {
    static text_start: u8;
    static text_end: u8;
    static data_start: u8;
    static image_end: u8;
    static boot_pdpt_direct: Table;
    static boot_pt_mmio: Table;
}

/// Address in the direct map.
#[inline(always)]
pub fn direct(physical: u64) -> u64 {
    DIRECT_BASE + physical
}

/// Physical address of a direct-map address.
pub fn of_direct(address: u64) -> u64 {
    address - DIRECT_BASE
}

/// Physical address of something in the image.
pub fn of_image<T>(item: &T) -> u64 {
    core::ptr::from_ref(item) as u64 - KERNEL_BASE
}

fn image_ranges() -> [Range; 2] {
    // SAFETY: only the addresses of the linker's symbols are taken.
    let (a, b, c, d) = unsafe { (&text_start, &text_end, &data_start, &image_end) };
    [Range { start: of_image(a), end: of_image(b) }, Range { start: of_image(c), end: of_image(d) }]
}

/// Builds the allocator from the machine's memory map and completes the direct map.
pub fn start(boot: &BootInfo) {
    let top = boot.ram().map(|r| r.end).max().unwrap_or(0).min(MAX_PHYSICAL);
    let bytes: u64 = boot.ram().map(|r| r.end - r.start).sum();
    assert!(
        bytes >= MIN_RAM,
        "too little memory: {} KiB of RAM, at least 16 MiB are needed",
        bytes >> 10
    );
    let chunks: u64 = boot.ram().map(|r| (r.end - r.start) / CHUNK + 2).sum();
    let length = (chunks * size_of::<Chunk>() as u64).next_multiple_of(FRAME);
    let reserved = || image_ranges().into_iter().chain(boot.reserved());
    // Behind the image, or behind whatever the loader put there.
    let mut start = image_ranges()[1].end;
    while let Some(other) = reserved().find(|r| r.start < start + length && r.end > start) {
        start = other.end.next_multiple_of(FRAME);
    }
    assert!(
        start + length <= 1 << 30
            && boot.ram().any(|r| r.start <= start && start + length <= r.end),
        "no room for the frame table"
    );
    let table = direct(start) as *mut u8;
    // SAFETY: the range is RAM in the first GiB, mapped, and nobody else's as just checked; zero
    // bytes are valid records.
    let table: &'static [Chunk] = unsafe {
        if !boot.ram_zeroed {
            core::ptr::write_bytes(table, 0, length as usize);
        }
        core::slice::from_raw_parts(table.cast(), chunks as usize)
    };
    FRAMES.start(table, boot.ram_zeroed);
    boot.ram().filter(|r| r.end > 1 << 20).for_each(|r| {
        FRAMES.add_ram(r.start.max(1 << 20), r.end.min(MAX_PHYSICAL));
    });
    for range in reserved() {
        FRAMES.reserve(range.start, range.end);
    }
    FRAMES.reserve(start, start + length);
    FRAMES.prefer_from(if bytes > 2 * PREFERRED { PREFERRED } else { image_ranges()[1].end });
    KERNEL_FRAMES.set(length / FRAME);
    extend_direct_map(top);
}

/// Maps RAM above the first GiB, by pages of 1 GiB where the CPU has them.
fn extend_direct_map(top: u64) {
    let huge = cpuid(0x8000_0001, 0)[3] & 1 << 26 != 0;
    // SAFETY: the table is part of the image.
    let pdpt = unsafe { &boot_pdpt_direct };
    for gib in 1..top.div_ceil(1 << 30) {
        let base = gib << 30;
        if !FRAMES.overlaps_ram(base, base + (1 << 30)) {
            continue;
        }
        let entry = if huge {
            base | 0x1E3
        } else {
            let frame = allocate_kernel().expect("no memory for the direct map");
            let directory = Tables.table(frame);
            (0u64..).zip(directory).for_each(|(i, e)| e.set((base + i * CHUNK) | 0x1E3));
            frame | 0x23
        };
        pdpt[gib as usize].set(entry);
    }
}

/// `len` bytes of memory at a physical address, if the direct map covers them.
pub fn bytes(address: u64, len: usize) -> Option<&'static [u8]> {
    let last = address.checked_add(len as u64)?.saturating_sub(1);
    let mapped = last - address <= 1 << 30 && is_direct(address) && is_direct(last);
    // SAFETY: mapped by the direct map; only used for what firmware and loader left there, which
    // nobody writes.
    mapped.then(|| unsafe { core::slice::from_raw_parts(direct(address) as *const u8, len) })
}

/// Whether the direct map covers a physical address.
pub fn is_direct(address: u64) -> bool {
    // SAFETY: the table is part of the image.
    let pdpt = unsafe { &boot_pdpt_direct };
    pdpt.get((address >> 30) as usize).is_some_and(|entry| entry.get() != 0)
}

/// Clears `frames` frames.
fn clear(address: u64, frames: u64) {
    let start = direct(address) as *mut u8;
    // SAFETY: the frames are RAM that was just allocated, so nobody else's.
    unsafe {
        if kip::native() {
            core::ptr::write_bytes(start, 0, (frames * FRAME) as usize);
        } else {
            clear::by_fpu(start, frames as usize);
        }
    }
}

/// A zeroed block of `1 << order` frames that ends at or below `limit`.
pub fn allocate(order: u32, limit: u64) -> Option<u64> {
    zeroed(FRAMES.allocate(order, limit)?, 1 << order)
}

/// A zeroed run of `count` chunks of 2 MiB.
pub fn allocate_chunks(count: usize, limit: u64) -> Option<u64> {
    zeroed(FRAMES.allocate_chunks(count, limit)?, count as u64 * (CHUNK / FRAME))
}

fn zeroed(block: Block, frames: u64) -> Option<u64> {
    if !block.fresh {
        clear(block.address, frames);
    }
    Some(block.address)
}

pub fn release(address: u64, frames: u64) {
    FRAMES.release(address, frames);
}

/// A zeroed frame for the kernel's own use.
pub fn allocate_kernel() -> Option<u64> {
    let frame = allocate(0, u64::MAX)?;
    KERNEL_FRAMES.set(KERNEL_FRAMES.get() + 1);
    Some(frame)
}

pub fn release_kernel(frame: u64) {
    KERNEL_FRAMES.set(KERNEL_FRAMES.get() - 1);
    release(frame, 1);
}

/// A page for a slab.
pub fn slab_page() -> Option<SlabPage> {
    let frame = allocate_kernel()?;
    let pointer = NonNull::new(direct(frame) as *mut u8)?;
    // SAFETY: a whole frame, page-aligned, given away for good.
    Some(unsafe { SlabPage::new(pointer) })
}

/// Frames in total, free, and used by the kernel.
pub fn counts() -> (u64, u64, u64) {
    let (total, free) = FRAMES.counts();
    (total, free, KERNEL_FRAMES.get())
}

/// Whether the kernel manages any of `start..end` as RAM.
pub fn is_ram(start: u64, end: u64) -> bool {
    FRAMES.overlaps_ram(start, end)
}

/// Page tables in the direct map.
pub struct Tables;

impl TableMemory for Tables {
    #[inline(always)]
    fn table(&self, address: u64) -> &'static Table {
        // SAFETY: the address is that of a frame used as a page table: page-aligned, mapped, 512
        // entries, changed through cells only.
        unsafe { &*(direct(address) as *const Table) }
    }

    fn allocate(&self) -> Option<u64> {
        allocate_kernel()
    }
}

const MMIO_BASE: u64 = 0xFFFF_FFFF_C000_0000;
const MMIO_LAST_SLOT: u64 = 511;

fn map_slot(slot: u64, physical: u64) -> u64 {
    let address = MMIO_BASE + slot * FRAME;
    // SAFETY: the table is part of the image; slots map nothing but device registers.
    let table = unsafe { &boot_pt_mmio };
    table[slot as usize].set(
        (physical & !(FRAME - 1))
            | paging::PRESENT
            | paging::WRITE
            | paging::CACHE_DISABLE
            | paging::WRITE_THROUGH
            | paging::NO_EXECUTE
            | 0x60,
    );
    invlpg(address);
    address + physical % FRAME
}

/// Maps the page of device registers at `physical` for good; gives the address of `physical`.
pub fn map_registers(physical: u64) -> u64 {
    let slot = MMIO_SLOTS.get();
    assert!(slot < MMIO_LAST_SLOT, "too many devices to map");
    MMIO_SLOTS.set(slot + 1);
    map_slot(slot, physical)
}

/// Maps a page of device registers until the next call.
pub fn map_registers_briefly(physical: u64) -> u64 {
    map_slot(MMIO_LAST_SLOT, physical)
}

/// 32-bit register access.
pub fn read32(address: u64) -> u32 {
    // SAFETY: the address came from `map_registers`.
    unsafe { (address as *const u32).read_volatile() }
}

pub fn write32(address: u64, value: u32) {
    // SAFETY: the address came from `map_registers`.
    unsafe { (address as *mut u32).write_volatile(value) }
}
