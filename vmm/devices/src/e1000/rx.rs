//! The receiver: packet buffer, descriptors, checksums (8254x 3.2, 82574 7.1).
//!
//! ```text
//!   frame --> pause? --> length, filter --> packet buffer --> descriptors --> RXT0 (RDTR, RADV)
//! ```

use super::filter::{self, Passed};
use super::{E1000, stats};
use crate::device::Origin;
use crate::net::checksum::{checksum, crc32};
use crate::net::packet::{Ip, PROTOCOL_UDP, TYPE_MAC_CONTROL, word};
use crate::net::{Frame, MIN_FRAME};
use crate::trace::{EventKind, Owner};
use std::collections::VecDeque;
use std::time::Duration;
use xinim_abi::hw::e1000::descriptor::{
    PACKET_SPLIT_SIZE, RxDesc, RxExtended, RxSplit, SIZE, rx_error, rx_status,
};
use xinim_abi::hw::e1000::{Cause, Ctrl, DELAY_UNIT_NS, RFCTL_EXSTEN, Rctl, RxCsum, reg};
use zerocopy::{FromZeros, IntoBytes};

/// Longest packet with RCTL.LPE, CRC included.
const LONG_MAX: usize = 16_384;
/// Frames taken in one call; the machine calls again.
const BATCH: usize = 128;
const QUEUE_STRIDE: u32 = 0x100;
/// Where pause frames go (802.3 31B).
const PAUSE_ADDRESS: [u8; 6] = [0x01, 0x80, 0xC2, 0x00, 0x00, 0x01];
const PAUSE_OPCODE: u16 = 1;

/// Receive state.
#[derive(Debug, Default)]
pub struct Receiver {
    fifo: VecDeque<Stored>,
    fifo_bytes: usize,
    /// RDTR, restarted by each packet; RADV, from the first.
    delay: Option<Duration>,
    absolute: Option<Duration>,
    /// We have asked the network to pause.
    xoff: bool,
}

/// A packet that passed the filters.
#[derive(Debug)]
struct Stored {
    data: Vec<u8>,
    queue: usize,
    inexact: bool,
    tag: Option<u16>,
}

impl Receiver {
    pub fn deadline(&self) -> Option<Duration> {
        [self.delay, self.absolute].into_iter().flatten().min()
    }
}

/// How packets are put into descriptors.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Legacy,
    Extended,
    Split,
}

/// One packet's descriptor fields.
struct Written {
    status: u8,
    errors: u8,
    packet_checksum: u16,
    identification: u16,
    tag: u16,
}

impl E1000 {
    pub(super) fn expire_receive(&mut self, now: Duration) {
        let due = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if due(self.receiver.delay) || due(self.receiver.absolute) {
            self.flush_receive();
        }
    }

    /// The receive timer has run out.
    pub(super) fn flush_receive(&mut self) {
        self.receiver.delay = None;
        self.receiver.absolute = None;
        self.raise(Cause::RXT0);
    }

    fn rctl(&self) -> Rctl {
        Rctl::from_bits_retain(self.regs[reg::RCTL])
    }

    /// Bytes of the packet buffer that are for reception.
    fn fifo_size(&self) -> usize {
        ((self.regs[reg::PBA] & 0xFFFF) as usize * 1024).clamp(8 << 10, 64 << 10)
    }

    /// Takes frames from the back end; returns whether there may be more.
    pub(super) fn receive(&mut self, origin: &Origin) -> bool {
        if self.bus_master() {
            self.drain(origin);
        }
        for _ in 0..BATCH {
            if self.holds_off() {
                return false;
            }
            let Some(frame) = self.net.receive() else { return false };
            if self.phy.link().is_some() && !self.loops_back() {
                self.arrive(frame, origin);
            }
        }
        true
    }

    /// Whether the network has been asked to pause: from FCRTH bytes in the packet buffer on, until
    /// FCRTL bytes are left. Registers of 0 stand for a frame below its size and for half of it.
    fn holds_off(&mut self) -> bool {
        let pausing = self.ctrl().contains(Ctrl::TFCE) && self.rctl().contains(Rctl::EN);
        let size = self.fifo_size();
        let threshold = |register: u32, otherwise: usize| match (register & 0xFFF8) as usize {
            0 => otherwise,
            bytes => bytes.min(size - 2048),
        };
        let high = threshold(self.regs[reg::FCRTH], size - 2048);
        let low = threshold(self.regs[reg::FCRTL], size / 2).min(high);
        let limit = if self.receiver.xoff { low } else { high };
        let hold = pausing && self.receiver.fifo_bytes > limit;
        if hold != self.receiver.xoff {
            self.receiver.xoff = hold;
            stats::count(&mut self.regs, if hold { reg::XOFFTXC } else { reg::XONTXC });
        }
        hold
    }

