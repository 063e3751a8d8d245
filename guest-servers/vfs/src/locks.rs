//! File locks: ranges of bytes, shared or exclusive, and who waits for them. No system calls, no
//! files: those are [`crate::locking`]'s.
//!
//! An owner's new lock replaces what it had there, splitting and joining ranges; unlocking is the
//! same without a new lock. Two owners conflict where ranges meet and one of them writes. Process
//! locks that wait for each other in a circle are refused (`Deadlk`); locks of open files are not
//! looked through, since nobody can tell which process would give one up.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::ipc::ReplyToken;

use crate::files::FileId;

/// Locks of one file, and waiting requests of one file.
const LOCKS_MAX: usize = 4096;
const WAITING_MAX: usize = 1024;
/// Past the last byte of any file.
pub const END: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Owner {
    Process(u32),
    File(FileId),
}

/// A lock on `start..end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lock {
    pub owner: Owner,
    /// Who asked, for reports.
    pub pid: u32,
    pub start: u64,
    pub end: u64,
    pub exclusive: bool,
}

impl Lock {
    fn conflicts(&self, other: &Lock) -> bool {
        self.owner != other.owner
            && self.start < other.end
            && other.start < self.end
            && (self.exclusive || other.exclusive)
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    pub lock: Lock,
    pub token: ReplyToken,
}

#[derive(Debug, Default)]
struct FileLocks {
    held: Vec<Lock>,
    waiting: VecDeque<Waiting>,
}

/// All locks, by file.
#[derive(Debug)]
pub struct Locks<K> {
    files: BTreeMap<K, FileLocks>,
    /// Since [`Locks::take_changed`].
    changed: bool,
}

impl<K: Ord + Copy> Locks<K> {
    pub fn new() -> Self {
        Self { files: BTreeMap::new(), changed: false }
    }

    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// The first held lock in the way of `lock`.
    pub fn conflict(&self, key: K, lock: &Lock) -> Option<Lock> {
        self.files.get(&key)?.held.iter().find(|held| held.conflicts(lock)).copied()
    }

    /// Takes a lock, or fails with `Again`, or `NoLck` when there are too many.
    pub fn take(&mut self, key: K, lock: Lock) -> Result<()> {
        if self.conflict(key, &lock).is_some() {
            return Err(Error::Again);
        }
        let file = self.files.entry(key).or_default();
        if file.held.len() + 2 > LOCKS_MAX {
            return Err(Error::NoLck);
        }
        file.remove(&lock);
        file.add(lock);
        self.changed = true;
        Ok(())
    }

    /// Waits for a lock that conflicts.
    pub fn wait(&mut self, key: K, lock: Lock, token: ReplyToken) -> Result<()> {
        if let Owner::Process(pid) = lock.owner
            && self.would_deadlock(key, &lock, pid)
        {
            return Err(Error::Deadlk);
        }
        let file = self.files.entry(key).or_default();
        if file.waiting.len() >= WAITING_MAX {
            return Err(Error::NoLck);
        }
        file.waiting.push_back(Waiting { lock, token });
        Ok(())
    }

    /// Would `pid`, waiting for `lock`, wait for itself in the end?
    fn would_deadlock(&self, key: K, lock: &Lock, pid: u32) -> bool {
        let blockers = |key: &K, lock: &Lock| -> Vec<u32> {
            let held = self.files.get(key).map_or(&[][..], |file| &file.held[..]);
            let process = |held: &Lock| match held.owner {
                Owner::Process(pid) if held.conflicts(lock) => Some(pid),
                _ => None,
            };
            held.iter().filter_map(process).collect()
        };
        let mut seen = Vec::new();
        let mut next = blockers(&key, lock);
        while let Some(blocker) = next.pop() {
            if blocker == pid {
                return true;
            }
            if seen.contains(&blocker) {
                continue;
            }
            seen.push(blocker);
            for (key, file) in &self.files {
                for waiting in &file.waiting {
                    if waiting.lock.owner == Owner::Process(blocker) {
                        next.extend(blockers(key, &waiting.lock));
                    }
                }
            }
        }
        false
    }

