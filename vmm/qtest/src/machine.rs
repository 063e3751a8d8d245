//! The machine that is served: memory, the bus, and what the arguments ask for on it.
//!
//! | place | device |
//! |---|---|
//! | fixed ports | chipset, fw_cfg at 0x510 |
//! | 00:00.0 | host bridge |
//! | 00:1f.0, 00:1f.2 | on q35: ISA bridge, AHCI controller (in QEMU's dialect) |
//! | as asked for | `virtio-blk-pci` |
//!
//! BARs are not assigned: tests do that. As on QEMU, the low two bits written to the configuration
//! address port count as part of the offset; libqos relies on it.

use crate::Error;
use crate::args::{Board, DriveArgs, Properties, Setup};
use crate::disk::Handle;
use crate::fw_cfg::{self, FwCfg};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use xinim_abi::hw::pci::{self, Bdf};
use xinim_devices::ahci::{self, Ahci, AhciConfig, AtaConfig};
use xinim_devices::backend::{BayError, Clock, Drive, DriveBays, Medium, NullStream};
use xinim_devices::bus::{Bus, Space, lock};
use xinim_devices::chipset;
use xinim_devices::device::{Action, Op, Origin};
use xinim_devices::dma::Dma;
use xinim_devices::irq::{IrqLine, MsiMessage, MsiRoute, MsiSink};
use xinim_devices::pci::{HostBridge, IsaBridge};
use xinim_devices::testing::{FlatMemory, ManualClock};
use xinim_devices::trace::Tracer;
use xinim_devices::virtio::{Block, BlockConfig, VirtioConfig, VirtioPci};

/// The I/O APIC input that PCI pins are wired to.
const PCI_IRQ: u32 = 16;
/// Queues of a virtio disk that asks for none, as QEMU's with one CPU.
const QUEUES: u16 = 1;
/// Entries of a virtqueue, as QEMU's.
const QUEUE_SIZE: u16 = 256;

/// Changes of interrupt lines, in order.
#[derive(Debug, Default)]
struct Wires {
    changes: Mutex<Vec<(u32, bool)>>,
}

struct Wire {
    wires: Arc<Wires>,
    number: u32,
}

impl IrqLine for Wire {
    fn set(&self, level: bool) {
        lock(&self.wires.changes).push((self.number, level));
    }
}

/// Messages are what they are: 32-bit writes to memory.
struct Messages(Arc<FlatMemory>);

impl MsiSink for Messages {
    fn route(&self, _vector: u16, _route: MsiRoute) {}

    fn signal(&self, _vector: u16, message: MsiMessage) {
        // Elsewhere than in memory nobody could see it.
        let _ = self.0.write(message.address, &message.data.to_le_bytes());
    }
}

/// A drive on the AHCI controller.
struct Bay {
    id: String,
    unit: u16,
    node: Option<String>,
    medium: Medium,
    /// What was last reported of the tray.
    open: bool,
}

/// A virtio disk.
struct VirtioDisk {
    id: String,
    function: Bdf,
    node: String,
}

/// What is served.
pub struct Machine {
    bus: Bus,
    memory: Arc<FlatMemory>,
    clock: Arc<ManualClock>,
    wires: Arc<Wires>,
    intercepted: bool,
    ahci: Option<Arc<Mutex<Ahci>>>,
    nodes: BTreeMap<String, Handle>,
    bays: Vec<Bay>,
    disks: Vec<VirtioDisk>,
    /// Low bits of the configuration address.
    address_low: u64,
}

fn wrong<T>(text: impl Into<String>) -> Result<T, Error> {
    Err(Error::Arguments(text.into()))
}

impl Machine {
    pub fn new(setup: &Setup) -> Result<Self, Error> {
        let size = usize::try_from(setup.memory).unwrap_or(usize::MAX);
        let memory = FlatMemory::new(0, size);
        let clock = ManualClock::new(Duration::ZERO);
        let wires = Arc::new(Wires::default());
        let mut bus = Bus::new(Tracer::off());
        let failed = |error| Error::Arguments(format!("the devices do not fit: {error}"));
        chipset::install(&mut bus, clock.clone(), Box::new(NullStream)).map_err(failed)?;
        let fw_cfg = Arc::new(Mutex::new(FwCfg::new(setup.memory)));
        bus.add_ports(fw_cfg::PORT, fw_cfg::PORTS, 2, fw_cfg).map_err(failed)?;
        bus.add_pci(Arc::new(Mutex::new(HostBridge::new()))).map_err(failed)?;
        let mut machine = Self {
            bus,
            memory,
            clock,
            wires,
            intercepted: false,
            ahci: None,
            nodes: BTreeMap::new(),
            bays: Vec::new(),
            disks: Vec::new(),
            address_low: 0,
        };
        if setup.board == Board::Q35 {
            machine.add_ahci()?;
        }
        for drive in &setup.drives {
            machine.add_node(drive)?;
            if drive.attach {
                let mut disk = Properties { head: String::from("ide-hd"), ..Properties::default() };
                disk.values.insert(String::from("drive"), drive.id.clone());
                machine.add_device(&disk)?;
            }
        }
        for device in &setup.devices {
            machine.add_device(device)?;
        }
        Ok(machine)
    }

