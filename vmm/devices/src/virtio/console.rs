//! virtio-console, port 0 only (VIRTIO 5.3): a byte stream each way over a [`ByteStream`].
//!
//! Back-pressure goes both ways. When the host takes no more, the transmit chain at hand is kept,
//! with how far it got, and continues when the machine calls `serve(TX_QUEUE)`
//! ([`VirtioPci::output_ready`]). When the host has nothing, the receive chain at hand is kept
//! until [`VirtioPci::input_ready`]. At most one chain is held per direction.

use super::{Chain, Context, Progress, Queue, RingError, VirtioDevice, VirtioPci};
use crate::backend::ByteStream;
use crate::device::Origin;
use xinim_abi::hw::register::Register;
use xinim_abi::hw::virtio::DeviceType;
use xinim_abi::hw::virtio_console::{CONFIG, RX_QUEUE, TX_QUEUE, config};

/// Bytes moved at a time.
const CHUNK: usize = 4096;
/// Pieces moved in one call.
const BATCH: usize = 256;

/// The device.
pub struct Console<S> {
    // Fixed configuration
    space: [u8; config::SIZE],
    // Glue
    stream: S,
    // Volatile state
    receiving: Option<Chain>,
    /// Chain being sent and how many of its bytes the host has.
    sending: Option<(Chain, u64)>,
}

impl<S: ByteStream> Console<S> {
    pub fn new(stream: S) -> Self {
        Self { space: [0; config::SIZE], stream, receiving: None, sending: None }
    }

    pub fn stream(&self) -> &S {
        &self.stream
    }

    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Whether the driver's output waits for the host.
    pub fn output_blocked(&self) -> bool {
        self.sending.is_some()
    }

    fn receive(&mut self, queue: &mut Queue, context: &Context<'_>) -> Result<Progress, RingError> {
        queue.quiet(context)?;
        let mut buffer = [0; CHUNK];
        for _ in 0..BATCH {
            let chain = match self.receiving.take() {
                Some(chain) => chain,
                None => match queue.pop(context)? {
                    Some(chain) => chain,
                    None if queue.rearm(context)? => continue,
                    None => return Ok(Progress::Idle),
                },
            };
            let mut room = chain.writable();
            if room.is_empty() {
                queue.push(context, chain.head, 0)?;
                continue;
            }
            let size = usize::try_from(room.len()).map_or(CHUNK, |room| room.min(CHUNK));
            let count = self.stream.read(&mut buffer[..size]).min(size);
            if count == 0 {
                self.receiving = Some(chain);
                return Ok(Progress::Idle);
            }
            room.write(context, &buffer[..count])?;
            queue.push(context, chain.head, count as u32)?;
        }
        Ok(Progress::More)
    }

    fn send(&mut self, queue: &mut Queue, context: &Context<'_>) -> Result<Progress, RingError> {
        queue.quiet(context)?;
        let mut buffer = [0; CHUNK];
        for _ in 0..BATCH {
            let (chain, mut done) = match self.sending.take() {
                Some(sending) => sending,
                None => match queue.pop(context)? {
                    Some(chain) => (chain, 0),
                    None if queue.rearm(context)? => continue,
                    None => return Ok(Progress::Idle),
                },
            };
            let mut data = chain.readable();
            data.skip(done);
            let size = usize::try_from(data.len()).map_or(CHUNK, |left| left.min(CHUNK));
            let got = data.read(context, &mut buffer[..size])?;
            let accepted = self.stream.write(&buffer[..got]).min(got);
            done += accepted as u64;
            let total = chain.readable().len();
            if done == total {
                queue.push(context, chain.head, 0)?;
            } else {
                self.sending = Some((chain, done));
                if accepted < got {
                    return Ok(Progress::Idle);
                }
            }
        }
        Ok(Progress::More)
    }
}

impl<S: ByteStream> VirtioDevice for Console<S> {
    fn device_type(&self) -> DeviceType {
        DeviceType::Console
    }

    fn pci_class(&self) -> [u8; 3] {
        // Simple communication controller, other.
        [0x07, 0x80, 0x00]
    }

    fn features(&self) -> u64 {
        0
    }

    fn queue_count(&self) -> u16 {
        2
    }

    fn config_table(&self) -> &'static [Register] {
        CONFIG
    }

    fn config(&self) -> &[u8] {
        &self.space
    }

    fn activate(&mut self, _features: u64) {}

    fn reset(&mut self) {
        self.receiving = None;
        self.sending = None;
    }

    fn process(
        &mut self,
        index: u16,
        queue: &mut Queue,
        context: &Context<'_>,
    ) -> Result<Progress, RingError> {
        match index {
            RX_QUEUE => self.receive(queue, context),
            _ => self.send(queue, context),
        }
    }
}

impl<S: ByteStream> VirtioPci<Console<S>> {
    /// The host has bytes. Call on every edge; the device reads until the stream is dry or the
    /// driver has no buffers, and reads on by itself when it gets some. Returns whether to call
    /// again at once.
    pub fn input_ready(&mut self, origin: &Origin) -> bool {
        self.serve(RX_QUEUE, origin) == Ok(Progress::More)
    }

    /// The host takes bytes again. Returns whether to call again at once.
    pub fn output_ready(&mut self, origin: &Origin) -> bool {
        self.serve(TX_QUEUE, origin) == Ok(Progress::More)
    }
}

#[cfg(test)]
#[path = "console_tests.rs"]
mod tests;
