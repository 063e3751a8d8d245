//! The `FileSystem` on top of a volume.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{NAME_MAX, Stat, StatFs, mode, mount};
use xinim_block_client::Storage;
use xinim_fs_kit::{DirBuffer, FileSystem, Ino, MountInfo, NewFile, SetAttributes};

use crate::volume::Volume;

/// Opens the block device that a mount names ("sr0").
pub type OpenDevice<S> = Box<dyn FnMut(&str) -> Result<S>>;

/// One ISO 9660 file system, mounted or not.
pub struct Iso<S> {
    open: OpenDevice<S>,
    mounted: Option<Volume<S>>,
}

impl<S: Storage> Iso<S> {
    pub fn new(open: OpenDevice<S>) -> Self {
        Self { open, mounted: None }
    }

    fn volume(&mut self) -> Result<&mut Volume<S>> {
        self.mounted.as_mut().ok_or(Error::NoDev)
    }
}

impl<S: Storage> FileSystem for Iso<S> {
    fn mount(&mut self, source: &str, flags: u32) -> Result<MountInfo> {
        if self.mounted.is_some() {
            return Err(Error::Busy);
        }
        let volume = Volume::open((self.open)(source)?)?;
        let root = volume.root;
        self.mounted = Some(volume);
        Ok(MountInfo { root, flags: flags | mount::READ_ONLY })
    }

    fn remount(&mut self, flags: u32) -> Result<u32> {
        self.volume()?;
        Ok(flags | mount::READ_ONLY)
    }

    fn unmount(&mut self) -> Result<()> {
        self.mounted.take().map(drop).ok_or(Error::NoDev)
    }

    fn sync(&mut self) -> Result<()> {
        self.volume().map(drop)
    }

    fn lookup(&mut self, dir: Ino, name: &[u8]) -> Result<Stat> {
        let volume = self.volume()?;
        let mut found = None;
        volume.scan(dir, 0, |entry| {
            if entry.name == name {
                found = Some(entry.ino);
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        volume.stat(found.ok_or(Error::NoEnt)?).map_err(|error| match error {
            Error::Stale => Error::Io,
            error => error,
        })
    }

    fn attributes(&mut self, ino: Ino) -> Result<Stat> {
        self.volume()?.stat(ino)
    }

    fn set_attributes(&mut self, _: Ino, _: &SetAttributes) -> Result<Stat> {
        Err(Error::RoFs)
    }

    fn read(&mut self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize> {
        let volume = self.volume()?;
        let file = volume.file(ino)?;
        match file.mode() & mode::TYPE_MASK {
            mode::DIRECTORY => Err(Error::IsDir),
            mode::REGULAR if file.rock_ridge.compressed || file.record.odd => Err(Error::NotSup),
            mode::REGULAR if offset >= file.size() => Ok(0),
            mode::REGULAR => volume.read(&file, offset, out),
            _ => Err(Error::Inval),
        }
    }

    fn write(&mut self, _: Ino, _: u64, _: &[u8]) -> Result<usize> {
        Err(Error::RoFs)
    }
    fn create(&mut self, _: Ino, _: &[u8], _: &NewFile<'_>) -> Result<Stat> {
        Err(Error::RoFs)
    }
    fn unlink(&mut self, _: Ino, _: &[u8], _: bool) -> Result<()> {
        Err(Error::RoFs)
    }
    fn rename(&mut self, _: (Ino, &[u8]), _: (Ino, &[u8])) -> Result<()> {
        Err(Error::RoFs)
    }
    fn link(&mut self, _: Ino, _: Ino, _: &[u8]) -> Result<()> {
        Err(Error::RoFs)
    }

    fn read_link(&mut self, ino: Ino) -> Result<Vec<u8>> {
        let file = self.volume()?.file(ino)?;
        if file.mode() & mode::TYPE_MASK != mode::SYMLINK {
            return Err(Error::Inval);
        }
        file.rock_ridge.target.ok_or(Error::Io)
    }

    /// A cookie is the byte position behind an entry.
    fn read_dir(&mut self, dir: Ino, cookie: u64, out: &mut DirBuffer) -> Result<()> {
        self.volume()?.scan(dir, cookie, |entry| {
            match out.push(entry.ino, entry.next, entry.mode, &entry.name) {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        })
    }

    /// Nothing changes, so every number stays valid.
    fn hold(&mut self, ino: Ino) -> Result<()> {
        self.volume()?.file(ino).map(drop)
    }
    fn release(&mut self, ino: Ino) -> Result<()> {
        self.volume()?.file(ino).map(drop)
    }

    fn statfs(&mut self) -> Result<StatFs> {
        let volume = self.volume()?;
        let mut fs_type = [0; 16];
        fs_type[..7].copy_from_slice(b"iso9660");
        Ok(StatFs {
            block_size: volume.block_len,
            blocks: volume.blocks.into(),
            blocks_free: 0,
            files: 0,
            files_free: 0,
            name_max: NAME_MAX as u64,
            fs_type,
        })
    }

    fn fsync(&mut self, ino: Ino) -> Result<()> {
        self.volume()?.file(ino).map(drop)
    }
}