    fn add_ahci(&mut self) -> Result<(), Error> {
        let mut config =
            AhciConfig::new("ahci", self.memory.clone(), Arc::new(Messages(self.memory.clone())));
        config.qemu_dialect = true;
        config.intx = Some(Arc::new(Wire { wires: self.wires.clone(), number: PCI_IRQ }));
        let failed = |error| Error::Arguments(format!("the AHCI controller: {error:?}"));
        let ahci = Arc::new(Mutex::new(Ahci::new(config).map_err(failed)?));
        let bridge = Bdf::new(0, ahci::PLACE.device(), 0);
        let failed = |error| Error::Arguments(format!("the AHCI controller: {error}"));
        self.bus.add_pci_at(bridge, Arc::new(Mutex::new(IsaBridge::new()))).map_err(failed)?;
        self.bus.add_pci_at(ahci::PLACE, ahci.clone()).map_err(failed)?;
        self.ahci = Some(ahci);
        Ok(())
    }

    /// Opens an image under its name.
    pub fn add_node(&mut self, args: &DriveArgs) -> Result<(), Error> {
        if args.path.is_none() && args.blank.is_none() && args.over.is_none() {
            // An empty CD-ROM drive.
            return Ok(());
        }
        let handle = match &args.over {
            None => Handle::open(args, self.memory.clone())?,
            Some(under) => {
                let Some(handle) = self.nodes.get(under).cloned() else {
                    return wrong(format!("block node {under} does not exist"));
                };
                if args.read_delay_ns > 0 {
                    handle.set_read_delay(args.read_delay_ns);
                }
                handle
            }
        };
        self.nodes.insert(args.id.clone(), handle);
        Ok(())
    }

    /// Adds a device, also while the machine runs.
    pub fn add_device(&mut self, device: &Properties) -> Result<(), Error> {
        match device.head.as_str() {
            "ide-hd" | "ide-cd" => self.add_drive(device),
            "virtio-blk-pci" | "virtio-blk-pci-non-transitional" => self.add_virtio_disk(device),
            other => wrong(format!("device {other} is not supported")),
        }
    }

    fn add_drive(&mut self, device: &Properties) -> Result<(), Error> {
        let Some(ahci) = self.ahci.clone() else {
            return wrong("IDE drives need -machine q35");
        };
        let unit = match device.get("bus").and_then(|bus| bus.rsplit('.').next()?.parse().ok()) {
            Some(unit) => unit,
            None => (0..).find(|unit| self.bays.iter().all(|bay| bay.unit != *unit)).unwrap_or(0),
        };
        let medium = if device.head == "ide-cd" { Medium::CdRom } else { Medium::Disk };
        let node = device.get("drive").map(str::to_owned);
        let handle = match &node {
            Some(name) => self.nodes.get(name).cloned(),
            None => None,
        };
        if handle.is_none() && medium == Medium::Disk {
            return wrong(format!("device {} has no drive", device.head));
        }
        let serial = device.get("serial").unwrap_or("QM00001").to_owned();
        let mut names = AtaConfig::new(&serial);
        if let Some(version) = device.get("ver") {
            names.firmware = version.to_owned();
        }
        let backend = handle.map(|handle| Box::new(handle) as Box<_>);
        let drive = Drive { backend, medium, serial };
        let failed = |error: BayError| Error::Arguments(format!("device {}: {error}", device.head));
        lock(&ahci).install(unit, drive, Some(names)).map_err(failed)?;
        let id = device.get("id").unwrap_or_default().to_owned();
        self.bays.push(Bay { id, unit, node, medium, open: false });
        Ok(())
    }

