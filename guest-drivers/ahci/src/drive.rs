//! What a drive says of itself: IDENTIFY (PACKET) DEVICE judged (ACS-3 7.12, 7.13), and the capacity of
//! a CD-ROM (MMC 6.23).

use xinim_abi::hw::ata::{LBA28_END, identify};
use xinim_abi::hw::atapi;
use xinim_abi::services::block::{Text, info};
use xinim_block_service::device::{BYTES_MAX, RANGE_MAX};
use xinim_block_service::{Limits, Unit};

/// Words that hardware definitions leave to their users: see the section at each.
mod word {
    /// 49: DMA, LBA (7.12.7.21).
    pub const DMA: u16 = 1 << 8;
    pub const LBA: u16 = 1 << 9;
    /// 0: removable medium (7.12.7.2).
    pub const REMOVABLE: u16 = 1 << 7;
    /// 62 of packet devices: DMADIR is needed (7.13.6).
    pub const PACKET_DMA: usize = 62;
    pub const DMADIR: u16 = 1 << 15;
    /// 106: several logical sectors in a physical one; logical sectors longer than 256 words; the
    /// word is valid (7.12.7.54).
    pub const MANY_LOGICAL: u16 = 1 << 13;
    pub const LONG_LOGICAL: u16 = 1 << 12;
    /// 117, 118: words of a logical sector.
    pub const LOGICAL_WORDS: usize = 117;
    /// 0: the answer is not complete.
    pub const INCOMPLETE: u16 = 1 << 2;
}

/// How data move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// READ/WRITE FPDMA QUEUED, this many at once.
    Queued(u32),
    Dma,
    Pio,
    /// Packet commands.
    Packet,
}

/// A drive's abilities, as its commands need to know them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drive {
    pub mode: Mode,
    pub lba48: bool,
    pub flush: bool,
    pub flush_ext: bool,
    /// WRITE DMA FUA EXT, and with it the FUA bit of queued writes.
    pub fua: bool,
    /// Packet commands by DMA want the direction in the features.
    pub dmadir: bool,
    /// Bytes of a logical sector.
    pub sector_size: u32,
}

/// A drive that cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unusable(pub &'static str);

/// The 256 words of an IDENTIFY answer.
pub struct Words<'a>(pub &'a [u8; 512]);

impl Words<'_> {
    fn get(&self, word: usize) -> u16 {
        u16::from_le_bytes([self.0[2 * word], self.0[2 * word + 1]])
    }

    fn number(&self, word: usize, words: usize) -> u64 {
        (0..words).rev().fold(0, |value, i| value << 16 | u64::from(self.get(word + i)))
    }

    /// Text of `len` bytes: two characters in a word, the first one in the high byte (3.3.10).
    fn text(&self, word: usize, len: usize) -> Text {
        let mut bytes = [0; identify::MODEL_LEN];
        for (i, byte) in bytes.iter_mut().enumerate().take(len) {
            *byte = self.0[2 * word + (i ^ 1)];
        }
        Text::from_device(&bytes[..len])
    }

    /// Words 83, 84, 86 and 87 say with their bits 15:14 whether they are valid.
    fn valid(&self, word: usize) -> u16 {
        let value = self.get(word);
        if value & 0xC000 == 0x4000 { value } else { 0 }
    }
}

