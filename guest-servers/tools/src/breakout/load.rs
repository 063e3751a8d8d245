//! Floods and exhaustion: attempts that are allowed one by one and must not harm others together.
//!
//! ```text
//! breakout flood KIND THREADS MS   counts what THREADS threads get done in MS milliseconds, and prints it
//! breakout messages SEED           random messages to every service this process can reach
//! breakout exhaust                 takes memory, handles and threads until refused, then ends
//! breakout share MS                works for MS milliseconds; the percent of the processor's time it had
//! ```
//! Fairness is measured by counts of the same kind taken at the same time: whoever floods with N threads
//! gets at most what N honest processes would.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

use xinim_abi::info::{Kind, ProcessInfo};
use xinim_abi::interface::Request as _;
use xinim_abi::ipc::{Message, Tag};
use xinim_abi::object::{Handle, LARGE_PAGE_SIZE, MemoryFlags, PAGE_SIZE, Protection, SELF};
use xinim_abi::services::pm::pm;
use xinim_abi::services::rs::rs;
use xinim_abi::start::role;
use xinim_rt::{kip, start, sys};

const STACK: usize = 4 * PAGE_SIZE;
const PRIORITY: u64 = 8;
const MESSAGES: u32 = 300;
/// Iterations of a spinning thread between two looks at the clock.
const SPINS: u32 = 10_000;
/// Where memory that is taken is mapped.
const TAKEN: u64 = 0x5000_0000_0000;
const PIECES: [(u64, MemoryFlags); 3] = [
    (LARGE_PAGE_SIZE as u64, MemoryFlags::LARGE),
    (64 << 10, MemoryFlags::empty()),
    (PAGE_SIZE as u64, MemoryFlags::empty()),
];
const PIECES_MAX: u64 = 4096;
const THREADS_MAX: usize = 300;

/// What every program may do, to everybody's harm: the shutdown, and root's programs kill.
const ALLOWED: [u16; 2] = [rs::Shutdown::OP, pm::Kill::OP];

fn services() -> [Option<Handle>; 3] {
    [Some(start::rs()), start::handle(role::VFS), start::handle(role::PM)]
}

/// One piece of work of a kind; `false`: no such kind.
pub(super) fn work(kind: &str) -> Option<fn()> {
    fn call(handle: Option<Handle>) {
        // No such operation: the smallest thing a server can be asked.
        let message = Message { tag: Tag::new(0x7F7F, 0), words: [0; 6] };
        if let Some(handle) = handle {
            let _ = sys::ipc_call(handle, &message);
        }
    }
    Some(match kind {
        "rs" => || call(services()[0]),
        "vfs" => || call(services()[1]),
        "pm" => || call(services()[2]),
        "spin" => || {
            for spin in 0..SPINS {
                black_box(spin);
            }
        },
        "memory" => || {
            let page = PAGE_SIZE as u64;
            if let Ok(memory) = sys::memory_create(page, MemoryFlags::empty()) {
                let _ = sys::handle_close(memory);
            }
        },
        "forged" => || {
            let _ = sys::irq_ack(0x0FFF_FFFF);
        },
        _ => return None,
    })
}

/// Runs a flood; the status.
pub fn flood(kind: &str, threads: &str, ms: &str) -> i32 {
    let (Some(work), Ok(threads), Ok(ms)) =
        (work(kind), threads.parse::<usize>(), ms.parse::<u64>())
    else {
        xinim_rt::eprintln!("breakout: flood: KIND is rs, vfs, pm, spin, memory or forged");
        return 1;
    };
    let end = kip::now_ns() + ms * 1_000_000;
    let count = Arc::new(AtomicU64::new(0));
    let run = move |count: &AtomicU64| {
        while kip::now_ns() < end {
            work();
            count.fetch_add(1, Ordering::Relaxed);
        }
    };
    for _ in 1..threads {
        let count = Arc::clone(&count);
        if xinim_rt::thread::spawn(STACK, PRIORITY, move || run(&count)).is_err() {
            xinim_rt::eprintln!("breakout: flood: no more threads");
            return 1;
        }
    }
    run(&count);
    xinim_rt::println!("{}", count.load(Ordering::Relaxed));
    0
}

