//! The modern PCI transport (VIRTIO 4.1), around any [`VirtioDevice`].
//!
//! ```text
//! BAR0, 64-bit, 16 KiB      0x0000 common configuration
//!                           0x1000 ISR status
//!                           0x2000 device configuration
//!                           0x3000 notifications, 4 bytes per queue, a page of their own
//! BAR2, 32-bit, 4 KiB       MSI-X table, pending bits at 0x800
//! ```
//! One MSI-X vector per queue and one for configuration changes; vectors are the driver's choice.
//! A driver that breaks a virtqueue finds DEVICE_NEEDS_RESET set and the queue dead. With bus
//! mastering off the device touches no memory: notifications then are lost, as after a reset.

mod common;
mod window;

use super::{Context, Progress, Queue, RingError, VirtioDevice};
use crate::backend::DriveBays;
use crate::device::{Access, Action, GuestError, Op, Origin, Outcome};
use crate::dma::Dma;
use crate::irq::{IrqLine, MsiSink};
use crate::pci::config::ConfigError;
use crate::pci::{BarSpec, ConfigSpace, Doorbell, Identity, Msix, PciDevice, msix};
use crate::trace::{EventKind, Owner, Tracer};
use std::sync::Arc;
use xinim_abi::hw::pci::{self as hw, Bdf, Command};
use xinim_abi::hw::virtio::{self, Status, feature};

/// BAR of the register structures.
pub const REGISTER_BAR: u8 = 0;
/// BAR of the MSI-X table.
pub const MSIX_BAR: u8 = 2;
pub(super) const COMMON_OFFSET: u64 = 0x0000;
pub(super) const ISR_OFFSET: u64 = 0x1000;
pub(super) const DEVICE_OFFSET: u64 = 0x2000;
/// Offset of the notification page in [`REGISTER_BAR`].
pub const NOTIFY_OFFSET: u64 = 0x3000;
/// Bytes between the doorbells of two queues.
pub const NOTIFY_MULTIPLIER: u32 = 4;
const BAR_SIZE: u64 = 0x4000;
const BLOCK: u64 = 0x1000;
/// Largest queue size a machine may configure.
pub const QUEUE_SIZE_LIMIT: u16 = 1024;
/// Rounds of `process` done inside one access before the rest is left to the machine.
const ROUNDS: usize = 4;

/// What the machine gives a virtio function.
pub struct VirtioConfig {
    /// Name in the trace: `virtio-blk.0`.
    pub name: String,
    /// Entries per queue: a power of two up to [`QUEUE_SIZE_LIMIT`]; other values are rounded.
    pub queue_size: u16,
    pub dma: Arc<dyn Dma>,
    pub msi: Arc<dyn MsiSink>,
    /// INTx wire; without one the function has no interrupt pin.
    pub intx: Option<Arc<dyn IrqLine>>,
    /// The bus's tracer; renamed for the device.
    pub tracer: Tracer,
    /// What QEMU's own tests insist on, for them only: a configuration change counts as an
    /// interrupt of the queues too (4.1.4.5 has a bit for each), and chains may pass 4 GiB, which
    /// 2.7.5.2 forbids the driver.
    pub qemu_dialect: bool,
    /// The function is behind an IOMMU: it offers ACCESS_PLATFORM and works only for a driver that
    /// accepts it (6.1).
    pub translated: bool,
}

impl VirtioConfig {
    /// Queue size 256, no INTx, no trace.
    pub fn new(name: &str, dma: Arc<dyn Dma>, msi: Arc<dyn MsiSink>) -> Self {
        let name = name.to_owned();
        let tracer = Tracer::off();
        Self {
            name,
            queue_size: 256,
            dma,
            msi,
            intx: None,
            tracer,
            qemu_dialect: false,
            translated: false,
        }
    }
}

/// A virtio device as a PCI function.
pub struct VirtioPci<D> {
    // Fixed configuration
    name: String,
    doorbells: Vec<Doorbell>,
    msix_capability: usize,
    access_capability: usize,
    qemu_dialect: bool,
    translated: bool,
    // Glue
    dma: Arc<dyn Dma>,
    intx: Option<Arc<dyn IrqLine>>,
    tracer: Tracer,
    // Volatile state
    device: D,
    config: ConfigSpace,
    msix: Msix,
    queues: Vec<Queue>,
    status: Status,
    device_feature_select: u32,
    driver_feature_select: u32,
    driver_features: u64,
    config_vector: u16,
    queue_select: u16,
    isr: u8,
    line: bool,
    /// A reset was asked for and the back end is not quiet yet.
    resetting: bool,
    generation: u8,
}

