//! A connection's bytes in memory that outlives the server.
//!
//! ```text
//! 0          three words, each twice and with its complement: UNACKED, ACKED, FIN
//! 64         out  what the peer has not acknowledged; the byte numbered n at n mod length
//! 64 + out   in   what was acknowledged and not read
//! ```
//! Numbers are those on the wire (RFC 9293, 3.4); lengths are powers of two, so that they divide the
//! numbers' space. A byte is here before the frame or the answer goes out that says it was taken; which
//! bytes count is said by the words and by the socket's record.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_keep::Area;

/// Number of the first byte that the peer has not acknowledged, when it was last looked at.
pub const UNACKED: usize = 0;
/// The last number that the peer was told was taken, its end of the stream not counted.
pub const ACKED: usize = 1;
/// 1: the peer's end of the stream was taken, which is behind the byte before `ACKED`.
pub const FIN: usize = 2;

const HEAD: usize = 64;
const WORD: usize = 8;

/// Bytes of memory for buffers of these lengths.
pub fn len(out: usize, incoming: usize) -> usize {
    HEAD + ring(out) + ring(incoming)
}

/// The length of a ring that a buffer fits into.
fn ring(buffer: usize) -> usize {
    buffer.next_power_of_two()
}

pub struct Mirror {
    area: Box<dyn Area>,
    out: usize,
    incoming: usize,
}

/// Which ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    Out,
    In,
}

impl Mirror {
    /// `Inval`: the memory is too small for buffers of `out` and `incoming` bytes.
    pub fn new(area: Box<dyn Area>, out: usize, incoming: usize) -> Result<Self> {
        if area.len() < len(out, incoming) {
            return Err(Error::Inval);
        }
        Ok(Self { area, out: ring(out), incoming: ring(incoming) })
    }

    /// Bytes that fit into a ring.
    pub fn capacity(&self, way: Way) -> usize {
        match way {
            Way::Out => self.out,
            Way::In => self.incoming,
        }
    }

    pub fn set(&self, word: usize, value: u32) -> Result<()> {
        let bytes = (u64::from(value) | u64::from(!value) << 32).to_le_bytes();
        // Whoever dies in the middle of one leaves the other.
        self.area.write(2 * word * WORD, &bytes)?;
        self.area.write((2 * word + 1) * WORD, &bytes)
    }

    /// `BadMessage`: it is damaged.
    pub fn word(&self, word: usize) -> Result<u32> {
        for copy in 0..2 {
            let mut bytes = [0; WORD];
            self.area.read((2 * word + copy) * WORD, &mut bytes)?;
            let both = u64::from_le_bytes(bytes);
            if both as u32 == !((both >> 32) as u32) {
                return Ok(both as u32);
            }
        }
        Err(Error::BadMessage)
    }

    /// The two parts of a ring in which `count` bytes from number `first` lie: place and length.
    fn parts(&self, way: Way, first: u32, count: usize) -> Result<[(usize, usize); 2]> {
        let (base, len) = match way {
            Way::Out => (HEAD, self.out),
            Way::In => (HEAD + self.out, self.incoming),
        };
        if count > len {
            return Err(Error::Inval);
        }
        let at = first as usize & (len - 1);
        let head = count.min(len - at);
        Ok([(base + at, head), (base, count - head)])
    }

    /// `Inval`: more than the ring holds.
    pub fn put(&self, way: Way, first: u32, bytes: &[u8]) -> Result<()> {
        let [(at, head), (rest_at, _)] = self.parts(way, first, bytes.len())?;
        self.area.write(at, &bytes[..head])?;
        self.area.write(rest_at, &bytes[head..])
    }

    pub fn get(&self, way: Way, first: u32, count: usize) -> Result<Vec<u8>> {
        let [(at, head), (rest_at, _)] = self.parts(way, first, count)?;
        let mut bytes = vec![0; count];
        self.area.read(at, &mut bytes[..head])?;
        self.area.read(rest_at, &mut bytes[head..])?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::vault::Memory;
    use proptest::prelude::*;

    fn mirror() -> (Memory, Mirror) {
        let memory = Memory::new(len(4096, 8000));
        (memory.clone(), Mirror::new(Box::new(memory), 4096, 8000).unwrap())
    }

    #[test]
    fn one_copy_of_a_word_may_be_damaged() {
        let (memory, mirror) = mirror();
        for (word, value) in [(UNACKED, 0), (ACKED, u32::MAX), (FIN, 1)] {
            mirror.set(word, value).unwrap();
            memory.flip(2 * word * WORD + 3);
            assert_eq!(mirror.word(word), Ok(value));
            memory.flip((2 * word + 1) * WORD);
            assert_eq!(mirror.word(word), Err(Error::BadMessage));
        }
    }

    proptest! {
        /// Both ways lie apart, and numbers wrap around.
        #[test]
        fn bytes_come_back(first in any::<u32>(), out in 0usize..4096, incoming in 0usize..8192) {
            let (_, mirror) = mirror();
            let (a, b) = (vec![0xAA; out], vec![0xBB; incoming]);
            mirror.put(Way::Out, first, &a).unwrap();
            mirror.put(Way::In, first ^ 77, &b).unwrap();
            prop_assert_eq!(mirror.get(Way::Out, first, out).unwrap(), a);
            prop_assert_eq!(mirror.get(Way::In, first ^ 77, incoming).unwrap(), b);
            prop_assert_eq!(mirror.put(Way::Out, first, &[0; 4097]), Err(Error::Inval));
        }
    }
}
