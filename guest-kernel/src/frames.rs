//! Physical frames: a bitmap for each 2 MiB of RAM (a *chunk*).
//!
//! Cheap to set up: a chunk whose record is all zero is entirely free, so a table in zeroed
//! memory needs no initialisation except at the edges of RAM and for what is reserved.
//!
//! RAM of a fresh virtual machine is zero. Where the machine promises that, a frame that was never
//! handed out is *fresh* and needs no clearing; each chunk has a watermark below which frames count
//! as dirty, and fresh frames are preferred. Blocks are powers of two of 4 KiB frames, naturally
//! aligned, up to a chunk; longer contiguous runs are whole chunks.

use core::cell::Cell;

pub const FRAME: u64 = 4096;
pub const CHUNK: u64 = 2 * 1024 * 1024;
/// Frames of a chunk.
pub const CHUNK_FRAMES: usize = 512;
/// Order of a whole chunk.
pub const CHUNK_ORDER: u32 = 9;
/// Runs of RAM that are told apart.
const MAX_ZONES: usize = 16;

/// State of one chunk; all zero means free and never used.
#[repr(C)]
pub struct Chunk {
    /// A bit for each frame: 1 = in use (or no RAM).
    used: [Cell<u64>; 8],
    used_count: Cell<u16>,
    /// Frames below this index were handed out once.
    watermark: Cell<u16>,
}

impl Chunk {
    pub const fn new() -> Self {
        Self {
            used: [const { Cell::new(0) }; 8],
            used_count: Cell::new(0),
            watermark: Cell::new(0),
        }
    }

    fn is_free(&self, first: usize, count: usize) -> bool {
        parts(first, count).all(|(word, mask)| self.used[word].get() & mask == 0)
    }

    fn take(&self, first: usize, count: usize) {
        parts(first, count)
            .for_each(|(word, mask)| self.used[word].set(self.used[word].get() | mask));
        self.used_count.set(self.used_count.get() + count as u16);
        let end = (first + count) as u16;
        if end > self.watermark.get() {
            self.watermark.set(end);
        }
    }

    /// First free aligned block of `1 << order` frames.
    fn find(&self, order: u32) -> Option<usize> {
        let size = 1usize << order;
        if order <= 6 {
            return self.used.iter().enumerate().find_map(|(index, used)| {
                let mut free = !used.get();
                for step in 0..order {
                    free &= free >> (1u32 << step);
                }
                free &= ALIGNED[order as usize];
                (free != 0).then(|| index * 64 + free.trailing_zeros() as usize)
            });
        }
        (0..CHUNK_FRAMES).step_by(size).find(|&first| self.is_free(first, size))
    }
}

impl Default for Chunk {
    fn default() -> Self {
        Self::new()
    }
}

/// Bits at multiples of `1 << order`.
const ALIGNED: [u64; 7] = [
    u64::MAX,
    0x5555_5555_5555_5555,
    0x1111_1111_1111_1111,
    0x0101_0101_0101_0101,
    0x0001_0001_0001_0001,
    0x0000_0001_0000_0001,
    1,
];

/// The (word, mask) pairs that cover `count` bits from `first`.
fn parts(first: usize, count: usize) -> impl Iterator<Item = (usize, u64)> {
    let end = first + count;
    (first / 64..end.div_ceil(64)).map(move |word| {
        let low = first.max(word * 64) - word * 64;
        let high = end.min(word * 64 + 64) - word * 64;
        (word, (u64::MAX >> (64 - (high - low))) << low)
    })
}

#[derive(Clone, Copy, Default)]
struct Zone {
    base: u64,
    first_chunk: usize,
    chunks: usize,
    /// RAM proper, without the rounding to chunks.
    start: u64,
    end: u64,
}

/// A block of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Physical address.
    pub address: u64,
    /// Known to be zero.
    pub fresh: bool,
}

pub struct Frames {
    chunks: Cell<&'static [Chunk]>,
    zones: [Cell<Zone>; MAX_ZONES],
    zone_count: Cell<usize>,
    chunk_count: Cell<usize>,
    zeroed: Cell<bool>,
    /// Where the search for fresh frames goes on, for small blocks, large ones and whole chunks.
    fresh_from: [Cell<usize>; 3],
    /// No chunk below this has a dirty frame that is free.
    dirty_from: Cell<usize>,
    total: Cell<u64>,
    free: Cell<u64>,
}

impl Default for Frames {
    fn default() -> Self {
        Self::new()
    }
}

