//! Several CPUs at work on the same things: calls, address spaces, ends, wake-ups, time. With one CPU
//! the same tests run, and prove less. What is random comes from `seed=N` on the command line.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use xinim_abi::error::Error;
use xinim_abi::event::cause;
use xinim_abi::ipc::{Tag, bits};
use xinim_abi::object::{Protection, Rights, SELF};
use xinim_abi::syscall as nr;

use crate::check::Checks;
use crate::death::{obituary, objects, system};
use crate::spawn::{self, Arguments, Child, Give};
use crate::sys::{self, call, close, endpoint, receive};

const MS: u64 = 1_000_000;
const SELF_PROCESS: u64 = SELF as u64;
const BOTH: Protection = Protection::READ.union(Protection::WRITE);
const MEMORY: Rights = Rights::READ.union(Rights::WRITE);
/// A page that parent and child share, as counters.
const SHARED_AT: u64 = 0x50_0000_0000;
/// A page that comes and goes, where it is read, and where its owner has it too.
const TARGET_AT: u64 = 0x51_0000_0000;
const OWN_AT: u64 = 0x52_0000_0000;

/// What a stale translation would show.
const POISON: u64 = 0xBAD;
const GOOD: u64 = 7;

fn word(at: u64) -> &'static AtomicU64 {
    // SAFETY: the page was mapped before, and is used through atomics only.
    unsafe { &*(at as *const AtomicU64) }
}

fn shared(index: u64) -> &'static AtomicU64 {
    word(SHARED_AT + index * 8)
}

/// xorshift64*.
fn random() -> u64 {
    static STATE: AtomicU64 = AtomicU64::new(0);
    let mut x = match STATE.load(Relaxed) {
        0 => sys::word_value("seed").wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
        x => x,
    };
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    STATE.store(x, Relaxed);
    x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33
}

/// Waits, at most 20 s.
fn wait_until(condition: impl Fn() -> bool) -> bool {
    let end = sys::now() + 20_000 * MS;
    while !condition() {
        if sys::now() > end {
            return false;
        }
        sys::sleep_ms(1);
    }
    true
}

/// Waits until somebody counts there: with several CPUs, while this thread runs, too.
fn counts(index: u64) -> bool {
    let started = wait_until(|| shared(index).load(SeqCst) > 9);
    let (seen, end) = (shared(index).load(SeqCst), sys::now() + 10_000 * MS);
    while sys::cpus() > 1 && shared(index).load(SeqCst) < seen + 9 && sys::now() < end {
        core::hint::spin_loop();
    }
    started && sys::now() < end
}

fn new_page(at: u64) -> u64 {
    let page = call(nr::MEMORY_CREATE, &[4096, 0]).unwrap_or(0);
    let _ = spawn::map(SELF_PROCESS, page, at, 0, 4096, BOTH);
    page
}

fn drop_page(c: &mut Checks, page: u64, at: u64) {
    c.equal(call(nr::MEMORY_UNMAP, &[SELF_PROCESS, at, 4096]), Ok(0), "unmap");
    c.equal(close(page), Ok(0), "close");
}

static ENDED: AtomicU64 = AtomicU64::new(0);

fn thread_exit() -> ! {
    ENDED.fetch_add(1, SeqCst);
    loop {
        let _ = call(nr::THREAD_EXIT, &[]);
    }
}

/// Starts `count` threads with their numbers.
fn threads(c: &mut Checks, count: u64, priority: u64, entry: extern "C" fn(u64) -> !) {
    ENDED.store(0, SeqCst);
    for which in 0..count {
        let thread = spawn::thread(entry, which, priority, which);
        c.that(thread.and_then(close).is_ok(), "thread");
    }
}

fn threads_end(c: &mut Checks, count: u64) {
    c.that(wait_until(|| ENDED.load(SeqCst) == count), "all threads end");
    // The last of each is its exit call.
    sys::sleep_ms(5);
    (0..count).for_each(spawn::drop_thread_stack);
}

const PAIRS: u64 = 4;
static ENDPOINTS: [AtomicU64; 8] = [const { AtomicU64::new(0) }; 8];
const QUIT: u16 = 2;

extern "C" fn echo(which: u64) -> ! {
    let e = ENDPOINTS[which as usize].load(SeqCst);
    let mut r = receive(e);
    loop {
        let words = [r.words[0] ^ r.words[1], r.words[0], 0, 0, 0, 0];
        if r.tag & 0xFFFF == u64::from(QUIT) {
            let _ = sys::reply(r.rdi, 0, 0);
            thread_exit();
        }
        r = sys::ipc(nr::REPLY_WAIT, e, r.rdi, Tag::new(0, 0), words);
    }
}

