//! What a driver may write in its function's configuration space: the bodies of vendor-specific
//! capabilities, and nothing that moves a BAR, starts DMA or aims an interrupt. Virtio's
//! configuration access capability is closed too: it is a window into the BARs, and one of them
//! holds the MSI-X table.

use xinim_abi::error::{Error, Result};
use xinim_abi::hw::pci::{CAP_MSI, CAP_MSIX, CAP_PCI_EXPRESS, CAP_VENDOR, CONFIG_SIZE, msix};
use xinim_abi::hw::virtio::{CfgType, PCI_VENDOR};

/// Checks the shape of an access: `Inval` unless 1, 2 or 4 aligned bytes in configuration space.
pub fn check_shape(offset: u32, size: u32) -> Result<(u8, u8)> {
    let fits = matches!(size, 1 | 2 | 4)
        && offset.is_multiple_of(size)
        && offset.checked_add(size).is_some_and(|end| end <= CONFIG_SIZE as u32);
    if fits { Ok((offset as u8, size as u8)) } else { Err(Error::Inval) }
}

/// Whether a capability's body is the driver's to write.
fn is_open(head: u32, vendor: u16) -> bool {
    let [id, _, _, kind] = head.to_le_bytes();
    id == CAP_VENDOR && !(vendor == PCI_VENDOR && kind == CfgType::PciAccess as u8)
}

/// Bytes of a capability.
fn len(head: u32) -> usize {
    let [id, _, len, _] = head.to_le_bytes();
    match id {
        CAP_VENDOR => len.into(),
        CAP_MSIX => msix::CAPABILITY_SIZE,
        // With 64-bit address and mask bits (PCI 6.8.1).
        CAP_MSI => 24,
        CAP_PCI_EXPRESS => 60,
        _ => 8,
    }
}

/// Whether a write of `size` bytes at `offset` is the driver's to make: `Perm` if not.
/// `capabilities` are offset and first dword of each, `vendor` the function's.
pub fn check_write(offset: u8, size: u8, capabilities: &[(u8, u32)], vendor: u16) -> Result<()> {
    let (start, end) = (usize::from(offset), usize::from(offset) + usize::from(size));
    let inside = |&(at, head): &(u8, u32)| {
        let at = usize::from(at);
        is_open(head, vendor) && at + 4 <= start && end <= at + len(head)
    };
    // A strange device may let capabilities overlap: no write may touch a closed one.
    let touches_closed = |&(at, head): &(u8, u32)| {
        let at = usize::from(at);
        !is_open(head, vendor) && at < end && start < at + len(head)
    };
    let allowed = capabilities.iter().any(inside) && !capabilities.iter().any(touches_closed);
    if allowed { Ok(()) } else { Err(Error::Perm) }
}
