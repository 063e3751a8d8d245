//! From the host's bytes to frames, in whatever pieces they come.
//!
//! ```text
//! Header --8 bytes--> Payload(Command | Stdin) --length bytes--> Header
//!          \--------> Skip (unknown, malformed, not for us) ----'
//! ```
//! A frame that is not understood is skipped by its length, so one bad frame does not take the
//! stream along. Standard input is passed on as it comes; only a command is collected.

use alloc::vec::Vec;
use xinim_abi::hostlink::{HEADER_LEN, Header, Kind};

/// What arrived.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// The command, whole.
    Command(Vec<u8>),
    /// A piece of standard input.
    Stdin(&'a [u8]),
    StdinEof,
    /// A frame was skipped.
    Ignored,
}

#[derive(Debug)]
enum State {
    Header { bytes: [u8; HEADER_LEN], have: usize },
    Command { text: Vec<u8>, left: usize },
    Stdin { left: usize },
    Skip { left: usize },
}

/// The decoder of one stream.
#[derive(Debug)]
pub struct Decoder {
    state: State,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { state: HEADER }
    }
}

const HEADER: State = State::Header { bytes: [0; HEADER_LEN], have: 0 };

impl Decoder {
    /// Takes in bytes and reports what they complete.
    pub fn feed(&mut self, mut bytes: &[u8], mut event: impl FnMut(Event<'_>)) {
        while !bytes.is_empty() {
            let rest = self.step(bytes, &mut event);
            bytes = rest;
        }
    }

    fn step<'a>(&mut self, bytes: &'a [u8], event: &mut impl FnMut(Event<'_>)) -> &'a [u8] {
        match &mut self.state {
            State::Header { bytes: header, have } => {
                let take = bytes.len().min(HEADER_LEN - *have);
                let (now, rest) = bytes.split_at(take);
                header[*have..*have + take].copy_from_slice(now);
                *have += take;
                if *have == HEADER_LEN {
                    let header = *header;
                    self.begin(&header, event);
                }
                rest
            }
            State::Command { text, left } => {
                let (now, rest) = bytes.split_at(bytes.len().min(*left));
                text.extend_from_slice(now);
                *left -= now.len();
                if *left == 0 {
                    event(Event::Command(core::mem::take(text)));
                    self.state = HEADER;
                }
                rest
            }
            State::Stdin { left } => {
                let (now, rest) = bytes.split_at(bytes.len().min(*left));
                *left -= now.len();
                if *left == 0 {
                    self.state = HEADER;
                }
                event(Event::Stdin(now));
                rest
            }
            State::Skip { left } => {
                let take = bytes.len().min(*left);
                *left -= take;
                if *left == 0 {
                    self.state = HEADER;
                }
                &bytes[take..]
            }
        }
    }

    /// A header is complete.
    fn begin(&mut self, bytes: &[u8; HEADER_LEN], event: &mut impl FnMut(Event<'_>)) {
        self.state = HEADER;
        match Header::decode(bytes) {
            Ok(Header { kind: Kind::Command, len: 0 }) => event(Event::Command(Vec::new())),
            Ok(Header { kind: Kind::Command, len }) => {
                // Bounded: the header was checked against the longest payload.
                self.state = State::Command { text: Vec::with_capacity(len), left: len };
            }
            Ok(Header { kind: Kind::Stdin, len: 0 }) => {}
            Ok(Header { kind: Kind::Stdin, len }) => self.state = State::Stdin { left: len },
            Ok(Header { kind: Kind::StdinEof, len: 0 }) => event(Event::StdinEof),
            _ => {
                event(Event::Ignored);
                let len = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
                if len > 0 {
                    self.state = State::Skip { left: len as usize };
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
