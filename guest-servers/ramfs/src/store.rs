//! Pages that hold what was written: memory in chunks, which outlives the server where RS keeps it.
//!
//! A page's number is its chunk's times [`PAGES`], and its place there. Which pages are in use is what
//! the files say; a chunk is given up when none of its pages is, but for one, so that small files that
//! come and go cost nothing.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt::Debug;

use xinim_abi::error::{Error, Result};
use xinim_fs_kit::Ino;

use crate::file::PAGE;

/// Bytes of a chunk: one large page.
pub const CHUNK: usize = 2 << 20;
/// Pages of a chunk.
pub(crate) const PAGES: u32 = (CHUNK / PAGE) as u32;

/// Where chunks come from.
pub trait Chunks: Debug + Send + Sync {
    /// Makes sure that chunk `number` is there: made, or found as an earlier instance left it.
    fn open(&mut self, number: u32) -> Result<()>;
    /// It is not needed any more.
    fn close(&mut self, number: u32);
    /// Chunks that there can be.
    fn most(&self) -> u32;
    /// `Fault`: no such chunk, or beyond it.
    fn read(&self, number: u32, at: usize, out: &mut [u8]) -> Result<()>;
    fn write(&mut self, number: u32, at: usize, bytes: &[u8]) -> Result<()>;
}

/// Chunks of the server's own memory, which end with it.
#[derive(Debug, Default)]
pub struct OwnChunks(BTreeMap<u32, Vec<u8>>);

impl Chunks for OwnChunks {
    fn open(&mut self, number: u32) -> Result<()> {
        self.0.entry(number).or_insert_with(|| alloc::vec![0; CHUNK]);
        Ok(())
    }
    fn close(&mut self, number: u32) {
        self.0.remove(&number);
    }
    fn most(&self) -> u32 {
        u32::MAX / PAGES
    }
    fn read(&self, number: u32, at: usize, out: &mut [u8]) -> Result<()> {
        let from = self.0.get(&number).and_then(|chunk| chunk.get(at..at + out.len()));
        out.copy_from_slice(from.ok_or(Error::Fault)?);
        Ok(())
    }
    fn write(&mut self, number: u32, at: usize, bytes: &[u8]) -> Result<()> {
        let to = self.0.get_mut(&number).and_then(|chunk| chunk.get_mut(at..at + bytes.len()));
        to.ok_or(Error::Fault)?.copy_from_slice(bytes);
        Ok(())
    }
}

/// Pages of one chunk that are in use.
#[derive(Debug)]
struct Used {
    bits: [u64; PAGES as usize / 64],
    count: u32,
}

impl Used {
    const NONE: Self = Self { bits: [0; PAGES as usize / 64], count: 0 };

    /// False: it was in use.
    fn take(&mut self, at: u32) -> bool {
        let (word, bit) = (&mut self.bits[at as usize / 64], 1 << (at % 64));
        let free = *word & bit == 0;
        *word |= bit;
        self.count += u32::from(free);
        free
    }

    fn give_back(&mut self, at: u32) {
        self.bits[at as usize / 64] &= !(1 << (at % 64));
        self.count -= 1;
    }

    fn first_free(&self) -> Option<u32> {
        let (word, bits) = self.bits.iter().enumerate().find(|(_, bits)| **bits != u64::MAX)?;
        Some(word as u32 * 64 + bits.trailing_ones())
    }
}

/// Whose page, and which of the file's.
pub(crate) type Owner = (Ino, u64);

#[derive(Debug)]
pub(crate) struct Store {
    chunks: Box<dyn Chunks>,
    used: BTreeMap<u32, Used>,
    /// What has changed since it was asked for last: the owner of a page, `None` if it is free.
    changes: BTreeMap<u32, Option<Owner>>,
}

impl Store {
    pub fn new(chunks: Box<dyn Chunks>) -> Self {
        Self { chunks, used: BTreeMap::new(), changes: BTreeMap::new() }
    }

    pub fn into_chunks(self) -> Box<dyn Chunks> {
        self.chunks
    }

    /// A page for a file, with whatever is in it.
    pub fn allocate(&mut self, owner: Owner) -> Result<u32> {
        let free = |(number, used): (&u32, &mut Used)| Some(number * PAGES + used.first_free()?);
        let page = match self.used.iter_mut().find_map(free) {
            Some(page) => page,
            None => {
                let number = (0..self.chunks.most()).find(|n| !self.used.contains_key(n));
                let number = number.ok_or(Error::NoSpc)?;
                self.chunks.open(number).map_err(|_| Error::NoSpc)?;
                self.used.insert(number, Used::NONE);
                number * PAGES
            }
        };
        self.used.get_mut(&(page / PAGES)).ok_or(Error::NoSpc)?.take(page % PAGES);
        self.changes.insert(page, Some(owner));
        Ok(page)
    }

    /// The page is a file's, an earlier instance says. `BadMessage`: it cannot be.
    pub fn adopt(&mut self, page: u32) -> Result<()> {
        let number = page / PAGES;
        if number >= self.chunks.most() {
            return Err(Error::BadMessage);
        }
        if !self.used.contains_key(&number) {
            self.chunks.open(number)?;
            self.used.insert(number, Used::NONE);
        }
        let used = self.used.get_mut(&number).ok_or(Error::BadMessage)?;
        if used.take(page % PAGES) { Ok(()) } else { Err(Error::BadMessage) }
    }

    pub fn free(&mut self, page: u32) {
        if let Some(used) = self.used.get_mut(&(page / PAGES)) {
            used.give_back(page % PAGES);
        }
        self.changes.insert(page, None);
    }

    pub fn read(&self, page: u32, at: usize, out: &mut [u8]) -> Result<()> {
        self.chunks.read(page / PAGES, (page % PAGES) as usize * PAGE + at, out)
    }

    pub fn write(&mut self, page: u32, at: usize, bytes: &[u8]) -> Result<()> {
        self.chunks.write(page / PAGES, (page % PAGES) as usize * PAGE + at, bytes)
    }

    pub fn take_changes(&mut self) -> BTreeMap<u32, Option<Owner>> {
        core::mem::take(&mut self.changes)
    }

    /// Gives up chunks without pages, all but one: after what was in them is known to be free.
    pub fn give_up_empty(&mut self) {
        let empty = self.used.iter().filter(|(_, used)| used.count == 0);
        let empty: Vec<u32> = empty.map(|(number, _)| *number).skip(1).collect();
        for number in empty {
            self.used.remove(&number);
            self.chunks.close(number);
        }
    }
}
