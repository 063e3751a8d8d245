//! IDENTIFY DEVICE data (ACS-3 7.12.7).

use super::{AtaDisk, MAX_MULTIPLE, MAX_TRIM_BLOCKS};
use xinim_abi::hw::ata::identify as word;
use xinim_abi::hw::ata::{LBA28_END, SECTOR_SIZE};

/// Words of the data, and their bytes.
type Words = [u16; word::WORDS];

/// Transfer modes of SET FEATURES: kind in bits 7:3, number in 2:0.
const MODE_PIO_DEFAULT: u8 = 0x00;
const MODE_PIO: u8 = 0x08;
const MODE_MULTIWORD: u8 = 0x20;
const MODE_ULTRA: u8 = 0x40;
/// Highest of each kind.
const PIO_MAX: u8 = 4;
const MULTIWORD_MAX: u8 = 2;
const ULTRA_MAX: u8 = 6;
/// Ultra DMA 6, as a SATA disk starts.
pub const DEFAULT_MODE: u8 = MODE_ULTRA | ULTRA_MAX;

/// Whether SET FEATURES takes this transfer mode.
pub fn takes_mode(mode: u8) -> bool {
    let number = mode & 7;
    match mode & !7 {
        MODE_PIO_DEFAULT => number <= 1,
        MODE_PIO => number <= PIO_MAX,
        MODE_MULTIWORD => number <= MULTIWORD_MAX,
        MODE_ULTRA => number <= ULTRA_MAX,
        _ => false,
    }
}

/// Text as IDENTIFY has it: padded with blanks, two characters a word, the first in the high byte.
pub fn text(words: &mut [u16], at: usize, length: usize, value: &str) {
    let printable = |byte: u8| if (0x20..0x7F).contains(&byte) { byte } else { b'?' };
    let mut bytes = value.bytes().map(printable).chain(std::iter::repeat(b' ')).take(length);
    for word in words.iter_mut().skip(at).take(length / 2) {
        let high = bytes.next().unwrap_or(b' ');
        let low = bytes.next().unwrap_or(b' ');
        *word = u16::from_be_bytes([high, low]);
    }
}

/// Little-endian bytes, with the signature and checksum of the last word.
pub fn finish(mut words: Words) -> Vec<u8> {
    words[word::INTEGRITY] = u16::from(word::INTEGRITY_SIGNATURE);
    let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let sum = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte));
    if let Some(last) = bytes.last_mut() {
        *last = sum.wrapping_neg();
    }
    bytes
}

/// The part that disks and CD-ROM drives have in common: text, transfer modes, SATA.
pub fn common(words: &mut Words, serial: &str, firmware: &str, model: &str, mode: u8) {
    text(words, word::SERIAL, word::SERIAL_LEN, serial);
    text(words, word::FIRMWARE, word::FIRMWARE_LEN, firmware);
    text(words, word::MODEL, word::MODEL_LEN, model);
    // Words 70:64 and 88 are valid.
    words[word::VALIDITY] = 0x0006;
    let selected = |kind: u8| match mode & !7 == kind {
        true => 0x0100 << (mode & 7),
        false => 0,
    };
    words[word::MULTIWORD_DMA] = 0x0007 | selected(MODE_MULTIWORD);
    words[word::PIO_MODES] = 0x0003;
    for cycle in 0..4 {
        words[word::CYCLE_TIMES + cycle] = 120;
    }
    words[word::ULTRA_DMA] = 0x007F | selected(MODE_ULTRA);
    // 1.5, 3 and 6 Gbit/s; 6 in use.
    words[word::SATA_CAPABILITIES] = 0x000E;
    words[word::SATA_CAPABILITIES_2] = 0x0006;
    // ATA/ATAPI-5 to ACS-3.
    words[word::MAJOR_VERSION] = 0x07E0;
    // Serial, SATA 3.2 and before.
    words[word::TRANSPORT_MAJOR] = 0x10FF;
}

