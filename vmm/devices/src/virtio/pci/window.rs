//! The virtio capabilities (VIRTIO 4.1.4), and the one that is more than a pointer: the PCI
//! configuration access capability (4.1.4.9), a window through which a driver that cannot reach
//! BARs yet reads and writes the structures in them.

use super::{
    COMMON_OFFSET, DEVICE_OFFSET, ISR_OFFSET, NOTIFY_MULTIPLIER, NOTIFY_OFFSET, REGISTER_BAR,
    VirtioPci,
};
use crate::device::{Access, GuestError, Op, Outcome};
use crate::pci::config::ConfigError;
use crate::pci::{ConfigSpace, PciDevice};
use crate::virtio::VirtioDevice;
use std::mem::offset_of;
use xinim_abi::hw::pci;
use xinim_abi::hw::virtio::{
    CAP_NOTIFY_SIZE, CAP_PCI_CFG_DATA, CAP_PCI_CFG_SIZE, CfgType, PCI_CAPABILITY, PciCap, common,
};
use zerocopy::IntoBytes;

/// Adds all five; returns the offset of the configuration access capability.
pub(super) fn add_capabilities(
    config: &mut ConfigSpace,
    device_length: u32,
    queues: u16,
) -> Result<usize, ConfigError> {
    let notify_length = NOTIFY_MULTIPLIER * u32::from(queues);
    add(config, CfgType::Common, COMMON_OFFSET, common::SIZE as u32, &[])?;
    let multiplier = NOTIFY_MULTIPLIER.to_le_bytes();
    add(config, CfgType::Notify, NOTIFY_OFFSET, notify_length, &multiplier)?;
    add(config, CfgType::Isr, ISR_OFFSET, 1, &[])?;
    if device_length > 0 {
        add(config, CfgType::Device, DEVICE_OFFSET, device_length, &[])?;
    }
    let at = add(config, CfgType::PciAccess, 0, 0, &[0; 4])?;
    config.make_writable(at + offset_of!(PciCap, bar), 1);
    config.make_writable(at + offset_of!(PciCap, offset), 8);
    config.make_writable(at + CAP_PCI_CFG_DATA, 4);
    Ok(at)
}

fn add(
    config: &mut ConfigSpace,
    cfg_type: CfgType,
    offset: u64,
    length: u32,
    extra: &[u8],
) -> Result<usize, ConfigError> {
    let cap = PciCap {
        cap_vndr: pci::CAP_VENDOR,
        cap_len: (size_of::<PciCap>() + extra.len()) as u8,
        cfg_type: cfg_type as u8,
        bar: REGISTER_BAR,
        offset: offset as u32,
        length,
        ..PciCap::default()
    };
    let mut body = [0; CAP_NOTIFY_SIZE];
    let end = size_of::<PciCap>() + extra.len();
    body[..size_of::<PciCap>()].copy_from_slice(cap.as_bytes());
    body[size_of::<PciCap>()..end].copy_from_slice(extra);
    config.add_capability(&body[..end], PCI_CAPABILITY)
}

impl<D: VirtioDevice> VirtioPci<D> {
    /// An access to the window's data; `None` for any other configuration access.
    pub(super) fn window_access(&mut self, access: Access) -> Option<Outcome> {
        let data = (self.access_capability + CAP_PCI_CFG_DATA) as u64;
        if !(data..data + 4).contains(&access.offset) {
            return None;
        }
        let cap = self.access_capability;
        let bar = self.config.get(cap + offset_of!(PciCap, bar), 1) as u8;
        let offset = u64::from(self.config.get(cap + offset_of!(PciCap, offset), 4));
        let length = self.config.get(cap + offset_of!(PciCap, length), 4);
        let size = self.config.bars().find(|(index, _)| *index == bar).map_or(0, |(_, b)| b.size);
        let good = matches!(length, 1 | 2 | 4)
            && offset.is_multiple_of(u64::from(length))
            && offset + u64::from(length) <= size;
        if !good {
            return Some(Outcome::error(GuestError::BadState, access.size));
        }
        // The window is as wide as `length`; bytes of the data field above it are not used.
        if access.offset != data || u32::from(access.size) < length {
            return Some(Outcome::error(GuestError::BadSize, access.size));
        }
        let width = length as u8;
        let op = match access.op {
            Op::Read => Op::Read,
            Op::Write(value) => Op::Write(value & xinim_abi::hw::register::ones(width * 8)),
        };
        Some(self.bar_access(bar, Access { offset, size: width, op, ..access }))
    }
}

const _: () = assert!(CAP_PCI_CFG_SIZE == CAP_NOTIFY_SIZE);
