//! The device: frames out, buffers in, on all its queue pairs.
//!
//! ```text
//!   start() --> live --send(), give(), kick()--> in flight --poll()--> events
//!                 ^                                 |
//!                 |                                 | the device broke a rule, set NEEDS_RESET,
//!                 `------- recover(), in poll ------'  or has a frame that is too old
//! ```
//! `recover` resets the device and puts in again what was in flight: a frame sent twice is better than
//! one lost. Frames of one flow use one pair; receive buffers are spread over all pairs evenly. The
//! device steers received frames to the pair their flow was last sent on (5.1.6.5.5.1).

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::hw::virtio::{Status as DeviceStatus, feature as ring_feature};
use xinim_abi::hw::virtio_net::{config, control, feature, rx_queue, status, tx_queue};
use xinim_abi::services::link::{TX_ENTRIES, Transmit, info};
use xinim_driver_kit::pci::PciFunction;
use xinim_driver_kit::{Carver, Clock, Dma, Mmio, Segment, Slice, trace};
use xinim_link_service::{Events, Filter, LinkDevice, LinkInfo, Peek};
use xinim_virtio::queue::{self, QueueOptions};
use xinim_virtio::{DeviceError, Queue, StartError, Transport};

use crate::control::{self as commands, Control};
use crate::pair::{AREA, Pair};

/// Pairs used, at most.
pub const PAIRS: u16 = 8;
/// Entries of a queue that are used, at most: all buffers of the link fit into one.
const QUEUE_SIZE: u16 = 512;
/// Descriptors of an indirect table: header and a frame in contiguous memory. Scattered frames take
/// descriptors of the ring.
const INDIRECT: u16 = 4;
/// A frame that is not sent after this time is stuck.
const TIMEOUT_NS: u64 = 5_000_000_000;

const WANTED: u64 = feature::CSUM
    | feature::GUEST_CSUM
    | feature::MTU
    | feature::MAC
    | feature::GUEST_TSO4
    | feature::GUEST_TSO6
    | feature::HOST_TSO4
    | feature::HOST_TSO6
    | feature::MRG_RXBUF
    | feature::STATUS
    | feature::CTRL_VQ
    | feature::CTRL_RX
    | feature::GUEST_ANNOUNCE
    | feature::MQ
    | feature::SPEED_DUPLEX
    | ring_feature::INDIRECT_DESC
    | ring_feature::EVENT_IDX;

/// MSI-X vectors; `None` for polling only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vectors {
    /// Of all queues.
    pub queues: Option<u16>,
    /// Of changes of configuration and status.
    pub config: Option<u16>,
}

/// Counters, for statistics and tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub doorbells: u64,
    pub recoveries: u64,
    pub link_changes: u64,
}

/// What stands in the configuration and may change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct State {
    link_up: bool,
    announce: bool,
    speed: u32,
}

pub struct Net<M, D: Dma, C> {
    transport: Transport<M>,
    pairs: Vec<Pair<D::Buffer>>,
    control: Option<Control<D::Buffer>>,
    /// Headers of frames to be sent, by cookie.
    areas: Slice<D::Buffer>,
    clock: C,
    features: u64,
    vectors: Vectors,
    mac: [u8; 6],
    mac_made_up: bool,
    mtu: u32,
    state: State,
    filter: Filter,
    up: bool,
    attention: bool,
    watch: Option<u64>,
    counters: Counters,
}

/// Pairs offered by the device.
fn offered_pairs<M: Mmio>(
    transport: &Transport<M>,
    features: u64,
) -> core::result::Result<u16, DeviceError> {
    if features & feature::MQ == 0 || features & feature::CTRL_VQ == 0 {
        return Ok(1);
    }
    match transport.config(|config| config.u16(config::MAX_VIRTQUEUE_PAIRS))? {
        Some(pairs @ 1..=0x8000) => Ok(pairs),
        _ => Err(DeviceError::Config("max_virtqueue_pairs")),
    }
}

fn read_state<M: Mmio>(
    transport: &Transport<M>,
    features: u64,
) -> core::result::Result<State, DeviceError> {
    transport.config(|config| {
        let word = config.u16(config::STATUS).filter(|_| features & feature::STATUS != 0);
        let speed = config.u32(config::SPEED).filter(|_| features & feature::SPEED_DUPLEX != 0);
        State {
            link_up: word.is_none_or(|word| word & status::LINK_UP != 0),
            announce: word.is_some_and(|word| word & status::ANNOUNCE != 0),
            speed: speed.filter(|speed| *speed <= 0x7FFF_FFFF).unwrap_or(0),
        }
    })
}

