//! The transmitter: descriptors, packets, write-back (8254x 3.3 and 3.4).
//!
//! ```text
//!   context      --> remembered, for the data descriptors that follow
//!   legacy, data --> appended to the packet; EOP: checksums, segmentation, VLAN tag, out
//! ```
//! A packet longer than the chip could hold is dropped whole at its EOP.

use super::tso::{self, Context};
use super::{E1000, stats};
use crate::device::Origin;
use crate::net::packet::set_word;
use crate::net::{Frame, MIN_FRAME};
use crate::trace::{EventKind, Owner};
use std::time::Duration;
use xinim_abi::hw::e1000::descriptor::{
    SIZE, TX_DD, TX_LEGACY_LENGTH_MASK, TX_LENGTH_MASK, TX_TYPE_CONTEXT, TX_TYPE_SHIFT, TxContext,
    TxDesc, tx_command, tx_options,
};
use xinim_abi::hw::e1000::{Cause, Ctrl, DELAY_UNIT_NS, Rctl, Tctl, reg};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

/// Longest packet that is not segmented: one descriptor's limit (8254x 3.3.3).
const PACKET_MAX: usize = 16_288;
/// Longest packet to be segmented (82574 7.3.4), headers included.
const SEGMENTED_MAX: usize = (256 << 10) + 255;
/// Descriptors in one call; the machine calls again.
const BATCH: usize = 256;
/// Registers of the second queue are this far from the first's.
const QUEUE_STRIDE: u32 = 0x100;
/// TXDCTL: threshold of free descriptors for TXD_LOW, in units of eight.
const LWTHRESH_SHIFT: u32 = 25;

/// Transmit state of all queues.
#[derive(Debug, Default)]
pub struct Transmitter {
    queues: [Queue; 2],
    /// A pause frame holds transmission until then.
    pub paused: Option<Duration>,
    /// TIDV, restarted by each descriptor; TADV, from the first.
    delay: Option<Duration>,
    absolute: Option<Duration>,
}

#[derive(Debug, Default)]
struct Queue {
    context: Context,
    packet: Packet,
}

/// A packet being gathered.
#[derive(Debug, Default)]
struct Packet {
    data: Vec<u8>,
    started: bool,
    segmented: bool,
    /// POPTS of the first descriptor.
    ip: bool,
    transport: bool,
    /// A legacy checksum: start and offset.
    legacy: Option<(usize, usize)>,
    /// Too long, or its data could not be read.
    bad: bool,
}

impl Transmitter {
    pub fn deadline(&self) -> Option<Duration> {
        [self.paused, self.delay, self.absolute].into_iter().flatten().min()
    }
}

impl E1000 {
    pub(super) fn expire_transmit(&mut self, now: Duration) {
        let tx = &mut self.transmitter;
        tx.paused = tx.paused.filter(|until| *until > now);
        let due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if due(tx.delay) || due(tx.absolute) {
            self.raise_transmit();
        }
    }

    fn raise_transmit(&mut self) {
        self.transmitter.delay = None;
        self.transmitter.absolute = None;
        self.raise(Cause::TXDW);
    }

    /// A pause frame for so many quanta of 512 bit times came (8254x 8.5).
    pub(super) fn pause(&mut self, quanta: u16) {
        if quanta == 0 {
            self.transmitter.paused = None;
            return;
        }
        let speed = self.phy.link().map_or(1000, |link| link.speed);
        let nanos = u64::from(quanta) * 512 * 1000 / u64::from(speed.max(10));
        self.transmitter.paused = Some(self.clock.monotonic() + Duration::from_nanos(nanos));
    }

    pub(super) fn loops_back(&self) -> bool {
        self.regs[reg::RCTL] & Rctl::LBM_MAC.bits() != 0 || self.phy.loopback()
    }

    /// Sends what it can; returns whether more could be sent at once.
    pub(super) fn transmit(&mut self, origin: &Origin) -> bool {
        let enabled = self.regs[reg::TCTL] & Tctl::EN.bits() != 0;
        let open = (self.link_up() && self.transmitter.paused.is_none()) || self.loops_back();
        let stopped = self.ctrl().contains(Ctrl::GIO_MASTER_DISABLE) && self.model.is_82574();
        if !enabled || !open || !self.bus_master() || stopped {
            return false;
        }
        let mut left = BATCH;
        for queue in 0..self.model.queues() {
            self.transmit_queue(queue, &mut left, origin);
            if left == 0 {
                return true;
            }
        }
        false
    }

