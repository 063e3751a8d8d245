//! Standard streams.
//!
//! Standard output is buffered: written when 16 KiB are there, at the end of a line if it is a
//! terminal, and at exit. Standard error is written at once. The first error of a stream is kept
//! for [`flush`], so that a tool can report a full disk.

use alloc::vec::Vec;
use core::fmt;

use spin::Mutex;
use xinim_abi::error::{Error, Result};

use crate::fs;

pub const STDIN: u32 = 0;
pub const STDOUT: u32 = 1;
pub const STDERR: u32 = 2;

const BUFFER_LEN: usize = 16 * 1024;

struct Stdout {
    buffer: Vec<u8>,
    terminal: Option<bool>,
    error: Option<Error>,
}

static OUT: Mutex<Stdout> = Mutex::new(Stdout { buffer: Vec::new(), terminal: None, error: None });

impl Stdout {
    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            if let Err(error) = fs::write_all(STDOUT, &self.buffer) {
                self.error.get_or_insert(error);
            }
            self.buffer.clear();
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if self.buffer.len() + bytes.len() > BUFFER_LEN {
            self.flush();
        }
        if bytes.len() > BUFFER_LEN {
            if let Err(error) = fs::write_all(STDOUT, bytes) {
                self.error.get_or_insert(error);
            }
            return;
        }
        self.buffer.extend_from_slice(bytes);
        if bytes.contains(&b'\n') && *self.terminal.get_or_insert_with(|| fs::is_terminal(STDOUT)) {
            self.flush();
        }
    }
}

/// Buffered bytes to standard output.
pub fn write_stdout(bytes: &[u8]) {
    OUT.lock().write(bytes);
}

/// Bytes to standard error, after what is buffered for standard output.
pub fn write_stderr(bytes: &[u8]) {
    let _ = flush();
    let _ = fs::write_all(STDERR, bytes);
}

/// Writes what is buffered; the first error since the last call.
pub fn flush() -> Result<()> {
    let mut out = OUT.lock();
    out.flush();
    out.error.take().map_or(Ok(()), Err)
}

/// Up to `buffer.len()` bytes of standard input.
pub fn read_stdin(buffer: &mut [u8]) -> Result<usize> {
    fs::read(STDIN, buffer)
}

/// A panic's text for programs that have a standard error; services have only the log.
pub(crate) fn panic_message(text: &[u8]) {
    if crate::start::handle(xinim_abi::start::role::VFS).is_some() {
        let _ = fs::write_all(STDERR, text);
        let _ = fs::write_all(STDERR, b"\n");
    }
}

#[doc(hidden)]
#[derive(Debug)]
pub struct Out;

impl fmt::Write for Out {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write_stdout(text.as_bytes());
        Ok(())
    }
}

#[doc(hidden)]
pub fn eprint_args(args: fmt::Arguments<'_>) {
    // One write for one message, so that messages of several programs do not mix.
    let text = alloc::fmt::format(args);
    write_stderr(text.as_bytes());
}

#[macro_export]
macro_rules! print {
    ($($arg:tt)*) => {{
        let _ = core::fmt::Write::write_fmt(&mut $crate::io::Out, format_args!($($arg)*));
    }};
}

#[macro_export]
macro_rules! println {
    () => { $crate::print!("\n") };
    ($($arg:tt)*) => {{
        $crate::print!($($arg)*);
        $crate::print!("\n");
    }};
}

#[macro_export]
macro_rules! eprint {
    ($($arg:tt)*) => { $crate::io::eprint_args(format_args!($($arg)*)) };
}

#[macro_export]
macro_rules! eprintln {
    () => { $crate::eprint!("\n") };
    ($($arg:tt)*) => { $crate::io::eprint_args(format_args!("{}\n", format_args!($($arg)*))) };
}
