//! Buffered standard streams over [`Os`] descriptors.
//!
//! [`Output`] collects up to [`OUTPUT_BUFFER`] bytes and remembers the first error, so that a tool
//! reports it once, at its end. Who reads standard input flushes the output first
//! ([`Input::line`] callers do), so that a person at a terminal sees answers in time.

use alloc::vec;
use alloc::vec::Vec;

use crate::{Error, Fd, Os, Result};

/// Bytes an [`Output`] holds back.
pub const OUTPUT_BUFFER: usize = 32 * 1024;
/// Bytes an [`Input`] asks for at once.
const INPUT_BUFFER: usize = 32 * 1024;
/// Restarts of a terminal's service that one [`write_all`] survives.
const RESTARTS_MAX: u32 = 16;
/// Longest line [`Input::line`] gives in one piece; longer ones come in pieces.
pub const LINE_MAX: usize = 1024 * 1024;
/// Largest file [`read_file`] takes into memory.
pub const FILE_MAX: u64 = 64 * 1024 * 1024;

/// All of `bytes`, in as many writes as it takes.
///
/// A terminal whose service was restarted is written to again: what it shows twice then is better
/// than what it never shows. For anything else the caller gets `ServerDied` and decides.
pub fn write_all(os: &dyn Os, fd: Fd, mut bytes: &[u8]) -> Result<()> {
    let mut restarts = 0;
    while !bytes.is_empty() {
        match os.write(fd, bytes) {
            Ok(0) => return Err(Error::Io),
            Ok(count) => bytes = bytes.get(count..).ok_or(Error::BadReply)?,
            Err(Error::ServerDied) if restarts < RESTARTS_MAX && os.is_terminal(fd) => {
                restarts += 1;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Everything from `fd` to its end. `FBig` beyond [`FILE_MAX`].
pub fn read_file(os: &dyn Os, fd: Fd) -> Result<Vec<u8>> {
    let mut data = Vec::new();
    let mut chunk = vec![0; INPUT_BUFFER];
    loop {
        match os.read(fd, &mut chunk)? {
            0 => return Ok(data),
            count => data.extend_from_slice(&chunk[..count]),
        }
        if data.len() as u64 > FILE_MAX {
            return Err(Error::FBig);
        }
    }
}

/// A buffered output stream.
pub struct Output<'a> {
    os: &'a dyn Os,
    fd: Fd,
    buffer: Vec<u8>,
    error: Option<Error>,
}

impl<'a> Output<'a> {
    pub fn new(os: &'a dyn Os, fd: Fd) -> Self {
        Self { os, fd, buffer: Vec::new(), error: None }
    }

    pub fn write(&mut self, bytes: &[u8]) {
        if self.error.is_some() {
            return;
        }
        if self.buffer.len() + bytes.len() > OUTPUT_BUFFER {
            self.flush();
            if bytes.len() >= OUTPUT_BUFFER {
                self.error = write_all(self.os, self.fd, bytes).err().or(self.error);
                return;
            }
        }
        self.buffer.extend_from_slice(bytes);
    }

    pub fn flush(&mut self) {
        if self.error.is_none() && !self.buffer.is_empty() {
            self.error = write_all(self.os, self.fd, &self.buffer).err();
        }
        self.buffer.clear();
    }

    /// The first error so far: no use in producing more.
    pub fn error(&self) -> Option<Error> {
        self.error
    }
}

impl core::fmt::Write for Output<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.write(text.as_bytes());
        Ok(())
    }
}

/// A buffered input stream, by lines or pieces.
pub struct Input<'a> {
    os: &'a dyn Os,
    fd: Fd,
    buffer: Vec<u8>,
    at: usize,
}

impl<'a> Input<'a> {
    pub fn new(os: &'a dyn Os, fd: Fd) -> Self {
        Self { os, fd, buffer: Vec::new(), at: 0 }
    }

    /// The bytes at hand, more of them read if there are none; empty at the end.
    pub fn fill(&mut self) -> Result<&[u8]> {
        if self.at == self.buffer.len() {
            self.buffer.resize(INPUT_BUFFER, 0);
            self.at = 0;
            let count = self.os.read(self.fd, &mut self.buffer);
            self.buffer.truncate(*count.as_ref().unwrap_or(&0));
            count?;
        }
        Ok(&self.buffer[self.at..])
    }

    pub fn consume(&mut self, count: usize) {
        self.at = (self.at + count).min(self.buffer.len());
    }

    /// Appends the next line, with its newline if it has one, to `line`. False at the end.
    pub fn line(&mut self, line: &mut Vec<u8>) -> Result<bool> {
        let start = line.len();
        loop {
            let bytes = self.fill()?;
            if bytes.is_empty() {
                return Ok(line.len() > start);
            }
            let end = bytes.iter().position(|&b| b == b'\n').map(|at| at + 1);
            let take = end.unwrap_or(bytes.len());
            line.extend_from_slice(&bytes[..take]);
            self.consume(take);
            if end.is_some() || line.len() - start >= LINE_MAX {
                return Ok(true);
            }
        }
    }
}
