//! The AHCI driver's logic against our AHCI model, in one process: what it finds, every kind of
//! command, all orders of completion; drives that fail, hang, lie, come and go; lost commands and
//! interrupts.

use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use xinim_abi::error::Error;
use xinim_abi::hw::ahci::{self as hw, PORT_BASE, PORT_SIZE};
use xinim_abi::services::block::{flags, info};
use xinim_ahci::port::{ATTEMPTS, TIMEOUT_NS};
use xinim_ahci::{Hba, HbaError};
use xinim_block_service::{BlockDevice, Completion, Operation, Request};
use xinim_devices::ahci::{Ahci, AhciConfig};
use xinim_devices::backend::{Drive, DriveBays, Medium};
use xinim_devices::pci::PciDevice;
use xinim_devices::testing::{FlatMemory, MemoryDisk, MsiLog};
use xinim_driver_kit::pci::PciFunction;
use xinim_driver_kit::testing::FakeClock;
use xinim_driver_kit::{Constraints, Dma, Mmio, SgList, SharedMemory};
use xinim_tests::pair::{BarMmio, Machine, RamBuffer, RamDma, ram};

const SECTORS: usize = 256;
const BUFFERS: usize = 80;
const BUFFER: usize = 16 * 1024;
/// Ports of the rig: two disks and a CD-ROM drive.
const FIRST: u32 = 0;
const SECOND: u32 = 3;
const CD: u32 = 4;

type TestHba<'a> = Hba<BarMmio, RamDma, &'a FakeClock>;
type SharedDisk = Arc<Mutex<MemoryDisk>>;

struct Rig {
    machine: Machine,
    memory: Arc<FlatMemory>,
    model: Arc<Mutex<Ahci>>,
    msi: Arc<MsiLog>,
    disks: BTreeMap<u32, SharedDisk>,
}

fn pattern(seed: usize) -> SharedDisk {
    let mut disk = MemoryDisk::new(SECTORS * 512);
    for (i, byte) in disk.data.iter_mut().enumerate() {
        *byte = (i * 7 + i / 512 + seed) as u8;
    }
    Arc::new(Mutex::new(disk))
}

/// A write to some port's PxCI.
fn is_issue(bar: u8, offset: u64) -> bool {
    let base = PORT_BASE as u64;
    bar == hw::ABAR && offset >= base && (offset - base) % PORT_SIZE as u64 == hw::PX_CI as u64
}

fn rig_with(change: impl FnOnce(&mut AhciConfig)) -> Rig {
    let memory = ram(4096);
    let msi = MsiLog::new();
    let mut setup = AhciConfig::new("ahci.0", memory.clone(), msi.clone());
    change(&mut setup);
    let mut hba = Ahci::new(setup).unwrap();
    let mut disks = BTreeMap::new();
    for (port, medium) in [(FIRST, Medium::Disk), (SECOND, Medium::Disk), (CD, Medium::CdRom)] {
        let disk = pattern(port as usize);
        hba.install(port as u16, drive(&disk, medium, port), None).unwrap();
        disks.insert(port, disk);
    }
    let model = Arc::new(Mutex::new(hba));
    let machine = Machine::with_doorbell(&memory, model.clone(), is_issue);
    Rig { machine, memory, model, msi, disks }
}

fn rig() -> Rig {
    rig_with(|_| {})
}

fn drive(disk: &SharedDisk, medium: Medium, number: u32) -> Drive {
    Drive { backend: Some(Box::new(Arc::clone(disk))), medium, serial: format!("SERIAL{number}") }
}

impl Rig {
    fn start<'a>(&self, clock: &'a FakeClock) -> TestHba<'a> {
        let function = self.machine.fresh_function();
        function.route(0, 0x41).unwrap();
        Hba::start(&function, self.machine.ram.clone(), clock).unwrap()
    }

    fn disk(&self, port: u32) -> std::sync::MutexGuard<'_, MemoryDisk> {
        self.disks[&port].lock().unwrap()
    }

    /// Lets the model do what it left, and take up what its disks have finished.
    fn work(&self) {
        let mut model = self.model.lock().unwrap();
        for _ in 0..100 {
            let more = (0..6).fold(false, |more, port| {
                model.ready(port, &Default::default())
                    | model.notify_queue(port, &Default::default())
                    | more
            });
            if !more {
                return;
            }
        }
    }

    /// The disk carries out one of the requests it holds.
    fn finish(&self, port: u32, index: usize) -> bool {
        let done = self.disk(port).finish(index, &*self.memory);
        self.work();
        done
    }

    fn buffer(&self) -> RamBuffer {
        self.machine.ram.allocate(BUFFER, Constraints::DATA).unwrap()
    }
}

