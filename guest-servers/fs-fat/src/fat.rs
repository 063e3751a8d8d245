//! The `FileSystem` on top of a volume.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use lamfat::{Read, Seek, SeekFrom, Write};
use xinim_abi::error::{Error, Result};
use xinim_abi::services::fs::mounted;
use xinim_abi::services::vfs::{Stat, StatFs, mode, mount};
use xinim_block_client::Storage;
use xinim_fs_kit::{DirBuffer, FileSystem, Ino, MountInfo, NewFile, SetAttributes};

use crate::check;
use crate::device::Shared;
use crate::directory::{self, Found, ORPHAN_PREFIX};
use crate::names::hidden_name;
use crate::nodes::{Nodes, ROOT};
use crate::raw::Layout;
use crate::time::{self, Clock};
use crate::volume::{FatFile, Volume, error};

/// Longest file: sizes are 32-bit.
const MAX_SIZE: u64 = u32::MAX as u64;
const ZEROS: [u8; 4096] = [0; 4096];

/// Opens the block device or partition that a mount names ("vda1").
pub type OpenDevice = Box<dyn FnMut(&str) -> Result<Box<dyn Storage>>>;

/// One FAT file system, mounted or not.
pub struct Fat {
    open: OpenDevice,
    clock: Clock,
    mounted: Option<Mounted>,
}

pub(crate) struct Mounted {
    pub(crate) storage: Shared,
    /// `None` only while `sync` replaces it, or after that failed.
    pub(crate) volume: Option<Volume>,
    pub(crate) nodes: Nodes,
    read_only: bool,
    clock: Clock,
}

impl Fat {
    /// `now`: nanoseconds since 1970.
    pub fn new(open: OpenDevice, now: fn() -> u64) -> Self {
        Self { open, clock: Clock(now), mounted: None }
    }

    fn mounted(&mut self) -> Result<&mut Mounted> {
        self.mounted.as_mut().ok_or(Error::NoDev)
    }

    /// For changes: `RoFs` on a read-only mount.
    fn writable(&mut self) -> Result<&mut Mounted> {
        let mounted = self.mounted()?;
        if mounted.read_only { Err(Error::RoFs) } else { Ok(mounted) }
    }
}

impl Mounted {
    pub(crate) fn volume(&mut self) -> Result<&mut Volume> {
        self.volume.as_mut().ok_or(Error::Io)
    }

    fn stat(&mut self, ino: Ino) -> Result<Stat> {
        let found = self.found(ino)?;
        let cluster = self.volume()?.fs().cluster_size();
        Ok(found.stat(ino, cluster))
    }

    fn found(&mut self, ino: Ino) -> Result<Found> {
        let path = self.nodes.path(ino)?;
        let Some((name, parents)) = path.split_last() else { return Ok(Found::root()) };
        let volume = self.volume.as_ref().ok_or(Error::Io)?;
        let found = directory::find(&volume.directory(parents)?, name)?;
        if found.directory == self.nodes.get(ino)?.directory {
            Ok(found)
        } else {
            Err(Error::Stale)
        }
    }

    pub(crate) fn find_in(&mut self, dir: Ino, name: &str) -> Result<Found> {
        self.nodes.directory(dir)?;
        let path = self.nodes.path(dir)?;
        let volume = self.volume.as_ref().ok_or(Error::Io)?;
        let found = directory::find(&volume.directory(&path)?, name)?;
        if name != "." && name != ".." && !self.nodes.is_sound(dir, &found.name) {
            self.check_entry(dir, name)?;
        }
        Ok(found)
    }

    /// `Io` if `name` in `dir` begins at a cluster that there cannot be (lamfat computes with it), or is a
    /// directory that stands above itself: there is no end of paths in it.
    fn check_entry(&mut self, dir: Ino, name: &str) -> Result<()> {
        let mut path = self.nodes.path(dir)?;
        path.push(name);
        let mut storage = self.storage.clone();
        // What only lamfat takes for a volume or a name is bounded by the length of paths alone.
        let Ok(layout) = Layout::read(&mut storage) else { return Ok(()) };
        let mut above = Vec::from([layout.root()]);
        for name in path {
            let last = above.last().copied().unwrap_or(layout.root());
            let entry = match layout.find(&mut storage, last, name) {
                Ok(entry) => entry,
                Err(Error::NoEnt) => return Ok(()),
                Err(error) => return Err(error),
            };
            let cluster = match entry.cluster() {
                0 if !entry.is_directory() => return Ok(()),
                0 => layout.root(),
                cluster if layout.is_cluster(cluster) => cluster,
                _ => return Err(Error::Io),
            };
            if above.contains(&cluster) {
                return Err(Error::Io);
            }
            above.push(cluster);
        }
        Ok(())
    }

