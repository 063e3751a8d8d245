//! The AHCI driver's logic against our AHCI model, in one process: what it finds, every kind of
//! command; drives that fail, hang, come and go; lost commands and interrupts. Random mixes and lies
//! are in `ahci_properties`.

use std::sync::{Arc, Mutex};

use xinim_abi::error::Error;
use xinim_abi::hw::ahci::{self as hw, PORT_BASE};
use xinim_abi::services::block::{flags, info};
use xinim_ahci::HbaError;
use xinim_ahci::port::ATTEMPTS;
use xinim_block_service::{BlockDevice, Completion, Operation, Request};
use xinim_devices::backend::{DriveBays, Medium};
use xinim_devices::testing::MemoryDisk;
use xinim_driver_kit::deadline::{SILENCE_NS, TIMEOUT_NS};
use xinim_driver_kit::testing::FakeClock;
use xinim_driver_kit::{Constraints, Dma, SharedMemory};
use xinim_tests::ahci::{
    CD, FIRST, SECOND, SECTORS, SharedDisk, clock_ms, drive, interrupt, pattern, plugged, rig,
    rig_with, run, settle, submit, works,
};

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

/// A driver that is started again does not wait for drives at ports that were empty.
#[test]
fn a_restart_does_not_wait_for_empty_ports() {
    let (rig, clock) = (rig(), FakeClock::default());
    drop(rig.start(&clock));
    let before = clock_ms(&clock);
    let hba = rig.start(&clock);
    assert!(hba.unit(FIRST).is_some() && hba.unit(CD).is_some());
    let took = clock_ms(&clock) - before;
    assert!(took < 5, "took {took} ms");
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
    let waited = hba.now_ns() - start;
    assert!((SILENCE_NS..TIMEOUT_NS).contains(&waited), "{waited}");
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
