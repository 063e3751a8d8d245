//! Server side: messages of `services::fs` become calls of a [`FileSystem`].
//!
//! The server's main loop decodes nothing itself:
//! ```text
//! Request ── serve::Serve::call ──> FileSystem        window: name, data, attributes
//!         <── Message or Error ──
//! ```
//! Everything that comes in is checked: names, bounds, unknown flags. Operations before `Mount` and
//! after `Unmount` are `NoDev`.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Reply;
use xinim_abi::ipc::Message;
use xinim_abi::object::Handle;
use xinim_abi::services::fs::fs::{self, Call};
use xinim_abi::services::fs::{Attributes, mounted, set};
use xinim_abi::services::vfs::{NAME_MAX, PATH_MAX, Stat};
use zerocopy::{FromZeros, IntoBytes};

use crate::{
    DirBuffer, FileSystem, Ino, MountInfo, NewFile, SetAttributes, Sink, Source, Window, check_name,
};

/// A file system with the window of its VFS.
pub struct Serve<F, W> {
    fs: F,
    window: Option<W>,
    /// As `Mount` was answered.
    info: MountInfo,
    /// What VFS holds, and how often.
    held: BTreeMap<Ino, u32>,
}

impl<F: FileSystem, W: Window> Serve<F, W> {
    pub fn new(fs: F) -> Self {
        let info = MountInfo { root: 0, flags: 0 };
        Self { fs, window: None, info, held: BTreeMap::new() }
    }

    pub fn fs(&mut self) -> &mut F {
        &mut self.fs
    }

    /// True between `Mount` and `Unmount`.
    pub fn mounted(&self) -> bool {
        self.window.is_some()
    }

    /// Carries out one request. `map` maps the window of a `Mount`.
    pub fn call(
        &mut self,
        message: &Message,
        map: impl FnOnce(Handle, usize) -> Result<W>,
    ) -> Result<Message> {
        let call = Call::decode(message)?;
        if let Call::Mount(request) = call {
            let len = usize::try_from(request.len).map_err(|_| Error::Inval)?;
            return self.mount(map(request.window, len)?, &request);
        }
        if let Call::Attach(request) = call {
            let len = usize::try_from(request.len).map_err(|_| Error::Inval)?;
            return self.attach(map(request.window, len)?, request.count);
        }
        let Some(window) = &self.window else { return Err(Error::NoDev) };
        let reply = run(&mut self.fs, window, &call)?;
        match call {
            Call::Unmount(_) => self.window = None,
            Call::Hold(r) => *self.held.entry(r.ino).or_default() += 1,
            Call::Release(r) => {
                let left = self.held.get(&r.ino).map_or(0, |count| count - 1);
                match left {
                    0 => drop(self.held.remove(&r.ino)),
                    left => drop(self.held.insert(r.ino, left)),
                }
            }
            Call::Remount(r) => self.info.flags = r.flags,
            _ => {}
        }
        Ok(reply)
    }

    fn mount(&mut self, window: W, request: &fs::Mount) -> Result<Message> {
        if self.window.is_some() {
            // A VFS that came back: what the old one had in flight is written first.
            self.fs.unmount()?;
            self.window = None;
        }
        let source = bytes_at(&window, 0, request.source_len, PATH_MAX)?;
        let held = numbers_at(&window, source.len(), request.held)?;
        let source = String::from_utf8(source).map_err(|_| Error::Inval)?;
        let info = match held.is_empty() {
            true => self.fs.mount(&source, request.flags)?,
            false => self.fs.mount_again(&source, request.flags, &held)?,
        };
        self.window = Some(window);
        self.info = info;
        self.held.clear();
        if info.flags & mounted::HELD != 0 {
            held.iter().for_each(|&ino| *self.held.entry(ino).or_default() += 1);
        }
        Ok(fs::Mounted { root: info.root, flags: info.flags }.encode())
    }

