//! Making a file system: mkfs.ext2, mkfs.ext3, mkfs.ext4.
//!
//! ```text
//!   plan: sizes ── superblock, groups, bitmaps, tables ── then it is a volume: root, lost+found,
//!                                                         journal ── copies of the superblock
//! ```
//! Every group keeps its own bitmaps and inode table at its start (no flexible groups), tables of
//! groups with checksums are left unwritten and marked so. ext4 has extents, 64-bit block numbers
//! and metadata checksums; ext3 and ext4 have a journal.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::mode;
use xinim_block_client::Storage;
use xinim_fs_kit::NewFile;

use crate::checksum::crc32c;
use crate::extents;
use crate::groups::{Desc, change, fill_block_bitmap};
use crate::hash;
use crate::inode::Time;
use crate::journal::{head, jsb};
use crate::layout::{feature::compat, feature::incompat, feature::ro_compat, gd, inode, sb};
use crate::superblock::Geometry;
use crate::volume::{Surroundings, Volume};

/// Which of the three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ext2,
    Ext3,
    Ext4,
}

/// What is to be made.
#[derive(Clone, Debug)]
pub struct Options {
    pub kind: Kind,
    /// Bytes; `None`: 4096, on devices under 64 MiB 1024.
    pub block_size: Option<usize>,
    /// Bytes: 128 or a larger power of two.
    pub inode_size: usize,
    /// Bytes of the device for each inode; `None`: 16384, on devices under 512 MiB 4096.
    pub inode_ratio: Option<u64>,
    /// Blocks of the file system; `None`: what the device has.
    pub blocks: Option<u64>,
    /// Blocks of the journal; `None`: by the size of the file system.
    pub journal_blocks: Option<u32>,
    /// At most 16 bytes.
    pub label: Vec<u8>,
    /// For the volume's identity and the seed of its hashes.
    pub random: [u8; 32],
}

impl Options {
    pub fn new(kind: Kind, random: [u8; 32]) -> Self {
        Self {
            kind,
            block_size: None,
            inode_size: 256,
            inode_ratio: None,
            blocks: None,
            journal_blocks: None,
            label: Vec::new(),
            random,
        }
    }
}

/// What was made.
#[derive(Clone, Debug)]
pub struct Made {
    pub block_size: usize,
    pub blocks: u64,
    pub inodes: u32,
    pub groups: u32,
    pub journal_blocks: u32,
    pub uuid: [u8; 16],
}

const SMALL_DEVICE: u64 = 64 << 20;
const FEW_INODES: u64 = 512 << 20;
/// Blocks that the last group must have beside its own metadata to be worth having.
const LAST_GROUP_MIN: u64 = 50;
const ZEROS: usize = 256 * 1024;

/// The superblock for `options` on a device of `len` bytes. `Inval`: options that do not go together;
/// `NoSpc`: too small.
fn plan(len: u64, options: &Options, now: u32) -> Result<Vec<u8>> {
    let block_size = options.block_size.unwrap_or(if len < SMALL_DEVICE { 1024 } else { 4096 });
    if !block_size.is_power_of_two()
        || !(1024..=65536).contains(&block_size)
        || !options.inode_size.is_power_of_two()
        || !(inode::SMALL..=block_size).contains(&options.inode_size)
        || options.label.len() > 16
    {
        return Err(Error::Inval);
    }
    let have = len / block_size as u64;
    let mut blocks = options.blocks.unwrap_or(have);
    if blocks > have {
        return Err(Error::NoSpc);
    }
    let ext4 = options.kind == Kind::Ext4;
    if !ext4 {
        blocks = blocks.min(u32::MAX.into());
    }
    let per_group = block_size as u64 * 8;
    // Counts of free blocks are kept in 16 bits without the larger descriptors.
    let per_group = if ext4 { per_group } else { per_group.min(65528) };
    let first = u64::from(block_size == 1024);
    let desc_size = if ext4 { gd::LARGE } else { gd::SMALL } as u64;
    let ratio = options.inode_ratio.unwrap_or(if len < FEW_INODES { 4096 } else { 16384 });
    let wanted = (blocks * block_size as u64 / ratio.max(1024)).max(16);
    let per_block = (block_size / options.inode_size) as u64;
    loop {
        if blocks < first + 64 {
            return Err(Error::NoSpc);
        }
        let groups = (blocks - first).div_ceil(per_group);
        let per = wanted.div_ceil(groups).next_multiple_of(per_block.max(8));
        let per = per.min((block_size as u64 * 8).min(65528) / per_block.max(8) * per_block.max(8));
        let table = per / per_block;
        let descs = (groups * desc_size).div_ceil(block_size as u64);
        let overhead = 1 + descs + 2 + table;
        let last = blocks - first - (groups - 1) * per_group;
        if groups > 1 && last < overhead + LAST_GROUP_MIN {
            // Too short to hold its own metadata: done without.
            blocks -= last;
            continue;
        }
        if last < overhead + LAST_GROUP_MIN / 2 || u32::try_from(per * groups).is_err() {
            return Err(Error::NoSpc);
        }
        let mut raw = vec![0; sb::LEN];
        sb::INODES_COUNT.set(&mut raw, (per * groups) as u32);
        sb::BLOCKS_COUNT_LO.set(&mut raw, blocks as u32);
        sb::BLOCKS_COUNT_HI.set(&mut raw, (blocks >> 32) as u32);
        let reserved = blocks / 20;
        sb::R_BLOCKS_COUNT_LO.set(&mut raw, reserved as u32);
        sb::R_BLOCKS_COUNT_HI.set(&mut raw, (reserved >> 32) as u32);
        sb::FIRST_DATA_BLOCK.set(&mut raw, first as u32);
        let log = block_size.trailing_zeros() - 10;
        sb::LOG_BLOCK_SIZE.set(&mut raw, log);
        sb::LOG_CLUSTER_SIZE.set(&mut raw, log);
        sb::BLOCKS_PER_GROUP.set(&mut raw, per_group as u32);
        sb::CLUSTERS_PER_GROUP.set(&mut raw, per_group as u32);
        sb::INODES_PER_GROUP.set(&mut raw, per as u32);
        describe(&mut raw, options, now);
        return Ok(raw);
    }
}

