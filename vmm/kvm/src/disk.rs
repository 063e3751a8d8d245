//! Raw disk images, served as a [`BlockBackend`].
//!
//! Opening, checks and locks are every engine's (`xinim_machine::image`). Reads and writes go straight
//! to the file; a flush is `fdatasync`.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use xinim_devices::backend::{
    BackendError, BlockBackend, BlockInfo, Completion, Disk, Request, carry_out,
};
use xinim_devices::dma::Dma;
use xinim_machine::{DiskSpec, image};

/// An open, locked image.
#[derive(Debug)]
pub struct RawImage {
    file: File,
    length: u64,
    read_only: bool,
    done: VecDeque<Completion>,
}

impl RawImage {
    /// Opens and locks the image (see [`image`]). The error is a sentence for the user.
    pub fn open(spec: &DiskSpec) -> Result<Self, String> {
        let (file, length) = image::open(spec)?;
        Ok(Self { file, length, read_only: spec.read_only, done: VecDeque::new() })
    }
}

/// Keeps the errno; an image that has become shorter has none.
fn backend_error(error: io::Error) -> BackendError {
    BackendError { errno: error.raw_os_error().unwrap_or(0) }
}

impl Disk for RawImage {
    fn info(&self) -> BlockInfo {
        BlockInfo { read_only: self.read_only, ..BlockInfo::new(self.length) }
    }

    fn read_at(&mut self, offset: u64, data: &mut [u8]) -> Result<(), BackendError> {
        self.file.read_exact_at(data, offset).map_err(backend_error)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<(), BackendError> {
        self.file.write_all_at(data, offset).map_err(backend_error)
    }

    fn flush(&mut self) -> Result<(), BackendError> {
        self.file.sync_data().map_err(backend_error)
    }

    fn discard(&mut self, _offset: u64, _length: u64) -> Result<(), BackendError> {
        Ok(())
    }

    fn write_zeroes(&mut self, offset: u64, length: u64, _: bool) -> Result<(), BackendError> {
        let zeros = vec![0; length.min(1 << 20) as usize];
        let mut done = 0;
        while done < length {
            let take = (length - done).min(zeros.len() as u64);
            self.write_at(offset + done, &zeros[..take as usize])?;
            done += take;
        }
        Ok(())
    }
}

impl BlockBackend for RawImage {
    fn info(&self) -> BlockInfo {
        Disk::info(self)
    }

    fn submit(&mut self, request: Request, dma: &dyn Dma) {
        let result = carry_out(self, &request, dma);
        self.done.push_back(Completion { tag: request.tag, result });
    }

    fn poll(&mut self) -> Option<Completion> {
        self.done.pop_front()
    }

    fn in_flight(&self) -> usize {
        self.done.len()
    }
}

#[cfg(test)]
#[path = "disk_tests.rs"]
mod tests;