    fn attach(&mut self, window: W, count: u32) -> Result<Message> {
        if self.window.is_none() {
            return Err(Error::NoDev);
        }
        let mut wanted: BTreeMap<Ino, u32> = BTreeMap::new();
        for ino in numbers_at(&window, 0, count)? {
            *wanted.entry(ino).or_default() += 1;
        }
        // An operation of the old instance may have held or released what it did not live to note.
        for (&ino, &count) in &self.held {
            for _ in wanted.get(&ino).copied().unwrap_or(0)..count {
                self.fs.release(ino)?;
            }
        }
        for (&ino, &count) in &wanted {
            for _ in self.held.get(&ino).copied().unwrap_or(0)..count {
                self.fs.hold(ino)?;
            }
        }
        self.held = wanted;
        self.window = Some(window);
        Ok(fs::Attached { root: self.info.root, flags: self.info.flags }.encode())
    }
}

fn run<F: FileSystem, W: Window>(fs: &mut F, window: &W, call: &Call) -> Result<Message> {
    Ok(match *call {
        Call::Mount(_) | Call::Attach(_) => return Err(Error::BadMessage),
        Call::Unmount(_) => {
            fs.unmount()?;
            fs::Unmounted {}.encode()
        }
        Call::Sync(_) => {
            fs.sync()?;
            fs::Synced {}.encode()
        }
        Call::Lookup(r) => {
            let stat = fs.lookup(r.dir, &name_at(window, 0, r.name_len)?)?;
            answer_stat(window, &stat)?;
            fs::LookedUp { ino: stat.ino }.encode()
        }
        Call::GetAttr(r) => {
            answer_stat(window, &fs.attributes(r.ino)?)?;
            fs::Attr {}.encode()
        }
        Call::SetAttr(r) => {
            if r.mask & !set::ALL != 0 {
                return Err(Error::Inval);
            }
            let mut new = Attributes::new_zeroed();
            window.read(0, new.as_mut_bytes())?;
            let change = SetAttributes {
                size: (r.mask & set::SIZE != 0).then_some(new.size),
                mode: (r.mask & set::MODE != 0).then_some(new.mode),
                uid: (r.mask & set::UID != 0).then_some(new.uid),
                gid: (r.mask & set::GID != 0).then_some(new.gid),
                atime: (r.mask & set::ATIME != 0).then_some(new.atime),
                mtime: (r.mask & set::MTIME != 0).then_some(new.mtime),
            };
            answer_stat(window, &fs.set_attributes(r.ino, &change)?)?;
            fs::AttrSet {}.encode()
        }
        Call::Read(r) => {
            let (at, len) = bounds(window, r.at, r.len)?;
            let count = fs.read_to(r.ino, r.offset, len, &mut Part { window, at, len })?;
            fs::Count { count: count as u64 }.encode()
        }
        Call::Write(r) => {
            let (at, len) = bounds(window, r.at, r.len)?;
            let count = fs.write_from(r.ino, r.offset, len, &mut Part { window, at, len })?;
            fs::Written { count: count as u64 }.encode()
        }
        Call::Create(r) => {
            let name = name_at(window, 0, r.name_len)?;
            let target = bytes_at(window, name.len(), r.target_len, PATH_MAX)?;
            let (uid, gid) = (r.owner as u32, (r.owner >> 32) as u32);
            let new = NewFile { mode: r.mode, uid, gid, rdev: r.rdev, target: &target };
            let stat = fs.create(r.dir, &name, &new)?;
            answer_stat(window, &stat)?;
            fs::Created { ino: stat.ino }.encode()
        }
        Call::Unlink(r) => {
            fs.unlink(r.dir, &name_at(window, 0, r.name_len)?, r.directory)?;
            fs::Unlinked {}.encode()
        }
        Call::Rename(r) => {
            let from = name_at(window, 0, r.from_len)?;
            let to = name_at(window, from.len(), r.to_len)?;
            fs.rename((r.from_dir, &from), (r.to_dir, &to))?;
            fs::Renamed {}.encode()
        }
        Call::Link(r) => {
            fs.link(r.ino, r.dir, &name_at(window, 0, r.name_len)?)?;
            fs::Linked {}.encode()
        }
        Call::Readlink(r) => {
            let target = fs.read_link(r.ino)?;
            window.write(0, &target)?;
            fs::Target { len: target.len() as u32 }.encode()
        }
        Call::Readdir(r) => {
            let (_, len) = bounds(window, 0, r.len)?;
            let mut buffer = DirBuffer::new(len);
            fs.read_dir(r.dir, r.cookie, &mut buffer)?;
            window.write(0, buffer.bytes())?;
            fs::Entries { len: buffer.bytes().len() as u32 }.encode()
        }
        Call::Hold(r) => {
            fs.hold(r.ino)?;
            fs::Held {}.encode()
        }
        Call::Release(r) => {
            fs.release(r.ino)?;
            fs::Released {}.encode()
        }
        Call::Redirect(r) => {
            let (cookie, endpoint) = fs.redirect(r.ino)?;
            fs::Redirected { cookie, endpoint }.encode()
        }
        Call::Map(r) => {
            let map = fs.map(r.ino)?;
            fs::Mapped { offset: map.offset, len: map.len, memory: map.memory }.encode()
        }
        Call::StatFs(_) => {
            window.write(0, fs.statfs()?.as_bytes())?;
            fs::StatFsDone {}.encode()
        }
        Call::Fsync(r) => {
            fs.fsync(r.ino)?;
            fs::Fsynced {}.encode()
        }
        Call::Trim(r) => fs::Trimmed { bytes: fs.trim(r.offset, r.len, r.min_len)? }.encode(),
        Call::Discard(r) => {
            fs.discard(r.ino, r.offset, r.len, r.zeroes)?;
            fs::Discarded {}.encode()
        }
        Call::Tell(r) => {
            let text = bytes_at(window, 0, r.len, window.len())?;
            fs.tell(r.kind, &text)?;
            fs::Told {}.encode()
        }
        Call::Remount(r) => fs::Remounted { flags: fs.remount(r.flags)? }.encode(),
    })
}

