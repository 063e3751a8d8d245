//! Clearing frames.
//!
//! Where ring 0 is emulated, instruction by instruction, `rep stosq` takes a step for every eight bytes.
//! There one `fxsave64` of an FPU that is full of zeros writes 416 bytes at a time:
//!
//! ```text
//! page  |head|zeros ......|head|zeros ......| ... |head|zeros ......| stosq |
//!       0    32           416  448                3584 3616         4000    4096
//! ```
//! The heads (control words, and what some processors do not write) are cleared by plain stores. Everywhere
//! else `rep stosq` is the fast way.

use core::arch::asm;

use super::cpu::{fxrstor, fxsave};
use crate::global::Global;

const FPU: usize = 512;

#[repr(C, align(16))]
struct Area {
    bytes: core::cell::UnsafeCell<[u8; FPU]>,
}

impl Area {
    const fn new() -> Self {
        Self { bytes: core::cell::UnsafeCell::new([0; FPU]) }
    }
}

/// The FPU of whoever was interrupted, meanwhile; guarded by the kernel lock.
static KEPT: Global<Area> = Global::new(Area::new());
/// All registers and control words zero.
static EMPTY: Global<Area> = Global::new(Area::new());

/// Clears pages of 4 KiB where ring 0 is emulated.
///
/// # Safety
/// They are nobody else's, mapped at `start`, which is aligned to a page.
pub unsafe fn by_fpu(start: *mut u8, pages: usize) {
    fxsave(KEPT.bytes.get().cast());
    fxrstor(EMPTY.bytes.get().cast());
    for page in 0..pages {
        // SAFETY: all stores are within the page, which the caller owns; every area is aligned to 16.
        unsafe {
            asm!(
                ".irp at, 0, 416, 832, 1248, 1664, 2080, 2496, 2912, 3328, 3584",
                "fxsave64 [{page} + \\at]",
                ".endr",
                ".irp at, 0, 416, 832, 1248, 1664, 2080, 2496, 2912, 3328, 3584",
                "mov [{page} + \\at], rax",
                "mov [{page} + \\at + 8], rax",
                "mov [{page} + \\at + 16], rax",
                "mov [{page} + \\at + 24], rax",
                ".endr",
                "rep stosq",
                page = in(reg) start.add(page * 4096),
                in("rax") 0u64,
                inout("rdi") start.add(page * 4096 + 4000) => _,
                inout("rcx") 96 / 8 => _,
                options(nostack, preserves_flags)
            )
        }
    }
    fxrstor(KEPT.bytes.get().cast());
}
