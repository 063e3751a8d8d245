//! [`Os`] over Linux: runs XINIM's shell and tools on a development host, where they are compared
//! with the host's own (see `tests/`).
//!
//! `/bin/sh` and `/bin/<tool>` mean this program under that name. Services, mounts and the
//! kernel's counters are not there.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{FromRawFd, IntoRawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use xinim_os::{
    DirEntry, Ended, Error, Fd, Flock, Identity, Ids, Os, Result, Spawn, Stat, Whence, base_name,
    file_time, open,
};

/// Linux, and the processes started here.
#[derive(Debug)]
pub struct Linux {
    started: Instant,
    children: RefCell<BTreeSet<u32>>,
}

impl Default for Linux {
    fn default() -> Self {
        // A write to a closed pipe is an error here, as it is in XINIM.
        // SAFETY: no handler is installed, so nothing runs at a signal.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
        Self { started: Instant::now(), children: RefCell::default() }
    }
}

fn error(error: &io::Error) -> Error {
    let code = error.raw_os_error().and_then(|code| u16::try_from(code).ok());
    code.and_then(Error::from_code).unwrap_or(Error::Io)
}

fn convert<T>(result: io::Result<T>) -> Result<T> {
    result.map_err(|e| error(&e))
}

/// The result of a libc call that says -1 for an error.
fn check(result: libc::c_int) -> Result<libc::c_int> {
    if result < 0 { Err(error(&io::Error::last_os_error())) } else { Ok(result) }
}

fn c_path(path: &str) -> Result<CString> {
    CString::new(path).map_err(|_| Error::Inval)
}

/// The descriptor as a file that is not closed at its end.
fn borrow(fd: Fd) -> ManuallyDrop<File> {
    // SAFETY: never dropped, so nothing is closed twice; a number that is not open gives EBADF.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd as i32) })
}

fn stat_of(meta: &fs::Metadata) -> Stat {
    let ns = |seconds: i64, ns: i64| (seconds * 1_000_000_000 + ns) as u64;
    Stat {
        device: meta.dev(),
        ino: meta.ino(),
        size: meta.size(),
        blocks: meta.blocks(),
        atime: ns(meta.atime(), meta.atime_nsec()),
        mtime: ns(meta.mtime(), meta.mtime_nsec()),
        ctime: ns(meta.ctime(), meta.ctime_nsec()),
        mode: meta.mode(),
        links: meta.nlink() as u32,
        uid: meta.uid(),
        gid: meta.gid(),
        block_size: meta.blksize() as u32,
        rdev: libc::major(meta.rdev()) << 16 | libc::minor(meta.rdev()),
    }
}

fn kind_of(kind: fs::FileType) -> u8 {
    match () {
        () if kind.is_dir() => 4,
        () if kind.is_symlink() => 10,
        () if kind.is_char_device() => 2,
        () if kind.is_block_device() => 6,
        () if kind.is_fifo() => 1,
        () => 8,
    }
}

fn is_own(path: &str) -> bool {
    let Some(name) = path.strip_prefix("/bin/") else { return false };
    name == "sh" || xinim_tools::find(name).is_some()
}

impl Os for Linux {
    fn open(&self, path: &str, flags: u32, mode: u32) -> Result<Fd> {
        let access = flags & open::ACCESS_MASK;
        let file = fs::OpenOptions::new()
            .read(access != open::WRITE)
            .write(access != open::READ)
            .custom_flags((flags & !open::ACCESS_MASK) as i32 | libc::O_CLOEXEC)
            .mode(mode)
            .open(path);
        Ok(convert(file)?.into_raw_fd() as Fd)
    }
    fn close(&self, fd: Fd) -> Result<()> {
        // SAFETY: a plain system call; the caller owns the number.
        check(unsafe { libc::close(fd as i32) }).map(drop)
    }
    fn read(&self, fd: Fd, buffer: &mut [u8]) -> Result<usize> {
        convert(io::Read::read(&mut &*borrow(fd), buffer))
    }
    fn write(&self, fd: Fd, bytes: &[u8]) -> Result<usize> {
        convert(io::Write::write(&mut &*borrow(fd), bytes))
    }
    fn seek(&self, fd: Fd, offset: i64, whence: Whence) -> Result<u64> {
        let target = match whence {
            Whence::Start => io::SeekFrom::Start(offset as u64),
            Whence::Current => io::SeekFrom::Current(offset),
            Whence::End => io::SeekFrom::End(offset),
        };
        convert(io::Seek::seek(&mut &*borrow(fd), target))
    }
    fn fstat(&self, fd: Fd) -> Result<Stat> {
        convert(borrow(fd).metadata()).map(|meta| stat_of(&meta))
    }
    fn ftruncate(&self, fd: Fd, size: u64) -> Result<()> {
        convert(borrow(fd).set_len(size))
    }
    fn fsync(&self, fd: Fd) -> Result<()> {
        convert(borrow(fd).sync_all())
    }
    fn pipe(&self) -> Result<(Fd, Fd)> {
        let mut fds = [0; 2];
        // SAFETY: `fds` has room for the two numbers.
        check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
        Ok((fds[0] as Fd, fds[1] as Fd))
    }
    fn is_terminal(&self, fd: Fd) -> bool {
        io::IsTerminal::is_terminal(&*borrow(fd))
    }
    fn set_raw(&self, _fd: Fd, _raw: bool) -> Result<()> {
        Err(Error::NotTy)
    }