    fn transmit_queue(&mut self, queue: usize, left: &mut usize, origin: &Origin) {
        let at = QUEUE_STRIDE * queue as u32;
        let count = self.regs[reg::TDLEN + at] / SIZE as u32;
        let base =
            u64::from(self.regs[reg::TDBAL + at]) | u64::from(self.regs[reg::TDBAH + at]) << 32;
        let (mut head, tail) = (self.regs[reg::TDH + at], self.regs[reg::TDT + at]);
        // Pointers outside the ring are a driver that has not finished its setup.
        if head >= count || tail >= count || head == tail {
            return;
        }
        while head != tail && *left > 0 && self.net.ready() {
            *left -= 1;
            let place = base.wrapping_add(u64::from(head) * SIZE as u64);
            let mut descriptor = TxDesc::new_zeroed();
            if self.dma.read(place, descriptor.as_mut_bytes()).is_err() {
                break;
            }
            let event = |done| EventKind::Descriptor {
                send: true,
                queue: queue as u8,
                index: head as u16,
                address: descriptor.address,
                length: descriptor.command as u16,
                flags: descriptor.command,
                done,
            };
            self.tracer.emit(origin, || event(false));
            self.transmit_descriptor(queue, place, &descriptor, origin);
            self.tracer.emit(origin, || event(true));
            head = if head + 1 == count { 0 } else { head + 1 };
            self.regs[reg::TDH + at] = head;
            self.low_threshold(at, (tail + count - head) % count);
        }
        if head == tail {
            self.raise(Cause::TXQE);
        }
    }

    /// TXD_LOW: as many descriptors are left to the device as the driver wants to know of.
    fn low_threshold(&mut self, at: u32, left: u32) {
        let threshold = 8 * (self.regs[reg::TXDCTL + at] >> LWTHRESH_SHIFT);
        if threshold != 0 && left == threshold {
            self.raise(Cause::TXD_LOW);
        }
    }

    fn transmit_descriptor(&mut self, queue: usize, place: u64, desc: &TxDesc, origin: &Origin) {
        let command = desc.command;
        let extended = command & tx_command::DEXT != 0;
        if extended && command >> TX_TYPE_SHIFT & 15 == TX_TYPE_CONTEXT {
            let context = TxContext::read_from_bytes(desc.as_bytes());
            if let Ok(context) = context {
                self.transmitter.queues[queue].context = Context::new(&context);
                if command & tx_command::TSE != 0 {
                    stats::count(&mut self.regs, reg::TSCTC);
                }
            }
        } else {
            self.gather(queue, desc, extended, origin);
            if command & tx_command::EOP != 0 {
                let packet = std::mem::take(&mut self.transmitter.queues[queue].packet);
                let tag = (command & tx_command::VLE != 0).then_some(desc.special);
                self.send_packet(queue, packet, tag, origin);
            }
        }
        if command & (tx_command::RS | tx_command::RPS) != 0 {
            self.write_back(queue, place, command & tx_command::IDE != 0);
        }
    }

    fn gather(&mut self, queue: usize, desc: &TxDesc, extended: bool, origin: &Origin) {
        let mask = if extended { TX_LENGTH_MASK } else { TX_LEGACY_LENGTH_MASK };
        let length = (desc.command & mask) as usize;
        let packet = &mut self.transmitter.queues[queue].packet;
        if !packet.started {
            packet.started = true;
            packet.segmented = extended && desc.command & tx_command::TSE != 0;
            packet.ip = extended && desc.options & tx_options::IXSM != 0;
            packet.transport = extended && desc.options & tx_options::TXSM != 0;
        }
        if !extended && desc.command & tx_command::IC != 0 {
            let offset = (desc.command >> 16 & 0xFF) as usize;
            packet.legacy = Some((desc.options.into(), offset));
        }
        let limit = if packet.segmented { SEGMENTED_MAX } else { PACKET_MAX };
        let start = packet.data.len();
        if packet.bad || start + length > limit {
            packet.bad = true;
            return;
        }
        packet.data.resize(start + length, 0);
        let ok = self.dma.read(desc.address, &mut packet.data[start..]).is_ok();
        packet.bad |= !ok;
        let (address, length) = (desc.address, length as u64);
        let index = self.regs[reg::TDH + QUEUE_STRIDE * queue as u32] as u16;
        let owner = Owner::Ring { send: true, queue: queue as u8, index };
        self.tracer.emit(origin, || EventKind::Dma { write: false, address, length, ok, owner });
    }

