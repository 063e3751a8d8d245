//! The superblock, checked once and then known as numbers ([`Geometry`]).
//!
//! A field that is absurd refuses the mount; what passed here is relied upon everywhere else:
//! block and inode numbers fit, groups lie within the device, sizes divide each other.

use alloc::format;
use alloc::string::String;

use crate::checksum::{crc16, crc32c};
use crate::layout::{feature::compat, feature::incompat, feature::ro_compat, gd, inode, sb};

/// How metadata is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checksums {
    None,
    /// CRC-16 of the group descriptors only (uninit_bg).
    Groups,
    /// CRC-32C of everything.
    All,
}

/// Why a device is not mounted, or only for reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No ext file system at all.
    Foreign,
    /// It is one, but not sound; the sentence says how.
    Damaged(String),
    /// Uses something this code does not know.
    Unsupported(String),
}

/// The fixed numbers of a file system.
#[derive(Clone, Debug)]
pub struct Geometry {
    pub block_size: usize,
    pub blocks: u64,
    pub first_data_block: u32,
    pub blocks_per_group: u32,
    pub groups: u32,
    pub inodes: u32,
    pub inodes_per_group: u32,
    pub inode_size: usize,
    pub first_ino: u32,
    pub desc_size: usize,
    pub reserved_gdt: u32,
    pub first_meta_bg: u32,
    pub backup_groups: [u32; 2],
    pub compat: u32,
    pub incompat: u32,
    pub ro_compat: u32,
    pub checksums: Checksums,
    /// Start value of metadata_csum's checksums.
    pub seed: u32,
    pub uuid: [u8; 16],
    pub hash_seed: [u32; 4],
    pub hash_version: u8,
    pub unsigned_hash: bool,
    pub want_extra: u16,
    pub journal_inode: u32,
    pub orphan_file: u32,
}

fn wide(low: u32, high: u32, large: bool) -> u64 {
    u64::from(low) | if large { u64::from(high) << 32 } else { 0 }
}

impl Geometry {
    /// Checks `raw` (1024 bytes) against a device of `device_len` bytes.
    pub fn parse(raw: &[u8], device_len: u64) -> Result<Self, Refusal> {
        let geo = Self::parse_torn(raw, device_len)?;
        if geo.all_checksums() && sb::CHECKSUM.get(raw) != crc32c(!0, &raw[..sb::CHECKSUM.0]) {
            return Err(Refusal::Damaged("the superblock's checksum is wrong".into()));
        }
        Ok(geo)
    }

