//! Memory objects: frames (or device memory) that processes map.
//!
//! Frames are allocated when the object is made, as runs that are as long as possible, and
//! remembered as runs: (physical address, frames) pairs, some in the object, the others in pages.

use core::cell::Cell;

use xinim_abi::error::{Error, Result};
use xinim_abi::object::{DeviceMemoryFlags, LARGE_PAGE_SIZE, MemoryFlags, PAGE_SIZE};
use xinim_abi::syscall::priority;
use xinim_kernel_logic::frames::CHUNK_ORDER;
use xinim_kernel_logic::list::{Link, Linked};
use xinim_kernel_logic::paging::TableMemory;
use xinim_kernel_logic::refs::{Ref, Slab};

use crate::global::Global;
use crate::physical;
use crate::process::{Process, RS_PID};

const PAGE: u64 = PAGE_SIZE as u64;
const LARGE: u64 = LARGE_PAGE_SIZE as u64;
/// Largest object: what four levels of user addresses could map at all.
const MAX_LENGTH: u64 = 1 << 46;
const INLINE_RUNS: usize = 4;
/// Runs in an overflow page, behind the link to the next.
const PAGE_RUNS: usize = 255;

#[repr(C, align(16))]
pub struct MemoryObject {
    /// Bytes, a multiple of the page size.
    pub length: u64,
    pub flags: MemoryFlags,
    /// Device memory: how it is cached. Its frames are not the kernel's.
    pub device: Option<DeviceMemoryFlags>,
    /// Whose limit it counts against (a process and its pid, as the process may be gone).
    charged: Option<(Ref<Process>, u32)>,
    runs: Cell<u32>,
    first: [Cell<(u64, u64)>; INLINE_RUNS],
    overflow: Cell<u64>,
    last_overflow: Cell<u64>,
    /// Held for a device whose driver died.
    pub quarantined: Cell<u32>,
    pub references: Cell<u32>,
}

/// A part of a memory object in an address space.
#[repr(C, align(16))]
pub struct Mapping {
    pub address: u64,
    pub length: u64,
    pub memory: Ref<MemoryObject>,
    link: Link<Mapping>,
}

impl Linked<0> for Mapping {
    fn link(&self) -> &Link<Self> {
        &self.link
    }
}

static OBJECTS: Global<Slab<MemoryObject>> = Global::new(Slab::new());
static MAPPINGS: Global<Slab<Mapping>> = Global::new(Slab::new());

pub fn new_mapping(address: u64, length: u64, memory: Ref<MemoryObject>) -> Result<Ref<Mapping>> {
    let mapping = Mapping { address, length, memory, link: Link::new() };
    MAPPINGS.allocate(mapping, physical::slab_page).ok_or(Error::NoMem)
}

pub fn free_mapping(mapping: Ref<Mapping>) {
    MAPPINGS.release(mapping);
}

fn empty(length: u64, flags: MemoryFlags, device: Option<DeviceMemoryFlags>) -> MemoryObject {
    MemoryObject {
        length,
        flags,
        device,
        charged: None,
        runs: Cell::new(0),
        first: [const { Cell::new((0, 0)) }; INLINE_RUNS],
        overflow: Cell::new(0),
        last_overflow: Cell::new(0),
        quarantined: Cell::new(0),
        references: Cell::new(1),
    }
}

/// Device memory, or memory that was there before the kernel.
pub fn create_device(
    start: u64,
    length: u64,
    cache: DeviceMemoryFlags,
) -> Result<Ref<MemoryObject>> {
    let memory = empty(length, MemoryFlags::CONTIGUOUS, Some(cache));
    memory.first[0].set((start, length / PAGE));
    memory.runs.set(1);
    OBJECTS.allocate(memory, physical::slab_page).ok_or(Error::NoMem)
}

/// Zeroed memory, counted against `process` if there is one. The caller owns one reference.
pub fn create(
    process: Option<Ref<Process>>,
    length: u64,
    flags: MemoryFlags,
) -> Result<Ref<MemoryObject>> {
    let unit = if flags.contains(MemoryFlags::LARGE) { LARGE } else { PAGE };
    if length == 0 || length > MAX_LENGTH {
        return Err(Error::Inval);
    }
    let length = length.next_multiple_of(unit);
    let frames = length / PAGE;
    let (total, free, _) = physical::counts();
    if frames + process.map_or(0, |process| reserve(&process, frames, total)) > free {
        return Err(Error::NoMem);
    }
    if let Some(process) = process {
        let used = process.frames.get() + frames;
        if used > process.frame_limit.get() {
            return Err(Error::Limit);
        }
    }
    let mut memory = empty(length, flags, None);
    memory.charged = process.map(|process| (process, process.pid));
    let memory = OBJECTS.allocate(memory, physical::slab_page).ok_or(Error::NoMem)?;
    if let Some(process) = process {
        process.frames.set(process.frames.get() + frames);
    }
    match fill(&memory, frames, flags) {
        Some(()) => Ok(memory),
        None => {
            destroy(memory);
            Err(Error::NoMem)
        }
    }
}

