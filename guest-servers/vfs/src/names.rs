//! Operations on names: create, link, remove, rename; the working directory.
//!
//! VFS knows what stood in a directory before it changed it, and nobody else changes it. So when a
//! server dies in such an operation, the operation is done again, and "exists already" or "not
//! there any more" then means that the dead instance had done it.

use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{PATH_MAX, mode};
use xinim_fs_kit::{FileSystem, Ino, NewFile};

use crate::access::{Credentials, EXECUTE, WRITE};
use crate::intents::Intent;
use crate::path::Found;
use crate::tree::{NEVER, NodeId};
use crate::vfs::{Host, Vfs};

impl<H: Host> Vfs<H> {
    pub fn mkdir(&mut self, pid: u32, path: &[u8], mode: u32) -> Result<()> {
        if self.is_done() {
            return Ok(());
        }
        let found = self.resolve_for(pid, path, false)?;
        if found.node.is_some() {
            return Err(Error::Exist);
        }
        self.create(pid, &found, &NewFile::new(mode::DIRECTORY | mode & 0o7777)).map(|_| ())
    }

    pub fn symlink(&mut self, pid: u32, target: &[u8], path: &[u8]) -> Result<()> {
        if target.is_empty() || target.contains(&0) {
            return Err(if target.is_empty() { Error::NoEnt } else { Error::Inval });
        }
        if target.len() >= PATH_MAX {
            return Err(Error::NameTooLong);
        }
        if self.is_done() {
            return Ok(());
        }
        let found = self.free_name(pid, path)?;
        self.create(pid, &found, &NewFile::link(mode::SYMLINK | 0o777, target)).map(|_| ())
    }

    /// A FIFO, socket, device or empty regular file. Devices are for root.
    pub fn mknod(&mut self, pid: u32, path: &[u8], mode: u32, rdev: u32) -> Result<()> {
        let who = self.process(pid)?.who.clone();
        let device = match mode & mode::TYPE_MASK {
            mode::CHARACTER | mode::BLOCK if !who.is_root() => return Err(Error::Perm),
            mode::CHARACTER | mode::BLOCK => true,
            mode::FIFO | mode::SOCKET | mode::REGULAR => false,
            _ => return Err(Error::Inval),
        };
        if self.is_done() {
            return Ok(());
        }
        let found = self.free_name(pid, path)?;
        let rdev = if device { rdev } else { 0 };
        self.create(pid, &found, &NewFile { rdev, ..NewFile::new(mode) }).map(|_| ())
    }

    /// Where a new file that is no directory may be made.
    fn free_name(&mut self, pid: u32, path: &[u8]) -> Result<Found> {
        let found = self.resolve_for(pid, path, false)?;
        match (found.node, found.trailing) {
            (Some(_), _) => Err(Error::Exist),
            (None, true) => Err(Error::NoEnt),
            (None, false) => Ok(found),
        }
    }

    /// A new file under a name that is free, owned by the process, without the bits of its umask.
    /// In a directory with the set-group-ID bit it gets the directory's group, and a directory the
    /// bit.
    pub(crate) fn create(&mut self, pid: u32, at: &Found, new: &NewFile<'_>) -> Result<NodeId> {
        let (dir, name) = (at.parent, at.name.as_slice());
        let process = self.process(pid)?;
        let (who, umask) = (process.who.clone(), process.umask);
        self.writable(dir)?;
        self.permit(&who, dir, WRITE | EXECUTE)?;
        self.own_node(dir)?;
        if self.tree.node(dir).gone {
            return Err(Error::NoEnt);
        }
        let mut new = NewFile { uid: who.uid, gid: who.gid, ..*new };
        if new.mode & mode::TYPE_MASK != mode::SYMLINK {
            new.mode &= !umask;
        }
        let parent = self.tree.node(dir);
        if parent.known && parent.permissions & mode::SET_GID != 0 {
            new.gid = parent.gid;
            if new.mode & mode::TYPE_MASK == mode::DIRECTORY {
                new.mode |= mode::SET_GID;
            }
        }
        self.intend(&Intent::Make { dir, name: name.into() });
        let stat = self.on_again(dir, |fs, ino, again| match fs.create(ino, name, &new) {
            Err(Error::Exist) if again => fs.lookup(ino, name),
            result => result,
        })?;
        self.tree.node_mut(dir).read_counts = true;
        self.changed(dir);
        let node = self.learn(dir, name, &stat)?;
        self.changed(node);
        Ok(node)
    }

    pub fn read_link(&mut self, pid: u32, path: &[u8]) -> Result<Vec<u8>> {
        let node = self.resolve_for(pid, path, false)?.node()?;
        if self.tree.node(node).kind != mode::SYMLINK {
            return Err(Error::Inval);
        }
        Ok(self.link_target(node)?.to_vec())
    }

