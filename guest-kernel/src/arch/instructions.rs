//! Single instructions.
//!
//! On a page-table-based KVM each costs about 0.3 us in ring 0, and a port access 10 us.

use core::arch::asm;

use core::arch::x86_64::{__cpuid_count, _rdtsc};
use xinim_abi::event::Registers;

/// Writes `value` to an I/O port.
pub fn out8(port: u16, value: u8) {
    // SAFETY: port I/O does not touch the kernel's memory; which ports are used is the caller's
    // business (chipset devices the kernel owns, or a ports object).
    unsafe {
        asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags))
    }
}

pub fn out16(port: u16, value: u16) {
    // SAFETY: as for `out8`.
    unsafe {
        asm!("out dx, ax", in("dx") port, in("ax") value, options(nomem, nostack, preserves_flags))
    }
}

pub fn out32(port: u16, value: u32) {
    // SAFETY: as for `out8`.
    unsafe {
        asm!("out dx, eax", in("dx") port, in("eax") value, options(nomem, nostack, preserves_flags))
    }
}

pub fn in8(port: u16) -> u8 {
    let value: u8;
    // SAFETY: as for `out8`.
    unsafe {
        asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags))
    }
    value
}

pub fn in16(port: u16) -> u16 {
    let value: u16;
    // SAFETY: as for `out8`.
    unsafe {
        asm!("in ax, dx", in("dx") port, out("ax") value, options(nomem, nostack, preserves_flags))
    }
    value
}

pub fn in32(port: u16) -> u32 {
    let value: u32;
    // SAFETY: as for `out8`.
    unsafe {
        asm!("in eax, dx", in("dx") port, out("eax") value, options(nomem, nostack, preserves_flags))
    }
    value
}

/// Model-specific registers the kernel uses.
pub mod msr {
    pub const APIC_BASE: u32 = 0x1B;
    pub const TSC_DEADLINE: u32 = 0x6E0;
    pub const X2APIC: u32 = 0x800;
    pub const STAR: u32 = 0xC000_0081;
    pub const LSTAR: u32 = 0xC000_0082;
    pub const SFMASK: u32 = 0xC000_0084;
    pub const FS_BASE: u32 = 0xC000_0100;
    pub const GS_BASE: u32 = 0xC000_0101;
}

/// # Safety
/// The register must exist and the value must keep the kernel's assumptions.
pub unsafe fn wrmsr(register: u32, value: u64) {
    // SAFETY: the caller's.
    unsafe {
        asm!("wrmsr", in("ecx") register, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags))
    }
}

/// # Safety
/// The register must exist.
pub unsafe fn rdmsr(register: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: the caller's.
    unsafe {
        asm!("rdmsr", in("ecx") register, out("eax") low, out("edx") high,
            options(nostack, preserves_flags))
    }
    u64::from(high) << 32 | u64::from(low)
}

/// Time-stamp counter.
#[inline(always)]
pub fn rdtsc() -> u64 {
    // SAFETY: every x86_64 CPU has it.
    unsafe { _rdtsc() }
}

/// `[eax, ebx, ecx, edx]` of a CPUID leaf.
pub fn cpuid(leaf: u32, subleaf: u32) -> [u32; 4] {
    let r = __cpuid_count(leaf, subleaf);
    [r.eax, r.ebx, r.ecx, r.edx]
}

pub fn read_cr2() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr2", out(reg) value, options(nomem, nostack, preserves_flags)) }
    value
}

/// The registers as they are here, for the report of a panic. `rdi` is this function's own.
#[inline(always)]
pub fn registers_here() -> Registers {
    let mut registers = Registers::default();
    // SAFETY: writes the fields of `registers`, in their order, and nothing else; the kernel is
    // compiled without a red zone, so the push is harmless.
    unsafe {
        asm!(
            "mov [rdi + 0], rax",
            "mov [rdi + 8], rbx",
            "mov [rdi + 16], rcx",
            "mov [rdi + 24], rdx",
            "mov [rdi + 32], rsi",
            "mov [rdi + 40], rdi",
            "mov [rdi + 48], rbp",
            "mov [rdi + 56], rsp",
            "mov [rdi + 64], r8",
            "mov [rdi + 72], r9",
            "mov [rdi + 80], r10",
            "mov [rdi + 88], r11",
            "mov [rdi + 96], r12",
            "mov [rdi + 104], r13",
            "mov [rdi + 112], r14",
            "mov [rdi + 120], r15",
            "lea rax, [rip]",
            "mov [rdi + 128], rax",
            "pushfq",
            "pop rax",
            "mov [rdi + 136], rax",
            in("rdi") &raw mut registers,
            out("rax") _,
        );
    }
    registers
}

pub fn read_cr3() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr3", out(reg) value, options(nomem, nostack, preserves_flags)) }
    value
}

/// # Safety
/// `pml4` must be a top-level table that maps the kernel.
#[inline(always)]
pub unsafe fn write_cr3(pml4: u64) {
    // SAFETY: the caller's.
    unsafe { asm!("mov cr3, {}", in(reg) pml4, options(nostack, preserves_flags)) }
}

pub fn read_cr4() -> u64 {
    let value: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr4", out(reg) value, options(nomem, nostack, preserves_flags)) }
    value
}

/// # Safety
/// The bits must be ones the CPU has and the kernel can live with.
pub unsafe fn write_cr4(value: u64) {
    // SAFETY: the caller's.
    unsafe { asm!("mov cr4, {}", in(reg) value, options(nostack, preserves_flags)) }
}

/// Drops the translation of the page at `address`.
pub fn invlpg(address: u64) {
    // SAFETY: only forgets a cached translation.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack, preserves_flags)) }
}

/// Waits for ever with interrupts off.
pub fn halt_forever() -> ! {
    loop {
        // SAFETY: stops this CPU, which is what is wanted.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}
