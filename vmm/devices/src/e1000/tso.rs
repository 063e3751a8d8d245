//! Checksums and segmentation as the context descriptor asks for them (8254x 3.5 and 3.6).
//!
//! The context names offsets, and the device does as told: it does not look for headers. When what it
//! was told is an ordinary TCP packet and the back end takes such whole, segmentation is left to
//! it; then the header says so.

use crate::net::packet::{Ip, set_word, word};
use crate::net::{Frame, MAX_FRAME, Offloads, checksum, offload};
use xinim_abi::hw::e1000::descriptor::{TxContext, context_command};
use xinim_abi::hw::virtio_net::gso;

const TCP_FIN_PSH: u8 = 0x09;

/// What a context descriptor said, offsets as numbers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context {
    ip_start: usize,
    ip_offset: usize,
    ip_end: usize,
    start: usize,
    offset: usize,
    end: usize,
    tcp: bool,
    ipv4: bool,
    pub header: usize,
    /// PAYLEN is not looked at: a packet ends with EOP.
    pub mss: usize,
}

impl Context {
    pub fn new(descriptor: &TxContext) -> Self {
        Self {
            ip_start: descriptor.ipcss.into(),
            ip_offset: descriptor.ipcso.into(),
            ip_end: descriptor.ipcse.into(),
            start: descriptor.tucss.into(),
            offset: descriptor.tucso.into(),
            end: descriptor.tucse.into(),
            tcp: descriptor.command & context_command::TCP != 0,
            ipv4: descriptor.command & context_command::IPV4 != 0,
            header: descriptor.header_length.into(),
            mss: descriptor.mss.into(),
        }
    }

    /// Inserts the checksums wanted. The checksum field's content (the pseudo header's sum) is
    /// part of what is summed up.
    pub fn insert(&self, frame: &mut [u8], ip: bool, transport: bool) {
        if transport {
            insert(frame, self.start, self.offset, self.end);
        }
        if ip {
            set_word(frame, self.ip_offset, 0);
            insert(frame, self.ip_start, self.ip_offset, self.ip_end);
        }
    }

    /// The packet as one frame for a back end that segments, if it is one that can be.
    pub fn whole(&self, data: &[u8], able: Offloads) -> Option<Frame> {
        let ip = Ip::parse_whole(data)?;
        let wanted = if ip.v6 { Offloads::TSO6 } else { Offloads::TSO4 };
        let tcp = ip.tcp_header(data)?;
        let ordinary = self.tcp
            && self.ipv4 != ip.v6
            && self.start == ip.payload
            && self.offset == ip.payload + 16
            && self.end == 0
            && self.header == ip.payload + tcp
            && (ip.v6 || (self.ip_start == ip.at && self.ip_offset == ip.at + 10))
            && able.contains(wanted | Offloads::CHECKSUM)
            && (1..=0xFFFF).contains(&self.mss)
            && data.len() <= MAX_FRAME.min(ip.at + 0xFFFF);
        if !ordinary {
            return None;
        }
        let mut data = data.to_vec();
        let length = data.len() - ip.at;
        if ip.v6 {
            set_word(&mut data, ip.at + 4, (length - 40) as u16);
        } else {
            set_word(&mut data, ip.at + 2, length as u16);
            set_word(&mut data, ip.at + 10, 0);
            let sum = checksum::checksum(&data[ip.at..ip.payload]);
            set_word(&mut data, ip.at + 10, sum);
        }
        let mut header = offload::open_checksum(&mut data, &ip)?;
        header.gso_type = if ip.v6 { gso::TCPV6 } else { gso::TCPV4 };
        header.gso_size = self.mss as u16;
        header.hdr_len = self.header as u16;
        Some(Frame { header, data })
    }

    /// Segments `data`: headers of [`Self::header`] bytes, then payload.
    pub fn segment(&self, data: &[u8], ip: bool, transport: bool) -> Vec<Vec<u8>> {
        let header = self.header.min(data.len());
        let payload = &data[header..];
        let mss = self.mss.max(1);
        let count = payload.len().div_ceil(mss).max(1);
        let mut segments = Vec::with_capacity(count);
        for index in 0..count {
            let from = index * mss;
            let part = &payload[from.min(payload.len())..(from + mss).min(payload.len())];
            let mut frame = Vec::with_capacity(header + part.len());
            frame.extend_from_slice(&data[..header]);
            frame.extend_from_slice(part);
            self.adjust(&mut frame, from, index, index + 1 == count);
            self.insert(&mut frame, ip, transport);
            segments.push(frame);
        }
        segments
    }

    /// Lengths, identification, sequence number and flags of one segment.
    fn adjust(&self, frame: &mut [u8], from: usize, index: usize, last: bool) {
        let behind = |start: usize, len: usize| len.saturating_sub(start);
        let ip_length = behind(self.ip_start, frame.len());
        if self.ipv4 {
            set_word(frame, self.ip_start + 2, ip_length as u16);
            let id = word(frame, self.ip_start + 4).wrapping_add(index as u16);
            set_word(frame, self.ip_start + 4, id);
        } else {
            set_word(frame, self.ip_start + 4, ip_length.saturating_sub(40) as u16);
        }
        let length = behind(self.start, frame.len());
        if self.tcp {
            let at = self.start + 4;
            let sequence = u32::from(word(frame, at)) << 16 | u32::from(word(frame, at + 2));
            let sequence = sequence.wrapping_add(from as u32);
            set_word(frame, at, (sequence >> 16) as u16);
            set_word(frame, at + 2, sequence as u16);
            if !last && let Some(flags) = frame.get_mut(self.start + 13) {
                *flags &= !TCP_FIN_PSH;
            }
        } else {
            set_word(frame, self.start + 4, length as u16);
        }
        // The driver's pseudo header sum is without the length.
        let sum = u64::from(word(frame, self.offset)) + length as u64;
        set_word(frame, self.offset, checksum::fold(sum));
    }
}

/// One checksum, over the frame from `start` to `end` (inclusive; 0: the frame's end).
fn insert(frame: &mut [u8], start: usize, offset: usize, end: usize) {
    let end = if end == 0 { frame.len() } else { (end + 1).min(frame.len()) };
    if start < end && offset + 2 <= frame.len() {
        let value = checksum::checksum(&frame[start..end]);
        set_word(frame, offset, value);
    }
}

/// The checksum of a legacy descriptor: from `start` on, inserted at `offset`.
pub fn insert_legacy(frame: &mut [u8], start: usize, offset: usize) {
    insert(frame, start, offset, 0);
}
