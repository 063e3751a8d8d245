//! The line discipline: what a person types becomes lines, what programs write becomes what the
//! terminal needs.
//!
//! In line mode: `\r` becomes `\n`; characters are echoed; backspace erases a character, Ctrl-W a
//! word, Ctrl-U the line; Ctrl-D ends the input (or, within a line, hands it over as it is);
//! Ctrl-C drops the line and interrupts. In raw mode bytes pass unchanged and unechoed. `\n` is
//! written as `\r\n` in both.
//!
//! Bounds: a line of [`LINE_MAX`] bytes (more is refused with a bell), [`READY_MAX`] bytes waiting
//! for readers (more is dropped).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_keep::codec::{Reader, Writer};

pub const LINE_MAX: usize = 4096;
pub const READY_MAX: usize = 16 * 1024;

const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BELL: u8 = 7;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 0x15;
const CTRL_W: u8 = 0x17;
const DELETE: u8 = 0x7F;

#[derive(Debug, Default)]
pub struct Discipline {
    raw: bool,
    /// Being typed.
    line: Vec<u8>,
    /// For readers: in line mode an entry a line, an empty one for the end of the input.
    ready: VecDeque<Vec<u8>>,
    ready_len: usize,
    /// The last byte written was `\r`.
    after_return: bool,
}

impl Discipline {
    pub fn is_raw(&self) -> bool {
        self.raw
    }

    /// Answers the old mode. What was typed and not read yet is taken as the new mode says.
    pub fn set_raw(&mut self, raw: bool, echo: &mut Vec<u8>) -> bool {
        let old = core::mem::replace(&mut self.raw, raw);
        if old == raw {
            return old;
        }
        let mut waiting: Vec<u8> = self.ready.drain(..).flatten().collect();
        waiting.append(&mut self.line);
        self.ready_len = 0;
        if raw {
            self.push(waiting);
        } else {
            for byte in waiting {
                self.input(byte, echo);
            }
        }
        old
    }

    /// A byte from the terminal; what is to be shown is appended to `echo`. `true`: Ctrl-C.
    pub fn input(&mut self, byte: u8, echo: &mut Vec<u8>) -> bool {
        if self.raw {
            match self.ready.back_mut() {
                Some(waiting) if self.ready_len < READY_MAX => {
                    waiting.push(byte);
                    self.ready_len += 1;
                }
                Some(_) => {}
                None => self.push(Vec::from([byte])),
            }
            return false;
        }
        match byte {
            CTRL_C => {
                self.line.clear();
                self.output(b"^C\n", echo);
                return true;
            }
            CTRL_D => {
                let line = core::mem::take(&mut self.line);
                self.push(line);
            }
            b'\r' | b'\n' => {
                let mut line = core::mem::take(&mut self.line);
                line.push(b'\n');
                self.output(b"\n", echo);
                self.push(line);
            }
            BACKSPACE | DELETE => self.erase(echo),
            CTRL_U => {
                while !self.line.is_empty() {
                    self.erase(echo);
                }
            }
            CTRL_W => {
                while self.line.last() == Some(&b' ') {
                    self.erase(echo);
                }
                while self.line.last().is_some_and(|&b| b != b' ') {
                    self.erase(echo);
                }
            }
            _ if self.line.len() >= LINE_MAX => echo.push(BELL),
            byte => {
                self.line.push(byte);
                self.show(byte, echo);
            }
        }
        false
    }

    fn push(&mut self, line: Vec<u8>) {
        // An empty entry is the end of the input in line mode and nothing in raw mode.
        if (self.raw && line.is_empty()) || self.ready_len + line.len() > READY_MAX {
            return;
        }
        // Ends of input take room too, or they could pile up without bound.
        self.ready_len += line.len().max(1);
        self.ready.push_back(line);
    }

    fn show(&self, byte: u8, echo: &mut Vec<u8>) {
        match byte {
            b'\t' | b' '..=b'~' | 0x80.. => echo.push(byte),
            control => echo.extend_from_slice(&[b'^', control ^ 0x40]),
        }
    }

    /// Takes the last character back, on the screen too.
    fn erase(&mut self, echo: &mut Vec<u8>) {
        // The bytes behind the first of a UTF-8 character are 10xxxxxx.
        while self.line.len() > 1 && self.line[self.line.len() - 1] & 0xC0 == 0x80 {
            self.line.pop();
        }
        if let Some(byte) = self.line.pop() {
            let columns = if byte < b' ' && byte != b'\t' { 2 } else { 1 };
            for _ in 0..columns {
                echo.extend_from_slice(b"\x08 \x08");
            }
        }
    }

    /// What the terminal gets where a program writes `bytes`.
    pub fn output(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for &byte in bytes {
            if byte == b'\n' && !self.after_return {
                out.push(b'\r');
            }
            self.after_return = byte == b'\r';
            out.push(byte);
        }
    }

    /// Everything, for [`Discipline::restore`].
    pub fn record(&self) -> Vec<u8> {
        let mut writer = Writer::new().bool(self.raw).bool(self.after_return).bytes(&self.line);
        for line in &self.ready {
            writer = writer.bytes(line);
        }
        writer.done()
    }

