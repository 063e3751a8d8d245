//! What each message asks for. See [`crate::server`] for the frame around it.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Reply;
use xinim_abi::ipc::Message;
use xinim_abi::services::vfs::vfs::{self as api, Call};
use xinim_abi::services::vfs::{POLL_MAX, PollFd, mount, report};
use xinim_fs_kit::{FileSystem, Window};
use zerocopy::IntoBytes;

use crate::access::{Credentials, GROUPS_MAX};
use crate::attributes::Target;
use crate::locking::Locking;
use crate::server::{Answer, Caller, Server, TRANSFER_MAX, admin};
use crate::vfs::{Host, Vfs};

impl<H: Host> Server<H> {
    pub(crate) fn run(&mut self, caller: Caller, call: Call) -> Answer {
        let pid = caller.pid;
        let now = |message: Message| Ok(Some(message));
        match call {
            Call::Connect(r) => {
                self.connect(pid, r.len, r.window)?;
                now(api::Connected {}.encode())
            }
            Call::Open(r) => {
                if let Some(fd) = self.vfs.progress(pid) {
                    // The last instance opened a FIFO, and then the caller waited.
                    return self.opened(caller, fd as u32);
                }
                let path = self.text(pid, 0, r.path_len)?;
                let fd = self.vfs.open(pid, &path, r.flags, r.mode)?;
                self.opened(caller, fd)
            }
            Call::OpenFor(r) => {
                admin(caller)?;
                let path = self.text(pid, 0, r.path_len)?;
                let fd = self.vfs.open_for(pid, r.parent, &path)?;
                let node = self.vfs.file_node(pid, fd)?;
                let no_suid = self.vfs.mount_of(node).flags & mount::NO_SUID != 0;
                now(api::OpenedFor { fd, no_suid }.encode())
            }
            Call::Close(r) => {
                match self.vfs.close(pid, r.fd) {
                    // The last instance closed it, and then had to tell a server.
                    Err(Error::BadF) if self.vfs.repeated(pid).is_some() => {}
                    result => result?,
                }
                now(api::Closed {}.encode())
            }
            Call::Read(r) => self.read(caller, r),
            Call::Write(r) => self.write(caller, r),
            Call::Seek(r) => {
                let position = self.vfs.seek(pid, r.fd, r.offset, r.whence)?;
                now(api::Position { position }.encode())
            }
            Call::Stat(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                let stat = self.vfs.stat(pid, &path, r.follow)?;
                self.put(pid, 0, stat.as_bytes())?;
                now(api::StatDone {}.encode())
            }
            Call::Fstat(r) => {
                let stat = self.vfs.fstat(pid, r.fd)?;
                self.put(pid, 0, stat.as_bytes())?;
                now(api::FstatDone {}.encode())
            }
            Call::Mkdir(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                self.vfs.mkdir(pid, &path, r.mode)?;
                now(api::MkdirDone {}.encode())
            }
            Call::Unlink(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                self.vfs.unlink(pid, &path, r.directory)?;
                now(api::UnlinkDone {}.encode())
            }
            Call::Rename(r) => {
                let (from, to) = self.two_texts(pid, r.from_len, r.to_len)?;
                self.vfs.rename(pid, &from, &to)?;
                now(api::RenameDone {}.encode())
            }
            Call::Link(r) => {
                let (from, to) = self.two_texts(pid, r.from_len, r.to_len)?;
                self.vfs.link(pid, &from, &to)?;
                now(api::LinkDone {}.encode())
            }
            Call::Symlink(r) => {
                let (target, path) = self.two_texts(pid, r.target_len, r.path_len)?;
                self.vfs.symlink(pid, &target, &path)?;
                now(api::SymlinkDone {}.encode())
            }
            Call::Readlink(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                let target = self.vfs.read_link(pid, &path)?;
                self.put(pid, 0, &target)?;
                now(api::ReadlinkDone { len: target.len() as u32 }.encode())
            }
            Call::Readdir(r) => {
                let (at, len) = self.bounds(pid, r.at, r.len)?;
                let entries = self.vfs.read_dir(pid, r.fd, len.min(TRANSFER_MAX))?;
                self.put(pid, at, entries.bytes())?;
                now(api::ReaddirDone { len: entries.bytes().len() as u32 }.encode())
            }
            Call::Truncate(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                self.vfs.truncate(pid, &path, r.size)?;
                now(api::TruncateDone {}.encode())
            }
            Call::Ftruncate(r) => {
                self.vfs.ftruncate(pid, r.fd, r.size)?;
                now(api::FtruncateDone {}.encode())
            }
            Call::Sync(_) => {
                self.vfs.sync()?;
                now(api::SyncDone {}.encode())
            }
            Call::Fsync(r) => {
                self.vfs.fsync(pid, r.fd)?;
                now(api::FsyncDone {}.encode())
            }
            Call::Statfs(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                let figures = self.vfs.statfs(pid, &path)?;
                self.put(pid, 0, figures.as_bytes())?;
                now(api::StatfsDone {}.encode())
            }
            Call::Mount(r) => {
                let (source, target) = self.two_texts(pid, r.source_len, r.target_len)?;
                let fs_type = self.text(pid, source.len() + target.len(), r.type_len)?;
                self.vfs.mount_at(pid, &source, &target, &fs_type, r.flags)?;
                now(api::MountDone {}.encode())
            }
            Call::Umount(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                match self.vfs.umount(pid, &path, r.lazy) {
                    // The last instance had taken it out of the tree already.
                    Err(Error::Inval) if self.vfs.repeated(pid).is_some() => {}
                    result => result?,
                }
                now(api::UmountDone {}.encode())
            }
            Call::Mounts(_) => {
                self.vfs.mount_all();
                let text = self.vfs.mounts_text();
                self.put(pid, 0, text.as_bytes())?;
                now(api::MountsDone { len: text.len() as u32 }.encode())
            }
            Call::Chdir(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                self.vfs.chdir(pid, &path)?;
                now(api::ChdirDone {}.encode())
            }
            Call::Getcwd(_) => {
                let path = self.vfs.getcwd(pid)?;
                self.put(pid, 0, &path)?;
                now(api::GetcwdDone { len: path.len() as u32 }.encode())
            }
            Call::Dup(r) => now(api::DupDone { fd: self.vfs.dup(pid, r.fd, r.at_least)? }.encode()),
            Call::Dup2(r) => {
                self.vfs.dup2(pid, r.from, r.to)?;
                now(api::Dup2Done {}.encode())
            }
            Call::Pipe(_) => {
                let (read, write) = self.vfs.pipe(pid)?;
                now(api::PipeDone { read, write }.encode())
            }
            Call::Redirect(r) => {
                let (cookie, endpoint) = self.vfs.redirect(pid, r.fd)?;
                self.reply_with(caller, endpoint, api::Redirected { cookie, endpoint }.encode())
            }
            Call::Map(r) => {
                let map = self.vfs.map(pid, r.fd)?;
                let reply = api::Mapped { offset: map.offset, len: map.len, memory: map.memory };
                self.reply_with(caller, map.memory, reply.encode())
            }
            Call::Inherit(r) => {
                admin(caller)?;
                self.inherit(pid, r)?;
                now(api::Inherited {}.encode())
            }
            Call::SetTimes(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                let target = Target::Path(&path, r.follow);
                self.vfs.set_times(pid, target, r.atime, r.mtime)?;
                now(api::SetTimesDone {}.encode())
            }
            Call::Chmod(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                self.vfs.chmod(pid, Target::Path(&path, true), r.mode)?;
                now(api::ChmodDone {}.encode())
            }
            Call::Fchmod(r) => {
                self.vfs.chmod(pid, Target::Fd(r.fd), r.mode)?;
                now(api::FchmodDone {}.encode())
            }
            Call::Chown(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                self.vfs.chown(pid, Target::Path(&path, r.follow), r.uid, r.gid)?;
                now(api::ChownDone {}.encode())
            }
            Call::Fchown(r) => {
                self.vfs.chown(pid, Target::Fd(r.fd), r.uid, r.gid)?;
                now(api::FchownDone {}.encode())
            }
            Call::Fsettimes(r) => {
                self.vfs.set_times(pid, Target::Fd(r.fd), r.atime, r.mtime)?;
                now(api::FsettimesDone {}.encode())
            }
            Call::Mknod(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                self.vfs.mknod(pid, &path, r.mode, r.rdev)?;
                now(api::MknodDone {}.encode())
            }
            Call::Access(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                self.vfs.access(pid, &path, r.want)?;
                now(api::AccessDone {}.encode())
            }
            Call::Umask(r) => {
                let umask = &mut self.vfs.process_mut(pid)?.umask;
                let old = core::mem::replace(umask, r.mask & 0o777);
                now(api::UmaskDone { old }.encode())
            }
            Call::Identify(r) => {
                admin(caller)?;
                self.identify(pid, r)?;
                now(api::Identified {}.encode())
            }
            Call::WhoIs(r) => {
                admin(caller)?;
                let who = self.vfs.process(r.pid).map_err(|_| Error::Srch)?.who.clone();
                self.put(pid, 0, who.groups.as_bytes())?;
                let count = who.groups.len() as u32;
                now(api::ThisIs { uid: who.uid, gid: who.gid, count }.encode())
            }
            Call::Fchdir(r) => {
                self.vfs.fchdir(pid, r.fd)?;
                now(api::FchdirDone {}.encode())
            }
            Call::Control(r) => {
                let value = self.vfs.control(pid, r.fd, r.operation, r.argument)?;
                now(api::Controlled { value }.encode())
            }
            Call::Lock(r) => match self.vfs.lock(pid, &r, caller.token)? {
                Locking::Done(locked) => now(locked.encode()),
                Locking::Waits => Ok(None),
            },
            Call::Poll(r) => {
                let ready = self.poll(pid, r)?;
                now(api::Polled { ready }.encode())
            }
            Call::Remount(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                self.vfs.remount(pid, &path, r.flags)?;
                now(api::RemountDone {}.encode())
            }
            Call::Attach(r) => {
                let fd = self.vfs.attach(pid, r.server, r.cookie, r.flags)?;
                now(api::AttachDone { fd }.encode())
            }
            Call::Vouch(r) => {
                self.vfs.vouch(pid, r.server)?;
                now(api::Vouched {}.encode())
            }
            Call::Share(r) => {
                let (len, memory) = self.vfs.share_file(pid, r.fd, r.writable)?;
                self.reply_with(caller, memory, api::Shared { len, memory }.encode())
            }
            Call::SyncMap(r) => {
                self.vfs.sync_map(pid, r.fd)?;
                now(api::SyncMapDone {}.encode())
            }
            Call::Trim(r) => {
                let path = self.text(pid, 0, r.path_len)?;
                let bytes = self.vfs.discard(pid, &path, r.min_len)?;
                now(api::TrimDone { bytes }.encode())
            }
            Call::Discard(r) => {
                self.vfs.discard_blocks(pid, r.fd, r.offset, r.len, r.zeroes)?;
                now(api::DiscardDone {}.encode())
            }
            Call::Report(r) => {
                let (_, len) = self.bounds(pid, 0, r.len)?;
                let text = self.vfs.report(r.kind)?;
                let part = text.as_bytes().get(r.offset as usize..).unwrap_or(&[]);
                let part = &part[..part.len().min(len)];
                self.put(pid, 0, part)?;
                let (len, total) = (part.len() as u32, text.len() as u32);
                now(api::Reported { len, total }.encode())
            }
        }
    }

