//! Attributes of files, by path or descriptor: status, permissions, owners, times, size.

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{KEEP_ID, Stat, StatFs, mode, mount, time};
use xinim_fs_kit::{FileSystem, SetAttributes};

use crate::access::{Credentials, WRITE};
use crate::files::Object;
use crate::pipe::{ATOMIC, CAPACITY};
use crate::tree::NodeId;
use crate::vfs::{Host, Vfs};

/// What an operation on attributes is about.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A path; `true`: a last symbolic link is followed.
    Path(&'a [u8], bool),
    Fd(u32),
}

impl<H: Host> Vfs<H> {
    fn target(&mut self, pid: u32, target: Target<'_>) -> Result<NodeId> {
        match target {
            Target::Path(path, follow) => self.resolve_for(pid, path, follow)?.node(),
            Target::Fd(fd) => {
                let node = self.file_node(pid, fd)?;
                self.keep(node);
                Ok(node)
            }
        }
    }

    pub fn stat(&mut self, pid: u32, path: &[u8], follow: bool) -> Result<Stat> {
        let node = self.resolve_for(pid, path, follow)?.node()?;
        self.stat_node(node)
    }

    pub fn fstat(&mut self, pid: u32, fd: u32) -> Result<Stat> {
        let plain = |ino, mode, size| Stat {
            ino,
            size,
            mode,
            links: 1,
            block_size: ATOMIC as u32,
            ..Stat::default()
        };
        match self.file(pid, fd)?.object {
            Object::Node(node) | Object::Pipe(_, Some(node)) => self.stat_node(node),
            Object::Attached { cookie, .. } => Ok(plain(cookie, mode::SOCKET | 0o666, 0)),
            Object::Pipe(pipe, None) => {
                let size = self.pipes.get(pipe).map_or(0, |pipe| pipe.buffer.len() as u64);
                let stat = plain(u64::from(pipe) + 1, mode::FIFO | 0o600, size);
                Ok(Stat { blocks: (CAPACITY / 512) as u64, ..stat })
            }
        }
    }

    pub(crate) fn stat_node(&mut self, node: NodeId) -> Result<Stat> {
        let stat = self.stat_of(node)?;
        Ok(Stat { device: u64::from(self.tree.node(node).mount) + 1, ..stat })
    }

    /// May the process do all of `want` (4 read, 2 write, 1 execute or search) with the file?
    pub fn access(&mut self, pid: u32, path: &[u8], want: u32) -> Result<()> {
        if want & !7 != 0 {
            return Err(Error::Inval);
        }
        let node = self.resolve_for(pid, path, true)?.node()?;
        let who = self.process(pid)?.who.clone();
        if want & WRITE != 0 && self.tree.node(node).kind == mode::REGULAR {
            self.writable(node)?;
        }
        if want & 1 != 0
            && self.tree.node(node).kind == mode::REGULAR
            && self.mount_of(node).flags & mount::NO_EXEC != 0
        {
            return Err(Error::Access);
        }
        self.permit(&who, node, want)
    }

    /// Only the owner may; the set-group-ID bit is for members of the group.
    pub fn chmod(&mut self, pid: u32, target: Target<'_>, mode: u32) -> Result<()> {
        let node = self.target(pid, target)?;
        let who = self.process(pid)?.who.clone();
        self.owner_only(&who, node)?;
        let mut mode = mode & mode::PERMISSIONS;
        if mode & mode::SET_GID != 0 && !who.is_root() && !who.in_group(self.tree.node(node).gid) {
            mode &= !mode::SET_GID;
        }
        self.set(node, &SetAttributes { mode: Some(mode), ..SetAttributes::default() })
    }

    /// [`KEEP_ID`] leaves an id. Root may give files away; an owner may change to a group of theirs.
    pub fn chown(&mut self, pid: u32, target: Target<'_>, uid: u32, gid: u32) -> Result<()> {
        let node = self.target(pid, target)?;
        let who = self.process(pid)?.who.clone();
        self.know_attributes(node)?;
        let old = self.tree.node(node);
        let (uid, gid) = (Some(uid), Some(gid));
        let (uid, gid) = (uid.filter(|&id| id != KEEP_ID), gid.filter(|&id| id != KEEP_ID));
        if !who.is_root() {
            let same_owner = old.uid == who.uid && uid.is_none_or(|uid| uid == old.uid);
            if !same_owner || gid.is_some_and(|gid| gid != old.gid && !who.in_group(gid)) {
                return Err(Error::Perm);
            }
        }
        // Nobody shall lend another's authority through a file that changed hands.
        let lends = old.kind == mode::REGULAR && old.permissions & SET_ID != 0;
        let mode = lends.then_some(old.permissions & !SET_ID);
        self.set(node, &SetAttributes { mode, uid, gid, ..SetAttributes::default() })
    }

