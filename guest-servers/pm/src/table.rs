//! The table of programs.

use crate::{CHILDREN_MAX, PROCESSES_MAX};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::ipc::ReplyToken;

/// Parent of an orphan: nobody.
const NOBODY: u32 = 0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Running,
    Zombie { status: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    /// 0: nobody.
    pub parent: u32,
    pub state: State,
}

/// A parent that waits for `child` (0: any).
#[derive(Clone, Copy, Debug)]
struct Waiter {
    parent: u32,
    child: u32,
    token: ReplyToken,
}

/// A kept request to answer: child `pid` ended with `status`, or the error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    pub token: ReplyToken,
    pub result: Result<(u32, u32)>,
}

/// Programs by process id.
#[derive(Debug, Default)]
pub struct Table {
    processes: BTreeMap<u32, Process>,
    waiters: Vec<Waiter>,
    /// Whom Ctrl-C ends, and for whom.
    foreground: Option<(u32, u32)>,
}

impl Table {
    /// Whether `parent` may have one more child. `Again`: it has too many, or the system has.
    pub fn room(&self, parent: u32) -> Result<()> {
        let children = self.processes.values().filter(|p| p.parent == parent).count();
        let full = self.processes.len() >= PROCESSES_MAX || children >= CHILDREN_MAX;
        if full { Err(Error::Again) } else { Ok(()) }
    }

    pub fn add(&mut self, pid: u32, parent: u32) {
        self.processes.insert(pid, Process { parent, state: State::Running });
    }

    /// A program that is running.
    pub fn is_running(&self, pid: u32) -> bool {
        self.processes.get(&pid).is_some_and(|p| p.state == State::Running)
    }

    /// Is it here at all, if only as a zombie?
    pub fn contains(&self, pid: u32) -> bool {
        self.processes.contains_key(&pid)
    }

    pub fn get(&self, pid: u32) -> Option<Process> {
        self.processes.get(&pid).copied()
    }

    /// A program that another instance of the process manager knew.
    pub fn put_back(&mut self, pid: u32, process: Process) {
        self.processes.insert(pid, process);
    }

    pub fn iter(&self) -> impl Iterator<Item = (u32, Process)> {
        self.processes.iter().map(|(&pid, &process)| (pid, process))
    }

    /// Whom Ctrl-C ends, and for whom.
    pub fn foreground(&self) -> Option<(u32, u32)> {
        self.foreground
    }

    pub fn running(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().filter(|(_, p)| p.state == State::Running).map(|(&pid, _)| pid)
    }

    /// `Wait`. `None`: the token is kept until the child ends.
    pub fn wait(
        &mut self,
        parent: u32,
        child: u32,
        poll: bool,
        token: ReplyToken,
    ) -> Option<Result<(u32, u32)>> {
        let mut any = false;
        for (&pid, process) in &self.processes {
            if process.parent != parent || child != 0 && child != pid {
                continue;
            }
            any = true;
            if let State::Zombie { status } = process.state {
                self.processes.remove(&pid);
                return Some(Ok((pid, status)));
            }
        }
        if !any {
            return Some(Err(Error::Child));
        }
        if poll {
            return Some(Err(Error::Again));
        }
        // A process has as many waiting threads as the kernel lets it have.
        self.waiters.push(Waiter { parent, child, token });
        None
    }

    /// A process died: a program, or one that only is a parent. Told twice, the second time
    /// changes nothing.
    pub fn died(&mut self, pid: u32, status: u32) -> Vec<Answer> {
        let mut answers = Vec::new();
        self.waiters.retain(|waiter| waiter.parent != pid);
        // Its children are nobody's now.
        self.processes.retain(|_, process| {
            let orphan = process.parent == pid;
            if orphan {
                process.parent = NOBODY;
            }
            !(orphan && process.state != State::Running)
        });
        if self.foreground.is_some_and(|(child, parent)| child == pid || parent == pid) {
            self.foreground = None;
        }
        let Some(process) = self.processes.get_mut(&pid) else { return answers };
        if process.state != State::Running {
            return answers;
        }
        let parent = process.parent;
        let waiting = |w: &Waiter| w.parent == parent && (w.child == 0 || w.child == pid);
        match self.waiters.iter().position(waiting) {
            Some(at) => {
                let waiter = self.waiters.remove(at);
                answers.push(Answer { token: waiter.token, result: Ok((pid, status)) });
                self.processes.remove(&pid);
            }
            None if parent == NOBODY => {
                self.processes.remove(&pid);
            }
            None => process.state = State::Zombie { status },
        }
        // Others may wait for the same child, or for any where there is none any more.
        let processes = &self.processes;
        self.waiters.retain(|waiter| {
            let left = processes.iter().any(|(&pid, p)| {
                p.parent == waiter.parent && (waiter.child == 0 || waiter.child == pid)
            });
            if !left {
                answers.push(Answer { token: waiter.token, result: Err(Error::Child) });
            }
            left
        });
        answers
    }

    /// `Foreground`: `child` is a running child of the caller, or 0.
    pub fn set_foreground(&mut self, parent: u32, child: u32) -> Result<()> {
        if child == 0 {
            self.foreground = None;
            return Ok(());
        }
        match self.processes.get(&child) {
            Some(process) if process.parent == parent => {
                // One that has ended meanwhile is no mistake of the caller's.
                self.foreground = (process.state == State::Running).then_some((child, parent));
                Ok(())
            }
            _ => Err(Error::Child),
        }
    }

    /// Whom Ctrl-C ends: the foreground program and all that descends from it.
    pub fn interrupted(&self) -> Vec<u32> {
        self.foreground.map_or(Vec::new(), |(child, _)| self.family(child))
    }

    /// The running ones among `pid` and all that descends from it.
    pub fn family(&self, pid: u32) -> Vec<u32> {
        let mut all = Vec::from([pid]);
        let mut next = 0;
        while let Some(&pid) = all.get(next) {
            next += 1;
            let children = self.processes.iter().filter(|(_, p)| p.parent == pid);
            all.extend(children.map(|(&pid, _)| pid));
        }
        all.retain(|&pid| self.is_running(pid));
        all
    }
}
