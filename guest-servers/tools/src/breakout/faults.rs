//! Attempts that the processor must refuse: memory, instructions, ports.

use core::arch::asm;
use core::hint::black_box;

use xinim_abi::kip::KIP_ADDRESS;
use xinim_abi::object::{MemoryFlags, Protection, SELF};
use xinim_rt::sys;

use super::Attempt;

/// Where the kernel is linked, and where it would map all memory.
const KERNEL: u64 = 0xFFFF_FFFF_8000_0000;
const DIRECT_MAP: u64 = 0xFFFF_8000_0000_0000;
/// Where the parent maps its secret; no other process has anything there.
const SECRET: u64 = 0x2345_6000_0000;
const SECRET_LEN: u64 = 4096;
const SECRET_VALUE: u64 = 0x5EC2_E75E_C2E7_5EC2;

pub const ATTEMPTS: &[(&str, &str, Attempt)] = &[
    ("kernel-read", "reading kernel memory", || read(KERNEL)),
    ("kernel-write", "writing kernel memory", || write(KERNEL + 0x20_0000)),
    ("kernel-execute", "executing kernel memory", || execute(KERNEL + 0x20_0000)),
    ("physical-read", "reading the kernel's map of all memory", || read(DIRECT_MAP)),
    ("non-canonical", "reading a non-canonical address", || read(0x8000_0000_0000_0000)),
    ("null", "reading at address 0", || read(0)),
    ("process-read", "reading another process's memory", || read(SECRET)),
    ("process-write", "writing another process's memory", || write(SECRET)),
    ("kip-write", "writing the kernel information page", || write(KIP_ADDRESS)),
    ("gate-write", "writing the kernel's entry gate", || write(KIP_ADDRESS + 4096)),
    ("text-write", "writing program text", || write(text_write_target())),
    ("data-execute", "executing data", execute_data),
    ("stack-overflow", "running off the stack", || overflow(0) == 0),
    ("port-write", "writing ports (exit device)", port_write),
    ("port-read", "reading ports (UART)", port_read),
    // SAFETY: no memory is touched; each must end this process.
    ("hlt", "stopping the processor", || unsafe { instruction(|| asm!("hlt")) }),
    // SAFETY: as above.
    ("cli", "switching interrupts off", || unsafe { instruction(|| asm!("cli")) }),
    // SAFETY: as above; zero is no page table, so success would end the machine visibly.
    ("cr3", "changing the page table", || unsafe {
        instruction(|| asm!("mov cr3, {}", in(reg) 0u64))
    }),
    // SAFETY: as above (IA32_LSTAR).
    ("wrmsr", "changing the system call entry", || unsafe {
        instruction(|| asm!("wrmsr", in("ecx") 0xC000_0082u32, in("eax") 0, in("edx") 0))
    }),
];

fn read(address: u64) -> bool {
    // SAFETY: deliberately not: nothing may be readable there, so this ends the process. If it
    // does not, a read has changed nothing.
    black_box(unsafe { (black_box(address) as *const u64).read_volatile() });
    false
}

fn write(address: u64) -> bool {
    // SAFETY: deliberately not: nothing may be writable there, so this ends the process.
    unsafe { (black_box(address) as *mut u64).write_volatile(0) };
    false
}

fn execute(address: u64) -> bool {
    // SAFETY: deliberately not: nothing may be executable there, so this ends the process. The
    // other code at these addresses, if it ran, could do anything, which is what is tested.
    unsafe { asm!("call {}", in(reg) black_box(address), clobber_abi("C")) };
    false
}

fn text_write_target() -> u64 {
    text_write_target as *const () as u64
}

fn execute_data() -> bool {
    // A `ret`: if data were executable, this would come back.
    let code = black_box([0xC3u8; 16]);
    execute(code.as_ptr() as u64)
}

#[allow(unconditional_recursion)]
fn overflow(depth: u64) -> u64 {
    let page = black_box([depth; 512]);
    overflow(depth + 1) + page[7]
}

fn port_write() -> bool {
    // SAFETY: must end this process; otherwise the exit device ends the machine, visibly.
    unsafe { asm!("out dx, al", in("dx") 0xF4u16, in("al") 0u8) };
    false
}

fn port_read() -> bool {
    // SAFETY: must end this process; a read of the line status changes nothing of ours.
    unsafe { asm!("in al, dx", in("dx") 0x3FDu16, out("al") _) };
    false
}

/// # Safety
/// The instruction must not touch memory.
unsafe fn instruction(run: impl FnOnce()) -> bool {
    run();
    false
}

/// Maps a page with a known value.
pub fn map_secret() {
    let flags = MemoryFlags::empty();
    let Ok(memory) = sys::memory_create(SECRET_LEN, flags) else { return };
    let protection = Protection::READ | Protection::WRITE;
    if sys::memory_map(SELF, memory, SECRET, 0, SECRET_LEN, protection).is_ok() {
        // SAFETY: just mapped, ours alone, and 4 KiB long.
        unsafe { (SECRET as *mut u64).write_volatile(SECRET_VALUE) };
    }
}

/// Still the value; only in the process that called [`map_secret`].
pub fn secret_is_whole() -> bool {
    // SAFETY: mapped by `map_secret`; where that failed this ends the process with an error.
    unsafe { (SECRET as *const u64).read_volatile() == SECRET_VALUE }
}
