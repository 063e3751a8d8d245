//! Several queues, requests that take their time, resets and resizes in between.

use super::*;
use crate::backend::DriveBays;
use crate::device::Origin;
use crate::dma::Dma;
use crate::testing::driver::{Driver, Ring};
use crate::testing::{FlatMemory, MemoryDisk, MsiLog};
use crate::virtio::{VirtioConfig, VirtioPci};
use proptest::prelude::*;
use std::sync::Arc;
use xinim_abi::hw::virtio::{Status as DeviceStatus, feature as ring_feature};
use xinim_abi::hw::virtio_blk::config;

const QUEUES: u16 = 8;
const MEMORY: usize = 0x10_0000;
const CONFIG_BASE: usize = 0x2000;

struct Rig {
    memory: Arc<FlatMemory>,
    msi: Arc<MsiLog>,
    function: VirtioPci<Block<MemoryDisk>>,
    rings: Vec<Ring>,
    next: u64,
}

impl Rig {
    fn new(disk: MemoryDisk, features: u64) -> Self {
        let memory = FlatMemory::new(0, MEMORY);
        let msi = MsiLog::new();
        let block = Block::new(disk, &BlockConfig { queues: QUEUES, ..BlockConfig::default() });
        let setup = VirtioConfig::new("virtio-blk.0", memory.clone(), msi.clone());
        let function = VirtioPci::new(block, setup).expect("capabilities fit");
        let mut rig = Self { memory, msi, function, rings: Vec::new(), next: 0 };
        rig.start(features);
        rig
    }

    fn start(&mut self, features: u64) {
        let all = features | ring_feature::EVENT_IDX | feature::MQ;
        let mut driver = Driver::new(&mut self.function);
        assert!(driver.negotiate(all));
        driver.enable_msix(QUEUES + 1);
        self.rings.clear();
        for queue in 0..QUEUES {
            let at = 0x2000 * u64::from(queue);
            assert_eq!(self.memory.write(at, &[0; 0x2000]), Ok(()));
            let ring = Ring::new(&self.memory, at, 64);
            driver.enable_queue(queue, &ring);
            self.rings.push(ring);
        }
        driver.driver_ok();
    }

    /// Queues a request with `data` to be read; returns the addresses of data and status.
    fn offer(&mut self, queue: u16, kind: u32, sector: u64, data: &[u8]) -> (u64, u64) {
        let at = 0x2_0000 + (self.next % 128) * 0x1000;
        self.next += 1;
        let header = RequestHeader { kind, reserved: 0, sector };
        assert_eq!(self.memory.write(at, header.as_bytes()), Ok(()));
        assert_eq!(self.memory.write(at + 16, &[0xEE]), Ok(()));
        assert_eq!(self.memory.write(at + 32, data), Ok(()));
        let mut segments = vec![(at, 16, false)];
        if !data.is_empty() {
            segments.push((at + 32, data.len() as u32, kind == request::IN));
        }
        segments.push((at + 16, 1, true));
        self.rings[usize::from(queue)].offer(&segments);
        (at + 32, at + 16)
    }

    fn notify(&mut self, queue: u16) {
        assert_eq!(Driver::new(&mut self.function).notify(queue).error, None);
    }

    fn disk(&mut self) -> &mut MemoryDisk {
        self.function.device_mut().backend_mut()
    }

    /// Ends held requests, the `index`th of those left each time.
    fn finish(&mut self, index: usize) -> bool {
        let memory = self.memory.clone();
        self.disk().finish(index, &*memory)
    }

    fn ready(&mut self) {
        while self.function.ready(0, &Origin::default()) {}
    }

    fn status(&self, at: u64) -> Option<Status> {
        Status::from_u8(self.memory.dump(at, 1)[0])
    }

    fn run(&mut self, kind: u32, sector: u64, data: &[u8]) -> Option<Status> {
        let (_, status) = self.offer(0, kind, sector, data);
        self.notify(0);
        assert_eq!(self.rings[0].completions().len(), 1);
        self.status(status)
    }
}

fn range(sector: u64, num_sectors: u32, flags: u32) -> Vec<u8> {
    RangeSegment { sector, num_sectors, flags }.as_bytes().to_vec()
}