    /// As the last instance left it. `BadMessage`: it cannot have been so.
    pub fn restore(record: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(record);
        let mut new = Self { raw: reader.bool()?, ..Self::default() };
        new.after_return = reader.bool()?;
        new.line = reader.bytes()?.to_vec();
        while reader.end().is_err() {
            let line = reader.bytes()?.to_vec();
            new.ready_len += line.len().max(1);
            new.ready.push_back(line);
        }
        if new.line.len() > LINE_MAX || new.ready_len > READY_MAX + LINE_MAX {
            return Err(Error::BadMessage);
        }
        Ok(new)
    }

    /// Is there something to read, the end of the input included?
    pub fn is_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Up to `max` bytes of the first line, or all raw bytes; empty for the end of the input.
    /// `None`: nothing yet.
    pub fn read(&mut self, max: usize) -> Option<Vec<u8>> {
        let mut line = self.ready.pop_front()?;
        self.ready_len -= line.len().max(1);
        if line.len() > max {
            let rest = line.split_off(max);
            self.ready_len += rest.len();
            self.ready.push_front(rest);
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;
    use proptest::prelude::*;

    fn typed(discipline: &mut Discipline, bytes: &[u8]) -> String {
        let mut echo = Vec::new();
        for &byte in bytes {
            discipline.input(byte, &mut echo);
        }
        String::from_utf8(echo).unwrap()
    }

    #[test]
    fn lines_with_editing() {
        let mut d = Discipline::default();
        assert_eq!(typed(&mut d, b"ab\x7fc\r"), "ab\x08 \x08c\r\n");
        assert_eq!(d.read(100), Some(b"ac\n".to_vec()));
        assert_eq!(d.read(100), None);
        typed(&mut d, b"one two\x17three\r");
        assert_eq!(d.read(100), Some(b"one three\n".to_vec()));
        typed(&mut d, b"abc\x15x\n");
        assert_eq!(d.read(100), Some(b"x\n".to_vec()));
        typed(&mut d, "aä\x7fb\n".as_bytes());
        assert_eq!(d.read(100), Some(b"ab\n".to_vec()));
        assert_eq!(typed(&mut d, b"\x01\x7f"), "^A\x08 \x08\x08 \x08");
    }

    #[test]
    fn ends_and_interrupts() {
        let mut d = Discipline::default();
        typed(&mut d, b"\x04");
        assert_eq!(d.read(10), Some(Vec::new()));
        typed(&mut d, b"abc\x04");
        assert_eq!(d.read(2), Some(b"ab".to_vec()));
        assert_eq!(d.read(2), Some(b"c".to_vec()));
        let mut echo = Vec::new();
        typed(&mut d, b"abc");
        assert!(d.input(3, &mut echo));
        assert_eq!(echo, b"^C\r\n");
        typed(&mut d, b"x\r");
        assert_eq!(d.read(10), Some(b"x\n".to_vec()));
    }

    #[test]
    fn raw_mode_passes_everything() {
        let mut d = Discipline::default();
        typed(&mut d, b"a line\rhalf");
        let mut echo = Vec::new();
        assert!(!d.set_raw(true, &mut echo));
        assert_eq!(typed(&mut d, b"\x03\x7f\r"), "");
        assert_eq!(d.read(100), Some(b"a line\nhalf\x03\x7f\r".to_vec()));
        typed(&mut d, b"typed ahead\r");
        assert!(d.set_raw(false, &mut echo));
        assert_eq!(echo, b"typed ahead\r\n");
        assert_eq!(d.read(100), Some(b"typed ahead\n".to_vec()));
    }

    #[test]
    fn the_next_instance_goes_on_with_the_line() {
        let mut d = Discipline::default();
        typed(&mut d, b"whole\r\x04half");
        let mut d = Discipline::restore(&d.record()).unwrap();
        assert_eq!(typed(&mut d, b"\x7fve\r"), "\x08 \x08ve\r\n");
        assert_eq!(d.read(100), Some(b"whole\n".to_vec()));
        assert_eq!(d.read(100), Some(Vec::new()), "the end of the input");
        assert_eq!(d.read(100), Some(b"halve\n".to_vec()));
        d.set_raw(true, &mut Vec::new());
        let record = d.record();
        assert!(Discipline::restore(&record).unwrap().is_raw());
        assert_eq!(Discipline::restore(&record[1..]).err(), Some(Error::BadMessage));
    }

    #[test]
    fn newlines_go_out_with_a_return() {
        let mut d = Discipline::default();
        let mut out = Vec::new();
        d.output(b"a\nb\r", &mut out);
        d.output(b"\nc\n", &mut out);
        assert_eq!(out, b"a\r\nb\r\nc\r\n");
    }

    proptest! {
        #[test]
        fn bounded_whatever_comes(
            input in prop::collection::vec((any::<u8>(), 0u8..200), 0..4000), long in 0usize..20_000
        ) {
            let mut d = Discipline::default();
            let mut echo = Vec::new();
            for _ in 0..long {
                d.input(b'x', &mut echo);
            }
            for (byte, action) in input {
                match action {
                    0 => _ = d.set_raw(true, &mut echo),
                    1 => _ = d.set_raw(false, &mut echo),
                    2 => _ = d.read(usize::from(byte)),
                    _ => _ = d.input(byte, &mut echo),
                }
                prop_assert!(d.line.len() <= LINE_MAX);
                prop_assert!(d.ready_len <= READY_MAX + LINE_MAX);
                let bytes: usize = d.ready.iter().map(|line| line.len().max(1)).sum();
                prop_assert_eq!(bytes, d.ready_len);
            }
        }
    }
}
