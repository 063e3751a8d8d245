//! The AHCI driver's logic on our AHCI model: two disks and a CD-ROM drive, and what tests do with them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use xinim_abi::error::Error;
use xinim_abi::hw::ahci::{self as hw, PORT_BASE, PORT_SIZE};
use xinim_ahci::Hba;
use xinim_block_service::{BlockDevice, Completion, Request};
use xinim_devices::ahci::{Ahci, AhciConfig};
use xinim_devices::backend::{Drive, DriveBays, Medium};
use xinim_devices::pci::PciDevice;
use xinim_devices::testing::{FlatMemory, MemoryDisk, MsiLog};
use xinim_driver_kit::testing::FakeClock;
use xinim_driver_kit::{Clock, Constraints, Dma, SgList, SharedMemory};

use crate::pair::{BarMmio, Machine, RamBuffer, RamDma, ram};

pub const SECTORS: usize = 256;
pub const BUFFER: usize = 16 * 1024;
/// Ports of the rig: two disks and a CD-ROM drive.
pub const FIRST: u32 = 0;
pub const SECOND: u32 = 3;
pub const CD: u32 = 4;

pub type TestHba<'a> = Hba<BarMmio, RamDma, &'a FakeClock>;
pub type SharedDisk = Arc<Mutex<MemoryDisk>>;

pub struct Rig {
    pub machine: Machine,
    pub memory: Arc<FlatMemory>,
    pub model: Arc<Mutex<Ahci>>,
    pub msi: Arc<MsiLog>,
    pub disks: BTreeMap<u32, SharedDisk>,
}

pub fn pattern(seed: usize) -> SharedDisk {
    let mut disk = MemoryDisk::new(SECTORS * 512);
    for (i, byte) in disk.data.iter_mut().enumerate() {
        *byte = (i * 7 + i / 512 + seed) as u8;
    }
    Arc::new(Mutex::new(disk))
}

/// A write to some port's PxCI.
pub fn is_issue(bar: u8, offset: u64) -> bool {
    let base = PORT_BASE as u64;
    bar == hw::ABAR && offset >= base && (offset - base) % PORT_SIZE as u64 == hw::PX_CI as u64
}

pub fn rig_with(change: impl FnOnce(&mut AhciConfig)) -> Rig {
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

pub fn rig() -> Rig {
    rig_with(|_| {})
}

pub fn drive(disk: &SharedDisk, medium: Medium, number: u32) -> Drive {
    Drive { backend: Some(Box::new(Arc::clone(disk))), medium, serial: format!("SERIAL{number}") }
}

impl Rig {
    pub fn start<'a>(&self, clock: &'a FakeClock) -> TestHba<'a> {
        let function = self.machine.fresh_function();
        function.route(0, 0x41).unwrap();
        Hba::start(&function, self.machine.ram.clone(), clock).unwrap()
    }

    pub fn disk(&self, port: u32) -> std::sync::MutexGuard<'_, MemoryDisk> {
        self.disks[&port].lock().unwrap()
    }

    /// Lets the model do what it left, and take up what its disks have finished.
    pub fn work(&self) {
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
    pub fn finish(&self, port: u32, index: usize) -> bool {
        let done = self.disk(port).finish(index, &*self.memory);
        self.work();
        done
    }

    pub fn buffer(&self) -> RamBuffer {
        self.machine.ram.allocate(BUFFER, Constraints::DATA).unwrap()
    }
}

pub fn submit(
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
pub fn settle(hba: &mut TestHba<'_>, rig: &Rig, clock: &FakeClock) -> Vec<Completion> {
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
pub fn run(
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

pub fn works(hba: &mut TestHba<'_>, rig: &Rig, clock: &FakeClock, port: u32) {
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
pub fn interrupt(hba: &mut TestHba<'_>, done: &mut Vec<Completion>) {
    for _ in 0..20 {
        hba.poll(done).unwrap();
        if !hba.arm() {
            return;
        }
    }
    panic!("never idle");
}

/// Handles interrupts and lets time pass until every port knows what it has.
pub fn plugged(hba: &mut TestHba<'_>, rig: &Rig, clock: &FakeClock) -> Vec<Completion> {
    let mut done = Vec::new();
    for _ in 0..40 {
        interrupt(hba, &mut done);
        rig.work();
        clock.advance(5_000_000);
        hba.attend();
    }
    done
}

pub fn clock_ms(clock: &FakeClock) -> u64 {
    clock.now_ns() / 1_000_000
}
