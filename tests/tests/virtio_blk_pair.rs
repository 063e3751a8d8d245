//! The virtio-blk driver's logic against our virtio-blk model, in one process: honest devices in
//! every order, devices that lie, resets with requests in flight, any state to start from.

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use xinim_abi::error::Error;
use xinim_abi::hw::virtio::{self, common, feature};
use xinim_abi::services::block::{flags, info};
use xinim_block_service::{BlockDevice, Completion, Operation, Request, Unit};
use xinim_devices::dma::Dma as _;
use xinim_devices::pci::PciDevice as _;
use xinim_devices::testing::{FlatMemory, MemoryDisk, MsiLog};
use xinim_devices::virtio::{Block, BlockConfig, VirtioConfig, VirtioPci};
use xinim_driver_kit::pci::PciFunction;
use xinim_driver_kit::testing::FakeClock;
use xinim_driver_kit::{Clock, Constraints, Dma, Mmio, Segment, SgList, SharedMemory};
use xinim_tests::pair::{BarMmio, Machine, RamBuffer, RamDma, ram};
use xinim_virtio_blk::disk::{ATTEMPTS, TIMEOUT_NS};
use xinim_virtio_blk::{Disk, Vectors};

const SECTORS: usize = 256;
/// One message for everything.
const VECTORS: Vectors = Vectors { queues: Some(0), config: Some(0) };
/// Buffers a test keeps in flight, and the bytes of each.
const BUFFERS: usize = 160;
const BUFFER: usize = 16 * 1024;

type Model = Arc<Mutex<VirtioPci<Block<MemoryDisk>>>>;
type TestDisk<'a> = Disk<BarMmio, RamDma, &'a FakeClock>;

struct Rig {
    machine: Machine,
    memory: Arc<FlatMemory>,
    model: Model,
    msi: Arc<MsiLog>,
}

fn rig_with(disk: MemoryDisk, queue_size: u16, seed: Option<u64>) -> Rig {
    rig_of(MemoryDisk { shuffle: seed, ..disk }, BlockConfig::default(), queue_size)
}

fn rig_of(disk: MemoryDisk, config: BlockConfig, queue_size: u16) -> Rig {
    let memory = ram(4096);
    let msi = MsiLog::new();
    let block = Block::new(disk, &config);
    let mut setup = VirtioConfig::new("virtio-blk.0", memory.clone(), msi.clone());
    setup.queue_size = queue_size;
    let model = Arc::new(Mutex::new(VirtioPci::new(block, setup).unwrap()));
    Rig { machine: Machine::new(&memory, model.clone()), memory, model, msi }
}

fn rig() -> Rig {
    let mut disk = MemoryDisk::new(SECTORS * 512);
    for (i, byte) in disk.data.iter_mut().enumerate() {
        *byte = (i * 7 + i / 512) as u8;
    }
    rig_with(disk, 256, None)
}

impl Rig {
    fn start<'a>(&self, clock: &'a FakeClock) -> TestDisk<'a> {
        self.machine.function.route(0, 0x41).unwrap();
        Disk::start(&self.machine.function, &self.machine.ram, clock, VECTORS).unwrap()
    }

    fn contents(&self) -> Vec<u8> {
        self.model.lock().unwrap().device().backend().data.clone()
    }

    fn backend<T>(&self, work: impl FnOnce(&mut MemoryDisk) -> T) -> T {
        work(self.model.lock().unwrap().device_mut().backend_mut())
    }
}

fn list(buffer: &RamBuffer, len: usize) -> SgList {
    let mut list = SgList::new();
    list.push_buffer(buffer, 0, len);
    list
}

fn unit<'d>(disk: &'d TestDisk<'_>) -> &'d Unit {
    disk.unit(0).unwrap()
}

/// Submits a request of as many bytes as the segments have.
fn submit(
    disk: &mut TestDisk<'_>,
    operation: Operation,
    sector: u64,
    data: &[Segment],
    cookie: u64,
) -> Result<(), Error> {
    let bytes = data.iter().map(|segment| segment.len).sum();
    disk.submit(0, &Request { operation, sector, bytes, flags: 0 }, data, cookie)
}

