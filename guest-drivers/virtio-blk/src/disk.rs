//! The device: requests in, completions out, in any order, many at a time.
//!
//! ```text
//!   start() --> live --submit()/kick()--> in flight --poll()--> completions
//!                 ^                          |
//!                 |                          | poll() fails, or expired(): the device broke a rule
//!                 `------- recover() <-------'      or a request took too long
//! ```
//! `recover` resets the device, so that it certainly does no more DMA, and sends again what was in
//! flight; reads, writes and flushes may be done twice. A request that was in flight at
//! [`ATTEMPTS`] failures ends with `Io`: it may be the very one the device breaks on.

use alloc::vec;
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::hw::virtio::feature as ring_feature;
use xinim_abi::hw::virtio_blk::{
    REQUEST_QUEUE, RequestHeader, SECTOR_SIZE, Status, config, feature, request,
};
use xinim_driver_kit::pci::PciFunction;
use xinim_driver_kit::{Carver, Clock, Dma, DmaBuffer, Mmio, Segment, SharedMemory, Slice};
use xinim_virtio::queue::{self, QueueOptions};
use xinim_virtio::{DeviceError, Queue, StartError, Transport};

/// Requests in flight, at most.
pub const DEPTH: u16 = 128;
/// Segments of data per request, at most: 256 KiB in scattered pages, starting anywhere.
const DATA_SEGMENTS_MAX: u32 = 65;
/// Header before and status byte behind the data.
const EXTRA_SEGMENTS: u32 = 2;
/// Descriptors of an indirect table: requests on contiguous memory, which clients use, need three.
/// Others take descriptors of the ring.
const INDIRECT: u16 = 4;
/// Longest request whatever its segments (the unit is bytes).
const BYTES_MAX: u64 = 4 << 20;
/// How often a request is sent before it counts as failed.
pub const ATTEMPTS: u8 = 3;
/// A request that takes longer has got lost. Generous: the host's disk may be very busy.
pub const TIMEOUT_NS: u64 = 30_000_000_000;

/// Size of the area with header and status of one request.
const AREA: usize = 32;
const AREA_STATUS: usize = 16;
/// What the status byte holds until the device writes it; no valid status.
const STATUS_PENDING: u8 = 0xFF;

const WANTED: u64 = feature::SEG_MAX
    | feature::RO
    | feature::BLK_SIZE
    | feature::FLUSH
    | ring_feature::INDIRECT_DESC
    | ring_feature::EVENT_IDX;

/// What the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// Capacity in 512-byte sectors.
    pub sectors: u64,
    /// Logical block size in bytes: requests are multiples of it.
    pub block_size: u32,
    pub read_only: bool,
    /// Writes are volatile until a flush.
    pub write_cache: bool,
    /// Longest request in bytes that fits however scattered its memory is.
    pub max_bytes: u32,
    /// Most segments of data in one request.
    pub max_segments: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Read,
    Write,
    Flush,
}

/// A finished request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// As passed to [`Disk::submit`].
    pub cookie: u64,
    pub result: Result<()>,
}

#[derive(Clone, Debug)]
struct Slot {
    busy: bool,
    cookie: u64,
    operation: Operation,
    sector: u64,
    data: Vec<Segment>,
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
}

/// A virtio-blk device in use.
pub struct Disk<M, D: Dma, C> {
    transport: Transport<M>,
    queue: Queue<Slice<D::Buffer>>,
    /// `AREA` bytes per slot.
    areas: Slice<D::Buffer>,
    clock: C,
    features: u64,
    vector: Option<u16>,
    info: Info,
    slots: Vec<Slot>,
    free: Vec<u16>,
    /// Done without the device.
    immediate: Vec<Completion>,
    chain: Vec<Segment>,
    statistics: Statistics,
}

