//! Random accesses to a whole machine's ports, configuration space and BARs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use xinim_abi::platform;
use xinim_devices::bus::{Bus, Space};
use xinim_devices::chipset;
use xinim_devices::device::{Action, Op, Origin};
use xinim_devices::irq::{NoIrq, NoMsi};
use xinim_devices::pci::HostBridge;
use xinim_devices::testing::{ManualClock, MemoryDisk, Pipe};
use xinim_devices::uart::Uart;
use xinim_devices::virtio::{Block, BlockConfig, Console, VirtioConfig, VirtioPci};
use xinim_record::{Kind, Recorded};

use crate::input::Input;
use crate::stage::Stage;
use crate::{DISK, STEPS};

/// A whole machine under random port, configuration and memory accesses, traced.
pub fn pci_config(stage: &Stage, input: &mut Input<'_>) {
    let Some(bus) = machine(stage) else { return };
    for _ in 0..STEPS {
        if input.is_empty() {
            break;
        }
        let size = input.byte() % 10;
        let op = if input.byte().is_multiple_of(2) { Op::Read } else { Op::Write(input.u64()) };
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
    }
}

/// Host bridge, disk, console, UART and chipset; BARs assigned. The disk is recorded; the console has
/// an interrupt wire, which no machine's has.
fn machine(stage: &Stage) -> Option<Bus> {
    let tracer = &stage.tracer;
    let mut bus = Bus::new(tracer.clone());
    bus.add_pci(Arc::new(Mutex::new(HostBridge::new()))).ok()?;
    let config = BlockConfig::default();
    let setup = VirtioConfig::new("virtio-blk.0", stage.memory.clone(), Arc::new(NoMsi));
    let (id, queues, queue_size) = (config.id.clone(), config.queues, setup.queue_size);
    let tape = stage.tape("virtio-blk.0", Kind::Block { id, queues, queue_size });
    let setup = VirtioConfig {
        tracer: tracer.clone(),
        dma: stage.dma(&tape),
        msi: stage.msi(&tape),
        ..setup
    };
    let disk = Arc::new(Mutex::new(MemoryDisk::new(DISK)));
    let block = VirtioPci::new(Block::new(stage.disk(&tape, 0, &disk), &config), setup).ok()?;
    let block = Recorded::new(block, tape, stage.memory.clone());
    bus.add_pci(Arc::new(Mutex::new(block))).ok()?;
    let setup = VirtioConfig {
        tracer: tracer.clone(),
        intx: Some(Arc::new(NoIrq)),
        ..VirtioConfig::new("virtio-console.0", stage.memory.clone(), Arc::new(NoMsi))
    };
    let console = VirtioPci::new(Console::new(Pipe::new()), setup).ok()?;
    bus.add_pci(Arc::new(Mutex::new(console))).ok()?;
    let uart = Uart::new("com1", Pipe::new(), Arc::new(NoIrq), tracer);
    bus.add_ports(platform::COM1, 8, 1, Arc::new(Mutex::new(uart))).ok()?;
    let clock = ManualClock::new(Duration::from_secs(1_700_000_000));
    chipset::install(&mut bus, clock, Box::new(Pipe::new())).ok()?;
    bus.assign_bars().ok()?;
    Some(bus)
}
