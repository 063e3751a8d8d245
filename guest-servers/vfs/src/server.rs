//! Messages of `services::vfs` on top of [`Vfs`]: windows, arguments, waiting pipe requests.
//!
//! ```text
//! message ── decode ── arguments out of the caller's window (copied, then checked)
//!    ── Vfs ── results into the window ── reply      or, at a pipe: a `Waiter`, answered by `pump`
//! ```

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::{Reply, error_message};
use xinim_abi::ipc::{BADGE_ADMIN, Message, ReplyToken};
use xinim_abi::services::pm::FdMap;
use xinim_abi::services::vfs::vfs::{self as api, Call};
use xinim_abi::services::vfs::{FD_MAX, PATH_MAX};
use xinim_fs_kit::{Sink, Source, Window};
use zerocopy::{FromBytes, IntoBytes};

use crate::data::Transfer;
use crate::pipe::Waiter;
use crate::vfs::{Host, Vfs};

/// Longest window of a client; bounds what VFS maps.
pub const WINDOW_MAX: u64 = 16 * 1024 * 1024;
/// Longest single read or write; bounds how long others wait.
const TRANSFER_MAX: usize = 1024 * 1024;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub pid: u32,
    pub badge: u64,
    pub token: ReplyToken,
}

/// VFS with its clients' windows.
pub struct Server<H: Host> {
    pub(crate) vfs: Vfs<H>,
    pub(crate) windows: BTreeMap<u32, H::Window>,
}

/// A request is answered now, or its token is kept.
type Answer = Result<Option<Message>>;

impl<H: Host> Server<H> {
    pub fn new(vfs: Vfs<H>) -> Self {
        Self { vfs, windows: BTreeMap::new() }
    }

    pub fn vfs(&mut self) -> &mut Vfs<H> {
        &mut self.vfs
    }

    /// One request. `None`: the reply was sent already or comes later.
    pub fn call(&mut self, caller: Caller, message: &Message) -> Option<Message> {
        let answer = Call::decode(message).and_then(|call| self.run(caller, call));
        self.pump_all();
        self.vfs.tree.trim();
        match answer {
            Ok(message) => message,
            Err(error) => Some(error_message(error)),
        }
    }

    /// A process died: its descriptors are closed, its window is unmapped.
    pub fn process_died(&mut self, pid: u32) {
        self.windows.remove(&pid);
        self.vfs.remove_process(pid);
        self.pump_all();
    }