fn submit(
    hba: &mut TestHba<'_>,
    port: u32,
    request: Request,
    buffer: &RamBuffer,
    cookie: u64,
) -> Result<(), Error> {
    let mut list = SgList::new();
    if request.operation.has_data() {
        list.push_buffer(buffer, 0, request.bytes as usize);
    }
    hba.submit(port, &request, list.segments(), cookie)
}

/// Polls until nothing is in flight, time passing as it must; at most for ten minutes.
fn settle(hba: &mut TestHba<'_>, rig: &Rig, clock: &FakeClock) -> Vec<Completion> {
    let mut done = Vec::new();
    let end = hba.now_ns() + 600_000_000_000;
    hba.kick();
    while hba.in_flight() > 0 {
        rig.work();
        hba.poll(&mut done).unwrap();
        hba.kick();
        if hba.in_flight() > 0 {
            let wake = hba.wake_at().expect("something is in flight: there is a limit");
            clock.advance(wake.saturating_sub(hba.now_ns()));
        }
        assert!(hba.now_ns() < end, "it goes on for ever");
    }
    hba.poll(&mut done).unwrap();
    done
}

/// One request to its end.
fn run(
    hba: &mut TestHba<'_>,
    rig: &Rig,
    clock: &FakeClock,
    port: u32,
    request: Request,
    buffer: &RamBuffer,
) -> Result<(), Error> {
    submit(hba, port, request, buffer, 77)?;
    let done = settle(hba, rig, clock);
    assert_eq!(done.len(), 1, "{done:?}");
    assert_eq!(done[0].cookie, 77);
    done[0].result
}

fn works(hba: &mut TestHba<'_>, rig: &Rig, clock: &FakeClock, port: u32) {
    let buffer = rig.buffer();
    buffer.write_bytes(0, &[0xA5; 8192]);
    run(hba, rig, clock, port, Request::write(16, 8192), &buffer).unwrap();
    buffer.write_bytes(0, &[0; 8192]);
    run(hba, rig, clock, port, Request::read(17, 4096), &buffer).unwrap();
    let mut seen = [0; 4096];
    buffer.read_bytes(0, &mut seen);
    assert_eq!(seen, [0xA5; 4096]);
    run(hba, rig, clock, port, Request::flush(), &buffer).unwrap();
}

/// What an interrupt handler does: arm until there is nothing left, polling in between.
fn interrupt(hba: &mut TestHba<'_>, done: &mut Vec<Completion>) {
    for _ in 0..20 {
        hba.poll(done).unwrap();
        if !hba.arm() {
            return;
        }
    }
    panic!("never idle");
}

#[test]
fn finds_what_is_at_the_ports() {
    for staggered in [false, true] {
        let rig = rig_with(|setup| {
            setup.staggered_spin_up = staggered;
            setup.bios_owned = true;
        });
        let clock = FakeClock::default();
        let hba = rig.start(&clock);
        let present: Vec<u32> = (0..32).filter(|&unit| hba.unit(unit).is_some()).collect();
        assert_eq!(present, [FIRST, SECOND, CD], "staggered: {staggered}");
        let disk = hba.unit(FIRST).unwrap();
        assert_eq!((disk.sectors, disk.block_size, disk.depth), (SECTORS as u64, 512, 32));
        assert!(disk.has(info::WRITE_CACHE));
        assert_eq!(disk.serial.as_str(), "SERIAL0");
        assert!(disk.limits.max_discard > 0);
        let cd = hba.unit(CD).unwrap();
        assert_eq!((cd.sectors, cd.block_size), (SECTORS as u64, 2048));
        assert!(cd.has(info::CD_ROM) && cd.has(info::READ_ONLY));
        assert_eq!(rig.machine.resets(), 1);
        assert!(clock_ms(&clock) < 5000, "took {} ms", clock_ms(&clock));
    }
}

fn clock_ms(clock: &FakeClock) -> u64 {
    use xinim_driver_kit::Clock;
    clock.now_ns() / 1_000_000
}

