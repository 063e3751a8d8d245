//! A descriptor chain as popped from a virtqueue: checked segments and cursors over them.

use super::Context;
use crate::dma::{DmaError, Segment};

/// A chain: its device-readable segments, then its device-writable ones (2.7.4.2). The lengths of
/// all segments together fit a u32.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Head index, to be given back on completion.
    pub head: u16,
    pub(super) segments: Vec<Segment>,
    /// How many of `segments` are device-readable.
    pub(super) readable: usize,
}

impl Chain {
    pub fn readable(&self) -> Cursor<'_> {
        Cursor::new(&self.segments[..self.readable])
    }

    pub fn writable(&self) -> Cursor<'_> {
        Cursor::new(&self.segments[self.readable..])
    }

    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
}

/// A position in a run of segments.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    segments: &'a [Segment],
    /// Bytes of `segments[0]` already passed.
    passed: u32,
    /// Bytes left in all segments.
    left: u64,
}

impl<'a> Cursor<'a> {
    fn new(segments: &'a [Segment]) -> Self {
        let left = segments.iter().map(|s| u64::from(s.length)).sum();
        Self { segments, passed: 0, left }
    }

    /// Bytes left.
    pub fn len(&self) -> u64 {
        self.left
    }

    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The next contiguous piece of at most `max` bytes; advances over it. `None` at the end.
    fn piece(&mut self, max: usize) -> Option<(u64, usize)> {
        while let Some((first, rest)) = self.segments.split_first() {
            let available = first.length - self.passed;
            if available == 0 {
                self.segments = rest;
                self.passed = 0;
                continue;
            }
            let take = available.min(u32::try_from(max).unwrap_or(u32::MAX));
            let address = first.address.wrapping_add(u64::from(self.passed));
            self.passed += take;
            self.left -= u64::from(take);
            return Some((address, take as usize));
        }
        None
    }

    /// Advances by `count` bytes, at most to the end.
    pub fn skip(&mut self, mut count: u64) {
        while count > 0 {
            let max = usize::try_from(count).unwrap_or(usize::MAX);
            let Some((_, taken)) = self.piece(max) else { return };
            count -= taken as u64;
        }
    }

    /// The next `count` bytes, at most to the end, as pieces of guest memory.
    pub fn take(&mut self, mut count: u64) -> Vec<Segment> {
        let mut pieces = Vec::with_capacity(self.segments.len());
        while count > 0 {
            let max = usize::try_from(count).unwrap_or(usize::MAX);
            let Some((address, taken)) = self.piece(max) else { break };
            pieces.push(Segment { address, length: taken as u32 });
            count -= taken as u64;
        }
        pieces
    }

    /// Fills `data` from guest memory as far as the segments go; returns the bytes read.
    pub fn read(&mut self, context: &Context<'_>, data: &mut [u8]) -> Result<usize, DmaError> {
        let mut done = 0;
        while done < data.len() {
            let Some((address, taken)) = self.piece(data.len() - done) else { break };
            context.read(address, &mut data[done..done + taken])?;
            done += taken;
        }
        Ok(done)
    }

    /// Stores `data` in guest memory as far as the segments go; returns the bytes written.
    pub fn write(&mut self, context: &Context<'_>, data: &[u8]) -> Result<usize, DmaError> {
        let mut done = 0;
        while done < data.len() {
            let Some((address, taken)) = self.piece(data.len() - done) else { break };
            context.write(address, &data[done..done + taken])?;
            done += taken;
        }
        Ok(done)
    }
}
