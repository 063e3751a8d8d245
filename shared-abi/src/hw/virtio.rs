//! VIRTIO 1.2: device status, features, the PCI transport and the split virtqueue.
//!
//! Sections are those of *Virtual I/O Device (VIRTIO) Version 1.2*. Everything is little-endian.
//! The legacy (transitional) interface is not described.

use super::register::{Field, OnRead, Register};
use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// PCI vendor id of every virtio device (4.1.2).
pub const PCI_VENDOR: u16 = 0x1AF4;
/// PCI device id of a modern device is this plus its [`DeviceType`] (4.1.2.1).
pub const PCI_DEVICE_BASE: u16 = 0x1040;
/// A modern-only device has at least this revision (4.1.2.2).
pub const PCI_REVISION: u8 = 1;

/// Device types (section 5).
#[repr(u16)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceType {
    Network = 1,
    Block = 2,
    Console = 3,
    Iommu = 23,
}

impl DeviceType {
    /// PCI device id of the modern device.
    pub const fn pci_device_id(self) -> u16 {
        PCI_DEVICE_BASE + self as u16
    }
}

bitflags! {
    /// Device status field (2.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Status: u8 {
        const ACKNOWLEDGE = 1;
        const DRIVER = 2;
        const DRIVER_OK = 4;
        const FEATURES_OK = 8;
        /// The device cannot go on until it is reset.
        const NEEDS_RESET = 64;
        /// The driver has given up.
        const FAILED = 128;
    }
}

/// Reserved feature bits (section 6), as masks of the 64-bit feature word.
pub mod feature {
    pub const INDIRECT_DESC: u64 = 1 << 28;
    pub const EVENT_IDX: u64 = 1 << 29;
    pub const VERSION_1: u64 = 1 << 32;
    pub const ACCESS_PLATFORM: u64 = 1 << 33;
    pub const RING_PACKED: u64 = 1 << 34;
    pub const IN_ORDER: u64 = 1 << 35;
    pub const ORDER_PLATFORM: u64 = 1 << 36;
    pub const SR_IOV: u64 = 1 << 37;
    pub const NOTIFICATION_DATA: u64 = 1 << 38;
    pub const RING_RESET: u64 = 1 << 40;
}

/// Capability structures (4.1.4): `cfg_type`.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CfgType {
    Common = 1,
    Notify = 2,
    Isr = 3,
    Device = 4,
    PciAccess = 5,
    SharedMemory = 8,
}

impl CfgType {
    pub const fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => CfgType::Common,
            2 => CfgType::Notify,
            3 => CfgType::Isr,
            4 => CfgType::Device,
            5 => CfgType::PciAccess,
            8 => CfgType::SharedMemory,
            _ => return None,
        })
    }
}

/// `struct virtio_pci_cap` (4.1.4). The notify capability adds a u32 multiplier, the PCI access
/// capability four data bytes.
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct PciCap {
    /// [`super::pci::CAP_VENDOR`]
    pub cap_vndr: u8,
    pub cap_next: u8,
    pub cap_len: u8,
    /// [`CfgType`]
    pub cfg_type: u8,
    pub bar: u8,
    pub id: u8,
    pub padding: [u8; 2],
    pub offset: u32,
    pub length: u32,
}

const _: () = assert!(size_of::<PciCap>() == 16);
/// Offset of `notify_off_multiplier` in the notify capability (4.1.4.4).
pub const CAP_NOTIFY_MULTIPLIER: usize = 16;
/// Length of the notify capability.
pub const CAP_NOTIFY_SIZE: usize = 20;
/// Offset of the data window in the PCI configuration access capability (4.1.4.9).
pub const CAP_PCI_CFG_DATA: usize = 16;
/// Length of the PCI configuration access capability.
pub const CAP_PCI_CFG_SIZE: usize = 20;

