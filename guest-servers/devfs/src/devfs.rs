//! The operations: [`FileSystem`] over the table of devices and the block drivers there are.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::object::Handle;
use xinim_abi::services::fs::mounted;
use xinim_abi::services::vfs::{NAME_MAX, Stat, StatFs, mode};
use xinim_block_client::Transport;
use xinim_fs_kit::{DirBuffer, FileSystem, Ino, MountInfo, NewFile, SetAttributes, Sink, Source};

use crate::disks::{BlockId, Disks, LinkKind, PARTITION_BITS, UnitInfo};
use crate::table::{self, Behaviour, ROOT};
use crate::{Random, RawDisk};

/// Numbers of block devices: bit 32 set, then place and partition.
const BLOCK: Ino = 1 << 32;
/// Numbers of links: bit 48 set, the directory in bits 40 on, and the device as above.
const LINK: Ino = 1 << 48;
const LINK_SHIFT: u32 = 40;
/// Bytes made at once for `zero` and `random`.
const CHUNK: usize = 4096;

/// What devfs needs of the system.
pub trait Platform {
    type Disk: Transport;

    /// The units of all block drivers, in the order of their names. Who implements it sees to it that
    /// [`DevFs::units_changed`] is called when they have changed.
    fn units(&mut self) -> Vec<UnitInfo>;
    /// Attaches to a unit of a driver.
    fn open_disk(&mut self, label: &str, unit: u32) -> Result<Self::Disk>;
    /// The endpoint of a service; valid until the next call for the same label. `NxIo`: the
    /// service is not there.
    fn endpoint(&mut self, label: &str) -> Result<Handle>;
    /// Nanoseconds since 1970.
    fn now(&mut self) -> u64;
}

/// What was set at a device's file; lost with the server.
#[derive(Clone, Copy, Debug, Default)]
struct Changed {
    mode: Option<u32>,
    uid: u32,
    gid: u32,
}

/// `/dev`.
pub struct DevFs<P: Platform> {
    platform: P,
    random: Random,
    disks: Disks<P>,
    /// Permissions and owners that somebody changed.
    changed: BTreeMap<Ino, Changed>,
    started: u64,
}

impl<P: Platform> DevFs<P> {
    pub fn new(mut platform: P, random: Random) -> Self {
        let started = platform.now();
        Self { platform, random, disks: Disks::new(), changed: BTreeMap::new(), started }
    }

    pub fn platform(&mut self) -> &mut P {
        &mut self.platform
    }

    /// A driver came or went, or one of its units did, or changed its size.
    pub fn units_changed(&mut self) {
        self.disks.changed();
    }

    fn open(&mut self, place: usize) -> Result<&mut RawDisk<P::Disk>> {
        self.disks.open(&mut self.platform, place)
    }

    fn extent(&mut self, id: BlockId) -> Result<(u64, u64)> {
        self.disks.extent(&mut self.platform, id)
    }

    fn lookup_block(&mut self, name: &[u8]) -> Result<Ino> {
        for place in self.disks.list(&mut self.platform) {
            let disk = self.disks.name((place, 0));
            let Some(digits) = name.strip_prefix(disk.as_bytes()) else { continue };
            if digits.is_empty() {
                return Ok(block_ino((place, 0)));
            }
            // `vda1` cannot be the name of another disk, but `sda` begins `sdab`.
            let partitions = self.disks.partitions(&mut self.platform, place).unwrap_or_default();
            let mut numbers = partitions.into_iter();
            if let Some(number) = numbers.find(|n| format!("{n}").as_bytes() == digits) {
                return Ok(block_ino((place, number)));
            }
        }
        Err(Error::NoEnt)
    }