impl<M: Mmio, D: Dma, C: Clock> Net<M, D, C> {
    /// Takes over the device of `function` from whatever state it is in. `pairs`: as many of the pairs
    /// offered are used, at most [`PAIRS`]. `made_up`: the address of a device that has none.
    pub fn start<F: PciFunction<Mmio = M>>(
        function: &F,
        dma: &D,
        clock: C,
        vectors: Vectors,
        pairs: u16,
        made_up: [u8; 6],
    ) -> core::result::Result<Self, StartError> {
        let mut transport = Transport::open(function)?;
        transport.reset(&clock)?;
        function.reset_done()?;
        function.enable(true)?;
        let features = negotiate(&mut transport, &clock)?;
        let event_idx = features & ring_feature::EVENT_IDX != 0;
        let has_indirect = features & ring_feature::INDIRECT_DESC != 0;
        let options = QueueOptions { event_idx, indirect: if has_indirect { INDIRECT } else { 0 } };
        let offered = offered_pairs(&transport, features)?;
        let count = offered.min(pairs.clamp(1, PAIRS));
        let has_control = features & feature::CTRL_VQ != 0;
        let control_number = if features & feature::MQ != 0 { 2 * offered } else { 2 };

        let mut sizes = Vec::new();
        for pair in 0..count {
            sizes.push(transport.queue_size(rx_queue(pair), QUEUE_SIZE)?);
            sizes.push(transport.queue_size(tx_queue(pair), QUEUE_SIZE)?);
        }
        let plain = QueueOptions { event_idx, indirect: 0 };
        let area_bytes = TX_ENTRIES as usize * AREA;
        let mut bytes = area_bytes + AREA;
        for &size in &sizes {
            bytes += queue::bytes(size, options);
        }
        let control_size = if has_control {
            let size = transport.queue_size(control_number, commands::SIZE)?;
            if size < 2 {
                return Err(DeviceError::Queue(control_number).into());
            }
            bytes += queue::bytes(size, plain) + commands::AREA + 64;
            Some(size)
        } else {
            None
        };
        let mut carver = Carver::new(dma, bytes)?;
        let areas = carver.take(area_bytes, AREA)?;
        let merged = features & feature::MRG_RXBUF != 0;
        let mut pairs = Vec::new();
        for [rx, tx] in sizes.as_chunks::<2>().0 {
            let rx = Queue::new(&mut carver, *rx, plain)?;
            let tx = Queue::new(&mut carver, *tx, options)?;
            pairs.push(Pair::new(rx, tx, merged));
        }
        let control = match control_size {
            Some(size) => {
                let queue = Queue::new(&mut carver, size, plain)?;
                Some(Control::new(queue, control_number, carver.take(commands::AREA, 16)?))
            }
            None => None,
        };
        let has_mac = features & feature::MAC != 0;
        let mac = transport
            .config(|config| core::array::from_fn(|at| config.u8(config::MAC + at).unwrap_or(0)))?;
        let mtu = transport.config(|config| config.u16(config::MTU))?;
        let mtu = mtu.filter(|_| features & feature::MTU != 0).map_or(1500, u32::from);
        let state = read_state(&transport, features)?;
        let mut net = Self {
            transport,
            pairs,
            control,
            areas,
            clock,
            features,
            vectors,
            mac: if has_mac { mac } else { made_up },
            mac_made_up: !has_mac,
            mtu: mtu.clamp(576, 9000),
            state,
            filter: Filter::default(),
            up: true,
            attention: false,
            watch: None,
            counters: Counters::default(),
        };
        net.enable()?;
        Ok(net)
    }

    /// Queues, DRIVER_OK, and the commands that belong to it.
    fn enable(&mut self) -> core::result::Result<(), StartError> {
        // Without it NEEDS_RESET is found out by time-outs.
        let _taken = self.transport.set_config_vector(self.vectors.config);
        let vector = self.vectors.queues;
        for (index, pair) in self.pairs.iter().enumerate() {
            let index = index as u16;
            for (number, queue) in [(rx_queue(index), &pair.rx), (tx_queue(index), &pair.tx)] {
                self.transport.setup_queue(number, queue.size(), queue.addresses(), vector)?;
            }
        }
        if let Some(control) = &self.control {
            let (queue, number) = (&control.queue, control.number);
            self.transport.setup_queue(number, queue.size(), queue.addresses(), None)?;
        }
        self.transport.driver_ok();
        if self.pairs.len() > 1 {
            let pairs = (self.pairs.len() as u16).to_le_bytes();
            if !self.command(control::CLASS_MQ, control::MQ_VQ_PAIRS_SET, &pairs)? {
                return Err(DeviceError::Config("queue pairs refused").into());
            }
        }
        self.apply_filter()?;
        Ok(())
    }

