//! Receive side scaling of the 82574L (82574 7.1.10): the Toeplitz hash over addresses and ports
//! picks one of two queues through the redirection table.

use super::E1000;
use crate::net::packet::{Ip, PROTOCOL_TCP};
use xinim_abi::hw::e1000::descriptor::rss_type;
use xinim_abi::hw::e1000::reg;

/// MRQC: multiple receive queues, in the low bits; and what is hashed.
const ENABLE_MASK: u32 = 3;
const TCP_IPV4: u32 = 1 << 16;
const IPV4: u32 = 1 << 17;
const IPV6: u32 = 1 << 20;
const TCP_IPV6: u32 = 1 << 21;
const KEY_BYTES: usize = 40;

/// The hash of `input` (at most 36 bytes) under a key of 40 bytes.
pub fn toeplitz(key: &[u8; KEY_BYTES], input: &[u8]) -> u32 {
    let mut hash = 0;
    for (index, byte) in input.iter().enumerate().take(KEY_BYTES - 4) {
        let window = key[index..].iter().take(5).fold(0u64, |w, b| w << 8 | u64::from(*b));
        for bit in (0..8).rev() {
            if byte >> bit & 1 != 0 {
                hash ^= (window >> (bit + 1)) as u32;
            }
        }
    }
    hash
}

impl E1000 {
    /// Type and hash of a packet; none without RSS.
    pub(super) fn rss_hash(&self, data: &[u8]) -> (u32, u32) {
        let mrqc = self.regs[reg::MRQC];
        if !self.model.is_82574() || mrqc & ENABLE_MASK == 0 {
            return (rss_type::NONE, 0);
        }
        let Some(ip) = Ip::parse(data) else { return (rss_type::NONE, 0) };
        let tcp = ip.protocol == PROTOCOL_TCP && ip.checksum_offset().is_some();
        let (with_ports, plain) = if ip.v6 {
            ((TCP_IPV6, rss_type::IPV6_TCP), (IPV6, rss_type::IPV6))
        } else {
            ((TCP_IPV4, rss_type::IPV4_TCP), (IPV4, rss_type::IPV4))
        };
        let mut input = data.get(ip.addresses()).unwrap_or(&[]).to_vec();
        let kind = if tcp && mrqc & with_ports.0 != 0 {
            input.extend(ip.ports(data).unwrap_or(0).to_be_bytes());
            with_ports.1
        } else if mrqc & plain.0 != 0 {
            plain.1
        } else {
            return (rss_type::NONE, 0);
        };
        let mut key = [0; KEY_BYTES];
        for (index, part) in (0u32..).zip(key.chunks_exact_mut(4)) {
            part.copy_from_slice(&self.regs[reg::RSSRK + 4 * index].to_le_bytes());
        }
        (kind, toeplitz(&key, &input))
    }

    /// The queue for a packet.
    pub(super) fn rss_queue(&self, data: &[u8]) -> usize {
        let (kind, hash) = self.rss_hash(data);
        if kind == rss_type::NONE {
            return 0;
        }
        let entry = hash & 0x7F;
        let word = self.regs[reg::RETA + (entry & !3)];
        usize::from(word.to_le_bytes()[(entry & 3) as usize] & 0x80 != 0)
    }
}
