//! The driver side of a split virtqueue (VIRTIO 2.7).
//!
//! ```text
//!  add()      descriptors and available entry written, index kept back
//!  publish()  index stored; says whether the doorbell must be rung
//!  pop()      next used entry, checked against what is in flight
//!  arm()      interrupt asked for at the next used entry; says if one is there already
//! ```
//! A chain that fits into an indirect table occupies one descriptor; a longer one takes as many as it
//! has segments. So tables can be small, for the ordinary request, and the rare long one still works.
//!
//! Descriptor table and available ring are never read back: the free list and every chain's
//! length and capacity live in the driver's own memory. Of the used ring nothing is believed: the
//! index may not run ahead of what is in flight, an entry must name a chain in flight, and may not
//! report more bytes than the chain can take. Any breach is a [`DeviceError`], after which only a
//! reset of the device helps ([`Queue`] is made anew).

use crate::DeviceError;
use alloc::vec;
use alloc::vec::Vec;
use xinim_abi::error::{Error, Result};
use xinim_abi::hw::virtio::{Desc, DescFlags, UsedElem, need_event, split};
use xinim_driver_kit::carve::{Carver, Slice};
use xinim_driver_kit::dma::{DmaBuffer, Segment};
use xinim_driver_kit::memory::full_barrier;

/// Largest queue this driver uses; deeper ones only cost memory here.
pub const SIZE_MAX: u16 = 1024;

/// Device addresses of the three parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueAddresses {
    pub descriptors: u64,
    pub driver: u64,
    pub device: u64,
}

/// What was negotiated for the rings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueOptions {
    /// EVENT_IDX (2.7.10).
    pub event_idx: bool,
    /// INDIRECT_DESC: descriptors per indirect table (2.7.5.3), 0 without.
    pub indirect: u16,
}

/// A finished chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Used {
    /// As passed to [`Queue::add`].
    pub cookie: u32,
    /// Bytes the device wrote, at most what the chain's writable part holds.
    pub len: u32,
}

/// A chain in flight, by its head.
#[derive(Clone, Copy, Debug)]
struct Chain {
    cookie: u32,
    /// Ring descriptors it occupies.
    descriptors: u16,
    /// Bytes the device may write.
    writable: u32,
}

/// A split virtqueue.
pub struct Queue<B> {
    rings: B,
    tables: Option<B>,
    size: u16,
    options: QueueOptions,
    /// `next[i]` links free descriptors, and those of a chain in flight.
    next: Vec<u16>,
    free_head: u16,
    free: u16,
    chains: Vec<Option<Chain>>,
    in_flight: u16,
    /// Index behind the last available entry written, and the one last published.
    avail_idx: u16,
    published: u16,
    /// Used entries consumed so far.
    used_idx: u16,
}

/// Offset of the available ring in the ring buffer.
fn avail_at(size: u16) -> usize {
    split::desc_bytes(size)
}

/// Offset of the used ring: a cache line of its own, so that the two sides' indices do not share.
fn used_at(size: u16) -> usize {
    (avail_at(size) + split::avail_bytes(size)).next_multiple_of(64)
}

fn ring_bytes(size: u16) -> usize {
    used_at(size) + split::used_bytes(size)
}

fn table_bytes(size: u16, options: QueueOptions) -> usize {
    usize::from(size) * usize::from(options.indirect) * split::DESC_SIZE
}

/// What a queue takes of its carver's buffer, alignment included.
pub fn bytes(size: u16, options: QueueOptions) -> usize {
    let align = split::DESC_SIZE;
    ring_bytes(size).next_multiple_of(align) + table_bytes(size, options) + align
}

impl<B: DmaBuffer> Queue<B> {
    /// An empty queue of `size` entries, a power of two up to [`SIZE_MAX`], in parts of `carver`'s
    /// buffer; [`bytes`] says how much they take. `Inval` for other sizes, `NoMem`.
    pub fn new(
        carver: &mut Carver<B>,
        size: u16,
        options: QueueOptions,
    ) -> Result<Queue<Slice<B>>> {
        if !size.is_power_of_two() || size > SIZE_MAX {
            return Err(Error::Inval);
        }
        let rings = carver.take(ring_bytes(size), split::DESC_ALIGN as usize)?;
        let tables = match table_bytes(size, options) {
            0 => None,
            len => Some(carver.take(len, split::DESC_SIZE)?),
        };
        let mut queue = Queue {
            rings,
            tables,
            size,
            options,
            next: vec![0; usize::from(size)],
            free_head: 0,
            free: size,
            chains: vec![None; usize::from(size)],
            in_flight: 0,
            avail_idx: 0,
            published: 0,
            used_idx: 0,
        };
        queue.clear();
        Ok(queue)
    }
}

