//! Requests on their queue: several at a time, waited for until all are answered.

use crate::changes::{Change, Range};
use xinim_abi::hw::virtio_iommu::{
    Attach, Map, REQUEST_QUEUE, TAIL_SIZE, Unmap, map_flag, request,
};
use xinim_driver_kit::carve::Slice;
use xinim_driver_kit::clock::{Clock, wait_until};
use xinim_driver_kit::dma::{DmaBuffer, Segment};
use xinim_driver_kit::memory::SharedMemory;
use xinim_driver_kit::mmio::Mmio;
use xinim_virtio::{DeviceError, Queue, Transport};
use zerocopy::IntoBytes;

/// Entries of the queue; a request takes two.
pub const QUEUE_SIZE: u16 = 128;
/// A device that takes longer has failed. Ours answers within the access to its doorbell.
const TIMEOUT_NS: u64 = 1_000_000_000;
/// Bytes of one request's place: the longest request, and its tail at [`TAIL_AT`].
const SLOT: usize = 64;
const TAIL_AT: usize = 48;
/// What a tail holds before the device has written it: no status.
const UNANSWERED: u8 = 0xFF;

const _: () = assert!(size_of::<Map>() <= TAIL_AT && TAIL_AT + TAIL_SIZE <= SLOT);

/// Requests in the queue at a time.
fn at_once(queue: u16) -> usize {
    usize::from(queue / 2).max(1)
}

/// Bytes of memory for the requests of a queue of this size.
pub fn bytes(queue: u16) -> usize {
    at_once(queue) * SLOT
}

/// The request queue with its memory.
pub struct Requests<B> {
    queue: Queue<Slice<B>>,
    slots: Slice<B>,
}

impl<B: DmaBuffer> Requests<B> {
    pub fn new(queue: Queue<Slice<B>>, slots: Slice<B>) -> Self {
        Self { queue, slots }
    }

    /// Carries out all of them, in order.
    pub fn carry_out<M: Mmio>(
        &mut self,
        transport: &Transport<M>,
        clock: &impl Clock,
        domain: u32,
        endpoint: u32,
        changes: &[Change],
    ) -> Result<(), DeviceError> {
        for batch in changes.chunks(at_once(self.queue.size())) {
            for (slot, change) in batch.iter().enumerate() {
                self.add(slot, domain, endpoint, change)?;
            }
            if self.queue.publish() {
                transport.notify(REQUEST_QUEUE);
            }
            self.wait(batch.len(), clock)?;
        }
        Ok(())
    }

    fn add(
        &mut self,
        slot: usize,
        domain: u32,
        endpoint: u32,
        change: &Change,
    ) -> Result<(), DeviceError> {
        let at = slot * SLOT;
        let last = |range: &Range| range.address + (range.bytes - 1);
        let length = match change {
            Change::Attach => {
                let kind = request::ATTACH;
                self.put(at, Attach { kind, domain, endpoint, ..Attach::default() }.as_bytes())
            }
            Change::Map(range) => {
                let request = Map {
                    kind: request::MAP,
                    domain,
                    virt_start: range.address,
                    virt_end: last(range),
                    phys_start: range.address,
                    flags: map_flag::READ | map_flag::WRITE,
                    ..Map::default()
                };
                self.put(at, request.as_bytes())
            }
            Change::Unmap(range) => {
                let request = Unmap {
                    kind: request::UNMAP,
                    domain,
                    virt_start: range.address,
                    virt_end: last(range),
                    ..Unmap::default()
                };
                self.put(at, request.as_bytes())
            }
        };
        self.slots.write_bytes(at + TAIL_AT, &[UNANSWERED; TAIL_SIZE]);
        let request = self.segment(at, length);
        let tail = self.segment(at + TAIL_AT, TAIL_SIZE);
        let added = self.queue.add(&[request, tail], 1, slot as u32);
        added.map(drop).map_err(|_| DeviceError::Queue(REQUEST_QUEUE))
    }

    fn put(&self, at: usize, bytes: &[u8]) -> usize {
        self.slots.write_bytes(at, bytes);
        bytes.len()
    }

    fn segment(&self, at: usize, length: usize) -> Segment {
        Segment { len: length as u32, ..self.slots.device_address(at) }
    }

    fn wait(&mut self, count: usize, clock: &impl Clock) -> Result<(), DeviceError> {
        let mut left = count;
        let mut failed = None;
        let queue = &mut self.queue;
        let slots = &self.slots;
        let done = wait_until(clock, TIMEOUT_NS, || {
            while failed.is_none() && left > 0 {
                match queue.pop() {
                    Ok(Some(used)) => {
                        let mut tail = [UNANSWERED; TAIL_SIZE];
                        slots.read_bytes(used.cookie as usize * SLOT + TAIL_AT, &mut tail);
                        left -= 1;
                        if tail[0] != 0 {
                            failed = Some(DeviceError::Answer(tail[0]));
                        }
                    }
                    Ok(None) => break,
                    Err(error) => failed = Some(error),
                }
            }
            failed.is_some() || left == 0
        });
        match failed {
            Some(error) => Err(error),
            None if done => Ok(()),
            None => Err(DeviceError::TimedOut),
        }
    }
}
