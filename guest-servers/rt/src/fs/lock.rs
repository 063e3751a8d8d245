//! File locks: byte ranges (`fcntl`) and whole files (`flock`).

use xinim_abi::error::Result;
use xinim_abi::services::vfs::{lock as kinds, vfs};

use super::ask;
use crate::window;

/// A range of a file and how it is to be locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    pub exclusive: bool,
    pub start: u64,
    /// 0: to the end of the file, however long it gets.
    pub len: u64,
    /// It belongs to the open file and its duplicates instead of this process.
    pub of_file: bool,
}

impl Lock {
    /// The whole file, owned by the open file: `flock`.
    pub fn whole(exclusive: bool) -> Self {
        Self { exclusive, start: 0, len: 0, of_file: true }
    }

    /// A range, owned by the process: `fcntl`.
    pub fn range(exclusive: bool, start: u64, len: u64) -> Self {
        Self { exclusive, start, len, of_file: false }
    }

    fn kind(&self) -> u32 {
        let kind = if self.exclusive { kinds::WRITE } else { kinds::READ };
        kind | if self.of_file { kinds::OPEN_FILE } else { 0 }
    }
}

fn request(fd: u32, lock: &Lock, kind: u32) -> Result<vfs::Locked> {
    let window = window::lock()?;
    ask(&window, &vfs::Lock { fd, kind, start: lock.start, len: lock.len })
}

/// Takes a lock. `Again`: another's is in the way; with `wait`, `Deadlk` where waiting would never
/// end.
pub fn lock(fd: u32, lock: &Lock, wait: bool) -> Result<()> {
    request(fd, lock, lock.kind() | if wait { kinds::WAIT } else { 0 }).map(drop)
}

pub fn unlock(fd: u32, lock: &Lock) -> Result<()> {
    let flag = if lock.of_file { kinds::OPEN_FILE } else { 0 };
    request(fd, lock, kinds::UNLOCK | flag).map(drop)
}

/// The first lock in the way, with its process.
pub fn lock_test(fd: u32, lock: &Lock) -> Result<Option<(Lock, u32)>> {
    let found = request(fd, lock, lock.kind() | kinds::TEST)?;
    let exclusive = match found.kind {
        kinds::UNLOCK => return Ok(None),
        kind => kind == kinds::WRITE,
    };
    let held = Lock { exclusive, start: found.start, len: found.len, of_file: lock.of_file };
    Ok(Some((held, found.pid)))
}