#[test]
fn reads_writes_flushes_and_trims() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut hba = rig.start(&clock);
    for port in [FIRST, SECOND] {
        works(&mut hba, &rig, &clock, port);
        assert_eq!(rig.disk(port).flushes, 1);
        assert_eq!(rig.disk(port).data[16 * 512..32 * 512], [0xA5; 8192]);
    }
    let buffer = rig.buffer();
    let trim = Request { operation: Operation::Discard, sector: 40, bytes: 5 * 512, flags: 0 };
    run(&mut hba, &rig, &clock, FIRST, trim, &buffer).unwrap();
    let seen = rig.disk(FIRST).log.iter().any(|(operation, offset, length)| {
        *operation == xinim_devices::backend::Operation::Discard
            && (*offset, *length) == (40 * 512, 5 * 512)
    });
    assert!(seen, "{:?}", rig.disk(FIRST).log);
    if hba.unit(FIRST).unwrap().has(info::FUA) {
        let fua = Request { flags: flags::FUA, ..Request::write(3, 512) };
        run(&mut hba, &rig, &clock, FIRST, fua, &buffer).unwrap();
        let fua = xinim_devices::backend::Operation::Write { fua: true };
        assert!(rig.disk(FIRST).log.contains(&(fua, 3 * 512, 512)));
    }
    // The whole disk in its longest request, from scattered pages.
    let whole = rig.machine.ram.allocate(SECTORS * 512, Constraints::DATA).unwrap();
    let all = Request::read(0, (SECTORS * 512) as u32);
    run(&mut hba, &rig, &clock, SECOND, all, &whole).unwrap();
    let mut seen = vec![0; SECTORS * 512];
    whole.read_bytes(0, &mut seen);
    assert_eq!(seen, rig.disk(SECOND).data);
    assert_eq!(hba.statistics(SECOND).unwrap().restarts, 0);
}

#[test]
fn interrupts_come_when_armed_and_stay_away_while_polling() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut hba = rig.start(&clock);
    let mut done = Vec::new();
    interrupt(&mut hba, &mut done);
    rig.msi.take();
    let buffer = rig.buffer();
    submit(&mut hba, FIRST, Request::read(0, 512), &buffer, 1).unwrap();
    hba.kick();
    rig.work();
    let signals = rig.msi.take();
    assert_eq!(signals.len(), 1, "{signals:?}");
    assert_eq!(signals[0].1.data, 0x41);
    hba.poll(&mut done).unwrap();
    // The cause is still pending: no further message.
    submit(&mut hba, FIRST, Request::read(0, 512), &buffer, 2).unwrap();
    hba.kick();
    rig.work();
    assert!(rig.msi.take().is_empty());
    interrupt(&mut hba, &mut done);
    assert_eq!(done.len(), 2);
    submit(&mut hba, SECOND, Request::flush(), &buffer, 3).unwrap();
    hba.kick();
    rig.work();
    assert_eq!(rig.msi.take().len(), 1);
}

#[test]
fn thirty_two_at_once_with_one_doorbell_and_any_order_back() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut hba = rig.start(&clock);
    rig.disk(FIRST).held = true;
    let before = hba.statistics(FIRST).unwrap().batches;
    let buffers: Vec<_> = (0..32).map(|_| rig.buffer()).collect();
    for (i, buffer) in buffers.iter().enumerate() {
        submit(&mut hba, FIRST, Request::read(i as u64, 512), buffer, i as u64).unwrap();
    }
    let full = submit(&mut hba, FIRST, Request::read(0, 512), &buffers[0], 99);
    assert_eq!(full, Err(Error::Again));
    hba.kick();
    assert_eq!(hba.statistics(FIRST).unwrap().batches - before, 1);
    assert_eq!(rig.disk(FIRST).pending.len(), 32, "the drive has them all");
    let mut done = Vec::new();
    for i in 0..32usize {
        assert!(rig.finish(FIRST, i * 13 % (32 - i)));
        hba.poll(&mut done).unwrap();
        assert_eq!(done.len(), i + 1, "each when it ends");
    }
    let order: Vec<u64> = done.iter().map(|c| c.cookie).collect();
    assert!(order.windows(2).any(|w| w[0] > w[1]), "out of order: {order:?}");
    for (i, buffer) in buffers.iter().enumerate() {
        let mut seen = [0; 512];
        buffer.read_bytes(0, &mut seen);
        assert_eq!(seen[..], rig.disk(FIRST).data[i * 512..(i + 1) * 512]);
    }
}

/// A flush waits for queued commands and they for it.
#[test]
fn queued_and_other_commands_do_not_mix() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut hba = rig.start(&clock);
    rig.disk(FIRST).held = true;
    let buffer = rig.buffer();
    submit(&mut hba, FIRST, Request::write(0, 512), &buffer, 1).unwrap();
    submit(&mut hba, FIRST, Request::flush(), &buffer, 2).unwrap();
    submit(&mut hba, FIRST, Request::write(9, 512), &buffer, 3).unwrap();
    let mut done = Vec::new();
    for expected in 1..=3 {
        hba.kick();
        rig.work();
        assert_eq!(rig.disk(FIRST).pending.len(), 1);
        rig.finish(FIRST, 0);
        hba.poll(&mut done).unwrap();
        assert_eq!(done.last().unwrap().cookie, expected);
    }
}

