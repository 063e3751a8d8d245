//! An IOMMU: what each device's DMA may reach, as the guest says through virtio-iommu (VIRTIO 1.2
//! section 5.13).
//!
//! ```text
//!   device model --Dma, BlockBackend--> TranslatedDma, TranslatedDisk --> guest memory, host file
//!                                            |  translate
//!   guest's driver --requests--> IommuDevice --> Iommu: endpoint -> domain -> mappings
//!                  <---faults---     ^-------------'
//! ```
//! * [`table`]: a domain's mappings; this file: endpoints and domains;
//! * [`dma`] and [`disk`]: the two ways in which a device reaches memory, translated. A machine
//!   without an IOMMU has neither, and pays nothing;
//! * [`device`]: the virtio device.
//!
//! An endpoint is a PCI function, numbered by its requester id. One that is in no domain reaches
//! everything while `bypass` is set, as it is when the machine starts (so that a guest that knows
//! nothing of IOMMUs runs), and nothing otherwise. Refused DMA is a [`DmaError`] for the device, which
//! does what its bus does, and a [`Fault`] for the guest.
//!
//! Interrupt messages are not DMA here and pass: their addresses are reserved.
//!
//! UNMAP and DETACH are complete when the models have done with the memory. What a back end has begun
//! on the host with addresses that were translated before still moves its data, as with bus mastering
//! turned off; it ends with the reset of the device.

pub mod device;
pub mod disk;
pub mod dma;
pub mod table;

use crate::dma::DmaError;
use crate::net::Timer;
use crate::trace::{EventKind, IommuRequest, Tracer};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;
use table::{Mappings, Piece};
use xinim_abi::hw::virtio_iommu::{
    ATTACH_BYPASS, Fault, MSI_END, MSI_START, Status, fault, map_flag,
};

/// Unit of mappings in bytes.
pub const GRANULE: u64 = 4096;
/// Addresses that devices can use: as many as a guest's processor has.
pub const INPUT_END: u64 = (1 << 48) - 1;
/// Highest number of a domain: every function can have its own.
pub const DOMAIN_END: u32 = 0x1_FFFF;
/// Mappings in all domains together.
pub const MAPPINGS_MAX: usize = 1 << 18;
/// Fault reports that wait for the driver; later ones are counted only.
const FAULTS_KEPT: usize = 64;

/// A domain: an address space.
#[derive(Debug, Default)]
struct Domain {
    bypass: bool,
    mappings: Mappings,
}

/// What the guest has set up.
#[derive(Debug)]
struct State {
    bypass: bool,
    /// Every function behind the IOMMU, and the domain it is in.
    endpoints: BTreeMap<u32, Option<u32>>,
    domains: BTreeMap<u32, Domain>,
    mappings: usize,
}

/// See the module's head.
pub struct Iommu {
    state: RwLock<State>,
    faults: Mutex<Faults>,
    wake: Arc<dyn Timer>,
    tracer: Tracer,
}

#[derive(Debug, Default)]
struct Faults {
    waiting: VecDeque<Fault>,
    total: u64,
}

/// What an access was refused for.
type Refused = (u8, u64);

impl Iommu {
    /// With everything bypassed. `wake` fires when there is a fault to report: then
    /// [`faulted`](device::faulted) is to be called.
    pub fn new(wake: Arc<dyn Timer>, tracer: Tracer) -> Self {
        let state = State {
            bypass: true,
            endpoints: BTreeMap::new(),
            domains: BTreeMap::new(),
            mappings: 0,
        };
        Self { state: RwLock::new(state), faults: Mutex::default(), wake, tracer }
    }

    /// Puts an endpoint behind it.
    pub fn add_endpoint(&self, endpoint: u32) {
        self.write().endpoints.entry(endpoint).or_default();
    }

    /// Accesses refused since the machine started.
    pub fn faults(&self) -> u64 {
        self.reports().total
    }

    pub fn bypass(&self) -> bool {
        self.read().bypass
    }

