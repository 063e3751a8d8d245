//! FAT volumes as they stand on the medium: what lamfat does not offer.
//!
//! Used where the order of writes matters (renames), for long names that lamfat cannot make, and by
//! the check. Everything read is doubted: chains end after as many steps as there are clusters,
//! directories after [`DIRECTORY_MAX`] bytes.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use lamfat::OemCpConverter;
use xinim_abi::error::{Error, Result};
use xinim_block_client::Storage;

use crate::codepage::Cp437;

pub const SLOT: usize = 32;
/// Longest directory: 65,536 slots.
const DIRECTORY_MAX: u64 = 65_536 * SLOT as u64;
const DELETED: u8 = 0xE5;
const LONG_NAME: u8 = 0x0F;
pub const VOLUME_LABEL: u8 = 0x08;
pub const DIRECTORY: u8 = 0x10;
/// Where the units of a name stand in a long-name slot.
const UNITS_AT: [usize; 13] = [1, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    Fat12,
    Fat16,
    Fat32,
}

/// A checked BIOS parameter block. Offsets and lengths are bytes.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    pub width: Width,
    pub cluster_len: u64,
    pub fat_at: u64,
    pub fat_len: u64,
    pub fats: u64,
    /// The root directory of FAT12 and FAT16.
    root_at: u64,
    root_len: u64,
    /// That of FAT32.
    root_cluster: u32,
    data_at: u64,
    /// One behind the last cluster's number; the first is 2.
    pub end: u32,
    pub info_at: Option<u64>,
}

/// A directory entry with the slots it occupies.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Byte offsets on the medium; the short one is last.
    pub slots: Vec<u64>,
    pub short: [u8; SLOT],
    pub name: String,
}

/// What stands in a directory.
pub enum Found {
    Entry(Entry),
    /// Byte offsets of slots of a long name that belongs to nothing.
    Strays(Vec<u64>),
}

fn u16_at(raw: &[u8], at: usize) -> u64 {
    u16::from_le_bytes([raw[at], raw[at + 1]]).into()
}

fn u32_at(raw: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]])
}

impl Layout {
    /// `Inval`: no FAT volume.
    pub fn read(storage: &mut dyn Storage) -> Result<Self> {
        let mut raw = [0; 512];
        if storage.len() < 512 {
            return Err(Error::Inval);
        }
        storage.read(0, &mut raw)?;
        Self::parse(&raw, storage.len()).ok_or(Error::Inval)
    }

    fn parse(raw: &[u8; 512], len: u64) -> Option<Self> {
        let sector = u16_at(raw, 11);
        let per_cluster = u64::from(raw[13]);
        let (reserved, fats) = (u16_at(raw, 14), u64::from(raw[16]));
        let valid = u16_at(raw, 510) == 0xAA55
            && matches!(sector, 512 | 1024 | 2048 | 4096)
            && per_cluster.is_power_of_two()
            && reserved > 0
            && (1..=2).contains(&fats);
        if !valid {
            return None;
        }
        let small = u16_at(raw, 22);
        let large = small == 0;
        let fat_sectors = if large { u32_at(raw, 36).into() } else { small };
        let total = match u16_at(raw, 19) {
            0 => u64::from(u32_at(raw, 32)),
            total => total,
        };
        let root_len = (u16_at(raw, 17) * SLOT as u64).next_multiple_of(sector);
        let root_at = (reserved + fats * fat_sectors) * sector;
        let data_at = root_at + if large { 0 } else { root_len };
        let clusters = (total * sector).checked_sub(data_at)? / (per_cluster * sector);
        let width = match clusters {
            _ if large => Width::Fat32,
            0..4085 => Width::Fat12,
            _ => Width::Fat16,
        };
        let layout = Self {
            width,
            cluster_len: per_cluster * sector,
            fat_at: reserved * sector,
            fat_len: fat_sectors * sector,
            fats,
            root_at,
            root_len,
            root_cluster: if large { u32_at(raw, 44) } else { 0 },
            data_at,
            end: u32::try_from(clusters + 2).ok().filter(|end| *end < 0x0FFF_FFF7)?,
            info_at: (large && (1..reserved).contains(&u16_at(raw, 48)))
                .then_some(u16_at(raw, 48) * sector),
        };
        let entry_bits = match width {
            Width::Fat12 => 12,
            Width::Fat16 => 16,
            Width::Fat32 => 32,
        };
        let fits = total * sector <= len
            && layout.fat_len * 8 >= u64::from(layout.end) * entry_bits
            && (!large || layout.is_cluster(layout.root_cluster));
        fits.then_some(layout)
    }

