//! The volume: descriptors, directories, files.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{Stat, mode};
use xinim_block_client::Storage;
use xinim_fs_kit::{Ino, check_name};

use crate::record::{Record, both};
use crate::susp::{RockRidge, skip_of};

/// Sectors of the descriptors have this length whatever the block's.
const SECTOR: u64 = 2048;
const FIRST_DESCRIPTOR: u64 = 16;
const DESCRIPTORS_MAX: u64 = 64;
/// Records of one file that is longer than one can say.
const EXTENTS_MAX: usize = 256;
/// Longest record.
const RECORD_MAX: u64 = 255;

/// Which names are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    /// Bytes to skip in each system use area.
    RockRidge(usize),
    Joliet,
    Plain,
}

pub struct Volume<S> {
    pub storage: S,
    pub block_len: u64,
    pub blocks: u32,
    pub root: Ino,
    names: Names,
}

/// A file or directory.
pub struct File {
    pub record: Record,
    pub rock_ridge: RockRidge,
    /// First block and bytes of each part.
    pub extents: Vec<(u32, u32)>,
}

/// An entry that is to be shown.
pub struct Entry {
    /// Byte offset in the directory of the record behind it.
    pub next: u64,
    pub ino: Ino,
    pub name: Vec<u8>,
    pub mode: u32,
}

impl File {
    pub fn size(&self) -> u64 {
        match &self.rock_ridge.target {
            Some(target) => target.len() as u64,
            None => self.extents.iter().map(|extent| u64::from(extent.1)).sum(),
        }
    }

    pub fn mode(&self) -> u32 {
        mode_of(&self.record, &self.rock_ridge)
    }
}

/// Type by what the record really is; permissions as Rock Ridge says, else readable for all.
fn mode_of(record: &Record, rock_ridge: &RockRidge) -> u32 {
    let given = rock_ridge.mode.unwrap_or(0o555);
    let kind = given & mode::TYPE_MASK;
    let kind = match kind {
        _ if record.is_directory() || rock_ridge.child.is_some() => mode::DIRECTORY,
        mode::SYMLINK | mode::CHARACTER | mode::BLOCK | mode::FIFO | mode::SOCKET => kind,
        _ => mode::REGULAR,
    };
    kind | given & 0o7777
}

impl<S: Storage> Volume<S> {
    /// Finds the descriptors and chooses the names. `Inval`: no ISO 9660 volume.
    pub fn open(mut storage: S) -> Result<Self> {
        let mut primary = None;
        let mut joliet = None;
        for sector in FIRST_DESCRIPTOR..FIRST_DESCRIPTOR + DESCRIPTORS_MAX {
            let mut raw = vec![0; SECTOR as usize];
            if (sector + 1) * SECTOR > storage.len() {
                break;
            }
            storage.read(sector * SECTOR, &mut raw)?;
            if &raw[1..6] != b"CD001" {
                break;
            }
            match raw[0] {
                1 if primary.is_none() => primary = Some(raw),
                2 if matches!(&raw[88..91], b"%/@" | b"%/C" | b"%/E") => joliet = Some(raw),
                255 => break,
                _ => {}
            }
        }
        let primary = primary.ok_or(Error::Inval)?;
        let block_len = u64::from(u16::from_le_bytes([primary[128], primary[129]]));
        if !matches!(block_len, 512 | 1024 | 2048) {
            return Err(Error::Inval);
        }
        let blocks = both(&primary[80..]).ok_or(Error::Inval)?;
        let root_of = |raw: &[u8]| -> Result<Ino> {
            let record = Record::parse(&raw[156..]).ok_or(Error::Inval)?;
            Ok(u64::from(record.block) * block_len)
        };
        let root = root_of(&primary)?;
        let mut volume = Self { storage, block_len, blocks, root, names: Names::Plain };
        let dot = volume.record(root).map_err(|_| Error::Inval)?;
        if let Some(skip) = skip_of(&dot.system_use) {
            let found = volume.rock_ridge(&dot, skip)?;
            if found.mode.is_some() {
                volume.names = Names::RockRidge(skip);
                return Ok(volume);
            }
        }
        if let Some(raw) = joliet {
            volume.root = root_of(&raw)?;
            volume.record(volume.root).map_err(|_| Error::Inval)?;
            volume.names = Names::Joliet;
        }
        Ok(volume)
    }

