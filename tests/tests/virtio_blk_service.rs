//! The virtio-blk driver's whole request path in one process: clients' shared rings, service, disk,
//! device model. Several clients at once, clients that die, clients that attack.

use proptest::prelude::*;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use xinim_abi::error::Error;
use xinim_abi::services::block::{DATA_OFFSET, ENTRIES, SQ_OFFSET, Submission, block, index, op};
use xinim_block_service::BlockDevice;
use xinim_block_service::service::{CLIENTS_MAX, Service};
use xinim_devices::testing::{MemoryDisk, MsiLog};
use xinim_devices::virtio::{Block, BlockConfig, VirtioConfig, VirtioPci};
use xinim_driver_kit::deadline::SILENCE_NS;
use xinim_driver_kit::testing::FakeClock;
use xinim_driver_kit::{Constraints, Dma, SharedMemory};
use xinim_tests::block::{Client, DATA, TestService, Told, pump};
use xinim_tests::pair::{BarMmio, Machine, RamDma, ram};
use xinim_virtio_blk::{Disk, Vectors};

const SECTORS: usize = 512;

type DiskService<'a> = TestService<Disk<BarMmio, RamDma, &'a FakeClock>>;

struct Rig {
    machine: Machine,
    model: Arc<Mutex<VirtioPci<Block<MemoryDisk>>>>,
}

fn rig() -> Rig {
    let memory = ram(8192);
    let mut disk = MemoryDisk::new(SECTORS * 512);
    for (i, byte) in disk.data.iter_mut().enumerate() {
        *byte = (i / 512) as u8;
    }
    let block = Block::new(disk, &BlockConfig::default());
    let setup = VirtioConfig::new("virtio-blk.0", memory.clone(), MsiLog::new());
    let model = Arc::new(Mutex::new(VirtioPci::new(block, setup).unwrap()));
    Rig { machine: Machine::new(&memory, model.clone()), model }
}

impl Rig {
    fn service<'a>(&self, clock: &'a FakeClock) -> DiskService<'a> {
        let function = self.machine.fresh_function();
        let vectors = Vectors { queues: Some(0), config: Some(0) };
        Service::new(Disk::start(&function, &self.machine.ram, clock, vectors).unwrap(), 0)
    }
}

#[test]
fn two_clients_share_the_disk_and_are_told_once_a_batch() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut service = rig.service(&clock);
    let (mut a, mut b) = (Client::new(&rig.machine), Client::new(&rig.machine));
    a.attach(10, 0, &mut service);
    b.attach(11, 0, &mut service);
    rig.machine.defer_doorbells(true);
    a.memory.write_bytes(DATA_OFFSET, &[0xAA; 4096]);
    a.request(1, op::WRITE, 100, 0, 4096);
    a.request(2, op::FLUSH, 0, 0, 0);
    b.request(7, op::READ, 5, 512, 1024);
    pump(&mut service);
    assert_eq!(rig.machine.ring(), 1, "one doorbell for all");
    pump(&mut service);
    assert_eq!((a.told.0.get(), b.told.0.get()), (1, 1));
    assert_eq!(a.completions(), [(1, 0), (2, 0)]);
    assert_eq!(b.completions(), [(7, 0)]);
    let mut seen = [0; 1024];
    b.memory.read_bytes(DATA_OFFSET + 512, &mut seen);
    assert_eq!((seen[0], seen[1023]), (5, 6));
    let model = rig.model.lock().unwrap();
    let backend = model.device().backend();
    assert_eq!(backend.data[100 * 512..108 * 512], [0xAA; 4096]);
    assert_eq!(backend.flushes, 1);
}

#[test]
fn a_client_is_told_of_the_completion_it_waits_for_and_requests_are_counted() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut service = rig.service(&clock);
    let mut client = Client::new(&rig.machine);
    client.attach(1, 0, &mut service);
    client.memory.store_u32(index::CQ_EVENT, 2);
    for id in 0..2 {
        client.request(id, op::READ, id, 0, 512);
    }
    pump(&mut service);
    assert_eq!(client.told.0.get(), 0, "it waits for the third");
    client.request(2, op::WRITE, 9, 0, 1024);
    pump(&mut service);
    assert_eq!(client.told.0.get(), 1);
    assert_eq!(client.completions().len(), 3);
    let (reads, writes) =
        (service.statistics(0, op::READ).unwrap(), service.statistics(0, op::WRITE).unwrap());
    assert_eq!((reads.requests, reads.bytes, reads.in_flight), (2, 1024, 0));
    assert_eq!((writes.requests, writes.bytes, writes.errors), (1, 1024, 0));
    assert_eq!(service.statistics(0, op::COUNT), Err(Error::Inval));
}

