use super::device::{IommuDevice, IommuPci, PROBE_SIZE, faulted, function};
use super::disk::TranslatedDisk;
use super::dma::TranslatedDma;
use super::*;
use crate::backend::{BackendError, BlockBackend, Operation, Request};
use crate::device::Origin;
use crate::dma::{Dma, Segment};
use crate::irq::NoMsi;
use crate::net::NoTimer;
use crate::testing::driver::{Driver, Ring};
use crate::testing::{FlatMemory, MemoryDisk};
use crate::virtio::pci::REGISTER_BAR;
use crate::virtio::{Block, BlockConfig, VirtioConfig, VirtioPci};
use crate::{Access, GuestError};
use xinim_abi::hw::virtio::{self, Status as DeviceStatus};
use xinim_abi::hw::virtio_iommu::{
    Attach, Detach, Map, Probe, ReservedMemory, Unmap, config, feature, request,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

const ALL: u64 = feature::INPUT_RANGE
    | feature::DOMAIN_RANGE
    | feature::MAP_UNMAP
    | feature::PROBE
    | feature::BYPASS_CONFIG;
const BOTH: u32 = map_flag::READ | map_flag::WRITE;
/// The endpoint of these tests, 00:03.0.
const DISK: u32 = 0x18;
const REQUEST_AT: u64 = 0x4000;
const ANSWER_AT: u64 = 0x5000;
const EVENTS_AT: u64 = 0x6000;
const CONFIG_AT: u64 = 0x2000;

struct Rig {
    memory: Arc<FlatMemory>,
    iommu: Arc<Iommu>,
    function: IommuPci,
    requests: Ring,
    events: Ring,
}

impl Rig {
    fn new() -> Self {
        let memory = FlatMemory::new(0, 0x1_0000);
        let iommu = Arc::new(Iommu::new(Arc::new(NoTimer), Tracer::off()));
        iommu.add_endpoint(DISK);
        iommu.add_endpoint(0x20);
        let setup = VirtioConfig::new("virtio-iommu.0", memory.clone(), Arc::new(NoMsi));
        let mut function = function(iommu.clone(), setup).unwrap();
        let (requests, events) = (Ring::new(&memory, 0, 16), Ring::new(&memory, 0x1000, 16));
        let mut driver = Driver::new(&mut function);
        assert!(driver.negotiate(ALL));
        driver.enable_queue(0, &requests);
        driver.enable_queue(1, &events);
        driver.driver_ok();
        Self { memory, iommu, function, requests, events }
    }

    /// Makes a request and gives its status.
    fn ask(&mut self, request: &(impl IntoBytes + Immutable)) -> u8 {
        self.ask_with(request.as_bytes(), 0).1
    }

    /// With `room` bytes in front of the tail; they and the status.
    fn ask_with(&mut self, request: &[u8], room: usize) -> (Vec<u8>, u8) {
        self.memory.write(REQUEST_AT, request).unwrap();
        self.memory.write(ANSWER_AT, &vec![0xEE; room + 4]).unwrap();
        let answer = (ANSWER_AT, room as u32 + 4, true);
        self.requests.offer(&[(REQUEST_AT, request.len() as u32, false), answer]);
        Driver::new(&mut self.function).notify(0);
        // An access returns when the work is done.
        assert_eq!(self.requests.completions().len(), 1);
        let bytes = self.memory.dump(ANSWER_AT, room + 4);
        (bytes[..room].to_vec(), bytes[room])
    }

    fn attach(&mut self, domain: u32, endpoint: u32) -> u8 {
        self.ask(&Attach { kind: request::ATTACH, domain, endpoint, ..Attach::default() })
    }

    fn detach(&mut self, domain: u32, endpoint: u32) -> u8 {
        self.ask(&Detach { kind: request::DETACH, domain, endpoint, ..Detach::default() })
    }

    fn map(&mut self, domain: u32, range: std::ops::Range<u64>, to: u64, flags: u32) -> u8 {
        self.ask(&Map {
            kind: request::MAP,
            domain,
            virt_start: range.start,
            virt_end: range.end - 1,
            phys_start: to,
            flags,
            ..Map::default()
        })
    }

    fn unmap(&mut self, domain: u32, range: std::ops::Range<u64>) -> u8 {
        let (virt_start, virt_end) = (range.start, range.end - 1);
        let kind = request::UNMAP;
        self.ask(&Unmap { kind, domain, virt_start, virt_end, ..Unmap::default() })
    }

    fn bypass(&mut self, on: u64) -> Option<GuestError> {
        let at = CONFIG_AT + config::BYPASS as u64;
        self.function.bar_access_for_test(Access::write(at, 1, on)).error
    }

    fn dma(&self) -> Arc<TranslatedDma> {
        Arc::new(TranslatedDma::new(self.memory.clone(), self.iommu.clone(), DISK))
    }

    /// What the driver is told of faults.
    fn fault(&mut self) -> Option<Fault> {
        self.events.offer(&[(EVENTS_AT, size_of::<Fault>() as u32, true)]);
        faulted(&mut self.function, &Origin::default());
        self.events.completions().first()?;
        Fault::read_from_bytes(&self.memory.dump(EVENTS_AT, size_of::<Fault>())).ok()
    }
}

impl IommuPci {
    fn bar_access_for_test(&mut self, access: Access) -> crate::Outcome {
        crate::pci::PciDevice::bar_access(self, REGISTER_BAR, access)
    }
}

fn is(status: Status) -> u8 {
    status as u8
}

#[test]
fn an_endpoint_reaches_what_is_mapped_and_nothing_else() {
    let mut rig = Rig::new();
    let dma = rig.dma();
    assert_eq!(dma.write(0x8000, &[1; 8]), Ok(()), "bypassed while nobody has set it up");
    assert_eq!(rig.bypass(0), None);
    assert!(dma.write(0x8000, &[1; 8]).is_err());
    assert_eq!(rig.attach(7, DISK), 0);
    assert!(dma.read(0x8000, &mut [0; 8]).is_err());
    assert_eq!(rig.map(7, 0x10_0000..0x10_2000, 0x8000, BOTH), 0);
    assert_eq!(rig.map(7, 0x10_2000..0x10_3000, 0xC000, map_flag::READ), 0);
    let data: Vec<u8> = (0..32).collect();
    rig.memory.write(0x9FF0, &data[..16]).unwrap();
    rig.memory.write(0xC000, &data[16..]).unwrap();
    let mut got = [0; 32];
    dma.read(0x10_1FF0, &mut got).unwrap();
    assert_eq!(got[..], data, "across two mappings");
    assert!(dma.write(0x10_1FF0, &data).is_err(), "one of which is for reading only");
    assert_eq!(rig.memory.dump(0x9FF0, 16), data[..16], "nothing moved");
    assert!(dma.reaches(0x10_1000, 0x2000, false) && !dma.reaches(0x10_1000, 0x2000, true));
    assert_eq!(rig.unmap(7, 0x10_0000..0x10_2000), 0);
    assert!(dma.read(0x10_1FF0, &mut got).is_err());
    assert_eq!(rig.detach(7, DISK), 0);
    assert!(dma.read(0x10_2000, &mut got).is_err());
    assert_eq!(rig.bypass(1), None);
    assert_eq!(dma.read(0x8000, &mut got), Ok(()));
}

#[test]
fn faults_are_reported_with_reason_and_address() {
    let mut rig = Rig::new();
    let dma = rig.dma();
    rig.bypass(0);
    let _ = dma.write(0x1234, &[0; 4]);
    let flags = fault::ADDRESS | fault::WRITE;
    let expected =
        Fault { reason: fault::DOMAIN, flags, endpoint: DISK, address: 0x1234, ..Fault::default() };
    assert_eq!(rig.fault(), Some(expected));
    rig.attach(1, DISK);
    rig.map(1, 0x1000..0x2000, 0x1000, BOTH);
    let _ = dma.read(0x1FFE, &mut [0; 4]);
    let flags = fault::ADDRESS | fault::READ;
    let expected = Fault { reason: fault::MAPPING, flags, address: 0x2000, ..expected };
    assert_eq!(rig.fault(), Some(expected));
    assert_eq!(rig.fault(), None);
    // A driver that does not listen loses reports, not count.
    for _ in 0..200 {
        let _ = dma.load_u16(0x3000);
    }
    assert_eq!(rig.iommu.faults(), 202);
    let mut reported = 0;
    while rig.fault().is_some() {
        reported += 1;
    }
    assert!((1..=FAULTS_KEPT).contains(&reported), "{reported}");
}

#[test]
fn requests_are_answered_as_the_specification_says() {
    let mut rig = Rig::new();
    assert_eq!(rig.attach(1, 0x99), is(Status::NoEntry));
    assert_eq!(rig.attach(DOMAIN_END + 1, DISK), is(Status::Range));
    assert_eq!(rig.map(1, 0..0x1000, 0, BOTH), is(Status::NoEntry), "no domain yet");
    assert_eq!(rig.attach(1, DISK), 0);
    assert_eq!(rig.attach(1, DISK), 0, "again is no change");
    assert_eq!(rig.map(1, 0..0x1000, 0, BOTH), 0);
    assert_eq!(rig.map(1, 0..0x1000, 0x2000, BOTH), is(Status::Invalid), "mapped already");
    assert_eq!(rig.map(1, 0x1000..0x1800, 0, BOTH), is(Status::Range), "half a page");
    assert_eq!(rig.map(1, 0x1000..0x2000, 0x10, BOTH), is(Status::Range));
    let beyond = INPUT_END + 1;
    assert_eq!(rig.map(1, beyond..beyond + 0x1000, 0, BOTH), is(Status::Range));
    assert_eq!(rig.map(1, 0x1000..0x2000, !0xFFF, BOTH), 0, "the last page there is");
    assert_eq!(rig.map(1, 0x2000..0x4000, !0xFFF, BOTH), is(Status::Range));
    assert_eq!(rig.map(1, 0x4000..0x5000, 0, 8), is(Status::Invalid));
    assert_eq!(rig.map(1, MSI_START..MSI_START + 0x1000, 0, BOTH), is(Status::Invalid));
    assert_eq!(rig.map(1, 0x8000..0xA000, 0x8000, BOTH), 0);
    assert_eq!(rig.unmap(1, 0x9000..0xA000), is(Status::Range), "half a mapping");
    assert_eq!(rig.unmap(1, 0x4000..0x9000), is(Status::Range));
    assert_eq!(rig.unmap(1, 0x4000..0xA000), 0);
    assert_eq!(rig.unmap(1, 0x4000..0xA000), 0, "nothing there is no error");
    assert_eq!(rig.unmap(2, 0..0x1000), is(Status::NoEntry));
    assert_eq!(rig.detach(2, DISK), is(Status::Invalid));
    assert_eq!(rig.detach(1, 0x99), is(Status::NoEntry));
    assert_eq!(rig.attach(2, DISK), 0, "leaves the other");
    assert_eq!(rig.unmap(1, 0..0x1000), is(Status::NoEntry), "which went with its last endpoint");
    let reserved = Attach {
        kind: request::ATTACH,
        domain: 3,
        endpoint: DISK,
        reserved2: [0, 1, 0, 0],
        ..Attach::default()
    };
    assert_eq!(rig.ask(&reserved), is(Status::Invalid));
    assert_eq!(rig.ask_with(&[99, 0, 0, 0], 0).1, is(Status::Unsupported));
    assert_eq!(rig.ask_with(&[request::MAP, 0, 0, 0, 1], 0).1, is(Status::Invalid), "too short");
}

#[test]
fn a_probe_tells_of_the_place_of_messages() {
    let mut rig = Rig::new();
    let mut probe =
        Probe { kind: request::PROBE, reserved: [0; 3], endpoint: DISK, reserved2: [0; 64] };
    let (bytes, status) = rig.ask_with(probe.as_bytes(), PROBE_SIZE);
    assert_eq!(status, 0);
    let (property, rest) = ReservedMemory::read_from_prefix(&bytes).unwrap();
    assert_eq!((property.kind, property.length, property.subtype), (1, 20, 1));
    assert_eq!((property.start, property.end), (MSI_START, MSI_END));
    assert!(rest.iter().all(|byte| *byte == 0));
    probe.endpoint = 0x999;
    let (bytes, status) = rig.ask_with(probe.as_bytes(), PROBE_SIZE);
    assert_eq!((status, bytes), (is(Status::NoEntry), vec![0; PROBE_SIZE]));
}

#[test]
fn a_reset_of_the_device_forgets_domains_and_one_of_the_machine_bypass_too() {
    let mut rig = Rig::new();
    let dma = rig.dma();
    rig.bypass(0);
    rig.attach(1, DISK);
    rig.map(1, 0..0x1000, 0, BOTH);
    assert!(dma.reaches(0, 8, true));
    Driver::new(&mut rig.function).set_status(DeviceStatus::empty());
    assert!(!dma.reaches(0, 8, true));
    assert_eq!(rig.bypass(1), Some(GuestError::BadState), "not negotiated");
    crate::pci::PciDevice::reset(&mut rig.function);
    assert!(dma.reaches(0, 8, true));
}

#[test]
fn a_chain_that_cannot_be_answered_breaks_the_queue() {
    let mut rig = Rig::new();
    rig.requests.offer(&[(REQUEST_AT, 20, false), (ANSWER_AT, 3, true)]);
    Driver::new(&mut rig.function).notify(0);
    let status = Driver::new(&mut rig.function).status();
    assert!(status.contains(DeviceStatus::NEEDS_RESET), "{status:?}");
}

#[test]
fn the_data_of_a_disk_are_translated() {
    let mut rig = Rig::new();
    let dma = rig.dma();
    let mut memory_disk = MemoryDisk::new(0x4000);
    memory_disk.data[..512].fill(0x5A);
    let mut disk = TranslatedDisk::new(memory_disk, dma.clone(), rig.memory.clone());
    rig.bypass(0);
    rig.attach(1, DISK);
    rig.map(1, 0x70_0000..0x70_1000, 0xA000, map_flag::WRITE);
    let segment = |address| vec![Segment { address, length: 512 }];
    let ask = |tag, operation, address| Request {
        tag,
        operation,
        offset: 0,
        length: 512,
        segments: segment(address),
    };
    disk.submit(ask(1, Operation::Read, 0x70_0200), &*dma);
    disk.submit(ask(2, Operation::Write { fua: false }, 0x70_0200), &*dma);
    disk.submit(ask(3, Operation::Read, 0xA200), &*dma);
    assert_eq!(disk.in_flight(), 3);
    let mut ends = std::collections::BTreeMap::new();
    while let Some(end) = disk.poll() {
        ends.insert(end.tag, end.result);
    }
    assert_eq!(ends[&1], Ok(()));
    assert_eq!(ends[&2], Err(BackendError::FAULT), "the mapping is for writing memory");
    assert_eq!(ends[&3], Err(BackendError::FAULT), "a physical address means nothing");
    assert_eq!(rig.memory.dump(0xA200, 512), vec![0x5A; 512]);
}

#[test]
fn a_virtio_device_behind_it_wants_a_driver_that_knows() {
    let rig = Rig::new();
    let setup =
        VirtioConfig { translated: true, ..VirtioConfig::new("blk", rig.dma(), Arc::new(NoMsi)) };
    let block = Block::new(MemoryDisk::new(4096), &BlockConfig::default());
    let mut function = VirtioPci::new(block, setup).unwrap();
    let mut driver = Driver::new(&mut function);
    assert!(!driver.negotiate(0));
    assert!(driver.negotiate(virtio::feature::ACCESS_PLATFORM));
}

#[test]
fn mappings_are_bounded() {
    let iommu = Iommu::new(Arc::new(NoTimer), Tracer::off());
    iommu.add_endpoint(DISK);
    iommu.attach(1, DISK, 0).unwrap();
    let map = |index: u64| {
        let start = index * 0x2000;
        let request = IommuRequest {
            domain: 1,
            start,
            end: start + 0xFFF,
            flags: BOTH,
            ..IommuRequest::default()
        };
        iommu.map(&request)
    };
    (0..MAPPINGS_MAX as u64).for_each(|index| map(index).unwrap());
    assert_eq!(map(MAPPINGS_MAX as u64), Err(Status::NoMemory));
    iommu.unmap(1, 0, 0xFFF).unwrap();
    assert_eq!(map(0), Ok(()));
    iommu.detach(1, DISK).unwrap();
    assert_eq!(iommu.read().mappings, 0);
    let _ = IommuDevice::new(Arc::new(iommu));
}