    fn identify(&mut self, pid: u32, r: api::Identify) -> Result<()> {
        if r.count as usize > GROUPS_MAX {
            return Err(Error::Inval);
        }
        let mut groups = vec![0u32; r.count as usize];
        self.window(pid)?.read(0, groups.as_mut_bytes())?;
        let process = self.vfs.process_mut(r.pid).map_err(|_| Error::Srch)?;
        process.who = Arc::new(Credentials { uid: r.uid, gid: r.gid, groups });
        Ok(())
    }

    fn poll(&mut self, pid: u32, r: api::Poll) -> Result<u32> {
        let mut fds = vec![PollFd::default(); r.count.min(POLL_MAX) as usize];
        let read = match r.count {
            0..=POLL_MAX => self.window(pid).and_then(|w| w.read(0, fds.as_mut_bytes())),
            _ => Err(Error::Inval),
        };
        if let Err(error) = read {
            self.vfs.host.close(r.notify);
            return Err(error);
        }
        let ready = self.vfs.poll(pid, &mut fds, r.bit, r.notify)?;
        self.put(pid, 0, fds.as_bytes())?;
        Ok(ready)
    }
}

impl<H: Host> Vfs<H> {
    pub(crate) fn report(&mut self, kind: u32) -> Result<String> {
        match kind {
            report::MOUNTS => Ok(self.mounts_text()),
            report::LOCKS => Ok(self.locks_text()),
            report::FILESYSTEMS => Ok(self.types_text()),
            _ => Err(Error::Inval),
        }
    }

    /// Has the file system below a path discard its free blocks.
    fn discard(&mut self, pid: u32, path: &[u8], min_len: u64) -> Result<u64> {
        self.root_only(pid)?;
        let node = self.resolve_for(pid, path, true)?.node()?;
        self.writable(node)?;
        self.on(node, |fs, _| fs.trim(0, u64::MAX, min_len))
    }
}