    fn command(
        &mut self,
        class: u8,
        command: u8,
        data: &[u8],
    ) -> core::result::Result<bool, DeviceError> {
        match &mut self.control {
            Some(control) => control.command(&self.transport, &self.clock, class, command, data),
            None => Ok(false),
        }
    }

    /// Whether the device filters as wanted. Without CTRL_RX it lets everything through.
    fn apply_filter(&mut self) -> core::result::Result<(), DeviceError> {
        if self.features & feature::CTRL_RX == 0 || self.control.is_none() {
            return Ok(());
        }
        let promiscuous = [u8::from(self.filter.promiscuous)];
        let mut all_multicast = self.filter.all_multicast;
        let tables = commands::tables(&self.filter.multicast);
        // A device whose table is too small must let all multicast through instead.
        if !self.command(control::CLASS_MAC, control::MAC_TABLE_SET, &tables)? {
            all_multicast |= !self.filter.multicast.is_empty();
        }
        self.command(control::CLASS_RX, control::RX_PROMISC, &promiscuous)?;
        self.command(control::CLASS_RX, control::RX_ALLMULTI, &[u8::from(all_multicast)])?;
        Ok(())
    }

    pub fn counters(&self) -> Counters {
        self.counters
    }

    pub fn pairs(&self) -> usize {
        self.pairs.len()
    }

    fn examine(&mut self) -> core::result::Result<(), DeviceError> {
        let oldest = self.pairs.iter().filter_map(Pair::oldest).min();
        self.watch = oldest.map(|since| since.saturating_add(TIMEOUT_NS));
        if self.watch.is_some_and(|at| self.clock.now_ns() >= at) {
            return Err(DeviceError::TimedOut);
        }
        if self.transport.device_status().contains(DeviceStatus::NEEDS_RESET) {
            return Err(DeviceError::NeedsReset);
        }
        let state = read_state(&self.transport, self.features)?;
        self.counters.link_changes += u64::from(state.link_up != self.state.link_up);
        self.state = state;
        if state.announce {
            // The network server's next frame tells the switches where this address is now.
            self.command(control::CLASS_ANNOUNCE, control::ANNOUNCE_ACK, &[])?;
        }
        Ok(())
    }

    /// Resets the device and sets it up as it was, with empty queues.
    fn restart(&mut self) -> core::result::Result<(), StartError> {
        self.transport.reset(&self.clock)?;
        // The very same features, so that ring layout and limits stay what they are.
        if self.transport.negotiate(self.features)? != self.features {
            return Err(DeviceError::FeaturesRefused.into());
        }
        for (index, pair) in self.pairs.iter_mut().enumerate() {
            let index = index as u16;
            for (number, size) in
                [(rx_queue(index), pair.rx.size()), (tx_queue(index), pair.tx.size())]
            {
                if self.transport.queue_size(number, size)? != size {
                    return Err(DeviceError::Queue(number).into());
                }
            }
            pair.clear();
        }
        if let Some(control) = &mut self.control {
            control.queue.clear();
        }
        self.enable()?;
        self.state = read_state(&self.transport, self.features)?;
        Ok(())
    }

    fn recover(&mut self) -> core::result::Result<(), StartError> {
        self.counters.recoveries += 1;
        self.restart()?;
        let now = self.clock.now_ns();
        for pair in &mut self.pairs {
            // It fitted before, so it fits again.
            pair.again(&self.areas, now)?;
        }
        self.watch = None;
        self.kick();
        Ok(())
    }
}

/// Large received frames need mergeable buffers here.
fn negotiate<M: Mmio>(
    transport: &mut Transport<M>,
    clock: &impl Clock,
) -> core::result::Result<u64, DeviceError> {
    let features = transport.negotiate(WANTED)?;
    let large = feature::GUEST_TSO4 | feature::GUEST_TSO6;
    if features & large == 0 || features & feature::MRG_RXBUF != 0 {
        return Ok(features);
    }
    transport.reset(clock)?;
    transport.negotiate(WANTED & !large)
}

