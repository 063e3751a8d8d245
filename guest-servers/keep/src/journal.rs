//! A map of records in kept memory.
//!
//! ```text
//! 0         64        128           half 0                        half 1
//! | head A  | head B  |  …  | batch | batch | batch |  …  | batch | …                    |
//!
//! batch: magic, number, length, sum | key, length or REMOVED, bytes, padding | …
//! head:  magic, generation, number and end of the last batch, which half, sum
//! ```
//! A *commit* appends one batch and then writes one of the two heads (in turn): until the head is
//! there, the batch is not. When a half is full, the whole map goes into the other one as a single
//! batch, then both heads follow. Who reads takes the newest head that is whole and wants every batch
//! up to its end to be whole, in order. A batch behind the end that is whole was written by somebody
//! who died before the head; it counts (its writer had told nobody yet, so either is right).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::RangeInclusive;

use xinim_abi::error::{Error, Result};

use crate::Area;

const HEAD_MAGIC: u64 = u64::from_le_bytes(*b"XKEEPHD1");
const BATCH_MAGIC: u64 = u64::from_le_bytes(*b"XKEEPBT1");
/// Two heads, then the halves.
const HEAD_LEN: usize = 64;
const FIRST: usize = 2 * HEAD_LEN;
const BATCH_HEAD: usize = 32;
const ENTRY_HEAD: usize = 16;
/// Length of a record that was removed.
const REMOVED: u64 = u64::MAX;

/// What was in the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing: the first instance.
    Fresh,
    /// The records of the instance before.
    Restored,
    /// Something that no journal left behind, or a damaged one. It is empty now.
    Garbage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    /// Counts the changes of halves.
    generation: u64,
    /// Number of the last batch.
    number: u64,
    /// End of it.
    end: u64,
    half: u64,
}

/// See the module's head. What is staged is only here until [`Journal::commit`].
#[derive(Debug)]
pub struct Journal<A> {
    area: A,
    head: Head,
    records: BTreeMap<u64, Box<[u8]>>,
    /// Changed since the last commit.
    staged: BTreeMap<u64, Option<Box<[u8]>>>,
    /// Bytes of the whole map as one batch.
    size: usize,
    /// It did not fit: nothing is kept any more.
    broken: bool,
}

impl<A: Area> Journal<A> {
    /// Reads what is there. An area too small for anything is `Inval`.
    pub fn open(area: A) -> Result<(Self, Found)> {
        if area.len() < FIRST + 4 * BATCH_HEAD {
            return Err(Error::Inval);
        }
        let head = Head { generation: 0, number: 0, end: 0, half: 0 };
        let (records, staged) = (BTreeMap::new(), BTreeMap::new());
        let mut journal = Self { area, head, records, staged, size: BATCH_HEAD, broken: false };
        let found = match journal.load() {
            Ok(found) => found,
            Err(_) => Found::Garbage,
        };
        if found != Found::Restored {
            journal.clear()?;
        }
        Ok((journal, found))
    }

    /// Forgets everything, here and in the memory.
    pub fn clear(&mut self) -> Result<()> {
        self.records.clear();
        self.staged.clear();
        self.size = BATCH_HEAD;
        self.broken = false;
        self.switch()
    }

    pub fn get(&self, key: u64) -> Option<&[u8]> {
        match self.staged.get(&key) {
            Some(staged) => staged.as_deref(),
            None => self.records.get(&key).map(|record| &record[..]),
        }
    }

    /// Committed records, in the order of their keys.
    pub fn range(&self, keys: RangeInclusive<u64>) -> impl Iterator<Item = (u64, &[u8])> {
        self.records.range(keys).map(|(&key, record)| (key, &record[..]))
    }

    /// Stages a record; one that is as it was costs nothing.
    pub fn put(&mut self, key: u64, record: &[u8]) {
        if self.get(key) != Some(record) {
            self.staged.insert(key, Some(record.into()));
        }
    }

    pub fn remove(&mut self, key: u64) {
        if self.get(key).is_some() {
            self.staged.insert(key, None);
        }
    }

    pub fn remove_all(&mut self, keys: RangeInclusive<u64>) {
        let mut gone: Vec<u64> = self.records.range(keys.clone()).map(|(&key, _)| key).collect();
        gone.extend(self.staged.range(keys).map(|(&key, _)| key));
        gone.into_iter().for_each(|key| self.remove(key));
    }

    /// True if there is something to commit.
    pub fn is_staged(&self) -> bool {
        !self.staged.is_empty()
    }

    /// Less than half of what fits is in use: there is room for what is merely good to have.
    pub fn is_roomy(&self) -> bool {
        self.size < self.half_len() / 2
    }

