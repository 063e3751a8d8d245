//! Standing by: a process that RS made ahead for the next instance of its service gets everything done
//! that needs neither the device nor the state of the instance that still runs, and waits. A restart then
//! has only to let it go on.
//!
//! ```text
//! start, flag STANDBY --> warm: every page of its own touched --> [main: prepares] --> wait ==> go on
//! start ------------------------------------------------------> [main: prepares] -----------> go on
//! ```
//! A page that is touched for the first time costs an exit from the machine wherever page tables are
//! shadowed, and a fault less expensive elsewhere.

use alloc::vec::Vec;
use core::ops::Range;
use xinim_abi::error::Result;
use xinim_abi::info::{Kind, SystemInfo};
use xinim_abi::services::rs::rs;
use xinim_abi::start::flag;

use crate::{ipc, kip, start, sys};

const PAGE: usize = 4096;

/// Where programs begin, as the linker script says.
const IMAGE: usize = 0x40_0000;

/// A program in memory: its first writable byte and its end.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    pub data: usize,
    pub end: usize,
}

/// Whether this process was made ahead.
pub fn is_spare() -> bool {
    start::has_flag(flag::STANDBY)
}

/// Whether it is worth while to make memory ahead: this is a spare, and there is plenty.
pub fn may_make_memory() -> bool {
    let plenty = |info: SystemInfo| info.frames_free > info.frames_total / 4;
    is_spare() && sys::info::<SystemInfo>(Kind::System, 0).is_ok_and(plenty)
}

/// Touches the pages of this program, of its first memory and its stack, if it was made ahead.
pub(crate) fn warm(image: Image) {
    if !is_spare() {
        return;
    }
    // SAFETY: between the ends that the linker gave this program everything is mapped, from `data` on for
    // writing, and so is the stack, whose size the loader told.
    unsafe {
        touch(IMAGE..image.data, false);
        touch(image.data..image.end, true);
        touch(start::stack(), true);
    }
    let _ = kip::now_ns();
}

/// Touches pages, leaving them as they are.
///
/// # Safety
/// They are mapped, for writing where that is asked, and there is no other thread.
unsafe fn touch(pages: Range<usize>, write: bool) {
    for page in pages.step_by(PAGE) {
        let byte = page as *mut u8;
        // SAFETY: the caller's. What is written is what was there, and nobody could have written meanwhile.
        unsafe {
            let value = byte.read_volatile();
            if write {
                byte.write_volatile(value);
            }
        }
    }
}

/// Has the heap grow by `len` bytes, touched in a process that was made ahead.
pub fn grow_heap(len: usize) {
    let mut bytes = Vec::<u8>::new();
    // Where there is no memory for it there will be when it is needed, or not.
    if bytes.try_reserve_exact(len).is_ok() && is_spare() {
        for page in bytes.spare_capacity_mut().chunks_mut(PAGE) {
            core::hint::black_box(page)[0].write(0);
        }
    }
}

/// Ready: goes on when this is the service's instance. Costs nothing where it is that from its start.
pub fn wait() -> Result<()> {
    match is_spare() {
        true => ipc::call(start::rs(), &rs::Standby {}).map(drop),
        false => Ok(()),
    }
}
