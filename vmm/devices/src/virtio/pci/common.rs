//! Common configuration structure (VIRTIO 4.1.4.3) and the device status protocol (2.1, 3.1).
//!
//! ```text
//! 0 -> ACKNOWLEDGE -> DRIVER -> (features) -> FEATURES_OK -> (queues) -> DRIVER_OK
//!      any state --write 0--> 0          broken queue: |NEEDS_RESET
//! ```
//! A status bit that comes too early is not taken, and none but a reset takes one back.

use super::{NOTIFY_MULTIPLIER, VirtioPci};
use crate::device::{Access, GuestError, Op, Origin, Outcome};
use crate::virtio::{Queue, VirtioDevice};
use xinim_abi::hw::register::{Direction, Register, find, ones};
use xinim_abi::hw::virtio::{self, NO_VECTOR, Status, common, feature};

type Written = Result<(), GuestError>;

impl<D: VirtioDevice> VirtioPci<D> {
    /// Registers take accesses of their own width; 64-bit ones also as aligned halves
    /// (4.1.3.1). Reads of part of a register are answered and reported.
    pub(super) fn common_access(&mut self, access: Access) -> Outcome {
        self.settle();
        let offset = access.offset as u32;
        let Some(register) = find(virtio::COMMON, offset, access.is_write()) else {
            return Outcome::value(0).with_error(GuestError::NoRegister).at(virtio::COMMON, offset);
        };
        let skipped = offset - register.offset;
        let half = register.width == 8 && access.size == 4 && skipped.is_multiple_of(4);
        let fits = (skipped == 0 && access.size == register.width) || half;
        let shift = 8 * skipped;
        let old = self.common_read(register.offset as usize);
        let outcome = match access.op {
            Op::Read => {
                let outcome = Outcome::value((old >> shift) & ones(access.size * 8));
                if fits { outcome } else { outcome.with_error(GuestError::BadSize) }
            }
            Op::Write(_) if !fits => Outcome::done().with_error(GuestError::BadSize),
            Op::Write(value) => {
                let mask = ones(access.size * 8) << shift;
                let value = (old & !mask) | ((value << shift) & mask);
                let done = Outcome::done().over((old >> shift) & ones(access.size * 8));
                match self.common_write(register, value, &access.origin) {
                    Ok(()) => done,
                    Err(error) => done.with_error(error),
                }
            }
        };
        let mut outcome = outcome.at(virtio::COMMON, offset);
        if let Some(decode) = &mut outcome.decode
            && (common::QUEUE_SIZE..common::SIZE).contains(&(offset as usize))
        {
            decode.index = Some(self.queue_select);
        }
        outcome
    }

    fn selected(&self) -> Option<&Queue> {
        self.queues.get(usize::from(self.queue_select))
    }

    fn common_read(&self, register: usize) -> u64 {
        let queue = self.selected();
        let of_queue = |value: fn(&Queue) -> u64| queue.map_or(0, value);
        let half = |word: u64, select: u32| match select {
            0 => word & 0xFFFF_FFFF,
            1 => word >> 32,
            _ => 0,
        };
        match register {
            common::DEVICE_FEATURE_SELECT => u64::from(self.device_feature_select),
            common::DEVICE_FEATURE => half(self.offered(), self.device_feature_select),
            common::DRIVER_FEATURE_SELECT => u64::from(self.driver_feature_select),
            common::DRIVER_FEATURE => half(self.driver_features, self.driver_feature_select),
            common::CONFIG_MSIX_VECTOR => u64::from(self.config_vector),
            common::NUM_QUEUES => self.queues.len() as u64,
            common::DEVICE_STATUS => u64::from(self.status.bits()),
            common::CONFIG_GENERATION => u64::from(self.generation),
            common::QUEUE_SELECT => u64::from(self.queue_select),
            common::QUEUE_SIZE => of_queue(|q| u64::from(q.size)),
            common::QUEUE_MSIX_VECTOR => {
                queue.map_or(u64::from(NO_VECTOR), |q| u64::from(q.vector))
            }
            common::QUEUE_ENABLE => of_queue(|q| u64::from(q.enabled)),
            // Queue n rings at n times the multiplier.
            common::QUEUE_NOTIFY_OFF => queue.map_or(0, |_| u64::from(self.queue_select)),
            common::QUEUE_DESC => of_queue(|q| q.desc),
            common::QUEUE_DRIVER => of_queue(|q| q.avail),
            common::QUEUE_DEVICE => of_queue(|q| q.used),
            // Notification data and ring reset are not offered.
            _ => 0,
        }
    }