impl<M: Mmio, D: Dma, C: Clock> Disk<M, D, C> {
    /// Takes over the device of `function` from whatever state it is in. On `Ok` it works;
    /// `vector` is its MSI-X vector, `None` for polling only.
    pub fn start<F: PciFunction<Mmio = M>>(
        function: &F,
        dma: &D,
        clock: C,
        vector: Option<u16>,
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
        let size = transport.queue_size(REQUEST_QUEUE, queue::SIZE_MAX)?;
        if u32::from(size) < EXTRA_SEGMENTS + 1 {
            return Err(DeviceError::Queue(REQUEST_QUEUE).into());
        }
        let info = read_info(&transport, features, size)?;
        let area_bytes = usize::from(DEPTH) * AREA;
        let mut carver = Carver::new(dma, area_bytes + queue::bytes(size, options))?;
        let areas = carver.take(area_bytes, AREA)?;
        let queue = Queue::new(&mut carver, size, options)?;
        let idle = Slot {
            busy: false,
            cookie: 0,
            operation: Operation::Flush,
            sector: 0,
            data: Vec::new(),
            since: 0,
            attempts: 0,
        };
        let mut disk = Self {
            transport,
            queue,
            areas,
            clock,
            features,
            vector,
            info,
            slots: vec![idle; usize::from(DEPTH)],
            free: (0..DEPTH).rev().collect(),
            immediate: Vec::new(),
            chain: Vec::new(),
            statistics: Statistics::default(),
        };
        disk.enable_queue()?;
        Ok(disk)
    }

    fn enable_queue(&mut self) -> core::result::Result<(), DeviceError> {
        let (size, addresses) = (self.queue.size(), self.queue.addresses());
        self.transport.set_config_vector(self.vector);
        self.transport.setup_queue(REQUEST_QUEUE, size, addresses, self.vector)?;
        self.transport.driver_ok();
        Ok(())
    }

    pub fn info(&self) -> &Info {
        &self.info
    }

    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    pub fn clock(&self) -> &C {
        &self.clock
    }

