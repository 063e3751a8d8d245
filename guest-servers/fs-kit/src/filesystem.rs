//! The operations of a file system as a trait. See `xinim_abi::services::fs` for the contract of
//! each; here are only the types.

use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::object::Handle;
use xinim_abi::services::vfs::{NAME_MAX, Stat, StatFs};

use crate::{DirBuffer, Sink, Source};

/// A server's number for a file.
pub type Ino = u64;

/// What a successful mount answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MountInfo {
    pub root: Ino,
    /// `vfs::mount` flags as granted, and `fs::mounted` flags.
    pub flags: u32,
}

/// What to change; `None` stays. Times are nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SetAttributes {
    pub size: Option<u64>,
    /// Permission bits; the type cannot change.
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub atime: Option<u64>,
    pub mtime: Option<u64>,
}

impl SetAttributes {
    /// Only the access time changes, because somebody read the file: ctime stays.
    pub fn only_atime(&self) -> bool {
        *self == Self { atime: self.atime, ..Self::default() }
    }
}

/// What a new file is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewFile<'a> {
    /// Type and permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Major << 16 | minor, for device files; else 0.
    pub rdev: u32,
    /// Of a symbolic link; else empty.
    pub target: &'a [u8],
}

impl<'a> NewFile<'a> {
    /// Owned by root.
    pub fn new(mode: u32) -> Self {
        Self { mode, ..Self::default() }
    }

    /// A symbolic link.
    pub fn link(mode: u32, target: &'a [u8]) -> Self {
        Self { mode, target, ..Self::default() }
    }
}

/// A file's bytes as they lie in a memory object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Map {
    pub offset: u64,
    pub len: u64,
    pub memory: Handle,
}

/// Bytes moved at once by the default [`FileSystem::read_to`] and [`FileSystem::write_from`].
const CHUNK: usize = 64 * 1024;

/// A mounted file system. Names are one component, checked by the caller ([`check_name`]).
pub trait FileSystem {
    /// `Inval`: the source holds another file system.
    fn mount(&mut self, source: &str, flags: u32) -> Result<MountInfo>;
    /// As `mount`, where an instance before this one held files without a name, under these numbers. Answers
    /// `mounted::HELD` if it holds all of them again, else none is.
    fn mount_again(&mut self, source: &str, flags: u32, _held: &[Ino]) -> Result<MountInfo> {
        self.mount(source, flags)
    }
    fn unmount(&mut self) -> Result<()>;
    fn sync(&mut self) -> Result<()>;

    fn lookup(&mut self, dir: Ino, name: &[u8]) -> Result<Stat>;
    fn attributes(&mut self, ino: Ino) -> Result<Stat>;
    fn set_attributes(&mut self, ino: Ino, set: &SetAttributes) -> Result<Stat>;