    pub fn unlink(&mut self, pid: u32, path: &[u8], directory: bool) -> Result<()> {
        if self.is_done() {
            return Ok(());
        }
        let found = self.resolve_for(pid, path, false)?;
        found.node()?;
        if found.name.is_empty() {
            let last = path.rsplit(|&b| b == b'/').find(|part| !part.is_empty());
            return Err(match (directory, last) {
                (false, _) => Error::IsDir,
                (true, Some(b".")) => Error::Inval,
                (true, Some(_)) => Error::NotEmpty,
                (true, None) => Error::Busy,
            });
        }
        let (dir, name) = (found.parent, found.name);
        self.own_node(dir)?;
        let node = self.child(dir, &name)?;
        self.keep(node);
        let who = self.process(pid)?.who.clone();
        self.may_remove(&who, dir, node)?;
        let is_directory = self.tree.node(node).kind == mode::DIRECTORY;
        if is_directory != directory {
            return Err(if is_directory { Error::IsDir } else { Error::NotDir });
        }
        if self.tree.node(node).covered_by.is_some() {
            return Err(Error::Busy);
        }
        self.writable(dir)?;
        self.hold_aliases(dir, node)?;
        self.intend(&Intent::Remove { dir, name: name.as_slice().into(), node });
        self.on_again(dir, |fs, ino, again| match fs.unlink(ino, &name, directory) {
            Err(Error::NoEnt) if again => Ok(()),
            result => result,
        })?;
        self.tree.node_mut(dir).read_counts = true;
        self.changed(dir);
        self.changed(node);
        self.forget_aliases(dir, node);
        Ok(())
    }

    /// Before a name of `node` in `dir` goes: keeps the numbers of nodes in use that it stands for.
    fn hold_aliases(&mut self, dir: NodeId, node: NodeId) -> Result<()> {
        let ino = self.live_ino(node)?;
        for alias in self.tree.aliases(dir, ino) {
            self.hold(alias)?;
        }
        Ok(())
    }

    /// The name is gone. Other names of the file in the same directory are looked up anew: in a file
    /// system that ignores case they may have been the same name.
    pub(crate) fn forget_aliases(&mut self, dir: NodeId, node: NodeId) {
        let ino = self.tree.node(node).ino;
        for alias in self.tree.aliases(dir, ino) {
            self.forget(alias);
        }
    }

    pub fn link(&mut self, pid: u32, from: &[u8], to: &[u8]) -> Result<()> {
        if self.is_done() {
            return Ok(());
        }
        let old = self.resolve_for(pid, from, false)?.node()?;
        if self.tree.node(old).kind == mode::DIRECTORY {
            return Err(Error::Perm);
        }
        let Found { parent, name, .. } = self.free_name(pid, to)?;
        if self.tree.node(parent).mount != self.tree.node(old).mount {
            return Err(Error::XDev);
        }
        self.own_node(parent)?;
        if self.tree.node(parent).gone || self.tree.node(old).gone {
            return Err(Error::NoEnt);
        }
        let who = self.process(pid)?.who.clone();
        self.permit(&who, parent, WRITE | EXECUTE)?;
        self.writable(parent)?;
        self.intend(&Intent::Make { dir: parent, name: name.as_slice().into() });
        self.link_at_server(old, parent, &name)?;
        self.changed(parent);
        self.changed(old);
        Ok(())
    }

    fn link_at_server(&mut self, old: NodeId, parent: NodeId, name: &[u8]) -> Result<()> {
        for attempt in 0..2 {
            let target = self.live_ino(old)?;
            let result = self.on_again(parent, |fs, dir, again| match again {
                // The server was reincarnated: `target` must be looked up again.
                true => Err(Error::Stale),
                false => fs.link(target, dir, name),
            });
            match result {
                Err(Error::Stale) if attempt == 0 => {}
                Err(Error::Exist) if attempt == 1 => return Ok(()),
                result => return result,
            }
        }
        Err(Error::Io)
    }