    fn run(&mut self, caller: Caller, call: Call) -> Answer {
        let pid = caller.pid;
        let now = |message: Message| Ok(Some(message));
        match call {
            Call::Connect(r) => {
                self.connect(pid, r.len, r.window)?;
                now(api::Connected {}.encode())
            }
            Call::Open(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                now(api::Opened { fd: self.vfs.open(pid, &path, r.flags, r.mode)? }.encode())
            }
            Call::OpenFor(r) => {
                admin(caller)?;
                let path = self.text(pid, 0, r.path_len)?;
                now(api::OpenedFor { fd: self.vfs.open_for(pid, r.parent, &path)? }.encode())
            }
            Call::Close(r) => {
                self.vfs.close(pid, r.fd)?;
                now(api::Closed {}.encode())
            }
            Call::Read(r) => self.read(caller, r),
            Call::Write(r) => self.write(caller, r),
            Call::Seek(r) => {
                let position = self.vfs.seek(pid, r.fd, r.offset, r.whence)?;
                now(api::Position { position }.encode())
            }
            Call::Stat(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                let stat = self.vfs.stat(pid, &path, r.follow)?;
                self.put(pid, 0, stat.as_bytes())?;
                now(api::StatDone {}.encode())
            }
            Call::Fstat(r) => {
                let stat = self.vfs.fstat(pid, r.fd)?;
                self.put(pid, 0, stat.as_bytes())?;
                now(api::FstatDone {}.encode())
            }
            Call::Mkdir(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                self.vfs.mkdir(pid, &path, r.mode)?;
                now(api::MkdirDone {}.encode())
            }
            Call::Unlink(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                self.vfs.unlink(pid, &path, r.directory)?;
                now(api::UnlinkDone {}.encode())
            }
            Call::Rename(r) => {
                let (from, to) = self.two_texts(pid, r.from_len, r.to_len)?;
                self.vfs.rename(pid, &from, &to)?;
                now(api::RenameDone {}.encode())
            }
            Call::Link(r) => {
                let (from, to) = self.two_texts(pid, r.from_len, r.to_len)?;
                self.vfs.link(pid, &from, &to)?;
                now(api::LinkDone {}.encode())
            }
            Call::Symlink(r) => {
                let (target, path) = self.two_texts(pid, r.target_len, r.path_len)?;
                self.vfs.symlink(pid, &target, &path)?;
                now(api::SymlinkDone {}.encode())
            }
            Call::Readlink(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                let target = self.vfs.read_link(pid, &path)?;
                self.put(pid, 0, &target)?;
                now(api::ReadlinkDone { len: target.len() as u32 }.encode())
            }
            Call::Readdir(r) => {
                let (at, len) = self.bounds(pid, r.at, r.len)?;
                let entries = self.vfs.read_dir(pid, r.fd, len.min(TRANSFER_MAX))?;
                self.put(pid, at, entries.bytes())?;
                now(api::ReaddirDone { len: entries.bytes().len() as u32 }.encode())
            }
            Call::Truncate(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                self.vfs.truncate(pid, &path, r.size)?;
                now(api::TruncateDone {}.encode())
            }
            Call::Ftruncate(r) => {
                self.vfs.ftruncate(pid, r.fd, r.size)?;
                now(api::FtruncateDone {}.encode())
            }
            Call::Sync(_) => {
                self.vfs.sync()?;
                now(api::SyncDone {}.encode())
            }
            Call::Fsync(r) => {
                self.vfs.fsync(pid, r.fd)?;
                now(api::FsyncDone {}.encode())
            }
            Call::Statfs(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                let figures = self.vfs.statfs(pid, &path)?;
                self.put(pid, 0, figures.as_bytes())?;
                now(api::StatfsDone {}.encode())
            }
            Call::Mount(r) => {
                let (source, target) = self.two_texts(pid, r.source_len, r.target_len)?;
                let fs_type = self.text(pid, source.len() + target.len(), r.type_len)?;
                self.vfs.mount_at(pid, &source, &target, &fs_type, r.flags)?;
                now(api::MountDone {}.encode())
            }
            Call::Umount(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                self.vfs.umount(pid, &path, r.lazy)?;
                now(api::UmountDone {}.encode())
            }
            Call::Mounts(_) => {
                self.vfs.mount_all();
                let text = self.vfs.mounts_text();
                self.put(pid, 0, text.as_bytes())?;
                now(api::MountsDone { len: text.len() as u32 }.encode())
            }
            Call::Chdir(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                self.vfs.chdir(pid, &path)?;
                now(api::ChdirDone {}.encode())
            }
            Call::Getcwd(_) => {
                let path = self.vfs.getcwd(pid)?;
                self.put(pid, 0, &path)?;
                now(api::GetcwdDone { len: path.len() as u32 }.encode())
            }
            Call::Dup(r) => now(api::DupDone { fd: self.vfs.dup(pid, r.fd, r.at_least)? }.encode()),
            Call::Dup2(r) => {
                self.vfs.dup2(pid, r.from, r.to)?;
                now(api::Dup2Done {}.encode())
            }
            Call::Pipe(_) => {
                let (read, write) = self.vfs.pipe(pid)?;
                now(api::PipeDone { read, write }.encode())
            }
            Call::Redirect(r) => {
                let (cookie, endpoint) = self.vfs.redirect(pid, r.fd)?;
                self.reply_with(caller, endpoint, api::Redirected { cookie, endpoint }.encode())
            }
            Call::Map(r) => {
                let map = self.vfs.map(pid, r.fd)?;
                let reply = api::Mapped { offset: map.offset, len: map.len, memory: map.memory };
                self.reply_with(caller, map.memory, reply.encode())
            }
            Call::Inherit(r) => {
                admin(caller)?;
                self.inherit(pid, r)?;
                now(api::Inherited {}.encode())
            }
            Call::SetTimes(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                self.vfs.set_times(pid, &path, r.mtime)?;
                now(api::SetTimesDone {}.encode())
            }
            Call::Chmod(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                self.vfs.chmod(pid, &path, r.mode)?;
                now(api::ChmodDone {}.encode())
            }
        }
    }

    fn connect(&mut self, pid: u32, len: u64, window: u32) -> Result<()> {
        if len == 0 || len > WINDOW_MAX {
            self.vfs.host.close(window);
            return Err(Error::Inval);
        }
        let window = self.vfs.host.map_window(window, len as usize)?;
        self.know(pid)?;
        self.windows.insert(pid, window);
        Ok(())
    }

    /// Makes a process known and watches it.
    fn know(&mut self, pid: u32) -> Result<()> {
        if self.vfs.add_process(pid)
            && let Err(error) = self.vfs.host.watch(pid)
        {
            self.vfs.remove_process(pid);
            return Err(error);
        }
        Ok(())
    }