/// One request to its end.
fn run(
    disk: &mut TestDisk<'_>,
    op: Operation,
    sector: u64,
    buffer: &RamBuffer,
    len: usize,
) -> Result<(), Error> {
    submit(disk, op, sector, list(buffer, len).segments(), 77)?;
    disk.kick();
    let mut done = Vec::new();
    for _ in 0..=ATTEMPTS {
        disk.poll(&mut done).unwrap();
        if let Some(completion) = done.pop() {
            assert_eq!(completion.cookie, 77);
            return completion.result;
        }
    }
    panic!("request lost");
}

fn works(disk: &mut TestDisk<'_>, rig: &Rig) {
    let buffer = rig.machine.ram.allocate(8192, Constraints::DATA).unwrap();
    buffer.write_bytes(0, &[0xA5; 8192]);
    run(disk, Operation::Write, 16, &buffer, 8192).unwrap();
    buffer.write_bytes(0, &[0; 8192]);
    run(disk, Operation::Read, 17, &buffer, 4096).unwrap();
    let mut seen = [0; 4096];
    buffer.read_bytes(0, &mut seen);
    assert_eq!(seen, [0xA5; 4096]);
    run(disk, Operation::Flush, 0, &buffer, 0).unwrap();
}

#[test]
fn reads_writes_flushes_and_interrupts() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut disk = rig.start(&clock);
    assert_eq!(unit(&disk).sectors, SECTORS as u64);
    assert!(unit(&disk).has(info::WRITE_CACHE) && !unit(&disk).has(info::READ_ONLY));
    assert_eq!(unit(&disk).max_bytes, 256 * 1024);
    works(&mut disk, &rig);
    assert_eq!(rig.backend(|disk| disk.flushes), 1);
    rig.msi.take();
    assert!(!disk.arm());
    let buffer = rig.machine.ram.allocate(512, Constraints::DATA).unwrap();
    submit(&mut disk, Operation::Read, 0, list(&buffer, 512).segments(), 1).unwrap();
    disk.kick();
    let signals = rig.msi.take();
    assert_eq!(signals.len(), 1);
    assert_eq!((signals[0].0, signals[0].1.data), (0, 0x41));
    let mut done = Vec::new();
    disk.poll(&mut done).unwrap();
    // Not armed: further completions come without interrupts.
    submit(&mut disk, Operation::Read, 0, list(&buffer, 512).segments(), 2).unwrap();
    disk.kick();
    assert!(rig.msi.take().is_empty());
    assert!(disk.arm(), "the completion is there already");
    disk.poll(&mut done).unwrap();
    assert_eq!(done.len(), 2);
}

#[test]
fn a_whole_queue_goes_out_with_one_doorbell() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut disk = rig.start(&clock);
    rig.machine.defer_doorbells(true);
    let buffers: Vec<_> =
        (0..256).map(|_| rig.machine.ram.allocate(512, Constraints::DATA).unwrap()).collect();
    for (i, buffer) in buffers.iter().enumerate() {
        let list = list(buffer, 512);
        submit(&mut disk, Operation::Read, i as u64 % 200, list.segments(), i as u64).unwrap();
    }
    assert_eq!(submit(&mut disk, Operation::Flush, 0, &[], 999), Err(Error::Again));
    disk.kick();
    assert_eq!(disk.in_flight(), 256);
    assert_eq!(rig.machine.ring(), 1);
    let mut done = Vec::new();
    while done.len() < 256 {
        let before = done.len();
        disk.poll(&mut done).unwrap();
        if done.len() == before {
            // The model does a bounded number per call and asks to be called again.
            rig.model.lock().unwrap().serve(0, &Default::default()).unwrap();
        }
    }
    assert_eq!(disk.in_flight(), 0);
}

