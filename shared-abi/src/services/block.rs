//! Block devices: a driver serves up to [`UNITS_MAX`] *units* (the ports of an AHCI controller; a
//! virtio-blk function has unit 0 only). A client shares memory with a ring of requests in it and its
//! data buffers; the driver hands the buffers' device addresses to the device, so nothing is copied.
//!
//! ```text
//! 0     header            indices, one cache line each
//! 4096  SQ: ENTRIES x Submission      client writes, driver reads
//! 8192  CQ: ENTRIES x Completion      driver writes, client reads
//! DATA_OFFSET ..                      data buffers, anywhere, by offset in this memory
//! ```
//! Indices count up freely, the entry is `index % ENTRIES`. Each side writes its own index with
//! release order after the entries, and reads the peer's with acquire order *and distrust*: a
//! distance over `ENTRIES`, an offset or length outside the memory, is an error of that request
//! or ring, never of the reader.
//!
//! # Doorbells
//! The client raises the bit it got at `Attach` on the driver's endpoint (several rings may share
//! one bit). The driver raises bit [`COMPLETION_BIT`] on the endpoint the client passed, but only
//! when the completion that the client waits for is there: publishing `CQ_TAIL` from `old` to `new`
//! it notifies if [`passes`]`(event, old, new)`, `event` being the client's `CQ_EVENT`. So one who
//! waits for the last of eight requests is woken once. Each side writes its own index, then a full
//! fence, then reads the other's; then no wake-up is lost.
//!
//! # Units
//! Units come and go and change their size. Each change raises [`UNITS_BIT`] on the endpoints given at
//! `Subscribe` and on those of the rings attached to the unit, and counts up the generation that
//! `Units` answers. `Info::instance` numbers what has stood at a unit: another disk in the same
//! port is another instance. A ring belongs to the instance it was attached to: when that is torn
//! away, everything in flight and everything submitted later completes with `NxIo`, whatever is
//! plugged in next, until the client attaches anew. A resize keeps the instance.
//!
//! # Order and durability
//! Requests in flight at the same time are not ordered, whatever they are. A completed write is seen
//! by every read submitted later, but may be lost in a power cut until
//! * a FLUSH, *submitted after the write completed*, has completed without error; or
//! * the write itself had [`flags::FUA`] (only where `Info` says [`info::FUA`]); or
//! * the device has no volatile cache (`Info` without [`info::WRITE_CACHE`]).
//!
//! So a barrier is: wait for the completion of what must come first, FLUSH, wait. A failed FLUSH says
//! nothing about which writes were lost: all since the last good one may be.
//! DISCARD makes contents of the blocks undefined until they are written again (a hint: it may do
//! nothing); WRITE_ZEROES makes them zero. Both count as writes.
//!
//! # Sharing
//! Clients of one unit see each other's completed writes. Who keeps a copy of what is on the device,
//! as a mounted file system does, claims the sectors, and others cannot write there.
//!
//! # Restart
//! At `Attach` the driver starts with the indices it finds: zeros in fresh memory or where the client
//! cleared them, those of the last instance otherwise. It keeps its own copies from then on.
//!
//! When the driver dies the client watches it (`WATCH`), looks the label up again, attaches the
//! same memory, claims again, and submits again what was not completed; all operations are idempotent. Writes that
//! had completed and not been flushed are in the device still: a driver's restart is no power cut.

use crate::interface::Field;

