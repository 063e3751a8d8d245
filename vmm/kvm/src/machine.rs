//! Puts the devices on the bus and connects them to KVM and to the host.
//!
//! | place | device |
//! |---|---|
//! | 00:1e.0 | virtio-iommu `virtio-iommu.0`, if there is to be one: every other function is behind it |
//! | fixed ports | chipset (RTC, ACPI, i8042, reset), platform ports, COM1 |
//! | 00:00.0 | host bridge |
//! | 00:01.0 | virtio-console `virtio-console.0`, if there is a host link |
//! | next | virtio-blk `virtio-blk.0`, ... in the order of the disks |
//! | 00:1f.0, with the next | ISA bridge, without behaviour |
//! | 00:1f.2 | AHCI `ahci.0`, if there are disks on it or may be later |
//! | next | virtio-net `virtio-net.N` or E1000 `e1000.N`, N counting the network devices |

use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use kvm_ioctls::VmFd;
use vmm_sys_util::epoll::Epoll;
use xinim_abi::hw::pci::Bdf;
use xinim_abi::platform;
use xinim_block::{HostDisk, OpenDisk};
use xinim_devices::ahci::{self, Ahci, AhciConfig};
use xinim_devices::backend::{Drive, Medium};
use xinim_devices::bus::{Bus, BusError, lock};
use xinim_devices::chipset;
use xinim_devices::dma::Dma;
use xinim_devices::fault::{FaultDisk, FaultLine, Faults, Site};
use xinim_devices::pci::{HostBridge, IsaBridge};
use xinim_devices::strict::Checker;
use xinim_devices::trace::{Hub, Interest, Tracer};
use xinim_devices::uart::Uart;
use xinim_devices::virtio::{Block, BlockConfig, Console, VirtioConfig, VirtioPci};
use xinim_machine::{DiskBus, DiskSpec, EngineError, HostIo};
use xinim_record::entry::DriveSpec;
use xinim_record::{AhciManner, Call, Kind, Recorded, Tape};

use crate::debug::DebugStream;
use crate::disks::{Disks, Known};
use crate::doorbell::Doorbells;
use crate::fault;
use crate::host::{host, host_io};
use crate::io::Port;
use crate::irq::{Interrupts, Vectors};
use crate::memory::GuestRam;
use crate::net;
use crate::reach::{Memory, Reach};
use crate::record::{self, Recording};
use crate::shared::{Ending, MachineClock};
use crate::stream::{HostStream, Tokens};

/// Queues of a virtio disk, and requests in each.
const DISK_QUEUES: u16 = 8;
const DISK_DEPTH: u16 = 1024;
/// Entries in each queue of the other virtio devices.
pub const QUEUE_SIZE: u16 = 256;
/// Ports of a 16550.
const COM_PORTS: u16 = 8;
const CONSOLE: Tokens = Tokens { input: 1, output: 2 };
const LINK: Tokens = Tokens { input: 3, output: 4 };
const DEBUG: Tokens = Tokens { input: 5, output: 6 };

/// What the devices are connected to.
pub struct Parts {
    pub vm: Arc<VmFd>,
    pub ram: Arc<GuestRam>,
    pub epoll: Arc<Epoll>,
    pub ending: Arc<Ending>,
    pub clock: MachineClock,
    pub hub: Arc<Hub>,
    pub disks: Arc<Disks>,
    /// Disks may come while the machine runs.
    pub hotplug: bool,
    /// There is an IOMMU.
    pub iommu: bool,
    /// Who checks what drivers hand over in memory.
    pub looked_at: Option<Arc<Checker>>,
    pub recording: Recording,
}

/// The devices, ready.
pub struct Built {
    pub bus: Bus,
    pub ports: Vec<Port>,
    /// `None`: doorbells come as accesses.
    pub doorbells: Option<Arc<Doorbells>>,
    /// Network devices, in their order.
    pub cards: Vec<net::Card>,
    pub faults: Arc<Faults>,
    /// The AHCI controller, if there is one.
    pub controller: Option<Arc<Mutex<Recorded<Ahci>>>>,
    pub reach: Reach,
}

