//! From bytes to a damaged image.
//!
//! ```text
//! base   1 byte    which base image
//! steps  each      1 byte: what to do, and its operands; a step that lacks operands ends the list
//!   0..=3   place u16, value 1, 2, 4 or 8 bytes    overwrites where the base is not empty
//!   4       offset u32, 4 bytes                    overwrites anywhere
//!   5       from u16, to u16                       copies the sector around one place to another
//!   6       sectors u16                            cuts the image
//!   7       the rest seeds what is done with the image
//! ```
//! A *place* counts bytes of the base that are not in long runs of zeros: there the structures stand.

use crate::bases::Base;

const SECTOR: usize = 512;
/// Steps taken from one input.
const STEPS: usize = 64;

/// What a recipe makes.
pub struct Damaged {
    pub bytes: Vec<u8>,
    /// For the operations on it.
    pub seed: u64,
}

/// The operands that are left.
struct Operands<'a>(&'a [u8]);

impl Operands<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn u16(&mut self) -> Option<usize> {
        self.take().map(|bytes| u16::from_le_bytes(bytes).into())
    }
}

/// Never fails: what a recipe lacks is left out.
pub fn apply(data: &[u8], bases: &[Base]) -> Damaged {
    let mut operands = Operands(data);
    let which = operands.take().map_or(0, |[byte]| usize::from(byte) % bases.len());
    let base = &bases[which];
    let mut bytes = base.bytes.clone();
    for _ in 0..STEPS {
        if step(&mut operands, base, &mut bytes).is_none() {
            break;
        }
    }
    // FNV-1a: close inputs lead to other operations.
    let seed = operands.0.iter().fold(0xCBF2_9CE4_8422_2325, |hash: u64, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    });
    Damaged { bytes, seed }
}

fn step(operands: &mut Operands<'_>, base: &Base, bytes: &mut Vec<u8>) -> Option<()> {
    let [what] = operands.take()?;
    match what % 8 {
        width @ 0..=3 => {
            let at = base.place(operands.u16()?);
            let (value, rest) = operands.0.split_at_checked(1 << width)?;
            operands.0 = rest;
            overwrite(bytes, at, value);
        }
        4 => {
            let at = u32::from_le_bytes(operands.take()?) as usize % bytes.len();
            let value: [u8; 4] = operands.take()?;
            overwrite(bytes, at, &value);
        }
        5 => {
            let sector = |place: usize, bytes: &[u8]| {
                let start = base.place(place) / SECTOR * SECTOR;
                (start + SECTOR <= bytes.len()).then_some(start)
            };
            let (from, to) = (operands.u16()?, operands.u16()?);
            if let (Some(from), Some(to)) = (sector(from, bytes), sector(to, bytes)) {
                bytes.copy_within(from..from + SECTOR, to);
            }
        }
        6 => {
            let sectors = operands.u16()?.max(1);
            bytes.truncate(sectors * SECTOR);
        }
        _ => return None,
    }
    Some(())
}

fn overwrite(bytes: &mut [u8], at: usize, value: &[u8]) {
    let end = (at + value.len()).min(bytes.len());
    if let Some(part) = bytes.get_mut(at..end) {
        let len = part.len();
        part.copy_from_slice(&value[..len]);
    }
}
