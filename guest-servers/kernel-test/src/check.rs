//! Counting what holds and what does not.

use crate::sys;

#[derive(Default)]
pub struct Checks {
    failed: u64,
}

impl Checks {
    /// Notes a failure unless `ok`.
    #[track_caller]
    pub fn that(&mut self, ok: bool, what: &str) {
        if !ok {
            self.failed += 1;
            sys::log(what);
            say("  ^ failed at line ", u64::from(core::panic::Location::caller().line()));
        }
    }

    /// Notes a failure unless both are equal; says what was got.
    #[track_caller]
    pub fn equal<T: PartialEq + Into<Shown>>(&mut self, got: T, wanted: T, what: &str) {
        if got != wanted {
            self.that(false, what);
            say("  got ", got.into().0);
        }
    }
}

/// Anything that can be shown as a number.
pub struct Shown(u64);

impl From<u64> for Shown {
    fn from(value: u64) -> Self {
        Shown(value)
    }
}

impl From<xinim_abi::error::Result<u64>> for Shown {
    fn from(value: xinim_abi::error::Result<u64>) -> Self {
        Shown(value.unwrap_or_else(|error| 1_000_000 + error as u64))
    }
}

/// Runs one test; gives the number of failed checks.
pub fn run(name: &str, test: fn(&mut Checks)) -> u64 {
    let mut checks = Checks::default();
    test(&mut checks);
    let mut line = Line::new();
    line.text(if checks.failed == 0 { "ok      " } else { "FAILED  " });
    line.text(name);
    line.send();
    checks.failed
}

/// Logs text and a number.
pub fn say(text: &str, number: u64) {
    let mut line = Line::new();
    line.text(text);
    line.number(number);
    line.send();
}

/// A line being made.
pub struct Line {
    bytes: [u8; 128],
    len: usize,
}

impl Line {
    pub fn new() -> Self {
        Self { bytes: [0; 128], len: 0 }
    }

    pub fn text(&mut self, text: &str) {
        for byte in text.bytes() {
            if let Some(slot) = self.bytes.get_mut(self.len) {
                *slot = byte;
                self.len += 1;
            }
        }
    }

    pub fn number(&mut self, number: u64) {
        let mut divisor = 1;
        while number / divisor >= 10 {
            divisor *= 10;
        }
        while divisor > 0 {
            let digit = [b'0' + (number / divisor % 10) as u8];
            self.text(core::str::from_utf8(&digit).unwrap_or("?"));
            divisor /= 10;
        }
    }

    pub fn send(&self) {
        sys::log(core::str::from_utf8(&self.bytes[..self.len]).unwrap_or("?"));
    }
}