    fn stat(&self, path: &str) -> Result<Stat> {
        convert(fs::metadata(path)).map(|meta| stat_of(&meta))
    }
    fn lstat(&self, path: &str) -> Result<Stat> {
        convert(fs::symlink_metadata(path)).map(|meta| stat_of(&meta))
    }
    fn read_dir(&self, path: &str) -> Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in convert(fs::read_dir(path))? {
            let entry = convert(entry)?;
            let meta = convert(entry.file_type())?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let ino = std::os::unix::fs::DirEntryExt::ino(&entry);
            entries.push(DirEntry { name, ino, kind: kind_of(meta) });
        }
        Ok(entries)
    }
    fn mkdir(&self, path: &str, mode: u32) -> Result<()> {
        convert(
            std::os::unix::fs::DirBuilderExt::mode(&mut fs::DirBuilder::new(), mode).create(path),
        )
    }
    fn rmdir(&self, path: &str) -> Result<()> {
        convert(fs::remove_dir(path))
    }
    fn unlink(&self, path: &str) -> Result<()> {
        convert(fs::remove_file(path))
    }
    fn rename(&self, from: &str, to: &str) -> Result<()> {
        convert(fs::rename(from, to))
    }
    fn link(&self, from: &str, to: &str) -> Result<()> {
        convert(fs::hard_link(from, to))
    }
    fn symlink(&self, target: &str, path: &str) -> Result<()> {
        convert(std::os::unix::fs::symlink(target, path))
    }
    fn readlink(&self, path: &str) -> Result<String> {
        convert(fs::read_link(path)).map(|path| path.to_string_lossy().into_owned())
    }
    fn chmod(&self, path: &str, mode: u32) -> Result<()> {
        convert(fs::set_permissions(path, fs::Permissions::from_mode(mode)))
    }
    fn set_times(&self, path: &str, follow: bool, atime: u64, mtime: u64) -> Result<()> {
        let path = c_path(path)?;
        let time = |ns: u64| {
            let nsec = match ns {
                file_time::NOW => libc::UTIME_NOW,
                file_time::OMIT => libc::UTIME_OMIT,
                ns => (ns % 1_000_000_000) as i64,
            };
            libc::timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: nsec }
        };
        let times = [time(atime), time(mtime)];
        let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
        // SAFETY: path and times are what the call expects.
        let done = unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), flags) };
        check(done).map(drop)
    }
    fn chown(&self, path: &str, follow: bool, uid: u32, gid: u32) -> Result<()> {
        let path = c_path(path)?;
        let flags = if follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
        // SAFETY: the path ends with a NUL.
        check(unsafe { libc::fchownat(libc::AT_FDCWD, path.as_ptr(), uid, gid, flags) }).map(drop)
    }
    fn mknod(&self, path: &str, mode: u32, rdev: u32) -> Result<()> {
        let path = c_path(path)?;
        let device = libc::makedev(rdev >> 16, rdev & 0xFFFF);
        // SAFETY: the path ends with a NUL.
        check(unsafe { libc::mknod(path.as_ptr(), mode, device) }).map(drop)
    }
    fn access(&self, path: &str, want: u32) -> Result<()> {
        let path = c_path(path)?;
        // SAFETY: the path ends with a NUL.
        let done = unsafe {
            libc::faccessat(libc::AT_FDCWD, path.as_ptr(), want as i32, libc::AT_EACCESS)
        };
        check(done).map(drop)
    }
    fn umask(&self, mask: u32) -> Result<u32> {
        // SAFETY: a plain system call that cannot fail.
        Ok(unsafe { libc::umask(mask) })
    }
    fn flock(&self, fd: Fd, lock: Flock, wait: bool) -> Result<()> {
        let operation = match lock {
            Flock::Shared => libc::LOCK_SH,
            Flock::Exclusive => libc::LOCK_EX,
            Flock::Unlock => libc::LOCK_UN,
        };
        let operation = operation | if wait { 0 } else { libc::LOCK_NB };
        // SAFETY: a plain system call.
        check(unsafe { libc::flock(fd as i32, operation) }).map(drop)
    }
    fn chdir(&self, path: &str) -> Result<()> {
        convert(std::env::set_current_dir(path))
    }
    fn getcwd(&self) -> Result<String> {
        convert(std::env::current_dir()).map(|path| path.to_string_lossy().into_owned())
    }

    fn spawn(&self, program: &Spawn<'_>) -> Result<u32> {
        let own = is_own(program.path);
        let path = if own { "/proc/self/exe" } else { program.path };
        let mut command = Command::new(path);
        if let Some((name, args)) = program.args.split_first() {
            // The name says which tool; a shell may have any.
            command.arg0(if own { base_name(program.path) } else { name }).args(args);
        }
        command.env_clear();
        for (name, value) in program.env.iter().filter_map(|entry| entry.split_once('=')) {
            command.env(name, value);
        }
        let fds: Vec<(i32, i32)> =
            program.fds.iter().map(|&(child, own)| (child as i32, own as i32)).collect();
        // SAFETY: between fork and exec only system calls are made, no memory is allocated.
        unsafe {
            command.pre_exec(move || {
                // Out of the way first: a source may be another's target.
                let mut moved = [0; 64];
                for (at, (_, own)) in fds.iter().enumerate().take(moved.len()) {
                    moved[at] = libc::fcntl(*own, libc::F_DUPFD_CLOEXEC, 100);
                }
                for fd in 0..3 {
                    if !fds.iter().any(|(child, _)| *child == fd) {
                        libc::close(fd);
                    }
                }
                for (at, (child, _)) in fds.iter().enumerate().take(moved.len()) {
                    if libc::dup2(moved[at], *child) < 0 {
                        return Err(io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let pid = convert(command.spawn())?.id();
        self.children.borrow_mut().insert(pid);
        Ok(pid)
    }
    fn wait(&self, pid: u32, poll: bool) -> Result<Ended> {
        let which = if pid == 0 { -1 } else { pid as i32 };
        let mut status = 0;
        let options = if poll { libc::WNOHANG } else { 0 };
        // SAFETY: `status` is a place for the status.
        let found = check(unsafe { libc::waitpid(which, &mut status, options) })? as u32;
        if found == 0 {
            return Err(Error::Again);
        }
        self.children.borrow_mut().remove(&found);
        let status = match libc::WIFSIGNALED(status) {
            true => 128 + libc::WTERMSIG(status),
            false => libc::WEXITSTATUS(status),
        };
        Ok(Ended { pid: found, status: status as u32 })
    }
    fn kill(&self, pid: u32, signal: u32) -> Result<()> {
        // SAFETY: a plain system call.
        check(unsafe { libc::kill(pid as i32, signal as i32) }).map(drop)
    }
    fn set_foreground(&self, _pid: u32) -> Result<()> {
        Err(Error::NoSys)
    }
    fn pid(&self) -> u32 {
        std::process::id()
    }
    fn identity(&self) -> Result<Identity> {
        let (mut users, mut groups) = (Ids::default(), Ids::default());
        // SAFETY: all point to numbers the calls fill in.
        unsafe {
            libc::getresuid(&mut users.real, &mut users.effective, &mut users.saved);
            libc::getresgid(&mut groups.real, &mut groups.effective, &mut groups.saved);
        }
        let mut supplementary = vec![0; 1024];
        // SAFETY: there is room for as many as the call is told.
        let count = check(unsafe { libc::getgroups(1024, supplementary.as_mut_ptr()) })?;
        supplementary.truncate(count as usize);
        Ok(Identity { users, groups, supplementary })
    }
    fn set_user_ids(&self, ids: Ids) -> Result<()> {
        // SAFETY: a plain system call.
        check(unsafe { libc::setresuid(ids.real, ids.effective, ids.saved) }).map(drop)
    }
    fn set_group_ids(&self, ids: Ids) -> Result<()> {
        // SAFETY: a plain system call.
        check(unsafe { libc::setresgid(ids.real, ids.effective, ids.saved) }).map(drop)
    }
    fn set_groups(&self, groups: &[u32]) -> Result<()> {
        // SAFETY: the pointer is to as many groups.
        check(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }).map(drop)
    }
    fn now_ns(&self) -> u64 {
        self.started.elapsed().as_nanos() as u64
    }
    fn wall_clock_ns(&self) -> u64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_nanos() as u64)
    }
    fn sleep_ns(&self, ns: u64) -> Result<()> {
        std::thread::sleep(Duration::from_nanos(ns));
        Ok(())
    }
    fn sync(&self) -> Result<()> {
        // SAFETY: a plain system call.
        unsafe { libc::sync() };
        Ok(())
    }
    fn statfs(&self, path: &str) -> Result<xinim_os::StatFs> {
        let path = CString::new(path).map_err(|_| Error::Inval)?;
        // SAFETY: zeros are a valid `statvfs`, which the call fills in.
        let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: both point to what the call expects.
        check(unsafe { libc::statvfs(path.as_ptr(), &mut found) })?;
        let mut fs_type = [0; 16];
        fs_type[..4].copy_from_slice(b"host");
        Ok(xinim_os::StatFs {
            block_size: found.f_frsize,
            blocks: found.f_blocks,
            blocks_free: found.f_bfree,
            files: found.f_files,
            files_free: found.f_ffree,
            name_max: found.f_namemax,
            fs_type,
        })
    }
}
