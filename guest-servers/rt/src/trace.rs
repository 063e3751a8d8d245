//! Trace events of this process, for who looks from outside the machine (`xinim_abi::trace`).
//!
//! While nobody does, an event costs a load and a branch. Otherwise the first one makes the ring;
//! then an event is a few stores into it, without a system call. Where there is no memory for the
//! ring there are no events.

use core::sync::atomic::{AtomicU64, Ordering};

use xinim_abi::error::Result;
use xinim_abi::object::{MemoryFlags, Protection};
use xinim_abi::trace::{PROCESS_RING_LEN, RECORD_SIZE, RING_HEADER, capacity};

use crate::memory::Memory;
use crate::{kip, sys};

pub use xinim_abi::trace::{kind, life, text_words};

/// Address of the ring; 0: none yet.
static RING: AtomicU64 = AtomicU64::new(0);
/// It is being made, or cannot be.
const UNUSABLE: u64 = 1;

/// Whether events are wanted: for those that cost something to put together.
#[inline]
pub fn on() -> bool {
    kip::traced()
}

/// Writes an event, if they are wanted.
#[inline]
pub fn event(kind: u8, name: u16, a: u64, b: u64) {
    if kip::traced() {
        record(kind, name, a, b);
    }
}

/// What becomes of a service.
pub fn service(label: &str, what: u16) {
    let (a, b) = text_words(label);
    event(kind::SERVICE, what, a, b);
}

#[cold]
fn record(kind: u8, name: u16, a: u64, b: u64) {
    let ring = match RING.load(Ordering::Acquire) {
        0 => make(),
        ring => ring,
    };
    if ring == UNUSABLE {
        return;
    }
    // SAFETY: `make` mapped so many bytes for good, page-aligned and zeroed; all use is atomic.
    let words = unsafe {
        core::slice::from_raw_parts(ring as usize as *const AtomicU64, PROCESS_RING_LEN / 8)
    };
    let number = words[0].fetch_add(1, Ordering::AcqRel);
    let at = (RING_HEADER + number as usize % capacity(PROCESS_RING_LEN) * RECORD_SIZE) / 8;
    // The machine reads at any time: a record counts once its number is there.
    words[at + 1].store(0, Ordering::Release);
    words[at].store(kip::tsc(), Ordering::Release);
    words[at + 2].store(a, Ordering::Release);
    words[at + 3].store(b, Ordering::Release);
    let head = u64::from(kind) | u64::from(name) << 16;
    words[at + 1].store(head << 32 | (number + 1) & 0xFFFF_FFFF, Ordering::Release);
}

#[cold]
fn make() -> u64 {
    let claimed = RING.compare_exchange(0, UNUSABLE, Ordering::AcqRel, Ordering::Acquire);
    if let Err(other) = claimed {
        return other;
    }
    let ring = try_make().unwrap_or(UNUSABLE);
    RING.store(ring, Ordering::Release);
    ring
}

fn try_make() -> Result<u64> {
    let memory = Memory::create(PROCESS_RING_LEN as u64, MemoryFlags::CONTIGUOUS)?;
    let mapping = memory.map(Protection::READ | Protection::WRITE)?;
    sys::trace_ring(memory.handle().raw())?;
    let address = mapping.address();
    // Kept as long as the process.
    core::mem::forget(mapping);
    Ok(address)
}
