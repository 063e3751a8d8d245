//! The journal (jbd2): writing transactions.
//!
//! ```text
//!        tail                                head
//!   ┌──┬───────────────────────────────────┬─────────────┐   first: the block behind the journal's
//!   │sb│ revoke descr data data .. commit  │   free      │   superblock; behind the end it goes on
//!   └──┴───────────────────────────────────┴─────────────┘   at first
//! ```
//! One commit: data (written by the files already) and log blocks, *barrier*, commit block, *barrier*
//! (or a flush, if somebody waits for it to be durable); then the blocks go to their places. The log
//! may be overwritten when those are there: when room runs out, *barrier*, move the tail, write the
//! journal's superblock, *barrier*.
//!
//! All fields are big-endian. Tags are of version 3 where the file system has metadata checksums, else
//! without checksums. Fast commits are not written.

use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};

use crate::checksum::crc32c;
use xinim_block_client::Storage;

/// A big-endian 32-bit field at a byte offset.
#[derive(Clone, Copy, Debug)]
pub struct Be32(pub usize);

impl Be32 {
    pub fn get(self, bytes: &[u8]) -> u32 {
        let mut raw = [0; 4];
        raw.copy_from_slice(&bytes[self.0..self.0 + 4]);
        u32::from_be_bytes(raw)
    }

    pub fn set(self, bytes: &mut [u8], value: u32) {
        bytes[self.0..self.0 + 4].copy_from_slice(&value.to_be_bytes());
    }
}

/// The journal's blocks begin so.
pub mod head {
    use super::Be32;

    pub const MAGIC_VALUE: u32 = 0xC03B_3998;
    pub const MAGIC: Be32 = Be32(0);
    pub const KIND: Be32 = Be32(4);
    pub const SEQUENCE: Be32 = Be32(8);
    pub const LEN: usize = 12;

    pub const DESCRIPTOR: u32 = 1;
    pub const COMMIT: u32 = 2;
    pub const SUPERBLOCK_V2: u32 = 4;
    pub const REVOKE: u32 = 5;
}

/// Fields of the journal's superblock.
pub mod jsb {
    use super::Be32;

    pub const LEN: usize = 1024;
    pub const BLOCK_SIZE: Be32 = Be32(0x0C);
    pub const MAX_LEN: Be32 = Be32(0x10);
    pub const FIRST: Be32 = Be32(0x14);
    pub const SEQUENCE: Be32 = Be32(0x18);
    pub const START: Be32 = Be32(0x1C);
    pub const COMPAT: Be32 = Be32(0x24);
    pub const INCOMPAT: Be32 = Be32(0x28);
    pub const UUID: usize = 0x30;
    pub const USERS: Be32 = Be32(0x40);
    pub const CHECKSUM_TYPE: usize = 0x50;
    pub const FAST_BLOCKS: Be32 = Be32(0x54);
    pub const CHECKSUM: Be32 = Be32(0xFC);

    pub const COMPAT_CHECKSUM: u32 = 1;
    pub const REVOKE: u32 = 1;
    pub const BIT64: u32 = 2;
    pub const ASYNC_COMMIT: u32 = 4;
    pub const CSUM_V2: u32 = 8;
    pub const CSUM_V3: u32 = 0x10;
    pub const FAST_COMMIT: u32 = 0x20;
    pub const CRC32C: u8 = 4;
}

/// Flags of a tag.
pub mod tag {
    pub const ESCAPED: u32 = 1;
    pub const SAME_UUID: u32 = 2;
    pub const LAST: u32 = 8;
}

/// Where and how long the log is, and how it is written.
#[derive(Debug)]
pub struct Journal {
    /// Logical start, physical start, length of the file's pieces.
    pub runs: Vec<(u64, u64, u64)>,
    pub block_size: usize,
    pub first: u32,
    pub end: u32,
    /// The journal's superblock.
    pub raw: Vec<u8>,
    pub sequence: u32,
    head: u32,
    free: u32,
}

impl Journal {
    pub fn new(runs: Vec<(u64, u64, u64)>, block_size: usize, raw: Vec<u8>) -> Self {
        let (first, max) = (jsb::FIRST.get(&raw), jsb::MAX_LEN.get(&raw));
        let fast = if jsb::INCOMPAT.get(&raw) & jsb::FAST_COMMIT == 0 {
            0
        } else {
            match jsb::FAST_BLOCKS.get(&raw) {
                0 => 256,
                count => count,
            }
        };
        let end = max.saturating_sub(fast);
        let sequence = jsb::SEQUENCE.get(&raw);
        Self { runs, block_size, first, end, raw, sequence, head: first, free: 0 }
    }

    /// Blocks that one transaction may have changed before it is committed.
    pub fn transaction_max(&self) -> usize {
        ((self.end - self.first) as usize / 4).clamp(32, 2048)
    }

