//! The device: requests in, completions out, in any order, many at a time, on all its queues.
//!
//! ```text
//!   start() --> live --submit()/kick()--> in flight --poll()--> completions
//!                 ^                          |
//!                 |                          | the device broke a rule or set NEEDS_RESET,
//!                 `---- recover(), in poll --'  or a request took too long
//! ```
//! `recover` resets the device, so that it certainly does no more DMA, and sends again what was in
//! flight; all operations may be done twice. A request that was in flight at [`ATTEMPTS`] failures
//! ends with `Io`: it may be the very one the device breaks on.
//!
//! Queues: a batch goes out on one queue, so that it costs one doorbell, and the next batch on the
//! next. The guest has one processor, so queues of its processors' own would be one queue.

use alloc::vec;
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::hw::virtio::{Status as DeviceStatus, feature as ring_feature};
use xinim_abi::hw::virtio_blk::{
    ID_LEN, RANGE_UNMAP, RangeSegment, RequestHeader, SECTOR_SIZE, Status, feature, request,
};
use xinim_abi::services::block::{Text, flags};
use xinim_block_service::{BlockDevice, Completion, Operation, Request, Unit};
use xinim_driver_kit::deadline::lost_at;
use xinim_driver_kit::pci::PciFunction;
use xinim_driver_kit::{Carver, Clock, Dma, DmaBuffer, Mmio, Segment, SharedMemory, Slice, trace};
use xinim_virtio::queue::{self, QueueOptions};
use xinim_virtio::{DeviceError, Queue, StartError, Transport};

use crate::config::{self, EXTRA_SEGMENTS};

/// Requests in flight, at most.
pub const DEPTH: usize = 1024;
/// Queues used, at most.
pub const QUEUES: u16 = 8;
/// Descriptors of an indirect table: requests on contiguous memory, which clients use, need three.
/// Others take descriptors of the ring.
const INDIRECT: u16 = 4;
/// How often a request is sent before it counts as failed. A reset of the device counts for all that were in
/// flight, whoever is to blame.
pub const ATTEMPTS: u8 = 5;
/// While requests are in flight the rings are looked at and the doorbells rung again this often, in case
/// an interrupt or a doorbell was lost.
pub const WATCH_NS: u64 = 1_000_000_000;
/// The serial number needs no disk; a device that takes longer is reset and asked again.
const ID_TIMEOUT_NS: u64 = 2_000_000_000;

/// Size of the area with header, status and range of one request, and the offsets in it.
const AREA: usize = 64;
const AREA_STATUS: usize = 16;
const AREA_RANGE: usize = 32;
/// What the status byte holds until the device writes it; no valid status.
const STATUS_PENDING: u8 = 0xFF;
/// What stands in the place of the serial number before: no text, so that a device that says it has answered and
/// has not is found out.
const UNANSWERED: [u8; ID_LEN] = [0xFF; ID_LEN];
/// Cookie of the request for the serial number.
const ID_COOKIE: u32 = u32::MAX;

const WANTED: u64 = feature::SIZE_MAX
    | feature::SEG_MAX
    | feature::RO
    | feature::BLK_SIZE
    | feature::FLUSH
    | feature::TOPOLOGY
    | feature::CONFIG_WCE
    | feature::MQ
    | feature::DISCARD
    | feature::WRITE_ZEROES
    | ring_feature::INDIRECT_DESC
    | ring_feature::EVENT_IDX;

/// MSI-X vectors; `None` for polling only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vectors {
    /// Of all queues.
    pub queues: Option<u16>,
    /// Of changes of configuration and status.
    pub config: Option<u16>,
}

#[derive(Clone, Debug)]
struct Slot {
    busy: bool,
    cookie: u64,
    request: Request,
    data: Vec<Segment>,
    queue: u16,
    /// When it was sent, in ns.
    since: u64,
    attempts: u8,
}

/// Counters, for the log and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    pub requests: u64,
    pub bytes: u64,
    pub errors: u64,
    pub doorbells: u64,
    pub recoveries: u64,
    /// Requests sent again after the device reported an error.
    pub repeats: u64,
}

