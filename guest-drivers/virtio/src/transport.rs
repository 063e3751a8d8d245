//! A virtio PCI device from reset to DRIVER_OK (VIRTIO 3.1, 4.1.4.3).
//!
//! ```text
//! any state --reset()--> 0 --negotiate()--> FEATURES_OK --setup_queue()*--> .. --driver_ok()--> live
//!      ^                                                                                       |
//!      `------------------------- reset(): after an error or a restart of the driver ----------'
//! ```
//! Every access may leave a virtual machine and cost as much as a hundred thousand instructions,
//! so registers are read once and only where their value decides something.

use crate::discovery::{Structures, discover};
use crate::queue::QueueAddresses;
use crate::{DeviceError, StartError};
use alloc::vec::Vec;
use xinim_abi::hw::virtio::{NO_VECTOR, Status, common, feature};
use xinim_driver_kit::clock::{Clock, wait_until};
use xinim_driver_kit::mmio::Mmio;
use xinim_driver_kit::pci::PciFunction;

/// A reset that takes longer has failed. QEMU and our model take microseconds; hardware is
/// allowed milliseconds.
pub const RESET_TIMEOUT_NS: u64 = 1_000_000_000;
/// So long a device is expected to answer, and not asked how it is.
const SOON_NS: u64 = 2_000_000;
/// Reads of the device configuration that were disturbed by a change before giving up.
const CONFIG_TRIES: u32 = 16;
/// Highest number of a queue plus one: a network device's control queue comes after 256 pairs.
const QUEUES_MAX: usize = 513;

/// The register side of a device.
pub struct Transport<M> {
    structures: Structures<M>,
    /// Offset of each queue's notification register, by queue.
    doorbells: Vec<Option<usize>>,
    status: Status,
}

impl<M: Mmio> Transport<M> {
    /// Finds the device's structures. The function must be enabled (memory decoding).
    pub fn open<F: PciFunction<Mmio = M>>(function: &F) -> Result<Self, StartError> {
        let structures = discover(function)?;
        Ok(Self { structures, doorbells: Vec::new(), status: Status::empty() })
    }

    fn set_status(&mut self, status: Status) {
        self.status = status;
        self.structures.common.write8(common::DEVICE_STATUS, status.bits());
    }

    /// The status as the device shows it now.
    pub fn device_status(&self) -> Status {
        Status::from_bits_retain(self.structures.common.read8(common::DEVICE_STATUS))
    }

    /// Waits for an answer in memory: whether it came. A device that says that it is beyond one (2.1.2,
    /// NEEDS_RESET) is not waited for; its status is looked at late, as it costs an exit.
    pub fn wait_for(
        &self,
        clock: &impl Clock,
        timeout_ns: u64,
        mut answered: impl FnMut() -> bool,
    ) -> bool {
        let broken = || self.device_status().contains(Status::NEEDS_RESET);
        wait_until(clock, SOON_NS, &mut answered)
            || wait_until(clock, timeout_ns, || answered() || broken()) && answered()
    }

    /// Resets the device from whatever state it is in. When this returns `Ok` the device has
    /// stopped all DMA (2.4.1); it may then be negotiated with anew.
    pub fn reset(&mut self, clock: &impl Clock) -> Result<(), DeviceError> {
        self.doorbells.clear();
        self.set_status(Status::empty());
        let done = wait_until(clock, RESET_TIMEOUT_NS, || self.device_status().is_empty());
        done.then_some(()).ok_or(DeviceError::ResetTimedOut)
    }

    /// Acknowledges the device and accepts those of its features that are in `wanted`; VERSION_1
    /// must be among them. ACCESS_PLATFORM is accepted in any case: memory is what the kernel lets this
    /// driver pin, whether or not an IOMMU sees to it (6.1). Returns the accepted ones.
    pub fn negotiate(&mut self, wanted: u64) -> Result<u64, DeviceError> {
        self.set_status(Status::ACKNOWLEDGE);
        self.set_status(self.status | Status::DRIVER);
        let registers = &self.structures.common;
        let mut offered = 0;
        for half in 0..2 {
            registers.write32(common::DEVICE_FEATURE_SELECT, half);
            offered |= u64::from(registers.read32(common::DEVICE_FEATURE)) << (32 * half);
        }
        let accepted = offered & (wanted | feature::VERSION_1 | feature::ACCESS_PLATFORM);
        if accepted & feature::VERSION_1 == 0 {
            return Err(DeviceError::Legacy);
        }
        for half in 0..2 {
            registers.write32(common::DRIVER_FEATURE_SELECT, half);
            registers.write32(common::DRIVER_FEATURE, (accepted >> (32 * half)) as u32);
        }
        self.set_status(self.status | Status::FEATURES_OK);
        if !self.device_status().contains(Status::FEATURES_OK) {
            return Err(DeviceError::FeaturesRefused);
        }
        Ok(accepted)
    }

    /// Entries of `queue` that the device allows, as a power of two at most `limit`.
    pub fn queue_size(&mut self, queue: u16, limit: u16) -> Result<u16, DeviceError> {
        let registers = &self.structures.common;
        registers.write16(common::QUEUE_SELECT, queue);
        match registers.read16(common::QUEUE_SIZE).min(limit) {
            0 => Err(DeviceError::Queue(queue)),
            size => Ok(1 << size.ilog2()),
        }
    }