    pub fn rename(&mut self, pid: u32, from: &[u8], to: &[u8]) -> Result<()> {
        if self.is_done() {
            return Ok(());
        }
        let found = self.resolve_for(pid, from, false)?;
        found.node()?;
        if found.name.is_empty() {
            return Err(Error::Inval);
        }
        let (from_dir, from_name) = (found.parent, found.name);
        let target = self.resolve_for(pid, to, false)?;
        if target.name.is_empty() {
            return Err(if target.node.is_some() { Error::Busy } else { Error::Inval });
        }
        let (to_dir, to_name) = (target.parent, target.name);
        if self.tree.node(from_dir).mount != self.tree.node(to_dir).mount {
            return Err(Error::XDev);
        }
        self.own_node(from_dir)?;
        let node = self.child(from_dir, &from_name)?;
        self.keep(node);
        let directory = self.tree.node(node).kind == mode::DIRECTORY;
        if target.trailing && !directory {
            return Err(Error::NotDir);
        }
        if directory && self.tree.is_below(to_dir, node) {
            return Err(Error::Inval);
        }
        if self.tree.node(to_dir).gone {
            return Err(Error::NoEnt);
        }
        self.writable(from_dir)?;
        let replaced = match target.node {
            Some(_) => Some(self.child(to_dir, &to_name)?),
            None => None,
        };
        let who = self.process(pid)?.who.clone();
        self.may_rename(&who, (from_dir, node), (to_dir, replaced))?;
        if replaced == Some(node) {
            return Ok(());
        }
        let covered = |id: NodeId| self.tree.node(id).covered_by.is_some();
        if covered(node) || replaced.is_some_and(covered) {
            return Err(Error::Busy);
        }
        let replaced_ino = replaced.map(|id| self.live_ino(id)).transpose()?;
        if let Some(ino) = replaced_ino {
            let target_directory =
                replaced.is_some_and(|id| self.tree.node(id).kind == mode::DIRECTORY);
            if directory != target_directory {
                return Err(if directory { Error::NotDir } else { Error::IsDir });
            }
            if ino == self.live_ino(node)? && from_dir != to_dir {
                return Ok(());
            }
            for alias in self.tree.aliases(to_dir, ino) {
                self.hold(alias)?;
            }
        }
        self.hold(node)?;
        let (from, to) = (from_name.as_slice().into(), to_name.as_slice().into());
        self.intend(&Intent::Move { node, from_dir, from, to_dir, to, replaced: replaced_ino });
        self.rename_at_server((from_dir, &from_name), (to_dir, &to_name))?;
        self.rename_node(node, replaced_ino, to_dir, &to_name);
        Ok(())
    }

    /// May `who` move an entry, away from what stands at its new place? A directory that changes its
    /// parent is written itself (`..`).
    fn may_rename(
        &mut self,
        who: &Credentials,
        from: (NodeId, NodeId),
        to: (NodeId, Option<NodeId>),
    ) -> Result<()> {
        if who.is_root() {
            return Ok(());
        }
        self.may_remove(who, from.0, from.1)?;
        match to.1 {
            Some(replaced) => {
                self.keep(replaced);
                self.may_remove(who, to.0, replaced)?;
            }
            None => self.permit(who, to.0, WRITE | EXECUTE)?,
        }
        if self.tree.node(from.1).kind == mode::DIRECTORY && from.0 != to.0 {
            self.permit(who, from.1, WRITE)?;
        }
        Ok(())
    }

    fn rename_at_server(&mut self, from: (NodeId, &[u8]), to: (NodeId, &[u8])) -> Result<()> {
        for attempt in 0..2 {
            let dir = self.live_ino(to.0)?;
            let result = self.on_again(from.0, |fs, ino, again| match again {
                true => Err(Error::Stale),
                false => fs.rename((ino, from.1), (dir, to.1)),
            });
            match result {
                // The server was reincarnated: `dir` must be looked up again.
                Err(Error::Stale) if attempt == 0 => {}
                Err(Error::NoEnt) if attempt == 1 => return Ok(()),
                result => return result,
            }
        }
        Err(Error::Io)
    }

    /// Brings the tree in line with a rename that was done.
    pub(crate) fn rename_node(
        &mut self,
        node: NodeId,
        replaced: Option<Ino>,
        to_dir: NodeId,
        to_name: &[u8],
    ) {
        let ino = self.tree.node(node).ino;
        if let Some(replaced) = replaced
            && replaced != ino
        {
            for alias in self.tree.aliases(to_dir, replaced) {
                self.forget(alias);
            }
        }
        let from_dir = self.tree.node(node).parent;
        for alias in self.tree.aliases(from_dir, ino) {
            if alias != node {
                self.forget(alias);
            }
        }
        if let Some(old) = self.tree.child(to_dir, to_name) {
            self.forget(old);
        }
        self.tree.rename(node, to_dir, to_name);
        for dir in [from_dir, to_dir] {
            self.tree.node_mut(dir).read_counts = true;
            self.changed(dir);
        }
        self.changed(node);
        let node = self.tree.node_mut(node);
        if !node.held {
            // It may have another number now.
            node.generation = NEVER;
        }
    }

    pub fn chdir(&mut self, pid: u32, path: &[u8]) -> Result<()> {
        let node = self.resolve_for(pid, path, true)?.node()?;
        self.enter_directory(pid, node)
    }

    pub fn fchdir(&mut self, pid: u32, fd: u32) -> Result<()> {
        let node = self.file_node(pid, fd)?;
        self.enter_directory(pid, node)
    }

    fn enter_directory(&mut self, pid: u32, node: NodeId) -> Result<()> {
        if self.tree.node(node).kind != mode::DIRECTORY {
            return Err(Error::NotDir);
        }
        let who = self.process(pid)?.who.clone();
        self.permit(&who, node, EXECUTE)?;
        self.change_directory(pid, node)
    }

    pub fn getcwd(&mut self, pid: u32) -> Result<Vec<u8>> {
        self.path_of(self.process(pid)?.cwd)
    }
}