impl Frames {
    pub const fn new() -> Self {
        Self {
            chunks: Cell::new(&[]),
            zones: [const { Cell::new(Zone { base: 0, first_chunk: 0, chunks: 0, start: 0, end: 0 }) };
                MAX_ZONES],
            zone_count: Cell::new(0),
            chunk_count: Cell::new(0),
            zeroed: Cell::new(false),
            fresh_from: [const { Cell::new(0) }; 3],
            dirty_from: Cell::new(0),
            total: Cell::new(0),
            free: Cell::new(0),
        }
    }

    /// Installs the table (all records new) and whether RAM that was never handed out is zero.
    pub fn start(&self, chunks: &'static [Chunk], zeroed: bool) {
        self.chunks.set(chunks);
        self.zeroed.set(zeroed);
    }

    /// Adds RAM from `start` to `end`, in ascending order of calls. What shares a chunk with RAM
    /// added before, or does not fit into the table, is left unused.
    pub fn add_ram(&self, start: u64, end: u64) {
        let start = start.next_multiple_of(FRAME);
        let end = end & !(FRAME - 1);
        let mut base = start & !(CHUNK - 1);
        let count = self.zone_count.get();
        if count > 0 {
            let last = self.zones[count - 1].get();
            base = base.max(last.base + last.chunks as u64 * CHUNK);
        }
        let first_chunk = self.chunk_count.get();
        let room = self.chunks.get().len() - first_chunk;
        if count == MAX_ZONES || end <= base || room == 0 {
            return;
        }
        let chunks = ((end - base).div_ceil(CHUNK) as usize).min(room);
        let top = base + chunks as u64 * CHUNK;
        let (start, end) = (start.max(base), end.min(top));
        self.zones[count].set(Zone { base, first_chunk, chunks, start, end });
        self.zone_count.set(count + 1);
        self.chunk_count.set(first_chunk + chunks);
        let frames = (chunks * CHUNK_FRAMES) as u64;
        self.total.set(self.total.get() + frames);
        self.free.set(self.free.get() + frames);
        let holes = self.reserve(base, start) + self.reserve(end, top);
        self.total.set(self.total.get() - holes);
    }

    /// Marks the frames that overlap `start..end` as in use; says how many were free before.
    pub fn reserve(&self, start: u64, end: u64) -> u64 {
        let mut address = start & !(FRAME - 1);
        let mut taken = 0;
        while address < end {
            let next = (address & !(CHUNK - 1)) + CHUNK;
            if let Some((index, frame)) = self.locate(address) {
                let chunk = &self.chunks.get()[index];
                let count = ((next.min(end) - address).div_ceil(FRAME)) as usize;
                if frame > usize::from(chunk.watermark.get()) {
                    // A reserved island: everything before it counts as used once. (Loses the
                    // freshness of a part of one chunk, nothing else.)
                    chunk.watermark.set(CHUNK_FRAMES as u16);
                }
                let new: u32 = parts(frame, count)
                    .map(|(word, mask)| (mask & !chunk.used[word].get()).count_ones())
                    .sum();
                chunk.take(frame, count);
                chunk.used_count.set(chunk.used_count.get() - (count as u32 - new) as u16);
                taken += u64::from(new);
            }
            address = next;
        }
        self.free.set(self.free.get() - taken);
        taken
    }

    /// Makes ordinary allocations start at `address`, to keep what is below for DMA.
    pub fn prefer_from(&self, address: u64) {
        if let Some((index, _)) = self.locate(address) {
            for (class, from) in self.fresh_from.iter().enumerate() {
                from.set(index + class);
            }
        }
    }

    /// A block of `1 << order` frames (order at most 9) that ends at or below `limit`.
    pub fn allocate(&self, order: u32, limit: u64) -> Option<Block> {
        let found = if limit == u64::MAX {
            self.find_fresh(order).or_else(|| self.find_any(order, self.dirty_from.get(), limit))
        } else {
            self.find_any(order, 0, limit)
        };
        let (index, first) = found?;
        let chunk = &self.chunks.get()[index];
        let fresh = self.zeroed.get() && first >= usize::from(chunk.watermark.get());
        let size = 1usize << order;
        chunk.take(first, size);
        self.free.set(self.free.get() - size as u64);
        Some(Block { address: self.address(index) + first as u64 * FRAME, fresh })
    }

