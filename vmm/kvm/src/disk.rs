//! Raw disk images, served as a [`BlockBackend`].
//!
//! Opening, checks and locks are every engine's (`xinim_machine::image`). Reads and writes go straight
//! to the file; a flush is `fdatasync`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use xinim_devices::backend::{BackendError, BlockBackend};
use xinim_machine::{DiskSpec, image};

/// An open, locked image.
#[derive(Debug)]
pub struct RawImage {
    file: File,
    length: u64,
    read_only: bool,
}

impl RawImage {
    /// Opens and locks the image (see [`image`]). The error is a sentence for the user.
    pub fn open(spec: &DiskSpec) -> Result<Self, String> {
        let (file, length) = image::open(spec)?;
        Ok(Self { file, length, read_only: spec.read_only })
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
