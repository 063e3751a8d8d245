//! What is written and not on the device yet, in memory that outlives the server.
//!
//! ```text
//! 0     64     128
//! | head | stage | per slot: number, mask twice, sums | stage's bytes and sums | a line for each slot |
//! ```
//! A granule that becomes dirty is copied into its slot's line; its bit in the mask says that it counts,
//! and goes when the device has it. So the next instance finds what its predecessor was told and
//! had not written, writes that first, and nothing is lost: the volume is as it was when the
//! server died, perhaps in the middle of an operation, as after a power cut.
//!
//! The writer may die at any byte. A granule that is not in the mask is written before its bit
//! is set. What changes in one that is, goes to the *stage* first, whose head says that it is whole,
//! and then to its place. Every granule is under a checksum that covers where it belongs, so that what the
//! dying server damaged is not written to the disk. It is a sum over words, so that a change of a
//! few bytes, of which metadata has many, costs a few words.

use alloc::boxed::Box;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_keep::{Area, Found, sum, word_at};

use super::Cache;
use super::line::{mask, runs};
use crate::Transport;

const MAGIC: u64 = u64::from_le_bytes(*b"XDIRTY01");
const STAGED: u64 = u64::from_le_bytes(*b"XSTAGED1");
const STAGE: usize = 64;
const TABLE: usize = 128;
/// Number, mask, and the mask again: a bit counts in either, so that none goes by damage.
const ENTRY_HEAD: usize = 24;
/// Bounds of what a head may claim.
const SLOTS_MAX: usize = 1 << 16;
const GRANULE_MAX: usize = 1 << 20;

/// How a cache is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    pub granule: usize,
    /// Of a line, at most 64.
    pub granules: usize,
    pub slots: usize,
}

impl Layout {
    fn entry_len(self) -> usize {
        ENTRY_HEAD + 8 * self.granules
    }

    fn entry(self, slot: usize) -> usize {
        TABLE + slot * self.entry_len()
    }

    fn line_len(self) -> usize {
        self.granule * self.granules
    }

    /// The stage's data.
    fn staged(self) -> usize {
        self.entry(self.slots)
    }

    fn data(self, slot: usize, at: usize) -> usize {
        let stage_len = self.line_len() + 8 * self.granules;
        self.staged() + stage_len + slot * self.line_len() + at
    }

    fn sum(self, slot: usize, granule: usize) -> usize {
        self.entry(slot) + ENTRY_HEAD + 8 * granule
    }

    /// Bytes of memory.
    fn len(self) -> usize {
        self.data(self.slots, 0)
    }

    /// `BadMessage` where the numbers of a head cannot be.
    fn check(self) -> Result<Self> {
        let sound = self.granule.is_power_of_two()
            && (512..=GRANULE_MAX).contains(&self.granule)
            && (1..=64).contains(&self.granules)
            && (1..=SLOTS_MAX).contains(&self.slots);
        if sound { Ok(self) } else { Err(Error::BadMessage) }
    }
}

/// A granule as it was found: which of the device's, and its bytes.
struct Piece {
    pub number: u64,
    pub granule: usize,
    pub bytes: Vec<u8>,
}

/// Whose dirty granules these are.
#[derive(Clone, Copy, Debug)]
struct Device {
    identity: u64,
    /// See [`Transport::plugged`].
    plugged: (u32, u32),
}

/// See the module.
pub(super) struct Kept {
    area: Box<dyn Area>,
    layout: Layout,
    /// Number and mask of each slot, as they are in memory.
    entries: Vec<(u64, u64)>,
    scratch: Vec<u8>,
}

impl core::fmt::Debug for Kept {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Kept").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Kept {
    /// An empty account in `area`, whatever was there. `Inval`: it does not fit.
    fn begin(area: Box<dyn Area>, layout: Layout, device: Device) -> Result<Self> {
        if area.len() < layout.len() {
            return Err(Error::Inval);
        }
        // Without a head nothing counts.
        area.write(0, &[0; TABLE])?;
        let empty = alloc::vec![0; layout.entry_len()];
        for slot in 0..layout.slots {
            area.write(layout.entry(slot), &empty)?;
        }
        area.write(0, &head(layout, device))?;
        Ok(Self { area, layout, entries: alloc::vec![(0, 0); layout.slots], scratch: Vec::new() })
    }

