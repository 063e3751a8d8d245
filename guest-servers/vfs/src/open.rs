//! Opening, closing, duplicating, inheriting descriptors; pipes' ends.

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::services::vfs::{FD_MAX, INHERIT_ALL, control, mode, mount, open};
use xinim_fs_kit::NewFile;

use crate::access::{EXECUTE, READ, WRITE};
use crate::files::{FileId, Object, OpenFile};
use crate::pipe::{Pipe, PipeId};
use crate::process::Process;
use crate::tree::NodeId;
use crate::vfs::{Host, Vfs};

/// Flags an open file keeps.
const KEPT: u32 = open::ACCESS_MASK | open::APPEND | open::NONBLOCK | open::SYNC;

impl<H: Host> Vfs<H> {
    pub fn open(&mut self, pid: u32, path: &[u8], flags: u32, mode: u32) -> Result<u32> {
        let access = flags & open::ACCESS_MASK;
        if access == open::ACCESS_MASK {
            return Err(Error::Inval);
        }
        self.process(pid)?.free_descriptor(0)?;
        self.room_for_file()?;
        let create = flags & open::CREATE != 0;
        let exclusive = create && flags & open::EXCLUSIVE != 0;
        let follow = flags & open::NOFOLLOW == 0 && !exclusive;
        let mut found = self.resolve_for(pid, path, follow)?;
        if found.node.is_none() && create {
            // Somebody may have made it while this operation waited for the mount.
            self.own_node(found.parent)?;
            found = self.resolve_for(pid, path, follow)?;
        }
        // The last instance of VFS made it for this very request: as below, nothing is checked.
        let made = self.is_done();
        let node = match found.node {
            Some(node) if made => node,
            Some(_) if exclusive => return Err(Error::Exist),
            Some(node) => self.open_node(pid, node, flags).map(|()| node)?,
            None if !create => return Err(Error::NoEnt),
            None if found.trailing => return Err(Error::IsDir),
            None if flags & open::DIRECTORY != 0 => return Err(Error::Inval),
            None => self.create(pid, &found, &NewFile::new(mode::REGULAR | mode & 0o7777))?,
        };
        if self.tree.node(node).kind == mode::FIFO {
            return self.open_fifo(pid, node, flags);
        }
        self.install_node(pid, node, flags)
    }

    fn install_node(&mut self, pid: u32, node: NodeId, flags: u32) -> Result<u32> {
        self.pin(node);
        let installed = self.install(pid, Object::Node(node), flags);
        if installed.is_err() {
            self.unpin(node);
        }
        installed
    }

