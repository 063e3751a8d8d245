//! Device side of a split virtqueue (VIRTIO 2.7).
//!
//! Everything in the rings is the driver's word: indices are checked before use, each is read
//! once, a chain has a bounded number of descriptors, and a lie is a [`RingError`] after which the
//! queue is not touched again until reset.
//!
//! ```text
//!   pop ... pop -> None, then rearm(): notifications on, look once more   (2.7.7.1, 2.7.10)
//!   push ... push, then wants_interrupt(): has the driver asked for it?   (2.7.7.2)
//! ```

use super::{Chain, Context, RingError, Segment};
use crate::trace::{EventKind, Suppress};
use xinim_abi::hw::virtio::{Desc, DescFlags, NO_VECTOR, UsedElem, feature, need_event, split};
use zerocopy::{FromZeros, IntoBytes};

/// Longest chain through an indirect table. A direct chain is bounded by the queue size; drivers
/// (Linux) make longer ones with indirect tables although 2.7.5.3.1 forbids it.
pub const INDIRECT_MAX: usize = 1024;

/// One virtqueue.
#[derive(Clone, Debug)]
pub struct Queue {
    // Fixed configuration
    index: u16,
    max_size: u16,
    /// Chains longer than 4 GiB pass.
    any_length: bool,
    // Volatile state: programmed by the driver
    pub(super) size: u16,
    pub(super) enabled: bool,
    pub(super) desc: u64,
    pub(super) avail: u64,
    pub(super) used: u64,
    pub(super) vector: u16,
    features: u64,
    // Volatile state: positions
    next_avail: u16,
    next_used: u16,
    /// `next_used` when the driver was last considered for an interrupt.
    signalled: u16,
    /// For the trace: how far the driver had published when last looked, and whether notifications
    /// are off.
    published: u16,
    polling: bool,
    pub(super) broken: bool,
}

impl Queue {
    /// `max_size` must be a power of two (2.7).
    pub fn new(index: u16, max_size: u16) -> Self {
        debug_assert!(max_size.is_power_of_two());
        Self {
            index,
            max_size,
            any_length: false,
            size: max_size,
            enabled: false,
            desc: 0,
            avail: 0,
            used: 0,
            vector: NO_VECTOR,
            features: 0,
            next_avail: 0,
            next_used: 0,
            signalled: 0,
            published: 0,
            polling: false,
            broken: false,
        }
    }

    /// The same queue, with or without a bound on the length of a chain.
    pub(super) fn with_any_length(self, any_length: bool) -> Self {
        Self { any_length, ..self }
    }

    pub fn reset(&mut self) {
        *self = Self::new(self.index, self.max_size).with_any_length(self.any_length);
    }

    /// Its number at the device.
    pub fn index(&self) -> u16 {
        self.index
    }

    pub fn max_size(&self) -> u16 {
        self.max_size
    }

    /// Enabled and not broken.
    pub fn is_live(&self) -> bool {
        self.enabled && !self.broken
    }

    /// Whether size and addresses obey alignment and the address arithmetic cannot overflow.
    pub(super) fn can_enable(&self) -> bool {
        let part = |at: u64, align: u64, bytes: usize| {
            at.is_multiple_of(align) && at.checked_add(bytes as u64).is_some()
        };
        self.size.is_power_of_two()
            && self.size <= self.max_size
            && part(self.desc, split::DESC_ALIGN, split::desc_bytes(self.size))
            && part(self.avail, split::AVAIL_ALIGN, split::avail_bytes(self.size))
            && part(self.used, split::USED_ALIGN, split::used_bytes(self.size))
    }

    /// Enables the queue with the negotiated features.
    pub(super) fn enable(&mut self, features: u64) {
        self.enabled = true;
        self.features = features;
    }

    /// Features are known only at FEATURES_OK, which may follow a (premature) enabling.
    pub(super) fn set_features(&mut self, features: u64) {
        self.features = features;
    }

    fn event_idx(&self) -> bool {
        self.features & feature::EVENT_IDX != 0
    }

    fn slot(&self, counter: u16) -> u64 {
        u64::from(counter & (self.size - 1))
    }