    /// A frame has come over the wire (or back from our own transmitter).
    pub(super) fn arrive(&mut self, frame: Frame, origin: &Origin) {
        let mut data = frame.data;
        if data.len() < MIN_FRAME {
            data.resize(MIN_FRAME, 0);
        }
        if self.asleep() {
            return self.wake_frame(&data);
        }
        let rctl = self.rctl();
        if !rctl.contains(Rctl::EN) || !(self.link_up() || self.loops_back()) {
            return;
        }
        self.trace_frame(false, &data, origin);
        stats::seen(&mut self.regs, data.len());
        if self.is_pause(&data) {
            self.take_pause(&data);
            if rctl.contains(Rctl::DPF) || !rctl.contains(Rctl::PMCF) {
                return;
            }
        }
        let length = data.len() + stats::CRC;
        let tag = filter::vlan_tag(&self.regs, &data);
        let normal = stats::NORMAL_MAX + if tag.is_some() { 4 } else { 0 };
        if length > if rctl.contains(Rctl::LPE) { LONG_MAX } else { normal } {
            return stats::count(&mut self.regs, reg::ROC);
        }
        let Some(passed) = filter::filter(&self.regs, &data) else { return };
        stats::received(&mut self.regs, &data);
        let size = length;
        if self.receiver.fifo_bytes + size > self.fifo_size() {
            stats::count(&mut self.regs, reg::MPC);
            return self.raise(Cause::RXO);
        }
        let tag = tag.filter(|_| self.ctrl().contains(Ctrl::VME));
        if tag.is_some() {
            data.drain(12..16);
        }
        let queue = self.rss_queue(&data);
        let stored = Stored { data, queue, inexact: passed == Passed::Inexact, tag };
        if !self.bus_master() || !self.receiver.fifo.is_empty() || !self.store(&stored, origin) {
            stats::count(&mut self.regs, reg::RNBC);
            self.receiver.fifo_bytes += size;
            self.receiver.fifo.push_back(stored);
        }
    }

    /// From the packet buffer into descriptors, as far as there are some.
    fn drain(&mut self, origin: &Origin) {
        if !self.rctl().contains(Rctl::EN) {
            return;
        }
        while let Some(stored) = self.receiver.fifo.pop_front() {
            if !self.store(&stored, origin) {
                self.receiver.fifo.push_front(stored);
                return;
            }
            let size = stored.data.len() + stored.tag.map_or(0, |_| 4) + stats::CRC;
            self.receiver.fifo_bytes = self.receiver.fifo_bytes.saturating_sub(size);
        }
    }

    fn is_pause(&self, data: &[u8]) -> bool {
        data[..6] == PAUSE_ADDRESS && word(data, 12) == TYPE_MAC_CONTROL
    }

    fn take_pause(&mut self, data: &[u8]) {
        if word(data, 14) != PAUSE_OPCODE {
            return stats::count(&mut self.regs, reg::FCRUC);
        }
        let quanta = word(data, 16);
        stats::count(&mut self.regs, if quanta == 0 { reg::XONRXC } else { reg::XOFFRXC });
        if self.ctrl().contains(Ctrl::RFCE) {
            self.pause(quanta);
        }
    }

    fn format(&self) -> Format {
        if !self.model.is_82574() {
            return Format::Legacy;
        }
        if self.rctl().bits() >> Rctl::DTYP_SHIFT & 3 == 1 {
            Format::Split
        } else if self.regs[reg::RFCTL] & RFCTL_EXSTEN != 0 {
            Format::Extended
        } else {
            Format::Legacy
        }
    }

    /// Sizes of a descriptor's buffers (8254x 13.4 RCTL, 82574 10.2.5 PSRCTL).
    fn buffers(&self, format: Format) -> [usize; 4] {
        if format == Format::Split {
            let split = self.regs[reg::PSRCTL];
            let kib = |shift: u32| (split >> shift & 0x3F) as usize * 1024;
            return [(split & 0x7F) as usize * 128, kib(8), kib(16), kib(24)];
        }
        let rctl = self.rctl().bits();
        let flexible = rctl >> Rctl::FLXBUF_SHIFT & 15;
        if self.model.is_82574() && flexible != 0 {
            return [flexible as usize * 1024, 0, 0, 0];
        }
        let size = 2048 >> (rctl >> Rctl::BSIZE_SHIFT & 3);
        // 16 times 2048 is reserved; such a driver gets what it would without BSEX.
        let scale = if rctl & Rctl::BSEX.bits() != 0 && size < 2048 { 16 } else { 1 };
        [size * scale, 0, 0, 0]
    }

