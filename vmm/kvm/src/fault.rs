//! Fault rules on a machine of KVM's: whom they concern and how plugs are pulled.
//!
//! ```text
//!   timerfd (edge) --> I/O thread --> Faults::run_due --> Target of the device --> device
//! ```
//! A target holds its device weakly: the device holds the rules.

use std::sync::{Arc, Mutex, Weak};

use xinim_block::HostDisk;
use xinim_devices::ahci::Ahci;
use xinim_devices::backend::{BlockBackend, DriveBays};
use xinim_devices::bus::lock;
use xinim_devices::device::Origin;
use xinim_devices::dma::Dma;
use xinim_devices::fault::{FaultDisk, FaultDma, FaultMsi, Faults, RuleStatus, Site, Target};
use xinim_devices::net::NetDevice;
use xinim_devices::pci::PciDevice;
use xinim_devices::trace::Tracer;
use xinim_machine::{EngineError, FaultStatus};
use xinim_record::Recorded;

use crate::disks::{Disks, Known};
use crate::io::Port;
use crate::irq::Vectors;
use crate::machine::Parts;
use crate::net::MachineTimer;
use crate::reach::Reach;
use crate::stream::Tokens;

const TOKENS: Tokens = Tokens { input: 7, output: 8 };

/// The machine's rules, none yet, and what runs what they have for later.
pub fn rules(parts: &Parts, tracer: &Tracer) -> Result<(Arc<Faults>, Port), EngineError> {
    let timer = MachineTimer::new(&parts.epoll, parts.clock, TOKENS.input)?;
    let faults = Faults::new(Arc::new(parts.clock), Arc::new(timer), tracer.clone());
    let due = faults.clone();
    let port = Port {
        tokens: TOKENS,
        output: None,
        input_ready: Box::new(move |origin| due.run_due(origin)),
        output_ready: Box::new(|_| false),
    };
    Ok((faults, port))
}

/// Guest memory of the device at a site.
pub fn dma(memory: Arc<dyn Dma>, site: &Site) -> Arc<FaultDma> {
    Arc::new(FaultDma::new(memory, site.clone()))
}

/// Interrupts of the device at a site.
pub fn msi(vectors: Vectors, site: &Site) -> Arc<FaultMsi> {
    Arc::new(FaultMsi::new(Arc::new(vectors), site.clone()))
}

/// A disk at its place on the AHCI controller, which it can be pulled out of.
pub fn bay(
    disk: HostDisk,
    known: &Known,
    (reach, faults, disks): (&Reach, &Arc<Faults>, &Arc<Disks>),
    controller: &Arc<Mutex<Recorded<Ahci>>>,
) -> Box<dyn BlockBackend> {
    let site = faults.site(&["ahci.0", &known.name]);
    site.connect(Arc::new(Bay {
        controller: Arc::downgrade(controller),
        unit: known.unit,
        name: known.name.clone(),
        disks: disks.clone(),
    }));
    let memory = reach.of(known.function);
    Box::new(FaultDisk::new(memory.disk(disk), site, memory.dma()))
}

/// A function with a disk that cannot be pulled out of it, or with none.
pub struct Function<D: ?Sized>(pub Weak<Mutex<D>>);

impl<D: PciDevice + ?Sized> Target for Function<D> {
    fn ready(&self, origin: &Origin) -> bool {
        let Some(device) = self.0.upgrade() else { return false };
        let mut device = lock(&device);
        device.bays().is_some_and(|bays| bays.ready(0, origin))
    }

    fn notify(&self, queue: u16, origin: &Origin) -> bool {
        self.0.upgrade().is_some_and(|device| lock(&device).notify_queue(queue, origin))
    }
}

/// A network card.
pub struct Card(pub Weak<Mutex<dyn NetDevice>>);

impl Target for Card {
    fn ready(&self, origin: &Origin) -> bool {
        let Some(device) = self.0.upgrade() else { return false };
        let mut device = lock(&device);
        device.input_ready(origin) | device.output_ready(origin)
    }

    fn notify(&self, queue: u16, origin: &Origin) -> bool {
        self.0.upgrade().is_some_and(|device| lock(&device).notify_queue(queue, origin))
    }

    fn set_link(&self, up: bool, origin: &Origin) -> bool {
        if let Some(device) = self.0.upgrade() {
            lock(&device).set_link(up, origin);
        }
        true
    }
}

/// The drive at a port of the AHCI controller.
struct Bay {
    controller: Weak<Mutex<Recorded<Ahci>>>,
    unit: u16,
    /// As the control socket has it; forgotten when it is pulled out.
    name: String,
    disks: Arc<Disks>,
}

impl Target for Bay {
    fn ready(&self, origin: &Origin) -> bool {
        self.controller.upgrade().is_some_and(|device| lock(&device).ready(self.unit, origin))
    }

    fn unplug(&self, origin: &Origin) -> bool {
        // It may have been pulled out already, and another be there.
        let known = self.disks.find(&self.name).is_some_and(|disk| disk.unit == self.unit);
        if let (true, Some(device)) = (known, self.controller.upgrade()) {
            let _ = lock(&device).detach(self.unit, origin);
            self.disks.forget(&self.name);
        }
        true
    }
}

/// The rules as the front knows them.
pub fn list(faults: &Faults) -> Vec<FaultStatus> {
    let status = |rule: RuleStatus| FaultStatus {
        id: rule.id,
        rule: rule.rule,
        matches: rule.matches,
        hits: rule.hits,
    };
    faults.list().into_iter().map(status).collect()
}
