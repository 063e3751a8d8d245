//! A ring of text that forgets whole lines from its start.
//!
//! Positions count all bytes ever appended. A descriptor's position begins with 0 wherever the
//! ring begins, so [`Readers`] keeps for each reader where its 0 is.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

/// Bytes kept.
pub const RING_LEN: usize = 256 * 1024;

#[derive(Debug, Default)]
pub struct Ring {
    bytes: VecDeque<u8>,
    /// Position of the first byte.
    start: u64,
}

impl Ring {
    pub fn append(&mut self, text: &[u8]) {
        self.bytes.extend(text);
        if self.bytes.len() <= RING_LEN {
            return;
        }
        let excess = self.bytes.len() - RING_LEN;
        let line_end = self.bytes.iter().skip(excess - 1).position(|&b| b == b'\n');
        let drop = line_end.map_or(excess, |at| excess + at);
        self.bytes.drain(..drop);
        self.start += drop as u64;
    }

    /// Goes on where a ring ended that began at `start`.
    pub fn begin_at(start: u64) -> Self {
        Self { start, ..Self::default() }
    }

    /// Position behind the last byte.
    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    pub fn start(&self) -> u64 {
        self.start
    }

    /// Up to `max` bytes from `position`; from the start if that is past it.
    pub fn read(&self, position: u64, max: usize) -> Vec<u8> {
        let skip = position.saturating_sub(self.start);
        let skip = usize::try_from(skip).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes.range(skip..).take(max).copied().collect()
    }
}

/// Where each reader's position 0 is.
#[derive(Debug, Default)]
pub struct Readers(BTreeMap<u32, u64>);

impl Readers {
    /// The position in the ring that `reader` means by `position`. What was forgotten meanwhile
    /// is skipped.
    pub fn position(&mut self, reader: u32, position: u64, ring: &Ring) -> u64 {
        let base = self.0.entry(reader).or_insert(ring.start);
        if position == 0 {
            *base = ring.start;
        }
        let absolute = base.saturating_add(position);
        if absolute < ring.start {
            *base += ring.start - absolute;
        }
        absolute.max(ring.start)
    }

    pub fn forget(&mut self, reader: u32) {
        self.0.remove(&reader);
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, u64)> {
        self.0.iter().map(|(&reader, &base)| (reader, base))
    }

    pub fn put_back(&mut self, reader: u32, base: u64) {
        self.0.insert(reader, base);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_reader_that_is_overtaken_goes_on() {
        let (mut ring, mut readers) = (Ring::default(), Readers::default());
        ring.append(b"one\n");
        let position = readers.position(1, 0, &ring);
        assert_eq!(ring.read(position, 100), b"one\n");
        for _ in 0..RING_LEN {
            ring.append(b"xx\n");
        }
        let first = readers.position(1, 4, &ring);
        assert_eq!(first, ring.start());
        assert_eq!(ring.read(first, 6), b"xx\nxx\n");
        let second = readers.position(1, 4 + 6, &ring);
        assert_eq!(second, first + 6);
    }

    proptest! {
        #[test]
        fn reading_on_gives_everything_kept(
            lines in prop::collection::vec((1usize..4000, 0usize..9000), 0..300)
        ) {
            let (mut ring, mut readers) = (Ring::default(), Readers::default());
            let mut position = 0;
            for (len, read) in lines {
                let mut line = alloc::vec![b'a'; len];
                line[len - 1] = b'\n';
                ring.append(&line);
                prop_assert!(ring.bytes.len() <= RING_LEN);
                let at = readers.position(7, position, &ring);
                let bytes = ring.read(at, read);
                position += bytes.len() as u64;
                let end = ring.start() + ring.bytes.len() as u64;
                prop_assert_eq!(bytes.len() as u64, (end - at).min(read as u64));
            }
            // The ring begins with a line.
            if ring.start() > 0 {
                let first = ring.bytes.iter().position(|&b| b == b'\n').unwrap();
                prop_assert!(first < 4000);
            }
        }

        #[test]
        fn any_position(position: u64, max in 0usize..100) {
            let (mut ring, mut readers) = (Ring::default(), Readers::default());
            ring.append(b"text\n");
            let at = readers.position(1, position, &ring);
            prop_assert!(ring.read(at, max).len() <= 5);
        }
    }
}
