//! Frames on a stream socket, each behind its length (four bytes, big-endian): what passt, QEMU's
//! `stream` back end and libkrun speak.
//!
//! A frame that the socket has taken in part is kept and goes first. When the peer goes, frames are
//! dropped from then on: the cable leads nowhere.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use xinim_abi::hw::virtio_net::Header;
use xinim_devices::net::{Frame, MAX_FRAME, NetBackend, Sent};

use crate::Endpoint;

const LENGTH: usize = 4;
/// Read at a time.
const CHUNK: usize = 128 << 10;

/// A connected socket.
#[derive(Debug)]
pub struct Stream {
    socket: Option<UnixStream>,
    /// Not yet with the socket.
    output: Vec<u8>,
    input: Vec<u8>,
    /// Bytes of `input` already used.
    taken: usize,
}

impl Stream {
    pub fn connect(path: &Path) -> Result<Self, String> {
        let name = path.display();
        let socket = UnixStream::connect(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => format!("there is no socket {name}; is passt running?"),
            ErrorKind::ConnectionRefused => format!("nobody listens on socket {name}"),
            _ => format!("socket {name} cannot be connected to: {error}"),
        })?;
        Self::new(socket).map_err(|error| format!("socket {name} cannot be used: {error}"))
    }

    pub fn new(socket: UnixStream) -> std::io::Result<Self> {
        socket.set_nonblocking(true)?;
        Ok(Self { socket: Some(socket), output: Vec::new(), input: Vec::new(), taken: 0 })
    }

    /// Whether all output is with the socket.
    fn flush(&mut self) -> bool {
        while !self.output.is_empty() {
            let Some(socket) = &mut self.socket else {
                self.output.clear();
                return true;
            };
            match socket.write(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => self.socket = None,
            }
        }
        true
    }

    /// Reads on; `false` when there is nothing.
    fn fill(&mut self) -> bool {
        let Some(socket) = &mut self.socket else { return false };
        self.input.drain(..self.taken);
        self.taken = 0;
        let start = self.input.len();
        self.input.resize(start + CHUNK, 0);
        let result = socket.read(&mut self.input[start..]);
        self.input.truncate(start + *result.as_ref().unwrap_or(&0));
        match result {
            Ok(0) => {
                self.socket = None;
                false
            }
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(_) => {
                self.socket = None;
                false
            }
        }
    }
}

impl NetBackend for Stream {
    fn send(&mut self, frame: &Frame) -> Sent {
        if !self.flush() {
            return Sent::Later;
        }
        if frame.data.len() <= MAX_FRAME {
            self.output.extend_from_slice(&(frame.data.len() as u32).to_be_bytes());
            self.output.extend_from_slice(&frame.data);
            self.flush();
        }
        Sent::Done
    }

    fn receive(&mut self, frame: &mut Frame) -> bool {
        loop {
            let rest = &self.input[self.taken..];
            if let Some(head) = rest.first_chunk::<LENGTH>() {
                let length = u32::from_be_bytes(*head) as usize;
                if length > MAX_FRAME {
                    // The peer speaks something else: nothing after this can be understood.
                    self.socket = None;
                    self.input.clear();
                    self.taken = 0;
                    return false;
                }
                if let Some(data) = rest.get(LENGTH..LENGTH + length) {
                    frame.header = Header::default();
                    frame.data.clear();
                    frame.data.extend_from_slice(data);
                    self.taken += LENGTH + length;
                    return true;
                }
            }
            if !self.fill() {
                return false;
            }
        }
    }
}

impl Endpoint for Stream {
    fn watch(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