    /// Bytes that its records may grow by.
    pub fn room(&self) -> usize {
        self.half_len().saturating_sub(self.size)
    }

    /// Everything staged is kept from here on. `NoSpc`: the records have outgrown the memory; then
    /// nothing is kept any more (the next instance finds the journal empty), since half of the truth
    /// is none.
    pub fn commit(&mut self) -> Result<()> {
        if self.staged.is_empty() {
            return Ok(());
        }
        let staged = core::mem::take(&mut self.staged);
        if self.broken {
            return Err(Error::NoSpc);
        }
        let batch = encode(staged.iter().map(|(&key, value)| (key, value.as_deref())));
        for (key, value) in staged {
            let old = match value {
                Some(value) => {
                    self.size += entry_len(value.len());
                    self.records.insert(key, value)
                }
                None => self.records.remove(&key),
            };
            self.size -= old.map_or(0, |old| entry_len(old.len()));
        }
        let end = self.head.end as usize + batch.len();
        let result = match end <= self.half_end(self.head.half) {
            true => self.append(&batch),
            false => self.switch(),
        };
        if result.is_err() {
            self.give_up();
        }
        result
    }

    /// The memory, for what is written beside the journal.
    pub fn area(&self) -> &A {
        &self.area
    }

    /// Nothing here is to be believed by anybody.
    fn give_up(&mut self) {
        self.broken = true;
        self.records.clear();
        for at in [0, HEAD_LEN] {
            let _ = self.area.write(at, &[0; HEAD_LEN]);
        }
    }

    fn half_len(&self) -> usize {
        ((self.area.len() - FIRST) / 2) & !7
    }

    fn half_start(&self, half: u64) -> usize {
        FIRST + half as usize * self.half_len()
    }

    fn half_end(&self, half: u64) -> usize {
        self.half_start(half) + self.half_len()
    }

    fn append(&mut self, batch: &[u8]) -> Result<()> {
        let (number, at) = (self.head.number + 1, self.head.end as usize);
        self.write_batch(at, batch, number)?;
        self.head.number = number;
        self.head.end = (at + batch.len()) as u64;
        self.write_head((number & 1) as usize)
    }

    /// Writes the whole map into the other half and goes on there.
    fn switch(&mut self) -> Result<()> {
        if self.size > self.half_len() {
            return Err(Error::NoSpc);
        }
        let half = 1 - self.head.half;
        let batch = encode(self.records.iter().map(|(&key, value)| (key, Some(&value[..]))));
        let (number, at) = (self.head.number + 1, self.half_start(half));
        self.write_batch(at, &batch, number)?;
        let end = (at + batch.len()) as u64;
        self.head = Head { generation: self.head.generation + 1, number, end, half };
        self.write_head(0)?;
        self.write_head(1)
    }

    /// The body first: a batch without its head is none.
    fn write_batch(&self, at: usize, batch: &[u8], number: u64) -> Result<()> {
        let body = &batch[BATCH_HEAD..];
        self.area.write(at + BATCH_HEAD, body)?;
        let len = body.len() as u64;
        let sum = sum(number ^ len, body);
        self.area.write(at, &words([BATCH_MAGIC, number, len, sum]))
    }

    fn write_head(&self, which: usize) -> Result<()> {
        let Head { generation, number, end, half } = self.head;
        let body = words([generation, number, end, half]);
        let mut bytes = [0; HEAD_LEN];
        bytes[..8].copy_from_slice(&HEAD_MAGIC.to_le_bytes());
        bytes[8..40].copy_from_slice(&body);
        bytes[40..48].copy_from_slice(&sum(HEAD_MAGIC, &body).to_le_bytes());
        self.area.write(which * HEAD_LEN, &bytes)
    }

    /// A head, `None` if it is not whole; and whether there was anything at all.
    fn read_head(&self, which: usize) -> Result<(Option<Head>, bool)> {
        let mut bytes = [0; HEAD_LEN];
        self.area.read(which * HEAD_LEN, &mut bytes)?;
        let empty = bytes.iter().all(|&byte| byte == 0);
        let word = |at: usize| word_at(&bytes, at);
        if word(0) != HEAD_MAGIC || word(40) != sum(HEAD_MAGIC, &bytes[8..40]) {
            return Ok((None, !empty));
        }
        let head = Head { generation: word(8), number: word(16), end: word(24), half: word(32) };
        Ok((Some(head), true))
    }

