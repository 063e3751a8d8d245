//! Self-test of the kernel's system calls. Packed as `sbin/rs` of a bundle of its own, it is the
//! first process: it tries every call, every refusal and every way to die, writes a line for each
//! test to the kernel log and powers off; the last line says `kernel-test: all passed` or how many
//! failed. With `bench` on the kernel command line it measures the IPC paths instead.
//!
//! It stands on the system calls alone, without the run-time library.
#![cfg_attr(panic = "abort", no_std, no_main)]

#[cfg(not(panic = "abort"))]
fn main() {
    eprintln!("kernel-test runs on the XINIM kernel; see docs/kernel-abi.md");
}

#[cfg(panic = "abort")]
mod sys;

#[cfg(panic = "abort")]
core::arch::global_asm!(
    ".global _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call {main}",
    "ud2",
    main = sym start,
);

#[cfg(panic = "abort")]
extern "C" fn start(_block: u64) -> ! {
    sys::log("hello from ring 3");
    sys::log("again");
    loop {
        sys::raw(xinim_abi::syscall::THREAD_SLEEP, [sys::now() + 100_000_000, 0, 0, 0, 0, 0]);
        sys::log("slept");
    }
}

#[cfg(panic = "abort")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    let _ = info;
    sys::log("kernel-test panicked");
    sys::raw(xinim_abi::syscall::PROCESS_EXIT, [101, 0, 0, 0, 0, 0]);
    loop {}
}
