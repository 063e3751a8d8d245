//! Driver of a virtio-iommu (VIRTIO 1.2 section 5.13), for the pci service: each function has a
//! domain of its own, in which exactly the memory is mapped that its driver was granted. Device
//! addresses stay physical addresses: the IOMMU refuses, it does not move.
//!
//! ```text
//! start (bypass on) --allow(endpoint, grants)*--> everybody's grants mapped --enforce--> bypass off
//!                       allow again: what is new is mapped, what is gone is unmapped
//! ```
//! A device that fails a request it must take is a [`DeviceError`]: what it enforces is unknown then,
//! and the driver has to start again.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod changes;
mod requests;

pub use changes::{Change, Domain, Range};

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use requests::Requests;
use xinim_abi::hw::virtio::Status;
use xinim_abi::hw::virtio_iommu::{EVENT_QUEUE, Fault, REQUEST_QUEUE, config, feature};
use xinim_driver_kit::carve::{Carver, Slice};
use xinim_driver_kit::clock::Clock;
use xinim_driver_kit::dma::{Dma, DmaBuffer};
use xinim_driver_kit::memory::SharedMemory;
use xinim_driver_kit::mmio::Mmio;
use xinim_driver_kit::pci::PciFunction;
use xinim_virtio::queue::{self, QueueOptions};
use xinim_virtio::{DeviceError, Queue, StartError, Transport};
use zerocopy::IntoBytes;

/// Entries of the event queue, each with a buffer.
const EVENTS: u16 = 16;
const WANTED: u64 = feature::INPUT_RANGE
    | feature::DOMAIN_RANGE
    | feature::MAP_UNMAP
    | feature::PROBE
    | feature::BYPASS_CONFIG;

/// The device.
pub struct Iommu<M, B, C> {
    transport: Transport<M>,
    requests: Requests<B>,
    events: Queue<Slice<B>>,
    reports: Slice<B>,
    clock: C,
    domains: BTreeMap<u32, Domain>,
    /// Domain of endpoint 0; the others' follow.
    first_domain: u32,
    /// Whole mappings of this, a power of two.
    granule: u64,
}

impl<M: Mmio, B: DmaBuffer, C: Clock> Iommu<M, B, C> {
    /// Starts the device, whatever a predecessor left in it, with everything bypassed. Its own
    /// function masters the bus afterwards. `vector`: of fault reports.
    pub fn start<F, D>(
        function: &F,
        dma: &D,
        clock: C,
        vector: Option<u16>,
    ) -> Result<Self, StartError>
    where
        F: PciFunction<Mmio = M>,
        D: Dma<Buffer = B>,
    {
        let mut transport = Transport::open(function)?;
        // A predecessor's domains go with the reset; devices work on under bypass until theirs are
        // there again.
        if transport.device_status().contains(Status::DRIVER_OK) {
            transport.write_config(config::BYPASS, 1);
        }
        transport.reset(&clock)?;
        function.reset_done()?;
        function.enable(true)?;
        let features = transport.negotiate(WANTED)?;
        if features & feature::MAP_UNMAP == 0 || features & feature::BYPASS_CONFIG == 0 {
            return Err(DeviceError::Config("neither mappings nor bypass to set").into());
        }
        let (granule, first_domain) = transport.config(|config| {
            let mask = config.u64(config::PAGE_SIZE_MASK).unwrap_or(0);
            let domain = config.u32(config::DOMAIN_START).unwrap_or(0);
            (1u64.checked_shl(mask.trailing_zeros()).unwrap_or(0), domain)
        })?;
        if granule == 0 || granule > 4096 {
            return Err(DeviceError::Config("no pages of 4 KiB").into());
        }
        let size = transport.queue_size(REQUEST_QUEUE, requests::QUEUE_SIZE)?;
        let events = transport.queue_size(EVENT_QUEUE, EVENTS)?;
        let options = QueueOptions::default();
        let report = size_of::<Fault>();
        let bytes = queue::bytes(size, options)
            + queue::bytes(events, options)
            + requests::bytes(size)
            + report * usize::from(events)
            + 64;
        let mut carver = Carver::new(dma, bytes)?;
        let request_queue = Queue::new(&mut carver, size, options)?;
        let event_queue = Queue::new(&mut carver, events, options)?;
        let slots = carver.take(requests::bytes(size), 8)?;
        let reports = carver.take(report * usize::from(events), 8)?;
        transport.setup_queue(REQUEST_QUEUE, size, request_queue.addresses(), None)?;
        transport.setup_queue(EVENT_QUEUE, events, event_queue.addresses(), vector)?;
        transport.driver_ok();
        let mut iommu = Self {
            transport,
            requests: Requests::new(request_queue, slots),
            events: event_queue,
            reports,
            clock,
            domains: BTreeMap::new(),
            first_domain,
            granule,
        };
        for slot in 0..events {
            iommu.listen(slot)?;
        }
        iommu.events.publish();
        iommu.events.arm();
        iommu.transport.notify(EVENT_QUEUE);
        Ok(iommu)
    }

    /// From now on a function without a domain reaches nothing.
    pub fn enforce(&mut self) {
        self.transport.write_config(config::BYPASS, 0);
    }

    /// Lets the endpoint reach exactly these ranges: address and bytes. Ranges that do not consist of
    /// whole pages are not mapped.
    pub fn allow(
        &mut self,
        endpoint: u32,
        grants: impl IntoIterator<Item = Range>,
    ) -> Result<(), DeviceError> {
        let domain = self.first_domain.wrapping_add(endpoint);
        let granule = self.granule;
        let entry = self.domains.entry(endpoint).or_default();
        let changes: Vec<Change> = entry.changes(grants, granule).collect();
        self.requests.carry_out(&self.transport, &self.clock, domain, endpoint, &changes)?;
        entry.done(&changes);
        Ok(())
    }

    /// What was refused since the last call: for each, `report` is called.
    pub fn faults(&mut self, mut report: impl FnMut(&Fault)) -> Result<(), DeviceError> {
        loop {
            while let Some(used) = self.events.pop()? {
                let slot = used.cookie as u16;
                let mut fault = Fault::default();
                self.reports.read_bytes(self.report_at(slot), fault.as_mut_bytes());
                if used.len as usize >= size_of::<Fault>() {
                    report(&fault);
                }
                self.listen(slot).map_err(|_| DeviceError::Queue(EVENT_QUEUE))?;
            }
            if self.events.publish() {
                self.transport.notify(EVENT_QUEUE);
            }
            if !self.events.arm() {
                return Ok(());
            }
        }
    }

    fn report_at(&self, slot: u16) -> usize {
        usize::from(slot) * size_of::<Fault>()
    }

    fn listen(&mut self, slot: u16) -> xinim_abi::error::Result<()> {
        let mut segment = self.reports.device_address(self.report_at(slot));
        segment.len = segment.len.min(size_of::<Fault>() as u32);
        self.events.add(&[segment], 0, slot.into()).map(drop)
    }

    /// Ranges mapped for an endpoint.
    pub fn mapped(&self, endpoint: u32) -> usize {
        self.domains.get(&endpoint).map_or(0, Domain::len)
    }
}
