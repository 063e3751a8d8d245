//! Messages of `services::vfs` on top of [`Vfs`]: windows, arguments, requests that wait.
//!
//! ```text
//! message ── decode ── arguments out of the caller's window (copied, then checked)
//!    ── Vfs ── results into the window ── reply
//!         ├ at a pipe or lock: the token is kept, answered when it can be
//!         └ `Intr`: parked at a mount that another operation owns; tried again when that ends
//! ```
//! There is one `Server` for each worker thread; see [`crate::vfs`] for how they share.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::{Reply, error_message};
use xinim_abi::ipc::{BADGE_ADMIN, Message, ReplyToken};
use xinim_abi::services::pm::FdMap;
use xinim_abi::services::vfs::vfs::{self as api, Call};
use xinim_abi::services::vfs::{FD_MAX, PATH_MAX};
use xinim_fs_kit::{Sink, Source, Window};
use zerocopy::FromBytes;

use crate::data::Transfer;
use crate::pipe::{Opening, Waiter};
use crate::vfs::{Host, Vfs};

/// Longest window of a client; bounds what VFS maps.
pub const WINDOW_MAX: u64 = 16 * 1024 * 1024;
/// Longest single read or write; bounds how long others wait.
pub(crate) const TRANSFER_MAX: usize = 1024 * 1024;

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    pub pid: u32,
    pub badge: u64,
    pub token: ReplyToken,
}

/// A request that waits for a mount, to be done from the start.
#[derive(Clone, Copy, Debug)]
pub struct Parked {
    pub(crate) caller: Caller,
    message: Message,
}

/// VFS with its clients' windows, for one worker.
pub struct Server<H: Host> {
    pub(crate) vfs: Vfs<H>,
}

/// A request is answered now, or its token is kept.
pub(crate) type Answer = Result<Option<Message>>;

impl<H: Host> Server<H> {
    /// A view that has the state gives it back.
    pub fn new(mut vfs: Vfs<H>) -> Self {
        vfs.enter();
        vfs.finish();
        vfs.flush();
        vfs.leave();
        Self { vfs }
    }

    /// The same VFS for another worker.
    pub fn another(&self) -> Self {
        Self { vfs: self.vfs.another() }
    }

    /// VFS itself, with the state, for as long as `work` lasts.
    pub fn with<R>(&mut self, work: impl FnOnce(&mut Vfs<H>) -> R) -> R {
        self.vfs.enter();
        let result = work(&mut self.vfs);
        self.vfs.finish();
        self.vfs.flush();
        self.vfs.leave();
        result
    }

    /// One request. `None`: the reply was sent already or comes later.
    pub fn call(&mut self, caller: Caller, message: &Message) -> Option<Message> {
        self.vfs.enter();
        let mut answer = match self.vfs.noted(caller.pid, message.tag) {
            Some(answered) => Some(answered),
            None => self.attempt(Parked { caller, message: *message }),
        };
        self.vfs.flush();
        if self.has_more() {
            // What is closed is closed for its peer when the caller goes on; on another CPU it may ask the
            // server before this one does. Where another worker is telling a server already, it comes later.
            if answer.is_some() {
                while self.tell_of_a_close() {}
            }
            // First the caller, then what became possible meanwhile.
            if let Some(message) = answer.take() {
                self.vfs.host.reply(caller.token, &message);
            }
            self.run_more();
        }
        self.vfs.leave();
        answer
    }

    /// A process died: its descriptors are closed, its window is unmapped.
    pub fn process_died(&mut self, pid: u32) {
        self.vfs.enter();
        self.vfs.remove_process(pid);
        self.vfs.finish();
        self.vfs.pump_all();
        self.vfs.flush();
        self.run_more();
        self.vfs.leave();
    }

    fn has_more(&self) -> bool {
        !self.vfs.ready.is_empty() || !self.vfs.closing.is_empty() && !self.vfs.telling
    }

    fn run_more(&mut self) {
        while self.has_more() {
            if let Some(parked) = self.vfs.ready.pop_front() {
                let answer = self.attempt(parked);
                self.vfs.flush();
                if let Some(message) = answer {
                    self.vfs.host.reply(parked.caller.token, &message);
                }
            }
            self.tell_of_a_close();
        }
    }

    /// Tells a server that nobody has something of it any more, unless another worker is about to, which then
    /// goes on with the others.
    fn tell_of_a_close(&mut self) -> bool {
        if self.vfs.telling {
            return false;
        }
        let Some((server, cookie)) = self.vfs.closing.pop_front() else { return false };
        self.vfs.telling = true;
        self.vfs.unlocked(|host| {
            host.about_to_wait();
            host.close_attached(&server, cookie);
        });
        self.vfs.telling = false;
        true
    }

    /// Does a request, or parks it.
    fn attempt(&mut self, request: Parked) -> Option<Message> {
        let Parked { caller, message } = request;
        self.vfs.caller = caller.pid;
        let answer = Call::decode(&message).and_then(|call| self.run(caller, call));
        self.vfs.caller = 0;
        let parked = answer.as_ref().err().and_then(|&error| self.vfs.parked(error));
        self.vfs.finish();
        if let Some(mount) = parked {
            match self.vfs.is_mounted(mount) && self.vfs.mount(mount).busy {
                true => self.vfs.mount_mut(mount).parked.push_back(request),
                // It became free, or ended, while this operation was put away.
                false => self.vfs.ready.push_back(request),
            }
            return None;
        }
        self.vfs.pump_all();
        self.vfs.tree.trim();
        let answer = match answer {
            Ok(message) => message,
            Err(error) => Some(error_message(error)),
        };
        if let Some(message) = &answer {
            self.vfs.record_answer(caller.pid, message);
        }
        answer
    }