    /// Fills `out` from `offset`; less only at the end of the file.
    fn read(&mut self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize>;
    /// Takes all of `data`, or less when space ran out; `NoSpc` when nothing fits.
    fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Result<usize>;

    /// `NotSup`: the format has no files of this type; `Inval`: there is no such type.
    fn create(&mut self, dir: Ino, name: &[u8], new: &NewFile<'_>) -> Result<Stat>;
    fn unlink(&mut self, dir: Ino, name: &[u8], directory: bool) -> Result<()>;
    fn rename(&mut self, from: (Ino, &[u8]), to: (Ino, &[u8])) -> Result<()>;
    fn link(&mut self, ino: Ino, dir: Ino, name: &[u8]) -> Result<()>;
    fn read_link(&mut self, ino: Ino) -> Result<Vec<u8>>;
    /// Entries behind `cookie` (0: the start), `.` and `..` included, until `out` is full.
    fn read_dir(&mut self, dir: Ino, cookie: u64, out: &mut DirBuffer) -> Result<()>;

    fn hold(&mut self, ino: Ino) -> Result<()>;
    fn release(&mut self, ino: Ino) -> Result<()>;
    fn statfs(&mut self) -> Result<StatFs>;
    fn fsync(&mut self, ino: Ino) -> Result<()>;

    /// For character devices: cookie and endpoint of who serves it. `NotSup`: `read` and `write` do.
    fn redirect(&mut self, _ino: Ino) -> Result<(u64, Handle)> {
        Err(Error::NotSup)
    }

    /// `NotSup` unless the file's bytes lie in memory as they are, page-aligned.
    fn map(&mut self, _ino: Ino) -> Result<Map> {
        Err(Error::NotSup)
    }

    /// Discards free blocks within `len` bytes from `offset` of the device, in runs of at least
    /// `min_len`; answers how many bytes.
    fn trim(&mut self, _offset: u64, _len: u64, _min_len: u64) -> Result<u64> {
        Err(Error::NotSup)
    }

    /// Of a block device: these blocks are not needed any more, or with `zeroes` shall read as zeros.
    fn discard(&mut self, _ino: Ino, _offset: u64, _len: u64, _zeroes: bool) -> Result<()> {
        Err(Error::NotTy)
    }

    /// Other `vfs::mount` flags; answers those in force. `NotSup`: unmount and mount again.
    fn remount(&mut self, _flags: u32) -> Result<u32> {
        Err(Error::NotSup)
    }

    /// Whether anything written is not on the device yet. Then it is called about once a second with
    /// `tick`, and writes what has waited long, without making anybody wait.
    fn background(&mut self, _tick: bool) -> bool {
        false
    }

    /// VFS tells a `vfs::report` about itself, to one that asked for it ([`fs::mounted::REPORTS`](
    /// xinim_abi::services::fs::mounted::REPORTS)).
    fn tell(&mut self, _kind: u32, _text: &[u8]) -> Result<()> {
        Err(Error::NotSup)
    }

    /// For servers behind messages: a new instance of VFS goes on with the mount, of which it holds
    /// these numbers.
    fn attach(&mut self, _held: &[Ino]) -> Result<MountInfo> {
        Err(Error::NotSup)
    }

    /// A new server stands where one died: mount it again as before, with what is held without a name.
    /// `ServerDied`: there is none.
    fn recover(&mut self, _held: &[Ino]) -> Result<MountInfo> {
        Err(Error::ServerDied)
    }

    /// As [`FileSystem::read`], into a sink. Override it where the bytes need no buffer between.
    fn read_to(&mut self, ino: Ino, offset: u64, len: usize, out: &mut dyn Sink) -> Result<usize> {
        let mut buffer = vec![0; len.min(CHUNK)];
        let mut done = 0;
        while done < len {
            let part = (len - done).min(CHUNK);
            let Some(from) = offset.checked_add(done as u64) else { break };
            let count = match self.read(ino, from, &mut buffer[..part]) {
                Ok(count) => count.min(part),
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            };
            out.put(done, &buffer[..count])?;
            done += count;
            if count < part {
                break;
            }
        }
        Ok(done)
    }

    /// As [`FileSystem::write`], from a source.
    fn write_from(
        &mut self,
        ino: Ino,
        offset: u64,
        len: usize,
        from: &mut dyn Source,
    ) -> Result<usize> {
        let mut buffer = vec![0; len.min(CHUNK)];
        let mut done = 0;
        while done < len {
            let part = (len - done).min(CHUNK);
            from.get(done, &mut buffer[..part])?;
            let to = offset.checked_add(done as u64).ok_or(Error::FBig);
            let count = match to.and_then(|to| self.write(ino, to, &buffer[..part])) {
                Ok(count) => count.min(part),
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            };
            done += count;
            if count < part {
                break;
            }
        }
        Ok(done)
    }
}

impl<T: FileSystem + ?Sized> FileSystem for alloc::boxed::Box<T> {
    fn mount(&mut self, source: &str, flags: u32) -> Result<MountInfo> {
        (**self).mount(source, flags)
    }
    fn unmount(&mut self) -> Result<()> {
        (**self).unmount()
    }
    fn sync(&mut self) -> Result<()> {
        (**self).sync()
    }
    fn lookup(&mut self, dir: Ino, name: &[u8]) -> Result<Stat> {
        (**self).lookup(dir, name)
    }
    fn attributes(&mut self, ino: Ino) -> Result<Stat> {
        (**self).attributes(ino)
    }
    fn set_attributes(&mut self, ino: Ino, set: &SetAttributes) -> Result<Stat> {
        (**self).set_attributes(ino, set)
    }
    fn read(&mut self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize> {
        (**self).read(ino, offset, out)
    }
    fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Result<usize> {
        (**self).write(ino, offset, data)
    }
    fn create(&mut self, dir: Ino, name: &[u8], new: &NewFile<'_>) -> Result<Stat> {
        (**self).create(dir, name, new)
    }
    fn unlink(&mut self, dir: Ino, name: &[u8], directory: bool) -> Result<()> {
        (**self).unlink(dir, name, directory)
    }
    fn rename(&mut self, from: (Ino, &[u8]), to: (Ino, &[u8])) -> Result<()> {
        (**self).rename(from, to)
    }
    fn link(&mut self, ino: Ino, dir: Ino, name: &[u8]) -> Result<()> {
        (**self).link(ino, dir, name)
    }
    fn read_link(&mut self, ino: Ino) -> Result<Vec<u8>> {
        (**self).read_link(ino)
    }
    fn read_dir(&mut self, dir: Ino, cookie: u64, out: &mut DirBuffer) -> Result<()> {
        (**self).read_dir(dir, cookie, out)
    }
    fn hold(&mut self, ino: Ino) -> Result<()> {
        (**self).hold(ino)
    }
    fn release(&mut self, ino: Ino) -> Result<()> {
        (**self).release(ino)
    }
    fn statfs(&mut self) -> Result<StatFs> {
        (**self).statfs()
    }
    fn fsync(&mut self, ino: Ino) -> Result<()> {
        (**self).fsync(ino)
    }
    fn redirect(&mut self, ino: Ino) -> Result<(u64, Handle)> {
        (**self).redirect(ino)
    }
    fn map(&mut self, ino: Ino) -> Result<Map> {
        (**self).map(ino)
    }
    fn trim(&mut self, offset: u64, len: u64, min_len: u64) -> Result<u64> {
        (**self).trim(offset, len, min_len)
    }
    fn discard(&mut self, ino: Ino, offset: u64, len: u64, zeroes: bool) -> Result<()> {
        (**self).discard(ino, offset, len, zeroes)
    }
    fn remount(&mut self, flags: u32) -> Result<u32> {
        (**self).remount(flags)
    }
    fn background(&mut self, tick: bool) -> bool {
        (**self).background(tick)
    }
    fn tell(&mut self, kind: u32, text: &[u8]) -> Result<()> {
        (**self).tell(kind, text)
    }
    fn attach(&mut self, held: &[Ino]) -> Result<MountInfo> {
        (**self).attach(held)
    }
    fn recover(&mut self, held: &[Ino]) -> Result<MountInfo> {
        (**self).recover(held)
    }
    fn mount_again(&mut self, source: &str, flags: u32, held: &[Ino]) -> Result<MountInfo> {
        (**self).mount_again(source, flags, held)
    }
    fn read_to(&mut self, ino: Ino, offset: u64, len: usize, out: &mut dyn Sink) -> Result<usize> {
        (**self).read_to(ino, offset, len, out)
    }
    fn write_from(
        &mut self,
        ino: Ino,
        offset: u64,
        len: usize,
        from: &mut dyn Source,
    ) -> Result<usize> {
        (**self).write_from(ino, offset, len, from)
    }
}

/// A name as the `fs` interface allows it: one component, not `.` or `..`.
pub fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX {
        return Err(Error::NameTooLong);
    }
    if matches!(name, b"" | b"." | b"..") || name.iter().any(|&byte| byte == b'/' || byte == 0) {
        return Err(Error::Inval);
    }
    Ok(())
}
