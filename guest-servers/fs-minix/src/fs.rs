//! The `FileSystem` on top of the tree.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::fs::mounted;
use xinim_abi::services::vfs::{Stat, StatFs, mode, mount};
use xinim_block_client::Storage;
use xinim_fs_kit::{DirBuffer, FileSystem, Ino, MountInfo, NewFile, SetAttributes, check_name};

use crate::check;
use crate::layout::{Inode, ROOT, Version};
use crate::tree::{Tree, blocks, rdev};
use crate::volume::Volume;

const SECOND: u64 = 1_000_000_000;

/// Opens the block device or partition that a mount names ("vda1").
pub type OpenDevice<S> = Box<dyn FnMut(&str) -> Result<S>>;

/// One MINIX file system, mounted or not.
pub struct Minix<S> {
    open: OpenDevice<S>,
    now: fn() -> u64,
    mounted: Option<Mounted<S>>,
}

struct Mounted<S> {
    tree: Tree<S>,
    read_only: bool,
    /// Flags of the mount as granted.
    flags: u32,
}

/// The files without a name that the instance before held, if all of them are there. Where writes were lost, a
/// number may be another file's: then none is.
fn held_again<S: Storage>(volume: &mut Volume<S>, held: &[Ino]) -> Vec<u32> {
    let there = |&ino: &Ino| {
        let ino = u32::try_from(ino).ok()?;
        volume.inode(ino).ok().map(|_| ino)
    };
    let numbers: Vec<u32> = held.iter().map_while(there).collect();
    let all = volume.storage.recovered() && numbers.len() == held.len();
    if all { numbers } else { Vec::new() }
}

impl<S: Storage> Minix<S> {
    /// `now`: nanoseconds since 1970.
    pub fn new(open: OpenDevice<S>, now: fn() -> u64) -> Self {
        Self { open, now, mounted: None }
    }

    fn tree(&mut self) -> Result<&mut Tree<S>> {
        Ok(&mut self.mounted.as_mut().ok_or(Error::NoDev)?.tree)
    }

    /// For changes: `RoFs` on a read-only mount.
    fn writable(&mut self) -> Result<&mut Tree<S>> {
        let mounted = self.mounted.as_mut().ok_or(Error::NoDev)?;
        if mounted.read_only { Err(Error::RoFs) } else { Ok(&mut mounted.tree) }
    }
}

impl<S: Storage> Tree<S> {
    /// Marks the volume as in use, durably.
    fn open_for_writing(&mut self) -> Result<()> {
        self.volume.geometry.set_clean(&mut self.volume.storage, false)?;
        self.volume.flush()
    }

    /// Everything onto the medium, then the mark of order.
    fn close_for_writing(&mut self) -> Result<()> {
        self.release_all()?;
        self.mark_clean()
    }

    /// After an I/O error an operation may have been left half done: then the volume is checked, and
    /// stays marked as in use if that cannot put it right.
    fn mark_clean(&mut self) -> Result<()> {
        self.volume.flush()?;
        let storage = &mut self.volume.storage;
        if storage.failed() {
            if !check::check(storage, true)?.repaired() {
                return Ok(());
            }
            storage.forget();
        }
        self.volume.geometry.set_clean(&mut self.volume.storage, true)?;
        self.volume.flush()
    }

    fn stat(&mut self, ino: u32) -> Result<Stat> {
        let inode = self.inode(ino)?;
        Ok(self.stat_of(ino, &inode))
    }

    fn stat_of(&self, ino: u32, inode: &Inode) -> Stat {
        let block = self.volume.geometry.block;
        Stat {
            ino: ino.into(),
            size: inode.size.into(),
            blocks: blocks(inode, block),
            atime: u64::from(inode.atime) * SECOND,
            mtime: u64::from(inode.mtime) * SECOND,
            ctime: u64::from(inode.ctime) * SECOND,
            mode: inode.mode.into(),
            links: inode.links.into(),
            uid: inode.uid.into(),
            gid: inode.gid.into(),
            block_size: block as u32,
            rdev: rdev(inode),
            ..Stat::default()
        }
    }

    fn set(&mut self, ino: u32, set: &SetAttributes) -> Result<()> {
        let mut inode = self.inode(ino)?;
        let seconds = |ns: u64| u32::try_from(ns / SECOND).unwrap_or(u32::MAX);
        if let Some(size) = set.size {
            self.resize(ino, &mut inode, size)?;
            inode.mtime = self.seconds();
        }
        if let Some(new) = set.mode {
            inode.mode = inode.mode & mode::TYPE_MASK as u16 | (new & 0o7777) as u16;
        }
        let (uid, gid) = (inode.uid.into(), inode.gid.into());
        self.set_owner(&mut inode, set.uid.unwrap_or(uid), set.gid.unwrap_or(gid));
        if let Some(atime) = set.atime {
            inode.atime = seconds(atime);
        }
        if let Some(mtime) = set.mtime {
            inode.mtime = seconds(mtime);
        }
        if !set.only_atime() {
            inode.ctime = self.seconds();
        }
        self.volume.put_inode(ino, &inode)
    }
}