    pub fn is_cluster(&self, cluster: u32) -> bool {
        (2..self.end).contains(&cluster)
    }

    /// Entries from this value on end a chain; the one before means a bad cluster.
    pub fn end_mark(&self) -> u32 {
        match self.width {
            Width::Fat12 => 0xFF8,
            Width::Fat16 => 0xFFF8,
            Width::Fat32 => 0x0FFF_FFF8,
        }
    }

    pub fn bad_mark(&self) -> u32 {
        self.end_mark() - 1
    }

    fn entry_at(&self, cluster: u32) -> (u64, usize) {
        match self.width {
            Width::Fat12 => (u64::from(cluster) * 3 / 2, 2),
            Width::Fat16 => (u64::from(cluster) * 2, 2),
            Width::Fat32 => (u64::from(cluster) * 4, 4),
        }
    }

    /// What the FAT says of a cluster.
    pub fn entry(&self, storage: &mut dyn Storage, cluster: u32) -> Result<u32> {
        let (at, len) = self.entry_at(cluster);
        let mut raw = [0; 4];
        storage.read(self.fat_at + at, &mut raw[..len])?;
        Ok(self.value(cluster, raw))
    }

    /// An entry of the FAT from its bytes.
    fn value(&self, cluster: u32, raw: [u8; 4]) -> u32 {
        let value = u32::from_le_bytes(raw);
        match self.width {
            Width::Fat12 if cluster % 2 == 1 => (value & 0xFFFF) >> 4,
            Width::Fat12 => value & 0xFFF,
            Width::Fat16 => value & 0xFFFF,
            Width::Fat32 => value & 0x0FFF_FFFF,
        }
    }

    /// What the FAT says of `count` clusters from `first` on, which are within the volume.
    pub fn entries(&self, storage: &mut dyn Storage, first: u32, count: u32) -> Result<Vec<u32>> {
        let Some(last) = count.checked_sub(1) else { return Ok(Vec::new()) };
        let start = self.entry_at(first).0;
        let (at, len) = self.entry_at(first + last);
        let mut raw = vec![0; (at - start) as usize + len];
        storage.read(self.fat_at + start, &mut raw)?;
        let entry = |cluster| {
            let (at, len) = self.entry_at(cluster);
            let at = (at - start) as usize;
            let mut bytes = [0; 4];
            bytes[..len].copy_from_slice(&raw[at..at + len]);
            self.value(cluster, bytes)
        };
        Ok((first..=first + last).map(entry).collect())
    }

    /// Changes an entry in every copy of the FAT.
    pub fn put_entry(&self, storage: &mut dyn Storage, cluster: u32, value: u32) -> Result<()> {
        let (at, len) = self.entry_at(cluster);
        for copy in 0..self.fats {
            let at = self.fat_at + copy * self.fat_len + at;
            let mut raw = [0; 4];
            storage.read(at, &mut raw[..len])?;
            let old = u32::from_le_bytes(raw);
            let new = match self.width {
                Width::Fat12 if cluster % 2 == 1 => old & 0x000F | value << 4,
                Width::Fat12 => old & 0xF000 | value & 0xFFF,
                Width::Fat16 => value,
                Width::Fat32 => old & 0xF000_0000 | value & 0x0FFF_FFFF,
            };
            storage.write(at, &new.to_le_bytes()[..len])?;
        }
        Ok(())
    }

    pub fn cluster_at(&self, cluster: u32) -> u64 {
        self.data_at + u64::from(cluster - 2) * self.cluster_len
    }

    /// The root as [`Layout::each`] wants it.
    pub fn root(&self) -> u32 {
        self.root_cluster
    }

    /// Byte ranges of a directory; `dir` 0 is the root of FAT12 and FAT16.
    fn pieces(&self, storage: &mut dyn Storage, dir: u32) -> Result<Vec<(u64, u64)>> {
        if dir == 0 && self.width != Width::Fat32 {
            return Ok(vec![(self.root_at, self.root_len)]);
        }
        let mut pieces = Vec::new();
        let mut cluster = if dir == 0 { self.root_cluster } else { dir };
        let mut len = 0;
        while self.is_cluster(cluster) && len < DIRECTORY_MAX {
            pieces.push((self.cluster_at(cluster), self.cluster_len));
            len += self.cluster_len;
            cluster = self.entry(storage, cluster)?;
        }
        Ok(pieces)
    }

