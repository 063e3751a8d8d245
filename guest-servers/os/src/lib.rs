//! What the shell and the tools see of an operating system: one trait, [`Os`].
//!
//! In XINIM it is implemented over the run-time library (`xinim-os-rt`); on a development host
//! over Linux (`xinim-os-host`), so that shell and tools run, and are compared with the host's
//! own, without booting anything.
//!
//! Names and paths are UTF-8; data is bytes. Descriptors are numbers that the caller closes.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod io;
mod path;

pub use io::{Input, Output, read_file, write_all};
pub use path::{base_name, dir_name, join};
pub use xinim_abi::error::{Error, Result};
pub use xinim_abi::info::{ProcessInfo, SystemInfo};
pub use xinim_abi::services::pm::signal;
pub use xinim_abi::services::rs::{control as service_control, query as service_query};
pub use xinim_abi::services::vfs::{
    KEEP_ID, Stat, StatFs, mode, mount as mount_flags, open, time as file_time,
};

use alloc::string::String;
use alloc::vec::Vec;

/// A file descriptor.
pub type Fd = u32;

pub const STDIN: Fd = 0;
pub const STDOUT: Fd = 1;
pub const STDERR: Fd = 2;

/// One name in a directory. `kind` is the file type, `mode >> 12`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    pub name: String,
    pub ino: u64,
    pub kind: u8,
}

/// A program to start.
#[derive(Clone, Copy, Debug)]
pub struct Spawn<'a> {
    /// No search: relative to the working directory.
    pub path: &'a str,
    /// From the program's name on.
    pub args: &'a [String],
    /// `NAME=value` each.
    pub env: &'a [String],
    /// The child's descriptor (first) is a duplicate of ours (second). It gets no others.
    pub fds: &'a [(Fd, Fd)],
}

/// How a child ended: the status word of the process manager (128 + signal when killed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub pid: u32,
    pub status: u32,
}

/// Real, effective and saved id of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    pub real: u32,
    pub effective: u32,
    pub saved: u32,
}

impl Ids {
    pub fn all(id: u32) -> Self {
        Self { real: id, effective: id, saved: id }
    }
}

/// As whom a process runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    pub users: Ids,
    pub groups: Ids,
    pub supplementary: Vec<u32>,
}

/// What `flock` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flock {
    Shared,
    Exclusive,
    Unlock,
}

/// Where `seek` counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whence {
    Start,
    Current,
    End,
}

/// The system calls and services that shell and tools use.
#[allow(unused_variables)]
pub trait Os {
    // Files by descriptor.
    /// Flags as in [`open`].
    fn open(&self, path: &str, flags: u32, mode: u32) -> Result<Fd>;
    fn close(&self, fd: Fd) -> Result<()>;
    /// Waits for at least one byte; 0 is the end.
    fn read(&self, fd: Fd, buffer: &mut [u8]) -> Result<usize>;
    /// Takes at least one byte.
    fn write(&self, fd: Fd, bytes: &[u8]) -> Result<usize>;
    fn seek(&self, fd: Fd, offset: i64, whence: Whence) -> Result<u64>;
    fn fstat(&self, fd: Fd) -> Result<Stat>;
    fn ftruncate(&self, fd: Fd, size: u64) -> Result<()>;
    fn fsync(&self, fd: Fd) -> Result<()>;
    /// Read end, write end.
    fn pipe(&self) -> Result<(Fd, Fd)>;
    fn is_terminal(&self, fd: Fd) -> bool;
    /// Raw mode of a terminal: no echo, no line editing, no Ctrl-C.
    fn set_raw(&self, fd: Fd, raw: bool) -> Result<()>;

    // Files by path.
    fn stat(&self, path: &str) -> Result<Stat>;
    /// The last component is not followed.
    fn lstat(&self, path: &str) -> Result<Stat>;
    fn read_dir(&self, path: &str) -> Result<Vec<DirEntry>>;
    fn mkdir(&self, path: &str, mode: u32) -> Result<()>;
    fn rmdir(&self, path: &str) -> Result<()>;
    fn unlink(&self, path: &str) -> Result<()>;
    fn rename(&self, from: &str, to: &str) -> Result<()>;
    fn link(&self, from: &str, to: &str) -> Result<()>;
    fn symlink(&self, target: &str, path: &str) -> Result<()>;
    fn readlink(&self, path: &str) -> Result<String>;
    fn chmod(&self, path: &str, mode: u32) -> Result<()>;
    /// Nanoseconds since 1970, or one of [`file_time`]. `follow`: a last symbolic link is followed.
    fn set_times(&self, path: &str, follow: bool, atime: u64, mtime: u64) -> Result<()>;
    fn set_mtime(&self, path: &str, mtime: u64) -> Result<()> {
        self.set_times(path, true, file_time::OMIT, mtime)
    }
    /// [`KEEP_ID`] leaves an id as it is.
    fn chown(&self, path: &str, follow: bool, uid: u32, gid: u32) -> Result<()>;
    /// A FIFO, socket, device or empty file; `rdev`: major << 16 | minor.
    fn mknod(&self, path: &str, mode: u32, rdev: u32) -> Result<()>;
    /// May this process do all of `want` (4 read, 2 write, 1 execute or search)?
    fn access(&self, path: &str, want: u32) -> Result<()>;
    /// Permission bits that new files do not get; answers the old mask.
    fn umask(&self, mask: u32) -> Result<u32>;
    /// Locks a whole file for this open file and its duplicates. `Again`: another has it.
    fn flock(&self, fd: Fd, lock: Flock, wait: bool) -> Result<()>;
    fn chdir(&self, path: &str) -> Result<()>;
    fn getcwd(&self) -> Result<String>;