    /// A run of whole chunks that ends at or below `limit`.
    pub fn allocate_chunks(&self, count: usize, limit: u64) -> Option<Block> {
        let chunks = self.chunks.get();
        for zone in self.zones.iter().take(self.zone_count.get()).map(Cell::get) {
            let within =
                ((limit.saturating_sub(zone.base)) / CHUNK).min(zone.chunks as u64) as usize;
            let mut run = 0;
            for index in zone.first_chunk..zone.first_chunk + within {
                run = if chunks[index].used_count.get() == 0 { run + 1 } else { 0 };
                if run < count {
                    continue;
                }
                let first = index + 1 - count;
                let all = &chunks[first..=index];
                let fresh = self.zeroed.get() && all.iter().all(|c| c.watermark.get() == 0);
                all.iter().for_each(|c| c.take(0, CHUNK_FRAMES));
                self.free.set(self.free.get() - (count * CHUNK_FRAMES) as u64);
                return Some(Block { address: self.address(first), fresh });
            }
        }
        None
    }

    /// Gives `count` frames from `address` back. They must have been allocated.
    pub fn release(&self, address: u64, count: u64) {
        let mut address = address;
        let mut left = count as usize;
        while left > 0 {
            let Some((index, first)) = self.locate(address) else { return };
            let here = left.min(CHUNK_FRAMES - first);
            let chunk = &self.chunks.get()[index];
            parts(first, here).for_each(|(word, mask)| {
                debug_assert!(chunk.used[word].get() & mask == mask, "frame released twice");
                chunk.used[word].set(chunk.used[word].get() & !mask);
            });
            chunk.used_count.set(chunk.used_count.get() - here as u16);
            self.dirty_from.set(self.dirty_from.get().min(index));
            self.free.set(self.free.get() + here as u64);
            address += here as u64 * FRAME;
            left -= here;
        }
    }

    /// Frames of RAM, and how many are free.
    pub fn counts(&self) -> (u64, u64) {
        (self.total.get(), self.free.get())
    }

    /// Whether any byte of `start..end` is RAM under management.
    pub fn overlaps_ram(&self, start: u64, end: u64) -> bool {
        self.zones
            .iter()
            .take(self.zone_count.get())
            .map(Cell::get)
            .any(|zone| start < zone.end && end > zone.start)
    }

    fn find_fresh(&self, order: u32) -> Option<(usize, usize)> {
        if !self.zeroed.get() {
            return None;
        }
        let class = match order {
            0..=3 => 0,
            4..=8 => 1,
            _ => 2,
        };
        let (count, size) = (self.chunk_count.get(), 1usize << order);
        for index in self.fresh_from[class].get()..count {
            let chunk = &self.chunks.get()[index];
            let first = usize::from(chunk.watermark.get()).next_multiple_of(size);
            if first + size <= CHUNK_FRAMES && chunk.is_free(first, size) {
                return Some((index, first));
            }
            // Too full for this; smaller blocks come later to what remains of it.
            if order == 0 || class == 2 || usize::from(chunk.watermark.get()) == CHUNK_FRAMES {
                self.fresh_from[class].set(index + 1);
            }
        }
        None
    }

    fn find_any(&self, order: u32, from: usize, limit: u64) -> Option<(usize, usize)> {
        let size = 1usize << order;
        for index in from..self.chunk_count.get() {
            let chunk = &self.chunks.get()[index];
            if CHUNK_FRAMES - usize::from(chunk.used_count.get()) < size {
                if limit == u64::MAX && index == self.dirty_from.get() && order == 0 {
                    self.dirty_from.set(index + 1);
                }
                continue;
            }
            let base = self.address(index);
            if base >= limit {
                return None;
            }
            if let Some(first) = chunk.find(order) {
                let end = base + (first + size) as u64 * FRAME;
                return (end <= limit).then_some((index, first));
            }
        }
        None
    }

    /// Chunk and frame of a physical address.
    fn locate(&self, address: u64) -> Option<(usize, usize)> {
        self.zones.iter().take(self.zone_count.get()).map(Cell::get).find_map(|zone| {
            let offset = address.checked_sub(zone.base)?;
            let chunk = (offset / CHUNK) as usize;
            (chunk < zone.chunks)
                .then(|| (zone.first_chunk + chunk, (offset % CHUNK / FRAME) as usize))
        })
    }

    fn address(&self, index: usize) -> u64 {
        self.zones
            .iter()
            .take(self.zone_count.get())
            .map(Cell::get)
            .find(|zone| index < zone.first_chunk + zone.chunks)
            .map_or(0, |zone| zone.base + (index - zone.first_chunk) as u64 * CHUNK)
    }
}

#[cfg(test)]
#[path = "frames_tests.rs"]
mod tests;
