//! Port 0 of the device: frames out, bytes in.
//!
//! ```text
//! transmit: TX_BUFFERS buffers of one frame each     free --send()--> device --used--> free
//! receive:  RX_BUFFERS buffers of a page each        device --used--> copied out --> device
//! ```
//! The device returns transmit buffers in its own time: a host that does not read keeps them, and
//! `send` then refuses. Nothing here waits.

use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::hostlink::{HEADER_LEN, Header, Kind, MAX_PAYLOAD};
use xinim_abi::hw::virtio::{Status, feature};
use xinim_abi::hw::virtio_console::{RX_QUEUE, TX_QUEUE};
use xinim_driver_kit::pci::PciFunction;
use xinim_driver_kit::pool::{Block, Pool};
use xinim_driver_kit::{Clock, Dma, DmaBuffer, Mmio, Segment, SgList, SharedMemory};
use xinim_virtio::queue::QueueOptions;
use xinim_virtio::{DeviceError, Queue, StartError, Transport};

/// Frames on their way to the host at a time.
const TX_BUFFERS: u16 = 4;
const TX_LEN: usize = HEADER_LEN + MAX_PAYLOAD;
/// Buffers for what the host sends; it sends no more than was asked for.
const RX_BUFFERS: u16 = 16;
const RX_LEN: usize = 4096;

/// A console device in use.
pub struct Port<M, D: Dma> {
    transport: Transport<M>,
    rx: Queue<D::Buffer>,
    tx: Queue<D::Buffer>,
    rx_buffers: Vec<Block<D::Buffer>>,
    tx_free: Vec<Block<D::Buffer>>,
    /// By the cookie of the queue.
    tx_busy: Vec<Option<Block<D::Buffer>>>,
    list: SgList,
    chunk: Vec<u8>,
}

impl<M: Mmio, D: Dma> Port<M, D> {
    /// Takes over the device of `function` from whatever state it is in.
    pub fn start<F: PciFunction<Mmio = M>>(
        function: &F,
        dma: &D,
        clock: &impl Clock,
        vector: Option<u16>,
    ) -> core::result::Result<Self, StartError> {
        let mut transport = Transport::open(function)?;
        transport.reset(clock)?;
        function.reset_done()?;
        function.enable(true)?;
        let features = transport.negotiate(feature::EVENT_IDX)?;
        let options = QueueOptions { event_idx: features & feature::EVENT_IDX != 0, indirect: 0 };
        let rx_size = transport.queue_size(RX_QUEUE, RX_BUFFERS)?;
        let rx = Queue::new(dma, rx_size, options)?;
        transport.setup_queue(RX_QUEUE, rx_size, rx.addresses(), vector)?;
        let tx_size = transport.queue_size(TX_QUEUE, 16)?;
        let tx = Queue::new(dma, tx_size, options)?;
        transport.setup_queue(TX_QUEUE, tx_size, tx.addresses(), vector)?;
        transport.driver_ok();
        let tx_pool = Pool::new(dma, TX_LEN, 4096, TX_BUFFERS)?;
        let rx_pool = Pool::new(dma, RX_LEN, 4096, RX_BUFFERS)?;
        let mut tx_busy = Vec::new();
        tx_busy.resize_with(usize::from(TX_BUFFERS), || None);
        let mut port = Self {
            transport,
            rx,
            tx,
            rx_buffers: core::iter::from_fn(|| rx_pool.take()).take(rx_size.into()).collect(),
            tx_free: core::iter::from_fn(|| tx_pool.take()).take(tx_size.into()).collect(),
            tx_busy,
            list: SgList::new(),
            chunk: alloc::vec![0; RX_LEN],
        };
        for index in 0..port.rx_buffers.len() {
            port.offer(index)?;
        }
        port.arm();
        port.kick();
        Ok(port)
    }

    /// Gives receive buffer `index` to the device.
    fn offer(&mut self, index: usize) -> Result<()> {
        let address = self.rx_buffers[index].device_address(0).address;
        self.rx.add(&[Segment { address, len: RX_LEN as u32 }], 0, index as u32)
    }

    /// Whether a frame can be sent now.
    pub fn can_send(&self) -> bool {
        !self.tx_free.is_empty()
    }

    /// Whether frames are on their way to the host.
    pub fn is_sending(&self) -> bool {
        self.tx.in_flight() > 0
    }

    /// Sends a frame of `len` bytes of payload, written by `fill` into the buffer from the given
    /// offset on. `Again` without a free buffer, `Inval` if it is too long, or what `fill` says. The
    /// device hears of it at the next [`kick`](Self::kick).
    pub fn send(
        &mut self,
        kind: Kind,
        len: usize,
        fill: impl FnOnce(&Block<D::Buffer>, usize) -> Result<()>,
    ) -> Result<()> {
        if len > MAX_PAYLOAD {
            return Err(Error::Inval);
        }
        let block = self.tx_free.pop().ok_or(Error::Again)?;
        block.write_bytes(0, &Header::new(kind, len).encode());
        self.list.clear();
        self.list.push_buffer(&block, 0, HEADER_LEN + len);
        let slot = self.tx_busy.iter().position(Option::is_none);
        let result = fill(&block, HEADER_LEN).and_then(|()| {
            let slot = slot.ok_or(Error::Again)?;
            let segments = self.list.segments();
            self.tx.add(segments, segments.len(), slot as u32).map(|()| slot)
        });
        match result {
            Ok(slot) => {
                self.tx_busy[slot] = Some(block);
                Ok(())
            }
            Err(error) => {
                self.tx_free.push(block);
                Err(error)
            }
        }
    }

    /// Tells the device what is new.
    pub fn kick(&mut self) {
        if self.tx.publish() {
            self.transport.notify(TX_QUEUE);
        }
        if self.rx.publish() {
            self.transport.notify(RX_QUEUE);
        }
    }

    /// Takes back sent frames and passes what the host sent to `received`. True if anything
    /// happened. An error means that the device is broken.
    pub fn poll(
        &mut self,
        mut received: impl FnMut(&[u8]),
    ) -> core::result::Result<bool, StartError> {
        let mut progress = false;
        while let Some(used) = self.tx.pop()? {
            if let Some(block) = self.tx_busy[used.cookie as usize].take() {
                self.tx_free.push(block);
            }
            progress = true;
        }
        // At most every buffer once, so that a fast host cannot keep us here.
        for _ in 0..self.rx_buffers.len() {
            let Some(used) = self.rx.pop()? else { break };
            let index = used.cookie as usize;
            let bytes = &mut self.chunk[..used.len as usize];
            self.rx_buffers[index].read_bytes(0, bytes);
            received(bytes);
            self.offer(index)?;
            progress = true;
        }
        Ok(progress)
    }

    /// Asks for interrupts. True: something is there already, so poll again.
    pub fn arm(&mut self) -> bool {
        let sent = self.tx.arm();
        self.rx.arm() || sent
    }

    /// Whether the device still says that it works.
    pub fn check_status(&self) -> core::result::Result<(), DeviceError> {
        let broken = self.transport.device_status().contains(Status::NEEDS_RESET);
        if broken { Err(DeviceError::NeedsReset) } else { Ok(()) }
    }

    /// Stops the device for good.
    pub fn stop(&mut self, clock: &impl Clock) -> core::result::Result<(), DeviceError> {
        self.transport.reset(clock)
    }
}
