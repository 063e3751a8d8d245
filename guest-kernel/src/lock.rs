//! The kernel lock: taken at every entry, released at its end. Interrupts are off meanwhile.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, Ordering};

static LOCKED: AtomicBool = AtomicBool::new(false);

#[inline(always)]
pub fn acquire() {
    while LOCKED.swap(true, Ordering::Acquire) {
        while LOCKED.load(Ordering::Relaxed) {
            spin_loop();
        }
    }
}

#[inline(always)]
pub fn release() {
    LOCKED.store(false, Ordering::Release);
}
