//! Where a vCPU was, and how it came there: the return addresses on its stack, with names.
//!
//! The guest keeps neither frame pointers nor unwind tables in memory, so this is the method of
//! Linux's `?` lines: every word on the stack that points behind a `call` instruction in code is a
//! caller. A frame that has returned may still show; none that has not is missed, unless the
//! stack is deeper than what is searched.

use std::fmt::Write;

use crate::symbols::{Images, KERNEL_HALF};

/// Words of the stack searched.
const WORDS: u64 = 1024;
/// Callers shown.
const FRAMES: usize = 24;
/// Longest `call` instruction looked for: with a 32-bit displacement and a SIB byte.
const CALL_MAX: u64 = 7;

/// Memory as the place sees it: a running guest's, or a core's.
pub trait View {
    /// The bytes from a linear address on, if all of them are there.
    fn read(&self, linear: u64, data: &mut [u8]) -> bool;
}

/// What is known of the place.
pub struct Place<'a> {
    pub memory: &'a dyn View,
    pub rip: u64,
    pub rsp: u64,
    pub images: &'a Images,
    /// Name of the process that runs there.
    pub process: Option<&'a str>,
}

/// One line for the place itself and for each caller.
pub fn write(out: &mut String, place: &Place<'_>) -> std::fmt::Result {
    writeln!(out, "backtrace (callers: return addresses found on the stack):")?;
    for (number, line) in place.lines(FRAMES).iter().enumerate() {
        writeln!(out, "  #{number:<2} {line}")?;
    }
    Ok(())
}

impl Place<'_> {
    /// The place itself and its callers, `most` lines at most.
    pub fn lines(&self, most: usize) -> Vec<String> {
        let places = std::iter::once(self.rip).chain(self.callers());
        places.take(most).map(|address| self.describe(address)).collect()
    }

    fn word(&self, linear: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.memory.read(linear, &mut bytes).then(|| u64::from_le_bytes(bytes))
    }

    fn byte(&self, linear: u64) -> Option<u8> {
        let mut byte = [0];
        self.memory.read(linear, &mut byte).then_some(byte[0])
    }

    fn callers(&self) -> Vec<u64> {
        let start = self.rsp & !7;
        let words = (0..WORDS).map_while(|index| self.word(start.wrapping_add(index * 8)));
        words.filter(|value| self.is_return_address(*value)).take(FRAMES).collect()
    }

    fn is_return_address(&self, address: u64) -> bool {
        if !self.images.at(address, self.process).is_code(address) {
            return false;
        }
        let before = |distance: u64| self.byte(address.wrapping_sub(distance));
        // E8 rel32; FF /2 with its forms of 2, 3, 4, 6 and 7 bytes.
        if before(5) == Some(0xE8) {
            return true;
        }
        (2..=CALL_MAX).any(|length| {
            before(length) == Some(0xFF)
                && before(length - 1).is_some_and(|modrm| modrm >> 3 & 7 == 2)
        })
    }

    fn describe(&self, address: u64) -> String {
        let name = self.images.at(address, self.process).name(address);
        let whose = match self.process {
            _ if address >= KERNEL_HALF => "kernel",
            Some(process) => process,
            None => "",
        };
        match name {
            Some(name) if whose.is_empty() => format!("{address:016x} {name}"),
            Some(name) => format!("{address:016x} {whose}: {name}"),
            None => format!("{address:016x}"),
        }
    }
}
