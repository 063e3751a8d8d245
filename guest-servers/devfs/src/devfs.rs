//! The operations: [`FileSystem`] over the table of devices and the block drivers there are.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::object::Handle;
use xinim_abi::services::vfs::{NAME_MAX, Stat, StatFs, mode};
use xinim_block_client::Transport;
use xinim_block_client::names::{self, BlockName};
use xinim_block_client::partition::{Partition, partitions};
use xinim_fs_kit::{DirBuffer, FileSystem, Ino, MountInfo, NewFile, SetAttributes, Sink, Source};

use crate::table::{self, Behaviour, HOST, ROOT};
use crate::{Random, RawDisk};

/// Numbers of block devices: bit 32 set, then place in `disks` and partition.
const BLOCK: Ino = 1 << 32;
const PARTITION_BITS: u32 = 8;
/// Linux's major number of virtio disks; its minor numbers count 16 a disk.
const VIRTIO_MAJOR: u32 = 254;
/// Bytes made at once for `zero` and `random`.
const CHUNK: usize = 4096;

/// What devfs needs of the system.
pub trait Platform {
    type Disk: Transport;

    /// Labels of the block drivers that run.
    fn block_drivers(&mut self) -> Result<Vec<String>>;
    /// Attaches to a driver.
    fn open_disk(&mut self, label: &str) -> Result<Self::Disk>;
    /// The endpoint of a service; valid until the next call for the same label. `NxIo`: the
    /// service is not there.
    fn endpoint(&mut self, label: &str) -> Result<Handle>;
    /// Nanoseconds since 1970.
    fn now(&mut self) -> u64;
}

struct Disk<T> {
    label: String,
    /// As in /dev.
    name: String,
    opened: Option<RawDisk<T>>,
    /// Read once; forgotten when the device is written.
    partitions: Option<Vec<Partition>>,
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
    /// Ever seen; the place is part of the inode number.
    disks: Vec<Disk<P::Disk>>,
    /// Permissions and owners that somebody changed.
    changed: BTreeMap<Ino, Changed>,
    started: u64,
}

impl<P: Platform> DevFs<P> {
    pub fn new(mut platform: P, random: Random) -> Self {
        let started = platform.now();
        Self { platform, random, disks: Vec::new(), changed: BTreeMap::new(), started }
    }

    pub fn platform(&mut self) -> &mut P {
        &mut self.platform
    }

    /// Learns which block drivers run; answers the places of those.
    fn find_disks(&mut self) -> Vec<usize> {
        let Ok(labels) = self.platform.block_drivers() else { return Vec::new() };
        let mut places = Vec::new();
        for label in labels {
            let known = self.disks.iter().position(|disk| disk.label == label);
            let place = match (known, names::device_name(&label)) {
                (Some(place), _) => place,
                (None, Some(name)) => {
                    self.disks.push(Disk { label, name, opened: None, partitions: None });
                    self.disks.len() - 1
                }
                (None, None) => continue,
            };
            places.push(place);
        }
        places
    }

    /// A device's partitions; none if it cannot be read.
    fn partitions(&mut self, place: usize) -> Result<&[Partition]> {
        if self.disks[place].partitions.is_none() {
            let disk = self.open(place)?;
            let (sectors, block_size) = (disk.len() / 512, disk.block_size());
            let found = partitions(sectors, block_size, |sector, mut out: &mut [u8]| {
                let len = out.len();
                disk.read(sector.saturating_mul(512), len, &mut out)
            })?;
            self.disks[place].partitions = Some(found);
        }
        Ok(self.disks[place].partitions.as_deref().unwrap_or(&[]))
    }

    fn open(&mut self, place: usize) -> Result<&mut RawDisk<P::Disk>> {
        let disk = self.disks.get_mut(place).ok_or(Error::NxIo)?;
        if disk.opened.is_none() {
            disk.opened = Some(RawDisk::new(self.platform.open_disk(&disk.label)?));
        }
        disk.opened.as_mut().ok_or(Error::NxIo)
    }

    /// Start and length in bytes of a device or partition.
    fn extent(&mut self, place: usize, partition: u32) -> Result<(u64, u64)> {
        if partition == 0 {
            return self.open(place).map(|disk| (0, disk.len()));
        }
        let found = self.partitions(place)?.iter().find(|p| p.number == partition);
        let found = found.ok_or(Error::NxIo)?;
        Ok((found.start * 512, found.sectors * 512))
    }

