//! The network drivers' logic against our device models, in one process: the network server's rings on
//! one side, a cable back to the same device on the other. Every model and driver passes the same
//! tests.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use xinim_abi::error::{Error, Result};
use xinim_abi::hw::e1000::{Model, reg};
use xinim_abi::hw::pci::CAP_MSIX;
use xinim_abi::services::link::{info, transmit};
use xinim_devices::device::Origin;
use xinim_devices::e1000::{E1000, E1000Config};
use xinim_devices::net::packet::Ip;
use xinim_devices::net::{Frame, NetBackend, NetDevice, NoTimer, Sent};
use xinim_devices::testing::{FlatMemory, ManualClock, MsiLog};
use xinim_devices::trace::Tracer;
use xinim_devices::virtio::{Net as NetModel, NetConfig, VirtioConfig, VirtioPci};
use xinim_driver_kit::dma::DmaBuffer;
use xinim_driver_kit::pci::PciFunction;
use xinim_driver_kit::testing::FakeClock;
use xinim_driver_kit::{Constraints, Dma, Segment, SharedMemory};
use xinim_e1000::Nic;
use xinim_link_service::service::{Notify, Pumped, Service};
use xinim_link_service::{LinkDevice, LinkInfo};
use xinim_net::link::Offload;
use xinim_net::rings::{self, LEN_LARGE, Rings};
use xinim_tests::pair::{BarMmio, Machine, RamBuffer, RamDma, ram};
use xinim_virtio_net::{Net, PAIRS, Vectors};

const MAC: [u8; 6] = [0x52, 0x54, 0, 0x12, 0x34, 0x56];
const MADE_UP: [u8; 6] = [2, 0, 0, 0, 0, 9];
/// A transmitter that is silent for this long is stuck.
const STUCK_NS: u64 = 6_000_000_000;

/// Every kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    E1000(Model),
    Virtio { pairs: u16 },
}

const KINDS: [Kind; 5] = [
    Kind::E1000(Model::I82540em),
    Kind::E1000(Model::I82545em),
    Kind::E1000(Model::I82574l),
    Kind::Virtio { pairs: 1 },
    Kind::Virtio { pairs: 8 },
];

/// What was sent comes back.
#[derive(Clone, Default)]
struct Cable(Arc<Mutex<VecDeque<Frame>>>);

impl NetBackend for Cable {
    fn send(&mut self, frame: &Frame) -> Sent {
        self.0.lock().unwrap().push_back(frame.clone());
        Sent::Done
    }
    fn receive(&mut self, frame: &mut Frame) -> bool {
        match self.0.lock().unwrap().pop_front() {
            Some(next) => {
                *frame = next;
                true
            }
            None => false,
        }
    }
}

/// Memory of the network server, which the driver's device sees too.
#[derive(Clone)]
struct Shared(Rc<RamBuffer>);

impl rings::SharedMemory for Shared {
    fn load_u32(&self, at: usize) -> Result<u32> {
        Ok(self.0.load_u32(at))
    }
    fn store_u32(&self, at: usize, value: u32) -> Result<()> {
        self.0.store_u32(at, value);
        Ok(())
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        if at + out.len() > SharedMemory::len(&*self.0) {
            return Err(Error::Fault);
        }
        self.0.read_bytes(at, out);
        Ok(())
    }
    fn write(&self, at: usize, data: &[u8]) -> Result<()> {
        self.0.write_bytes(at, data);
        Ok(())
    }
}

impl SharedMemory for Shared {
    fn len(&self) -> usize {
        SharedMemory::len(&*self.0)
    }
    fn read_bytes(&self, at: usize, out: &mut [u8]) {
        self.0.read_bytes(at, out);
    }
    fn write_bytes(&self, at: usize, data: &[u8]) {
        self.0.write_bytes(at, data);
    }
    fn load_u16(&self, at: usize) -> u16 {
        self.0.load_u16(at)
    }
    fn load_u32(&self, at: usize) -> u32 {
        self.0.load_u32(at)
    }
    fn store_u16(&self, at: usize, value: u16) {
        self.0.store_u16(at, value);
    }
    fn store_u32(&self, at: usize, value: u32) {
        self.0.store_u32(at, value);
    }
}

