//! Making a volume: mkfs.minix.

use alloc::vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::mode;
use xinim_block_client::Storage;

use crate::directory::is_directory;
use crate::layout::{Geometry, Inode, MAPS_AT, ROOT, SUPER_AT, Version};
use crate::volume::Volume;

/// What is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub version: Version,
    /// 14 or 30; version 3 has 60.
    pub name_len: usize,
    /// Bytes of a block: 1024; version 3 also 2048 and 4096.
    pub block: usize,
    /// `None`: one for three blocks.
    pub inodes: Option<u32>,
    /// Blocks of the volume; `None`: what the device has.
    pub blocks: Option<u32>,
    /// Of the root, seconds since 1970.
    pub now: u32,
}

impl Options {
    pub fn new(version: Version) -> Self {
        let name_len = if version == Version::V3 { 60 } else { 30 };
        Self { version, name_len, block: 1024, inodes: None, blocks: None, now: 0 }
    }
}

/// Inodes and blocks that 16-bit numbers can name.
const SMALL_MAX: u32 = 65_535;

/// The layout of a volume on a device of `len` bytes. `Inval`: options that do not go together;
/// `NoSpc`: too small for it; `FBig`: more blocks than the version can have.
pub fn plan(len: u64, options: &Options) -> Result<Geometry> {
    let small = options.version != Version::V3;
    let fits = match options.version {
        Version::V3 => options.name_len == 60 && matches!(options.block, 1024 | 2048 | 4096),
        _ => matches!(options.name_len, 14 | 30) && options.block == 1024,
    };
    if !fits {
        return Err(Error::Inval);
    }
    let have = len / options.block as u64;
    let zones = match options.blocks {
        Some(blocks) if u64::from(blocks) > have => return Err(Error::NoSpc),
        Some(blocks) => blocks,
        None => u32::try_from(have).unwrap_or(u32::MAX),
    };
    let zones = match (options.version, options.blocks) {
        (Version::V1, Some(blocks)) if blocks > SMALL_MAX => return Err(Error::FBig),
        (Version::V1, _) => zones.min(SMALL_MAX),
        _ => zones,
    };
    let mut geometry = Geometry {
        version: options.version,
        name_len: options.name_len,
        block: options.block,
        inodes: 0,
        zones,
        imap_blocks: 0,
        zmap_blocks: 0,
        first_data: 0,
        max_size: if options.version == Version::V1 { 268_966_912 } else { 0x7FFF_FFFF },
        clean: true,
    };
    // The inode table is used to its last block.
    let wanted = options.inodes.unwrap_or(zones / 3).max(1);
    let per_block = geometry.inodes_per_block();
    let inodes = wanted.checked_next_multiple_of(per_block).ok_or(Error::FBig)?;
    geometry.inodes = if small { inodes.min(SMALL_MAX) } else { inodes };
    let bits = options.block as u32 * 8;
    geometry.imap_blocks = (geometry.inodes / bits) + 1;
    // Each block of the zone map makes room for fewer zones: the first count that suffices.
    for zmap_blocks in 1..=u32::from(u16::MAX) {
        geometry.zmap_blocks = zmap_blocks;
        let table = geometry.inodes.div_ceil(per_block);
        let first = geometry.table().checked_add(table).ok_or(Error::FBig)?;
        if first >= zones {
            return Err(Error::NoSpc);
        }
        if u64::from(zmap_blocks) * u64::from(bits) > u64::from(zones - first) {
            geometry.first_data = first;
            // Versions 1 and 2 have 16 bits for it, and old readers no way to compute it.
            let large = small && first > SMALL_MAX || geometry.imap_blocks > SMALL_MAX;
            return if large { Err(Error::FBig) } else { Ok(geometry) };
        }
    }
    Err(Error::FBig)
}

/// Makes an empty file system. Nothing of what the device held can be read afterwards by names.
pub fn format(storage: &mut dyn Storage, options: &Options) -> Result<Geometry> {
    let geometry = plan(storage.len(), options)?;
    let block = vec![0; geometry.block];
    for index in 0..geometry.first_data {
        storage.write(u64::from(index) * geometry.block as u64, &block)?;
    }
    let mut set_map = |at: u32, blocks: u32, last: u32| -> Result<()> {
        for index in 0..blocks {
            let mut bits = vec![0; geometry.block];
            for (within, byte) in bits.iter_mut().enumerate() {
                let first = (u64::from(index) * geometry.block as u64 + within as u64) * 8;
                for bit in 0..8 {
                    // Bit 0 and all behind the last stand for nothing.
                    let used = first + bit == 0 || first + bit > last.into();
                    *byte |= u8::from(used) << bit;
                }
            }
            storage.write(u64::from(at + index) * geometry.block as u64, &bits)?;
        }
        Ok(())
    };
    set_map(MAPS_AT, geometry.imap_blocks, geometry.inodes)?;
    let zones = geometry.zones - geometry.first_data;
    set_map(MAPS_AT + geometry.imap_blocks, geometry.zmap_blocks, zones)?;
    storage.write(SUPER_AT, &geometry.encode())?;
    root(storage, options)?;
    storage.flush()?;
    Ok(geometry)
}

fn root(storage: &mut dyn Storage, options: &Options) -> Result<()> {
    let mut volume = Volume::open(storage)?;
    let ino = volume.take_inode()?;
    let mut inode = Inode {
        mode: (mode::DIRECTORY | 0o755) as u16,
        links: 2,
        atime: options.now,
        mtime: options.now,
        ctime: options.now,
        ..Inode::default()
    };
    debug_assert!(ino == ROOT && is_directory(&inode));
    let mut dots = volume.encode_entry(ino, b".");
    dots.extend(volume.encode_entry(ino, b".."));
    volume.write(&mut inode, 0, &dots)?;
    volume.put_inode(ino, &inode)
}
