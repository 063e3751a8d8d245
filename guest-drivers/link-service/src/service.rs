//! From the server's rings to the device and back.
//!
//! ```text
//!  (none) ──attach──> serving ──detach, death, broken ring──> the device forgets everything ──> (none)
//! ```
//! The server's memory stays pinned while the device may write to it; a device that forgets has
//! stopped all DMA into it.

use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::services::link::{
    self, DATA_OFFSET, RX_BUFFER, Received, TX_ENTRIES, TX_MAX, Transmit, info, transmit,
};
use xinim_driver_kit::{DmaBuffer, Segment, SgList, trace};

use crate::device::{Events, Filter, LinkDevice, Nothing, Peek};
use crate::ring::Rings;

/// Memory the server may attach, in bytes.
pub const MEMORY_MAX: u64 = 64 << 20;
/// Frames moved by one pump before anything else gets a turn.
const PUMP_FRAMES: usize = 512;
/// Multicast addresses remembered.
pub const MULTICAST_MAX: usize = 64;
/// Ethernet's header and a VLAN tag.
const HEADER_MAX: u32 = 18;

/// How the server is told.
pub trait Notify {
    /// There is work in the rings; a dead server is no error here.
    fn work(&self);
    /// The link went up or down.
    fn state_changed(&self);
}

struct Client<R, N> {
    owner: u32,
    rings: Rings<R>,
    notify: N,
}

/// What [`Service::pump`] left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Wait for an interrupt or a doorbell.
    Idle,
    /// More can be done at once.
    Again,
}

/// Counters of the driver itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub frames_sent: u64,
    pub frames_received: u64,
    /// Frames the server described wrongly.
    pub refused: u64,
    /// Servers whose rings broke.
    pub broken: u64,
}

pub struct Service<L, R, N> {
    device: L,
    client: Option<Client<R, N>>,
    filter: Filter,
    events: Events,
    list: SgList,
    was_up: bool,
    counters: Counters,
    /// Bytes handed up of a frame that goes on.
    partial: u64,
}

impl<L: LinkDevice, R: DmaBuffer, N: Notify> Service<L, R, N> {
    pub fn new(device: L) -> Self {
        let was_up = device.info().flags & info::LINK_UP != 0;
        Self {
            device,
            client: None,
            filter: Filter::default(),
            events: Events::default(),
            list: SgList::new(),
            was_up,
            counters: Counters::default(),
            partial: 0,
        }
    }

    pub fn device(&self) -> &L {
        &self.device
    }