    fn common_write(&mut self, register: &Register, value: u64, origin: &Origin) -> Written {
        if register.direction == Direction::ReadOnly {
            return Err(GuestError::ReadOnly);
        }
        if self.resetting {
            return Err(GuestError::BadState);
        }
        match register.offset as usize {
            common::DEVICE_FEATURE_SELECT => self.device_feature_select = value as u32,
            common::DRIVER_FEATURE_SELECT => self.driver_feature_select = value as u32,
            common::DRIVER_FEATURE => return self.write_features(value as u32),
            common::CONFIG_MSIX_VECTOR => {
                let vector = self.vector(value);
                self.config_vector = vector.unwrap_or(NO_VECTOR);
                vector?;
            }
            common::DEVICE_STATUS => return self.write_status(value as u8, origin),
            common::QUEUE_SELECT => self.queue_select = value as u16,
            common::QUEUE_MSIX_VECTOR => {
                let vector = self.vector(value);
                let queue = self.queues.get_mut(usize::from(self.queue_select));
                let queue = queue.ok_or(GuestError::BadQueue)?;
                // What cannot be mapped reads back as NO_VECTOR (4.1.5.1.2.1).
                queue.vector = vector.unwrap_or(NO_VECTOR);
                vector?;
            }
            common::QUEUE_RESET => return Err(GuestError::BadState),
            offset => return self.write_queue(offset, value),
        }
        Ok(())
    }

    fn vector(&self, value: u64) -> Result<u16, GuestError> {
        let vector = value as u16;
        if vector == NO_VECTOR || vector < self.msix.vectors() {
            Ok(vector)
        } else {
            Err(GuestError::BadValue)
        }
    }

    fn write_features(&mut self, value: u32) -> Written {
        if self.status.contains(Status::FEATURES_OK) {
            return Err(GuestError::BadState);
        }
        let shift = match self.driver_feature_select {
            0 => 0,
            1 => 32,
            _ if value == 0 => return Ok(()),
            _ => return Err(GuestError::BadValue),
        };
        let kept = self.driver_features & !(0xFFFF_FFFF << shift);
        self.driver_features = kept | u64::from(value) << shift;
        Ok(())
    }

    /// Queue size, enable and addresses: not while the queue is enabled.
    fn write_queue(&mut self, offset: usize, value: u64) -> Written {
        let features = self.driver_features;
        let ready = self.status.contains(Status::FEATURES_OK);
        let queue = self.queues.get_mut(usize::from(self.queue_select));
        let queue = queue.ok_or(GuestError::BadQueue)?;
        if queue.enabled {
            return Err(GuestError::BadState);
        }
        match offset {
            common::QUEUE_SIZE => {
                let size = value as u16;
                if !size.is_power_of_two() || size > queue.max_size() {
                    return Err(GuestError::BadValue);
                }
                queue.size = size;
            }
            common::QUEUE_ENABLE => {
                // The driver must not write 0 (4.1.4.3.2).
                if value != 1 || !queue.can_enable() {
                    return Err(GuestError::BadValue);
                }
                queue.enable(features);
                if !ready {
                    return Err(GuestError::BadState);
                }
            }
            common::QUEUE_DESC => queue.desc = value,
            common::QUEUE_DRIVER => queue.avail = value,
            common::QUEUE_DEVICE => queue.used = value,
            _ => return Err(GuestError::NoRegister),
        }
        Ok(())
    }

    fn write_status(&mut self, value: u8, origin: &Origin) -> Written {
        let new = Status::from_bits_retain(value);
        if new.is_empty() {
            self.reset_device(origin);
            return Ok(());
        }
        // NEEDS_RESET is the device's bit: a driver that writes back what it read may have it.
        let old = self.status - Status::NEEDS_RESET;
        let new = new - Status::NEEDS_RESET;
        if !new.contains(old) || Status::from_bits(new.bits()).is_none() {
            return Err(GuestError::BadState);
        }
        for bit in (new - old).iter() {
            let before = match bit {
                Status::DRIVER => Status::ACKNOWLEDGE,
                Status::FEATURES_OK => Status::ACKNOWLEDGE | Status::DRIVER,
                Status::DRIVER_OK => Status::FEATURES_OK,
                _ => Status::empty(),
            };
            // FEATURES_OK and DRIVER_OK may come in one write; order by meaning, not by bit.
            if !new.contains(before) {
                return Err(GuestError::BadState);
            }
        }
        if (new - old).contains(Status::FEATURES_OK) {
            self.accept_features()?;
        }
        let started = (new - old).contains(Status::DRIVER_OK);
        self.status |= new;
        if started {
            self.device.activate(self.driver_features);
        }
        Ok(())
    }

    /// FEATURES_OK sticks only for a subset of the offer that includes VERSION_1 and, behind an IOMMU,
    /// ACCESS_PLATFORM (2.2.2, 6.1).
    fn accept_features(&mut self) -> Written {
        let unknown = self.driver_features & !self.offered();
        let needed = feature::VERSION_1 | self.offered() & feature::ACCESS_PLATFORM;
        if unknown != 0 || self.driver_features & needed != needed {
            return Err(GuestError::BadValue);
        }
        for queue in &mut self.queues {
            queue.set_features(self.driver_features);
        }
        Ok(())
    }
}

const _: () = assert!(NOTIFY_MULTIPLIER >= 2, "a doorbell is a 16-bit register");
