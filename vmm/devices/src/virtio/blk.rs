//! virtio-blk (VIRTIO 5.2) over a [`BlockBackend`].
//!
//! Requests: IN, OUT, FLUSH, GET_ID. Anything else is UNSUPP; a range beyond the disk, a length
//! that is no multiple of 512, a write to a read-only disk, unreachable memory and every back-end
//! failure are IOERR. A chain without header or status byte cannot be answered: the device then
//! needs a reset.
//!
//! The disk has a volatile write cache as far as the driver knows (FLUSH is offered and WCE is
//! not configurable): data is stable after FLUSH. Requests are carried out in the order found
//! unless a test installs another ([`Block::set_order`]).

use super::{Chain, Context, Progress, Queue, RingError, VirtioDevice};
use crate::backend::BlockBackend;
use crate::trace::EventKind;
use xinim_abi::hw::register::Register;
use xinim_abi::hw::virtio::DeviceType;
use xinim_abi::hw::virtio_blk::{
    CONFIG, ID_LEN, RequestHeader, SECTOR_SIZE, Status, config, feature, request,
};
use zerocopy::{FromZeros, IntoBytes};

/// Data of one request at most; more is IOERR.
pub const MAX_REQUEST: u64 = 16 << 20;
/// Piece in which data moves between back end and guest memory.
const CHUNK: usize = 256 << 10;
/// Data segments a driver may use in one request: its chain plus header and status fits the
/// smallest default queue.
const SEG_MAX: u32 = 126;
/// Requests carried out in one call, and bytes after which a call ends.
const BATCH: usize = 64;
const BATCH_BYTES: u64 = 8 << 20;

/// Chooses which of `n` pending requests is completed next (taken modulo `n`).
pub type Order = Box<dyn FnMut(usize) -> usize + Send>;

/// What the machine says about a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockConfig {
    /// Answer to GET_ID; cut to 20 bytes.
    pub id: String,
    /// Preferred access size in bytes, a power of two of at least 512.
    pub block_size: u32,
}

impl Default for BlockConfig {
    fn default() -> Self {
        Self { id: String::new(), block_size: SECTOR_SIZE as u32 }
    }
}

/// The device.
pub struct Block<B> {
    // Fixed configuration
    id: [u8; ID_LEN],
    space: [u8; config::SIZE],
    sectors: u64,
    read_only: bool,
    // Glue
    backend: B,
    order: Option<Order>,
    // Volatile state
    bounce: Vec<u8>,
}

impl<B: BlockBackend> Block<B> {
    /// A back end whose length is no multiple of 512 loses its tail.
    pub fn new(backend: B, setup: &BlockConfig) -> Self {
        let sectors = backend.len() / SECTOR_SIZE;
        let read_only = backend.read_only();
        let mut space = [0; config::SIZE];
        space[config::CAPACITY..config::CAPACITY + 8].copy_from_slice(&sectors.to_le_bytes());
        space[config::SEG_MAX..config::SEG_MAX + 4].copy_from_slice(&SEG_MAX.to_le_bytes());
        let block_size = setup.block_size.max(SECTOR_SIZE as u32).next_power_of_two();
        space[config::BLK_SIZE..config::BLK_SIZE + 4].copy_from_slice(&block_size.to_le_bytes());
        let mut id = [0; ID_LEN];
        for (to, from) in id.iter_mut().zip(setup.id.bytes()) {
            *to = from;
        }
        Self { id, space, sectors, read_only, backend, order: None, bounce: Vec::new() }
    }

    /// Completes pending requests in another order than found.
    pub fn set_order(&mut self, order: Order) {
        self.order = Some(order);
    }

    pub fn backend(&self) -> &B {
        &self.backend
    }

    pub fn backend_mut(&mut self) -> &mut B {
        &mut self.backend
    }

    /// Carries out one request; returns the bytes put into its device-writable part.
    fn execute(&mut self, chain: &Chain, context: &Context<'_>) -> Result<(u32, u64), RingError> {
        let mut input = chain.readable();
        let mut header = RequestHeader::new_zeroed();
        let got = input.read(context, header.as_mut_bytes())?;
        let mut output = chain.writable();
        let Some(room) = output.len().checked_sub(1) else { return Err(RingError::Malformed) };
        if got < size_of::<RequestHeader>() {
            return Err(RingError::Malformed);
        }
        let mut status_at = output;
        status_at.skip(room);

        let mut written = 0;
        let status = match header.kind {
            request::IN => self.read(header.sector, room, &mut output, context, &mut written),
            request::OUT => self.write(header.sector, &mut input, context),
            request::FLUSH => self.backend.flush().map_err(|_| Status::IoErr),
            request::GET_ID => {
                let length = (room as usize).min(ID_LEN);
                let done = output.write(context, &self.id[..length]);
                written = if done.is_ok() { length as u64 } else { 0 };
                done.map(drop).map_err(|_| Status::IoErr)
            }
            _ => Err(Status::Unsupported),
        };
        let status = match status {
            Ok(()) => Status::Ok,
            Err(status) => status,
        };
        let length = match header.kind {
            request::OUT => chain.readable().len() - size_of::<RequestHeader>() as u64,
            _ => room,
        };
        context.tracer.emit(context.origin, || EventKind::BlockRequest {
            kind: header.kind,
            sector: header.sector,
            length,
            status: status as u8,
        });
        status_at.write(context, &[status as u8])?;
        // `len` covers a prefix (2.7.8.2): the status counts only when all before it is written.
        let total = if written == room { written + 1 } else { written };
        Ok((total as u32, length))
    }