    pub fn device_mut(&mut self) -> &mut L {
        &mut self.device
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Answer to `Info`.
    pub fn info(&self) -> link::link::InfoReply {
        let found = self.device.info();
        let [a, b, c, d, e, f] = found.mac;
        link::link::InfoReply {
            mac: u64::from_le_bytes([a, b, c, d, e, f, 0, 0]),
            flags: found.flags,
            mtu: found.mtu,
            queues: found.queues,
            speed: found.speed,
        }
    }

    /// `Busy`: another process has it; `Inval`: too little memory.
    pub fn attach(
        &mut self,
        owner: u32,
        memory: R,
        notify: N,
    ) -> core::result::Result<Result<()>, L::Error> {
        if self.client.as_ref().is_some_and(|client| client.owner != owner) {
            return Ok(Err(Error::Busy));
        }
        self.forget(owner)?;
        let Some(rings) = Rings::new(memory) else { return Ok(Err(Error::Inval)) };
        self.client = Some(Client { owner, rings, notify });
        Ok(Ok(()))
    }

    /// The server detached or died.
    pub fn forget(&mut self, owner: u32) -> core::result::Result<(), L::Error> {
        if self.client.as_ref().is_some_and(|client| client.owner == owner) {
            self.device.forget_all()?;
            self.client = None;
        }
        Ok(())
    }

    pub fn set_filter(&mut self, flags: u32) -> Result<()> {
        let known = link::filter::PROMISCUOUS | link::filter::ALL_MULTICAST;
        if flags & !known != 0 {
            return Err(Error::Inval);
        }
        self.filter.promiscuous = flags & link::filter::PROMISCUOUS != 0;
        self.filter.all_multicast = flags & link::filter::ALL_MULTICAST != 0;
        self.device.set_filter(&self.filter)
    }

    /// `Inval`: no multicast address; `Limit`.
    pub fn multicast(&mut self, mac: u64, join: bool) -> Result<()> {
        let [a, b, c, d, e, f, rest @ ..] = mac.to_le_bytes();
        let mac = [a, b, c, d, e, f];
        if a & 1 == 0 || rest != [0, 0] {
            return Err(Error::Inval);
        }
        self.filter.multicast.retain(|other| *other != mac);
        if join {
            if self.filter.multicast.len() >= MULTICAST_MAX {
                return Err(Error::Limit);
            }
            self.filter.multicast.push(mac);
        }
        self.device.set_filter(&self.filter)
    }

    /// Moves frames and buffers in both directions. `Err`: the device was beyond recovery.
    pub fn pump(&mut self) -> core::result::Result<Pumped, L::Error> {
        self.device.disarm();
        let mut moved = 0;
        loop {
            self.events.clear();
            match &self.client {
                Some(client) => {
                    self.device.poll(&Window(client.rings.memory()), &mut self.events)?
                }
                None => self.device.poll(&Nothing, &mut self.events)?,
            }
            moved += self.events.sent.len() + self.events.received.len();
            self.report();
            let taken = self.take()?;
            self.device.kick();
            self.tell();
            moved += taken;
            if moved >= PUMP_FRAMES {
                return Ok(Pumped::Again);
            }
            let sent = self.client.as_ref().is_some_and(|client| client.rings.wants_sent());
            if self.events.is_empty() && taken == 0 && !self.device.arm(sent) {
                return Ok(Pumped::Idle);
            }
        }
    }

    /// Events into the server's rings.
    fn report(&mut self) {
        let Some(client) = &mut self.client else { return };
        for &id in &self.events.sent {
            trace::event(trace::kind::FRAME_SENT, 0, id.into(), 0);
            client.rings.sent(id);
        }
        for frame in &self.events.received {
            let offset = frame.cookie + u32::from(frame.start);
            client.rings.received(&Received { offset, len: frame.len, flags: frame.flags });
            self.partial += u64::from(frame.len);
            if frame.flags & link::received::MORE == 0 {
                trace::event(trace::kind::FRAME_UP, 0, 0, core::mem::take(&mut self.partial));
                self.counters.frames_received += 1;
            }
        }
        self.counters.frames_sent += self.events.sent.len() as u64;
    }

    fn tell(&mut self) {
        let up = self.device.info().flags & info::LINK_UP != 0;
        let Some(client) = &mut self.client else { return };
        if client.rings.publish() {
            client.notify.work();
        }
        if core::mem::replace(&mut self.was_up, up) != up {
            client.notify.state_changed();
        }
    }

    /// Submissions and buffers into the device; how many frames were taken.
    fn take(&mut self) -> core::result::Result<usize, L::Error> {
        let Some(client) = &mut self.client else { return Ok(0) };
        let flags = self.device.info().flags;
        let mut taken = 0;
        let unused: Vec<u32> = core::mem::take(&mut self.events.unused);
        let memory = client.rings.memory();
        for cookie in unused {
            // It was there a moment ago.
            let _ = self.device.give(segment(memory, cookie), cookie);
        }
        loop {
            let buffer = match client.rings.peek_buffer() {
                Ok(Some(buffer)) => buffer.offset,
                Ok(None) => break,
                Err(_) => return self.throw_out(),
            };
            let memory = client.rings.memory();
            let end = buffer.checked_add(RX_BUFFER);
            let inside = end.is_some_and(|end| end as usize <= memory.len());
            if (buffer as usize) < DATA_OFFSET || !inside {
                return self.throw_out();
            }
            let place = segment(memory, buffer);
            if place.len < RX_BUFFER {
                return self.throw_out(); // crosses a gap: not one of the buffers agreed on
            }
            if self.device.give(place, buffer).is_err() {
                break;
            }
            client.rings.take_buffer();
        }
        while taken < PUMP_FRAMES {
            let frame = match client.rings.peek_transmit() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => return self.throw_out(),
            };
            if frame.id >= TX_ENTRIES {
                return self.throw_out();
            }
            let memory = client.rings.memory();
            if check(&frame, flags, self.device.info().mtu, memory.len()).is_err() {
                self.counters.refused += 1;
                client.rings.take_transmit();
                client.rings.sent(frame.id);
                taken += 1;
                continue;
            }
            self.list.clear();
            self.list.push_buffer(memory, frame.offset as usize, frame.len as usize);
            trace::event(trace::kind::FRAME_TAKE, 0, frame.id.into(), frame.len.into());
            match self.device.send(&Window(memory), self.list.segments(), &frame, frame.id) {
                Ok(()) => client.rings.take_transmit(),
                Err(Error::Again) => break,
                // More pieces than the device can take: as if it were lost on the wire.
                Err(_) => {
                    self.counters.refused += 1;
                    client.rings.take_transmit();
                    client.rings.sent(frame.id);
                }
            }
            taken += 1;
        }
        Ok(taken)
    }

