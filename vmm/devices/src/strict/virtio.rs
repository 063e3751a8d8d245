//! Rules of the status protocol and of the common configuration (VIRTIO 2.1, 3.1, 4.1.4.3).
//!
//! ```text
//!   reset -> read 0 -> ACKNOWLEDGE -> DRIVER -> features -> FEATURES_OK -> read it back
//!         -> queues: vector, read back; size; addresses; enable -> DRIVER_OK -> doorbells
//! ```

use super::Found;
use super::memory::Memory;
use super::rings::Rings;
use super::shadow::Touch;
use crate::trace::EventKind;
use std::collections::BTreeSet;
use xinim_abi::hw::virtio::{self, Status, common, feature};
use xinim_abi::hw::virtio_blk;

/// Places of the registers.
const fn at(offset: usize) -> u32 {
    offset as u32
}

/// Stands for the configuration vector among queues: no queue has this number.
const CONFIG_VECTOR: u16 = u16::MAX;

/// How far FEATURES_OK is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Negotiated {
    #[default]
    No,
    Asked,
    /// Read back as set.
    Confirmed,
}

/// What a driver has made of one virtio function.
#[derive(Default)]
pub struct Virtio {
    status: u8,
    negotiated: Negotiated,
    /// 0 was written and not yet read.
    resetting: bool,
    device_select: u64,
    driver_select: u64,
    /// By half; `None`: not looked at.
    offered: [Option<u32>; 2],
    accepted: [u32; 2],
    /// Vectors written and not read back.
    unchecked: BTreeSet<u16>,
    rings: Rings,
    /// The doorbell now being rung has been reported.
    reported: bool,
}

impl Virtio {
    pub fn access(&mut self, touch: &Touch, found: &mut Found) {
        if !touch.is(virtio::COMMON) {
            return;
        }
        if self.resetting && touch.write && touch.part(at(common::DEVICE_STATUS)) != Some(0) {
            found.add(
                "virtio-reset-unawaited",
                "the driver goes on although device_status was not read as 0 after the reset",
            );
            // Once for each reset.
            self.resetting = false;
        }
        for (register, value, mask) in touch.parts() {
            if touch.write {
                self.written(register.offset, value, mask, touch.index, found);
            } else {
                self.read(register.offset, value, touch.index);
            }
        }
        self.rings.common(touch, self.has(Status::FEATURES_OK), found);
    }

    fn has(&self, status: Status) -> bool {
        self.status & status.bits() != 0
    }

    fn read(&mut self, register: u32, value: u64, index: Option<u16>) {
        let half = |select: u64| usize::try_from(select).ok().filter(|half| *half < 2);
        if register == at(common::DEVICE_STATUS) {
            if value == 0 {
                self.resetting = false;
            }
            let taken = value & u64::from(Status::FEATURES_OK.bits()) != 0;
            if taken && self.negotiated == Negotiated::Asked {
                self.negotiated = Negotiated::Confirmed;
            }
        } else if register == at(common::DEVICE_FEATURE) {
            if let Some(half) = half(self.device_select) {
                self.offered[half] = Some(value as u32);
            }
        } else if register == at(common::CONFIG_MSIX_VECTOR) {
            self.unchecked.remove(&CONFIG_VECTOR);
        } else if register == at(common::QUEUE_MSIX_VECTOR) {
            self.unchecked.remove(&index.unwrap_or(0));
        }
    }

    fn written(
        &mut self,
        register: u32,
        value: u64,
        mask: u64,
        index: Option<u16>,
        found: &mut Found,
    ) {
        if register == at(common::DEVICE_STATUS) {
            self.status_written(value as u8, found);
        } else if register == at(common::DEVICE_FEATURE_SELECT) {
            self.device_select = value;
        } else if register == at(common::DRIVER_FEATURE_SELECT) {
            self.driver_select = value;
        } else if register == at(common::DRIVER_FEATURE) {
            self.features_written(value as u32, mask as u32, found);
        } else if register == at(common::CONFIG_MSIX_VECTOR) {
            self.vector_written(CONFIG_VECTOR, value);
        } else if register == at(common::QUEUE_MSIX_VECTOR) {
            self.vector_written(index.unwrap_or(0), value);
        }
    }

    fn vector_written(&mut self, queue: u16, value: u64) {
        if value == u64::from(virtio::NO_VECTOR) {
            self.unchecked.remove(&queue);
        } else {
            self.unchecked.insert(queue);
        }
    }