impl AtaDisk {
    pub(super) fn identify(&self) -> Vec<u8> {
        let info = self.info();
        let sectors = self.sectors();
        let mut words: Words = [0; word::WORDS];
        let config = &self.config;
        common(&mut words, &config.serial, &config.firmware, &config.model, self.mode);
        // A fixed disk; what follows of the old geometry is for programs that still print it.
        words[word::GENERAL] = 0x0040;
        words[1] = (sectors / (16 * 63)).min(16_383) as u16;
        words[3] = 16;
        words[4] = 63 * SECTOR_SIZE as u16;
        words[5] = SECTOR_SIZE as u16;
        words[6] = 63;
        words[word::MAX_MULTIPLE] = 0x8000 | u16::from(MAX_MULTIPLE);
        // DMA, LBA, IORDY.
        words[word::CAPABILITIES] = 0x0F00;
        words[word::CAPABILITIES_2] = 0x4000;
        if self.multiple != 0 {
            words[word::CURRENT_MULTIPLE] = 0x0100 | u16::from(self.multiple);
        }
        put(&mut words, word::SECTORS_28, 2, sectors.min(LBA28_END - 1));
        words[word::QUEUE_DEPTH] = 31;
        // Queuing, and READ LOG DMA EXT as good as READ LOG EXT.
        words[word::SATA_CAPABILITIES] |= word::SATA_NCQ | 0x8000;
        self.command_sets(&mut words);
        words[word::HARDWARE_RESET] = 0;
        put(&mut words, word::SECTORS_48, 4, sectors);
        let mut shape = 0x4000;
        if info.physical_block > info.logical_block {
            shape |= 0x2000 | (info.physical_block / info.logical_block).ilog2() as u16;
        }
        if info.logical_block > SECTOR_SIZE as u32 {
            shape |= 0x1000;
            put(&mut words, 117, 2, u64::from(info.logical_block / 2));
        }
        words[word::SECTOR_SIZE] = shape;
        put_reversed(&mut words, word::WORLD_WIDE_NAME, world_wide_name(&config.serial));
        if self.trims() {
            words[word::TRIM] = 1;
            words[word::MAX_TRIM_BLOCKS] = MAX_TRIM_BLOCKS;
        }
        words[word::ROTATION] = 1;
        finish(words)
    }

    /// Words 82 to 87 and 119, 120: SMART, power management, write cache, look-ahead, NOP is not;
    /// LBA48, flushes; SMART logs, general purpose logs, FUA, world wide name.
    fn command_sets(&self, words: &mut Words) {
        let cache = self.info().write_cache;
        let bit = |on: bool, bit: u32| u16::from(on) << bit;
        words[word::SUPPORTED] = 1 | 1 << 3 | bit(cache, 5) | 1 << 6;
        words[word::SUPPORTED + 1] = 0x4000 | word::LBA48 | word::FLUSH | word::FLUSH_EXT;
        words[word::SUPPORTED + 2] = 0x4000 | 1 | 1 << 5 | word::FUA | 1 << 8;
        words[word::ENABLED] = bit(self.smart.enabled(), 0)
            | 1 << 3
            | bit(cache && self.write_cache, 5)
            | bit(self.look_ahead, 6);
        // Bit 15: words 119 and 120 are valid.
        words[word::ENABLED + 1] = 0x8000 | word::LBA48 | word::FLUSH | word::FLUSH_EXT;
        words[word::ENABLED + 2] = words[word::SUPPORTED + 2];
        words[119] = 0x4000;
        words[120] = 0x4000;
    }
}

/// A number over `count` words, the lowest first.
fn put(words: &mut Words, at: usize, count: usize, value: u64) {
    for (index, word) in words.iter_mut().skip(at).take(count).enumerate() {
        *word = (value >> (16 * index)) as u16;
    }
}

/// A number over four words, the highest first.
fn put_reversed(words: &mut Words, at: usize, value: u64) {
    for (index, word) in words.iter_mut().skip(at).take(4).enumerate() {
        *word = (value >> (48 - 16 * index)) as u16;
    }
}

/// NAA 5 with a locally made identifier, the same for the same serial number (FNV-1a).
fn world_wide_name(serial: &str) -> u64 {
    let hash = serial.bytes().fold(0xCBF2_9CE4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    });
    5 << 60 | hash >> 4
}