#[test]
fn each_queue_has_its_own_completions_and_interrupts() {
    let mut rig = Rig::new(MemoryDisk { held: true, ..MemoryDisk::new(64 << 10) }, 0);
    let statuses: Vec<_> =
        (0..QUEUES).map(|queue| rig.offer(queue, request::IN, 0, &[0; 512]).1).collect();
    (0..QUEUES).for_each(|queue| rig.notify(queue));
    rig.msi.take();
    assert_eq!(rig.function.device().in_flight(), 8);
    // The third request first.
    assert!(rig.finish(2));
    rig.ready();
    assert_eq!(rig.msi.take().iter().map(|m| m.0).collect::<Vec<_>>(), [3]);
    for (queue, ring) in rig.rings.iter_mut().enumerate() {
        assert_eq!(ring.completions().len(), usize::from(queue == 2));
    }
    while rig.finish(usize::MAX) {}
    rig.ready();
    let mut vectors: Vec<_> = rig.msi.take().iter().map(|m| m.0).collect();
    vectors.sort_unstable();
    assert_eq!(vectors, [1, 2, 4, 5, 6, 7, 8]);
    assert!(statuses.iter().all(|&at| rig.status(at) == Some(Status::Ok)));
}

#[test]
fn completions_that_come_together_are_one_interrupt() {
    let mut rig = Rig::new(MemoryDisk { held: true, ..MemoryDisk::new(64 << 10) }, 0);
    for sector in 0..10 {
        rig.offer(0, request::IN, sector, &[0; 512]);
    }
    rig.notify(0);
    while rig.finish(0) {}
    rig.ready();
    assert_eq!(rig.rings[0].completions().len(), 10);
    assert_eq!(rig.msi.take().len(), 1);
}

#[test]
fn the_configuration_tells_all_it_can() {
    let mut rig = Rig::new(MemoryDisk::new(64 << 10), 0);
    let mut driver = Driver::new(&mut rig.function);
    let offered = driver.offered();
    for bit in [
        feature::MQ,
        feature::FLUSH,
        feature::CONFIG_WCE,
        feature::SEG_MAX,
        feature::SIZE_MAX,
        feature::TOPOLOGY,
        feature::DISCARD,
        feature::WRITE_ZEROES,
    ] {
        assert_ne!(offered & bit, 0, "{bit:#x}");
    }
    assert_eq!(driver.read(CONFIG_BASE + config::NUM_QUEUES, 2), 8);
    assert_eq!(driver.read(CONFIG_BASE + config::WRITEBACK, 1), 1);
    assert_eq!(driver.read(CONFIG_BASE + config::MAX_DISCARD_SEG, 4), u64::from(MAX_RANGES));
    assert_eq!(driver.read(CONFIG_BASE + config::MAX_DISCARD_SECTORS, 4), MAX_DISCARD / 512);
    assert_eq!(driver.read(CONFIG_BASE + config::MAX_WRITE_ZEROES_SECTORS, 4), MAX_ZEROES / 512);
    assert_eq!(driver.read(CONFIG_BASE + config::WRITE_ZEROES_MAY_UNMAP, 1), 1);
}

#[test]
fn ranges_are_cleared_and_discarded() {
    let disk = MemoryDisk { data: vec![0xAA; 64 << 10], ..MemoryDisk::default() };
    let mut rig = Rig::new(disk, feature::DISCARD | feature::WRITE_ZEROES);
    let two = [range(1, 2, 0), range(10, 1, RANGE_UNMAP)].concat();
    assert_eq!(rig.run(request::WRITE_ZEROES, 0, &two), Some(Status::Ok));
    let data = rig.disk().data.clone();
    assert!(data[512..1536].iter().chain(&data[5120..5632]).all(|b| *b == 0));
    assert_eq!((data[511], data[1536], data[5632]), (0xAA, 0xAA, 0xAA));
    assert_eq!(rig.run(request::DISCARD, 0, &range(20, 4, 0)), Some(Status::Ok));
    assert_eq!(
        rig.disk().log.iter().map(|entry| entry.0).collect::<Vec<_>>(),
        [
            Operation::WriteZeroes { unmap: false },
            Operation::WriteZeroes { unmap: true },
            Operation::Discard
        ]
    );
    rig.disk().log.clear();
    let many = range(0, 1, 0).repeat(MAX_RANGES as usize + 1);
    for (what, kind, data, expected) in [
        ("unmap on discard", request::DISCARD, range(0, 1, 1), Status::Unsupported),
        ("reserved flag", request::WRITE_ZEROES, range(0, 1, 2), Status::Unsupported),
        ("no range", request::DISCARD, vec![], Status::Unsupported),
        ("half a range", request::DISCARD, vec![0; 8], Status::Unsupported),
        ("too many", request::DISCARD, many, Status::Unsupported),
        ("beyond the end", request::DISCARD, range(127, 2, 0), Status::IoErr),
        ("overflow", request::WRITE_ZEROES, range(u64::MAX, 1, 0), Status::IoErr),
        ("too long", request::WRITE_ZEROES, range(0, u32::MAX, 0), Status::IoErr),
    ] {
        assert_eq!(rig.run(kind, 0, &data), Some(expected), "{what}");
    }
    assert_eq!(rig.disk().log, []);
    assert_eq!(rig.disk().violations, 0);
}