    pub(crate) fn connect(&mut self, pid: u32, len: u64, window: u32) -> Result<()> {
        if len == 0 || len > WINDOW_MAX {
            self.vfs.host.close(window);
            return Err(Error::Inval);
        }
        let window = self.vfs.host.map_window(window, len as usize)?;
        self.know(pid)?;
        self.vfs.windows.insert(pid, Arc::new(window));
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

    pub(crate) fn inherit(&mut self, pid: u32, r: api::Inherit) -> Result<()> {
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
        self.vfs.windows.remove(&r.child);
        self.vfs.inherit(r.parent, r.child, &map)?;
        if !known && let Err(error) = self.vfs.host.watch(r.child) {
            self.vfs.remove_process(r.child);
            return Err(error);
        }
        Ok(())
    }

    /// Replies with a handle that VFS itself does not keep.
    pub(crate) fn reply_with(&mut self, caller: Caller, handle: u32, message: Message) -> Answer {
        self.vfs.flush();
        self.vfs.host.reply(caller.token, &message);
        self.vfs.host.close(handle);
        Ok(None)
    }

    /// A FIFO was opened: the caller waits for its other end, unless that is there.
    pub(crate) fn opened(&mut self, caller: Caller, fd: u32) -> Answer {
        let Some((id, for_writer)) = self.vfs.open_waits(caller.pid, fd) else {
            return Ok(Some(api::Opened { fd }.encode()));
        };
        let opening = Opening { token: caller.token, pid: caller.pid, fd, for_writer };
        if let Some(pipe) = self.vfs.pipes.get_mut(id) {
            pipe.opening.push(opening);
        }
        Ok(None)
    }

    // --- windows ---------------------------------------------------------------------------

    pub(crate) fn window(&self, pid: u32) -> Result<&Arc<H::Window>> {
        self.vfs.windows.get(&pid).ok_or(Error::Fault)
    }

    pub(crate) fn put(&self, pid: u32, at: usize, bytes: &[u8]) -> Result<()> {
        self.window(pid)?.write(at, bytes)
    }

    pub(crate) fn text(&self, pid: u32, at: usize, len: u32) -> Result<Vec<u8>> {
        if len as usize > PATH_MAX {
            return Err(Error::NameTooLong);
        }
        let mut bytes = vec![0; len as usize];
        self.window(pid)?.read(at, &mut bytes)?;
        Ok(bytes)
    }

    pub(crate) fn two_texts(
        &self,
        pid: u32,
        first: u32,
        second: u32,
    ) -> Result<(Vec<u8>, Vec<u8>)> {
        let one = self.text(pid, 0, first)?;
        let two = self.text(pid, one.len(), second)?;
        Ok((one, two))
    }

    pub(crate) fn bounds(&self, pid: u32, at: u32, len: u32) -> Result<(usize, usize)> {
        let (at, len) = (at as usize, len as usize);
        match at.checked_add(len) {
            Some(end) if end <= self.window(pid)?.len() => Ok((at, len)),
            _ => Err(Error::Fault),
        }
    }

    // --- data ------------------------------------------------------------------------------

    pub(crate) fn read(&mut self, caller: Caller, r: api::Read) -> Answer {
        let Caller { pid, token, .. } = caller;
        let (at, len) = self.bounds(pid, r.at, r.len)?;
        let len = len.min(TRANSFER_MAX);
        let window = self.window(pid)?.clone();
        let mut part = Part { window: &*window, at, len };
        match self.vfs.read(pid, r.fd, r.offset, len, &mut part)? {
            Transfer::Done(count) => Ok(Some(api::Count { count }.encode())),
            Transfer::Pipe { .. } if len == 0 => Ok(Some(api::Count { count: 0 }.encode())),
            Transfer::Pipe { id, at_once } => {
                let pipe = self.vfs.pipes.get_mut(id).ok_or(Error::BadF)?;
                let waiter = Waiter { token, pid, at, len, done: 0, at_once };
                pipe.waiting_readers.push_back(waiter);
                self.vfs.touched.push(id);
                Ok(None)
            }
        }
    }

    pub(crate) fn write(&mut self, caller: Caller, r: api::Write) -> Answer {
        let Caller { pid, token, .. } = caller;
        let (at, len) = self.bounds(pid, r.at, r.len)?;
        let window = self.window(pid)?.clone();
        let short = len.min(TRANSFER_MAX);
        let mut part = Part { window: &*window, at, len: short };
        match self.vfs.write(pid, r.fd, r.offset, short, &mut part)? {
            Transfer::Done(count) => Ok(Some(api::Written { count }.encode())),
            Transfer::Pipe { id, at_once } => {
                let pipe = self.vfs.pipes.get_mut(id).ok_or(Error::BadF)?;
                if pipe.readers == 0 {
                    return Err(Error::Pipe);
                }
                if len == 0 {
                    return Ok(Some(api::Written { count: 0 }.encode()));
                }
                let done = self.vfs.progress(pid).map_or(0, |done| (done as usize).min(len));
                let waiter = Waiter { token, pid, at, len, done, at_once };
                let pipe = self.vfs.pipes.get_mut(id).ok_or(Error::BadF)?;
                pipe.waiting_writers.push_back(waiter);
                self.vfs.touched.push(id);
                Ok(None)
            }
        }
    }
}

pub(crate) fn admin(caller: Caller) -> Result<()> {
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