/// A virtio-blk device in use.
pub struct Disk<M, D: Dma, C> {
    transport: Transport<M>,
    queues: Vec<Queue<Slice<D::Buffer>>>,
    /// `AREA` bytes per slot, and one more.
    areas: Slice<D::Buffer>,
    clock: C,
    features: u64,
    vectors: Vectors,
    unit: Unit,
    /// Longest segment the device takes, in bytes.
    max_segment: u32,
    generation: u64,
    slots: Vec<Slot>,
    free: Vec<u16>,
    /// Where the present batch goes.
    queue: usize,
    /// Done without the device.
    immediate: Vec<Completion>,
    /// Look at status, configuration and deadlines at the next poll.
    attention: bool,
    /// No request runs out of time before this, in ns.
    watch: u64,
    chain: Vec<Segment>,
    statistics: Statistics,
    /// When the device last completed something, in ns.
    heard: u64,
}

/// What came of asking for the serial number.
enum Asked {
    Named,
    Refused,
    Again,
}

impl<M: Mmio, D: Dma, C: Clock> Disk<M, D, C> {
    /// Takes over the device of `function` from whatever state it is in. On `Ok` it works.
    pub fn start<F: PciFunction<Mmio = M>>(
        function: &F,
        dma: &D,
        clock: C,
        vectors: Vectors,
    ) -> core::result::Result<Self, StartError> {
        let mut transport = Transport::open(function)?;
        transport.reset(&clock)?;
        function.reset_done()?;
        function.enable(true)?;
        let features = transport.negotiate(WANTED)?;
        let event_idx = features & ring_feature::EVENT_IDX != 0;
        let has_indirect = features & ring_feature::INDIRECT_DESC != 0;
        let indirect = if has_indirect { INDIRECT } else { 0 };
        let options = QueueOptions { event_idx, indirect };
        let count = config::queue_count(&transport, features)?.min(QUEUES);
        let mut sizes = Vec::new();
        for queue in 0..count {
            let size = transport.queue_size(queue, queue::SIZE_MAX)?;
            if u32::from(size) < EXTRA_SEGMENTS + 1 {
                return Err(DeviceError::Queue(queue).into());
            }
            sizes.push(size);
        }
        let smallest = sizes.iter().copied().min().unwrap_or(0);
        let depth = sizes.iter().map(|&size| usize::from(size)).sum::<usize>().min(DEPTH);
        let (unit, max_segment) = config::read_unit(&transport, features, smallest, depth as u32)?;
        let area_bytes = (depth + 1) * AREA;
        let ring_bytes: usize = sizes.iter().map(|&size| queue::bytes(size, options)).sum();
        let mut carver = Carver::new(dma, area_bytes + ring_bytes)?;
        let areas = carver.take(area_bytes, AREA)?;
        let mut queues = Vec::new();
        for size in sizes {
            queues.push(Queue::new(&mut carver, size, options)?);
        }
        let idle = Slot {
            busy: false,
            cookie: 0,
            request: Request::flush(),
            data: Vec::new(),
            queue: 0,
            since: 0,
            attempts: 0,
        };
        let mut disk = Self {
            transport,
            queues,
            areas,
            clock,
            features,
            vectors,
            unit,
            max_segment,
            generation: 1,
            slots: vec![idle; depth],
            free: (0..depth as u16).rev().collect(),
            queue: 0,
            immediate: Vec::new(),
            attention: false,
            watch: 0,
            chain: Vec::new(),
            statistics: Statistics::default(),
            heard: 0,
        };
        disk.enable_queues()?;
        // Clients know the disk again by it after a driver's death: one answer that got lost or came out wrong
        // must not make it another disk.
        let mut refusals = 0;
        for _ in 0..ATTEMPTS {
            match disk.read_serial()? {
                Asked::Named => break,
                // It has none, unless it was a request with a wrong bit that it refused.
                Asked::Refused if refusals > 0 => break,
                Asked::Refused => refusals += 1,
                Asked::Again => {}
            }
        }
        Ok(disk)
    }

    fn enable_queues(&mut self) -> core::result::Result<(), DeviceError> {
        // Without it NEEDS_RESET is found out by time-outs.
        let _taken = self.transport.set_config_vector(self.vectors.config);
        for (index, queue) in self.queues.iter().enumerate() {
            let (size, addresses) = (queue.size(), queue.addresses());
            self.transport.setup_queue(index as u16, size, addresses, self.vectors.queues)?;
        }
        self.transport.driver_ok();
        Ok(())
    }

