//! A mounted lamfat volume together with the files it has open.
//!
//! Open files borrow the volume, so both stand in one self-referential cell. [`Volume::finish`]
//! takes it apart: open files are written, then lamfat writes its summary (FSInfo) and clears the
//! dirty mark.

use alloc::collections::BTreeMap;

use lamfat::{Dir, File, FsOptions, Write};
use self_cell::self_cell;
use xinim_abi::error::{Error, Result};
use xinim_fs_kit::Ino;

use crate::codepage::Cp437;
use crate::device::{Device, DeviceError, Shared};
use crate::raw::{Layout, Width};
use crate::time::Clock;

pub type Fs = lamfat::FileSystem<Device<Shared>, Clock, Cp437>;
pub type FatDir<'a> = Dir<'a, Device<Shared>, Clock, Cp437>;
pub type FatFile<'a> = File<'a, Device<Shared>, Clock, Cp437>;

/// Files kept open, so that going on at the same position is cheap.
const OPEN_MAX: usize = 64;

struct Open<'a>(BTreeMap<Ino, FatFile<'a>>);

self_cell!(
    struct Cell {
        owner: Fs,
        #[not_covariant]
        dependent: Open,
    }
);

/// See the module.
pub struct Volume(Cell);

/// An error of lamfat in this system's terms.
pub fn error(from: lamfat::Error<DeviceError>) -> Error {
    match from {
        lamfat::Error::Io(DeviceError(error)) => error,
        lamfat::Error::NotFound => Error::NoEnt,
        lamfat::Error::AlreadyExists => Error::Exist,
        lamfat::Error::DirectoryIsNotEmpty => Error::NotEmpty,
        lamfat::Error::NotEnoughSpace | lamfat::Error::WriteZero => Error::NoSpc,
        lamfat::Error::InvalidFileNameLength => Error::NameTooLong,
        lamfat::Error::InvalidInput | lamfat::Error::UnsupportedFileNameCharacter => Error::Inval,
        _ => Error::Io,
    }
}

impl Volume {
    /// `Inval` if there is no FAT volume. `sound`: its summary (FSInfo) is right.
    pub fn open(storage: &Shared, clock: Clock, sound: bool) -> Result<Self> {
        let fat32 = Layout::read(&mut storage.clone()).is_ok_and(|l| l.width == Width::Fat32);
        let mut device = Device::new(storage.clone());
        if sound && fat32 {
            device = device.hide_mark();
        }
        let options = FsOptions::new().time_provider(clock).oem_cp_converter(Cp437).strict(false);
        let fs = Fs::new(device, options).map_err(|from| match from {
            lamfat::Error::Io(DeviceError(error)) if error != Error::Inval => error,
            _ => Error::Inval,
        })?;
        Ok(Self(Cell::new(fs, |_| Open(BTreeMap::new()))))
    }

    pub fn fs(&self) -> &Fs {
        self.0.borrow_owner()
    }

    /// What lamfat takes the volume for.
    pub fn width(&self) -> Width {
        match self.fs().fat_type() {
            lamfat::FatType::Fat12 => Width::Fat12,
            lamfat::FatType::Fat16 => Width::Fat16,
            lamfat::FatType::Fat32 => Width::Fat32,
        }
    }

    /// The directory at `path`.
    pub fn directory<'a>(&'a self, path: &[&str]) -> Result<FatDir<'a>> {
        path.iter().try_fold(self.fs().root_dir(), |dir, name| dir.open_dir(name).map_err(error))
    }

    /// Runs `action` on the file `name` in the directory at `path`, opening it if needed, and
    /// writes its directory entry (into the cache).
    pub fn with_file<R>(
        &mut self,
        ino: Ino,
        path: &[&str],
        action: impl FnOnce(&mut FatFile<'_>) -> Result<R>,
    ) -> Result<R> {
        self.0.with_dependent_mut(|fs, open| {
            if !open.0.contains_key(&ino) {
                if open.0.len() >= OPEN_MAX {
                    open.0.clear();
                }
                let (name, parents) = path.split_last().ok_or(Error::IsDir)?;
                let start = fs.root_dir();
                let dir = parents
                    .iter()
                    .try_fold(start, |dir, name| dir.open_dir(name))
                    .map_err(error)?;
                open.0.insert(ino, dir.open_file(name).map_err(error)?);
            }
            let file = open.0.get_mut(&ino).ok_or(Error::Io)?;
            let result = action(file);
            file.flush().map_err(error)?;
            result
        })
    }

    /// Closes one file: before its entry moves or goes.
    pub fn close(&mut self, ino: Ino) {
        self.0.with_dependent_mut(|_, open| drop(open.0.remove(&ino)));
    }

    /// Closes all: before directories move.
    pub fn close_all(&mut self) {
        self.0.with_dependent_mut(|_, open| open.0.clear());
    }

    /// Writes the summary and clears the dirty mark, in the cache.
    pub fn finish(mut self) -> Result<()> {
        self.close_all();
        self.0.into_owner().unmount().map_err(error)
    }
}