impl<D: VirtioDevice> VirtioPci<D> {
    pub fn new(device: D, setup: VirtioConfig) -> Result<Self, ConfigError> {
        let tracer = setup.tracer.named(&setup.name);
        let count = device.queue_count();
        let size = setup.queue_size.clamp(2, QUEUE_SIZE_LIMIT);
        let size = if size.is_power_of_two() { size } else { size.next_power_of_two() / 2 };
        let msix = Msix::new(count.saturating_add(1), setup.msi, tracer.clone());
        let id = device.device_type().pci_device_id();
        let mut config = ConfigSpace::new(&Identity {
            vendor: virtio::PCI_VENDOR,
            device: id,
            revision: virtio::PCI_REVISION,
            class: device.pci_class(),
            subsystem_vendor: virtio::PCI_VENDOR,
            subsystem: id,
            interrupt_pin: u8::from(setup.intx.is_some()),
        });
        let registers = BarSpec { size: BAR_SIZE, is_64: true, prefetchable: false };
        config.add_bar(usize::from(REGISTER_BAR), registers)?;
        let table = BarSpec { size: msix::BAR_SIZE, is_64: false, prefetchable: false };
        config.add_bar(usize::from(MSIX_BAR), table)?;
        let capability = msix.capability(MSIX_BAR);
        let msix_capability = config.add_capability(&capability, hw::MSIX_CAPABILITY)?;
        let device_length = device.config().len() as u32;
        let access_capability = window::add_capabilities(&mut config, device_length, count)?;
        let doorbell = |queue: u16| Doorbell {
            bar: REGISTER_BAR,
            offset: NOTIFY_OFFSET + u64::from(NOTIFY_MULTIPLIER) * u64::from(queue),
            queue,
        };
        let queue = |index| Queue::new(index, size).with_any_length(setup.qemu_dialect);
        Ok(Self {
            name: setup.name,
            doorbells: match device.is_synchronous() {
                true => Vec::new(),
                false => (0..count).map(doorbell).collect(),
            },
            msix_capability,
            access_capability,
            qemu_dialect: setup.qemu_dialect,
            translated: setup.translated,
            dma: setup.dma,
            intx: setup.intx,
            tracer,
            device,
            config,
            msix,
            queues: (0..count).map(queue).collect(),
            status: Status::empty(),
            device_feature_select: 0,
            driver_feature_select: 0,
            driver_features: 0,
            config_vector: virtio::NO_VECTOR,
            queue_select: 0,
            isr: 0,
            line: false,
            resetting: false,
            generation: 0,
        })
    }

    /// The device behind the transport.
    pub fn device(&self) -> &D {
        &self.device
    }

    pub fn device_mut(&mut self) -> &mut D {
        &mut self.device
    }

    pub fn status(&self) -> Status {
        self.status
    }

    /// Feature bits offered: the device's and the transport's.
    fn offered(&self) -> u64 {
        let platform = if self.translated { feature::ACCESS_PLATFORM } else { 0 };
        let rings = feature::EVENT_IDX | feature::INDIRECT_DESC;
        self.device.features() | feature::VERSION_1 | rings | platform
    }

    fn bus_master(&self) -> bool {
        self.config.command().contains(Command::BUS_MASTER)
    }

    /// Lets the device work on one queue, raises what interrupt is due, and reports whether work
    /// is left. What keeps it from working is an error.
    pub fn serve(&mut self, index: u16, origin: &Origin) -> Result<Progress, GuestError> {
        self.check_running()?;
        let Some(queue) = self.queues.get_mut(usize::from(index)).filter(|q| q.is_live()) else {
            return Err(GuestError::BadQueue);
        };
        let context =
            Context { dma: &*self.dma, tracer: &self.tracer, origin, owner: Owner::Unknown };
        match self.device.process(index, queue, &context) {
            Ok(progress) => match self.deliver(origin)? {
                Progress::More => Ok(Progress::More),
                Progress::Idle => Ok(progress),
            },
            Err(error) => Err(self.broken(index, error, origin)),
        }
    }

    /// Whether the device may touch the driver's memory.
    fn check_running(&self) -> Result<(), GuestError> {
        if self.resetting {
            return Err(GuestError::BadState);
        }
        if self.status.contains(Status::NEEDS_RESET) {
            return Err(GuestError::NeedsReset);
        }
        if !self.status.contains(Status::DRIVER_OK) {
            return Err(GuestError::BadState);
        }
        if !self.bus_master() {
            return Err(GuestError::BusMasterOff);
        }
        Ok(())
    }

