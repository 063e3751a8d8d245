//! Opening, closing, duplicating, inheriting descriptors; pipes' ends.

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{FD_MAX, mode, mount, open};
use xinim_fs_kit::{FileSystem, NewFile, SetAttributes};

use crate::files::{FileId, Object, OpenFile};
use crate::pipe::Pipe;
use crate::tree::NodeId;
use crate::vfs::{Host, Vfs};

impl<H: Host> Vfs<H> {
    pub fn open(&mut self, pid: u32, path: &[u8], flags: u32, mode: u32) -> Result<u32> {
        let access = flags & open::ACCESS_MASK;
        if access == open::ACCESS_MASK {
            return Err(Error::Inval);
        }
        let fd = self.process(pid)?.free_descriptor(0)?;
        self.room_for_file()?;
        let create = flags & open::CREATE != 0;
        let exclusive = create && flags & open::EXCLUSIVE != 0;
        let follow = flags & open::NOFOLLOW == 0 && !exclusive;
        let found = self.resolve_for(pid, path, follow)?;
        let node = match found.node {
            Some(_) if exclusive => return Err(Error::Exist),
            Some(node) => self.open_node(node, flags).map(|()| node)?,
            None if !create => return Err(Error::NoEnt),
            None if found.trailing => return Err(Error::IsDir),
            None if flags & open::DIRECTORY != 0 => return Err(Error::Inval),
            None => self.create(
                found.parent,
                &found.name,
                &NewFile::new(mode::REGULAR | mode & 0o7777),
            )?,
        };
        self.pin(node);
        self.install(pid, fd, Object::Node(node), flags)
    }

    /// Checks that an existing node may be opened so, and cuts it if asked.
    fn open_node(&mut self, node: NodeId, flags: u32) -> Result<()> {
        let writes = flags & open::ACCESS_MASK != open::READ;
        let kind = self.tree.node(node).kind;
        if flags & open::DIRECTORY != 0 && kind != mode::DIRECTORY {
            return Err(Error::NotDir);
        }
        match kind {
            mode::SYMLINK => Err(Error::Loop),
            mode::DIRECTORY if writes || flags & open::CREATE != 0 => Err(Error::IsDir),
            mode::CHARACTER | mode::BLOCK if self.mount_of(node).flags & mount::NO_DEV != 0 => {
                Err(Error::Access)
            }
            mode::REGULAR if writes => {
                self.writable(node)?;
                if flags & open::TRUNCATE != 0 {
                    let cut = SetAttributes { size: Some(0), ..SetAttributes::default() };
                    self.on(node, |fs, ino| fs.set_attributes(ino, &cut))?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Opens a program for `pid`, resolved from the working directory of `parent`.
    pub fn open_for(&mut self, pid: u32, parent: u32, path: &[u8]) -> Result<u32> {
        let fd = self.process(pid)?.free_descriptor(0)?;
        self.room_for_file()?;
        let node = self.resolve_for(parent, path, true)?.node()?;
        if self.tree.node(node).kind == mode::DIRECTORY
            || self.mount_of(node).flags & mount::NO_EXEC != 0
        {
            return Err(Error::Access);
        }
        self.pin(node);
        self.install(pid, fd, Object::Node(node), open::READ)
    }

    /// Puts a new open file at a free descriptor.
    fn install(&mut self, pid: u32, fd: u32, object: Object, flags: u32) -> Result<u32> {
        let file = self.files.insert(OpenFile { refs: 1, ..OpenFile::new(object, flags) });
        self.process_mut(pid)?.set(fd, file);
        Ok(fd)
    }

    pub fn close(&mut self, pid: u32, fd: u32) -> Result<()> {
        let file = self.process_mut(pid).map_err(|_| Error::BadF)?.take(fd)?;
        self.close_file(file);
        Ok(())
    }

    /// One descriptor less for this open file. Waiting pipe requests are answered by `pump`.
    pub(crate) fn close_file(&mut self, id: FileId) {
        let Some(file) = self.files.get_mut(id) else { return };
        file.refs -= 1;
        if file.refs > 0 {
            return;
        }
        let object = file.object;
        self.files.remove(id);
        let id = match object {
            Object::Node(node) => return self.unpin(node),
            Object::PipeReader(pipe) | Object::PipeWriter(pipe) => pipe,
        };
        let Some(pipe) = self.pipes.get_mut(id) else { return };
        match object {
            Object::PipeReader(_) => pipe.readers -= 1,
            _ => pipe.writers -= 1,
        }
        // With requests waiting, `Server::pump` answers them and drops the pipe.
        if pipe.readers == 0 && pipe.writers == 0 {
            pipe.buffer.clear();
        }
        self.drop_pipe_if_unused(id);
    }

    pub(crate) fn drop_pipe_if_unused(&mut self, id: u32) {
        if let Some(pipe) = self.pipes.get(id)
            && pipe.readers == 0
            && pipe.writers == 0
            && pipe.waiting_readers.is_empty()
            && pipe.waiting_writers.is_empty()
        {
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
            old.into_iter().for_each(|old| self.close_file(old));
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
        let write = process.free_descriptor(read + 1)?;
        self.room_for_file()?;
        let pipe = self.pipes.insert(Pipe { readers: 1, writers: 1, ..Pipe::default() });
        self.install(pid, read, Object::PipeReader(pipe), open::READ)?;
        self.install(pid, write, Object::PipeWriter(pipe), open::WRITE)?;
        Ok((read, write))
    }

    /// Gives a new process descriptors (child's number, parent's number) and the working directory
    /// of `parent`. What the child had is closed. All or nothing.
    pub fn inherit(&mut self, parent: u32, child: u32, map: &[(u32, u32)]) -> Result<()> {
        let from = self.process(parent)?;
        let cwd = from.cwd;
        for &(to, fd) in map {
            from.get(fd)?;
            if to >= FD_MAX {
                return Err(Error::BadF);
            }
        }
        if parent == child {
            return Err(Error::Inval);
        }
        self.remove_process(child);
        self.add_process(child);
        self.change_directory(child, cwd)?;
        for &(to, fd) in map {
            let file = self.process(parent)?.get(fd)?;
            self.share(file);
            if let Some(old) = self.process_mut(child)?.set(to, file) {
                self.close_file(old);
            }
        }
        Ok(())
    }

    pub(crate) fn change_directory(&mut self, pid: u32, node: NodeId) -> Result<()> {
        self.pin(node);
        match self.process_mut(pid) {
            Ok(process) => {
                let old = core::mem::replace(&mut process.cwd, node);
                self.unpin(old);
                Ok(())
            }
            Err(error) => {
                self.unpin(node);
                Err(error)
            }
        }
    }

    pub(crate) fn file_id(&self, pid: u32, fd: u32) -> Result<FileId> {
        self.process(pid).map_err(|_| Error::BadF)?.get(fd)
    }

    pub(crate) fn file(&self, pid: u32, fd: u32) -> Result<&OpenFile> {
        self.files.get(self.file_id(pid, fd)?).ok_or(Error::BadF)
    }

    pub(crate) fn file_mut(&mut self, pid: u32, fd: u32) -> Result<&mut OpenFile> {
        let id = self.file_id(pid, fd)?;
        self.files.get_mut(id).ok_or(Error::BadF)
    }

    /// The node a descriptor stands for; `Inval` for a pipe.
    pub(crate) fn file_node(&self, pid: u32, fd: u32) -> Result<NodeId> {
        match self.file(pid, fd)?.object {
            Object::Node(node) => Ok(node),
            _ => Err(Error::Inval),
        }
    }
}
