//! What of the sockets outlives the server.
//!
//! ```text
//! journal   1             the configuration (kept.rs)
//!           1 << 62 | n   the socket whose cookie is n: addresses, options, state   (record.rs)
//!           1 << 63 | …   answers of numbered requests                              (xinim-keep)
//! memories  one for each connection: bytes under way                                (mirror.rs)
//! ```
//! A record changes with the request that changes its socket, before anybody is answered or a frame goes
//! out ([`Stack::commit`](crate::Stack::commit)). What happens between requests, arrivals and acknowledgements,
//! is in the connection's memory at once ([`tap`]). The next instance makes every socket again under its
//! cookie; connections go on when their interface is back.
//!
//! Not kept: Unix-domain sockets and captures, datagrams that were not read, connections that nobody has
//! accepted, and connections for which there is no memory.

pub mod flow;
pub mod mirror;
pub mod record;
pub mod tap;

use alloc::boxed::Box;
use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::ipc::Message;
use xinim_keep::{Area, Journal, Ticket};

use mirror::Mirror;

/// Memory that outlives this server.
pub trait Vault {
    /// What is kept under `key`: `len` bytes, made if it is not there.
    fn open(&mut self, key: u64, len: usize) -> Result<Box<dyn Area>>;
    fn forget(&mut self, key: u64);
}

const CONFIGURATION: u64 = 1;
const SOCKETS: u64 = 1 << 62;
const ANSWERS: u64 = 1 << 63;
/// Bits of a cookie.
pub const COOKIE_BITS: u32 = 62;
/// The first connection's memory; lower keys are the server's own.
const FIRST_MEMORY: u64 = 16;
/// Room in the journal that new sockets leave to the changes of others, bytes.
const RESERVE: usize = 32 * 1024;
/// Memories are whole pages.
const PAGE: usize = 4096;

/// The kept state's way in and out. Without a journal nothing is kept.
#[derive(Default)]
pub struct Lasting {
    journal: Option<Journal<Box<dyn Area>>>,
    vault: Option<Box<dyn Vault>>,
    memories: BTreeSet<u64>,
    /// Sockets whose records are not as they are.
    dirty: BTreeSet<u64>,
    /// Connections that had no memory for it.
    pub refused: u64,
}

impl Lasting {
    pub fn new(journal: Journal<Box<dyn Area>>, vault: Box<dyn Vault>) -> Self {
        Self { journal: Some(journal), vault: Some(vault), ..Self::default() }
    }

    pub fn configuration(&self) -> Option<&[u8]> {
        self.journal.as_ref()?.get(CONFIGURATION)
    }

    pub fn put_configuration(&mut self, text: &str) {
        if let Some(journal) = &mut self.journal {
            journal.put(CONFIGURATION, text.as_bytes());
        }
    }

    /// Nothing of it is taken up.
    pub fn clear(&mut self) -> Result<()> {
        self.memories.clear();
        self.journal.as_mut().map_or(Ok(()), Journal::clear)
    }

    /// Cookies and records of the last instance.
    pub fn records(&self) -> Vec<(u64, Vec<u8>)> {
        let Some(journal) = &self.journal else { return Vec::new() };
        let records = journal.range(SOCKETS..=ANSWERS - 1);
        records.map(|(key, bytes)| (key & !SOCKETS, bytes.to_vec())).collect()
    }

    pub fn touch(&mut self, cookie: u64) {
        if self.journal.is_some() {
            self.dirty.insert(cookie);
        }
    }

    pub fn take_dirty(&mut self) -> BTreeSet<u64> {
        core::mem::take(&mut self.dirty)
    }

    /// `None`: there is nothing to be kept of it (any more).
    pub fn put(&mut self, cookie: u64, record: Option<&[u8]>) {
        let Some(journal) = &mut self.journal else { return };
        let key = SOCKETS | cookie;
        match record {
            Some(record) if journal.get(key).is_some() || journal.room() > RESERVE => {
                journal.put(key, record);
            }
            _ => journal.remove(key),
        }
    }

    /// Everything put is kept from here on. `NoSpc`: nothing is any more.
    pub fn commit(&mut self) -> Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        let result = journal.commit();
        if result.is_err() {
            self.journal = None;
        }
        result
    }

    /// The answer that this very request was given by the last instance.
    pub fn answered(&self, ticket: Ticket) -> Option<Message> {
        self.journal.as_ref()?.noted(ANSWERS, ticket)
    }

    pub fn answer(&mut self, ticket: Option<Ticket>, message: &Message) {
        if let (Some(journal), Some(ticket)) = (&mut self.journal, ticket) {
            journal.note(ANSWERS, ticket, message);
        }
    }

    /// The process is gone.
    pub fn forget_process(&mut self, pid: u32) {
        if let Some(journal) = &mut self.journal {
            journal.forget_answers(ANSWERS, pid);
        }
    }

    /// The memory belongs to a connection of the last instance, which is not back yet.
    pub fn reserve(&mut self, key: u64) {
        self.memories.insert(key);
    }

    /// Memory for a new connection with buffers of so many bytes, and its key.
    pub fn make(&mut self, out: usize, incoming: usize) -> Result<(u64, Mirror)> {
        let free = (FIRST_MEMORY..).find(|key| !self.memories.contains(key));
        let key = free.ok_or(Error::Limit)?;
        let mirror = self.open(key, out, incoming);
        match mirror {
            Ok(mirror) => Ok((key, mirror)),
            Err(error) => {
                self.refused += 1;
                Err(error)
            }
        }
    }

    /// The memory of a connection.
    pub fn open(&mut self, key: u64, out: usize, incoming: usize) -> Result<Mirror> {
        let vault = self.vault.as_mut().ok_or(Error::NoMem)?;
        self.journal.as_ref().ok_or(Error::NoMem)?;
        let len = mirror::len(out, incoming).next_multiple_of(PAGE);
        let area = vault.open(key, len)?;
        // An instance that died in between may have left one of another size.
        let area = if area.len() < len {
            drop(area);
            vault.forget(key);
            vault.open(key, len)?
        } else {
            area
        };
        let mirror = Mirror::new(area, out, incoming)?;
        self.memories.insert(key);
        Ok(mirror)
    }

    pub fn forget(&mut self, key: u64) {
        if self.memories.remove(&key)
            && let Some(vault) = &mut self.vault
        {
            vault.forget(key);
        }
    }
}
