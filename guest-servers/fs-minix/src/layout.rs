//! The format: superblock, inodes, where things stand.
//!
//! ```text
//! block   0      1            2 …          …           …              first_data …  zones
//!         boot   superblock   inode map    zone map    inode table    data
//!                (byte 1024)
//! ```
//! | version | block | names | inode | zone numbers | times | state |
//! |---|---|---|---|---|---|---|
//! | 1 | 1024 | 14 or 30 | 32 bytes, 65,535 of them | 16 bits | mtime | `s_state` |
//! | 2 | 1024 | 14 or 30 | 64 bytes, 65,535 | 32 bits | a, m, c | `s_state` |
//! | 3 | 1024 to 4096 | 60 | 64 bytes, 32-bit numbers | 32 bits | a, m, c | bit 0 of `s_flags` |
//!
//! All numbers are little-endian. Bit 0 of either map stands for nothing and is set; bit `n` of the
//! inode map is inode `n`, bit `n` of the zone map is zone `first_data + n - 1`. Zones are blocks
//! here: `s_log_zone_size` other than 0 is refused, nobody makes such volumes any more.

use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_block_client::Storage;

pub const SUPER_AT: u64 = 1024;
pub const SUPER_LEN: usize = 32;
/// First block of the inode map.
pub const MAPS_AT: u32 = 2;
pub const ROOT: u32 = 1;
/// Zone numbers in an inode: seven direct, then one of each level of indirection (three at most).
pub const ZONES: usize = 10;
pub const DIRECT: usize = 7;

const MAGIC_V1_14: u16 = 0x137F;
const MAGIC_V1_30: u16 = 0x138F;
const MAGIC_V2_14: u16 = 0x2468;
const MAGIC_V2_30: u16 = 0x2478;
const MAGIC_V3: u16 = 0x4D5A;

const STATE_VALID: u16 = 1;
const STATE_ERROR: u16 = 2;
/// MINIX 3's flag of a volume that was unmounted in order; others leave the field 0.
const FLAG_CLEAN: u16 = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
    V3,
}

