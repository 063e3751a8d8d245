//! Self-test of the kernel's system calls. With `first=sbin/kernel-test` on the kernel command line
//! it is the first process instead of RS: it tries every call, every refusal and every way to die, writes a line for each
//! test to the kernel log (`klog=debugcon` shows it) and powers off. The last line says
//! `all passed` or how many failed. With the word `bench` on the kernel command line it measures
//! the entry and IPC paths instead, in TSC ticks: under QEMU's `-icount shift=0` those are
//! instructions.
//!
//! It stands on the system calls alone, without the run-time library. Its child processes run
//! the same image, started at another function.
#![cfg_attr(panic = "abort", no_std, no_main)]

#[cfg(not(panic = "abort"))]
fn main() {
    eprintln!("kernel-test runs on the XINIM kernel; see docs/kernel-abi.md");
}

#[cfg(panic = "abort")]
mod bench;
#[cfg(panic = "abort")]
mod check;
#[cfg(panic = "abort")]
mod death;
#[cfg(panic = "abort")]
mod hardware;
#[cfg(panic = "abort")]
mod ipc;
#[cfg(panic = "abort")]
mod memory;
// `memcpy` and friends: no C library here either.
#[cfg(panic = "abort")]
#[path = "../../../guest-kernel/src/arch/memory_functions.rs"]
mod memory_functions;
#[cfg(panic = "abort")]
mod objects;
#[cfg(panic = "abort")]
mod probe;
#[cfg(panic = "abort")]
mod scheduling;
#[cfg(panic = "abort")]
mod smp;
#[cfg(panic = "abort")]
mod spawn;
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
extern "C" fn start(block: u64) -> ! {
    spawn::init(block);
    if sys::has_word("bench") {
        bench::run();
    } else {
        type Test = (&'static str, fn(&mut check::Checks));
        let tests: &[Test] = &[
            ("handles", objects::handles),
            ("process limits", objects::limits),
            ("unknown calls", objects::unknown),
            ("memory objects", memory::objects),
            ("mappings", memory::mappings),
            ("user pointers", memory::pointers),
            ("messages", ipc::messages),
            ("handles in messages", ipc::handles),
            ("notifications", ipc::notifications),
            ("forged notifications", ipc::forged_notifications),
            ("refusals of IPC", ipc::refusals),
            ("probes", probe::probes),
            ("death of a server", death::servers),
            ("obituaries", death::obituaries),
            ("orphans", death::orphans),
            ("faults", death::faults),
            ("sleep and timers", scheduling::timers),
            ("preemption", scheduling::preemption),
            ("FPU and TLS", scheduling::state),
            ("interrupts and ports", hardware::interrupts_and_ports),
            ("DMA quarantine", hardware::quarantine),
            ("confined devices", hardware::confinement),
            ("log and information", objects::log_and_info),
            ("leaks", death::leaks),
            ("pairs in parallel", smp::pairs),
            ("unmapping under a reader", smp::shootdown),
            ("killing what runs", smp::kill_running),
            ("lives and deaths in parallel", smp::lives),
            ("wake-ups", smp::wake_ups),
            ("clocks", smp::clocks),
            ("sharing CPUs", smp::sharing),
            ("deadlines", smp::deadlines),
        ];
        let mut failed = 0;
        for (name, test) in tests {
            failed += check::run(name, *test);
        }
        match failed {
            0 => sys::log("kernel-test: all passed"),
            _ => check::say("kernel-test: failed checks: ", failed),
        }
    }
    sys::power_off()
}

#[cfg(panic = "abort")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    check::say("kernel-test: panic at line ", info.location().map_or(0, |l| u64::from(l.line())));
    sys::exit(101)
}

/// Precompiled `core` names it; with `panic = "abort"` nobody calls it.
#[cfg(panic = "abort")]
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
