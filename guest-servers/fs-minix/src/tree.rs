//! The tree of names: making, removing, renaming, and files that live on without a name.

use alloc::collections::BTreeMap;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::mode;
use xinim_block_client::Storage;
use xinim_fs_kit::NewFile;

use crate::directory::{Search, is_directory};
use crate::layout::{Inode, ROOT, Version};
use crate::volume::{Volume, has_zones};

/// Parents followed upwards before the tree counts as damaged.
const DEPTH_MAX: usize = 4096;

pub struct Tree<S> {
    pub volume: Volume<S>,
    /// How often VFS holds an inode.
    pub holds: BTreeMap<u32, u32>,
    pub now: fn() -> u64,
}

impl<S: Storage> Tree<S> {
    /// Seconds since 1970, as far as 32 bits go.
    pub fn seconds(&self) -> u32 {
        u32::try_from((self.now)() / 1_000_000_000).unwrap_or(u32::MAX)
    }

    /// An inode with names, or held. `Stale` for any other.
    pub fn inode(&mut self, ino: u32) -> Result<Inode> {
        let inode = self.volume.inode(ino)?;
        if inode.links == 0 && !self.holds.contains_key(&ino) {
            return Err(Error::Stale);
        }
        Ok(inode)
    }

    pub fn directory(&mut self, ino: u32) -> Result<Inode> {
        let inode = self.inode(ino)?;
        if is_directory(&inode) { Ok(inode) } else { Err(Error::NotDir) }
    }

    /// A directory that may get entries: not one that was removed.
    fn living_directory(&mut self, ino: u32) -> Result<Inode> {
        let inode = self.directory(ino)?;
        if inode.links == 0 { Err(Error::NoEnt) } else { Ok(inode) }
    }

    /// A free slot for `name`. `Exist`, `NameTooLong`.
    fn slot_for(&mut self, dir: &Inode, name: &[u8]) -> Result<u64> {
        if name.len() > self.volume.geometry.name_len {
            return Err(Error::NameTooLong);
        }
        match self.volume.search(dir, name)? {
            Search::Found(_) => Err(Error::Exist),
            Search::Missing { free } => Ok(free),
        }
    }

    fn touch(&self, inode: &mut Inode) {
        (inode.mtime, inode.ctime) = (self.seconds(), self.seconds());
    }

    pub fn create(&mut self, dir: u32, name: &[u8], new: &NewFile<'_>) -> Result<u32> {
        let mut parent = self.living_directory(dir)?;
        let slot = self.slot_for(&parent, name)?;
        let kind = new.mode & mode::TYPE_MASK;
        let mut inode = self.blank(new)?;
        if kind == mode::DIRECTORY && parent.links >= self.volume.geometry.max_links() {
            return Err(Error::MLink);
        }
        let ino = self.volume.take_inode()?;
        let made = self.fill(ino, &mut inode, dir, new);
        let made = made.and_then(|()| {
            if kind == mode::DIRECTORY {
                parent.links += 1;
            }
            self.touch(&mut parent);
            self.volume.put_entry(&mut parent, slot, ino, name)?;
            self.volume.put_inode(dir, &parent)
        });
        match made {
            Ok(()) => Ok(ino),
            Err(error) => {
                self.volume.destroy(ino, &inode)?;
                Err(error)
            }
        }
    }

    /// The inode of a new file, without content.
    fn blank(&self, new: &NewFile<'_>) -> Result<Inode> {
        let kind = new.mode & mode::TYPE_MASK;
        let now = self.seconds();
        let mut inode = Inode {
            mode: (new.mode & 0xFFFF) as u16,
            links: if kind == mode::DIRECTORY { 2 } else { 1 },
            atime: now,
            mtime: now,
            ctime: now,
            ..Inode::default()
        };
        self.set_owner(&mut inode, new.uid, new.gid);
        match kind {
            mode::REGULAR | mode::DIRECTORY | mode::FIFO | mode::SOCKET => {}
            mode::SYMLINK if new.target.is_empty() => return Err(Error::NoEnt),
            mode::SYMLINK if new.target.len() >= self.volume.geometry.block => {
                return Err(Error::NameTooLong);
            }
            mode::SYMLINK => {}
            mode::CHARACTER | mode::BLOCK => {
                let (major, minor) = (new.rdev >> 16, new.rdev & 0xFFFF);
                if major > 0xFF || minor > 0xFF {
                    return Err(Error::Inval);
                }
                inode.zones[0] = major << 8 | minor;
            }
            _ => return Err(Error::Inval),
        }
        Ok(inode)
    }

    /// Owners the format can hold; others leave what was there.
    pub fn set_owner(&self, inode: &mut Inode, uid: u32, gid: u32) {
        let gid_max = if self.volume.geometry.version == Version::V1 { 0xFF } else { 0xFFFF };
        if let Ok(uid) = u16::try_from(uid) {
            inode.uid = uid;
        }
        if gid <= gid_max {
            inode.gid = gid as u16;
        }
    }