    fn stat(&mut self, ino: Ino) -> Result<Stat> {
        let mut stat = Stat {
            ino,
            links: 1,
            block_size: CHUNK as u32,
            atime: self.started,
            mtime: self.started,
            ctime: self.started,
            ..Stat::default()
        };
        if table::is_directory(ino) {
            stat.mode = mode::DIRECTORY | 0o755;
            stat.links = 2;
        } else if let Some(device) = table::by_ino(ino) {
            stat.mode = mode::CHARACTER | device.permissions;
            stat.rdev = device.rdev;
        } else if let Some(id) = self.link_target(ino) {
            stat.mode = mode::SYMLINK | 0o777;
            stat.size = self.target(id).len() as u64;
        } else {
            let id = self.block(ino)?;
            stat.mode = mode::BLOCK | 0o660;
            stat.rdev = self.disks.rdev(id);
            // A device that is gone still has its name.
            if let Ok((_, len)) = self.extent(id) {
                stat.size = len;
                stat.blocks = len / 512;
            }
        }
        if let Some(changed) = self.changed.get(&ino) {
            if let Some(permissions) = changed.mode {
                stat.mode = stat.mode & mode::TYPE_MASK | permissions;
            }
            (stat.uid, stat.gid) = (changed.uid, changed.gid);
        }
        Ok(stat)
    }

    fn block(&self, ino: Ino) -> Result<BlockId> {
        let number = ino.checked_sub(BLOCK).ok_or(Error::Stale)?;
        let place = usize::try_from(number >> PARTITION_BITS).map_err(|_| Error::Stale)?;
        if !self.disks.exists(place) {
            return Err(Error::Stale);
        }
        Ok((place, number as u32 & ((1 << PARTITION_BITS) - 1)))
    }

    /// The device that a link leads to, if `ino` is a link.
    fn link_target(&self, ino: Ino) -> Option<BlockId> {
        let number = ino.checked_sub(LINK)?;
        self.block(number & ((1 << LINK_SHIFT) - 1)).ok()
    }

    fn target(&self, id: BlockId) -> String {
        format!("../../{}", self.disks.name(id))
    }

    /// Names in one of the directories of links.
    fn links(&mut self, dir: Ino) -> Vec<(String, Ino)> {
        let Some(kind) = link_kind(dir) else { return Vec::new() };
        let links = self.disks.links(&mut self.platform, kind);
        let ino = |id| LINK | dir << LINK_SHIFT | block_ino(id);
        links.into_iter().map(|(name, id)| (name, ino(id))).collect()
    }

    fn behaviour(&self, ino: Ino) -> Result<Option<Behaviour>> {
        match ino {
            ino if table::is_directory(ino) => Err(Error::IsDir),
            ino => Ok(table::by_ino(ino).map(|device| device.behaviour)),
        }
    }

    fn directory(&self, ino: Ino) -> Result<()> {
        match ino {
            ino if table::is_directory(ino) => Ok(()),
            ino if table::by_ino(ino).is_some()
                || self.link_target(ino).is_some()
                || self.block(ino).is_ok() =>
            {
                Err(Error::NotDir)
            }
            _ => Err(Error::Stale),
        }
    }

    /// Names in a directory, in an order that does not change while drivers stay.
    fn names(&mut self, dir: Ino) -> Vec<(String, Ino, u32)> {
        let mut names: Vec<(String, Ino, u32)> = table::in_directory(dir)
            .map(|(name, ino, mode)| (String::from(name), ino, mode))
            .collect();
        let links = self.links(dir).into_iter();
        names.extend(links.map(|(name, ino)| (name, ino, mode::SYMLINK)));
        if dir != ROOT {
            return names;
        }
        for place in self.disks.list(&mut self.platform) {
            let partitions = self.disks.partitions(&mut self.platform, place).unwrap_or_default();
            for number in core::iter::once(0).chain(partitions) {
                let id = (place, number);
                names.push((self.disks.name(id), block_ino(id), mode::BLOCK));
            }
        }
        names
    }
}

fn block_ino((place, partition): BlockId) -> Ino {
    BLOCK + ((place as u64) << PARTITION_BITS) + u64::from(partition)
}

