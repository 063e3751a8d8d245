//! The operations: [`FileSystem`] over what the system tells.
//!
//! Inode numbers: 1 the root, 2.. the root's files, `pid << 8 | place` with bit 40 set for a
//! process's directory (place 0) and its files.

use alloc::collections::{BTreeMap, VecDeque};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::info::{InterruptInfo, ProcessInfo, SystemInfo};
use xinim_abi::services::fs::mounted;
use xinim_abi::services::vfs::{NAME_MAX, Stat, StatFs, mode};
use xinim_fs_kit::{DirBuffer, FileSystem, Ino, MountInfo, NewFile, SetAttributes};

use crate::DiskReport;
use crate::text::{self, FILES, File};

const ROOT: Ino = 1;
const FIRST_FILE: Ino = 2;
const PROCESS: Ino = 1 << 40;
/// Files of a process, places 1 and 2.
const PROCESS_FILES: [&str; 2] = ["name", "status"];
/// Cookies from here on are processes: this plus the pid.
const PID_COOKIES: u64 = 1 << 32;
/// Texts kept for readers that read in pieces.
const SNAPSHOTS: usize = 16;

/// What procfs asks of kernel and RS.
pub trait System {
    fn system(&mut self) -> Result<SystemInfo>;
    /// The first process whose id is at least `pid`; `NoEnt` behind the last.
    fn process(&mut self, pid: u64) -> Result<ProcessInfo>;
    /// The first interrupt whose vector is at least `vector`.
    fn interrupt(&mut self, vector: u64) -> Result<InterruptInfo>;
    /// Text of a query of RS (`services::rs::query`).
    fn query(&mut self, kind: u32) -> Result<String>;
    fn cmdline(&mut self) -> String;
    /// The units of all block drivers, as far as those answer.
    fn disks(&mut self) -> Vec<DiskReport>;
    /// Nanoseconds since 1970.
    fn now(&mut self) -> u64;
}

