//! Directories.

use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{Dirent, open, vfs};
use zerocopy::FromBytes;

use super::File;
use crate::window;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    pub ino: u64,
    /// File type, `mode >> 12`.
    pub kind: u8,
    pub name: String,
}

/// All entries but `.` and `..`, in the file system's order.
pub fn read_dir(path: &str) -> Result<Vec<DirEntry>> {
    let dir = File::open(path, open::READ | open::DIRECTORY, 0)?;
    let mut entries = Vec::new();
    while read_dir_fd(dir.fd(), &mut entries)? {}
    entries.retain(|entry: &DirEntry| entry.name != "." && entry.name != "..");
    Ok(entries)
}

/// Appends the next batch of entries; `false` at the end.
pub fn read_dir_fd(fd: u32, entries: &mut Vec<DirEntry>) -> Result<bool> {
    let batch = {
        let window = window::lock()?;
        let len = window.mapping().len() as u32;
        let reply = super::ask(&window, &vfs::Readdir { fd, at: 0, len })?;
        window.mapping().to_vec(0, reply.len as usize)?
    };
    let mut rest = batch.as_slice();
    while !rest.is_empty() {
        let (head, tail) = Dirent::ref_from_prefix(rest).map_err(|_| Error::BadReply)?;
        let len = usize::from(head.name_len.get());
        let (name, tail) = tail.split_at_checked(len).ok_or(Error::BadReply)?;
        let name = String::from_utf8_lossy(name).into_owned();
        entries.push(DirEntry { ino: head.ino.get(), kind: head.kind, name });
        rest = tail;
    }
    Ok(!batch.is_empty())
}