    /// Times in nanoseconds since 1970, [`time::NOW`] or [`time::OMIT`]. Other times than now are
    /// for the owner; now is for whoever may write.
    pub fn set_times(
        &mut self,
        pid: u32,
        target: Target<'_>,
        atime: u64,
        mtime: u64,
    ) -> Result<()> {
        let node = self.target(pid, target)?;
        let who = self.process(pid)?.who.clone();
        if atime == time::OMIT && mtime == time::OMIT {
            return Ok(());
        }
        if self.owner_only(&who, node).is_err() {
            match (atime, mtime) {
                (time::NOW, time::NOW) => self.permit(&who, node, WRITE)?,
                _ => return Err(Error::Perm),
            }
        }
        let now = self.host.now();
        let value = |time| match time {
            time::NOW => Some(now),
            time::OMIT => None,
            time => Some(time),
        };
        let (atime, mut mtime) = (value(atime), value(mtime));
        if mtime.is_none() {
            // So that it does not look like a read, which leaves ctime.
            mtime = Some(self.stat_of(node)?.mtime);
        }
        self.set(node, &SetAttributes { atime, mtime, ..SetAttributes::default() })
    }

    pub fn truncate(&mut self, pid: u32, path: &[u8], size: u64) -> Result<()> {
        let node = self.resolve_for(pid, path, true)?.node()?;
        let who = self.process(pid)?.who.clone();
        self.permit(&who, node, WRITE)?;
        self.resize(&who, node, size)
    }

    pub fn ftruncate(&mut self, pid: u32, fd: u32, size: u64) -> Result<()> {
        if !self.file(pid, fd)?.writable() {
            return Err(Error::Inval);
        }
        let node = self.file_node(pid, fd)?;
        let who = self.process(pid)?.who.clone();
        self.resize(&who, node, size)
    }

    pub(crate) fn resize(&mut self, who: &Credentials, node: NodeId, size: u64) -> Result<()> {
        if i64::try_from(size).is_err() {
            return Err(Error::Inval);
        }
        self.settle_shares(node)?;
        let mode = self.mode_after_change(who, node)?;
        self.set(node, &SetAttributes { size: Some(size), mode, ..SetAttributes::default() })
    }

    /// The permissions a program file has left when somebody else than root changes it.
    pub(crate) fn mode_after_change(
        &mut self,
        who: &Credentials,
        node: NodeId,
    ) -> Result<Option<u32>> {
        if who.is_root() {
            return Ok(None);
        }
        self.know_attributes(node)?;
        let permissions = self.tree.node(node).permissions;
        Ok((permissions & SET_ID != 0).then_some(permissions & !SET_ID))
    }

    /// Changes attributes, if the file system takes changes at all.
    pub(crate) fn set(&mut self, node: NodeId, set: &SetAttributes) -> Result<()> {
        self.writable(node)?;
        if set.size.is_some() {
            match self.tree.node(node).kind {
                mode::REGULAR => {}
                mode::DIRECTORY => return Err(Error::IsDir),
                _ => return Err(Error::Inval),
            }
        }
        let stat = self.on(node, |fs, ino| fs.set_attributes(ino, set))?;
        self.note(node, &stat);
        self.changed(node);
        if let Some(size) = set.size {
            self.cut_shares(node, size);
        }
        Ok(())
    }

    /// A read of a file or directory: its access time moves on, if it was not later than the last
    /// change already ("relatime").
    pub(crate) fn was_read(&mut self, node: NodeId) {
        let known = self.tree.node(node);
        if !known.read_counts || !matches!(known.kind, mode::REGULAR | mode::DIRECTORY) {
            return;
        }
        self.tree.node_mut(node).read_counts = false;
        let mount = self.mount_of(node);
        if mount.read_only() || mount.volatile() || mount.flags & mount::NO_ATIME != 0 {
            return;
        }
        let set = SetAttributes { atime: Some(self.host.now()), ..SetAttributes::default() };
        // The read was good; a time that cannot be kept changes nothing about it.
        let _ = self.on(node, |fs, ino| fs.set_attributes(ino, &set));
    }

    pub fn statfs(&mut self, pid: u32, path: &[u8]) -> Result<StatFs> {
        let node = self.resolve_for(pid, path, true)?.node()?;
        self.on(node, |fs, _| fs.statfs())
    }

    /// `Io`, once for each open file: a server died with changes that were not durable.
    pub fn fsync(&mut self, pid: u32, fd: u32) -> Result<()> {
        let id = self.file_id(pid, fd)?;
        let node = self.file_node(pid, fd)?;
        self.keep_file(id);
        self.settle_shares(node)?;
        self.make_durable(id, node)
    }

    /// Writes everything everywhere; the first error is answered, but no file system left out.
    pub fn sync(&mut self) -> Result<()> {
        let all: alloc::vec::Vec<_> = self.mounts().map(|(id, _)| id).collect();
        let mut result = Ok(());
        self.commit();
        for id in all {
            if self.is_mounted(id) {
                result = result.and(self.sync_mount(id));
                self.give_up_mounts();
            }
        }
        result
    }
}

const SET_ID: u32 = mode::SET_UID | mode::SET_GID;