    /// Physical place of a log block and how many follow it directly.
    pub fn locate(&self, block: u32) -> Result<(u64, u64)> {
        let block = u64::from(block);
        let index = self.runs.partition_point(|run| run.0 <= block);
        let run = index.checked_sub(1).map(|index| self.runs[index]).ok_or(Error::Io)?;
        let within = block - run.0;
        if within < run.2 { Ok((run.1 + within, run.2 - within)) } else { Err(Error::Io) }
    }

    fn incompat(&self) -> u32 {
        jsb::INCOMPAT.get(&self.raw)
    }

    pub fn has(&self, bit: u32) -> bool {
        self.incompat() & bit != 0
    }

    pub fn checksummed(&self) -> bool {
        self.has(jsb::CSUM_V2 | jsb::CSUM_V3)
    }

    pub fn seed(&self) -> u32 {
        crc32c(!0, &self.raw[jsb::UUID..jsb::UUID + 16])
    }

    /// Bytes of one tag.
    pub fn tag_len(&self) -> usize {
        if self.has(jsb::CSUM_V3) {
            return 16;
        }
        8 + if self.has(jsb::BIT64) { 4 } else { 0 } + if self.has(jsb::CSUM_V2) { 2 } else { 0 }
    }

    /// Bytes at the end of descriptor and revoke blocks that hold their checksum.
    pub fn tail_len(&self) -> usize {
        if self.checksummed() { 4 } else { 0 }
    }

    /// Writes the journal's superblock: replay starts at `start` (0: nothing to replay).
    pub fn write_superblock(&mut self, device: &mut dyn Storage, start: u32) -> Result<()> {
        jsb::SEQUENCE.set(&mut self.raw, self.sequence);
        jsb::START.set(&mut self.raw, start);
        if self.checksummed() {
            jsb::CHECKSUM.set(&mut self.raw, 0);
            let crc = crc32c(!0, &self.raw);
            jsb::CHECKSUM.set(&mut self.raw, crc);
        }
        let (block, _) = self.locate(0)?;
        device.write(block * self.block_size as u64, &self.raw)
    }

    /// Starts writing an empty log. The features become those that are written here.
    pub fn start(&mut self, device: &mut dyn Storage, checksums: bool, bit64: bool) -> Result<()> {
        let own = jsb::BIT64 | jsb::ASYNC_COMMIT | jsb::CSUM_V2 | jsb::CSUM_V3;
        let mut incompat = self.incompat() & !own | jsb::REVOKE;
        if bit64 {
            incompat |= jsb::BIT64;
        }
        self.raw[jsb::CHECKSUM_TYPE] = 0;
        if checksums {
            incompat |= jsb::CSUM_V3;
            self.raw[jsb::CHECKSUM_TYPE] = jsb::CRC32C;
        }
        jsb::INCOMPAT.set(&mut self.raw, incompat);
        let compat = jsb::COMPAT.get(&self.raw) & !jsb::COMPAT_CHECKSUM;
        jsb::COMPAT.set(&mut self.raw, compat);
        jsb::CHECKSUM.set(&mut self.raw, 0);
        self.head = self.first;
        self.free = self.end - self.first - 1;
        self.write_superblock(device, self.head)?;
        device.flush()
    }

    /// Everything in the log is in its place and durable: forgets it.
    pub fn stop(&mut self, device: &mut dyn Storage) -> Result<()> {
        self.write_superblock(device, 0)?;
        device.flush()
    }

    fn tags_per_block(&self) -> usize {
        (self.block_size - head::LEN - 16 - self.tail_len()) / self.tag_len()
    }

    fn revokes_per_block(&self) -> usize {
        (self.block_size - 16 - self.tail_len()) / if self.has(jsb::BIT64) { 8 } else { 4 }
    }

    /// Makes room in the log for `needed` blocks.
    fn make_room(&mut self, device: &mut dyn Storage, needed: u32) -> Result<()> {
        if needed <= self.free {
            return Ok(());
        }
        if needed > self.end - self.first - 1 {
            return Err(Error::NoSpc);
        }
        // What was committed went to its place, before the log moves on.
        device.barrier()?;
        self.free = self.end - self.first - 1;
        self.write_superblock(device, self.head)?;
        device.barrier()
    }

    fn block(&self, kind: u32) -> Vec<u8> {
        let mut block = vec![0; self.block_size];
        head::MAGIC.set(&mut block, head::MAGIC_VALUE);
        head::KIND.set(&mut block, kind);
        head::SEQUENCE.set(&mut block, self.sequence);
        block
    }

    fn seal(&self, block: &mut [u8]) {
        if self.checksummed() {
            let at = block.len() - 4;
            let crc = crc32c(self.seed(), block);
            Be32(at).set(block, crc);
        }
    }

