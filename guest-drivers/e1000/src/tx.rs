//! The transmit ring (8254x 3.3): a context descriptor where offsets change, then data descriptors.
//!
//! A frame to be cut into segments gets a copy of its headers in an area of its own, as the device wants
//! them: the IP length zero, the pseudo-header's sum without the length (8254x 3.5.6). Frames are done in
//! order, each with its last descriptor.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::hw::e1000::descriptor::{
    TX_DD, TX_TYPE_CONTEXT, TX_TYPE_DATA, TX_TYPE_SHIFT, TxContext, TxDesc, context_command,
    tx_command, tx_options,
};
use xinim_abi::services::link::{TX_ENTRIES, Transmit, transmit};
use xinim_driver_kit::{DmaBuffer, Segment, SharedMemory, Slice};
use xinim_link_service::{Events, Peek};

use crate::ring::Ring;

/// Descriptors.
pub const ENTRIES: u32 = 512;
/// Bytes of the area of one frame's headers.
pub const AREA: usize = 256;
/// Bytes one descriptor carries: well below the 16288 allowed (8254x 3.3.6).
const PIECE: u32 = 8192;

#[derive(Clone, Debug)]
struct Sent {
    cookie: u32,
    how: Transmit,
    data: Vec<Segment>,
    /// Its last descriptor.
    last: u32,
    since: u64,
}

pub struct TxRing<B> {
    pub ring: Ring<B>,
    areas: Slice<B>,
    sent: VecDeque<Sent>,
    /// What the device has as context.
    context: Option<TxContext>,
}

impl<B: DmaBuffer> TxRing<B> {
    /// `areas`: [`AREA`] bytes for each cookie.
    pub fn new(ring: Slice<B>, areas: Slice<B>) -> Self {
        Self { ring: Ring::new(ring, ENTRIES), areas, sent: VecDeque::new(), context: None }
    }

    /// The ring as the reset device finds it; what was in flight stays noted.
    pub fn clear(&mut self) {
        self.ring.clear();
        self.context = None;
    }

    pub fn forget(&mut self) {
        self.sent.clear();
    }

    /// Cookies of everything in flight, which is given up.
    pub fn give_up(&mut self, events: &mut Events) {
        events.sent.extend(self.sent.drain(..).map(|sent| sent.cookie));
    }

    /// When the oldest frame in flight was sent, in ns.
    pub fn oldest(&self) -> Option<u64> {
        self.sent.front().map(|sent| sent.since)
    }

    /// `Again`: no room; `Inval`: not a frame it can send. The place of its last descriptor.
    pub fn send(
        &mut self,
        memory: &dyn Peek,
        data: &[Segment],
        how: &Transmit,
        cookie: u32,
        now: u64,
    ) -> Result<u32> {
        if cookie >= TX_ENTRIES || data.is_empty() {
            return Err(Error::Inval);
        }
        let segmented = how.flags & transmit::SEGMENT != 0;
        let mut pieces = Vec::new();
        if segmented {
            self.write_headers(memory, how, cookie)?;
            let address = self.areas.device_address(cookie as usize * AREA).address;
            pieces.push(Segment { address, len: how.header_len.into() });
        }
        let mut skip = if segmented { u32::from(how.header_len) } else { 0 };
        for segment in data {
            let hidden = skip.min(segment.len);
            skip -= hidden;
            let mut at = hidden;
            while at < segment.len {
                let len = (segment.len - at).min(PIECE);
                pieces.push(Segment { address: segment.address + u64::from(at), len });
                at += len;
            }
        }
        let context = context(how);
        // Room for a context in any case.
        if self.ring.room() < pieces.len() as u32 + 1 {
            return if pieces.len() as u32 + 1 >= ENTRIES {
                Err(Error::Inval)
            } else {
                Err(Error::Again)
            };
        }
        let last = self.put(&pieces, how, context);
        self.sent.push_back(Sent { cookie, how: *how, data: pieces, last, since: now });
        Ok(last)
    }

