//! What is exercised: files by path, below one directory.

use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{Stat, mode, open};
use xinim_fs_kit::conformance::list;
use xinim_fs_kit::{FileSystem, Ino, NewFile, SetAttributes};
use xinim_os::{Fd, Os, Whence, join};

/// Paths are relative: names with `/` between, the empty one is the directory itself. None goes
/// through a symbolic link.
pub trait Target {
    type File;

    /// A new regular file, opened. `Exist`.
    fn create(&mut self, path: &str) -> Result<Self::File>;
    /// For reading and writing.
    fn open(&mut self, path: &str) -> Result<Self::File>;
    fn close(&mut self, file: Self::File) -> Result<()>;
    /// Fills `out` as far as the file reaches.
    fn read(&mut self, file: &Self::File, offset: u64, out: &mut [u8]) -> Result<usize>;
    /// All of it, or less where space ran out.
    fn write(&mut self, file: &Self::File, offset: u64, data: &[u8]) -> Result<usize>;
    fn truncate(&mut self, file: &Self::File, size: u64) -> Result<()>;
    fn fsync(&mut self, file: &Self::File) -> Result<()>;
    fn stat_open(&mut self, file: &Self::File) -> Result<Stat>;

    /// A last symbolic link is not followed.
    fn stat(&mut self, path: &str) -> Result<Stat>;
    /// Names and types (`mode`), in any order, without `.` and `..`.
    fn list(&mut self, path: &str) -> Result<Vec<(String, u32)>>;
    fn mkdir(&mut self, path: &str) -> Result<()>;
    fn rmdir(&mut self, path: &str) -> Result<()>;
    fn unlink(&mut self, path: &str) -> Result<()>;
    fn rename(&mut self, from: &str, to: &str) -> Result<()>;
    fn link(&mut self, from: &str, to: &str) -> Result<()>;
    fn symlink(&mut self, target: &str, path: &str) -> Result<()>;
    fn readlink(&mut self, path: &str) -> Result<String>;
    fn chmod(&mut self, path: &str, mode: u32) -> Result<()>;
    fn set_mtime(&mut self, path: &str, ns: u64) -> Result<()>;
    fn sync(&mut self) -> Result<()>;
}

/// System calls below a directory.
pub struct OsTarget<'a> {
    os: &'a dyn Os,
    dir: String,
}

impl<'a> OsTarget<'a> {
    pub fn new(os: &'a dyn Os, dir: &str) -> Self {
        Self { os, dir: dir.into() }
    }

    fn path(&self, path: &str) -> String {
        if path.is_empty() { self.dir.clone() } else { join(&self.dir, path) }
    }
}

impl Target for OsTarget<'_> {
    type File = Fd;

    fn create(&mut self, path: &str) -> Result<Fd> {
        let flags = open::READ_WRITE | open::CREATE | open::EXCLUSIVE;
        self.os.open(&self.path(path), flags, 0o644)
    }

    fn open(&mut self, path: &str) -> Result<Fd> {
        self.os.open(&self.path(path), open::READ_WRITE, 0)
    }

    fn close(&mut self, file: Fd) -> Result<()> {
        self.os.close(file)
    }

    fn read(&mut self, file: &Fd, offset: u64, out: &mut [u8]) -> Result<usize> {
        self.os.seek(*file, offset as i64, Whence::Start)?;
        let mut done = 0;
        while done < out.len() {
            match self.os.read(*file, &mut out[done..])? {
                0 => break,
                count => done += count,
            }
        }
        Ok(done)
    }

    fn write(&mut self, file: &Fd, offset: u64, data: &[u8]) -> Result<usize> {
        self.os.seek(*file, offset as i64, Whence::Start)?;
        let mut done = 0;
        while done < data.len() {
            match self.os.write(*file, &data[done..]) {
                Ok(count) if count > 0 => done += count,
                Ok(_) => return Err(Error::Io),
                Err(Error::NoSpc) if done > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn truncate(&mut self, file: &Fd, size: u64) -> Result<()> {
        self.os.ftruncate(*file, size)
    }
    fn fsync(&mut self, file: &Fd) -> Result<()> {
        self.os.fsync(*file)
    }
    fn stat_open(&mut self, file: &Fd) -> Result<Stat> {
        self.os.fstat(*file)
    }
    fn stat(&mut self, path: &str) -> Result<Stat> {
        self.os.lstat(&self.path(path))
    }

    fn list(&mut self, path: &str) -> Result<Vec<(String, u32)>> {
        let entries = self.os.read_dir(&self.path(path))?.into_iter();
        let entries = entries.map(|entry| (entry.name, u32::from(entry.kind) << 12));
        Ok(entries.filter(|(name, _)| name != "." && name != "..").collect())
    }

    fn mkdir(&mut self, path: &str) -> Result<()> {
        self.os.mkdir(&self.path(path), 0o755)
    }
    fn rmdir(&mut self, path: &str) -> Result<()> {
        self.os.rmdir(&self.path(path))
    }
    fn unlink(&mut self, path: &str) -> Result<()> {
        self.os.unlink(&self.path(path))
    }
    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        self.os.rename(&self.path(from), &self.path(to))
    }
    fn link(&mut self, from: &str, to: &str) -> Result<()> {
        self.os.link(&self.path(from), &self.path(to))
    }
    fn symlink(&mut self, target: &str, path: &str) -> Result<()> {
        self.os.symlink(target, &self.path(path))
    }
    fn readlink(&mut self, path: &str) -> Result<String> {
        self.os.readlink(&self.path(path))
    }
    fn chmod(&mut self, path: &str, mode: u32) -> Result<()> {
        self.os.chmod(&self.path(path), mode)
    }
    fn set_mtime(&mut self, path: &str, ns: u64) -> Result<()> {
        self.os.set_mtime(&self.path(path), ns)
    }

    fn sync(&mut self) -> Result<()> {
        match self.os.sync() {
            Err(Error::NoSys) => Ok(()),
            other => other,
        }
    }
}

/// A mounted file system, as VFS uses it: an open file is held.
pub struct FsTarget<F> {
    fs: F,
    root: Ino,
}

impl<F: FileSystem> FsTarget<F> {
    pub fn new(fs: F, root: Ino) -> Self {
        Self { fs, root }
    }

    pub fn into_inner(self) -> F {
        self.fs
    }

    fn walk(&mut self, path: &str) -> Result<Stat> {
        let mut at = self.fs.attributes(self.root)?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if at.mode & mode::TYPE_MASK != mode::DIRECTORY {
                return Err(Error::NotDir);
            }
            at = self.fs.lookup(at.ino, name.as_bytes())?;
        }
        Ok(at)
    }

    /// Directory and last name.
    fn split<'p>(&mut self, path: &'p str) -> Result<(Ino, &'p [u8])> {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let dir = self.walk(dir)?;
        if dir.mode & mode::TYPE_MASK != mode::DIRECTORY {
            return Err(Error::NotDir);
        }
        Ok((dir.ino, name.as_bytes()))
    }

    /// VFS holds a file only when it is about to lose its name.
    fn make(&mut self, path: &str, new: &NewFile<'_>) -> Result<Ino> {
        let (dir, name) = self.split(path)?;
        self.fs.create(dir, name, new).map(|stat| stat.ino)
    }
}

