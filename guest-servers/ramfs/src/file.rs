//! Contents of a regular file: bytes of the bundle, pages written since, holes.
//!
//! A page that was written hides the bundle's bytes there. `base` shrinks when the file is cut, so
//! what was cut off never comes back.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use xinim_abi::error::{Error, Result};
use xinim_fs_kit::Sink;

pub(crate) const PAGE: usize = 4096;
/// Longest file; keeps offsets far from overflow.
pub(crate) const MAX_SIZE: u64 = 1 << 46;
static ZEROS: [u8; PAGE] = [0; PAGE];

/// Memory taken and allowed, in bytes.
#[derive(Debug)]
pub(crate) struct Budget {
    pub used: u64,
    pub limit: u64,
}

impl Budget {
    pub fn take(&mut self, bytes: u64) -> Result<()> {
        let used = self.used.saturating_add(bytes);
        if used > self.limit {
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
    base: &'a [u8],
    /// Offset of `base` in the bundle, for mapping in place.
    base_offset: usize,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
    size: u64,
    /// Something was written since: `base` alone is not the file any more.
    changed: bool,
}

impl<'a> Content<'a> {
    pub fn empty() -> Self {
        Self::in_bundle(&[], 0)
    }

    pub fn in_bundle(base: &'a [u8], base_offset: usize) -> Self {
        let size = base.len() as u64;
        Self { base, base_offset, pages: BTreeMap::new(), size, changed: false }
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

    pub fn read_to(&self, offset: u64, len: usize, out: &mut dyn Sink) -> Result<usize> {
        let end = self.size.min(offset.saturating_add(len as u64));
        let mut at = offset;
        while at < end {
            let piece = self.piece(at, end);
            out.put((at - offset) as usize, piece)?;
            at += piece.len() as u64;
        }
        Ok(end.saturating_sub(offset) as usize)
    }

    /// Bytes from `at` on, at most to `end`, not empty. `at < end <= size`.
    fn piece(&self, at: u64, end: u64) -> &[u8] {
        let page = at / PAGE as u64;
        let start = (at % PAGE as u64) as usize;
        if let Some(bytes) = self.pages.get(&page) {
            return &bytes[start..PAGE.min(start + (end - at).min(PAGE as u64) as usize)];
        }
        // Untouched up to the next page in memory.
        let next = self.pages.range(page + 1..).next().map_or(end, |(next, _)| next * PAGE as u64);
        let stop = end.min(next);
        if at < self.base.len() as u64 {
            return &self.base[at as usize..stop.min(self.base.len() as u64) as usize];
        }
        // Page by page, so that ZEROS is long enough.
        &ZEROS[..(stop - at).min(PAGE as u64) as usize]
    }

    pub fn write(&mut self, offset: u64, data: &[u8], budget: &mut Budget) -> Result<usize> {
        let end = offset.checked_add(data.len() as u64).filter(|&end| end <= MAX_SIZE);
        let end = end.ok_or(Error::FBig)?;
        let mut at = offset;
        while at < end {
            let start = (at % PAGE as u64) as usize;
            let count = (PAGE - start).min((end - at) as usize);
            match self.page(at / PAGE as u64, budget) {
                Ok(page) => {
                    let from = (at - offset) as usize;
                    page[start..start + count].copy_from_slice(&data[from..from + count]);
                }
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

    /// The page for writing, copied from the bundle if it was not written yet.
    fn page(&mut self, page: u64, budget: &mut Budget) -> Result<&mut [u8; PAGE]> {
        if !self.pages.contains_key(&page) {
            budget.take(PAGE as u64)?;
            let mut bytes = Box::new([0; PAGE]);
            let start = (page * PAGE as u64).min(self.base.len() as u64) as usize;
            let old = &self.base[start..self.base.len().min(start + PAGE)];
            bytes[..old.len()].copy_from_slice(old);
            self.pages.insert(page, bytes);
        }
        self.pages.get_mut(&page).map(|page| &mut **page).ok_or(Error::NoMem)
    }

    pub fn set_size(&mut self, size: u64, budget: &mut Budget) -> Result<()> {
        if size > MAX_SIZE {
            return Err(Error::FBig);
        }
        if size < self.size {
            self.base = &self.base[..self.base.len().min(size as usize)];
            let gone = self.pages.split_off(&size.div_ceil(PAGE as u64));
            budget.give_back((gone.len() * PAGE) as u64);
            let inside = (size % PAGE as u64) as usize;
            if let Some(last) = self.pages.get_mut(&(size / PAGE as u64)) {
                last[inside..].fill(0);
            }
        }
        self.changed |= size != self.size;
        self.size = size;
        Ok(())
    }

    pub fn free(&mut self, budget: &mut Budget) {
        budget.give_back((self.pages.len() * PAGE) as u64);
        *self = Self::empty();
    }
}
