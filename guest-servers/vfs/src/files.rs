//! Open files: what descriptors point to, shared after `dup` and by inheritance.

use crate::pipe::PipeId;
use crate::tree::NodeId;
use xinim_abi::services::vfs::open;

pub(crate) type FileId = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    Node(NodeId),
    PipeReader(PipeId),
    PipeWriter(PipeId),
}

#[derive(Debug)]
pub(crate) struct OpenFile {
    pub object: Object,
    /// `open` flags.
    pub flags: u32,
    /// Offset in bytes; of a directory, the cookie of its next entry.
    pub position: u64,
    /// Descriptors that point here.
    pub refs: u32,
}

impl OpenFile {
    pub fn new(object: Object, flags: u32) -> Self {
        Self { object, flags, position: 0, refs: 0 }
    }

    pub fn readable(&self) -> bool {
        self.flags & open::ACCESS_MASK != open::WRITE
    }

    pub fn writable(&self) -> bool {
        self.flags & open::ACCESS_MASK != open::READ
    }
}
