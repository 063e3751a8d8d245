//! The kernel log: lines from the kernel and from processes, in a ring; mirrored to the console
//! when the command line has `klog=debugcon`. No formatting beyond decimal numbers.

use core::cell::Cell;

use xinim_kernel_logic::log_ring::{LogRing, decimal};

use crate::console;
use crate::global::Global;
use crate::time;

const SIZE: usize = 64 * 1024;

static RING: Global<LogRing<SIZE>> = Global::new(LogRing::new());
static MIRROR: Global<Cell<bool>> = Global::new(Cell::new(false));

pub fn set_mirror(on: bool) {
    MIRROR.set(on);
}

/// Writes a line: time, name, text. Control characters in `text` become spaces, so that a line
/// stays one.
pub fn line(name: &[u8], text: impl Iterator<Item = u8>) {
    let ns = time::now_ns();
    let start = RING.end();
    RING.push(b'[');
    decimal(ns / 1_000_000_000, 1, |b| RING.push(b));
    RING.push(b'.');
    decimal(ns / 1000 % 1_000_000, 6, |b| RING.push(b));
    for &byte in b"] ".iter().chain(name).chain(b": ") {
        RING.push(byte);
    }
    text.for_each(|byte| RING.push(if byte < b' ' || byte == 0x7F { b' ' } else { byte }));
    RING.push(b'\n');
    if MIRROR.get() {
        (start..RING.end()).for_each(|at| console::write(&[RING.at(at)]));
    }
}

/// A line of the kernel's own.
pub fn kernel(text: &str) {
    line(b"kernel", text.bytes());
}

/// The ring, for `LOG_READ`.
pub fn ring() -> &'static LogRing<SIZE> {
    &RING
}
