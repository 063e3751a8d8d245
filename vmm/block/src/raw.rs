//! Raw images: a file or block device whose bytes are the disk's.
//!
//! With `cache=none` a second descriptor bypasses the page cache. Requests that are not aligned as
//! the host wants it go through the first one; the host keeps both views of a file in step.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FallocateFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use xinim_devices::backend::BlockInfo;
use xinim_machine::CacheMode;

use crate::image::Image;
use crate::memory::Pieces;

/// An open raw image.
#[derive(Debug)]
pub struct RawImage {
    file: File,
    direct: Option<Direct>,
    length: AtomicU64,
    read_only: bool,
    cache: CacheMode,
    physical_block: u32,
}

/// The descriptor past the page cache, and what it takes.
#[derive(Debug)]
struct Direct {
    file: File,
    memory_alignment: usize,
    offset_alignment: u64,
}

impl RawImage {
    /// `file` is open for writing unless `read_only`, and `length` bytes long.
    pub fn new(file: File, length: u64, read_only: bool, cache: CacheMode) -> io::Result<Self> {
        let direct = match cache {
            CacheMode::None => Some(Direct::open(&file, read_only)?),
            _ => None,
        };
        // A page is what the host writes without reading first.
        let physical_block = if length.is_multiple_of(4096) { 4096 } else { 512 };
        let length = AtomicU64::new(length);
        Ok(Self { file, direct, length, read_only, cache, physical_block })
    }

    pub fn length(&self) -> u64 {
        self.length.load(Ordering::Relaxed)
    }

    /// The descriptor for a transfer.
    pub fn descriptor(&self, offset: u64, data: &Pieces) -> BorrowedFd<'_> {
        match &self.direct {
            Some(direct) if direct.takes(offset, data) => direct.file.as_fd(),
            _ => self.file.as_fd(),
        }
    }

    /// The descriptor for everything else.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn clear(&self, flags: FallocateFlags, offset: u64, length: u64) -> Result<(), Errno> {
        rustix::fs::fallocate(&self.file, flags, offset, length)
    }
}

impl Direct {
    fn open(file: &File, read_only: bool) -> io::Result<Self> {
        let access = if read_only { OFlags::RDONLY } else { OFlags::RDWR };
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let flags = access | OFlags::DIRECT | OFlags::CLOEXEC;
        let direct = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        let empty = c"";
        let known = rustix::fs::statx(&direct, empty, AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)
            .ok()
            .filter(|stat| stat.stx_mask & StatxFlags::DIOALIGN.bits() != 0)
            .map(|stat| (stat.stx_dio_mem_align as usize, u64::from(stat.stx_dio_offset_align)))
            .filter(|(memory, offset)| *memory > 0 && *offset > 0);
        // What every host takes, where it does not say.
        let (memory_alignment, offset_alignment) = known.unwrap_or((4096, 4096));
        Ok(Self { file: direct, memory_alignment, offset_alignment })
    }

    fn takes(&self, offset: u64, data: &Pieces) -> bool {
        offset.is_multiple_of(self.offset_alignment)
            && data.left().is_multiple_of(self.offset_alignment)
            && data.aligned(self.memory_alignment)
    }
}

/// Whether the host cannot do it (rather than: it failed).
pub fn unsupported(errno: Errno) -> bool {
    matches!(errno, Errno::OPNOTSUPP | Errno::NOSYS | Errno::NODEV)
}

impl Image for RawImage {
    fn info(&self) -> BlockInfo {
        BlockInfo {
            read_only: self.read_only,
            physical_block: self.physical_block,
            write_cache: self.cache != CacheMode::Writethrough,
            discard: !self.read_only,
            ..BlockInfo::new(self.length())
        }
    }

    fn read(&self, offset: u64, data: &mut Pieces) -> io::Result<()> {
        data.read_from(self.descriptor(offset, data), offset)
    }

    fn write(&self, offset: u64, data: &mut Pieces) -> io::Result<()> {
        data.write_to(self.descriptor(offset, data), offset)
    }

    fn flush(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match self.clear(flags, offset, length) {
            // A hint: keeping the data is all right.
            Err(errno) if unsupported(errno) => Ok(()),
            result => Ok(result?),
        }
    }

    fn write_zeroes(&self, offset: u64, length: u64, unmap: bool) -> io::Result<()> {
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let zero = FallocateFlags::ZERO_RANGE | FallocateFlags::KEEP_SIZE;
        let ways = if unmap { [punch, zero] } else { [zero, zero] };
        for flags in ways {
            match self.clear(flags, offset, length) {
                Err(errno) if unsupported(errno) => {}
                result => return Ok(result?),
            }
        }
        Pieces::zeros(length).write_to(self.file.as_fd(), offset)
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.length.store(length, Ordering::Relaxed);
        Ok(())
    }

    fn as_raw(&self) -> Option<&RawImage> {
        Some(self)
    }
}