crate::interface! {
    /// Operations of a block driver. `NxIo`: there is no such unit (now).
    pub mod block = 0x06 {
        /// What the unit is. Sectors are 512 bytes whatever the blocks are. Flags: see
        /// [`super::info`]. `block_size` (logical): requests are multiples of it. `max_bytes`: longest
        /// READ or WRITE. `depth`: requests that can be under way at the device at once.
        1 idempotent Info { unit: u32 } -> InfoReply {
            sectors: u64, block_size: u32, flags: u32, max_bytes: u32, depth: u32, instance: u32 }
        /// `len` bytes of `ring` hold the ring and the buffers. An older ring of the same caller at the
        /// same unit is drained and forgotten. Answers the bit for the doorbell.
        2 idempotent Attach { unit: u32, len: u64; ring: handle, notify: handle }
            -> Attached { bit: u32 }
        3 idempotent Detach { unit: u32 } -> Detached { }
        /// Bit n of `present`: unit n is there. `generation` grows with every arrival, removal and
        /// resize.
        4 idempotent Units { } -> UnitsReply { present: u32, generation: u64 }
        /// [`super::UNITS_BIT`] of `notify` is raised at every such change, until the caller dies.
        5 idempotent Subscribe { ; notify: handle } -> Subscribed { generation: u64 }
        /// Hints. `physical_block`: writes of less are slow. `discard_granule`: bytes that DISCARD
        /// frees at once. `max_discard`, `max_zeroes`: longest request in bytes; 0: not supported
        /// (WRITE_ZEROES then fails with `NotSup`, DISCARD too). `rotation`: as word 217 of ATA's
        /// IDENTIFY: 0 unknown, 1 does not turn, else rpm.
        6 idempotent Limits { unit: u32 } -> LimitsReply {
            physical_block: u32, discard_granule: u32, max_discard: u32, max_zeroes: u32,
            rotation: u32 }
        /// `what`: see [`super::identity`]. Empty where the device has none.
        7 idempotent Identity { unit: u32, what: u32 } -> IdentityReply { text: super::Text }
        /// Since the driver's start, of all clients together. `what`: an operation of [`super::op`].
        /// `time_ns`: sum of the requests' times. `busy_ns`: time in which any request of the unit
        /// was under way.
        8 idempotent Statistics { unit: u32, what: u32 } -> StatisticsReply {
            requests: u64, bytes: u64, errors: u64, time_ns: u64, in_flight: u32, busy_ns: u64 }
        /// For who holds a copy of the sectors (a mounted file system): until the ring is detached
        /// or claims something else, writes of others there fail with `Busy`. Reads do not. No
        /// `sectors`: no claim. `Busy`: somebody else has claimed some of them; `Inval`: the caller
        /// has no ring at the unit.
        9 idempotent Claim { unit: u32, first: u64, sectors: u64 } -> Claimed { }
    }
}

/// Units of one driver.
pub const UNITS_MAX: u32 = 32;

/// Flags of a unit.
pub mod info {
    pub const READ_ONLY: u32 = 1;
    /// Writes may sit in a volatile cache until FLUSH.
    pub const WRITE_CACHE: u32 = 2;
    /// WRITE takes [`super::flags::FUA`].
    pub const FUA: u32 = 4;
    /// The medium turns: neighbours are cheap, jumps are not.
    pub const ROTATIONAL: u32 = 8;
    /// The medium (or the unit) may be taken away by hand.
    pub const REMOVABLE: u32 = 16;
    /// An optical drive. Without a medium it has 0 sectors.
    pub const CD_ROM: u32 = 32;
}

/// What `Identity` tells.
pub mod identity {
    pub const MODEL: u32 = 0;
    pub const SERIAL: u32 = 1;
    pub const FIRMWARE: u32 = 2;
}

/// Entries of each ring.
pub const ENTRIES: u32 = 128;
pub const SQ_OFFSET: usize = 4096;
pub const CQ_OFFSET: usize = SQ_OFFSET + ENTRIES as usize * size_of::<Submission>();
pub const DATA_OFFSET: usize = 16384;
/// Bit raised on the client's endpoint when completions are there.
pub const COMPLETION_BIT: u32 = 40;
/// Bit raised on subscribers' and clients' endpoints when units changed.
pub const UNITS_BIT: u32 = 41;

/// Operations of a submission.
pub mod op {
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    /// Every write completed before this was submitted is durable when this completes.
    pub const FLUSH: u32 = 2;
    pub const DISCARD: u32 = 3;
    pub const WRITE_ZEROES: u32 = 4;
    /// How many there are.
    pub const COUNT: u32 = 5;
}

/// Flags of a submission; others are `Inval`.
pub mod flags {
    /// WRITE: durable when it completes. `NotSup` where `Info` does not offer it.
    pub const FUA: u32 = 1;
    /// WRITE_ZEROES: the blocks may be given back to the device (as DISCARD), but read as zero.
    pub const MAY_UNMAP: u32 = 2;
}

