use super::*;
use crate::backend::DriveBays;
use crate::device::{GuestError, Origin};
use crate::dma::Dma;
use crate::testing::driver::{Driver, Ring};
use crate::testing::{FlatMemory, MemoryDisk, MsiLog, TraceLog};
use crate::trace::Tracer;
use crate::virtio::{VirtioConfig, VirtioPci};
use proptest::prelude::*;
use std::sync::Arc;
use xinim_abi::hw::virtio::{Status as DeviceStatus, feature as ring_feature};
use xinim_abi::hw::virtio_blk::config;

const SECTORS: u64 = 64;
const HEADERS: u64 = 0x4000;
const STATUSES: u64 = 0x6000;
const DATA: u64 = 0x1_0000;
const MEMORY: usize = 0x4_0000;

struct Rig {
    memory: Arc<FlatMemory>,
    msi: Arc<MsiLog>,
    function: VirtioPci<Block<MemoryDisk>>,
    ring: Ring,
    slot: u64,
}

impl Rig {
    fn new(disk: MemoryDisk) -> Self {
        Self::with_tracer(disk, Tracer::off())
    }

    fn with_tracer(disk: MemoryDisk, tracer: Tracer) -> Self {
        let memory = FlatMemory::new(0, MEMORY);
        let msi = MsiLog::new();
        let block =
            Block::new(disk, &BlockConfig { id: "disk-0".into(), ..BlockConfig::default() });
        let config = VirtioConfig::new("virtio-blk.0", memory.clone(), msi.clone());
        let config = VirtioConfig { tracer, ..config };
        let function = VirtioPci::new(block, config).expect("capabilities fit");
        let ring = Ring::new(&memory, 0, 64);
        let mut rig = Self { memory, msi, function, ring, slot: 0 };
        let mut driver = Driver::new(&mut rig.function);
        assert!(driver.negotiate(ring_feature::EVENT_IDX | feature::FLUSH));
        driver.enable_msix(2);
        driver.enable_queue(0, &rig.ring);
        driver.driver_ok();
        rig
    }

    /// Queues a request; returns the address of its status byte.
    fn offer(&mut self, kind: u32, sector: u64, data: &[(u64, u32)]) -> u64 {
        let slot = self.slot % 16;
        self.slot += 1;
        let (header, status) = (HEADERS + 16 * slot, STATUSES + slot);
        let bytes = RequestHeader { kind, reserved: 0, sector };
        assert_eq!(self.memory.write(header, bytes.as_bytes()), Ok(()));
        assert_eq!(self.memory.write(status, &[0xEE]), Ok(()));
        let mut segments = vec![(header, 16, false)];
        segments.extend(data.iter().map(|&(at, len)| (at, len, kind != request::OUT)));
        segments.push((status, 1, true));
        self.ring.offer(&segments);
        status
    }

    fn notify(&mut self) {
        let outcome = Driver::new(&mut self.function).notify(0);
        assert_eq!(outcome.error, None);
    }

    fn status(&self, at: u64) -> Option<Status> {
        self.memory.dump(at, 1).first().copied().and_then(Status::from_u8)
    }

    /// One request, carried out: status and bytes written.
    fn run(&mut self, kind: u32, sector: u64, data: &[(u64, u32)]) -> (Option<Status>, u32) {
        let status = self.offer(kind, sector, data);
        self.notify();
        let done = self.ring.completions();
        assert_eq!(done.len(), 1, "one request, one completion");
        (self.status(status), done[0].1)
    }
}

fn patterned(size: usize) -> Vec<u8> {
    (0..size).map(|i| (i / 512 * 7 + i) as u8).collect()
}

fn disk() -> MemoryDisk {
    MemoryDisk { data: patterned(SECTORS as usize * 512), ..MemoryDisk::default() }
}

#[test]
fn configuration_shows_the_disk() {
    let mut rig = Rig::new(disk());
    let mut driver = Driver::new(&mut rig.function);
    let base = 0x2000;
    assert_eq!(driver.read(base + config::CAPACITY, 8), SECTORS);
    assert_eq!(driver.read(base + config::CAPACITY, 4), SECTORS);
    assert_eq!(driver.read(base + config::SEG_MAX, 4), u64::from(space::SEG_MAX));
    assert_eq!(driver.read(base + config::BLK_SIZE, 4), 512);
    assert_eq!(driver.offered() & feature::RO, 0);
    let outcome = driver.write(base + config::CAPACITY, 4, 0);
    assert_eq!(outcome.error, Some(GuestError::ReadOnly));
}

#[test]
fn reads_arrive_scattered() {
    let mut rig = Rig::new(disk());
    let pieces = [(DATA, 100), (DATA + 0x1000, 412), (DATA + 0x3000, 512)];
    assert_eq!(rig.run(request::IN, 3, &pieces), (Some(Status::Ok), 1025));
    let mut seen = rig.memory.dump(DATA, 100);
    seen.extend(rig.memory.dump(DATA + 0x1000, 412));
    seen.extend(rig.memory.dump(DATA + 0x3000, 512));
    assert_eq!(seen, disk().data[3 * 512..5 * 512]);
}

