//! Files and descriptors, as programs use them.
//!
//! Requests go to VFS through the process's window. Reads and writes of character devices go to
//! the device's server directly once VFS has said where it is (see `services::vfs`); that detour
//! is kept per descriptor and hidden here.

mod attributes;
mod device;
mod dir;
mod file;
mod lock;
mod map;
mod poll;

use alloc::string::String;
use alloc::vec::Vec;

use spin::{Mutex, Once};
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Request;
use xinim_abi::services::vfs::{PATH_MAX, Stat, StatFs, vfs};
use xinim_abi::start::role;

use crate::handle::OwnedHandle;
use crate::ipc::{self, Numbers, Service};
use crate::start;
use crate::window::{self, Window};

pub use attributes::{
    access, chmod, chown, discard, fchmod, fchown, mkfifo, mknod, remount, set_times, trim, umask,
};
pub use device::{attach_device, control, is_terminal};
pub use dir::{DirEntry, read_dir, read_dir_fd};
pub use file::{File, read_to_end, read_to_string, write_all};
pub use lock::{Lock, lock, lock_test, unlock};
pub use map::{SharedFile, share};
pub use poll::{PollFd, poll};
pub use xinim_abi::services::vfs::{KEEP_ID, mode, mount as mount_flags, open as flags, time};

struct Connection {
    vfs: Service,
    numbers: Numbers,
    /// VFS knows our window.
    connected: Mutex<bool>,
}

static CONNECTION: Once<Connection> = Once::new();

fn connection() -> &'static Connection {
    CONNECTION.call_once(|| {
        let vfs = match start::handle(role::VFS) {
            Some(handle) => Service::with_endpoint("vfs", OwnedHandle::from_raw(handle)),
            None => Service::new("vfs"),
        };
        Connection { vfs, numbers: Numbers::new(), connected: Mutex::new(false) }
    })
}

/// One request to VFS while `window` is held. VFS goes on where it was when it dies: the request is
/// repeated, if need be, and done once (see `call_through`). Only what VFS does not overwrite in the
/// window may be an argument; else see [`ask_about`].
pub(crate) fn ask<R: Request>(window: &Window, request: &R) -> Result<R::Reply> {
    ask_about(window, &[], request)
}

/// As [`ask`]; before each attempt the arguments are put into the window, one behind the other.
fn ask_about<R: Request>(window: &Window, parts: &[&[u8]], request: &R) -> Result<R::Reply> {
    let connection = connection();
    connection.vfs.call_through(&connection.numbers, request, |endpoint, again| {
        let mut connected = connection.connected.lock();
        if again || !*connected {
            let shared = window.share()?;
            let len = window.mapping().len() as u64;
            ipc::call(endpoint, &vfs::Connect { len, window: shared.raw() })?;
            *connected = true;
        }
        let mut at = 0;
        for part in parts {
            window.mapping().copy_in(at, part)?;
            at += part.len();
        }
        Ok(())
    })
}

/// Paths as arguments.
fn ask_with_paths<R: Request>(window: &Window, paths: &[&str], request: &R) -> Result<R::Reply> {
    if paths.iter().any(|path| path.len() > PATH_MAX) {
        return Err(Error::NameTooLong);
    }
    let parts: Vec<&[u8]> = paths.iter().map(|path| path.as_bytes()).collect();
    ask_about(window, &parts, request)
}

fn with_paths<R: Request>(parts: &[&str], request: &R) -> Result<R::Reply> {
    ask_with_paths(&*window::lock()?, parts, request)
}

/// Any request of the `vfs` interface, with `bytes` at the start of the window: for callers
/// this module has no function for (the process manager).
pub fn request<R: Request>(bytes: &[u8], request: &R) -> Result<R::Reply> {
    ask_about(&*window::lock()?, &[bytes], request)
}

fn len(path: &str) -> u32 {
    path.len() as u32
}

pub fn open(path: &str, flags: u32, mode: u32) -> Result<u32> {
    let fd = with_paths(&[path], &vfs::Open { path_len: len(path), flags, mode })?.fd;
    device::forget(fd);
    Ok(fd)
}

pub fn close(fd: u32) -> Result<()> {
    device::forget(fd);
    let window = window::lock()?;
    ask(&window, &vfs::Close { fd }).map(drop)
}

/// Up to one window's worth of bytes; 0 at the end.
pub fn read(fd: u32, buffer: &mut [u8]) -> Result<usize> {
    transfer_in(fd, -1, buffer)
}

/// As [`read`], at `offset`, without moving the position.
pub fn pread(fd: u32, buffer: &mut [u8], offset: u64) -> Result<usize> {
    transfer_in(fd, i64::try_from(offset).map_err(|_| Error::Inval)?, buffer)
}

