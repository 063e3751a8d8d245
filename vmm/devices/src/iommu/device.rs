//! The virtio-iommu device (VIRTIO 5.13).
//!
//! A request is carried out when its chain is taken, so an access to the doorbell returns when
//! everything published before it is done: the doorbell is never an ioeventfd. A chain without room
//! for its tail cannot be answered: the device then needs a reset. A driver that leaves no buffers for
//! faults misses them; they are counted and traced all the same.

use super::{DOMAIN_END, GRANULE, INPUT_END, Iommu};
use crate::device::{GuestError, Origin};
use crate::trace::{EventKind, IommuRequest};
use crate::virtio::{
    Chain, Context, Progress, Queue, RingError, VirtioConfig, VirtioDevice, VirtioPci,
};
use std::sync::Arc;
use xinim_abi::hw::register::Register;
use xinim_abi::hw::virtio::DeviceType;
use xinim_abi::hw::virtio_iommu::{
    Attach, CONFIG, Detach, EVENT_QUEUE, Fault, HEAD_SIZE, MSI_END, MSI_START, Map,
    PROPERTY_RESV_MEM, Probe, RESV_MEM_MSI, ReservedMemory, Status, TAIL_SIZE, Unmap, config,
    feature, request,
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Bytes of properties in an answer to PROBE, the rest zeros (which end the list).
pub const PROBE_SIZE: usize = 64;
/// Requests carried out, or faults reported, in one call.
const BATCH: usize = 64;

/// The device.
pub struct IommuDevice {
    iommu: Arc<Iommu>,
    space: [u8; config::SIZE],
    features: u64,
}

/// The PCI function. Its own DMA is not translated.
pub type IommuPci = VirtioPci<IommuDevice>;

impl IommuDevice {
    pub fn new(iommu: Arc<Iommu>) -> Self {
        let mut space = [0; config::SIZE];
        let mut put = |at: usize, bytes: &[u8]| space[at..at + bytes.len()].copy_from_slice(bytes);
        // Every power of two from the granule on.
        put(config::PAGE_SIZE_MASK, &(!(GRANULE - 1)).to_le_bytes());
        put(config::INPUT_END, &INPUT_END.to_le_bytes());
        put(config::DOMAIN_END, &DOMAIN_END.to_le_bytes());
        put(config::PROBE_SIZE, &(PROBE_SIZE as u32).to_le_bytes());
        put(config::BYPASS, &[u8::from(iommu.bypass())]);
        Self { iommu, space, features: 0 }
    }

    fn set_bypass(&mut self, bypass: bool) {
        self.iommu.set_bypass(bypass);
        self.space[config::BYPASS] = u8::from(bypass);
    }

    /// Carries out one request; gives the bytes written.
    fn answer(&mut self, chain: &Chain, context: &Context<'_>) -> Result<u32, RingError> {
        let output = chain.writable();
        let room = output.len();
        if room < TAIL_SIZE as u64 || chain.readable().len() < HEAD_SIZE as u64 {
            return Err(RingError::Malformed);
        }
        let mut head = [0; HEAD_SIZE];
        chain.readable().read(context, &mut head)?;
        let (done, properties) = self.carry_out(head[0], chain, context);
        let mut output = output;
        let mut written = 0;
        if room > TAIL_SIZE as u64 {
            // Only PROBE has anything in front of its tail.
            let bytes = properties.unwrap_or([0; PROBE_SIZE]);
            let take = (room - TAIL_SIZE as u64).min(PROBE_SIZE as u64) as usize;
            if properties.is_some() {
                written += output.write(context, &bytes[..take])?;
            } else {
                output.skip(room - TAIL_SIZE as u64);
                written += (room - TAIL_SIZE as u64) as usize;
            }
        }
        let status = done.err().unwrap_or(Status::Ok) as u8;
        written += output.write(context, &[status, 0, 0, 0])?;
        Ok(written as u32)
    }

    fn carry_out(
        &mut self,
        kind: u8,
        chain: &Chain,
        context: &Context<'_>,
    ) -> (Result<(), Status>, Option<[u8; PROBE_SIZE]>) {
        let mut seen = IommuRequest { kind, ..IommuRequest::default() };
        let mut properties = None;
        let done = match kind {
            request::ATTACH => body::<Attach>(chain, context).and_then(|r| {
                (seen.domain, seen.endpoint, seen.flags) = (r.domain, r.endpoint, r.flags);
                clean(&[&r.reserved, &r.reserved2])?;
                self.iommu.attach(r.domain, r.endpoint, r.flags)
            }),
            request::DETACH => body::<Detach>(chain, context).and_then(|r| {
                (seen.domain, seen.endpoint) = (r.domain, r.endpoint);
                clean(&[&r.reserved, &r.reserved2])?;
                self.iommu.detach(r.domain, r.endpoint)
            }),
            request::MAP => body::<Map>(chain, context).and_then(|r| {
                (seen.domain, seen.flags) = (r.domain, r.flags);
                (seen.start, seen.end, seen.physical) = (r.virt_start, r.virt_end, r.phys_start);
                clean(&[&r.reserved])?;
                self.iommu.map(&seen)
            }),
            request::UNMAP => body::<Unmap>(chain, context).and_then(|r| {
                (seen.domain, seen.start, seen.end) = (r.domain, r.virt_start, r.virt_end);
                clean(&[&r.reserved, &r.reserved2])?;
                self.iommu.unmap(r.domain, r.virt_start, r.virt_end)
            }),
            request::PROBE => body::<Probe>(chain, context).and_then(|r| {
                seen.endpoint = r.endpoint;
                if chain.writable().len() < (PROBE_SIZE + TAIL_SIZE) as u64 {
                    return Err(Status::Invalid);
                }
                clean(&[&r.reserved, &r.reserved2])?;
                if !self.iommu.knows(r.endpoint) {
                    return Err(Status::NoEntry);
                }
                properties = Some(reserved_memory());
                Ok(())
            }),
            _ => Err(Status::Unsupported),
        };
        seen.status = done.err().unwrap_or(Status::Ok) as u8;
        context.tracer.emit(context.origin, || EventKind::IommuRequest(seen));
        // An answer to a probe that failed still has its place, of zeros.
        if kind == request::PROBE && chain.writable().len() >= (PROBE_SIZE + TAIL_SIZE) as u64 {
            properties = properties.or(Some([0; PROBE_SIZE]));
        }
        (done, properties)
    }

    fn report(&mut self, queue: &mut Queue, context: &Context<'_>) -> Result<Progress, RingError> {
        for _ in 0..BATCH {
            if self.iommu.reports().waiting.is_empty() {
                return Ok(Progress::Idle);
            }
            let Some(chain) = queue.pop(context)? else { return Ok(Progress::Idle) };
            let context = &context.of(EVENT_QUEUE, chain.head);
            if chain.writable().len() < size_of::<Fault>() as u64 {
                return Err(RingError::Malformed);
            }
            // Nobody else takes them; a reset in between leaves a report of zeros, which says nothing.
            let fault = self.iommu.next_fault().unwrap_or_default();
            chain.writable().write(context, fault.as_bytes())?;
            queue.push(context, chain.head, size_of::<Fault>() as u32)?;
        }
        Ok(Progress::More)
    }
}

/// A request's body, its type included.
fn body<T: FromBytes + IntoBytes>(chain: &Chain, context: &Context<'_>) -> Result<T, Status> {
    let mut value = T::new_zeroed();
    let bytes = value.as_mut_bytes();
    let whole = bytes.len();
    match chain.readable().read(context, bytes) {
        Ok(got) if got == whole => Ok(value),
        Ok(_) => Err(Status::Invalid),
        Err(_) => Err(Status::Fault),
    }
}

/// Reserved fields are zero.
fn clean(reserved: &[&[u8]]) -> Result<(), Status> {
    let zero = reserved.iter().all(|bytes| bytes.iter().all(|byte| *byte == 0));
    if zero { Ok(()) } else { Err(Status::Invalid) }
}

fn reserved_memory() -> [u8; PROBE_SIZE] {
    fn bytes<T: IntoBytes + Immutable>(value: &T) -> &[u8] {
        value.as_bytes()
    }
    let property = ReservedMemory {
        kind: PROPERTY_RESV_MEM,
        length: (size_of::<ReservedMemory>() - 4) as u16,
        subtype: RESV_MEM_MSI,
        reserved: [0; 3],
        start: MSI_START,
        end: MSI_END,
    };
    let mut properties = [0; PROBE_SIZE];
    properties[..size_of::<ReservedMemory>()].copy_from_slice(bytes(&property));
    properties
}

impl VirtioDevice for IommuDevice {
    fn device_type(&self) -> DeviceType {
        DeviceType::Iommu
    }

    fn pci_class(&self) -> [u8; 3] {
        // Base system peripheral, IOMMU.
        [0x08, 0x06, 0x00]
    }

    fn features(&self) -> u64 {
        feature::INPUT_RANGE
            | feature::DOMAIN_RANGE
            | feature::MAP_UNMAP
            | feature::PROBE
            | feature::BYPASS_CONFIG
    }

    fn queue_count(&self) -> u16 {
        2
    }

    fn config_table(&self) -> &'static [Register] {
        CONFIG
    }

    fn config(&self) -> &[u8] {
        &self.space
    }

    fn write_config(&mut self, offset: u64, size: u8, value: u64) -> Result<(), GuestError> {
        if offset != config::BYPASS as u64 || size != 1 {
            return Err(GuestError::ReadOnly);
        }
        if self.features & feature::BYPASS_CONFIG == 0 {
            return Err(GuestError::BadState);
        }
        if value > 1 {
            return Err(GuestError::BadValue);
        }
        self.set_bypass(value != 0);
        Ok(())
    }

    fn activate(&mut self, features: u64) {
        self.features = features;
    }

    fn reset(&mut self) {
        self.features = 0;
        self.iommu.clear();
    }

    fn power_on(&mut self) {
        self.set_bypass(true);
    }

    fn is_synchronous(&self) -> bool {
        true
    }

    fn process(
        &mut self,
        index: u16,
        queue: &mut Queue,
        context: &Context<'_>,
    ) -> Result<Progress, RingError> {
        if index == EVENT_QUEUE {
            return self.report(queue, context);
        }
        for _ in 0..BATCH {
            let Some(chain) = queue.pop(context)? else {
                // With notifications asked for again, one that came meanwhile is seen.
                return Ok(if queue.rearm(context)? { Progress::More } else { Progress::Idle });
            };
            let context = &context.of(index, chain.head);
            let written = self.answer(&chain, context)?;
            queue.push(context, chain.head, written)?;
        }
        Ok(Progress::More)
    }
}

/// The function of an IOMMU, its name in the trace from `setup`.
pub fn function(
    iommu: Arc<Iommu>,
    setup: VirtioConfig,
) -> Result<IommuPci, crate::pci::config::ConfigError> {
    VirtioPci::new(IommuDevice::new(iommu), setup)
}

/// A fault waits to be reported. Returns whether to call again at once.
pub fn faulted(function: &mut IommuPci, origin: &Origin) -> bool {
    function.serve(EVENT_QUEUE, origin) == Ok(Progress::More)
}
