//! The Internet checksum (RFC 1071) and the Ethernet CRC (IEEE 802.3 3.2.9).

/// One's complement sum of big-endian 16-bit words, not folded; an odd last byte is a high half.
pub fn sum(data: &[u8]) -> u64 {
    let (words, rest) = data.as_chunks::<4>();
    let sum = words.iter().fold(0, |sum, word| sum + u64::from(u32::from_be_bytes(*word)));
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_be_bytes(last))
}

/// Folds a sum to 16 bits.
pub fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    sum as u16
}

/// The checksum of `data`, as it goes into a header.
pub fn checksum(data: &[u8]) -> u16 {
    !fold(sum(data))
}

/// Sum over the pseudo header of an upper-layer protocol: addresses, protocol, length.
pub fn pseudo_header(addresses: &[u8], protocol: u8, length: usize) -> u64 {
    sum(addresses) + u64::from(protocol) + length as u64
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 != 0 { value >> 1 ^ 0xEDB8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// The frame check sequence, as it follows the frame on the wire (little-endian).
pub fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc, byte| CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ crc >> 8)
}
