//! Intrusive doubly-linked lists: O(1) push, pop and removal from the middle, no allocation.
//!
//! An object has one [`Link`] for each list it can be on at a time; the number tells which.

use core::cell::Cell;

use crate::refs::Ref;

/// Membership in a list.
pub struct Link<T> {
    next: Cell<Option<Ref<T>>>,
    previous: Cell<Option<Ref<T>>>,
}

impl<T> Default for Link<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Link<T> {
    pub const fn new() -> Self {
        Self { next: Cell::new(None), previous: Cell::new(None) }
    }
}

/// An object with the link number `N`.
pub trait Linked<const N: usize>: Sized {
    fn link(&self) -> &Link<Self>;
}

pub struct List<T, const N: usize> {
    head: Cell<Option<Ref<T>>>,
    tail: Cell<Option<Ref<T>>>,
}

impl<T: Linked<N>, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Linked<N>, const N: usize> List<T, N> {
    pub const fn new() -> Self {
        Self { head: Cell::new(None), tail: Cell::new(None) }
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.head.get().is_none()
    }

    #[inline(always)]
    pub fn first(&self) -> Option<Ref<T>> {
        self.head.get()
    }

    pub fn next(&self, item: Ref<T>) -> Option<Ref<T>> {
        item.link().next.get()
    }

    #[inline(always)]
    pub fn push_back(&self, item: Ref<T>) {
        item.link().next.set(None);
        item.link().previous.set(self.tail.get());
        match self.tail.replace(Some(item)) {
            Some(last) => last.link().next.set(Some(item)),
            None => self.head.set(Some(item)),
        }
    }

    pub fn push_front(&self, item: Ref<T>) {
        item.link().previous.set(None);
        item.link().next.set(self.head.get());
        match self.head.replace(Some(item)) {
            Some(first) => first.link().previous.set(Some(item)),
            None => self.tail.set(Some(item)),
        }
    }

    #[inline(always)]
    pub fn pop_front(&self) -> Option<Ref<T>> {
        let item = self.head.get()?;
        self.remove(item);
        Some(item)
    }

    /// Takes out `item`, which must be on this list.
    #[inline(always)]
    pub fn remove(&self, item: Ref<T>) {
        let (next, previous) = (item.link().next.get(), item.link().previous.get());
        match previous {
            Some(p) => p.link().next.set(next),
            None => self.head.set(next),
        }
        match next {
            Some(n) => n.link().previous.set(previous),
            None => self.tail.set(previous),
        }
    }

    pub fn iter(&self) -> Iter<T, N> {
        Iter { next: self.head.get() }
    }
}

/// Walks a list; the item just returned may be removed meanwhile.
pub struct Iter<T, const N: usize> {
    next: Option<Ref<T>>,
}

impl<T: Linked<N>, const N: usize> Iterator for Iter<T, N> {
    type Item = Ref<T>;

    fn next(&mut self) -> Option<Ref<T>> {
        let item = self.next?;
        self.next = item.link().next.get();
        Some(item)
    }
}