/// Builds the bus. While somebody listens for accesses or queues, doorbells are accesses, so that
/// each appears with the instruction and the process that rang it.
pub fn build(
    parts: Parts,
    disks: Vec<OpenDisk>,
    nets: Vec<net::Prepared>,
    io: HostIo,
) -> Result<Built, EngineError> {
    let tracer = Tracer::at(parts.hub.clone());
    let interrupts =
        Arc::new(Interrupts::new(parts.vm.clone()).map_err(host("setting interrupt routes"))?);
    let mut bus = Bus::new(tracer.clone());
    let (faults, due) = fault::rules(&parts, &tracer)?;
    bus.set_faults(faults.clone());
    let doorbells = Doorbells::new(parts.vm.clone(), parts.epoll.clone()).map(Arc::new);
    if let Some(doorbells) = &doorbells {
        bus.set_doorbell_sink(doorbells.clone());
        let bells = doorbells.clone();
        parts
            .hub
            .watch(move |interest| bells.set_caught(!interest.intersects(Interest::ATTRIBUTED)));
    }
    let mut ports = vec![due];
    let stream = |tokens, input, output| {
        HostStream::new(&parts.epoll, tokens, input, output)
            .map_err(host_io("watching a console's descriptor"))
    };

    let debug = stream(DEBUG, None, io.debug_out)?;
    ports.push(debug_port(&mut bus, &parts, debug)?);
    let console = stream(CONSOLE, io.console_in, io.console_out)?;
    ports.push(com1_port(&mut bus, &interrupts, &faults, &tracer, console)?);

    bus.add_pci(Arc::new(Mutex::new(HostBridge::new()))).map_err(machine_error)?;
    let reach = if parts.iommu {
        let (reach, port) = Reach::confined(&mut bus, &parts, &interrupts, &tracer)?;
        ports.push(port);
        reach
    } else {
        Reach::new(parts.ram.clone())
    };
    let virtio = |name: &str, memory: &Memory, site: &Site, tape: &Tape| {
        parts.show(name, memory);
        let dma = record::dma(tape, fault::dma(memory.dma(), site));
        let msi = record::msi(tape, fault::msi(Vectors::new(interrupts.clone()), site));
        VirtioConfig {
            tracer: tracer.clone(),
            translated: reach.is_translated(),
            ..VirtioConfig::new(name, dma, msi)
        }
    };
    if let Some(link) = io.host_link {
        let stream = HostStream::duplex(&parts.epoll, LINK, link)
            .map_err(host_io("watching the host link"))?;
        let site = faults.site(&["virtio-console.0"]);
        let queue_size = QUEUE_SIZE;
        let tape = parts.recording.tape("virtio-console.0", || Kind::Console { queue_size });
        let place = next(&bus)?;
        let memory = reach.of(place);
        let setup =
            VirtioConfig { queue_size, ..virtio("virtio-console.0", &memory, &site, &tape) };
        let link = (stream, place, memory.dma());
        ports.push(link_port(&mut bus, setup, link, (&site, tape))?);
    }
    let mut drives = Vec::new();
    for (index, disk) in disks.into_iter().enumerate() {
        let spec = disk.spec().clone();
        let disk = disk.serve(parts.ram.clone()).map_err(EngineError::Machine)?;
        let name = format!("disk{index}");
        if spec.bus == DiskBus::Ahci {
            drives.push((name, spec, disk));
            continue;
        }
        let mut known = Known { name, spec, function: Bdf::new(0, 0, 0), unit: 0, handle: None };
        let setup = BlockConfig { id: known.serial(), queues: DISK_QUEUES };
        let device = format!("virtio-blk.{index}");
        known.handle = Some(disk.handle());
        let site = faults.site(&[&device, &known.name]);
        let tape = parts.recording.tape(&device, || Kind::Block {
            id: setup.id.clone(),
            queues: DISK_QUEUES,
            queue_size: DISK_DEPTH,
        });
        known.function = next(&bus)?;
        let reached = reach.of(known.function);
        let virtio =
            VirtioConfig { queue_size: DISK_DEPTH, ..virtio(&device, &reached, &site, &tape) };
        let memory = reached.dma();
        let wakes: Vec<_> = disk.wakes().iter().map(|wake| wake.as_raw_fd()).collect();
        let disk = Box::new(FaultDisk::new(reached.disk(disk), site.clone(), memory.clone()));
        let disk = record::disk(&tape, 0, disk, memory.clone());
        let device = VirtioPci::new(Block::new(disk, &setup), virtio)
            .map_err(|error| EngineError::Machine(format!("{device}: {error:?}")))?;
        let device = Arc::new(Mutex::new(Recorded::new(device, tape, memory)));
        bus.add_pci_at(known.function, device.clone()).map_err(machine_error)?;
        parts.disks.watch_all(&wakes, known.function, 0)?;
        site.connect(Arc::new(fault::Function(Arc::downgrade(&device))));
        parts.disks.remember(known);
    }
    let mut controller = None;
    if parts.hotplug || !drives.is_empty() {
        let vectors = Vectors::new(interrupts.clone());
        let wiring = (vectors, &faults, &reach);
        controller = Some(add_ahci(&mut bus, &parts, &tracer, wiring, drives)?);
    }
    let wiring = (&interrupts, &faults, &reach);
    let (net_ports, cards) = net::add(&mut bus, &parts, wiring, &tracer, nets)?;
    ports.extend(net_ports);
    bus.assign_bars().map_err(machine_error)?;
    Ok(Built { bus, ports, doorbells, cards, faults, controller, reach })
}