    fn load(&mut self) -> Result<Found> {
        let (a, b) = (self.read_head(0)?, self.read_head(1)?);
        if !a.1 && !b.1 {
            return Ok(Found::Fresh);
        }
        let newest = [a.0, b.0].into_iter().flatten().max_by_key(|h| (h.generation, h.number));
        let head = newest.ok_or(Error::BadMessage)?;
        if head.half > 1
            || head.end < self.half_start(head.half) as u64
            || head.end > self.half_end(head.half) as u64
        {
            return Err(Error::BadMessage);
        }
        let (mut at, mut number) = (self.half_start(head.half), None);
        while at < head.end as usize {
            let (this, len) = self.load_batch(at, head.half, number)?;
            (at, number) = (at + len, Some(this));
        }
        if at != head.end as usize || number != Some(head.number) {
            return Err(Error::BadMessage);
        }
        self.head = head;
        if let Ok((number, len)) = self.load_batch(at, head.half, number) {
            self.head.number = number;
            self.head.end = (at + len) as u64;
        }
        let records = self.records.values().map(|record| entry_len(record.len()));
        self.size = BATCH_HEAD + records.sum::<usize>();
        Ok(Found::Restored)
    }

    /// Takes one batch in; its number, which is `after` + 1, and its length.
    fn load_batch(&mut self, at: usize, half: u64, after: Option<u64>) -> Result<(u64, usize)> {
        let room = self.half_end(half).saturating_sub(at + BATCH_HEAD);
        let mut head = [0; BATCH_HEAD];
        if at + BATCH_HEAD > self.half_end(half) {
            return Err(Error::BadMessage);
        }
        self.area.read(at, &mut head)?;
        let (number, len) = (word_at(&head, 8), word_at(&head, 16));
        let body_len = usize::try_from(len).map_err(|_| Error::BadMessage)?;
        let in_order = after.is_none_or(|after| Some(number) == after.checked_add(1));
        if word_at(&head, 0) != BATCH_MAGIC || !in_order || body_len > room || body_len % 8 != 0 {
            return Err(Error::BadMessage);
        }
        let mut body = alloc::vec![0; body_len];
        self.area.read(at + BATCH_HEAD, &mut body)?;
        if word_at(&head, 24) != sum(number ^ len, &body) {
            return Err(Error::BadMessage);
        }
        for (key, value) in decode(&body)? {
            match value {
                Some(value) => drop(self.records.insert(key, value.into())),
                None => drop(self.records.remove(&key)),
            }
        }
        Ok((number, BATCH_HEAD + body_len))
    }
}

fn entry_len(len: usize) -> usize {
    ENTRY_HEAD + len.next_multiple_of(8)
}

/// A batch with room for its head.
fn encode<'a>(entries: impl Iterator<Item = (u64, Option<&'a [u8]>)>) -> Vec<u8> {
    let mut batch = alloc::vec![0; BATCH_HEAD];
    for (key, value) in entries {
        batch.extend_from_slice(&key.to_le_bytes());
        let len = value.map_or(REMOVED, |value| value.len() as u64);
        batch.extend_from_slice(&len.to_le_bytes());
        batch.extend_from_slice(value.unwrap_or(&[]));
        batch.resize(batch.len().next_multiple_of(8), 0);
    }
    batch
}

/// The entries of a batch's body.
type Entries<'a> = Vec<(u64, Option<&'a [u8]>)>;

fn decode(body: &[u8]) -> Result<Entries<'_>> {
    let (mut entries, mut at) = (Vec::new(), 0);
    while at < body.len() {
        if body.len() - at < ENTRY_HEAD {
            return Err(Error::BadMessage);
        }
        let (key, len) = (word_at(body, at), word_at(body, at + 8));
        at += ENTRY_HEAD;
        if len == REMOVED {
            entries.push((key, None));
            continue;
        }
        let len = usize::try_from(len).map_err(|_| Error::BadMessage)?;
        let end = at.checked_add(len).filter(|&end| end <= body.len()).ok_or(Error::BadMessage)?;
        entries.push((key, Some(&body[at..end])));
        at = end.next_multiple_of(8);
    }
    Ok(entries)
}

fn words(words: [u64; 4]) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(words) {
        *to = word.to_le_bytes();
    }
    bytes
}

/// The little-endian word at byte `at`; 0 where there is none.
pub fn word_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_le_bytes)
}

/// Over whole words of 8 bytes. Not against malice: whoever can write the memory can write the sum as
/// well.
pub fn sum(seed: u64, bytes: &[u8]) -> u64 {
    let mut sum = seed ^ 0x9E37_79B9_7F4A_7C15;
    for word in bytes.as_chunks::<8>().0 {
        sum = (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        sum ^= sum >> 32;
    }
    sum
}
