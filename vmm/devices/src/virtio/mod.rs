//! VIRTIO 1.2 devices behind the modern PCI transport.
//!
//! * [`queue`]: device side of the split virtqueue, [`chain`]: what a driver put on it;
//! * [`pci`]: the transport, generic over a [`VirtioDevice`];
//! * [`blk`], [`console`], [`net`]: the devices.

pub mod blk;
pub mod chain;
pub mod console;
pub mod net;
pub mod pci;
pub mod queue;

pub use crate::dma::Segment;
pub use blk::{Block, BlockConfig};
pub use chain::Chain;
pub use console::Console;
pub use net::{Net, NetConfig};
pub use pci::{VirtioConfig, VirtioPci};
pub use queue::Queue;

use crate::device::{GuestError, Origin};
use crate::dma::{Dma, DmaError};
use crate::trace::{EventKind, Owner, Tracer};
use xinim_abi::hw::register::Register;
use xinim_abi::hw::virtio::DeviceType;

/// How a driver broke the rules of a virtqueue. The device then needs a reset (2.1.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// A part of the ring lies outside RAM.
    Dma(DmaError),
    /// `avail.idx` runs ahead of the device by more than the queue size.
    AvailIndex { seen: u16, expected: u16 },
    /// A head or `next` beyond the descriptor table.
    DescriptorIndex(u16),
    /// More descriptors than a chain may have: a loop, in general.
    ChainTooLong,
    /// INDIRECT without the feature, inside an indirect table, together with NEXT, or a table
    /// whose length is not a positive multiple of 16 within bounds.
    BadIndirect,
    /// A device-readable buffer after a device-writable one.
    ReadableAfterWritable,
    /// All buffers of a chain together pass 4 GiB.
    ChainTooLarge,
    /// The chain has no room for what every request must have (header, status).
    Malformed,
}

impl From<DmaError> for RingError {
    fn from(error: DmaError) -> Self {
        RingError::Dma(error)
    }
}

/// What a device uses while it works on a queue.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub dma: &'a dyn Dma,
    pub tracer: &'a Tracer,
    pub origin: &'a Origin,
    /// Whose data moves, for the trace.
    pub owner: Owner,
}

impl<'a> Context<'a> {
    /// The same for one chain's data.
    pub fn of(&self, queue: u16, head: u16) -> Context<'a> {
        Context { owner: Owner::Queue { queue, head }, ..*self }
    }

    /// Reads data for a request, traced.
    pub fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        let result = self.dma.read(address, data);
        self.trace_dma(false, address, data.len(), result.is_ok());
        result
    }

    /// Writes data of a request, traced.
    pub fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        let result = self.dma.write(address, data);
        self.trace_dma(true, address, data.len(), result.is_ok());
        result
    }

    /// Reports that the back end has moved a request's data; `write`: into guest memory.
    pub fn moved(&self, write: bool, segments: &[Segment], ok: bool) {
        for segment in segments {
            self.trace_dma(write, segment.address, segment.length as usize, ok);
        }
    }

    fn trace_dma(&self, write: bool, address: u64, length: usize, ok: bool) {
        let (length, owner) = (length as u64, self.owner);
        self.tracer.emit(self.origin, || EventKind::Dma { write, address, length, ok, owner });
    }
}

/// Whether a device has finished with a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left that could be done now.
    Idle,
    /// The bound of one call was reached.
    More,
}

/// A virtio device without its transport.
pub trait VirtioDevice: Send {
    fn device_type(&self) -> DeviceType;

    /// Base class, subclass and programming interface for PCI.
    fn pci_class(&self) -> [u8; 3];

    /// Device-specific feature bits offered.
    fn features(&self) -> u64;

    /// How many queues it has.
    fn queue_count(&self) -> u16;

    /// Layout of its configuration.
    fn config_table(&self) -> &'static [Register];

    /// Contents of its configuration; shorter than the table where features are not offered.
    fn config(&self) -> &[u8];

    /// The driver writes to its configuration.
    fn write_config(&mut self, _offset: u64, _size: u8, _value: u64) -> Result<(), GuestError> {
        Err(GuestError::ReadOnly)
    }

    /// The driver has accepted these features and set DRIVER_OK.
    fn activate(&mut self, features: u64);

    /// The machine is switched on or reset; a [`reset`](Self::reset) of the device follows.
    fn power_on(&mut self) {}

    /// Whether an access to a doorbell returns only when the work is done: then it has to be an access.
    fn is_synchronous(&self) -> bool {
        false
    }

    /// Forget everything the driver did; nothing of a queue may be touched any more.
    fn reset(&mut self);

    /// Whether a back end may still touch guest memory on behalf of the driver before the reset.
    /// The driver is told that the reset is done when this says no.
    fn is_resetting(&mut self) -> bool {
        false
    }

    /// Works on queue `index`: pops chains and pushes completions, a bounded number of them.
    /// After an error the queue is broken.
    fn process(
        &mut self,
        index: u16,
        queue: &mut Queue,
        context: &Context<'_>,
    ) -> Result<Progress, RingError>;

    /// Pushes what the back end has finished, to whichever queue it belongs; called after each
    /// `process` and when the machine says so ([`DriveBays::ready`](crate::backend::DriveBays)).
    /// An error names the queue that is broken.
    fn complete(
        &mut self,
        _queues: &mut [Queue],
        _context: &Context<'_>,
    ) -> Result<Progress, (u16, RingError)> {
        Ok(Progress::Idle)
    }

    /// Queues that were left with work because of a bound on what is in flight, as a mask, and
    /// that can go on now. Asking forgets them.
    fn resumable(&mut self) -> u64 {
        0
    }

    /// Whether it has a disk behind it, and so is a [`DriveBays`](crate::backend::DriveBays).
    fn has_disk(&self) -> bool {
        false
    }

    /// The back end may have another size: brings the configuration up to date; whether it
    /// changed.
    fn resize(&mut self) -> bool {
        false
    }
}
