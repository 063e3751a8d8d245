//! Replaying the journal after a crash.
//!
//! Three passes over the log, as in jbd2: find where the last complete transaction ends; collect
//! which blocks were freed (revoked) and when; write the blocks of complete transactions to their
//! places, except where a revocation of the same or a later transaction says not to.
//!
//! The log is as hostile as the rest of the disk: it is walked at most once around, its tags name
//! blocks of the file system or the replay fails, and revocations are bounded.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::checksum::{crc32_be, crc32c};
use crate::journal::{Be32, Journal, head, jsb, tag};
use xinim_block_client::Storage;

/// Revocations kept; one entry is about 40 bytes.
const REVOKED_MAX: usize = 1 << 20;

/// Shortest log worth writing to; mke2fs makes none below 1024 blocks.
const LEN_MIN: u32 = 256;

/// A sentence about why it cannot be replayed.
type Outcome<T> = core::result::Result<T, String>;

/// What a replay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    pub transactions: u32,
    pub blocks: u32,
}

struct Tag {
    block: u64,
    flags: u32,
    checksum: Option<u32>,
}

/// Checks the journal's superblock.
pub fn check(journal: &Journal) -> Outcome<()> {
    let raw = &journal.raw;
    let kind = head::KIND.get(raw);
    if head::MAGIC.get(raw) != head::MAGIC_VALUE || kind != head::SUPERBLOCK_V2 {
        return Err("the journal's superblock is not one of version 2".into());
    }
    let known = jsb::REVOKE
        | jsb::BIT64
        | jsb::ASYNC_COMMIT
        | jsb::CSUM_V2
        | jsb::CSUM_V3
        | jsb::FAST_COMMIT;
    let unknown = jsb::INCOMPAT.get(raw) & !known;
    if unknown != 0 {
        return Err(format!("the journal's features {unknown:#x} are not supported"));
    }
    if journal.checksummed() {
        let mut copy = raw.clone();
        jsb::CHECKSUM.set(&mut copy, 0);
        if raw[jsb::CHECKSUM_TYPE] != jsb::CRC32C || crc32c(!0, &copy) != jsb::CHECKSUM.get(raw) {
            return Err("the journal's superblock has a wrong checksum".into());
        }
    }
    let blocks: u64 = journal.runs.iter().map(|run| run.2).sum();
    if jsb::BLOCK_SIZE.get(raw) as usize != journal.block_size
        || u64::from(jsb::MAX_LEN.get(raw)) > blocks
        || journal.first == 0
        || journal.end < journal.first + LEN_MIN
    {
        return Err("the journal's superblock is out of range".into());
    }
    Ok(())
}

/// Replays what is complete and empties the log. `blocks`: of the file system.
pub fn replay(journal: &mut Journal, device: &mut dyn Storage, blocks: u64) -> Outcome<Replayed> {
    let start = jsb::START.get(&journal.raw);
    if start == 0 {
        return Ok(Replayed::default());
    }
    if start < journal.first || start >= journal.end {
        return Err("the journal starts outside itself".into());
    }
    if journal.has(jsb::FAST_COMMIT) {
        return Err("the journal may hold fast commits, which are not supported".into());
    }
    let sequence = journal.sequence;
    let mut walk = Walk { journal, device, blocks, revoked: BTreeMap::new(), done: 0 };
    let end = walk.pass(start, sequence, None, Pass::Scan)?;
    walk.pass(start, sequence, Some(end), Pass::Revoke)?;
    walk.pass(start, sequence, Some(end), Pass::Replay)?;
    let done = walk.done;
    let failed = |_| String::from("the journal cannot be emptied");
    device.flush().map_err(failed)?;
    // One further, so that nothing of an unfinished transaction can be taken for a new one.
    journal.sequence = end.wrapping_add(1);
    journal.stop(device).map_err(failed)?;
    Ok(Replayed { transactions: end.wrapping_sub(sequence), blocks: done })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Scan,
    Revoke,
    Replay,
}

struct Walk<'a> {
    journal: &'a Journal,
    device: &'a mut dyn Storage,
    blocks: u64,
    /// Block and the last transaction that freed it.
    revoked: BTreeMap<u64, u32>,
    done: u32,
}

