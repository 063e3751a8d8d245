//! The kernel log: a ring of bytes addressed by a position that only grows.

use core::cell::Cell;

pub struct LogRing<const N: usize> {
    bytes: [Cell<u8>; N],
    /// Position behind the last byte written.
    end: Cell<u64>,
}

impl<const N: usize> Default for LogRing<N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const N: usize> LogRing<N> {
    pub const fn new() -> Self {
        Self { bytes: [const { Cell::new(0) }; N], end: Cell::new(0) }
    }

    pub fn push(&self, byte: u8) {
        self.bytes[self.end.get() as usize % N].set(byte);
        self.end.set(self.end.get() + 1);
    }

    /// The oldest position that can still be read from `position` on. What was overwritten is
    /// skipped up to the start of a line.
    pub fn clamp(&self, position: u64) -> u64 {
        let end = self.end.get();
        let oldest = end.saturating_sub(N as u64);
        if position >= oldest {
            return position.min(end);
        }
        (oldest..end).find(|&at| self.at(at) == b'\n').map_or(oldest, |at| at + 1)
    }

    /// The byte at a position between `clamp(0)` and `end`.
    pub fn at(&self, position: u64) -> u8 {
        self.bytes[position as usize % N].get()
    }

    pub fn end(&self) -> u64 {
        self.end.get()
    }
}

/// Decimal digits of `value`, at least `width` of them, to `sink`.
pub fn decimal(value: u64, width: usize, mut sink: impl FnMut(u8)) {
    let mut digits = [b'0'; 20];
    let mut rest = value;
    let mut first = digits.len();
    while rest > 0 || digits.len() - first < width.clamp(1, 20) {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    digits[first..].iter().for_each(|&digit| sink(digit));
}

#[cfg(test)]
#[path = "log_ring_tests.rs"]
mod tests;