    /// Tells the device where the queue is and enables it. `vector` is its MSI-X vector.
    pub fn setup_queue(
        &mut self,
        queue: u16,
        size: u16,
        addresses: QueueAddresses,
        vector: Option<u16>,
    ) -> Result<(), DeviceError> {
        let error = DeviceError::Queue(queue);
        let registers = &self.structures.common;
        registers.write16(common::QUEUE_SELECT, queue);
        registers.write16(common::QUEUE_SIZE, size);
        let vector = vector.unwrap_or(NO_VECTOR);
        registers.write16(common::QUEUE_MSIX_VECTOR, vector);
        // A device without resources for the vector answers NO_VECTOR (4.1.5.1.2.1).
        if vector != NO_VECTOR && registers.read16(common::QUEUE_MSIX_VECTOR) != vector {
            return Err(error);
        }
        for (register, address) in [
            (common::QUEUE_DESC, addresses.descriptors),
            (common::QUEUE_DRIVER, addresses.driver),
            (common::QUEUE_DEVICE, addresses.device),
        ] {
            // 64-bit fields are written in halves (4.1.3.1).
            registers.write32(register, address as u32);
            registers.write32(register + 4, (address >> 32) as u32);
        }
        let offset = u64::from(registers.read16(common::QUEUE_NOTIFY_OFF))
            * u64::from(self.structures.notify_multiplier);
        let offset = usize::try_from(offset).map_err(|_| error)?;
        let fits = offset.checked_add(2).is_some_and(|end| end <= self.structures.notify.len());
        if !fits || !offset.is_multiple_of(2) || usize::from(queue) >= QUEUES_MAX {
            return Err(error);
        }
        registers.write16(common::QUEUE_ENABLE, 1);
        if self.doorbells.len() <= usize::from(queue) {
            self.doorbells.resize(usize::from(queue) + 1, None);
        }
        self.doorbells[usize::from(queue)] = Some(offset);
        Ok(())
    }

    /// Vector for changes of configuration and status, NEEDS_RESET among them. A device without
    /// resources for it stays silent about these; a driver then finds out by its time-outs. Whether
    /// the device has taken the vector (4.1.5.1.2.2).
    pub fn set_config_vector(&mut self, vector: Option<u16>) -> bool {
        let vector = vector.unwrap_or(NO_VECTOR);
        self.structures.common.write16(common::CONFIG_MSIX_VECTOR, vector);
        self.structures.common.read16(common::CONFIG_MSIX_VECTOR) == vector
    }

    /// The device may work from now on.
    pub fn driver_ok(&mut self) {
        self.set_status(self.status | Status::DRIVER_OK);
    }

    /// Tells the device that the driver gave up.
    pub fn fail(&mut self) {
        self.set_status(self.status | Status::FAILED);
    }

    /// Rings the doorbell of `queue`; nothing if it was not set up.
    pub fn notify(&self, queue: u16) {
        if let Some(Some(offset)) = self.doorbells.get(usize::from(queue)) {
            self.structures.notify.write16(*offset, queue);
        }
    }

    /// Writes a byte of the device configuration; nothing if the device does not have it.
    pub fn write_config(&self, offset: usize, value: u8) {
        if let Some(region) = self.structures.device.as_ref().filter(|r| offset < r.len()) {
            region.write8(offset, value);
        }
    }

    /// Reads several configuration fields of one generation (4.1.4.3.1): `read` may run again.
    pub fn config<T>(&self, read: impl Fn(&Config<'_, M>) -> T) -> Result<T, DeviceError> {
        let config = Config(self.structures.device.as_ref());
        let generation = || self.structures.common.read8(common::CONFIG_GENERATION);
        let mut before = generation();
        for _ in 0..CONFIG_TRIES {
            let value = read(&config);
            let after = generation();
            if before == after {
                return Ok(value);
            }
            before = after;
        }
        Err(DeviceError::Config("keeps changing"))
    }
}

/// Device configuration; fields the device does not have read as `None`.
pub struct Config<'a, M>(Option<&'a xinim_driver_kit::mmio::Region<M>>);

impl<M: Mmio> Config<'_, M> {
    fn field(&self, offset: usize, size: usize) -> Option<&xinim_driver_kit::mmio::Region<M>> {
        self.0.filter(|region| offset.checked_add(size).is_some_and(|end| end <= region.len()))
    }

    pub fn u8(&self, offset: usize) -> Option<u8> {
        self.field(offset, 1).map(|region| region.read8(offset))
    }

    pub fn u16(&self, offset: usize) -> Option<u16> {
        self.field(offset, 2).map(|region| region.read16(offset))
    }

    pub fn u32(&self, offset: usize) -> Option<u32> {
        self.field(offset, 4).map(|region| region.read32(offset))
    }

    /// Read as two halves (4.1.3.1).
    pub fn u64(&self, offset: usize) -> Option<u64> {
        let low = u64::from(self.u32(offset)?);
        Some(low | u64::from(self.u32(offset + 4)?) << 32)
    }
}