/// Without NCQ in the HBA: DMA commands, several in the list.
#[test]
fn falls_back_to_dma() {
    let (rig, clock) = (rig(), FakeClock::default());
    rig.machine.lie(Some(Box::new(|offset, value| match offset {
        0 => value & !u64::from(hw::Cap::SNCQ.bits()),
        _ => value,
    })));
    let mut hba = rig.start(&clock);
    works(&mut hba, &rig, &clock, FIRST);
    let buffer = rig.buffer();
    for cookie in 0..10 {
        submit(&mut hba, FIRST, Request::read(cookie, 512), &buffer, cookie).unwrap();
    }
    let before = hba.statistics(FIRST).unwrap().batches;
    assert_eq!(settle(&mut hba, &rig, &clock).len(), 10);
    assert_eq!(hba.statistics(FIRST).unwrap().batches - before, 1);
    rig.disk(FIRST).failing = true;
    let failed = run(&mut hba, &rig, &clock, FIRST, Request::read(1, 512), &buffer);
    assert_eq!(failed, Err(Error::Io));
    rig.disk(FIRST).failing = false;
    works(&mut hba, &rig, &clock, FIRST);
}

#[test]
fn impossible_requests_never_reach_the_drive() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut hba = rig.start(&clock);
    let buffer = rig.buffer();
    for (port, request, error) in [
        (FIRST, Request::read(SECTORS as u64, 512), Error::Inval),
        (FIRST, Request::write(u64::MAX, 512), Error::Inval),
        (FIRST, Request::read(0, 100), Error::Inval),
        (FIRST, Request::read(0, 0), Error::Inval),
        (CD, Request::read(0, 512), Error::Inval),
        (CD, Request::write(0, 2048), Error::RoFs),
        (1, Request::read(0, 512), Error::NxIo),
        (40, Request::read(0, 512), Error::NxIo),
    ] {
        assert_eq!(submit(&mut hba, port, request, &buffer, 0), Err(error), "{request:?}");
    }
    assert_eq!(hba.in_flight(), 0);
}

/// One bad command among many: the error log names it, the others are sent again and end well.
#[test]
fn an_error_harms_only_the_request_it_belongs_to() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut hba = rig.start(&clock);
    rig.disk(FIRST).held = true;
    let buffers: Vec<_> = (0..8).map(|_| rig.buffer()).collect();
    for (i, buffer) in buffers.iter().enumerate() {
        submit(&mut hba, FIRST, Request::read(i as u64, 512), buffer, i as u64).unwrap();
    }
    hba.kick();
    let mut done = Vec::new();
    for round in 0..ATTEMPTS {
        // The drive fails the read of sector 5, wherever it is by now.
        let at = rig.disk(FIRST).pending.iter().position(|r| r.offset == 5 * 512).unwrap();
        rig.disk(FIRST).failing = true;
        rig.finish(FIRST, at);
        rig.disk(FIRST).failing = false;
        // What the drive gave up must end at the host before the port is at rest.
        while !rig.disk(FIRST).pending.is_empty() && round + 1 < ATTEMPTS {
            rig.finish(FIRST, 0);
        }
        if round + 1 == ATTEMPTS {
            rig.disk(FIRST).held = false;
            while rig.finish(FIRST, 0) {}
        }
        for _ in 0..10 {
            interrupt(&mut hba, &mut done);
            rig.work();
        }
        hba.kick();
        rig.work();
    }
    done.extend(settle(&mut hba, &rig, &clock));
    done.sort_by_key(|c| c.cookie);
    assert_eq!(done.len(), 8);
    for completion in done {
        let expected = if completion.cookie == 5 { Err(Error::Io) } else { Ok(()) };
        assert_eq!(completion.result, expected, "{completion:?}");
    }
    let statistics = hba.statistics(FIRST).unwrap();
    assert_eq!(statistics.restarts, u64::from(ATTEMPTS));
    assert_eq!(statistics.resets, 0, "the log was enough");
    works(&mut hba, &rig, &clock, FIRST);
}

#[test]
fn an_error_that_goes_away_is_nobodys_business() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut hba = rig.start(&clock);
    let buffer = rig.buffer();
    for request in [Request::read(4, 512), Request::write(4, 512), Request::flush()] {
        rig.disk(FIRST).failing = true;
        submit(&mut hba, FIRST, request, &buffer, 1).unwrap();
        hba.kick();
        rig.work();
        rig.disk(FIRST).failing = false;
        let done = settle(&mut hba, &rig, &clock);
        assert_eq!(done, [Completion { cookie: 1, result: Ok(()) }], "{request:?}");
    }
}