    /// Pushes what the back end has finished and raises the interrupts that are due.
    fn deliver(&mut self, origin: &Origin) -> Result<Progress, GuestError> {
        let context =
            Context { dma: &*self.dma, tracer: &self.tracer, origin, owner: Owner::Unknown };
        let mut result = self.device.complete(&mut self.queues, &context);
        let mut due = Vec::new();
        for (index, queue) in (0..).zip(&mut self.queues) {
            match queue.wants_interrupt(&context) {
                Ok(true) => due.push(queue.vector),
                Ok(false) => {}
                Err(error) => result = Err((index, error)),
            }
        }
        for vector in due {
            self.interrupt(vector, virtio::ISR_QUEUE, origin);
        }
        result.map_err(|(index, error)| self.broken(index, error, origin))
    }

    /// A queue broke its rules: it is dead, and the driver is told (2.1.2).
    fn broken(&mut self, index: u16, error: RingError, origin: &Origin) -> GuestError {
        if let Some(queue) = self.queues.get_mut(usize::from(index)) {
            queue.broken = true;
        }
        let error = GuestError::Ring(error);
        self.tracer.emit(origin, || EventKind::QueueBroken { queue: index, error });
        self.status |= Status::NEEDS_RESET;
        self.interrupt(self.config_vector, virtio::ISR_CONFIG, origin);
        error
    }

    fn interrupt(&mut self, vector: u16, cause: u8, origin: &Origin) {
        if self.msix.enabled() {
            if vector != virtio::NO_VECTOR {
                self.msix.signal(vector, origin);
            }
            return;
        }
        self.isr |= cause;
        if self.qemu_dialect && cause == virtio::ISR_CONFIG {
            self.isr |= virtio::ISR_QUEUE;
        }
        self.update_line(origin);
    }

    /// INTx follows the ISR unless the command register or MSI-X forbids it.
    fn update_line(&mut self, origin: &Origin) {
        let disabled = self.config.command().contains(Command::INTX_DISABLE);
        let level = self.isr != 0 && !disabled && !self.msix.enabled();
        let status = self.config.get(hw::STATUS, 1) as u8;
        let bit = hw::Status::INTERRUPT.bits() as u8;
        let status = if self.isr != 0 { status | bit } else { status & !bit };
        self.config.set_u8(hw::STATUS, status);
        if level != self.line {
            self.line = level;
            if let Some(line) = &self.intx {
                self.tracer.emit(origin, || EventKind::Line { level });
                line.set(level);
            }
        }
    }

    /// Device reset (2.4): by writing 0 to the status, or with the machine.
    fn reset_device(&mut self, origin: &Origin) {
        self.device.reset();
        self.resetting = true;
        self.queues.iter_mut().for_each(Queue::reset);
        self.settle();
        self.device_feature_select = 0;
        self.driver_feature_select = 0;
        self.driver_features = 0;
        self.config_vector = virtio::NO_VECTOR;
        self.queue_select = 0;
        self.isr = 0;
        self.update_line(origin);
    }

    /// Ends a reset when the back end touches nothing any more; until then the driver reads the
    /// old status (2.4.2: it waits for 0).
    fn settle(&mut self) {
        if self.resetting && !self.device.is_resetting() {
            self.resetting = false;
            self.status = Status::empty();
        }
    }

    fn isr_access(&mut self, access: Access) -> Outcome {
        let outcome = match access.op {
            Op::Read if access.offset == 0 => {
                let value = std::mem::take(&mut self.isr);
                self.update_line(&access.origin);
                Outcome::value(u64::from(value))
            }
            Op::Read => Outcome::value(0).with_error(GuestError::NoRegister),
            Op::Write(_) => Outcome::done().with_error(GuestError::ReadOnly),
        };
        outcome.at(virtio::ISR, access.offset as u32)
    }

    fn device_access(&mut self, access: Access) -> Outcome {
        let table = self.device.config_table();
        let content = self.device.config();
        let outcome = match access.op {
            Op::Read if access.offset < content.len() as u64 => {
                let bytes = content.iter().skip(access.offset as usize);
                let bytes = bytes.take(usize::from(access.size));
                let value = bytes.rev().fold(0, |value, &byte| value << 8 | u64::from(byte));
                Outcome::value(value)
            }
            Op::Read => Outcome::value(0).with_error(GuestError::NoRegister),
            Op::Write(value) => match self.device.write_config(access.offset, access.size, value) {
                Ok(()) => Outcome::done(),
                Err(error) => Outcome::done().with_error(error),
            },
        };
        outcome.at(table, access.offset as u32)
    }