    /// As [`Geometry::parse`], whatever the checksum: good enough to find the journal, in which a
    /// whole superblock may stand.
    pub fn parse_torn(raw: &[u8], device_len: u64) -> Result<Self, Refusal> {
        if raw.len() < sb::LEN || sb::MAGIC.get(raw) != sb::MAGIC_VALUE {
            return Err(Refusal::Foreign);
        }
        let damaged = |what: &str| Refusal::Damaged(format!("the superblock's {what}"));
        let dynamic = sb::REV_LEVEL.get(raw) >= 1;
        let features = |field: crate::layout::Le32| if dynamic { field.get(raw) } else { 0 };
        let compat = features(sb::FEATURE_COMPAT);
        let incompat = features(sb::FEATURE_INCOMPAT);
        let ro_compat = features(sb::FEATURE_RO_COMPAT);
        let unknown = incompat & !incompat::READABLE;
        if unknown != 0 {
            let what = format!("incompatible features {unknown:#x} are not supported");
            return Err(Refusal::Unsupported(what));
        }
        let checksums = if ro_compat & ro_compat::METADATA_CSUM != 0 {
            if raw[sb::CHECKSUM_TYPE] != sb::CHECKSUM_CRC32C {
                return Err(Refusal::Unsupported("the kind of checksum is not known".into()));
            }
            Checksums::All
        } else if ro_compat & ro_compat::GDT_CSUM != 0 {
            Checksums::Groups
        } else {
            Checksums::None
        };
        let log = sb::LOG_BLOCK_SIZE.get(raw);
        if log > 6 {
            return Err(damaged("block size is beyond 64 KiB"));
        }
        let block_size = 1024_usize << log;
        let bits = block_size as u32 * 8;
        let large = incompat & incompat::BIT64 != 0;
        let blocks = wide(sb::BLOCKS_COUNT_LO.get(raw), sb::BLOCKS_COUNT_HI.get(raw), large);
        let first_data_block = sb::FIRST_DATA_BLOCK.get(raw);
        let fits = blocks.checked_mul(block_size as u64).is_some_and(|bytes| bytes <= device_len);
        if !fits {
            return Err(damaged("number of blocks is larger than the device"));
        }
        if first_data_block != u32::from(block_size == 1024)
            || u64::from(first_data_block) >= blocks
        {
            return Err(damaged("first data block is out of place"));
        }
        let blocks_per_group = sb::BLOCKS_PER_GROUP.get(raw);
        // Bigalloc keeps a bit for several blocks.
        let clustered = ro_compat & 0x200 != 0;
        if blocks_per_group < 256
            || !blocks_per_group.is_multiple_of(8)
            || (blocks_per_group > bits && !clustered)
        {
            return Err(damaged("number of blocks in a group is out of range"));
        }
        let groups = (blocks - u64::from(first_data_block)).div_ceil(blocks_per_group.into());
        let groups = u32::try_from(groups).ok().filter(|&groups| groups <= 1 << 22);
        let groups = groups.ok_or_else(|| damaged("number of groups is out of range"))?;
        let inode_size = if dynamic { usize::from(sb::INODE_SIZE.get(raw)) } else { inode::SMALL };
        if !inode_size.is_power_of_two() || inode_size < inode::SMALL || inode_size > block_size {
            return Err(damaged("inode size is out of range"));
        }
        let inodes_per_group = sb::INODES_PER_GROUP.get(raw);
        let inodes = sb::INODES_COUNT.get(raw);
        if inodes_per_group > bits
            || (inodes_per_group as usize) < block_size / inode_size
            || inodes_per_group.checked_mul(groups) != Some(inodes)
        {
            return Err(damaged("number of inodes is out of range"));
        }
        let first_ino = if dynamic { sb::FIRST_INO.get(raw) } else { 11 };
        if first_ino < 11 || first_ino > inodes {
            return Err(damaged("first inode is out of range"));
        }
        let desc_size = if large { usize::from(sb::DESC_SIZE.get(raw)) } else { gd::SMALL };
        if !desc_size.is_power_of_two()
            || desc_size > block_size
            || desc_size < if large { gd::LARGE } else { gd::SMALL }
        {
            return Err(damaged("group descriptor size is out of range"));
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&raw[sb::UUID..sb::UUID + 16]);
        let word = |at: usize| crate::layout::Le32(at).get(raw);
        let hash_seed = core::array::from_fn(|index| word(sb::HASH_SEED + 4 * index));
        let seed = if incompat & incompat::CSUM_SEED != 0 {
            sb::CHECKSUM_SEED.get(raw)
        } else {
            crc32c(!0, &uuid)
        };
        Ok(Self {
            block_size,
            blocks,
            first_data_block,
            blocks_per_group,
            groups,
            inodes,
            inodes_per_group,
            inode_size,
            first_ino,
            desc_size,
            reserved_gdt: sb::RESERVED_GDT_BLOCKS.get(raw).into(),
            first_meta_bg: sb::FIRST_META_BG.get(raw),
            backup_groups: [word(sb::BACKUP_BGS), word(sb::BACKUP_BGS + 4)],
            compat,
            incompat,
            ro_compat,
            checksums,
            seed,
            uuid,
            hash_seed,
            hash_version: raw[sb::DEF_HASH_VERSION],
            unsigned_hash: sb::FLAGS.get(raw) & sb::FLAG_UNSIGNED_HASH != 0,
            want_extra: sb::WANT_EXTRA_ISIZE.get(raw),
            journal_inode: if compat & compat::HAS_JOURNAL != 0 {
                sb::JOURNAL_INUM.get(raw)
            } else {
                0
            },
            orphan_file: if compat & compat::ORPHAN_FILE != 0 {
                sb::ORPHAN_FILE_INUM.get(raw)
            } else {
                0
            },
        })
    }

    /// Why it may be read but not written. `None`: it may be written.
    pub fn only_readable(&self) -> Option<String> {
        let unknown = self.ro_compat & !ro_compat::WRITABLE;
        if unknown != 0 {
            return Some(format!("read-only features {unknown:#x} are not supported for writing"));
        }
        let unknown = self.incompat & !incompat::WRITABLE;
        if unknown != 0 {
            return Some(format!("features {unknown:#x} are supported for reading only"));
        }
        if self.compat & compat::HAS_JOURNAL != 0 && self.journal_inode == 0 {
            return Some("its journal is on another device".into());
        }
        None
    }

    pub fn has_compat(&self, bit: u32) -> bool {
        self.compat & bit != 0
    }