    /// Checks that an existing node may be opened so, and cuts it if asked.
    fn open_node(&mut self, pid: u32, node: NodeId, flags: u32) -> Result<()> {
        let access = flags & open::ACCESS_MASK;
        let writes = access != open::READ;
        let kind = self.tree.node(node).kind;
        let who = self.process(pid)?.who.clone();
        if flags & open::DIRECTORY != 0 && kind != mode::DIRECTORY {
            return Err(Error::NotDir);
        }
        match kind {
            mode::SYMLINK => return Err(Error::Loop),
            mode::SOCKET => return Err(Error::NxIo),
            mode::DIRECTORY if writes || flags & open::CREATE != 0 => return Err(Error::IsDir),
            _ => {}
        }
        let mut want = if access == open::WRITE { 0 } else { READ };
        if writes || flags & open::TRUNCATE != 0 {
            want |= WRITE;
        }
        self.permit(&who, node, want)?;
        match kind {
            mode::CHARACTER | mode::BLOCK if self.mount_of(node).flags & mount::NO_DEV != 0 => {
                Err(Error::Access)
            }
            // Only devfs knows what a device's numbers stand for.
            mode::CHARACTER | mode::BLOCK if self.mount_of(node).fs_type != "devfs" => {
                Err(Error::NxIo)
            }
            mode::REGULAR if writes => {
                self.writable(node)?;
                if flags & open::TRUNCATE != 0 {
                    self.resize(&who, node, 0)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Opens a program for `pid` that `parent` may execute, resolved from its working directory.
    pub fn open_for(&mut self, pid: u32, parent: u32, path: &[u8]) -> Result<u32> {
        self.process(pid)?.free_descriptor(0)?;
        self.room_for_file()?;
        let node = self.resolve_for(parent, path, true)?.node()?;
        if self.tree.node(node).kind == mode::DIRECTORY
            || self.mount_of(node).flags & mount::NO_EXEC != 0
        {
            return Err(Error::Access);
        }
        let who = self.process(parent)?.who.clone();
        self.permit(&who, node, EXECUTE)?;
        self.install_node(pid, node, open::READ)
    }

    /// Puts a new open file at the lowest free descriptor.
    pub(crate) fn install(&mut self, pid: u32, object: Object, flags: u32) -> Result<u32> {
        let fd = self.process(pid)?.free_descriptor(0)?;
        let mut file = OpenFile::new(object, flags & KEPT);
        if let Object::Node(node) = object {
            file.heard = self.tree.node(node).losses.at_open();
        }
        let file = self.files.insert(file);
        let process = self.process_mut(pid)?;
        process.set(fd, file);
        process.set_close_on_exec(fd, flags & open::CLOSE_ON_EXEC != 0)?;
        Ok(fd)
    }

    pub fn close(&mut self, pid: u32, fd: u32) -> Result<()> {
        let file = self.process_mut(pid).map_err(|_| Error::BadF)?.take(fd)?;
        self.close_for(pid, file);
        Ok(())
    }

    /// A process closes a descriptor of this open file: with it go its locks on the file.
    pub(crate) fn close_for(&mut self, pid: u32, file: FileId) {
        self.drop_process_locks(pid, file);
        self.close_file(file);
    }

    /// One descriptor less for this open file. Waiting pipe requests are answered by `pump`.
    pub(crate) fn close_file(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(id) else { return };
        file.refs -= 1;
        if file.refs > 0 {
            return;
        }
        self.drop_file_locks(id);
        let Some(file) = self.files.remove(id) else { return };
        match file.object {
            Object::Node(node) => self.unpin(node),
            Object::Pipe(pipe, node) => {
                self.close_pipe_end(pipe, &file);
                node.into_iter().for_each(|node| self.unpin(node));
            }
            Object::Attached { server, cookie } => self.closing.push_back((server, cookie)),
        }
    }

    fn close_pipe_end(&mut self, id: PipeId, file: &OpenFile) {
        let Some(pipe) = self.pipes.get_mut(id) else { return };
        pipe.readers -= u32::from(file.readable());
        pipe.writers -= u32::from(file.writable());
        // With requests waiting, `Server::pump` answers them and drops the pipe.
        if pipe.readers == 0 && pipe.writers == 0 {
            pipe.take(pipe.buffer.len());
        }
        self.touched.push(id);
        self.drop_pipe_if_unused(id);
    }

    pub(crate) fn drop_pipe_if_unused(&mut self, id: PipeId) {
        if let Some(pipe) = self.pipes.get(id)
            && pipe.is_unused()
        {
            if let Some(fifo) = pipe.fifo {
                self.fifos.remove(&fifo);
            }
            self.pipes.remove(id);
        }
    }

    pub fn dup(&mut self, pid: u32, fd: u32, at_least: u32) -> Result<u32> {
        let process = self.process_mut(pid).map_err(|_| Error::BadF)?;
        let file = process.get(fd)?;
        if at_least >= FD_MAX {
            return Err(Error::Inval);
        }
        let new = process.free_descriptor(at_least)?;
        process.set(new, file);
        self.share(file);
        Ok(new)
    }

    pub fn dup2(&mut self, pid: u32, from: u32, to: u32) -> Result<u32> {
        let process = self.process_mut(pid).map_err(|_| Error::BadF)?;
        let file = process.get(from)?;
        if to >= FD_MAX {
            return Err(Error::BadF);
        }
        if from != to {
            let old = process.set(to, file);
            self.share(file);
            old.into_iter().for_each(|old| self.close_for(pid, old));
        }
        Ok(to)
    }

    fn share(&mut self, file: FileId) {
        if let Some(file) = self.files.get_mut(file) {
            file.refs += 1;
        }
    }

    /// Reading and writing end.
    pub fn pipe(&mut self, pid: u32) -> Result<(u32, u32)> {
        let process = self.process(pid)?;
        let read = process.free_descriptor(0)?;
        process.free_descriptor(read + 1)?;
        self.room_for_file()?;
        let pipe = self.pipes.insert(Pipe { readers: 1, writers: 1, ..Pipe::default() });
        let read = self.install(pid, Object::Pipe(pipe, None), open::READ)?;
        let write = self.install(pid, Object::Pipe(pipe, None), open::WRITE)?;
        Ok((read, write))
    }

    /// A descriptor of something that `server` keeps under `cookie`.
    pub fn attach(&mut self, pid: u32, server: Name, cookie: u64, flags: u32) -> Result<u32> {
        self.room_for_file()?;
        self.process(pid)?.free_descriptor(0)?;
        let found = self.unlocked(|host| host.service(&server))?;
        self.host.close(found);
        self.install(pid, Object::Attached { server, cookie }, flags | open::READ_WRITE)
    }

    /// Tells `server` as whom the process acts.
    pub fn vouch(&mut self, pid: u32, server: Name) -> Result<()> {
        let uid = self.process(pid)?.who.uid;
        self.unlocked(|host| {
            host.about_to_wait();
            host.vouch(&server, pid, uid)
        })
    }

    /// Gives a new process descriptors (child's number, parent's number), the working directory,
    /// credentials and umask of `parent`. What the child had is closed. All or nothing.
    pub fn inherit(&mut self, parent: u32, child: u32, map: &[(u32, u32)]) -> Result<()> {
        let from = self.process(parent)?;
        let (cwd, who, umask) = (from.cwd, from.who.clone(), from.umask);
        let mut all = alloc::vec::Vec::new();
        for &(to, fd) in map {
            if (to, fd) == (INHERIT_ALL, INHERIT_ALL) {
                all = from.inheritable().filter(|fd| !map.iter().any(|m| m.0 == *fd)).collect();
                continue;
            }
            from.get(fd)?;
            if to >= FD_MAX {
                return Err(Error::BadF);
            }
        }
        if parent == child {
            return Err(Error::Inval);
        }
        let one = map.iter().copied().filter(|map| map.0 != INHERIT_ALL);
        let all = all.into_iter().map(|fd| (fd, fd));
        let mut process = Process::new(cwd);
        (process.who, process.umask) = (who, umask);
        for (to, fd) in one.chain(all) {
            let file = self.process(parent)?.get(fd)?;
            self.share(file);
            process.set(to, file).into_iter().for_each(|old| self.close_file(old));
        }
        self.pin(cwd);
        self.touched_processes.push(child);
        // Closing what was there may let others in: the child is whole before.
        if let Some(old) = self.processes.insert(child, process) {
            self.end_process(child, old);
        }
        Ok(())
    }

    pub(crate) fn change_directory(&mut self, pid: u32, node: NodeId) -> Result<()> {
        let process = self.process_mut(pid)?;
        let old = core::mem::replace(&mut process.cwd, node);
        self.pin(node);
        self.unpin(old);
        Ok(())
    }

    /// Flags of descriptors and open files; see [`control`].
    pub fn control(&mut self, pid: u32, fd: u32, operation: u32, argument: u64) -> Result<u64> {
        let id = self.file_id(pid, fd)?;
        let changeable = open::APPEND | open::NONBLOCK;
        match operation {
            control::GET_CLOSE_ON_EXEC => Ok(self.process(pid)?.close_on_exec(fd)?.into()),
            control::SET_CLOSE_ON_EXEC => {
                self.process_mut(pid)?.set_close_on_exec(fd, argument != 0).map(|()| 0)
            }
            control::GET_FLAGS => Ok(self.file(pid, fd)?.flags.into()),
            control::SET_FLAGS => {
                let file = self.files.get_mut(id).ok_or(Error::BadF)?;
                file.flags = file.flags & !changeable | argument as u32 & changeable;
                Ok(0)
            }
            control::AVAILABLE => match self.file(pid, fd)?.object {
                Object::Pipe(pipe, _) => {
                    Ok(self.pipes.get(pipe).map_or(0, |pipe| pipe.buffer.len() as u64))
                }
                _ => Err(Error::NotTy),
            },
            _ => Err(Error::Inval),
        }
    }

    pub(crate) fn file_id(&self, pid: u32, fd: u32) -> Result<FileId> {
        self.process(pid).map_err(|_| Error::BadF)?.get(fd)
    }

    pub(crate) fn file(&self, pid: u32, fd: u32) -> Result<&OpenFile> {
        self.files.get(self.file_id(pid, fd)?).ok_or(Error::BadF)
    }

    /// The node a descriptor stands for; `Inval` for a pipe or an attached object.
    pub(crate) fn file_node(&self, pid: u32, fd: u32) -> Result<NodeId> {
        match self.file(pid, fd)?.object {
            Object::Node(node) | Object::Pipe(_, Some(node)) => Ok(node),
            _ => Err(Error::Inval),
        }
    }
}