    fn inherit(&mut self, pid: u32, r: api::Inherit) -> Result<()> {
        if r.count > FD_MAX {
            return Err(Error::Inval);
        }
        let mut bytes = vec![0; r.count as usize * size_of::<FdMap>()];
        self.window(pid)?.read(0, &mut bytes)?;
        let map: Vec<(u32, u32)> = bytes
            .chunks_exact(size_of::<FdMap>())
            .filter_map(|chunk| FdMap::read_from_bytes(chunk).ok())
            .map(|entry| (entry.child.get(), entry.parent.get()))
            .collect();
        // Known to be watched only if it was there before; `inherit` makes it anew.
        let known = self.vfs.process(r.child).is_ok();
        self.windows.remove(&r.child);
        self.vfs.inherit(r.parent, r.child, &map)?;
        if !known && let Err(error) = self.vfs.host.watch(r.child) {
            self.vfs.remove_process(r.child);
            return Err(error);
        }
        Ok(())
    }

    /// Replies with a handle that VFS itself does not keep.
    fn reply_with(&mut self, caller: Caller, handle: u32, message: Message) -> Answer {
        self.vfs.host.reply(caller.token, &message);
        self.vfs.host.close(handle);
        Ok(None)
    }

    // --- windows ---------------------------------------------------------------------------

    fn window(&self, pid: u32) -> Result<&H::Window> {
        self.windows.get(&pid).ok_or(Error::Fault)
    }

    fn put(&self, pid: u32, at: usize, bytes: &[u8]) -> Result<()> {
        self.window(pid)?.write(at, bytes)
    }

    fn text(&self, pid: u32, at: usize, len: u32) -> Result<Vec<u8>> {
        if len as usize > PATH_MAX {
            return Err(Error::NameTooLong);
        }
        let mut bytes = vec![0; len as usize];
        self.window(pid)?.read(at, &mut bytes)?;
        Ok(bytes)
    }

    fn two_texts(&self, pid: u32, first: u32, second: u32) -> Result<(Vec<u8>, Vec<u8>)> {
        let one = self.text(pid, 0, first)?;
        let two = self.text(pid, one.len(), second)?;
        Ok((one, two))
    }

    fn bounds(&self, pid: u32, at: u32, len: u32) -> Result<(usize, usize)> {
        let (at, len) = (at as usize, len as usize);
        match at.checked_add(len) {
            Some(end) if end <= self.window(pid)?.len() => Ok((at, len)),
            _ => Err(Error::Fault),
        }
    }

    // --- data ------------------------------------------------------------------------------

    fn read(&mut self, caller: Caller, r: api::Read) -> Answer {
        let Caller { pid, token, .. } = caller;
        let (at, len) = self.bounds(pid, r.at, r.len)?;
        let len = len.min(TRANSFER_MAX);
        let window = self.windows.get(&pid).ok_or(Error::Fault)?;
        let mut part = Part { window, at, len };
        match self.vfs.read(pid, r.fd, r.offset, len, &mut part)? {
            Transfer::Done(count) => Ok(Some(api::Count { count }.encode())),
            Transfer::Pipe(_) if len == 0 => Ok(Some(api::Count { count: 0 }.encode())),
            Transfer::Pipe(id) => {
                let pipe = self.vfs.pipes.get_mut(id).ok_or(Error::BadF)?;
                pipe.waiting_readers.push_back(Waiter { token, pid, at, len, done: 0 });
                Ok(None)
            }
        }
    }

    fn write(&mut self, caller: Caller, r: api::Write) -> Answer {
        let Caller { pid, token, .. } = caller;
        let (at, len) = self.bounds(pid, r.at, r.len)?;
        let window = self.windows.get(&pid).ok_or(Error::Fault)?;
        let short = len.min(TRANSFER_MAX);
        let mut part = Part { window, at, len: short };
        match self.vfs.write(pid, r.fd, r.offset, short, &mut part)? {
            Transfer::Done(count) => Ok(Some(api::Written { count }.encode())),
            Transfer::Pipe(id) => {
                let pipe = self.vfs.pipes.get_mut(id).ok_or(Error::BadF)?;
                if pipe.readers == 0 {
                    return Err(Error::Pipe);
                }
                if len == 0 {
                    return Ok(Some(api::Written { count: 0 }.encode()));
                }
                pipe.waiting_writers.push_back(Waiter { token, pid, at, len, done: 0 });
                Ok(None)
            }
        }
    }
}

fn admin(caller: Caller) -> Result<()> {
    if caller.badge & BADGE_ADMIN != 0 { Ok(()) } else { Err(Error::Perm) }
}

/// A part of a client's window, as source and sink of file data.
struct Part<'a, W> {
    window: &'a W,
    at: usize,
    len: usize,
}

impl<W> Part<'_, W> {
    fn position(&self, at: usize, len: usize) -> Result<usize> {
        match at.checked_add(len) {
            Some(end) if end <= self.len => Ok(self.at + at),
            _ => Err(Error::Fault),
        }
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