/// Frames that a process has to leave when it takes `more`: programs to services, so that these go on when a
/// program takes all there is; a large program to smaller ones, so that these go on, too; services to RS, so
/// that it can start them again.
fn reserve(process: &Process, more: u64, total: u64) -> u64 {
    match process.priority_limit.get() {
        _ if process.pid == RS_PID => 0,
        limit if limit <= priority::USER as u32 => {
            total / 32 + process.frames.get().saturating_add(more) / 8
        }
        _ => total / 128,
    }
}

fn fill(memory: &MemoryObject, frames: u64, flags: MemoryFlags) -> Option<()> {
    let limit = if flags.contains(MemoryFlags::BELOW_16M) {
        16 << 20
    } else if flags.contains(MemoryFlags::BELOW_4G) {
        4 << 30
    } else {
        u64::MAX
    };
    if flags.contains(MemoryFlags::CONTIGUOUS) {
        let order = frames.next_power_of_two().trailing_zeros();
        let (address, got) = if order <= CHUNK_ORDER {
            (physical::allocate(order, limit)?, 1 << order)
        } else {
            let chunks = frames.div_ceil(1 << CHUNK_ORDER);
            (physical::allocate_chunks(chunks as usize, limit)?, chunks << CHUNK_ORDER)
        };
        if got > frames {
            physical::release(address + frames * PAGE, got - frames);
        }
        return memory.add_run(address, frames);
    }
    let mut left = frames;
    let mut order = CHUNK_ORDER;
    while left > 0 {
        order = order.min(left.ilog2());
        match physical::allocate(order, limit) {
            Some(address) => {
                if memory.add_run(address, 1 << order).is_none() {
                    physical::release(address, 1 << order);
                    return None;
                }
                left -= 1 << order;
            }
            // Pieces of this size are used up: smaller ones, unless large pages were promised.
            None if order > 0 && !flags.contains(MemoryFlags::LARGE) => order -= 1,
            None => return None,
        }
    }
    Some(())
}

impl MemoryObject {
    fn add_run(&self, address: u64, frames: u64) -> Option<()> {
        let count = self.runs.get() as usize;
        if let Some(slot) = self.first.get(count) {
            slot.set((address, frames));
        } else {
            let index = (count - INLINE_RUNS) % PAGE_RUNS;
            if index == 0 {
                let page = physical::allocate_kernel()?;
                match self.last_overflow.replace(page) {
                    0 => self.overflow.set(page),
                    last => physical::Tables.table(last)[0].set(page),
                }
            }
            let page = physical::Tables.table(self.last_overflow.get());
            page[2 + index * 2].set(address);
            page[3 + index * 2].set(frames);
        }
        self.runs.set(self.runs.get() + 1);
        Some(())
    }

    fn all_runs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let mut page = self.overflow.get();
        (0..self.runs.get() as usize).map(move |number| {
            if let Some(slot) = self.first.get(number) {
                return slot.get();
            }
            let index = (number - INLINE_RUNS) % PAGE_RUNS;
            if index == 0 && number > INLINE_RUNS {
                page = physical::Tables.table(page)[0].get();
            }
            let table = physical::Tables.table(page);
            (table[2 + index * 2].get(), table[3 + index * 2].get())
        })
    }

    /// The physical runs of `length` bytes from `offset`: (address, bytes).
    pub fn extents(&self, offset: u64, length: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let end = offset + length;
        let mut position = 0;
        self.all_runs().filter_map(move |(address, frames)| {
            let (from, to) = (position, position + frames * PAGE);
            position = to;
            let (first, last) = (from.max(offset), to.min(end));
            (first < last).then(|| (address + (first - from), last - first))
        })
    }

    pub fn frames(&self) -> u64 {
        self.length / PAGE
    }
}

/// Nobody has it any more.
pub fn destroy(memory: Ref<MemoryObject>) {
    if memory.device.is_none() {
        memory.all_runs().for_each(|(address, frames)| physical::release(address, frames));
        if let Some((process, pid)) = memory.charged
            && process.pid == pid
        {
            process.frames.set(process.frames.get().saturating_sub(memory.frames()));
        }
    }
    let mut page = memory.overflow.get();
    while page != 0 {
        let next = physical::Tables.table(page)[0].get();
        physical::release_kernel(page);
        page = next;
    }
    OBJECTS.release(memory);
}

pub fn live() -> u32 {
    OBJECTS.live()
}
