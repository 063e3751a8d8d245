//! The guest's end of the host link: who waits for what, and which frame comes next.
//!
//! ```text
//! outgoing (in order)   Hello | WantStdin  >  Write, Write, Exit ...   each waits for a free buffer
//! readers  (in order)   answered from the input buffer; else WantStdin is sent, once
//! command               answered when the host sent it, and again to whoever asks again
//! ```
//! Flow control: input is asked for only when a program reads, never more than [`INPUT_MAX`] at a
//! time, and what the host sends beyond that is dropped; output is taken only while there is a
//! buffer to send it in, so a program that writes faster than the host reads waits.
//!
//! `C` stands for a waiting client.

use crate::decoder::{Decoder, Event};
use alloc::collections::VecDeque;
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::hostlink::{Kind, MAX_PAYLOAD, VERSION};

/// Bytes of standard input asked for at a time, and so the most that is ever kept.
pub const INPUT_MAX: u32 = MAX_PAYLOAD as u32;

/// What the link needs of its surroundings.
pub trait World<C> {
    /// The longest payload that can be sent now; 0: none.
    fn room(&self) -> usize;
    /// Whether frames are still on their way.
    fn is_sending(&self) -> bool;
    /// Sends a short frame.
    fn send(&mut self, kind: Kind, payload: &[u8]) -> Result<()>;
    /// Sends a frame of `len` bytes at `at` of the client's window.
    fn send_from(&mut self, kind: Kind, client: &C, at: u32, len: usize) -> Result<()>;
    /// Copies input to `at` of the client's window.
    fn deliver(&mut self, client: &C, at: u32, bytes: &[u8]) -> Result<()>;
    /// Copies the command to the client's memory; answers its length.
    fn deliver_command(&mut self, client: &C, text: &[u8]) -> Result<u64>;
    /// Answers a waiting client.
    fn answer(&mut self, client: C, result: Result<Answer>);
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Read(u64),
    Written(u64),
    Command(u64),
    Exited,
}

enum Outgoing<C> {
    Write { client: C, kind: Kind, at: u32, len: u32 },
    Exit { client: C, status: u32 },
}

struct Reader<C> {
    client: C,
    at: u32,
    len: u32,
}

/// Whether the host has been greeted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// Say hello at once: the host's answer then comes while the system still boots.
    Due,
    /// Say hello before the first other frame.
    WhenNeeded,
    /// An earlier instance of this driver did. The host is greeted again only if somebody wants the
    /// command, which that instance took with it.
    ByPredecessor,
    Done,
}

/// The state of the link.
pub struct Link<C> {
    decoder: Decoder,
    greeting: Greeting,
    command: Option<Vec<u8>>,
    command_waiters: Vec<C>,
    input: VecDeque<u8>,
    /// Input asked for and not come yet.
    asked: u32,
    end_of_input: bool,
    readers: VecDeque<Reader<C>>,
    outgoing: VecDeque<Outgoing<C>>,
    /// Exit frames that are sent, whose senders wait until the host has everything.
    exiting: Vec<C>,
    ignored: u64,
}

impl<C> Link<C> {
    pub fn new(greeting: Greeting) -> Self {
        Self {
            decoder: Decoder::default(),
            greeting,
            command: None,
            command_waiters: Vec::new(),
            input: VecDeque::new(),
            asked: 0,
            end_of_input: false,
            readers: VecDeque::new(),
            outgoing: VecDeque::new(),
            exiting: Vec::new(),
            ignored: 0,
        }
    }

    /// Somebody wants the host's command.
    pub fn want_command(&mut self, client: C) {
        if self.greeting == Greeting::ByPredecessor {
            self.greeting = Greeting::Due;
        }
        self.command_waiters.push(client);
    }

    /// Somebody reads standard input.
    pub fn read(&mut self, client: C, at: u32, len: u32) {
        self.readers.push_back(Reader { client, at, len });
    }

    /// Somebody writes to standard output or error.
    pub fn write(&mut self, client: C, kind: Kind, at: u32, len: u32) {
        self.outgoing.push_back(Outgoing::Write { client, kind, at, len });
    }

    /// The command ended.
    pub fn exit(&mut self, client: C, status: u32) {
        self.outgoing.push_back(Outgoing::Exit { client, status });
    }

    /// Forgets waiting clients that are gone.
    pub fn forget(&mut self, gone: impl Fn(&C) -> bool) {
        self.command_waiters.retain(|client| !gone(client));
        self.exiting.retain(|client| !gone(client));
        self.readers.retain(|reader| !gone(&reader.client));
        // An exit status is the host's business, whoever sent it.
        self.outgoing.retain(|out| match out {
            Outgoing::Write { client, .. } => !gone(client),
            Outgoing::Exit { .. } => true,
        });
    }