    /// Puts a packet into descriptors. `false`: there are too few now.
    fn store(&mut self, stored: &Stored, origin: &Origin) -> bool {
        let at = QUEUE_STRIDE * stored.queue as u32;
        let format = self.format();
        let unit = if format == Format::Split { PACKET_SPLIT_SIZE } else { SIZE } as u32;
        let count = self.regs[reg::RDLEN + at] / unit;
        let (head, tail) = (self.regs[reg::RDH + at], self.regs[reg::RDT + at]);
        if head >= count || tail >= count {
            return false;
        }
        let mut data = std::borrow::Cow::Borrowed(&stored.data);
        if !self.rctl().contains(Rctl::SECRC) {
            data.to_mut().extend_from_slice(&crc32(&stored.data).to_le_bytes());
        }
        let sizes = self.buffers(format);
        let room: usize = sizes.iter().sum();
        let needed = data.len().div_ceil(room.max(1)) as u32;
        if needed >= count || room == 0 {
            // No ring of this size will ever take it.
            stats::count(&mut self.regs, reg::ROC);
            return true;
        }
        let free = (tail + count - head) % count;
        if free < needed {
            return false;
        }
        let fields = self.examine(stored);
        let base =
            u64::from(self.regs[reg::RDBAL + at]) | u64::from(self.regs[reg::RDBAH + at]) << 32;
        let mut place = head;
        let mut rest = &data[..];
        for index in 0..needed {
            let take = rest.len().min(room);
            let (part, behind) = rest.split_at(take);
            rest = behind;
            let address = base.wrapping_add(u64::from(place) * u64::from(unit));
            let last = index + 1 == needed;
            let event = |done| EventKind::Descriptor {
                send: false,
                queue: stored.queue as u8,
                index: place as u16,
                address,
                length: take as u16,
                flags: u32::from(fields.status) | u32::from(fields.errors) << 8,
                done,
            };
            self.tracer.emit(origin, || event(false));
            let slot = (address, place as u16);
            self.write_descriptor(format, slot, part, &sizes, &fields, last, stored, origin);
            self.tracer.emit(origin, || event(true));
            place = if place + 1 == count { 0 } else { place + 1 };
        }
        self.regs[reg::RDH + at] = place;
        self.after_packet(stored, free - needed, free, count);
        true
    }

    /// Interrupts that follow a packet.
    fn after_packet(&mut self, stored: &Stored, free: u32, before: u32, count: u32) {
        let threshold = match self.rctl().bits() >> Rctl::RDMTS_SHIFT & 3 {
            0 => count / 2,
            1 => count / 4,
            _ => count / 8,
        };
        if free <= threshold && before > threshold {
            self.raise(Cause::RXDMT0);
        }
        if self.model.is_82574() {
            self.raise(if stored.queue == 0 { Cause::RXQ0 } else { Cause::RXQ1 });
        }
        let small = self.regs[reg::RSRPD] as usize;
        if small != 0 && stored.data.len() + stats::CRC <= small {
            self.raise(Cause::SRPD);
        }
        let delay = self.regs[reg::RDTR] & 0xFFFF;
        if delay == 0 {
            return self.flush_receive();
        }
        let now = self.clock.monotonic();
        let after = |units: u32| Some(now + Duration::from_nanos(u64::from(units) * DELAY_UNIT_NS));
        self.receiver.delay = after(delay);
        let absolute = self.regs[reg::RADV];
        if absolute != 0 && self.receiver.absolute.is_none() {
            self.receiver.absolute = after(absolute);
        }
    }

    /// Checksums of a packet, as status and errors.
    fn examine(&self, stored: &Stored) -> Written {
        let wanted = RxCsum::from_bits_retain(self.regs[reg::RXCSUM]);
        let data = &stored.data;
        let first = (wanted.bits() & RxCsum::PCSS_MASK) as usize;
        let mut written = Written {
            status: rx_status::DD,
            errors: 0,
            packet_checksum: data.get(first..).map_or(0, checksum),
            identification: 0,
            tag: stored.tag.unwrap_or(0),
        };
        if stored.tag.is_some() {
            written.status |= rx_status::VP;
        }
        if stored.inexact {
            written.status |= rx_status::PIF;
        }
        let ip = Ip::parse(data);
        let Some(ip) = ip.filter(|_| wanted.intersects(RxCsum::IPOFL | RxCsum::TUOFL)) else {
            written.status |= rx_status::IXSM;
            return written;
        };
        if !ip.v6 {
            written.identification = word(data, ip.at + 4);
            if wanted.contains(RxCsum::IPOFL) {
                written.status |= rx_status::IPCS;
                let header = &data[ip.at..ip.payload];
                written.errors |= if checksum(header) == 0 { 0 } else { rx_error::IPE };
            }
        }
        let six = !ip.v6 || self.model.is_82574();
        if wanted.contains(RxCsum::TUOFL)
            && six
            && let Some(valid) = ip.payload_is_valid(data)
        {
            let udp = ip.protocol == PROTOCOL_UDP && self.model.is_82574();
            written.status |= rx_status::TCPCS | if udp { rx_status::UDPCS } else { 0 };
            written.errors |= if valid { 0 } else { rx_error::TCPE };
        }
        written
    }

