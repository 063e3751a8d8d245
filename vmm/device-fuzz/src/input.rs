//! What a fuzzer gives, as numbers that often mean something.

use crate::MEMORY;

/// Bytes as numbers; zeros when they have run out.
pub struct Input<'a>(pub &'a [u8]);

impl Input<'_> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&byte, rest)) => {
                self.0 = rest;
                byte
            }
            None => 0,
        }
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub fn u64(&mut self) -> u64 {
        (0..8).fold(0, |value, _| value << 8 | u64::from(self.byte()))
    }

    /// An address: usually in memory, sometimes near its end, sometimes anywhere.
    pub fn address(&mut self) -> u64 {
        match self.byte() % 8 {
            0 => self.u64(),
            1 => MEMORY as u64 - u64::from(self.byte() % 32),
            _ => u64::from(self.u16()),
        }
    }

    pub fn length(&mut self) -> u32 {
        match self.byte() % 8 {
            0 => self.u64() as u32,
            1 => u32::from(self.byte()),
            2 => 16,
            3 => 1,
            _ => u32::from(self.byte() % 32) * 512,
        }
    }
}