fn answer_stat(window: &impl Window, stat: &Stat) -> Result<()> {
    window.write(0, stat.as_bytes())
}

fn bounds(window: &impl Window, at: u32, len: u32) -> Result<(usize, usize)> {
    let (at, len) = (at as usize, len as usize);
    let end = at.checked_add(len).ok_or(Error::Fault)?;
    if end > window.len() { Err(Error::Fault) } else { Ok((at, len)) }
}

fn bytes_at(window: &impl Window, at: usize, len: u32, max: usize) -> Result<Vec<u8>> {
    let len = len as usize;
    if len > max {
        return Err(Error::NameTooLong);
    }
    let mut bytes = vec![0; len];
    window.read(at, &mut bytes)?;
    Ok(bytes)
}

fn numbers_at(window: &impl Window, at: usize, count: u32) -> Result<Vec<Ino>> {
    let bytes = bytes_at(window, at, count.saturating_mul(8), window.len())?;
    Ok(bytes.as_chunks::<8>().0.iter().map(|ino| Ino::from_le_bytes(*ino)).collect())
}

fn name_at(window: &impl Window, at: usize, len: u32) -> Result<Vec<u8>> {
    let name = bytes_at(window, at, len, NAME_MAX)?;
    check_name(&name)?;
    Ok(name)
}

/// A part of the window, as source and sink of file data.
struct Part<'a, W> {
    window: &'a W,
    at: usize,
    len: usize,
}

impl<W> Part<'_, W> {
    fn position(&self, at: usize, len: usize) -> Result<usize> {
        let end = at.checked_add(len).ok_or(Error::Fault)?;
        if end > self.len { Err(Error::Fault) } else { Ok(self.at + at) }
    }
}

impl<W: Window> Sink for Part<'_, W> {
    fn put(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        self.window.write(self.position(at, bytes.len())?, bytes)
    }
}

impl<W: Window> Source for Part<'_, W> {
    fn get(&mut self, at: usize, out: &mut [u8]) -> Result<()> {
        self.window.read(self.position(at, out.len())?, out)
    }
}