/// The superblock's fields that do not depend on sizes.
fn describe(raw: &mut [u8], options: &Options, now: u32) {
    let ext4 = options.kind == Kind::Ext4;
    sb::WTIME.set(raw, now);
    sb::LASTCHECK.set(raw, now);
    sb::MKFS_TIME.set(raw, now);
    // No check by number of mounts.
    sb::MAX_MNT_COUNT.set(raw, 0xFFFF);
    sb::MAGIC.set(raw, sb::MAGIC_VALUE);
    sb::STATE.set(raw, sb::STATE_CLEAN);
    // Errors: go on.
    sb::ERRORS.set(raw, 1);
    sb::REV_LEVEL.set(raw, 1);
    sb::FIRST_INO.set(raw, 11);
    sb::INODE_SIZE.set(raw, options.inode_size as u16);
    let mut features = compat::EXT_ATTR | compat::DIR_INDEX;
    if options.kind != Kind::Ext2 {
        features |= compat::HAS_JOURNAL;
    }
    sb::FEATURE_COMPAT.set(raw, features);
    let mut features = incompat::FILETYPE;
    if ext4 {
        features |= incompat::EXTENTS | incompat::BIT64;
        sb::DESC_SIZE.set(raw, gd::LARGE as u16);
        raw[sb::CHECKSUM_TYPE] = sb::CHECKSUM_CRC32C;
    }
    sb::FEATURE_INCOMPAT.set(raw, features);
    let mut features = ro_compat::SPARSE_SUPER | ro_compat::LARGE_FILE;
    if ext4 {
        features |= ro_compat::HUGE_FILE | ro_compat::DIR_NLINK | ro_compat::METADATA_CSUM;
        if options.inode_size > inode::SMALL {
            features |= ro_compat::EXTRA_ISIZE;
        }
    }
    sb::FEATURE_RO_COMPAT.set(raw, features);
    if options.inode_size > inode::SMALL {
        sb::MIN_EXTRA_ISIZE.set(raw, 32);
        sb::WANT_EXTRA_ISIZE.set(raw, 32);
    }
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&options.random[..16]);
    // A random one (RFC 9562, version 4).
    uuid[6] = uuid[6] & 0x0F | 0x40;
    uuid[8] = uuid[8] & 0x3F | 0x80;
    raw[sb::UUID..sb::UUID + 16].copy_from_slice(&uuid);
    raw[sb::HASH_SEED..sb::HASH_SEED + 16].copy_from_slice(&options.random[16..]);
    raw[sb::DEF_HASH_VERSION] = hash::HALF_MD4;
    sb::FLAGS.set(raw, sb::FLAG_SIGNED_HASH);
    raw[sb::VOLUME_NAME..sb::VOLUME_NAME + options.label.len()].copy_from_slice(&options.label);
    // Extended attributes and access lists, as mke2fs has it.
    sb::DEFAULT_MOUNT_OPTS.set(raw, 0x0C);
}

/// Blocks of a journal, as mke2fs chooses them. 0: the file system is too small for one.
fn journal_len(blocks: u64) -> u32 {
    match blocks {
        0..2048 => 0,
        2048..32_768 => 1024,
        32_768..262_144 => 4096,
        262_144..524_288 => 8192,
        524_288..4_194_304 => 16_384,
        _ => 32_768,
    }
}

