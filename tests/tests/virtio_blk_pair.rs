//! The virtio-blk driver's logic against our virtio-blk model, in one process: every operation, host
//! errors, lost requests, resets. Random mixes and lies are in `virtio_blk_properties`.

use std::cell::Cell;
use std::rc::Rc;

use xinim_abi::error::Error;
use xinim_abi::hw::virtio::common;
use xinim_abi::services::block::{flags, info};
use xinim_block_service::{BlockDevice, Completion, Operation, Request};
use xinim_devices::dma::Dma as _;
use xinim_devices::pci::PciDevice as _;
use xinim_devices::testing::{FlatMemory, MemoryDisk};
use xinim_devices::virtio::BlockConfig;
use xinim_driver_kit::deadline::{SILENCE_NS, TIMEOUT_NS};
use xinim_driver_kit::testing::FakeClock;
use xinim_driver_kit::{Clock, Constraints, Dma, SharedMemory};
use xinim_tests::pair::RAM_BASE;
use xinim_tests::virtio_blk::{
    SECTORS, VECTORS, list, rig, rig_of, rig_with, ring_addresses, run, submit, unit, works,
};
use xinim_virtio_blk::Disk;
use xinim_virtio_blk::disk::{ATTEMPTS, WATCH_NS};

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

/// The device reads a wrong address for its serial number, writes it there and says that all is well.
#[test]
fn a_serial_number_that_was_written_elsewhere_is_asked_for_again() {
    let (clock, config) =
        (FakeClock::default(), BlockConfig { id: "SN-0042".into(), ..BlockConfig::default() });
    let rig = rig_of(MemoryDisk::new(SECTORS * 512), config, 256);
    rig.machine.defer_doorbells(true);
    let (machine, memory) = (rig.machine.clone(), rig.memory.clone());
    let misled = Rc::new(Cell::new(0));
    let count = misled.clone();
    rig.machine.lie(Some(Box::new(move |offset, value| {
        // The driver looks at the device while it waits.
        if offset == common::DEVICE_STATUS as u64 {
            if count.get() == 0 && mislead(&memory) {
                count.set(1);
            }
            machine.ring();
        }
        value
    })));
    let function = rig.machine.fresh_function();
    let mut disk = Disk::start(&function, &rig.machine.ram, &clock, VECTORS).unwrap();
    rig.machine.lie(None);
    rig.machine.ring();
    rig.machine.defer_doorbells(false);
    assert_eq!(misled.get(), 1);
    assert_eq!(unit(&disk).serial.as_str(), "SN-0042");
    works(&mut disk, &rig);
}

/// Changes the address of the descriptor that a device is to write 20 bytes to, if there is one.
fn mislead(memory: &FlatMemory) -> bool {
    const WRITE_AND_NEXT: [u8; 2] = [3, 0];
    let mut descriptor = [0; 16];
    let places = (RAM_BASE..RAM_BASE + (64 << 12)).step_by(16);
    for at in places {
        if memory.read(at, &mut descriptor).is_err() {
            return false;
        }
        if descriptor[8..12] == 20u32.to_le_bytes() && descriptor[12..14] == WRITE_AND_NEXT {
            descriptor[1] ^= 1;
            return memory.write(at, &descriptor).is_ok();
        }
    }
    false
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
    let repeats = 2 * (u64::from(ATTEMPTS) - 1);
    assert_eq!((disk.statistics().repeats, disk.statistics().errors), (repeats, 2));
    // One that ends soon enough is nobody's but the driver's.
    submit(&mut disk, Operation::Read, 0, list(&buffer, 512).segments(), 9).unwrap();
    disk.kick();
    rig.backend(|disk| disk.failing = false);
    let mut done = Vec::new();
    while done.is_empty() {
        disk.poll(&mut done).unwrap();
    }
    assert_eq!(done, [Completion { cookie: 9, result: Ok(()) }]);
    assert_eq!((disk.statistics().repeats, disk.statistics().errors), (repeats + 1, 2));
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
    clock.advance(SILENCE_NS);
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

#[test]
fn a_lost_doorbell_is_rung_again_long_before_the_request_is_given_up() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut disk = rig.start(&clock);
    rig.machine.defer_doorbells(true);
    let buffer = rig.machine.ram.allocate(512, Constraints::DATA).unwrap();
    submit(&mut disk, Operation::Read, 3, list(&buffer, 512).segments(), 5).unwrap();
    disk.kick();
    rig.machine.lose_doorbells();
    clock.advance(WATCH_NS);
    assert!(disk.wake_at().is_some_and(|at| at <= clock.now_ns()));
    let mut done = Vec::new();
    disk.attend();
    disk.poll(&mut done).unwrap();
    assert_eq!(rig.machine.ring(), 1);
    // The interrupt may have been lost as well: what is done is found at the next look.
    disk.poll(&mut done).unwrap();
    assert_eq!(done, [Completion { cookie: 5, result: Ok(()) }]);
    assert_eq!(disk.statistics().recoveries, 0);
}