/// Offsets of the common configuration structure (4.1.4.3).
pub mod common {
    pub const DEVICE_FEATURE_SELECT: usize = 0x00;
    pub const DEVICE_FEATURE: usize = 0x04;
    pub const DRIVER_FEATURE_SELECT: usize = 0x08;
    pub const DRIVER_FEATURE: usize = 0x0C;
    pub const CONFIG_MSIX_VECTOR: usize = 0x10;
    pub const NUM_QUEUES: usize = 0x12;
    pub const DEVICE_STATUS: usize = 0x14;
    pub const CONFIG_GENERATION: usize = 0x15;
    pub const QUEUE_SELECT: usize = 0x16;
    pub const QUEUE_SIZE: usize = 0x18;
    pub const QUEUE_MSIX_VECTOR: usize = 0x1A;
    pub const QUEUE_ENABLE: usize = 0x1C;
    pub const QUEUE_NOTIFY_OFF: usize = 0x1E;
    pub const QUEUE_DESC: usize = 0x20;
    pub const QUEUE_DRIVER: usize = 0x28;
    pub const QUEUE_DEVICE: usize = 0x30;
    pub const QUEUE_NOTIFY_DATA: usize = 0x38;
    pub const QUEUE_RESET: usize = 0x3A;
    pub const SIZE: usize = 0x3C;
}

/// "No vector" in `config_msix_vector` and `queue_msix_vector` (4.1.5.1.2).
pub const NO_VECTOR: u16 = 0xFFFF;

/// ISR status (4.1.4.5): a used buffer notification is pending.
pub const ISR_QUEUE: u8 = 1;
/// ISR status: the device configuration or status changed.
pub const ISR_CONFIG: u8 = 2;

/// Largest queue size the split virtqueue allows (2.7).
pub const QUEUE_SIZE_MAX: u16 = 32768;

bitflags! {
    /// Descriptor flags (2.7.5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DescFlags: u16 {
        /// `next` is valid.
        const NEXT = 1;
        /// The device writes the buffer; otherwise it reads it.
        const WRITE = 2;
        /// The buffer holds a table of descriptors.
        const INDIRECT = 4;
    }
}

/// One descriptor (2.7.5).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct Desc {
    /// Guest-physical address.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// [`DescFlags`]
    pub flags: u16,
    pub next: u16,
}

/// One element of the used ring (2.7.8).
#[repr(C)]
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
pub struct UsedElem {
    /// Head of the descriptor chain.
    pub id: u32,
    /// Bytes written into the device-writable part.
    pub len: u32,
}

const _: () = assert!(size_of::<Desc>() == 16);
const _: () = assert!(size_of::<UsedElem>() == 8);

/// Layout of the three parts of a split virtqueue of `size` entries (2.7), offsets in bytes.
pub mod split {
    pub const DESC_ALIGN: u64 = 16;
    pub const AVAIL_ALIGN: u64 = 2;
    pub const USED_ALIGN: u64 = 4;

    pub const DESC_SIZE: usize = 16;
    pub const USED_ELEM_SIZE: usize = 8;

    /// Available ring: flags, idx, `ring[size]`, used_event (2.7.6).
    pub const AVAIL_FLAGS: usize = 0;
    pub const AVAIL_IDX: usize = 2;
    pub const AVAIL_RING: usize = 4;
    /// `avail.flags`: the driver wants no interrupts. Unreliable, and unused with EVENT_IDX.
    pub const AVAIL_NO_INTERRUPT: u16 = 1;

    /// Used ring: flags, idx, `ring[size]`, avail_event (2.7.8).
    pub const USED_FLAGS: usize = 0;
    pub const USED_IDX: usize = 2;
    pub const USED_RING: usize = 4;
    /// `used.flags`: the device wants no notifications. Unused with EVENT_IDX.
    pub const USED_NO_NOTIFY: u16 = 1;

    pub const fn desc_bytes(size: u16) -> usize {
        DESC_SIZE * size as usize
    }

    /// With the trailing `used_event`.
    pub const fn avail_bytes(size: u16) -> usize {
        AVAIL_RING + 2 * size as usize + 2
    }

    /// With the trailing `avail_event`.
    pub const fn used_bytes(size: u16) -> usize {
        USED_RING + USED_ELEM_SIZE * size as usize + 2
    }

    /// Offset of `used_event` in the available ring.
    pub const fn used_event(size: u16) -> usize {
        AVAIL_RING + 2 * size as usize
    }

    /// Offset of `avail_event` in the used ring.
    pub const fn avail_event(size: u16) -> usize {
        USED_RING + USED_ELEM_SIZE * size as usize
    }
}

/// Whether moving an index from `old` to `new` passes `event` (2.7.10.1): then the other side
/// wants to be told.
pub const fn need_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