fn zero(device: &mut dyn Storage, start: u64, len: u64) -> Result<()> {
    let zeros = vec![0; ZEROS];
    let mut done = 0;
    while done < len {
        let part = (len - done).min(ZEROS as u64);
        device.write(start + done, &zeros[..part as usize])?;
        done += part;
    }
    Ok(())
}

/// Makes a file system. `Inval`: options that do not go together, `NoSpc`: too small.
pub fn format(device: &mut dyn Storage, options: &Options, around: Surroundings) -> Result<Made> {
    let now = ((around.now)() / 1_000_000_000) as u32;
    let mut raw = plan(device.len(), options, now)?;
    let geo = Geometry::parse_torn(&raw, device.len()).map_err(|_| Error::Inval)?;
    let journal_blocks = match (options.kind, options.journal_blocks) {
        (Kind::Ext2, _) => 0,
        (_, Some(blocks)) => blocks,
        (_, None) => journal_len(geo.blocks),
    };
    if options.kind != Kind::Ext2
        && (journal_blocks < 1024 || u64::from(journal_blocks) > geo.blocks / 2)
    {
        return Err(Error::NoSpc);
    }
    // What was there before must not be taken for something.
    let start = device.len().min(4096);
    zero(device, 0, start)?;
    lay_out(device, &geo)?;
    if geo.all_checksums() {
        let crc = crc32c(!0, &raw[..sb::CHECKSUM.0]);
        sb::CHECKSUM.set(&mut raw, crc);
    }
    device.write(sb::OFFSET, &raw)?;
    device.flush()?;
    let mut volume = Volume::over(Box::new(&mut *device), geo, around);
    volume.check_groups().map_err(|_| Error::Io)?;
    volume.populate(journal_blocks)?;
    volume.copy_superblock()?;
    let (geo, uuid) = (&volume.geo, volume.geo.uuid);
    Ok(Made {
        block_size: geo.block_size,
        blocks: geo.blocks,
        inodes: geo.inodes,
        groups: geo.groups,
        journal_blocks,
        uuid,
    })
}

/// Descriptors, bitmaps and tables.
fn lay_out(device: &mut dyn Storage, geo: &Geometry) -> Result<()> {
    let size = geo.block_size as u64;
    let table = geo.table_blocks();
    let mut descs = vec![0; geo.desc_blocks() as usize * geo.block_size];
    for group in 0..geo.groups {
        let start = geo.first_block(group) + u64::from(geo.base_blocks(group));
        let used = geo.base_blocks(group) + 2 + table;
        let reserved = if group == 0 { geo.first_ino - 1 } else { 0 };
        let lazy = geo.all_checksums() && group > 0;
        let desc = Desc {
            block_bitmap: start,
            inode_bitmap: start + 1,
            inode_table: start + 2,
            free_blocks: geo.group_len(group) - used,
            free_inodes: geo.inodes_per_group - reserved,
            unused_inodes: if geo.all_checksums() { geo.inodes_per_group - reserved } else { 0 },
            flags: match (geo.all_checksums(), lazy) {
                (_, true) => gd::FLAG_INODE_UNINIT,
                (true, false) => gd::FLAG_INODE_ZEROED,
                _ => 0,
            },
            ..Desc::default()
        };
        let mut blocks = vec![0; geo.block_size];
        fill_block_bitmap(geo, group, &desc, &mut blocks);
        device.write(start * size, &blocks)?;
        let mut inodes = vec![0; geo.block_size];
        change(&mut inodes, 0, reserved, true);
        let bits = geo.block_size as u32 * 8;
        change(&mut inodes, geo.inodes_per_group, bits - geo.inodes_per_group, true);
        device.write((start + 1) * size, &inodes)?;
        if !lazy {
            zero(device, (start + 2) * size, u64::from(table) * size)?;
        }
        let mut desc = desc;
        if geo.all_checksums() {
            let sum = |bitmap: &[u8], bits: u32| crc32c(geo.seed, &bitmap[..bits as usize / 8]);
            desc.block_bitmap_checksum = sum(&blocks, geo.blocks_per_group);
            desc.inode_bitmap_checksum = sum(&inodes, geo.inodes_per_group);
        }
        let at = group as usize * geo.desc_size;
        let raw = &mut descs[at..at + geo.desc_size];
        desc.store(raw);
        let crc = geo.descriptor_checksum(group, raw);
        gd::CHECKSUM.set(raw, crc);
    }
    device.write((u64::from(geo.first_data_block) + 1) * size, &descs)
}

