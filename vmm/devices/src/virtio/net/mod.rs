//! virtio-net (VIRTIO 5.1): up to eight queue pairs, a control queue, offloads, over a
//! [`NetBackend`].
//!
//! ```text
//!   tx queue n --> sound? offloads as negotiated? --> net::Port --> back end
//!   rx queue n <-- backlog n <-- steering <-- filter <-- net::Port <-- back end
//!   control queue --> filter, MAC, VLANs, pairs in use, offloads, announcement
//! ```
//! A received frame goes to the pair on which its flow last sent (5.1.6.5.6, automatic receive
//! steering). A pair without buffers keeps up to [`BACKLOG`] frames; then the back end waits, and
//! so loses nothing that it can hold itself. With the link down frames are dropped both ways.
//!
//! Without MRG_RXBUF a frame longer than the buffer at hand is dropped.

mod control;
mod filter;
mod receive;
mod steering;

use super::{Context, Progress, Queue, RingError, VirtioDevice, VirtioPci};
use crate::backend::DriveBays;
use crate::device::Origin;
use crate::net::{Frame, MAX_FRAME, NetBackend, NetDevice, Offloads, Port, offload};
use crate::trace::EventKind;
use filter::Filter;
use receive::Pair;
use steering::Steering;
use xinim_abi::hw::register::Register;
use xinim_abi::hw::virtio::DeviceType;
use xinim_abi::hw::virtio_net::{
    CONFIG, HEADER_SIZE, Header, config, feature, gso, header_flag, status,
};
use zerocopy::{FromZeros, IntoBytes};

/// Queue pairs at most.
pub const PAIRS_MAX: u16 = 8;
/// Frames kept for a pair without buffers.
pub const BACKLOG: usize = 64;
/// Frames sent or received in one call; the machine calls again.
const BATCH: usize = 256;
/// What the configuration says of the link, Mb/s: that of no wire.
const SPEED: u32 = 10_000;

/// What the machine says about a network device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetConfig {
    pub mac: [u8; 6],
    /// 1 to [`PAIRS_MAX`]; other numbers are rounded.
    pub pairs: u16,
    /// Longest IP packet that fits the link, from 68 up.
    pub mtu: u16,
    /// Whether the cable is in.
    pub link: bool,
    /// Whether every frame passes until the driver says otherwise, as QEMU's device has it.
    pub promiscuous: bool,
}

impl Default for NetConfig {
    fn default() -> Self {
        let mac = [0x52, 0x54, 0, 0, 0, 1];
        Self { mac, pairs: PAIRS_MAX, mtu: 1500, link: true, promiscuous: false }
    }
}

/// The device.
pub struct Net {
    // Fixed configuration
    setup: NetConfig,
    // Glue
    port: Port,
    // Volatile state
    space: [u8; config::SIZE],
    features: u64,
    running: bool,
    link: bool,
    /// Asked for by the machine, not yet in the configuration.
    announce: bool,
    pairs: Vec<Pair>,
    /// Pairs in use.
    active: usize,
    filter: Filter,
    steering: Steering,
    /// A frame whose pair is full.
    waiting: Option<(usize, Frame)>,
    buffer: Vec<u8>,
}

impl Net {
    pub fn new(backend: Box<dyn NetBackend>, setup: NetConfig) -> Self {
        let setup = NetConfig { pairs: setup.pairs.clamp(1, PAIRS_MAX), ..setup };
        let mut net = Self {
            setup,
            port: Port::new(backend),
            space: [0; config::SIZE],
            features: 0,
            running: false,
            link: setup.link,
            announce: false,
            pairs: (0..setup.pairs).map(|_| Pair::default()).collect(),
            active: 1,
            filter: Self::filter(&setup),
            steering: Steering::default(),
            waiting: None,
            buffer: Vec::new(),
        };
        net.fill_space();
        net
    }

    fn filter(setup: &NetConfig) -> Filter {
        let mut filter = Filter::new(setup.mac);
        filter.modes.promiscuous = setup.promiscuous;
        filter
    }

    fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    fn fill_space(&mut self) {
        let mut flags = if self.link { status::LINK_UP } else { 0 };
        if self.announce && self.has(feature::GUEST_ANNOUNCE) {
            flags |= status::ANNOUNCE;
        }
        let mut put = |at: usize, bytes: &[u8]| {
            self.space[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(config::MAC, &self.filter.mac());
        put(config::MAX_VIRTQUEUE_PAIRS, &self.setup.pairs.to_le_bytes());
        put(config::MTU, &self.setup.mtu.to_le_bytes());
        put(config::SPEED, &SPEED.to_le_bytes());
        put(config::DUPLEX, &[1]);
        put(config::STATUS, &flags.to_le_bytes());
    }

    /// Number of the control queue (5.1.2).
    fn control_queue(&self) -> u16 {
        if self.has(feature::MQ) { 2 * self.setup.pairs } else { 2 }
    }

    /// What the driver takes, by the GUEST_* features in force.
    fn guest_offloads(features: u64) -> Offloads {
        let mut offloads = Offloads::empty();
        for (bit, offload) in [
            (feature::GUEST_CSUM, Offloads::CHECKSUM),
            (feature::GUEST_TSO4, Offloads::TSO4),
            (feature::GUEST_TSO6, Offloads::TSO6),
        ] {
            offloads.set(offload, features & bit != 0);
        }
        offloads
    }

    fn transmit(
        &mut self,
        pair: usize,
        queue: &mut Queue,
        context: &Context<'_>,
    ) -> Result<Progress, RingError> {
        queue.quiet(context)?;
        for _ in 0..BATCH {
            // The machine calls again when the back end takes frames.
            if !self.port.ready() {
                return Ok(Progress::Idle);
            }
            let chain = match queue.pop(context)? {
                Some(chain) => chain,
                None if queue.rearm(context)? => continue,
                None => return Ok(Progress::Idle),
            };
            let mut data = chain.readable();
            let context = &context.of(queue.index(), chain.head);
            let mut header = Header::new_zeroed();
            let got = data.read(context, header.as_mut_bytes())?;
            let length = data.len();
            if got < HEADER_SIZE {
                return Err(RingError::Malformed);
            }
            if self.link && length <= MAX_FRAME as u64 && self.may_send(&header) {
                self.buffer.resize(length as usize, 0);
                data.read(context, &mut self.buffer)?;
                let frame = Frame { header, data: std::mem::take(&mut self.buffer) };
                if offload::is_sound(&frame) {
                    let sent = length as u32;
                    context.tracer.emit_with(context.origin, &frame.data, || EventKind::Frame {
                        sent: true,
                        length: sent,
                    });
                    self.steering.sent(&frame.data, pair);
                    self.port.send(frame);
                }
            }
            queue.push(context, chain.head, 0)?;
        }
        Ok(Progress::More)
    }

    /// Whether the header leaves to us only what was negotiated (5.1.6.2).
    fn may_send(&self, header: &Header) -> bool {
        let checksum = header.flags & header_flag::NEEDS_CSUM == 0 || self.has(feature::CSUM);
        checksum
            && match header.gso_type & !gso::ECN {
                gso::NONE => true,
                gso::TCPV4 => self.has(feature::HOST_TSO4),
                gso::TCPV6 => self.has(feature::HOST_TSO6),
                _ => false,
            }
    }
}

impl VirtioDevice for Net {
    fn device_type(&self) -> DeviceType {
        DeviceType::Network
    }

    fn pci_class(&self) -> [u8; 3] {
        // Ethernet controller.
        [0x02, 0x00, 0x00]
    }

    fn features(&self) -> u64 {
        let several = if self.setup.pairs > 1 { feature::MQ } else { 0 };
        feature::CSUM
            | feature::GUEST_CSUM
            | feature::CTRL_GUEST_OFFLOADS
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
            | feature::CTRL_VLAN
            | feature::CTRL_RX_EXTRA
            | feature::GUEST_ANNOUNCE
            | feature::CTRL_MAC_ADDR
            | feature::SPEED_DUPLEX
            | several
    }

    fn queue_count(&self) -> u16 {
        2 * self.setup.pairs + 1
    }

    fn config_table(&self) -> &'static [Register] {
        CONFIG
    }

    fn config(&self) -> &[u8] {
        &self.space
    }

    fn activate(&mut self, features: u64) {
        self.features = features;
        self.running = true;
        self.filter.set_vlan_filter(features & feature::CTRL_VLAN != 0);
        self.port.accept(Self::guest_offloads(features));
        self.fill_space();
    }

    fn reset(&mut self) {
        self.features = 0;
        self.running = false;
        self.active = 1;
        self.announce = false;
        self.filter = Self::filter(&self.setup);
        self.steering = Steering::default();
        self.pairs.iter_mut().for_each(|pair| *pair = Pair::default());
        self.waiting = None;
        self.port.reset();
        self.fill_space();
    }

    fn process(
        &mut self,
        index: u16,
        queue: &mut Queue,
        context: &Context<'_>,
    ) -> Result<Progress, RingError> {
        if index == self.control_queue() && self.has(feature::CTRL_VQ) {
            return self.control(queue, context);
        }
        let pair = usize::from(index / 2);
        if pair >= self.pairs.len() {
            return Ok(Progress::Idle);
        }
        if index % 2 == 1 {
            return self.transmit(pair, queue, context);
        }
        // New buffers are used in `complete`, which follows.
        Ok(Progress::Idle)
    }

    fn complete(
        &mut self,
        queues: &mut [Queue],
        context: &Context<'_>,
    ) -> Result<Progress, (u16, RingError)> {
        self.receive(queues, context)
    }

    fn resize(&mut self) -> bool {
        let old = self.space;
        self.fill_space();
        self.space != old
    }
}

impl VirtioPci<Net> {
    /// Asks the driver to announce itself to the network, as after a move to another place.
    pub fn announce(&mut self, origin: &Origin) {
        self.device_mut().announce = true;
        self.resized(0, origin);
    }
}

impl NetDevice for VirtioPci<Net> {
    fn input_ready(&mut self, origin: &Origin) -> bool {
        self.serve(0, origin) == Ok(Progress::More)
    }

    fn output_ready(&mut self, origin: &Origin) -> bool {
        let pairs = self.device().setup.pairs;
        let mut more = false;
        for pair in 0..pairs {
            more |= self.serve(2 * pair + 1, origin) == Ok(Progress::More);
        }
        more
    }

    fn timer(&mut self, _origin: &Origin) -> bool {
        false
    }

    fn set_link(&mut self, up: bool, origin: &Origin) {
        let net = self.device_mut();
        // Whoever comes back to a network is to say so.
        net.announce |= up && !net.link;
        net.link = up;
        self.resized(0, origin);
    }

    fn link(&self) -> bool {
        self.device().link
    }
}

#[cfg(test)]
#[path = "net_tests.rs"]
mod tests;
