//! virtio-blk (VIRTIO 5.2) over a [`BlockBackend`].
//!
//! ```text
//!   queue 0..8 --pop--> begin --submit--> back end --poll--> complete --push--> its queue
//!                          `--- refused: status at once ---------------^
//! ```
//! Requests: IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES. Anything else is UNSUPP; a range
//! beyond the disk, a length that is no multiple of 512, a write to a read-only disk, unreachable
//! memory and every back-end failure are IOERR. A chain without header or status byte cannot be
//! answered: the device then needs a reset.
//!
//! Requests complete in whatever order the host finishes them (5.2.6.2 gives none). Data are
//! stable after FLUSH, or at once while the driver has turned the write cache off (CONFIG_WCE), or
//! has not accepted FLUSH at all (5.2.6.2).
//!
//! Bounds: [`MAX_IN_FLIGHT`] requests with [`MAX_SEGMENTS`] pieces of memory; what is beyond stays
//! on its queue. A reset is done when the back end has let go of the driver's memory.

mod flight;
mod space;

use super::{Chain, Context, Progress, Queue, RingError, VirtioDevice};
use crate::backend::{BlockBackend, BlockInfo, Completion, Operation, Request};
use crate::device::GuestError;
use crate::dma::Segment;
use crate::trace::{Asked, EventKind, Interest};
use flight::{Flight, Flights};
use space::Space;
use xinim_abi::hw::register::Register;
use xinim_abi::hw::virtio::DeviceType;
use xinim_abi::hw::virtio_blk::{
    CONFIG, ID_LEN, RANGE_UNMAP, RangeSegment, RequestHeader, SECTOR_SIZE, Status, feature, request,
};
use zerocopy::{FromZeros, IntoBytes};

pub use space::{MAX_DISCARD, MAX_RANGES, MAX_ZEROES};

/// Data of one request at most, in bytes; more is IOERR.
pub const MAX_REQUEST: u64 = 16 << 20;
/// Requests the back end works on at a time.
pub const MAX_IN_FLIGHT: usize = 1024;
/// Pieces of guest memory in all of them together.
pub const MAX_SEGMENTS: usize = 64 << 10;
/// Requests begun, and completions given back, in one call.
const BATCH: usize = 64;

/// What the machine says about a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockConfig {
    /// Answer to GET_ID; cut to 20 bytes.
    pub id: String,
    /// Request queues, 1 to 64.
    pub queues: u16,
}

impl Default for BlockConfig {
    fn default() -> Self {
        Self { id: String::new(), queues: 1 }
    }
}

/// The device.
pub struct Block<B> {
    // Fixed configuration
    id: [u8; ID_LEN],
    queues: u16,
    // Glue
    backend: B,
    // Volatile state
    info: BlockInfo,
    space: Space,
    features: u64,
    flights: Flights,
    /// Queues left with work because too much was in flight.
    stalled: u64,
}

/// A request that is not begun, and what its driver is told.
type Refused = Status;

impl<B: BlockBackend> Block<B> {
    /// A back end whose length is no multiple of 512 loses its tail.
    pub fn new(backend: B, setup: &BlockConfig) -> Self {
        let info = backend.info();
        let queues = setup.queues.clamp(1, 64);
        let mut id = [0; ID_LEN];
        for (to, from) in id.iter_mut().zip(setup.id.bytes()) {
            *to = from;
        }
        let space = Space::new(&info, queues);
        let flights = Flights::default();
        Self { id, queues, backend, info, space, features: 0, flights, stalled: 0 }
    }

    pub fn backend(&self) -> &B {
        &self.backend
    }

    pub fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Requests the driver waits for.
    pub fn in_flight(&self) -> usize {
        self.flights.len()
    }