    #[expect(clippy::too_many_arguments, reason = "one call site; a struct would hide it")]
    fn write_descriptor(
        &mut self,
        format: Format,
        (place, index): (u64, u16),
        data: &[u8],
        sizes: &[usize; 4],
        fields: &Written,
        last: bool,
        stored: &Stored,
        origin: &Origin,
    ) {
        let mut addresses = [0u64; 4];
        let given = if format == Format::Split { 4 } else { 1 };
        if self.dma.read(place, addresses[..given].as_mut_bytes()).is_err() {
            return;
        }
        let owner = Owner::Ring { send: false, queue: stored.queue as u8, index };
        // Data that starts in buffer 1 would need a known header: all of it goes in order.
        let mut lengths = [0u16; 4];
        let mut rest = data;
        for (index, length) in lengths.iter_mut().enumerate().take(given) {
            let (part, behind) = rest.split_at(rest.len().min(sizes[index]));
            rest = behind;
            *length = part.len() as u16;
            if part.is_empty() {
                continue;
            }
            let (address, bytes) = (addresses[index], part.len() as u64);
            let ok = self.dma.write(address, part).is_ok();
            self.tracer.emit(origin, || EventKind::Dma {
                write: true,
                address,
                length: bytes,
                ok,
                owner,
            });
        }
        let mut status = fields.status;
        if last {
            status |= rx_status::EOP;
        }
        let (errors, tag) = if last { (fields.errors, fields.tag) } else { (0, 0) };
        let extended = u32::from(status) | u32::from(errors) << 24;
        let (mrq, hash) = self.hash_fields(stored, fields);
        // A ring outside memory was found when the addresses were read.
        let _ = match format {
            Format::Legacy => {
                let [length, ..] = lengths;
                let mut desc = RxDesc::new_zeroed();
                desc.address = addresses[0];
                desc.length = length;
                desc.checksum = fields.packet_checksum;
                desc.status = status;
                desc.errors = errors;
                desc.special = tag;
                self.write_back_descriptor(place, desc.as_bytes(), 12)
            }
            Format::Extended => {
                let [length, ..] = lengths;
                let desc = RxExtended { mrq, hash, status_error: extended, length, vlan: tag };
                self.write_back_descriptor(place, desc.as_bytes(), 8)
            }
            Format::Split => {
                let [length0, rest @ ..] = lengths;
                let desc = RxSplit {
                    mrq,
                    hash,
                    status_error: extended,
                    length0,
                    vlan: tag,
                    header_status: 0,
                    lengths: rest,
                    reserved: 0,
                };
                self.write_back_descriptor(place, desc.as_bytes(), 8)
            }
        };
    }

    /// Writes a descriptor so that the word with DD, at `done`, comes last and in one piece.
    fn write_back_descriptor(
        &self,
        place: u64,
        bytes: &[u8],
        done: usize,
    ) -> Result<(), crate::dma::DmaError> {
        let behind = done + 2;
        self.dma.write(place, &bytes[..done])?;
        self.dma.write(place.wrapping_add(behind as u64), &bytes[behind..])?;
        let word = u16::from_le_bytes([bytes[done], bytes[done + 1]]);
        self.dma.store_u16(place.wrapping_add(done as u64), word)
    }

    fn hash_fields(&self, stored: &Stored, fields: &Written) -> (u32, u32) {
        let (kind, hash) = self.rss_hash(&stored.data);
        let mrq = kind | (stored.queue as u32) << 8;
        let wanted = RxCsum::from_bits_retain(self.regs[reg::RXCSUM]);
        if wanted.contains(RxCsum::PCSD) {
            return (mrq, hash);
        }
        let sum = u32::from(fields.packet_checksum);
        (mrq, sum << 16 | u32::from(fields.identification))
    }
}