    fn throw_out(&mut self) -> core::result::Result<usize, L::Error> {
        self.counters.broken += 1;
        self.device.forget_all()?;
        self.client = None;
        Ok(0)
    }
}

/// The server's memory.
struct Window<'a, R>(&'a R);

impl<R: DmaBuffer> Peek for Window<'_, R> {
    fn peek(&self, offset: u32, out: &mut [u8]) {
        self.0.read_bytes(offset as usize, out);
    }
}

fn segment(memory: &impl DmaBuffer, offset: u32) -> Segment {
    let run = memory.device_address(offset as usize);
    Segment { address: run.address, len: run.len.min(RX_BUFFER) }
}

/// A frame the server wants sent must lie in its memory and ask for nothing the device cannot do.
fn check(frame: &Transmit, device: u32, mtu: u32, memory: usize) -> Result<()> {
    let end = frame.offset.checked_add(frame.len).ok_or(Error::Inval)?;
    let inside = frame.offset as usize >= DATA_OFFSET && end as usize <= memory;
    if !inside || frame.len < 14 || frame.len > TX_MAX {
        return Err(Error::Inval);
    }
    let has = |flag| device & flag != 0;
    let wants = |flag| frame.flags & flag != 0;
    let known = transmit::CHECKSUM | transmit::SEGMENT | transmit::IPV6;
    if frame.flags & !known != 0 {
        return Err(Error::Inval);
    }
    if wants(transmit::CHECKSUM) {
        let field = u32::from(frame.checksum_start) + u32::from(frame.checksum_offset) + 2;
        if !has(info::TX_CHECKSUM) || field > frame.len {
            return Err(Error::Inval);
        }
    }
    if wants(transmit::SEGMENT) {
        let able = if wants(transmit::IPV6) { has(info::TSO6) } else { has(info::TSO4) };
        let headers = u32::from(frame.header_len);
        let sane = wants(transmit::CHECKSUM)
            && frame.segment_size >= 64
            && (54..=256).contains(&headers)
            && headers < frame.len
            && u32::from(frame.segment_size) + headers <= mtu + HEADER_MAX;
        if !able || !sane {
            return Err(Error::Inval);
        }
    } else if frame.len > mtu + HEADER_MAX {
        return Err(Error::MsgSize);
    }
    Ok(())
}