#[test]
fn a_lost_interrupt_costs_a_second_not_more() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut hba = rig.start(&clock);
    let buffer = rig.buffer();
    submit(&mut hba, FIRST, Request::read(0, 512), &buffer, 1).unwrap();
    hba.kick();
    rig.work();
    rig.msi.take();
    let waited = hba.wake_at().unwrap() - hba.now_ns();
    assert!(waited <= 1_000_000_000, "{waited}");
    clock.advance(waited);
    let mut done = Vec::new();
    hba.attend();
    hba.poll(&mut done).unwrap();
    assert_eq!(done.len(), 1);
}

#[test]
fn a_lost_command_is_sent_again_after_a_comreset_and_given_up_in_the_end() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut hba = rig.start(&clock);
    let buffer = rig.buffer();
    rig.machine.defer_doorbells(true);
    submit(&mut hba, FIRST, Request::read(3, 512), &buffer, 5).unwrap();
    hba.kick();
    rig.machine.lose_doorbells();
    rig.machine.defer_doorbells(false);
    let start = hba.now_ns();
    let done = settle(&mut hba, &rig, &clock);
    assert_eq!(done, [Completion { cookie: 5, result: Ok(()) }]);
    assert!(hba.now_ns() - start >= TIMEOUT_NS);
    assert_eq!(hba.statistics(FIRST).unwrap().resets, 1);
    assert_eq!((hba.instance(FIRST), hba.unit(FIRST).is_some()), (1, true), "the same drive");
    works(&mut hba, &rig, &clock, FIRST);
}

/// A drive that answers nothing any more: an end after a bounded number of COMRESETs; the other
/// drive does not care.
#[test]
fn a_dead_drive_is_given_up() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut hba = rig.start(&clock);
    let buffer = rig.buffer();
    submit(&mut hba, FIRST, Request::read(3, 512), &buffer, 5).unwrap();
    submit(&mut hba, FIRST, Request::flush(), &buffer, 6).unwrap();
    // Its task file says busy from now on, and the link is there.
    let tfd = (PORT_BASE + hw::PX_TFD) as u64;
    rig.machine.defer_doorbells(true);
    hba.kick();
    rig.machine.lose_doorbells();
    rig.machine.defer_doorbells(false);
    rig.machine.lie(Some(Box::new(move |offset, value| if offset == tfd { 0x80 } else { value })));
    let mut done = settle(&mut hba, &rig, &clock);
    done.sort_by_key(|c| c.cookie);
    assert_eq!(done.iter().map(|c| c.result).collect::<Vec<_>>(), [Err(Error::Io); 2]);
    assert!(hba.unit(FIRST).is_none());
    assert_eq!(hba.statistics(FIRST).unwrap().resets, 3);
    rig.machine.lie(None);
    works(&mut hba, &rig, &clock, SECOND);
    // Another one in its place.
    let other = pattern(9);
    let mut model = rig.model.lock().unwrap();
    model.detach(FIRST as u16, &Default::default()).unwrap();
    model.attach(FIRST as u16, drive(&other, Medium::Disk, 9), &Default::default()).unwrap();
    drop(model);
    plugged(&mut hba, &rig, &clock);
    assert_eq!(hba.unit(FIRST).unwrap().serial.as_str(), "SERIAL9");
}

/// Handles interrupts and lets time pass until every port knows what it has.
fn plugged(hba: &mut TestHba<'_>, rig: &Rig, clock: &FakeClock) -> Vec<Completion> {
    let mut done = Vec::new();
    for _ in 0..40 {
        interrupt(hba, &mut done);
        rig.work();
        clock.advance(5_000_000);
        hba.attend();
    }
    done
}

#[test]
fn torn_away_and_plugged_in_again() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut hba = rig.start(&clock);
    let generation = hba.generation();
    let buffer = rig.buffer();
    rig.disk(FIRST).held = true;
    for cookie in 0..5 {
        submit(&mut hba, FIRST, Request::write(cookie, 512), &buffer, cookie).unwrap();
    }
    submit(&mut hba, SECOND, Request::write(7, 512), &buffer, 9).unwrap();
    hba.kick();
    interrupt(&mut hba, &mut Vec::new());
    rig.msi.take();
    rig.model.lock().unwrap().detach(FIRST as u16, &Default::default()).unwrap();
    assert_eq!(rig.msi.take().len(), 1, "the removal interrupts");
    rig.disk(FIRST).held = false;
    while rig.finish(FIRST, 0) {}
    let mut done = plugged(&mut hba, &rig, &clock);
    done.sort_by_key(|c| c.cookie);
    let lost: Vec<_> = done.iter().filter(|c| c.cookie < 5).map(|c| c.result).collect();
    assert_eq!(lost, [Err(Error::NxIo); 5]);
    assert!(hba.unit(FIRST).is_none() && hba.generation() > generation);
    assert_eq!(hba.instance(FIRST), 2);
    assert_eq!(submit(&mut hba, FIRST, Request::read(0, 512), &buffer, 1), Err(Error::NxIo));
    works(&mut hba, &rig, &clock, SECOND);
    let disk = &rig.disks[&FIRST];
    let again = drive(disk, Medium::Disk, 0);
    rig.model.lock().unwrap().attach(FIRST as u16, again, &Default::default()).unwrap();
    plugged(&mut hba, &rig, &clock);
    assert_eq!(hba.unit(FIRST).unwrap().serial.as_str(), "SERIAL0");
    assert_eq!(hba.instance(FIRST), 3);
    works(&mut hba, &rig, &clock, FIRST);
}