fn link_kind(dir: Ino) -> Option<LinkKind> {
    match dir {
        table::BY_ID => Some(LinkKind::Id),
        table::BY_UUID => Some(LinkKind::Uuid),
        table::BY_LABEL => Some(LinkKind::Label),
        table::BY_PARTUUID => Some(LinkKind::PartUuid),
        _ => None,
    }
}

impl<P: Platform> FileSystem for DevFs<P> {
    fn mount(&mut self, _source: &str, flags: u32) -> Result<MountInfo> {
        // Disks come and go: nobody may remember their names.
        Ok(MountInfo { root: ROOT, flags: flags | mounted::VOLATILE_DISKS })
    }

    fn unmount(&mut self) -> Result<()> {
        self.sync()
    }

    fn sync(&mut self) -> Result<()> {
        let mut result = Ok(());
        for disk in self.disks.opened() {
            if !disk.read_only() {
                result = result.and(disk.flush());
            }
        }
        result
    }

    fn lookup(&mut self, dir: Ino, name: &[u8]) -> Result<Stat> {
        self.directory(dir)?;
        let ino = match table::by_name(dir, name) {
            Some(ino) => ino,
            None if dir == ROOT => self.lookup_block(name)?,
            None => {
                let links = self.links(dir);
                let found = links.iter().find(|(link, _)| link.as_bytes() == name);
                found.ok_or(Error::NoEnt)?.1
            }
        };
        self.stat(ino)
    }

    fn attributes(&mut self, ino: Ino) -> Result<Stat> {
        self.stat(ino)
    }

    fn set_attributes(&mut self, ino: Ino, set: &SetAttributes) -> Result<Stat> {
        self.stat(ino)?;
        if set.size.is_some() {
            return Err(if self.directory(ino).is_ok() { Error::IsDir } else { Error::Inval });
        }
        let changed = self.changed.entry(ino).or_default();
        changed.mode = set.mode.map(|mode| mode & mode::PERMISSIONS).or(changed.mode);
        changed.uid = set.uid.unwrap_or(changed.uid);
        changed.gid = set.gid.unwrap_or(changed.gid);
        self.stat(ino)
    }

    fn read(&mut self, ino: Ino, offset: u64, mut out: &mut [u8]) -> Result<usize> {
        let len = out.len();
        self.read_to(ino, offset, len, &mut out)
    }

    fn read_to(&mut self, ino: Ino, offset: u64, len: usize, out: &mut dyn Sink) -> Result<usize> {
        let mut chunk = vec![0; CHUNK.min(len)];
        let random = match self.behaviour(ino)? {
            Some(Behaviour::Null) => return Ok(0),
            Some(Behaviour::Zero | Behaviour::Full) => false,
            Some(Behaviour::Random) => true,
            Some(Behaviour::Elsewhere { .. }) => return Err(Error::NxIo),
            None => {
                let (place, partition) = self.block(ino)?;
                let (start, size) = self.extent((place, partition))?;
                let len = size.saturating_sub(offset).min(len as u64) as usize;
                if len > 0 {
                    self.open(place)?.read(start + offset, len, out)?;
                }
                return Ok(len);
            }
        };
        for at in (0..len).step_by(CHUNK) {
            let piece = &mut chunk[..CHUNK.min(len - at)];
            if random {
                self.random.fill(piece);
            }
            out.put(at, piece)?;
        }
        Ok(len)
    }

    fn write(&mut self, ino: Ino, offset: u64, mut data: &[u8]) -> Result<usize> {
        self.write_from(ino, offset, data.len(), &mut data)
    }

