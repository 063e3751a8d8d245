//! Partition tables: GPT (UEFI 2.10 section 5.3) and MBR with extended partitions.
//!
//! Numbers are those of Linux's device names: GPT entry order and MBR slots from 1, logical
//! partitions from 5. A table that lies (overlong, looping, wrong checksum) ends the list; it is
//! never trusted beyond the device's size.

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

const SECTOR: usize = 512;
/// Logical partitions followed before a chain counts as a loop.
const MAX_LOGICAL: u32 = 64;
/// Bytes of GPT entries read at most (the standard's 128 entries of 128 bytes, four times).
const MAX_GPT_BYTES: usize = 64 * 1024;

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
    mut read: impl FnMut(u64, &mut [u8]) -> Result<()>,
) -> Result<Vec<Partition>> {
    let mut mbr = [0; SECTOR];
    if sectors == 0 {
        return Ok(Vec::new());
    }
    read(0, &mut mbr)?;
    if mbr[510..] != [0x55, 0xAA] || is_boot_sector_of_a_volume(&mbr) {
        return Ok(Vec::new());
    }
    if slots(&mbr).any(|slot| slot.kind == TYPE_GPT_PROTECTIVE) {
        return gpt(sectors, block_size, &mut read);
    }
    let mut found = Vec::new();
    for (slot, number) in slots(&mbr).zip(1..) {
        if slot.is_extended() {
            logical(sectors, slot.start, &mut read, &mut found)?;
        } else if slot.kind != 0 {
            push(&mut found, sectors, number, slot.start, slot.sectors);
        }
    }
    found.sort_by_key(|partition| partition.number);
    Ok(found)
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
        Slot { kind: sector[at + 4], start: le32(sector, at + 8), sectors: le32(sector, at + 12) }
    })
}

fn push(found: &mut Vec<Partition>, device: u64, number: u32, start: u64, sectors: u64) {
    let inside = start.checked_add(sectors).is_some_and(|end| end <= device);
    if inside && start > 0 && sectors > 0 {
        found.push(Partition { number, start, sectors });
    }
}

/// Extended boot records: each names one logical partition and the next record, both relative.
fn logical(
    device: u64,
    base: u64,
    read: &mut impl FnMut(u64, &mut [u8]) -> Result<()>,
    found: &mut Vec<Partition>,
) -> Result<()> {
    let mut record = base;
    for number in 5..5 + MAX_LOGICAL {
        if record == 0 || record >= device {
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
                push(found, device, number, record + slot.start, slot.sectors);
            }
        }
        if next <= record {
            break; // the end, or a chain that runs backwards
        }
        record = next;
    }
    Ok(())
}

fn gpt(
    device: u64,
    block_size: u32,
    read: &mut impl FnMut(u64, &mut [u8]) -> Result<()>,
) -> Result<Vec<Partition>> {
    let per_block = u64::from(block_size / SECTOR as u32).max(1);
    let mut header = [0; SECTOR];
    if device <= per_block {
        return Ok(Vec::new());
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
        return Ok(Vec::new());
    }
    let checksum = le32(&header, 16) as u32;
    header[16..20].fill(0);
    if crc32(&header[..header_len]) != checksum {
        return Ok(Vec::new());
    }
    let bytes = count.saturating_mul(entry_len).min(MAX_GPT_BYTES);
    let mut entries = vec![0; bytes.next_multiple_of(SECTOR)];
    if table + (entries.len() / SECTOR) as u64 > device {
        return Ok(Vec::new());
    }
    read(table, &mut entries)?;
    if bytes == count.saturating_mul(entry_len)
        && crc32(&entries[..bytes]) != le32(&header, 88) as u32
    {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for (entry, number) in entries[..bytes].chunks_exact(entry_len).zip(1..) {
        let used = entry[..16].iter().any(|&byte| byte != 0);
        let (first, last) = (le64(entry, 32), le64(entry, 40));
        if used && last >= first && last < device {
            let sectors = (last - first + 1).saturating_mul(per_block);
            push(&mut found, device, number, first * per_block, sectors);
        }
    }
    Ok(found)
}

/// CRC-32 as GPT uses it (ISO 3309, reflected).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg())
        })
    })
}
