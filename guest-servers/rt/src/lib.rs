//! Run-time library of XINIM programs.
//!
//! A program is `#![no_std] #![no_main]` and says `xinim_rt::program!(main);` with
//! `fn main() -> i32`. The library keeps all `unsafe` of user space: system calls, mappings,
//! device registers. What it hands out is safe to use whatever a peer does: shared memory is
//! copied in and out or accessed through atomics, never lent as a slice.
//!
//! Layers: [`sys`] (one function per system call) < [`handle`], [`memory`], [`ipc`] < [`server`]
//! (for services) and [`fs`], [`net`], [`io`], [`process`] (for programs).
#![no_std]

extern crate alloc;

pub mod fs;
pub mod handle;
pub mod heap;
pub mod io;
pub mod ipc;
pub mod keep;
pub mod kip;
pub mod loader;
pub mod log;
mod mem;
pub mod memory;
pub mod net;
pub mod process;
pub mod rs;
pub mod server;
pub mod standby;
pub mod start;
pub mod sys;
pub mod thread;
pub mod time;
pub mod trace;
pub mod window;

pub use xinim_abi as abi;
pub use xinim_abi::error::{Error, Result};

/// Makes `main: fn() -> i32` a program: entry point, panic handler, heap. With `prepares` a service gets
/// ready in `main` before it calls [`standby::wait`], which it must do before it touches anything that
/// another instance of it may use.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        $crate::program!($main, false);
    };
    ($main:path, prepares) => {
        $crate::program!($main, true);
    };
    ($main:path, $prepares:literal) => {
        #[global_allocator]
        static HEAP: $crate::heap::Heap = $crate::heap::new();

        #[panic_handler]
        fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
            $crate::start::panicked(info)
        }

        core::arch::global_asm!(
            ".globl _start",
            "_start:",
            "xor ebp, ebp",
            "and rsp, -16",
            "call {entry}",
            "ud2",
            entry = sym __xinim_entry,
        );

        unsafe extern "C" {
            // The linker script's.
            static __xinim_data: u8;
            static __xinim_end: u8;
        }

        extern "C" fn __xinim_entry(block: u64) -> ! {
            let (data, end) = (&raw const __xinim_data as usize, &raw const __xinim_end as usize);
            $crate::start::run(block, $main, $prepares, $crate::standby::Image { data, end })
        }

        // The shipped `core` and `alloc` carry unwind tables that name these; nothing unwinds
        // here (panic = abort).
        #[unsafe(no_mangle)]
        extern "C" fn rust_eh_personality() {}

        #[unsafe(no_mangle)]
        extern "C" fn _Unwind_Resume() -> ! {
            $crate::process::exit(101)
        }
    };
}