    // Processes and time.
    fn spawn(&self, program: &Spawn<'_>) -> Result<u32>;
    /// Waits for child `pid`, or (0) any. With `poll`: `Again` instead of waiting.
    fn wait(&self, pid: u32, poll: bool) -> Result<Ended>;
    fn kill(&self, pid: u32, signal: u32) -> Result<()>;
    /// The process that Ctrl-C ends; 0: none.
    fn set_foreground(&self, pid: u32) -> Result<()>;
    fn pid(&self) -> u32;
    fn identity(&self) -> Result<Identity>;
    /// [`KEEP_ID`] leaves an id.
    fn set_user_ids(&self, ids: Ids) -> Result<()>;
    fn set_group_ids(&self, ids: Ids) -> Result<()>;
    fn set_groups(&self, groups: &[u32]) -> Result<()>;
    /// Nanoseconds since boot.
    fn now_ns(&self) -> u64;
    /// Nanoseconds since 1970; 0 if unknown.
    fn wall_clock_ns(&self) -> u64;
    fn sleep_ns(&self, ns: u64) -> Result<()>;

    // The system. Not on every host.
    fn sync(&self) -> Result<()> {
        Err(Error::NoSys)
    }
    fn statfs(&self, path: &str) -> Result<StatFs> {
        Err(Error::NoSys)
    }
    /// An empty `fs_type` is found out.
    fn mount(&self, source: &str, target: &str, fs_type: &str, flags: u32) -> Result<()> {
        Err(Error::NoSys)
    }
    /// Other flags for what is mounted at `path`.
    fn remount(&self, path: &str, flags: u32) -> Result<()> {
        Err(Error::NoSys)
    }
    /// The file system discards free blocks; how many bytes.
    fn trim(&self, path: &str, min_len: u64) -> Result<u64> {
        Err(Error::NoSys)
    }
    /// Gives blocks of a device back to it, or with `zeroes` makes them zeros.
    fn discard(&self, fd: Fd, offset: u64, len: u64, zeroes: bool) -> Result<()> {
        Err(Error::NoSys)
    }
    fn umount(&self, path: &str, lazy: bool) -> Result<()> {
        Err(Error::NoSys)
    }
    /// `source target type options` a line.
    fn mounts(&self) -> Result<String> {
        Err(Error::NoSys)
    }
    fn system_info(&self) -> Result<SystemInfo> {
        Err(Error::NoSys)
    }
    /// The first live process whose id is at least `pid`; `NoEnt` past the last.
    fn process_info(&self, pid: u32) -> Result<ProcessInfo> {
        Err(Error::NoSys)
    }
    /// Text of the Reincarnation Server, see [`service_query`].
    fn service_query(&self, kind: u32, name: &str) -> Result<String> {
        Err(Error::NoSys)
    }
    /// The newest core of a service.
    fn service_core(&self, name: &str) -> Result<Vec<u8>> {
        Err(Error::NoSys)
    }
    /// Answers the new instance's process id (0: none); see [`service_control`].
    fn service_control(&self, operation: u32, name: &str) -> Result<u32> {
        Err(Error::NoSys)
    }
    /// Loads a manifest and its program (empty: the bundle has it); why it is refused.
    fn service_load(&self, name: &str, manifest: &[u8], program: &[u8]) -> Result<Option<String>> {
        Err(Error::NoSys)
    }
    /// Takes a loaded manifest back; why not.
    fn service_unload(&self, name: &str) -> Result<Option<String>> {
        Err(Error::NoSys)
    }
    /// Replaces a service's program; whether it was rolled back.
    fn service_update(&self, name: &str, program: &[u8]) -> Result<bool> {
        Err(Error::NoSys)
    }
    /// Does not return on success.
    fn shutdown(&self, reboot: bool) -> Result<()> {
        Err(Error::NoSys)
    }
    /// The kernel's command line.
    fn kernel_cmdline(&self) -> String {
        String::new()
    }
    fn cpus(&self) -> u32 {
        1
    }
}

/// `program: what: error` (or `program: error`) as one line on standard error. Nothing can be
/// done where even that fails.
pub fn complain(os: &dyn Os, program: &str, what: &str, error: impl core::fmt::Display) {
    let line = if what.is_empty() {
        alloc::format!("{program}: {error}\n")
    } else {
        alloc::format!("{program}: {what}: {error}\n")
    };
    let _ = write_all(os, STDERR, line.as_bytes());
}

/// Whether a `Stat` is of the type `kind` (one of [`mode`]).
pub fn is_kind(stat: &Stat, kind: u32) -> bool {
    stat.mode & mode::TYPE_MASK == kind
}
