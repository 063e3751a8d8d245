//! Harness bodies for fuzzing: a machine that does whatever `data` says.
//!
//! They are ordinary functions so that the coverage-guided targets (`vmm/fuzz`) and the bounded
//! seeded tests run the same code. A harness panics only where a device breaks an invariant.

mod ahci;
mod iommu;
mod net;

pub use ahci::ahci;
pub use iommu::iommu;
pub use net::{e1000, offloads, virtio_net};

use crate::backend::DriveBays;
use crate::bus::{Bus, Space};
use crate::chipset;
use crate::device::{Action, Op, Origin};
use crate::dma::Dma;
use crate::irq::{NoIrq, NoMsi};
use crate::pci::HostBridge;
use crate::testing::driver::{Driver, Ring};
use crate::testing::{FlatMemory, ManualClock, MemoryDisk, Pipe, TraceLog};
use crate::trace::Tracer;
use crate::uart::Uart;
use crate::virtio::{Block, BlockConfig, Console, VirtioConfig, VirtioPci};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use xinim_abi::hw::virtio::{Desc, feature};
use xinim_abi::hw::virtio_blk::feature as blk;
use xinim_abi::platform;

/// Guest memory of the harness; small, so that random addresses hit it.
const MEMORY: usize = 64 << 10;
/// Steps taken from one input at most.
const STEPS: usize = 512;
const DISK: usize = 64 << 10;
/// Queues of the disk.
const QUEUES: u16 = 3;

/// Bytes as numbers; zeros when they have run out.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((&byte, rest)) => {
                self.0 = rest;
                byte
            }
            None => 0,
        }
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    fn u64(&mut self) -> u64 {
        (0..8).fold(0, |value, _| value << 8 | u64::from(self.byte()))
    }

    /// An address: usually in memory, sometimes near its end, sometimes anywhere.
    fn address(&mut self) -> u64 {
        match self.byte() % 8 {
            0 => self.u64(),
            1 => MEMORY as u64 - u64::from(self.byte() % 32),
            _ => u64::from(self.u16()),
        }
    }

    fn length(&mut self) -> u32 {
        match self.byte() % 8 {
            0 => self.u64() as u32,
            1 => u32::from(self.byte()),
            2 => 16,
            3 => 1,
            _ => u32::from(self.byte() % 32) * 512,
        }
    }
}

/// A working virtio-blk function whose rings, descriptors and buffers are then filled with what
/// `data` says. The disk must not be asked for what it does not have, nor a read-only one change.
pub fn virtio_blk(data: &[u8]) {
    let mut input = Input(data);
    let memory = FlatMemory::new(0, MEMORY);
    let features = match input.byte() % 4 {
        0 => 0,
        1 => feature::EVENT_IDX,
        2 => feature::INDIRECT_DESC,
        _ => feature::EVENT_IDX | feature::INDIRECT_DESC,
    };
    let features = features
        | match input.byte() % 4 {
            0 => 0,
            1 => blk::MQ | blk::FLUSH | blk::CONFIG_WCE,
            2 => blk::WRITE_ZEROES,
            _ => blk::MQ | blk::WRITE_ZEROES | blk::FLUSH,
        };
    let disk = MemoryDisk {
        read_only: input.byte().is_multiple_of(8),
        held: input.byte().is_multiple_of(2),
        ..MemoryDisk::new(DISK)
    };
    let features = if disk.read_only { features & !blk::WRITE_ZEROES } else { features };
    let setup = VirtioConfig::new("blk", memory.clone(), Arc::new(NoMsi));
    let block = Block::new(disk, &BlockConfig { queues: QUEUES, ..BlockConfig::default() });
    let Ok(mut function) = VirtioPci::new(block, setup) else { return };
    let mut driver = Driver::new(&mut function);
    // The first ring is the one that the input writes to; the others stay as they are.
    let mut ring = Ring::new(&memory, 0, 16);
    let spare = Ring::new(&memory, 0x1000, 16);
    driver.negotiate(features);
    driver.enable_queue(0, &ring);
    driver.enable_queue(1, &spare);
    driver.driver_ok();
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        match input.byte() % 10 {
            0 | 1 => {
                let table = if input.byte() % 4 == 0 { input.address() } else { ring.desc };
                let (addr, len) = (input.address(), input.length());
                let desc = Desc { addr, len, flags: input.u16() % 8, next: input.u16() % 20 };
                ring.set_desc(table, input.u16() % 20, desc);
            }
            2 => {
                let (header, payload) = (0x8000 + u64::from(input.byte()) * 16, input.address());
                let kind = u32::from(input.byte() % 15);
                let sector = if input.byte() % 4 == 0 { input.u64() } else { input.u16().into() };
                let mut bytes = [0; 16];
                bytes[..4].copy_from_slice(&kind.to_le_bytes());
                bytes[8..].copy_from_slice(&sector.to_le_bytes());
                let _always_inside = memory.write(header, &bytes);
                let write = kind != 1;
                ring.offer(&[
                    (header, 16, false),
                    (payload, input.length(), write),
                    (0xF000, 1, true),
                ]);
                driver.notify(0);
            }
            3 => ring.offer_head(input.u16() % 20),
            4 => ring.set_avail_index(input.u16()),
            5 => {
                driver.notify(u16::from(input.byte()) % (QUEUES + 1));
            }
            // The host ends a request, and may say so at once or later.
            8 => {
                let index = usize::from(input.byte());
                driver.function.device_mut().backend_mut().finish(index, &*memory);
                if index.is_multiple_of(2) {
                    driver.function.ready(0, &Origin::default());
                }
            }
            9 => {
                // It only grows: until the device is told, it may ask for what it knows.
                let size = DISK + 512 * usize::from(input.byte());
                let data = &mut driver.function.device_mut().backend_mut().data;
                data.resize(size.max(data.len()), 0);
                if size.is_multiple_of(1024) {
                    driver.function.resized(0, &Origin::default());
                }
            }
            6 => {
                let _outside = memory.write(input.address(), &input.u64().to_le_bytes());
            }
            _ => {
                if input.byte() % 8 == 0 {
                    ring = Ring::new(&memory, 0, 16);
                    let _always_inside = memory.write(0, &[0; 1024]);
                    driver.negotiate(features);
                    driver.enable_queue(0, &ring);
                    driver.enable_queue(1, &spare);
                    driver.driver_ok();
                } else {
                    let (register, size) = (input.u16() % 0x4000, 1 << (input.byte() % 4));
                    driver.write(usize::from(register), size, input.u64());
                }
            }
        }
    }
    drop(ring);
    while function.device_mut().backend_mut().finish(0, &*memory) {
        while function.ready(0, &Origin::default()) {}
    }
    let disk = function.device().backend();
    assert_eq!(disk.violations, 0, "a request beyond the end reached the disk");
    let blank = disk.data.iter().all(|&byte| byte == 0);
    assert!(blank || !disk.read_only, "a read-only disk was written");
}

