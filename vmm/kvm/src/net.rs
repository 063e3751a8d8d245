//! Network devices: models, their back ends, and both on the I/O thread.
//!
//! ```text
//!   back end's descriptor (edge) --> device.input_ready, output_ready
//!   timerfd (edge) ---------------> device.timer
//! ```

use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use vmm_sys_util::epoll::{ControlOperation, Epoll, EpollEvent, EventSet};
use vmm_sys_util::timerfd::TimerFd;
use xinim_abi::hw::e1000::Model;
use xinim_abi::hw::pci;
use xinim_devices::backend::Clock;
use xinim_devices::bus::{Bus, lock};
use xinim_devices::device::Access;
use xinim_devices::e1000::{E1000, E1000Config};
use xinim_devices::fault::{FaultLine, FaultNet, Faults};
use xinim_devices::net::{NetBackend, NetDevice, Timer};
use xinim_devices::pci::PciDevice as _;
use xinim_devices::trace::Tracer;
use xinim_devices::virtio::{Net, NetConfig, VirtioConfig, VirtioPci};
use xinim_hostnet::Endpoint;
use xinim_machine::net::{NetModel, NetSpec, user};
use xinim_machine::{EngineError, NetStatus};
use xinim_record::{Kind, Recorded};

use crate::fault;
use crate::host::host_io;
use crate::io::Port;
use crate::irq::{Interrupts, Vectors, pci_input};
use crate::machine::{Parts, QUEUE_SIZE, machine_error, next};
use crate::reach::Reach;
use crate::record;
use crate::shared::MachineClock;
use crate::stream::Tokens;

/// Tokens of the first device; each takes [`TOKENS`].
const FIRST_TOKEN: u64 = 0x100;
const TOKENS: u64 = 4;

/// A device, for those who pull its cable.
pub struct Card {
    /// As it started.
    pub status: NetStatus,
    pub device: Arc<Mutex<dyn NetDevice>>,
}

/// A network device with its back end opened.
pub struct Prepared {
    pub spec: NetSpec,
    pub endpoint: Box<dyn Endpoint>,
}

/// Opens the back ends, before anything of the machine exists.
pub fn prepare(specs: &[NetSpec]) -> Result<Vec<Prepared>, EngineError> {
    specs
        .iter()
        .map(|spec| {
            let endpoint = xinim_hostnet::open(spec).map_err(EngineError::Machine)?;
            Ok(Prepared { spec: spec.clone(), endpoint })
        })
        .collect()
}