#[test]
fn one_bad_part_fails_the_whole_request() {
    let disk = MemoryDisk { held: true, ..MemoryDisk::new(64 << 10) };
    let mut rig = Rig::new(disk, feature::WRITE_ZEROES);
    let (_, status) =
        rig.offer(0, request::WRITE_ZEROES, 0, &[range(0, 1, 0), range(4, 1, 0)].concat());
    rig.notify(0);
    rig.disk().failing = true;
    assert!(rig.finish(0));
    rig.disk().failing = false;
    rig.ready();
    assert_eq!(rig.rings[0].completions(), [], "half of it is not an end");
    assert!(rig.finish(0));
    rig.ready();
    assert_eq!(rig.status(status), Some(Status::IoErr));
}

#[test]
fn writes_are_stable_at_once_unless_a_cache_was_agreed_on() {
    let written = |rig: &mut Rig| {
        rig.disk().log.clear();
        assert_eq!(rig.run(request::OUT, 0, &[1; 512]), Some(Status::Ok));
        rig.disk().log[0].0
    };
    let (lazy, sure) = (Operation::Write { fua: false }, Operation::Write { fua: true });
    let mut rig = Rig::new(MemoryDisk::new(64 << 10), 0);
    assert_eq!(written(&mut rig), sure, "the driver cannot flush");
    rig.start(feature::FLUSH);
    assert_eq!(written(&mut rig), lazy);
    let at = CONFIG_BASE + config::WRITEBACK;
    assert_eq!(
        Driver::new(&mut rig.function).write(at, 1, 0).error,
        Some(GuestError::BadState),
        "not negotiated"
    );
    rig.start(feature::FLUSH | feature::CONFIG_WCE);
    assert_eq!(written(&mut rig), lazy);
    assert_eq!(Driver::new(&mut rig.function).write(at, 1, 0).error, None);
    assert_eq!(written(&mut rig), sure);
    let bad = Driver::new(&mut rig.function).write(at, 1, 2);
    assert_eq!(bad.error, Some(GuestError::BadValue));
    assert_eq!(Driver::new(&mut rig.function).read(at, 1), 0);
    rig.start(feature::FLUSH | feature::CONFIG_WCE);
    assert_eq!(written(&mut rig), lazy, "a reset restores the mode");
}

#[test]
fn a_reset_waits_for_the_host_and_nothing_comes_after_it() {
    let disk = MemoryDisk { held: true, data: vec![0x77; 64 << 10], ..MemoryDisk::default() };
    let mut rig = Rig::new(disk, 0);
    let (data, status) = rig.offer(0, request::IN, 0, &[0; 512]);
    rig.offer(1, request::IN, 1, &[0; 512]);
    rig.notify(0);
    rig.notify(1);
    let mut driver = Driver::new(&mut rig.function);
    driver.set_status(DeviceStatus::empty());
    assert!(!driver.status().is_empty(), "the host still works");
    assert_eq!(driver.notify(0).error, Some(GuestError::BadState));
    let early = driver.set_status(DeviceStatus::ACKNOWLEDGE);
    assert_eq!(early.error, Some(GuestError::BadState));
    rig.msi.take();
    assert!(rig.finish(0) && rig.finish(0));
    // The host may tell the machine, or the driver look: either ends the reset.
    assert!(!rig.function.ready(0, &Origin::default()));
    assert!(Driver::new(&mut rig.function).status().is_empty());
    assert_eq!(rig.msi.take(), []);
    assert_eq!(rig.status(status), None, "untouched");
    assert_eq!(rig.memory.dump(data, 4), [0x77; 4], "the host had begun");
    rig.disk().held = false;
    rig.start(0);
    assert_eq!(rig.run(request::IN, 0, &[0; 512]), Some(Status::Ok));
    assert_eq!(rig.function.device().in_flight(), 0);
}

