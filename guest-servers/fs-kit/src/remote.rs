//! VFS's side: a [`FileSystem`] made of messages to a server.
//!
//! One window per server; the head of it carries names and attributes, file data starts at
//! [`DATA_AT`]. The server is untrusted: counts above what was asked, names cut short and
//! malformed attributes are `BadReply`.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Request;
use xinim_abi::object::Handle;
use xinim_abi::services::fs::{Attributes, fs, set};
use xinim_abi::services::vfs::{PATH_MAX, Stat, StatFs};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::{
    DirBuffer, FileSystem, Ino, Map, MountInfo, NewFile, SetAttributes, Sink, Source, Window,
};

/// Where file data starts in the window; a page, so that data is page-aligned.
const DATA_AT: usize = 4096;
/// Bytes that go from window to window at once: through the first-level cache.
const HOP: usize = 16 * 1024;
/// Instances tried in a row when each dies at its mount.
const RECOVERIES: u32 = 3;

/// How messages get to the server.
pub trait Transport {
    type Window: Window;
    /// Sends the request and waits for the reply. Must not repeat it by itself.
    fn call<R: Request>(&mut self, request: &R) -> Result<R::Reply>;
    fn window(&self) -> &Self::Window;
    /// A handle to the window that goes with `Mount`.
    fn window_handle(&self) -> Handle;
    /// Finds the server's next instance after it died. `ServerDied`: there will be none.
    fn reconnect(&mut self) -> Result<()>;
}

/// A server behind a transport.
pub struct Remote<T> {
    transport: T,
    /// What it was mounted with, for the next instance.
    source: String,
    flags: u32,
}

impl<T: Transport> Remote<T> {
    pub fn new(transport: T) -> Self {
        Self { transport, source: String::new(), flags: 0 }
    }

    /// A server that another instance of VFS had mounted so.
    pub fn adopted(transport: T, source: &str, flags: u32) -> Self {
        Self { transport, source: String::from(source), flags }
    }

    /// What it was mounted with.
    pub fn mounted_with(&self) -> (&str, u32) {
        (&self.source, self.flags)
    }

    pub fn transport(&mut self) -> &mut T {
        &mut self.transport
    }

    fn put(&self, at: usize, bytes: &[u8]) -> Result<u32> {
        self.transport.window().write(at, bytes)?;
        Ok(bytes.len() as u32)
    }

    fn stat(&self) -> Result<Stat> {
        let mut stat = Stat::new_zeroed();
        self.transport.window().read(0, stat.as_mut_bytes())?;
        Ok(stat)
    }

    fn data_len(&self) -> usize {
        self.transport.window().len().saturating_sub(DATA_AT)
    }

    fn mount_now(&mut self, held: &[Ino]) -> Result<MountInfo> {
        let source_len = self.put(0, self.source.as_bytes())?;
        let numbers = numbers(held);
        let fits = self.source.len() + numbers.len() <= self.transport.window().len();
        let held = if fits { self.put(self.source.len(), &numbers)? / 8 } else { 0 };
        let reply = self.transport.call(&fs::Mount {
            flags: self.flags,
            source_len,
            len: self.transport.window().len() as u64,
            held,
            window: self.transport.window_handle(),
        })?;
        Ok(MountInfo { root: reply.root, flags: reply.flags })
    }
}

/// Inode numbers as they travel through the window.
fn numbers(held: &[Ino]) -> Vec<u8> {
    held.iter().flat_map(|ino| ino.to_le_bytes()).collect()
}

impl<T: Transport> FileSystem for Remote<T> {
    fn mount(&mut self, source: &str, flags: u32) -> Result<MountInfo> {
        if source.len() > PATH_MAX {
            return Err(Error::NameTooLong);
        }
        self.source = String::from(source);
        self.flags = flags;
        self.mount_now(&[])
    }

    fn unmount(&mut self) -> Result<()> {
        self.transport.call(&fs::Unmount {}).map(|_| ())
    }

    fn sync(&mut self) -> Result<()> {
        self.transport.call(&fs::Sync {}).map(|_| ())
    }

    fn lookup(&mut self, dir: Ino, name: &[u8]) -> Result<Stat> {
        let name_len = self.put(0, name)?;
        let reply = self.transport.call(&fs::Lookup { dir, name_len })?;
        Ok(Stat { ino: reply.ino, ..self.stat()? })
    }

    fn attributes(&mut self, ino: Ino) -> Result<Stat> {
        self.transport.call(&fs::GetAttr { ino })?;
        Ok(Stat { ino, ..self.stat()? })
    }

