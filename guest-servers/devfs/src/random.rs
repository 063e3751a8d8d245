//! Random bytes: ChaCha20 (RFC 8439) with fast key erasure.
//!
//! Every request generates from the key and then replaces the key, so that earlier output cannot
//! be found out from the state. Good as far as the seed is: `rdrand` and the clock.

use core::mem;

/// A generator.
#[derive(Debug)]
pub struct Random {
    key: [u32; 8],
}

impl Random {
    pub fn new(seed: [u32; 8]) -> Self {
        let mut random = Self { key: seed };
        random.fill(&mut []);
        random
    }

    /// Fills `out`.
    pub fn fill(&mut self, out: &mut [u8]) {
        let first = block(&self.key, 0);
        let (next_key, _) = first.split_at(8);
        let key = mem::take(&mut self.key);
        self.key.copy_from_slice(next_key);
        for (chunk, counter) in out.chunks_mut(64).zip(1..) {
            for (bytes, word) in chunk.chunks_mut(4).zip(block(&key, counter)) {
                bytes.copy_from_slice(&word.to_le_bytes()[..bytes.len()]);
            }
        }
    }

    /// Mixes something in; it cannot make the state worse.
    pub fn stir(&mut self, data: &[u8]) {
        for chunk in data.chunks(32) {
            for (word, bytes) in self.key.iter_mut().zip(chunk.chunks(4)) {
                let mut four = [0; 4];
                four[..bytes.len()].copy_from_slice(bytes);
                *word ^= u32::from_le_bytes(four);
            }
            self.fill(&mut []);
        }
    }
}

/// One ChaCha20 block with nonce 0 and a 64-bit counter.
fn block(key: &[u32; 8], counter: u64) -> [u32; 16] {
    let mut start = [0; 16];
    // "expand 32-byte k"
    start[..4].copy_from_slice(&[0x6170_7865, 0x3320_646E, 0x7962_2D32, 0x6B20_6574]);
    start[4..12].copy_from_slice(key);
    start[12] = counter as u32;
    start[13] = (counter >> 32) as u32;
    let mut x = start;
    for _ in 0..10 {
        quarter(&mut x, 0, 4, 8, 12);
        quarter(&mut x, 1, 5, 9, 13);
        quarter(&mut x, 2, 6, 10, 14);
        quarter(&mut x, 3, 7, 11, 15);
        quarter(&mut x, 0, 5, 10, 15);
        quarter(&mut x, 1, 6, 11, 12);
        quarter(&mut x, 2, 7, 8, 13);
        quarter(&mut x, 3, 4, 9, 14);
    }
    for (word, start) in x.iter_mut().zip(start) {
        *word = word.wrapping_add(start);
    }
    x
}

fn quarter(x: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    x[a] = x[a].wrapping_add(x[b]);
    x[d] = (x[d] ^ x[a]).rotate_left(16);
    x[c] = x[c].wrapping_add(x[d]);
    x[b] = (x[b] ^ x[c]).rotate_left(12);
    x[a] = x[a].wrapping_add(x[b]);
    x[d] = (x[d] ^ x[a]).rotate_left(8);
    x[c] = x[c].wrapping_add(x[d]);
    x[b] = (x[b] ^ x[c]).rotate_left(7);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_block_of_the_zero_key() {
        // draft-agl-tls-chacha20poly1305-04 section 7, test vector 1.
        let words = block(&[0; 8], 0);
        let bytes: std::vec::Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        assert_eq!(bytes[..8], [0x76, 0xB8, 0xE0, 0xAD, 0xA0, 0xF1, 0x3D, 0x90]);
    }

    #[test]
    fn never_the_same_twice_and_depends_on_the_seed() {
        let (mut one, mut two) = (Random::new([1; 8]), Random::new([2; 8]));
        let (mut a, mut b, mut c) = ([0; 100], [0; 100], [0; 100]);
        one.fill(&mut a);
        one.fill(&mut b);
        two.fill(&mut c);
        assert!(a != b && a != c && a[..50] != a[50..]);
        let ones: u32 = a.iter().map(|byte| byte.count_ones()).sum();
        assert!((300..500).contains(&ones), "{ones} of 800 bits set");
        two.stir(b"something");
        two.fill(&mut b);
        two = Random::new([2; 8]);
        two.fill(&mut c);
        two.fill(&mut c);
        assert!(b != c);
    }
}
