//! A pair of queues and what is in flight on them.
//!
//! Every buffer given to the device is one descriptor, the device's header in front of the frame in it;
//! with MRG_RXBUF a long frame goes on in the next buffers, without a header (5.1.6.4). Headers of frames
//! to be sent are in an area of their own, by the frame's cookie.

use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::hw::virtio_net::{HEADER_SIZE, Header, gso, header_flag};
use xinim_abi::services::link::{RX_BUFFER, Transmit, received, transmit};
use xinim_driver_kit::{DmaBuffer, Segment, SharedMemory, Slice};
use xinim_link_service::{Events, Frame, Peek};
use xinim_virtio::{DeviceError, Queue};
use zerocopy::FromBytes;

/// Bytes of the area of one header.
pub const AREA: usize = 16;

/// A frame in flight.
#[derive(Clone, Debug)]
struct Sent {
    cookie: u32,
    how: Transmit,
    data: Vec<Segment>,
    since: u64,
}

/// A buffer with the device.
#[derive(Clone, Copy, Debug)]
struct Given {
    cookie: u32,
    segment: Segment,
}

pub struct Pair<B> {
    pub rx: Queue<Slice<B>>,
    pub tx: Queue<Slice<B>>,
    /// By slot, which is the queue's cookie.
    given: Vec<Option<Given>>,
    given_free: Vec<u16>,
    sent: Vec<Option<Sent>>,
    sent_free: Vec<u16>,
    /// Buffers that the frame being received still goes on for.
    rest: u16,
    merged: bool,
    chain: Vec<Segment>,
    /// Frames sent, and buffers filled.
    pub out: u64,
    pub inward: u64,
}

impl<B: DmaBuffer> Pair<B> {
    pub fn new(rx: Queue<Slice<B>>, tx: Queue<Slice<B>>, merged: bool) -> Self {
        let (rx_slots, tx_slots) = (rx.size(), tx.size());
        Self {
            rx,
            tx,
            given: vec![None; rx_slots.into()],
            given_free: (0..rx_slots).rev().collect(),
            sent: vec![None; tx_slots.into()],
            sent_free: (0..tx_slots).rev().collect(),
            rest: 0,
            merged,
            chain: Vec::new(),
            out: 0,
            inward: 0,
        }
    }

    /// `Again`: the queue is full.
    pub fn give(&mut self, segment: Segment, cookie: u32) -> Result<()> {
        let slot = *self.given_free.last().ok_or(Error::Again)?;
        self.rx.add(&[segment], 0, slot.into())?;
        self.given_free.pop();
        self.given[usize::from(slot)] = Some(Given { cookie, segment });
        Ok(())
    }

    /// `header` is the area of the frame's header, at its device address. The head of its chain.
    pub fn send(
        &mut self,
        areas: &Slice<B>,
        data: &[Segment],
        how: &Transmit,
        cookie: u32,
        now: u64,
    ) -> Result<u16> {
        let slot = *self.sent_free.last().ok_or(Error::Again)?;
        let head = self.put(areas, slot, data, how, cookie)?;
        self.sent_free.pop();
        let sent = Sent { cookie, how: *how, data: data.to_vec(), since: now };
        self.sent[usize::from(slot)] = Some(sent);
        Ok(head)
    }

    fn put(
        &mut self,
        areas: &Slice<B>,
        slot: u16,
        data: &[Segment],
        how: &Transmit,
        cookie: u32,
    ) -> Result<u16> {
        let at = cookie as usize * AREA;
        areas.write_value(at, &header(how));
        let address = areas.device_address(at).address;
        self.chain.clear();
        self.chain.push(Segment { address, len: HEADER_SIZE as u32 });
        self.chain.extend_from_slice(data);
        self.tx.add(&self.chain, self.chain.len(), slot.into())
    }