    fn with_file<R>(
        &mut self,
        ino: Ino,
        action: impl FnOnce(&mut FatFile<'_>) -> Result<R>,
    ) -> Result<R> {
        if self.nodes.get(ino)?.directory {
            return Err(Error::IsDir);
        }
        let path = self.nodes.path(ino)?;
        self.volume.as_mut().ok_or(Error::Io)?.with_file(ino, &path, action)
    }

    /// Makes a file's name free: removes it, or hides it while it is held.
    fn detach(&mut self, dir: Ino, found: &Found) -> Result<()> {
        let ino = self.nodes.intern(dir, &found.name, found.directory);
        let held = self.nodes.get(ino)?.holds > 0;
        if found.directory {
            self.volume()?.close_all();
        } else {
            self.volume()?.close(ino);
        }
        let path = self.nodes.path(dir)?;
        let volume = self.volume.as_ref().ok_or(Error::Io)?;
        let parent = volume.directory(&path)?;
        if found.directory && !directory::is_empty(&parent.open_dir(&found.name).map_err(error)?)? {
            return Err(Error::NotEmpty);
        }
        drop(parent);
        if held && !found.directory {
            self.hide(dir, &found.name, ino)?;
        } else {
            let path = self.nodes.path(dir)?;
            let volume = self.volume.as_ref().ok_or(Error::Io)?;
            volume.directory(&path)?.remove(&found.name).map_err(error)?;
            self.nodes.forget(ino);
        }
        Ok(())
    }

    /// Holds the files without a name that the instance before held; whether all of them are there.
    fn hold_again(&mut self, held: &[Ino]) -> Result<bool> {
        let volume = self.volume.as_ref().ok_or(Error::Io)?;
        let all = directory::list(&volume.fs().root_dir())?;
        let there = |&ino: &Ino| {
            let name = hidden_name(ino);
            all.iter().any(|found| !found.directory && found.name == name)
        };
        if held.is_empty() || !held.iter().all(there) {
            return Ok(false);
        }
        held.iter().for_each(|&ino| self.nodes.hold_again(ino, &hidden_name(ino)));
        Ok(true)
    }

    /// Removes what a crash left of removed but held files.
    fn remove_orphans(&mut self) -> Result<()> {
        let volume = self.volume.as_ref().ok_or(Error::Io)?;
        let all = directory::list(&volume.fs().root_dir())?;
        for found in all {
            let left = found.name.starts_with(ORPHAN_PREFIX)
                && !found.directory
                && !self.nodes.is_held(ROOT, &found.name);
            if left && self.find_in(ROOT, &found.name).is_ok() {
                let volume = self.volume.as_ref().ok_or(Error::Io)?;
                volume.fs().root_dir().remove(&found.name).map_err(error)?;
            }
        }
        Ok(())
    }

    /// Everything onto the device, FAT32's summary too.
    fn sync(&mut self) -> Result<()> {
        if self.read_only {
            return Ok(());
        }
        let finished = match self.volume.take() {
            Some(volume) => volume.finish(),
            None => Ok(()),
        };
        let flushed = self.storage.flush();
        self.volume = Some(Volume::open(&self.storage, self.clock, true)?);
        finished.and(flushed)
    }

    fn resize(&mut self, ino: Ino, size: u64) -> Result<()> {
        if size > MAX_SIZE {
            return Err(Error::FBig);
        }
        let old = self.found(ino)?.size;
        self.with_file(ino, |file| {
            if size <= old {
                file.seek(SeekFrom::Start(size)).map_err(error)?;
                return file.truncate().map_err(error);
            }
            extend(file, old, size)
        })
    }
}

/// Fills from `old` to `size` with zeros; on failure the old size is restored.
fn extend(file: &mut FatFile<'_>, old: u64, size: u64) -> Result<()> {
    file.seek(SeekFrom::Start(old)).map_err(error)?;
    let mut left = size - old;
    while left > 0 {
        let part = left.min(ZEROS.len() as u64) as usize;
        match file.write(&ZEROS[..part]).map_err(error) {
            Ok(count) if count > 0 => left -= count as u64,
            result => {
                file.seek(SeekFrom::Start(old)).map_err(error)?;
                file.truncate().map_err(error)?;
                return Err(result.err().unwrap_or(Error::NoSpc));
            }
        }
    }
    Ok(())
}

impl FileSystem for Fat {
    fn mount(&mut self, source: &str, flags: u32) -> Result<MountInfo> {
        self.mount_again(source, flags, &[])
    }

