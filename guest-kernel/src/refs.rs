//! References to kernel objects, and the slabs the objects live in.
//!
//! A slab never gives memory back and a slot only ever holds its one type: a [`Ref`] that outlives
//! its object still points to a valid value of that type (perhaps of a later object), as with the
//! type-stable memory of other kernels. Whether an object is alive is said by the object itself
//! and by reference counts; memory safety does not depend on them.

use core::cell::Cell;
use core::fmt;
use core::mem::{align_of, size_of};
use core::ops::Deref;
use core::ptr::NonNull;

/// A copyable reference to an object in a [`Slab`].
pub struct Ref<T>(NonNull<T>);

impl<T> Ref<T> {
    /// # Safety
    /// `pointer` must point to a valid `T` that is never freed and that is changed only through
    /// cells, under the kernel lock.
    pub const unsafe fn new(pointer: NonNull<T>) -> Self {
        Self(pointer)
    }

    /// The object, for as long as there is a kernel.
    #[inline(always)]
    pub fn get(self) -> &'static T
    where
        T: 'static,
    {
        // SAFETY: `new` was promised a valid object for ever, mutated through cells only.
        unsafe { self.0.as_ref() }
    }

    pub fn address(self) -> u64 {
        self.0.as_ptr() as u64
    }
}

impl<T> Clone for Ref<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Ref<T> {}

impl<T> PartialEq for Ref<T> {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Ref<T> {}

impl<T> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ref({:p})", self.0)
    }
}

impl<T> Deref for Ref<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: `new` was promised a valid object for ever, mutated through cells only.
        unsafe { self.0.as_ref() }
    }
}

/// A page of memory for a slab: page-aligned, never taken back.
pub struct SlabPage(NonNull<u8>);

impl SlabPage {
    /// # Safety
    /// `page` must point to [`PAGE`] bytes, aligned to them, that the caller gives away for ever.
    pub const unsafe fn new(page: NonNull<u8>) -> Self {
        Self(page)
    }
}

pub const PAGE: usize = 4096;

#[repr(C)]
struct Slot<T> {
    value: T,
    next_free: Cell<Option<NonNull<Slot<T>>>>,
}

/// Allocator of `T`s in pages.
pub struct Slab<T> {
    free: Cell<Option<NonNull<Slot<T>>>>,
    /// Next slot of the newest page that was never used, and how many follow.
    fresh: Cell<Option<NonNull<Slot<T>>>>,
    fresh_left: Cell<usize>,
    live: Cell<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Slab<T> {
    const PER_PAGE: usize = PAGE / size_of::<Slot<T>>();

    pub const fn new() -> Self {
        const {
            assert!(size_of::<Slot<T>>() <= PAGE && align_of::<Slot<T>>() <= PAGE);
            assert!(!core::mem::needs_drop::<T>());
        }
        Self {
            free: Cell::new(None),
            fresh: Cell::new(None),
            fresh_left: Cell::new(0),
            live: Cell::new(0),
        }
    }

    /// Puts `value` into a slot; a new page is asked for when none is free. `None`: no page.
    pub fn allocate(&self, value: T, page: impl FnOnce() -> Option<SlabPage>) -> Option<Ref<T>> {
        let slot = match self.free.get() {
            Some(slot) => {
                // SAFETY: a slot on the free list was initialised once and is never unmapped.
                self.free.set(unsafe { slot.as_ref() }.next_free.get());
                slot
            }
            None => {
                if self.fresh_left.get() == 0 {
                    self.fresh.set(Some(page()?.0.cast()));
                    self.fresh_left.set(Self::PER_PAGE);
                }
                let slot = self.fresh.get()?;
                self.fresh_left.set(self.fresh_left.get() - 1);
                // SAFETY: the page holds PER_PAGE slots; one past the last is not used because
                // `fresh_left` is then 0.
                self.fresh.set(Some(unsafe { slot.add(1) }));
                slot
            }
        };
        self.live.set(self.live.get() + 1);
        // SAFETY: the slot is free (nobody uses its value), large enough and aligned, and `T`
        // needs no drop.
        unsafe {
            slot.cast::<T>().write(value);
            Some(Ref::new(slot.cast()))
        }
    }

    /// Gives the slot of a dead object back. The value stays readable until it is reused.
    pub fn release(&self, object: Ref<T>) {
        let slot: NonNull<Slot<T>> = object.0.cast();
        // SAFETY: every `Ref` of this type comes from a slot (`allocate`), whose value is at
        // offset 0; only the link behind the value is written.
        unsafe { slot.as_ref() }.next_free.set(self.free.get());
        self.free.set(Some(slot));
        self.live.set(self.live.get() - 1);
    }

    /// Objects allocated and not released.
    pub fn live(&self) -> u32 {
        self.live.get()
    }
}

#[cfg(test)]
#[path = "refs_tests.rs"]
mod tests;