    /// Commits `blocks` and `revoked`. Everything written later reaches the medium later; `durable`:
    /// and it has reached it when this returns.
    pub fn commit(
        &mut self,
        device: &mut dyn Storage,
        blocks: &[(u64, &[u8])],
        revoked: &[u64],
        now: u64,
        durable: bool,
    ) -> Result<()> {
        let (per, revokes) = (self.tags_per_block(), self.revokes_per_block());
        let needed =
            blocks.len() + blocks.len().div_ceil(per) + revoked.len().div_ceil(revokes) + 1;
        self.make_room(device, u32::try_from(needed).map_err(|_| Error::NoSpc)?)?;
        let mut log = Log { at: self.head, pieces: Vec::new() };
        for part in revoked.chunks(revokes) {
            let mut block = self.block(head::REVOKE);
            let mut at = 16;
            for &number in part {
                if self.has(jsb::BIT64) {
                    block[at..at + 8].copy_from_slice(&number.to_be_bytes());
                    at += 8;
                } else {
                    Be32(at).set(&mut block, number as u32);
                    at += 4;
                }
            }
            Be32(12).set(&mut block, at as u32);
            self.seal(&mut block);
            log.push(self, device, &block)?;
        }
        for part in blocks.chunks(per) {
            let descriptor = self.descriptor(part);
            log.push(self, device, &descriptor)?;
            for &(_, data) in part {
                if Be32(0).get(data) == head::MAGIC_VALUE {
                    let mut escaped = data.to_vec();
                    escaped[..4].fill(0);
                    log.push(self, device, &escaped)?;
                } else {
                    log.push(self, device, data)?;
                }
            }
        }
        log.write(self, device)?;
        device.barrier()?;
        let mut block = self.block(head::COMMIT);
        block[48..56].copy_from_slice(&(now / 1_000_000_000).to_be_bytes());
        Be32(56).set(&mut block, (now % 1_000_000_000) as u32);
        if self.checksummed() {
            let crc = crc32c(self.seed(), &block);
            Be32(16).set(&mut block, crc);
        }
        log.push(self, device, &block)?;
        log.write(self, device)?;
        if durable {
            device.flush()?
        } else {
            device.barrier()?
        }
        self.head = log.at;
        self.free -= needed as u32;
        self.sequence = self.sequence.wrapping_add(1);
        Ok(())
    }

    fn descriptor(&self, blocks: &[(u64, &[u8])]) -> Vec<u8> {
        let mut block = self.block(head::DESCRIPTOR);
        let mut at = head::LEN;
        for (index, &(number, data)) in blocks.iter().enumerate() {
            let mut flags = if index == 0 { 0 } else { tag::SAME_UUID };
            if index + 1 == blocks.len() {
                flags |= tag::LAST;
            }
            let escaped = Be32(0).get(data) == head::MAGIC_VALUE;
            if escaped {
                flags |= tag::ESCAPED;
            }
            Be32(at).set(&mut block, number as u32);
            if self.has(jsb::CSUM_V3) {
                let crc = crc32c(self.seed(), &self.sequence.to_be_bytes());
                let start = if escaped { &[0; 4][..] } else { &data[..4] };
                let crc = crc32c(crc32c(crc, start), &data[4..]);
                Be32(at + 4).set(&mut block, flags);
                Be32(at + 8).set(&mut block, (number >> 32) as u32);
                Be32(at + 12).set(&mut block, crc);
            } else {
                block[at + 6..at + 8].copy_from_slice(&(flags as u16).to_be_bytes());
                if self.has(jsb::BIT64) {
                    Be32(at + 8).set(&mut block, (number >> 32) as u32);
                }
            }
            at += self.tag_len();
            if index == 0 {
                // The journal belongs to one file system only; its number is zeros.
                at += 16;
            }
        }
        self.seal(&mut block);
        block
    }
}

/// Log blocks on their way to the device, those next to each other together.
struct Log {
    at: u32,
    /// Physical start and bytes.
    pieces: Vec<(u64, Vec<u8>)>,
}

/// Bytes collected before they are written.
const PIECE: usize = 256 * 1024;

impl Log {
    fn push(&mut self, journal: &Journal, device: &mut dyn Storage, block: &[u8]) -> Result<()> {
        let (place, _) = journal.locate(self.at)?;
        let size = journal.block_size as u64;
        match self.pieces.last_mut() {
            Some((start, bytes))
                if *start + bytes.len() as u64 / size == place && bytes.len() < PIECE =>
            {
                bytes.extend_from_slice(block);
            }
            _ => {
                self.write(journal, device)?;
                self.pieces.push((place, block.to_vec()));
            }
        }
        self.at += 1;
        if self.at >= journal.end {
            self.at = journal.first;
        }
        Ok(())
    }

    fn write(&mut self, journal: &Journal, device: &mut dyn Storage) -> Result<()> {
        for (start, bytes) in self.pieces.drain(..) {
            device.write(start * journal.block_size as u64, &bytes)?;
        }
        Ok(())
    }
}