    fn set_bypass(&self, bypass: bool) {
        self.write().bypass = bypass;
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn reports(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `work` with each piece of memory that the range is, in order, while no mapping can
    /// change; or refuses, before any call, and reports a fault if that `reports`.
    fn with<T>(
        &self,
        endpoint: u32,
        reports: bool,
        (address, length, write): (u64, u64, bool),
        work: impl FnOnce(&[Piece]) -> Result<T, DmaError>,
    ) -> Result<T, DmaError> {
        let state = self.read();
        match state.translate(endpoint, address, length, write) {
            Ok(Translation::Same) => work(&[Piece { address, length }]),
            Ok(Translation::Pieces(pieces)) => work(&pieces),
            Err(refused) => {
                drop(state);
                if reports {
                    self.report(endpoint, refused, write);
                }
                Err(DmaError { address, length })
            }
        }
    }

    fn report(&self, endpoint: u32, (reason, address): Refused, write: bool) {
        let flags = fault::ADDRESS | if write { fault::WRITE } else { fault::READ };
        let origin = crate::device::Origin::default();
        self.tracer.emit(&origin, || EventKind::IommuFault {
            endpoint: endpoint as u16,
            address,
            write,
            attached: reason != fault::DOMAIN,
        });
        let mut faults = self.reports();
        faults.total += 1;
        if faults.waiting.len() < FAULTS_KEPT {
            faults.waiting.push_back(Fault {
                reason,
                flags,
                endpoint,
                address,
                ..Fault::default()
            });
            drop(faults);
            self.wake.arm(Some(Duration::ZERO));
        }
    }

    fn next_fault(&self) -> Option<Fault> {
        self.reports().waiting.pop_front()
    }

    fn attach(&self, domain: u32, endpoint: u32, flags: u32) -> Result<(), Status> {
        self.write().attach(domain, endpoint, flags)
    }

    fn detach(&self, domain: u32, endpoint: u32) -> Result<(), Status> {
        let mut state = self.write();
        match state.endpoints.get(&endpoint) {
            None => Err(Status::NoEntry),
            Some(&Some(current)) if current == domain => {
                state.leave(endpoint);
                Ok(())
            }
            Some(_) => Err(Status::Invalid),
        }
    }

    fn map(&self, request: &IommuRequest) -> Result<(), Status> {
        self.write().map(request)
    }

    fn unmap(&self, domain: u32, start: u64, end: u64) -> Result<(), Status> {
        let mut state = self.write();
        let found = state.domains.get_mut(&domain).ok_or(Status::NoEntry)?;
        if found.bypass || start > end {
            return Err(Status::Invalid);
        }
        let removed = found.mappings.unmap(start, end)?;
        state.mappings -= removed;
        Ok(())
    }

    fn knows(&self, endpoint: u32) -> bool {
        self.read().endpoints.contains_key(&endpoint)
    }

    /// Whether its own numbers agree: for the fuzzer.
    pub fn is_consistent(&self) -> bool {
        let state = self.read();
        let mappings: usize = state.domains.values().map(|domain| domain.mappings.len()).sum();
        let used = |domain: &u32| state.endpoints.values().any(|other| *other == Some(*domain));
        let inside = |domain: &Option<u32>| domain.is_none_or(|d| state.domains.contains_key(&d));
        mappings == state.mappings
            && state.domains.keys().all(used)
            && state.endpoints.values().all(inside)
    }

    /// Forgets every domain; `bypass` stays (5.13.4: only the machine's reset changes it).
    fn clear(&self) {
        let mut state = self.write();
        state.endpoints.values_mut().for_each(|domain| *domain = None);
        state.domains.clear();
        state.mappings = 0;
        drop(state);
        self.reports().waiting.clear();
    }
}

enum Translation {
    /// As it is.
    Same,
    Pieces(Vec<Piece>),
}

impl State {
    fn translate(
        &self,
        endpoint: u32,
        address: u64,
        length: u64,
        write: bool,
    ) -> Result<Translation, Refused> {
        let domain = self.endpoints.get(&endpoint).copied().flatten();
        let Some(domain) = domain.and_then(|domain| self.domains.get(&domain)) else {
            return if self.bypass { Ok(Translation::Same) } else { Err((fault::DOMAIN, address)) };
        };
        if domain.bypass {
            return Ok(Translation::Same);
        }
        let pieces = domain.mappings.translate(address, length, write);
        pieces.map(Translation::Pieces).map_err(|at| (fault::MAPPING, at))
    }

    fn attach(&mut self, domain: u32, endpoint: u32, flags: u32) -> Result<(), Status> {
        let current = *self.endpoints.get(&endpoint).ok_or(Status::NoEntry)?;
        if domain > DOMAIN_END {
            return Err(Status::Range);
        }
        if flags & !ATTACH_BYPASS != 0 {
            return Err(Status::Invalid);
        }
        let bypass = flags & ATTACH_BYPASS != 0;
        if self.domains.get(&domain).is_some_and(|found| found.bypass != bypass) {
            return Err(Status::Invalid);
        }
        if current == Some(domain) {
            return Ok(());
        }
        self.leave(endpoint);
        self.domains.entry(domain).or_insert_with(|| Domain { bypass, ..Domain::default() });
        self.endpoints.insert(endpoint, Some(domain));
        Ok(())
    }

    /// Takes an endpoint out of its domain, which goes with its last one.
    fn leave(&mut self, endpoint: u32) {
        let Some(domain) = self.endpoints.get_mut(&endpoint).and_then(Option::take) else { return };
        if self.endpoints.values().all(|other| *other != Some(domain))
            && let Some(gone) = self.domains.remove(&domain)
        {
            self.mappings -= gone.mappings.len();
        }
    }

    fn map(&mut self, request: &IommuRequest) -> Result<(), Status> {
        let &IommuRequest { domain, start, end, physical, flags, .. } = request;
        let found = self.domains.get_mut(&domain).ok_or(Status::NoEntry)?;
        if flags & !(map_flag::READ | map_flag::WRITE) != 0 || start > end || found.bypass {
            return Err(Status::Invalid);
        }
        let aligned = |at: u64| at.is_multiple_of(GRANULE);
        let whole = aligned(start) && aligned(end.wrapping_add(1)) && aligned(physical);
        if !whole || end > INPUT_END || physical.checked_add(end - start).is_none() {
            return Err(Status::Range);
        }
        if start <= MSI_END && end >= MSI_START {
            return Err(Status::Invalid);
        }
        if self.mappings >= MAPPINGS_MAX {
            return Err(Status::NoMemory);
        }
        found.mappings.map(start, end, physical, flags)?;
        self.mappings += 1;
        Ok(())
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
