//! The machine's IOMMU: what each function's DMA reaches is what the kernel says its driver pinned.
//!
//! ```text
//! driver    pins memory (kernel), then Sync --> DEVICE_GRANTS --> MAP, UNMAP --> DEVICE_RELEASED
//! driver    dies: obituary -------------------> DEVICE_GRANTS --> UNMAP -------> DEVICE_RELEASED
//! ```
//! The kernel's list is the only truth: nothing of it is kept here, so an instance that starts after
//! another's death reads it again and is as good. While the IOMMU is set up anew devices work on
//! unconfined; before that and afterwards a function without grants reaches nothing. Memory is given
//! to others only when the IOMMU has let go of it: the kernel waits for that.
//!
//! An IOMMU that fails ends the process, since what it enforces is not known any more.

use crate::access::{Access, find_viot};
use crate::window::Window;
use crate::{Route, interrupts};
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use xinim_abi::error::{Error, Result};
use xinim_abi::hw::pci::Bdf;
use xinim_abi::hw::virtio::{DeviceType, PCI_VENDOR};
use xinim_abi::hw::virtio_iommu::{Fault, fault};
use xinim_abi::ipc::bits;
use xinim_abi::object::Handle;
use xinim_driver_kit::pci::{Capability, PciFunction};
use xinim_driver_rt::{PinnedMemory, RtClock, RtDma};
use xinim_pci::acpi::Viot;
use xinim_pci::enumerate::Found;
use xinim_pci::function::{Function, Messages};
use xinim_pci::interrupt;
use xinim_pci::refused::Refused;
use xinim_rt::handle::OwnedHandle;
use xinim_rt::{log, process, server, sys};
use xinim_virtio::StartError;
use xinim_virtio_iommu::{Iommu, Range};

/// Notification bit of the IOMMU's interrupt: something was refused.
const FAULT_BIT: u32 = 0;
const FAULT_VECTOR: u16 = 0;
/// PCI id of a virtio-iommu: device << 16 | vendor.
const IOMMU_ID: u32 = (DeviceType::Iommu.pci_device_id() as u32) << 16 | PCI_VENDOR as u32;
/// Runs of memory that a function's grants are expected to have at first.
const RUNS: usize = 256;
/// More are not believed: 16 GiB of single pages.
const RUNS_MAX: usize = 1 << 22;

pub struct Confinement {
    iommu: Iommu<Window, PinnedMemory, RtClock>,
    viot: Viot,
    resource: Handle,
    endpoint: Handle,
    /// The DMA domains of all functions behind the IOMMU.
    devices: BTreeMap<Bdf, OwnedHandle>,
    /// Processes that have grants, whose deaths are told.
    watched: BTreeMap<u32, Bdf>,
    runs: Vec<[u64; 3]>,
    refused: Refused,
    /// Kept while the interrupt is wanted; and the IOMMU's own DMA domain.
    _own: (Option<OwnedHandle>, OwnedHandle),
}

impl Confinement {
    /// Finds the IOMMU and sets it up; `None` where there is none.
    pub fn start(
        resource: Handle,
        config: &Access,
        functions: &mut BTreeMap<Bdf, Function>,
        found: &[Found],
    ) -> Result<Option<Self>> {
        let Some(own) = found.iter().find(|function| function.id == IOMMU_ID) else {
            return Ok(None);
        };
        let viot = find_viot(resource).filter(|viot| viot.iommu == own.bdf);
        let Some(viot) = viot else {
            log!("no table names the IOMMU at {}: it is not used", own.bdf);
            return Ok(None);
        };
        let function = functions.get_mut(&own.bdf).ok_or(Error::NoDev)?;
        let endpoint = server::own_endpoint()?;
        // An IOMMU with a pin only is asked for refusals when there is something else to ask it.
        let irq = match interrupts(function, config) {
            Messages::Msix(_) => {
                let vector = FAULT_VECTOR.into();
                let route = Route::new(resource, config, (&mut *function, found), vector)?;
                route.program(config, own.bdf);
                sys::irq_bind(route.interrupt.raw(), endpoint, FAULT_BIT)?;
                Some(route.interrupt)
            }
            _ => None,
        };
        let vector = irq.is_some().then_some(FAULT_VECTOR);
        let space = config.physical(own.bdf);
        let create = |bdf: Bdf, space| {
            sys::device_create(resource, bdf.bits(), space).map(OwnedHandle::from_raw)
        };
        let domain = create(own.bdf, space)?;
        let device = domain.raw();
        let function = RefCell::new(function);
        let own = Own { config, function, found, resource, device };
        let dma = RtDma::in_domain(device);
        let iommu = match Iommu::start(&own, &dma, RtClock, vector) {
            Ok(iommu) => iommu,
            Err(StartError::System(error)) => return Err(error),
            Err(StartError::Device(error)) => {
                log!("IOMMU: {error}");
                return Err(Error::Io);
            }
        };
        let mut devices = BTreeMap::new();
        for function in found.iter().filter(|f| viot.endpoint(f.bdf).is_some()) {
            let device = create(function.bdf, config.physical(function.bdf))?;
            sys::device_confine(resource, device.raw())?;
            devices.insert(function.bdf, device);
        }
        let mut confinement = Self {
            iommu,
            viot,
            resource,
            endpoint,
            devices,
            watched: BTreeMap::new(),
            runs: vec![[0; 3]; RUNS],
            refused: Refused::default(),
            _own: (irq, domain),
        };
        confinement.sync(None);
        confinement.iommu.enforce();
        Ok(Some(confinement))
    }