    fn add_virtio_disk(&mut self, device: &Properties) -> Result<(), Error> {
        let node = device.get("drive").unwrap_or_default().to_owned();
        let Some(handle) = self.nodes.get(&node).cloned() else {
            return wrong(format!("device {}: there is no drive {node}", device.head));
        };
        let queues = device.get("num-queues").and_then(|text| text.parse().ok()).unwrap_or(QUEUES);
        let id = device.get("serial").unwrap_or_default().to_owned();
        let block = Block::new(handle, &BlockConfig { id, queues });
        let messages = Arc::new(Messages(self.memory.clone()));
        let mut config = VirtioConfig::new("virtio-blk", self.memory.clone(), messages);
        config.queue_size =
            device.get("queue-size").and_then(|text| text.parse().ok()).unwrap_or(QUEUE_SIZE);
        config.intx = Some(Arc::new(Wire { wires: self.wires.clone(), number: PCI_IRQ }));
        let failed = |error| Error::Arguments(format!("device {}: {error:?}", device.head));
        let function = Arc::new(Mutex::new(VirtioPci::new(block, config).map_err(failed)?));
        let failed = |error| Error::Arguments(format!("device {}: {error}", device.head));
        let place = match device.get("addr") {
            Some(text) => self.bus.add_pci_at(address(text)?, function).map_err(failed)?,
            None => self.bus.add_pci(function).map_err(failed)?,
        };
        let id = device.get("id").unwrap_or_default().to_owned();
        self.disks.push(VirtioDisk { id, function: place, node });
        Ok(())
    }

    /// Takes a drive away.
    pub fn remove_device(&mut self, id: &str) -> Result<(), Error> {
        let Some(index) = self.bays.iter().position(|bay| bay.id == id) else {
            return wrong(format!("Device '{id}' not found"));
        };
        let bay = self.bays.remove(index);
        self.with_ahci(|ahci| ahci.detach(bay.unit, &Origin::default()))
    }

    fn with_ahci(
        &mut self,
        work: impl FnOnce(&mut Ahci) -> Result<(), BayError>,
    ) -> Result<(), Error> {
        let Some(ahci) = &self.ahci else { return wrong("there is no AHCI controller") };
        work(&mut lock(ahci)).map_err(|error| Error::Arguments(error.to_string()))
    }

    fn bay(&self, id: &str) -> Result<&Bay, Error> {
        match self.bays.iter().find(|bay| bay.id == id && bay.medium == Medium::CdRom) {
            Some(bay) => Ok(bay),
            None => wrong(format!("Device '{id}' is not removable")),
        }
    }

    /// By hand, from outside.
    pub fn move_tray(&mut self, id: &str, open: bool) -> Result<(), Error> {
        let unit = self.bay(id)?.unit;
        self.with_ahci(|ahci| ahci.move_tray(unit, open))
    }

    pub fn remove_medium(&mut self, id: &str) -> Result<(), Error> {
        let unit = self.bay(id)?.unit;
        self.with_ahci(|ahci| ahci.eject(unit, false, &Origin::default()))
    }

    /// Lays a disc on the open tray.
    pub fn insert_medium(&mut self, id: &str, node: &str) -> Result<(), Error> {
        let unit = self.bay(id)?.unit;
        let Some(handle) = self.nodes.get(node).cloned() else {
            return wrong(format!("Cannot find device='' nor node-name='{node}'"));
        };
        for bay in self.bays.iter_mut().filter(|bay| bay.unit == unit) {
            bay.node = Some(node.to_owned());
        }
        self.with_ahci(|ahci| {
            ahci.insert(unit, Box::new(handle), &Origin::default())?;
            ahci.move_tray(unit, true)
        })
    }

    /// Trays that have moved since the last call: (drive, open).
    pub fn moved_trays(&mut self) -> Vec<(String, bool)> {
        let Some(ahci) = &self.ahci else { return Vec::new() };
        let ahci = lock(ahci);
        let mut moved = Vec::new();
        for bay in &mut self.bays {
            if let Some(tray) = ahci.tray(bay.unit)
                && tray.open != bay.open
            {
                bay.open = tray.open;
                moved.push((bay.id.clone(), tray.open));
            }
        }
        moved
    }

    pub fn node(&self, name: &str) -> Option<&Handle> {
        self.nodes.get(name)
    }

    /// Gives the image behind a device another length.
    pub fn resize(&mut self, name: &str, length: u64) -> Result<(), Error> {
        let Some(handle) = self.nodes.get(name) else {
            return wrong(format!("Cannot find device='{name}' nor node-name='{name}'"));
        };
        lock(&handle.0).resize(length).map_err(Error::host(format!("resizing {name}")))?;
        for disk in self.disks.iter().filter(|disk| disk.node == name || disk.id == name) {
            self.bus.bays(disk.function, |bays| bays.resized(0, &Origin::default()));
        }
        Ok(())
    }

    /// An access to ports or memory-mapped registers, or to memory.
    pub fn read(&mut self, space: Space, address: u64, size: u8) -> u64 {
        if space == Space::Mmio && self.memory.contains(address, u64::from(size)) {
            let mut bytes = [0; 8];
            let _ = self.memory.read(address, &mut bytes[..usize::from(size)]);
            return u64::from_le_bytes(bytes);
        }
        self.access(space, self.place(space, address), size, Op::Read)
    }

