//! Polls: which descriptors have events, and who is to be told when that changes.
//!
//! A poll never waits here: if nothing is ready, VFS remembers which pipes it asked about and raises
//! a bit at the caller's endpoint, once, when something happens to one of them. So one wait of the
//! caller covers descriptors of several servers and a timer.

use alloc::vec::Vec;

use xinim_abi::error::Result;
use xinim_abi::object::Handle;
use xinim_abi::services::vfs::{PollFd, mode, poll};

use crate::files::Object;
use crate::pipe::PipeId;
use crate::vfs::{Host, Vfs};

/// Polls of one process that wait at a time.
const POLLS_MAX: usize = 64;

#[derive(Debug)]
pub(crate) struct PollWait {
    pid: u32,
    bit: u32,
    notify: Handle,
    pipes: Vec<PipeId>,
}

impl<H: Host> Vfs<H> {
    /// Fills in `ready`; answers how many have something. `notify` is VFS's from here on.
    pub fn poll(&mut self, pid: u32, fds: &mut [PollFd], bit: u32, notify: Handle) -> Result<u32> {
        let mut pipes = Vec::new();
        for entry in fds.iter_mut() {
            entry.ready = match self.events(pid, entry, &mut pipes) {
                Ok(ready) => ready,
                Err(error) => {
                    self.host.close(notify);
                    return Err(error);
                }
            };
        }
        let ready = fds.iter().filter(|entry| entry.ready & !poll::ELSEWHERE != 0).count() as u32;
        self.forget_polls(|wait| wait.pid == pid && wait.bit == bit);
        let mine = self.polls.iter().filter(|wait| wait.pid == pid).count();
        if ready == 0 && !pipes.is_empty() && mine < POLLS_MAX && bit < 48 {
            self.polls.push(PollWait { pid, bit, notify, pipes });
        } else {
            self.host.close(notify);
        }
        Ok(ready)
    }

    fn events(&mut self, pid: u32, entry: &PollFd, pipes: &mut Vec<PipeId>) -> Result<u16> {
        let Ok(file) = self.file(pid, entry.fd) else { return Ok(poll::INVALID) };
        let wanted = entry.events | poll::ERROR | poll::HANG_UP;
        let (reads, writes) = (file.readable(), file.writable());
        Ok(match file.object {
            Object::Attached { .. } => poll::ELSEWHERE,
            Object::Pipe(id, _) => {
                pipes.push(id);
                wanted & self.pipes.get(id).map_or(0, |pipe| pipe.events(reads, writes))
            }
            Object::Node(node) => {
                let character = self.tree.node(node).kind == mode::CHARACTER;
                match character && self.elsewhere(node)? {
                    true => poll::ELSEWHERE,
                    false => wanted & (poll::IN | poll::OUT),
                }
            }
        })
    }

    /// Something happened to a pipe.
    pub(crate) fn wake_polls(&mut self, id: PipeId) {
        let mut at = 0;
        while at < self.polls.len() {
            if self.polls[at].pipes.contains(&id) {
                let wait = self.polls.swap_remove(at);
                self.host.notify(wait.notify, 1 << wait.bit);
                self.host.close(wait.notify);
            } else {
                at += 1;
            }
        }
    }

    pub(crate) fn forget_polls(&mut self, which: impl Fn(&PollWait) -> bool) {
        while let Some(at) = self.polls.iter().position(&which) {
            let wait = self.polls.swap_remove(at);
            self.host.close(wait.notify);
        }
    }

    pub(crate) fn forget_polls_of(&mut self, pid: u32) {
        self.forget_polls(|wait| wait.pid == pid);
    }
}
