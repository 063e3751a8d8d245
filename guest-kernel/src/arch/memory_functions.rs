//! `memcpy` and friends, which the compiler calls and no C library provides here.
//!
//! `rep movsq`/`stosq`: one emulated instruction moves eight bytes per step where ring 0 is
//! emulated, and the string instructions are the fast ones everywhere else too.

use core::arch::asm;

#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    // SAFETY: the caller's contract is C's: both ranges are valid and do not overlap.
    unsafe {
        asm!(
            "mov {rest}, rcx",
            "shr rcx, 3",
            "rep movsq",
            "mov rcx, {rest}",
            "and ecx, 7",
            "jz 2f",
            "rep movsb",
            "2:",
            rest = out(reg) _,
            inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _,
            options(nostack)
        )
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, len: usize) -> *mut u8 {
    if (to as usize).wrapping_sub(from as usize) >= len {
        // SAFETY: the caller's; copying upwards is right when `to` is not inside the source.
        unsafe {
            asm!("rep movsb", inout("rcx") len => _, inout("rdi") to => _, inout("rsi") from => _, options(nostack))
        }
    } else {
        // SAFETY: the caller's; downwards, and the direction flag is cleared again.
        unsafe {
            asm!("std", "rep movsb", "cld", inout("rcx") len => _,
                inout("rdi") to.wrapping_add(len).wrapping_sub(1) => _,
                inout("rsi") from.wrapping_add(len).wrapping_sub(1) => _, options(nostack))
        }
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, len: usize) -> *mut u8 {
    let pattern = (byte as u8 as u64).wrapping_mul(0x0101_0101_0101_0101);
    // SAFETY: the caller's contract is C's.
    unsafe {
        asm!(
            "mov {rest}, rcx",
            "shr rcx, 3",
            "rep stosq",
            "mov rcx, {rest}",
            "and ecx, 7",
            "jz 2f",
            "rep stosb",
            "2:",
            rest = out(reg) _,
            inout("rcx") len => _, inout("rdi") to => _, in("rax") pattern,
            options(nostack)
        )
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    for i in 0..len {
        // SAFETY: the caller's contract is C's; volatile so that the loop is not turned into a
        // call of this very function.
        let (x, y) = unsafe { (a.add(i).read_volatile(), b.add(i).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, len: usize) -> i32 {
    // SAFETY: the caller's.
    unsafe { memcmp(a, b, len) }
}
