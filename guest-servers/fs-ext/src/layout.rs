//! Where things lie on the disk: offsets and constants of ext2, ext3 and ext4, nothing else.
//!
//! Everything is little-endian here; the journal (big-endian) has its own table in
//! [`crate::journal`]. Names are those of the kernel's documentation of the ext4 disk layout
//! ("Data Structures and Algorithms"), without prefixes.

/// A little-endian 16-bit field at a byte offset.
#[derive(Clone, Copy, Debug)]
pub struct Le16(pub usize);

/// A little-endian 32-bit field at a byte offset.
#[derive(Clone, Copy, Debug)]
pub struct Le32(pub usize);

impl Le16 {
    pub fn get(self, bytes: &[u8]) -> u16 {
        u16::from_le_bytes([bytes[self.0], bytes[self.0 + 1]])
    }

    pub fn set(self, bytes: &mut [u8], value: u16) {
        bytes[self.0..self.0 + 2].copy_from_slice(&value.to_le_bytes());
    }
}

impl Le32 {
    pub fn get(self, bytes: &[u8]) -> u32 {
        let mut raw = [0; 4];
        raw.copy_from_slice(&bytes[self.0..self.0 + 4]);
        u32::from_le_bytes(raw)
    }

    pub fn set(self, bytes: &mut [u8], value: u32) {
        bytes[self.0..self.0 + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// The superblock: 1024 bytes at byte 1024.
pub mod sb {
    use super::{Le16, Le32};

    pub const OFFSET: u64 = 1024;
    pub const LEN: usize = 1024;
    pub const MAGIC_VALUE: u16 = 0xEF53;
    pub const STATE_CLEAN: u16 = 1;
    pub const STATE_ERRORS: u16 = 2;
    pub const FLAG_SIGNED_HASH: u32 = 1;
    pub const FLAG_UNSIGNED_HASH: u32 = 2;
    pub const CHECKSUM_CRC32C: u8 = 1;

    pub const INODES_COUNT: Le32 = Le32(0x00);
    pub const BLOCKS_COUNT_LO: Le32 = Le32(0x04);
    pub const R_BLOCKS_COUNT_LO: Le32 = Le32(0x08);
    pub const FREE_BLOCKS_LO: Le32 = Le32(0x0C);
    pub const FREE_INODES: Le32 = Le32(0x10);
    pub const FIRST_DATA_BLOCK: Le32 = Le32(0x14);
    pub const LOG_BLOCK_SIZE: Le32 = Le32(0x18);
    pub const LOG_CLUSTER_SIZE: Le32 = Le32(0x1C);
    pub const BLOCKS_PER_GROUP: Le32 = Le32(0x20);
    pub const CLUSTERS_PER_GROUP: Le32 = Le32(0x24);
    pub const INODES_PER_GROUP: Le32 = Le32(0x28);
    pub const MTIME: Le32 = Le32(0x2C);
    pub const WTIME: Le32 = Le32(0x30);
    pub const MNT_COUNT: Le16 = Le16(0x34);
    pub const MAX_MNT_COUNT: Le16 = Le16(0x36);
    pub const MAGIC: Le16 = Le16(0x38);
    pub const STATE: Le16 = Le16(0x3A);
    pub const ERRORS: Le16 = Le16(0x3C);
    pub const LASTCHECK: Le32 = Le32(0x40);
    pub const REV_LEVEL: Le32 = Le32(0x4C);
    pub const FIRST_INO: Le32 = Le32(0x54);
    pub const INODE_SIZE: Le16 = Le16(0x58);
    pub const BLOCK_GROUP_NR: Le16 = Le16(0x5A);
    pub const FEATURE_COMPAT: Le32 = Le32(0x5C);
    pub const FEATURE_INCOMPAT: Le32 = Le32(0x60);
    pub const FEATURE_RO_COMPAT: Le32 = Le32(0x64);
    pub const UUID: usize = 0x68;
    pub const VOLUME_NAME: usize = 0x78;
    pub const RESERVED_GDT_BLOCKS: Le16 = Le16(0xCE);
    pub const JOURNAL_INUM: Le32 = Le32(0xE0);
    pub const LAST_ORPHAN: Le32 = Le32(0xE8);
    pub const HASH_SEED: usize = 0xEC;
    pub const DEF_HASH_VERSION: usize = 0xFC;
    pub const JNL_BACKUP_TYPE: usize = 0xFD;
    pub const DESC_SIZE: Le16 = Le16(0xFE);
    pub const DEFAULT_MOUNT_OPTS: Le32 = Le32(0x100);
    pub const FIRST_META_BG: Le32 = Le32(0x104);
    pub const MKFS_TIME: Le32 = Le32(0x108);
    pub const JNL_BLOCKS: usize = 0x10C;
    pub const BLOCKS_COUNT_HI: Le32 = Le32(0x150);
    pub const R_BLOCKS_COUNT_HI: Le32 = Le32(0x154);
    pub const FREE_BLOCKS_HI: Le32 = Le32(0x158);
    pub const MIN_EXTRA_ISIZE: Le16 = Le16(0x15C);
    pub const WANT_EXTRA_ISIZE: Le16 = Le16(0x15E);
    pub const FLAGS: Le32 = Le32(0x160);
    pub const CHECKSUM_TYPE: usize = 0x175;
    pub const BACKUP_BGS: usize = 0x24C;
    pub const CHECKSUM_SEED: Le32 = Le32(0x270);
    pub const ORPHAN_FILE_INUM: Le32 = Le32(0x280);
    pub const CHECKSUM: Le32 = Le32(0x3FC);
}

/// Feature bits.
pub mod feature {
    pub mod compat {
        pub const HAS_JOURNAL: u32 = 0x4;
        pub const EXT_ATTR: u32 = 0x8;
        pub const DIR_INDEX: u32 = 0x20;
        pub const SPARSE_SUPER2: u32 = 0x200;
        pub const ORPHAN_FILE: u32 = 0x1000;
    }

    pub mod incompat {
        pub const FILETYPE: u32 = 0x2;
        pub const RECOVER: u32 = 0x4;
        pub const META_BG: u32 = 0x10;
        pub const EXTENTS: u32 = 0x40;
        pub const BIT64: u32 = 0x80;
        pub const MMP: u32 = 0x100;
        pub const FLEX_BG: u32 = 0x200;
        pub const EA_INODE: u32 = 0x400;
        pub const CSUM_SEED: u32 = 0x2000;
        pub const LARGEDIR: u32 = 0x4000;
        pub const INLINE_DATA: u32 = 0x8000;
        /// Understood in full.
        pub const WRITABLE: u32 =
            FILETYPE | RECOVER | META_BG | EXTENTS | BIT64 | FLEX_BG | CSUM_SEED | LARGEDIR;
        /// Understood for reading only.
        pub const READABLE: u32 = WRITABLE | MMP | EA_INODE | INLINE_DATA;
    }

    pub mod ro_compat {
        pub const SPARSE_SUPER: u32 = 0x1;
        pub const LARGE_FILE: u32 = 0x2;
        pub const HUGE_FILE: u32 = 0x8;
        pub const GDT_CSUM: u32 = 0x10;
        pub const DIR_NLINK: u32 = 0x20;
        pub const EXTRA_ISIZE: u32 = 0x40;
        pub const METADATA_CSUM: u32 = 0x400;
        pub const ORPHAN_PRESENT: u32 = 0x10000;
        pub const WRITABLE: u32 = SPARSE_SUPER
            | LARGE_FILE
            | HUGE_FILE
            | GDT_CSUM
            | DIR_NLINK
            | EXTRA_ISIZE
            | METADATA_CSUM
            | ORPHAN_PRESENT;
    }
}

/// Group descriptors: 32 bytes, or `desc_size` with the upper halves from 0x20.
pub mod gd {
    use super::{Le16, Le32};

    pub const BLOCK_BITMAP_LO: Le32 = Le32(0x00);
    pub const INODE_BITMAP_LO: Le32 = Le32(0x04);
    pub const INODE_TABLE_LO: Le32 = Le32(0x08);
    pub const FREE_BLOCKS_LO: Le16 = Le16(0x0C);
    pub const FREE_INODES_LO: Le16 = Le16(0x0E);
    pub const USED_DIRS_LO: Le16 = Le16(0x10);
    pub const FLAGS: Le16 = Le16(0x12);
    pub const BLOCK_BITMAP_CSUM_LO: Le16 = Le16(0x18);
    pub const INODE_BITMAP_CSUM_LO: Le16 = Le16(0x1A);
    pub const ITABLE_UNUSED_LO: Le16 = Le16(0x1C);
    pub const CHECKSUM: Le16 = Le16(0x1E);
    pub const BLOCK_BITMAP_HI: Le32 = Le32(0x20);
    pub const INODE_BITMAP_HI: Le32 = Le32(0x24);
    pub const INODE_TABLE_HI: Le32 = Le32(0x28);
    pub const FREE_BLOCKS_HI: Le16 = Le16(0x2C);
    pub const FREE_INODES_HI: Le16 = Le16(0x2E);
    pub const USED_DIRS_HI: Le16 = Le16(0x30);
    pub const ITABLE_UNUSED_HI: Le16 = Le16(0x32);
    pub const BLOCK_BITMAP_CSUM_HI: Le16 = Le16(0x38);
    pub const INODE_BITMAP_CSUM_HI: Le16 = Le16(0x3A);

    pub const SMALL: usize = 32;
    pub const LARGE: usize = 64;
    pub const FLAG_INODE_UNINIT: u16 = 1;
    pub const FLAG_BLOCK_UNINIT: u16 = 2;
    pub const FLAG_INODE_ZEROED: u16 = 4;
}

/// Inodes: 128 bytes and, in larger ones, `extra_isize` more.
pub mod inode {
    use super::{Le16, Le32};

    pub const SMALL: usize = 128;
    pub const MODE: Le16 = Le16(0x00);
    pub const UID: Le16 = Le16(0x02);
    pub const SIZE_LO: Le32 = Le32(0x04);
    pub const ATIME: Le32 = Le32(0x08);
    pub const CTIME: Le32 = Le32(0x0C);
    pub const MTIME: Le32 = Le32(0x10);
    pub const DTIME: Le32 = Le32(0x14);
    pub const GID: Le16 = Le16(0x18);
    pub const LINKS: Le16 = Le16(0x1A);
    pub const BLOCKS_LO: Le32 = Le32(0x1C);
    pub const FLAGS: Le32 = Le32(0x20);
    pub const BLOCK: usize = 0x28;
    pub const BLOCK_LEN: usize = 60;
    pub const GENERATION: Le32 = Le32(0x64);
    pub const FILE_ACL_LO: Le32 = Le32(0x68);
    pub const SIZE_HI: Le32 = Le32(0x6C);
    pub const BLOCKS_HI: Le16 = Le16(0x74);
    pub const FILE_ACL_HI: Le16 = Le16(0x76);
    pub const UID_HI: Le16 = Le16(0x78);
    pub const GID_HI: Le16 = Le16(0x7A);
    pub const CHECKSUM_LO: Le16 = Le16(0x7C);
    pub const EXTRA_ISIZE: Le16 = Le16(0x80);
    pub const CHECKSUM_HI: Le16 = Le16(0x82);
    pub const CTIME_EXTRA: Le32 = Le32(0x84);
    pub const MTIME_EXTRA: Le32 = Le32(0x88);
    pub const ATIME_EXTRA: Le32 = Le32(0x8C);
    pub const CRTIME: Le32 = Le32(0x90);
    pub const CRTIME_EXTRA: Le32 = Le32(0x94);

    pub const FLAG_IMMUTABLE: u32 = 0x10;
    pub const FLAG_APPEND: u32 = 0x20;
    pub const FLAG_INDEX: u32 = 0x1000;
    pub const FLAG_HUGE_FILE: u32 = 0x4_0000;
    pub const FLAG_EXTENTS: u32 = 0x8_0000;
    pub const FLAG_INLINE_DATA: u32 = 0x1000_0000;
    /// What new files take over from their directory, of what this code sets or meets: secure
    /// deletion, undelete, compression, synchronous, immutable and append-only stay behind, as on
    /// Linux only no-dump (0x40), no-atime (0x80) and synchronous directories (0x10000) go on.
    pub const INHERITED: u32 = 0x40 | 0x80 | 0x1_0000;

    pub const ROOT: u32 = 2;
    pub const RESIZE: u32 = 7;
}

/// Extent trees: a header, then entries of the same size.
pub mod extent {
    pub const MAGIC: u16 = 0xF30A;
    pub const ENTRY: usize = 12;
    /// An extent longer than this is unwritten, and this shorter than it says.
    pub const INIT_MAX: u16 = 32768;
    pub const DEPTH_MAX: u16 = 5;
}

/// Directory entries: inode, rec_len, name_len, file type, name.
pub mod dirent {
    pub const HEAD: usize = 8;
    /// The entry that hides a block's checksum at its end.
    pub const TAIL: usize = 12;
    pub const TAIL_TYPE: u8 = 0xDE;
}