#[test]
fn ranges_are_discarded_and_zeroed() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut disk = rig.start(&clock);
    let limits = unit(&disk).limits;
    assert!(limits.max_discard >= 4096 && limits.max_zeroes >= 4096, "{limits:?}");
    let range = |operation, flags| Request { operation, sector: 8, bytes: 4096, flags };
    let mut done = Vec::new();
    for (cookie, request) in [
        range(Operation::Discard, 0),
        range(Operation::WriteZeroes, 0),
        range(Operation::WriteZeroes, flags::MAY_UNMAP),
    ]
    .into_iter()
    .enumerate()
    {
        disk.submit(0, &request, &[], cookie as u64).unwrap();
        disk.kick();
        disk.poll(&mut done).unwrap();
        assert_eq!(done.pop(), Some(Completion { cookie: cookie as u64, result: Ok(()) }));
        if request.operation == Operation::WriteZeroes {
            assert_eq!(rig.contents()[8 * 512..16 * 512], [0; 4096]);
            assert_ne!(rig.contents()[16 * 512], 0);
        }
    }
    use xinim_devices::backend::Operation as Host;
    let seen: Vec<_> = rig.backend(|disk| disk.log.iter().map(|entry| entry.0).collect());
    let zeroes = |unmap| Host::WriteZeroes { unmap };
    assert_eq!(seen, [Host::Discard, zeroes(false), zeroes(true)]);
    let wrong = Request { flags: flags::MAY_UNMAP, ..range(Operation::Discard, 0) };
    assert_eq!(disk.submit(0, &wrong, &[], 9), Err(Error::Inval));
    let fua = Request { flags: flags::FUA, ..Request::write(0, 512) };
    let buffer = rig.machine.ram.allocate(512, Constraints::DATA).unwrap();
    assert_eq!(disk.submit(0, &fua, list(&buffer, 512).segments(), 9), Err(Error::NotSup));
}

#[test]
fn the_serial_number_is_asked_for_once() {
    let (clock, config) =
        (FakeClock::default(), BlockConfig { id: "SN-0042".into(), ..BlockConfig::default() });
    let rig = rig_of(MemoryDisk::new(SECTORS * 512), config, 256);
    let mut disk = rig.start(&clock);
    assert_eq!(unit(&disk).serial.as_str(), "SN-0042");
    works(&mut disk, &rig);
    // A device that does not answer is asked no more, and works all the same.
    rig.machine.defer_doorbells(true);
    let function = rig.machine.fresh_function();
    let mut disk = Disk::start(&function, &rig.machine.ram, &clock, VECTORS).unwrap();
    rig.machine.lose_doorbells();
    rig.machine.defer_doorbells(false);
    assert_eq!(unit(&disk).serial.as_str(), "");
    works(&mut disk, &rig);
}

#[test]
fn a_disk_that_grows_is_noticed() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut disk = rig.start(&clock);
    let generation = disk.generation();
    rig.msi.take();
    rig.backend(|disk| disk.data.resize(2 * SECTORS * 512, 7));
    let mut model = rig.model.lock().unwrap();
    model.bays().unwrap().resized(0, &Default::default());
    drop(model);
    assert_eq!(rig.msi.take().len(), 1, "the configuration interrupt");
    disk.attend();
    let mut done = Vec::new();
    disk.poll(&mut done).unwrap();
    assert_eq!(unit(&disk).sectors, 2 * SECTORS as u64);
    assert!(disk.generation() > generation);
    let buffer = rig.machine.ram.allocate(512, Constraints::DATA).unwrap();
    run(&mut disk, Operation::Read, 2 * SECTORS as u64 - 1, &buffer, 512).unwrap();
}

#[test]
fn batches_go_round_all_queues() {
    let clock = FakeClock::default();
    let rig = rig_of(
        MemoryDisk::new(SECTORS * 512),
        BlockConfig { queues: 4, ..BlockConfig::default() },
        16,
    );
    let mut disk = rig.start(&clock);
    assert_eq!((disk.queue_count(), unit(&disk).depth), (4, 64));
    rig.machine.defer_doorbells(true);
    let buffer = rig.machine.ram.allocate(512, Constraints::DATA).unwrap();
    for batch in 0..4u64 {
        for i in 0..10 {
            let cookie = batch * 10 + i;
            submit(&mut disk, Operation::Read, cookie, list(&buffer, 512).segments(), cookie)
                .unwrap();
        }
        disk.kick();
    }
    assert_eq!(rig.machine.ring(), 4, "one doorbell for each batch");
    let mut done = Vec::new();
    disk.poll(&mut done).unwrap();
    assert_eq!(done.len(), 40);
    // A queue that is full does not keep a request from the others.
    let before = disk.statistics().doorbells;
    for cookie in 0..64u64 {
        submit(&mut disk, Operation::Read, cookie, list(&buffer, 512).segments(), cookie).unwrap();
    }
    assert_eq!(submit(&mut disk, Operation::Flush, 0, &[], 99), Err(Error::Again));
    disk.kick();
    assert_eq!(disk.statistics().doorbells - before, 4);
    // Lost, all of them: sent again where they were.
    rig.machine.lose_doorbells();
    done.clear();
    disk.recover(&mut done).unwrap();
    rig.machine.ring();
    disk.poll(&mut done).unwrap();
    assert_eq!(done.len(), 64);
}

