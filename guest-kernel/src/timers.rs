//! Deadlines: an intrusive pairing heap. Setting is O(1), taking the earliest or cancelling any is
//! O(log n) amortised; nothing is allocated, so setting a timer cannot fail.
//!
//! The links of a node: `child` is its first child, `next` its right sibling, `previous` its left
//! sibling or, for a first child, its parent.

use core::cell::Cell;

use crate::refs::Ref;

pub struct Node<T> {
    /// In ticks of the caller's clock.
    deadline: Cell<u64>,
    active: Cell<bool>,
    child: Cell<Option<Ref<T>>>,
    next: Cell<Option<Ref<T>>>,
    previous: Cell<Option<Ref<T>>>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Node<T> {
    pub const fn new() -> Self {
        Self {
            deadline: Cell::new(0),
            active: Cell::new(false),
            child: Cell::new(None),
            next: Cell::new(None),
            previous: Cell::new(None),
        }
    }

    pub fn is_active(&self) -> bool {
        self.active.get()
    }
}

pub trait Timed: Sized {
    fn timer(&self) -> &Node<Self>;
}

pub struct Timers<T> {
    root: Cell<Option<Ref<T>>>,
    /// Deadline of the root, `u64::MAX` when empty: what the hot path compares with.
    earliest: Cell<u64>,
}

impl<T: Timed> Default for Timers<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Timed> Timers<T> {
    pub const fn new() -> Self {
        Self { root: Cell::new(None), earliest: Cell::new(u64::MAX) }
    }

    /// The earliest deadline, `u64::MAX` for none.
    #[inline(always)]
    pub fn earliest(&self) -> u64 {
        self.earliest.get()
    }

    /// Sets (or moves) the timer of `item`.
    pub fn set(&self, item: Ref<T>, deadline: u64) {
        self.cancel(item);
        let node = item.timer();
        node.deadline.set(deadline);
        node.active.set(true);
        node.child.set(None);
        node.next.set(None);
        node.previous.set(None);
        let root = self.root.get().map_or(item, |root| meld(root, item));
        self.set_root(Some(root));
    }

    /// Does nothing for an item without a timer.
    pub fn cancel(&self, item: Ref<T>) {
        let node = item.timer();
        if !node.active.replace(false) {
            return;
        }
        if self.root.get() == Some(item) {
            self.set_root(merge_pairs(node.child.take()));
            return;
        }
        // Cut the subtree out of its siblings, then give its children back to the heap.
        if let Some(previous) = node.previous.get() {
            let link = previous.timer();
            if link.child.get() == Some(item) {
                link.child.set(node.next.get());
            } else {
                link.next.set(node.next.get());
            }
        }
        if let Some(next) = node.next.get() {
            next.timer().previous.set(node.previous.get());
        }
        if let (Some(rest), Some(root)) = (merge_pairs(node.child.take()), self.root.get()) {
            self.set_root(Some(meld(root, rest)));
        }
    }

    /// Takes the earliest item if its deadline is at most `now`.
    pub fn pop_expired(&self, now: u64) -> Option<Ref<T>> {
        if self.earliest.get() > now {
            return None;
        }
        let root = self.root.get()?;
        self.cancel(root);
        Some(root)
    }

    fn set_root(&self, root: Option<Ref<T>>) {
        self.root.set(root);
        self.earliest.set(root.map_or(u64::MAX, |root| {
            root.timer().next.set(None);
            root.timer().previous.set(None);
            root.timer().deadline.get()
        }));
    }
}

/// Joins two heaps; neither root has siblings that matter.
fn meld<T: Timed>(a: Ref<T>, b: Ref<T>) -> Ref<T> {
    let (top, under) =
        if b.timer().deadline.get() < a.timer().deadline.get() { (b, a) } else { (a, b) };
    let child = top.timer().child.replace(Some(under));
    under.timer().next.set(child);
    under.timer().previous.set(Some(top));
    if let Some(child) = child {
        child.timer().previous.set(Some(under));
    }
    top
}

/// The two passes of a pairing heap over a list of siblings.
fn merge_pairs<T: Timed>(first: Option<Ref<T>>) -> Option<Ref<T>> {
    let mut rest = first;
    // Pairs, chained backwards through `next`.
    let mut pairs: Option<Ref<T>> = None;
    while let Some(a) = rest {
        let b = a.timer().next.get();
        rest = b.and_then(|b| b.timer().next.get());
        let pair = b.map_or(a, |b| meld(a, b));
        pair.timer().next.set(pairs);
        pairs = Some(pair);
    }
    let mut root = pairs?;
    let mut rest = root.timer().next.take();
    while let Some(pair) = rest {
        rest = pair.timer().next.take();
        root = meld(root, pair);
    }
    Some(root)
}

#[cfg(test)]
#[path = "timers_tests.rs"]
mod tests;
