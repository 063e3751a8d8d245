//! Words of the EEPROM (8254x chapter 5, 82574 chapter 6). 64 words of 16 bits.

pub const WORDS: usize = 64;
/// The Ethernet address, two bytes a word, the first in the low half.
pub const MAC: usize = 0;
/// Compatibility; bit 0 says (82574) that the checksum is valid.
pub const COMPATIBILITY: usize = 3;
pub const INIT_CONTROL_1: usize = 0x0A;
pub const SUBSYSTEM_ID: usize = 0x0B;
pub const SUBSYSTEM_VENDOR: usize = 0x0C;
pub const DEVICE_ID: usize = 0x0D;
pub const VENDOR_ID: usize = 0x0E;
pub const INIT_CONTROL_2: usize = 0x0F;
/// Brings the sum of all words to [`SUM`].
pub const CHECKSUM: usize = 0x3F;
pub const SUM: u16 = 0xBABA;

/// Whether the sum of the first 64 words is right.
pub fn is_valid(words: &[u16; WORDS]) -> bool {
    words.iter().fold(0u16, |sum, word| sum.wrapping_add(*word)) == SUM
}

/// Fills in the checksum.
pub fn seal(words: &mut [u16; WORDS]) {
    let sum = words[..CHECKSUM].iter().fold(0u16, |sum, word| sum.wrapping_add(*word));
    words[CHECKSUM] = SUM.wrapping_sub(sum);
}