extern "C" fn caller(a: &Arguments) -> ! {
    let [rounds, key, ..] = a.values;
    for round in 0..rounds {
        let r = sys::call_words(a.handles[0], 1, round, key);
        if r.status() != Ok(0) || r.words[..2] != [round ^ key, round] {
            sys::exit(1);
        }
    }
    sys::exit(42)
}

/// Ends `count` children, whose exit code is to be 42.
fn all_well(c: &mut Checks, supervisor: u64, count: u64) {
    for _ in 0..count {
        let end = obituary(supervisor);
        c.that(end.is_some_and(|o| o.cause == cause::EXIT && o.code == 42), "a child is content");
    }
}

/// Pairs of client and server, all at a time.
pub fn pairs(c: &mut Checks) {
    let supervisor = endpoint();
    ENDPOINTS.iter().for_each(|slot| slot.store(endpoint(), SeqCst));
    threads(c, PAIRS, 8, echo);
    let children: [Child; PAIRS as usize] = core::array::from_fn(|which| {
        let e = ENDPOINTS[which].load(SeqCst);
        spawn::child(supervisor, caller, &[500, random()], &[Give(e, Rights::SEND)])
    });
    all_well(c, supervisor, PAIRS);
    children.into_iter().for_each(Child::forget);
    for slot in &ENDPOINTS[..PAIRS as usize] {
        c.equal(sys::call_words(slot.load(SeqCst), QUIT, 0, 0).status(), Ok(0), "quit");
    }
    threads_end(c, PAIRS);
    for slot in &ENDPOINTS {
        c.equal(close(slot.load(SeqCst)), Ok(0), "close");
    }
    c.equal(close(supervisor), Ok(0), "close");
}

/// Notes what it reads, for ever.
fn read_target() -> ! {
    loop {
        shared(0).store(word(TARGET_AT).load(SeqCst), SeqCst);
        shared(1).fetch_add(1, SeqCst);
    }
}

extern "C" fn reader(a: &Arguments) -> ! {
    let _ = spawn::map(SELF_PROCESS, a.handles[0], SHARED_AT, 0, 4096, BOTH);
    read_target()
}

extern "C" fn reading_thread(_: u64) -> ! {
    read_target()
}

/// One thread reads what another unmaps.
extern "C" fn reader_and_owner(a: &Arguments) -> ! {
    let _ = spawn::map(SELF_PROCESS, a.handles[0], SHARED_AT, 0, 4096, BOTH);
    let _ = spawn::map(SELF_PROCESS, a.handles[1], TARGET_AT, 0, 4096, Protection::READ);
    let _ = spawn::map(SELF_PROCESS, a.handles[1], OWN_AT, 0, 4096, BOTH);
    if spawn::thread(reading_thread, 0, 8, 0).is_err() || !counts(1) {
        sys::exit(1);
    }
    let _ = call(nr::MEMORY_UNMAP, &[SELF_PROCESS, TARGET_AT, 4096]);
    word(OWN_AT).store(POISON, SeqCst);
    loop {
        sys::sleep_ms(1000);
    }
}

/// Memory is gone for all CPUs when its unmapping returns: the reader faults before it sees what
/// is written there next.
pub fn shootdown(c: &mut Checks) {
    let supervisor = endpoint();
    for round in 0..10 {
        let page = new_page(SHARED_AT);
        let target = new_page(OWN_AT);
        word(OWN_AT).store(GOOD, SeqCst);
        let gives = [Give(page, MEMORY), Give(target, MEMORY)];
        let child = if round % 2 == 0 {
            let Ok(child) = spawn::prepare(supervisor, 1) else { return c.that(false, "child") };
            let mapped = spawn::map(child.process, target, TARGET_AT, 0, 4096, Protection::READ);
            c.equal(mapped, Ok(0), "map");
            c.that(child.start(reader, 8, &[], &gives).and_then(close).is_ok(), "start");
            c.that(counts(1), "it reads");
            let unmapped = call(nr::MEMORY_UNMAP, &[child.process, TARGET_AT, 4096]);
            word(OWN_AT).store(POISON, SeqCst);
            c.equal(unmapped, Ok(0), "unmap");
            child
        } else {
            spawn::child(supervisor, reader_and_owner, &[], &gives)
        };
        let end = obituary(supervisor);
        let faulted = |o: &xinim_abi::event::Obituary| {
            o.cause == cause::FAULT && o.vector == 14 && o.address == TARGET_AT
        };
        c.that(end.as_ref().is_some_and(faulted), "it faults");
        c.equal(shared(0).load(SeqCst), GOOD, "what it read last");
        child.forget();
        drop_page(c, page, SHARED_AT);
        drop_page(c, target, OWN_AT);
    }
    c.equal(close(supervisor), Ok(0), "close");
}