    /// Bytes from the host.
    pub fn received(&mut self, bytes: &[u8]) {
        let Self { decoder, command, input, asked, end_of_input, ignored, .. } = self;
        decoder.feed(bytes, |event| match event {
            Event::Command(text) => {
                command.get_or_insert(text);
            }
            Event::Stdin(piece) => {
                let take = piece.len().min(*asked as usize);
                *asked -= take as u32;
                input.extend(&piece[..take]);
                *ignored += u64::from(take < piece.len());
            }
            Event::StdinEof => (*end_of_input, *asked) = (true, 0),
            Event::Ignored => *ignored += 1,
        });
    }

    /// Whether something waits for a frame to have gone out.
    pub fn waits_for_room(&self) -> bool {
        !self.outgoing.is_empty() || !self.exiting.is_empty()
    }

    /// Frames and bytes of the host that made no sense.
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// Does what can be done now. Call after every change, and when a frame was sent.
    pub fn pump(&mut self, world: &mut impl World<C>) {
        let greet = match self.greeting {
            Greeting::Due => true,
            Greeting::WhenNeeded => self.anything_waits(),
            Greeting::ByPredecessor | Greeting::Done => false,
        };
        if greet && world.room() > 0 && world.send(Kind::Hello, &VERSION.to_le_bytes()).is_ok() {
            self.greeting = Greeting::Done;
        }
        self.answer_command(world);
        self.answer_readers(world);
        self.send_outgoing(world);
        if !world.is_sending() {
            for client in self.exiting.drain(..) {
                world.answer(client, Ok(Answer::Exited));
            }
        }
    }

    fn is_greeted(&self) -> bool {
        matches!(self.greeting, Greeting::Done | Greeting::ByPredecessor)
    }

    fn anything_waits(&self) -> bool {
        !(self.command_waiters.is_empty() && self.readers.is_empty() && self.outgoing.is_empty())
    }

    fn answer_command(&mut self, world: &mut impl World<C>) {
        let Some(text) = &self.command else { return };
        for client in self.command_waiters.drain(..) {
            let result = world.deliver_command(&client, text).map(Answer::Command);
            world.answer(client, result);
        }
    }

    fn answer_readers(&mut self, world: &mut impl World<C>) {
        while let Some(reader) = self.readers.front() {
            if reader.len > 0 && self.input.is_empty() && !self.end_of_input {
                // Input that was asked for is still on its way, perhaps for a reader now gone.
                if self.is_greeted() && self.asked == 0 && world.room() > 0 {
                    let wanted = reader.len.min(INPUT_MAX);
                    if world.send(Kind::WantStdin, &wanted.to_le_bytes()).is_ok() {
                        self.asked = wanted;
                    }
                }
                return;
            }
            let Some(reader) = self.readers.pop_front() else { return };
            let (first, _) = self.input.as_slices();
            let count = first.len().min(reader.len as usize);
            let result = world.deliver(&reader.client, reader.at, &first[..count]);
            if result.is_ok() {
                self.input.drain(..count);
            }
            world.answer(reader.client, result.map(|()| Answer::Read(count as u64)));
        }
    }

    fn send_outgoing(&mut self, world: &mut impl World<C>) {
        while self.is_greeted() && world.room() > 0 {
            match self.outgoing.pop_front() {
                None => return,
                Some(Outgoing::Exit { client, status }) => {
                    match world.send(Kind::Exit, &status.to_le_bytes()) {
                        Ok(()) => self.exiting.push(client),
                        Err(error) => world.answer(client, Err(error)),
                    }
                }
                Some(Outgoing::Write { client, kind, at, len }) => {
                    let result = send_all(world, kind, &client, at, len);
                    world.answer(client, result.map(Answer::Written));
                }
            }
        }
    }
}

/// Sends as much of a write as there are buffers for: at least one frame, as the caller saw that one
/// was free.
fn send_all<C>(
    world: &mut impl World<C>,
    kind: Kind,
    client: &C,
    at: u32,
    len: u32,
) -> Result<u64> {
    let mut done: u32 = 0;
    while done < len {
        let piece = (len - done).min(world.room().min(MAX_PAYLOAD) as u32);
        if piece == 0 {
            break;
        }
        let from = at.checked_add(done).ok_or(Error::Fault)?;
        match world.send_from(kind, client, from, piece as usize) {
            Ok(()) => done += piece,
            Err(error) if done == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(done.into())
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
