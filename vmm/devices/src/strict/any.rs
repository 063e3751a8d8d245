//! Rules that hold for every device: what the register tables and the device's own answer say.

use super::Found;
use super::shadow::{Shadow, Touch};
use crate::device::{GuestError, Op};
use crate::trace::{EventKind, Space};
use crate::virtio::RingError;
use xinim_abi::hw::pci::Bdf;
use xinim_abi::hw::register::Direction;
use xinim_abi::hw::virtio_iommu;

/// Bits that neither a write changes nor a read has shown.
pub fn reserved(touch: &Touch, shadow: &Shadow, found: &mut Found) {
    // Configuration space is written by dwords that mix registers of all kinds.
    if !touch.write || touch.space == Space::Config || touch.error.is_some() {
        return;
    }
    for (register, value, _) in touch.parts() {
        if register.direction == Direction::ReadOnly {
            continue;
        }
        let known = register.writable | register.write_one_to_clear | shadow.seen(touch, register);
        let stray = value & !known;
        if stray != 0 {
            let name = register.name;
            found.add(
                "register-reserved",
                format!("{name} was written with reserved bits {stray:#x} ({})", register.section),
            );
        }
    }
}

/// What the device itself found wrong with an access.
pub fn mistake(error: GuestError, kind: &EventKind, found: &mut Found) {
    let EventKind::Access { space, address, size, op, decode, .. } = *kind else { return };
    let place = match decode
        .and_then(|d| xinim_abi::hw::register::find(d.table, d.offset, matches!(op, Op::Write(_))))
    {
        Some(register) => register.name.to_owned(),
        None => format!(
            "{}{address:#x}",
            match space {
                Space::Pio => "port ",
                Space::Mmio => "address ",
                Space::Config => "configuration space ",
            }
        ),
    };
    let (verb, value) = match op {
        Op::Read => ("a read", String::new()),
        Op::Write(value) => ("a write", format!(" of {value:#x}")),
    };
    let what = format!("{verb}{value} ({size} bytes) to {place}");
    let rule = match error {
        GuestError::Unclaimed => "access-unclaimed",
        GuestError::NoRegister => "register-none",
        GuestError::ReadOnly => "register-read-only",
        GuestError::WriteOnly => "register-write-only",
        GuestError::BadSize => "access-size",
        GuestError::Unaligned => "access-alignment",
        GuestError::BadValue => "register-value",
        GuestError::BadState => "register-state",
        GuestError::BadQueue => "virtio-doorbell-queue",
        GuestError::BusMasterOff => "dma-bus-master",
        GuestError::NeedsReset => "device-broken",
        // Reported where the ring broke.
        GuestError::Ring(_) => return,
    };
    found.add(rule, what);
}

/// What needs no knowledge of the device.
pub fn event(kind: &EventKind, found: &mut Found) {
    match *kind {
        EventKind::Dma { write, address, length, ok: false, .. } => {
            let verb = if write { "write" } else { "read" };
            found.add(
                "dma-no-memory",
                format!("the device was told to {verb} {length:#x} bytes at {address:#x}"),
            );
        }
        EventKind::IommuFault { endpoint, address, write, .. } => {
            let (function, verb) = (Bdf::from_bits(endpoint), if write { "write" } else { "read" });
            found.add("iommu-refused", format!("{function} was told to {verb} at {address:#x}"));
        }
        EventKind::IommuRequest(request) if request.status != 0 => {
            let name = virtio_iommu::request::name(request.kind).unwrap_or("a request");
            found.add("iommu-request", format!("{name} failed with status {}", request.status));
        }
        EventKind::QueueBroken { queue, error: GuestError::Ring(RingError::Dma(error)) } => {
            found.add(
                "dma-no-memory",
                format!("queue {queue}: {:#x} bytes at {:#x}", error.length, error.address),
            );
        }
        _ => {}
    }
}