#[test]
fn a_resize_is_announced() {
    let mut rig = Rig::new(MemoryDisk::new(64 << 10), 0);
    let capacity = |rig: &mut Rig| {
        let mut driver = Driver::new(&mut rig.function);
        let generation = driver.read(xinim_abi::hw::virtio::common::CONFIG_GENERATION, 1);
        (driver.read(CONFIG_BASE + config::CAPACITY, 8), generation)
    };
    let (_, before) = capacity(&mut rig);
    assert_eq!(rig.run(request::IN, 128, &[0; 512]), Some(Status::IoErr));
    rig.disk().data.resize(128 << 10, 3);
    rig.msi.take();
    rig.function.resized(0, &Origin::default());
    assert_eq!(rig.msi.take().iter().map(|m| m.0).collect::<Vec<_>>(), [0]);
    let (sectors, after) = capacity(&mut rig);
    assert_eq!(sectors, 256);
    assert_ne!(before, after);
    assert_eq!(rig.run(request::IN, 128, &[0; 512]), Some(Status::Ok));
    rig.msi.take();
    rig.function.resized(0, &Origin::default());
    assert_eq!(rig.msi.take(), [], "nothing has changed");
    // Smaller than what the driver believes: the request fails, and that is all.
    rig.disk().data.truncate(512);
    rig.function.resized(0, &Origin::default());
    assert_eq!(rig.run(request::IN, 128, &[0; 512]), Some(Status::IoErr));
}

#[test]
fn what_is_too_much_at_once_stays_on_its_queue() {
    let mut rig = Rig::new(MemoryDisk { held: true, ..MemoryDisk::new(64 << 10) }, 0);
    // One indirect table of 1000 pieces serves all requests.
    rig.start(ring_feature::INDIRECT_DESC);
    let table = 0xA_0000;
    let header = RequestHeader { kind: request::OUT, reserved: 0, sector: 0 };
    assert_eq!(rig.memory.write(0x9_0000, header.as_bytes()), Ok(()));
    let pieces = 1000u16;
    let desc = |addr, len, flags, next| xinim_abi::hw::virtio::Desc { addr, len, flags, next };
    rig.rings[0].set_desc(table, 0, desc(0x9_0000, 16, 1, 1));
    for i in 1..=pieces {
        // 996 empty ones, and four of 128 bytes.
        let length = if i <= 4 { 128 } else { 0 };
        rig.rings[0].set_desc(table, i, desc(0x9_1000, length, 1, i + 1));
    }
    rig.rings[0].set_desc(table, pieces + 1, desc(0x9_2000, 1, 2, 0));
    let bytes = (u32::from(pieces) + 2) * 16;
    let mut offered = 0;
    for queue in 0..usize::from(QUEUES) {
        for head in 0..64 {
            let ring = &mut rig.rings[queue];
            ring.set_desc(ring.desc, head, desc(table, bytes, 4, 0));
            ring.offer_head(head);
            offered += 1;
        }
        rig.notify(queue as u16);
    }
    assert!(rig.function.device().flights.segments() <= MAX_SEGMENTS + 1000);
    let mut done = 0;
    let mut rounds = 0;
    while done < offered {
        rounds += 1;
        assert!(rounds < 1000, "stuck at {done}");
        assert!(rig.finish(0), "nothing in flight at {done}");
        rig.ready();
        done += rig.rings.iter_mut().map(|ring| ring.completions().len()).sum::<usize>();
    }
    assert_eq!(rig.function.device().flights.segments(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is offered on whichever queue and however the host reorders it: each request has
    /// one completion on its own queue, with its own status and data.
    #[test]
    fn every_request_is_answered_once(
        steps in proptest::collection::vec((0..QUEUES, 0u64..130, any::<u8>()), 1..100),
    ) {
        let data: Vec<u8> = (0..128u32 * 512).map(|i| (i / 512) as u8).collect();
        let mut rig = Rig::new(MemoryDisk { held: true, data, ..MemoryDisk::default() }, 0);
        let (mut expected, mut seen) = ([0; QUEUES as usize], [0; QUEUES as usize]);
        let mut answers = Vec::new();
        for (queue, sector, dice) in steps {
            if expected[usize::from(queue)] - seen[usize::from(queue)] < 20 {
                let (at, status) = rig.offer(queue, request::IN, sector, &[0xFF; 512]);
                expected[usize::from(queue)] += 1;
                answers.push((sector, at, status));
                rig.notify(queue);
            }
            for _ in 0..dice % 3 {
                rig.finish(usize::from(dice) / 3);
            }
            rig.ready();
            for (count, ring) in seen.iter_mut().zip(&mut rig.rings) {
                *count += ring.completions().len();
            }
        }
        while rig.finish(0) {}
        rig.ready();
        for (count, ring) in seen.iter_mut().zip(&mut rig.rings) {
            *count += ring.completions().len();
        }
        prop_assert_eq!(expected, seen);
        for (sector, at, status) in answers {
            let inside = sector < 128;
            let answer = if inside { Status::Ok } else { Status::IoErr };
            prop_assert_eq!(rig.status(status), Some(answer));
            if inside {
                prop_assert_eq!(rig.memory.dump(at, 512), vec![sector as u8; 512]);
            }
        }
        prop_assert_eq!(rig.disk().violations, 0);
    }
}
