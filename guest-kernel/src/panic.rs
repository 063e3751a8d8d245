//! The end: a report on the console, the exit device, and halt.

use core::cell::Cell;
use core::fmt::Write;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicU32, Ordering};

use xinim_abi::event::{Obituary, Registers, cause};
use xinim_abi::platform::{EXIT_PANIC, PORT_EXIT, PORT_PVPANIC, PVPANIC_PANICKED};

use crate::arch::cpu::cpu;
use crate::arch::entry::Frame;
use crate::arch::instructions::{
    halt_forever, in8, out8, out32, read_cr2, read_cr3, registers_here,
};
use crate::arch::{DIRECT_BASE, KERNEL_BASE};
use crate::console::Console;
use crate::global::Global;
use crate::smp;
use crate::trap;

/// Per-CPU data can be asked (set once it is there).
static READY: Global<Cell<bool>> = Global::new(Cell::new(false));
/// Number + 1 of the CPU that reports; 0: nobody does.
static REPORTING: AtomicU32 = AtomicU32::new(0);

pub fn per_cpu_ready() {
    READY.set(true);
}

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let registers = registers_here();
    begin();
    let _ = write!(Console, "\nkernel panic: {}\n", info.message());
    if let Some(location) = info.location() {
        let _ = writeln!(Console, "  at {}:{}", location.file(), location.line());
    }
    let _ = writeln!(Console, "  cr2 {:016x} cr3 {:016x}", read_cr2(), read_cr3());
    dump(&registers);
    instructions(registers.rip);
    who();
    finish()
}

/// An exception that ends the system.
pub fn exception(frame: &Frame, place: &str) -> ! {
    begin();
    let (vector, error) = (frame.vector.get(), frame.error.get());
    let _ = writeln!(
        Console,
        "\nkernel panic: {} (vector {vector}) {place}, error code {error:#x}",
        exception_name(vector)
    );
    let _ = writeln!(Console, "  cr2 {:016x} cr3 {:016x}", read_cr2(), read_cr3());
    dump(&trap::registers(frame));
    instructions(frame.rip.get());
    who();
    finish()
}

/// RS is gone: nobody is left to restart anything. Reported, and the machine boots again unless
/// somebody outside waits for a command's status, who is better told that the system died.
pub fn first_process_died(obituary: &Obituary) -> ! {
    begin();
    let _ = write!(Console, "\nkernel panic: reincarnation server died: ");
    match obituary.cause {
        cause::EXIT => {
            let _ = writeln!(Console, "exit status {}", obituary.code);
        }
        cause::KILLED => {
            let _ = writeln!(Console, "killed, code {}", obituary.code);
        }
        _ => {
            let _ = writeln!(
                Console,
                "{} (vector {}), error code {:#x}, address {:016x}",
                exception_name(obituary.vector),
                obituary.vector,
                obituary.error_code,
                obituary.address
            );
            dump(&obituary.registers);
            instructions(obituary.registers.rip);
        }
    }
    if crate::loader::reboots() {
        let _ = writeln!(Console, "the system reboots");
        // No device writes into the next system's memory.
        crate::device::silence_all();
        crate::power::reboot();
    }
    finish()
}

/// Stops the other CPUs. A panic during a report ends at once; a second CPU's is not reported.
fn begin() {
    let me = 1 + if READY.get() { cpu().index.get() } else { 0 };
    match REPORTING.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) if READY.get() => smp::seize(),
        Ok(_) => (),
        Err(other) if other == me => finish(),
        Err(_) => halt_forever(),
    }
}

fn dump(r: &Registers) {
    let _ = write!(
        Console,
        "  rip {:016x} rflags {:016x}\n  rax {:016x} rbx {:016x} rcx {:016x} rdx {:016x}\n  \
         rsi {:016x} rdi {:016x} rbp {:016x} rsp {:016x}\n  r8  {:016x} r9  {:016x} r10 {:016x} \
         r11 {:016x}\n  r12 {:016x} r13 {:016x} r14 {:016x} r15 {:016x}\n",
        r.rip,
        r.rflags,
        r.rax,
        r.rbx,
        r.rcx,
        r.rdx,
        r.rsi,
        r.rdi,
        r.rbp,
        r.rsp,
        r.r8,
        r.r9,
        r.r10,
        r.r11,
        r.r12,
        r.r13,
        r.r14,
        r.r15
    );
}

/// The bytes at `rip`, where they can be read.
fn instructions(rip: u64) {
    let physical = if rip >= KERNEL_BASE {
        rip - KERNEL_BASE
    } else if rip >= DIRECT_BASE {
        return;
    } else {
        let thread = READY.get().then(|| cpu().current.get()).flatten();
        let Some((physical, _)) = thread.and_then(|thread| {
            let process = thread.process.get();
            xinim_kernel_logic::paging::translate(&process.tables, process.pml4.get(), rip)
        }) else {
            return;
        };
        physical
    };
    let len = (4096 - physical % 4096).min(16) as usize;
    if let Some(bytes) = crate::physical::bytes(physical, len) {
        let _ = write!(Console, "  code");
        for byte in bytes {
            let _ = write!(Console, " {byte:02x}");
        }
        let _ = writeln!(Console);
    }
}

/// Who was running.
fn who() {
    if smp::several() {
        let _ = writeln!(Console, "  CPU {} of {}", cpu().index.get(), smp::count());
    }
    if let Some(thread) = READY.get().then(|| cpu().current.get()).flatten() {
        let name = core::str::from_utf8(thread.process.get().name_bytes()).unwrap_or("?");
        let frame = &thread.get().frame;
        let _ = writeln!(
            Console,
            "  process {} ({name}), rip {:016x}, last system call {:#x}",
            thread.process.pid,
            frame.rip.get(),
            frame.rax.get()
        );
    }
}

/// Looks at the panic device after the panic: QEMU stops this CPU at one of them.
const LOOKS: u32 = 1000;

/// Tells the machine, and stops: with the panic device, if there is one, so that somebody can look at a
/// machine that stands still.
fn finish() -> ! {
    let known = in8(PORT_PVPANIC);
    if known != 0xFF && known & PVPANIC_PANICKED != 0 {
        out8(PORT_PVPANIC, PVPANIC_PANICKED);
        for _ in 0..LOOKS {
            in8(PORT_PVPANIC);
        }
    }
    out32(PORT_EXIT, EXIT_PANIC);
    halt_forever()
}

fn exception_name(vector: u64) -> &'static str {
    match vector {
        0 => "divide error",
        1 => "debug exception",
        2 => "non-maskable interrupt",
        3 => "breakpoint",
        4 => "overflow",
        6 => "invalid opcode",
        7 => "device not available",
        8 => "double fault",
        10 => "invalid task state",
        11 => "segment not present",
        12 => "stack fault",
        13 => "general protection fault",
        14 => "page fault",
        16 => "x87 error",
        17 => "alignment check",
        18 => "machine check",
        19 => "SIMD error",
        _ => "exception",
    }
}