extern "C" fn counter(a: &Arguments) -> ! {
    let _ = spawn::map(SELF_PROCESS, a.handles[0], SHARED_AT, 0, 4096, BOTH);
    loop {
        shared(2).fetch_add(1, SeqCst);
    }
}

/// A process that runs on another CPU stands still when its killing returns.
pub fn kill_running(c: &mut Checks) {
    let supervisor = endpoint();
    for _ in 0..8 {
        let page = new_page(SHARED_AT);
        let child = spawn::child(supervisor, counter, &[], &[Give(page, MEMORY)]);
        c.that(counts(2), "it runs");
        c.equal(child.kill(3), Ok(0), "kill");
        let at_once = shared(2).load(SeqCst);
        c.that(obituary(supervisor).is_some_and(|o| o.cause == cause::KILLED), "killed");
        sys::sleep_ms(2);
        c.equal(shared(2).load(SeqCst), at_once, "and it does not run any more");
        child.forget();
        drop_page(c, page, SHARED_AT);
    }
    c.equal(close(supervisor), Ok(0), "close");
}

/// Ends in one of several ways, or not at all.
extern "C" fn short_life(a: &Arguments) -> ! {
    let [way, e, ..] = [a.values[0], a.handles[0]];
    match way % 5 {
        0 => sys::exit(42),
        1 => word(8).store(1, SeqCst),
        2 => {
            let made = spawn::thread(reading_thread, 0, 8, 0);
            sys::exit(made.map_or(1, |_| 42))
        }
        3 => loop {
            let r = sys::call_words(e, 1, 1, 2);
            if r.status().is_err() {
                sys::exit(42);
            }
        },
        _ => loop {
            core::hint::spin_loop();
        },
    }
    sys::exit(1)
}

/// Many processes come and go at a time, by themselves and killed; nothing is lost or left over.
pub fn lives(c: &mut Checks) {
    const AT_A_TIME: usize = 6;
    let supervisor = endpoint();
    ENDPOINTS[0].store(endpoint(), SeqCst);
    threads(c, 1, 8, echo);
    let e = ENDPOINTS[0].load(SeqCst);
    let mut before = system();
    for round in 0..10 {
        let children: [Child; AT_A_TIME] = core::array::from_fn(|_| {
            let child = spawn::child(supervisor, short_life, &[random()], &[Give(e, Rights::SEND)]);
            if random().is_multiple_of(4) {
                let _ = child.kill(1);
            }
            child
        });
        let mut order = [0, 1, 2, 3, 4, 5];
        (1..AT_A_TIME).for_each(|i| order.swap(i, random() as usize % (i + 1)));
        for index in order {
            if random().is_multiple_of(2) {
                sys::sleep_ms(random() % 3);
            }
            c.equal(children[index].kill(2), Ok(0), "kill");
        }
        let mut pids = 0;
        for _ in 0..AT_A_TIME {
            pids += obituary(supervisor).map_or(0, |o| u64::from(o.pid));
        }
        c.equal(pids, children.iter().map(|child| child.pid).sum(), "each has an obituary");
        children.into_iter().for_each(Child::forget);
        if round == 3 {
            before = system();
        }
    }
    let after = system();
    // Slabs may have grown, as more is alive at a time in some rounds than in others.
    let unused = |info: &xinim_abi::info::SystemInfo| info.frames_free + info.frames_kernel;
    c.equal(unused(&after), unused(&before), "frames");
    c.that(objects(&after) == objects(&before), "objects");
    c.equal(sys::call_words(e, QUIT, 0, 0).status(), Ok(0), "quit");
    threads_end(c, 1);
    c.equal(close(e), Ok(0), "close");
    c.equal(close(supervisor), Ok(0), "close");
}

const RING: u64 = 4;
/// Tokens are bits 0..3 of notification words; this one ends a thread.
const TOKENS: u64 = 3;
const STOP: u64 = 1 << 40;
const HOPS: u64 = 400;
static PASSED: AtomicU64 = AtomicU64::new(0);
static SEED: AtomicU64 = AtomicU64::new(0);

