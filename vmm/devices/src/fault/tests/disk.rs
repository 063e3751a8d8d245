use super::*;
use crate::backend::block::{BackendError, BlockBackend, Completion, Operation, Request};
use crate::dma::{Dma, Segment};
use crate::testing::{FlatMemory, MemoryDisk};

type Disk = Arc<Mutex<MemoryDisk>>;

struct Bench {
    rig: Rig,
    memory: Arc<FlatMemory>,
    disk: Disk,
    faulty: FaultDisk<Disk>,
}

/// 64 sectors; sector N holds bytes N.
fn bench(rule: &str) -> Bench {
    let rig = Rig::new(&["virtio-blk.0", "disk0"]);
    let mut disk = MemoryDisk::new(64 * 512);
    for (i, byte) in disk.data.iter_mut().enumerate() {
        *byte = (i / 512) as u8;
    }
    let (disk, memory) = (Arc::new(Mutex::new(disk)), FlatMemory::new(0, 0x1_0000));
    let faulty = FaultDisk::new(disk.clone(), rig.site.clone(), memory.clone());
    rig.add(rule);
    Bench { rig, memory, disk, faulty }
}

fn request(tag: u64, operation: Operation, sector: u64, sectors: u64) -> Request {
    let data = matches!(operation, Operation::Read | Operation::Write { .. });
    let segments = match data {
        true => vec![Segment { address: 0x1000 * tag, length: (sectors * 512) as u32 }],
        false => Vec::new(),
    };
    Request { tag, operation, offset: sector * 512, length: sectors * 512, segments }
}

impl Bench {
    fn submit(&mut self, tag: u64, operation: Operation, sector: u64, sectors: u64) {
        let request = request(tag, operation, sector, sectors);
        let memory = self.memory.clone();
        self.faulty.submit(request, &*memory);
        self.faulty.start();
    }

    fn read(&mut self, tag: u64, sector: u64) {
        self.submit(tag, Operation::Read, sector, 2);
    }

    fn done(&mut self) -> Vec<(u64, bool)> {
        let mut done = Vec::new();
        while let Some(Completion { tag, result }) = self.faulty.poll() {
            done.push((tag, result.is_ok()));
        }
        done
    }
}

const WRITE: Operation = Operation::Write { fua: false };

#[test]
fn error() {
    let mut b = bench("op=write,sector=10-20,action=error,errno=28");
    b.memory.write(0x1000, &[0xAA; 1024]).unwrap();
    b.submit(1, WRITE, 19, 2);
    let failed = Err(BackendError { errno: 28 });
    assert_eq!(b.faulty.poll(), Some(Completion { tag: 1, result: failed }));
    assert_eq!(b.disk.lock().unwrap().data[19 * 512], 19, "not carried out");
    // Beside the range, and another operation.
    b.submit(1, WRITE, 21, 1);
    b.read(2, 10);
    assert_eq!(b.done(), [(1, true), (2, true)]);
    assert_eq!(b.rig.hits(1), (1, 1));
    assert_eq!(b.faulty.in_flight(), 0);
}

#[test]
fn each_strike_is_in_the_trace() {
    let mut b = bench("op=read,action=error");
    b.read(1, 0);
    assert_eq!(
        b.rig.trace.take(),
        ["0.000000000 host virtio-blk.0 fault rule=1: op=read,action=error"]
    );
}

#[test]
fn delay() {
    let mut b = bench("op=read,nth=1,action=delay,time=20ms");
    b.read(1, 0);
    b.read(2, 0);
    assert_eq!(b.done(), [(2, true)]);
    assert_eq!(b.faulty.in_flight(), 1);
    b.rig.pass(19 * MS);
    assert!(b.done().is_empty() && b.rig.target.take().is_empty());
    b.rig.pass(MS);
    assert_eq!(b.rig.target.take(), ["ready"], "the device is told to look");
    assert_eq!(b.done(), [(1, true)]);
}

#[test]
fn drop_holds_a_completion_until_the_device_is_reset() {
    let mut b = bench("sector=5,action=drop");
    b.read(1, 4);
    b.read(2, 6);
    assert_eq!(b.done(), [(2, true)]);
    b.rig.pass(Duration::from_secs(100));
    assert!(b.done().is_empty());
    b.faulty.cancel();
    assert_eq!(b.done(), [(1, false)]);
    assert_eq!(b.faulty.in_flight(), 0);
}

#[test]
fn duplicate_carries_a_request_out_twice_and_completes_it_once() {
    let mut b = bench("op=write,action=duplicate");
    b.submit(1, WRITE, 3, 1);
    assert_eq!(b.done(), [(1, true)]);
    let log = b.disk.lock().unwrap().log.clone();
    assert_eq!(log, [(WRITE, 3 * 512, 512), (WRITE, 3 * 512, 512)]);
    b.read(2, 3);
    assert_eq!(b.done(), [(2, true)]);
    assert_eq!(b.disk.lock().unwrap().log.len(), 3);
}