impl DmaBuffer for Shared {
    fn device_address(&self, at: usize) -> Segment {
        self.0.device_address(at)
    }
}

/// The test pumps anyway.
struct Deaf;

impl Notify for Deaf {
    fn work(&self) {}
    fn state_changed(&self) {}
}

/// One driver instance, whichever it is.
enum Driver<'a> {
    E1000(Service<Nic<BarMmio, RamDma, &'a FakeClock>, Shared, Deaf>),
    Virtio(Service<Net<BarMmio, RamDma, &'a FakeClock>, Shared, Deaf>),
}

macro_rules! both {
    ($self:expr, $service:ident => $work:expr) => {
        match $self {
            Driver::E1000($service) => $work,
            Driver::Virtio($service) => $work,
        }
    };
}

impl Driver<'_> {
    fn attach(&mut self, memory: &Shared) {
        let attached = both!(self, s => s.attach(1, memory.clone(), Deaf).unwrap());
        attached.unwrap();
    }
    fn pump(&mut self) {
        while both!(self, s => s.pump().unwrap()) == Pumped::Again {}
    }
    fn attend(&mut self) {
        both!(self, s => s.device_mut().attend());
    }
    fn info(&self) -> LinkInfo {
        both!(self, s => s.device().info())
    }
    fn recoveries(&self) -> u64 {
        match self {
            Driver::E1000(s) => s.device().recoveries(),
            Driver::Virtio(s) => s.device().counters().recoveries,
        }
    }
}

struct Rig {
    kind: Kind,
    machine: Machine,
    model: Arc<Mutex<dyn NetDevice>>,
    memory: Shared,
    rings: Rings,
    /// The model's.
    time: Arc<ManualClock>,
}

fn doorbell(kind: Kind) -> fn(u8, u64) -> bool {
    match kind {
        Kind::E1000(_) => |bar, offset| bar == 0 && [reg::TDT, reg::RDT].contains(&(offset as u32)),
        Kind::Virtio { .. } => |bar, offset| {
            bar == xinim_devices::virtio::pci::REGISTER_BAR
                && offset >= xinim_devices::virtio::pci::NOTIFY_OFFSET
        },
    }
}

fn rig(kind: Kind) -> Rig {
    let memory: Arc<FlatMemory> = ram(8192);
    let msi = MsiLog::new();
    let cable = Box::new(Cable::default());
    let time = ManualClock::new(Duration::ZERO);
    let (model, machine): (Arc<Mutex<dyn NetDevice>>, Machine) = match kind {
        Kind::E1000(model) => {
            let setup = E1000Config {
                name: "e1000.0".into(),
                model,
                mac: MAC,
                link: true,
                dma: memory.clone(),
                msi,
                intx: None,
                clock: time.clone(),
                timer: Arc::new(NoTimer),
                tracer: Tracer::off(),
            };
            let card = Arc::new(Mutex::new(E1000::new(setup, cable).unwrap()));
            (card.clone(), Machine::with_doorbell(&memory, card, doorbell(kind)))
        }
        Kind::Virtio { pairs } => {
            let net = NetModel::new(cable, NetConfig { mac: MAC, pairs, ..NetConfig::default() });
            let setup = VirtioConfig::new("virtio-net.0", memory.clone(), msi);
            let device = Arc::new(Mutex::new(VirtioPci::new(net, setup).unwrap()));
            (device.clone(), Machine::with_doorbell(&memory, device, doorbell(kind)))
        }
    };
    let buffer = machine.ram.allocate(LEN_LARGE, Constraints::DATA).unwrap();
    let memory = Shared(Rc::new(buffer));
    let rings = Rings::new(&memory, true, 0xC0FF_EE00_DEAD_BEE5).unwrap();
    Rig { kind, machine, model, memory, rings, time }
}