    /// Content and inode of a new file.
    fn fill(&mut self, ino: u32, inode: &mut Inode, dir: u32, new: &NewFile<'_>) -> Result<()> {
        let written = match new.mode & mode::TYPE_MASK {
            mode::DIRECTORY => {
                let mut dots = self.volume.encode_entry(ino, b".");
                dots.extend(self.volume.encode_entry(dir, b".."));
                self.volume.write(inode, 0, &dots).map(|count| count == dots.len())
            }
            mode::SYMLINK => {
                self.volume.write(inode, 0, new.target).map(|count| count == new.target.len())
            }
            _ => Ok(true),
        };
        if !written? {
            return Err(Error::NoSpc);
        }
        if is_directory(inode) {
            self.volume.barrier()?;
        }
        self.volume.put_inode(ino, inode)
    }

    /// One name less for a file; its end where it was the last and nobody holds it.
    fn drop_name(&mut self, ino: u32) -> Result<()> {
        let mut inode = self.volume.inode(ino)?;
        inode.links = if is_directory(&inode) { 0 } else { inode.links.saturating_sub(1) };
        inode.ctime = self.seconds();
        if inode.links == 0 && !self.holds.contains_key(&ino) {
            self.volume.destroy(ino, &inode)
        } else {
            self.volume.put_inode(ino, &inode)
        }
    }

    pub fn unlink(&mut self, dir: u32, name: &[u8], directory: bool) -> Result<()> {
        let mut parent = self.directory(dir)?;
        let slot = self.volume.find(&parent, name)?;
        let inode = self.inode(slot.ino).map_err(damaged)?;
        match (is_directory(&inode), directory) {
            (true, false) => return Err(Error::IsDir),
            (false, true) => return Err(Error::NotDir),
            (true, true) => self.check_removable(slot.ino, &inode)?,
            _ => {}
        }
        self.volume.clear_entry(&mut parent, slot.at)?;
        if directory {
            parent.links = parent.links.saturating_sub(1);
        }
        self.touch(&mut parent);
        self.volume.put_inode(dir, &parent)?;
        self.drop_name(slot.ino)
    }

    fn check_removable(&mut self, ino: u32, inode: &Inode) -> Result<()> {
        if ino == ROOT {
            return Err(Error::Busy);
        }
        if self.volume.is_empty(inode)? { Ok(()) } else { Err(Error::NotEmpty) }
    }

    pub fn link(&mut self, ino: u32, dir: u32, name: &[u8]) -> Result<()> {
        let mut inode = self.inode(ino)?;
        if is_directory(&inode) {
            return Err(Error::Perm);
        }
        let mut parent = self.living_directory(dir)?;
        let slot = self.slot_for(&parent, name)?;
        if inode.links == 0 {
            return Err(Error::NoEnt);
        }
        if inode.links >= self.volume.geometry.max_links() {
            return Err(Error::MLink);
        }
        self.volume.put_entry(&mut parent, slot, ino, name)?;
        self.touch(&mut parent);
        self.volume.put_inode(dir, &parent)?;
        inode.links += 1;
        inode.ctime = self.seconds();
        self.volume.put_inode(ino, &inode)
    }

    /// Is directory `dir` `above` or below it?
    fn is_below(&mut self, dir: u32, above: u32) -> Result<bool> {
        let mut at = dir;
        for _ in 0..DEPTH_MAX {
            if at == above {
                return Ok(true);
            }
            if at == ROOT {
                return Ok(false);
            }
            let inode = self.directory(at).map_err(damaged)?;
            at = self.volume.find(&inode, b"..").map_err(damaged)?.ino;
        }
        Err(Error::Io)
    }

    /// ```text
    /// same directory, no target   the name changes in its slot: one sector, atomic
    /// otherwise                   target's slot names the file ─ barrier ─ the old slot becomes free,
    ///                             what the target was loses a name
    /// ```
    /// So at every instant the file has one of its names on the medium, and a replaced name means
    /// the old file or the new one.
    pub fn rename(&mut self, from: (u32, &[u8]), to: (u32, &[u8])) -> Result<()> {
        let from_parent = self.directory(from.0)?;
        let to_parent = self.living_directory(to.0)?;
        let source = self.volume.find(&from_parent, from.1)?;
        let moved = self.inode(source.ino).map_err(damaged)?;
        let directory = is_directory(&moved);
        if to.1.len() > self.volume.geometry.name_len {
            return Err(Error::NameTooLong);
        }
        if directory && self.is_below(to.0, source.ino)? {
            return Err(Error::Inval);
        }
        let (slot, replaced) = match self.volume.search(&to_parent, to.1)? {
            Search::Missing { free } => (free, None),
            Search::Found(target) if target.ino == source.ino => return Ok(()),
            Search::Found(target) => {
                let inode = self.inode(target.ino).map_err(damaged)?;
                match (directory, is_directory(&inode)) {
                    (false, true) => return Err(Error::IsDir),
                    (true, false) => return Err(Error::NotDir),
                    (true, true) => self.check_removable(target.ino, &inode)?,
                    _ => {}
                }
                (target.at, Some(target.ino))
            }
        };
        let across = directory && from.0 != to.0;
        if across && replaced.is_none() && to_parent.links >= self.volume.geometry.max_links() {
            return Err(Error::MLink);
        }
        self.exchange(from, to, source.at, (slot, replaced), source.ino)?;
        if across {
            self.redirect_parent(source.ino, to.0)?;
        }
        self.count_parents(from.0, to.0, directory, replaced.is_some())?;
        let mut moved = self.volume.inode(source.ino)?;
        moved.ctime = self.seconds();
        self.volume.put_inode(source.ino, &moved)?;
        replaced.map_or(Ok(()), |ino| self.drop_name(ino))
    }

