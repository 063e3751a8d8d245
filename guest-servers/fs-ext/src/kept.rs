//! The running transaction, in memory that outlives the server.
//!
//! ```text
//!   operation 1   operation 2   …        commit: the journal has all of them, the account is empty
//! | block: seal, bytes that changed | … | groups | revoked |
//! ```
//! Metadata reaches the disk with its transaction only. So that the server's death does not take what was
//! answered and not committed, each operation leaves here what it changed. The next instance, after the
//! replay of the journal, does the same changes to what the disk has, and commits them. Doing them over a
//! disk that has them already changes nothing: so it does not matter at which instruction of a commit
//! the server died.

use alloc::boxed::Box;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_keep::codec::{Reader, Writer};
use xinim_keep::{Area, Found, Journal, sum};

use crate::meta::{Change, Content, Meta, Seal};
use crate::superblock::Geometry;

/// Room that an operation may need.
const ROOM: usize = 256 << 10;

/// See the module.
pub struct Account {
    journal: Journal<Box<dyn Area>>,
    found: Found,
    next: u64,
}

/// What an earlier instance had not committed, beside the blocks.
#[derive(Debug, Default)]
pub struct Left {
    pub operations: usize,
    pub touched: Vec<u32>,
    pub revoked: Vec<u64>,
}

/// One operation, read.
struct Operation {
    changes: Vec<Change>,
    touched: Vec<u32>,
    revoked: Vec<u64>,
}

impl Account {
    /// What is in `area`. `Inval`: it is too small.
    pub fn open(area: Box<dyn Area>) -> Result<Self> {
        let (journal, found) = Journal::open(area)?;
        Ok(Self { journal, found, next: 1 })
    }

    /// Nothing is lost of what an earlier instance had answered.
    pub fn restored(&self) -> bool {
        self.found == Found::Restored
    }

    /// Another operation fits.
    pub fn has_room(&self) -> bool {
        self.journal.room() >= ROOM
    }

    /// An operation is over. `NoSpc`: it does not fit, and nothing is kept until the next commit.
    pub fn note<'a>(
        &mut self,
        geo: &Geometry,
        changes: Vec<Change>,
        touched: impl ExactSizeIterator<Item = &'a u32>,
        revoked: &[u64],
    ) -> Result<()> {
        let mut out = Writer::new().u64(identity(geo)).u32(changes.len() as u32);
        for change in &changes {
            out = put_change(out, change);
        }
        out = out.u32(touched.len() as u32);
        for &group in touched {
            out = out.u32(group);
        }
        out = out.u32(revoked.len() as u32);
        for &block in revoked {
            out = out.u64(block);
        }
        self.journal.put(self.next, &out.done());
        self.next += 1;
        self.journal.commit()
    }

    /// Everything is committed.
    pub fn clear(&mut self) -> Result<()> {
        self.journal.clear()
    }

    /// Does to `meta` what was not committed. What makes no sense is `BadMessage`, and nothing is done.
    pub fn take_up(&mut self, geo: &Geometry, meta: &mut Meta<'_>) -> Result<Left> {
        let operations = self.journal.range(1..=u64::MAX);
        let read = operations.map(|(_, record)| read_operation(geo, record));
        let operations = read.collect::<Result<Vec<Operation>>>().inspect_err(|_| {
            self.found = Found::Garbage;
        })?;
        let mut left = Left { operations: operations.len(), ..Left::default() };
        for operation in operations {
            for change in operation.changes {
                meta.redo(change)?;
            }
            left.touched.extend(operation.touched);
            left.revoked.extend(operation.revoked);
        }
        self.next = self.journal.range(1..=u64::MAX).last().map_or(1, |(key, _)| key + 1);
        Ok(left)
    }
}

/// Which volume: its UUID and size.
fn identity(geo: &Geometry) -> u64 {
    sum(geo.blocks, &geo.uuid)
}

fn put_change(out: Writer, change: &Change) -> Writer {
    let out = out.u64(change.block);
    let Some(content) = &change.content else { return out.bool(false) };
    let (kind, seed, at) = match content.seal {
        Seal::None => (0, 0, 0),
        Seal::Directory(seed) => (1, seed, 0),
        Seal::Index(seed, at) => (2, seed, at),
        Seal::Extents(seed) => (3, seed, 0),
        Seal::Attributes(seed) => (4, seed, 0),
        Seal::Superblock(at) => (5, 0, at),
    };
    let out = out.bool(true).bool(content.fresh).u8(kind).u32(seed).u32(at.into());
    content
        .ranges
        .iter()
        .fold(out.u32(content.ranges.len() as u32), |out, (at, bytes)| out.u32(*at).bytes(bytes))
}

fn read_change(geo: &Geometry, reader: &mut Reader<'_>) -> Result<Change> {
    let block = reader.u64()?;
    if block >= geo.blocks {
        return Err(Error::BadMessage);
    }
    if !reader.bool()? {
        return Ok(Change { block, content: None });
    }
    let fresh = reader.bool()?;
    let (kind, seed, at) = (reader.u8()?, reader.u32()?, reader.u32()?);
    let at = u16::try_from(at).map_err(|_| Error::BadMessage)?;
    if usize::from(at) + 8 > geo.block_size {
        return Err(Error::BadMessage);
    }
    let seal = match kind {
        0 => Seal::None,
        1 => Seal::Directory(seed),
        2 => Seal::Index(seed, at),
        3 => Seal::Extents(seed),
        4 => Seal::Attributes(seed),
        5 if (block, usize::from(at)) == geo.superblock() => Seal::Superblock(at),
        _ => return Err(Error::BadMessage),
    };
    let mut ranges = Vec::new();
    for _ in 0..reader.u32()? {
        let (at, bytes) = (reader.u32()?, reader.bytes()?);
        if (at as usize).checked_add(bytes.len()).is_none_or(|end| end > geo.block_size) {
            return Err(Error::BadMessage);
        }
        ranges.push((at, bytes.into()));
    }
    Ok(Change { block, content: Some(Content { fresh, seal, ranges }) })
}

fn read_operation(geo: &Geometry, record: &[u8]) -> Result<Operation> {
    let mut reader = Reader::new(record);
    if reader.u64()? != identity(geo) {
        return Err(Error::BadMessage);
    }
    let mut operation = Operation { changes: Vec::new(), touched: Vec::new(), revoked: Vec::new() };
    for _ in 0..reader.u32()? {
        operation.changes.push(read_change(geo, &mut reader)?);
    }
    for _ in 0..reader.u32()? {
        operation.touched.push(reader.u32()?);
    }
    for _ in 0..reader.u32()? {
        operation.revoked.push(reader.u64()?);
    }
    reader.end()?;
    match operation.touched.iter().all(|&group| group < geo.groups) {
        true => Ok(operation),
        false => Err(Error::BadMessage),
    }
}