    /// Asks for the serial number (5.2.6: GET_ID) and waits for it. A device that does not answer, or not in a way
    /// that can be understood, is reset.
    fn read_serial(&mut self) -> core::result::Result<Asked, StartError> {
        let area = self.slots.len() * AREA;
        let header = RequestHeader { kind: request::GET_ID, reserved: 0, sector: 0 };
        self.areas.write_value(area, &header);
        self.areas.write_bytes(area + AREA_STATUS, &[STATUS_PENDING]);
        self.areas.write_bytes(area + AREA_RANGE, &UNANSWERED);
        let part = |at: usize, len| Segment { address: self.areas.device_address(at).address, len };
        let chain = [
            part(area, size_of::<RequestHeader>() as u32),
            part(area + AREA_RANGE, ID_LEN as u32),
            part(area + AREA_STATUS, 1),
        ];
        self.queues[0].disarm();
        self.queues[0].add(&chain, 1, ID_COOKIE)?;
        self.kick();
        let (queue, transport) = (&mut self.queues[0], &self.transport);
        let answered = transport.wait_for(&self.clock, ID_TIMEOUT_NS, || queue.has_used());
        if !answered || queue.pop().is_err() {
            return self.restart().map(|()| Asked::Again);
        }
        let (mut status, mut id) = ([0], [0; ID_LEN]);
        self.areas.read_bytes(area + AREA_STATUS, &mut status);
        self.areas.read_bytes(area + AREA_RANGE, &mut id);
        Ok(match status[0] {
            status if status == Status::Ok as u8 && id != UNANSWERED => {
                self.unit.serial = Text::from_device(&id);
                Asked::Named
            }
            status if status == Status::Unsupported as u8 => Asked::Refused,
            _ => Asked::Again,
        })
    }

    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Queues in use.
    pub fn queue_count(&self) -> usize {
        self.queues.len()
    }

    /// Puts the request of a slot on `queue`.
    fn send(&mut self, index: u16, queue: usize) -> Result<()> {
        let area = usize::from(index) * AREA;
        let slot = &mut self.slots[usize::from(index)];
        let Request { operation, sector, bytes, flags: given } = slot.request;
        let kind = match operation {
            Operation::Read => request::IN,
            Operation::Write => request::OUT,
            Operation::Flush => request::FLUSH,
            Operation::Discard => request::DISCARD,
            Operation::WriteZeroes => request::WRITE_ZEROES,
        };
        let header_sector = if operation.has_data() { sector } else { 0 };
        let header = RequestHeader { kind, reserved: 0, sector: header_sector };
        self.areas.write_value(area, &header);
        self.areas.write_bytes(area + AREA_STATUS, &[STATUS_PENDING]);
        let part = |at: usize, len| Segment { address: self.areas.device_address(at).address, len };
        self.chain.clear();
        self.chain.push(part(area, size_of::<RequestHeader>() as u32));
        if matches!(operation, Operation::Discard | Operation::WriteZeroes) {
            let num_sectors = bytes / SECTOR_SIZE as u32;
            let unmap = given & flags::MAY_UNMAP != 0;
            let range =
                RangeSegment { sector, num_sectors, flags: if unmap { RANGE_UNMAP } else { 0 } };
            self.areas.write_value(area + AREA_RANGE, &range);
            self.chain.push(part(area + AREA_RANGE, size_of::<RangeSegment>() as u32));
        } else {
            self.chain.extend_from_slice(&slot.data);
        }
        self.chain.push(part(area + AREA_STATUS, 1));
        let readable = match operation {
            Operation::Read => 1,
            _ => self.chain.len() - 1,
        };
        let head = self.queues[queue].add(&self.chain, readable, index.into())?;
        trace::issued(slot.cookie, queue as u16, head);
        slot.queue = queue as u16;
        slot.since = self.clock.now_ns();
        slot.attempts += 1;
        Ok(())
    }