    /// The entries of a rename.
    fn exchange(
        &mut self,
        from: (u32, &[u8]),
        to: (u32, &[u8]),
        old_slot: u64,
        (new_slot, replaced): (u64, Option<u32>),
        ino: u32,
    ) -> Result<()> {
        let mut parent = self.volume.inode(to.0)?;
        if from.0 == to.0 && replaced.is_none() {
            return self.volume.put_entry(&mut parent, old_slot, ino, to.1);
        }
        self.volume.put_entry(&mut parent, new_slot, ino, to.1)?;
        self.volume.put_inode(to.0, &parent)?;
        self.volume.barrier()?;
        let mut parent = self.volume.inode(from.0)?;
        self.volume.clear_entry(&mut parent, old_slot)
    }

    fn redirect_parent(&mut self, ino: u32, parent: u32) -> Result<()> {
        let mut inode = self.volume.inode(ino)?;
        let dots = self.volume.find(&inode, b"..").map_err(damaged)?;
        self.volume.put_entry(&mut inode, dots.at, parent, b"..")?;
        self.volume.put_inode(ino, &inode)
    }

    /// Times of the parents after a rename, and how many directories point back to them.
    fn count_parents(&mut self, from: u32, to: u32, directory: bool, replaced: bool) -> Result<()> {
        let mut parent = self.volume.inode(from)?;
        self.touch(&mut parent);
        if directory {
            parent.links = parent.links.saturating_sub(1);
        }
        self.volume.put_inode(from, &parent)?;
        let mut parent = self.volume.inode(to)?;
        self.touch(&mut parent);
        if directory && !replaced {
            parent.links = parent.links.saturating_add(1);
        }
        self.volume.put_inode(to, &parent)
    }

    pub fn hold(&mut self, ino: u32) -> Result<()> {
        self.inode(ino)?;
        let holds = self.holds.entry(ino).or_default();
        *holds = holds.checked_add(1).ok_or(Error::Overflow)?;
        Ok(())
    }

    pub fn release(&mut self, ino: u32) -> Result<()> {
        let holds = self.holds.get_mut(&ino).ok_or(Error::Inval)?;
        *holds -= 1;
        if *holds > 0 {
            return Ok(());
        }
        self.holds.remove(&ino);
        self.reap(ino)
    }

    fn reap(&mut self, ino: u32) -> Result<()> {
        let inode = self.volume.inode(ino)?;
        if inode.links == 0 { self.volume.destroy(ino, &inode) } else { Ok(()) }
    }

    /// Nobody holds anything any more.
    pub fn release_all(&mut self) -> Result<()> {
        let holds = core::mem::take(&mut self.holds);
        holds.into_keys().try_for_each(|ino| self.reap(ino))
    }

    /// Another size for a regular file.
    pub fn resize(&mut self, ino: u32, inode: &mut Inode, size: u64) -> Result<()> {
        match u32::from(inode.mode) & mode::TYPE_MASK {
            mode::REGULAR => self.volume.resize(ino, inode, size),
            mode::DIRECTORY => Err(Error::IsDir),
            _ => Err(Error::Inval),
        }
    }

    /// Bytes of a file to be read or written: regular ones, for reading links too.
    pub fn readable(&mut self, ino: u32) -> Result<Inode> {
        let inode = self.inode(ino)?;
        match u32::from(inode.mode) & mode::TYPE_MASK {
            mode::DIRECTORY => Err(Error::IsDir),
            mode::REGULAR => Ok(inode),
            _ => Err(Error::Inval),
        }
    }
}

/// A name that leads nowhere is the volume's fault, not the caller's.
fn damaged(error: Error) -> Error {
    match error {
        Error::Stale | Error::NotDir | Error::NoEnt => Error::Io,
        error => error,
    }
}

/// The device number of a device file, major << 16 | minor; 0 for others.
pub fn rdev(inode: &Inode) -> u32 {
    match u32::from(inode.mode) & mode::TYPE_MASK {
        mode::CHARACTER | mode::BLOCK => (inode.zones[0] >> 8 & 0xFF) << 16 | inode.zones[0] & 0xFF,
        _ => 0,
    }
}

/// 512-byte units of a file, without counting its holes.
pub fn blocks(inode: &Inode, block: usize) -> u64 {
    if !has_zones(inode.mode) {
        return 0;
    }
    u64::from(inode.size).div_ceil(block as u64) * (block as u64 / 512)
}