/// What others leave to an honest process, in time of the guest: the speed of the machine does not matter.
fn share(ms: &str) -> i32 {
    let Ok(ms) = ms.parse::<u64>() else { return 1 };
    let used = || {
        let info = sys::info::<ProcessInfo>(Kind::Process, start::pid().into());
        info.map_or(0, |info| info.cpu_ns)
    };
    let (begin, before) = (kip::now_ns(), used());
    while kip::now_ns() < begin + ms * 1_000_000 {
        black_box(());
    }
    let percent = (used() - before) * 100 / (kip::now_ns() - begin).max(1);
    xinim_rt::println!("{percent}");
    0
}

/// Random and half-right messages; every one must be answered, and nobody may die of it.
pub fn messages(seed: &str) -> i32 {
    let Ok(mut state) = seed.parse::<u64>() else { return 1 };
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = state;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    };
    let mut refused = 0;
    for _ in 0..MESSAGES {
        let services = services();
        let Some(service) = services[next() as usize % services.len()] else { continue };
        // Known interfaces and operations more often than others; arguments small, large, or missing.
        let interface = next() % 24;
        let tag = match next() % 4 {
            0 => next() as u16,
            _ => ((interface << 8) | (next() % 24)) as u16,
        };
        let words = [(); 6].map(|()| match next() % 4 {
            0 => 0,
            1 => next() % 64,
            2 => next() >> (next() % 64),
            _ => u64::MAX,
        });
        if ALLOWED.contains(&tag) {
            continue;
        }
        // No handles: those it has are its own to lose.
        let message = Message { tag: Tag::new(tag, 0), words };
        refused += u32::from(sys::ipc_call(service, &message).is_err());
    }
    xinim_rt::println!("{MESSAGES} messages, {refused} refused by the kernel");
    0
}

/// Takes all it can get; what was got last and how it ended. Nothing is given back before the end of the
/// process.
pub fn exhaust() -> i32 {
    // With nothing left it could not say anything for the first time.
    xinim_rt::println!("taking what there is");
    let (mut taken, mut pieces) = (0, 0);
    // The largest first: the fewest steps to the point at which there is nothing left.
    for (size, flags) in PIECES {
        while pieces < PIECES_MAX {
            let Ok(memory) = sys::memory_create(size, flags) else { break };
            let protection = Protection::READ | Protection::WRITE;
            if sys::memory_map(SELF, memory, TAKEN + taken, 0, size, protection).is_err() {
                break;
            }
            (taken, pieces) = (taken + size, pieces + 1);
        }
    }
    let mut handles = 0;
    while handles < 5000 && sys::endpoint_create().is_ok() {
        handles += 1;
    }
    let mut threads = 0;
    while threads < THREADS_MAX
        && sys::thread_create(SELF, idle as *const () as u64, TAKEN + PAGE_SIZE as u64 - 8, 0, 1)
            .is_ok()
    {
        threads += 1;
    }
    xinim_rt::println!("{} MiB, {handles} handles, {threads} threads", taken >> 20);
    0
}

extern "C" fn idle(_: u64) -> ! {
    loop {
        sys::thread_sleep(kip::now_ns() + 1_000_000_000);
    }
}

/// The words of a command line after `breakout`, if they are one of these.
pub fn run(args: &[String]) -> Option<i32> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    Some(match words.as_slice() {
        ["flood", kind, threads, ms] => flood(kind, threads, ms),
        ["messages", seed] => messages(seed),
        ["exhaust"] => exhaust(),
        ["share", ms] => share(ms),
        _ => return None,
    })
}
