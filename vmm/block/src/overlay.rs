//! `snapshot` and `new:SIZE`: an image that is only read, or none, under a temporary file that takes the
//! writes and ends with the machine.
//!
//! ```text
//!   read   sector written before? -- yes --> overlay file, at the same offset
//!                                 `- no ---> base image (zeros beyond its end)
//!   write, zeroes ---------------------> overlay file, then the sectors are marked
//! ```
//! One bit per 512-byte sector, kept for the 64 KiB clusters that were written at all; nothing is
//! ever copied. The overlay is sparse and has no name.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use xinim_devices::backend::BlockInfo;
use xinim_machine::CacheMode;
use xinim_machine::image::SECTOR;

use crate::image::Image;
use crate::memory::Pieces;
use crate::raw::RawImage;

/// Sectors of a cluster: the bits of its mask.
const CLUSTER: u64 = 128;

/// A writable view of `base`.
pub struct Overlay {
    base: Option<Box<dyn Image>>,
    file: RawImage,
    /// By cluster: which of its sectors are in `file`.
    written: RwLock<HashMap<u64, u128>>,
    length: AtomicU64,
}

impl Overlay {
    /// Over `base`, or blank; the temporary file lies in the system's directory for such.
    pub fn new(base: Option<Box<dyn Image>>, length: u64) -> io::Result<Self> {
        let file = tempfile::tempfile()?;
        file.set_len(length)?;
        let file = RawImage::new(file, length, false, CacheMode::Unsafe)?;
        Ok(Self { base, file, written: RwLock::default(), length: AtomicU64::new(length) })
    }

    fn marks(&self) -> RwLockReadGuard<'_, HashMap<u64, u128>> {
        self.written.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn marks_mut(&self) -> RwLockWriteGuard<'_, HashMap<u64, u128>> {
        self.written.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs of equal origin in a range of sectors: (first, count, whether in the overlay).
    fn runs(&self, first: u64, count: u64) -> Vec<(u64, u64, bool)> {
        let marks = self.marks();
        let mut runs: Vec<(u64, u64, bool)> = Vec::new();
        let mut sector = first;
        while sector < first + count {
            let mask = marks.get(&(sector / CLUSTER)).copied().unwrap_or(0) >> (sector % CLUSTER);
            let own = mask & 1 != 0;
            let equal = if own { mask.trailing_ones() } else { mask.trailing_zeros() };
            let rest = (CLUSTER - sector % CLUSTER).min(first + count - sector);
            let take = u64::from(equal).min(rest);
            match runs.last_mut() {
                Some(run) if run.2 == own => run.1 += take,
                _ => runs.push((sector, take, own)),
            }
            sector += take;
        }
        runs
    }

    fn mark(&self, first: u64, count: u64) {
        let mut marks = self.marks_mut();
        let mut sector = first;
        while sector < first + count {
            let bit = sector % CLUSTER;
            let take = (CLUSTER - bit).min(first + count - sector);
            let bits = if take == CLUSTER { u128::MAX } else { ((1 << take) - 1) << bit };
            *marks.entry(sector / CLUSTER).or_default() |= bits;
            sector += take;
        }
    }

    fn read_base(&self, offset: u64, data: &mut Pieces) -> io::Result<()> {
        let Some(base) = &self.base else {
            return zero(data);
        };
        let length = base.info().length.saturating_sub(offset).min(data.left());
        let mut beyond = data.split(length);
        std::mem::swap(data, &mut beyond);
        base.read(offset, data)?;
        zero(&mut beyond)
    }
}

fn zero(data: &mut Pieces) -> io::Result<()> {
    let zeros = [0; 4096];
    while data.left() > 0 {
        data.fill(&zeros);
    }
    Ok(())
}

impl Image for Overlay {
    fn info(&self) -> BlockInfo {
        let info =
            BlockInfo { discard: true, ..BlockInfo::new(self.length.load(Ordering::Relaxed)) };
        match &self.base {
            Some(base) => {
                let BlockInfo { logical_block, physical_block, .. } = base.info();
                BlockInfo { logical_block, physical_block, ..info }
            }
            None => BlockInfo { physical_block: 4096, ..info },
        }
    }

    fn read(&self, offset: u64, data: &mut Pieces) -> io::Result<()> {
        for (first, count, own) in self.runs(offset / SECTOR, data.left() / SECTOR) {
            let mut part = data.split(count * SECTOR);
            if own {
                self.file.read(first * SECTOR, &mut part)?;
            } else {
                self.read_base(first * SECTOR, &mut part)?;
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &mut Pieces) -> io::Result<()> {
        let count = data.left() / SECTOR;
        self.file.write(offset, data)?;
        self.mark(offset / SECTOR, count);
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        // Nothing of it outlives the machine.
        Ok(())
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        self.write_zeroes(offset, length, true)
    }

    fn write_zeroes(&self, offset: u64, length: u64, _unmap: bool) -> io::Result<()> {
        self.file.write_zeroes(offset, length, true)?;
        self.mark(offset / SECTOR, length / SECTOR);
        Ok(())
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        let old = self.length.load(Ordering::Relaxed);
        self.file.resize(length)?;
        self.length.store(length, Ordering::Relaxed);
        // What was cut off must not come back from the base.
        let (first, last) = (length.min(old) / SECTOR, length.max(old) / SECTOR);
        self.mark(first, last - first);
        Ok(())
    }
}

/// The temporary file of a disk without a base, for who wants to look at it in tests.
impl Overlay {
    /// Bytes that the overlay occupies on the host.
    pub fn occupied(&self) -> io::Result<u64> {
        let file = File::from(self.file.file().try_clone_to_owned()?);
        Ok(std::os::unix::fs::MetadataExt::blocks(&file.metadata()?) * 512)
    }
}

#[cfg(test)]
#[path = "overlay_tests.rs"]
mod tests;
