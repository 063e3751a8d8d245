//! The heap: talc over a small static arena, then over memory objects of growing size.
//!
//! The arena saves small programs every system call; the objects are mapped by 2 MiB pages once
//! they are that large.

use core::alloc::Layout;

use talc::{OomHandler, Span, Talc, Talck};
use xinim_abi::object::{LARGE_PAGE_SIZE, MemoryFlags, PAGE_SIZE, Protection, SELF};

use crate::{memory, sys};

pub type Heap = Talck<spin::Mutex<()>, Grow>;

const ARENA_LEN: usize = 32 * 1024;
const FIRST_GROWTH: usize = 128 * 1024;
const LARGEST_GROWTH: usize = 4 * LARGE_PAGE_SIZE;

#[repr(align(4096))]
struct Arena(core::cell::UnsafeCell<[u8; ARENA_LEN]>);

// SAFETY: only the allocator touches the arena, under its own lock.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(core::cell::UnsafeCell::new([0; ARENA_LEN]));

/// Gets more memory from the kernel when talc has none left.
#[derive(Debug)]
pub struct Grow {
    next: usize,
}

pub const fn new() -> Heap {
    Talc::new(Grow { next: 0 }).lock()
}

impl OomHandler for Grow {
    fn handle_oom(talc: &mut Talc<Self>, layout: Layout) -> Result<(), ()> {
        let handler = &mut talc.oom_handler;
        if handler.next == 0 {
            handler.next = FIRST_GROWTH;
            let base = ARENA.0.get().cast::<u8>();
            let span = Span::from_base_size(base, ARENA_LEN);
            // SAFETY: the arena is ours alone and claimed once (`next` was 0).
            unsafe { talc.claim(span)? };
            return Ok(());
        }
        // Room for the block, its alignment and talc's own words.
        let need = layout.size().checked_add(layout.align()).and_then(|n| n.checked_add(1024));
        let need = need.ok_or(())?.max(handler.next);
        handler.next = (handler.next * 2).min(LARGEST_GROWTH);
        let large = need >= LARGE_PAGE_SIZE;
        let unit = if large { LARGE_PAGE_SIZE } else { PAGE_SIZE };
        let len = need.checked_next_multiple_of(unit).ok_or(())?;
        let flags = if large { MemoryFlags::LARGE } else { MemoryFlags::empty() };
        let object = sys::memory_create(len as u64, flags).map_err(drop)?;
        let address = memory::reserve(len as u64).ok_or(())?;
        let protection = Protection::READ | Protection::WRITE;
        let mapped = sys::memory_map(SELF, object, address, 0, len as u64, protection);
        // The mapping keeps the memory; the handle is not needed.
        let _ = sys::handle_close(object);
        mapped.map_err(drop)?;
        let span = Span::from_base_size(address as *mut u8, len);
        // SAFETY: freshly mapped for nobody else, never unmapped.
        unsafe { talc.claim(span)? };
        Ok(())
    }
}
