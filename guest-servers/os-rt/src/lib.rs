//! [`Os`] over the run-time library: what shell and tools run on in XINIM.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::info::Kind;
use xinim_abi::services::chardev::control;
use xinim_os::{
    DirEntry, Ended, Error, Fd, Flock, Identity, Ids, Os, ProcessInfo, Result, Spawn, Stat, StatFs,
    SystemInfo, Whence,
};
use xinim_rt::{fs, kip, process, rs, start, sys, time};

/// The system this program runs on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Xinim;

/// This program's arguments, the name first.
pub fn args() -> Vec<String> {
    start::args().map(String::from).collect()
}

/// This program's environment, `NAME=value` each.
pub fn env() -> Vec<String> {
    start::env().map(String::from).collect()
}

impl Os for Xinim {
    fn open(&self, path: &str, flags: u32, mode: u32) -> Result<Fd> {
        fs::open(path, flags, mode)
    }
    fn close(&self, fd: Fd) -> Result<()> {
        fs::close(fd)
    }
    fn read(&self, fd: Fd, buffer: &mut [u8]) -> Result<usize> {
        fs::read(fd, buffer)
    }
    fn write(&self, fd: Fd, bytes: &[u8]) -> Result<usize> {
        fs::write(fd, bytes)
    }
    fn seek(&self, fd: Fd, offset: i64, whence: Whence) -> Result<u64> {
        fs::seek(fd, offset, whence as u32)
    }
    fn fstat(&self, fd: Fd) -> Result<Stat> {
        fs::fstat(fd)
    }
    fn ftruncate(&self, fd: Fd, size: u64) -> Result<()> {
        fs::ftruncate(fd, size)
    }
    fn fsync(&self, fd: Fd) -> Result<()> {
        fs::fsync(fd)
    }
    fn pipe(&self) -> Result<(Fd, Fd)> {
        fs::pipe()
    }
    fn is_terminal(&self, fd: Fd) -> bool {
        fs::is_terminal(fd)
    }
    fn set_raw(&self, fd: Fd, raw: bool) -> Result<()> {
        fs::control(fd, control::SET_RAW, raw.into()).map(drop)
    }

    fn stat(&self, path: &str) -> Result<Stat> {
        fs::stat(path)
    }
    fn lstat(&self, path: &str) -> Result<Stat> {
        fs::lstat(path)
    }
    fn read_dir(&self, path: &str) -> Result<Vec<DirEntry>> {
        let entry =
            |entry: fs::DirEntry| DirEntry { name: entry.name, ino: entry.ino, kind: entry.kind };
        Ok(fs::read_dir(path)?.into_iter().map(entry).collect())
    }
    fn mkdir(&self, path: &str, mode: u32) -> Result<()> {
        fs::mkdir(path, mode)
    }
    fn rmdir(&self, path: &str) -> Result<()> {
        fs::rmdir(path)
    }
    fn unlink(&self, path: &str) -> Result<()> {
        fs::unlink(path)
    }
    fn rename(&self, from: &str, to: &str) -> Result<()> {
        fs::rename(from, to)
    }
    fn link(&self, from: &str, to: &str) -> Result<()> {
        fs::link(from, to)
    }
    fn symlink(&self, target: &str, path: &str) -> Result<()> {
        fs::symlink(target, path)
    }
    fn readlink(&self, path: &str) -> Result<String> {
        fs::readlink(path)
    }
    fn chmod(&self, path: &str, mode: u32) -> Result<()> {
        fs::chmod(path, mode)
    }
    fn set_times(&self, path: &str, follow: bool, atime: u64, mtime: u64) -> Result<()> {
        fs::set_times(path, follow, atime, mtime)
    }
    fn chown(&self, path: &str, follow: bool, uid: u32, gid: u32) -> Result<()> {
        fs::chown(path, follow, uid, gid)
    }
    fn mknod(&self, path: &str, mode: u32, rdev: u32) -> Result<()> {
        fs::mknod(path, mode, rdev)
    }
    fn access(&self, path: &str, want: u32) -> Result<()> {
        fs::access(path, want)
    }
    fn umask(&self, mask: u32) -> Result<u32> {
        fs::umask(mask)
    }
    fn flock(&self, fd: Fd, lock: Flock, wait: bool) -> Result<()> {
        let whole = fs::Lock::whole(lock == Flock::Exclusive);
        match lock {
            Flock::Unlock => fs::unlock(fd, &whole),
            _ => fs::lock(fd, &whole, wait),
        }
    }
    fn chdir(&self, path: &str) -> Result<()> {
        fs::chdir(path)
    }
    fn getcwd(&self) -> Result<String> {
        fs::getcwd()
    }

