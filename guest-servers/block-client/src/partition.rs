//! Partition tables: GPT (UEFI 2.10 section 5.3) and MBR with extended partitions.
//!
//! Numbers are those of Linux's device names: GPT entry order and MBR slots from 1, logical
//! partitions from 5. A table that lies (overlong, looping, wrong checksum) ends the list; it is
//! never trusted beyond the device's size.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::Result;

/// A partition in 512-byte sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    pub number: u32,
    pub start: u64,
    pub sectors: u64,
}

/// Which kind of table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Gpt,
    Mbr,
}

impl Scheme {
    /// As fdisk and blkid call it.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Gpt => "gpt",
            Scheme::Mbr => "dos",
        }
    }
}

/// What a table says of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub partition: Partition,
    /// GPT: the type's GUID; MBR: the type byte in hexadecimal.
    pub kind: String,
    /// As blkid's PARTUUID.
    pub uuid: String,
    /// GPT's name of the partition.
    pub name: String,
    /// MBR: active; GPT: the legacy boot attribute.
    pub boot: bool,
}

impl Entry {
    /// MBR: it only holds the logical partitions, and is no device of its own.
    pub fn is_extended(&self) -> bool {
        matches!(self.kind.as_str(), "5" | "f" | "85")
    }
}

/// A device's partition table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    pub scheme: Scheme,
    /// GPT: the disk's GUID; MBR: eight hexadecimal digits.
    pub id: String,
    /// In the order of their numbers.
    pub entries: Vec<Entry>,
}

const SECTOR: usize = 512;
/// Logical partitions followed before a chain counts as a loop.
const MAX_LOGICAL: u32 = 64;
/// Bytes of GPT entries read at most (the standard's 128 entries of 128 bytes, four times).
const MAX_GPT_BYTES: usize = 64 * 1024;

/// Type byte of the one partition of an MBR that protects a GPT.
const TYPE_GPT_PROTECTIVE: u8 = 0xEE;

fn le32(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]).into())
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    le32(bytes, at) | le32(bytes, at + 4) << 32
}

/// The partitions of a device of `sectors` sectors; empty without a table. `read` fills the buffer
/// from a sector on.
pub fn partitions(
    sectors: u64,
    block_size: u32,
    read: impl FnMut(u64, &mut [u8]) -> Result<()>,
) -> Result<Vec<Partition>> {
    let table = table(sectors, block_size, read)?;
    let entries = table.map(|table| table.entries).unwrap_or_default().into_iter();
    Ok(entries.filter(|entry| !entry.is_extended()).map(|entry| entry.partition).collect())
}

/// The table of a device of `sectors` sectors, if it has one. `read` fills the buffer from a sector
/// on.
pub fn table(
    sectors: u64,
    block_size: u32,
    mut read: impl FnMut(u64, &mut [u8]) -> Result<()>,
) -> Result<Option<Table>> {
    let mut mbr = [0; SECTOR];
    if sectors == 0 {
        return Ok(None);
    }
    read(0, &mut mbr)?;
    if mbr[510..] != [0x55, 0xAA] || is_boot_sector_of_a_volume(&mbr) {
        return Ok(None);
    }
    if slots(&mbr).any(|slot| slot.kind == TYPE_GPT_PROTECTIVE) {
        return gpt(sectors, block_size, &mut read);
    }
    let disk = Disk { sectors, id: le32(&mbr, 440) as u32 };
    let mut found = Vec::new();
    for (slot, number) in slots(&mbr).zip(1..) {
        if slot.is_extended() {
            disk.push(&mut found, number, slot.start, &slot);
            disk.logical(slot.start, &mut read, &mut found)?;
        } else if slot.kind != 0 {
            disk.push(&mut found, number, slot.start, &slot);
        }
    }
    found.sort_by_key(|entry| entry.partition.number);
    // A boot sector without partitions is no table worth the name.
    let empty = found.is_empty() && disk.id == 0;
    let id = format!("{:08x}", disk.id);
    Ok((!empty).then_some(Table { scheme: Scheme::Mbr, id, entries: found }))
}

/// A FAT volume without partitions has the same signature; its BPB tells it apart, as does a table
/// whose status bytes are neither 0 nor 0x80.
fn is_boot_sector_of_a_volume(sector: &[u8; SECTOR]) -> bool {
    let jump = matches!(sector[0], 0xEB | 0xE9);
    let sector_size = u16::from_le_bytes([sector[11], sector[12]]);
    let plausible_bpb = jump
        && matches!(sector_size, 512 | 1024 | 2048 | 4096)
        && sector[13].is_power_of_two()
        && matches!(sector[16], 1 | 2)
        && sector[21] >= 0xF0;
    plausible_bpb || (0..4).any(|slot| sector[446 + slot * 16] & 0x7F != 0)
}

struct Slot {
    kind: u8,
    boot: bool,
    start: u64,
    sectors: u64,
}

impl Slot {
    fn is_extended(&self) -> bool {
        matches!(self.kind, 0x05 | 0x0F | 0x85)
    }
}

