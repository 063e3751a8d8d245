//! Memory accounting: hostile input must not make a file system take more than its share.
//!
//! ```ignore
//! #[global_allocator]
//! static MEMORY: xinim_fs_testing::memory::Counting = xinim_fs_testing::memory::Counting;
//! let (result, peak) = xinim_fs_testing::memory::peak_of(|| mount(..));
//! ```
//! Counts per thread, so tests that run side by side do not disturb each other.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counted.
#[derive(Debug)]
pub struct Counting;

fn add(bytes: isize) {
    // A thread that is ending has no counters any more.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now.get())));
    });
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        add(layout.size() as isize);
        // SAFETY: the caller keeps `GlobalAlloc`'s contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        add(-(layout.size() as isize));
        // SAFETY: the caller keeps `GlobalAlloc`'s contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs `action`; with its result the most bytes this thread had allocated meanwhile, beyond what it
/// had before. 0 unless [`Counting`] is the global allocator.
pub fn peak_of<R>(action: impl FnOnce() -> R) -> (R, usize) {
    let before = NOW.with(Cell::get);
    PEAK.with(|peak| peak.set(before));
    let result = action();
    let peak = PEAK.with(Cell::get) - before;
    (result, usize::try_from(peak).unwrap_or(0))
}