#[test]
fn impossible_requests_never_reach_the_device() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut disk = rig.start(&clock);
    let buffer = rig.machine.ram.allocate(8192, Constraints::RING).unwrap();
    let mut submit =
        |op, sector, len| self::submit(&mut disk, op, sector, list(&buffer, len).segments(), 0);
    assert_eq!(submit(Operation::Read, SECTORS as u64, 512), Err(Error::Inval));
    assert_eq!(submit(Operation::Read, SECTORS as u64 - 1, 1024), Err(Error::Inval));
    assert_eq!(submit(Operation::Write, u64::MAX, 512), Err(Error::Inval));
    assert_eq!(submit(Operation::Read, 0, 100), Err(Error::Inval));
    assert_eq!(submit(Operation::Read, 0, 0), Err(Error::Inval));
    assert_eq!(disk.in_flight(), 0);
}

#[test]
fn host_errors_and_read_only_disks_are_reported() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut disk = rig.start(&clock);
    let buffer = rig.machine.ram.allocate(512, Constraints::DATA).unwrap();
    rig.backend(|disk| disk.failing = true);
    assert_eq!(run(&mut disk, Operation::Read, 0, &buffer, 512), Err(Error::Io));
    assert_eq!(run(&mut disk, Operation::Flush, 0, &buffer, 0), Err(Error::Io));
    rig.backend(|disk| disk.failing = false);
    works(&mut disk, &rig);

    let mut image = MemoryDisk::new(512 * 8);
    image.read_only = true;
    let rig = rig_with(image, 256, None);
    let mut disk = rig.start(&clock);
    assert!(unit(&disk).has(info::READ_ONLY));
    assert_eq!(run(&mut disk, Operation::Write, 0, &buffer, 512), Err(Error::RoFs));
}

#[test]
fn a_request_that_gets_lost_is_sent_again_and_given_up_in_the_end() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut disk = rig.start(&clock);
    rig.machine.defer_doorbells(true);
    let buffer = rig.machine.ram.allocate(512, Constraints::DATA).unwrap();
    submit(&mut disk, Operation::Read, 3, list(&buffer, 512).segments(), 5).unwrap();
    disk.kick();
    let mut done = Vec::new();
    // Lost once: the second sending reaches the device.
    rig.machine.lose_doorbells();
    disk.attend();
    disk.poll(&mut done).unwrap();
    assert_eq!(disk.statistics().recoveries, 0);
    clock.advance(TIMEOUT_NS);
    assert!(disk.wake_at().is_some_and(|at| at <= clock.now_ns()));
    disk.attend();
    disk.poll(&mut done).unwrap();
    assert_eq!(rig.machine.ring(), 1);
    disk.poll(&mut done).unwrap();
    assert_eq!(done, [Completion { cookie: 5, result: Ok(()) }]);
    // Lost every time.
    done.clear();
    submit(&mut disk, Operation::Read, 3, list(&buffer, 512).segments(), 6).unwrap();
    disk.kick();
    for _ in 0..ATTEMPTS {
        assert!(done.is_empty());
        rig.machine.lose_doorbells();
        clock.advance(TIMEOUT_NS);
        disk.attend();
        disk.poll(&mut done).unwrap();
    }
    assert_eq!(done, [Completion { cookie: 6, result: Err(Error::Io) }]);
    assert_eq!(disk.wake_at(), None);
    rig.machine.defer_doorbells(false);
    works(&mut disk, &rig);
}

