//! Writes the system bundle: a cpio archive in the `newc` format (magic 070701; cpio(5)), which
//! cpio, bsdtar, Linux's initramfs loader and XINIM's own loader read.
//!
//! One property goes beyond the format: the data of a file added with
//! [`Align::Page`] begins at a multiple of 4096 in the archive, so that a kernel which
//! has the archive in page-aligned memory maps program text in place instead of copying it. The
//! gap is filled the way other initramfs tools do it, by counting extra zero bytes after the
//! entry's name into `namesize`: a reader that takes names up to the first zero byte sees nothing
//! of it. Names stay within `PATH_MAX` (4096, Linux's bound) including the padding.
//!
//! Output depends on the input only: times, owners and device numbers are zero, inode numbers
//! count up. Used by the build script (which includes this file) and by tests.

use std::collections::BTreeSet;

const HEADER_LEN: usize = 110;
pub const PAGE: usize = 4096;
/// Bound of Linux's initramfs loader on `namesize`.
const NAME_MAX: usize = 4096;
const S_IFDIR: u32 = 0o040_000;
const S_IFREG: u32 = 0o100_000;
const S_IFLNK: u32 = 0o120_000;

/// Where a file's data may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// At any multiple of 4, as the format has it.
    Word,
    /// At a multiple of [`PAGE`].
    Page,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CpioError {
    /// Empty, absolute, over-long, or with an empty, `.` or `..` component.
    BadPath(String),
    /// The same path twice.
    Duplicate(String),
    /// The format's sizes have 32 bits.
    TooLarge(String),
}

impl std::fmt::Display for CpioError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CpioError::BadPath(path) => write!(f, "`{path}` is no path for a bundle"),
            CpioError::Duplicate(path) => write!(f, "`{path}` is in the bundle twice"),
            CpioError::TooLarge(path) => write!(f, "`{path}` is larger than 4 GiB"),
        }
    }
}

impl std::error::Error for CpioError {}

/// An archive under construction. Parent directories are added as needed (mode 755).
#[derive(Debug, Default)]
pub struct CpioWriter {
    out: Vec<u8>,
    inodes: u32,
    paths: BTreeSet<String>,
    directories: BTreeSet<String>,
}

impl CpioWriter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a directory unless it is there.
    pub fn directory(&mut self, path: &str) -> Result<(), CpioError> {
        self.directory_with(path, 0o755)
    }

    /// As [`Self::directory`], with these permissions.
    pub fn directory_with(&mut self, path: &str, permissions: u32) -> Result<(), CpioError> {
        check_path(path)?;
        if self.directories.contains(path) {
            return Ok(());
        }
        self.claim(path)?;
        self.parents(path)?;
        self.directories.insert(path.to_owned());
        self.entry(path, S_IFDIR | permissions, b"", 0)
    }

    /// Adds a regular file; `permissions` are the low nine bits of its mode.
    pub fn file(
        &mut self,
        path: &str,
        permissions: u32,
        data: &[u8],
        align: Align,
    ) -> Result<(), CpioError> {
        check_path(path)?;
        self.claim(path)?;
        self.parents(path)?;
        let mut padding = self.name_padding(path, align);
        while path.len() + 1 + padding > NAME_MAX {
            // Rare (the gap is nearly a page): repeating the parent directory, which readers
            // take as nothing new, moves on a little, until the padding fits.
            let parent = path.rsplit_once('/').map_or(".", |(parent, _)| parent);
            self.entry(parent, S_IFDIR | 0o755, b"", 0)?;
            padding = self.name_padding(path, align);
        }
        self.entry(path, S_IFREG | (permissions & 0o777), data, padding)
    }

    /// Adds a symbolic link.
    pub fn symlink(&mut self, path: &str, target: &str) -> Result<(), CpioError> {
        check_path(path)?;
        self.claim(path)?;
        self.parents(path)?;
        self.entry(path, S_IFLNK | 0o777, target.as_bytes(), 0)
    }

    /// Ends the archive and pads it to whole pages.
    pub fn finish(mut self) -> Vec<u8> {
        self.header("TRAILER!!!", 0, 0, 0, 1, 0);
        self.out.resize(self.out.len().next_multiple_of(PAGE), 0);
        self.out
    }

    fn claim(&mut self, path: &str) -> Result<(), CpioError> {
        if self.paths.insert(path.to_owned()) {
            Ok(())
        } else {
            Err(CpioError::Duplicate(path.to_owned()))
        }
    }

    fn parents(&mut self, path: &str) -> Result<(), CpioError> {
        match path.rsplit_once('/') {
            Some((parent, _)) => self.directory(parent),
            None => Ok(()),
        }
    }

    /// Zero bytes to count into the name so that the data begins as asked.
    fn name_padding(&self, path: &str, align: Align) -> usize {
        let data_at = self.out.len() + HEADER_LEN + path.len() + 1;
        match align {
            Align::Word => 0,
            Align::Page => data_at.next_multiple_of(PAGE) - data_at,
        }
    }

    fn entry(
        &mut self,
        path: &str,
        mode: u32,
        data: &[u8],
        padding: usize,
    ) -> Result<(), CpioError> {
        let Ok(size) = u32::try_from(data.len()) else {
            return Err(CpioError::TooLarge(path.to_owned()));
        };
        self.inodes += 1;
        let links = if mode & S_IFDIR == S_IFDIR { 2 } else { 1 };
        self.header(path, self.inodes, mode, size, links, padding);
        self.out.extend_from_slice(data);
        self.out.resize(self.out.len().next_multiple_of(4), 0);
        Ok(())
    }

    fn header(&mut self, path: &str, inode: u32, mode: u32, size: u32, links: u32, padding: usize) {
        let name_size = path.len() + 1 + padding;
        // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize
        // check, each eight hexadecimal digits.
        let name_size = u32::try_from(name_size).expect("bounded by NAME_MAX");
        let fields = [inode, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.out.extend_from_slice(b"070701");
        for field in fields {
            self.out.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.out.extend_from_slice(path.as_bytes());
        self.out.resize(self.out.len() + 1 + padding, 0);
        self.out.resize(self.out.len().next_multiple_of(4), 0);
    }
}

fn check_path(path: &str) -> Result<(), CpioError> {
    let parts_fit = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if parts_fit && !path.contains('\0') && path.len() < 1024 && path != "TRAILER!!!" {
        Ok(())
    } else {
        Err(CpioError::BadPath(path.to_owned()))
    }
}

#[cfg(test)]
#[path = "cpio_tests.rs"]
mod tests;
