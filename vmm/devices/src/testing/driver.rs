//! The smallest driver that can operate a virtio function: no error handling, one queue at a
//! time, everything through the accesses a real driver would make. Also a ring that lets a test
//! write what no driver should.

use super::FlatMemory;
use crate::device::{Access, Outcome};
use crate::dma::Dma;
use crate::pci::PciDevice;
use crate::virtio::pci::{MSIX_BAR, NOTIFY_MULTIPLIER, NOTIFY_OFFSET, REGISTER_BAR};
use std::sync::Arc;
use xinim_abi::hw::pci::{self, Command, msix};
use xinim_abi::hw::virtio::{Desc, DescFlags, Status, common, feature, need_event, split};
use zerocopy::IntoBytes;

/// Driver side of a split virtqueue in [`FlatMemory`].
#[derive(Debug)]
pub struct Ring {
    memory: Arc<FlatMemory>,
    pub size: u16,
    pub desc: u64,
    pub avail: u64,
    pub used: u64,
    next_desc: u16,
    next_avail: u16,
    next_used: u16,
}

impl Ring {
    /// Lays the three parts out from `at` (16-byte aligned) on.
    pub fn new(memory: &Arc<FlatMemory>, at: u64, size: u16) -> Self {
        let avail = at + split::desc_bytes(size) as u64;
        let used = (avail + split::avail_bytes(size) as u64).next_multiple_of(split::USED_ALIGN);
        let memory = memory.clone();
        Self { memory, size, desc: at, avail, used, next_desc: 0, next_avail: 0, next_used: 0 }
    }

    /// First byte behind the ring.
    pub fn end(&self) -> u64 {
        self.used + split::used_bytes(self.size) as u64
    }

    /// Writes a descriptor wherever the test wants it; outside memory it is lost.
    pub fn set_desc(&self, table: u64, index: u16, desc: Desc) {
        let at = table.wrapping_add(u64::from(index) * split::DESC_SIZE as u64);
        let _outside_memory = self.memory.write(at, desc.as_bytes());
    }

    /// Makes `head` available.
    pub fn offer_head(&mut self, head: u16) {
        let slot = u64::from(self.next_avail % self.size);
        let at = self.avail + split::AVAIL_RING as u64 + 2 * slot;
        let _outside_memory = self.memory.store_u16(at, head);
        self.next_avail = self.next_avail.wrapping_add(1);
        self.set_avail_index(self.next_avail);
    }

    pub fn set_avail_index(&self, index: u16) {
        let _outside_memory = self.memory.store_u16(self.avail + split::AVAIL_IDX as u64, index);
    }

    /// Makes a direct chain of (address, length, device writes) available; returns its head.
    pub fn offer(&mut self, segments: &[(u64, u32, bool)]) -> u16 {
        let head = self.next_desc % self.size;
        for (i, &(addr, len, write)) in segments.iter().enumerate() {
            let index = self.next_desc % self.size;
            self.next_desc = self.next_desc.wrapping_add(1);
            let mut flags = DescFlags::empty();
            flags.set(DescFlags::WRITE, write);
            flags.set(DescFlags::NEXT, i + 1 < segments.len());
            let next = self.next_desc % self.size;
            self.set_desc(self.desc, index, Desc { addr, len, flags: flags.bits(), next });
        }
        self.offer_head(head);
        head
    }

    /// Completions since the last call: (head, bytes written).
    pub fn completions(&mut self) -> Vec<(u32, u32)> {
        let mut found = Vec::new();
        while self.memory.load_u16(self.used + split::USED_IDX as u64) != Ok(self.next_used) {
            let slot = u64::from(self.next_used % self.size);
            let at = self.used + split::USED_RING as u64 + slot * split::USED_ELEM_SIZE as u64;
            let element = self.memory.dump(at, split::USED_ELEM_SIZE);
            let word = |i: usize| {
                element.get(i..i + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
            };
            found.push((word(0), word(4)));
            self.next_used = self.next_used.wrapping_add(1);
            if found.len() > usize::from(u16::MAX) {
                break;
            }
        }
        found
    }

    /// Completions taken so far, modulo 65536: what `used_event` counts in.
    pub fn taken(&self) -> u16 {
        self.next_used
    }

    /// EVENT_IDX: interrupt when the used index passes `event`.
    pub fn set_used_event(&self, event: u16) {
        let at = self.avail + split::used_event(self.size) as u64;
        let _outside_memory = self.memory.store_u16(at, event);
    }

    /// EVENT_IDX: the index at which the device wants to be notified.
    pub fn avail_event(&self) -> Option<u16> {
        self.memory.load_u16(self.used + split::avail_event(self.size) as u64).ok()
    }

    /// EVENT_IDX: whether the device wants to hear of the last `count` chains offered (2.7.10).
    pub fn needs_notify(&self, count: u16) -> bool {
        self.memory.full_barrier();
        let old = self.next_avail.wrapping_sub(count);
        self.avail_event().is_none_or(|event| need_event(event, self.next_avail, old))
    }

    /// `used.flags`
    pub fn used_flags(&self) -> Option<u16> {
        self.memory.load_u16(self.used + split::USED_FLAGS as u64).ok()
    }
}

/// Operates a function's registers.
pub struct Driver<'a, F> {
    pub function: &'a mut F,
}