    pub fn write(&mut self, space: Space, address: u64, size: u8, value: u64) {
        if space == Space::Mmio && self.memory.contains(address, u64::from(size)) {
            let _ = self.memory.write(address, &value.to_le_bytes()[..usize::from(size)]);
            return;
        }
        if space == Space::Pio && address == u64::from(pci::CONFIG_ADDRESS) && size == 4 {
            self.address_low = value & 3;
        }
        self.access(space, self.place(space, address), size, Op::Write(value));
    }

    /// See the module's head.
    fn place(&self, space: Space, address: u64) -> u64 {
        let data = u64::from(pci::CONFIG_DATA);
        if space == Space::Pio && address == data { data + self.address_low } else { address }
    }

    fn access(&mut self, space: Space, address: u64, size: u8, op: Op) -> u64 {
        let response = self.bus.access(self.origin(), space, address, size, op);
        match response.action {
            Some(Action::NotifyAgain { function, queue }) => {
                while self.bus.notify(function, queue, &self.origin()) {}
            }
            Some(Action::Reset) => self.bus.reset(),
            _ => {}
        }
        response.value
    }

    fn origin(&self) -> Origin {
        Origin::host(self.clock.monotonic().as_nanos() as u64)
    }

    /// Memory, or registers in accesses as wide as their alignment allows, up to four bytes.
    pub fn read_bytes(&mut self, address: u64, size: usize) -> Vec<u8> {
        let mut data = vec![0; size];
        if self.memory.read(address, &mut data).is_err() {
            let mut done = 0;
            while done < size {
                let at = address.wrapping_add(done as u64);
                let width = natural(at, size - done);
                let value = self.read(Space::Mmio, at, width as u8).to_le_bytes();
                data[done..done + width].copy_from_slice(&value[..width]);
                done += width;
            }
        }
        data
    }

    pub fn write_bytes(&mut self, address: u64, data: &[u8]) {
        if self.memory.write(address, data).is_err() {
            let mut done = 0;
            while done < data.len() {
                let at = address.wrapping_add(done as u64);
                let width = natural(at, data.len() - done);
                let mut value = [0; 8];
                value[..width].copy_from_slice(&data[done..done + width]);
                self.write(Space::Mmio, at, width as u8, u64::from_le_bytes(value));
                done += width;
            }
        }
    }

    pub fn reset(&mut self) {
        self.bus.reset();
    }

    /// Moves the clock; nanoseconds since the start.
    pub fn step_clock(&mut self, by: Duration) -> u64 {
        self.clock.advance(by);
        self.clock.monotonic().as_nanos() as u64
    }

    /// From now on changes of lines are told.
    pub fn intercept(&mut self) {
        self.intercepted = true;
        lock(&self.wires.changes).clear();
    }

    pub fn line_changes(&mut self) -> Vec<(u32, bool)> {
        let changes = std::mem::take(&mut *lock(&self.wires.changes));
        if self.intercepted { changes } else { Vec::new() }
    }

    /// When a disk has something to do.
    pub fn next_time(&self) -> Option<Instant> {
        self.nodes.values().filter_map(|node| lock(&node.0).next_time()).min()
    }

    /// What stopped disks have may be tried again.
    pub fn go_on(&mut self) {
        for node in self.nodes.values() {
            lock(&node.0).go_on();
        }
    }

    /// Lets disks do what is due and devices take what has ended; whether a disk wants the machine
    /// to stop.
    pub fn run_disks(&mut self) -> bool {
        let origin = self.origin();
        let mut ready = false;
        for node in self.nodes.values() {
            ready |= lock(&node.0).run();
        }
        if ready {
            if let Some(ahci) = &self.ahci {
                for bay in &self.bays {
                    while lock(ahci).ready(bay.unit, &origin) {}
                }
            }
            for disk in &self.disks {
                while self.bus.bays(disk.function, |bays| bays.ready(0, &origin)) == Some(true) {}
            }
        }
        let mut stop = false;
        for node in self.nodes.values() {
            stop |= lock(&node.0).take_stop();
        }
        stop
    }
}

/// Bytes of the next access to registers at `address` with `left` bytes to go: 4, 2 or 1.
fn natural(address: u64, left: usize) -> usize {
    [4, 2]
        .into_iter()
        .find(|size| address.is_multiple_of(*size as u64) && left >= *size)
        .unwrap_or(1)
}

/// `04.0` or `0x4`: device and function, hexadecimal.
fn address(text: &str) -> Result<Bdf, Error> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let (device, function) = text.split_once('.').unwrap_or((text, "0"));
    let number = |text| u8::from_str_radix(text, 16).ok();
    match (number(device), number(function)) {
        (Some(device @ 0..32), Some(function @ 0..8)) => Ok(Bdf::new(0, device, function)),
        _ => wrong(format!("addr={text} is no place on the bus")),
    }
}