#[test]
fn bad_requests_are_answered_one_by_one() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut service = rig.service(&clock);
    let mut client = Client::new(&rig.machine);
    client.attach(1, 0, &mut service);
    let good = Submission { id: 1, sector: 0, offset: 16384, len: 512, op: op::READ, flags: 0 };
    let end = (DATA_OFFSET + DATA) as u32;
    for bad in [
        Submission { op: op::COUNT, ..good },
        Submission { flags: 1, ..good },
        Submission { flags: u32::MAX, op: op::WRITE, ..good },
        Submission { op: u32::MAX, ..good },
        Submission { len: 0, ..good },
        Submission { len: 513, ..good },
        Submission { len: 0xFFFF_FE00, ..good },
        Submission { offset: 0, ..good },
        Submission { offset: 16385, ..good },
        Submission { offset: end - 511, ..good },
        Submission { offset: end, ..good },
        Submission { offset: 0xFFFF_FE00, ..good },
        Submission { sector: SECTORS as u64, ..good },
        Submission { sector: u64::MAX, ..good },
    ] {
        client.submit(bad);
        client.submit(Submission { id: 2, ..good });
        pump(&mut service);
        let mut completions = client.completions();
        completions.sort_unstable();
        assert_eq!(completions, [(1, Error::Inval as u32), (2, 0)], "{bad:?}");
    }
}

#[test]
fn a_dead_clients_memory_is_held_until_the_device_is_done_with_it() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut service = rig.service(&clock);
    let mut client = Client::new(&rig.machine);
    client.attach(1, 0, &mut service);
    rig.machine.defer_doorbells(true);
    client.request(1, op::READ, 0, 0, 4096);
    pump(&mut service);
    service.forget(1);
    assert_eq!(Rc::strong_count(&client.memory), 2, "the device may still write to it");
    assert_eq!(service.clients(), 1);
    rig.machine.ring();
    pump(&mut service);
    assert_eq!(Rc::strong_count(&client.memory), 1);
    assert_eq!((service.clients(), client.told.0.get()), (0, 0));
}

/// How requests of 1 KiB each end.
fn statuses<B: BlockDevice>(
    client: &mut Client,
    service: &mut TestService<B>,
    requests: &[(u32, u64)],
) -> Vec<u32> {
    for (id, (op, sector)) in requests.iter().enumerate() {
        client.request(id as u64, *op, *sector, id * 4096, 1024);
    }
    pump(service);
    let mut done = client.completions();
    done.sort_unstable();
    done.into_iter().map(|(_, status)| status).collect()
}

#[test]
fn what_one_has_claimed_others_cannot_write() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut service = rig.service(&clock);
    let (mut owner, mut other) = (Client::new(&rig.machine), Client::new(&rig.machine));
    let claim = |first, sectors| block::Claim { unit: 0, first, sectors };
    assert_eq!(service.claim(1, &claim(0, 8)), Err(Error::Inval), "not attached");
    owner.attach(1, 0, &mut service);
    other.attach(2, 0, &mut service);
    assert_eq!(service.claim(1, &claim(100, 50)), Ok(()));
    assert_eq!(service.claim(2, &claim(149, 10)), Err(Error::Busy));
    assert_eq!(service.claim(2, &claim(u64::MAX, 2)), Err(Error::Inval));
    assert_eq!(service.claim(2, &claim(150, 10)), Ok(()), "beside it");
    let asked = [(op::READ, 120), (op::WRITE, 98), (op::WRITE, 99), (op::WRITE, 149)];
    let busy = Error::Busy as u32;
    assert_eq!(statuses(&mut other, &mut service, &asked), [0, 0, busy, busy]);
    owner.request(1, op::WRITE, 149, 0, 512);
    pump(&mut service);
    assert_eq!(owner.completions(), [(1, 0)], "its own");
    service.forget(1);
    assert_eq!(statuses(&mut other, &mut service, &asked), [0; 4], "it went with its owner");
}

#[test]
fn attaching_again_replaces_and_places_run_out() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut service = rig.service(&clock);
    let mut client = Client::new(&rig.machine);
    client.attach(1, 0, &mut service);
    client.attach(1, 0, &mut service);
    assert_eq!(service.clients(), 1);
    client.request(5, op::READ, 1, 0, 512);
    pump(&mut service);
    assert_eq!(client.completions(), [(5, 0)]);
    for owner in 2..=CLIENTS_MAX as u32 {
        client.attach(owner, 0, &mut service);
    }
    let refused = service.attach(99, 0, Rc::clone(&client.memory), client.told.clone());
    assert_eq!(refused, Err(Error::Limit));
    let small = rig.machine.ram.allocate(4096, Constraints::DATA).unwrap();
    service.forget(2);
    let refused = service.attach(99, 0, Rc::new(small), Told::default());
    assert_eq!(refused, Err(Error::Inval));
}

