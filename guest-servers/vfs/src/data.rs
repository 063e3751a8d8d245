//! Reading, writing, positions and attributes of open files.

use xinim_abi::error::{Error, Result};
use xinim_abi::object::Handle;
use xinim_abi::services::vfs::{Dirent, NAME_MAX, Stat, mode, mount, open};
use xinim_fs_kit::{DirBuffer, FileSystem, Map, SetAttributes, Sink, Source, entries};

use crate::files::Object;
use crate::pipe::{ATOMIC, CAPACITY, PipeId};
use crate::tree::NodeId;
use crate::vfs::{Host, Vfs};

/// What became of a read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    Done(u64),
    /// The pipe is to be asked; the caller may have to wait.
    Pipe(PipeId),
}

impl<H: Host> Vfs<H> {
    /// `offset` -1: the descriptor's position.
    pub fn read(
        &mut self,
        pid: u32,
        fd: u32,
        offset: i64,
        len: usize,
        out: &mut dyn Sink,
    ) -> Result<Transfer> {
        let file = self.file(pid, fd)?;
        if !file.readable() {
            return Err(Error::BadF);
        }
        let node = match file.object {
            Object::Node(node) => node,
            Object::PipeWriter(_) => return Err(Error::BadF),
            Object::PipeReader(_) if offset != -1 => return Err(Error::SPipe),
            Object::PipeReader(pipe) => return Ok(Transfer::Pipe(pipe)),
        };
        let from = position(offset, file.position)?;
        self.check_data(node)?;
        let count = self.on(node, |fs, ino| fs.read_to(ino, from, len, out))?.min(len) as u64;
        if offset == -1 {
            self.file_mut(pid, fd)?.position = from.saturating_add(count);
        }
        Ok(Transfer::Done(count))
    }

    pub fn write(
        &mut self,
        pid: u32,
        fd: u32,
        offset: i64,
        len: usize,
        data: &mut dyn Source,
    ) -> Result<Transfer> {
        let file = self.file(pid, fd)?;
        if !file.writable() {
            return Err(Error::BadF);
        }
        let node = match file.object {
            Object::Node(node) => node,
            Object::PipeReader(_) => return Err(Error::BadF),
            Object::PipeWriter(_) if offset != -1 => return Err(Error::SPipe),
            Object::PipeWriter(pipe) => return Ok(Transfer::Pipe(pipe)),
        };
        let mut to = position(offset, file.position)?;
        let append = file.flags & open::APPEND != 0;
        self.check_data(node)?;
        if append && self.tree.node(node).kind == mode::REGULAR {
            // VFS is the only client and does one thing at a time: nobody comes between.
            to = self.on(node, |fs, ino| fs.attributes(ino))?.size;
        }
        let count = match len {
            0 => 0,
            _ => self.on(node, |fs, ino| fs.write_from(ino, to, len, data))?.min(len) as u64,
        };
        if offset == -1 {
            self.file_mut(pid, fd)?.position = to.saturating_add(count);
        }
        Ok(Transfer::Done(count))
    }

    /// `IsDir` for a directory, `Redirect` for a device that another server serves.
    fn check_data(&mut self, node: NodeId) -> Result<()> {
        let kind = self.tree.node(node).kind;
        match kind {
            mode::DIRECTORY => Err(Error::IsDir),
            mode::CHARACTER if self.elsewhere(node)? => Err(Error::Redirect),
            _ => Ok(()),
        }
    }

    /// Whether another server serves this character device.
    fn elsewhere(&mut self, node: NodeId) -> Result<bool> {
        if let Some(known) = self.tree.node(node).elsewhere {
            return Ok(known);
        }
        let known = match self.on(node, |fs, ino| fs.redirect(ino)) {
            Ok((_, endpoint)) => {
                self.host.close(endpoint);
                true
            }
            Err(Error::NotSup) => false,
            Err(error) => return Err(error),
        };
        self.tree.node_mut(node).elsewhere = Some(known);
        Ok(known)
    }

    /// Cookie and endpoint of a character device's server. The handle is the caller's to close.
    pub fn redirect(&mut self, pid: u32, fd: u32) -> Result<(u64, Handle)> {
        let node = self.file_node(pid, fd)?;
        if self.tree.node(node).kind != mode::CHARACTER {
            return Err(Error::NotSup);
        }
        let answer = self.on(node, |fs, ino| fs.redirect(ino))?;
        self.tree.node_mut(node).elsewhere = Some(true);
        Ok(answer)
    }

