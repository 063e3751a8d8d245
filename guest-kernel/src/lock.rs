//! The kernel lock: taken at every entry, released at its end. Interrupts are off meanwhile.
//!
//! A CPU of a virtual machine may lose its processor while it holds the lock, for milliseconds. Who
//! spins then takes processor time from the others, the holder among them; and a lock that is given
//! away in order of arrival then waits, free, for a CPU that does not run. So:
//! ```text
//! acquire   free: take it
//!           else spin, as long as halting and being woken cost; then halt
//! release   free it; wake the halted CPU that has waited longest, which tries again
//!           (anybody may be faster); one that was passed over PASSED_MAX times gets it handed over
//! ```
//! Who waits does meanwhile what the holder asks of it (see `smp`), as the holder may wait for that.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::apic;
use crate::arch::cpu::{Cpu, cpu};
use crate::arch::entry::halt_for_attention;
use crate::arch::instructions::rdtsc;
use crate::smp;
use crate::time;

/// [`LOCKED`], and [`HALTED`] for each CPU that halts or is about to. One word: taking the lock is
/// one instruction, releasing it and learning of who waits another.
static STATE: AtomicU32 = AtomicU32::new(0);
const LOCKED: u32 = 1;
const HALTED: u32 = 2;

/// About what halting, an interrupt and the way back cost.
const SPIN_NS: u64 = 30_000;
/// How often others may come first.
const PASSED_MAX: u32 = 16;

/// `Cpu::waiting`
pub const NO: u32 = 0;
/// It halts: an interrupt is needed.
pub const HALTS: u32 = 1;
/// It has the lock.
pub const GRANTED: u32 = 2;

#[inline(always)]
pub fn acquire() {
    if STATE.fetch_or(LOCKED, Ordering::Acquire) & LOCKED != 0 {
        wait();
    }
}

#[inline(always)]
pub fn release() {
    if STATE.fetch_sub(LOCKED, Ordering::Release) != LOCKED {
        wake();
    }
}

fn try_acquire() -> bool {
    STATE.load(Ordering::Relaxed) & LOCKED == 0
        && STATE.fetch_or(LOCKED, Ordering::Acquire) & LOCKED == 0
}

#[cold]
#[inline(never)]
fn wait() {
    let me = cpu();
    me.passed.store(0, Ordering::Relaxed);
    loop {
        let end = rdtsc() + time::ticks(SPIN_NS);
        while rdtsc() < end {
            smp::serve(me);
            if try_acquire() {
                return;
            }
            spin_loop();
        }
        if halt(me) {
            return;
        }
    }
}

/// Halts until somebody interrupts; whether this CPU has the lock then.
fn halt(me: &Cpu) -> bool {
    me.waiting.store(HALTS, Ordering::SeqCst);
    let held = STATE.fetch_add(HALTED, Ordering::SeqCst) & LOCKED != 0;
    // Whoever holds it sees at the release that somebody halts. Only other CPUs' interrupts may
    // come: the handlers of all others want the lock.
    if held && !smp::is_asked(me) {
        apic::admit_attention_only(true);
        halt_for_attention();
        apic::admit_attention_only(false);
    }
    STATE.fetch_sub(HALTED, Ordering::SeqCst);
    me.waiting.swap(NO, Ordering::SeqCst) == GRANTED
}

/// The lock was released, and somebody halts. (It may be held again by now, or nobody halts.)
#[cold]
#[inline(never)]
fn wake() {
    let me = cpu();
    let halted = |other: &&Cpu| other.waiting.load(Ordering::SeqCst) == HALTS;
    let passed = |other: &&Cpu| other.passed.load(Ordering::Relaxed);
    let Some(first) = smp::others(me).filter(halted).max_by_key(passed) else { return };
    let mut next = NO;
    if first.passed.fetch_add(1, Ordering::Relaxed) >= PASSED_MAX {
        if !try_acquire() {
            return;
        }
        next = GRANTED;
    }
    let exchange = first.waiting.compare_exchange(HALTS, next, Ordering::SeqCst, Ordering::SeqCst);
    match exchange {
        Ok(_) => apic::interrupt(first.apic_id.get()),
        // It woke by itself and tries.
        Err(_) if next == GRANTED => release(),
        Err(_) => (),
    }
}

/// For the last report: tries for a while, as it may be this very CPU that holds the lock.
pub fn try_for(spins: u32) {
    for _ in 0..spins {
        if try_acquire() {
            return;
        }
        spin_loop();
    }
}