    /// The record at a byte offset of the medium. `Stale` where there is none.
    fn record(&mut self, ino: Ino) -> Result<Record> {
        let left = self.storage.len().checked_sub(ino).ok_or(Error::Stale)?;
        // A record lies within one block.
        let most = (self.block_len - ino % self.block_len).min(RECORD_MAX).min(left);
        let mut raw = vec![0; most as usize];
        self.storage.read(ino, &mut raw)?;
        Record::parse(&raw).ok_or(Error::Stale)
    }

    fn rock_ridge(&mut self, record: &Record, skip: usize) -> Result<RockRidge> {
        RockRidge::read(&mut self.storage, self.block_len, &record.system_use, skip)
    }

    fn extra(&mut self, record: &Record) -> Result<RockRidge> {
        match self.names {
            // The root's `.` tells the skip itself and has none.
            Names::RockRidge(_) if skip_of(&record.system_use).is_some() => {
                self.rock_ridge(record, 0)
            }
            Names::RockRidge(skip) => self.rock_ridge(record, skip),
            _ => Ok(RockRidge::default()),
        }
    }

    /// Everything about an inode number.
    pub fn file(&mut self, ino: Ino) -> Result<File> {
        let record = self.record(ino)?;
        let rock_ridge = self.extra(&record)?;
        let mut extents = vec![(record.block, record.size)];
        let (mut at, mut last) = (ino, record.clone());
        while last.continues() && !record.is_directory() {
            if extents.len() >= EXTENTS_MAX {
                return Err(Error::Io);
            }
            at += last.len as u64;
            last = match self.record(at) {
                Ok(next) => next,
                // The rest of the block is empty: the next record stands in the next block.
                Err(Error::Stale) => {
                    at = at.next_multiple_of(self.block_len);
                    self.record(at).map_err(|_| Error::Io)?
                }
                Err(error) => return Err(error),
            };
            if last.name != record.name {
                return Err(Error::Io);
            }
            extents.push((last.block, last.size));
        }
        Ok(File { record, rock_ridge, extents })
    }

    /// A directory by its `.`. `NotDir`.
    fn directory(&mut self, ino: Ino) -> Result<Record> {
        let record = self.record(ino)?;
        if !record.is_directory() {
            return Err(Error::NotDir);
        }
        // Only its own `.` counts: where a directory claims to be.
        let own = u64::from(record.block) * self.block_len;
        if own != ino || u64::from(record.size) > self.storage.len() {
            return Err(Error::Io);
        }
        Ok(record)
    }

    pub fn stat(&mut self, ino: Ino) -> Result<Stat> {
        let file = self.file(ino)?;
        let (record, extra) = (&file.record, &file.rock_ridge);
        let directory = record.is_directory();
        let size = file.size();
        let links = if directory { 2 } else { 1 };
        Ok(Stat {
            ino,
            size,
            blocks: size.div_ceil(self.block_len) * (self.block_len / 512),
            atime: extra.atime.unwrap_or(record.time),
            mtime: extra.mtime.unwrap_or(record.time),
            ctime: extra.ctime.or(extra.mtime).unwrap_or(record.time),
            mode: file.mode(),
            links: if extra.links > 0 { extra.links } else { links },
            uid: extra.uid,
            gid: extra.gid,
            block_size: self.block_len as u32,
            rdev: extra.rdev.unwrap_or(0),
            ..Stat::default()
        })
    }

