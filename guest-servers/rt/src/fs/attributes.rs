//! Permissions, owners, times, special files, mount options.

use xinim_abi::error::Result;
use xinim_abi::services::vfs::{mode, vfs};

use super::{ask, len, with_paths};
use crate::window;

/// Nanoseconds since 1970, or one of `services::vfs::time`.
pub fn set_times(path: &str, follow: bool, atime: u64, mtime: u64) -> Result<()> {
    let request = vfs::SetTimes { path_len: len(path), follow, atime, mtime };
    with_paths(&[path], &request).map(drop)
}

pub fn chmod(path: &str, mode: u32) -> Result<()> {
    with_paths(&[path], &vfs::Chmod { path_len: len(path), mode }).map(drop)
}

pub fn fchmod(fd: u32, mode: u32) -> Result<()> {
    let window = window::lock()?;
    ask(&window, &vfs::Fchmod { fd, mode }).map(drop)
}

/// [`super::KEEP_ID`] leaves an id as it is.
pub fn chown(path: &str, follow: bool, uid: u32, gid: u32) -> Result<()> {
    with_paths(&[path], &vfs::Chown { path_len: len(path), follow, uid, gid }).map(drop)
}

pub fn fchown(fd: u32, uid: u32, gid: u32) -> Result<()> {
    let window = window::lock()?;
    ask(&window, &vfs::Fchown { fd, uid, gid }).map(drop)
}

/// May this process do all of `want` (4 read, 2 write, 1 execute or search)?
pub fn access(path: &str, want: u32) -> Result<()> {
    with_paths(&[path], &vfs::Access { path_len: len(path), want }).map(drop)
}

/// Permission bits that new files do not get; answers the old mask.
pub fn umask(mask: u32) -> Result<u32> {
    let window = window::lock()?;
    Ok(ask(&window, &vfs::Umask { mask })?.old)
}

/// `rdev`: major << 16 | minor.
pub fn mknod(path: &str, mode: u32, rdev: u32) -> Result<()> {
    with_paths(&[path], &vfs::Mknod { path_len: len(path), mode, rdev }).map(drop)
}

pub fn mkfifo(path: &str, permissions: u32) -> Result<()> {
    mknod(path, mode::FIFO | permissions & mode::PERMISSIONS, 0)
}

pub fn remount(path: &str, flags: u32) -> Result<()> {
    with_paths(&[path], &vfs::Remount { path_len: len(path), flags }).map(drop)
}

/// Gives `len` bytes from `offset` of an open block device back to it, or makes them zeros.
pub fn discard(fd: u32, offset: u64, len: u64, zeroes: bool) -> Result<()> {
    let window = window::lock()?;
    ask(&window, &vfs::Discard { fd, offset, len, zeroes }).map(drop)
}

/// Has the file system below `path` discard free blocks; answers how many bytes.
pub fn trim(path: &str, min_len: u64) -> Result<u64> {
    Ok(with_paths(&[path], &vfs::Trim { path_len: len(path), min_len })?.bytes)
}