fn transfer_in(fd: u32, offset: i64, buffer: &mut [u8]) -> Result<usize> {
    if buffer.is_empty() {
        return Ok(0);
    }
    let window = window::lock()?;
    let len = buffer.len().min(window.mapping().len()) as u32;
    if let Some(result) = device::read(fd, &window, len) {
        let count = (result? as usize).min(buffer.len());
        window.mapping().copy_out(0, &mut buffer[..count])?;
        return Ok(count);
    }
    let count = match ask(&window, &vfs::Read { fd, offset, at: 0, len }) {
        Ok(reply) => reply.count,
        Err(Error::Redirect) => {
            device::learn(fd, &window, ask(&window, &vfs::Redirect { fd })?)?;
            device::read(fd, &window, len).unwrap_or(Err(Error::BadReply))?
        }
        Err(error) => return Err(error),
    };
    let count = (count as usize).min(buffer.len());
    window.mapping().copy_out(0, &mut buffer[..count])?;
    Ok(count)
}

/// At most one window's worth; how many bytes were taken.
pub fn write(fd: u32, bytes: &[u8]) -> Result<usize> {
    transfer_out(fd, -1, bytes)
}

pub fn pwrite(fd: u32, bytes: &[u8], offset: u64) -> Result<usize> {
    transfer_out(fd, i64::try_from(offset).map_err(|_| Error::Inval)?, bytes)
}

fn transfer_out(fd: u32, offset: i64, bytes: &[u8]) -> Result<usize> {
    let window = window::lock()?;
    let bytes = &bytes[..bytes.len().min(window.mapping().len())];
    window.mapping().copy_in(0, bytes)?;
    let len = bytes.len() as u32;
    if let Some(result) = device::write(fd, &window, len) {
        return Ok((result? as usize).min(bytes.len()));
    }
    let count = match ask(&window, &vfs::Write { fd, offset, at: 0, len }) {
        Ok(reply) => reply.count,
        Err(Error::Redirect) => {
            device::learn(fd, &window, ask(&window, &vfs::Redirect { fd })?)?;
            device::write(fd, &window, len).unwrap_or(Err(Error::BadReply))?
        }
        Err(error) => return Err(error),
    };
    Ok((count as usize).min(bytes.len()))
}

/// `whence`: 0 start, 1 position, 2 end.
pub fn seek(fd: u32, offset: i64, whence: u32) -> Result<u64> {
    let window = window::lock()?;
    Ok(ask(&window, &vfs::Seek { fd, offset, whence })?.position)
}

fn stat_with(path: &str, follow: bool) -> Result<Stat> {
    let window = window::lock()?;
    ask_with_paths(&window, &[path], &vfs::Stat { path_len: len(path), follow })?;
    window.mapping().read(0)
}

pub fn stat(path: &str) -> Result<Stat> {
    stat_with(path, true)
}

pub fn lstat(path: &str) -> Result<Stat> {
    stat_with(path, false)
}

pub fn fstat(fd: u32) -> Result<Stat> {
    let window = window::lock()?;
    ask(&window, &vfs::Fstat { fd })?;
    window.mapping().read(0)
}

pub fn statfs(path: &str) -> Result<StatFs> {
    let window = window::lock()?;
    ask_with_paths(&window, &[path], &vfs::Statfs { path_len: len(path) })?;
    window.mapping().read(0)
}

pub fn mkdir(path: &str, mode: u32) -> Result<()> {
    with_paths(&[path], &vfs::Mkdir { path_len: len(path), mode }).map(drop)
}

pub fn unlink(path: &str) -> Result<()> {
    with_paths(&[path], &vfs::Unlink { path_len: len(path), directory: false }).map(drop)
}

pub fn rmdir(path: &str) -> Result<()> {
    with_paths(&[path], &vfs::Unlink { path_len: len(path), directory: true }).map(drop)
}

pub fn rename(from: &str, to: &str) -> Result<()> {
    let request = vfs::Rename { from_len: len(from), to_len: len(to) };
    with_paths(&[from, to], &request).map(drop)
}

pub fn link(from: &str, to: &str) -> Result<()> {
    with_paths(&[from, to], &vfs::Link { from_len: len(from), to_len: len(to) }).map(drop)
}

pub fn symlink(target: &str, path: &str) -> Result<()> {
    let request = vfs::Symlink { target_len: len(target), path_len: len(path) };
    with_paths(&[target, path], &request).map(drop)
}

pub fn fchdir(fd: u32) -> Result<()> {
    let window = window::lock()?;
    ask(&window, &vfs::Fchdir { fd }).map(drop)
}

/// See `vfs::Control`.
pub fn descriptor_control(fd: u32, operation: u32, argument: u64) -> Result<u64> {
    let value = {
        let window = window::lock()?;
        ask(&window, &vfs::Control { fd, operation, argument })?.value
    };
    if operation == xinim_abi::services::vfs::control::SET_FLAGS {
        device::set_nonblocking(fd, argument & u64::from(flags::NONBLOCK) != 0);
    }
    Ok(value)
}