impl Rig {
    /// A driver from scratch, as after its predecessor's death.
    fn start<'a>(&mut self, clock: &'a FakeClock) -> Driver<'a> {
        let function = self.machine.fresh_function();
        function.route(0, 0x41).unwrap();
        let dma = &self.machine.ram;
        let mut driver = match self.kind {
            Kind::E1000(model) => {
                let msix = function.capability(CAP_MSIX, 0).unwrap().is_some();
                let nic = Nic::start(&function, dma, clock, model, msix, MADE_UP).unwrap();
                Driver::E1000(Service::new(nic))
            }
            Kind::Virtio { .. } => {
                let vectors = Vectors { queues: Some(0), config: Some(0) };
                let net = Net::start(&function, dma, clock, vectors, PAIRS, MADE_UP).unwrap();
                Driver::Virtio(Service::new(net))
            }
        };
        self.rings.restart(&self.memory).unwrap();
        driver.attach(&self.memory);
        self.pass(Duration::from_secs(10), &mut driver);
        driver
    }

    /// The model's time goes on: negotiation ends, delayed interrupts come.
    fn pass(&mut self, time: Duration, driver: &mut Driver<'_>) {
        self.time.advance(time);
        while self.model.lock().unwrap().timer(&Origin::default()) {}
        driver.attend();
        driver.pump();
    }

    fn send(&mut self, frame: &[u8], offload: &Offload) {
        self.rings.transmit(&self.memory, frame, offload).unwrap();
    }

    /// Lets driver and device work until nothing moves; all frames received meanwhile.
    fn settle(&mut self, driver: &mut Driver<'_>) -> Vec<(Vec<u8>, bool)> {
        let mut received = Vec::new();
        let mut idle = 0;
        while idle < 3 {
            self.rings.publish_and_ask(&self.memory).unwrap();
            driver.pump();
            while self.model.lock().unwrap().input_ready(&Origin::default()) {}
            driver.pump();
            let before = received.len();
            let mut frame = Vec::new();
            while let Some(good) = self.rings.receive(&self.memory, &mut frame).unwrap() {
                received.push((frame.clone(), good));
            }
            self.rings.reap(&self.memory).unwrap();
            idle = if received.len() == before { idle + 1 } else { 0 };
        }
        received
    }
}

/// A broadcast frame of an experimental type.
fn plain(len: usize, seed: usize) -> Vec<u8> {
    let mut frame = vec![0xFF; 6];
    frame.extend_from_slice(&MAC);
    frame.extend_from_slice(&[0x88, 0xB5]);
    frame.extend((14..len).map(|at| (at * 31 + seed * 7) as u8));
    frame
}

