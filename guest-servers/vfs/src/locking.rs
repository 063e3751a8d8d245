//! Locks of files: from descriptors to [`Locks`](crate::locks::Locks), and their end at close and
//! death.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Reply;
use xinim_abi::ipc::ReplyToken;
use xinim_abi::services::vfs::{lock, mode, vfs as api};

use crate::files::{FileId, Object};
use crate::locks::{END, Lock, Owner, Waiting};
use crate::mounts::MountId;
use crate::vfs::{Host, Vfs};

/// A file, whatever name it was opened by.
pub(crate) type Key = (MountId, xinim_fs_kit::Ino);

/// What became of a request for a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Locking {
    Done(api::Locked),
    Waits,
}

impl<H: Host> Vfs<H> {
    /// See `vfs::Lock`.
    pub fn lock(&mut self, pid: u32, request: &api::Lock, token: ReplyToken) -> Result<Locking> {
        let api::Lock { fd, kind, start, len } = *request;
        let action = kind & 3;
        let flags = lock::WAIT | lock::TEST | lock::OPEN_FILE;
        if kind & !(3 | flags) != 0 || action == 3 || kind & lock::TEST != 0 && action == 0 {
            return Err(Error::Inval);
        }
        let end = match len {
            0 => END,
            len => start.checked_add(len).ok_or(Error::Overflow)?,
        };
        let of_file = kind & lock::OPEN_FILE != 0;
        let file_id = self.file_id(pid, fd)?;
        let file = self.file(pid, fd)?;
        let Object::Node(node) = file.object else { return Err(Error::Inval) };
        if !of_file {
            let allowed = match action {
                lock::READ => file.readable(),
                lock::WRITE => file.writable(),
                _ => true,
            };
            if !allowed {
                return Err(Error::BadF);
            }
        }
        if !matches!(self.tree.node(node).kind, mode::REGULAR | mode::DIRECTORY) {
            return Err(Error::Inval);
        }
        let key = (self.tree.node(node).mount, self.live_ino(node)?);
        let owner = if of_file { Owner::File(file_id) } else { Owner::Process(pid) };
        let wanted = Lock { owner, pid, start, end, exclusive: action == lock::WRITE };
        let none = api::Locked { kind: lock::UNLOCK, pid: 0, start: 0, len: 0 };
        if kind & lock::TEST != 0 {
            return Ok(Locking::Done(match self.locks.conflict(key, &wanted) {
                None => none,
                Some(held) => api::Locked {
                    kind: if held.exclusive { lock::WRITE } else { lock::READ },
                    pid: held.pid,
                    start: held.start,
                    len: if held.end == END { 0 } else { held.end - held.start },
                },
            }));
        }
        if of_file && let Some(file) = self.files.get_mut(file_id) {
            file.locked = true;
        }
        if action == lock::UNLOCK {
            let granted = self.locks.release(key, owner, start, end);
            self.answer_granted(granted);
            return Ok(Locking::Done(none));
        }
        match self.locks.take(key, wanted) {
            Ok(()) => {
                // A shared lock instead of an exclusive one lets readers in.
                let granted = self.locks.release(key, owner, 0, 0);
                self.answer_granted(granted);
                Ok(Locking::Done(api::Locked { kind: action, pid, start, len }))
            }
            Err(Error::Again) if kind & lock::WAIT != 0 => {
                self.locks.wait(key, wanted, token)?;
                Ok(Locking::Waits)
            }
            Err(error) => Err(error),
        }
    }

    fn answer_granted(&mut self, granted: Vec<Waiting>) {
        for Waiting { lock: got, token } in granted {
            let reply = api::Locked {
                kind: if got.exclusive { lock::WRITE } else { lock::READ },
                pid: got.pid,
                start: got.start,
                len: if got.end == END { 0 } else { got.end - got.start },
            };
            self.answer(got.pid, token, reply.encode());
        }
    }

    /// A process closes a descriptor: its locks on that file go, whichever descriptor they were
    /// taken with (POSIX).
    pub(crate) fn drop_process_locks(&mut self, pid: u32, file: FileId) {
        if self.locks.is_empty() {
            return;
        }
        let Some(Object::Node(node)) = self.files.get(file).map(|file| file.object) else { return };
        let node = self.tree.node(node);
        let key = (node.mount, node.ino);
        let granted = self.locks.release(key, Owner::Process(pid), 0, END);
        self.answer_granted(granted);
    }

    /// An open file ends, and its locks with it.
    pub(crate) fn drop_file_locks(&mut self, file: FileId) {
        if self.files.get(file).is_some_and(|file| file.locked) {
            self.drop_locks(Owner::File(file));
        }
    }

    /// A process is gone: so are its locks and its wishes for some.
    pub(crate) fn drop_locks_of(&mut self, pid: u32) {
        self.locks.forget_waiting(pid);
        self.drop_locks(Owner::Process(pid));
    }

    fn drop_locks(&mut self, owner: Owner) {
        for key in self.locks.files_of(owner) {
            let granted = self.locks.release(key, owner, 0, END);
            self.answer_granted(granted);
        }
    }

    /// One lock a line, as `report::LOCKS` says.
    pub(crate) fn locks_text(&self) -> String {
        let mut text = String::new();
        for ((mount, ino), held, waits) in self.locks.all() {
            let waits = if waits { "waits " } else { "" };
            let owner = if let Owner::File(_) = held.owner { "file" } else { "process" };
            let kind = if held.exclusive { "write" } else { "read" };
            let end = match held.end {
                END => String::from("eof"),
                end => format!("{}", end - 1),
            };
            let (pid, start) = (held.pid, held.start);
            text += &format!("{waits}{owner} {kind} {pid} {}:{ino} {start} {end}\n", mount + 1);
        }
        text
    }
}