/// Passes tokens on to the next, in one system call or two, at once or a little later.
extern "C" fn ring_member(which: u64) -> ! {
    let own = ENDPOINTS[which as usize].load(SeqCst);
    let next = ENDPOINTS[(which + 1) as usize % RING as usize].load(SeqCst);
    let mut x = SEED.load(SeqCst) ^ which << 20 | 1;
    let mut r = receive(own);
    loop {
        let tokens = r.words[0] & ((1 << TOKENS) - 1);
        PASSED.fetch_add(u64::from(tokens.count_ones()), SeqCst);
        if r.words[0] & STOP != 0 {
            thread_exit();
        }
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        (0..x >> 8 & 0xFF).for_each(|_| core::hint::spin_loop());
        r = if x & 1 == 0 {
            sys::notify_wait(own, next, tokens)
        } else {
            let _ = sys::notify(next, tokens);
            receive(own)
        };
    }
}

/// No wake-up is lost.
pub fn wake_ups(c: &mut Checks) {
    SEED.store(random() << 32, SeqCst);
    PASSED.store(0, SeqCst);
    ENDPOINTS.iter().for_each(|slot| slot.store(endpoint(), SeqCst));
    threads(c, RING, 8, ring_member);
    for token in 0..TOKENS {
        let e = ENDPOINTS[token as usize].load(SeqCst);
        c.equal(sys::notify(e, 1 << token), Ok(0), "start");
    }
    let all = wait_until(|| PASSED.load(SeqCst) >= TOKENS * HOPS);
    c.that(all, "tokens go round");
    for slot in &ENDPOINTS[..RING as usize] {
        c.equal(sys::notify(slot.load(SeqCst), STOP), Ok(0), "stop");
    }
    threads_end(c, RING);
    for slot in &ENDPOINTS {
        c.equal(close(slot.load(SeqCst)), Ok(0), "close");
    }
}

static LATEST: AtomicU64 = AtomicU64::new(0);
static BACKWARDS: AtomicU64 = AtomicU64::new(0);

extern "C" fn clock_reader(_: u64) -> ! {
    for _ in 0..20_000 {
        let seen = LATEST.load(SeqCst);
        // RDTSC may be carried out before loads that stand before it.
        // SAFETY: a fence changes nothing.
        unsafe { core::arch::asm!("lfence", options(nostack, preserves_flags)) };
        let now = sys::now();
        if now < seen {
            BACKWARDS.fetch_add(1, SeqCst);
        }
        LATEST.fetch_max(now, SeqCst);
    }
    thread_exit()
}

/// No CPU's clock shows less than another's has shown.
pub fn clocks(c: &mut Checks) {
    LATEST.store(0, SeqCst);
    BACKWARDS.store(0, SeqCst);
    let count = sys::cpus().min(8);
    threads(c, count, 8, clock_reader);
    threads_end(c, count);
    c.equal(BACKWARDS.load(SeqCst), 0, "time goes forwards");
}

static COUNTS: [AtomicU64; 9] = [const { AtomicU64::new(0) }; 9];
static END: AtomicU64 = AtomicU64::new(0);

extern "C" fn spinner(which: u64) -> ! {
    while END.load(SeqCst) == 0 {
        COUNTS[which as usize].fetch_add(1, SeqCst);
    }
    thread_exit()
}

/// More threads than CPUs: all get on, none gets in the way of a better one.
pub fn sharing(c: &mut Checks) {
    END.store(0, SeqCst);
    COUNTS.iter().for_each(|count| count.store(0, SeqCst));
    let count = sys::cpus().min(8) + 1;
    threads(c, count, 5, spinner);
    for _ in 0..3 {
        let before: [u64; 9] = core::array::from_fn(|which| COUNTS[which].load(SeqCst));
        let on = |which: usize| COUNTS[which].load(SeqCst) > before[which];
        c.that(wait_until(|| (0..count as usize).all(on)), "each thread gets on");
    }
    END.store(1, SeqCst);
    threads_end(c, count);
    c.equal(call(nr::THREAD_SLEEP, &[1]), Ok(0), "and this one, too");
}

/// A wait with a deadline, where another CPU's timer may be the one that is set.
pub fn deadlines(c: &mut Checks) {
    let e = endpoint();
    for _ in 0..10 {
        let start = sys::now();
        let after = 1 + random() % 8;
        c.equal(call(nr::TIMER_SET, &[e, start + after * MS]), Ok(0), "set");
        c.equal(receive(e).words[0], bits::TIMER, "its bit");
        c.that(sys::now() >= start + after * MS, "not before its time");
    }
    c.equal(close(e), Ok(0), "close");
    c.equal(sys::notify(e, 1), Err(Error::BadHandle), "closed");
}