    /// Moves what the queues returned to `done`.
    /// True: something is sent again, and waits for the doorbell.
    fn collect(&mut self, done: &mut Vec<Completion>) -> core::result::Result<bool, DeviceError> {
        let mut repeats = false;
        done.append(&mut self.immediate);
        for queue in 0..self.queues.len() {
            while let Some(used) = self.queues[queue].pop()? {
                let index = used.cookie as u16;
                let mut status = [0];
                self.areas.read_bytes(usize::from(index) * AREA + AREA_STATUS, &mut status);
                let request = &self.slots[usize::from(index)].request;
                // A read that is reported done but not complete: its data are not to be trusted.
                let short = request.operation == Operation::Read && used.len < request.bytes;
                let result = match Status::from_u8(status[0]) {
                    Some(Status::Ok) if short => Err(Error::Io),
                    Some(Status::Ok) => Ok(()),
                    Some(Status::IoErr) => Err(Error::Io),
                    Some(Status::Unsupported) => Err(Error::NotSup),
                    // The slot stays busy: it is sent again.
                    None => return Err(DeviceError::Answer(status[0])),
                };
                if result == Err(Error::Io) && self.try_again(index) {
                    repeats = true;
                } else {
                    self.finish(index, result, done);
                }
            }
        }
        Ok(repeats)
    }

    /// What failed may succeed the next time: a host's moment, a bit on the bus. False: it was tried enough.
    fn try_again(&mut self, index: u16) -> bool {
        let slot = &self.slots[usize::from(index)];
        let sent = slot.attempts < ATTEMPTS && self.send(index, usize::from(slot.queue)).is_ok();
        self.statistics.repeats += u64::from(sent);
        sent
    }

    fn finish(&mut self, index: u16, result: Result<()>, done: &mut Vec<Completion>) {
        let slot = &mut self.slots[usize::from(index)];
        slot.busy = false;
        self.heard = self.clock.now_ns();
        self.statistics.errors += u64::from(result.is_err());
        done.push(Completion { cookie: slot.cookie, result });
        self.free.push(index);
    }

    /// Looks at what interrupts do not say: deadlines, NEEDS_RESET, a new capacity.
    fn examine(&mut self) -> core::result::Result<(), DeviceError> {
        let busy = self.slots.iter().filter(|slot| slot.busy);
        let oldest = busy.min_by_key(|slot| slot.since);
        let now = self.clock.now_ns();
        let lost = |slot: &Slot| lost_at(slot.since, slot.attempts, self.heard);
        let (deadline, oldest) = (oldest.map_or(u64::MAX, lost), oldest.map(|slot| slot.since));
        if now >= deadline {
            return Err(DeviceError::TimedOut);
        }
        self.watch = deadline.min(now.saturating_add(WATCH_NS));
        if oldest.is_some_and(|since| now.saturating_sub(since) >= WATCH_NS) {
            // The device may not have heard of them; a doorbell too many does no harm.
            for index in 0..self.queues.len() as u16 {
                if self.slots.iter().any(|slot| slot.busy && slot.queue == index) {
                    self.transport.notify(index);
                }
            }
        }
        if self.transport.device_status().contains(DeviceStatus::NEEDS_RESET) {
            return Err(DeviceError::NeedsReset);
        }
        self.resize()
    }

    fn resize(&mut self) -> core::result::Result<(), DeviceError> {
        let sectors = config::capacity(&self.transport)?;
        if sectors != self.unit.sectors {
            self.unit.sectors = sectors;
            self.generation += 1;
        }
        Ok(())
    }

    /// Resets the device and sets it up as it was; nothing is in flight then.
    fn restart(&mut self) -> core::result::Result<(), StartError> {
        self.transport.reset(&self.clock)?;
        // The very same features, so that ring layout and limits stay what they are.
        if self.transport.negotiate(self.features)? != self.features {
            return Err(DeviceError::FeaturesRefused.into());
        }
        for (index, queue) in self.queues.iter_mut().enumerate() {
            if self.transport.queue_size(index as u16, queue.size())? != queue.size() {
                return Err(DeviceError::Queue(index as u16).into());
            }
            queue.clear();
        }
        self.enable_queues()?;
        Ok(())
    }

    /// Resets the device and sends again what was in flight. On error the device is beyond help:
    /// it may still do DMA, so the memory of its requests must not be used by anybody.
    pub fn recover(&mut self, done: &mut Vec<Completion>) -> core::result::Result<(), StartError> {
        self.statistics.recoveries += 1;
        self.restart()?;
        self.resize()?;
        for index in 0..self.slots.len() as u16 {
            let slot = &self.slots[usize::from(index)];
            if !slot.busy {
                continue;
            }
            if slot.attempts >= ATTEMPTS {
                self.finish(index, Err(Error::Io), done);
            } else {
                // It fitted before together with all the others there, so it fits again.
                self.send(index, usize::from(slot.queue))?;
            }
        }
        self.watch = self.clock.now_ns().saturating_add(WATCH_NS);
        self.kick();
        Ok(())
    }
}