    /// Brings a function's mappings in line with its grants, or those of all; whether it is confined.
    pub fn sync(&mut self, function: Option<Bdf>) -> bool {
        match function {
            Some(bdf) => {
                let confined = self.devices.contains_key(&bdf);
                if confined {
                    self.sync_one(bdf);
                }
                confined
            }
            None => {
                let all: Vec<Bdf> = self.devices.keys().copied().collect();
                all.into_iter().for_each(|bdf| self.sync_one(bdf));
                true
            }
        }
    }

    fn sync_one(&mut self, bdf: Bdf) {
        if let Err(error) = self.try_sync(bdf) {
            log!("IOMMU: {error}");
            process::exit(1);
        }
        self.read_faults();
    }

    fn read_faults(&mut self) {
        let refused = &mut self.refused;
        if let Err(error) = self.iommu.faults(|fault| log_fault(refused, fault)) {
            log!("IOMMU: {error}");
            process::exit(1);
        }
    }

    fn try_sync(&mut self, bdf: Bdf) -> core::result::Result<(), StartError> {
        let Some(endpoint) = self.viot.endpoint(bdf) else { return Ok(()) };
        let Some(device) = self.devices.get(&bdf).map(OwnedHandle::raw) else { return Ok(()) };
        let count = loop {
            let count = self.read_grants(device)?;
            if !self.watch(bdf, count) {
                break count;
            }
        };
        let run = |run: &[u64; 3]| Range { address: run[0], bytes: run[1] };
        // A function that has, and had, nothing need not be put into a domain.
        if count > 0 || self.iommu.mapped(endpoint) > 0 {
            self.iommu.allow(endpoint, self.runs[..count].iter().map(run))?;
        }
        sys::device_released(self.resource, device)?;
        Ok(())
    }

    fn read_grants(&mut self, device: Handle) -> Result<usize> {
        loop {
            match sys::device_grants(self.resource, device, &mut self.runs) {
                Err(Error::Limit) if self.runs.len() < RUNS_MAX => {
                    self.runs.resize(self.runs.len() * 2, [0; 3]);
                }
                other => return other,
            }
        }
    }

    /// Has the deaths told of those who have grants. Whether one has died in the meantime: then the
    /// grants are old.
    fn watch(&mut self, bdf: Bdf, count: usize) -> bool {
        for run in &self.runs[..count] {
            let pid = run[2] as u32;
            if self.watched.contains_key(&pid) {
                continue;
            }
            match sys::watch(pid, self.endpoint, pid.into()) {
                Ok(()) => {
                    self.watched.insert(pid, bdf);
                }
                Err(Error::Srch) => return true,
                // Without a message of its death its mappings stay until the next driver's reset.
                Err(error) => log!("process {pid} cannot be watched: {error}"),
            }
        }
        false
    }

    pub fn notified(&mut self, raised: u64) {
        if raised & bits::OBITUARY != 0 {
            while let Ok(Some(obituary)) = sys::event_next(self.endpoint) {
                if let Some(bdf) = self.watched.remove(&(obituary.cookie as u32)) {
                    self.sync_one(bdf);
                }
            }
        }
        if raised & 1 << FAULT_BIT != 0 {
            self.read_faults();
        }
    }
}

fn log_fault(refused: &mut Refused, report: &Fault) {
    let Some(count) = refused.note(report) else { return };
    let what = if report.flags & fault::WRITE != 0 { "write" } else { "read" };
    let (function, address) = (Bdf::from_bits(report.endpoint as u16), report.address);
    log!("{function} was refused a {what} at {address:#x} ({count} so far)");
}

/// The IOMMU's own function.
struct Own<'a> {
    config: &'a Access,
    function: RefCell<&'a mut Function>,
    found: &'a [Found],
    resource: Handle,
    device: Handle,
}

impl PciFunction for Own<'_> {
    type Mmio = Window;

    fn capability(&self, id: u8, index: usize) -> Result<Option<Capability>> {
        let index = u32::try_from(index).map_err(|_| Error::Inval)?;
        match self.function.borrow_mut().capability(self.config, id.into(), index) {
            Err(Error::NoEnt) => Ok(None),
            other => other.map(Some),
        }
    }

    fn bar(&self, index: u8) -> Result<Window> {
        let mut function = self.function.borrow_mut();
        let bar = function.memory_bar(self.config, index.into(), self.found)?;
        interrupt::enable(self.config, function.found.bdf, false, None);
        let len = usize::try_from(bar.len).map_err(|_| Error::Inval)?;
        Window::map(self.resource, bar.address, len)
    }

    fn enable(&self, bus_master: bool) -> Result<()> {
        let bdf = self.function.borrow().found.bdf;
        interrupt::enable(self.config, bdf, false, Some(bus_master));
        Ok(())
    }

    fn reset_done(&self) -> Result<()> {
        sys::device_reset_done(self.device)
    }
}
