//! The block devices of `/dev`: which there are, their partitions, what they hold, and the links in
//! `/dev/disk` that name them by that.
//!
//! ```text
//! refresh(): units the drivers have  --same driver and instance, or same serial number--> kept
//!                                    --new--> a further place     --gone--> absent
//! ```
//! A device's place is part of its inode numbers and is never given to another: who has a disk open
//! that was torn away reads errors, not the next disk in the same port.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_block_client::names;
use xinim_block_client::partition::{self, Table};
use xinim_block_client::probe::{Volume, probe};

use crate::{Platform, RawDisk};

/// Bits of a device's number that are the partition.
pub(crate) const PARTITION_BITS: u32 = 8;

/// A unit of a block driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnitInfo {
    /// The driver's label and the process that runs it now.
    pub label: String,
    pub pid: u32,
    pub unit: u32,
    pub instance: u32,
    pub sectors: u64,
    pub optical: bool,
    pub model: String,
    pub serial: String,
}

/// Device (place) and partition; 0 is the whole device.
pub(crate) type BlockId = (usize, u32);

struct Disk<T> {
    info: UnitInfo,
    /// As in /dev.
    name: String,
    present: bool,
    opened: Option<RawDisk<T>>,
    /// Read once; forgotten when the device is written.
    table: Option<Option<Table>>,
    volumes: BTreeMap<u32, Option<Volume>>,
}

/// What a link in /dev/disk goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LinkKind {
    Id,
    Uuid,
    Label,
    PartUuid,
}

/// All block devices ever seen.
pub(crate) struct Disks<P: Platform> {
    disks: Vec<Disk<P::Disk>>,
    /// Places of those that are there, in the order of their names.
    listed: Vec<usize>,
    stale: bool,
}

impl<P: Platform> Disks<P> {
    pub fn new() -> Self {
        Self { disks: Vec::new(), listed: Vec::new(), stale: true }
    }

    /// Something came, went or changed its size: the next look asks the drivers.
    pub fn changed(&mut self) {
        self.stale = true;
    }

    pub fn count(&self) -> usize {
        self.listed.len()
    }

    /// Places of the devices that are there now.
    pub fn list(&mut self, platform: &mut P) -> Vec<usize> {
        if self.stale {
            // Before asking, so that a change in between is not missed.
            self.stale = false;
            self.refresh(platform.units());
        }
        self.listed.clone()
    }

    fn refresh(&mut self, units: Vec<UnitInfo>) {
        self.listed.clear();
        let mut optical = 0;
        for disk in &mut self.disks {
            disk.present = false;
        }
        for info in units {
            let name = match info.optical {
                true => {
                    optical += 1;
                    Some(names::optical_name(optical - 1))
                }
                false => names::disk_name(&info.label, info.unit),
            };
            let Some(name) = name else { continue };
            let place = match self.disks.iter().position(|disk| same(&disk.info, &info)) {
                Some(place) => place,
                None => {
                    self.disks.push(Disk {
                        info: info.clone(),
                        name: String::new(),
                        present: true,
                        opened: None,
                        table: None,
                        volumes: BTreeMap::new(),
                    });
                    self.disks.len() - 1
                }
            };
            let disk = &mut self.disks[place];
            if disk.info.sectors != info.sectors {
                // Attached anew it has its new size.
                (disk.opened, disk.table) = (None, None);
                disk.volumes.clear();
            }
            (disk.info, disk.name, disk.present) = (info, name, true);
            self.listed.push(place);
        }
        for disk in self.disks.iter_mut().filter(|disk| !disk.present) {
            disk.opened = None;
        }
    }

    pub fn name(&self, (place, partition): BlockId) -> String {
        let Some(disk) = self.disks.get(place) else { return String::new() };
        match partition {
            0 => disk.name.clone(),
            number => format!("{}{number}", disk.name),
        }
    }

    pub fn exists(&self, place: usize) -> bool {
        place < self.disks.len()
    }

    /// Major << 16 | minor.
    pub fn rdev(&self, id: BlockId) -> u32 {
        names::number(&self.name(id)).map_or(0, |(major, minor)| major << 16 | minor)
    }

    /// The device, attached. `NxIo`: it is not there any more.
    pub fn open(&mut self, platform: &mut P, place: usize) -> Result<&mut RawDisk<P::Disk>> {
        self.list(platform);
        let disk = self.disks.get_mut(place).filter(|disk| disk.present).ok_or(Error::NxIo)?;
        if disk.opened.is_none() {
            let attached = platform.open_disk(&disk.info.label, disk.info.unit)?;
            disk.opened = Some(RawDisk::new(attached));
        }
        disk.opened.as_mut().ok_or(Error::NxIo)
    }

    /// Every device that is attached.
    pub fn opened(&mut self) -> impl Iterator<Item = &mut RawDisk<P::Disk>> {
        self.disks.iter_mut().filter_map(|disk| disk.opened.as_mut())
    }

    /// The device was written to: what was read of it may not be true any more.
    pub fn written(&mut self, place: usize) {
        if let Some(disk) = self.disks.get_mut(place) {
            disk.table = None;
            disk.volumes.clear();
        }
    }