impl<'a, F: PciDevice> Driver<'a, F> {
    pub fn new(function: &'a mut F) -> Self {
        Self { function }
    }

    pub fn read(&mut self, register: usize, size: u8) -> u64 {
        self.function.bar_access(REGISTER_BAR, Access::read(register as u64, size)).value
    }

    pub fn write(&mut self, register: usize, size: u8, value: u64) -> Outcome {
        self.function.bar_access(REGISTER_BAR, Access::write(register as u64, size, value))
    }

    pub fn config_write(&mut self, offset: usize, size: u8, value: u64) -> Outcome {
        self.function.config_access(Access::write(offset as u64, size, value))
    }

    pub fn status(&mut self) -> Status {
        Status::from_bits_retain(self.read(common::DEVICE_STATUS, 1) as u8)
    }

    pub fn set_status(&mut self, status: Status) -> Outcome {
        self.write(common::DEVICE_STATUS, 1, u64::from(status.bits()))
    }

    /// Reset, bus mastering on, and the status protocol up to FEATURES_OK with `features` (VERSION_1 is
    /// added). Returns whether the device took them.
    pub fn negotiate(&mut self, features: u64) -> bool {
        let command = Command::MEMORY_SPACE | Command::BUS_MASTER;
        self.config_write(pci::COMMAND, 2, u64::from(command.bits()));
        self.set_status(Status::empty());
        self.set_status(Status::ACKNOWLEDGE);
        self.set_status(Status::ACKNOWLEDGE | Status::DRIVER);
        let features = features | feature::VERSION_1;
        for (select, half) in [(0, features & 0xFFFF_FFFF), (1, features >> 32)] {
            self.write(common::DRIVER_FEATURE_SELECT, 4, select);
            self.write(common::DRIVER_FEATURE, 4, half);
        }
        self.set_status(Status::ACKNOWLEDGE | Status::DRIVER | Status::FEATURES_OK);
        self.status().contains(Status::FEATURES_OK)
    }

    /// Features offered.
    pub fn offered(&mut self) -> u64 {
        let mut half = |select| {
            self.write(common::DEVICE_FEATURE_SELECT, 4, select);
            self.read(common::DEVICE_FEATURE, 4)
        };
        half(0) | half(1) << 32
    }

    /// Programs a queue and enables it, with MSI-X vector `queue + 1`.
    pub fn enable_queue(&mut self, queue: u16, ring: &Ring) {
        self.write(common::QUEUE_SELECT, 2, u64::from(queue));
        self.write(common::QUEUE_SIZE, 2, u64::from(ring.size));
        let places = [
            (common::QUEUE_DESC, ring.desc),
            (common::QUEUE_DRIVER, ring.avail),
            (common::QUEUE_DEVICE, ring.used),
        ];
        for (register, address) in places {
            self.write(register, 4, address & 0xFFFF_FFFF);
            self.write(register + 4, 4, address >> 32);
        }
        self.write(common::QUEUE_MSIX_VECTOR, 2, u64::from(queue) + 1);
        self.write(common::QUEUE_ENABLE, 2, 1);
    }

    /// Turns MSI-X on and unmasks `vectors` vectors; vector n sends data n to 0xFEE0_0000.
    pub fn enable_msix(&mut self, vectors: u16) {
        for vector in 0..u64::from(vectors) {
            let entry = vector * msix::ENTRY_SIZE as u64;
            for (at, value) in [(0, 0xFEE0_0000), (4, 0), (8, vector), (12, 0)] {
                self.function.bar_access(MSIX_BAR, Access::write(entry + at, 4, value));
            }
        }
        let control = self.msix_control();
        self.config_write(control, 2, u64::from(msix::CONTROL_ENABLE));
        self.write(common::CONFIG_MSIX_VECTOR, 2, 0);
    }

    /// Offset of the MSI-X message control register; found by walking the list.
    pub fn msix_control(&mut self) -> usize {
        let mut at = self.function.config().get(pci::CAPABILITIES, 1) as usize;
        for _ in 0..pci::CAP_LIST_MAX {
            if self.function.config().get(at, 1) as u8 == pci::CAP_MSIX {
                break;
            }
            at = self.function.config().get(at + 1, 1) as usize;
        }
        at + msix::MESSAGE_CONTROL
    }

    pub fn driver_ok(&mut self) -> Outcome {
        let status = self.status() | Status::DRIVER_OK;
        self.set_status(status)
    }

    /// Rings the doorbell.
    pub fn notify(&mut self, queue: u16) -> Outcome {
        let at = NOTIFY_OFFSET + u64::from(NOTIFY_MULTIPLIER) * u64::from(queue);
        let access = Access::write(at, 2, u64::from(queue));
        self.function.bar_access(REGISTER_BAR, access)
    }
}