#[test]
fn writes_and_flushes_reach_the_disk() {
    let mut rig = Rig::new(disk());
    let data = vec![0xA5; 1024];
    assert_eq!(rig.memory.write(DATA, &data), Ok(()));
    assert_eq!(rig.run(request::OUT, 62, &[(DATA, 1024)]), (Some(Status::Ok), 1));
    assert_eq!(rig.run(request::FLUSH, 0, &[]), (Some(Status::Ok), 1));
    let disk = rig.function.device().backend();
    assert_eq!(disk.data[62 * 512..], data);
    assert_eq!(disk.flushes, 1);
}

#[test]
fn get_id_gives_twenty_bytes() {
    let mut rig = Rig::new(disk());
    assert_eq!(rig.run(request::GET_ID, 0, &[(DATA, 20)]), (Some(Status::Ok), 21));
    assert_eq!(rig.memory.dump(DATA, 20), *b"disk-0\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn bad_requests_are_refused_and_nothing_happens() {
    let mut rig = Rig::new(disk());
    let before = rig.function.device().backend().data.clone();
    let cases = [
        ("beyond the end", request::IN, SECTORS, 512, Status::IoErr),
        ("over the end", request::OUT, SECTORS - 1, 1024, Status::IoErr),
        ("sector overflow", request::IN, u64::MAX, 512, Status::IoErr),
        ("odd length", request::OUT, 0, 511, Status::IoErr),
        ("outside memory", request::IN, 0, 0x7_FE00, Status::IoErr),
        ("unknown type", 77, 0, 512, Status::Unsupported),
        ("discard is not offered", request::DISCARD, 0, 512, Status::Unsupported),
    ];
    for (name, kind, sector, length, expected) in cases {
        assert_eq!(rig.run(kind, sector, &[(DATA, length)]).0, Some(expected), "{name}");
    }
    assert_eq!(rig.function.device().backend().data, before);
    assert_eq!(rig.function.device().backend().violations, 0);
}

#[test]
fn a_read_only_disk_says_so_and_refuses_writes() {
    let mut rig = Rig::new(MemoryDisk { read_only: true, ..disk() });
    assert_eq!(Driver::new(&mut rig.function).offered() & feature::RO, feature::RO);
    assert_eq!(rig.run(request::OUT, 0, &[(DATA, 512)]).0, Some(Status::IoErr));
    assert_eq!(rig.run(request::IN, 0, &[(DATA, 512)]).0, Some(Status::Ok));
    assert_eq!(rig.function.device().backend().data, disk().data);
}

#[test]
fn back_end_failures_are_io_errors() {
    let mut rig = Rig::new(disk());
    rig.function.device_mut().backend_mut().failing = true;
    assert_eq!(rig.run(request::IN, 0, &[(DATA, 512)]), (Some(Status::IoErr), 0));
    assert_eq!(rig.run(request::OUT, 0, &[(DATA, 512)]).0, Some(Status::IoErr));
    assert_eq!(rig.run(request::FLUSH, 0, &[]).0, Some(Status::IoErr));
    rig.function.device_mut().backend_mut().failing = false;
    assert_eq!(rig.run(request::IN, 0, &[(DATA, 512)]).0, Some(Status::Ok), "and it goes on");
}

#[test]
fn a_chain_without_header_or_status_needs_a_reset() {
    for segments in [vec![(HEADERS, 16, false)], vec![(HEADERS, 15, false), (STATUSES, 1, true)]] {
        let mut rig = Rig::new(disk());
        rig.ring.offer(&segments);
        let mut driver = Driver::new(&mut rig.function);
        let error = driver.notify(0).error;
        assert_eq!(error, Some(GuestError::Ring(RingError::Malformed)));
        assert!(driver.status().contains(DeviceStatus::NEEDS_RESET));
        assert_eq!(driver.notify(0).error, Some(GuestError::NeedsReset));
        assert_eq!(rig.msi.take().last().map(|m| m.0), Some(0), "configuration interrupt");
    }
}

#[test]
fn interrupts_follow_the_used_event() {
    let mut rig = Rig::new(disk());
    rig.ring.set_used_event(2);
    for _ in 0..3 {
        rig.offer(request::IN, 0, &[(DATA, 512)]);
    }
    rig.notify();
    assert_eq!(rig.ring.completions().len(), 3);
    assert_eq!(rig.msi.take().len(), 1, "one interrupt for the batch");
    rig.run(request::IN, 0, &[(DATA, 512)]);
    assert_eq!(rig.msi.take(), [], "not asked for");
}

#[test]
fn without_bus_mastering_nothing_moves() {
    let mut rig = Rig::new(disk());
    rig.offer(request::IN, 0, &[(DATA, 512)]);
    let mut driver = Driver::new(&mut rig.function);
    driver.config_write(xinim_abi::hw::pci::COMMAND, 2, 2);
    assert_eq!(driver.notify(0).error, Some(GuestError::BusMasterOff));
    assert_eq!(rig.ring.completions(), []);
    assert_eq!(rig.memory.dump(DATA, 512), vec![0; 512]);
}

#[test]
fn a_long_queue_is_worked_off_in_bounded_calls() {
    let mut rig = Rig::new(disk());
    // 64 entries of three descriptors do not fit; two per request (no data) do.
    let mut offered = 0;
    while offered < 32 {
        let status = STATUSES + offered;
        let header = RequestHeader { kind: request::FLUSH, reserved: 0, sector: 0 };
        assert_eq!(rig.memory.write(HEADERS, header.as_bytes()), Ok(()));
        rig.ring.offer(&[(HEADERS, 16, false), (status, 1, true)]);
        offered += 1;
    }
    rig.notify();
    assert_eq!(rig.ring.completions().len(), 32);
    assert_eq!(rig.function.device().backend().flushes, 32);
}

#[test]
fn completions_come_as_the_host_has_them() {
    let mut rig = Rig::new(MemoryDisk { held: true, ..disk() });
    let heads: Vec<u32> = (0..4)
        .map(|i| {
            rig.offer(request::IN, i, &[(DATA + i * 0x1000, 512)]);
            3 * i as u32
        })
        .collect();
    rig.notify();
    assert_eq!(rig.ring.completions(), []);
    let memory = rig.memory.clone();
    while rig.function.device_mut().backend_mut().finish(usize::MAX, &*memory) {}
    assert!(!rig.function.ready(0, &Origin::default()));
    let done: Vec<u32> = rig.ring.completions().iter().map(|c| c.0).collect();
    assert_eq!(done, heads.iter().rev().copied().collect::<Vec<_>>());
    for i in 0..4u64 {
        let at = i as usize * 512;
        assert_eq!(rig.memory.dump(DATA + i * 0x1000, 512), disk().data[at..at + 512]);
    }
}

#[test]
fn the_trace_shows_the_request() {
    let log = TraceLog::new();
    let mut rig = Rig::with_tracer(disk(), Tracer::new(log.clone()));
    log.take();
    rig.run(request::IN, 2, &[(DATA, 512)]);
    let lines = log.take();
    for part in [
        "notify queue=0",
        "pop queue=0 head=0 segments=3 readable=16 writable=513",
        "dma write 0x10000+0x200 queue=0 head=0",
        "request IN sector=2 length=512 status=Ok",
        "push queue=0 head=0 written=513",
        "msi vector=1 0xfee00000<-0x1",
    ] {
        assert!(lines.iter().any(|line| line.ends_with(part)), "{part} not in {lines:#?}");
    }
}

#[test]
fn queues_survive_reset_and_reuse() {
    let mut rig = Rig::new(disk());
    rig.run(request::IN, 0, &[(DATA, 512)]);
    assert_eq!(rig.memory.write(0, &[0; 0x2000]), Ok(()));
    rig.ring = Ring::new(&rig.memory, 0, 64);
    let mut driver = Driver::new(&mut rig.function);
    assert!(driver.negotiate(0));
    driver.enable_queue(0, &rig.ring);
    assert_eq!(driver.notify(0).error, Some(GuestError::BadState), "before DRIVER_OK");
    driver.driver_ok();
    assert_eq!(rig.run(request::IN, 1, &[(DATA, 512)]).0, Some(Status::Ok));
    assert_eq!(rig.memory.dump(DATA, 512), disk().data[512..1024]);
    assert_eq!(rig.function.serve(0, &Origin::default()), Ok(Progress::Idle));
}

#[derive(Clone, Debug)]
struct Request {
    write: bool,
    sector: u64,
    count: u64,
    fill: u8,
}

fn request_strategy() -> impl Strategy<Value = Request> {
    (any::<bool>(), 0..SECTORS + 4, 1u64..9, any::<u8>())
        .prop_map(|(write, sector, count, fill)| Request { write, sector, count, fill })
}

proptest! {
    /// Any mix of requests acts like the same reads and writes on an array.
    #[test]
    fn the_disk_is_an_array(requests in proptest::collection::vec(request_strategy(), 1..40)) {
        let mut rig = Rig::new(disk());
        let mut model = disk().data;
        for Request { write, sector, count, fill } in requests {
            let length = (count * 512) as usize;
            let inside = sector + count <= SECTORS;
            let expected = if inside { Status::Ok } else { Status::IoErr };
            let range = (sector * 512) as usize..(sector * 512) as usize + length;
            let data = vec![fill; length];
            prop_assert_eq!(rig.memory.write(DATA, &data), Ok(()));
            let kind = if write { request::OUT } else { request::IN };
            let (status, _) = rig.run(kind, sector, &[(DATA, length as u32)]);
            prop_assert_eq!(status, Some(expected));
            if inside && write {
                model[range].copy_from_slice(&data);
            } else if inside {
                prop_assert_eq!(rig.memory.dump(DATA, length), &model[range]);
            }
        }
        prop_assert_eq!(&rig.function.device().backend().data, &model);
    }
}