/// Exchanged faster than the driver looks: what was asked of the old drive never reaches the new.
#[test]
fn exchanged_in_a_blink() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut hba = rig.start(&clock);
    let buffer = rig.buffer();
    rig.machine.defer_doorbells(true);
    submit(&mut hba, FIRST, Request::write(0, 512), &buffer, 1).unwrap();
    hba.kick();
    rig.machine.lose_doorbells();
    rig.machine.defer_doorbells(false);
    submit(&mut hba, FIRST, Request::write(1, 512), &buffer, 2).unwrap();
    let other = pattern(5);
    let before = other.lock().unwrap().data.clone();
    let mut model = rig.model.lock().unwrap();
    model.detach(FIRST as u16, &Default::default()).unwrap();
    model.attach(FIRST as u16, drive(&other, Medium::Disk, 0), &Default::default()).unwrap();
    drop(model);
    let mut done = plugged(&mut hba, &rig, &clock);
    done.sort_by_key(|c| c.cookie);
    let results: Vec<_> = done.iter().map(|c| c.result).collect();
    assert_eq!(results, [Err(Error::NxIo); 2]);
    assert!(hba.unit(FIRST).is_some());
    assert!(hba.instance(FIRST) > 1);
    assert!(other.lock().unwrap().data == before);
}

#[test]
fn a_cd_is_read_ejected_and_exchanged() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut hba = rig.start(&clock);
    let buffer = rig.buffer();
    run(&mut hba, &rig, &clock, CD, Request::read(8, 8192), &buffer).unwrap();
    let mut seen = [0; 8192];
    buffer.read_bytes(0, &mut seen);
    assert_eq!(seen[..], rig.disk(CD).data[8 * 512..24 * 512]);
    let instance = hba.instance(CD);
    rig.model.lock().unwrap().eject(CD as u16, true, &Default::default()).unwrap();
    let gone = run(&mut hba, &rig, &clock, CD, Request::read(8, 2048), &buffer);
    assert_eq!(gone, Err(Error::NxIo));
    assert_eq!(hba.unit(CD).unwrap().sectors, 0);
    assert!(hba.instance(CD) > instance);
    // Nobody asks for anything: the drive is asked for its medium now and then.
    let disc: SharedDisk = Arc::new(Mutex::new(MemoryDisk::new(2048 * 10)));
    let inserted = Box::new(Arc::clone(&disc));
    rig.model.lock().unwrap().insert(CD as u16, inserted, &Default::default()).unwrap();
    let (mut done, instance) = (Vec::new(), hba.instance(CD));
    for _ in 0..20 {
        let wake = hba.wake_at().expect("the medium is watched");
        clock.advance(wake.saturating_sub(hba.now_ns()));
        hba.attend();
        hba.poll(&mut done).unwrap();
        rig.work();
    }
    assert_eq!(hba.unit(CD).unwrap().sectors, 40);
    assert!(hba.instance(CD) > instance);
    run(&mut hba, &rig, &clock, CD, Request::read(36, 2048), &buffer).unwrap();
}

#[test]
fn a_new_driver_takes_over_and_the_old_ones_memory_is_left_alone() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut old = rig.start(&clock);
    let buffer = rig.buffer();
    rig.machine.defer_doorbells(true);
    submit(&mut old, FIRST, Request::read(1, 512), &buffer, 1).unwrap();
    old.kick();
    rig.machine.lose_doorbells();
    rig.machine.defer_doorbells(false);
    // The old driver is gone without a word, PxSACT set and its addresses in the registers.
    let mut new = rig.start(&clock);
    works(&mut new, &rig, &clock, FIRST);
    let mut seen = [1; 512];
    buffer.read_bytes(0, &mut seen);
    assert_eq!(seen, [0; 512]);
}

