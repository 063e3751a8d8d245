use super::*;
use crate::device::{Access, Op, Outcome, Process};
use crate::pci::HostBridge;
use crate::testing::{FlatMemory, ManualClock, MemoryDisk, MsiLog, Pipe, TraceLog};
use crate::virtio::{Block, BlockConfig, VirtioConfig, VirtioPci};
use std::time::Duration;
use xinim_abi::hw::pci::{CONFIG_ENABLE, VENDOR_NONE};
use xinim_abi::platform::{ECAM_BASE, MMIO32_BASE};

/// Four byte registers that remember.
#[derive(Default)]
struct Bytes([u8; 4]);

impl Device for Bytes {
    fn name(&self) -> &str {
        "bytes"
    }
    fn access(&mut self, access: Access) -> Outcome {
        assert_eq!(access.size, 1, "the bus must split");
        let byte = &mut self.0[access.offset as usize];
        match access.op {
            Op::Read => Outcome::value(u64::from(*byte)),
            Op::Write(value) => {
                *byte = value as u8;
                Outcome::done()
            }
        }
    }
    fn reset(&mut self) {
        self.0 = [0; 4];
    }
}

/// Queue, old place, new place.
type Move = (u16, Option<u64>, Option<u64>);

#[derive(Default)]
struct Moves(Mutex<Vec<Move>>);

impl DoorbellSink for Moves {
    fn moved(&self, function: Bdf, queue: u16, from: Option<u64>, to: Option<u64>) {
        assert_eq!(function, Bdf::new(0, 1, 0));
        lock(&self.0).push((queue, from, to));
    }
}

fn bus(log: &Arc<TraceLog>, moves: &Arc<Moves>) -> Bus {
    let tracer = Tracer::new(log.clone());
    let mut bus = Bus::new(tracer.clone());
    bus.set_doorbell_sink(moves.clone());
    let block = Block::new(MemoryDisk::new(4096), &BlockConfig::default());
    let setup = VirtioConfig {
        tracer,
        ..VirtioConfig::new("virtio-blk.0", FlatMemory::new(0, 4096), MsiLog::new())
    };
    let block = VirtioPci::new(block, setup).expect("capabilities fit");
    assert_eq!(bus.add_pci(Arc::new(Mutex::new(HostBridge::new()))), Ok(Bdf::new(0, 0, 0)));
    assert_eq!(bus.add_pci(Arc::new(Mutex::new(block))), Ok(Bdf::new(0, 1, 0)));
    bus.add_ports(0x100, 4, 1, Arc::new(Mutex::new(Bytes::default()))).expect("free ports");
    bus
}

fn read(bus: &Bus, space: Space, address: u64, size: u8) -> u64 {
    bus.access(Origin::default(), space, address, size, Op::Read).value
}

fn write(bus: &Bus, space: Space, address: u64, size: u8, value: u64) {
    bus.access(Origin::default(), space, address, size, Op::Write(value));
}

#[test]
fn wide_and_straddling_port_accesses_are_split() {
    let bus = bus(&TraceLog::new(), &Arc::default());
    write(&bus, Space::Pio, 0x100, 4, 0x4433_2211);
    assert_eq!(read(&bus, Space::Pio, 0x100, 4), 0x4433_2211);
    assert_eq!(read(&bus, Space::Pio, 0x101, 2), 0x3322);
    assert_eq!(read(&bus, Space::Pio, 0x102, 4), 0xFFFF_4433, "half of it is nobody's");
    assert_eq!(read(&bus, Space::Pio, 0xFE, 4), 0x2211_FFFF);
    assert_eq!(read(&bus, Space::Pio, 0x100, 3), 0x33_2211);
}

#[test]
fn nobody_reads_as_ones_and_is_traced() {
    let log = TraceLog::new();
    let bus = bus(&log, &Arc::default());
    assert_eq!(read(&bus, Space::Pio, 0x80, 2), 0xFFFF);
    assert_eq!(read(&bus, Space::Mmio, 0xFD00_0000, 8), u64::MAX);
    let lines = log.take();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines.iter().all(|line| line.contains("!Unclaimed")), "{lines:?}");
    for size in [0, 9, 255] {
        let response = bus.access(Origin::default(), Space::Mmio, u64::MAX, size, Op::Read);
        assert_eq!(response.error, Some(GuestError::Unclaimed));
    }
}

#[test]
fn both_configuration_mechanisms_reach_the_same_registers() {
    let bus = bus(&TraceLog::new(), &Arc::default());
    write(&bus, Space::Pio, 0xCF8, 4, u64::from(CONFIG_ENABLE));
    assert_eq!(read(&bus, Space::Pio, 0xCFC, 4), 0x29C0_8086);
    assert_eq!(read(&bus, Space::Pio, 0xCFE, 2), 0x29C0);
    assert_eq!(read(&bus, Space::Mmio, ECAM_BASE, 4), 0x29C0_8086);
    assert_eq!(read(&bus, Space::Mmio, ECAM_BASE + 0x8000, 4), 0x1042_1AF4);
    let absent = Bdf::new(0, 5, 0);
    write(&bus, Space::Pio, 0xCF8, 4, u64::from(absent.config_address(0)));
    assert_eq!(read(&bus, Space::Pio, 0xCFC, 2), u64::from(VENDOR_NONE));
    write(&bus, Space::Pio, 0xCF8, 4, 0);
    assert_eq!(read(&bus, Space::Pio, 0xCFC, 4), 0xFFFF_FFFF, "not enabled");
    assert_eq!(read(&bus, Space::Mmio, ECAM_BASE + 1, 4), 0x0029_C080, "unaligned: by bytes");
}