    fn lookup_block(&mut self, name: &[u8]) -> Result<Ino> {
        let name = core::str::from_utf8(name).map_err(|_| Error::NoEnt)?;
        // `parse` also takes paths.
        let BlockName { label, partition } = match name.contains('/') {
            true => return Err(Error::NoEnt),
            false => names::parse(name)?,
        };
        if partition >= 1 << PARTITION_BITS {
            return Err(Error::NoEnt);
        }
        let places = self.find_disks();
        let place = places.into_iter().find(|&at| self.disks[at].label == label.as_str());
        let place = place.ok_or(Error::NoEnt)?;
        if partition != 0 {
            let table = self.partitions(place).map_err(|_| Error::NoEnt)?;
            if !table.iter().any(|p| p.number == partition) {
                return Err(Error::NoEnt);
            }
        }
        Ok(block_ino(place, partition))
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
        if ino == ROOT || ino == HOST {
            stat.mode = mode::DIRECTORY | 0o755;
            stat.links = 2;
        } else if let Some(device) = table::by_ino(ino) {
            stat.mode = mode::CHARACTER | device.permissions;
            stat.rdev = device.rdev;
        } else {
            let (place, partition) = self.block(ino)?;
            stat.mode = mode::BLOCK | 0o660;
            stat.rdev = (VIRTIO_MAJOR << 16) | (place as u32 * 16 + partition);
            // A device whose driver is gone still has its name.
            if let Ok((_, len)) = self.extent(place, partition) {
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

    fn block(&self, ino: Ino) -> Result<(usize, u32)> {
        let number = ino.checked_sub(BLOCK).ok_or(Error::Stale)?;
        let place = usize::try_from(number >> PARTITION_BITS).map_err(|_| Error::Stale)?;
        if place >= self.disks.len() {
            return Err(Error::Stale);
        }
        Ok((place, number as u32 & ((1 << PARTITION_BITS) - 1)))
    }

    fn behaviour(&self, ino: Ino) -> Result<Option<Behaviour>> {
        match ino {
            ROOT | HOST => Err(Error::IsDir),
            ino => Ok(table::by_ino(ino).map(|device| device.behaviour)),
        }
    }

    fn directory(&self, ino: Ino) -> Result<()> {
        match ino {
            ROOT | HOST => Ok(()),
            ino if table::by_ino(ino).is_some() || self.block(ino).is_ok() => Err(Error::NotDir),
            _ => Err(Error::Stale),
        }
    }

    /// Names in a directory, in an order that does not change while drivers stay.
    fn names(&mut self, dir: Ino) -> Vec<(String, Ino, u32)> {
        let mut names: Vec<(String, Ino, u32)> = table::in_directory(dir)
            .map(|(name, ino, mode)| (String::from(name), ino, mode))
            .collect();
        if dir != ROOT {
            return names;
        }
        for place in self.find_disks() {
            let name = self.disks[place].name.clone();
            let numbers: Vec<u32> = match self.partitions(place) {
                Ok(table) => table.iter().map(|partition| partition.number).collect(),
                Err(_) => Vec::new(),
            };
            names.push((name.clone(), block_ino(place, 0), mode::BLOCK));
            for number in numbers.into_iter().filter(|&number| number < 1 << PARTITION_BITS) {
                names.push((format!("{name}{number}"), block_ino(place, number), mode::BLOCK));
            }
        }
        names
    }
}

fn block_ino(place: usize, partition: u32) -> Ino {
    BLOCK + ((place as u64) << PARTITION_BITS) + u64::from(partition)
}

impl<P: Platform> FileSystem for DevFs<P> {
    fn mount(&mut self, _source: &str, flags: u32) -> Result<MountInfo> {
        Ok(MountInfo { root: ROOT, flags })
    }

    fn unmount(&mut self) -> Result<()> {
        self.sync()
    }

    fn sync(&mut self) -> Result<()> {
        let mut result = Ok(());
        for disk in self.disks.iter_mut().filter_map(|disk| disk.opened.as_mut()) {
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
            None if dir == ROOT && name == b"host" => HOST,
            None if dir == ROOT => self.lookup_block(name)?,
            None => return Err(Error::NoEnt),
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
                let (start, size) = self.extent(place, partition)?;
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
                let (start, size) = self.extent(place, partition)?;
                let count = size.saturating_sub(offset).min(len as u64) as usize;
                if count == 0 && len > 0 {
                    return Err(Error::NoSpc);
                }
                self.disks[place].partitions = None;
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

    fn read_link(&mut self, _ino: Ino) -> Result<Vec<u8>> {
        Err(Error::Inval)
    }

    fn read_dir(&mut self, dir: Ino, cookie: u64, out: &mut DirBuffer) -> Result<()> {
        self.directory(dir)?;
        let dots = [(String::from("."), dir), (String::from(".."), ROOT)];
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
        let files = table::DEVICES.len() as u64 + self.disks.len() as u64;
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

    fn redirect(&mut self, ino: Ino) -> Result<(u64, Handle)> {
        match self.behaviour(ino)? {
            Some(Behaviour::Elsewhere { label, cookie }) => {
                Ok((cookie, self.platform.endpoint(label)?))
            }
            _ => Err(Error::NotSup),
        }
    }
}