/// A checked superblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    pub version: Version,
    /// Longest name in bytes.
    pub name_len: usize,
    /// Bytes of a block.
    pub block: usize,
    pub inodes: u32,
    /// Blocks of the volume.
    pub zones: u32,
    pub imap_blocks: u32,
    pub zmap_blocks: u32,
    pub first_data: u32,
    /// Longest file in bytes.
    pub max_size: u64,
    /// Unmounted in order, no errors known.
    pub clean: bool,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Geometry {
    /// Reads and checks the superblock. `Inval`: not a MINIX volume, or not a whole one.
    pub fn read(storage: &mut dyn Storage) -> Result<Self> {
        if storage.len() < SUPER_AT + SUPER_LEN as u64 {
            return Err(Error::Inval);
        }
        let mut raw = [0; SUPER_LEN];
        storage.read(SUPER_AT, &mut raw)?;
        let geometry = Self::parse(&raw).ok_or(Error::Inval)?;
        geometry.check(storage.len()).then_some(geometry).ok_or(Error::Inval)
    }

    fn parse(raw: &[u8; SUPER_LEN]) -> Option<Self> {
        if u16_at(raw, 24) == MAGIC_V3 {
            let block = usize::from(u16_at(raw, 28));
            if !matches!(block, 1024 | 2048 | 4096) || u16_at(raw, 12) != 0 {
                return None;
            }
            return Some(
                Self {
                    version: Version::V3,
                    name_len: 60,
                    block,
                    inodes: u32_at(raw, 0),
                    zones: u32_at(raw, 20),
                    imap_blocks: u16_at(raw, 6).into(),
                    zmap_blocks: u16_at(raw, 8).into(),
                    first_data: u16_at(raw, 10).into(),
                    max_size: u32_at(raw, 16).into(),
                    clean: u16_at(raw, 14) & FLAG_CLEAN != 0,
                }
                .completed(),
            );
        }
        let (version, name_len) = match u16_at(raw, 16) {
            MAGIC_V1_14 => (Version::V1, 14),
            MAGIC_V1_30 => (Version::V1, 30),
            MAGIC_V2_14 => (Version::V2, 14),
            MAGIC_V2_30 => (Version::V2, 30),
            _ => return None,
        };
        if u16_at(raw, 10) != 0 {
            return None;
        }
        let zones = if version == Version::V1 { u16_at(raw, 2).into() } else { u32_at(raw, 20) };
        Some(
            Self {
                version,
                name_len,
                block: 1024,
                inodes: u16_at(raw, 0).into(),
                zones,
                imap_blocks: u16_at(raw, 4).into(),
                zmap_blocks: u16_at(raw, 6).into(),
                first_data: u16_at(raw, 8).into(),
                max_size: u32_at(raw, 12).into(),
                clean: u16_at(raw, 18) & (STATE_VALID | STATE_ERROR) == STATE_VALID,
            }
            .completed(),
        )
    }

    /// Fills in what may be 0 on disk, and bounds the file size by what inodes can address.
    fn completed(mut self) -> Self {
        if self.first_data == 0 {
            self.first_data = self.table_end().unwrap_or(0);
        }
        let per_block = self.pointers() as u64;
        let levels = self.levels() as u32;
        let blocks = DIRECT as u64 + (1..=levels).map(|level| per_block.pow(level)).sum::<u64>();
        let reach = (blocks * self.block as u64).min(u32::MAX.into());
        self.max_size = if self.max_size == 0 { reach } else { self.max_size.min(reach) };
        self
    }

    fn check(&self, len: u64) -> bool {
        let bits = |blocks: u32| u64::from(blocks) * self.block as u64 * 8;
        self.inodes >= 1
            && self.table_end().is_some_and(|end| self.first_data >= end)
            && self.zones > self.first_data
            && u64::from(self.zones) * self.block as u64 <= len
            && bits(self.imap_blocks) > u64::from(self.inodes)
            && bits(self.zmap_blocks) > u64::from(self.zones - self.first_data)
    }

    /// The block behind the inode table.
    fn table_end(&self) -> Option<u32> {
        self.table().checked_add(self.inodes.div_ceil(self.inodes_per_block()))
    }

    /// The inode table's first block.
    pub fn table(&self) -> u32 {
        MAPS_AT + self.imap_blocks + self.zmap_blocks
    }

    pub fn inode_len(&self) -> usize {
        if self.version == Version::V1 { 32 } else { 64 }
    }

    pub fn inodes_per_block(&self) -> u32 {
        (self.block / self.inode_len()) as u32
    }

    /// Bytes of a directory entry: inode number and name.
    pub fn entry_len(&self) -> usize {
        self.name_len + self.entry_name_at()
    }

    /// Where the name stands in a directory entry.
    pub fn entry_name_at(&self) -> usize {
        if self.version == Version::V3 { 4 } else { 2 }
    }

    /// Bytes of a zone number in an indirect block.
    pub fn pointer_len(&self) -> usize {
        if self.version == Version::V1 { 2 } else { 4 }
    }

    /// Zone numbers in an indirect block.
    pub fn pointers(&self) -> usize {
        self.block / self.pointer_len()
    }

    /// Levels of indirection.
    pub fn levels(&self) -> usize {
        if self.version == Version::V1 { 2 } else { 3 }
    }

    /// Most names of one file.
    pub fn max_links(&self) -> u16 {
        if self.version == Version::V1 { 250 } else { 65_530 }
    }

    /// Byte offset of an inode, `None` where there is none of this number.
    pub fn inode_at(&self, ino: u32) -> Option<u64> {
        let index = ino.checked_sub(1).filter(|index| *index < self.inodes)?;
        Some(self.table() as u64 * self.block as u64 + u64::from(index) * self.inode_len() as u64)
    }

    /// Byte offset of a data zone. `Io` where the number does not name one.
    pub fn zone_at(&self, zone: u32) -> Result<u64> {
        if !(self.first_data..self.zones).contains(&zone) {
            return Err(Error::Io);
        }
        Ok(u64::from(zone) * self.block as u64)
    }

    /// Writes the state into the superblock.
    pub fn set_clean(&self, storage: &mut dyn Storage, clean: bool) -> Result<()> {
        let mut raw = [0; SUPER_LEN];
        storage.read(SUPER_AT, &mut raw)?;
        let (at, flag) = match self.version {
            Version::V3 => (14, FLAG_CLEAN),
            _ => (18, STATE_VALID),
        };
        let old = u16_at(&raw, at);
        let kept = if clean && self.version != Version::V3 { old & !STATE_ERROR } else { old };
        let new = if clean { kept | flag } else { kept & !flag };
        storage.write(SUPER_AT + at as u64, &new.to_le_bytes())
    }

    /// The superblock as it stands on disk, marked clean.
    pub fn encode(&self) -> [u8; SUPER_LEN] {
        let mut raw = [0; SUPER_LEN];
        let mut put = |at: usize, bytes: &[u8]| raw[at..at + bytes.len()].copy_from_slice(bytes);
        let short = |value: u32| (value as u16).to_le_bytes();
        // 0 where the number is too large; readers compute it.
        let first = short(if self.first_data > u32::from(u16::MAX) { 0 } else { self.first_data });
        let max_size = (self.max_size as u32).to_le_bytes();
        if self.version == Version::V3 {
            put(0, &self.inodes.to_le_bytes());
            put(6, &short(self.imap_blocks));
            put(8, &short(self.zmap_blocks));
            put(10, &first);
            put(14, &FLAG_CLEAN.to_le_bytes());
            put(16, &max_size);
            put(20, &self.zones.to_le_bytes());
            put(24, &MAGIC_V3.to_le_bytes());
            put(28, &short(self.block as u32));
            return raw;
        }
        put(0, &short(self.inodes));
        put(4, &short(self.imap_blocks));
        put(6, &short(self.zmap_blocks));
        put(8, &first);
        put(12, &max_size);
        let magic = match (self.version, self.name_len) {
            (Version::V1, 14) => MAGIC_V1_14,
            (Version::V1, _) => MAGIC_V1_30,
            (_, 14) => MAGIC_V2_14,
            _ => MAGIC_V2_30,
        };
        put(16, &magic.to_le_bytes());
        put(18, &STATE_VALID.to_le_bytes());
        if self.version == Version::V1 {
            put(2, &short(self.zones));
        } else {
            put(20, &self.zones.to_le_bytes());
        }
        raw
    }

    pub fn decode_inode(&self, raw: &[u8]) -> Inode {
        let mut inode = Inode { mode: u16_at(raw, 0), ..Inode::default() };
        if self.version == Version::V1 {
            inode.uid = u16_at(raw, 2);
            inode.size = u32_at(raw, 4);
            inode.mtime = u32_at(raw, 8);
            (inode.atime, inode.ctime) = (inode.mtime, inode.mtime);
            inode.gid = raw[12].into();
            inode.links = raw[13].into();
            for (at, zone) in inode.zones[..DIRECT + 2].iter_mut().enumerate() {
                *zone = u16_at(raw, 14 + 2 * at).into();
            }
        } else {
            inode.links = u16_at(raw, 2);
            inode.uid = u16_at(raw, 4);
            inode.gid = u16_at(raw, 6);
            inode.size = u32_at(raw, 8);
            (inode.atime, inode.mtime, inode.ctime) =
                (u32_at(raw, 12), u32_at(raw, 16), u32_at(raw, 20));
            for (at, zone) in inode.zones.iter_mut().enumerate() {
                *zone = u32_at(raw, 24 + 4 * at);
            }
        }
        inode
    }

    pub fn encode_inode(&self, inode: &Inode) -> Vec<u8> {
        let mut raw = alloc::vec![0; self.inode_len()];
        let mut put = |at: usize, bytes: &[u8]| raw[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &inode.mode.to_le_bytes());
        if self.version == Version::V1 {
            put(2, &inode.uid.to_le_bytes());
            put(4, &inode.size.to_le_bytes());
            put(8, &inode.mtime.to_le_bytes());
            put(12, &[inode.gid as u8, inode.links as u8]);
            for (at, zone) in inode.zones[..DIRECT + 2].iter().enumerate() {
                put(14 + 2 * at, &(*zone as u16).to_le_bytes());
            }
        } else {
            for (at, value) in [inode.links, inode.uid, inode.gid].iter().enumerate() {
                put(2 + 2 * at, &value.to_le_bytes());
            }
            for (at, value) in
                [inode.size, inode.atime, inode.mtime, inode.ctime].iter().enumerate()
            {
                put(8 + 4 * at, &value.to_le_bytes());
            }
            for (at, zone) in inode.zones.iter().enumerate() {
                put(24 + 4 * at, &zone.to_le_bytes());
            }
        }
        raw
    }
}

/// An inode of any version. Times are seconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inode {
    /// Type and permission bits; 0: not in use.
    pub mode: u16,
    pub links: u16,
    pub uid: u16,
    pub gid: u16,
    pub size: u32,
    pub atime: u32,
    pub mtime: u32,
    pub ctime: u32,
    /// Zone numbers; of a device file the first is its number (major << 8 | minor).
    pub zones: [u32; ZONES],
}
