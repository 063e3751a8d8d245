//! Directory entries as they travel: whole `vfs::Dirent`s, each with its name behind it.

use alloc::vec::Vec;

use xinim_abi::services::vfs::{Dirent, NAME_MAX};
use zerocopy::{FromBytes, IntoBytes};

const HEAD: usize = size_of::<Dirent>();

/// Collects whole entries up to a number of bytes.
#[derive(Debug)]
pub struct DirBuffer {
    bytes: Vec<u8>,
    limit: usize,
}

impl DirBuffer {
    pub fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit }
    }

    /// Adds an entry. `next` is the cookie of what stands behind it, `mode` the file's (its type
    /// counts). False when it does not fit any more; then nothing was added.
    pub fn push(&mut self, ino: u64, next: u64, mode: u32, name: &[u8]) -> bool {
        let total = HEAD + name.len();
        if name.len() > NAME_MAX || self.limit - self.bytes.len() < total {
            return false;
        }
        let head = Dirent {
            ino: ino.into(),
            next: next.into(),
            name_len: (name.len() as u16).into(),
            kind: (mode >> 12) as u8 & 0xF,
            reserved: 0,
        };
        self.bytes.extend_from_slice(head.as_bytes());
        self.bytes.extend_from_slice(name);
        true
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Takes over entries that came as bytes, as far as they are whole and fit.
    pub fn extend(&mut self, bytes: &[u8]) {
        let whole: usize = entries(bytes).map(|entry| HEAD + entry.name.len()).sum();
        if whole <= self.limit - self.bytes.len() {
            self.bytes.extend_from_slice(&bytes[..whole]);
        }
    }

    /// Room left, in bytes.
    pub fn room(&self) -> usize {
        self.limit - self.bytes.len()
    }
}

/// One entry, read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub ino: u64,
    pub next: u64,
    /// `mode >> 12`.
    pub kind: u8,
    pub name: &'a [u8],
}

/// The whole entries at the start of `bytes`; stops at the first that is cut off.
pub fn entries(mut bytes: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    core::iter::from_fn(move || {
        let (head, rest) = Dirent::read_from_prefix(bytes).ok()?;
        let (name, rest) = rest.split_at_checked(head.name_len.get().into())?;
        bytes = rest;
        Some(Entry { ino: head.ino.get(), next: head.next.get(), kind: head.kind, name })
    })
}