#[test]
fn a_client_goes_on_with_a_new_instance_of_the_driver() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut old = rig.service(&clock);
    let mut client = Client::new(&rig.machine);
    client.attach(1, 0, &mut old);
    client.request(1, op::READ, 3, 0, 512);
    pump(&mut old);
    assert_eq!(client.completions(), [(1, 0)]);
    rig.machine.defer_doorbells(true);
    client.request(2, op::READ, 4, 512, 512);
    pump(&mut old);
    // The old instance dies with a request in flight; the client submits it again.
    std::mem::forget(old);
    rig.machine.lose_doorbells();
    rig.machine.defer_doorbells(false);
    let mut new = rig.service(&clock);
    client.attach(1, 0, &mut new);
    client.request(2, op::READ, 4, 512, 512);
    pump(&mut new);
    assert_eq!(client.completions(), [(2, 0)]);
    let mut seen = [0; 512];
    client.memory.read_bytes(DATA_OFFSET + 512, &mut seen);
    assert_eq!(seen, [4; 512]);
}

#[test]
fn a_lost_request_is_found_by_its_deadline() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut service = rig.service(&clock);
    let mut client = Client::new(&rig.machine);
    client.attach(1, 0, &mut service);
    rig.machine.defer_doorbells(true);
    client.request(1, op::READ, 3, 0, 512);
    pump(&mut service);
    rig.machine.lose_doorbells();
    rig.machine.defer_doorbells(false);
    service.device_mut().attend();
    pump(&mut service);
    assert!(client.completions().is_empty());
    clock.advance(SILENCE_NS);
    service.device_mut().attend();
    pump(&mut service);
    assert_eq!(client.completions(), [(1, 0)]);
    assert_eq!(service.device().statistics().recoveries, 1);
}

#[test]
fn many_more_requests_than_the_queue_holds() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut service = rig.service(&clock);
    let mut clients: Vec<_> = (0..4).map(|_| Client::new(&rig.machine)).collect();
    for (owner, client) in clients.iter().enumerate() {
        client.attach(owner as u32, 0, &mut service);
    }
    rig.machine.defer_doorbells(true);
    let mut ended = [0; 4];
    for _ in 0..20 {
        for client in &mut clients {
            while client.tail.wrapping_sub(client.head) < ENTRIES {
                let id = u64::from(client.tail);
                client.request(id, op::READ, id % 500, (id as usize % 64) * 4096, 4096);
            }
        }
        // One pump may leave work when the model stops early; none may be lost.
        for _ in 0..8 {
            pump(&mut service);
            rig.machine.ring();
            rig.model.lock().unwrap().serve(0, &Default::default()).unwrap();
            pump(&mut service);
        }
        for (client, ended) in clients.iter_mut().zip(&mut ended) {
            *ended += client.completions().iter().filter(|(_, status)| *status == 0).count();
        }
        let (least, most) = (ended.iter().min().unwrap(), ended.iter().max().unwrap());
        assert!(most - least <= 128, "unfair: {ended:?}");
    }
    assert!(ended.iter().all(|&count| count >= 1000), "{ended:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Whatever a client writes into its memory, the service and the other clients do not care, and
    /// the device writes nowhere but into that memory.
    #[test]
    fn a_hostile_client_harms_itself_only(
        rounds in prop::collection::vec(
            prop::collection::vec((0usize..16384, any::<[u8; 4]>()), 0..40), 1..12),
        plausible: bool,
    ) {
        let (rig, clock) = (rig(), FakeClock::default());
        let mut service = rig.service(&clock);
        let (evil, mut good) = (Client::new(&rig.machine), Client::new(&rig.machine));
        let bystander = rig.machine.ram.allocate(1 << 20, Constraints::RING).unwrap();
        evil.attach(1, 0, &mut service);
        good.attach(2, 0, &mut service);
        for (round, writes) in rounds.into_iter().enumerate() {
            for (at, bytes) in writes {
                let at = if plausible { SQ_OFFSET + at % 4096 } else { at };
                evil.memory.write_bytes(at.min(16380), &bytes);
            }
            if plausible {
                let tail = evil.memory.load_u32(index::SQ_HEAD).wrapping_add(64);
                evil.memory.store_u32(index::SQ_TAIL, tail);
                let seen = evil.memory.load_u32(index::CQ_TAIL);
                evil.memory.store_u32(index::CQ_HEAD, seen);
            }
            let sector = round as u64 * 3;
            good.request(round as u64, op::READ, sector, round * 4096, 512);
            pump(&mut service);
            prop_assert_eq!(good.completions(), [(round as u64, 0)]);
            let mut seen = [0; 512];
            good.memory.read_bytes(DATA_OFFSET + round * 4096, &mut seen);
            let model = rig.model.lock().unwrap();
            let at = sector as usize * 512;
            prop_assert_eq!(&seen[..], &model.device().backend().data[at..at + 512]);
        }
        let mut seen = vec![1; 1 << 20];
        bystander.read_bytes(0, &mut seen);
        prop_assert!(seen.iter().all(|&byte| byte == 0));
        service.forget(1);
        pump(&mut service);
        prop_assert_eq!(Rc::strong_count(&evil.memory), 1);
    }
}