    /// Fills in a frame's descriptors; the place of the last.
    fn put(&mut self, pieces: &[Segment], how: &Transmit, context: Option<TxContext>) -> u32 {
        let mut last = self.ring.tail;
        if let Some(context) = context
            && self.context != Some(context)
        {
            self.ring.put(&context);
            self.context = Some(context);
        }
        let segmented = how.flags & transmit::SEGMENT != 0;
        for (i, piece) in pieces.iter().enumerate() {
            let mut command = piece.len | TX_TYPE_DATA << TX_TYPE_SHIFT;
            command |= tx_command::DEXT | tx_command::IFCS;
            if segmented {
                command |= tx_command::TSE;
            }
            if i + 1 == pieces.len() {
                command |= tx_command::EOP | tx_command::RS;
            }
            let mut options = 0;
            if how.flags & transmit::CHECKSUM != 0 {
                options |= tx_options::TXSM;
            }
            if segmented && how.flags & transmit::IPV6 == 0 {
                options |= tx_options::IXSM;
            }
            let desc = TxDesc { address: piece.address, command, status: 0, options, special: 0 };
            last = self.ring.put(&desc);
        }
        last
    }

    /// The headers of a frame to be cut up, as the device wants them.
    fn write_headers(&self, memory: &dyn Peek, how: &Transmit, cookie: u32) -> Result<()> {
        let len = usize::from(how.header_len);
        let mut bytes = [0; AREA];
        let headers = bytes.get_mut(..len).ok_or(Error::Inval)?;
        memory.peek(how.offset, headers);
        let ipv6 = how.flags & transmit::IPV6 != 0;
        let field = usize::from(how.checksum_start) + usize::from(how.checksum_offset);
        if field + 2 > len || len < 14 + if ipv6 { 40 } else { 20 } {
            return Err(Error::Inval);
        }
        if ipv6 {
            headers[18..20].fill(0); // payload length
        } else {
            headers[16..18].fill(0); // total length
            headers[24..26].fill(0); // header checksum
        }
        // The length the sum counts is the whole's; one's complement subtraction takes it out.
        let whole = (how.len - u32::from(how.checksum_start)) as u16;
        let sum = u16::from_be_bytes([headers[field], headers[field + 1]]);
        let rest = u32::from(sum) + u32::from(!whole);
        let rest = (rest & 0xFFFF) + (rest >> 16);
        headers[field..field + 2].copy_from_slice(&(rest as u16).to_be_bytes());
        self.areas.write_bytes(cookie as usize * AREA, headers);
        Ok(())
    }

    fn front_is_done(&self) -> bool {
        self.sent.front().is_some_and(|sent| self.ring.status(sent.last) & TX_DD != 0)
    }

    pub fn has_done(&self) -> bool {
        self.front_is_done()
    }

    pub fn poll(&mut self, events: &mut Events) {
        while self.front_is_done() {
            let Some(sent) = self.sent.pop_front() else { return };
            self.ring.head = self.ring.next(sent.last);
            events.sent.push(sent.cookie);
        }
    }

    /// Puts everything in flight into the cleared ring again.
    pub fn again(&mut self, now: u64) {
        let mut old = core::mem::take(&mut self.sent);
        for sent in &mut old {
            sent.last = self.put(&sent.data, &sent.how, context(&sent.how));
            sent.since = now;
        }
        self.sent = old;
    }
}

/// The context a frame needs.
fn context(how: &Transmit) -> Option<TxContext> {
    if how.flags & transmit::CHECKSUM == 0 {
        return None;
    }
    let mut command = context_command::DEXT | TX_TYPE_CONTEXT << TX_TYPE_SHIFT;
    let (tucss, tucso) =
        (how.checksum_start as u8, (how.checksum_start + how.checksum_offset) as u8);
    // TCP's checksum is at 16 of its header, UDP's at 6.
    if how.checksum_offset == 16 {
        command |= context_command::TCP;
    }
    let mut context = TxContext { tucss, tucso, command, ..TxContext::default() };
    if how.flags & transmit::SEGMENT != 0 {
        context.command |= context_command::TSE | (how.len - u32::from(how.header_len));
        context.header_length = how.header_len as u8;
        context.mss = how.segment_size;
        // Where the IP header is the device must know for either version: it fills in lengths.
        (context.ipcss, context.ipcso) = (14, 24);
        if how.flags & transmit::IPV6 == 0 {
            context.command |= context_command::IPV4;
            context.ipcse = how.checksum_start - 1;
        }
    }
    Some(context)
}
