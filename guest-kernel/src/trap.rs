//! What the entry code calls: system calls, exceptions, interrupts.

use xinim_abi::event::Registers;
use xinim_abi::object::USER_END;
use xinim_kernel_logic::refs::Ref;

use crate::apic::{self, ATTENTION_VECTOR, SPURIOUS_VECTOR, TIMER_VECTOR};
use crate::arch::cpu::cpu;
use crate::arch::entry::{Frame, syscall_entry, syscall_probe};
use crate::arch::instructions::read_cr2;
use crate::interrupt;
use crate::kip::{self, GATE_RETURN};
use crate::loader;
use crate::lock;
use crate::process::{self, Cause};
use crate::scheduler;
use crate::smp;
use crate::syscall;
use crate::thread::Thread;

const BREAKPOINT: u64 = 3;
const PAGE_FAULT: u64 = 14;
const FIRST_INTERRUPT: u64 = 32;
/// Page fault by an instruction fetch, in ring 3, from a page that is present: what `syscall`
/// gives where it does not leave ring 3.
const FETCH_FROM_SUPERVISOR: u64 = 0x15;
/// Flags ring 3 may set for itself: arithmetic, TF, DF, AC, ID.
const USER_FLAGS: u64 = 0x0024_0DD5;
/// Interrupts enabled, and the bit that is always set.
const FIXED_FLAGS: u64 = 0x202;

/// The thread was ended by another CPU while it was on its way in. Its frame may be another's by now.
#[cold]
#[inline(never)]
fn evicted(vector: u64) -> u64 {
    if vector >= FIRST_INTERRUPT {
        device_interrupt(vector);
    }
    scheduler::leave()
}

/// From ring 3 through a vector. `frame` is the thread's, except for vectors with stacks of their
/// own.
pub extern "C" fn trap_entry(frame: &Frame) -> u64 {
    // Before the lock: while this CPU waits, its thread may be ended, and the frame with it.
    let vector = frame.vector.get();
    acknowledge(vector);
    lock::acquire();
    let Some(thread) = cpu().current.get() else { return evicted(vector) };
    if vector == BREAKPOINT && frame.rip.get() == GATE_RETURN {
        return system_call(thread);
    }
    if vector >= FIRST_INTERRUPT {
        device_interrupt(vector);
        return scheduler::leave();
    }
    exception(thread, frame)
}

/// From ring 3 by `syscall`.
pub extern "C" fn syscall_entry_native() -> u64 {
    lock::acquire();
    match cpu().current.get() {
        Some(thread) => system_call(thread),
        None => evicted(0),
    }
}

#[inline(always)]
fn system_call(thread: Ref<Thread>) -> u64 {
    thread.system_calls.set(thread.system_calls.get() + 1);
    syscall::dispatch(thread);
    scheduler::leave()
}

/// The very first `syscall` arrived, in ring 0 or (`native` = 0) by a page fault.
pub extern "C" fn syscall_probed(native: u64) -> u64 {
    if native != 0 {
        lock::acquire();
    }
    kip::set_entry(native != 0);
    cpu().current.get().into_iter().for_each(loader::begin);
    scheduler::leave()
}

#[cold]
fn exception(thread: Ref<Thread>, frame: &Frame) -> u64 {
    let vector = frame.vector.get();
    match vector {
        2 | 8 | 18 => crate::panic::exception(frame, "in ring 3"),
        PAGE_FAULT if frame.error.get() == FETCH_FROM_SUPERVISOR => {
            let rip = frame.rip.get();
            if rip == syscall_probe as *const () as u64 {
                return syscall_probed(0);
            }
            if rip == syscall_entry as *const () as u64 && !kip::native() {
                return raw_system_call(thread, frame);
            }
        }
        _ => (),
    }
    let address = if vector == PAGE_FAULT { read_cr2() } else { 0 };
    let registers = registers(frame);
    let error = frame.error.get();
    process::end(thread.process, Cause::Fault { vector, error, address, registers });
    scheduler::leave()
}

/// A `syscall` instruction that stayed in ring 3: rcx and r11 hold where to go back to.
fn raw_system_call(thread: Ref<Thread>, frame: &Frame) -> u64 {
    let back = frame.rcx.get();
    if back >= USER_END {
        // Somebody jumped here with a wild rcx; going back there would fault in ring 0.
        let registers = registers(frame);
        let cause = Cause::Fault {
            vector: PAGE_FAULT,
            error: FETCH_FROM_SUPERVISOR,
            address: back,
            registers,
        };
        process::end(thread.process, cause);
        return scheduler::leave();
    }
    frame.rip.set(back);
    frame.rflags.set(frame.r11.get() & USER_FLAGS | FIXED_FLAGS);
    system_call(thread)
}

/// Ends another CPU's interrupt: who waits for the lock is woken by the next.
#[inline(always)]
fn acknowledge(vector: u64) {
    if vector == ATTENTION_VECTOR {
        apic::end_of_interrupt();
    }
}

fn device_interrupt(vector: u64) {
    match vector {
        TIMER_VECTOR => {
            apic::end_of_interrupt();
            scheduler::timer_expired();
        }
        ATTENTION_VECTOR => smp::attention(),
        SPURIOUS_VECTOR => (),
        // The legacy controllers' vectors after reset never get here: they are masked.
        vector => interrupt::arrived(vector),
    }
}

/// An interrupt while idle. The idle loop is not gone back to.
pub extern "C" fn idle_interrupt(vector: u64) -> u64 {
    acknowledge(vector);
    lock::acquire();
    device_interrupt(vector);
    scheduler::leave()
}

/// An exception in the kernel.
pub extern "C" fn kernel_fault(frame: &Frame) -> ! {
    crate::panic::exception(frame, "in the kernel")
}

/// A frame as others see it.
pub fn registers(frame: &Frame) -> Registers {
    Registers {
        rax: frame.rax.get(),
        rbx: frame.rbx.get(),
        rcx: frame.rcx.get(),
        rdx: frame.rdx.get(),
        rsi: frame.rsi.get(),
        rdi: frame.rdi.get(),
        rbp: frame.rbp.get(),
        rsp: frame.rsp.get(),
        r8: frame.r8.get(),
        r9: frame.r9.get(),
        r10: frame.r10.get(),
        r11: frame.r11.get(),
        r12: frame.r12.get(),
        r13: frame.r13.get(),
        r14: frame.r14.get(),
        r15: frame.r15.get(),
        rip: frame.rip.get(),
        rflags: frame.rflags.get(),
    }
}
