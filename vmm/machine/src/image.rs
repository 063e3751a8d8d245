//! Disk images as every engine takes them: opened, checked and locked, so that no two machines of
//! whichever engine write one image.
//!
//! An image is a regular file or a block device of a whole number of 512-byte sectors. A writable
//! image is locked exclusively, a read-only one shared (`flock`), for as long as the file is open.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::FileTypeExt;

use crate::DiskSpec;

/// Unit of a disk's size, of its requests and of virtio's addresses.
pub const SECTOR: u64 = 512;

/// Opens and locks the image; its length in bytes. The error is a sentence for the user.
pub fn open(spec: &DiskSpec) -> Result<(File, u64), String> {
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
    let locked = if spec.read_only { file.try_lock_shared() } else { file.try_lock() };
    locked.map_err(|error| match error {
        TryLockError::WouldBlock => format!(
            "disk image {name} is in use by another machine{}",
            if spec.read_only { " that writes to it" } else { "" }
        ),
        TryLockError::Error(error) => format!("disk image {name} cannot be locked: {error}"),
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
    Ok((file, length))
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