    /// Where a file's bytes lie in memory. The handle is the caller's to close.
    pub fn map(&mut self, pid: u32, fd: u32) -> Result<Map> {
        let node = self.file_node(pid, fd)?;
        if self.mount_of(node).flags & mount::NO_EXEC != 0 {
            return Err(Error::Access);
        }
        match self.tree.node(node).kind {
            mode::REGULAR => self.on(node, |fs, ino| fs.map(ino)),
            _ => Err(Error::NotSup),
        }
    }

    pub fn seek(&mut self, pid: u32, fd: u32, offset: i64, whence: u32) -> Result<u64> {
        let file = self.file(pid, fd)?;
        let Object::Node(node) = file.object else { return Err(Error::SPipe) };
        let position = file.position;
        let kind = self.tree.node(node).kind;
        if kind == mode::CHARACTER && self.elsewhere(node)? {
            return Err(Error::SPipe);
        }
        let base = match whence {
            0 => 0,
            1 => position,
            2 if kind == mode::DIRECTORY => return Err(Error::Inval),
            2 => self.on(node, |fs, ino| fs.attributes(ino))?.size,
            _ => return Err(Error::Inval),
        };
        let position = base.checked_add_signed(offset).filter(|&p| i64::try_from(p).is_ok());
        let position = position.ok_or(Error::Inval)?;
        self.file_mut(pid, fd)?.position = position;
        Ok(position)
    }

    /// Whole entries from the descriptor's position; nothing at the end.
    pub fn read_dir(&mut self, pid: u32, fd: u32, len: usize) -> Result<DirBuffer> {
        let file = self.file(pid, fd)?;
        let Object::Node(node) = file.object else { return Err(Error::NotDir) };
        let position = file.position;
        if self.tree.node(node).kind != mode::DIRECTORY {
            return Err(Error::NotDir);
        }
        if len < size_of::<Dirent>() + NAME_MAX {
            return Err(Error::Inval);
        }
        let mut buffer = DirBuffer::new(len);
        if self.tree.node(node).gone {
            return Ok(buffer);
        }
        self.on(node, |fs, ino| {
            buffer = DirBuffer::new(len);
            fs.read_dir(ino, position, &mut buffer)
        })?;
        if let Some(last) = entries(buffer.bytes()).last() {
            self.file_mut(pid, fd)?.position = last.next;
        }
        Ok(buffer)
    }

    pub fn fstat(&mut self, pid: u32, fd: u32) -> Result<Stat> {
        match self.file(pid, fd)?.object {
            Object::Node(node) => self.stat_node(node),
            Object::PipeReader(pipe) | Object::PipeWriter(pipe) => Ok(Stat {
                ino: u64::from(pipe) + 1,
                size: self.pipes.get(pipe).map_or(0, |pipe| pipe.buffer.len() as u64),
                mode: mode::FIFO | 0o600,
                links: 1,
                block_size: ATOMIC as u32,
                blocks: (CAPACITY / 512) as u64,
                ..Stat::default()
            }),
        }
    }

    pub(crate) fn stat_node(&mut self, node: NodeId) -> Result<Stat> {
        let stat = self.on(node, |fs, ino| fs.attributes(ino))?;
        Ok(Stat { device: u64::from(self.tree.node(node).mount) + 1, ..stat })
    }

    pub fn ftruncate(&mut self, pid: u32, fd: u32, size: u64) -> Result<()> {
        if !self.file(pid, fd)?.writable() {
            return Err(Error::Inval);
        }
        let node = self.file_node(pid, fd)?;
        self.set(node, &SetAttributes { size: Some(size), ..SetAttributes::default() })
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
        self.on(node, |fs, ino| fs.set_attributes(ino, set)).map(|_| ())
    }

    pub fn fsync(&mut self, pid: u32, fd: u32) -> Result<()> {
        let node = self.file_node(pid, fd)?;
        self.on(node, |fs, ino| fs.fsync(ino))
    }
}

fn position(offset: i64, current: u64) -> Result<u64> {
    match offset {
        -1 => Ok(current),
        _ => u64::try_from(offset).map_err(|_| Error::Inval),
    }
}