#[test]
fn a_device_that_needs_a_reset_gets_one() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut disk = rig.start(&clock);
    let buffer = rig.machine.ram.allocate(512, Constraints::DATA).unwrap();
    rig.machine.defer_doorbells(true);
    submit(&mut disk, Operation::Read, 9, list(&buffer, 512).segments(), 1).unwrap();
    disk.kick();
    // Break the available ring under the driver: its index jumps.
    let (address, _) = ring_addresses(&rig);
    rig.memory.store_u16(address + 2, 0x4000).unwrap();
    rig.machine.ring();
    let mut done = Vec::new();
    disk.attend();
    disk.poll(&mut done).unwrap();
    assert_eq!(disk.statistics().recoveries, 1);
    rig.machine.ring();
    disk.poll(&mut done).unwrap();
    assert_eq!(done, [Completion { cookie: 1, result: Ok(()) }]);
    let mut seen = [0; 512];
    buffer.read_bytes(0, &mut seen);
    assert_eq!(seen[..], rig.contents()[9 * 512..10 * 512]);
}

/// Addresses of the available and used ring as the device was told.
fn ring_addresses(rig: &Rig) -> (u64, u64) {
    let registers = rig.machine.fresh_function().bar(0).unwrap();
    registers.write16(common::QUEUE_SELECT, 0);
    let read = |at| u64::from(registers.read32(at)) | u64::from(registers.read32(at + 4)) << 32;
    (read(common::QUEUE_DRIVER), read(common::QUEUE_DEVICE))
}

#[test]
fn a_new_driver_takes_over_and_the_old_ones_memory_is_left_alone() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut old = rig.start(&clock);
    rig.machine.defer_doorbells(true);
    let buffer = rig.machine.ram.allocate(512, Constraints::DATA).unwrap();
    submit(&mut old, Operation::Read, 1, list(&buffer, 512).segments(), 1).unwrap();
    old.kick();
    // The old driver is gone without a word; its doorbell is still on the way.
    let function = rig.machine.fresh_function();
    let mut new = Disk::start(&function, &rig.machine.ram, &clock, VECTORS).unwrap();
    rig.machine.ring();
    let mut seen = [1; 512];
    buffer.read_bytes(0, &mut seen);
    assert_eq!(seen, [0; 512], "the reset device wrote for the old driver");
    rig.machine.defer_doorbells(false);
    works(&mut new, &rig);
}

#[derive(Clone, Debug)]
enum Step {
    Submit { write: bool, sector: u64, sectors: usize },
    Flush,
    Kick,
    Ring,
    Poll,
    Recover,
    Arm,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (any::<bool>(), 0..SECTORS as u64, 1usize..=32)
            .prop_map(|(write, sector, sectors)| Step::Submit { write, sector, sectors }),
        1 => Just(Step::Flush),
        3 => Just(Step::Kick),
        3 => Just(Step::Ring),
        3 => Just(Step::Poll),
        1 => Just(Step::Recover),
        1 => Just(Step::Arm),
    ];
    prop::collection::vec(step, 1..300)
}

/// What a test knows of a request in flight.
struct Pending {
    write: bool,
    sector: u64,
    data: Vec<u8>,
    buffer: usize,
}