/// An inode number of ours. `Stale` for any that cannot be.
fn number(ino: Ino) -> Result<u32> {
    u32::try_from(ino).map_err(|_| Error::Stale)
}

impl<S: Storage> FileSystem for Minix<S> {
    /// A volume that was not unmounted in order is repaired first, unless it is mounted read-only.
    fn mount(&mut self, source: &str, flags: u32) -> Result<MountInfo> {
        self.mount_again(source, flags, &[])
    }

    fn mount_again(&mut self, source: &str, flags: u32, held: &[Ino]) -> Result<MountInfo> {
        if self.mounted.is_some() {
            return Err(Error::Busy);
        }
        let mut volume = Volume::open((self.open)(source)?)?;
        let held = held_again(&mut volume, held);
        let read_only = volume.storage.read_only() || flags & mount::READ_ONLY != 0;
        if !read_only && !volume.geometry.clean {
            let report = check::check_held(&mut volume.storage, true, &held)?;
            if !report.repaired() {
                return Err(Error::Io);
            }
        }
        let mut holds = BTreeMap::new();
        held.iter().for_each(|&ino| *holds.entry(ino).or_insert(0) += 1);
        let mut tree = Tree { volume, holds, now: self.now };
        tree.directory(ROOT).map_err(|error| match error {
            Error::Stale | Error::NotDir => Error::Inval,
            error => error,
        })?;
        if !read_only {
            tree.open_for_writing()?;
        }
        let flags = if read_only { flags | mount::READ_ONLY } else { flags };
        let mut restored = if tree.volume.storage.recovered() { mounted::RESTORED } else { 0 };
        if !tree.holds.is_empty() {
            restored |= mounted::HELD;
        }
        self.mounted = Some(Mounted { tree, read_only, flags });
        Ok(MountInfo { root: ROOT.into(), flags: flags | restored })
    }

    fn unmount(&mut self) -> Result<()> {
        let mounted = self.mounted.as_mut().ok_or(Error::NoDev)?;
        if !mounted.read_only {
            mounted.tree.close_for_writing()?;
        }
        self.mounted = None;
        Ok(())
    }

    fn remount(&mut self, flags: u32) -> Result<u32> {
        let mounted = self.mounted.as_mut().ok_or(Error::NoDev)?;
        let mut flags = flags;
        if mounted.tree.volume.storage.read_only() {
            flags |= mount::READ_ONLY;
        }
        match (mounted.read_only, flags & mount::READ_ONLY != 0) {
            (false, true) => {
                mounted.tree.mark_clean()?;
            }
            (true, false) => mounted.tree.open_for_writing()?,
            _ => {}
        }
        mounted.read_only = flags & mount::READ_ONLY != 0;
        mounted.flags = flags;
        Ok(flags)
    }

    fn sync(&mut self) -> Result<()> {
        let mounted = self.mounted.as_mut().ok_or(Error::NoDev)?;
        if mounted.read_only { Ok(()) } else { mounted.tree.volume.flush() }
    }

    fn background(&mut self, tick: bool) -> bool {
        let mounted = self.mounted.as_mut();
        mounted.is_some_and(|mounted| mounted.tree.volume.storage.background(tick))
    }

    fn trim(&mut self, offset: u64, len: u64, min_len: u64) -> Result<u64> {
        self.writable()?.volume.trim(offset, len, min_len)
    }

    fn lookup(&mut self, dir: Ino, name: &[u8]) -> Result<Stat> {
        let tree = self.tree()?;
        let parent = tree.directory(number(dir)?)?;
        let slot = tree.volume.find(&parent, name)?;
        tree.stat(slot.ino).map_err(|error| match error {
            Error::Stale => Error::Io,
            error => error,
        })
    }

    fn attributes(&mut self, ino: Ino) -> Result<Stat> {
        self.tree()?.stat(number(ino)?)
    }

    fn set_attributes(&mut self, ino: Ino, set: &SetAttributes) -> Result<Stat> {
        let (tree, ino) = (self.writable()?, number(ino)?);
        tree.set(ino, set)?;
        tree.stat(ino)
    }

