//! What outlives the log's server: the text, in pieces as it came, where each reader's 0 is, and how far the
//! kernel's log was read.

use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_keep::codec::{Reader, Writer};
use xinim_keep::{Area, Journal};

use crate::{Readers, Ring};

/// Position in the kernel's log.
const DRAINED: u64 = 1 << 56;
/// By position in the ring.
const PIECE: u64 = 2 << 56;
/// By process.
const READER: u64 = 3 << 56;
const LAST: u64 = (1 << 56) - 1;

/// Ring, readers and position in the kernel's log as the last instance left them. `NoEnt`: there was
/// none; `BadMessage`: it makes no sense.
pub fn restore<A: Area>(journal: &Journal<A>) -> Result<(Ring, Readers, u64)> {
    let drained = Reader::new(journal.get(DRAINED).ok_or(Error::NoEnt)?).u64()?;
    let mut ring = Ring::default();
    let mut readers = Readers::default();
    for (at, (key, text)) in journal.range(PIECE..=PIECE | LAST).enumerate() {
        let position = key & LAST;
        if at == 0 {
            ring = Ring::begin_at(position);
        }
        if position != ring.end() {
            return Err(Error::BadMessage);
        }
        ring.append(text);
    }
    for (key, record) in journal.range(READER..=READER | LAST) {
        readers.put_back(key as u32, Reader::new(record).u64()?);
    }
    Ok((ring, readers, drained))
}

/// `text` was read from the kernel's log, up to `drained`, and comes to the ring at `position`.
pub fn keep_text<A: Area>(journal: &mut Journal<A>, position: u64, text: &[u8], drained: u64) {
    journal.put(PIECE | position & LAST, text);
    journal.put(DRAINED, &Writer::new().u64(drained).done());
}

/// Stages the rest, without what the ring has forgotten.
pub fn keep_rest<A: Area>(journal: &mut Journal<A>, ring: &Ring, readers: &Readers) {
    let pieces: Vec<(u64, u64)> = journal
        .range(PIECE..=PIECE | LAST)
        .take_while(|(key, _)| key & LAST < ring.start())
        .map(|(key, text)| (key, (key & LAST) + text.len() as u64))
        .collect();
    for (key, _) in pieces.into_iter().filter(|(_, end)| *end <= ring.start()) {
        journal.remove(key);
    }
    let gone: Vec<u64> = journal
        .range(READER..=READER | LAST)
        .map(|(key, _)| key)
        .filter(|&key| !readers.iter().any(|(pid, _)| u64::from(pid) == key & LAST))
        .collect();
    gone.into_iter().for_each(|key| journal.remove(key));
    for (pid, base) in readers.iter() {
        journal.put(READER | u64::from(pid), &Writer::new().u64(base).done());
    }
}
