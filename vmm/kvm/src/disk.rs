//! Raw disk images: opened, checked, locked, and served as a [`BlockBackend`].
//!
//! An image is a regular file or a block device of a whole number of 512-byte sectors. A writable
//! image is locked exclusively, a read-only one shared (`flock`), for as long as the machine
//! lives, so that no two machines write one image. Reads and writes go straight to the file; a
//! flush is `fdatasync`.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, FileTypeExt};

use xinim_devices::backend::{BackendError, BlockBackend};
use xinim_machine::DiskSpec;

/// Unit of a disk's size, of its requests and of virtio's addresses.
pub const SECTOR: u64 = 512;

/// An open, locked image.
#[derive(Debug)]
pub struct RawImage {
    file: File,
    length: u64,
    read_only: bool,
}

impl RawImage {
    /// Opens and locks the image. The error is a sentence for the user.
    pub fn open(spec: &DiskSpec) -> Result<Self, String> {
        let name = spec.path.display();
        let file = OpenOptions::new()
            .read(true)
            .write(!spec.read_only)
            .open(&spec.path)
            .map_err(|error| explain_open(spec, &error))?;
        let kind = file
            .metadata()
            .map_err(|error| format!("disk image {name} cannot be examined: {error}"))?
            .file_type();
        if !kind.is_file() && !kind.is_block_device() {
            return Err(format!("disk image {name} is neither a regular file nor a block device"));
        }
        lock(&file, !spec.read_only).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => format!(
                "disk image {name} is in use by another machine{}",
                if spec.read_only { " that writes to it" } else { "" }
            ),
            _ => format!("disk image {name} cannot be locked: {error}"),
        })?;
        // Block devices have no length in their metadata, but an end to seek to.
        let length = (&file)
            .seek(SeekFrom::End(0))
            .map_err(|error| format!("the size of disk image {name} is unknown: {error}"))?;
        if length == 0 {
            return Err(format!("disk image {name} is empty"));
        }
        if !length.is_multiple_of(SECTOR) {
            return Err(format!(
                "the size of disk image {name}, {length} bytes, is no multiple of {SECTOR}"
            ));
        }
        Ok(Self { file, length, read_only: spec.read_only })
    }
}

fn explain_open(spec: &DiskSpec, error: &io::Error) -> String {
    let name = spec.path.display();
    let how = if spec.read_only { "reading" } else { "writing" };
    match error.kind() {
        ErrorKind::NotFound => format!("disk image {name} does not exist"),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            let hint = if spec.read_only { "" } else { " (add ,ro to attach it read-only)" };
            format!("no permission to open disk image {name} for {how}{hint}")
        }
        ErrorKind::IsADirectory => format!("disk image {name} is a directory"),
        _ => format!("disk image {name} cannot be opened for {how}: {error}"),
    }
}

fn lock(file: &File, exclusive: bool) -> io::Result<()> {
    let operation = if exclusive { libc::LOCK_EX } else { libc::LOCK_SH };
    // SAFETY: the descriptor is open; flock has no other precondition.
    match unsafe { libc::flock(file.as_raw_fd(), operation | libc::LOCK_NB) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Keeps the errno; an image that has become shorter has none.
fn backend_error(error: io::Error) -> BackendError {
    BackendError { errno: error.raw_os_error().unwrap_or(0) }
}

impl BlockBackend for RawImage {
    fn read_at(&mut self, offset: u64, data: &mut [u8]) -> Result<(), BackendError> {
        self.file.read_exact_at(data, offset).map_err(backend_error)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), BackendError> {
        self.file.write_all_at(data, offset).map_err(backend_error)
    }

    fn flush(&mut self) -> Result<(), BackendError> {
        self.file.sync_data().map_err(backend_error)
    }

    fn len(&self) -> u64 {
        self.length
    }

    fn read_only(&self) -> bool {
        self.read_only
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