#[test]
fn bars_are_assigned_moved_and_taken_away() {
    let moves = Arc::new(Moves::default());
    let bus = bus(&TraceLog::new(), &moves);
    assert_eq!(bus.assign_bars(), Ok(()));
    let config = ECAM_BASE + Bdf::new(0, 1, 0).ecam_offset();
    assert_eq!(read(&bus, Space::Mmio, config + 0x10, 8), MMIO32_BASE | 4);
    assert_eq!(read(&bus, Space::Mmio, MMIO32_BASE + 0x12, 2), 1, "num_queues");
    write(&bus, Space::Mmio, config + 0x10, 4, 0xD000_0000);
    assert_eq!(read(&bus, Space::Mmio, MMIO32_BASE + 0x12, 2), 0xFFFF);
    assert_eq!(read(&bus, Space::Mmio, 0xD000_0012, 2), 1);
    write(&bus, Space::Mmio, config + 4, 2, 0);
    assert_eq!(read(&bus, Space::Mmio, 0xD000_0012, 2), 0xFFFF, "decoding is off");
    let seen = std::mem::take(&mut *lock(&moves.0));
    let (first, second) = (MMIO32_BASE + 0x3000, 0xD000_3000);
    assert_eq!(
        seen,
        [(0, None, Some(first)), (0, Some(first), Some(second)), (0, Some(second), None)]
    );
    bus.reset();
    assert_eq!(read(&bus, Space::Mmio, config + 0x10, 4), 4, "BARs are gone after reset");
}

#[test]
fn a_function_that_is_removed_leaves_nothing_behind() {
    let moves = Arc::new(Moves::default());
    let mut bus = bus(&TraceLog::new(), &moves);
    let other = Block::new(MemoryDisk::new(4096), &BlockConfig::default());
    let setup = VirtioConfig::new("other", FlatMemory::new(0, 4096), MsiLog::new());
    let other = VirtioPci::new(other, setup).expect("capabilities fit");
    let place = bus.add_pci(Arc::new(Mutex::new(other))).expect("a free place");
    // Without the sink, which knows of one function only.
    let sink = bus.doorbells.take();
    assert_eq!(bus.assign_bars(), Ok(()));
    bus.doorbells = sink;
    let first = Bdf::new(0, 1, 0);
    let window = |bus: &Bus, bdf: Bdf| {
        let config = ECAM_BASE + bdf.ecam_offset();
        read(bus, Space::Mmio, config + 0x10, 4) & !0xF
    };
    let (gone, left) = (window(&bus, first), window(&bus, place));
    assert!(bus.remove_pci(first));
    assert!(!bus.remove_pci(first));
    assert_eq!(read(&bus, Space::Mmio, gone + 0x12, 2), 0xFFFF);
    assert_eq!(read(&bus, Space::Mmio, left + 0x12, 2), 1, "num_queues of the other");
    assert_eq!(*lock(&moves.0), [(0, Some(gone + 0x3000), None)]);
    bus.doorbells = None;
    write(&bus, Space::Mmio, ECAM_BASE + place.ecam_offset() + 0x10, 4, 0xD000_0000);
    assert_eq!(read(&bus, Space::Mmio, 0xD000_0012, 2), 1, "it can still be moved");
}

#[test]
fn overlapping_ports_are_refused() {
    let mut bus = bus(&TraceLog::new(), &Arc::default());
    let mut add = |base, len| bus.add_ports(base, len, 1, Arc::new(Mutex::new(Bytes::default())));
    assert_eq!(add(0x103, 1), Err(BusError::BadRange));
    assert_eq!(add(0xFD, 4), Err(BusError::BadRange));
    assert_eq!(add(0xFFFF, 2), Err(BusError::BadRange));
    assert_eq!(add(0x200, 0), Err(BusError::BadRange));
    assert_eq!(add(0x104, 1), Ok(()));
}

#[test]
fn a_trace_line_says_who_did_what() {
    let log = TraceLog::new();
    let mut bus = bus(&log, &Arc::default());
    let clock = ManualClock::new(Duration::ZERO);
    crate::chipset::install(&mut bus, clock, Box::new(Pipe::new())).expect("free ports");
    assert_eq!(bus.assign_bars(), Ok(()));
    log.take();
    let mut name = [0; 28];
    name[..3].copy_from_slice(b"pci");
    let process = Some(Process { pid: 4, name });
    let origin = Origin { time_ns: 1_500_000_000, vcpu: Some(2), rip: 0x1234, process };
    bus.access(origin, Space::Mmio, MMIO32_BASE + 0x14, 1, Op::Write(1));
    bus.access(origin, Space::Pio, 0xF4, 4, Op::Write(0x10));
    assert_eq!(
        log.take(),
        [
            "1.500000000 cpu2 rip=0x1234 [4 pci] virtio-blk.0 w1 mmio:0xc0000014 \
             device_status=0x1 {ACKNOWLEDGE} was=0x0",
            "1.500000000 cpu2 rip=0x1234 [4 pci] exit w4 pio:0xf4 exit=0x10",
        ]
    );
}
