//! qcow2 images with their backing files, through the `imago` crate. Data are copied once: the
//! crate wants buffers of its own, and a guest changes its memory while it is read.
//!
//! The files are locked by `xinim_machine::image`; what this opens are the same paths again.

use std::io;
use std::path::Path;
use std::sync::{PoisonError, RwLock, RwLockReadGuard};

use imago::file::File as HostFile;
use imago::format::PreallocateMode;
use imago::qcow2::Qcow2;
use imago::storage::StorageOpenOptions;
use imago::{FormatAccess, FormatDriverBuilder, PermissiveImplicitOpenGate};
use xinim_devices::backend::BlockInfo;
use xinim_machine::CacheMode;
use xinim_machine::image::SECTOR;

use crate::image::Image;
use crate::memory::Pieces;

/// Piece in which data are copied.
const CHUNK: u64 = 1 << 20;

/// An open qcow2 image.
pub struct Qcow2Image {
    access: RwLock<FormatAccess<HostFile>>,
    read_only: bool,
    cache: CacheMode,
}

impl Qcow2Image {
    pub fn open(path: &Path, write: bool, cache: CacheMode) -> io::Result<Self> {
        let options = StorageOpenOptions::new().direct(cache == CacheMode::None);
        let image = Qcow2::<HostFile>::builder_path(path)
            .storage_open_options(options)
            .write(write)
            .open(PermissiveImplicitOpenGate::default())?;
        let access = FormatAccess::new(image);
        if !access.size().is_multiple_of(SECTOR) {
            return Err(io::Error::other("its size is no multiple of 512"));
        }
        Ok(Self { access: RwLock::new(access), read_only: !write, cache })
    }

    fn access(&self) -> RwLockReadGuard<'_, FormatAccess<HostFile>> {
        self.access.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn chunk(data: &Pieces) -> Vec<u8> {
        vec![0; data.left().min(CHUNK) as usize]
    }
}

impl Image for Qcow2Image {
    fn info(&self) -> BlockInfo {
        BlockInfo {
            read_only: self.read_only,
            physical_block: 4096,
            write_cache: self.cache != CacheMode::Writethrough,
            discard: !self.read_only,
            ..BlockInfo::new(self.access().size())
        }
    }

    fn read(&self, mut offset: u64, data: &mut Pieces) -> io::Result<()> {
        let access = self.access();
        let mut buffer = Self::chunk(data);
        while data.left() > 0 {
            let take = data.left().min(buffer.len() as u64);
            let piece = &mut buffer[..take as usize];
            access.read(&mut *piece, offset)?;
            data.fill(piece);
            offset += take;
        }
        Ok(())
    }

    fn write(&self, mut offset: u64, data: &mut Pieces) -> io::Result<()> {
        let access = self.access();
        let mut buffer = Self::chunk(data);
        while data.left() > 0 {
            let take = data.left().min(buffer.len() as u64);
            let piece = &mut buffer[..take as usize];
            data.take(piece);
            access.write(&*piece, offset)?;
            offset += take;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let access = self.access();
        access.flush()?;
        access.sync()
    }

    fn discard(&self, offset: u64, length: u64) -> io::Result<()> {
        let mut access = self.access.write().unwrap_or_else(PoisonError::into_inner);
        match access.discard_to_any(offset, length) {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
            result => result,
        }
    }

    fn write_zeroes(&self, offset: u64, length: u64, _unmap: bool) -> io::Result<()> {
        self.access().write_zeroes(offset, length)
    }

    fn resize(&self, length: u64) -> io::Result<()> {
        let mut access = self.access.write().unwrap_or_else(PoisonError::into_inner);
        access.resize(length, PreallocateMode::Zero)?;
        access.flush()
    }
}