    fn spawn(&self, program: &Spawn<'_>) -> Result<u32> {
        let args: Vec<&str> = program.args.iter().map(String::as_str).collect();
        let env: Vec<&str> = program.env.iter().map(String::as_str).collect();
        let request =
            process::SpawnRequest { path: program.path, args: &args, env: &env, fds: program.fds };
        process::spawn(&request)
    }
    fn wait(&self, pid: u32, poll: bool) -> Result<Ended> {
        let ended = |(pid, status)| Ended { pid, status };
        if poll {
            return process::try_wait(pid)?.map(ended).ok_or(Error::Again);
        }
        process::wait(pid).map(ended)
    }
    fn kill(&self, pid: u32, signal: u32) -> Result<()> {
        process::kill(pid, signal)
    }
    fn set_foreground(&self, pid: u32) -> Result<()> {
        process::set_foreground(pid)
    }
    fn pid(&self) -> u32 {
        process::id()
    }
    fn identity(&self) -> Result<Identity> {
        let ids =
            |ids: process::Ids| Ids { real: ids.real, effective: ids.effective, saved: ids.saved };
        let (groups, supplementary) = process::group_ids(0)?;
        let users = ids(process::user_ids(0)?);
        Ok(Identity { users, groups: ids(groups), supplementary })
    }
    fn set_user_ids(&self, ids: Ids) -> Result<()> {
        let Ids { real, effective, saved } = ids;
        process::set_user_ids(process::Ids { real, effective, saved })
    }
    fn set_group_ids(&self, ids: Ids) -> Result<()> {
        let Ids { real, effective, saved } = ids;
        process::set_group_ids(process::Ids { real, effective, saved })
    }
    fn set_groups(&self, groups: &[u32]) -> Result<()> {
        process::set_groups(groups)
    }
    fn now_ns(&self) -> u64 {
        time::now_ns()
    }
    fn wall_clock_ns(&self) -> u64 {
        time::wall_clock_ns()
    }
    fn sleep_ns(&self, ns: u64) -> Result<()> {
        time::sleep_ns(ns);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        fs::sync()
    }
    fn statfs(&self, path: &str) -> Result<StatFs> {
        fs::statfs(path)
    }
    fn mount(&self, source: &str, target: &str, fs_type: &str, flags: u32) -> Result<()> {
        fs::mount(source, target, fs_type, flags)
    }
    fn remount(&self, path: &str, flags: u32) -> Result<()> {
        fs::remount(path, flags)
    }
    fn trim(&self, path: &str, min_len: u64) -> Result<u64> {
        fs::trim(path, min_len)
    }
    fn discard(&self, fd: Fd, offset: u64, len: u64, zeroes: bool) -> Result<()> {
        fs::discard(fd, offset, len, zeroes)
    }
    fn umount(&self, path: &str, lazy: bool) -> Result<()> {
        fs::umount(path, lazy)
    }
    fn mounts(&self) -> Result<String> {
        fs::mounts()
    }
    fn system_info(&self) -> Result<SystemInfo> {
        sys::info(Kind::System, 0)
    }
    fn process_info(&self, pid: u32) -> Result<ProcessInfo> {
        sys::info(Kind::Process, pid.into())
    }
    fn service_query(&self, kind: u32, name: &str) -> Result<String> {
        rs::query(kind, name)
    }
    fn service_core(&self, name: &str) -> Result<Vec<u8>> {
        rs::core(name)
    }
    fn service_load(&self, name: &str, manifest: &[u8], program: &[u8]) -> Result<Option<String>> {
        rs::load(name, manifest, program)
    }

    fn service_unload(&self, name: &str) -> Result<Option<String>> {
        rs::unload(name)
    }

    fn service_update(&self, name: &str, program: &[u8]) -> Result<bool> {
        rs::update(name, program)
    }

    fn service_control(&self, operation: u32, name: &str) -> Result<u32> {
        rs::control(operation, name)
    }
    fn shutdown(&self, reboot: bool) -> Result<()> {
        rs::shutdown(reboot)
    }
    fn kernel_cmdline(&self) -> String {
        kip::cmdline().into()
    }
    fn cpus(&self) -> u32 {
        kip::cpus()
    }
}