/// Processes from `pid` on, in the order of their ids.
pub(crate) fn first_processes(
    system: &mut impl System,
    pid: u32,
) -> impl Iterator<Item = ProcessInfo> {
    let mut next = u64::from(pid);
    core::iter::from_fn(move || {
        let info = system.process(next).ok()?;
        // Ids that do not grow would never end.
        let grows = u64::from(info.pid) >= next;
        next = u64::from(info.pid) + 1;
        grows.then_some(info)
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Node {
    Root,
    File(usize),
    Process(u32),
    ProcessFile(u32, usize),
}

/// `/proc`.
pub struct ProcFs<S> {
    system: S,
    /// Texts of recent first reads, oldest first.
    snapshots: VecDeque<(Ino, String)>,
    /// What VFS told last, by kind.
    told: BTreeMap<u32, String>,
}

impl<S: System> ProcFs<S> {
    pub fn new(system: S) -> Self {
        Self { system, snapshots: VecDeque::new(), told: BTreeMap::new() }
    }

    fn node(&self, ino: Ino) -> Result<Node> {
        if ino == ROOT {
            return Ok(Node::Root);
        }
        if let Some(number) = ino.checked_sub(PROCESS) {
            let pid = u32::try_from(number >> 8).map_err(|_| Error::Stale)?;
            return match (number & 0xFF) as usize {
                0 => Ok(Node::Process(pid)),
                place if place <= PROCESS_FILES.len() => Ok(Node::ProcessFile(pid, place - 1)),
                _ => Err(Error::Stale),
            };
        }
        match ino.checked_sub(FIRST_FILE).and_then(|at| usize::try_from(at).ok()) {
            Some(at) if at < FILES.len() => Ok(Node::File(at)),
            _ => Err(Error::Stale),
        }
    }

    fn stat(&mut self, ino: Ino) -> Result<Stat> {
        let node = self.node(ino)?;
        if let Node::Process(pid) | Node::ProcessFile(pid, _) = node {
            text::process(&mut self.system, pid)?;
        }
        let directory = matches!(node, Node::Root | Node::Process(_));
        let now = self.system.now();
        Ok(Stat {
            ino,
            mode: if directory { mode::DIRECTORY | 0o555 } else { mode::REGULAR | 0o444 },
            links: if directory { 2 } else { 1 },
            block_size: 4096,
            atime: now,
            mtime: now,
            ctime: now,
            ..Stat::default()
        })
    }

    fn text(&mut self, node: Node) -> Result<String> {
        match node {
            Node::Root | Node::Process(_) => Err(Error::IsDir),
            Node::File(at) => match FILES[at].1 {
                File::Vfs(kind) => Ok(self.told.get(&kind).cloned().unwrap_or_default()),
                file => text::file(&mut self.system, file),
            },
            Node::ProcessFile(pid, place) => {
                let info = text::process(&mut self.system, pid)?;
                Ok(match place {
                    0 => format!("{}\n", text::process_name(&info)),
                    _ => text::status(&info),
                })
            }
        }
    }

    /// The text at a first read is made anew; later reads get the rest of it.
    fn snapshot(&mut self, ino: Ino, offset: u64) -> Result<&str> {
        let known = self.snapshots.iter().position(|(known, _)| *known == ino);
        if let (Some(at), false) = (known, offset == 0) {
            return Ok(&self.snapshots[at].1);
        }
        let node = self.node(ino)?;
        let text = self.text(node)?;
        if let Some(at) = known {
            self.snapshots.remove(at);
        }
        if self.snapshots.len() >= SNAPSHOTS {
            self.snapshots.pop_front();
        }
        self.snapshots.push_back((ino, text));
        Ok(self.snapshots.back().map_or("", |(_, text)| text))
    }

    fn directory(&mut self, dir: Ino) -> Result<Node> {
        match self.node(dir)? {
            node @ Node::Root => Ok(node),
            node @ Node::Process(pid) => text::process(&mut self.system, pid).map(|_| node),
            _ => Err(Error::NotDir),
        }
    }
}

fn process_ino(pid: u32) -> Ino {
    PROCESS + (u64::from(pid) << 8)
}

impl<S: System> FileSystem for ProcFs<S> {
    fn mount(&mut self, _source: &str, flags: u32) -> Result<MountInfo> {
        Ok(MountInfo { root: ROOT, flags: flags | mounted::VOLATILE | mounted::REPORTS })
    }

    fn unmount(&mut self) -> Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn lookup(&mut self, dir: Ino, name: &[u8]) -> Result<Stat> {
        let node = self.directory(dir)?;
        let name = core::str::from_utf8(name).map_err(|_| Error::NoEnt)?;
        if let Node::Process(_) = node {
            let place = PROCESS_FILES.iter().position(|file| *file == name).ok_or(Error::NoEnt)?;
            return self.stat(dir + 1 + place as u64);
        }
        if let Some(at) = FILES.iter().position(|file| file.0 == name) {
            return self.stat(FIRST_FILE + at as u64);
        }
        let pid: u32 = name.parse().map_err(|_| Error::NoEnt)?;
        if pid.to_string() != name {
            return Err(Error::NoEnt); // +1, 01
        }
        self.stat(process_ino(pid))
    }

    fn attributes(&mut self, ino: Ino) -> Result<Stat> {
        self.stat(ino)
    }

    fn set_attributes(&mut self, ino: Ino, _set: &SetAttributes) -> Result<Stat> {
        self.stat(ino).and(Err(Error::Perm))
    }

    fn read(&mut self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize> {
        let text = self.snapshot(ino, offset)?.as_bytes();
        let rest = usize::try_from(offset).ok().and_then(|at| text.get(at..)).unwrap_or(&[]);
        let count = rest.len().min(out.len());
        out[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write(&mut self, ino: Ino, _offset: u64, _data: &[u8]) -> Result<usize> {
        match self.node(ino)? {
            Node::Root | Node::Process(_) => Err(Error::IsDir),
            _ => Err(Error::Perm),
        }
    }

    fn create(&mut self, dir: Ino, name: &[u8], _new: &NewFile<'_>) -> Result<Stat> {
        match self.lookup(dir, name) {
            Ok(_) => Err(Error::Exist),
            Err(Error::NoEnt) => Err(Error::Perm),
            Err(error) => Err(error),
        }
    }

    fn unlink(&mut self, dir: Ino, name: &[u8], _directory: bool) -> Result<()> {
        self.lookup(dir, name).and(Err(Error::Perm))
    }

    fn rename(&mut self, from: (Ino, &[u8]), _to: (Ino, &[u8])) -> Result<()> {
        self.lookup(from.0, from.1).and(Err(Error::Perm))
    }

    fn link(&mut self, _ino: Ino, _dir: Ino, _name: &[u8]) -> Result<()> {
        Err(Error::Perm)
    }

    fn read_link(&mut self, _ino: Ino) -> Result<Vec<u8>> {
        Err(Error::Inval)
    }

    fn read_dir(&mut self, dir: Ino, cookie: u64, out: &mut DirBuffer) -> Result<()> {
        let node = self.directory(dir)?;
        let dots = [(1, dir, "."), (2, ROOT, "..")];
        for (next, ino, name) in dots.into_iter().filter(|dot| dot.0 > cookie) {
            if !out.push(ino, next, mode::DIRECTORY, name.as_bytes()) {
                return Ok(());
            }
        }
        let names = match node {
            Node::Process(_) => PROCESS_FILES.to_vec(),
            _ => FILES.iter().map(|file| file.0).collect(),
        };
        let first = if node == Node::Root { FIRST_FILE } else { dir + 1 };
        for (place, name) in names.iter().enumerate() {
            let next = place as u64 + 3;
            if next > cookie
                && !out.push(first + place as u64, next, mode::REGULAR, name.as_bytes())
            {
                return Ok(());
            }
        }
        if node != Node::Root {
            return Ok(());
        }
        let start = match cookie.checked_sub(PID_COOKIES) {
            Some(last) => last + 1,
            None => 0,
        };
        let Ok(start) = u32::try_from(start) else { return Ok(()) };
        for info in first_processes(&mut self.system, start) {
            let name = info.pid.to_string();
            let next = PID_COOKIES + u64::from(info.pid);
            if !out.push(process_ino(info.pid), next, mode::DIRECTORY, name.as_bytes()) {
                break;
            }
        }
        Ok(())
    }

    fn tell(&mut self, kind: u32, text: &[u8]) -> Result<()> {
        self.told.insert(kind, String::from_utf8_lossy(text).into_owned());
        Ok(())
    }

    fn hold(&mut self, ino: Ino) -> Result<()> {
        self.node(ino).map(|_| ())
    }

    fn release(&mut self, ino: Ino) -> Result<()> {
        self.node(ino).map(|_| ())
    }

    fn statfs(&mut self) -> Result<StatFs> {
        let mut fs_type = [0; 16];
        fs_type[..6].copy_from_slice(b"procfs");
        Ok(StatFs {
            block_size: 4096,
            blocks: 0,
            blocks_free: 0,
            files: FILES.len() as u64,
            files_free: 0,
            name_max: NAME_MAX as u64,
            fs_type,
        })
    }

    fn fsync(&mut self, _ino: Ino) -> Result<()> {
        Ok(())
    }
}