    fn set_attributes(&mut self, ino: Ino, change: &SetAttributes) -> Result<Stat> {
        let mut mask = 0;
        for (present, bit) in [
            (change.size.is_some(), set::SIZE),
            (change.mode.is_some(), set::MODE),
            (change.uid.is_some(), set::UID),
            (change.gid.is_some(), set::GID),
            (change.atime.is_some(), set::ATIME),
            (change.mtime.is_some(), set::MTIME),
        ] {
            mask |= if present { bit } else { 0 };
        }
        let attributes = Attributes {
            size: change.size.unwrap_or(0),
            atime: change.atime.unwrap_or(0),
            mtime: change.mtime.unwrap_or(0),
            mode: change.mode.unwrap_or(0),
            uid: change.uid.unwrap_or(0),
            gid: change.gid.unwrap_or(0),
            reserved: 0,
        };
        self.put(0, attributes.as_bytes())?;
        self.transport.call(&fs::SetAttr { ino, mask })?;
        Ok(Stat { ino, ..self.stat()? })
    }

    fn read(&mut self, ino: Ino, offset: u64, mut out: &mut [u8]) -> Result<usize> {
        let len = out.len();
        self.read_to(ino, offset, len, &mut out)
    }

    fn write(&mut self, ino: Ino, offset: u64, mut data: &[u8]) -> Result<usize> {
        self.write_from(ino, offset, data.len(), &mut data)
    }

    fn create(&mut self, dir: Ino, name: &[u8], new: &NewFile<'_>) -> Result<Stat> {
        let name_len = self.put(0, name)?;
        let target_len = self.put(name.len(), new.target)?;
        let owner = u64::from(new.uid) | u64::from(new.gid) << 32;
        let &NewFile { mode, rdev, .. } = new;
        let request = fs::Create { dir, name_len, mode, target_len, owner, rdev };
        let reply = self.transport.call(&request)?;
        Ok(Stat { ino: reply.ino, ..self.stat()? })
    }

    fn unlink(&mut self, dir: Ino, name: &[u8], directory: bool) -> Result<()> {
        let name_len = self.put(0, name)?;
        self.transport.call(&fs::Unlink { dir, name_len, directory }).map(|_| ())
    }

    fn rename(&mut self, from: (Ino, &[u8]), to: (Ino, &[u8])) -> Result<()> {
        let from_len = self.put(0, from.1)?;
        let to_len = self.put(from.1.len(), to.1)?;
        let request = fs::Rename { from_dir: from.0, to_dir: to.0, from_len, to_len };
        self.transport.call(&request).map(|_| ())
    }

    fn link(&mut self, ino: Ino, dir: Ino, name: &[u8]) -> Result<()> {
        let name_len = self.put(0, name)?;
        self.transport.call(&fs::Link { ino, dir, name_len }).map(|_| ())
    }

    fn read_link(&mut self, ino: Ino) -> Result<Vec<u8>> {
        let len = self.transport.call(&fs::Readlink { ino })?.len as usize;
        if len == 0 || len > PATH_MAX {
            return Err(Error::BadReply);
        }
        let mut target = vec![0; len];
        self.transport.window().read(0, &mut target)?;
        Ok(target)
    }

    fn read_dir(&mut self, dir: Ino, cookie: u64, out: &mut DirBuffer) -> Result<()> {
        let len = out.room().min(self.transport.window().len());
        let reply = self.transport.call(&fs::Readdir { dir, cookie, len: len as u32 })?;
        let count = reply.len as usize;
        if count > len {
            return Err(Error::BadReply);
        }
        let mut bytes = vec![0; count];
        self.transport.window().read(0, &mut bytes)?;
        out.extend(&bytes);
        Ok(())
    }

    fn hold(&mut self, ino: Ino) -> Result<()> {
        self.transport.call(&fs::Hold { ino }).map(|_| ())
    }

    fn release(&mut self, ino: Ino) -> Result<()> {
        self.transport.call(&fs::Release { ino }).map(|_| ())
    }

    fn statfs(&mut self) -> Result<StatFs> {
        self.transport.call(&fs::StatFs {})?;
        let mut bytes = [0; size_of::<StatFs>()];
        self.transport.window().read(0, &mut bytes)?;
        StatFs::read_from_bytes(&bytes).map_err(|_| Error::BadReply)
    }

    fn fsync(&mut self, ino: Ino) -> Result<()> {
        self.transport.call(&fs::Fsync { ino }).map(|_| ())
    }