    /// How many chains the driver has made available.
    fn available(&mut self, context: &Context<'_>) -> Result<u16, RingError> {
        let seen = context.dma.load_u16(self.avail + split::AVAIL_IDX as u64)?;
        let count = seen.wrapping_sub(self.next_avail);
        if count > self.size {
            return Err(RingError::AvailIndex { seen, expected: self.next_avail });
        }
        if seen != self.published {
            let (queue, count) = (self.index, seen.wrapping_sub(self.published));
            context.tracer.emit(context.origin, || EventKind::QueuePublish {
                queue,
                index: seen,
                count,
            });
            self.published = seen;
        }
        Ok(count)
    }

    /// Takes the next chain, if there is one.
    pub fn pop(&mut self, context: &Context<'_>) -> Result<Option<Chain>, RingError> {
        if !self.is_live() || self.available(context)? == 0 {
            return Ok(None);
        }
        let mut head = [0; 2];
        let at = self.avail + split::AVAIL_RING as u64 + 2 * self.slot(self.next_avail);
        context.dma.read(at, &mut head)?;
        let chain = self.walk(context, u16::from_le_bytes(head))?;
        self.next_avail = self.next_avail.wrapping_add(1);
        context.tracer.emit(context.origin, || EventKind::QueuePop {
            queue: self.index,
            head: chain.head,
            segments: chain.segments.len() as u16,
            readable: chain.readable().len(),
            writable: chain.writable().len(),
        });
        Ok(Some(chain))
    }

    fn walk(&self, context: &Context<'_>, head: u16) -> Result<Chain, RingError> {
        let room = if self.any_length { u64::MAX } else { u64::from(u32::MAX) };
        let mut walk = Walk { chain: Chain { head, ..Chain::default() }, room };
        let mut index = head;
        for _ in 0..self.size {
            let desc = self.descriptor(context, self.desc, u32::from(self.size), index)?;
            let flags = DescFlags::from_bits_retain(desc.flags);
            if flags.contains(DescFlags::INDIRECT) {
                if flags.contains(DescFlags::NEXT) || self.features & feature::INDIRECT_DESC == 0 {
                    return Err(RingError::BadIndirect);
                }
                self.walk_indirect(context, &desc, &mut walk)?;
                return Ok(walk.chain);
            }
            walk.add(&desc, flags)?;
            if !flags.contains(DescFlags::NEXT) {
                return Ok(walk.chain);
            }
            index = desc.next;
        }
        Err(RingError::ChainTooLong)
    }

    fn walk_indirect(
        &self,
        context: &Context<'_>,
        table: &Desc,
        walk: &mut Walk,
    ) -> Result<(), RingError> {
        let count = table.len / split::DESC_SIZE as u32;
        let whole = table.len.is_multiple_of(split::DESC_SIZE as u32);
        let ends = table.addr.checked_add(u64::from(table.len)).is_some();
        if count == 0 || count as usize > INDIRECT_MAX || !whole || !ends {
            return Err(RingError::BadIndirect);
        }
        let mut index = 0;
        for _ in 0..count {
            let desc = self.descriptor(context, table.addr, count, index)?;
            let flags = DescFlags::from_bits_retain(desc.flags);
            if flags.contains(DescFlags::INDIRECT) {
                return Err(RingError::BadIndirect);
            }
            walk.add(&desc, flags)?;
            if !flags.contains(DescFlags::NEXT) {
                return Ok(());
            }
            index = desc.next;
        }
        Err(RingError::ChainTooLong)
    }

    fn descriptor(
        &self,
        context: &Context<'_>,
        table: u64,
        count: u32,
        index: u16,
    ) -> Result<Desc, RingError> {
        if u32::from(index) >= count {
            return Err(RingError::DescriptorIndex(index));
        }
        let mut desc = Desc::new_zeroed();
        context
            .dma
            .read(table + u64::from(index) * split::DESC_SIZE as u64, desc.as_mut_bytes())?;
        Ok(desc)
    }

