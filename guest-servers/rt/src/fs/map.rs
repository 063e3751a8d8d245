//! Files in memory, shared with whoever else maps them.

use xinim_abi::error::{Error, Result};
use xinim_abi::object::{PAGE_SIZE, Protection};
use xinim_abi::services::vfs::vfs;

use super::ask;
use crate::handle::OwnedHandle;
use crate::memory::{Mapping, Memory};
use crate::window;

/// A mapped file.
#[derive(Debug)]
pub struct SharedFile {
    mapping: Mapping,
    len: usize,
    fd: u32,
}

/// Maps a regular file. Others that map it, and who reads it, see what is written there; it is
/// written to the file by [`SharedFile::sync`] and when the last of them has ended. For a private
/// copy just read the file.
pub fn share(fd: u32, writable: bool) -> Result<SharedFile> {
    let reply = {
        let window = window::lock()?;
        ask(&window, &vfs::Share { fd, writable })?
    };
    let memory = Memory::from_handle(OwnedHandle::from_raw(reply.memory))?;
    let pages = reply.len.next_multiple_of(PAGE_SIZE as u64);
    if reply.len == 0 || pages > memory.len() {
        return Err(Error::BadReply);
    }
    let write = if writable { Protection::WRITE } else { Protection::empty() };
    let mapping = memory.map_range(0, pages, Protection::READ | write)?;
    Ok(SharedFile { mapping, len: reply.len as usize, fd })
}

impl SharedFile {
    /// Bytes of the file when it was mapped.
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        self.mapping.copy_out(at, out)
    }

    /// Of a file that was mapped writable; else this process ends with a fault.
    pub fn write(&self, at: usize, bytes: &[u8]) -> Result<()> {
        self.mapping.copy_in(at, bytes)
    }

    /// Writes to the file what was changed here. The descriptor must still be open.
    pub fn sync(&self) -> Result<()> {
        let window = window::lock()?;
        ask(&window, &vfs::SyncMap { fd: self.fd }).map(drop)
    }
}
