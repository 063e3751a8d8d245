//! The virtio-blk driver's logic against our virtio-blk model under random mixes of requests, devices that
//! lie, resets with requests in flight, any state to start from.

use std::collections::BTreeMap;

use proptest::prelude::*;
use xinim_abi::error::Error;
use xinim_abi::hw::virtio::{common, feature};
use xinim_block_service::{BlockDevice, Completion, Operation};
use xinim_devices::dma::Dma as _;
use xinim_devices::testing::MemoryDisk;
use xinim_driver_kit::pci::PciFunction;
use xinim_driver_kit::testing::FakeClock;
use xinim_driver_kit::{Clock, Constraints, Dma, Mmio, SharedMemory};
use xinim_tests::virtio_blk::{
    SECTORS, VECTORS, list, mask_features, rig, rig_with, ring_addresses, submit, unit, works,
};
use xinim_virtio_blk::Disk;
use xinim_virtio_blk::disk::ATTEMPTS;

/// Buffers a test keeps in flight, and the bytes of each.
const BUFFERS: usize = 160;
const BUFFER: usize = 16 * 1024;

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
