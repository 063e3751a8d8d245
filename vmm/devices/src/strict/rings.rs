//! Rules of split virtqueues (VIRTIO 2.7): where they lie, and who owns what is on them.
//!
//! A chain belongs to the device from its pop to its push; its descriptors are sealed in between.

use super::Found;
use super::memory::{Memory, Sealed};
use super::shadow::Touch;
use crate::device::GuestError;
use crate::trace::EventKind;
use crate::virtio::RingError;
use std::collections::BTreeMap;
use xinim_abi::hw::virtio::{DescFlags, common, feature, split};

/// Queues followed of one device.
const QUEUES_MAX: usize = 256;

/// All queues of a device.
#[derive(Default)]
pub struct Rings {
    queues: BTreeMap<u16, Ring>,
}

#[derive(Default)]
struct Ring {
    enabled: bool,
    /// As last read: the device's largest, before the driver writes.
    max: Option<u64>,
    size: Option<u64>,
    desc: u64,
    avail: u64,
    used: u64,
    /// By head.
    in_flight: BTreeMap<u16, Vec<Sealed>>,
}

const fn at(offset: usize) -> u32 {
    offset as u32
}

impl Rings {
    /// An access to the common configuration.
    pub fn common(&mut self, touch: &Touch, features_ok: bool, found: &mut Found) {
        let Some(index) = touch.index else { return };
        if self.queues.len() >= QUEUES_MAX && !self.queues.contains_key(&index) {
            return;
        }
        let ring = self.queues.entry(index).or_default();
        for (register, value, mask) in touch.parts() {
            let offset = register.offset;
            if !touch.write {
                if offset == at(common::QUEUE_SIZE) && ring.size.is_none() {
                    ring.max = Some(value);
                }
                continue;
            }
            let programmed = [
                common::QUEUE_SIZE,
                common::QUEUE_DESC,
                common::QUEUE_DRIVER,
                common::QUEUE_DEVICE,
            ];
            if ring.enabled && programmed.iter().any(|one| at(*one) == offset) {
                found.add(
                    "virtio-queue-live",
                    format!("{} of queue {index} was written while it is enabled", register.name),
                );
                continue;
            }
            let merge = |old: u64| (old & !mask) | value;
            if offset == at(common::QUEUE_SIZE) {
                ring.set_size(index, value, found);
            } else if offset == at(common::QUEUE_DESC) {
                ring.desc = merge(ring.desc);
            } else if offset == at(common::QUEUE_DRIVER) {
                ring.avail = merge(ring.avail);
            } else if offset == at(common::QUEUE_DEVICE) {
                ring.used = merge(ring.used);
            } else if offset == at(common::QUEUE_ENABLE) && value == 1 {
                ring.enable(index, features_ok, found);
            }
        }
    }

    pub fn event(&mut self, kind: &EventKind, features: u64, memory: &Memory, found: &mut Found) {
        match *kind {
            EventKind::QueuePop { queue, head, .. } => {
                let Some(ring) = self.queues.get_mut(&queue) else { return };
                if ring.in_flight.contains_key(&head) {
                    found.add(
                        "virtio-head-reused",
                        format!("queue {queue}: chain {head} was made available twice"),
                    );
                }
                let chain = ring.seal(head, memory);
                ring.in_flight.insert(head, chain);
            }
            EventKind::QueuePush { queue, head, .. } => {
                let Some(ring) = self.queues.get_mut(&queue) else { return };
                let chain = ring.in_flight.remove(&head).unwrap_or_default();
                if let Some(changed) = chain.iter().find(|sealed| !memory.intact(sealed)) {
                    found.add(
                        "virtio-descriptor-changed",
                        format!(
                            "queue {queue}: chain {head} changed at {:#x} while the device had it",
                            changed.address
                        ),
                    );
                }
            }
            EventKind::QueueBroken { queue, error: GuestError::Ring(error) } => {
                broken(queue, error, features, found);
            }
            _ => {}
        }
    }
}

fn broken(queue: u16, error: RingError, features: u64, found: &mut Found) {
    let (rule, what) = match error {
        // Reported as memory that is not there.
        RingError::Dma(_) => return,
        RingError::AvailIndex { seen, expected } => (
            "virtio-avail-index",
            format!("avail.idx is {seen}, more than the queue's size ahead of {expected}"),
        ),
        RingError::DescriptorIndex(index) => {
            ("virtio-chain", format!("descriptor {index} is beyond the table"))
        }
        RingError::ChainTooLong => ("virtio-chain", "the chain is too long, or a loop".to_owned()),
        RingError::BadIndirect if features & feature::INDIRECT_DESC == 0 => (
            "virtio-feature-unused",
            "an indirect descriptor although INDIRECT_DESC was not negotiated".to_owned(),
        ),
        RingError::BadIndirect => ("virtio-chain", "an indirect table that is none".to_owned()),
        RingError::ReadableAfterWritable => {
            ("virtio-chain", "a readable descriptor behind a writable one".to_owned())
        }
        RingError::ChainTooLarge => ("virtio-chain", "the chain has more than 4 GiB".to_owned()),
        RingError::Malformed => {
            ("virtio-request", "the chain has no room for header or status".to_owned())
        }
    };
    found.add(rule, format!("queue {queue}: {what}"));
}

impl Ring {
    fn set_size(&mut self, index: u16, value: u64, found: &mut Found) {
        let too_large = self.max.is_some_and(|max| value > max);
        if !value.is_power_of_two() || too_large {
            let max = self.max.map_or("unread".to_owned(), |max| max.to_string());
            found.add(
                "virtio-queue-size",
                format!("queue {index} was given the size {value}; the largest is {max}"),
            );
        } else {
            self.size = Some(value);
        }
    }

    fn size(&self) -> u64 {
        self.size.or(self.max).unwrap_or(0)
    }

    fn enable(&mut self, index: u16, features_ok: bool, found: &mut Found) {
        if !features_ok {
            found
                .add("virtio-queue-early", format!("queue {index} was enabled before FEATURES_OK"));
        }
        for (name, address, align) in [
            ("descriptor table", self.desc, split::DESC_ALIGN),
            ("available ring", self.avail, split::AVAIL_ALIGN),
            ("used ring", self.used, split::USED_ALIGN),
        ] {
            if !address.is_multiple_of(align) {
                found.add(
                    "virtio-queue-alignment",
                    format!(
                        "the {name} of queue {index} is at {address:#x}, no multiple of {align}"
                    ),
                );
            }
        }
        self.enabled = true;
    }

    /// The descriptors of a chain as they are now; as far as they make sense.
    fn seal(&self, head: u16, memory: &Memory) -> Vec<Sealed> {
        let mut chain = Vec::new();
        let mut index = u64::from(head);
        // The device has checked the chain; this only has to end.
        while index < self.size() && (chain.len() as u64) < self.size() {
            let address = self.desc.wrapping_add(index * split::DESC_SIZE as u64);
            let Some(sealed) = memory.seal(address, split::DESC_SIZE) else { break };
            let Some(bytes) = memory.bytes(address, split::DESC_SIZE) else { break };
            chain.push(sealed);
            let word = |i: usize| u16::from_le_bytes([bytes[i], bytes[i + 1]]);
            let flags = DescFlags::from_bits_retain(word(12));
            if flags.contains(DescFlags::INDIRECT) {
                let mut address = [0; 8];
                address.copy_from_slice(&bytes[..8]);
                let length = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
                chain.extend(memory.seal(u64::from_le_bytes(address), length as usize));
                break;
            }
            if !flags.contains(DescFlags::NEXT) {
                break;
            }
            index = u64::from(word(14));
        }
        chain
    }
}