#[test]
fn reorder_lets_the_next_overtake_and_does_not_wait_for_ever() {
    let mut b = bench("op=read,every=3,action=reorder");
    for tag in 1..=4 {
        b.read(tag, tag);
    }
    assert_eq!(b.done(), [(1, true), (2, true), (4, true), (3, true)]);
    b.read(5, 1);
    b.read(6, 1);
    assert_eq!(b.done(), [(5, true)]);
    b.rig.pass(100 * MS);
    assert_eq!(b.done(), [(6, true)]);
}

#[test]
fn corrupt_flips_one_bit_of_what_is_read() {
    let mut b = bench("op=read,nth=2,action=corrupt,seed=7");
    for tag in 1..=2 {
        b.read(tag, 8);
    }
    assert_eq!(b.done().len(), 2);
    let clean = [[8; 512], [9; 512]].concat();
    assert_eq!(b.memory.dump(0x1000, 1024), clean);
    let wrong = b.memory.dump(0x2000, 1024);
    let bits: u32 = wrong.iter().zip(&clean).map(|(a, b)| (a ^ b).count_ones()).sum();
    assert_eq!(bits, 1);
    assert_eq!(b.disk.lock().unwrap().data[8 * 512..][..1024], clean, "the disk is as it was");
}

#[test]
fn corrupt_writes_half_and_says_it_was_all() {
    let mut b = bench("op=write,action=corrupt");
    b.memory.write(0x1000, &[0xAA; 2048]).unwrap();
    b.submit(1, WRITE, 8, 4);
    b.submit(2, WRITE, 20, 1);
    assert_eq!(b.done(), [(2, true), (1, true)]);
    let disk = b.disk.lock().unwrap();
    assert_eq!(disk.data[8 * 512..10 * 512], [0xAA; 1024]);
    assert_eq!((disk.data[10 * 512], disk.data[20 * 512]), (10, 20));
}

#[test]
fn stick_stops_everything_until_its_time_is_over() {
    let mut b = bench("op=flush,action=stick,time=50ms,count=1");
    b.read(1, 0);
    assert_eq!(b.done(), [(1, true)]);
    b.submit(2, Operation::Flush, 0, 0);
    b.read(3, 0);
    assert!(b.done().is_empty());
    assert_eq!(b.faulty.in_flight(), 2);
    b.rig.pass(50 * MS);
    assert_eq!(b.rig.target.take(), ["ready"]);
    assert_eq!(b.done(), [(2, true), (3, true)]);
}

#[test]
fn stick_ends_with_a_reset_and_with_its_rule() {
    for by_reset in [true, false] {
        let mut b = bench("op=read,action=stick");
        b.read(1, 0);
        assert!(b.done().is_empty());
        match by_reset {
            true => b.faulty.cancel(),
            false => assert!(b.rig.faults.remove(1)),
        }
        assert_eq!(b.done(), [(1, true)]);
        b.rig.pass(MS);
        assert_eq!(b.rig.target.take().is_empty(), by_reset, "all are told to look again");
    }
}

#[test]
fn unplug_pulls_the_device_out_and_lets_the_request_pass() {
    let mut b = bench("op=read,nth=2,action=unplug");
    b.read(1, 0);
    b.rig.pass(MS);
    assert!(!b.rig.site.is_gone());
    b.read(2, 0);
    assert_eq!(b.done(), [(1, true), (2, true)]);
    b.rig.pass(MS);
    assert!(b.rig.site.is_gone(), "the target has no bay: the function goes");
}

/// Which of 60 reads fail.
fn failures(rule: &str) -> Vec<u64> {
    let mut b = bench(rule);
    for tag in 0..60 {
        b.rig.pass(MS);
        b.submit(1, Operation::Read, tag % 60, 1);
        let Some(completion) = b.faulty.poll() else { panic!("{rule}") };
        if completion.result.is_err() {
            b.disk.lock().unwrap().log.push((Operation::Flush, tag, 0));
        }
    }
    let disk = b.disk.lock().unwrap();
    disk.log.iter().filter(|(op, ..)| *op == Operation::Flush).map(|&(_, tag, _)| tag).collect()
}

#[test]
fn turns_are_counted_timed_and_drawn() {
    assert_eq!(failures("op=read,nth=3,action=error"), [2]);
    assert_eq!(failures("op=read,every=20,action=error"), [19, 39, 59]);
    assert_eq!(failures("op=read,nth=5,every=30,action=error"), [4, 34]);
    assert_eq!(failures("op=read,every=10,count=2,action=error"), [9, 19]);
    assert_eq!(failures("op=read,after=55ms,until=57ms,action=error"), [54, 55, 56]);
    assert_eq!(failures("op=read,after=40ms,nth=3,action=error"), [41]);
    assert_eq!(failures("length=1024,op=read,action=error"), [0u64; 0]);
    assert_eq!(failures("device=disk0,length=1-512,nth=1,action=error"), [0]);
    let drawn = |seed| failures(&format!("op=read,probability=25%,seed={seed},action=error"));
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    assert!((5..30).contains(&drawn(1).len()), "{:?}", drawn(1));
}

#[test]
fn a_request_can_pull_a_cable_out() {
    let mut b = bench("on=request,op=read,nth=2,action=link-down");
    b.read(1, 0);
    b.rig.pass(MS);
    assert!(b.rig.target.take().is_empty());
    b.read(2, 0);
    b.rig.pass(MS);
    assert_eq!(b.rig.target.take(), ["link false"]);
}
