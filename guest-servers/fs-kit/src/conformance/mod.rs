//! What must hold of every XINIM file system, as checks that run on the host.
//!
//! ```ignore
//! conformance::check_all(&Abilities::default(), &mut || (fresh_file_system(), root));
//! conformance::model::exercise(&mut fs, root, &Abilities::default(), seed, 500);
//! ```
//! [`check_all`] runs each check of [`checks`] on a fresh, empty, writable file system and panics
//! with the check's name where one fails; [`model::exercise`] does random operations and compares
//! with a plain in-memory model after each; [`deaths`] has what outlives the server. A file system says what it lacks in [`Abilities`].

mod checks;
mod crowds;
pub mod deaths;
pub mod model;
mod random;

pub use random::Random;

use alloc::vec::Vec;
use xinim_abi::error::Result;
use xinim_abi::services::vfs::{NAME_MAX, mode};

use crate::{DirBuffer, FileSystem, Ino, entries};

/// What a file system can do; the defaults are those of a POSIX one.
#[derive(Clone, Copy, Debug)]
pub struct Abilities {
    pub symbolic_links: bool,
    pub hard_links: bool,
    /// Permission bits are kept (else only the type is compared).
    pub modes: bool,
    /// Uid and gid are kept.
    pub owners: bool,
    /// Largest group that is kept, where owners are.
    pub gid_max: u32,
    /// Access times are kept apart from modification times.
    pub access_times: bool,
    /// FIFOs, sockets and device files can be made.
    pub special_files: bool,
    /// Longest name in bytes.
    pub name_max: usize,
    /// Names that differ in case only are different files.
    pub case_sensitive: bool,
    /// Largest number of nanoseconds by which a time may be rounded down.
    pub time_step: u64,
    /// Longest file it can hold; checks beyond are left out.
    pub max_size: u64,
    /// Holes cost no space, so that a file may be longer than the device.
    pub sparse: bool,
}

impl Default for Abilities {
    fn default() -> Self {
        Self {
            symbolic_links: true,
            hard_links: true,
            modes: true,
            owners: true,
            gid_max: u32::MAX,
            access_times: true,
            special_files: true,
            name_max: NAME_MAX,
            case_sensitive: true,
            time_step: 0,
            max_size: 1 << 40,
            sparse: true,
        }
    }
}

/// Runs every check, each on what `fresh` makes: a mounted empty file system and its root.
pub fn check_all<F: FileSystem>(abilities: &Abilities, fresh: &mut dyn FnMut() -> (F, Ino)) {
    for check in checks::all::<F>() {
        let (mut fs, root) = fresh();
        check(&mut fs, root, abilities);
    }
}

/// Names in a directory with file numbers and types, without `.` and `..`, sorted. Reads in pieces
/// of `piece` bytes.
pub fn list<F: FileSystem + ?Sized>(
    fs: &mut F,
    dir: Ino,
    piece: usize,
) -> Result<Vec<(Vec<u8>, Ino, u32)>> {
    let mut found = Vec::new();
    let mut cookie = 0;
    loop {
        let mut buffer = DirBuffer::new(piece);
        fs.read_dir(dir, cookie, &mut buffer)?;
        let mut last = None;
        for entry in entries(buffer.bytes()) {
            last = Some(entry.next);
            if entry.name != b"." && entry.name != b".." {
                found.push((entry.name.to_vec(), entry.ino, u32::from(entry.kind) << 12));
            }
        }
        match last {
            None => break,
            Some(next) => cookie = next,
        }
    }
    found.sort();
    Ok(found)
}

/// The mode of a new regular file, directory, symbolic link in the checks.
pub(crate) const FILE: u32 = mode::REGULAR | 0o644;
pub(crate) const DIR: u32 = mode::DIRECTORY | 0o755;
pub(crate) const LINK: u32 = mode::SYMLINK | 0o777;