fn overlap(a: &Pending, sector: u64, sectors: usize) -> bool {
    let end = |s: u64, n: usize| s + n as u64;
    a.sector < end(sector, sectors) && sector < end(a.sector, a.data.len() / 512)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Any mix, any order of completion, queues of any size (with wrap), doorbells held back, resets in
    /// flight: every request ends once and well, and the disk holds what was written.
    #[test]
    fn every_mix_ends_well(
        steps in steps(),
        queue_size in prop_oneof![Just(4u16), Just(8), Just(64), Just(256)],
        features in prop_oneof![Just(!0u64), Just(!feature::EVENT_IDX), Just(!feature::INDIRECT_DESC),
            Just(!(feature::EVENT_IDX | feature::INDIRECT_DESC))],
        seed: u64,
        deferring: bool,
    ) {
        let rig = rig_with(MemoryDisk::new(SECTORS * 512), queue_size, Some(seed));
        let clock = FakeClock::default();
        mask_features(&rig, features);
        let mut disk = rig.start(&clock);
        rig.machine.defer_doorbells(deferring);
        let mut expected = vec![0u8; SECTORS * 512];
        let buffers: Vec<_> = (0..BUFFERS)
            .map(|_| rig.machine.ram.allocate(BUFFER, Constraints::DATA).unwrap())
            .collect();
        let mut free: Vec<usize> = (0..BUFFERS).collect();
        let mut pending: BTreeMap<u64, Pending> = BTreeMap::new();
        let mut done = Vec::new();
        let mut cookie = 0u64;
        let mut recoveries = 0;
        let finish = |done: &mut Vec<Completion>,
                          pending: &mut BTreeMap<u64, Pending>,
                          free: &mut Vec<usize>| {
            for completion in done.drain(..) {
                let request = pending.remove(&completion.cookie).expect("completed twice");
                assert_eq!(completion.result, Ok(()), "{}", completion.cookie);
                if !request.write {
                    let mut seen = vec![0; request.data.len()];
                    buffers[request.buffer].read_bytes(0, &mut seen);
                    assert_eq!(seen, request.data);
                }
                free.push(request.buffer);
            }
        };
        for step in steps {
            match step {
                Step::Submit { write, sector, sectors } => {
                    let max = (unit(&disk).max_bytes as usize / 512).min(SECTORS - sector as usize);
                    let sectors = sectors.min(max);
                    let clash = pending
                        .values()
                        .any(|p| (write || p.write) && overlap(p, sector, sectors));
                    let Some(buffer) = free.pop().filter(|_| !clash && sectors > 0) else { continue };
                    let range = sector as usize * 512..(sector as usize + sectors) * 512;
                    if write {
                        for byte in &mut expected[range.clone()] {
                            *byte = (cookie as u8).wrapping_mul(31).wrapping_add(1);
                        }
                        buffers[buffer].write_bytes(0, &expected[range.clone()]);
                    } else {
                        buffers[buffer].write_bytes(0, &vec![0xEE; sectors * 512]);
                    }
                    let operation = if write { Operation::Write } else { Operation::Read };
                    let list = list(&buffers[buffer], sectors * 512);
                    let data = expected[range.clone()].to_vec();
                    match submit(&mut disk, operation, sector, list.segments(), cookie) {
                        Ok(()) => {
                            pending.insert(cookie, Pending { write, sector, data, buffer });
                        }
                        Err(Error::Again) => {
                            prop_assert!(disk.in_flight() > 0);
                            if write {
                                // Not sent: the disk keeps what it had.
                                let old = &rig.contents()[range.clone()];
                                expected[range].copy_from_slice(old);
                            }
                            free.push(buffer);
                        }
                        Err(error) => prop_assert!(false, "{error}"),
                    }
                    cookie += 1;
                }
                Step::Flush => {
                    if let Some(buffer) = free.pop() {
                        match submit(&mut disk, Operation::Flush, 0, &[], cookie) {
                            Ok(()) => {
                                let data = Vec::new();
                                pending.insert(cookie, Pending { write: true, sector: 0, data, buffer });
                            }
                            Err(error) => {
                                prop_assert_eq!(error, Error::Again);
                                free.push(buffer);
                            }
                        }
                        cookie += 1;
                    }
                }
                Step::Kick => disk.kick(),
                Step::Ring => {
                    rig.machine.ring();
                }
                Step::Poll => {
                    disk.poll(&mut done).unwrap();
                    finish(&mut done, &mut pending, &mut free);
                }
                // Few enough that no request runs out of attempts.
                Step::Recover if recoveries + 1 < ATTEMPTS => {
                    recoveries += 1;
                    disk.poll(&mut done).unwrap();
                    disk.recover(&mut done).unwrap();
                    finish(&mut done, &mut pending, &mut free);
                }
                Step::Recover => {}
                Step::Arm => {
                    disk.arm();
                }
            }
        }
        disk.kick();
        for _ in 0..64 {
            rig.machine.ring();
            rig.model.lock().unwrap().serve(0, &Default::default()).unwrap();
            disk.poll(&mut done).unwrap();
            finish(&mut done, &mut pending, &mut free);
        }
        prop_assert!(pending.is_empty(), "{} lost", pending.len());
        prop_assert_eq!(disk.in_flight(), 0);
        prop_assert_eq!(rig.contents(), expected);
    }

    /// A device that writes anything into its used ring: no request ends twice, and a device that
    /// comes to its senses is used again.
    #[test]
    fn lies_in_the_used_ring_are_survived(
        lies in prop::collection::vec(
            (any::<u16>(), prop::collection::vec((0u64..2100, any::<u8>()), 0..12)), 1..24),
        submits in 1usize..40,
    ) {
        let (rig, clock) = (rig(), FakeClock::default());
        let mut disk = rig.start(&clock);
        let buffers: Vec<_> = (0..40)
            .map(|_| rig.machine.ram.allocate(4096, Constraints::DATA).unwrap())
            .collect();
        rig.machine.defer_doorbells(true);
        let mut pending = std::collections::BTreeSet::new();
        let mut done = Vec::new();
        let mut cookie = 0;
        for (index, bytes) in lies {
            for i in 0..submits {
                let list = list(&buffers[i % buffers.len()], 4096);
                if submit(&mut disk, Operation::Read, 0, list.segments(), cookie).is_ok() {
                    pending.insert(cookie);
                }
                cookie += 1;
            }
            disk.kick();
            if index % 3 == 0 {
                rig.machine.ring();
            }
            let (_, used) = ring_addresses(&rig);
            for (at, value) in bytes {
                let _ = rig.memory.write(used + at, &[value]);
            }
            let _ = rig.memory.store_u16(used + 2, index);
            for _ in 0..ATTEMPTS + 1 {
                disk.poll(&mut done).unwrap();
            }
            for completion in done.drain(..) {
                prop_assert!(pending.remove(&completion.cookie), "{completion:?} twice");
            }
        }
        rig.machine.defer_doorbells(false);
        // Whatever the lies left behind, a reset device and driver work.
        for _ in 0..ATTEMPTS + 1 {
            disk.recover(&mut done).unwrap();
            let _ = disk.poll(&mut done);
        }
        for completion in done.drain(..) {
            prop_assert!(pending.remove(&completion.cookie), "{completion:?} twice");
        }
        prop_assert!(pending.is_empty());
        works(&mut disk, &rig);
    }

    /// Registers that read as anything: an error or a working driver, never a panic or a hang.
    #[test]
    fn lies_in_registers_are_survived(
        lies in prop::collection::vec(prop::option::weighted(0.1, any::<u64>()), 1..80)
    ) {
        let (rig, clock) = (rig(), FakeClock::default());
        rig.machine.function.route(0, 0x41).unwrap();
        let mut lies = lies.into_iter().cycle();
        let mut reads = 0;
        rig.machine.lie(Some(Box::new(move |_, value| {
            reads += 1;
            lies.next().flatten().filter(|_| reads < 1000).unwrap_or(value)
        })));
        let started = Disk::start(&rig.machine.function, &rig.machine.ram, &clock, VECTORS);
        let before = clock.now_ns();
        prop_assert!(before < 20_000_000_000, "waited {before} ns");
        if let Ok(mut disk) = started {
            let buffer = rig.machine.ram.allocate(4096, Constraints::DATA).unwrap();
            let _ = submit(&mut disk, Operation::Read, 0, list(&buffer, 4096).segments(), 1);
            disk.kick();
            let _ = disk.poll(&mut Vec::new());
            disk.attend();
            let _ = disk.poll(&mut Vec::new());
            drop(disk);
        }
        rig.machine.lie(None);
        let mut disk = Disk::start(&rig.machine.fresh_function(), &rig.machine.ram, &clock, VECTORS)
            .unwrap();
        works(&mut disk, &rig);
    }

    /// Whatever was written to the registers before, the driver takes the device over.
    #[test]
    fn starts_from_any_state(writes in prop::collection::vec(
        (0usize..common::SIZE, any::<u64>(), prop_oneof![Just(1u8), Just(2), Just(4)]), 0..60))
    {
        let (rig, clock) = (rig(), FakeClock::default());
        let registers = rig.machine.fresh_function().bar(0).unwrap();
        for (offset, value, size) in writes {
            let offset = offset & !(usize::from(size) - 1);
            match size {
                1 => registers.write8(offset, value as u8),
                2 => registers.write16(offset, value as u16),
                _ => registers.write32(offset, value as u32),
            }
        }
        let mut disk = rig.start(&clock);
        works(&mut disk, &rig);
    }
}

/// Lets the device seem to offer only `mask` of its features.
fn mask_features(rig: &Rig, mask: u64) {
    let select = std::cell::Cell::new(0);
    rig.machine.lie(Some(Box::new(move |offset, value| {
        // The driver reads the halves in order.
        if offset == common::DEVICE_FEATURE as u64 {
            let half = select.replace(1 - select.get());
            return value & (mask >> (32 * half)) & 0xFFFF_FFFF;
        }
        value
    })));
    assert_ne!(mask & virtio::feature::VERSION_1, 0);
}
