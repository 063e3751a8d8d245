//! What drivers hand over in memory: read by the checker itself, and remembered as a sum.

use crate::dma::Dma;
use std::sync::Arc;

/// Guest memory as the checker reads it.
pub struct Memory(Arc<dyn Dma>);

/// A run of guest memory and what it held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub address: u64,
    pub length: usize,
    sum: u64,
}

/// Longest run that is remembered, bytes; enough for any ring entry or table.
const LONGEST: usize = 64 << 10;

impl Memory {
    pub fn new(dma: Arc<dyn Dma>) -> Self {
        Self(dma)
    }

    /// `None`: not memory, or longer than anything the checker looks at.
    pub fn bytes(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        if length > LONGEST {
            return None;
        }
        let mut data = vec![0; length];
        self.0.read(address, &mut data).ok().map(|()| data)
    }

    /// Remembers what is there now.
    pub fn seal(&self, address: u64, length: usize) -> Option<Sealed> {
        let sum = sum(&self.bytes(address, length)?);
        Some(Sealed { address, length, sum })
    }

    /// Whether it is unchanged.
    pub fn intact(&self, sealed: &Sealed) -> bool {
        self.bytes(sealed.address, sealed.length).is_some_and(|data| sum(&data) == sealed.sum)
    }
}

/// FNV-1a: nobody tries to get around it, and it needs no table.
fn sum(data: &[u8]) -> u64 {
    const START: u64 = 0xCBF2_9CE4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01B3;
    data.iter().fold(START, |sum, &byte| (sum ^ u64::from(byte)).wrapping_mul(PRIME))
}