    /// Requests submitted and not completed.
    pub fn in_flight(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether a request on these bytes of the disk is possible at all: `RoFs`, or `Inval` where
    /// it is empty, too long, not whole blocks or past the end.
    pub fn check(&self, operation: Operation, sector: u64, bytes: u64) -> Result<()> {
        match operation {
            Operation::Flush => return Ok(()),
            Operation::Write if self.info.read_only => return Err(Error::RoFs),
            Operation::Read | Operation::Write => {}
        }
        let block = u64::from(self.info.block_size);
        let sectors = bytes / SECTOR_SIZE;
        let whole = bytes.is_multiple_of(block) && sector.is_multiple_of(block / SECTOR_SIZE);
        let end = sector.checked_add(sectors).ok_or(Error::Inval)?;
        let fits = end <= self.info.sectors && bytes > 0 && bytes <= BYTES_MAX;
        (whole && fits).then_some(()).ok_or(Error::Inval)
    }

    /// Adds a request; `data` is where the bytes come from or go to. The device hears of it at the
    /// next [`kick`](Self::kick). `Again`: no room now, try after a completion. Else the errors of
    /// [`check`](Self::check), and `Inval` for more than `max_segments`.
    pub fn submit(
        &mut self,
        operation: Operation,
        sector: u64,
        data: &[Segment],
        cookie: u64,
    ) -> Result<()> {
        let bytes = data.iter().map(|s| u64::from(s.len)).sum();
        self.check(operation, sector, bytes)?;
        if operation == Operation::Flush && self.features & feature::FLUSH == 0 {
            // Without the feature every completed write is durable (5.2.6.2).
            self.immediate.push(Completion { cookie, result: Ok(()) });
            return Ok(());
        }
        if data.len() > self.info.max_segments as usize {
            return Err(Error::Inval);
        }
        let index = self.free.last().copied().ok_or(Error::Again)?;
        let slot = &mut self.slots[usize::from(index)];
        slot.data.clear();
        if operation != Operation::Flush {
            slot.data.extend_from_slice(data);
        }
        (slot.operation, slot.sector, slot.cookie, slot.attempts) = (operation, sector, cookie, 0);
        self.send(index)?;
        self.slots[usize::from(index)].busy = true;
        self.free.pop();
        self.statistics.requests += 1;
        self.statistics.bytes += bytes;
        Ok(())
    }

    /// Puts the request of a slot on the queue.
    fn send(&mut self, index: u16) -> Result<()> {
        let area = usize::from(index) * AREA;
        let slot = &mut self.slots[usize::from(index)];
        let kind = match slot.operation {
            Operation::Read => request::IN,
            Operation::Write => request::OUT,
            Operation::Flush => request::FLUSH,
        };
        let sector = if slot.operation == Operation::Flush { 0 } else { slot.sector };
        self.areas.write_value(area, &RequestHeader { kind, reserved: 0, sector });
        self.areas.write_bytes(area + AREA_STATUS, &[STATUS_PENDING]);
        let part = |at: usize, len| Segment { address: self.areas.device_address(at).address, len };
        self.chain.clear();
        self.chain.push(part(area, size_of::<RequestHeader>() as u32));
        self.chain.extend_from_slice(&slot.data);
        self.chain.push(part(area + AREA_STATUS, 1));
        let readable = match slot.operation {
            Operation::Write => self.chain.len() - 1,
            Operation::Read | Operation::Flush => 1,
        };
        self.queue.add(&self.chain, readable, u32::from(index))?;
        slot.since = self.clock.now_ns();
        slot.attempts += 1;
        Ok(())
    }

    /// Tells the device about everything submitted, if it has to be told.
    pub fn kick(&mut self) {
        if self.queue.publish() {
            self.transport.notify(REQUEST_QUEUE);
            self.statistics.doorbells += 1;
        }
    }

    /// Moves what is finished to `done`. After an error only [`recover`](Self::recover) helps.
    pub fn poll(&mut self, done: &mut Vec<Completion>) -> core::result::Result<(), DeviceError> {
        done.append(&mut self.immediate);
        while let Some(used) = self.queue.pop()? {
            let index = used.cookie as u16;
            let mut status = [0];
            self.areas.read_bytes(usize::from(index) * AREA + AREA_STATUS, &mut status);
            let slot = &self.slots[usize::from(index)];
            let result = match Status::from_u8(status[0]) {
                Some(Status::Ok) if short(slot, used.len) => Err(Error::Io),
                Some(Status::Ok) => Ok(()),
                Some(Status::IoErr) => Err(Error::Io),
                Some(Status::Unsupported) => Err(Error::NotSup),
                // The slot stays busy: it is sent again.
                None => return Err(DeviceError::Answer(status[0])),
            };
            self.finish(index, result, done);
        }
        Ok(())
    }

    fn finish(&mut self, index: u16, result: Result<()>, done: &mut Vec<Completion>) {
        let slot = &mut self.slots[usize::from(index)];
        slot.busy = false;
        self.statistics.errors += u64::from(result.is_err());
        done.push(Completion { cookie: slot.cookie, result });
        self.free.push(index);
    }

    /// Whether [`poll`](Self::poll) would find anything.
    pub fn has_completions(&self) -> bool {
        !self.immediate.is_empty() || self.queue.has_used()
    }

    /// Asks for an interrupt at the next completion. True: poll again first, one is there.
    pub fn arm(&mut self) -> bool {
        self.queue.arm() || !self.immediate.is_empty()
    }

    /// Asks for no interrupts while completions are being polled for.
    pub fn disarm(&mut self) {
        self.queue.disarm();
    }

    /// An interrupt without completions: the device may have said that it is broken.
    pub fn check_status(&self) -> core::result::Result<(), DeviceError> {
        let broken =
            self.transport.device_status().contains(xinim_abi::hw::virtio::Status::NEEDS_RESET);
        if broken { Err(DeviceError::NeedsReset) } else { Ok(()) }
    }

    /// When the oldest request runs out of time, in ns; `None` when nothing is in flight.
    pub fn deadline(&self) -> Option<u64> {
        let busy = self.slots.iter().filter(|slot| slot.busy);
        busy.map(|slot| slot.since.saturating_add(TIMEOUT_NS)).min()
    }

    /// Whether a request has taken too long.
    pub fn expired(&self) -> bool {
        let now = self.clock.now_ns();
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// Resets the device and sends again what was in flight. On error the device is beyond help:
    /// it may still do DMA, so the memory of its requests must not be used by anybody.
    pub fn recover(&mut self, done: &mut Vec<Completion>) -> core::result::Result<(), StartError> {
        self.statistics.recoveries += 1;
        self.transport.reset(&self.clock)?;
        // The very same features, so that ring layout and limits stay what they are.
        if self.transport.negotiate(self.features)? != self.features {
            return Err(DeviceError::FeaturesRefused.into());
        }
        if self.transport.queue_size(REQUEST_QUEUE, self.queue.size())? != self.queue.size() {
            return Err(DeviceError::Queue(REQUEST_QUEUE).into());
        }
        self.queue.clear();
        self.enable_queue()?;
        for index in 0..DEPTH {
            let slot = &self.slots[usize::from(index)];
            if !slot.busy {
                continue;
            }
            if slot.attempts >= ATTEMPTS {
                self.finish(index, Err(Error::Io), done);
            } else {
                // It fitted before together with all the others, so it fits again.
                self.send(index)?;
            }
        }
        self.kick();
        Ok(())
    }

    /// Stops the device for good (an orderly end of the driver).
    pub fn stop(&mut self) -> core::result::Result<(), DeviceError> {
        self.transport.reset(&self.clock)
    }
}

/// A read that is reported done but not complete: its data are not to be trusted.
fn short(slot: &Slot, len: u32) -> bool {
    let bytes: u64 = slot.data.iter().map(|s| u64::from(s.len)).sum();
    slot.operation == Operation::Read && u64::from(len) < bytes
}

/// Reads and judges the configuration. A request's segments must fit into a queue of `size`.
fn read_info<M: Mmio>(
    transport: &Transport<M>,
    features: u64,
    size: u16,
) -> core::result::Result<Info, StartError> {
    let has = |bit| features & bit != 0;
    let (sectors, seg_max, block_size) = transport.config(|c| {
        (
            c.u64(config::CAPACITY),
            has(feature::SEG_MAX).then(|| c.u32(config::SEG_MAX)).flatten(),
            has(feature::BLK_SIZE).then(|| c.u32(config::BLK_SIZE)).flatten(),
        )
    })?;
    let sectors = sectors.ok_or(DeviceError::Config("no capacity"))?;
    if sectors > u64::MAX / SECTOR_SIZE {
        return Err(DeviceError::Config("capacity").into());
    }
    let block_size = block_size.unwrap_or(SECTOR_SIZE as u32);
    if !block_size.is_power_of_two() || !(512..=65536).contains(&block_size) {
        return Err(DeviceError::Config("block size").into());
    }
    let mut max_segments = DATA_SEGMENTS_MAX.min(u32::from(size) - EXTRA_SEGMENTS);
    if let Some(seg_max) = seg_max {
        max_segments = max_segments.min(seg_max.max(1));
    }
    // Memory may start anywhere in a page, which costs one segment more than its pages. One
    // segment alone never crosses a page boundary only if it is a sector.
    let max_bytes = match max_segments {
        1 => 512,
        n => (n - 1) * 4096,
    };
    if max_bytes < block_size {
        return Err(DeviceError::Config("fewer segments than a block needs").into());
    }
    Ok(Info {
        sectors,
        block_size,
        read_only: has(feature::RO),
        write_cache: has(feature::FLUSH),
        max_bytes,
        max_segments,
    })
}
