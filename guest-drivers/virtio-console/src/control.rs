//! The control queues of a device with more than one port (VIRTIO 5.3.6.2).
//!
//! ```text
//! driver                                device
//!   DEVICE_READY 1            ------>
//!                             <------   PORT_ADD(n)            for each port
//!   PORT_READY(n) 1, PORT_OPEN(n) 1 ->  for the port that is taken; PORT_READY(n) 0 for others
//!                             <------   PORT_OPEN(n) 1         the host has it open: data may flow
//! ```
//! The first port announced is taken. What a driver sends while the host has the port closed is lost,
//! so it waits for the host's PORT_OPEN.

use alloc::collections::VecDeque;
use xinim_abi::error::Result;
use xinim_abi::hw::virtio_console::{Control as Message, event};
use xinim_driver_kit::{Carver, Dma, DmaBuffer, Segment, SharedMemory, Slice};
use xinim_virtio::queue::{self, QueueOptions};
use xinim_virtio::{Queue, StartError};

/// Ports a device may announce that the driver can take: queues for these are set up.
pub const PORTS: u16 = 2;
/// Buffers in each direction.
const BUFFERS: u16 = 8;
/// Bytes of one: a message, and a name that nobody reads.
const LEN: usize = 64;
/// Messages waiting to be sent, at most: answers to what the device announces. A device that announces
/// without end is not answered without end.
const PENDING_MAX: usize = 64;

/// The conversation, without queues.
#[derive(Debug, Default)]
pub struct Handshake {
    pending: VecDeque<Message>,
    port: Option<u16>,
    open: bool,
}

impl Handshake {
    /// Says that the driver is ready.
    pub fn new() -> Self {
        let mut handshake = Self::default();
        handshake.say(0, event::DEVICE_READY, 1);
        handshake
    }

    fn say(&mut self, id: u32, event: u16, value: u16) {
        if self.pending.len() < PENDING_MAX {
            self.pending.push_back(Message { id, event, value });
        }
    }

    /// Takes in a message of the device.
    pub fn received(&mut self, message: Message) {
        let port = u16::try_from(message.id).ok().filter(|&port| port < PORTS);
        match (message.event, port) {
            (event::PORT_ADD, Some(port)) if self.port.is_none() => {
                self.port = Some(port);
                self.say(message.id, event::PORT_READY, 1);
                self.say(message.id, event::PORT_OPEN, 1);
            }
            (event::PORT_ADD, _) => self.say(message.id, event::PORT_READY, 0),
            (event::PORT_OPEN, Some(_)) if port == self.port => self.open = message.value != 0,
            (event::PORT_REMOVE, Some(_)) if port == self.port => self.open = false,
            _ => {}
        }
    }

    /// The port taken.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether the host has the port open.
    pub fn is_open(&self) -> bool {
        self.open
    }
}

/// The queues with the conversation on them.
pub struct Control<D: Dma> {
    pub handshake: Handshake,
    pub rx: Queue<Slice<D::Buffer>>,
    pub tx: Queue<Slice<D::Buffer>>,
    buffers: Slice<D::Buffer>,
    /// Transmit buffers in use, as bits.
    sending: u32,
}

impl<D: Dma> Control<D> {
    /// What it takes of the carver's buffer, for queues of these sizes.
    pub fn bytes(sizes: [u16; 2], options: QueueOptions) -> usize {
        let queues = sizes.map(|size| queue::bytes(size, options)).iter().sum::<usize>();
        queues + 2 * usize::from(BUFFERS) * LEN + LEN
    }

    /// The size to ask of each queue.
    pub const fn size() -> u16 {
        BUFFERS
    }

    pub fn new(
        carver: &mut Carver<D::Buffer>,
        [rx_size, tx_size]: [u16; 2],
        options: QueueOptions,
    ) -> Result<Self> {
        let buffers = carver.take(2 * usize::from(BUFFERS) * LEN, LEN)?;
        let rx = Queue::new(carver, rx_size, options)?;
        let tx = Queue::new(carver, tx_size, options)?;
        let mut control = Self { handshake: Handshake::new(), rx, tx, buffers, sending: 0 };
        for index in 0..rx_size {
            control.offer(index)?;
        }
        control.say()?;
        Ok(control)
    }

    /// Device address of buffer `index`; those to send are behind those to receive.
    fn segment(&self, index: u16, len: usize) -> Segment {
        let at = usize::from(index) * LEN;
        Segment { address: self.buffers.device_address(at).address, len: len as u32 }
    }

    fn offer(&mut self, index: u16) -> Result<()> {
        let segment = self.segment(index, LEN);
        self.rx.add(&[segment], 0, index.into()).map(drop)
    }

    /// Sends what is pending, as far as there are buffers.
    fn say(&mut self) -> Result<()> {
        while self.tx.fits(1) {
            let index = self.sending.trailing_ones() as u16;
            if index >= BUFFERS {
                break;
            }
            let Some(message) = self.handshake.pending.pop_front() else { break };
            let slot = BUFFERS + index;
            self.buffers.write_value(usize::from(slot) * LEN, &message);
            let segment = self.segment(slot, size_of::<Message>());
            self.tx.add(&[segment], 1, index.into())?;
            self.sending |= 1 << index;
        }
        Ok(())
    }

    /// Takes in what the device said and answers. True if there was anything.
    pub fn poll(&mut self) -> core::result::Result<bool, StartError> {
        let mut progress = false;
        while let Some(used) = self.tx.pop()? {
            self.sending &= !(1 << used.cookie);
            progress = true;
        }
        for _ in 0..BUFFERS {
            let Some(used) = self.rx.pop()? else { break };
            let index = used.cookie as u16;
            if used.len as usize >= size_of::<Message>() {
                let message = self.buffers.read_value(usize::from(index) * LEN);
                self.handshake.received(message);
            }
            self.offer(index)?;
            progress = true;
        }
        self.say()?;
        Ok(progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn message(id: u32, event: u16, value: u16) -> Message {
        Message { id, event, value }
    }

    #[test]
    fn the_first_port_is_taken_and_used_when_the_host_has_it_open() {
        let mut handshake = Handshake::new();
        handshake.received(message(1, event::PORT_ADD, 0));
        handshake.received(message(0, event::PORT_ADD, 0));
        handshake.received(message(7, event::PORT_ADD, 0));
        let said: Vec<_> = handshake.pending.drain(..).collect();
        assert_eq!(
            said,
            [
                message(0, event::DEVICE_READY, 1),
                message(1, event::PORT_READY, 1),
                message(1, event::PORT_OPEN, 1),
                message(0, event::PORT_READY, 0),
                message(7, event::PORT_READY, 0),
            ]
        );
        assert_eq!((handshake.port(), handshake.is_open()), (Some(1), false));
        handshake.received(message(0, event::PORT_OPEN, 1));
        assert!(!handshake.is_open());
        handshake.received(message(1, event::PORT_OPEN, 1));
        assert!(handshake.is_open());
        handshake.received(message(1, event::PORT_REMOVE, 0));
        assert!(!handshake.is_open());
    }

    proptest! {
        #[test]
        fn any_messages_are_bounded(messages in prop::collection::vec(any::<(u32, u16, u16)>(), 0..300)) {
            let mut handshake = Handshake::new();
            for (id, event, value) in messages {
                handshake.received(message(id, event % 9, value));
                prop_assert!(handshake.pending.len() <= PENDING_MAX);
                prop_assert!(handshake.port().is_none_or(|port| port < PORTS));
            }
        }
    }
}
