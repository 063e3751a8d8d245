//! Block devices: a client shares memory with a ring of requests in it and its data buffers; the
//! driver hands the buffers' device addresses to the device, so nothing is copied.
//!
//! ```text
//! 0     RingHeader        one cache line per index
//! 4096  SQ: ENTRIES x Submission      client writes, driver reads
//! 8192  CQ: ENTRIES x Completion      driver writes, client reads
//! DATA_OFFSET ..                      data buffers, anywhere, by offset in this memory
//! ```
//! Indices count up freely, the entry is `index % ENTRIES`. Each side writes its own index with
//! release order after the entries, and reads the peer's with acquire order *and distrust*: a
//! distance over `ENTRIES`, an offset or length outside the memory, is an error of that request
//! or ring, never of the reader.
//!
//! Doorbells: the client raises the bit it got at `Attach` on the driver's endpoint; the driver
//! raises bit [`COMPLETION_BIT`] on the endpoint the client passed.
//!
//! At `Attach` the driver starts with the indices it finds: zeros in fresh memory or where the client
//! cleared them, those of the last instance otherwise. It keeps its own copies from then on.
//!
//! When the driver dies the client watches it (`WATCH`), looks the label up again, attaches the
//! same memory and submits again what was not completed; all operations are idempotent.

crate::interface! {
    /// Operations of a block driver.
    pub mod block = 0x06 {
        /// Sectors are 512 bytes. Flags: see [`super::info`]. `max_bytes`: longest request.
        1 idempotent Info { } -> InfoReply {
            sectors: u64, block_size: u32, flags: u32, max_bytes: u32, depth: u32 }
        /// `len` bytes of `ring` hold the ring and the buffers. An older ring of the same caller is
        /// drained and forgotten. Answers the bit for the doorbell.
        2 idempotent Attach { len: u64; ring: handle, notify: handle } -> Attached { bit: u32 }
        3 idempotent Detach { } -> Detached { }
    }
}

pub mod info {
    pub const READ_ONLY: u32 = 1;
    /// Writes may sit in a volatile cache until FLUSH.
    pub const WRITE_CACHE: u32 = 2;
}

/// Entries of each ring.
pub const ENTRIES: u32 = 128;
pub const SQ_OFFSET: usize = 4096;
pub const CQ_OFFSET: usize = SQ_OFFSET + ENTRIES as usize * size_of::<Submission>();
pub const DATA_OFFSET: usize = 16384;
/// Bit raised on the client's endpoint when completions are there.
pub const COMPLETION_BIT: u32 = 40;

/// Operations of a submission.
pub mod op {
    pub const READ: u32 = 0;
    pub const WRITE: u32 = 1;
    /// Everything completed before is durable when this completes.
    pub const FLUSH: u32 = 2;
}

/// Offsets of the indices, u32 each, in the header page. `SQ_TAIL` and `CQ_HEAD` are the client's.
pub mod index {
    pub const SQ_TAIL: usize = 0;
    pub const SQ_HEAD: usize = 64;
    pub const CQ_TAIL: usize = 128;
    pub const CQ_HEAD: usize = 192;
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
    /// First 512-byte sector.
    pub sector: u64,
    /// Of the data in the shared memory; a multiple of 512.
    pub offset: u32,
    /// Bytes, a multiple of 512.
    pub len: u32,
    /// See [`op`].
    pub op: u32,
    pub reserved: u32,
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
