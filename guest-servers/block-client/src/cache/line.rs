//! A line's state, masks of its granules, and the order in which lines were used.

use alloc::vec::Vec;

use xinim_abi::error::Error;

/// Marks a slot that holds no line.
pub(super) const NO_LINE: u64 = u64::MAX;

/// One slot of data memory. The masks have a bit for each granule.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    /// Which part of the partition; [`NO_LINE`]: none.
    pub number: u64,
    /// The bytes are those of the device, or newer.
    pub valid: u64,
    /// Newer than the device, and not on the way there.
    pub dirty: u64,
    /// Being read from the device; not valid.
    pub reading: u64,
    /// Being written to the device; valid and not dirty.
    pub writing: u64,
    /// Round of write-back in which the device refused a write of this line.
    pub refused: u64,
    /// Tick of the background at which it became dirty.
    pub dirty_since: u64,
    /// Why the last read failed.
    pub error: Option<Error>,
}

impl Line {
    pub const FREE: Self = Self {
        number: NO_LINE,
        valid: 0,
        dirty: 0,
        reading: 0,
        writing: 0,
        refused: 0,
        dirty_since: 0,
        error: None,
    };

    /// Whether the slot may be given to another line.
    pub fn can_go(&self) -> bool {
        self.dirty | self.reading | self.writing == 0
    }
}

/// Mask of granules `first..=last`.
pub(super) fn mask(first: usize, last: usize) -> u64 {
    let high = if last >= 63 { u64::MAX } else { (1 << (last + 1)) - 1 };
    high & !((1 << first) - 1)
}

/// Runs of set bits as (first, count).
pub(super) fn runs(mut bits: u64) -> impl Iterator<Item = (usize, usize)> {
    core::iter::from_fn(move || {
        if bits == 0 {
            return None;
        }
        let first = bits.trailing_zeros() as usize;
        let count = (bits >> first).trailing_ones() as usize;
        bits &= !mask(first, first + count - 1);
        Some((first, count))
    })
}

/// Slots from the least to the most recently used: a ring of links, every operation but
/// [`Recency::oldest`] in constant time.
#[derive(Debug)]
pub(super) struct Recency {
    /// `(older, newer)`; the last entry is the ring's head, between newest and oldest.
    links: Vec<(u32, u32)>,
}

impl Recency {
    pub fn new(slots: usize) -> Self {
        let count = slots as u32 + 1;
        let links = (0..count).map(|at| ((at + count - 1) % count, (at + 1) % count)).collect();
        Self { links }
    }

    fn head(&self) -> u32 {
        self.links.len() as u32 - 1
    }

    /// `slot` is the newest from now on.
    pub fn touch(&mut self, slot: usize) {
        let (older, newer) = self.links[slot];
        self.links[older as usize].1 = newer;
        self.links[newer as usize].0 = older;
        let head = self.head();
        let newest = self.links[head as usize].0;
        self.links[slot] = (newest, head);
        self.links[newest as usize].1 = slot as u32;
        self.links[head as usize].0 = slot as u32;
    }

    /// Slots, oldest first.
    pub fn oldest(&self) -> impl Iterator<Item = usize> + '_ {
        let head = self.head();
        let mut at = head;
        core::iter::from_fn(move || {
            at = self.links[at as usize].1;
            (at != head).then_some(at as usize)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_granules() {
        assert_eq!(runs(0b1101_1000).collect::<Vec<_>>(), [(3, 2), (6, 2)]);
        assert_eq!(runs(u64::MAX).collect::<Vec<_>>(), [(0, 64)]);
        assert_eq!(mask(0, 63), u64::MAX);
        assert_eq!(mask(63, 63), 1 << 63);
    }

    #[test]
    fn order_of_use() {
        let mut recency = Recency::new(4);
        assert_eq!(recency.oldest().collect::<Vec<_>>(), [0, 1, 2, 3]);
        for slot in [1, 3, 1, 0] {
            recency.touch(slot);
        }
        assert_eq!(recency.oldest().collect::<Vec<_>>(), [2, 3, 1, 0]);
    }
}
