//! The machine that is served: memory, the bus, and what the arguments ask for on it.
//!
//! | place | device |
//! |---|---|
//! | fixed ports | chipset, fw_cfg at 0x510 |
//! | 00:00.0 | host bridge |
//! | 00:1f.0, 00:1f.2 | on q35: ISA bridge, AHCI controller (in QEMU's dialect) |
//! | as asked for | `virtio-blk-pci`, `virtio-net-pci`, `virtio-serial-pci` with a `virtconsole` (in QEMU's dialect) |
//! | as asked for | `e1000` (or `e1000-82540em`), `e1000-82545em`, `e1000e` |
//! | on the controller | `ide-hd`, `ide-cd` |
//! | port 0xAE08 | ejects PCI slots that are to be unplugged, as on QEMU's `pc` |
//!
//! BARs are not assigned: tests do that. As on QEMU, the low two bits written to the configuration
//! address port count as part of the offset; libqos relies on it. The machine has been on long enough
//! for links to be up.

mod cards;
mod disks;
mod hotplug;

use crate::Error;
use crate::args::{Board, Properties, Setup};
use crate::disk::Handle;
use crate::fw_cfg::{self, FwCfg};
use crate::net::Net;
pub use cards::Timing;
use cards::{Announcement, Card};
use disks::{Bay, VirtioDisk};
use hotplug::Ejector;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use xinim_abi::hw::pci::{self, Bdf};
use xinim_devices::ahci::Ahci;
use xinim_devices::backend::{Clock, DriveBays, NullStream};
use xinim_devices::bus::{Bus, Space, lock};
use xinim_devices::chipset;
use xinim_devices::device::{Action, Op, Origin};
use xinim_devices::dma::Dma;
use xinim_devices::irq::{IrqLine, MsiMessage, MsiRoute, MsiSink};
use xinim_devices::pci::{HostBridge, PciDevice};
use xinim_devices::testing::{FlatMemory, ManualClock};
use xinim_devices::trace::Tracer;
use xinim_devices::virtio::{Console, VirtioConfig, VirtioPci};

/// The I/O APIC input that PCI pins are wired to.
const PCI_IRQ: u32 = 16;
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

fn messages(memory: &Arc<FlatMemory>) -> Arc<dyn MsiSink> {
    Arc::new(Messages(memory.clone()))
}

