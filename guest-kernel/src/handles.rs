//! Handle tables: numbers to objects, with rights, badge and generation.
//!
//! A number is `generation << 12 | index`; the generation counts up with each close, so that a
//! closed number fails until its 20 bits come round. The object is a word whose meaning belongs to
//! the kernel (0 = free); an entry of zeros is a free one that was never used, so a table grows by
//! zeroed pages without initialising them.

use core::cell::Cell;

use crate::refs::Ref;

pub const INDEX_BITS: u32 = 12;
/// Entries of a page.
pub const PAGE_ENTRIES: usize = 128;
const PAGES: usize = (1 << INDEX_BITS) / PAGE_ENTRIES;
/// Largest table.
pub const MAX_HANDLES: u32 = 1 << INDEX_BITS;
const GENERATION_MASK: u32 = (1 << (32 - INDEX_BITS)) - 1;

#[repr(C)]
pub struct Entry {
    object: Cell<u64>,
    /// Badge; in a free entry the next free index + 1.
    badge: Cell<u64>,
    rights: Cell<u32>,
    generation: Cell<u32>,
    reserved: u64,
}

#[repr(C)]
pub struct HandlePage([Entry; PAGE_ENTRIES]);

const _: () = assert!(size_of::<HandlePage>() == 4096);

/// What a number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub object: u64,
    pub badge: u64,
    pub rights: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// The table has as many handles as it may.
    Limit,
    /// No page for it to grow.
    Memory,
}

pub struct HandleTable {
    pages: [Cell<Option<Ref<HandlePage>>>; PAGES],
    /// Index + 1 of the first free entry that was used before.
    free: Cell<u64>,
    /// Entries from here on were never used.
    fresh: Cell<u32>,
    count: Cell<u32>,
    limit: Cell<u32>,
}

impl HandleTable {
    pub const fn new(limit: u32) -> Self {
        Self {
            pages: [const { Cell::new(None) }; PAGES],
            free: Cell::new(0),
            fresh: Cell::new(0),
            count: Cell::new(0),
            limit: Cell::new(limit),
        }
    }

    pub fn count(&self) -> u32 {
        self.count.get()
    }

    pub fn set_limit(&self, limit: u32) {
        self.limit.set(limit.min(MAX_HANDLES));
    }

    /// Whether `more` handles fit without growing past the limit (memory may still lack).
    pub fn has_room(&self, more: u32) -> bool {
        self.count.get() + more <= self.limit.get()
    }

    #[inline(always)]
    fn entry(&self, number: u32) -> Option<&Entry> {
        let index = (number & (MAX_HANDLES - 1)) as usize;
        let page = self.pages[index / PAGE_ENTRIES].get()?;
        let entry = &page_entries(page)[index % PAGE_ENTRIES];
        (entry.generation.get() == number >> INDEX_BITS).then_some(entry)
    }

    /// What `number` stands for.
    pub fn get(&self, number: u32) -> Option<Slot> {
        self.get_or_free(number).filter(|slot| slot.object != 0)
    }

    /// Like `get`, but the object may be 0: for callers that look at its bits anyway.
    #[inline(always)]
    pub fn get_or_free(&self, number: u32) -> Option<Slot> {
        let entry = self.entry(number)?;
        Some(Slot {
            object: entry.object.get(),
            badge: entry.badge.get(),
            rights: entry.rights.get(),
        })
    }

    /// Adds a handle. `page` gives a zeroed page when the table has to grow.
    pub fn insert(
        &self,
        slot: Slot,
        page: impl FnOnce() -> Option<Ref<HandlePage>>,
    ) -> Result<u32, Full> {
        if !self.has_room(1) {
            return Err(Full::Limit);
        }
        let index = match self.free.get() {
            0 => {
                let index = self.fresh.get();
                let pages = self.pages.get(index as usize / PAGE_ENTRIES).ok_or(Full::Limit)?;
                if pages.get().is_none() {
                    pages.set(Some(page().ok_or(Full::Memory)?));
                }
                self.fresh.set(index + 1);
                index
            }
            next => next as u32 - 1,
        };
        let page = self.pages[index as usize / PAGE_ENTRIES].get().ok_or(Full::Memory)?;
        let entry = &page_entries(page)[index as usize % PAGE_ENTRIES];
        if self.free.get() != 0 {
            self.free.set(entry.badge.get());
        }
        let generation = match (entry.generation.get() + 1) & GENERATION_MASK {
            0 => 1,
            generation => generation,
        };
        entry.generation.set(generation);
        entry.object.set(slot.object);
        entry.badge.set(slot.badge);
        entry.rights.set(slot.rights);
        self.count.set(self.count.get() + 1);
        Ok(generation << INDEX_BITS | index)
    }

    /// Takes a handle out.
    pub fn remove(&self, number: u32) -> Option<Slot> {
        let slot = self.get(number)?;
        let entry = self.entry(number)?;
        entry.object.set(0);
        entry.badge.set(self.free.get());
        self.free.set(u64::from(number & (MAX_HANDLES - 1)) + 1);
        self.count.set(self.count.get() - 1);
        Some(slot)
    }

    /// Takes out some handle at or after index `from`; says where to go on.
    pub fn take_any(&self, from: u32) -> Option<(Slot, u32)> {
        (from..self.fresh.get()).find_map(|index| {
            let page = self.pages[index as usize / PAGE_ENTRIES].get()?;
            let generation = page_entries(page)[index as usize % PAGE_ENTRIES].generation.get();
            self.remove(generation << INDEX_BITS | index).map(|slot| (slot, index + 1))
        })
    }

    /// Takes the pages of an emptied table.
    pub fn take_pages(&self) -> impl Iterator<Item = Ref<HandlePage>> + '_ {
        self.free.set(0);
        self.fresh.set(0);
        self.pages.iter().filter_map(Cell::take)
    }
}

#[inline(always)]
fn page_entries(page: Ref<HandlePage>) -> &'static [Entry; PAGE_ENTRIES] {
    &page.get().0
}

#[cfg(test)]
#[path = "handles_tests.rs"]
mod tests;