impl Walk<'_> {
    fn read(&mut self, block: u32) -> Outcome<Vec<u8>> {
        let failed = |_| format!("block {block} of the journal cannot be read");
        let mut data = vec![0; self.journal.block_size];
        let (place, _) = self.journal.locate(block).map_err(failed)?;
        self.device.read(place * self.journal.block_size as u64, &mut data).map_err(failed)?;
        Ok(data)
    }

    /// The block behind `block`.
    fn next(&self, block: u32) -> u32 {
        if block + 1 >= self.journal.end { self.journal.first } else { block + 1 }
    }

    /// Walks from transaction `sequence` to `end` (or as far as it goes); says where it ended.
    fn pass(&mut self, start: u32, sequence: u32, end: Option<u32>, pass: Pass) -> Outcome<u32> {
        let (mut at, mut sequence) = (start, sequence);
        let mut left = self.journal.end - self.journal.first;
        // Of journal version 1: over descriptors and data of a transaction.
        let mut running = !0;
        // Whether all data of the transaction is what its tags say.
        let mut whole = true;
        while left > 0 && end != Some(sequence) {
            let block = self.read(at)?;
            if head::MAGIC.get(&block) != head::MAGIC_VALUE
                || head::SEQUENCE.get(&block) != sequence
            {
                break;
            }
            (at, left) = (self.next(at), left - 1);
            match head::KIND.get(&block) {
                head::DESCRIPTOR => {
                    if !self.tail_holds(&block) {
                        break;
                    }
                    let tags = self.tags(&block);
                    if tags.len() as u32 > left {
                        break;
                    }
                    left -= tags.len() as u32;
                    let versioned = jsb::COMPAT.get(&self.journal.raw) & jsb::COMPAT_CHECKSUM != 0;
                    if pass == Pass::Scan && versioned {
                        running = crc32_be(running, &block);
                    }
                    for tag in tags {
                        if pass == Pass::Scan && (versioned || tag.checksum.is_some()) {
                            let data = self.read(at)?;
                            whole &= self.data_holds(&tag, sequence, &data);
                            running = if versioned { crc32_be(running, &data) } else { running };
                        } else if pass == Pass::Replay {
                            self.restore(&tag, sequence, at)?;
                        }
                        at = self.next(at);
                    }
                }
                head::COMMIT => {
                    if pass == Pass::Scan && !self.commit_holds(&block, running) {
                        break;
                    }
                    if !whole {
                        if self.journal.has(jsb::ASYNC_COMMIT) {
                            break;
                        }
                        return Err(format!("transaction {sequence} has a wrong checksum"));
                    }
                    running = !0;
                    sequence = sequence.wrapping_add(1);
                }
                head::REVOKE => {
                    if !self.tail_holds(&block) {
                        break;
                    }
                    if pass == Pass::Revoke {
                        self.revoke(&block, sequence)?;
                    }
                }
                _ => break,
            }
        }
        Ok(sequence)
    }

    fn tail_holds(&self, block: &[u8]) -> bool {
        if !self.journal.checksummed() {
            return true;
        }
        let at = block.len() - 4;
        let crc = crc32c(crc32c(self.journal.seed(), &block[..at]), &[0; 4]);
        Be32(at).get(block) == crc
    }

    fn commit_holds(&self, block: &[u8], running: u32) -> bool {
        let found = Be32(16).get(block);
        if self.journal.checksummed() {
            let crc = crc32c(crc32c(self.journal.seed(), &block[..16]), &[0; 4]);
            return crc32c(crc, &block[20..]) == found;
        }
        if jsb::COMPAT.get(&self.journal.raw) & jsb::COMPAT_CHECKSUM == 0 {
            return true;
        }
        let (kind, size) = (block[12], block[13]);
        (kind, size, found) == (1, 4, running) || (kind, size, found) == (0, 0, 0)
    }

    fn data_holds(&self, tag: &Tag, sequence: u32, data: &[u8]) -> bool {
        let Some(expected) = tag.checksum else { return true };
        let crc = crc32c(self.journal.seed(), &sequence.to_be_bytes());
        let crc = crc32c(crc, data);
        let mask = if self.journal.has(jsb::CSUM_V3) { u32::MAX } else { 0xFFFF };
        crc & mask == expected
    }

    fn tags(&self, block: &[u8]) -> Vec<Tag> {
        let (len, end) = (self.journal.tag_len(), block.len() - self.journal.tail_len());
        let version3 = self.journal.has(jsb::CSUM_V3);
        let short = |at: usize| u32::from(u16::from_be_bytes([block[at], block[at + 1]]));
        let mut tags = Vec::new();
        let mut at = head::LEN;
        while at + len <= end {
            let low = u64::from(Be32(at).get(block));
            let flags = if version3 { Be32(at + 4).get(block) } else { short(at + 6) };
            let high = match (self.journal.has(jsb::BIT64), version3) {
                (false, _) => 0,
                (true, _) => u64::from(Be32(at + 8).get(block)),
            };
            let checksum = if version3 {
                Some(Be32(at + 12).get(block))
            } else {
                self.journal.has(jsb::CSUM_V2).then(|| short(at + 4))
            };
            tags.push(Tag { block: low | high << 32, flags, checksum });
            at += len;
            if flags & tag::SAME_UUID == 0 {
                at += 16;
            }
            if flags & tag::LAST != 0 {
                break;
            }
        }
        tags
    }

    fn revoke(&mut self, block: &[u8], sequence: u32) -> Outcome<()> {
        let size = if self.journal.has(jsb::BIT64) { 8 } else { 4 };
        let most = block.len() - self.journal.tail_len();
        let end = (Be32(12).get(block) as usize).min(most);
        let mut at = 16;
        while at + size <= end {
            let number = if size == 8 {
                u64::from(Be32(at).get(block)) << 32 | u64::from(Be32(at + 4).get(block))
            } else {
                Be32(at).get(block).into()
            };
            if self.revoked.len() >= REVOKED_MAX {
                return Err("the journal revokes too many blocks".into());
            }
            self.revoked.insert(number, sequence);
            at += size;
        }
        Ok(())
    }

    /// Writes one block of the log to its place.
    fn restore(&mut self, tag: &Tag, sequence: u32, at: u32) -> Outcome<()> {
        let revoked = self.revoked.get(&tag.block);
        // Sequence numbers wrap.
        if revoked.is_some_and(|&revoked| revoked.wrapping_sub(sequence) as i32 >= 0) {
            return Ok(());
        }
        if tag.block >= self.blocks {
            return Err(format!("the journal names block {}, which does not exist", tag.block));
        }
        let mut data = self.read(at)?;
        if tag.flags & tag::ESCAPED != 0 {
            head::MAGIC.set(&mut data, head::MAGIC_VALUE);
        }
        let offset = tag.block * self.journal.block_size as u64;
        let failed = |_| format!("block {} cannot be restored", tag.block);
        self.device.write(offset, &data).map_err(failed)?;
        self.done += 1;
        Ok(())
    }
}
