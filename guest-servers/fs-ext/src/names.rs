//! Making, removing, renaming and linking names.
//!
//! Each is one operation: entries, link counts and inodes change together or not at all. Inodes of
//! directories are read, changed and written back step by step, since two of the names may lie in
//! the same one.

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{Stat, mode};
use xinim_fs_kit::NewFile;

use crate::dir::NewEntry;
use crate::extents;
use crate::groups::corrupt;
use crate::inode::{Inode, Time};
use crate::layout::{feature::incompat, feature::ro_compat, inode};
use crate::volume::Volume;

/// Most names of one file: ext4's, and that of what came before.
const LINKS_EXT4: u32 = 65_000;
const LINKS_EXT2: u32 = 32_000;
/// Directories followed upwards before a tree counts as looped.
const DEPTH_MAX: usize = 4096;

impl Volume<'_> {
    fn links_max(&self) -> u32 {
        if self.geo.has_ro_compat(ro_compat::DIR_NLINK) { LINKS_EXT4 } else { LINKS_EXT2 }
    }

    /// A directory that may get or lose names.
    fn changing(&mut self, number: u64) -> Result<Inode> {
        let dir = self.directory(number)?;
        if dir.links() == 0 {
            return Err(Error::NoEnt);
        }
        if dir.has(inode::FLAG_IMMUTABLE) { Err(Error::Perm) } else { Ok(dir) }
    }

    fn touch_dir(&mut self, dir: &mut Inode) -> Result<()> {
        let now = (self.around.now)();
        dir.set_time(Time::Modify, now);
        dir.set_time(Time::Change, now);
        self.write_inode(dir)
    }

    fn absent(&mut self, dir: &Inode, name: &[u8]) -> Result<()> {
        match self.find(dir, name) {
            Err(Error::NoEnt) => Ok(()),
            Ok(_) => Err(Error::Exist),
            Err(error) => Err(error),
        }
    }

    /// One more or one fewer directory below `dir`. From a number that does not fit on, 1 stands
    /// for "many".
    fn count_below(&mut self, dir: &mut Inode, more: bool) -> Result<()> {
        let links = dir.links();
        if links == 1 {
            return Ok(());
        }
        let many = self.geo.has_ro_compat(ro_compat::DIR_NLINK);
        match more {
            true if links >= self.links_max() && !many => return Err(Error::MLink),
            true => dir.set_links(if links >= self.links_max() { 1 } else { links + 1 }),
            false => dir.set_links(links.max(3) - 1),
        }
        Ok(())
    }

    /// See [`xinim_fs_kit::FileSystem::create`].
    pub fn make(&mut self, parent: u64, name: &[u8], new: &NewFile<'_>) -> Result<Stat> {
        let kind = new.mode & mode::TYPE_MASK;
        self.operation(|volume| {
            let mut dir = volume.changing(parent)?;
            volume.absent(&dir, name)?;
            if !matches!(
                kind,
                mode::REGULAR
                    | mode::DIRECTORY
                    | mode::SYMLINK
                    | mode::FIFO
                    | mode::SOCKET
                    | mode::CHARACTER
                    | mode::BLOCK
            ) {
                return Err(Error::Inval);
            }
            let directory = kind == mode::DIRECTORY;
            let mut file = volume.allocate_inode(dir.number, directory)?;
            inode::MODE.set(&mut file.raw, (kind | new.mode & mode::PERMISSIONS) as u16);
            file.set_uid(new.uid);
            file.set_gid(new.gid);
            file.set_links(if directory { 2 } else { 1 });
            file.set_flag(inode::FLAGS.get(&dir.raw) & inode::INHERITED, true);
            let now = (volume.around.now)();
            for time in [Time::Access, Time::Change, Time::Modify, Time::Birth] {
                file.set_time(time, now);
            }
            volume.make_body(&mut file, dir.number, new)?;
            volume.write_inode(&mut file)?;
            let kind = volume.entry_kind(kind);
            volume.add_entry(&mut dir, &NewEntry { inode: file.number, kind, name })?;
            if directory {
                volume.count_below(&mut dir, true)?;
            }
            volume.touch_dir(&mut dir)?;
            Ok(file.stat(&volume.geo))
        })
    }

    fn make_body(&mut self, file: &mut Inode, parent: u32, new: &NewFile<'_>) -> Result<()> {
        let extents = self.geo.has_incompat(incompat::EXTENTS);
        match file.kind() {
            mode::REGULAR | mode::DIRECTORY => {
                if extents {
                    extents::initialise(file);
                }
                if file.is_dir() {
                    self.make_directory(file, parent)?;
                }
            }
            mode::SYMLINK => {
                let target = new.target;
                if target.is_empty() {
                    return Err(Error::Inval);
                }
                if target.len() >= self.geo.block_size {
                    return Err(Error::NameTooLong);
                }
                if target.len() < inode::BLOCK_LEN {
                    file.block_mut()[..target.len()].copy_from_slice(target);
                } else {
                    self.write_link(file, target)?;
                }
                file.set_size(target.len() as u64);
            }
            mode::CHARACTER | mode::BLOCK => file.set_device(new.rdev),
            _ => {}
        }
        Ok(())
    }

    /// A symbolic link's target.
    pub fn target(&mut self, number: u64) -> Result<alloc::vec::Vec<u8>> {
        let inode = self.inode(number)?;
        if inode.kind() != mode::SYMLINK {
            return Err(Error::Inval);
        }
        let size = inode.size(&self.geo);
        if size == 0 || size >= self.geo.block_size as u64 {
            return corrupt();
        }
        let mut target = alloc::vec![0; size as usize];
        if inode.is_fast_link(&self.geo) {
            target.copy_from_slice(&inode.block()[..size as usize]);
        } else {
            self.read_file(&inode, 0, &mut target)?;
        }
        Ok(target)
    }

    /// See [`xinim_fs_kit::FileSystem::unlink`].
    pub fn remove(&mut self, parent: u64, name: &[u8], directory: bool) -> Result<()> {
        let unfinished = self.operation(|volume| {
            let mut dir = volume.changing(parent)?;
            let found = volume.find(&dir, name)?;
            let mut file = volume.entered(found.inode)?;
            match (file.is_dir(), directory) {
                (true, false) => return Err(Error::IsDir),
                (false, true) => return Err(Error::NotDir),
                _ => {}
            }
            if file.has(inode::FLAG_IMMUTABLE | inode::FLAG_APPEND) {
                return Err(Error::Perm);
            }
            if directory {
                if !volume.is_empty_dir(&file)? {
                    return Err(Error::NotEmpty);
                }
                volume.count_below(&mut dir, false)?;
            }
            volume.remove_entry(&dir, &found)?;
            volume.touch_dir(&mut dir)?;
            volume.drop_name(&mut file)
        })?;
        self.finish(unfinished)
    }

    /// The inode an entry names, which must be in use.
    fn entered(&mut self, number: u32) -> Result<Inode> {
        match self.inode(number.into()) {
            Err(Error::Stale) => corrupt(),
            result => result,
        }
    }

    /// One name fewer. Answers the inode's number if more operations are needed to free it.
    fn drop_name(&mut self, file: &mut Inode) -> Result<Option<u32>> {
        if file.is_dir() || file.links() <= 1 {
            return Ok(self.drop_file(file)?.then_some(file.number));
        }
        file.set_links(file.links() - 1);
        file.set_time(Time::Change, (self.around.now)());
        self.write_inode(file)?;
        Ok(None)
    }

    fn finish(&mut self, unfinished: Option<u32>) -> Result<()> {
        match unfinished {
            // The name is gone; what a failure leaves is an orphan, which the next mount frees.
            Some(number) => self.finish_cut(number).or(Ok(())),
            None => Ok(()),
        }
    }

    /// See [`xinim_fs_kit::FileSystem::link`].
    pub fn add_link(&mut self, number: u64, parent: u64, name: &[u8]) -> Result<()> {
        self.operation(|volume| {
            let mut dir = volume.changing(parent)?;
            let mut file = volume.inode(number)?;
            if file.is_dir() || file.has(inode::FLAG_IMMUTABLE | inode::FLAG_APPEND) {
                return Err(Error::Perm);
            }
            if file.links() == 0 {
                return Err(Error::NoEnt);
            }
            if file.links() >= volume.links_max() {
                return Err(Error::MLink);
            }
            volume.absent(&dir, name)?;
            let kind = volume.entry_kind(file.kind());
            volume.add_entry(&mut dir, &NewEntry { inode: file.number, kind, name })?;
            volume.touch_dir(&mut dir)?;
            file.set_links(file.links() + 1);
            file.set_time(Time::Change, (volume.around.now)());
            volume.write_inode(&mut file)
        })
    }

    /// Is directory `below` the directory `above` or somewhere under it?
    fn is_below(&mut self, below: &Inode, above: u32) -> Result<bool> {
        let mut here = below.clone();
        for _ in 0..DEPTH_MAX {
            if here.number == above {
                return Ok(true);
            }
            if here.number == inode::ROOT {
                return Ok(false);
            }
            let parent = self.find(&here, b"..")?.inode;
            here = self.entered(parent)?;
            if !here.is_dir() {
                return corrupt();
            }
        }
        Err(Error::Loop)
    }

    /// See [`xinim_fs_kit::FileSystem::rename`].
    pub fn move_name(&mut self, from: (u64, &[u8]), to: (u64, &[u8])) -> Result<()> {
        let unfinished = self.operation(|volume| {
            let source = volume.changing(from.0)?;
            let target = volume.changing(to.0)?;
            let found = volume.find(&source, from.1)?;
            let file = volume.entered(found.inode)?;
            if file.has(inode::FLAG_IMMUTABLE | inode::FLAG_APPEND) {
                return Err(Error::Perm);
            }
            if file.is_dir() && volume.is_below(&target, file.number)? {
                return Err(Error::Inval);
            }
            let replaced = match volume.find(&target, to.1) {
                Ok(replaced) if replaced.inode == file.number => return Ok(None),
                Ok(replaced) => Some(replaced),
                Err(Error::NoEnt) => None,
                Err(error) => return Err(error),
            };
            let kind = volume.entry_kind(file.kind());
            let mut unfinished = None;
            let mut target = target;
            match replaced {
                Some(entry) => {
                    let mut old = volume.entered(entry.inode)?;
                    match (file.is_dir(), old.is_dir()) {
                        (false, true) => return Err(Error::IsDir),
                        (true, false) => return Err(Error::NotDir),
                        (true, true) if !volume.is_empty_dir(&old)? => {
                            return Err(Error::NotEmpty);
                        }
                        _ => {}
                    }
                    if old.has(inode::FLAG_IMMUTABLE | inode::FLAG_APPEND) {
                        return Err(Error::Perm);
                    }
                    volume.retarget(&target, &entry, file.number, kind)?;
                    if old.is_dir() {
                        volume.count_below(&mut target, false)?;
                    }
                    volume.touch_dir(&mut target)?;
                    unfinished = volume.drop_name(&mut old)?;
                }
                None => {
                    let entry = NewEntry { inode: file.number, kind, name: to.1 };
                    volume.add_entry(&mut target, &entry)?;
                    volume.touch_dir(&mut target)?;
                }
            }
            // The new entry may have moved the old one.
            let mut source = volume.directory(from.0)?;
            let found = volume.find(&source, from.1)?;
            volume.remove_entry(&source, &found)?;
            volume.touch_dir(&mut source)?;
            if file.is_dir() && from.0 != to.0 {
                let up = volume.find(&file, b"..")?;
                let kind = volume.entry_kind(mode::DIRECTORY);
                volume.retarget(&file, &up, to.0 as u32, kind)?;
                volume.count_below(&mut source, false)?;
                volume.write_inode(&mut source)?;
                let mut target = volume.directory(to.0)?;
                volume.count_below(&mut target, true)?;
                volume.write_inode(&mut target)?;
            }
            let mut file = volume.entered(file.number)?;
            file.set_time(Time::Change, (volume.around.now)());
            volume.write_inode(&mut file)?;
            Ok(unfinished)
        })?;
        self.finish(unfinished)
    }
}
