//! The port of the host link: frames out, bytes in. It is port 0 of a device that has no other (our
//! model), or the first one that a device with MULTIPORT announces (QEMU's `virtserialport`, which
//! waits for a slow host where its `virtconsole` would drop bytes); see [`control`](crate::control).
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

use crate::control::{Control, PORTS};
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::hostlink::{HEADER_LEN, Header, Kind, MAX_PAYLOAD};
use xinim_abi::hw::virtio::{Status, feature};
use xinim_abi::hw::virtio_console as console;
use xinim_abi::hw::virtio_console::{CONTROL_RX_QUEUE, CONTROL_TX_QUEUE, port_rx_queue};
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
    /// Receive and transmit queues of each port that can be taken.
    ports: Vec<[Queue<Slice<D::Buffer>>; 2]>,
    control: Option<Control<D>>,
    /// The port in use.
    port: Option<u16>,
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
        let features = transport.negotiate(feature::EVENT_IDX | console::feature::MULTIPORT)?;
        let options = QueueOptions { event_idx: features & feature::EVENT_IDX != 0, indirect: 0 };
        let multiport = features & console::feature::MULTIPORT != 0;
        let ports = if multiport { port_count(&transport)? } else { 1 };
        let mut sizes = Vec::new();
        for port in 0..ports {
            let rx = port_rx_queue(port);
            let size = [(rx, RX_BUFFERS), (rx + 1, TX_ENTRIES)];
            let [rx, tx] = size.map(|(queue, limit)| transport.queue_size(queue, limit));
            sizes.push([rx?, tx?]);
        }
        let control_sizes = if multiport {
            let size = |queue| (queue, Control::<D>::size());
            let [rx, tx] = [size(CONTROL_RX_QUEUE), size(CONTROL_TX_QUEUE)]
                .map(|(queue, limit)| transport.queue_size(queue, limit));
            Some([rx?, tx?])
        } else {
            None
        };
        // Each port takes the same buffers; there are as many as the smallest queue takes.
        let rx_count = sizes.iter().map(|[rx, _]| usize::from(*rx)).min().unwrap_or(0);
        let rings: usize = sizes.iter().flatten().map(|&size| queue::bytes(size, options)).sum();
        let pages = rx_count * RX_LEN + SHORT_BUFFERS * SHORT_LEN;
        let control_bytes = control_sizes.map_or(0, |sizes| Control::<D>::bytes(sizes, options));
        let mut carver = Carver::new(&dma, pages + rings + control_bytes)?;
        let mut take =
            |count, len| (0..count).map(|_| carver.take(len, 4096)).collect::<Result<Vec<_>>>();
        let (rx_buffers, short) = (take(rx_count, RX_LEN)?, take(SHORT_BUFFERS, SHORT_LEN)?);
        // Without it NEEDS_RESET is found out by time-outs.
        let _taken = transport.set_config_vector(vector);
        let mut queues = Vec::new();
        for (port, [rx_size, tx_size]) in (0..).zip(sizes) {
            let index = port_rx_queue(port);
            let rx = Queue::new(&mut carver, rx_size, options)?;
            let tx = Queue::new(&mut carver, tx_size, options)?;
            transport.setup_queue(index, rx_size, rx.addresses(), vector)?;
            transport.setup_queue(index + 1, tx_size, tx.addresses(), vector)?;
            queues.push([rx, tx]);
        }
        let mut control = None;
        if let Some([rx_size, tx_size]) = control_sizes {
            let made = Control::<D>::new(&mut carver, [rx_size, tx_size], options)?;
            transport.setup_queue(CONTROL_RX_QUEUE, rx_size, made.rx.addresses(), vector)?;
            transport.setup_queue(CONTROL_TX_QUEUE, tx_size, made.tx.addresses(), vector)?;
            control = Some(made);
        }
        transport.driver_ok();
        let mut tx_busy = Vec::new();
        tx_busy.resize_with(SHORT_BUFFERS + LONG_BUFFERS, || None);
        let mut port = Self {
            transport,
            dma,
            ports: queues,
            control,
            port: None,
            rx_buffers,
            short,
            long: Vec::new(),
            long_state: Long::NotMade,
            tx_busy,
            list: SgList::new(),
            chunk: alloc::vec![0; RX_LEN],
        };
        if !multiport {
            port.take_port(0)?;
        }
        port.kick();
        Ok(port)
    }

    /// From now on `port` is the one in use.
    fn take_port(&mut self, port: u16) -> Result<()> {
        self.port = Some(port);
        (0..self.rx_buffers.len()).try_for_each(|index| self.offer(index))
    }

    fn rx(&mut self) -> Option<&mut Queue<Slice<D::Buffer>>> {
        self.ports.get_mut(usize::from(self.port?)).map(|[rx, _]| rx)
    }

    fn tx(&mut self) -> Option<&mut Queue<Slice<D::Buffer>>> {
        self.ports.get_mut(usize::from(self.port?)).map(|[_, tx]| tx)
    }

    fn tx_ref(&self) -> Option<&Queue<Slice<D::Buffer>>> {
        self.ports.get(usize::from(self.port?)).map(|[_, tx]| tx)
    }

    /// Gives receive buffer `index` to the device.
    fn offer(&mut self, index: usize) -> Result<()> {
        let address = self.rx_buffers[index].device_address(0).address;
        let segment = Segment { address, len: RX_LEN as u32 };
        self.rx().map_or(Ok(()), |rx| rx.add(&[segment], 0, index as u32).map(drop))
    }

    /// Whether a host has the port open.
    fn is_open(&self) -> bool {
        self.control.as_ref().is_none_or(|control| control.handshake.is_open())
    }

    /// The longest payload that can be sent now; 0: none.
    pub fn room(&self) -> usize {
        if !self.is_open() || !self.tx_ref().is_some_and(|tx| tx.fits(1)) {
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
        self.tx_ref().is_some_and(|tx| tx.in_flight() > 0)
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
            let ports = self.port.and_then(|port| self.ports.get_mut(usize::from(port)));
            let [_, tx] = ports.ok_or(Error::Again)?;
            tx.add(segments, segments.len(), slot as u32).map(|_| slot)
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
        for (port, [rx, tx]) in (0..).zip(&mut self.ports) {
            let index = port_rx_queue(port);
            if tx.publish() {
                self.transport.notify(index + 1);
            }
            if rx.publish() {
                self.transport.notify(index);
            }
        }
        if let Some(control) = &mut self.control {
            if control.rx.publish() {
                self.transport.notify(CONTROL_RX_QUEUE);
            }
            if control.tx.publish() {
                self.transport.notify(CONTROL_TX_QUEUE);
            }
        }
    }

    /// Takes back sent frames and passes what the host sent to `received`. True if anything
    /// happened. An error means that the device is broken.
    pub fn poll(
        &mut self,
        mut received: impl FnMut(&[u8]),
    ) -> core::result::Result<bool, StartError> {
        let mut progress = false;
        if let Some(control) = &mut self.control {
            progress = control.poll()?;
            if self.port.is_none()
                && let Some(port) =
                    control.handshake.port().filter(|&p| p < self.ports.len() as u16)
            {
                self.take_port(port)?;
            }
        }
        while let Some(used) = self.tx().map_or(Ok(None), Queue::pop)? {
            if let Some(block) = self.tx_busy[used.cookie as usize].take() {
                self.put_back(block);
            }
            progress = true;
        }
        // At most every buffer once, so that a fast host cannot keep us here.
        for _ in 0..self.rx_buffers.len() {
            let Some(used) = self.rx().map_or(Ok(None), Queue::pop)? else { break };
            let index = used.cookie as usize;
            let bytes = &mut self.chunk[..used.len as usize];
            self.rx_buffers[index].read_bytes(0, bytes);
            received(bytes);
            self.offer(index)?;
            progress = true;
        }
        Ok(progress)
    }

    /// Asks for an interrupt when the host sends something and, if `sent`, when a frame has gone
    /// out: buffers are taken back at the next [`poll`](Self::poll) anyway. True: something is there
    /// already, so poll again.
    pub fn arm(&mut self, sent: bool) -> bool {
        let gone = sent && self.tx().is_some_and(Queue::arm);
        let come = self.rx().is_some_and(Queue::arm);
        let said = self.control.as_mut().is_some_and(|control| control.rx.arm());
        gone || come || said
    }

    /// Asks for no interrupts while [`poll`](Self::poll) is being called anyway.
    pub fn disarm(&mut self) {
        for queue in self.ports.iter_mut().flatten() {
            queue.disarm();
        }
        if let Some(control) = &mut self.control {
            control.tx.disarm();
            control.rx.disarm();
        }
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

/// Ports to set queues up for: as many as the device has, of those that can be taken.
fn port_count<M: Mmio>(transport: &Transport<M>) -> core::result::Result<u16, DeviceError> {
    let ports = transport.config(|c| c.u32(console::config::MAX_NR_PORTS))?;
    match ports {
        None | Some(0) => Err(DeviceError::Config("no ports")),
        Some(count) => Ok(count.min(PORTS.into()) as u16),
    }
}
