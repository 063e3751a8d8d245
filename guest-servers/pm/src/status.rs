//! Status words: what a program's end is to its parent.

use xinim_abi::event::{Obituary, cause};
use xinim_abi::services::pm::signal;

/// The status word of an obituary: the exit status' low byte, or 128 + a signal's number.
pub fn of(obituary: &Obituary) -> u32 {
    match obituary.cause {
        cause::EXIT => obituary.code as u8 as u32,
        cause::FAULT => 128 + of_exception(obituary.vector),
        _ => 128 + (obituary.code as u32 & 0x7F),
    }
}

/// The signal that a CPU exception would be elsewhere.
fn of_exception(vector: u64) -> u32 {
    match vector {
        0 | 16 | 19 => signal::FPE,
        1 | 3 => signal::TRAP,
        6 | 7 => signal::ILL,
        _ => signal::SEGV,
    }
}