    fn write_from(
        &mut self,
        ino: Ino,
        offset: u64,
        len: usize,
        from: &mut dyn Source,
    ) -> Result<usize> {
        match self.behaviour(ino)? {
            Some(Behaviour::Null | Behaviour::Zero) => Ok(len),
            Some(Behaviour::Full) => Err(Error::NoSpc),
            Some(Behaviour::Elsewhere { .. }) => Err(Error::NxIo),
            Some(Behaviour::Random) => {
                let mut start = vec![0; len.min(CHUNK)];
                from.get(0, &mut start)?;
                self.random.stir(&start);
                Ok(len)
            }
            None => {
                let (place, partition) = self.block(ino)?;
                let (start, size) = self.extent((place, partition))?;
                let count = size.saturating_sub(offset).min(len as u64) as usize;
                if count == 0 && len > 0 {
                    return Err(Error::NoSpc);
                }
                self.disks.written(place);
                if count > 0 {
                    self.open(place)?.write(start + offset, count, from)?;
                }
                Ok(count)
            }
        }
    }

    fn create(&mut self, dir: Ino, name: &[u8], _new: &NewFile<'_>) -> Result<Stat> {
        match self.lookup(dir, name) {
            Ok(_) => Err(Error::Exist),
            Err(Error::NoEnt) => Err(Error::Perm),
            Err(error) => Err(error),
        }
    }

    fn unlink(&mut self, dir: Ino, name: &[u8], _directory: bool) -> Result<()> {
        self.lookup(dir, name).and(Err(Error::Perm))
    }

    fn rename(&mut self, from: (Ino, &[u8]), _to: (Ino, &[u8])) -> Result<()> {
        self.lookup(from.0, from.1).and(Err(Error::Perm))
    }

    fn link(&mut self, _ino: Ino, _dir: Ino, _name: &[u8]) -> Result<()> {
        Err(Error::Perm)
    }

    fn read_link(&mut self, ino: Ino) -> Result<Vec<u8>> {
        let id = self.link_target(ino).ok_or(Error::Inval)?;
        Ok(self.target(id).into_bytes())
    }

    fn read_dir(&mut self, dir: Ino, cookie: u64, out: &mut DirBuffer) -> Result<()> {
        self.directory(dir)?;
        let dots = [(String::from("."), dir), (String::from(".."), table::parent(dir))];
        let dots = dots.into_iter().map(|(name, ino)| (name, ino, mode::DIRECTORY));
        let all = dots.chain(self.names(dir));
        let Ok(skip) = usize::try_from(cookie) else { return Ok(()) };
        for (place, (name, ino, mode)) in all.enumerate().skip(skip) {
            if !out.push(ino, place as u64 + 1, mode, name.as_bytes()) {
                break;
            }
        }
        Ok(())
    }

    fn hold(&mut self, ino: Ino) -> Result<()> {
        self.stat(ino).map(|_| ())
    }

    fn release(&mut self, ino: Ino) -> Result<()> {
        self.stat(ino).map(|_| ())
    }

    fn statfs(&mut self) -> Result<StatFs> {
        let mut fs_type = [0; 16];
        fs_type[..5].copy_from_slice(b"devfs");
        let files = table::DEVICES.len() as u64 + self.disks.count() as u64;
        Ok(StatFs {
            block_size: CHUNK as u64,
            blocks: 0,
            blocks_free: 0,
            files,
            files_free: 0,
            name_max: NAME_MAX as u64,
            fs_type,
        })
    }

    fn fsync(&mut self, ino: Ino) -> Result<()> {
        match self.block(ino) {
            Ok((place, _)) if !self.open(place)?.read_only() => self.open(place)?.flush(),
            _ => Ok(()),
        }
    }

    fn discard(&mut self, ino: Ino, offset: u64, len: u64, zeroes: bool) -> Result<()> {
        let (place, partition) = self.block(ino).map_err(|_| Error::NotTy)?;
        let (start, size) = self.extent((place, partition))?;
        if offset.checked_add(len).is_none_or(|end| end > size) {
            return Err(Error::Inval);
        }
        self.disks.written(place);
        self.open(place)?.discard(start + offset, len, zeroes)
    }

    fn redirect(&mut self, ino: Ino) -> Result<(u64, Handle)> {
        match self.behaviour(ino)? {
            Some(Behaviour::Elsewhere { label, cookie }) => {
                Ok((cookie, self.platform.endpoint(label)?))
            }
            _ => Err(Error::NotSup),
        }
    }
}