    /// First byte of a transfer, or why it cannot be.
    fn check(&self, sector: u64, length: u64) -> Result<u64, Status> {
        let count = length / SECTOR_SIZE;
        let end = sector.checked_add(count).ok_or(Status::IoErr)?;
        if !length.is_multiple_of(SECTOR_SIZE) || length > MAX_REQUEST || end > self.sectors {
            return Err(Status::IoErr);
        }
        Ok(sector * SECTOR_SIZE)
    }

    fn read(
        &mut self,
        sector: u64,
        length: u64,
        output: &mut super::chain::Cursor<'_>,
        context: &Context<'_>,
        written: &mut u64,
    ) -> Result<(), Status> {
        let start = self.check(sector, length)?;
        let Self { bounce, backend, .. } = self;
        while *written < length {
            let buffer = piece(bounce, length - *written);
            backend.read_at(start + *written, buffer).map_err(|_| Status::IoErr)?;
            output.write(context, buffer).map_err(|_| Status::IoErr)?;
            *written += buffer.len() as u64;
        }
        Ok(())
    }

    fn write(
        &mut self,
        sector: u64,
        input: &mut super::chain::Cursor<'_>,
        context: &Context<'_>,
    ) -> Result<(), Status> {
        let length = input.len();
        let start = self.check(sector, length)?;
        if self.read_only {
            return Err(Status::IoErr);
        }
        let Self { bounce, backend, .. } = self;
        let mut done = 0;
        while done < length {
            let buffer = piece(bounce, length - done);
            input.read(context, buffer).map_err(|_| Status::IoErr)?;
            backend.write_at(start + done, buffer).map_err(|_| Status::IoErr)?;
            done += buffer.len() as u64;
        }
        Ok(())
    }
}

/// The part of the bounce buffer for the next `left` bytes, at most [`CHUNK`].
fn piece(bounce: &mut Vec<u8>, left: u64) -> &mut [u8] {
    let size = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
    if bounce.len() < size {
        bounce.resize(size, 0);
    }
    &mut bounce[..size]
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
        let read_only = if self.read_only { feature::RO } else { 0 };
        feature::SEG_MAX | feature::BLK_SIZE | feature::FLUSH | read_only
    }

    fn queue_count(&self) -> u16 {
        1
    }

    fn config_table(&self) -> &'static [Register] {
        CONFIG
    }

    fn config(&self) -> &[u8] {
        &self.space
    }

    fn activate(&mut self, _features: u64) {}

    fn reset(&mut self) {}

    fn process(
        &mut self,
        _index: u16,
        queue: &mut Queue,
        context: &Context<'_>,
    ) -> Result<Progress, RingError> {
        queue.quiet(context)?;
        let mut bytes = 0;
        let mut pending = Vec::new();
        let mut taken = 0;
        loop {
            // Without an order of its own a request is taken, done and given back one by one.
            let room = if self.order.is_some() { BATCH } else { 1 };
            while pending.len() < room && taken < BATCH && bytes < BATCH_BYTES {
                match queue.pop(context)? {
                    Some(chain) => pending.push(chain),
                    None => break,
                }
                taken += 1;
            }
            if pending.is_empty() {
                if taken >= BATCH || bytes >= BATCH_BYTES {
                    return Ok(Progress::More);
                }
                if !queue.rearm(context)? {
                    return Ok(Progress::Idle);
                }
                queue.quiet(context)?;
                // Counts too: a driver whose index flickers must not keep us here.
                taken += 1;
                continue;
            }
            let choice = self.order.as_mut().map_or(0, |order| order(pending.len()));
            let chain = pending.swap_remove(choice % pending.len());
            let (written, length) = self.execute(&chain, context)?;
            bytes += length;
            queue.push(context, chain.head, written)?;
        }
    }
}

#[cfg(test)]
#[path = "blk_tests.rs"]
mod tests;