    /// Shows the entries of a directory from byte offset `from` of it on, `.` and `..` first.
    pub fn scan(
        &mut self,
        dir: Ino,
        from: u64,
        mut show: impl FnMut(Entry) -> ControlFlow<()>,
    ) -> Result<()> {
        let end = u64::from(self.directory(dir)?.size);
        let mut at = from;
        let mut block = vec![0; self.block_len as usize];
        let mut loaded = u64::MAX;
        // The file whose records are being passed: shown with the last, so that a position never
        // lies between them.
        let mut file: Option<(u64, Record)> = None;
        while at < end {
            let start = at / self.block_len * self.block_len;
            if start != loaded {
                self.storage.read(dir + start, &mut block).map_err(|_| Error::Io)?;
                loaded = start;
            }
            let rest = &block[(at - start) as usize..];
            let len = u64::from(rest[0]);
            if len == 0 {
                at = start + self.block_len;
                continue;
            }
            let Some(record) = Record::parse(rest) else { return Err(Error::Io) };
            let more = record.continues();
            let (here, first) = file.take().unwrap_or((dir + at, record));
            at += len;
            if more {
                file = Some((here, first));
            } else if !first.is_associated()
                && let Some((ino, name, mode)) = self.entry(dir, here, &first)?
                && show(Entry { next: at, ino, name, mode }).is_break()
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Inode number, name and mode of a record at byte `here`; `None` if it is not to be shown.
    fn entry(
        &mut self,
        dir: Ino,
        here: u64,
        record: &Record,
    ) -> Result<Option<(Ino, Vec<u8>, u32)>> {
        if record.is_dot() {
            return Ok(Some((dir, b".".to_vec(), mode::DIRECTORY)));
        }
        let extra = self.extra(record)?;
        let block = |block: u32| u64::from(block) * self.block_len;
        if record.is_dot_dot() {
            let parent = extra.parent.unwrap_or(record.block);
            return Ok(Some((block(parent), b"..".to_vec(), mode::DIRECTORY)));
        }
        if extra.relocated {
            return Ok(None);
        }
        let ino = match extra.child {
            Some(child) => block(child),
            None if record.is_directory() => block(record.block),
            None => here,
        };
        let name = match (&self.names, &extra.name) {
            (Names::RockRidge(_), Some(name)) => name.clone(),
            (Names::Joliet, _) => joliet(&record.name),
            _ => plain(&record.name),
        };
        if check_name(&name).is_err() {
            return Ok(None);
        }
        Ok(Some((ino, name, mode_of(record, &extra))))
    }

    /// Up to the end of the file; how much.
    pub fn read(&mut self, file: &File, offset: u64, out: &mut [u8]) -> Result<usize> {
        let mut done = 0;
        let mut start = 0;
        for &(block, size) in &file.extents {
            let end = start + u64::from(size);
            let at = offset + done as u64;
            if done < out.len() && at < end {
                let within = at - start;
                let count = (out.len() - done).min((end - at) as usize);
                let from = u64::from(block) * self.block_len + within;
                let part = &mut out[done..done + count];
                self.storage.read(from, part).map_err(|_| Error::Io)?;
                done += count;
            }
            start = end;
        }
        Ok(done)
    }
}

/// A Joliet name: big-endian UTF-16, maybe with a version number.
fn joliet(raw: &[u8]) -> Vec<u8> {
    let units = raw.chunks_exact(2).map(|unit| u16::from_be_bytes([unit[0], unit[1]]));
    let text: String =
        char::decode_utf16(units).map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER)).collect();
    without_version(text.as_bytes()).to_vec()
}

/// A plain name in lower case.
fn plain(raw: &[u8]) -> Vec<u8> {
    let name = without_version(raw);
    name.strip_suffix(b".").unwrap_or(name).to_ascii_lowercase()
}

fn without_version(name: &[u8]) -> &[u8] {
    match name.iter().rposition(|&byte| byte == b';') {
        Some(at) if name[at + 1..].iter().all(u8::is_ascii_digit) => &name[..at],
        _ => name,
    }
}