    fn mount_again(&mut self, source: &str, flags: u32, held: &[Ino]) -> Result<MountInfo> {
        if self.mounted.is_some() {
            return Err(Error::Busy);
        }
        let mut storage = Shared::new((self.open)(source)?);
        let read_only = storage.read_only() || flags & mount::READ_ONLY != 0;
        if !read_only && check::is_dirty(&mut storage)? {
            check::check(&mut storage, true)?;
        }
        let volume = Volume::open(&storage, self.clock, !read_only)?;
        // Numbers that contradict each other: two readings of one volume would destroy it.
        if Layout::read(&mut storage).is_ok_and(|layout| layout.width != volume.width()) {
            return Err(Error::Inval);
        }
        let volume = Some(volume);
        let (nodes, clock) = (Nodes::new(), self.clock);
        let mut mounted = Mounted { storage, volume, nodes, read_only, clock };
        let mut holds = false;
        if !read_only {
            check::mark(&mut mounted.storage, true)?;
            mounted.storage.flush()?;
            holds = mounted.storage.recovered() && mounted.hold_again(held)?;
            mounted.remove_orphans()?;
        }
        self.mounted = Some(mounted);
        let mut granted = if read_only { flags | mount::READ_ONLY } else { flags };
        if self.mounted()?.storage.recovered() {
            granted |= mounted::RESTORED;
        }
        if holds {
            granted |= mounted::HELD;
        }
        Ok(MountInfo { root: ROOT, flags: granted })
    }

    fn unmount(&mut self) -> Result<()> {
        let mounted = self.mounted()?;
        if !mounted.read_only {
            // Held files have no holder any more.
            mounted.volume()?.close_all();
            mounted.nodes.release_all();
            mounted.remove_orphans()?;
            mounted.sync()?;
            if mounted.storage.failed() {
                // What an operation left half done is put right before the volume counts as clean.
                mounted.volume = None;
                check::check(&mut mounted.storage, true)?;
                mounted.volume = Some(Volume::open(&mounted.storage, mounted.clock, true)?);
            }
            check::mark(&mut mounted.storage, false)?;
            mounted.storage.flush()?;
        }
        self.mounted = None;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.mounted()?.sync()
    }

    fn trim(&mut self, offset: u64, len: u64, min_len: u64) -> Result<u64> {
        let mounted = self.writable()?;
        mounted.sync()?;
        check::trim(&mut mounted.storage, offset, len, min_len)
    }

    fn background(&mut self, tick: bool) -> bool {
        self.mounted.as_mut().is_some_and(|mounted| mounted.storage.background(tick))
    }

    fn lookup(&mut self, dir: Ino, name: &[u8]) -> Result<Stat> {
        let mounted = self.mounted()?;
        mounted.nodes.directory(dir)?;
        // A name that FAT cannot hold is not there.
        let name = directory::name(name).map_err(|_| Error::NoEnt)?;
        let found = mounted.find_in(dir, name)?;
        let ino = mounted.nodes.intern(dir, &found.name, found.directory);
        mounted.nodes.get_mut(ino)?.sound = true;
        let cluster = mounted.volume()?.fs().cluster_size();
        Ok(found.stat(ino, cluster))
    }

    fn attributes(&mut self, ino: Ino) -> Result<Stat> {
        self.mounted()?.stat(ino)
    }

    fn set_attributes(&mut self, ino: Ino, set: &SetAttributes) -> Result<Stat> {
        let mounted = self.writable()?;
        if let Some(size) = set.size {
            mounted.resize(ino, size)?;
        }
        // A changed size is a modification.
        let now = set.size.map(|_| (mounted.clock.0)());
        if let Some(mtime) = set.mtime.or(now)
            && !mounted.nodes.get(ino)?.directory
        {
            let time = time::from_ns(mtime);
            mounted.with_file(ino, |file| {
                file.set_modified(time);
                Ok(())
            })?;
        }
        mounted.stat(ino)
    }