/// Offsets of the indices, u32 each, in the header page. `SQ_TAIL`, `CQ_HEAD` and `CQ_EVENT` are the
/// client's.
pub mod index {
    pub const SQ_TAIL: usize = 0;
    pub const SQ_HEAD: usize = 64;
    pub const CQ_TAIL: usize = 128;
    pub const CQ_HEAD: usize = 192;
    /// The completion with this index is the one the client wants to be woken for. To be woken by
    /// the very next it stores its `CQ_HEAD` here.
    pub const CQ_EVENT: usize = 256;
}

/// Whether an index that went from `old` to `new` has passed `event`, so that its reader must be
/// told (the rule of virtio's `used_event`).
pub const fn passes(event: u32, old: u32, new: u32) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
pub struct Submission {
    /// The client's, returned in the completion.
    pub id: u64,
    /// First 512-byte sector; 0 for FLUSH.
    pub sector: u64,
    /// Of the data in the shared memory, a multiple of 512; 0 where there are none.
    pub offset: u32,
    /// Bytes on the device, whole blocks; 0 for FLUSH.
    pub len: u32,
    /// See [`op`].
    pub op: u32,
    /// See [`flags`].
    pub flags: u32,
}

#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout,
)]
pub struct Completion {
    pub id: u64,
    /// 0 or a number of [`crate::error::Error`].
    pub status: u32,
    pub reserved: u32,
}

const _: () = assert!(size_of::<Submission>() == 32);
const _: () = assert!(size_of::<Completion>() == 16);
const _: () = assert!(CQ_OFFSET + ENTRIES as usize * 16 <= DATA_OFFSET);

/// Words of a [`Text`].
const TEXT_WORDS: usize = 5;

/// What a device says of itself: printable ASCII, at most 40 bytes (ATA's model number), padded
/// with zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text([u8; TEXT_WORDS * 8]);

impl Text {
    /// Takes what a device answered: up to the first NUL, without spaces around, anything that is
    /// not printable replaced by `?`, cut at 40 bytes.
    pub fn from_device(bytes: &[u8]) -> Self {
        let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        let mut text = [0; TEXT_WORDS * 8];
        for (to, &from) in text.iter_mut().zip(bytes[..end].trim_ascii()) {
            *to = if matches!(from, b' '..=b'~') { from } else { b'?' };
        }
        Text(text)
    }

    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|&byte| byte == 0).unwrap_or(self.0.len());
        core::str::from_utf8(&self.0[..end]).unwrap_or("")
    }
}

impl Default for Text {
    fn default() -> Self {
        Text([0; TEXT_WORDS * 8])
    }
}

impl core::fmt::Debug for Text {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl Field for Text {
    const WORDS: usize = TEXT_WORDS;
    fn put(&self, words: &mut [u64]) {
        for (word, bytes) in words.iter_mut().zip(self.0.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
    }
    fn get(words: &[u64]) -> Option<Self> {
        let mut text = [0; TEXT_WORDS * 8];
        for (bytes, word) in text.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *bytes = word.to_le_bytes();
        }
        let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
        let clean = text[..end].iter().all(|byte| matches!(byte, b' '..=b'~'));
        (clean && text[end..].iter().all(|&byte| byte == 0)).then_some(Text(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interface::Reply;

    #[test]
    fn texts_of_devices_are_made_printable() {
        let text = Text::from_device(b"  XINIM\x07 DISK  \0rest");
        assert_eq!(text.as_str(), "XINIM? DISK");
        let reply = block::IdentityReply { text };
        assert_eq!(block::IdentityReply::decode(&reply.encode()), Ok(reply));
        assert_eq!(Text::from_device(&[b'x'; 64]).as_str().len(), 40);
        let mut words = [0; 5];
        text.put(&mut words);
        words[4] = 0x41;
        assert_eq!(Text::get(&words), None, "text behind the end");
    }

    #[test]
    fn events_are_passed_once() {
        for start in [0u32, 5, u32::MAX - 3] {
            let at = |n: u32| start.wrapping_add(n);
            assert!(!passes(at(3), at(0), at(3)), "entry 3 is not there yet");
            assert!(passes(at(3), at(0), at(4)));
            assert!(passes(at(3), at(3), at(9)));
            assert!(!passes(at(3), at(4), at(9)), "told before");
            assert!(!passes(at(3), at(5), at(5)), "nothing new");
        }
    }
}
