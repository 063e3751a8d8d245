//! Contents of a regular file: bytes of the bundle, pages written since, holes. The pages lie in the
//! [`Store`].
//!
//! A page that was written hides the bundle's bytes there. `base` shrinks when the file is cut, so
//! what was cut off never comes back.

use alloc::collections::BTreeMap;

use xinim_abi::error::{Error, Result};
use xinim_fs_kit::{Ino, Sink};

use crate::store::Store;

pub(crate) const PAGE: usize = 4096;
/// Longest file; keeps offsets far from overflow.
pub(crate) const MAX_SIZE: u64 = 1 << 46;
static ZEROS: [u8; PAGE] = [0; PAGE];

/// Memory taken and allowed, in bytes.
#[derive(Debug)]
pub(crate) struct Budget {
    pub used: u64,
    pub limit: u64,
    /// There is no room to keep account of more.
    pub full: bool,
}

impl Budget {
    pub fn take(&mut self, bytes: u64) -> Result<()> {
        let used = self.used.saturating_add(bytes);
        if used > self.limit || self.full {
            return Err(Error::NoSpc);
        }
        self.used = used;
        Ok(())
    }

    pub fn give_back(&mut self, bytes: u64) {
        self.used = self.used.saturating_sub(bytes);
    }
}

#[derive(Debug)]
pub(crate) struct Content<'a> {
    /// Bytes in the bundle; at most `size` long.
    pub(crate) base: &'a [u8],
    /// Offset of `base` in the bundle, for mapping in place.
    pub(crate) base_offset: usize,
    /// Of the store, by number in the file.
    pages: BTreeMap<u64, u32>,
    size: u64,
    /// Something was written since: `base` alone is not the file any more.
    pub(crate) changed: bool,
}

impl<'a> Content<'a> {
    pub fn empty() -> Self {
        Self::in_bundle(&[], 0)
    }

    pub fn in_bundle(base: &'a [u8], base_offset: usize) -> Self {
        let size = base.len() as u64;
        Self { base, base_offset, pages: BTreeMap::new(), size, changed: false }
    }

    /// As an earlier instance had it, but for its pages. `None`: that cannot have been.
    pub fn restored(base: &'a [u8], base_offset: usize, size: u64, changed: bool) -> Option<Self> {
        let sound = base.len() as u64 <= size && size <= MAX_SIZE;
        sound.then_some(Self { base, base_offset, pages: BTreeMap::new(), size, changed })
    }

    /// A page that an earlier instance had. False: the file has it already, or ends before.
    pub fn adopt(&mut self, at: u64, page: u32) -> bool {
        at < self.size.div_ceil(PAGE as u64) && self.pages.insert(at, page).is_none()
    }

    pub fn pages(&self) -> impl Iterator<Item = u32> {
        self.pages.values().copied()
    }

    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of memory it stands for, the bundle's included.
    pub fn bytes(&self) -> u64 {
        let base = self.base.len() as u64;
        base.next_multiple_of(PAGE as u64) + (self.pages.len() * PAGE) as u64
    }

    /// Where the whole file lies in the bundle, if it does.
    pub fn place(&self) -> Option<(usize, usize)> {
        (!self.changed && !self.base.is_empty()).then_some((self.base_offset, self.base.len()))
    }

    pub fn read_to(
        &self,
        offset: u64,
        len: usize,
        store: &Store,
        out: &mut dyn Sink,
    ) -> Result<usize> {
        let end = self.size.min(offset.saturating_add(len as u64));
        let mut at = offset;
        let mut hop = [0; PAGE];
        while at < end {
            let start = (at % PAGE as u64) as usize;
            let piece = match self.pages.get(&(at / PAGE as u64)) {
                Some(&page) => {
                    let hop = &mut hop[..(PAGE - start).min((end - at) as usize)];
                    store.read(page, start, hop)?;
                    hop
                }
                None => self.unwritten(at, end),
            };
            out.put((at - offset) as usize, piece)?;
            at += piece.len() as u64;
        }
        Ok(end.saturating_sub(offset) as usize)
    }

    /// Bytes from `at` on, where no page was written, at most to `end`, not empty. `at < end <= size`.
    fn unwritten(&self, at: u64, end: u64) -> &[u8] {
        let page = at / PAGE as u64;
        // Untouched up to the next page in memory.
        let next = self.pages.range(page + 1..).next().map_or(end, |(next, _)| next * PAGE as u64);
        let stop = end.min(next);
        if at < self.base.len() as u64 {
            return &self.base[at as usize..stop.min(self.base.len() as u64) as usize];
        }
        // Page by page, so that ZEROS is long enough.
        &ZEROS[..(stop - at).min(PAGE as u64) as usize]
    }

    pub fn write(
        &mut self,
        ino: Ino,
        offset: u64,
        data: &[u8],
        (budget, store): (&mut Budget, &mut Store),
    ) -> Result<usize> {
        let end = offset.checked_add(data.len() as u64).filter(|&end| end <= MAX_SIZE);
        let end = end.ok_or(Error::FBig)?;
        let mut at = offset;
        while at < end {
            let start = (at % PAGE as u64) as usize;
            let count = (PAGE - start).min((end - at) as usize);
            let from = (at - offset) as usize;
            let page = self.page((ino, at / PAGE as u64), count == PAGE, budget, store);
            match page.and_then(|page| store.write(page, start, &data[from..from + count])) {
                Ok(()) => {}
                Err(error) if at == offset => return Err(error),
                Err(_) => break,
            }
            at += count as u64;
        }
        self.changed |= at > offset;
        if at > offset {
            self.size = self.size.max(at);
        }
        Ok((at - offset) as usize)
    }

    /// The page for writing, copied from the bundle if it was not written yet and is not going to be
    /// written as a whole.
    fn page(
        &mut self,
        (ino, at): (Ino, u64),
        whole: bool,
        budget: &mut Budget,
        store: &mut Store,
    ) -> Result<u32> {
        if let Some(&page) = self.pages.get(&at) {
            return Ok(page);
        }
        budget.take(PAGE as u64)?;
        let page = store.allocate((ino, at)).inspect_err(|_| budget.give_back(PAGE as u64))?;
        self.pages.insert(at, page);
        if !whole {
            let mut bytes = [0; PAGE];
            let start = (at * PAGE as u64).min(self.base.len() as u64) as usize;
            let old = &self.base[start..self.base.len().min(start + PAGE)];
            bytes[..old.len()].copy_from_slice(old);
            store.write(page, 0, &bytes)?;
        }
        Ok(page)
    }

    pub fn set_size(
        &mut self,
        size: u64,
        (budget, store): (&mut Budget, &mut Store),
    ) -> Result<()> {
        if size > MAX_SIZE {
            return Err(Error::FBig);
        }
        if size < self.size {
            self.base = &self.base[..self.base.len().min(size as usize)];
            let gone = self.pages.split_off(&size.div_ceil(PAGE as u64));
            budget.give_back((gone.len() * PAGE) as u64);
            gone.into_values().for_each(|page| store.free(page));
            let inside = (size % PAGE as u64) as usize;
            if let Some(&last) = self.pages.get(&(size / PAGE as u64)) {
                store.write(last, inside, &ZEROS[inside..])?;
            }
        }
        self.changed |= size != self.size;
        self.size = size;
        Ok(())
    }

    pub fn free(&mut self, (budget, store): (&mut Budget, &mut Store)) {
        self.pages().for_each(|page| store.free(page));
        budget.give_back((self.pages.len() * PAGE) as u64);
        *self = Self::empty();
    }
}
