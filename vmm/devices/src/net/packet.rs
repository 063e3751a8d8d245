//! Where the headers of a frame are. Nothing in a frame is trusted: whatever does not fit is
//! simply not there.

use super::{ETHERNET_HEADER, checksum};
use std::ops::Range;

pub const TYPE_IPV4: u16 = 0x0800;
pub const TYPE_ARP: u16 = 0x0806;
pub const TYPE_VLAN: u16 = 0x8100;
pub const TYPE_IPV6: u16 = 0x86DD;
pub const TYPE_MAC_CONTROL: u16 = 0x8808;
pub const PROTOCOL_TCP: u8 = 6;
pub const PROTOCOL_UDP: u8 = 17;
/// IPv6 extension headers followed at most.
const EXTENSIONS_MAX: usize = 8;

/// A big-endian word; 0 beyond the end.
pub fn word(data: &[u8], at: usize) -> u16 {
    data.get(at..at + 2).map_or(0, |b| u16::from_be_bytes([b[0], b[1]]))
}

/// Stores a big-endian word, where there is room.
pub fn set_word(data: &mut [u8], at: usize, value: u16) {
    if let Some(place) = data.get_mut(at..at + 2) {
        place.copy_from_slice(&value.to_be_bytes());
    }
}

/// An IP packet in a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip {
    pub v6: bool,
    /// Offset of the IP header.
    pub at: usize,
    /// Offset of the upper-layer header.
    pub payload: usize,
    /// End of the packet as the header says; padding may follow.
    pub end: usize,
    pub protocol: u8,
    /// Only a part of a datagram: no upper-layer header, or no whole checksum.
    pub fragment: bool,
}

/// Offset behind the Ethernet header and up to two VLAN tags, and the type found there.
pub fn network_layer(frame: &[u8]) -> (usize, u16) {
    let mut at = ETHERNET_HEADER - 2;
    for _ in 0..2 {
        if word(frame, at) != TYPE_VLAN {
            break;
        }
        at += 4;
    }
    (at + 2, word(frame, at))
}

impl Ip {
    pub fn parse(frame: &[u8]) -> Option<Self> {
        match network_layer(frame) {
            (at, TYPE_IPV4) => Self::parse_v4(frame, at),
            (at, TYPE_IPV6) => Self::parse_v6(frame, at),
            _ => None,
        }
    }

    fn parse_v4(frame: &[u8], at: usize) -> Option<Self> {
        let header = frame.get(at..at + 20)?;
        let length = usize::from(header[0] & 15) * 4;
        let total = usize::from(word(header, 2));
        let end = at + total;
        if header[0] >> 4 != 4 || length < 20 || total < length || end > frame.len() {
            return None;
        }
        let fragment = word(header, 6) & 0x3FFF != 0;
        Some(Self { v6: false, at, payload: at + length, end, protocol: header[9], fragment })
    }

    fn parse_v6(frame: &[u8], at: usize) -> Option<Self> {
        let header = frame.get(at..at + 40)?;
        let end = at + 40 + usize::from(word(header, 4));
        if header[0] >> 4 != 6 || end > frame.len() {
            return None;
        }
        let (mut protocol, mut payload, mut fragment) = (header[6], at + 40, false);
        for _ in 0..EXTENSIONS_MAX {
            match protocol {
                // Hop-by-hop, routing, destination options.
                0 | 43 | 60 if payload + 8 <= end => {
                    protocol = frame[payload];
                    payload += 8 * (usize::from(frame[payload + 1]) + 1);
                }
                44 => {
                    fragment = true;
                    break;
                }
                _ => break,
            }
        }
        (payload <= end).then_some(Self { v6: true, at, payload, end, protocol, fragment })
    }

    /// The same for a packet whose length field is not filled in yet: it ends with the frame.
    pub fn parse_whole(frame: &[u8]) -> Option<Self> {
        let (at, protocol) = network_layer(frame);
        let mut copy = frame.get(..frame.len().min(at + 256))?.to_vec();
        let length = copy.len().checked_sub(at)?;
        match protocol {
            TYPE_IPV4 => set_word(&mut copy, at + 2, length as u16),
            _ => set_word(&mut copy, at + 4, length.checked_sub(40)? as u16),
        }
        Some(Self { end: frame.len(), ..Self::parse(&copy)? })
    }

    /// Where both addresses are, source first.
    pub fn addresses(&self) -> Range<usize> {
        if self.v6 { self.at + 8..self.at + 40 } else { self.at + 12..self.at + 20 }
    }

    /// Offset of the checksum in the upper-layer header, for TCP and UDP that are all there.
    pub fn checksum_offset(&self) -> Option<usize> {
        let (offset, minimum) = match self.protocol {
            PROTOCOL_TCP => (16, 20),
            PROTOCOL_UDP => (6, 8),
            _ => return None,
        };
        (!self.fragment && self.payload + minimum <= self.end).then_some(offset)
    }

    /// Sum over the pseudo header for the upper layer as long as it is.
    pub fn pseudo_header(&self, frame: &[u8]) -> u64 {
        let addresses = frame.get(self.addresses()).unwrap_or(&[]);
        checksum::pseudo_header(addresses, self.protocol, self.end - self.payload)
    }

    /// Length of the TCP header, when it is one and fits.
    pub fn tcp_header(&self, frame: &[u8]) -> Option<usize> {
        if self.protocol != PROTOCOL_TCP || self.fragment {
            return None;
        }
        let length = usize::from(*frame.get(self.payload + 12)? >> 4) * 4;
        (length >= 20 && self.payload + length <= self.end).then_some(length)
    }

    /// Whether the IPv4 header's own checksum is right; IPv6 has none.
    pub fn header_is_valid(&self, frame: &[u8]) -> bool {
        self.v6 || frame.get(self.at..self.payload).is_some_and(|h| checksum::checksum(h) == 0)
    }

    /// Whether the TCP or UDP checksum is right; `None`: there is nothing to check.
    pub fn payload_is_valid(&self, frame: &[u8]) -> Option<bool> {
        let at = self.payload + self.checksum_offset()?;
        if self.protocol == PROTOCOL_UDP && word(frame, at) == 0 {
            return None;
        }
        let sum = self.pseudo_header(frame) + checksum::sum(frame.get(self.payload..self.end)?);
        Some(checksum::fold(sum) == 0xFFFF)
    }

    /// Ports of TCP and UDP as they follow each other, source first.
    pub fn ports(&self, frame: &[u8]) -> Option<u32> {
        self.checksum_offset()?;
        let at = self.payload;
        Some(u32::from(word(frame, at)) << 16 | u32::from(word(frame, at + 2)))
    }
}