    fn accepted(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Whether writes have to be stable when they complete.
    fn write_through(&self) -> bool {
        if self.accepted(feature::CONFIG_WCE) {
            !self.space.write_back()
        } else {
            !self.accepted(feature::FLUSH) || !self.info.write_cache
        }
    }

    /// Starts one request, or answers it at once.
    fn begin(
        &mut self,
        index: u16,
        queue: &mut Queue,
        chain: &Chain,
        context: &Context<'_>,
    ) -> Result<(), RingError> {
        let context = &context.of(index, chain.head);
        let mut input = chain.readable();
        let mut header = RequestHeader::new_zeroed();
        let got = input.read(context, header.as_mut_bytes())?;
        let output = chain.writable();
        let Some(room) = output.len().checked_sub(1) else { return Err(RingError::Malformed) };
        if got < size_of::<RequestHeader>() {
            return Err(RingError::Malformed);
        }
        let mut last = output;
        last.skip(room);
        let Some(&Segment { address: status, .. }) = last.take(1).first() else {
            return Err(RingError::Malformed);
        };
        let length = if header.kind == request::OUT { input.len() } else { room };
        let (kind, sector) = (header.kind, header.sector);
        let mut flight = Flight {
            kind,
            sector,
            length,
            room,
            queue: index,
            head: chain.head,
            ..Flight::new(status)
        };
        let begun = match kind {
            request::IN => self.transfer(&mut flight, Operation::Read, chain, context),
            request::OUT => {
                let fua = self.write_through();
                self.transfer(&mut flight, Operation::Write { fua }, chain, context)
            }
            request::FLUSH => Ok(vec![Request::flush(0)]),
            request::GET_ID => {
                let size = (room as usize).min(ID_LEN);
                let mut output = output;
                flight.written = size as u64;
                match output.write(context, &self.id[..size]) {
                    Ok(_) => Err(Status::Ok),
                    Err(_) => Err(Status::IoErr),
                }
            }
            request::DISCARD if self.accepted(feature::DISCARD) => {
                self.ranges(kind, input, context)
            }
            request::WRITE_ZEROES if self.accepted(feature::WRITE_ZEROES) => {
                self.ranges(kind, input, context)
            }
            _ => Err(Status::Unsupported),
        };
        match begun {
            Ok(requests) => {
                flight.parts = requests.len() as u32;
                flight.segments = requests.iter().map(|r| r.segments.len()).sum();
                if context.tracer.wants(Interest::HOST_IO) {
                    flight.asked = requests.iter().map(host).collect();
                }
                let slot = self.flights.insert(flight);
                for (part, request) in (0u64..).zip(requests) {
                    let owner = context.owner;
                    context.tracer.host_io(context.origin, owner, host(&request), None);
                    let tag = part << 32 | u64::from(slot);
                    self.backend.submit(Request { tag, ..request }, context.dma);
                }
                Ok(())
            }
            Err(status) => {
                flight.status = status;
                reply(&flight, 0, queue, context)
            }
        }
    }

    /// First byte of a transfer, or why it cannot be.
    fn check(&self, sector: u64, length: u64) -> Result<u64, Refused> {
        let end = sector.checked_add(length / SECTOR_SIZE).ok_or(Status::IoErr)?;
        if !length.is_multiple_of(SECTOR_SIZE) || end > self.info.length / SECTOR_SIZE {
            return Err(Status::IoErr);
        }
        Ok(sector * SECTOR_SIZE)
    }

    fn transfer(
        &self,
        flight: &mut Flight,
        operation: Operation,
        chain: &Chain,
        context: &Context<'_>,
    ) -> Result<Vec<Request>, Refused> {
        let Flight { sector, length, .. } = *flight;
        let offset = self.check(sector, length)?;
        let read = operation == Operation::Read;
        if length > MAX_REQUEST || (self.info.read_only && !read) {
            return Err(Status::IoErr);
        }
        let mut cursor = if read { chain.writable() } else { chain.readable() };
        if !read {
            cursor.skip(size_of::<RequestHeader>() as u64);
        }
        let segments = cursor.take(length);
        let reachable = |s: &Segment| context.dma.reaches(s.address, s.length.into(), read);
        if let Some(bad) = segments.iter().find(|segment| !reachable(segment)) {
            context.moved(read, std::slice::from_ref(bad), false);
            return Err(Status::IoErr);
        }
        if read {
            flight.written = length;
        }
        if context.tracer.is_on() {
            flight.traced = segments.clone();
        }
        Ok(vec![Request { tag: 0, operation, offset, length, segments }])
    }

    /// What a DISCARD or WRITE_ZEROES asks for (5.2.6.1).
    fn ranges(
        &self,
        kind: u32,
        mut input: super::chain::Cursor<'_>,
        context: &Context<'_>,
    ) -> Result<Vec<Request>, Refused> {
        let size = size_of::<RangeSegment>() as u64;
        let count = input.len() / size;
        if !input.len().is_multiple_of(size) || count == 0 || count > u64::from(MAX_RANGES) {
            return Err(Status::Unsupported);
        }
        let (limit, known) = match kind {
            request::DISCARD => (MAX_DISCARD, 0),
            _ => (MAX_ZEROES, RANGE_UNMAP),
        };
        let mut requests = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let mut range = RangeSegment::new_zeroed();
            input.read(context, range.as_mut_bytes()).map_err(|_| Status::IoErr)?;
            if range.flags & !known != 0 {
                return Err(Status::Unsupported);
            }
            let length = u64::from(range.num_sectors) * SECTOR_SIZE;
            let offset = self.check(range.sector, length)?;
            if length > limit || self.info.read_only {
                return Err(Status::IoErr);
            }
            let operation = match kind {
                request::DISCARD => Operation::Discard,
                _ => Operation::WriteZeroes { unmap: range.flags & RANGE_UNMAP != 0 },
            };
            requests.push(Request { tag: 0, operation, offset, length, segments: Vec::new() });
        }
        Ok(requests)
    }