/// A PCI function that was asked for.
struct Plugged {
    id: String,
    place: Bdf,
    /// The guest has been asked to let go.
    unplugging: bool,
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
    nets: BTreeMap<String, Net>,
    cards: Vec<Card>,
    announcements: Vec<Announcement>,
    plugged: Vec<Plugged>,
    ejector: Arc<Mutex<Ejector>>,
    /// `stop` was said, and not yet `cont`.
    stopped: bool,
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
        let ejector = Arc::new(Mutex::new(Ejector::default()));
        bus.add_ports(hotplug::PORT, hotplug::PORTS, 4, ejector.clone()).map_err(failed)?;
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
            nets: BTreeMap::new(),
            cards: Vec::new(),
            announcements: Vec::new(),
            plugged: Vec::new(),
            ejector,
            stopped: false,
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
        for net in &setup.nets {
            machine.nets.insert(net.id.clone(), Net::open(net)?);
        }
        for device in &setup.devices {
            machine.add_device(device)?;
        }
        machine.wait_for_links();
        Ok(machine)
    }

    /// Adds a device, also while the machine runs.
    pub fn add_device(&mut self, device: &Properties) -> Result<(), Error> {
        match device.head.as_str() {
            "ide-hd" | "ide-cd" => self.add_drive(device),
            "virtio-blk-pci" | "virtio-blk-pci-non-transitional" => self.add_virtio_disk(device),
            "virtio-net-pci" => self.add_virtio_card(device),
            "e1000" | "e1000-82540em" | "e1000-82545em" | "e1000e" => self.add_e1000(device),
            "virtio-serial-pci" => self.add_console(device),
            "virtconsole" => self.check_console(device),
            other => wrong(format!("device {other} is not supported")),
        }
    }

    /// A console whose far end takes everything and says nothing.
    fn add_console(&mut self, device: &Properties) -> Result<(), Error> {
        let config = self.virtio_config("virtio-console", device);
        let failed = |error| Error::Arguments(format!("device {}: {error:?}", device.head));
        let function = VirtioPci::new(Console::new(NullStream), config).map_err(failed)?;
        self.plug(device, Arc::new(Mutex::new(function))).map(drop)
    }

    /// The one port of a console is there from the start.
    fn check_console(&mut self, device: &Properties) -> Result<(), Error> {
        let bus = device.get("bus").and_then(|bus| bus.strip_suffix(".0"));
        match self.plugged.iter().any(|plugged| Some(plugged.id.as_str()) == bus) {
            true => Ok(()),
            false => wrong("device virtconsole: there is no such bus"),
        }
    }

    fn virtio_config(&self, name: &str, device: &Properties) -> VirtioConfig {
        let size = device.get("queue-size").and_then(|text| text.parse().ok());
        VirtioConfig {
            queue_size: size.unwrap_or(QUEUE_SIZE),
            intx: Some(self.wire(PCI_IRQ)),
            qemu_dialect: true,
            ..VirtioConfig::new(name, self.memory.clone(), messages(&self.memory))
        }
    }

    fn wire(&self, number: u32) -> Arc<dyn IrqLine> {
        Arc::new(Wire { wires: self.wires.clone(), number })
    }

    /// Puts a function where it is asked to be.
    fn plug(
        &mut self,
        device: &Properties,
        function: Arc<Mutex<dyn PciDevice>>,
    ) -> Result<Bdf, Error> {
        let failed = |error| Error::Arguments(format!("device {}: {error}", device.head));
        let place = match device.get("addr") {
            Some(text) => self.bus.add_pci_at(address(text)?, function).map_err(failed)?,
            None => self.bus.add_pci(function).map_err(failed)?,
        };
        let id = device.get("id").unwrap_or_default().to_owned();
        self.plugged.push(Plugged { id, place, unplugging: false });
        Ok(place)
    }

    /// Takes a device away: a drive at once (`true`), a PCI function when the guest ejects it.
    pub fn remove_device(&mut self, id: &str) -> Result<bool, Error> {
        if let Some(plugged) = self.plugged.iter_mut().find(|plugged| plugged.id == id) {
            plugged.unplugging = true;
            return Ok(false);
        }
        let Some(index) = self.bays.iter().position(|bay| bay.id == id) else {
            return wrong(format!("Device '{id}' not found"));
        };
        let bay = self.bays.remove(index);
        self.with_ahci(|ahci| ahci.detach(bay.unit, &Origin::default()))?;
        Ok(true)
    }

    /// Functions that the guest has ejected since the last call; they are gone.
    pub fn ejected(&mut self) -> Vec<String> {
        let slots = lock(&self.ejector).take();
        let let_go = |p: &mut Plugged| p.unplugging && slots >> p.place.device() & 1 != 0;
        let gone: Vec<Plugged> = self.plugged.extract_if(.., let_go).collect();
        for plugged in &gone {
            self.bus.remove_pci(plugged.place);
            self.cards.retain(|card| card.place != plugged.place);
            self.disks.retain(|disk| disk.function != plugged.place);
        }
        gone.into_iter().map(|plugged| plugged.id).collect()
    }

    /// An access to ports or memory-mapped registers, or to memory.
    pub fn read(&mut self, space: Space, address: u64, size: u8) -> u64 {
        if space == Space::Mmio && self.memory.reaches(address, u64::from(size), true) {
            let mut bytes = [0; 8];
            let _ = self.memory.read(address, &mut bytes[..usize::from(size)]);
            return u64::from_le_bytes(bytes);
        }
        self.access(space, self.place(space, address), size, Op::Read)
    }

    pub fn write(&mut self, space: Space, address: u64, size: u8, value: u64) {
        if space == Space::Mmio && self.memory.reaches(address, u64::from(size), true) {
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
        self.wait_for_links();
    }

    pub fn stop(&mut self) {
        self.stopped = true;
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// What stopped disks have is tried again, and what networks have kept comes.
    pub fn go_on(&mut self) {
        self.stopped = false;
        for node in self.nodes.values() {
            lock(&node.0).go_on();
        }
        self.serve_cards();
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
