//! Directories: entries, and moving them.

use alloc::string::String;
use alloc::vec::Vec;

use lamfat::{DirEntry, FileAttributes};
use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{Stat, mode};
use xinim_fs_kit::Ino;

use crate::codepage::Cp437;
use crate::device::{Device, Shared};
use crate::time::{self, Clock};
use crate::volume::{FatDir, error};

type Entry<'a> = DirEntry<'a, Device<Shared>, Clock, Cp437>;

/// Names of removed files that are still held begin so; they are not shown.
pub const ORPHAN_PREFIX: &str = ".xinim-removed-";

/// What a directory entry says.
#[derive(Clone, Debug)]
pub struct Found {
    pub name: String,
    pub directory: bool,
    pub size: u64,
    pub mtime: u64,
    pub read_only: bool,
}

impl Found {
    fn new(entry: &Entry<'_>) -> Self {
        Self {
            name: entry.file_name(),
            directory: entry.is_dir(),
            size: if entry.is_dir() { 0 } else { entry.len() },
            mtime: time::to_ns(entry.modified()),
            read_only: entry.attributes().contains(FileAttributes::READ_ONLY),
        }
    }

    pub fn root() -> Self {
        Self { name: String::new(), directory: true, size: 0, mtime: 0, read_only: false }
    }

    pub fn mode(&self) -> u32 {
        match (self.directory, self.read_only) {
            (true, _) => mode::DIRECTORY | 0o755,
            (false, true) => mode::REGULAR | 0o555,
            (false, false) => mode::REGULAR | 0o755,
        }
    }

    pub fn stat(&self, ino: Ino, cluster: u32) -> Stat {
        let cluster = u64::from(cluster).max(512);
        let size = if self.directory { cluster } else { self.size };
        Stat {
            ino,
            size,
            blocks: size.div_ceil(cluster) * (cluster / 512),
            atime: self.mtime,
            mtime: self.mtime,
            ctime: self.mtime,
            mode: self.mode(),
            links: 1,
            block_size: cluster as u32,
            ..Stat::default()
        }
    }
}

/// A name that lamfat can take: UTF-8, and no trailing dots or spaces, which FAT would lose.
pub fn name(bytes: &[u8]) -> Result<&str> {
    let name = core::str::from_utf8(bytes).map_err(|_| Error::Inval)?;
    if name.ends_with(['.', ' ']) || name.starts_with(' ') || name.starts_with(ORPHAN_PREFIX) {
        return Err(Error::Inval);
    }
    Ok(name)
}

/// The entry called `name`, without regard to case.
pub fn find(dir: &FatDir<'_>, name: &str) -> Result<Found> {
    let wanted = name.to_lowercase();
    for entry in dir.iter() {
        let entry = entry.map_err(error)?;
        let same = entry.file_name().to_lowercase() == wanted
            || entry.short_file_name().to_lowercase() == wanted;
        if same {
            return Ok(Found::new(&entry));
        }
    }
    Err(Error::NoEnt)
}

/// All entries but `.`, `..` and hidden ones; with them their place, which does not change when
/// others are removed.
pub fn list(dir: &FatDir<'_>) -> Result<Vec<Found>> {
    let mut all = Vec::new();
    for entry in dir.iter() {
        let found = Found::new(&entry.map_err(error)?);
        if found.name != "." && found.name != ".." {
            all.push(found);
        }
    }
    Ok(all)
}

pub fn is_empty(dir: &FatDir<'_>) -> Result<bool> {
    Ok(list(dir)?.is_empty())
}
