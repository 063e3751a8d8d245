//! What a function's DMA reaches: guest memory, through the IOMMU where the machine has one.
//!
//! ```text
//!   device --> record --> fault rules --> [IOMMU] --> guest memory, host file
//! ```
//! So a recording and the fault rules see the addresses that the driver gave, and a machine without
//! an IOMMU has nothing in between.

use std::sync::{Arc, Mutex};

use xinim_abi::hw::pci::Bdf;
use xinim_block::HostDisk;
use xinim_devices::backend::BlockBackend;
use xinim_devices::bus::{Bus, lock};
use xinim_devices::dma::Dma;
use xinim_devices::iommu::disk::TranslatedDisk;
use xinim_devices::iommu::dma::TranslatedDma;
use xinim_devices::iommu::{Iommu, device};
use xinim_devices::trace::Tracer;
use xinim_devices::virtio::VirtioConfig;
use xinim_machine::EngineError;

use crate::dma::GuestDma;
use crate::io::Port;
use crate::irq::{Interrupts, Vectors};
use crate::machine::{Parts, QUEUE_SIZE, machine_error};
use crate::memory::GuestRam;
use crate::net::MachineTimer;
use crate::stream::Tokens;

/// The IOMMU's place on bus 0; the ACPI tables name it.
pub const PLACE: Bdf = Bdf::new(0, 0x1E, 0);
const NAME: &str = "virtio-iommu.0";
const TOKENS: Tokens = Tokens { input: 9, output: 10 };

/// See the module's head.
#[derive(Clone)]
pub struct Reach {
    ram: Arc<GuestRam>,
    iommu: Option<Arc<Iommu>>,
}

/// One function's memory.
#[derive(Clone)]
pub struct Memory {
    physical: Arc<GuestDma>,
    translated: Option<Arc<TranslatedDma>>,
}

impl Reach {
    /// Everybody reaches everything.
    pub fn new(ram: Arc<GuestRam>) -> Self {
        Self { ram, iommu: None }
    }

    /// Puts an IOMMU on the bus, behind which every other function is.
    pub fn confined(
        bus: &mut Bus,
        parts: &Parts,
        interrupts: &Arc<Interrupts>,
        tracer: &Tracer,
    ) -> Result<(Self, Port), EngineError> {
        let timer = MachineTimer::new(&parts.epoll, parts.clock, TOKENS.input)?;
        let iommu = Arc::new(Iommu::new(Arc::new(timer), tracer.named(NAME)));
        let dma = Arc::new(GuestDma(parts.ram.clone()));
        let msi = Arc::new(Vectors::new(interrupts.clone()));
        let setup = VirtioConfig {
            tracer: tracer.clone(),
            queue_size: QUEUE_SIZE,
            ..VirtioConfig::new(NAME, dma, msi)
        };
        let function = device::function(iommu.clone(), setup)
            .map_err(|error| EngineError::Machine(format!("{NAME}: {error:?}")))?;
        let function = Arc::new(Mutex::new(function));
        bus.add_pci_at(PLACE, function.clone()).map_err(machine_error)?;
        let port = Port {
            tokens: TOKENS,
            output: None,
            input_ready: Box::new(move |origin| device::faulted(&mut lock(&function), origin)),
            output_ready: Box::new(|_| false),
        };
        Ok((Self { ram: parts.ram.clone(), iommu: Some(iommu) }, port))
    }

    /// Whether there is an IOMMU.
    pub fn is_translated(&self) -> bool {
        self.iommu.is_some()
    }

    /// The memory of the function at this place.
    pub fn of(&self, function: Bdf) -> Memory {
        let physical = Arc::new(GuestDma(self.ram.clone()));
        let translated = self.iommu.as_ref().map(|iommu| {
            let endpoint = function.bits().into();
            iommu.add_endpoint(endpoint);
            Arc::new(TranslatedDma::new(physical.clone(), iommu.clone(), endpoint))
        });
        Memory { physical, translated }
    }
}

impl Memory {
    /// As the device reaches it.
    pub fn dma(&self) -> Arc<dyn Dma> {
        match &self.translated {
            Some(translated) => translated.clone(),
            None => self.physical.clone(),
        }
    }

    /// As the device would reach it, for somebody who only looks: nothing that is not mapped is
    /// reported. `None`: as it is.
    pub fn look(&self) -> Option<Arc<dyn Dma>> {
        let quiet = self.translated.as_ref()?.quiet();
        Some(Arc::new(quiet))
    }

    /// A disk for the device, whose data go where the device's would.
    pub fn disk(&self, disk: HostDisk) -> Box<dyn BlockBackend> {
        match &self.translated {
            Some(translated) => {
                let physical = self.physical.clone();
                Box::new(TranslatedDisk::new(disk, translated.clone(), physical))
            }
            None => Box::new(disk),
        }
    }
}
