//! Operations of file systems that must not be done twice, and VFS may die in.
//!
//! Before VFS tells a file system to make, remove or move a name, or to append, the *intent* is
//! recorded: what stood there before is known, and nobody but VFS changes it. The next instance looks,
//! before it serves anybody, what became of each intent: the name is there now, or gone, or the file
//! is longer. The process's repeated request is then answered accordingly. Other operations come out
//! the same when they are done again.

use alloc::boxed::Box;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_fs_kit::{FileSystem, Ino};
use xinim_keep::codec::{Reader, Writer};

use crate::keeping::{Ticket, key, kind};
use crate::tree::NodeId;
use crate::vfs::{Host, Vfs};

/// What a file system is about to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// A name that is free will be taken.
    Make {
        dir: NodeId,
        name: Box<[u8]>,
    },
    Remove {
        dir: NodeId,
        name: Box<[u8]>,
        node: NodeId,
    },
    Move {
        node: NodeId,
        from_dir: NodeId,
        from: Box<[u8]>,
        to_dir: NodeId,
        to: Box<[u8]>,
        replaced: Option<Ino>,
    },
    /// `len` bytes to the end, which is at `to`.
    Append {
        node: NodeId,
        to: u64,
        len: u64,
    },
}

/// What the last instance had done of a request when it died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    All,
    /// Bytes were written there.
    Wrote {
        to: u64,
        count: u64,
    },
}

impl Done {
    pub fn write(self, ticket: Ticket) -> Vec<u8> {
        let writer = ticket.put(Writer::new());
        match self {
            Done::All => writer.u8(0),
            Done::Wrote { to, count } => writer.u8(1).u64(to).u64(count),
        }
        .done()
    }

    pub fn read(record: &[u8]) -> Result<(Ticket, Self)> {
        let mut reader = Reader::new(record);
        let ticket = Ticket::get(&mut reader)?;
        let done = match reader.u8()? {
            0 => Done::All,
            1 => Done::Wrote { to: reader.u64()?, count: reader.u64()? },
            _ => return Err(Error::BadMessage),
        };
        reader.end()?;
        Ok((ticket, done))
    }
}

impl Intent {
    fn write(&self, ticket: Ticket) -> Vec<u8> {
        let writer = ticket.put(Writer::new());
        match self {
            Intent::Make { dir, name } => writer.u8(0).u32(*dir).bytes(name),
            Intent::Remove { dir, name, node } => writer.u8(1).u32(*dir).bytes(name).u32(*node),
            Intent::Move { node, from_dir, from, to_dir, to, replaced } => writer
                .u8(2)
                .u32(*node)
                .u32(*from_dir)
                .bytes(from)
                .u32(*to_dir)
                .bytes(to)
                .bool(replaced.is_some())
                .u64(replaced.unwrap_or(0)),
            Intent::Append { node, to, len } => writer.u8(3).u32(*node).u64(*to).u64(*len),
        }
        .done()
    }

    pub fn read(record: &[u8]) -> Result<(Ticket, Self)> {
        let mut reader = Reader::new(record);
        let ticket = Ticket::get(&mut reader)?;
        let intent = match reader.u8()? {
            0 => Intent::Make { dir: reader.u32()?, name: reader.bytes()?.into() },
            1 => {
                let (dir, name) = (reader.u32()?, reader.bytes()?.into());
                Intent::Remove { dir, name, node: reader.u32()? }
            }
            2 => {
                let (node, from_dir, from) = (reader.u32()?, reader.u32()?, reader.bytes()?.into());
                let (to_dir, to) = (reader.u32()?, reader.bytes()?.into());
                let (is, ino) = (reader.bool()?, reader.u64()?);
                Intent::Move { node, from_dir, from, to_dir, to, replaced: is.then_some(ino) }
            }
            3 => Intent::Append { node: reader.u32()?, to: reader.u64()?, len: reader.u64()? },
            _ => return Err(Error::BadMessage),
        };
        reader.end()?;
        Ok((ticket, intent))
    }

    /// The nodes it is about: they are recorded with it, and kept until it is looked at.
    pub fn nodes(&self) -> Vec<NodeId> {
        match *self {
            Intent::Make { dir, .. } => Vec::from([dir]),
            Intent::Remove { dir, node, .. } => Vec::from([dir, node]),
            Intent::Move { node, from_dir, to_dir, .. } => Vec::from([node, from_dir, to_dir]),
            Intent::Append { node, .. } => Vec::from([node]),
        }
    }
}

impl<H: Host> Vfs<H> {
    /// Records what is about to be done for the caller, if it would repeat its request.
    pub(crate) fn intend(&mut self, intent: &Intent) {
        let pid = self.caller;
        let Some(&(ticket, _)) = self.keeping.requests.get(&pid) else { return };
        self.collect();
        let Some(mut journal) = self.keeping.journal.take() else { return };
        for node in intent.nodes() {
            self.keep_node(&mut journal, node);
        }
        journal.put(key(kind::INTENT, pid.into()), &intent.write(ticket));
        self.keeping.journal = Some(journal);
        self.commit_state();
    }

    fn done(&self) -> Option<Done> {
        let ticket = self.repeated(self.caller)?;
        let (of, done) = self.keeping.done.get(&self.caller)?;
        (*of == ticket).then_some(*done)
    }

    /// The last instance did what the caller's repeated request asks for.
    pub(crate) fn is_done(&self) -> bool {
        self.done() == Some(Done::All)
    }

    /// Where the last instance appended bytes for the caller's repeated request, and how many.
    pub(crate) fn wrote(&self) -> Option<(u64, u64)> {
        match self.done() {
            Some(Done::Wrote { to, count }) => Some((to, count)),
            _ => None,
        }
    }

    /// What became of an intent of the last instance; the tree then says what is so. `None`: nothing
    /// was done.
    pub(crate) fn look_up_intent(&mut self, intent: Intent) -> Result<Option<Done>> {
        let done = match intent {
            Intent::Make { dir, name } => self.is_there(dir, &name)?,
            Intent::Remove { dir, name, node } => {
                let gone = !self.is_there(dir, &name)?;
                if gone {
                    self.forget_aliases(dir, node);
                }
                gone
            }
            Intent::Move { node, from_dir, from, to_dir, to, replaced } => {
                let gone = !self.is_there(from_dir, &from)?;
                if gone {
                    self.rename_node(node, replaced, to_dir, &to);
                }
                gone
            }
            Intent::Append { node, to, len } => {
                let size = self.on(node, |fs, ino| fs.attributes(ino))?.size;
                let count = size.saturating_sub(to).min(len);
                return Ok((count > 0).then_some(Done::Wrote { to, count }));
            }
        };
        Ok(done.then_some(Done::All))
    }

    fn is_there(&mut self, dir: NodeId, name: &[u8]) -> Result<bool> {
        match self.on(dir, |fs, ino| fs.lookup(ino, name)) {
            Ok(_) => Ok(true),
            Err(Error::NoEnt) => Ok(false),
            Err(error) => Err(error),
        }
    }
}
