//! What outlives this server: how it is found at the start, and when it is written.

use alloc::boxed::Box;

use xinim_abi::error::{Error, Result};
use xinim_abi::ipc::Message;
use xinim_abi::services::chardev::chardev;
use xinim_abi::services::socket::socket;
use xinim_keep::{Area, Journal, Ticket};
use xinim_net::kept::Kept;
use xinim_net::lasting::{Lasting, Vault};
use xinim_rt::keep::{self, KeptArea};
use xinim_rt::server::Request;
use xinim_rt::{log, sys};

use crate::NetServer;

/// The journal's key at RS, and its length.
const JOURNAL: u64 = 1;
const JOURNAL_LEN: u64 = 512 * 1024;

/// Memory at RS.
struct AtRs;

impl Vault for AtRs {
    fn open(&mut self, key: u64, len: usize) -> Result<Box<dyn Area>> {
        Ok(Box::new(KeptArea::open(key, len as u64)?))
    }
    fn forget(&mut self, key: u64) {
        // RS being away, it is found again when the key is used next.
        let _ = keep::forget(key);
    }
}

fn journal() -> Result<Journal<Box<dyn Area>>> {
    let area: Box<dyn Area> = Box::new(KeptArea::open(JOURNAL, JOURNAL_LEN)?);
    keep::open(area).map(|(journal, _)| journal)
}

/// Does the request change anything, so that it must not be done twice?
pub fn changes(message: &Message) -> bool {
    use chardev::Call as Device;
    use socket::Call as Socket;
    if let Ok(call) = Device::decode(message) {
        return matches!(call, Device::Read(_) | Device::Write(_));
    }
    matches!(
        Socket::decode(message),
        Ok(Socket::Open(_)
            | Socket::Bind(_)
            | Socket::Listen(_)
            | Socket::Accept(_)
            | Socket::Connect(_)
            | Socket::Send(_)
            | Socket::Receive(_)
            | Socket::Configure(_))
    )
}

/// The ticket of a request that is made once more.
fn repeated(request: &Request) -> Option<Ticket> {
    let tag = request.message.tag;
    Ticket::of(request.sender, tag).filter(|_| tag.is_repeated())
}

/// The ticket under which it is noted how much of a request is done.
fn part(ticket: Ticket) -> Ticket {
    const PART: u16 = 1 << 15;
    Ticket { op: ticket.op | PART, ..ticket }
}

impl NetServer {
    /// What the last instance left, but for what belongs to interfaces: that comes with their drivers.
    pub fn take_up(&mut self) {
        match journal() {
            Ok(journal) => self.stack.net.lasting = Lasting::new(journal, Box::new(AtRs)),
            Err(error) => return log!("net: nothing will be kept: {error}"),
        }
        let Some(record) = self.stack.net.lasting.configuration() else { return };
        let text = core::str::from_utf8(record).map_err(|_| Error::BadMessage);
        let taken = text.and_then(Kept::read).and_then(|mut kept| {
            kept.take_up(&mut self.stack)?;
            Ok(kept)
        });
        match taken {
            Ok(kept) => self.kept = kept,
            Err(error) => {
                log!("the kept state makes no sense ({error}) and is not taken up");
                let _ = self.stack.net.lasting.clear();
                return;
            }
        }
        let (_, bad) = self.stack.take_up();
        if bad > 0 {
            log!("net: {bad} sockets make no sense as they were kept and are gone");
        }
        for owner in self.stack.owners() {
            if sys::watch(owner, self.endpoint, owner.into()).is_err() {
                self.stack.bury(owner);
            }
        }
    }

    /// What has changed is kept from here on: before anybody hears of it.
    pub fn commit(&mut self) {
        if core::mem::take(&mut self.stack.net.changed) {
            let text = self.stack.configuration() + &self.kept.text();
            self.stack.net.lasting.put_configuration(&text);
        }
        if let Err(error) = self.stack.commit() {
            log!("net: nothing is kept any more: {error}");
        }
    }

    /// The answer that a repeated request was given before.
    pub fn answered(&self, request: &Request) -> Option<Message> {
        self.stack.net.lasting.answered(repeated(request)?)
    }

    /// So many bytes of a request are in its caller's window, and its end is not there yet.
    pub fn note_part(&mut self, ticket: Option<Ticket>, done: usize) {
        let mut message = Message::default();
        message.words[0] = done as u64;
        self.stack.net.lasting.answer(ticket.map(part), &message);
    }

    /// How many there were when the last instance died.
    pub fn part(&self, request: &Request) -> usize {
        let ticket = repeated(request).map(part);
        let noted = ticket.and_then(|ticket| self.stack.net.lasting.answered(ticket));
        noted.map_or(0, |message| message.words[0] as usize)
    }
}
