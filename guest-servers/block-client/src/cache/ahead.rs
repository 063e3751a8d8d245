//! Who reads sequentially, and how far ahead to read for them.
//!
//! A reader that goes on where an earlier read ended is a *stream*. Its window begins with
//! [`FIRST`] bytes and doubles each time half of it has been used, up to a quarter of the cache.

/// Streams told apart; the one unused for longest is forgotten.
const STREAMS: usize = 4;
/// Bytes ahead at the first sequential read.
const FIRST: u64 = 64 * 1024;

#[derive(Clone, Copy, Debug, Default)]
struct Stream {
    /// Where it goes on.
    next: u64,
    /// Bytes to be ahead.
    window: u64,
    /// End of what was asked for.
    end: u64,
    used: u64,
}

#[derive(Debug)]
pub(super) struct Streams {
    streams: [Stream; STREAMS],
    largest: u64,
    clock: u64,
}

impl Streams {
    /// `largest` window in bytes.
    pub fn new(largest: u64) -> Self {
        Self { streams: [Stream::default(); STREAMS], largest, clock: 0 }
    }

    /// Notes a read of `len` bytes at `offset`. If it belongs to a stream: the range of bytes
    /// behind it that should be asked for now.
    pub fn read(&mut self, offset: u64, len: u64) -> Option<core::ops::Range<u64>> {
        self.clock += 1;
        let (clock, end) = (self.clock, offset + len);
        let known = self.streams.iter_mut().find(|s| s.used > 0 && s.next == offset);
        let Some(stream) = known else {
            let oldest = self.streams.iter_mut().min_by_key(|s| s.used)?;
            *oldest = Stream { next: end, window: 0, end, used: clock };
            return None;
        };
        stream.used = clock;
        stream.next = end;
        let from = stream.end.max(end);
        if from - end > stream.window / 2 {
            return None;
        }
        stream.window = (stream.window * 2).max(FIRST).min(self.largest);
        stream.end = end + stream.window;
        (from < stream.end).then_some(from..stream.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_with_the_stream_and_not_without() {
        let mut streams = Streams::new(512 * 1024);
        assert_eq!(streams.read(0, 4096), None);
        assert_eq!(streams.read(1 << 30, 4096), None, "a jump");
        assert_eq!(streams.read(4096, 4096), Some(8192..8192 + FIRST));
        let (mut at, mut asked, mut longest) = (8192, 8192 + FIRST, 0);
        while at < 64 << 20 {
            if let Some(range) = streams.read(at, 4096) {
                assert_eq!(range.start, asked, "nothing twice, nothing left out");
                asked = range.end;
                longest = longest.max(range.end - at);
            }
            at += 4096;
            assert!(asked >= at, "always ahead");
        }
        assert_eq!(longest, 512 * 1024 + 4096);
    }

    #[test]
    fn several_readers_at_once() {
        let mut streams = Streams::new(1 << 20);
        let mut hits = 0;
        for step in 0..64u64 {
            for reader in 0..STREAMS as u64 {
                hits += usize::from(streams.read((reader << 30) + step * 65536, 65536).is_some());
            }
        }
        assert!(hits > 4 * STREAMS, "{hits}");
    }
}
