//! Open files: what descriptors point to, shared after `dup` and by inheritance.

use crate::pipe::PipeId;
use crate::tree::NodeId;
use xinim_abi::interface::Name;
use xinim_abi::services::vfs::open;

pub(crate) type FileId = u32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Object {
    Node(NodeId),
    /// A pipe, by the open file's access mode its reading end, writing end or both; with the node of
    /// a named one.
    Pipe(PipeId, Option<NodeId>),
    /// Something another server keeps.
    Attached {
        server: Name,
        cookie: u64,
    },
}

#[derive(Debug)]
pub(crate) struct OpenFile {
    pub object: Object,
    /// `open` flags.
    pub flags: u32,
    /// Offset in bytes; of a directory, the cookie of its next entry.
    pub position: u64,
    /// Descriptors that point here, and operations that keep it.
    pub refs: u32,
    /// Locks of its own may be there.
    pub locked: bool,
    /// Losses of the file that were told through it, or are not its business.
    pub heard: u32,
}

impl OpenFile {
    pub fn new(object: Object, flags: u32) -> Self {
        Self { object, flags, position: 0, refs: 1, locked: false, heard: 0 }
    }

    pub fn readable(&self) -> bool {
        self.flags & open::ACCESS_MASK != open::WRITE
    }

    pub fn writable(&self) -> bool {
        self.flags & open::ACCESS_MASK != open::READ
    }

    pub fn non_blocking(&self) -> bool {
        self.flags & open::NONBLOCK != 0
    }
}