/// The place of the next function.
pub fn next(bus: &Bus) -> Result<Bdf, EngineError> {
    bus.free_place().ok_or(machine_error(BusError::TooManyFunctions))
}

impl Parts {
    /// Tells who looks at drivers' memory how a device reaches it.
    pub fn show(&self, device: &str, memory: &Memory) {
        if let (Some(checker), Some(dma)) = (&self.looked_at, memory.look()) {
            checker.set_memory(device, dma);
        }
    }
}

/// The AHCI controller with these drives, at its ports in this order.
fn add_ahci(
    bus: &mut Bus,
    parts: &Parts,
    tracer: &Tracer,
    (vectors, faults, reach): (Vectors, &Arc<Faults>, &Reach),
    drives: Vec<(String, DiskSpec, HostDisk)>,
) -> Result<Arc<Mutex<Recorded<Ahci>>>, EngineError> {
    let failed = |error: &dyn std::fmt::Debug| EngineError::Machine(format!("ahci.0: {error:?}"));
    let site = faults.site(&["ahci.0"]);
    let known: Vec<(Known, HostDisk)> = (0..)
        .zip(drives)
        .map(|(unit, (name, spec, disk))| {
            let handle = Some(disk.handle());
            (Known { name, spec, function: ahci::PLACE, unit, handle }, disk)
        })
        .collect();
    let tape = parts.recording.tape("ahci.0", || Kind::Ahci {
        ports: ahci::DEFAULT_PORTS,
        drives: known.iter().map(|(known, _)| described(known)).collect(),
        intx: false,
        manner: AhciManner::default(),
    });
    let reached = reach.of(ahci::PLACE);
    parts.show("ahci.0", &reached);
    let memory = reached.dma();
    let dma = record::dma(&tape, fault::dma(memory.clone(), &site));
    let msi = record::msi(&tape, fault::msi(vectors, &site));
    let setup = AhciConfig { tracer: tracer.clone(), ..AhciConfig::new("ahci.0", dma, msi) };
    let controller = Ahci::new(setup).map_err(|error| failed(&error))?;
    let controller = Recorded::new(controller, tape.clone(), memory.clone());
    let controller = Arc::new(Mutex::new(controller));
    for (known, disk) in known {
        let medium = if known.spec.cd_rom { Medium::CdRom } else { Medium::Disk };
        parts.disks.watch(&disk, ahci::PLACE, known.unit)?;
        let backend = fault::bay(disk, &known, (reach, faults, &parts.disks), &controller);
        let backend = record::disk(&tape, known.unit, backend, memory.clone());
        let drive = Drive { backend: Some(backend), medium, serial: known.serial() };
        let mut device = lock(&controller);
        device.device_mut().install(known.unit, drive, None).map_err(|error| failed(&error))?;
        drop(device);
        parts.disks.remember(known);
    }
    // A device with functions has a function 0.
    let bridge = Bdf::new(0, ahci::PLACE.device(), 0);
    bus.add_pci_at(bridge, Arc::new(Mutex::new(IsaBridge::new()))).map_err(machine_error)?;
    bus.add_pci_at(ahci::PLACE, controller.clone()).map_err(machine_error)?;
    Ok(controller)
}