const STATUS_FIELDS: &[Field] = &[
    Field::bit(0, "ACKNOWLEDGE"),
    Field::bit(1, "DRIVER"),
    Field::bit(2, "DRIVER_OK"),
    Field::bit(3, "FEATURES_OK"),
    Field::bit(6, "NEEDS_RESET"),
    Field::bit(7, "FAILED"),
];

/// Vendor capability of the PCI transport, offsets from its start (4.1.4).
pub const PCI_CAPABILITY: &[Register] = &[
    Register::ro(0, "virtio_cap.vndr", 1, "VIRTIO 4.1.4").reset(super::pci::CAP_VENDOR as u64),
    Register::ro(1, "virtio_cap.next", 1, "VIRTIO 4.1.4"),
    Register::ro(2, "virtio_cap.len", 1, "VIRTIO 4.1.4"),
    Register::ro(3, "virtio_cap.cfg_type", 1, "VIRTIO 4.1.4"),
    Register::ro(4, "virtio_cap.bar", 1, "VIRTIO 4.1.4"),
    Register::ro(5, "virtio_cap.id", 1, "VIRTIO 4.1.4"),
    Register::ro(8, "virtio_cap.offset", 4, "VIRTIO 4.1.4"),
    Register::ro(12, "virtio_cap.length", 4, "VIRTIO 4.1.4"),
    Register::ro(16, "virtio_cap.extra", 4, "VIRTIO 4.1.4.4"),
];

/// Common configuration structure (4.1.4.3). `queue_*` registers show the selected queue.
pub const COMMON: &[Register] = &[
    Register::rw(0x00, "device_feature_select", 4, "VIRTIO 4.1.4.3"),
    Register::ro(0x04, "device_feature", 4, "VIRTIO 4.1.4.3"),
    Register::rw(0x08, "driver_feature_select", 4, "VIRTIO 4.1.4.3"),
    Register::rw(0x0C, "driver_feature", 4, "VIRTIO 4.1.4.3"),
    Register::rw(0x10, "config_msix_vector", 2, "VIRTIO 4.1.4.3").reset(NO_VECTOR as u64),
    Register::ro(0x12, "num_queues", 2, "VIRTIO 4.1.4.3"),
    Register::rw(0x14, "device_status", 1, "VIRTIO 2.1").fields(STATUS_FIELDS),
    Register::ro(0x15, "config_generation", 1, "VIRTIO 4.1.4.3"),
    Register::rw(0x16, "queue_select", 2, "VIRTIO 4.1.4.3"),
    Register::rw(0x18, "queue_size", 2, "VIRTIO 4.1.4.3"),
    Register::rw(0x1A, "queue_msix_vector", 2, "VIRTIO 4.1.4.3").reset(NO_VECTOR as u64),
    Register::rw(0x1C, "queue_enable", 2, "VIRTIO 4.1.4.3").writable(1),
    Register::ro(0x1E, "queue_notify_off", 2, "VIRTIO 4.1.4.3"),
    Register::rw(0x20, "queue_desc", 8, "VIRTIO 4.1.4.3"),
    Register::rw(0x28, "queue_driver", 8, "VIRTIO 4.1.4.3"),
    Register::rw(0x30, "queue_device", 8, "VIRTIO 4.1.4.3"),
    Register::ro(0x38, "queue_notify_data", 2, "VIRTIO 4.1.4.3"),
    Register::rw(0x3A, "queue_reset", 2, "VIRTIO 4.1.4.3").writable(1),
];

/// ISR status (4.1.4.5); reading it also lowers INTx.
pub const ISR: &[Register] = &[Register::ro(0, "isr", 1, "VIRTIO 4.1.4.5")
    .on_read(OnRead::Clears)
    .fields(&[Field::bit(0, "queue"), Field::bit(1, "config")])];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The closed form agrees with walking from `old` to `new` one index at a time.
        #[test]
        fn need_event_means_the_event_index_was_passed(event: u16, old: u16, steps in 0u16..300) {
            let new = old.wrapping_add(steps);
            let passed = (0..steps).any(|i| old.wrapping_add(i) == event);
            prop_assert_eq!(need_event(event, new, old), passed);
        }
    }

    #[test]
    fn ring_sizes_match_the_specification_table() {
        assert_eq!(split::desc_bytes(256), 4096);
        assert_eq!(split::avail_bytes(256), 6 + 2 * 256);
        assert_eq!(split::used_bytes(256), 6 + 8 * 256);
    }
}