    /// What a predecessor left for this device, and the memory again.
    fn take(area: Box<dyn Area>, device: Device) -> (Box<dyn Area>, Found, Vec<Piece>) {
        let mut first = [0; STAGE];
        let fresh = area.read(0, &mut first).is_ok() && first == [0; STAGE];
        if fresh {
            return (area, Found::Fresh, Vec::new());
        }
        match read(&*area, &first, device) {
            Ok(pieces) => (area, Found::Restored, pieces),
            Err(_) => (area, Found::Garbage, Vec::new()),
        }
    }

    /// `data` was written at byte `at` of line `number`, in `slot`; `read` gives what lies there now.
    fn note(
        &mut self,
        slot: usize,
        number: u64,
        at: usize,
        data: &[u8],
        read: impl Fn(usize, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let granule = self.layout.granule;
        let (before, mut old) = self.entries[slot];
        if before != number {
            // Its granules are the other line's no more.
            self.set(slot, number, 0)?;
            self.area.write(self.layout.entry(slot), &number.to_le_bytes())?;
            old = 0;
        }
        let end = at + data.len();
        let granules = mask(at / granule, (end - 1) / granule);
        for (first, count) in runs(granules & !old) {
            let (from, to) = (first * granule, (first + count) * granule);
            if from >= at && to <= end {
                self.add(slot, first, &data[from - at..to - at])?;
            } else {
                let mut bytes = core::mem::take(&mut self.scratch);
                bytes.resize(to - from, 0);
                let added = read(from, &mut bytes).and_then(|()| self.add(slot, first, &bytes));
                self.scratch = bytes;
                added?;
            }
        }
        for (first, count) in runs(granules & old) {
            let (from, to) = ((first * granule).max(at), ((first + count) * granule).min(end));
            self.change(slot, from, &data[from - at..to - at])?;
        }
        Ok(())
    }

    /// Whole granules that do not count yet.
    fn add(&mut self, slot: usize, first: usize, bytes: &[u8]) -> Result<()> {
        let layout = self.layout;
        let (number, old) = self.entries[slot];
        self.area.write(layout.data(slot, first * layout.granule), bytes)?;
        for (granule, bytes) in (first..).zip(bytes.chunks(layout.granule)) {
            let sum = words_sum(number, granule, 0, bytes);
            self.area.write(layout.sum(slot, granule), &sum.to_le_bytes())?;
        }
        self.set(slot, number, old | mask(first, first + bytes.len() / layout.granule - 1))
    }

    /// Bytes of granules that count.
    fn change(&mut self, slot: usize, at: usize, data: &[u8]) -> Result<()> {
        let layout = self.layout;
        let number = self.entries[slot].0;
        let (from, to) = (at & !7, (at + data.len()).next_multiple_of(8));
        let mut bytes = core::mem::take(&mut self.scratch);
        bytes.resize(to - from, 0);
        self.area.read(layout.data(slot, from), &mut bytes)?;
        let (first, last) = (from / layout.granule, (to - 1) / layout.granule);
        // Of each granule's sum, what the words counted before is taken away, and added as they are now.
        let mut sums = [0; 64];
        for (granule, sum) in (first..=last).zip(&mut sums) {
            let mut old = [0; 8];
            self.area.read(layout.sum(slot, granule), &mut old)?;
            *sum = u64::from_le_bytes(old).wrapping_sub(self.part(number, granule, from, &bytes));
        }
        bytes[at - from..][..data.len()].copy_from_slice(data);
        let len = bytes.len();
        for (granule, sum) in (first..=last).zip(sums) {
            let sum = sum.wrapping_add(self.part(number, granule, from, &bytes[..len]));
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        self.area.write(layout.staged(), &bytes)?;
        let words = [slot as u64, number, from as u64, len as u64, sum(number, &bytes)];
        self.area.write(STAGE, &record(STAGED, words))?;
        self.area.write(layout.data(slot, from), &bytes[..len])?;
        self.area.write(layout.sum(slot, first), &bytes[len..])?;
        self.scratch = bytes;
        self.area.write(STAGE, &[0; 8])
    }

    /// What the words of `bytes`, from byte `from` of the line, that lie in `granule` add to its sum.
    fn part(&self, number: u64, granule: usize, from: usize, bytes: &[u8]) -> u64 {
        let begin = granule * self.layout.granule;
        let (first, end) = (from.max(begin), (from + bytes.len()).min(begin + self.layout.granule));
        words_sum(number, granule, first - begin, &bytes[first - from..end - from])
    }

    /// The device has these granules of a slot.
    fn done(&mut self, slot: usize, granules: u64) -> Result<()> {
        let (number, old) = self.entries[slot];
        match old & granules {
            0 => Ok(()),
            _ => self.set(slot, number, old & !granules),
        }
    }

    fn set(&mut self, slot: usize, number: u64, granules: u64) -> Result<()> {
        self.entries[slot] = (number, granules);
        let at = self.layout.entry(slot) + 8;
        self.area.write(at, &granules.to_le_bytes())?;
        self.area.write(at + 8, &granules.to_le_bytes())
    }
}

fn place(number: u64, granule: usize) -> u64 {
    number.wrapping_mul(64).wrapping_add(granule as u64)
}

/// Sum over some words of a granule, of which the first is at byte `from`: each counts with its place.
fn words_sum(number: u64, granule: usize, from: usize, bytes: &[u8]) -> u64 {
    let mut key = place(number, granule)
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        .wrapping_add((from as u64).wrapping_mul(STEP / 8));
    let mut sum = 0_u64;
    for word in bytes.as_chunks::<8>().0 {
        let mixed = (u64::from_le_bytes(*word) ^ key).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        sum = sum.wrapping_add(mixed ^ mixed >> 32);
        key = key.wrapping_add(STEP);
    }
    sum
}

/// Between the keys of neighbouring words: a multiple of 8, so that a byte's share is whole.
const STEP: u64 = 0xA24B_AED4_963E_E400;

/// 64 bytes: magic, words, sum.
fn record<const N: usize>(magic: u64, words: [u64; N]) -> [u8; STAGE] {
    let mut bytes = [0; STAGE];
    let all = core::iter::once(magic).chain(words);
    for (to, word) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(all) {
        *to = word.to_le_bytes();
    }
    let check = sum(magic, &bytes[..STAGE - 8]);
    bytes[STAGE - 8..].copy_from_slice(&check.to_le_bytes());
    bytes
}

/// Whether this is what [`record`] made.
fn is_record(magic: u64, bytes: &[u8; STAGE]) -> bool {
    word_at(bytes, 0) == magic && word_at(bytes, STAGE - 8) == sum(magic, &bytes[..STAGE - 8])
}

fn head(layout: Layout, device: Device) -> [u8; STAGE] {
    let Layout { granule, granules, slots } = layout;
    let plugged = u64::from(device.plugged.0) << 32 | u64::from(device.plugged.1);
    record(MAGIC, [granule as u64, granules as u64, slots as u64, device.identity, plugged])
}

/// All granules that count. `BadMessage`: something is not as it was written.
fn read(area: &dyn Area, first: &[u8; STAGE], device: Device) -> Result<Vec<Piece>> {
    let plugged = word_at(first, 40);
    let torn_away =
        (plugged >> 32) as u32 == device.plugged.0 && plugged as u32 != device.plugged.1;
    if !is_record(MAGIC, first) || word_at(first, 32) != device.identity || torn_away {
        return Err(Error::BadMessage);
    }
    let number = |at| usize::try_from(word_at(first, at)).map_err(|_| Error::BadMessage);
    let layout = Layout { granule: number(8)?, granules: number(16)?, slots: number(24)? };
    if layout.check()?.len() > area.len() {
        return Err(Error::BadMessage);
    }
    let staged = read_stage(area, layout)?;
    let mut pieces = Vec::new();
    let mut entry = alloc::vec![0; layout.entry_len()];
    let mut line = alloc::vec![0; layout.line_len()];
    for slot in 0..layout.slots {
        area.read(layout.entry(slot), &mut entry)?;
        let (number, granules) = (word_at(&entry, 0), word_at(&entry, 8) | word_at(&entry, 16));
        if granules == 0 {
            continue;
        }
        area.read(layout.data(slot, 0), &mut line)?;
        if let Some(stage) = staged.as_ref().filter(|s| (s.slot, s.number) == (slot, number)) {
            // Whether it has reached its place or not, this is what it shall be.
            let first = stage.from / layout.granule;
            line[stage.from..][..stage.bytes.len()].copy_from_slice(&stage.bytes);
            entry[ENTRY_HEAD + 8 * first..][..stage.sums.len()].copy_from_slice(&stage.sums);
        }
        for granule in runs(granules).flat_map(|(first, count)| first..first + count) {
            if granule >= layout.granules {
                return Err(Error::BadMessage);
            }
            let bytes = &line[granule * layout.granule..][..layout.granule];
            if word_at(&entry, ENTRY_HEAD + 8 * granule) != words_sum(number, granule, 0, bytes) {
                return Err(Error::BadMessage);
            }
            pieces.push(Piece { number, granule, bytes: bytes.into() });
        }
    }
    Ok(pieces)
}

/// What was on its way to a place that had something else.
struct Stage {
    slot: usize,
    number: u64,
    /// Byte of the line.
    from: usize,
    bytes: Vec<u8>,
    /// Of the granules that these bytes lie in.
    sums: Vec<u8>,
}

fn read_stage(area: &dyn Area, layout: Layout) -> Result<Option<Stage>> {
    let mut head = [0; STAGE];
    area.read(STAGE, &mut head)?;
    // Half of one was never begun to be carried out.
    if !is_record(STAGED, &head) {
        return Ok(None);
    }
    let number = |at| usize::try_from(word_at(&head, at)).map_err(|_| Error::BadMessage);
    let (slot, from, len) = (number(8)?, number(24)?, number(32)?);
    let end = from.saturating_add(len);
    if slot >= layout.slots || len == 0 || end > layout.line_len() {
        return Err(Error::BadMessage);
    }
    let count = (end - 1) / layout.granule - from / layout.granule + 1;
    let mut bytes = alloc::vec![0; len + 8 * count];
    area.read(layout.staged(), &mut bytes)?;
    let number = word_at(&head, 16);
    if word_at(&head, 40) != sum(number, &bytes) {
        return Err(Error::BadMessage);
    }
    let sums = bytes.split_off(len);
    Ok(Some(Stage { slot, number, from, bytes, sums }))
}

impl<T: Transport> Cache<T> {
    /// Bytes that [`Cache::keep`] needs.
    pub fn kept_len(&self) -> usize {
        self.layout().len()
    }

    fn layout(&self) -> Layout {
        let Self { granule, granules, .. } = *self;
        Layout { granule, granules, slots: self.lines.len() }
    }

    /// Keeps account of what is not on the device in `area`, so that this server's death does not lose it.
    /// What an earlier instance left there for the device `identity` is written to the device
    /// first. `Inval`: too little memory; then nothing is kept, now and later.
    pub fn keep(&mut self, area: Box<dyn Area>, identity: u64) -> Result<Found> {
        let device = Device { identity, plugged: self.transport.plugged() };
        let (area, mut found, pieces) = Kept::take(area, device);
        for piece in pieces {
            let line = piece.number.checked_mul(self.line_len() as u64);
            let at =
                line.and_then(|line| line.checked_add((piece.granule * piece.bytes.len()) as u64));
            if at.is_none_or(|at| self.write(at, &piece.bytes).is_err()) {
                found = Found::Garbage;
            }
        }
        // A device that refuses is the next `fsync`'s business.
        let failure = self.flush().err();
        self.failure = self.failure.or(failure);
        self.kept = Some(Kept::begin(area, self.layout(), device)?);
        for number in self.dirty.clone() {
            if let Some(&slot) = self.index.get(&number) {
                self.account(slot, self.lines[slot].dirty);
            }
        }
        self.recovered = found == Found::Restored;
        Ok(found)
    }

    /// Nothing is lost of what an earlier instance of the server had written.
    pub fn recovered(&self) -> bool {
        self.recovered
    }

    /// Has account taken of whole granules.
    fn account(&mut self, slot: usize, granules: u64) {
        let (line_len, granule) = (self.line_len(), self.granule);
        for (first, count) in runs(granules) {
            let mut bytes = alloc::vec![0; count * granule];
            if self.transport.read_data(slot * line_len + first * granule, &mut bytes).is_ok() {
                self.note(slot, first * granule, &bytes);
            }
        }
    }

    /// `data` was written at byte `at` of a slot.
    pub(super) fn note(&mut self, slot: usize, at: usize, data: &[u8]) {
        let line_len = self.line_len();
        let Some(kept) = &mut self.kept else { return };
        let (number, transport) = (self.lines[slot].number, &self.transport);
        let read = |at: usize, out: &mut [u8]| transport.read_data(slot * line_len + at, out);
        // Half an account is none.
        if kept.note(slot, number, at, data, read).is_err() {
            self.kept = None;
        }
    }

    /// The device has these granules, or nobody needs them.
    pub(super) fn settle(&mut self, slot: usize, granules: u64) {
        if let Some(kept) = &mut self.kept
            && kept.done(slot, granules).is_err()
        {
            self.kept = None;
        }
    }
}
