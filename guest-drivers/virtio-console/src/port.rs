//! Port 0 of the device: frames out, bytes in.
//!
//! ```text
//! transmit: buffers of one frame each     free --send()--> device --used--> free
//! receive:  buffers of a page each        device --used--> copied out --> device
//! ```
//! Most frames are short, so the driver starts with short buffers only and makes those for the longest
//! frames when the first long one comes: memory costs time while a system boots.
//!
//! The device returns transmit buffers in its own time: a host that does not read keeps them, and
//! `send` then refuses. Nothing here waits.

use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::hostlink::{HEADER_LEN, Header, Kind, MAX_PAYLOAD};
use xinim_abi::hw::virtio::{Status, feature};
use xinim_abi::hw::virtio_console::{RX_QUEUE, TX_QUEUE};
use xinim_driver_kit::pci::PciFunction;
use xinim_driver_kit::{Carver, Clock, Dma, DmaBuffer, Mmio, Segment, SgList, SharedMemory, Slice};
use xinim_virtio::queue::{self, QueueOptions};
use xinim_virtio::{DeviceError, Queue, StartError, Transport};

/// Frames on their way to the host at a time: short ones, and long ones.
const SHORT_BUFFERS: usize = 4;
const LONG_BUFFERS: usize = 2;
const SHORT_LEN: usize = 4096;
const LONG_LEN: usize = HEADER_LEN + MAX_PAYLOAD;
/// Payload of a short frame.
const SHORT_PAYLOAD: usize = SHORT_LEN - HEADER_LEN;
const TX_ENTRIES: u16 = 8;
/// Buffers for what the host sends; it sends no more than was asked for.
const RX_BUFFERS: u16 = 8;
const RX_LEN: usize = 4096;

/// Buffers for long frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Long {
    NotMade,
    Made,
    /// There was no memory for them: long writes go out as short frames.
    Never,
}

/// A console device in use.
pub struct Port<M, D: Dma> {
    transport: Transport<M>,
    dma: D,
    rx: Queue<Slice<D::Buffer>>,
    tx: Queue<Slice<D::Buffer>>,
    rx_buffers: Vec<Slice<D::Buffer>>,
    short: Vec<Slice<D::Buffer>>,
    long: Vec<Slice<D::Buffer>>,
    long_state: Long,
    /// By the cookie of the queue.
    tx_busy: Vec<Option<Slice<D::Buffer>>>,
    list: SgList,
    chunk: Vec<u8>,
}

impl<M: Mmio, D: Dma> Port<M, D> {
    /// Takes over the device of `function` from whatever state it is in.
    pub fn start<F: PciFunction<Mmio = M>>(
        function: &F,
        dma: D,
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
        let tx_size = transport.queue_size(TX_QUEUE, TX_ENTRIES)?;
        let rx_count = usize::from(rx_size);
        let rings = queue::bytes(rx_size, options) + queue::bytes(tx_size, options);
        let pages = rx_count * RX_LEN + SHORT_BUFFERS * SHORT_LEN;
        let mut carver = Carver::new(&dma, pages + rings)?;
        let mut take =
            |count, len| (0..count).map(|_| carver.take(len, 4096)).collect::<Result<Vec<_>>>();
        let (rx_buffers, short) = (take(rx_count, RX_LEN)?, take(SHORT_BUFFERS, SHORT_LEN)?);
        let rx = Queue::new(&mut carver, rx_size, options)?;
        let tx = Queue::new(&mut carver, tx_size, options)?;
        transport.set_config_vector(vector);
        transport.setup_queue(RX_QUEUE, rx_size, rx.addresses(), vector)?;
        transport.setup_queue(TX_QUEUE, tx_size, tx.addresses(), vector)?;
        transport.driver_ok();
        let mut tx_busy = Vec::new();
        tx_busy.resize_with(SHORT_BUFFERS + LONG_BUFFERS, || None);
        let mut port = Self {
            transport,
            dma,
            rx,
            tx,
            rx_buffers,
            short,
            long: Vec::new(),
            long_state: Long::NotMade,
            tx_busy,
            list: SgList::new(),
            chunk: alloc::vec![0; RX_LEN],
        };
        for index in 0..port.rx_buffers.len() {
            port.offer(index)?;
        }
        port.kick();
        Ok(port)
    }

    /// Gives receive buffer `index` to the device.
    fn offer(&mut self, index: usize) -> Result<()> {
        let address = self.rx_buffers[index].device_address(0).address;
        self.rx.add(&[Segment { address, len: RX_LEN as u32 }], 0, index as u32)
    }

    /// The longest payload that can be sent now; 0: none.
    pub fn room(&self) -> usize {
        if !self.tx.fits(1) {
            0
        } else if !self.long.is_empty() || self.long_state == Long::NotMade {
            MAX_PAYLOAD
        } else if !self.short.is_empty() {
            SHORT_PAYLOAD
        } else {
            0
        }
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
        fill: impl FnOnce(&Slice<D::Buffer>, usize) -> Result<()>,
    ) -> Result<()> {
        if len > MAX_PAYLOAD {
            return Err(Error::Inval);
        }
        let block = self.take_buffer(len).ok_or(Error::Again)?;
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
                self.put_back(block);
                Err(error)
            }
        }
    }

    /// A buffer for `len` bytes of payload: a short one where that will do.
    fn take_buffer(&mut self, len: usize) -> Option<Slice<D::Buffer>> {
        if len <= SHORT_PAYLOAD
            && let Some(short) = self.short.pop()
        {
            return Some(short);
        }
        if self.long_state == Long::NotMade {
            self.long_state = match self.make_long() {
                Ok(long) => {
                    self.long = long;
                    Long::Made
                }
                Err(_) => Long::Never,
            };
        }
        self.long.pop()
    }

    fn make_long(&self) -> Result<Vec<Slice<D::Buffer>>> {
        let each = LONG_LEN.next_multiple_of(4096);
        let mut carver = Carver::new(&self.dma, LONG_BUFFERS * each)?;
        (0..LONG_BUFFERS).map(|_| carver.take(LONG_LEN, 4096)).collect()
    }

    fn put_back(&mut self, buffer: Slice<D::Buffer>) {
        match buffer.len() {
            SHORT_LEN => self.short.push(buffer),
            _ => self.long.push(buffer),
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
                self.put_back(block);
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

    /// Asks for an interrupt when the host sends something and, if `sent`, when a frame has gone out:
    /// buffers are taken back at the next [`poll`](Self::poll) anyway. True: something is there already,
    /// so poll again.
    pub fn arm(&mut self, sent: bool) -> bool {
        let gone = sent && self.tx.arm();
        self.rx.arm() || gone
    }

    /// Asks for no interrupts while [`poll`](Self::poll) is being called anyway.
    pub fn disarm(&mut self) {
        self.tx.disarm();
        self.rx.disarm();
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
