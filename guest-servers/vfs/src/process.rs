//! What VFS knows of a process: descriptors and working directory.

use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::FD_MAX;

use crate::files::FileId;
use crate::tree::NodeId;

#[derive(Debug)]
pub(crate) struct Process {
    descriptors: Vec<Option<FileId>>,
    /// Pinned.
    pub cwd: NodeId,
}

impl Process {
    pub fn new(cwd: NodeId) -> Self {
        Self { descriptors: Vec::new(), cwd }
    }

    pub fn get(&self, fd: u32) -> Result<FileId> {
        self.descriptors.get(fd as usize).copied().flatten().ok_or(Error::BadF)
    }

    /// The lowest free descriptor that is at least `at_least`. `MFile`: there is none.
    pub fn free_descriptor(&self, at_least: u32) -> Result<u32> {
        let start = at_least as usize;
        let used = self.descriptors.get(start..).unwrap_or(&[]);
        let fd = start + used.iter().position(Option::is_none).unwrap_or(used.len());
        if fd < FD_MAX as usize { Ok(fd as u32) } else { Err(Error::MFile) }
    }

    /// Puts `file` at `fd`, which is below [`FD_MAX`]; answers what was there.
    pub fn set(&mut self, fd: u32, file: FileId) -> Option<FileId> {
        let fd = fd as usize;
        if self.descriptors.len() <= fd {
            self.descriptors.resize(fd + 1, None);
        }
        self.descriptors[fd].replace(file)
    }

    pub fn take(&mut self, fd: u32) -> Result<FileId> {
        self.descriptors.get_mut(fd as usize).and_then(Option::take).ok_or(Error::BadF)
    }

    /// All files, once per descriptor.
    pub fn into_files(self) -> impl Iterator<Item = FileId> {
        self.descriptors.into_iter().flatten()
    }
}
