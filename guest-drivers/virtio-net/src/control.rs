//! Commands on the control queue (5.1.6.5): one at a time, waited for within a limit.

use alloc::vec::Vec;

use xinim_abi::hw::virtio_net::control;
use xinim_driver_kit::{Clock, DmaBuffer, Mmio, Segment, SharedMemory, Slice};
use xinim_virtio::{DeviceError, Queue, Transport};

/// Longest command: two tables of addresses.
pub const COMMAND_MAX: usize = 1024;
/// Class, command and data, then the answer.
pub const AREA: usize = COMMAND_MAX + 16;
const ANSWER: usize = COMMAND_MAX;
/// Entries of the queue that are used.
pub const SIZE: u16 = 4;
const TIMEOUT_NS: u64 = 1_000_000_000;
/// What the answer holds until the device writes it.
const PENDING: u8 = 0xFF;

pub struct Control<B> {
    pub queue: Queue<Slice<B>>,
    pub number: u16,
    area: Slice<B>,
}

impl<B: DmaBuffer> Control<B> {
    pub fn new(queue: Queue<Slice<B>>, number: u16, area: Slice<B>) -> Self {
        Self { queue, number, area }
    }

    /// Whether the device carried it out; `false`: it refused.
    pub fn command<M: Mmio>(
        &mut self,
        transport: &Transport<M>,
        clock: &impl Clock,
        class: u8,
        command: u8,
        data: &[u8],
    ) -> Result<bool, DeviceError> {
        let len = data.len() + 2;
        if len > COMMAND_MAX {
            return Ok(false);
        }
        self.area.write_bytes(0, &[class, command]);
        self.area.write_bytes(2, data);
        self.area.write_bytes(ANSWER, &[PENDING]);
        let part = |at: usize, len| Segment { address: self.area.device_address(at).address, len };
        let chain = [part(0, len as u32), part(ANSWER, 1)];
        self.queue.disarm();
        self.queue.add(&chain, 1, 0).map_err(|_| DeviceError::Queue(self.number))?;
        if self.queue.publish() {
            transport.notify(self.number);
        }
        let queue = &self.queue;
        if !transport.wait_for(clock, TIMEOUT_NS, || queue.has_used()) {
            return Err(DeviceError::TimedOut);
        }
        self.queue.pop()?;
        let mut answer = [0];
        self.area.read_bytes(ANSWER, &mut answer);
        match answer[0] {
            control::OK => Ok(true),
            control::ERR => Ok(false),
            other => Err(DeviceError::Answer(other)),
        }
    }
}

/// The tables of MAC_TABLE_SET: no further unicast addresses, these multicast ones.
pub fn tables(multicast: &[[u8; 6]]) -> Vec<u8> {
    let mut bytes = Vec::from(0u32.to_le_bytes());
    bytes.extend_from_slice(&(multicast.len() as u32).to_le_bytes());
    bytes.extend(multicast.iter().flatten());
    bytes
}
