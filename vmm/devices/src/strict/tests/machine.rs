//! A bus with one device of each kind, all watched by a checker.

use crate::ahci::{self, Ahci, AhciConfig};
use crate::backend::{Drive, Medium};
use crate::bus::Bus;
use crate::device::{Op, Origin};
use crate::dma::Dma;
use crate::e1000::{E1000, E1000Config};
use crate::pci::{HostBridge, IsaBridge};
use crate::strict::{Checker, Report, Violation};
use crate::testing::net::{NetPipe, TimerLog};
use crate::testing::{FlatMemory, ManualClock, MemoryDisk, MsiLog};
use crate::trace::{Space, Tracer};
use crate::virtio::{Block, BlockConfig, VirtioConfig, VirtioPci};
use std::cell::Cell;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use xinim_abi::hw::e1000::Model;
use xinim_abi::hw::pci::{self, Bdf, Command};
use xinim_abi::platform::ECAM_BASE;

pub const BLK: Bdf = Bdf::new(0, 1, 0);
pub const NIC: Bdf = Bdf::new(0, 2, 0);
pub const HBA: Bdf = ahci::PLACE;
const MEMORY: usize = 4 << 20;

/// Keeps what is reported.
#[derive(Default)]
pub struct Seen(Mutex<Vec<Violation>>);

impl Report for Seen {
    fn violation(&self, violation: &Violation) {
        self.0.lock().unwrap().push(violation.clone());
    }
}

pub struct Machine {
    pub bus: Bus,
    pub memory: Arc<FlatMemory>,
    pub checker: Arc<Checker>,
    pub disk: Arc<Mutex<MemoryDisk>>,
    pub net: NetPipe,
    seen: Arc<Seen>,
    clock: Arc<ManualClock>,
    /// Guest time of the next access, ns; each takes 10 us.
    pub now: Cell<u64>,
}

impl Machine {
    /// Firmware has run: BARs have addresses and decode, bus mastering is off.
    pub fn new() -> Self {
        Self::with(Model::I82540em)
    }

    pub fn with(model: Model) -> Self {
        let memory = FlatMemory::new(0, MEMORY);
        let seen = Arc::new(Seen::default());
        let checker = Arc::new(Checker::new(memory.clone(), seen.clone()));
        let tracer = Tracer::new(checker.clone());
        let mut bus = Bus::new(tracer.clone());
        bus.add_pci(Arc::new(Mutex::new(HostBridge::new()))).unwrap();

        let disk = Arc::new(Mutex::new(MemoryDisk::new(1 << 20)));
        let block = Block::new(disk.clone(), &BlockConfig::default());
        let setup = VirtioConfig {
            tracer: tracer.clone(),
            queue_size: 16,
            ..VirtioConfig::new("virtio-blk.0", memory.clone(), MsiLog::new())
        };
        let block = VirtioPci::new(block, setup).unwrap();
        assert_eq!(bus.add_pci(Arc::new(Mutex::new(block))), Ok(BLK));

        let net = NetPipe::new();
        let clock = ManualClock::new(Duration::ZERO);
        let setup = E1000Config {
            name: "e1000.0".into(),
            model,
            mac: [2, 0, 0, 0, 0, 1],
            link: true,
            dma: memory.clone(),
            msi: MsiLog::new(),
            intx: None,
            clock: clock.clone(),
            timer: TimerLog::new(),
            tracer: tracer.clone(),
        };
        let card = E1000::new(setup, Box::new(net.clone())).unwrap();
        assert_eq!(bus.add_pci(Arc::new(Mutex::new(card))), Ok(NIC));

        let setup =
            AhciConfig { tracer, ..AhciConfig::new("ahci.0", memory.clone(), MsiLog::new()) };
        let mut hba = Ahci::new(setup).unwrap();
        let drive = Drive {
            backend: Some(Box::new(disk.clone())),
            medium: Medium::Disk,
            serial: "strict".into(),
        };
        hba.install(0, drive, None).unwrap();
        bus.add_pci_at(Bdf::new(0, HBA.device(), 0), Arc::new(Mutex::new(IsaBridge::new())))
            .unwrap();
        bus.add_pci_at(HBA, Arc::new(Mutex::new(hba))).unwrap();
        bus.assign_bars().unwrap();
        Self { bus, memory, checker, disk, net, seen, clock, now: Cell::new(1_000_000) }
    }

    fn access(&self, space: Space, address: u64, size: u8, op: Op) -> u64 {
        self.now.set(self.now.get() + 10_000);
        let origin = Origin { time_ns: self.now.get(), ..Origin::default() };
        let response = self.bus.access(origin, space, address, size, op);
        if let Some(crate::device::Action::NotifyAgain { function, queue }) = response.action {
            while self.bus.notify(function, queue, &origin) {}
        }
        response.value
    }

    pub fn read(&self, address: u64, size: u8) -> u64 {
        self.access(Space::Mmio, address, size, Op::Read)
    }

    pub fn write(&self, address: u64, size: u8, value: u64) {
        self.access(Space::Mmio, address, size, Op::Write(value));
    }

    /// Lets time pass for the devices: a link comes up.
    pub fn wait(&self) {
        self.clock.advance(Duration::from_millis(100));
    }

    pub fn config(&self, function: Bdf, offset: usize) -> u64 {
        ECAM_BASE + function.ecam_offset() + offset as u64
    }

    /// Address of a BAR.
    pub fn bar(&self, function: Bdf, index: usize) -> u64 {
        let low = self.read(self.config(function, pci::BAR0 + 4 * index), 4);
        low & u64::from(pci::BAR_MEMORY_MASK)
    }

    /// Memory decoding and bus mastering.
    pub fn enable(&self, function: Bdf) {
        let command = Command::MEMORY_SPACE | Command::BUS_MASTER;
        self.write(self.config(function, pci::COMMAND), 2, u64::from(command.bits()));
    }

    pub fn poke(&self, address: u64, data: &[u8]) {
        self.memory.write(address, data).unwrap();
    }

    /// Rules broken since the last call, each once, in order of their first time.
    pub fn broken(&self) -> Vec<&'static str> {
        let mut ids = Vec::new();
        for violation in self.seen.0.lock().unwrap().drain(..) {
            assert!(!violation.to_string().is_empty());
            if !ids.contains(&violation.rule.id) {
                ids.push(violation.rule.id);
            }
        }
        ids
    }

    /// What was reported since the last call.
    pub fn violations(&self) -> Vec<Violation> {
        std::mem::take(&mut self.seen.0.lock().unwrap())
    }
}