    /// A packet is complete.
    fn send_packet(&mut self, queue: usize, packet: Packet, tag: Option<u16>, origin: &Origin) {
        let tag = tag.filter(|_| self.ctrl().contains(Ctrl::VME));
        let context = self.transmitter.queues[queue].context;
        if packet.bad || packet.data.len() < crate::net::ETHERNET_HEADER {
            if packet.segmented {
                stats::count(&mut self.regs, reg::TSCTFC);
            }
            return;
        }
        if !packet.segmented {
            let mut data = packet.data;
            context.insert(&mut data, packet.ip, packet.transport);
            if let Some((start, offset)) = packet.legacy {
                tso::insert_legacy(&mut data, start, offset);
            }
            return self.send_frame(data, tag, origin);
        }
        if context.header < crate::net::ETHERNET_HEADER
            || context.header > packet.data.len()
            || context.mss == 0
            || (packet.data.len() - context.header) / context.mss
                > crate::net::segment::SEGMENTS_MAX * 4
        {
            return stats::count(&mut self.regs, reg::TSCTFC);
        }
        if tag.is_none()
            && !self.loops_back()
            && packet.ip | packet.transport
            && let Some(frame) = context.whole(&packet.data, self.net.offloads())
        {
            let size = context.mss;
            for part in packet.data[context.header..].chunks(size) {
                stats::sent(&mut self.regs, &packet.data[..context.header + part.len()]);
            }
            self.trace_frame(true, &frame.data, origin);
            return self.net.send(frame);
        }
        for data in context.segment(&packet.data, packet.ip, packet.transport) {
            self.send_frame(data, tag, origin);
        }
    }

    fn send_frame(&mut self, mut data: Vec<u8>, tag: Option<u16>, origin: &Origin) {
        if let Some(tag) = tag {
            data.splice(12..12, [0; 4]);
            let protocol = self.regs[reg::VET] as u16;
            set_word(&mut data, 12, protocol);
            set_word(&mut data, 14, tag);
        }
        if data.len() < MIN_FRAME && self.regs[reg::TCTL] & Tctl::PSP.bits() != 0 {
            data.resize(MIN_FRAME, 0);
        }
        stats::sent(&mut self.regs, &data);
        self.trace_frame(true, &data, origin);
        if self.loops_back() {
            self.arrive(Frame::plain(data), origin);
        } else {
            self.net.send(Frame::plain(data));
        }
    }

    pub(super) fn trace_frame(&self, sent: bool, data: &[u8], origin: &Origin) {
        let length = data.len() as u32;
        self.tracer.emit_with(origin, data, || EventKind::Frame { sent, length });
    }

    /// Reports a descriptor as done.
    fn write_back(&mut self, queue: usize, place: u64, delayed: bool) {
        // The status byte; a ring outside memory was found when the descriptor was read.
        let _ = self.dma.write(place.wrapping_add(12), &[TX_DD]);
        if self.model.is_82574() {
            let cause = if queue == 0 { Cause::TXQ0 } else { Cause::TXQ1 };
            self.raise(cause);
        }
        let delay = self.regs[reg::TIDV] & 0xFFFF;
        if !delayed || delay == 0 {
            return self.raise_transmit();
        }
        let now = self.clock.monotonic();
        let after = |units: u32| Some(now + Duration::from_nanos(u64::from(units) * DELAY_UNIT_NS));
        self.transmitter.delay = after(delay);
        let absolute = self.regs[reg::TADV];
        if absolute != 0 && self.transmitter.absolute.is_none() {
            self.transmitter.absolute = after(absolute);
        }
    }
}