/// A host request that never ends keeps the port's DMA engine running: nobody may have that memory, so
/// the driver ends instead of going on.
#[test]
fn a_port_that_does_not_stop_ends_the_driver() {
    let (rig, clock) = (rig(), FakeClock::default());
    let mut hba = rig.start(&clock);
    let buffer = rig.buffer();
    rig.disk(FIRST).held = true;
    submit(&mut hba, FIRST, Request::read(1, 512), &buffer, 1).unwrap();
    hba.kick();
    clock.advance(TIMEOUT_NS);
    hba.attend();
    let mut done = Vec::new();
    assert_eq!(hba.poll(&mut done), Err(HbaError::PortStuck(FIRST as u8)));
    assert!(done.is_empty(), "the request is nobody's until the next driver's reset");
}

#[derive(Clone, Debug)]
enum Step {
    Submit {
        port: u32,
        write: bool,
        sector: u64,
        sectors: usize,
    },
    Flush(u32),
    Kick,
    Finish(u32, usize),
    Poll,
    Interrupt,
    /// The next request that the disk carries out fails.
    Fail(u32, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let port = || prop_oneof![Just(FIRST), Just(SECOND)];
    let step = prop_oneof![
        10 => (port(), any::<bool>(), 0..SECTORS as u64, 1usize..=32).prop_map(
            |(port, write, sector, sectors)| Step::Submit { port, write, sector, sectors }),
        1 => port().prop_map(Step::Flush),
        4 => Just(Step::Kick),
        6 => (port(), 0usize..40).prop_map(|(port, index)| Step::Finish(port, index)),
        3 => Just(Step::Poll),
        2 => Just(Step::Interrupt),
        1 => (port(), 0usize..40).prop_map(|(port, index)| Step::Fail(port, index)),
    ];
    prop::collection::vec(step, 1..250)
}

/// What a test knows of a request in flight.
struct Pending {
    port: u32,
    write: bool,
    sector: u64,
    data: Vec<u8>,
    buffer: usize,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Any mix on two drives, any order of completion, queued or not, commands that fail now and then:
    /// every request ends once; where it ends well, the drive holds what was written and the memory
    /// what was read.
    #[test]
    fn every_mix_ends(steps in steps(), queuing: bool) {
        let rig = rig();
        let clock = FakeClock::default();
        rig.machine.lie((!queuing).then(|| -> Box<dyn FnMut(u64, u64) -> u64> {
            Box::new(|offset, value| match offset {
                0 => value & !u64::from(hw::Cap::SNCQ.bits()),
                _ => value,
            })
        }));
        let mut hba = rig.start(&clock);
        for port in [FIRST, SECOND] {
            rig.disk(port).held = true;
        }
        let mut expected: BTreeMap<u32, Vec<u8>> =
            [FIRST, SECOND].map(|port| (port, rig.disk(port).data.clone())).into();
        let buffers: Vec<_> = (0..BUFFERS).map(|_| rig.buffer()).collect();
        let mut free: Vec<usize> = (0..BUFFERS).collect();
        let mut pending: BTreeMap<u64, Pending> = BTreeMap::new();
        let mut done = Vec::new();
        let mut cookie = 0u64;
        let finish = |done: &mut Vec<Completion>,
                          pending: &mut BTreeMap<u64, Pending>,
                          free: &mut Vec<usize>,
                          expected: &mut BTreeMap<u32, Vec<u8>>| {
            for completion in done.drain(..) {
                let request = pending.remove(&completion.cookie).expect("completed twice");
                free.push(request.buffer);
                let range = request.sector as usize * 512..request.sector as usize * 512
                    + request.data.len();
                match completion.result {
                    Ok(()) if request.write => {}
                    Ok(()) => {
                        let mut seen = vec![0; request.data.len()];
                        buffers[request.buffer].read_bytes(0, &mut seen);
                        assert_eq!(seen, request.data);
                    }
                    // Written or not: what the drive says now is what it is.
                    Err(Error::Io) if request.write && !request.data.is_empty() => {
                        let now = rig.disk(request.port).data[range.clone()].to_vec();
                        expected.get_mut(&request.port).unwrap()[range].copy_from_slice(&now);
                    }
                    Err(error) => assert_eq!(error, Error::Io),
                }
            }
        };
        for step in steps {
            match step {
                Step::Submit { port, write, sector, sectors } => {
                    let sectors = sectors.min(SECTORS - sector as usize);
                    let end = sector + sectors as u64;
                    let clash = pending.values().any(|p| {
                        let p_end = p.sector + (p.data.len() / 512) as u64;
                        p.port == port && (write || p.write) && p.sector < end && sector < p_end
                    });
                    if clash {
                        continue;
                    }
                    let Some(buffer) = free.pop() else { continue };
                    let range = sector as usize * 512..end as usize * 512;
                    let bytes = (sectors * 512) as u32;
                    let mut data = expected[&port][range.clone()].to_vec();
                    if write {
                        data.fill((cookie as u8).wrapping_mul(31).wrapping_add(1));
                        buffers[buffer].write_bytes(0, &data);
                    }
                    let request =
                        if write { Request::write(sector, bytes) } else { Request::read(sector, bytes) };
                    match submit(&mut hba, port, request, &buffers[buffer], cookie) {
                        Ok(()) => {
                            if write {
                                expected.get_mut(&port).unwrap()[range].copy_from_slice(&data);
                            }
                            pending.insert(cookie, Pending { port, write, sector, data, buffer });
                        }
                        Err(error) => {
                            prop_assert_eq!(error, Error::Again);
                            free.push(buffer);
                        }
                    }
                    cookie += 1;
                }
                Step::Flush(port) => {
                    let Some(buffer) = free.pop() else { continue };
                    match submit(&mut hba, port, Request::flush(), &buffers[buffer], cookie) {
                        Ok(()) => {
                            let data = Vec::new();
                            let flush = Pending { port, write: true, sector: 0, data, buffer };
                            pending.insert(cookie, flush);
                        }
                        Err(_) => free.push(buffer),
                    }
                    cookie += 1;
                }
                Step::Kick => hba.kick(),
                Step::Finish(port, index) => {
                    rig.finish(port, index);
                }
                Step::Fail(port, index) => {
                    rig.disk(port).failing = true;
                    rig.finish(port, index);
                    rig.disk(port).failing = false;
                    // The host ends what the drive has given up, or the port never stops.
                    while rig.finish(port, 0) {}
                }
                Step::Poll => hba.poll(&mut done).unwrap(),
                Step::Interrupt => interrupt(&mut hba, &mut done),
            }
            finish(&mut done, &mut pending, &mut free, &mut expected);
        }
        for port in [FIRST, SECOND] {
            rig.disk(port).held = false;
            while rig.finish(port, 0) {}
        }
        done = settle(&mut hba, &rig, &clock);
        finish(&mut done, &mut pending, &mut free, &mut expected);
        prop_assert!(pending.is_empty(), "{} lost", pending.len());
        for (port, expected) in &expected {
            prop_assert!(&rig.disk(*port).data == expected, "port {port}");
            prop_assert_eq!(rig.disk(*port).violations, 0);
        }
        rig.machine.lie(None);
    }

