//! A unix socket that a test listens on, and the bytes that have come from it.

use crate::Error;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// Bytes that may wait for the end of their line or object.
const MAX_PENDING: usize = 256 << 20;

pub struct Connection {
    stream: UnixStream,
    pub pending: Vec<u8>,
}

impl Connection {
    pub fn open(path: &str) -> Result<Self, Error> {
        let stream = UnixStream::connect(path)
            .map_err(Error::host(format!("connecting to the socket {path}")))?;
        Ok(Self { stream, pending: Vec::new() })
    }

    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Takes what has come; call when the socket is readable. `false`: the other side is gone.
    pub fn fill(&mut self) -> bool {
        let mut buffer = [0; 64 << 10];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(count) => {
                self.pending.extend_from_slice(&buffer[..count]);
                self.pending.len() <= MAX_PENDING
            }
            Err(error) => error.kind() == std::io::ErrorKind::Interrupted,
        }
    }

    /// The next whole line, without its end.
    pub fn line(&mut self) -> Option<String> {
        let end = self.pending.iter().position(|byte| *byte == b'\n')?;
        let line: Vec<u8> = self.pending.drain(..=end).collect();
        Some(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    /// Waits until the other side has taken it. `false`: it is gone.
    pub fn send(&mut self, text: &str) -> bool {
        self.stream.write_all(text.as_bytes()).is_ok()
    }
}
