//! Attempts at more than one's share: priorities, threads, memory for devices; and whether refusals are
//! counted.

use xinim_abi::info::{Kind, ProcessInfo};
use xinim_abi::object::{MemoryFlags, PAGE_SIZE, Protection, SELF};
use xinim_abi::syscall;
use xinim_rt::{start, sys};

use super::Attempt;
use super::calls::{FREE_ADDRESS, forged};
use crate::raw;

pub const ATTEMPTS: &[(&str, &str, Attempt)] = &[
    ("counted", "refusals that nobody counts", counted),
    ("priority", "a thread or a process of a higher priority than its own limit", priority),
    ("many-threads", "more threads than its limit", many_threads),
    ("dma", "memory for devices, their domains, and releasing what a dead driver left", dma),
];

fn refused_so_far() -> Option<u64> {
    let record = sys::info::<ProcessInfo>(Kind::Process, start::pid().into()).ok()?;
    (record.pid == start::pid()).then_some(record.refused)
}

/// Every one of 20 refused calls shows in the kernel's count.
fn counted() -> bool {
    let Some(before) = refused_so_far() else { return false };
    let attempts = forged().take(20).filter(|handle| sys::irq_ack(*handle).is_err()).count();
    refused_so_far().is_some_and(|now| now >= before + attempts as u64 && attempts == 20)
}

/// RS's level, its own plus one, and nonsense, for a thread and for the limit of its own process.
fn priority() -> bool {
    let own = sys::info::<ProcessInfo>(Kind::Process, start::pid().into());
    let Ok(own) = own else { return false };
    let entry = priority as *const () as u64;
    let higher = [u64::from(own.priority) + 1, 20, 24, 31, 32, 255, u64::MAX];
    higher.into_iter().filter(|level| *level > u64::from(own.priority)).all(|level| {
        // A limit may be above the first thread's level, but never at that of drivers.
        let created = sys::thread_create(SELF, entry, 0, 0, level);
        let limited = sys::process_limit(SELF, syscall::limit::PRIORITY, level);
        (level < 20 || created.is_err()) && limited.is_err()
    })
}

fn many_threads() -> bool {
    extern "C" fn rest(_: u64) -> ! {
        loop {
            sys::thread_sleep(xinim_rt::time::now_ns() + 1_000_000_000);
        }
    }
    let page = PAGE_SIZE as u64;
    let Ok(memory) = sys::memory_create(page, MemoryFlags::empty()) else { return false };
    let both = Protection::READ | Protection::WRITE;
    if sys::memory_map(SELF, memory, FREE_ADDRESS, 0, page, both).is_err() {
        return false;
    }
    let entry = rest as *const () as u64;
    // All on one stack: none of them uses it for more than a return address.
    (0..5000).any(|_| sys::thread_create(SELF, entry, FREE_ADDRESS + page - 8, 0, 1).is_err())
}

/// With each handle this process has, with its own memory, and with none.
fn dma() -> bool {
    let page = PAGE_SIZE as u64;
    let Ok(memory) = sys::memory_create(page, MemoryFlags::CONTIGUOUS) else { return true };
    let own = start::all_handles().iter().map(|h| h.handle);
    own.chain([SELF, memory]).all(|handle| {
        let numbers = [
            syscall::DEVICE_CREATE,
            syscall::DEVICE_PIN,
            syscall::DEVICE_UNPIN,
            syscall::DEVICE_RESET_DONE,
        ];
        // SAFETY: no call of these touches this process's memory; refusing them is what is tested.
        numbers.into_iter().all(|number| unsafe {
            raw::call(number, [handle.into(), memory.into(), 0, page, 0, 0]).is_err()
                && raw::call(number, [memory.into(), handle.into(), 0, page, 0, 0]).is_err()
        })
    })
}
