//! Disk images as every engine takes them: opened, checked and locked, so that no two machines of
//! whichever engine write one image.
//!
//! An image is a regular file or a block device; a raw one has a whole number of 512-byte sectors. A
//! file that is written is locked exclusively, one that is only read (also under `snapshot`, or as
//! the backing file of a qcow2 image) shared (`flock`), for as long as it is open.

use std::ffi::OsString;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use crate::{DiskFormat, DiskSource, DiskSpec};

/// Unit of a disk's size, of its requests and of virtio's addresses.
pub const SECTOR: u64 = 512;

/// Backing files of backing files: a longer chain is a loop.
const CHAIN_MAX: usize = 64;
const QCOW2_MAGIC: [u8; 4] = *b"QFI\xFB";

/// A disk's files, locked.
#[derive(Debug)]
pub struct Opened {
    pub file: File,
    /// Of a qcow2 image, nearest first.
    pub backing: Vec<File>,
}

/// Opens and locks a disk's files; `None` for a disk that has none. The error is a sentence for
/// the user.
pub fn open(spec: &DiskSpec) -> Result<Option<Opened>, String> {
    let DiskSource::File(path) = &spec.source else { return Ok(None) };
    let file = open_file(path, spec.writes_file())?;
    let name = path.display();
    let mut backing = Vec::new();
    match spec.format() {
        DiskFormat::Raw => {
            raw_length(&file, path)?;
            if spec.format.is_none() && is_qcow2(&file) {
                return Err(format!(
                    "disk image {name} looks like qcow2: add format=qcow2 (or format=raw, if the \
                     guest is to see these bytes)"
                ));
            }
        }
        DiskFormat::Qcow2 => {
            if !is_qcow2(&file) {
                return Err(format!("disk image {name} is not in qcow2 format"));
            }
            let mut next = backing_file(&file, path)?;
            while let Some(path) = next {
                if backing.len() == CHAIN_MAX {
                    return Err(format!("disk image {name} has a loop of backing files"));
                }
                let file = open_file(&path, false)?;
                next = if is_qcow2(&file) { backing_file(&file, &path)? } else { None };
                backing.push(file);
            }
        }
    }
    Ok(Some(Opened { file, backing }))
}

fn is_qcow2(file: &File) -> bool {
    let mut magic = [0; QCOW2_MAGIC.len()];
    file.read_exact_at(&mut magic, 0).is_ok() && magic == QCOW2_MAGIC
}

/// The backing file that a qcow2 header names: the offset of its name is the u64 at 8, the name's
/// length the u32 at 16, and a relative name counts from the image's own directory.
fn backing_file(file: &File, path: &Path) -> Result<Option<PathBuf>, String> {
    let broken = || format!("disk image {} has no valid qcow2 header", path.display());
    let mut field = [0; 12];
    file.read_exact_at(&mut field, 8).map_err(|_| broken())?;
    let (offset, length) = field.split_at(8);
    let offset = u64::from_be_bytes(offset.try_into().map_err(|_| broken())?);
    let length = u32::from_be_bytes(length.try_into().map_err(|_| broken())?) as usize;
    if offset == 0 {
        return Ok(None);
    }
    // The format allows 1023 bytes.
    let mut name = vec![0; if length < 1024 { length } else { return Err(broken()) }];
    file.read_exact_at(&mut name, offset).map_err(|_| broken())?;
    let name = PathBuf::from(OsString::from_vec(name));
    Ok(Some(path.parent().unwrap_or(Path::new("")).join(name)))
}

/// Opens and locks one image file.
pub fn open_file(path: &Path, write: bool) -> Result<File, String> {
    let name = path.display();
    let file = OpenOptions::new()
        .read(true)
        .write(write)
        .open(path)
        .map_err(|error| explain_open(path, write, &error))?;
    let kind = file
        .metadata()
        .map_err(|error| format!("disk image {name} cannot be examined: {error}"))?
        .file_type();
    if !kind.is_file() && !kind.is_block_device() {
        return Err(format!("disk image {name} is neither a regular file nor a block device"));
    }
    let locked = if write { file.try_lock() } else { file.try_lock_shared() };
    locked.map_err(|error| match error {
        TryLockError::WouldBlock => format!(
            "disk image {name} is in use by another machine{}",
            if write { "" } else { " that writes to it" }
        ),
        TryLockError::Error(error) => format!("disk image {name} cannot be locked: {error}"),
    })?;
    if length(&file, path)? == 0 {
        return Err(format!("disk image {name} is empty"));
    }
    Ok(file)
}

/// Bytes of an image file. Block devices have no length in their metadata, but an end to seek to.
pub fn length(mut file: &File, path: &Path) -> Result<u64, String> {
    file.seek(SeekFrom::End(0))
        .map_err(|error| format!("the size of disk image {} is unknown: {error}", path.display()))
}

/// The same for a raw image: a whole number of sectors.
pub fn raw_length(file: &File, path: &Path) -> Result<u64, String> {
    let length = length(file, path)?;
    if !length.is_multiple_of(SECTOR) {
        let name = path.display();
        return Err(format!(
            "the size of disk image {name}, {length} bytes, is no multiple of {SECTOR}"
        ));
    }
    Ok(length)
}

fn explain_open(path: &Path, write: bool, error: &io::Error) -> String {
    let name = path.display();
    let how = if write { "writing" } else { "reading" };
    match error.kind() {
        ErrorKind::NotFound => format!("disk image {name} does not exist"),
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            let hint = if write { " (add ,ro to attach it read-only)" } else { "" };
            format!("no permission to open disk image {name} for {how}{hint}")
        }
        ErrorKind::IsADirectory => format!("disk image {name} is a directory"),
        _ => format!("disk image {name} cannot be opened for {how}: {error}"),
    }
}
