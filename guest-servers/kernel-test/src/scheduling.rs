//! Time, priorities, and what a thread keeps over a switch.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use xinim_abi::error::Error;
use xinim_abi::ipc::bits;
use xinim_abi::syscall as nr;

use crate::check::Checks;
use crate::spawn;
use crate::sys::{self, call, close, endpoint, poll, receive};

const MS: u64 = 1_000_000;

pub fn timers(c: &mut Checks) {
    let start = sys::now();
    sys::sleep_ms(30);
    let slept = sys::now() - start;
    c.that((30 * MS..500 * MS).contains(&slept), "sleep of 30 ms");
    c.equal(call(nr::THREAD_SLEEP, &[1]), Ok(0), "a deadline long past");
    c.equal(call(nr::THREAD_SLEEP, &[0]), Ok(0), "yield");
    let e = endpoint();
    let start = sys::now();
    c.equal(call(nr::TIMER_SET, &[e, start + 500 * MS]), Ok(0), "set");
    c.equal(call(nr::TIMER_SET, &[e, start + 20 * MS]), Ok(0), "replace");
    let r = receive(e);
    c.equal(r.words[0], bits::TIMER, "its bit");
    let waited = sys::now() - start;
    c.that((20 * MS..450 * MS).contains(&waited), "at its time");
    c.equal(call(nr::TIMER_SET, &[e, sys::now() + 10 * MS]), Ok(0), "set");
    c.equal(call(nr::TIMER_SET, &[e, u64::MAX]), Ok(0), "cancel");
    c.equal(call(nr::TIMER_SET, &[e, u64::MAX]), Ok(0), "cancel nothing");
    sys::sleep_ms(20);
    c.equal(poll(e).status(), Err(Error::Again), "cancelled");
    c.equal(call(nr::TIMER_SET, &[e, 5]), Ok(0), "in the past");
    c.equal(receive(e).words[0], bits::TIMER, "at once");
    // Many at a time, in order.
    let all: [u64; 8] = core::array::from_fn(|_| endpoint());
    let now = sys::now();
    for (n, &e) in all.iter().enumerate() {
        let at = now + (8 - n as u64) * 3 * MS;
        c.equal(call(nr::TIMER_SET, &[e, at]), Ok(0), "set");
    }
    for &e in all.iter().rev() {
        c.equal(receive(e).words[0], bits::TIMER, "each");
    }
    // An endpoint that goes away with its timer set.
    c.equal(call(nr::TIMER_SET, &[e, sys::now() + 5 * MS]), Ok(0), "set");
    c.equal(close(e), Ok(0), "close");
    sys::sleep_ms(10);
    all.into_iter().for_each(|e| c.equal(close(e), Ok(0), "close"));
}

static COUNTS: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static STOP: AtomicU64 = AtomicU64::new(0);
static ENDED: AtomicU64 = AtomicU64::new(0);

fn thread_exit() -> ! {
    ENDED.fetch_add(1, Relaxed);
    loop {
        let _ = call(nr::THREAD_EXIT, &[]);
    }
}

/// Counts without ever entering the kernel.
extern "C" fn spinner(which: u64) -> ! {
    while STOP.load(Relaxed) == 0 {
        COUNTS[which as usize & 1].fetch_add(1, Relaxed);
    }
    thread_exit()
}

fn wait_for_end(count: u64) -> bool {
    (0..200).any(|_| {
        sys::sleep_ms(5);
        ENDED.load(Relaxed) == count
    })
}

pub fn preemption(c: &mut Checks) {
    ENDED.store(0, Relaxed);
    STOP.store(0, Relaxed);
    for which in 0..2 {
        let thread = spawn::thread(spinner, which, 5, which);
        c.that(thread.and_then(close).is_ok(), "spinner");
    }
    // This thread's priority is higher: the timer must take the CPU away from the spinners.
    let start = sys::now();
    sys::sleep_ms(25);
    c.that(sys::now() - start < 400 * MS, "woken while others spin");
    sys::sleep_ms(75);
    let counts = [COUNTS[0].load(Relaxed), COUNTS[1].load(Relaxed)];
    c.that(counts[0] > 0 && counts[1] > 0, "both spinners run");
    let after = [COUNTS[0].load(Relaxed), COUNTS[1].load(Relaxed)];
    c.that(sys::cpus() > 1 || counts == after, "and neither while this thread does");
    STOP.store(1, Relaxed);
    c.that(wait_for_end(2), "both end");
    spawn::drop_thread_stack(0);
    spawn::drop_thread_stack(1);
}

static WRONG: AtomicU64 = AtomicU64::new(0);

/// Keeps patterns in FPU registers and at its own FS base, yielding between looks.
extern "C" fn keeper(which: u64) -> ! {
    let mine = 0x1111_1111_1111_1111u64 * (which + 1);
    let tls = [mine, mine];
    if call(nr::THREAD_SET_TLS, &[tls.as_ptr() as u64]).is_err() {
        WRONG.fetch_add(100, Relaxed);
    }
    for _ in 0..50 {
        let (mut seen, mut fs): (u64, u64);
        // SAFETY: moves a pattern through xmm7 around a system call (THREAD_SLEEP 0), and reads
        // the thread's own word at FS:0, which points to `tls`.
        unsafe {
            asm!(
                "movq xmm7, {mine}",
                "mov eax, 23",
                "xor edi, edi",
                "call {gate}",
                "movq {seen}, xmm7",
                "mov {fs}, fs:[0]",
                mine = in(reg) mine,
                gate = in(reg) xinim_abi::kip::GATE_ADDRESS,
                seen = lateout(reg) seen,
                fs = lateout(reg) fs,
                out("rax") _, out("rdi") _, out("rcx") _, out("r11") _, out("xmm7") _,
            );
        }
        if seen != mine || fs != mine {
            WRONG.fetch_add(1, Relaxed);
        }
        seen = 0;
        let _ = seen;
    }
    thread_exit()
}

pub fn state(c: &mut Checks) {
    ENDED.store(0, Relaxed);
    WRONG.store(0, Relaxed);
    for which in 0..3 {
        let thread = spawn::thread(keeper, which, 5, which);
        c.that(thread.and_then(close).is_ok(), "keeper");
    }
    c.that(wait_for_end(3), "all end");
    c.equal(WRONG.load(Relaxed), 0, "xmm7 and FS base are a thread's own");
    c.equal(
        call(nr::THREAD_SET_TLS, &[0xFFFF_8000_0000_0000]),
        Err(Error::Inval),
        "kernel FS base",
    );
    c.equal(call(nr::THREAD_SET_TLS, &[1 << 62]), Err(Error::Inval), "non-canonical FS base");
    (0..3).for_each(spawn::drop_thread_stack);
}