impl<B: DmaBuffer> Queue<B> {
    /// Forgets everything in flight and starts from index 0, in the same memory. Only while the
    /// device is reset.
    pub fn clear(&mut self) {
        let size = self.size;
        for (index, next) in self.next.iter_mut().enumerate() {
            *next = index as u16 + 1;
        }
        self.free_head = 0;
        self.free = size;
        self.chains.fill(None);
        (self.in_flight, self.avail_idx, self.published, self.used_idx) = (0, 0, 0, 0);
        self.rings.store_u16(avail_at(size) + split::AVAIL_FLAGS, 0);
        self.rings.store_u16(avail_at(size) + split::AVAIL_IDX, 0);
        self.rings.store_u16(avail_at(size) + split::used_event(size), 0);
        self.rings.store_u16(used_at(size) + split::USED_FLAGS, 0);
        self.rings.store_u16(used_at(size) + split::USED_IDX, 0);
        self.rings.store_u16(used_at(size) + split::avail_event(size), 0);
    }

    pub fn addresses(&self) -> QueueAddresses {
        QueueAddresses {
            descriptors: self.rings.device_address(0).address,
            driver: self.rings.device_address(avail_at(self.size)).address,
            device: self.rings.device_address(used_at(self.size)).address,
        }
    }

    pub fn size(&self) -> u16 {
        self.size
    }

    /// Chains the device has and has not returned.
    pub fn in_flight(&self) -> u16 {
        self.in_flight
    }

    /// Whether a chain of `segments` would fit now.
    pub fn fits(&self, segments: usize) -> bool {
        let indirect = segments > 1 && segments <= usize::from(self.options.indirect);
        let needed = if indirect { 1 } else { segments };
        needed <= usize::from(self.free)
    }

    /// Makes a chain available: the first `readable` of `segments` are read by the device, the
    /// others written. The device sees it at the next [`publish`](Self::publish). `Again` when
    /// there is no room now; `Inval` for a chain that is empty or longer than the queue. Gives the
    /// chain's head.
    pub fn add(&mut self, segments: &[Segment], readable: usize, cookie: u32) -> Result<u16> {
        let direct = segments.len() <= usize::from(self.size);
        let indirect = segments.len() > 1 && segments.len() <= usize::from(self.options.indirect);
        if segments.is_empty() || readable > segments.len() || !(direct || indirect) {
            return Err(Error::Inval);
        }
        let writable = segments[readable..].iter().map(|s| u64::from(s.len)).sum::<u64>();
        let writable = u32::try_from(writable).map_err(|_| Error::Inval)?;
        if !self.fits(segments.len()) {
            return Err(Error::Again);
        }
        let head = self.free_head;
        let descriptors = match &self.tables {
            Some(tables) if indirect => {
                let bytes = usize::from(self.options.indirect) * split::DESC_SIZE;
                let table = usize::from(head) * bytes;
                for (index, segment) in segments.iter().enumerate() {
                    let last = index + 1 == segments.len();
                    let desc = descriptor(segment, index >= readable, last, index as u16 + 1);
                    tables.write_value(table + index * split::DESC_SIZE, &desc);
                }
                let desc = Desc {
                    addr: tables.device_address(table).address,
                    len: (segments.len() * split::DESC_SIZE) as u32,
                    flags: DescFlags::INDIRECT.bits(),
                    next: 0,
                };
                self.rings.write_value(usize::from(head) * split::DESC_SIZE, &desc);
                self.free_head = self.next[usize::from(head)];
                1
            }
            _ => {
                let mut at = head;
                for (index, segment) in segments.iter().enumerate() {
                    let last = index + 1 == segments.len();
                    let next = self.next[usize::from(at)];
                    let desc = descriptor(segment, index >= readable, last, next);
                    self.rings.write_value(usize::from(at) * split::DESC_SIZE, &desc);
                    at = next;
                }
                self.free_head = at;
                segments.len() as u16
            }
        };
        self.free -= descriptors;
        self.chains[usize::from(head)] = Some(Chain { cookie, descriptors, writable });
        self.in_flight += 1;
        let slot = usize::from(self.avail_idx & (self.size - 1));
        self.rings.store_u16(avail_at(self.size) + split::AVAIL_RING + 2 * slot, head);
        self.avail_idx = self.avail_idx.wrapping_add(1);
        Ok(head)
    }

