//! Where a vCPU was, and how it came there: the return addresses on its stack, with names.
//!
//! The guest keeps neither frame pointers nor unwind tables in memory, so this is the method of
//! Linux's `?` lines: every word on the stack that points behind a `call` instruction in code is a
//! caller. A frame that has returned may still show; none that has not is missed, unless the
//! stack is deeper than what is searched.

use std::fmt::Write;

use vm_memory::{Bytes, GuestAddress};

use crate::memory::GuestRam;
use crate::symbols::{Images, KERNEL_HALF};
use crate::walk::{Paging, translate};

/// Words of the stack searched.
const WORDS: u64 = 1024;
/// Callers shown.
const FRAMES: usize = 24;
/// Longest `call` instruction looked for: with a 32-bit displacement and a SIB byte.
const CALL_MAX: u64 = 7;

/// What is known of the place.
pub struct Place<'a> {
    pub ram: &'a GuestRam,
    pub paging: Paging,
    pub rip: u64,
    pub rsp: u64,
    pub images: &'a Images,
    /// Name of the process that runs there.
    pub process: Option<&'a str>,
}

/// One line for the place itself and for each caller.
pub fn write(out: &mut String, place: &Place<'_>) -> std::fmt::Result {
    writeln!(out, "backtrace (callers: return addresses found on the stack):")?;
    writeln!(out, "  #0  {}", place.describe(place.rip))?;
    for (number, address) in (1..).zip(place.callers()) {
        writeln!(out, "  #{number:<2} {}", place.describe(address))?;
    }
    Ok(())
}

impl Place<'_> {
    fn word(&self, linear: u64) -> Option<u64> {
        // Stacks are aligned: a word does not cross a page.
        let physical = translate(self.ram, self.paging, linear)?;
        self.ram.map().read_obj(GuestAddress(physical)).ok()
    }

    fn byte(&self, linear: u64) -> Option<u8> {
        let physical = translate(self.ram, self.paging, linear)?;
        self.ram.map().read_obj(GuestAddress(physical)).ok()
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
