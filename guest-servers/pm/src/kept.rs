//! What outlives the process manager: who is whose child and as whom it runs, statuses that nobody has
//! asked for yet, and the answers of the last numbered requests.
//!
//! ```text
//! request ── work ── Records::update: what differs becomes records ── commit ── reply
//!                └ Spawn: the child is recorded before its first thread starts (`Starting`)
//! ```
//! The next instance adopts each program from the kernel, which kept the obituaries of those that ended
//! meanwhile. A `Starting` child has a thread, or had: then it was started, and the repeated request is
//! answered with it; or it never had one, and is done away with.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::ipc::Message;
use xinim_keep::codec::{Reader, Writer};
use xinim_keep::{Area, Journal, Ticket};

use crate::identity::{GROUPS_MAX, Identity, Triple};
use crate::table::{Process, State, Table};

const META: u64 = 1 << 56;
const PROCESS: u64 = 2 << 56;
const IDENTITY: u64 = 3 << 56;
const ANSWER: u64 = 4 << 56;
const STARTING: u64 = 5 << 56;
const LAST: u64 = (1 << 56) - 1;

/// A child that is being started, and for which request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Starting {
    pub pid: u32,
    pub parent: u32,
    pub ticket: Option<Ticket>,
}

/// Everything the last instance left.
#[derive(Debug, Default)]
pub struct Restored {
    /// Process id of the instance that wrote this last.
    pub manager: u32,
    pub table: Table,
    pub identities: BTreeMap<u32, Identity>,
    pub starting: Option<Starting>,
    pub subscribed: bool,
}

/// The records. Without a journal nothing is kept.
#[derive(Debug)]
pub struct Records<A> {
    journal: Option<Journal<A>>,
    /// Our own process id.
    pid: u32,
}

impl<A: Area> Records<A> {
    pub fn new(journal: Option<Journal<A>>, pid: u32) -> Self {
        Self { journal, pid }
    }

    /// The next instance will know what this one does.
    pub fn are_kept(&self) -> bool {
        self.journal.is_some()
    }

    /// What the last instance left; `NoEnt`: there was none.
    pub fn restore(&self) -> Result<Restored> {
        let journal = self.journal.as_ref().ok_or(Error::NoEnt)?;
        let mut meta = Reader::new(journal.get(META).ok_or(Error::NoEnt)?);
        let (manager, subscribed) = (meta.u32()?, meta.bool()?);
        let mut restored = Restored { manager, subscribed, ..Restored::default() };
        let foreground = (meta.u32()?, meta.u32()?);
        meta.end()?;
        for (key, record) in journal.range(PROCESS..=PROCESS | LAST) {
            let mut reader = Reader::new(record);
            let (parent, zombie, status) = (reader.u32()?, reader.bool()?, reader.u32()?);
            reader.end()?;
            let state = if zombie { State::Zombie { status } } else { State::Running };
            restored.table.put_back(key as u32, Process { parent, state });
        }
        for (key, record) in journal.range(IDENTITY..=IDENTITY | LAST) {
            restored.identities.insert(key as u32, read_identity(record)?);
        }
        if let Some(record) = journal.get(STARTING) {
            let mut reader = Reader::new(record);
            let (pid, parent) = (reader.u32()?, reader.u32()?);
            let (number, op) = (reader.u32()? as u16, reader.u32()? as u16);
            reader.end()?;
            let ticket = (number != 0).then_some(Ticket { pid: parent, number, op });
            restored.starting = Some(Starting { pid, parent, ticket });
        }
        // A foreground program that has ended is none.
        let _ = restored.table.set_foreground(foreground.1, foreground.0);
        Ok(restored)
    }

    /// Begins anew.
    pub fn clear(&mut self) {
        if let Some(journal) = &mut self.journal
            && journal.clear().is_err()
        {
            self.journal = None;
        }
    }