    /// Whether something was added that the device does not see yet.
    pub fn has_unpublished(&self) -> bool {
        self.avail_idx != self.published
    }

    /// Lets the device see everything added; true: ring the doorbell.
    pub fn publish(&mut self) -> bool {
        if !self.has_unpublished() {
            return false;
        }
        let (avail, used) = (avail_at(self.size), used_at(self.size));
        self.rings.store_u16(avail + split::AVAIL_IDX, self.avail_idx);
        full_barrier();
        let old = core::mem::replace(&mut self.published, self.avail_idx);
        if self.options.event_idx {
            let event = self.rings.load_u16(used + split::avail_event(self.size));
            need_event(event, self.avail_idx, old)
        } else {
            self.rings.load_u16(used + split::USED_FLAGS) & split::USED_NO_NOTIFY == 0
        }
    }

    /// The next finished chain, if any.
    pub fn pop(&mut self) -> core::result::Result<Option<Used>, DeviceError> {
        let at = used_at(self.size);
        let used = self.rings.load_u16(at + split::USED_IDX);
        let ahead = used.wrapping_sub(self.used_idx);
        if ahead == 0 {
            return Ok(None);
        }
        let unpublished = self.avail_idx.wrapping_sub(self.published);
        if ahead > self.in_flight - unpublished {
            return Err(DeviceError::UsedIndex { seen: self.used_idx, used });
        }
        let slot = usize::from(self.used_idx & (self.size - 1));
        let element: UsedElem =
            self.rings.read_value(at + split::USED_RING + slot * split::USED_ELEM_SIZE);
        let head = usize::try_from(element.id).unwrap_or(usize::MAX);
        let Some(chain) = self.chains.get_mut(head).and_then(Option::take) else {
            return Err(DeviceError::UsedId(element.id));
        };
        self.used_idx = self.used_idx.wrapping_add(1);
        self.in_flight -= 1;
        // Give the descriptors back: the chain's own links still lead to its last one.
        let mut last = head;
        for _ in 1..chain.descriptors {
            last = usize::from(self.next[last]);
        }
        self.next[last] = self.free_head;
        self.free_head = head as u16;
        self.free += chain.descriptors;
        if element.len > chain.writable {
            let (length, writable) = (element.len, chain.writable);
            return Err(DeviceError::UsedLength { length, writable });
        }
        Ok(Some(Used { cookie: chain.cookie, len: element.len }))
    }

    /// Whether [`pop`](Self::pop) would find something.
    pub fn has_used(&self) -> bool {
        self.rings.load_u16(used_at(self.size) + split::USED_IDX) != self.used_idx
    }

    /// Asks for an interrupt at the next used entry. True: one is there already, so pop again
    /// before waiting.
    pub fn arm(&mut self) -> bool {
        let avail = avail_at(self.size);
        if self.options.event_idx {
            self.rings.store_u16(avail + split::used_event(self.size), self.used_idx);
        } else {
            self.rings.store_u16(avail + split::AVAIL_FLAGS, 0);
        }
        full_barrier();
        self.has_used()
    }

    /// Asks for no interrupts, as far as the device listens, until the next [`arm`](Self::arm).
    pub fn disarm(&mut self) {
        let avail = avail_at(self.size);
        if self.options.event_idx {
            // An index the device has passed already, and comes to again after 65536 entries only.
            let passed = self.used_idx.wrapping_sub(1);
            self.rings.store_u16(avail + split::used_event(self.size), passed);
        } else {
            self.rings.store_u16(avail + split::AVAIL_FLAGS, split::AVAIL_NO_INTERRUPT);
        }
    }
}

fn descriptor(segment: &Segment, write: bool, last: bool, next: u16) -> Desc {
    let mut flags = DescFlags::empty();
    flags.set(DescFlags::WRITE, write);
    flags.set(DescFlags::NEXT, !last);
    let next = if last { 0 } else { next };
    Desc { addr: segment.address, len: segment.len, flags: flags.bits(), next }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
