//! The gate, by hand.

use core::arch::asm;

use xinim_abi::kip::{GATE_ADDRESS, KIP_ADDRESS, KernelInfoPage};
use xinim_abi::syscall as nr;

/// Registers after a system call: rax and rdx.
pub fn raw2(number: u64, a: [u64; 6]) -> (u64, u64) {
    let (mut rax, mut rdx) = (number, a[2]);
    // SAFETY: the gate is the kernel's; the kernel touches only memory that the arguments name.
    unsafe {
        asm!("call {gate}", gate = in(reg) GATE_ADDRESS, inout("rax") rax, in("rdi") a[0],
            in("rsi") a[1], inout("rdx") rdx, in("r10") a[3], in("r8") a[4], in("r9") a[5],
            out("rcx") _, out("r11") _);
    }
    (rax, rdx)
}

pub fn raw(number: u64, a: [u64; 6]) -> u64 {
    raw2(number, a).0
}

pub fn log(text: &str) {
    raw(nr::LOG_WRITE, [text.as_ptr() as u64, text.len() as u64, 0, 0, 0, 0]);
}

pub fn kip() -> &'static KernelInfoPage {
    // SAFETY: the kernel maps the page here in every process, for ever.
    unsafe { &*(KIP_ADDRESS as *const KernelInfoPage) }
}

/// Nanoseconds since boot.
pub fn now() -> u64 {
    let k = kip();
    // SAFETY: every x86_64 CPU has it.
    let ticks = unsafe { core::arch::x86_64::_rdtsc() } - k.tsc_base;
    ((u128::from(ticks) * u128::from(k.tsc_mult)) >> k.tsc_shift) as u64
}