    /// The answer of the last instance to this very request.
    pub fn answer(&self, ticket: Ticket) -> Option<Message> {
        self.journal.as_ref()?.noted(ANSWER, ticket)
    }

    /// A child is there and about to be started.
    pub fn starting(&mut self, starting: Option<Starting>) -> Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        match starting {
            Some(Starting { pid, parent, ticket }) => {
                let (number, op) = ticket.map_or((0, 0), |ticket| (ticket.number, ticket.op));
                let record = Writer::new().u32(pid).u32(parent).u32(number.into()).u32(op.into());
                journal.put(STARTING, &record.done());
            }
            None => journal.remove(STARTING),
        }
        journal.commit()
    }

    /// Stages what is so now.
    pub fn update(
        &mut self,
        table: &Table,
        identities: &BTreeMap<u32, Identity>,
        subscribed: bool,
    ) {
        let Some(journal) = &mut self.journal else { return };
        let (child, parent) = table.foreground().unwrap_or_default();
        let meta = Writer::new().u32(self.pid).bool(subscribed);
        journal.put(META, &meta.u32(child).u32(parent).done());
        for (pid, Process { parent, state }) in table.iter() {
            let (zombie, status) = match state {
                State::Running => (false, 0),
                State::Zombie { status } => (true, status),
            };
            let record = Writer::new().u32(parent).bool(zombie).u32(status).done();
            journal.put(PROCESS | u64::from(pid), &record);
        }
        for (&pid, identity) in identities {
            journal.put(IDENTITY | u64::from(pid), &write_identity(identity));
        }
        let gone = |kind: u64, known: &dyn Fn(u32) -> bool| -> Vec<u64> {
            let keys = journal.range(kind..=kind | LAST).map(|(key, _)| key);
            keys.filter(|&key| !known(key as u32)).collect()
        };
        let mut ended = gone(PROCESS, &|pid| table.get(pid).is_some());
        ended.extend(gone(IDENTITY, &|pid| identities.contains_key(&pid)));
        ended.into_iter().for_each(|key| journal.remove(key));
    }

    /// Notes the answer of a request, if it changed anything.
    pub fn note(&mut self, ticket: Option<Ticket>, message: &Message) {
        let Some(journal) = &mut self.journal else { return };
        journal.remove(STARTING);
        if let Some(ticket) = ticket.filter(|_| journal.is_staged()) {
            journal.note(ANSWER, ticket, message);
        }
    }

    /// A process is gone: nobody repeats its requests.
    pub fn forget(&mut self, pid: u32) {
        if let Some(journal) = &mut self.journal {
            journal.forget_answers(ANSWER, pid);
        }
    }

    /// What is staged is kept. `NoSpc`: nothing is kept any more.
    pub fn commit(&mut self) -> Result<()> {
        let result = self.journal.as_mut().map_or(Ok(()), Journal::commit);
        if result.is_err() {
            self.journal = None;
        }
        result
    }
}

fn write_identity(identity: &Identity) -> Vec<u8> {
    let mut writer = Writer::new();
    for Triple { real, effective, saved } in [identity.uids, identity.gids] {
        writer = writer.u32(real).u32(effective).u32(saved);
    }
    writer = writer.u32(identity.groups.len() as u32);
    for group in identity.groups.iter() {
        writer = writer.u32(*group);
    }
    writer.done()
}

fn read_identity(record: &[u8]) -> Result<Identity> {
    let mut reader = Reader::new(record);
    let mut triple = || -> Result<Triple> {
        Ok(Triple { real: reader.u32()?, effective: reader.u32()?, saved: reader.u32()? })
    };
    let (uids, gids) = (triple()?, triple()?);
    let count = reader.u32()?;
    if count as usize > GROUPS_MAX {
        return Err(Error::BadMessage);
    }
    let groups: Vec<u32> = (0..count).map(|_| reader.u32()).collect::<Result<_>>()?;
    reader.end()?;
    Ok(Identity { uids, gids, groups: groups.into() })
}
