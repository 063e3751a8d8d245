//! The CPU: instructions the compiler does not emit, tables, entry and exit.

pub mod clear;
pub mod cpu;
pub mod entry;
pub mod instructions;
pub mod memory_functions;

/// Virtual = `KERNEL_BASE` + physical, for the image.
pub const KERNEL_BASE: u64 = 0xFFFF_FFFF_8000_0000;
/// Virtual = `DIRECT_BASE` + physical, for all RAM.
pub const DIRECT_BASE: u64 = 0xFFFF_8000_0000_0000;

pub const KERNEL_STACK_SIZE: usize = 32 * 1024;

/// A stack in the image.
#[repr(C, align(4096))]
pub struct Stack<const SIZE: usize>(core::cell::UnsafeCell<[u8; SIZE]>);

// SAFETY: used by one CPU, as its stack, and never through this name.
unsafe impl<const SIZE: usize> Sync for Stack<SIZE> {}

impl<const SIZE: usize> Stack<SIZE> {
    pub const fn new() -> Self {
        Self(core::cell::UnsafeCell::new([0; SIZE]))
    }

    /// Address above its last byte.
    pub fn top(&self) -> u64 {
        self.0.get() as u64 + SIZE as u64
    }
}

/// Of the first CPU.
pub static KERNEL_STACK: Stack<KERNEL_STACK_SIZE> = Stack::new();

/// Resets the CPU the hard way: an exception with no descriptor table.
pub fn triple_fault() -> ! {
    let nothing = [0u16; 5];
    // SAFETY: the machine is to be reset; nothing runs after this.
    unsafe {
        core::arch::asm!("lidt [{}]", "ud2", in(reg) &nothing, options(noreturn));
    }
}