/// A TCP segment to the card itself, its checksum field holding the pseudo-header's sum.
fn tcp(payload: usize, ipv6: bool) -> (Vec<u8>, u16) {
    let mut frame = Vec::from(MAC);
    frame.extend_from_slice(&[2, 0, 0, 0, 0, 1]);
    let segment = 20 + payload;
    if ipv6 {
        frame.extend_from_slice(&[0x86, 0xDD, 0x60, 0, 0, 0]);
        frame.extend_from_slice(&(segment as u16).to_be_bytes());
        frame.extend_from_slice(&[6, 64]);
        frame.extend((0..32).map(|i| if i % 16 == 0 { 0xFD } else { i }));
    } else {
        frame.extend_from_slice(&[8, 0, 0x45, 0]);
        frame.extend_from_slice(&((20 + segment) as u16).to_be_bytes());
        frame.extend_from_slice(&[0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        let sum = xinim_devices::net::checksum::checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    let at = frame.len();
    frame.extend_from_slice(&[
        0x30, 0x39, 0, 80, 0, 0, 1, 0, 0, 0, 2, 0, 0x50, 0x18, 0xFF, 0xFF, 0, 0, 0, 0,
    ]);
    frame.extend((0..payload).map(|i| (i * 13) as u8));
    let addresses = if ipv6 { 22..54 } else { 26..34 };
    let pseudo = xinim_devices::net::checksum::pseudo_header(&frame[addresses], 6, segment);
    let folded = xinim_devices::net::checksum::fold(pseudo);
    frame[at + 16..at + 18].copy_from_slice(&folded.to_be_bytes());
    (frame, at as u16)
}

fn is_right(frame: &[u8]) -> bool {
    let ip = Ip::parse(frame).expect("an IP packet");
    ip.header_is_valid(frame) && ip.payload_is_valid(frame) == Some(true)
}

#[test]
fn the_address_is_the_cards() {
    for kind in KINDS {
        let clock = FakeClock::default();
        let mut rig = rig(kind);
        let driver = rig.start(&clock);
        let found = driver.info();
        assert_eq!(found.mac, MAC, "{kind:?}");
        let wanted =
            info::LINK_UP | info::TX_CHECKSUM | info::RX_CHECKSUM | info::TSO4 | info::TSO6;
        assert_eq!(found.flags & (wanted | info::MAC_MADE_UP), wanted, "{kind:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn frames_of_all_lengths_come_back_in_order(
        kind in prop::sample::select(KINDS.to_vec()),
        lens in prop::collection::vec(60usize..=1514, 1..600),
        batch in 1usize..64,
    ) {
        let clock = FakeClock::default();
        let mut rig = rig(kind);
        let mut driver = rig.start(&clock);
        let mut received = Vec::new();
        for (at, part) in lens.chunks(batch).enumerate() {
            for (i, &len) in part.iter().enumerate() {
                rig.send(&plain(len, at * batch + i), &Offload::default());
            }
            received.extend(rig.settle(&mut driver));
        }
        prop_assert_eq!(received.len(), lens.len());
        for (i, ((frame, _), &len)) in received.iter().zip(&lens).enumerate() {
            prop_assert_eq!(frame, &plain(len, i), "frame {}", i);
        }
        prop_assert_eq!(rig.rings.in_flight(), 0);
        prop_assert_eq!(driver.recoveries(), 0);
    }

    /// Checksums and segments as software makes them.
    #[test]
    fn offloads(
        kind in prop::sample::select(KINDS.to_vec()),
        payload in 1usize..60_000,
        mss in 536u16..=1400,
        ipv6: bool,
    ) {
        let clock = FakeClock::default();
        let mut rig = rig(kind);
        let mut driver = rig.start(&clock);
        let (frame, at) = tcp(payload, ipv6);
        let mut offload = Offload {
            flags: transmit::CHECKSUM,
            checksum_start: at,
            checksum_offset: 16,
            ..Offload::default()
        };
        let whole = payload <= usize::from(mss);
        if !whole {
            offload.flags |= transmit::SEGMENT | if ipv6 { transmit::IPV6 } else { 0 };
            offload.header_len = at + 20;
            offload.segment_size = mss;
        }
        rig.send(&frame, &offload);
        let received = rig.settle(&mut driver);
        let head = usize::from(at) + 20;
        let mut bytes = Vec::new();
        for (part, good) in &received {
            prop_assert!(is_right(part), "wrong checksum");
            // The older cards look at IPv4 only (8254x 3.2.9).
            let told = !ipv6 || matches!(kind, Kind::Virtio { .. });
            prop_assert!(*good || !told, "not told that it is right");
            let ip = Ip::parse(part).unwrap();
            let sequence = u32::from_be_bytes(part[head - 16..head - 12].try_into().unwrap());
            prop_assert_eq!(sequence as usize, 0x100 + bytes.len());
            bytes.extend_from_slice(&part[head..ip.end]);
        }
        prop_assert_eq!(received.len(), payload.div_ceil(mss.into()).max(1));
        prop_assert_eq!(&bytes[..], &frame[head..]);
    }
}

#[test]
fn a_restarted_driver_sends_what_was_in_flight() {
    for kind in KINDS {
        let clock = FakeClock::default();
        let mut rig = rig(kind);
        let mut driver = rig.start(&clock);
        rig.machine.defer_doorbells(true);
        for i in 0..40 {
            rig.send(&plain(200, i), &Offload::default());
        }
        rig.rings.publish_and_ask(&rig.memory).unwrap();
        driver.pump();
        // It dies before the device hears of them, in whatever state the device is.
        drop(driver);
        rig.machine.lose_doorbells();
        rig.machine.defer_doorbells(false);
        let mut driver = rig.start(&clock);
        let received = rig.settle(&mut driver);
        assert_eq!(received.len(), 40, "{kind:?}");
        for (i, (frame, _)) in received.iter().enumerate() {
            assert_eq!(*frame, plain(200, i), "{kind:?}");
        }
        assert_eq!(rig.rings.in_flight(), 0, "{kind:?}");
    }
}

#[test]
fn a_stuck_transmitter_is_reset() {
    for kind in KINDS {
        let clock = FakeClock::default();
        let mut rig = rig(kind);
        let mut driver = rig.start(&clock);
        rig.settle(&mut driver);
        rig.machine.defer_doorbells(true);
        for i in 0..10 {
            rig.send(&plain(300, i), &Offload::default());
        }
        rig.rings.publish_and_ask(&rig.memory).unwrap();
        driver.pump();
        rig.machine.lose_doorbells();
        rig.machine.defer_doorbells(false);
        assert_eq!(driver.recoveries(), 0, "{kind:?}");
        clock.advance(STUCK_NS);
        driver.attend();
        driver.pump();
        rig.pass(Duration::from_secs(10), &mut driver);
        let received = rig.settle(&mut driver);
        assert_eq!(driver.recoveries(), 1, "{kind:?}");
        assert_eq!(received.len(), 10, "{kind:?}");
    }
}

#[test]
fn the_cable_is_pulled_and_put_back_under_load() {
    for kind in KINDS {
        let clock = FakeClock::default();
        let mut rig = rig(kind);
        let mut driver = rig.start(&clock);
        for round in 0..20 {
            for i in 0..8 {
                rig.send(&plain(100, i), &Offload::default());
            }
            let up = round % 2 == 1;
            rig.model.lock().unwrap().set_link(up, &Origin::default());
            rig.pass(Duration::from_secs(10), &mut driver);
            rig.settle(&mut driver);
            assert_eq!(driver.info().flags & info::LINK_UP != 0, up, "{kind:?} {round}");
            // What waits for a link longer than a while is given up or sent when it is back.
            clock.advance(STUCK_NS);
            driver.attend();
            rig.settle(&mut driver);
        }
        rig.settle(&mut driver);
        assert_eq!(rig.rings.in_flight(), 0, "{kind:?}");
        rig.send(&plain(100, 1), &Offload::default());
        assert_eq!(rig.settle(&mut driver).len(), 1, "{kind:?}");
    }
}

#[test]
fn only_what_is_wanted_comes_through() {
    for kind in KINDS {
        let clock = FakeClock::default();
        let mut rig = rig(kind);
        let mut driver = rig.start(&clock);
        let to = |mac: [u8; 6]| {
            let mut frame = plain(100, 1);
            frame[..6].copy_from_slice(&mac);
            frame
        };
        let group = [0x01, 0, 0x5E, 0, 0, 0x17];
        let stranger = [0x52, 0x54, 0, 9, 9, 9];
        let mut count = |driver: &mut Driver<'_>, mac| {
            rig.send(&to(mac), &Offload::default());
            rig.settle(driver).len()
        };
        both!(&mut driver, s => s.set_filter(0)).unwrap();
        assert_eq!(count(&mut driver, MAC), 1, "{kind:?}");
        assert_eq!(count(&mut driver, stranger), 0, "{kind:?}");
        assert_eq!(count(&mut driver, group), 0, "{kind:?}");
        let [a, b, c, d, e, f] = group;
        let word = u64::from_le_bytes([a, b, c, d, e, f, 0, 0]);
        both!(&mut driver, s => s.multicast(word, true)).unwrap();
        assert_eq!(count(&mut driver, group), 1, "{kind:?}");
        both!(&mut driver, s => s.multicast(word, false)).unwrap();
        assert_eq!(count(&mut driver, group), 0, "{kind:?}");
        both!(&mut driver, s => s.set_filter(2)).unwrap();
        assert_eq!(count(&mut driver, group), 1, "{kind:?}");
        both!(&mut driver, s => s.set_filter(1)).unwrap();
        assert_eq!(count(&mut driver, stranger), 1, "{kind:?}");
    }
}