    fn trace_completion(&mut self, completion: &Completion, context: &Context<'_>) {
        let Some(flight) = self.flights.get_mut(completion.tag as u32) else { return };
        let part = (completion.tag >> 32) as usize;
        let Some(&asked) = flight.asked.get(part) else { return };
        let owner = context.of(flight.queue, flight.head).owner;
        let errno = completion.result.err().map_or(0, |error| error.errno);
        context.tracer.host_io(context.origin, owner, asked, Some(errno));
    }

    /// One completion of the back end; the request it ends, with its errno, when that was the
    /// last part of it.
    fn finished(&mut self, completion: Completion) -> Option<(Flight, i32)> {
        let slot = completion.tag as u32;
        let flight = self.flights.get_mut(slot)?;
        if let Err(error) = completion.result {
            (flight.status, flight.errno) = (Status::IoErr, error.errno);
            flight.written = 0;
        }
        flight.parts = flight.parts.saturating_sub(1);
        if flight.parts > 0 {
            return None;
        }
        let flight = self.flights.remove(slot)?;
        let errno = flight.errno;
        Some((flight, errno))
    }
}

/// A request as the trace tells it.
fn host(request: &Request) -> Asked {
    (request.operation.host(), request.offset, request.length)
}

/// Writes the status and gives the chain back.
fn reply(
    flight: &Flight,
    errno: i32,
    queue: &mut Queue,
    context: &Context<'_>,
) -> Result<(), RingError> {
    if !queue.is_live() {
        return Ok(());
    }
    let context = &context.of(flight.queue, flight.head);
    let Flight { kind, sector, length, room, status, .. } = *flight;
    context.moved(kind == request::IN, &flight.traced, status == Status::Ok);
    let status = status as u8;
    context.tracer.emit(context.origin, || EventKind::BlockRequest {
        queue: flight.queue,
        head: flight.head,
        kind,
        sector,
        length,
        status,
        errno,
    });
    context.write(flight.status_address, &[status])?;
    // `len` covers a prefix (2.7.8.2): the status counts only when all before it is written.
    let total = if flight.written == room { room + 1 } else { flight.written };
    queue.push(context, flight.head, total as u32)
}