impl<F: FileSystem> Target for FsTarget<F> {
    type File = Ino;

    fn create(&mut self, path: &str) -> Result<Ino> {
        let ino = self.make(path, &NewFile::new(mode::REGULAR | 0o644))?;
        self.fs.hold(ino).map(|()| ino)
    }

    fn open(&mut self, path: &str) -> Result<Ino> {
        let stat = self.walk(path)?;
        match stat.mode & mode::TYPE_MASK {
            mode::DIRECTORY => Err(Error::IsDir),
            _ => self.fs.hold(stat.ino).map(|()| stat.ino),
        }
    }

    fn close(&mut self, file: Ino) -> Result<()> {
        self.fs.release(file)
    }
    fn read(&mut self, file: &Ino, offset: u64, out: &mut [u8]) -> Result<usize> {
        self.fs.read(*file, offset, out)
    }
    fn write(&mut self, file: &Ino, offset: u64, data: &[u8]) -> Result<usize> {
        self.fs.write(*file, offset, data)
    }

    fn truncate(&mut self, file: &Ino, size: u64) -> Result<()> {
        let set = SetAttributes { size: Some(size), ..SetAttributes::default() };
        self.fs.set_attributes(*file, &set).map(|_| ())
    }

    fn fsync(&mut self, file: &Ino) -> Result<()> {
        self.fs.fsync(*file)
    }
    fn stat_open(&mut self, file: &Ino) -> Result<Stat> {
        self.fs.attributes(*file)
    }
    fn stat(&mut self, path: &str) -> Result<Stat> {
        self.walk(path)
    }

    fn list(&mut self, path: &str) -> Result<Vec<(String, u32)>> {
        let dir = self.walk(path)?.ino;
        let names = list(&mut self.fs, dir, 700)?.into_iter();
        names
            .map(|(name, _, kind)| Ok((String::from_utf8(name).map_err(|_| Error::Io)?, kind)))
            .collect()
    }

    fn mkdir(&mut self, path: &str) -> Result<()> {
        self.make(path, &NewFile::new(mode::DIRECTORY | 0o755)).map(|_| ())
    }

    fn rmdir(&mut self, path: &str) -> Result<()> {
        let (dir, name) = self.split(path)?;
        self.fs.unlink(dir, name, true)
    }

    fn unlink(&mut self, path: &str) -> Result<()> {
        let (dir, name) = self.split(path)?;
        self.fs.unlink(dir, name, false)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<()> {
        let from = self.split(from)?;
        let to = self.split(to)?;
        self.fs.rename(from, to)
    }

    fn link(&mut self, from: &str, to: &str) -> Result<()> {
        let ino = self.walk(from)?.ino;
        let (dir, name) = self.split(to)?;
        self.fs.link(ino, dir, name)
    }

    fn symlink(&mut self, target: &str, path: &str) -> Result<()> {
        let new = NewFile::link(mode::SYMLINK | 0o777, target.as_bytes());
        self.make(path, &new).map(|_| ())
    }

    fn readlink(&mut self, path: &str) -> Result<String> {
        let ino = self.walk(path)?.ino;
        String::from_utf8(self.fs.read_link(ino)?).map_err(|_| Error::Io)
    }

    fn chmod(&mut self, path: &str, mode: u32) -> Result<()> {
        let ino = self.walk(path)?.ino;
        let set = SetAttributes { mode: Some(mode), ..SetAttributes::default() };
        self.fs.set_attributes(ino, &set).map(|_| ())
    }

    fn set_mtime(&mut self, path: &str, ns: u64) -> Result<()> {
        let ino = self.walk(path)?.ino;
        let set = SetAttributes { mtime: Some(ns), ..SetAttributes::default() };
        self.fs.set_attributes(ino, &set).map(|_| ())
    }

    fn sync(&mut self) -> Result<()> {
        self.fs.sync()
    }
}