    fn table(&mut self, platform: &mut P, place: usize) -> Result<Option<&Table>> {
        let known = self.disks.get(place).is_some_and(|disk| disk.table.is_some());
        if !known {
            let disk = self.open(platform, place)?;
            let (sectors, block_size) = (disk.len() / 512, disk.block_size());
            let found = partition::table(sectors, block_size, |sector, mut out: &mut [u8]| {
                let len = out.len();
                disk.read(sector.saturating_mul(512), len, &mut out)
            })?;
            self.disks[place].table = Some(found);
        }
        Ok(self.disks[place].table.as_ref().and_then(Option::as_ref))
    }

    /// Numbers of the partitions that have a name.
    pub fn partitions(&mut self, platform: &mut P, place: usize) -> Result<Vec<u32>> {
        let entries = self.table(platform, place)?.map(|table| &table.entries);
        let own = entries.into_iter().flatten().filter(|entry| !entry.is_extended());
        let numbers = own.map(|entry| entry.partition.number);
        Ok(numbers.filter(|&number| number < 1 << PARTITION_BITS).collect())
    }

    /// Start and length in bytes of a device or partition.
    pub fn extent(&mut self, platform: &mut P, (place, number): BlockId) -> Result<(u64, u64)> {
        if number == 0 {
            return self.open(platform, place).map(|disk| (0, disk.len()));
        }
        self.open(platform, place)?;
        let entries = self.table(platform, place)?.map(|table| table.entries.as_slice());
        let found = entries.unwrap_or_default().iter().find(|e| e.partition.number == number);
        let found = found.ok_or(Error::NxIo)?.partition;
        Ok((found.start * 512, found.sectors * 512))
    }

    fn volume(&mut self, platform: &mut P, id: BlockId) -> Result<Option<Volume>> {
        if let Some(known) = self.disks.get(id.0).and_then(|disk| disk.volumes.get(&id.1)) {
            return Ok(known.clone());
        }
        let (start, len) = self.extent(platform, id)?;
        let disk = self.open(platform, id.0)?;
        let found = probe(len, |offset, mut out: &mut [u8]| {
            let len = out.len();
            disk.read(start + offset, len, &mut out)
        })?;
        self.disks[id.0].volumes.insert(id.1, found.clone());
        Ok(found)
    }

    /// Links of one kind: name and device. A device that cannot be read has none.
    pub fn links(&mut self, platform: &mut P, kind: LinkKind) -> Vec<(String, BlockId)> {
        let mut links: Vec<(String, BlockId)> = Vec::new();
        for place in self.list(platform) {
            let partitions = self.partitions(platform, place).unwrap_or_default();
            for number in core::iter::once(0).chain(partitions) {
                let name = self.link(platform, kind, (place, number)).unwrap_or_default();
                // The first of two with the same name keeps it.
                if !name.is_empty() && !links.iter().any(|(known, _)| *known == name) {
                    links.push((name, (place, number)));
                }
            }
        }
        links
    }

    /// A link's name; empty: none.
    fn link(&mut self, platform: &mut P, kind: LinkKind, id: BlockId) -> Result<String> {
        Ok(match kind {
            LinkKind::Id => self.id(id),
            LinkKind::Uuid => self.volume(platform, id)?.map(|v| v.uuid).unwrap_or_default(),
            LinkKind::Label => {
                let label = self.volume(platform, id)?.map(|v| v.label).unwrap_or_default();
                escaped(&label)
            }
            LinkKind::PartUuid => {
                let entries = self.table(platform, id.0)?.map(|table| table.entries.as_slice());
                let own = entries.unwrap_or_default().iter().find(|e| e.partition.number == id.1);
                own.map(|entry| entry.uuid.clone()).unwrap_or_default()
            }
        })
    }

    /// `virtio-SERIAL` or `ata-MODEL_SERIAL`, `-partN` behind it; needs a serial number.
    fn id(&self, (place, partition): BlockId) -> String {
        let Some(Disk { info, name, .. }) = self.disks.get(place) else { return String::new() };
        let plain = |text: &str| -> String {
            let fits = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
            text.chars().map(|c| if fits(c) { c } else { '_' }).collect()
        };
        let (model, serial) = (plain(&info.model), plain(&info.serial));
        let mut id = match (serial.is_empty(), name.starts_with('v')) {
            (true, _) => return String::new(),
            (false, true) => format!("virtio-{serial}"),
            (false, false) => format!("ata-{model}_{serial}"),
        };
        if partition != 0 {
            id.push_str(&format!("-part{partition}"));
        }
        id
    }
}

/// Whether a unit found now is one known before. A driver that was started again counts its
/// instances anew: then the serial number decides.
fn same(known: &UnitInfo, found: &UnitInfo) -> bool {
    (&known.label, known.unit) == (&found.label, found.unit)
        && (&known.serial, &known.model) == (&found.serial, &found.model)
        && (known.pid != found.pid || known.instance == found.instance)
}

/// As udev writes labels: what could not stand in a path as `\x20`.
fn escaped(label: &str) -> String {
    let mut name = String::new();
    for c in label.chars() {
        let fits = c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c) || !c.is_ascii();
        match fits {
            true => name.push(c),
            false => name.push_str(&format!("\\x{:02x}", c as u32)),
        }
    }
    name
}