    /// Gives up `start..end` of an owner's locks on a file. Answers who has theirs now.
    pub fn release(&mut self, key: K, owner: Owner, start: u64, end: u64) -> Vec<Waiting> {
        let Some(file) = self.files.get_mut(&key) else { return Vec::new() };
        self.changed = true;
        file.remove(&Lock { owner, pid: 0, start, end, exclusive: false });
        self.grant(key)
    }

    /// A request to wait no more: its caller is gone.
    pub fn forget_waiting(&mut self, pid: u32) {
        self.files.retain(|_, file| {
            file.waiting.retain(|waiting| waiting.lock.pid != pid);
            !(file.held.is_empty() && file.waiting.is_empty())
        });
    }

    /// Files on which this owner holds something.
    pub fn files_of(&self, owner: Owner) -> Vec<K> {
        let holds = |file: &FileLocks| file.held.iter().any(|lock| lock.owner == owner);
        self.files.iter().filter(|(_, file)| holds(file)).map(|(&key, _)| key).collect()
    }

    /// The file has another name in the table from now on.
    pub fn rename(&mut self, old: K, new: K) {
        if old != new
            && let Some(mut moved) = self.files.remove(&old)
        {
            self.changed = true;
            let file = self.files.entry(new).or_default();
            file.held.append(&mut moved.held);
            file.waiting.append(&mut moved.waiting);
        }
    }

    /// Whether locks that are held may have changed since this was last asked.
    pub fn take_changed(&mut self) -> bool {
        core::mem::take(&mut self.changed)
    }

    /// A lock that another instance of VFS had given.
    pub fn put_back(&mut self, key: K, lock: Lock) {
        self.files.entry(key).or_default().held.push(lock);
        self.changed = true;
    }

    /// Every lock, with `true` for those that wait.
    pub fn all(&self) -> impl Iterator<Item = (K, Lock, bool)> {
        self.files.iter().flat_map(|(&key, file)| {
            let held = file.held.iter().map(move |lock| (key, *lock, false));
            held.chain(file.waiting.iter().map(move |w| (key, w.lock, true)))
        })
    }

    /// Gives waiting requests what has become free, in their order.
    fn grant(&mut self, key: K) -> Vec<Waiting> {
        let mut granted = Vec::new();
        let Some(file) = self.files.get_mut(&key) else { return granted };
        let mut at = 0;
        while let Some(waiting) = file.waiting.get(at).copied() {
            if file.held.iter().any(|held| held.conflicts(&waiting.lock)) {
                at += 1;
                continue;
            }
            file.waiting.remove(at);
            file.remove(&waiting.lock);
            file.add(waiting.lock);
            granted.push(waiting);
        }
        if file.held.is_empty() && file.waiting.is_empty() {
            self.files.remove(&key);
        }
        granted
    }
}

impl FileLocks {
    /// Takes the range of `gone` out of its owner's locks.
    fn remove(&mut self, gone: &Lock) {
        let mut rest = Vec::new();
        self.held.retain(|lock| {
            if lock.owner != gone.owner || lock.start >= gone.end || gone.start >= lock.end {
                return true;
            }
            if lock.start < gone.start {
                rest.push(Lock { end: gone.start, ..*lock });
            }
            if gone.end < lock.end {
                rest.push(Lock { start: gone.end, ..*lock });
            }
            false
        });
        self.held.append(&mut rest);
    }

    /// Adds a lock for a range its owner has nothing in, joined with what it touches.
    fn add(&mut self, mut lock: Lock) {
        self.held.retain(|held| {
            let joins = held.owner == lock.owner
                && held.exclusive == lock.exclusive
                && (held.end == lock.start || lock.end == held.start);
            if joins {
                lock.start = lock.start.min(held.start);
                lock.end = lock.end.max(held.end);
            }
            !joins
        });
        self.held.push(lock);
    }
}
