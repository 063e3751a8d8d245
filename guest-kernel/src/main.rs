//! The XINIM microkernel.
//!
//! Address spaces, threads, IPC, interrupts, timers, handles, DMA memory; no drivers, no file
//! systems, no policy. `docs/kernel-abi.md` tells what it offers and why it is built this way.
//!
//! The kernel runs with interrupts off, under one lock, on one stack per CPU: a thread never sleeps inside the
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
mod apic;
#[cfg(not(target_feature = "sse"))]
mod arch;
#[cfg(not(target_feature = "sse"))]
mod boot;
#[cfg(not(target_feature = "sse"))]
mod boot_info;
#[cfg(not(target_feature = "sse"))]
mod console;
#[cfg(not(target_feature = "sse"))]
mod debug;
#[cfg(not(target_feature = "sse"))]
mod device;
#[cfg(not(target_feature = "sse"))]
mod endpoint;
#[cfg(not(target_feature = "sse"))]
mod firmware;
#[cfg(not(target_feature = "sse"))]
mod global;
#[cfg(not(target_feature = "sse"))]
mod info;
#[cfg(not(target_feature = "sse"))]
mod interrupt;
#[cfg(not(target_feature = "sse"))]
mod ipc;
#[cfg(not(target_feature = "sse"))]
mod kip;
#[cfg(not(target_feature = "sse"))]
mod loader;
#[cfg(not(target_feature = "sse"))]
mod lock;
#[cfg(not(target_feature = "sse"))]
mod log;
#[cfg(not(target_feature = "sse"))]
mod memory_object;
#[cfg(not(target_feature = "sse"))]
mod object;
#[cfg(not(target_feature = "sse"))]
mod panic;
#[cfg(not(target_feature = "sse"))]
mod physical;
#[cfg(not(target_feature = "sse"))]
mod ports;
#[cfg(not(target_feature = "sse"))]
mod power;
#[cfg(not(target_feature = "sse"))]
mod process;
#[cfg(not(target_feature = "sse"))]
mod scheduler;
#[cfg(not(target_feature = "sse"))]
mod smp;
#[cfg(not(target_feature = "sse"))]
mod space;
#[cfg(not(target_feature = "sse"))]
mod syscall;
#[cfg(not(target_feature = "sse"))]
mod thread;
#[cfg(not(target_feature = "sse"))]
mod time;
#[cfg(not(target_feature = "sse"))]
mod trace;
#[cfg(not(target_feature = "sse"))]
mod trap;
#[cfg(not(target_feature = "sse"))]
mod user;

/// First Rust code, on the boot stack. `start_info` is the physical address that the loader left
/// in `ebx`. Ends by running the first process.
#[cfg(not(target_feature = "sse"))]
extern "C" fn kernel_main(start_info: u64) -> ! {
    let began = arch::instructions::rdtsc();
    arch::cpu::start();
    panic::per_cpu_ready();
    let boot = boot_info::BootInfo::read(start_info);
    log::set_mirror(boot.has_word(b"klog=debugcon"));
    physical::start(&boot);
    let firmware = firmware::Firmware::find(&boot);
    apic::start_local();
    apic::start_io(&firmware);
    time::start(began);
    trace::start();
    kip::start(&boot, time::read_rtc());
    lock::acquire();
    arch::cpu::cpu().since.set(began);
    arch::cpu::cpu().pml4.set(space::kernel_pml4());
    smp::start(&boot, &firmware);
    loader::start(&boot, &firmware);
    kip::set_cpus(smp::join());
    log::kernel("first process ready");
    arch::cpu::resume_at(scheduler::leave())
}