    pub fn poll(
        &mut self,
        memory: &dyn Peek,
        events: &mut Events,
    ) -> core::result::Result<(), DeviceError> {
        while let Some(used) = self.tx.pop()? {
            let slot = used.cookie as usize;
            // The queue knows only cookies it was given.
            let Some(sent) = self.sent.get_mut(slot).and_then(Option::take) else { continue };
            self.sent_free.push(slot as u16);
            self.out += 1;
            events.sent.push(sent.cookie);
        }
        while let Some(used) = self.rx.pop()? {
            let slot = used.cookie as usize;
            let Some(given) = self.given.get_mut(slot).and_then(Option::take) else { continue };
            self.given_free.push(slot as u16);
            self.inward += 1;
            self.received(given.cookie, used.len, memory, events)?;
        }
        Ok(())
    }

    fn received(
        &mut self,
        cookie: u32,
        len: u32,
        memory: &dyn Peek,
        events: &mut Events,
    ) -> core::result::Result<(), DeviceError> {
        let more = |rest: u16| if rest > 0 { received::MORE } else { 0 };
        if self.rest > 0 {
            self.rest -= 1;
            let flags = received::CONTINUED | more(self.rest);
            let frame = Frame { cookie, start: 0, len: len as u16, flags };
            events.received.push(frame);
            return Ok(());
        }
        if len as usize <= HEADER_SIZE {
            return Err(DeviceError::UsedLength { length: len, writable: RX_BUFFER });
        }
        let mut bytes = [0; HEADER_SIZE];
        memory.peek(cookie, &mut bytes);
        let header = Header::read_from_bytes(&bytes).unwrap_or_default();
        let buffers = if self.merged { header.num_buffers.max(1) } else { 1 };
        self.rest = buffers - 1;
        let good = header.flags & (header_flag::NEEDS_CSUM | header_flag::DATA_VALID) != 0;
        let flags = more(self.rest) | if good { received::CHECKSUM_GOOD } else { 0 };
        let (start, len) = (HEADER_SIZE as u16, len as u16 - HEADER_SIZE as u16);
        events.received.push(Frame { cookie, start, len, flags });
        Ok(())
    }

    /// When the oldest frame in flight was sent, in ns.
    pub fn oldest(&self) -> Option<u64> {
        self.sent.iter().flatten().map(|sent| sent.since).min()
    }

    /// After a reset of the device: empty queues.
    pub fn clear(&mut self) {
        self.rx.clear();
        self.tx.clear();
        self.rest = 0;
    }

    /// Nothing is in flight any more.
    pub fn forget(&mut self) {
        self.given.fill(None);
        self.sent.fill(None);
        self.given_free = (0..self.given.len() as u16).rev().collect();
        self.sent_free = (0..self.sent.len() as u16).rev().collect();
    }

    /// Puts everything in flight into the cleared queues again, in the order of its sending.
    pub fn again(&mut self, areas: &Slice<B>, now: u64) -> Result<()> {
        for slot in 0..self.given.len() {
            if let Some(given) = self.given[slot] {
                self.rx.add(&[given.segment], 0, slot as u32)?;
            }
        }
        let mut order: Vec<(u64, u16)> = Vec::new();
        for (slot, sent) in self.sent.iter().enumerate() {
            order.extend(sent.as_ref().map(|sent| (sent.since, slot as u16)));
        }
        order.sort_unstable();
        for (_, slot) in order {
            let Some(mut sent) = self.sent[usize::from(slot)].take() else { continue };
            sent.since = now;
            self.put(areas, slot, &sent.data, &sent.how, sent.cookie)?;
            self.sent[usize::from(slot)] = Some(sent);
        }
        Ok(())
    }
}

fn header(how: &Transmit) -> Header {
    let mut header = Header::default();
    if how.flags & transmit::CHECKSUM != 0 {
        header.flags = header_flag::NEEDS_CSUM;
        header.csum_start = how.checksum_start;
        header.csum_offset = how.checksum_offset;
    }
    if how.flags & transmit::SEGMENT != 0 {
        let ipv6 = how.flags & transmit::IPV6 != 0;
        header.gso_type = if ipv6 { gso::TCPV6 } else { gso::TCPV4 };
        header.hdr_len = how.header_len;
        header.gso_size = how.segment_size;
    }
    header
}
