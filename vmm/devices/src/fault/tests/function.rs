//! Registers, doorbells and disappearance, on a bus with a virtio disk.

use super::*;
use crate::ahci::{Ahci, AhciConfig};
use crate::bus::{Bus, Space, lock};
use crate::device::{Access, Op};
use crate::dma::Dma;
use crate::e1000::{E1000, E1000Config};
use crate::net::NoNet;
use crate::pci::PciDevice;
use crate::testing::{FlatMemory, MemoryDisk, MsiLog};
use crate::virtio::{Block, BlockConfig, VirtioConfig, VirtioPci};
use xinim_abi::hw::e1000::Model;
use xinim_abi::hw::pci::{self, Bdf, Command};
use xinim_abi::hw::register::find;
use xinim_abi::hw::virtio::common;

struct Bench {
    rig: Rig,
    bus: Bus,
    at: u64,
    bdf: Bdf,
}

type Function = Arc<Mutex<VirtioPci<Block<MemoryDisk>>>>;

fn function(rig: &Rig) -> Function {
    let memory = FlatMemory::new(0, 0x1_0000);
    let dma = Arc::new(FaultDma::new(memory, rig.site.clone()));
    let setup = VirtioConfig::new("virtio-blk.0", dma, MsiLog::new());
    let block = Block::new(MemoryDisk::new(4096), &BlockConfig::default());
    Arc::new(Mutex::new(VirtioPci::new(block, setup).expect("fits")))
}

fn bench(rule: &str) -> Bench {
    let rig = Rig::new(&["virtio-blk.0", "disk0"]);
    let mut bus = Bus::new(Tracer::off());
    bus.set_faults(rig.faults.clone());
    let device = function(&rig);
    let bdf = bus.add_pci(device.clone()).unwrap();
    bus.assign_bars().unwrap();
    let at = u64::from(lock(&device).config().get(pci::BAR0, 4) & !0xF);
    rig.add(rule);
    Bench { rig, bus, at, bdf }
}

impl Bench {
    fn read(&self, offset: usize, size: u8) -> u64 {
        let at = self.at + offset as u64;
        self.bus.access(Origin::default(), Space::Mmio, at, size, Op::Read).value
    }

    fn write(&self, offset: usize, size: u8, value: u64) {
        let at = self.at + offset as u64;
        self.bus.access(Origin::default(), Space::Mmio, at, size, Op::Write(value));
    }

    fn config(&self, offset: usize, size: u8, op: Op) -> u64 {
        let at = self.bdf.ecam_offset() + offset as u64;
        self.bus.access(Origin::default(), Space::Config, at, size, op).value
    }

    fn ring(&self, queue: usize) -> bool {
        self.bus.doorbell(self.bdf, queue as u16)
    }
}

const SELECT: usize = common::QUEUE_SELECT;

#[test]
fn error_reads_as_ones_and_loses_writes() {
    let b = bench("register=queue_select,action=error");
    b.write(SELECT, 2, 1);
    assert_eq!(b.read(SELECT, 2), 0xFFFF);
    assert_eq!(b.read(common::NUM_QUEUES, 2), 1, "another register");
    assert_eq!(b.rig.hits(1), (2, 2));
    b.rig.faults.clear();
    assert_eq!(b.read(SELECT, 2), 0);
}

#[test]
fn drop_loses_writes_of_a_value() {
    let b = bench("register=queue_select,op=write,value=3-5,action=drop");
    b.write(SELECT, 2, 4);
    assert_eq!(b.read(SELECT, 2), 0);
    b.write(SELECT, 2, 6);
    assert_eq!(b.read(SELECT, 2), 6);
}

#[test]
fn corrupt_flips_one_bit() {
    let b = bench("register=queue_select,nth=2,every=2,action=corrupt");
    b.write(SELECT, 2, 4);
    assert_eq!((b.read(SELECT, 2) ^ 4).count_ones(), 1);
    assert_eq!(b.read(SELECT, 2), 4);
    b.write(SELECT, 2, 4);
    b.rig.faults.clear();
    assert_eq!((b.read(SELECT, 2) ^ 4).count_ones(), 1, "what was written");
}

#[test]
fn duplicate_does_it_twice() {
    let b = bench("register=device_status,op=write,action=duplicate");
    // The second time it is the same write: nothing to be seen but that it was taken.
    b.write(common::DEVICE_STATUS, 1, 1);
    assert_eq!(b.read(common::DEVICE_STATUS, 1), 1);
    assert_eq!(b.rig.hits(1), (1, 1));
}

#[test]
fn stick_keeps_the_value_until_the_device_is_reset() {
    let b = bench("register=queue_select,op=read,count=1,action=stick");
    b.write(SELECT, 2, 4);
    assert_eq!(b.read(SELECT, 2), 4);
    b.write(SELECT, 2, 7);
    assert_eq!(b.read(SELECT, 2), 4);
    assert_eq!(b.read(common::NUM_QUEUES, 2), 1);
    b.write(common::DEVICE_STATUS, 1, 0);
    b.write(SELECT, 2, 7);
    assert_eq!(b.read(SELECT, 2), 7);
}

#[test]
fn stick_ends_when_bus_mastering_is_switched_off() {
    let b = bench("queue=0,action=stick,count=1");
    let command = (Command::MEMORY_SPACE | Command::BUS_MASTER).bits();
    b.config(pci::COMMAND, 2, Op::Write(command.into()));
    assert!(!b.ring(0) && !b.ring(0));
    assert!(b.ring(1), "another queue");
    b.config(pci::COMMAND, 2, Op::Write(Command::MEMORY_SPACE.bits().into()));
    assert!(b.ring(0));
}