    /// Gives a chain back: `written` bytes are in its device-writable part.
    pub fn push(
        &mut self,
        context: &Context<'_>,
        head: u16,
        written: u32,
    ) -> Result<(), RingError> {
        self.push_all(context, &[(head, written)])
    }

    /// Gives several chains back so that the driver sees all of them or none.
    pub fn push_all(
        &mut self,
        context: &Context<'_>,
        chains: &[(u16, u32)],
    ) -> Result<(), RingError> {
        if !self.is_live() {
            return Ok(());
        }
        for &(head, written) in chains {
            let element = UsedElem { id: u32::from(head), len: written };
            let at = self.used
                + split::USED_RING as u64
                + self.slot(self.next_used) * split::USED_ELEM_SIZE as u64;
            context.dma.write(at, element.as_bytes())?;
            self.next_used = self.next_used.wrapping_add(1);
            let queue = self.index;
            context.tracer.emit(context.origin, || EventKind::QueuePush { queue, head, written });
        }
        context.dma.store_u16(self.used + split::USED_IDX as u64, self.next_used)?;
        Ok(())
    }

    /// Asks for a notification at the next chain, and tells whether one came in the meantime
    /// (then the caller must pop again).
    pub fn rearm(&mut self, context: &Context<'_>) -> Result<bool, RingError> {
        if !self.is_live() {
            return Ok(false);
        }
        if self.event_idx() {
            let at = self.used + split::avail_event(self.size) as u64;
            context.dma.store_u16(at, self.next_avail)?;
        } else {
            context.dma.store_u16(self.used + split::USED_FLAGS as u64, 0)?;
        }
        context.dma.full_barrier();
        self.suppress(false, context);
        Ok(self.available(context)? > 0)
    }

    /// While the device polls anyway: no notifications, please. With EVENT_IDX the stale
    /// `avail_event` says so already.
    pub fn quiet(&mut self, context: &Context<'_>) -> Result<(), RingError> {
        if self.is_live() && !self.event_idx() {
            let at = self.used + split::USED_FLAGS as u64;
            context.dma.store_u16(at, split::USED_NO_NOTIFY)?;
        }
        if self.is_live() {
            self.suppress(true, context);
        }
        Ok(())
    }

    fn suppress(&mut self, polling: bool, context: &Context<'_>) {
        if std::mem::replace(&mut self.polling, polling) != polling {
            let (queue, what) =
                (self.index, if polling { Suppress::NotifyOff } else { Suppress::NotifyOn });
            context.tracer.emit(context.origin, || EventKind::QueueSuppress { queue, what });
        }
    }

    /// Whether the driver wants an interrupt for what was pushed since the last call.
    pub fn wants_interrupt(&mut self, context: &Context<'_>) -> Result<bool, RingError> {
        let old = std::mem::replace(&mut self.signalled, self.next_used);
        if !self.is_live() || old == self.next_used {
            return Ok(false);
        }
        context.dma.full_barrier();
        let wanted = if self.event_idx() {
            let event = context.dma.load_u16(self.avail + split::used_event(self.size) as u64)?;
            need_event(event, self.next_used, old)
        } else {
            let flags = context.dma.load_u16(self.avail + split::AVAIL_FLAGS as u64)?;
            flags & split::AVAIL_NO_INTERRUPT == 0
        };
        if !wanted {
            let (queue, what) = (self.index, Suppress::Interrupt);
            context.tracer.emit(context.origin, || EventKind::QueueSuppress { queue, what });
        }
        Ok(wanted)
    }
}

/// A chain being collected.
struct Walk {
    chain: Chain,
    /// Bytes that may still be added.
    room: u64,
}

impl Walk {
    fn add(&mut self, desc: &Desc, flags: DescFlags) -> Result<(), RingError> {
        let writable = flags.contains(DescFlags::WRITE);
        let chain = &mut self.chain;
        if !writable && chain.readable < chain.segments.len() {
            return Err(RingError::ReadableAfterWritable);
        }
        let length = u64::from(desc.len);
        self.room = self.room.checked_sub(length).ok_or(RingError::ChainTooLarge)?;
        chain.segments.push(Segment { address: desc.addr, length: desc.len });
        if !writable {
            chain.readable += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