/// A segment in pieces of at most `longest` bytes.
fn cut(segment: Segment, longest: u32) -> impl Iterator<Item = Segment> {
    (0..segment.len).step_by(longest as usize).map(move |at| Segment {
        address: segment.address + u64::from(at),
        len: longest.min(segment.len - at),
    })
}

impl<M: Mmio, D: Dma, C: Clock> BlockDevice for Disk<M, D, C> {
    type Error = StartError;

    fn unit(&self, unit: u32) -> Option<&Unit> {
        (unit == 0).then_some(&self.unit)
    }

    fn instance(&self, _unit: u32) -> u32 {
        1
    }

    fn generation(&self) -> u64 {
        self.generation
    }

    fn submit(
        &mut self,
        unit: u32,
        request: &Request,
        data: &[Segment],
        cookie: u64,
    ) -> Result<()> {
        self.unit(unit).ok_or(Error::NxIo)?.check(request)?;
        let operation = request.operation;
        if operation == Operation::Flush && self.features & feature::FLUSH == 0 {
            // Without the feature every completed write is durable (5.2.6.2).
            self.immediate.push(Completion { cookie, result: Ok(()) });
            return Ok(());
        }
        let bytes: u64 = data.iter().map(|s| u64::from(s.len)).sum();
        let expected = if operation.has_data() { request.bytes } else { 0 };
        let pieces: u64 = data.iter().map(|s| u64::from(s.len.div_ceil(self.max_segment))).sum();
        if pieces > self.unit.max_segments.into() || bytes != u64::from(expected) {
            return Err(Error::Inval);
        }
        let index = self.free.last().copied().ok_or(Error::Again)?;
        let slot = &mut self.slots[usize::from(index)];
        slot.data.clear();
        slot.data.extend(data.iter().flat_map(|segment| cut(*segment, self.max_segment)));
        (slot.request, slot.cookie, slot.attempts) = (*request, cookie, 0);
        let first = self.queue;
        while let Err(error) = self.send(index, self.queue) {
            self.queue = (self.queue + 1) % self.queues.len();
            if error != Error::Again || self.queue == first {
                return Err(error);
            }
        }
        if self.in_flight() == 0 {
            self.watch = self.slots[usize::from(index)].since.saturating_add(WATCH_NS);
        }
        self.slots[usize::from(index)].busy = true;
        self.free.pop();
        self.statistics.requests += 1;
        self.statistics.bytes += bytes;
        Ok(())
    }

    fn kick(&mut self) {
        for (index, queue) in self.queues.iter_mut().enumerate() {
            if queue.has_unpublished() {
                self.queue = index + 1;
                if queue.publish() {
                    self.transport.notify(index as u16);
                    self.statistics.doorbells += 1;
                }
            }
        }
        self.queue %= self.queues.len();
    }

    fn poll(&mut self, done: &mut Vec<Completion>) -> core::result::Result<(), StartError> {
        let mut health = self.collect(done);
        if let Ok(repeats) = health
            && core::mem::take(&mut self.attention)
        {
            health = self.examine().map(|()| repeats);
        }
        match health {
            Ok(repeats) => {
                if repeats {
                    self.kick();
                }
                Ok(())
            }
            Err(_) => self.recover(done),
        }
    }

    fn has_completions(&self) -> bool {
        let used = self.queues.iter().any(Queue::has_used);
        used || self.attention || !self.immediate.is_empty()
    }

    fn arm(&mut self) -> bool {
        let used = self.queues.iter_mut().fold(false, |any, queue| queue.arm() | any);
        used || self.attention || !self.immediate.is_empty()
    }

    fn disarm(&mut self) {
        self.queues.iter_mut().for_each(Queue::disarm);
    }

    fn attend(&mut self) {
        self.attention = true;
    }

    fn wake_at(&self) -> Option<u64> {
        (self.in_flight() > 0).then_some(self.watch)
    }

    fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn now_ns(&self) -> u64 {
        self.clock.now_ns()
    }

    fn stop(&mut self) -> core::result::Result<(), StartError> {
        Ok(self.transport.reset(&self.clock)?)
    }
}
