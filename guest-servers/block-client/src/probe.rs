//! What a device holds, by its superblock: type, label and UUID as blkid tells them.
//!
//! Knows FAT, ext2/3/4, MINIX and ISO 9660. Everything read is only shown, never trusted.

use alloc::format;
use alloc::string::String;
use alloc::vec;

use xinim_abi::error::Result;

/// A file system found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Volume {
    /// blkid's TYPE: `vfat`, `ext2`, `ext3`, `ext4`, `minix`, `iso9660`.
    pub kind: &'static str,
    /// Empty: none.
    pub label: String,
    pub uuid: String,
}

/// Bytes of a FAT root directory that are searched for the label.
const ROOT_MAX: u64 = 32 * 1024;

/// Looks what stands on a device of `len` bytes; `read` fills the buffer from a byte on.
pub fn probe(
    len: u64,
    mut read: impl FnMut(u64, &mut [u8]) -> Result<()>,
) -> Result<Option<Volume>> {
    if len >= 2048 {
        let mut block = [0; 1024];
        read(1024, &mut block)?;
        if let Some(volume) = ext(&block).or_else(|| minix(&block, len)) {
            return Ok(Some(volume));
        }
    }
    if len >= 34 * 1024 {
        let mut block = [0; 2048];
        read(32 * 1024, &mut block)?;
        if let Some(volume) = iso(&block) {
            return Ok(Some(volume));
        }
    }
    if len >= 512 { fat(len, &mut read) } else { Ok(None) }
}

fn le16(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 2).map_or(0, |b| u16::from_le_bytes([b[0], b[1]]).into())
}

fn le32(bytes: &[u8], at: usize) -> u64 {
    le16(bytes, at) | le16(bytes, at + 2) << 16
}

/// A padded text: up to the first NUL, without spaces at the end.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from(String::from_utf8_lossy(&bytes[..end]).trim_end())
}

/// The superblock at byte 1024 (fs/ext4/ext4.h of Linux documents it).
fn ext(block: &[u8]) -> Option<Volume> {
    const JOURNAL: u64 = 4;
    const JOURNAL_DEVICE: u64 = 8;
    /// What ext3 and ext2 know: filetype, recovery, meta_bg; sparse_super, large_file, btree_dir.
    const OLD_INCOMPATIBLE: u64 = 2 | 4 | 16;
    const OLD_READ_ONLY: u64 = 7;
    let (compatible, incompatible, read_only) =
        (le32(block, 92), le32(block, 96), le32(block, 100));
    if le16(block, 56) != 0xEF53 || incompatible & JOURNAL_DEVICE != 0 {
        return None;
    }
    let old = incompatible & !OLD_INCOMPATIBLE == 0 && read_only & !OLD_READ_ONLY == 0;
    let kind = match (old, compatible & JOURNAL != 0) {
        (true, false) => "ext2",
        (true, true) => "ext3",
        (false, _) => "ext4",
    };
    let mut uuid = String::new();
    for (at, byte) in block[104..120].iter().enumerate() {
        let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
        uuid.push_str(&format!("{dash}{byte:02x}"));
    }
    Some(Volume { kind, label: text(&block[120..136]), uuid })
}

/// Magic numbers of version 1 and 2 at 16, of version 3 at 24; the sizes must make sense.
fn minix(block: &[u8], len: u64) -> Option<Volume> {
    let (zones, first, size) = match (le16(block, 16), le16(block, 24)) {
        (0x137F | 0x138F, _) => (le16(block, 2), le16(block, 8), 1024),
        (0x2468 | 0x2478, _) => (le32(block, 20), le16(block, 8), 1024),
        (_, 0x4D5A) => (le32(block, 20), le16(block, 10), le16(block, 28)),
        _ => return None,
    };
    let plausible = zones > first && first > 2 && zones.saturating_mul(size) <= len;
    plausible.then(|| Volume { kind: "minix", ..Volume::default() })
}

/// The primary volume descriptor (ECMA-119 section 8.4).
fn iso(block: &[u8]) -> Option<Volume> {
    if block[0] != 1 || &block[1..6] != b"CD001" {
        return None;
    }
    // The date of the last change, or of the creation: 16 digits.
    let date = [&block[830..846], &block[813..829]]
        .into_iter()
        .find(|date| date.iter().all(u8::is_ascii_digit) && date.iter().any(|&b| b != b'0'));
    let uuid = date.map(|date| {
        let part = |from: usize, to: usize| String::from_utf8_lossy(&date[from..to]);
        let (day, time) = (part(6, 8), part(8, 10));
        let (min, sec, hundredth) = (part(10, 12), part(12, 14), part(14, 16));
        format!("{}-{}-{day}-{time}-{min}-{sec}-{hundredth}", part(0, 4), part(4, 6))
    });
    Some(Volume { kind: "iso9660", label: text(&block[40..72]), uuid: uuid.unwrap_or_default() })
}

/// The boot sector, and the root directory's volume label.
fn fat(len: u64, read: &mut impl FnMut(u64, &mut [u8]) -> Result<()>) -> Result<Option<Volume>> {
    let mut boot = [0; 512];
    read(0, &mut boot)?;
    let sector = le16(&boot, 11);
    let (cluster, reserved, tables) = (u64::from(boot[13]), le16(&boot, 14), u64::from(boot[16]));
    let sane = boot[510..] == [0x55, 0xAA]
        && sector.is_power_of_two()
        && (512..=4096).contains(&sector)
        && cluster.is_power_of_two()
        && (1..=2).contains(&tables)
        && boot[21] >= 0xF0
        && reserved > 0;
    if !sane {
        return Ok(None);
    }
    let (entries, short) = (le16(&boot, 17), le16(&boot, 22));
    let table = if short != 0 { short } else { le32(&boot, 36) };
    let behind = (reserved + tables * table) * sector;
    let (extended, start, size) = match short {
        0 => {
            let first = le32(&boot, 44).saturating_sub(2);
            (64, behind.saturating_add(first * cluster * sector), cluster * sector)
        }
        _ => (36, behind, entries * 32),
    };
    let serial = le32(&boot, extended + 3);
    let mut label = String::new();
    let size = size.min(ROOT_MAX);
    if start.checked_add(size).is_some_and(|end| end <= len) {
        let mut root = vec![0; size as usize];
        read(start, &mut root)?;
        let used = root.as_chunks::<32>().0.iter().take_while(|entry| entry[0] != 0);
        // The volume's own entry: attribute 8 alone, not part of a long name, not deleted.
        let own =
            used.into_iter().find(|e| e[0] != 0xE5 && e[11] & 0x18 == 8 && e[11] & 0x3F != 15);
        label = own.map(|entry| text(&entry[..11])).unwrap_or_default();
    }
    if label.is_empty() && boot[extended + 2] == 0x29 {
        label = text(&boot[extended + 7..extended + 18]);
    }
    if label == "NO NAME" {
        label.clear();
    }
    let uuid = match serial {
        0 => String::new(),
        serial => format!("{:04X}-{:04X}", serial >> 16, serial & 0xFFFF),
    };
    Ok(Some(Volume { kind: "vfat", label, uuid }))
}
