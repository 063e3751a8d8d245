//! Lines for the kernel log (`dmesg`): they never block and need no server.

use core::fmt;

use crate::sys;

const LINE_MAX: usize = 512;

/// One line, cut at [`LINE_MAX`] bytes.
#[derive(Debug)]
pub struct LogLine {
    bytes: [u8; LINE_MAX],
    len: usize,
}

impl Default for LogLine {
    fn default() -> Self {
        Self::new()
    }
}

impl LogLine {
    pub const fn new() -> Self {
        Self { bytes: [0; LINE_MAX], len: 0 }
    }

    pub fn text(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    pub fn send(&self) {
        sys::log_write(self.text());
    }
}

impl fmt::Write for LogLine {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let count = text.len().min(LINE_MAX - self.len);
        self.bytes[self.len..self.len + count].copy_from_slice(&text.as_bytes()[..count]);
        self.len += count;
        Ok(())
    }
}

/// A line into the kernel log.
#[macro_export]
macro_rules! log {
    ($($arg:tt)*) => {{
        let mut line = $crate::log::LogLine::new();
        let _ = core::fmt::Write::write_fmt(&mut line, format_args!($($arg)*));
        line.send();
    }};
}
