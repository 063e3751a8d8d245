//! Reading, writing, positions of open files.

use xinim_abi::error::{Error, Result};
use xinim_abi::object::Handle;
use xinim_abi::services::fs::mounted;
use xinim_abi::services::vfs::{Dirent, NAME_MAX, mode, mount, open, report};
use xinim_fs_kit::{DirBuffer, FileSystem, Map, SetAttributes, Sink, Source, entries};

use crate::files::{FileId, Object};
use crate::intents::Intent;
use crate::pipe::PipeId;
use crate::tree::NodeId;
use crate::vfs::{Host, Vfs};

/// What became of a read or write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    Done(u64),
    /// The pipe is to be asked; the caller may have to wait, unless `at_once`.
    Pipe {
        id: PipeId,
        at_once: bool,
    },
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
        let id = self.file_id(pid, fd)?;
        let file = self.file(pid, fd)?;
        if !file.readable() {
            return Err(Error::BadF);
        }
        let node = match file.object {
            Object::Node(node) => node,
            Object::Attached { .. } => return Err(Error::Redirect),
            Object::Pipe(..) if offset != -1 => return Err(Error::SPipe),
            Object::Pipe(pipe, _) => {
                return Ok(Transfer::Pipe { id: pipe, at_once: file.non_blocking() });
            }
        };
        self.keep_file(id);
        self.check_data(node)?;
        self.own_node(node)?;
        let from = self.position(id, offset)?;
        self.settle_shares(node)?;
        if from == 0 && self.mount_of(node).flags & mounted::REPORTS != 0 {
            self.tell_report(node)?;
        }
        let count = self.on(node, |fs, ino| fs.read_to(ino, from, len, out))?.min(len) as u64;
        self.was_read(node);
        if offset == -1 {
            self.set_position(id, from.saturating_add(count));
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
        let id = self.file_id(pid, fd)?;
        let file = self.file(pid, fd)?;
        if !file.writable() {
            return Err(Error::BadF);
        }
        let node = match file.object {
            Object::Node(node) => node,
            Object::Attached { .. } => return Err(Error::Redirect),
            Object::Pipe(..) if offset != -1 => return Err(Error::SPipe),
            Object::Pipe(pipe, _) => {
                return Ok(Transfer::Pipe { id: pipe, at_once: file.non_blocking() });
            }
        };
        let append = file.flags & open::APPEND != 0;
        let durably = file.flags & open::DSYNC != 0;
        self.keep_file(id);
        self.check_data(node)?;
        self.own_node(node)?;
        let mut to = self.position(id, offset)?;
        let regular = self.tree.node(node).kind == mode::REGULAR;
        if append && regular {
            if let Some((to, count)) = self.wrote() {
                if durably {
                    self.make_durable(id, node)?;
                }
                if offset == -1 {
                    self.set_position(id, to.saturating_add(count));
                }
                return Ok(Transfer::Done(count));
            }
            // This operation owns the mount: nobody comes between.
            to = self.on(node, |fs, ino| fs.attributes(ino))?.size;
            self.intend(&Intent::Append { node, to, len: len as u64 });
        }
        let who = self.process(pid)?.who.clone();
        if regular && len > 0 && self.mode_after_change(&who, node)?.is_some() {
            let mode = self.mode_after_change(&who, node)?;
            self.set(node, &SetAttributes { mode, ..SetAttributes::default() })?;
        }
        let count = match len {
            0 => 0,
            _ => self.on(node, |fs, ino| fs.write_from(ino, to, len, data))?.min(len),
        };
        if count > 0 {
            self.tree.node_mut(node).read_counts = true;
            self.changed(node);
            self.write_to_shares(node, to, count, data);
            if durably {
                self.make_durable(id, node)?;
            }
        }
        if offset == -1 {
            self.set_position(id, to.saturating_add(count as u64));
        }
        Ok(Transfer::Done(count as u64))
    }

    /// Gives blocks of a device back to it, or makes them zeros.
    pub fn discard_blocks(
        &mut self,
        pid: u32,
        fd: u32,
        offset: u64,
        len: u64,
        zeroes: bool,
    ) -> Result<()> {
        let file = self.file(pid, fd)?;
        let Object::Node(node) = file.object else { return Err(Error::NotTy) };
        if self.tree.node(node).kind != mode::BLOCK {
            return Err(Error::NotTy);
        }
        if !file.writable() {
            return Err(Error::BadF);
        }
        self.on(node, |fs, ino| fs.discard(ino, offset, len, zeroes))
    }

    /// Lets a server know what VFS reports under this file's name.
    fn tell_report(&mut self, node: NodeId) -> Result<()> {
        let name = &self.tree.node(node).name;
        let known = report::NAMES.iter().find(|known| known.0.as_bytes() == &name[..]);
        let Some(&(_, kind)) = known else { return Ok(()) };
        let text = self.report(kind)?;
        self.on(node, |fs, _| fs.tell(kind, text.as_bytes()))
    }

    fn position(&self, id: FileId, offset: i64) -> Result<u64> {
        match offset {
            -1 => Ok(self.files.get(id).ok_or(Error::BadF)?.position),
            _ => u64::try_from(offset).map_err(|_| Error::Inval),
        }
    }

    fn set_position(&mut self, id: FileId, position: u64) {
        if let Some(file) = self.files.get_mut(id) {
            file.position = position;
        }
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
    pub(crate) fn elsewhere(&mut self, node: NodeId) -> Result<bool> {
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

    /// Cookie and endpoint of the server of a character device or an attached object. The handle is
    /// the caller's to close.
    pub fn redirect(&mut self, pid: u32, fd: u32) -> Result<(u64, Handle)> {
        if let Object::Attached { server, cookie } = self.file(pid, fd)?.object {
            let endpoint = self.unlocked(|host| host.service(&server))?;
            return Ok((cookie, endpoint));
        }
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
        let id = self.file_id(pid, fd)?;
        let Object::Node(node) = self.file(pid, fd)?.object else { return Err(Error::SPipe) };
        self.keep_file(id);
        let kind = self.tree.node(node).kind;
        if kind == mode::CHARACTER && self.elsewhere(node)? {
            return Err(Error::SPipe);
        }
        let base = match whence {
            0 => 0,
            1 => self.position(id, -1)?,
            2 if kind == mode::DIRECTORY => return Err(Error::Inval),
            2 => self.on(node, |fs, ino| fs.attributes(ino))?.size,
            _ => return Err(Error::Inval),
        };
        let position = base.checked_add_signed(offset).filter(|&p| i64::try_from(p).is_ok());
        let position = position.ok_or(Error::Inval)?;
        self.set_position(id, position);
        Ok(position)
    }

    /// Whole entries from the descriptor's position; nothing at the end.
    pub fn read_dir(&mut self, pid: u32, fd: u32, len: usize) -> Result<DirBuffer> {
        let id = self.file_id(pid, fd)?;
        let Object::Node(node) = self.file(pid, fd)?.object else { return Err(Error::NotDir) };
        if self.tree.node(node).kind != mode::DIRECTORY {
            return Err(Error::NotDir);
        }
        if len < size_of::<Dirent>() + NAME_MAX {
            return Err(Error::Inval);
        }
        self.keep_file(id);
        self.own_node(node)?;
        let position = self.position(id, -1)?;
        let mut buffer = DirBuffer::new(len);
        if self.tree.node(node).gone {
            return Ok(buffer);
        }
        self.on(node, |fs, ino| {
            buffer = DirBuffer::new(len);
            fs.read_dir(ino, position, &mut buffer)
        })?;
        self.was_read(node);
        if let Some(last) = entries(buffer.bytes()).last() {
            self.set_position(id, last.next);
        }
        Ok(buffer)
    }
}