fn slots(sector: &[u8; SECTOR]) -> impl Iterator<Item = Slot> {
    (0..4).map(|slot| {
        let at = 446 + slot * 16;
        let (start, sectors) = (le32(sector, at + 8), le32(sector, at + 12));
        Slot { kind: sector[at + 4], boot: sector[at] & 0x80 != 0, start, sectors }
    })
}

/// The partition, if it lies inside the device.
fn inside(device: u64, number: u32, start: u64, sectors: u64) -> Option<Partition> {
    let end = start.checked_add(sectors)?;
    (end <= device && start > 0 && sectors > 0).then_some(Partition { number, start, sectors })
}

/// A device with an MBR.
struct Disk {
    sectors: u64,
    id: u32,
}

impl Disk {
    fn push(&self, found: &mut Vec<Entry>, number: u32, start: u64, slot: &Slot) {
        if let Some(partition) = inside(self.sectors, number, start, slot.sectors) {
            found.push(Entry {
                partition,
                kind: format!("{:x}", slot.kind),
                uuid: format!("{:08x}-{number:02x}", self.id),
                name: String::new(),
                boot: slot.boot,
            });
        }
    }

    /// Extended boot records: each names one logical partition and the next record, both relative.
    fn logical(
        &self,
        base: u64,
        read: &mut impl FnMut(u64, &mut [u8]) -> Result<()>,
        found: &mut Vec<Entry>,
    ) -> Result<()> {
        let mut record = base;
        for number in 5..5 + MAX_LOGICAL {
            if record == 0 || record >= self.sectors {
                break;
            }
            let mut sector = [0; SECTOR];
            read(record, &mut sector)?;
            if sector[510..] != [0x55, 0xAA] {
                break;
            }
            let mut next = 0;
            for slot in slots(&sector).take(2) {
                if slot.is_extended() {
                    next = base + slot.start;
                } else if slot.kind != 0 {
                    self.push(found, number, record + slot.start, &slot);
                }
            }
            if next <= record {
                break; // the end, or a chain that runs backwards
            }
            record = next;
        }
        Ok(())
    }
}

fn gpt(
    device: u64,
    block_size: u32,
    read: &mut impl FnMut(u64, &mut [u8]) -> Result<()>,
) -> Result<Option<Table>> {
    let per_block = u64::from(block_size / SECTOR as u32).max(1);
    let mut header = [0; SECTOR];
    if device <= per_block {
        return Ok(None);
    }
    read(per_block, &mut header)?;
    let header_len = le32(&header, 12) as usize;
    let entry_len = le32(&header, 84) as usize;
    let count = le32(&header, 80) as usize;
    let table = le64(&header, 72).saturating_mul(per_block);
    let sane = &header[..8] == b"EFI PART"
        && (92..=SECTOR).contains(&header_len)
        && entry_len >= 128
        && entry_len.is_power_of_two()
        && entry_len <= 4096
        && table < device;
    if !sane {
        return Ok(None);
    }
    let checksum = le32(&header, 16) as u32;
    header[16..20].fill(0);
    if crc32(&header[..header_len]) != checksum {
        return Ok(None);
    }
    let bytes = count.saturating_mul(entry_len).min(MAX_GPT_BYTES);
    let mut raw = vec![0; bytes.next_multiple_of(SECTOR)];
    if table + (raw.len() / SECTOR) as u64 > device {
        return Ok(None);
    }
    read(table, &mut raw)?;
    if bytes == count.saturating_mul(entry_len) && crc32(&raw[..bytes]) != le32(&header, 88) as u32
    {
        return Ok(None);
    }
    let mut entries = Vec::new();
    for (entry, number) in raw[..bytes].chunks_exact(entry_len).zip(1..) {
        let used = entry[..16].iter().any(|&byte| byte != 0);
        let (first, last) = (le64(entry, 32), le64(entry, 40));
        if !used || last < first || last >= device {
            continue;
        }
        let sectors = (last - first + 1).saturating_mul(per_block);
        if let Some(partition) = inside(device, number, first * per_block, sectors) {
            let units = entry[56..128].as_chunks::<2>().0.iter().map(|&b| u16::from_le_bytes(b));
            let name = char::decode_utf16(units.take_while(|&unit| unit != 0));
            entries.push(Entry {
                partition,
                kind: guid(&entry[..16]),
                uuid: guid(&entry[16..32]),
                name: name.map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect(),
                boot: le64(entry, 48) & 4 != 0,
            });
        }
    }
    Ok(Some(Table { scheme: Scheme::Gpt, id: guid(&header[56..72]), entries }))
}

/// A GUID as text: its first three parts are little-endian (UEFI appendix A).
fn guid(bytes: &[u8]) -> String {
    let order = [3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15];
    let mut text = String::new();
    for (at, from) in order.into_iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let byte = bytes.get(from).copied().unwrap_or(0);
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// CRC-32 as GPT uses it (ISO 3309, reflected).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