/// Judges the answer of an ATA disk on an HBA with `slots` command slots, `queuing` if that knows NCQ.
/// The limits that the HBA sets (bytes, segments) are put into the unit by the caller.
pub fn disk(data: &[u8; 512], slots: u32, queuing: bool) -> Result<(Drive, Unit), Unusable> {
    let words = Words(data);
    let general = words.get(identify::GENERAL);
    if general & 0x8000 != 0 {
        return Err(Unusable("not a disk"));
    }
    if general & word::INCOMPLETE != 0 {
        return Err(Unusable("incomplete identification"));
    }
    let capabilities = words.get(identify::CAPABILITIES);
    if capabilities & word::LBA == 0 {
        return Err(Unusable("no LBA"));
    }
    let commands = words.valid(identify::SUPPORTED + 1);
    let lba48 = commands & identify::LBA48 != 0;
    let short = words.number(identify::SECTORS_28, 2);
    let long = words.number(identify::SECTORS_48, 4);
    let sectors = if lba48 && long > 0 { long } else { short.min(LBA28_END - 1) };
    let geometry = words.valid(identify::SECTOR_SIZE);
    let sector_size = match geometry & word::LONG_LOGICAL {
        0 => 512,
        _ => words.number(word::LOGICAL_WORDS, 2).saturating_mul(2),
    };
    if !sector_size.is_power_of_two() || !(512..=65_536).contains(&sector_size) {
        return Err(Unusable("odd sector size"));
    }
    let sector_size = sector_size as u32;
    let sectors = sectors.checked_mul(u64::from(sector_size) / 512).filter(|&n| n <= 1 << 54);
    let sectors = sectors.ok_or(Unusable("impossible capacity"))?;
    let together = if geometry & word::MANY_LOGICAL != 0 { geometry & 0xF } else { 0 };
    let ncq = words.get(identify::SATA_CAPABILITIES);
    // All bits set, or none: the word means nothing (7.12.7.37).
    let ncq = queuing && lba48 && ncq != 0xFFFF && ncq & identify::SATA_NCQ != 0;
    let depth = (u32::from(words.get(identify::QUEUE_DEPTH) & 0x1F) + 1).min(slots);
    let mode = match (ncq, capabilities & word::DMA != 0) {
        (true, _) => Mode::Queued(depth),
        (false, true) => Mode::Dma,
        (false, false) => Mode::Pio,
    };
    let fua = lba48 && words.valid(identify::SUPPORTED + 2) & identify::FUA != 0;
    let drive = Drive {
        mode,
        lba48,
        flush: commands & identify::FLUSH != 0,
        flush_ext: lba48 && commands & identify::FLUSH_EXT != 0,
        fua,
        dmadir: false,
        sector_size,
    };
    let mut flags = 0;
    let mut set = |flag, on| flags |= if on { flag } else { 0 };
    set(info::WRITE_CACHE, words.get(identify::ENABLED) & identify::WRITE_CACHE != 0);
    set(info::FUA, fua && mode != Mode::Pio);
    set(info::REMOVABLE, general & word::REMOVABLE != 0);
    let rotation = words.get(identify::ROTATION);
    set(info::ROTATIONAL, rotation > 1 && rotation < 0xFFFF);
    let trims = words.get(identify::TRIM) & 1 != 0 && lba48;
    // One block of 64 ranges with 65535 sectors each.
    let longest = 64 * 65_535 * u64::from(sector_size);
    let longest = longest.min(u64::from(RANGE_MAX)) as u32;
    let physical_block = sector_size << together;
    let limits = Limits {
        physical_block,
        discard_granule: physical_block,
        max_discard: if trims { longest - longest % sector_size } else { 0 },
        max_zeroes: 0,
        rotation: u32::from(rotation),
    };
    // What one command can count.
    let most = if lba48 { 65_536 } else { 256 } * u64::from(sector_size);
    let unit = Unit {
        sectors,
        block_size: sector_size,
        flags,
        max_bytes: most.min(BYTES_MAX) as u32,
        max_segments: 0,
        depth: match mode {
            Mode::Queued(depth) => depth,
            _ => slots,
        },
        limits,
        model: words.text(identify::MODEL, identify::MODEL_LEN),
        serial: words.text(identify::SERIAL, identify::SERIAL_LEN),
        firmware: words.text(identify::FIRMWARE, identify::FIRMWARE_LEN),
    };
    Ok((drive, unit))
}

/// Judges the answer of a packet device: CD-ROMs are used, others are not. No medium yet.
pub fn cd_rom(data: &[u8; 512]) -> Result<(Drive, Unit), Unusable> {
    let words = Words(data);
    let general = words.get(identify::GENERAL);
    // Bits 15:14 say packet device, 12:8 the command set: 5 is CD-ROM; 1:0 the packet size: 0 is 12.
    if general & 0xC000 != 0x8000 || general >> 8 & 0x1F != 5 {
        return Err(Unusable("a packet device, but no CD-ROM"));
    }
    if general & 3 != 0 {
        return Err(Unusable("packets of 16 bytes"));
    }
    if words.get(identify::CAPABILITIES) & word::DMA == 0 {
        return Err(Unusable("no DMA"));
    }
    let block = atapi::BLOCK_SIZE as u32;
    let drive = Drive {
        mode: Mode::Packet,
        lba48: false,
        flush: false,
        flush_ext: false,
        fua: false,
        dmadir: words.get(word::PACKET_DMA) & word::DMADIR != 0,
        sector_size: block,
    };
    let unit = Unit {
        sectors: 0,
        block_size: block,
        flags: info::READ_ONLY | info::REMOVABLE | info::CD_ROM,
        max_bytes: BYTES_MAX as u32,
        max_segments: 0,
        depth: 1,
        limits: Limits { physical_block: block, discard_granule: block, ..Limits::default() },
        model: words.text(identify::MODEL, identify::MODEL_LEN),
        serial: words.text(identify::SERIAL, identify::SERIAL_LEN),
        firmware: words.text(identify::FIRMWARE, identify::FIRMWARE_LEN),
    };
    Ok((drive, unit))
}

/// Capacity in 512-byte sectors from the answer to READ CAPACITY: address of the last block and bytes
/// of a block, big-endian. `None` for blocks other than a data CD's.
pub fn capacity(answer: &[u8; 8]) -> Option<u64> {
    let [a, b, c, d, e, f, g, h] = *answer;
    let (last, block) = (u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h]));
    let blocks = u64::from(last) + 1;
    (block == atapi::BLOCK_SIZE as u32).then_some(blocks * (atapi::BLOCK_SIZE as u64 / 512))
}

#[cfg(test)]
#[path = "drive_tests.rs"]
mod tests;