impl Volume<'_> {
    /// Root, lost+found and journal of a new file system.
    fn populate(&mut self, journal_blocks: u32) -> Result<()> {
        self.count()?;
        self.read_only = false;
        let number = inode::ROOT;
        let extents = self.geo.has_incompat(incompat::EXTENTS);
        let now = (self.around.now)();
        self.operation(|volume| {
            let mut root = volume.blank_inode(number)?;
            inode::MODE.set(&mut root.raw, (mode::DIRECTORY | 0o755) as u16);
            root.set_links(2);
            for time in [Time::Access, Time::Change, Time::Modify, Time::Birth] {
                root.set_time(time, now);
            }
            if extents {
                extents::initialise(&mut root);
            }
            volume.make_directory(&mut root, number)?;
            volume.update_desc(0, |desc| desc.used_dirs += 1)?;
            volume.write_inode(&mut root)
        })?;
        self.make(number.into(), b"lost+found", &NewFile::new(mode::DIRECTORY | 0o700))?;
        if journal_blocks > 0 {
            self.make_journal(journal_blocks)?;
        }
        self.commit()
    }

    fn make_journal(&mut self, blocks: u32) -> Result<()> {
        const NUMBER: u32 = 8;
        let extents = self.geo.has_incompat(incompat::EXTENTS);
        let (size, now) = (self.geo.block_size as u64, (self.around.now)());
        let mut file = self.blank_inode(NUMBER)?;
        inode::MODE.set(&mut file.raw, (mode::REGULAR | 0o600) as u16);
        file.set_links(1);
        file.set_size(u64::from(blocks) * size);
        for time in [Time::Access, Time::Change, Time::Modify, Time::Birth] {
            file.set_time(time, now);
        }
        if extents {
            extents::initialise(&mut file);
        }
        let mut first = None;
        let mut at = 0;
        while at < u64::from(blocks) {
            // A group's worth at a time, so that no operation is too large.
            let most = u64::from(blocks) - at;
            let mut part = file.clone();
            let run = self.operation(|volume| {
                part = file.clone();
                volume.map_new(&mut part, at, most.min(512))
            })?;
            let (Some(start), len) = (run.0.physical, run.0.len) else { return Err(Error::Io) };
            file = part;
            zero(&mut *self.meta.device, start * size, len * size)?;
            first.get_or_insert(start);
            at += len;
        }
        let mut raw = vec![0; jsb::LEN];
        head::MAGIC.set(&mut raw, head::MAGIC_VALUE);
        head::KIND.set(&mut raw, head::SUPERBLOCK_V2);
        jsb::BLOCK_SIZE.set(&mut raw, size as u32);
        jsb::MAX_LEN.set(&mut raw, blocks);
        jsb::FIRST.set(&mut raw, 1);
        jsb::SEQUENCE.set(&mut raw, 1);
        jsb::USERS.set(&mut raw, 1);
        raw[jsb::UUID..jsb::UUID + 16].copy_from_slice(&self.geo.uuid);
        self.meta.device.write(first.unwrap_or(0) * size, &raw)?;
        self.operation(|volume| {
            volume.write_inode(&mut file)?;
            let (block, low, high) = (
                file.block().to_vec(),
                inode::SIZE_LO.get(&file.raw),
                inode::SIZE_HI.get(&file.raw),
            );
            volume.edit_superblock(|raw| {
                sb::JOURNAL_INUM.set(raw, NUMBER);
                // A copy of the journal's inode, should the table be lost.
                raw[sb::JNL_BACKUP_TYPE] = 1;
                let copy = &mut raw[sb::JNL_BLOCKS..sb::JNL_BLOCKS + 68];
                copy[..60].copy_from_slice(&block);
                copy[60..64].copy_from_slice(&high.to_le_bytes());
                copy[64..].copy_from_slice(&low.to_le_bytes());
            })
        })
    }

    /// Copies of the superblock and the descriptors to the groups that keep them.
    fn copy_superblock(&mut self) -> Result<()> {
        let size = self.geo.block_size as u64;
        let mut raw = vec![0; sb::LEN];
        self.meta.device.read(sb::OFFSET, &mut raw)?;
        let mut descs = vec![0; self.geo.desc_blocks() as usize * self.geo.block_size];
        let table = (u64::from(self.geo.first_data_block) + 1) * size;
        self.meta.device.read(table, &mut descs)?;
        for group in (1..self.geo.groups).filter(|&group| self.geo.has_super(group)) {
            sb::BLOCK_GROUP_NR.set(&mut raw, group as u16);
            if self.geo.all_checksums() {
                let crc = crc32c(!0, &raw[..sb::CHECKSUM.0]);
                sb::CHECKSUM.set(&mut raw, crc);
            }
            let start = self.geo.first_block(group) * size;
            self.meta.device.write(start, &raw)?;
            self.meta.device.write(start + size, &descs)?;
        }
        self.meta.device.flush()
    }
}