impl<B: BlockBackend> VirtioDevice for Block<B> {
    fn device_type(&self) -> DeviceType {
        DeviceType::Block
    }

    fn pci_class(&self) -> [u8; 3] {
        // Mass storage, SCSI, as QEMU's.
        [0x01, 0x00, 0x00]
    }

    fn features(&self) -> u64 {
        let mut features = feature::SIZE_MAX
            | feature::SEG_MAX
            | feature::BLK_SIZE
            | feature::TOPOLOGY
            | feature::FLUSH
            | feature::CONFIG_WCE;
        if self.queues > 1 {
            features |= feature::MQ;
        }
        if self.info.read_only {
            return features | feature::RO;
        }
        if self.info.discard {
            features |= feature::DISCARD;
        }
        features | feature::WRITE_ZEROES
    }

    fn queue_count(&self) -> u16 {
        self.queues
    }

    fn config_table(&self) -> &'static [Register] {
        CONFIG
    }

    fn config(&self) -> &[u8] {
        self.space.bytes()
    }

    fn write_config(&mut self, offset: u64, size: u8, value: u64) -> Result<(), GuestError> {
        if !Space::is_write_back(offset, size) {
            return Err(GuestError::ReadOnly);
        }
        if !self.accepted(feature::CONFIG_WCE) {
            return Err(GuestError::BadState);
        }
        if value > 1 {
            return Err(GuestError::BadValue);
        }
        self.space.set_write_back(value != 0);
        Ok(())
    }

    fn activate(&mut self, features: u64) {
        self.features = features;
    }

    fn reset(&mut self) {
        self.features = 0;
        self.stalled = 0;
        self.space.set_write_back(self.info.write_cache);
        self.backend.cancel();
    }

    fn is_resetting(&mut self) -> bool {
        while let Some(completion) = self.backend.poll() {
            self.finished(completion);
        }
        self.backend.in_flight() > 0
    }

    fn process(
        &mut self,
        index: u16,
        queue: &mut Queue,
        context: &Context<'_>,
    ) -> Result<Progress, RingError> {
        queue.quiet(context)?;
        let mut taken = 0;
        let progress = loop {
            if self.flights.len() >= MAX_IN_FLIGHT || self.flights.segments() >= MAX_SEGMENTS {
                self.stalled |= 1 << index;
                break Progress::Idle;
            }
            if taken >= BATCH {
                break Progress::More;
            }
            taken += 1;
            match queue.pop(context)? {
                Some(chain) => self.begin(index, queue, &chain, context)?,
                // Counts too: a driver whose index flickers must not keep us here.
                None if queue.rearm(context)? => queue.quiet(context)?,
                None => break Progress::Idle,
            }
        };
        self.backend.start();
        Ok(progress)
    }

    fn complete(
        &mut self,
        queues: &mut [Queue],
        context: &Context<'_>,
    ) -> Result<Progress, (u16, RingError)> {
        for _ in 0..BATCH {
            let Some(completion) = self.backend.poll() else { return Ok(Progress::Idle) };
            self.trace_completion(&completion, context);
            let Some((flight, errno)) = self.finished(completion) else { continue };
            let index = flight.queue;
            if let Some(queue) = queues.get_mut(usize::from(index)) {
                reply(&flight, errno, queue, context).map_err(|error| (index, error))?;
            }
        }
        Ok(Progress::More)
    }

    fn resumable(&mut self) -> u64 {
        let room = self.flights.len() < MAX_IN_FLIGHT && self.flights.segments() < MAX_SEGMENTS;
        if room { std::mem::take(&mut self.stalled) } else { 0 }
    }

    fn has_disk(&self) -> bool {
        true
    }

    fn resize(&mut self) -> bool {
        let length = self.backend.info().length;
        let changed = length != self.info.length;
        self.info.length = length;
        self.space.set_length(length);
        changed
    }
}

#[cfg(test)]
#[path = "blk_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "queue_tests.rs"]
mod queue_tests;