    /// Registers that read as anything: an error or a working driver, never a panic or a hang.
    #[test]
    fn lies_in_registers_are_survived(
        lies in prop::collection::vec(prop::option::weighted(0.1, any::<u64>()), 1..80)
    ) {
        let (rig, clock) = (rig(), FakeClock::default());
        let mut lies = lies.into_iter().cycle();
        let mut reads = 0;
        rig.machine.lie(Some(Box::new(move |_, value| {
            reads += 1;
            lies.next().flatten().filter(|_| reads < 2000).unwrap_or(value)
        })));
        let function = rig.machine.fresh_function();
        let started = Hba::start(&function, rig.machine.ram.clone(), &clock);
        prop_assert!(clock_ms(&clock) < 120_000, "waited {} ms", clock_ms(&clock));
        if let Ok(mut hba) = started {
            let buffer = rig.buffer();
            let _ = submit(&mut hba, FIRST, Request::read(0, 4096), &buffer, 1);
            let mut done = Vec::new();
            for _ in 0..50 {
                hba.kick();
                if hba.poll(&mut done).is_err() {
                    break;
                }
                hba.arm();
                clock.advance(1_000_000_000);
                hba.attend();
                rig.work();
            }
            prop_assert!(done.len() <= 1);
        }
        rig.machine.lie(None);
        let mut hba = rig.start(&clock);
        works(&mut hba, &rig, &clock, FIRST);
    }

    /// Whatever was written to the registers before, the driver takes the HBA over.
    #[test]
    fn starts_from_any_state(writes in prop::collection::vec(
        (0usize..hw::abar_size(6) / 4, any::<u32>()), 0..80))
    {
        let (rig, clock) = (rig(), FakeClock::default());
        let registers = rig.machine.fresh_function().bar(hw::ABAR).unwrap();
        for (register, value) in writes {
            registers.write32(4 * register, value);
        }
        rig.work();
        let mut hba = rig.start(&clock);
        works(&mut hba, &rig, &clock, FIRST);
        works(&mut hba, &rig, &clock, SECOND);
    }
}
