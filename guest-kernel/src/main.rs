//! The XINIM microkernel.
//!
//! Address spaces, threads, IPC, interrupts, timers, handles, DMA memory; no drivers, no file
//! systems, no policy. `docs/kernel-abi.md` tells what it offers and why it is built this way.
//!
//! The kernel runs with interrupts off on one stack per CPU: a thread never sleeps inside the
//! kernel, its whole state is its register frame, and every entry ends by resuming some thread.
//!
//! Freestanding only when compiled without SSE, as the system's build does; anything else (a
//! workspace-wide `cargo test`) gets a program that says so.
#![cfg_attr(not(target_feature = "sse"), no_std, no_main)]

#[cfg(target_feature = "sse")]
fn main() {
    eprintln!("xinim-kernel is a kernel image; build it with scripts/build-kernel.sh");
}

#[cfg(not(target_feature = "sse"))]
mod arch;
#[cfg(not(target_feature = "sse"))]
mod boot;
#[cfg(not(target_feature = "sse"))]
mod console;
#[cfg(not(target_feature = "sse"))]
mod global;
#[cfg(not(target_feature = "sse"))]
mod panic;

/// First Rust code, on the boot stack. `start_info` is the physical address that the loader left
/// in `ebx`.
#[cfg(not(target_feature = "sse"))]
extern "C" fn kernel_main(start_info: u64) -> ! {
    panic!("hello {start_info:#x}")
}
