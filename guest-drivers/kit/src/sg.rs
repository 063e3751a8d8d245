//! Scatter-gather lists.

use crate::dma::{DmaBuffer, Segment};
use alloc::vec::Vec;

/// Runs of device memory in order. Adjacent runs become one as they are added, so a buffer of many
/// pages costs one entry where its frames happen to be neighbours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SgList {
    segments: Vec<Segment>,
    bytes: u64,
}

impl SgList {
    pub const fn new() -> Self {
        Self { segments: Vec::new(), bytes: 0 }
    }

    pub fn clear(&mut self) {
        self.segments.clear();
        self.bytes = 0;
    }

    /// Appends a run; joined to the last one where it continues it. Empty runs vanish.
    pub fn push(&mut self, segment: Segment) {
        if segment.len == 0 {
            return;
        }
        self.bytes += u64::from(segment.len);
        if let Some(last) = self.segments.last_mut() {
            let continues = last.address.checked_add(u64::from(last.len)) == Some(segment.address);
            if continues && let Some(len) = last.len.checked_add(segment.len) {
                last.len = len;
                return;
            }
        }
        self.segments.push(segment);
    }

    /// Appends `len` bytes of `buffer` from `at`.
    ///
    /// # Panics
    /// If they do not all lie in it.
    pub fn push_buffer(&mut self, buffer: &impl DmaBuffer, at: usize, len: usize) {
        assert!(at.checked_add(len).is_some_and(|end| end <= buffer.len()), "outside the buffer");
        let mut done = 0;
        while done < len {
            let run = buffer.device_address(at + done);
            let take = (run.len as usize).min(len - done);
            assert!(take > 0, "empty run");
            self.push(Segment { address: run.address, len: take as u32 });
            done += take;
        }
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Sum of all lengths.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn segment(address: u64, len: u32) -> Segment {
        Segment { address, len }
    }

    #[test]
    fn neighbours_join_and_gaps_do_not() {
        let mut list = SgList::new();
        for s in [segment(0x1000, 0x1000), segment(0x2000, 0x200), segment(0x3000, 1)] {
            list.push(s);
        }
        assert_eq!(list.segments(), &[segment(0x1000, 0x1200), segment(0x3000, 1)]);
        assert_eq!(list.bytes(), 0x1201);
    }

    #[test]
    fn a_length_never_overflows() {
        let mut list = SgList::new();
        list.push(segment(0, u32::MAX));
        list.push(segment(u64::from(u32::MAX), 2));
        list.push(segment(u64::MAX, 1));
        assert_eq!(list.segments().len(), 3);
    }

    proptest! {
        /// The list covers exactly the bytes pushed, in order, and no two entries could be joined.
        #[test]
        fn covers_what_was_pushed(pieces in prop::collection::vec((0u64..64, 0u32..8), 0..40)) {
            let mut list = SgList::new();
            let mut bytes = std::vec::Vec::new();
            for &(address, len) in &pieces {
                list.push(segment(address, len));
                bytes.extend(address..address + u64::from(len));
            }
            let covered: std::vec::Vec<u64> = list
                .segments()
                .iter()
                .flat_map(|s| s.address..s.address + u64::from(s.len))
                .collect();
            prop_assert_eq!(covered, bytes);
            for pair in list.segments().windows(2) {
                prop_assert_ne!(pair[0].address + u64::from(pair[0].len), pair[1].address);
            }
        }
    }
}