    fn redirect(&mut self, ino: Ino) -> Result<(u64, Handle)> {
        let reply = self.transport.call(&fs::Redirect { ino })?;
        Ok((reply.cookie, reply.endpoint))
    }

    fn map(&mut self, ino: Ino) -> Result<Map> {
        let reply = self.transport.call(&fs::Map { ino })?;
        Ok(Map { offset: reply.offset, len: reply.len, memory: reply.memory })
    }

    fn trim(&mut self, offset: u64, len: u64, min_len: u64) -> Result<u64> {
        Ok(self.transport.call(&fs::Trim { offset, len, min_len })?.bytes)
    }

    fn discard(&mut self, ino: Ino, offset: u64, len: u64, zeroes: bool) -> Result<()> {
        self.transport.call(&fs::Discard { ino, offset, len, zeroes }).map(drop)
    }

    fn tell(&mut self, kind: u32, text: &[u8]) -> Result<()> {
        let text = &text[..text.len().min(self.transport.window().len())];
        let len = self.put(0, text)?;
        self.transport.call(&fs::Tell { kind, len }).map(|_| ())
    }

    fn remount(&mut self, flags: u32) -> Result<u32> {
        let granted = self.transport.call(&fs::Remount { flags })?.flags;
        // For the next instance.
        self.flags = flags;
        Ok(granted)
    }

    fn attach(&mut self, held: &[Ino]) -> Result<MountInfo> {
        let bytes = numbers(held);
        if bytes.len() > self.transport.window().len() {
            return Err(Error::Limit);
        }
        self.put(0, &bytes)?;
        let reply = self.transport.call(&fs::Attach {
            count: held.len() as u32,
            len: self.transport.window().len() as u64,
            window: self.transport.window_handle(),
        })?;
        Ok(MountInfo { root: reply.root, flags: reply.flags })
    }

    fn recover(&mut self, held: &[Ino]) -> Result<MountInfo> {
        for _ in 0..RECOVERIES {
            self.transport.reconnect()?;
            match self.mount_now(held) {
                // This instance died as well.
                Err(Error::ServerDied) => {}
                result => return result,
            }
        }
        Err(Error::ServerDied)
    }

    fn read_to(&mut self, ino: Ino, offset: u64, len: usize, out: &mut dyn Sink) -> Result<usize> {
        if self.data_len() == 0 {
            return Err(Error::NoDev);
        }
        let mut hop = vec![0; len.min(HOP)];
        let mut done = 0;
        while done < len {
            let part = (len - done).min(self.data_len());
            let Some(from) = offset.checked_add(done as u64) else { break };
            let request = fs::Read { ino, offset: from, at: DATA_AT as u32, len: part as u32 };
            let count = match self.transport.call(&request) {
                Ok(reply) => reply.count,
                Err(Error::ServerDied) => return Err(Error::ServerDied),
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            };
            let count = usize::try_from(count).map_err(|_| Error::BadReply)?;
            if count > part {
                return Err(Error::BadReply);
            }
            for start in (0..count).step_by(HOP) {
                let piece = &mut hop[..(count - start).min(HOP)];
                self.transport.window().read(DATA_AT + start, piece)?;
                out.put(done + start, piece)?;
            }
            done += count;
            if count < part {
                break;
            }
        }
        Ok(done)
    }

    fn write_from(
        &mut self,
        ino: Ino,
        offset: u64,
        len: usize,
        from: &mut dyn Source,
    ) -> Result<usize> {
        if self.data_len() == 0 {
            return Err(Error::NoDev);
        }
        let mut hop = vec![0; len.min(HOP)];
        let mut done = 0;
        while done < len {
            let part = (len - done).min(self.data_len());
            for start in (0..part).step_by(HOP) {
                let piece = &mut hop[..(part - start).min(HOP)];
                from.get(done + start, piece)?;
                self.transport.window().write(DATA_AT + start, piece)?;
            }
            let to = offset.checked_add(done as u64).ok_or(Error::FBig)?;
            let request = fs::Write { ino, offset: to, at: DATA_AT as u32, len: part as u32 };
            let count = match self.transport.call(&request) {
                Ok(reply) => reply.count,
                Err(Error::ServerDied) => return Err(Error::ServerDied),
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            };
            let count = usize::try_from(count).map_err(|_| Error::BadReply)?;
            if count > part {
                return Err(Error::BadReply);
            }
            done += count;
            if count < part {
                break;
            }
        }
        Ok(done)
    }
}
