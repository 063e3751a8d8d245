//! What VFS knows of a process: descriptors, working directory, as whom it acts.

use alloc::sync::Arc;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::FD_MAX;

use crate::access::Credentials;
use crate::files::FileId;
use crate::tree::NodeId;

/// Permission bits that new files do not get unless a process says otherwise.
const UMASK: u32 = 0o022;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Descriptor {
    file: FileId,
    close_on_exec: bool,
}

#[derive(Debug)]
pub(crate) struct Process {
    descriptors: Vec<Option<Descriptor>>,
    /// Pinned.
    pub cwd: NodeId,
    pub who: Arc<Credentials>,
    pub umask: u32,
}

impl Process {
    pub fn new(cwd: NodeId) -> Self {
        Self { descriptors: Vec::new(), cwd, who: Arc::default(), umask: UMASK }
    }

    pub fn get(&self, fd: u32) -> Result<FileId> {
        Ok(self.descriptor(fd)?.file)
    }

    fn descriptor(&self, fd: u32) -> Result<Descriptor> {
        self.descriptors.get(fd as usize).copied().flatten().ok_or(Error::BadF)
    }

    pub fn close_on_exec(&self, fd: u32) -> Result<bool> {
        Ok(self.descriptor(fd)?.close_on_exec)
    }

    pub fn set_close_on_exec(&mut self, fd: u32, set: bool) -> Result<()> {
        match self.descriptors.get_mut(fd as usize) {
            Some(Some(descriptor)) => {
                descriptor.close_on_exec = set;
                Ok(())
            }
            _ => Err(Error::BadF),
        }
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
        let descriptor = Descriptor { file, close_on_exec: false };
        self.descriptors[fd].replace(descriptor).map(|old| old.file)
    }

    pub fn take(&mut self, fd: u32) -> Result<FileId> {
        let found = self.descriptors.get_mut(fd as usize).and_then(Option::take);
        found.map(|descriptor| descriptor.file).ok_or(Error::BadF)
    }

    /// Descriptors that a program started with all of them gets.
    pub fn inheritable(&self) -> impl Iterator<Item = u32> {
        let all = self.descriptors.iter().enumerate();
        all.filter(|(_, d)| d.is_some_and(|d| !d.close_on_exec)).map(|(fd, _)| fd as u32)
    }

    /// Number, open file, closed on exec.
    pub fn all(&self) -> impl Iterator<Item = (u32, FileId, bool)> {
        let all = self.descriptors.iter().enumerate();
        all.filter_map(|(fd, d)| d.map(|d| (fd as u32, d.file, d.close_on_exec)))
    }

    /// Files of all descriptors, once for each.
    pub fn files(&self) -> impl Iterator<Item = FileId> {
        self.descriptors.iter().flatten().map(|descriptor| descriptor.file)
    }
}