/// Puts the devices on the bus.
pub fn add(
    bus: &mut Bus,
    parts: &Parts,
    (interrupts, faults, reach): (&Arc<Interrupts>, &Arc<Faults>, &Reach),
    tracer: &Tracer,
    nets: Vec<Prepared>,
) -> Result<(Vec<Port>, Vec<Card>), EngineError> {
    let (mut ports, mut cards) = (Vec::new(), Vec::new());
    let specs: Vec<NetSpec> = nets.iter().map(|net| net.spec.clone()).collect();
    let mut statuses = NetStatus::all(&specs).into_iter();
    for (index, Prepared { spec, endpoint }) in (0u64..).zip(nets) {
        let first = FIRST_TOKEN + TOKENS * index;
        if let Some(fd) = endpoint.watch() {
            watch(&parts.epoll, fd.as_raw_fd(), first)?;
        }
        let model = model(spec.model);
        let stem = if model.is_none() { "virtio-net" } else { "e1000" };
        let name = format!("{stem}.{index}");
        let site = faults.site(&[&name, &format!("net{index}")]);
        let backend: Box<dyn NetBackend> = Box::new(FaultNet::new(endpoint, site.clone()));
        let tape = parts.recording.tape(&name, || described(&spec, model));
        let backend = record::net(&tape, backend);
        let place = next(bus)?;
        let reached = reach.of(place);
        parts.show(&name, &reached);
        let memory = reached.dma();
        let dma = record::dma(&tape, fault::dma(memory.clone(), &site));
        let msi = record::msi(&tape, fault::msi(Vectors::new(interrupts.clone()), &site));
        let timer = Arc::new(MachineTimer::new(&parts.epoll, parts.clock, first + 2)?);
        let failed = |name: &str, error| EngineError::Machine(format!("{name}: {error:?}"));
        let device: Arc<Mutex<dyn NetDevice>> = match model {
            None => {
                let setup = NetConfig {
                    mac: spec.mac,
                    pairs: spec.queues,
                    mtu: user::MTU,
                    link: spec.link,
                    ..NetConfig::default()
                };
                let transport = VirtioConfig {
                    tracer: tracer.clone(),
                    queue_size: QUEUE_SIZE,
                    translated: reach.is_translated(),
                    ..VirtioConfig::new(&name, dma, msi)
                };
                let device = VirtioPci::new(Net::new(backend, setup), transport)
                    .map_err(|error| failed(&name, error))?;
                let device = Arc::new(Mutex::new(Recorded::new(device, tape, memory)));
                bus.add_pci_at(place, device.clone()).map_err(machine_error)?;
                device
            }
            Some(model) => {
                // Not every driver uses the MSI of these cards: Linux' e1000 knows the pin only.
                let line = Arc::new(interrupts.pci_line(place.device()));
                let line = FaultLine::new(line, site.clone());
                let setup = E1000Config {
                    name: name.clone(),
                    model,
                    mac: spec.mac,
                    link: spec.link,
                    dma,
                    msi,
                    intx: Some(record::line(&tape, Arc::new(line))),
                    clock: record::clock(&tape, Arc::new(parts.clock)),
                    timer: record::timer(&tape, timer),
                    tracer: tracer.clone(),
                };
                let device = E1000::new(setup, backend).map_err(|error| failed(&name, error))?;
                let mut device = Recorded::new(device, tape, memory);
                // As firmware would, for guests that do not interpret the DSDT.
                let input = pci_input(place.device()).into();
                device.config_access(Access::write(pci::INTERRUPT_LINE as u64, 1, input));
                let device = Arc::new(Mutex::new(device));
                bus.add_pci_at(place, device.clone()).map_err(machine_error)?;
                device
            }
        };
        site.connect(Arc::new(fault::Card(Arc::downgrade(&device))));
        let (backend, clock) = (device.clone(), device.clone());
        ports.push(Port {
            tokens: Tokens { input: first, output: first + 1 },
            output: None,
            input_ready: Box::new(move |origin| {
                let mut device = lock(&backend);
                device.input_ready(origin) | device.output_ready(origin)
            }),
            output_ready: Box::new(|_| false),
        });
        ports.push(Port {
            tokens: Tokens { input: first + 2, output: first + 3 },
            output: None,
            input_ready: Box::new(move |origin| lock(&clock).timer(origin)),
            output_ready: Box::new(|_| false),
        });
        let Some(status) = statuses.next() else { break };
        cards.push(Card { status, device });
    }
    Ok((ports, cards))
}

/// A device as a recording describes it.
fn described(spec: &NetSpec, model: Option<Model>) -> Kind {
    let (mac, link) = (spec.mac, spec.link);
    match model {
        None => {
            let (pairs, mtu, queue_size) = (spec.queues, user::MTU, QUEUE_SIZE);
            Kind::Net { mac, pairs, mtu, link, queue_size }
        }
        Some(model) => Kind::E1000 { model: model.device_id(), mac, link, intx: true },
    }
}

/// `None`: virtio.
fn model(model: NetModel) -> Option<Model> {
    Some(match model {
        NetModel::Virtio => return None,
        NetModel::E1000 => Model::I82540em,
        NetModel::E1000_82545em => Model::I82545em,
        NetModel::E1000e => Model::I82574l,
    })
}

fn watch(epoll: &Epoll, fd: i32, token: u64) -> Result<(), EngineError> {
    let events = EventSet::IN | EventSet::OUT | EventSet::EDGE_TRIGGERED;
    epoll
        .ctl(ControlOperation::Add, fd, EpollEvent::new(events, token))
        .map_err(host_io("watching a network back end"))
}

/// A device's timer.
pub struct MachineTimer {
    clock: MachineClock,
    timer: Mutex<TimerFd>,
}

impl MachineTimer {
    pub fn new(epoll: &Epoll, clock: MachineClock, token: u64) -> Result<Self, EngineError> {
        let failed = |error: vmm_sys_util::errno::Error| EngineError::Host {
            context: "creating a timer".into(),
            source: error.into(),
        };
        let timer = TimerFd::new().map_err(failed)?;
        // Edge-triggered: each expiry is one event, and nothing has to be read.
        watch(epoll, timer.as_raw_fd(), token)?;
        Ok(Self { clock, timer: Mutex::new(timer) })
    }
}

impl Timer for MachineTimer {
    fn arm(&self, at: Option<Duration>) {
        let mut timer = lock(&self.timer);
        // Neither fails for a descriptor of ours.
        let _ = match at {
            // Zero would disarm.
            Some(at) => {
                let wait = at.saturating_sub(self.clock.monotonic());
                timer.reset(wait.max(Duration::from_nanos(1)), None)
            }
            None => timer.clear(),
        };
    }
}