    pub fn has_incompat(&self, bit: u32) -> bool {
        self.incompat & bit != 0
    }

    pub fn has_ro_compat(&self, bit: u32) -> bool {
        self.ro_compat & bit != 0
    }

    pub fn all_checksums(&self) -> bool {
        self.checksums == Checksums::All
    }

    /// Block and offset of the superblock itself.
    pub fn superblock(&self) -> (u64, usize) {
        let at = sb::OFFSET as usize;
        ((at / self.block_size) as u64, at % self.block_size)
    }

    pub fn first_block(&self, group: u32) -> u64 {
        u64::from(self.first_data_block) + u64::from(group) * u64::from(self.blocks_per_group)
    }

    /// Blocks of a group; the last one may be shorter.
    pub fn group_len(&self, group: u32) -> u32 {
        let left = self.blocks - self.first_block(group);
        left.min(self.blocks_per_group.into()) as u32
    }

    /// Group and bit of a block, which must be valid.
    pub fn place(&self, block: u64) -> (u32, u32) {
        let at = block - u64::from(self.first_data_block);
        let per = u64::from(self.blocks_per_group);
        ((at / per) as u32, (at % per) as u32)
    }

    pub fn valid_block(&self, block: u64) -> bool {
        block >= u64::from(self.first_data_block) && block < self.blocks
    }

    /// Does this group keep a copy of the superblock?
    pub fn has_super(&self, group: u32) -> bool {
        if group == 0 {
            return true;
        }
        if self.has_compat(compat::SPARSE_SUPER2) {
            return self.backup_groups.contains(&group);
        }
        if group == 1 || !self.has_ro_compat(ro_compat::SPARSE_SUPER) {
            return true;
        }
        [3_u32, 5, 7].into_iter().any(|base| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        })
    }

    fn descs_per_block(&self) -> u32 {
        (self.block_size / self.desc_size) as u32
    }

    /// Blocks of the whole descriptor table.
    pub fn desc_blocks(&self) -> u32 {
        self.groups.div_ceil(self.descs_per_block())
    }

    /// Block and offset of a group's descriptor.
    pub fn descriptor(&self, group: u32) -> (u64, usize) {
        let per = self.descs_per_block();
        let (index, offset) = (group / per, (group % per) as usize * self.desc_size);
        if self.has_incompat(incompat::META_BG) && index >= self.first_meta_bg {
            let first = index * per;
            return (self.first_block(first) + u64::from(self.has_super(first)), offset);
        }
        let superblock = u64::from(self.first_data_block);
        (superblock + 1 + u64::from(index), offset)
    }

    /// Blocks at a group's start that hold the superblock's copy and descriptors.
    pub fn base_blocks(&self, group: u32) -> u32 {
        let copy = u32::from(self.has_super(group));
        let per = self.descs_per_block();
        let index = group / per;
        if self.has_incompat(incompat::META_BG) && index >= self.first_meta_bg {
            let within = group % per;
            return copy + u32::from(within == 0 || within == 1 || within == per - 1);
        }
        if copy == 0 {
            return 0;
        }
        let table = if self.has_incompat(incompat::META_BG) {
            self.desc_blocks().min(self.first_meta_bg)
        } else {
            self.desc_blocks()
        };
        1 + table + self.reserved_gdt
    }

    /// Blocks of one group's inode table.
    pub fn table_blocks(&self) -> u32 {
        let per = (self.block_size / self.inode_size) as u32;
        self.inodes_per_group.div_ceil(per)
    }

    /// Bytes of a directory block that entries may use.
    pub fn dir_usable(&self) -> usize {
        self.block_size - if self.all_checksums() { crate::layout::dirent::TAIL } else { 0 }
    }

    /// Checksum of a group's descriptor (as kept in it), computed over `raw`.
    pub fn descriptor_checksum(&self, group: u32, raw: &[u8]) -> u16 {
        let (head, rest) = raw.split_at(gd::CHECKSUM.0);
        match self.checksums {
            Checksums::None => 0,
            Checksums::All => {
                let crc = crc32c(crc32c(self.seed, &group.to_le_bytes()), head);
                crc32c(crc32c(crc, &[0; 2]), &rest[2..]) as u16
            }
            Checksums::Groups => {
                let crc = crc16(crc16(crc16(!0, &self.uuid), &group.to_le_bytes()), head);
                if self.has_incompat(incompat::BIT64) { crc16(crc, &rest[2..]) } else { crc }
            }
        }
    }
}