impl<M: Mmio, D: Dma, C: Clock> LinkDevice for Net<M, D, C> {
    type Error = StartError;

    fn info(&self) -> LinkInfo {
        let has = |bit: u64, flag: u32| if self.features & bit != 0 { flag } else { 0 };
        let link = if self.state.link_up && self.up { info::LINK_UP } else { 0 };
        LinkInfo {
            mac: self.mac,
            flags: link
                | has(feature::CSUM, info::TX_CHECKSUM)
                | has(feature::GUEST_CSUM, info::RX_CHECKSUM)
                | has(feature::HOST_TSO4, info::TSO4)
                | has(feature::HOST_TSO6, info::TSO6)
                | info::FULL_DUPLEX
                | if self.mac_made_up { info::MAC_MADE_UP } else { 0 },
            mtu: self.mtu,
            queues: self.pairs.len() as u32,
            speed: self.state.speed,
        }
    }

    fn send(
        &mut self,
        _memory: &dyn Peek,
        data: &[Segment],
        how: &Transmit,
        cookie: u32,
    ) -> Result<()> {
        if cookie >= TX_ENTRIES {
            return Err(Error::Inval);
        }
        let now = self.clock.now_ns();
        let pair = how.flow as usize % self.pairs.len();
        let head = self.pairs[pair].send(&self.areas, data, how, cookie, now)?;
        trace::issued(cookie.into(), tx_queue(pair as u16), head);
        if self.watch.is_none() {
            self.watch = Some(now.saturating_add(TIMEOUT_NS));
        }
        Ok(())
    }

    fn give(&mut self, buffer: Segment, cookie: u32) -> Result<()> {
        // To the pair that has fewest: the busy one gets back what it used up.
        let pair = self.pairs.iter_mut().min_by_key(|pair| pair.rx.in_flight());
        pair.ok_or(Error::Again)?.give(buffer, cookie)
    }

    fn kick(&mut self) {
        for (index, pair) in self.pairs.iter_mut().enumerate() {
            let index = index as u16;
            for (number, queue) in
                [(rx_queue(index), &mut pair.rx), (tx_queue(index), &mut pair.tx)]
            {
                if queue.publish() {
                    self.transport.notify(number);
                    self.counters.doorbells += 1;
                }
            }
        }
    }

    fn poll(
        &mut self,
        memory: &dyn Peek,
        events: &mut Events,
    ) -> core::result::Result<(), StartError> {
        let mut health = Ok(());
        for pair in &mut self.pairs {
            health = health.and(pair.poll(memory, events));
        }
        if health.is_ok() && core::mem::take(&mut self.attention) {
            health = self.examine();
        }
        match health {
            Ok(()) => Ok(()),
            Err(_) => self.recover(),
        }
    }

    fn arm(&mut self, sent: bool) -> bool {
        let mut there = self.attention;
        for pair in &mut self.pairs {
            there |= pair.rx.arm();
            if sent {
                there |= pair.tx.arm();
            }
        }
        there
    }

    fn disarm(&mut self) {
        for pair in &mut self.pairs {
            pair.rx.disarm();
            pair.tx.disarm();
        }
    }

    fn attend(&mut self) {
        self.attention = true;
    }

    fn wake_at(&self) -> Option<u64> {
        self.watch
    }

    fn forget_all(&mut self) -> core::result::Result<(), StartError> {
        self.restart()?;
        self.pairs.iter_mut().for_each(Pair::forget);
        self.watch = None;
        Ok(())
    }

    fn set_filter(&mut self, filter: &Filter) -> Result<()> {
        self.filter = filter.clone();
        if self.apply_filter().is_err() {
            self.attention = true;
            return Err(Error::Io);
        }
        Ok(())
    }

    /// The device has no switch for it: a link that is down by hand says so and drops frames above.
    fn set_up(&mut self, up: bool) -> Result<()> {
        self.up = up;
        Ok(())
    }

    fn statistics(&mut self) -> String {
        let mut text = format!(
            "doorbells {}\nrecoveries {}\nlink_changes {}\nqueue_pairs {}\n",
            self.counters.doorbells,
            self.counters.recoveries,
            self.counters.link_changes,
            self.pairs.len()
        );
        for (index, pair) in self.pairs.iter().enumerate() {
            text.push_str(&format!("pair{index} sent {} received {}\n", pair.out, pair.inward));
        }
        text
    }

    fn stop(&mut self) -> core::result::Result<(), StartError> {
        self.transport.reset(&self.clock)?;
        Ok(())
    }
}