    fn features_written(&mut self, value: u32, mask: u32, found: &mut Found) {
        if self.has(Status::FEATURES_OK) {
            found.add("virtio-features-late", "driver_feature was written after FEATURES_OK");
        }
        let Some(half) = usize::try_from(self.driver_select).ok().filter(|half| *half < 2) else {
            return;
        };
        let accepted = (self.accepted[half] & !mask) | value;
        self.accepted[half] = accepted;
        let offered = self.offered[half];
        if accepted & !offered.unwrap_or(0) != 0 {
            let offer = match offered {
                Some(offered) => format!("of the offer {offered:#x}"),
                None => "of an offer it has not read".to_owned(),
            };
            found.add(
                "virtio-feature-unoffered",
                format!("the driver accepts {accepted:#x} {offer} (half {half})"),
            );
        }
    }

    fn status_written(&mut self, value: u8, found: &mut Found) {
        if value == 0 {
            *self = Self { resetting: true, offered: self.offered, ..Self::default() };
            return;
        }
        // NEEDS_RESET is the device's.
        let ours = !Status::NEEDS_RESET.bits();
        let (old, new) = (self.status & ours, value & ours);
        let lost = old & !new;
        if lost != 0 {
            found.add(
                "virtio-status-cleared",
                format!("device_status went from {old:#x} to {new:#x}: bits {lost:#x} are lost"),
            );
        }
        let added = Status::from_bits_truncate(new & !old);
        for (bit, before) in [
            (Status::DRIVER, Status::ACKNOWLEDGE),
            (Status::FEATURES_OK, Status::DRIVER),
            (Status::DRIVER_OK, Status::FEATURES_OK),
        ] {
            if added.contains(bit) && new & before.bits() == 0 {
                found.add("virtio-status-order", format!("{bit:?} was set without {before:?}"));
            }
        }
        if added.contains(Status::FEATURES_OK) {
            self.negotiated = Negotiated::Asked;
            if u64::from(self.accepted[1]) << 32 & feature::VERSION_1 == 0 {
                found.add("virtio-version-1", "FEATURES_OK was set without VERSION_1");
            }
        }
        if added.contains(Status::DRIVER_OK) {
            if self.negotiated != Negotiated::Confirmed {
                found.add(
                    "virtio-features-unconfirmed",
                    "DRIVER_OK was set before FEATURES_OK was read back",
                );
            }
            if let Some(queue) = self.unchecked.first() {
                let whose = match *queue {
                    CONFIG_VECTOR => "configuration changes".to_owned(),
                    queue => format!("queue {queue}"),
                };
                found.add(
                    "virtio-vector-unchecked",
                    format!("the vector of {whose} was not read back before DRIVER_OK"),
                );
            }
        }
        self.status |= new;
    }

    /// Features accepted by the driver.
    fn features(&self) -> u64 {
        u64::from(self.accepted[1]) << 32 | u64::from(self.accepted[0])
    }

    pub fn event(&mut self, kind: &EventKind, memory: &Memory, found: &mut Found) {
        match *kind {
            EventKind::QueueNotify { queue } => {
                self.reported = false;
                if !self.has(Status::DRIVER_OK) {
                    self.reported = true;
                    found.add(
                        "virtio-doorbell-early",
                        format!("the doorbell of queue {queue} was rung before DRIVER_OK"),
                    );
                }
            }
            EventKind::BlockRequest { kind, .. } => self.request(kind, found),
            _ => self.rings.event(kind, self.features(), memory, found),
        }
    }

    /// Whether what is wrong with the access that rang a doorbell has been said.
    pub fn take_reported(&mut self) -> bool {
        std::mem::take(&mut self.reported)
    }

    fn request(&self, kind: u32, found: &mut Found) {
        use virtio_blk::{feature as blk, request};
        let (name, needed) = match kind {
            request::FLUSH => ("FLUSH", blk::FLUSH),
            request::DISCARD => ("DISCARD", blk::DISCARD),
            request::WRITE_ZEROES => ("WRITE_ZEROES", blk::WRITE_ZEROES),
            _ => return,
        };
        if self.features() & needed == 0 {
            found.add(
                "virtio-feature-unused",
                format!("a {name} request although its feature was not negotiated"),
            );
        }
    }
}