    fn notify_access(&mut self, access: Access) -> Outcome {
        let multiplier = u64::from(NOTIFY_MULTIPLIER);
        let Op::Write(_) = access.op else {
            return Outcome::value(0).with_error(GuestError::WriteOnly);
        };
        // The queue is told by the address; the value written repeats it (4.1.5.2).
        let queue = access.offset / multiplier;
        if !access.offset.is_multiple_of(multiplier) || queue >= self.queues.len() as u64 {
            return Outcome::done().with_error(GuestError::BadQueue);
        }
        let queue = queue as u16;
        self.tracer.emit(&access.origin, || EventKind::QueueNotify { queue });
        for _ in 0..ROUNDS {
            match self.serve(queue, &access.origin) {
                Ok(Progress::Idle) => return Outcome::done(),
                Ok(Progress::More) => {}
                Err(error) => return Outcome::done().with_error(error),
            }
        }
        // The bus fills in which function it is.
        let function = Bdf::new(0, 0, 0);
        Outcome::done().with_action(Action::NotifyAgain { function, queue })
    }

    fn register_access(&mut self, access: Access) -> Outcome {
        let inner = access.rebased(access.offset & !(BLOCK - 1));
        if inner.offset + u64::from(access.size) > BLOCK {
            return Outcome::error(GuestError::Unaligned, access.size);
        }
        match access.offset & !(BLOCK - 1) {
            COMMON_OFFSET => self.common_access(inner),
            ISR_OFFSET => self.isr_access(inner),
            DEVICE_OFFSET => self.device_access(inner),
            _ => self.notify_access(inner),
        }
    }
}

impl<D: VirtioDevice> PciDevice for VirtioPci<D> {
    fn name(&self) -> &str {
        &self.name
    }

    fn config(&self) -> &ConfigSpace {
        &self.config
    }

    fn config_access(&mut self, access: Access) -> Outcome {
        if let Some(outcome) = self.window_access(access) {
            return outcome;
        }
        let outcome = self.config.access(access);
        if access.is_write() {
            let at = self.msix_capability + hw::msix::MESSAGE_CONTROL;
            let control = self.config.get(at, 2) as u16;
            self.msix.control(control, self.bus_master(), &access.origin);
            self.update_line(&access.origin);
        }
        outcome
    }

    fn bar_access(&mut self, bar: u8, access: Access) -> Outcome {
        match bar {
            REGISTER_BAR => self.register_access(access),
            MSIX_BAR => self.msix.access(access),
            _ => Outcome::error(GuestError::Unclaimed, access.size),
        }
    }

    fn doorbells(&self) -> &[Doorbell] {
        &self.doorbells
    }

    fn notify_queue(&mut self, queue: u16, origin: &Origin) -> bool {
        self.tracer.emit(origin, || EventKind::QueueNotify { queue });
        self.serve(queue, origin) == Ok(Progress::More)
    }

    fn bays(&mut self) -> Option<&mut dyn DriveBays> {
        if self.device.has_disk() { Some(self) } else { None }
    }

    fn reset(&mut self) {
        self.config.reset();
        self.msix.reset();
        self.device.power_on();
        self.reset_device(&Origin::default());
    }
}

impl<D: VirtioDevice> DriveBays for VirtioPci<D> {
    fn ready(&mut self, _unit: u16, origin: &Origin) -> bool {
        if self.check_running().is_err() {
            // Completions of before a reset or a mistake: nobody waits for them.
            self.device.is_resetting();
            self.settle();
            return false;
        }
        let mut more = self.deliver(origin) == Ok(Progress::More);
        let resumable = self.device.resumable();
        for index in (0..self.queues.len() as u16).filter(|i| resumable >> i & 1 != 0) {
            more |= self.serve(index, origin) == Ok(Progress::More);
        }
        more
    }

    fn resized(&mut self, _unit: u16, origin: &Origin) {
        if self.device.resize() {
            self.generation = self.generation.wrapping_add(1);
            if self.status.contains(Status::DRIVER_OK) {
                self.interrupt(self.config_vector, virtio::ISR_CONFIG, origin);
            }
        }
    }
}

#[cfg(test)]
#[path = "pci_tests.rs"]
mod tests;