#[test]
fn doorbells_are_lost_late_or_doubled() {
    let b = bench("queue=0,nth=2,action=drop");
    assert_eq!((b.ring(0), b.ring(0), b.ring(0), b.ring(1)), (true, false, true, true));
    let b = bench("queue=0,nth=1,action=delay,time=5ms");
    assert_eq!((b.ring(0), b.ring(0)), (false, true));
    b.rig.pass(4 * MS);
    assert!(b.rig.target.take().is_empty());
    b.rig.pass(MS);
    assert_eq!(b.rig.target.take(), ["notify 0"]);
    let b = bench("queue=1,action=duplicate,time=1ms");
    assert_eq!((b.ring(0), b.ring(1)), (true, true));
    b.rig.pass(MS);
    assert_eq!(b.rig.target.take(), ["notify 1"]);
}

#[test]
fn doorbells_that_come_as_accesses_are_doorbells() {
    let b = bench("queue=0,action=drop");
    b.write(0x3000, 2, 0);
    b.write(0x3004, 2, 1);
    assert_eq!(b.rig.hits(1), (1, 1));
}

#[test]
fn unplug_leaves_nothing_behind() {
    let b = bench("register=queue_select,op=write,value=9,action=unplug");
    b.write(SELECT, 2, 8);
    b.rig.pass(MS);
    assert_eq!(b.config(0, 2, Op::Read), 0x1AF4);
    b.write(SELECT, 2, 9);
    b.rig.pass(MS);
    assert_eq!(b.config(0, 2, Op::Read), 0xFFFF);
    assert_eq!(b.read(SELECT, 4), 0xFFFF_FFFF);
    assert!(!b.ring(0));
    let dma = FaultDma::new(FlatMemory::new(0, 64), b.rig.site.clone());
    assert!(dma.read(0, &mut [0; 4]).is_err());
}

#[test]
fn unplug_needs_no_event() {
    let b = bench("device=disk0,after=7ms,action=unplug");
    b.rig.pass(6 * MS);
    assert_eq!(b.config(0, 2, Op::Read), 0x1AF4);
    b.rig.pass(MS);
    assert_eq!(b.config(0, 2, Op::Read), 0xFFFF);
}

/// Whatever a model says it has decoded is what was foretold.
fn foretold(device: &mut dyn PciDevice, bar: u8, size: u64) {
    let mut compared = 0;
    for offset in (0..size).step_by(4) {
        for op in [Op::Read, Op::Write(0)] {
            let access = Access { op, ..Access::read(offset, 4) };
            let Some(place) = super::super::place::in_bar(device.config(), bar, &access) else {
                continue;
            };
            let Some(decode) = device.bar_access(bar, access).decode else { continue };
            let name = |table, offset| find(table, offset, access.is_write()).map(|r| r.name);
            let (said, foretold) =
                (name(decode.table, decode.offset), name(place.table, place.offset));
            assert_eq!(said, foretold, "{} {offset:#x}", device.name());
            compared += 1;
        }
    }
    assert!(compared > 20, "{}: {compared}", device.name());
}

#[test]
fn registers_are_found_where_the_models_have_them() {
    let rig = Rig::new(&["x"]);
    foretold(&mut *lock(&function(&rig)), 0, 0x3000);
    let memory = FlatMemory::new(0, 0x1000);
    let setup = AhciConfig::new("ahci.0", memory.clone(), MsiLog::new());
    foretold(&mut Ahci::new(setup).unwrap(), 5, 0x400);
    for model in Model::ALL {
        let setup = E1000Config {
            name: "e1000.0".into(),
            model,
            mac: [2; 6],
            link: true,
            dma: memory.clone(),
            msi: MsiLog::new(),
            intx: None,
            clock: rig.clock.clone(),
            timer: rig.timer.clone(),
            tracer: Tracer::off(),
        };
        foretold(&mut E1000::new(setup, Box::new(NoNet)).unwrap(), 0, 0x2_0000);
    }
}

#[test]
fn a_queue_that_sticks_hears_nothing() {
    let b = bench("queue=0,nth=2,action=stick,time=5ms");
    assert_eq!((b.ring(0), b.ring(0), b.ring(0), b.ring(1)), (true, false, false, true));
    b.rig.pass(5 * MS);
    assert!(b.ring(0));
}

#[test]
fn a_doorbell_can_pull_out_what_it_likes() {
    let b = bench("queue=0,nth=2,action=unplug");
    assert!(b.ring(0) && b.ring(1));
    b.rig.pass(MS);
    assert_eq!(b.config(0, 2, Op::Read), 0x1AF4);
    b.ring(0);
    b.rig.pass(MS);
    assert_eq!(b.config(0, 2, Op::Read), 0xFFFF);
    let b = bench("queue=0,nth=2,action=link-down");
    b.ring(0);
    b.rig.pass(MS);
    assert!(b.rig.target.take().is_empty());
    b.ring(0);
    b.rig.pass(MS);
    assert_eq!(b.rig.target.take(), ["link false"]);
}

#[test]
fn a_register_can_pull_the_cable_out() {
    let b = bench("register=queue_select,op=write,nth=2,action=link-down");
    b.write(SELECT, 2, 1);
    b.rig.pass(MS);
    assert!(b.rig.target.take().is_empty());
    b.write(SELECT, 2, 0);
    b.rig.pass(MS);
    assert_eq!(b.rig.target.take(), ["link false"]);
}