    fn read(&mut self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize> {
        let mounted = self.mounted()?;
        mounted.with_file(ino, |file| {
            let size = file.seek(SeekFrom::Start(offset.min(MAX_SIZE))).map_err(error)?;
            if size < offset {
                return Ok(0);
            }
            let mut done = 0;
            while done < out.len() {
                match file.read(&mut out[done..]).map_err(error)? {
                    0 => break,
                    count => done += count,
                }
            }
            Ok(done)
        })
    }

    fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Result<usize> {
        let mounted = self.writable()?;
        if mounted.nodes.get(ino)?.directory {
            return Err(Error::IsDir);
        }
        let end = offset.checked_add(data.len() as u64).filter(|&end| end <= MAX_SIZE);
        end.ok_or(Error::FBig)?;
        if data.is_empty() {
            return Ok(0);
        }
        mounted.with_file(ino, |file| {
            let at = file.seek(SeekFrom::Start(offset)).map_err(error)?;
            if at < offset {
                extend(file, at, offset)?;
            }
            let mut done = 0;
            while done < data.len() {
                match file.write(&data[done..]).map_err(error) {
                    Ok(count) if count > 0 => done += count,
                    Ok(_) | Err(Error::NoSpc) if done > 0 => break,
                    Ok(_) => return Err(Error::NoSpc),
                    Err(error) => return Err(error),
                }
            }
            Ok(done)
        })
    }

    fn create(&mut self, dir: Ino, name: &[u8], new: &NewFile<'_>) -> Result<Stat> {
        let mounted = self.writable()?;
        mounted.nodes.directory(dir)?;
        let kind = match new.mode & mode::TYPE_MASK {
            mode::REGULAR => false,
            mode::DIRECTORY => true,
            mode::SYMLINK | mode::FIFO | mode::SOCKET | mode::CHARACTER | mode::BLOCK => {
                return Err(Error::NotSup);
            }
            _ => return Err(Error::Inval),
        };
        let name = directory::name(name)?;
        match mounted.find_in(dir, name) {
            Err(Error::NoEnt) => {}
            Ok(_) => return Err(Error::Exist),
            Err(error) => return Err(error),
        }
        mounted.make(dir, name, kind)?;
        let ino = mounted.nodes.intern(dir, name, kind);
        mounted.stat(ino)
    }

    fn unlink(&mut self, dir: Ino, name: &[u8], directory: bool) -> Result<()> {
        let mounted = self.writable()?;
        mounted.nodes.directory(dir)?;
        let name = directory::name(name).map_err(|_| Error::NoEnt)?;
        let found = mounted.find_in(dir, name)?;
        match (found.directory, directory) {
            (true, false) => Err(Error::IsDir),
            (false, true) => Err(Error::NotDir),
            _ => mounted.detach(dir, &found),
        }
    }

    fn rename(&mut self, from: (Ino, &[u8]), to: (Ino, &[u8])) -> Result<()> {
        let mounted = self.writable()?;
        mounted.nodes.directory(from.0)?;
        mounted.nodes.directory(to.0)?;
        let from_name = directory::name(from.1).map_err(|_| Error::NoEnt)?;
        let to_name = directory::name(to.1)?;
        let source = mounted.find_in(from.0, from_name)?;
        let ino = mounted.nodes.intern(from.0, &source.name, source.directory);
        if source.directory && mounted.nodes.is_below(to.0, ino) {
            return Err(Error::Inval);
        }
        let target = match mounted.find_in(to.0, to_name) {
            Err(Error::NoEnt) => None,
            Err(error) => return Err(error),
            Ok(target) => Some(target),
        };
        if source.directory {
            mounted.volume()?.close_all();
        } else {
            mounted.volume()?.close(ino);
        }
        let old = (from.0, source.name.as_str());
        let Some(target) = target else {
            mounted.move_name(old, (to.0, to_name))?;
            mounted.nodes.moved(ino, to.0, to_name);
            return Ok(());
        };
        let replaced = mounted.nodes.intern(to.0, &target.name, target.directory);
        if replaced == ino {
            return Ok(());
        }
        match (source.directory, target.directory) {
            (false, true) => return Err(Error::IsDir),
            (true, false) => return Err(Error::NotDir),
            (true, true) => {
                mounted.detach(to.0, &target)?;
                mounted.move_name(old, (to.0, to_name))?;
                mounted.nodes.moved(ino, to.0, to_name);
            }
            (false, false) => {
                mounted.volume()?.close(replaced);
                mounted.replace(old, (to.0, &target.name), replaced)?;
                mounted.nodes.moved(ino, to.0, &target.name);
            }
        }
        Ok(())
    }

    fn link(&mut self, _ino: Ino, _dir: Ino, _name: &[u8]) -> Result<()> {
        Err(Error::NotSup)
    }

    fn read_link(&mut self, ino: Ino) -> Result<Vec<u8>> {
        self.mounted()?.nodes.get(ino)?;
        Err(Error::Inval)
    }

    /// Cookies: 1 behind `.`, 2 behind `..`, then 3 plus a hash of the name just read; entries come
    /// in the order of these hashes, so that removing some never hides others.
    fn read_dir(&mut self, dir: Ino, cookie: u64, out: &mut DirBuffer) -> Result<()> {
        let mounted = self.mounted()?;
        let parent = mounted.nodes.directory(dir)?.parent;
        if cookie < 1 && !out.push(dir, 1, mode::DIRECTORY, b".") {
            return Ok(());
        }
        if cookie < 2 && !out.push(parent, 2, mode::DIRECTORY, b"..") {
            return Ok(());
        }
        let path = mounted.nodes.path(dir)?;
        let volume = mounted.volume.as_ref().ok_or(Error::Io)?;
        let mut entries: Vec<(u64, String, bool)> = directory::list(&volume.directory(&path)?)?
            .into_iter()
            .filter(|found| !found.name.starts_with(ORPHAN_PREFIX))
            .map(|found| (place(&found.name), found.name, found.directory))
            .filter(|&(place, ..)| place > cookie)
            .collect();
        entries.sort();
        for (place, name, directory) in entries {
            let kind = if directory { mode::DIRECTORY } else { mode::REGULAR };
            let ino = mounted.nodes.intern(dir, &name, directory);
            if !out.push(ino, place, kind, name.as_bytes()) {
                break;
            }
        }
        Ok(())
    }

    fn hold(&mut self, ino: Ino) -> Result<()> {
        let node = self.mounted()?.nodes.get_mut(ino)?;
        node.holds = node.holds.checked_add(1).ok_or(Error::Overflow)?;
        Ok(())
    }

    fn release(&mut self, ino: Ino) -> Result<()> {
        let mounted = self.mounted()?;
        let node = mounted.nodes.get_mut(ino)?;
        node.holds = node.holds.checked_sub(1).ok_or(Error::Inval)?;
        if node.holds == 0 && node.orphan {
            mounted.volume()?.close(ino);
            let name = mounted.nodes.get(ino)?.name.clone();
            mounted.volume()?.fs().root_dir().remove(&name).map_err(error)?;
            mounted.nodes.forget(ino);
        }
        Ok(())
    }

    fn statfs(&mut self) -> Result<StatFs> {
        let volume = self.mounted()?.volume()?;
        let stats = volume.fs().stats().map_err(error)?;
        let mut fs_type = [0; 16];
        let name = match volume.fs().fat_type() {
            lamfat::FatType::Fat12 => b"fat12",
            lamfat::FatType::Fat16 => b"fat16",
            lamfat::FatType::Fat32 => b"fat32",
        };
        fs_type[..5].copy_from_slice(name);
        Ok(StatFs {
            block_size: stats.cluster_size().into(),
            blocks: stats.total_clusters().into(),
            blocks_free: stats.free_clusters().into(),
            files: 0,
            files_free: 0,
            name_max: 255,
            fs_type,
        })
    }

    fn fsync(&mut self, ino: Ino) -> Result<()> {
        let mounted = self.mounted()?;
        mounted.nodes.get(ino)?;
        mounted.sync()
    }
}

/// Place of a name in its directory's reading order: FNV-1a of the name as FAT compares it, kept
/// above the cookies of the dots. Two names with one hash (2^-62) would be read as one.
fn place(name: &str) -> u64 {
    let hash = name.to_lowercase().bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    });
    (hash >> 2) + 3
}