/// A drive that is there from the start, as a recording describes it.
fn described(known: &Known) -> DriveSpec {
    DriveSpec { unit: known.unit, cd_rom: known.spec.cd_rom, medium: true, serial: known.serial() }
}

pub fn machine_error(error: BusError) -> EngineError {
    EngineError::Machine(format!("the devices do not fit into the machine: {error}"))
}

fn debug_port(bus: &mut Bus, parts: &Parts, stream: HostStream) -> Result<Port, EngineError> {
    let output = stream.output();
    let debug = DebugStream::new(stream, parts.ending.clone());
    chipset::install(bus, Arc::new(parts.clock), Box::new(debug.clone())).map_err(machine_error)?;
    Ok(Port {
        tokens: DEBUG,
        output,
        input_ready: Box::new(|_| false),
        output_ready: Box::new(move |_| {
            debug.flush();
            false
        }),
    })
}

fn com1_port(
    bus: &mut Bus,
    interrupts: &Interrupts,
    faults: &Arc<Faults>,
    tracer: &Tracer,
    stream: HostStream,
) -> Result<Port, EngineError> {
    let output = stream.output();
    let wire = Arc::new(interrupts.line(platform::COM1_IRQ));
    let wire = Arc::new(FaultLine::new(wire, faults.site(&["com1"])));
    let uart = Arc::new(Mutex::new(Uart::new("com1", stream, wire, tracer)));
    bus.add_ports(platform::COM1, COM_PORTS, 1, uart.clone()).map_err(machine_error)?;
    let other = uart.clone();
    Ok(Port {
        tokens: CONSOLE,
        output,
        input_ready: Box::new(move |_| {
            lock(&uart).input_ready();
            false
        }),
        output_ready: Box::new(move |_| {
            lock(&other).output_ready();
            false
        }),
    })
}

fn link_port(
    bus: &mut Bus,
    setup: VirtioConfig,
    (stream, place, memory): (HostStream, Bdf, Arc<dyn Dma>),
    (site, tape): (&Site, Tape),
) -> Result<Port, EngineError> {
    let output = stream.output();
    let stream = record::stream(&tape, Box::new(stream));
    let device = VirtioPci::new(Console::new(stream), setup)
        .map_err(|error| EngineError::Machine(format!("virtio-console.0: {error:?}")))?;
    let device = Recorded::new(device, tape, memory);
    let device = Arc::new(Mutex::new(device));
    bus.add_pci_at(place, device.clone()).map_err(machine_error)?;
    site.connect(Arc::new(fault::Function(Arc::downgrade(&device))));
    let other = device.clone();
    Ok(Port {
        tokens: LINK,
        output,
        input_ready: Box::new(move |origin| {
            lock(&device).run(Call::Input, |device| device.input_ready(origin))
        }),
        output_ready: Box::new(move |origin| {
            lock(&other).run(Call::Output, |device| device.output_ready(origin))
        }),
    })
}
