//! Numbered requests ([`Tag::numbered`]) and the answers they were given: a client that does not know
//! whether its request was done repeats it, and the next instance answers as the last one did.
//!
//! One answer is kept for each process and operation: a process has one request of a kind under way.

use xinim_abi::ipc::{Message, Tag, WORDS};

use crate::codec::{Reader, Writer};
use crate::{Area, Journal};

/// A request with a number, by its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    pub pid: u32,
    pub number: u16,
    pub op: u16,
}

impl Ticket {
    /// `None` for a request without a number.
    pub fn of(pid: u32, tag: Tag) -> Option<Self> {
        (tag.number() != 0).then_some(Self { pid, number: tag.number(), op: tag.op() })
    }

    /// `base` keeps answers apart from other records: the lower 48 bits are the answers'.
    fn key(self, base: u64) -> u64 {
        base | u64::from(self.pid) << 16 | u64::from(self.op)
    }
}

impl<A: Area> Journal<A> {
    /// Stages the answer of a request. It must not carry handles.
    pub fn note(&mut self, base: u64, ticket: Ticket, message: &Message) {
        let mut writer = Writer::new().u32(ticket.number.into()).u64(message.tag.0);
        for word in message.words {
            writer = writer.u64(word);
        }
        self.put(ticket.key(base), &writer.done());
    }

    /// The answer that an instance gave to this very request.
    pub fn noted(&self, base: u64, ticket: Ticket) -> Option<Message> {
        let mut reader = Reader::new(self.get(ticket.key(base))?);
        if reader.u32().ok()? != u32::from(ticket.number) {
            return None;
        }
        let tag = Tag(reader.u64().ok()?);
        let mut words = [0; WORDS];
        for word in &mut words {
            *word = reader.u64().ok()?;
        }
        Some(Message { tag, words })
    }

    /// A process is gone: nobody repeats its requests.
    pub fn forget_answers(&mut self, base: u64, pid: u32) {
        let first = base | u64::from(pid) << 16;
        self.remove_all(first..=first | 0xFFFF);
    }
}