/// A whole machine under random port, configuration and memory accesses, traced.
pub fn pci_config(data: &[u8]) {
    let mut input = Input(data);
    let log = TraceLog::new();
    let Some(bus) = machine(&log) else { return };
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let size = input.byte() % 10;
        let op = if input.byte() % 2 == 0 { Op::Read } else { Op::Write(input.u64()) };
        let (space, address) = match input.byte() % 8 {
            0 => (Space::Pio, u64::from(input.u16())),
            1 => (Space::Pio, 0xCF8 + u64::from(input.byte() % 10)),
            2 => (Space::Pio, 0x3F8 + u64::from(input.byte() % 10)),
            3 | 4 => (Space::Mmio, platform::ECAM_BASE + u64::from(input.u16()) % 0x5000),
            5 => (Space::Mmio, platform::MMIO32_BASE + u64::from(input.u16())),
            6 => (Space::Config, u64::from(input.u16())),
            _ => (Space::Mmio, input.u64()),
        };
        let response = bus.access(Origin::default(), space, address, size, op);
        if (1..8).contains(&size) {
            assert_eq!(response.value >> (8 * size), 0, "value wider than the access");
        }
        if let Some(Action::NotifyAgain { function, queue }) = response.action {
            bus.notify(function, queue, &Origin::default());
        }
        if input.byte().is_multiple_of(64) {
            bus.reset();
            let assigned = bus.assign_bars();
            assert!(assigned.is_ok(), "{assigned:?}");
        }
        assert!(log.take().iter().all(|line| !line.contains('\n')), "a trace line was broken");
    }
}

/// Host bridge, disk, console, UART and chipset; BARs assigned.
fn machine(log: &Arc<TraceLog>) -> Option<Bus> {
    let tracer = Tracer::new(log.clone());
    let memory = FlatMemory::new(0, MEMORY);
    let mut bus = Bus::new(tracer.clone());
    let setup = |name: &str| VirtioConfig {
        tracer: tracer.clone(),
        intx: Some(Arc::new(NoIrq)),
        ..VirtioConfig::new(name, memory.clone(), Arc::new(NoMsi))
    };
    bus.add_pci(Arc::new(Mutex::new(HostBridge::new()))).ok()?;
    let block = Block::new(MemoryDisk::new(DISK), &BlockConfig::default());
    let block = VirtioPci::new(block, setup("virtio-blk.0")).ok()?;
    bus.add_pci(Arc::new(Mutex::new(block))).ok()?;
    let console = VirtioPci::new(Console::new(Pipe::new()), setup("virtio-console.0")).ok()?;
    bus.add_pci(Arc::new(Mutex::new(console))).ok()?;
    let uart = Uart::new("com1", Pipe::new(), Arc::new(NoIrq), &tracer);
    bus.add_ports(platform::COM1, 8, 1, Arc::new(Mutex::new(uart))).ok()?;
    let clock = ManualClock::new(Duration::from_secs(1_700_000_000));
    chipset::install(&mut bus, clock, Box::new(Pipe::new())).ok()?;
    bus.assign_bars().ok()?;
    Some(bus)
}

#[cfg(test)]
#[path = "fuzz_tests.rs"]
mod tests;