    /// Shows every entry of a directory, `.`, `..` and volume labels too.
    pub fn each(
        &self,
        storage: &mut dyn Storage,
        dir: u32,
        mut show: impl FnMut(&Entry) -> ControlFlow<()>,
    ) -> Result<()> {
        self.walk(storage, dir, |found| match found {
            Found::Entry(entry) => show(&entry),
            Found::Strays(_) => ControlFlow::Continue(()),
        })
    }

    /// As [`Layout::each`], with slots of long names that belong to no entry.
    pub fn walk(
        &self,
        storage: &mut dyn Storage,
        dir: u32,
        mut show: impl FnMut(Found) -> ControlFlow<()>,
    ) -> Result<()> {
        let mut long: Vec<(u64, [u8; SLOT])> = Vec::new();
        'all: for (start, len) in self.pieces(storage, dir)? {
            let mut buffer = vec![0; len as usize];
            storage.read(start, &mut buffer).map_err(|_| Error::Io)?;
            for (n, raw) in buffer.chunks_exact(SLOT).enumerate() {
                let at = start + (n * SLOT) as u64;
                let Ok(slot) = <[u8; SLOT]>::try_from(raw) else { continue };
                let entry = match slot[0] {
                    0 => break 'all,
                    DELETED => None,
                    _ if slot[11] & 0x3F == LONG_NAME => {
                        long.push((at, slot));
                        continue;
                    }
                    _ => Some(assemble(at, slot, &long)),
                };
                let own = entry.as_ref().map_or(0, |entry| entry.slots.len() - 1);
                let strays = &long[..long.len() - own];
                if !strays.is_empty() {
                    let strays = strays.iter().map(|(at, _)| *at).collect();
                    if show(Found::Strays(strays)).is_break() {
                        return Ok(());
                    }
                }
                long.clear();
                if let Some(entry) = entry
                    && show(Found::Entry(entry)).is_break()
                {
                    return Ok(());
                }
            }
        }
        if !long.is_empty() {
            let _ = show(Found::Strays(long.iter().map(|(at, _)| *at).collect()));
        }
        Ok(())
    }

    /// The entry of this name, long or short, without regard to case.
    pub fn find(&self, storage: &mut dyn Storage, dir: u32, name: &str) -> Result<Entry> {
        let wanted = name.to_lowercase();
        let mut found = None;
        self.each(storage, dir, |entry| {
            let same = !entry.is_label()
                && (entry.name.to_lowercase() == wanted
                    || short_name(&entry.short).to_lowercase() == wanted);
            if same {
                found = Some(entry.clone());
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        found.ok_or(Error::NoEnt)
    }

    /// First cluster of the directory that `path` names from the root.
    pub fn directory(&self, storage: &mut dyn Storage, path: &[&str]) -> Result<u32> {
        path.iter().try_fold(self.root(), |dir, name| {
            let entry = self.find(storage, dir, name)?;
            if entry.is_directory() { Ok(entry.cluster()) } else { Err(Error::NotDir) }
        })
    }
}

impl Entry {
    pub fn attributes(&self) -> u8 {
        self.short[11]
    }

    pub fn is_directory(&self) -> bool {
        self.attributes() & (DIRECTORY | VOLUME_LABEL) == DIRECTORY
    }

    pub fn is_label(&self) -> bool {
        self.attributes() & VOLUME_LABEL != 0
    }

    pub fn is_dots(&self) -> bool {
        &self.short[..11] == b".          " || &self.short[..11] == b"..         "
    }

    pub fn cluster(&self) -> u32 {
        (u16_at(&self.short, 20) << 16 | u16_at(&self.short, 26)) as u32
    }

    pub fn size(&self) -> u32 {
        u32_at(&self.short, 28)
    }

    fn short_at(&self) -> u64 {
        self.slots.last().copied().unwrap_or(0)
    }

    /// Another file under this name: attributes, times, cluster and size of `other`. One write
    /// within a sector.
    pub fn become_as(&self, storage: &mut dyn Storage, other: &[u8; SLOT]) -> Result<()> {
        let mut new = *other;
        new[..11].copy_from_slice(&self.short[..11]);
        new[12] = self.short[12]; // case of the short name
        storage.write(self.short_at(), &new)
    }

    pub fn set_cluster(&mut self, storage: &mut dyn Storage, cluster: u32) -> Result<()> {
        self.short[20..22].copy_from_slice(&((cluster >> 16) as u16).to_le_bytes());
        self.short[26..28].copy_from_slice(&(cluster as u16).to_le_bytes());
        storage.write(self.short_at(), &self.short)
    }

    pub fn set_size(&mut self, storage: &mut dyn Storage, size: u32) -> Result<()> {
        self.short[28..32].copy_from_slice(&size.to_le_bytes());
        storage.write(self.short_at(), &self.short)
    }

    /// Takes the name away; clusters stay.
    pub fn erase(&self, storage: &mut dyn Storage) -> Result<()> {
        // The short one first: without it the others name nothing. It loses its cluster too, so that
        // a new entry that is written there piece by piece is never seen with it.
        let mut gone = self.short;
        gone[0] = DELETED;
        gone[20..22].fill(0);
        gone[26..32].fill(0);
        storage.write(self.short_at(), &gone)?;
        let long = self.slots.len().saturating_sub(1);
        self.slots[..long].iter().rev().try_for_each(|&at| storage.write(at, &[DELETED]))
    }

    /// Other characters for the long name, as many UTF-16 units as it has.
    pub fn put_long_name(&self, storage: &mut dyn Storage, name: &str) -> Result<()> {
        let units: Vec<u16> = name.encode_utf16().collect();
        let Some((_, long)) = self.slots.split_last() else { return Err(Error::Io) };
        if units.len().div_ceil(UNITS_AT.len()) != long.len() {
            return Err(Error::Io);
        }
        // The last part of the name stands first.
        for (slot, part) in long.iter().rev().zip(units.chunks(UNITS_AT.len())) {
            for (unit, at) in part.iter().zip(UNITS_AT) {
                storage.write(slot + at as u64, &unit.to_le_bytes())?;
            }
        }
        Ok(())
    }
}

pub fn erase_slot(storage: &mut dyn Storage, at: u64) -> Result<()> {
    storage.write(at, &[DELETED])
}

/// An entry of a short slot and the long ones before it, as far as they belong together.
fn assemble(at: u64, short: [u8; SLOT], long: &[(u64, [u8; SLOT])]) -> Entry {
    let sum = short[..11].iter().fold(0u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
    // From the last slot backwards: numbers count up from 1, to the one that says it is the last.
    let mut units: Vec<u16> = Vec::new();
    let mut used = 0;
    let mut complete = false;
    for (n, (_, slot)) in long.iter().rev().enumerate() {
        if usize::from(slot[0] & 0x3F) != n + 1 || slot[13] != sum || n >= 20 {
            break;
        }
        units.extend(UNITS_AT.iter().map(|&at| u16_at(slot, at) as u16));
        used = n + 1;
        if slot[0] & 0x40 != 0 {
            complete = true;
            break;
        }
    }
    if !complete {
        used = 0;
    }
    let own = &long[long.len() - used..];
    let end = units.iter().position(|&unit| unit == 0).unwrap_or(units.len());
    let name = match complete {
        true => char::decode_utf16(units[..end].iter().copied())
            .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect(),
        false => short_name(&short),
    };
    let slots = own.iter().map(|(at, _)| *at).chain([at]).collect();
    Entry { slots, short, name }
}

/// "NAME.EXT" of a short slot.
fn short_name(short: &[u8; SLOT]) -> String {
    let text = |raw: &[u8]| -> String {
        let end = raw.iter().rposition(|&byte| byte != b' ').map_or(0, |at| at + 1);
        raw[..end].iter().map(|&byte| Cp437.decode(byte)).collect()
    };
    let mut base = short[..8].to_vec();
    if base[0] == 0x05 {
        base[0] = DELETED; // how a name that begins with this character is stored
    }
    let (mut name, extension) = (text(&base), text(&short[8..11]));
    if !extension.is_empty() {
        name.push('.');
        name.push_str(&extension);
    }
    name
}