    fn read(&mut self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize> {
        let tree = self.tree()?;
        let inode = tree.readable(number(ino)?)?;
        tree.volume.read(&inode, offset, out)
    }

    fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Result<usize> {
        let (tree, ino) = (self.writable()?, number(ino)?);
        let mut inode = tree.readable(ino)?;
        if data.is_empty() {
            return Ok(0);
        }
        let written = tree.volume.write(&mut inode, offset, data);
        if written.is_ok() {
            (inode.mtime, inode.ctime) = (tree.seconds(), tree.seconds());
        }
        tree.volume.put_inode(ino, &inode)?;
        written
    }

    fn create(&mut self, dir: Ino, name: &[u8], new: &NewFile<'_>) -> Result<Stat> {
        check_name(name)?;
        let tree = self.writable()?;
        let ino = tree.create(number(dir)?, name, new)?;
        tree.stat(ino)
    }

    fn unlink(&mut self, dir: Ino, name: &[u8], directory: bool) -> Result<()> {
        check_name(name)?;
        self.writable()?.unlink(number(dir)?, name, directory)
    }

    fn rename(&mut self, from: (Ino, &[u8]), to: (Ino, &[u8])) -> Result<()> {
        check_name(from.1)?;
        check_name(to.1)?;
        self.writable()?.rename((number(from.0)?, from.1), (number(to.0)?, to.1))
    }

    fn link(&mut self, ino: Ino, dir: Ino, name: &[u8]) -> Result<()> {
        check_name(name)?;
        self.writable()?.link(number(ino)?, number(dir)?, name)
    }

    fn read_link(&mut self, ino: Ino) -> Result<Vec<u8>> {
        let tree = self.tree()?;
        let inode = tree.inode(number(ino)?)?;
        if u32::from(inode.mode) & mode::TYPE_MASK != mode::SYMLINK {
            return Err(Error::Inval);
        }
        if inode.size as usize > tree.volume.geometry.block {
            return Err(Error::Io);
        }
        let mut target = vec![0; inode.size as usize];
        tree.volume.read(&inode, 0, &mut target)?;
        Ok(target)
    }

    /// A cookie is the byte position behind an entry.
    fn read_dir(&mut self, dir: Ino, cookie: u64, out: &mut DirBuffer) -> Result<()> {
        let tree = self.tree()?;
        let inode = tree.directory(number(dir)?)?;
        let entry_len = tree.volume.geometry.entry_len() as u64;
        let mut at = cookie;
        let mut full = false;
        while !full {
            // In pieces: the type of a file stands in its inode, which a scan cannot read.
            let mut piece: Vec<(u64, u32, Vec<u8>)> = Vec::new();
            tree.volume.scan(&inode, at, |at, ino, name| {
                if ino != 0 && (name == b"." || name == b".." || check_name(name).is_ok()) {
                    piece.push((at, ino, name.to_vec()));
                }
                if piece.len() >= 64 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            let Some(&(last, ..)) = piece.last() else { break };
            at = last + entry_len;
            for (at, ino, name) in piece {
                // A name that leads nowhere shows as of no type.
                let mode = tree.volume.inode(ino).map_or(0, |inode| inode.mode);
                if !out.push(ino.into(), at + entry_len, mode.into(), &name) {
                    full = true;
                    break;
                }
            }
        }
        Ok(())
    }

    fn hold(&mut self, ino: Ino) -> Result<()> {
        self.tree()?.hold(number(ino)?)
    }

    fn release(&mut self, ino: Ino) -> Result<()> {
        self.tree()?.release(number(ino)?)
    }

    fn statfs(&mut self) -> Result<StatFs> {
        let volume = &mut self.tree()?.volume;
        let geometry = volume.geometry;
        let mut fs_type = [0; 16];
        fs_type[..6].copy_from_slice(match geometry.version {
            Version::V1 => b"minix1",
            Version::V2 => b"minix2",
            Version::V3 => b"minix3",
        });
        Ok(StatFs {
            block_size: geometry.block as u64,
            blocks: (geometry.zones - geometry.first_data).into(),
            blocks_free: volume.zmap.count_free(&mut volume.storage)?.into(),
            files: geometry.inodes.into(),
            files_free: volume.imap.count_free(&mut volume.storage)?.into(),
            name_max: geometry.name_len as u64,
            fs_type,
        })
    }

    fn fsync(&mut self, ino: Ino) -> Result<()> {
        let mounted = self.mounted.as_mut().ok_or(Error::NoDev)?;
        mounted.tree.inode(number(ino)?)?;
        if mounted.read_only { Ok(()) } else { mounted.tree.volume.flush() }
    }
}