/// A descriptor of what service `server` keeps under `cookie`. See `vfs::Attach`.
pub fn attach(server: xinim_abi::interface::Name, cookie: u64, flags: u32) -> Result<u32> {
    let window = window::lock()?;
    let fd = ask(&window, &vfs::Attach { server, cookie, flags })?.fd;
    device::forget(fd);
    Ok(fd)
}

/// A report of VFS about itself, see `services::vfs::report`.
pub fn report(kind: u32) -> Result<String> {
    let window = window::lock()?;
    let len = window.mapping().len() as u32;
    let mut bytes = Vec::new();
    loop {
        let offset = bytes.len() as u32;
        let reply = ask(&window, &vfs::Report { kind, offset, len })?;
        bytes.extend(window.mapping().to_vec(0, reply.len as usize)?);
        if reply.len == 0 || bytes.len() >= reply.total as usize {
            return String::from_utf8(bytes).map_err(|_| Error::BadReply);
        }
    }
}

fn text(window: &Window, len: u32) -> Result<String> {
    let bytes: Vec<u8> = window.mapping().to_vec(0, len as usize)?;
    String::from_utf8(bytes).map_err(|_| Error::BadReply)
}

pub fn readlink(path: &str) -> Result<String> {
    let window = window::lock()?;
    let reply = ask_with_paths(&window, &[path], &vfs::Readlink { path_len: len(path) })?;
    text(&window, reply.len)
}

pub fn truncate(path: &str, size: u64) -> Result<()> {
    with_paths(&[path], &vfs::Truncate { path_len: len(path), size }).map(drop)
}

pub fn ftruncate(fd: u32, size: u64) -> Result<()> {
    let window = window::lock()?;
    ask(&window, &vfs::Ftruncate { fd, size }).map(drop)
}

pub fn sync() -> Result<()> {
    let window = window::lock()?;
    ask(&window, &vfs::Sync {}).map(drop)
}

pub fn fsync(fd: u32) -> Result<()> {
    let window = window::lock()?;
    ask(&window, &vfs::Fsync { fd }).map(drop)
}

/// Mounts `source` on directory `target`. An empty `fs_type` is found out.
pub fn mount(source: &str, target: &str, fs_type: &str, flags: u32) -> Result<()> {
    let request = vfs::Mount {
        source_len: len(source),
        target_len: len(target),
        type_len: len(fs_type),
        flags,
    };
    with_paths(&[source, target, fs_type], &request).map(drop)
}

pub fn umount(path: &str, lazy: bool) -> Result<()> {
    with_paths(&[path], &vfs::Umount { path_len: len(path), lazy }).map(drop)
}

/// `source target type options` a line.
pub fn mounts() -> Result<String> {
    let window = window::lock()?;
    let reply = ask(&window, &vfs::Mounts {})?;
    text(&window, reply.len)
}

pub fn chdir(path: &str) -> Result<()> {
    with_paths(&[path], &vfs::Chdir { path_len: len(path) }).map(drop)
}

pub fn getcwd() -> Result<String> {
    let window = window::lock()?;
    let reply = ask(&window, &vfs::Getcwd {})?;
    text(&window, reply.len)
}

pub fn dup(fd: u32, at_least: u32) -> Result<u32> {
    let window = window::lock()?;
    let new = ask(&window, &vfs::Dup { fd, at_least })?.fd;
    device::forget(new);
    Ok(new)
}

pub fn dup2(from: u32, to: u32) -> Result<()> {
    let window = window::lock()?;
    ask(&window, &vfs::Dup2 { from, to })?;
    device::forget(to);
    Ok(())
}

/// (read end, write end)
pub fn pipe() -> Result<(u32, u32)> {
    let window = window::lock()?;
    let reply = ask(&window, &vfs::Pipe {})?;
    device::forget(reply.read);
    device::forget(reply.write);
    Ok((reply.read, reply.write))
}

/// The file's bytes as memory: offset, length, memory. See `vfs::Map`.
pub fn map(fd: u32) -> Result<(u64, u64, OwnedHandle)> {
    let window = window::lock()?;
    let reply = ask(&window, &vfs::Map { fd })?;
    Ok((reply.offset, reply.len, OwnedHandle::from_raw(reply.memory)))
}

/// Process manager only: as whom `pid` acts on files, and its supplementary groups.
pub fn who_is(pid: u32) -> Result<(vfs::ThisIs, Vec<u32>)> {
    let window = window::lock()?;
    let found = ask(&window, &vfs::WhoIs { pid })?;
    let bytes = window.mapping().to_vec(0, found.count as usize * 4)?;
    let groups = bytes.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id));
    Ok((found, groups.collect()))
}

/// Process manager only: `maps` is an array of `FdMap` as bytes. See `vfs::Inherit`.
pub fn inherit(parent: u32, child: u32, maps: &[u8]) -> Result<()> {
    let count = (maps.len() / 8) as u32;
    request(maps, &vfs::Inherit { parent, child, count }).map(drop)
}
