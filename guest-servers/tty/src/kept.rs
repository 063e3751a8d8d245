//! What outlives the terminal's server: the line discipline, what is still to be sent, and the answers of
//! numbered requests.
//!
//! Everything is committed before it is answered, and what is about to be given to the UART before it is
//! given: a death just then costs at most one burst, and repeats none. A character that was taken out of
//! the UART and not yet committed is lost with its reader.

use alloc::vec::Vec;

use xinim_abi::ipc::Message;
use xinim_keep::codec::{Reader, Writer};
use xinim_keep::{Area, Journal, Ticket};

use crate::Discipline;

const DISCIPLINE: u64 = 1 << 56;
/// Position of the first byte, bytes.
const OUTPUT: u64 = 2 << 56;
/// Bytes ever given to the UART.
const SENT: u64 = 3 << 56;
const ANSWERS: u64 = 4 << 56;

/// The records; without a journal nothing is kept.
#[derive(Debug)]
pub struct Kept<A> {
    journal: Option<Journal<A>>,
    sent: u64,
}

impl<A: Area> Kept<A> {
    pub fn new(journal: Option<Journal<A>>) -> Self {
        Self { journal, sent: 0 }
    }

    /// The last instance's discipline, and what it had still to send. `None`: there was none, or its
    /// records make no sense.
    pub fn restore(&mut self) -> Option<(Discipline, Vec<u8>)> {
        let journal = self.journal.as_mut()?;
        let found = || -> xinim_abi::error::Result<(Discipline, Vec<u8>, u64)> {
            let none = xinim_abi::error::Error::NoEnt;
            let discipline = Discipline::restore(journal.get(DISCIPLINE).ok_or(none)?)?;
            let mut output = Reader::new(journal.get(OUTPUT).ok_or(none)?);
            let (first, bytes) = (output.u64()?, output.bytes()?);
            let sent = Reader::new(journal.get(SENT).ok_or(none)?).u64()?;
            let gone = sent.saturating_sub(first).min(bytes.len() as u64);
            Ok((discipline, bytes[gone as usize..].to_vec(), sent))
        };
        match found() {
            Ok((discipline, output, sent)) => {
                self.sent = sent;
                Some((discipline, output))
            }
            Err(_) => {
                let _ = journal.clear();
                None
            }
        }
    }

    pub fn answered(&self, ticket: Ticket) -> Option<Message> {
        self.journal.as_ref()?.noted(ANSWERS, ticket)
    }

    pub fn note(&mut self, ticket: Option<Ticket>, message: &Message) {
        if let (Some(journal), Some(ticket)) = (&mut self.journal, ticket) {
            journal.note(ANSWERS, ticket, message);
        }
    }

    pub fn forget(&mut self, pid: u32) {
        if let Some(journal) = &mut self.journal {
            journal.forget_answers(ANSWERS, pid);
        }
    }

    /// What is so now is kept.
    pub fn commit<'a>(
        &mut self,
        discipline: &Discipline,
        output: impl Iterator<Item = &'a u8>,
    ) -> xinim_abi::error::Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let output: Vec<u8> = output.copied().collect();
        journal.put(DISCIPLINE, &discipline.record());
        journal.put(OUTPUT, &Writer::new().u64(self.sent).bytes(&output).done());
        journal.put(SENT, &Writer::new().u64(self.sent).done());
        let result = journal.commit();
        if result.is_err() {
            self.journal = None;
        }
        result
    }

    /// So many bytes of the output are about to be given to the UART.
    pub fn sending(&mut self, count: usize) {
        self.sent += count as u64;
        if let Some(journal) = &mut self.journal {
            journal.put(SENT, &Writer::new().u64(self.sent).done());
            let _ = journal.commit();
        }
    }
}
