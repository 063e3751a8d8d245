//! The server's end of a link's rings (`services::link`): what the driver writes is checked before it
//! is believed; a driver that breaks the rules is told apart by [`Rings::is_broken`].
//!
//! ```text
//! transmit buffer: free ──transmit──> in flight ──TX CQ──> free        receive buffer: given ──RX CQ──> given again
//! ```
//! [`Rings::restart`] is for the driver's successor: what was in flight is submitted again in its
//! old order, and every receive buffer is given anew.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::link::{
    Buffer, DATA_OFFSET, RX_BUFFER, RX_CQ_OFFSET, RX_ENTRIES, RX_SQ_OFFSET, Received, TX_CQ_OFFSET,
    TX_ENTRIES, TX_SQ_OFFSET, Transmit, index, received,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::link::Offload;

/// Memory shared with the driver; indices are loaded with acquire and stored with release order.
pub trait SharedMemory {
    fn load_u32(&self, at: usize) -> Result<u32>;
    fn store_u32(&self, at: usize, value: u32) -> Result<()>;
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()>;
    fn write(&self, at: usize, data: &[u8]) -> Result<()>;
}

/// Bytes of a small transmit buffer, and how many there are; behind them come large ones for
/// segments to be cut up.
const SMALL: usize = 2048;
const SMALL_COUNT: usize = 224;
const LARGE: usize = 65536;
const LARGE_COUNT: usize = 32;
const RX_OFFSET: usize = DATA_OFFSET;
const SMALL_OFFSET: usize = RX_OFFSET + RX_ENTRIES as usize * RX_BUFFER as usize;
const LARGE_OFFSET: usize = SMALL_OFFSET + SMALL_COUNT * SMALL;
/// Bytes of memory to be shared, with and without large buffers.
pub const LEN_LARGE: usize = LARGE_OFFSET + LARGE_COUNT * LARGE;
pub const LEN_SMALL: usize = LARGE_OFFSET;
/// Bytes at the beginning of a buffer that tell whether anything was written there.
const CANARY: usize = 8;
/// Longest received frame put together from parts.
const FRAME_MAX: usize = 65536 + 64;

const _: () = assert!(SMALL_COUNT + LARGE_COUNT == TX_ENTRIES as usize);

#[derive(Debug)]
pub struct Rings {
    large: bool,
    tx_tail: u32,
    tx_head: u32,
    rx_tail: u32,
    rx_head: u32,
    free_small: Vec<u32>,
    free_large: Vec<u32>,
    /// Submitted and not completed, in order, as given.
    in_flight: VecDeque<Transmit>,
    /// Which receive buffers the driver has.
    given: Vec<bool>,
    /// What stands at the beginning of each of them until the device writes there; nobody else knows it.
    canary: [u8; CANARY],
    /// Parts of a frame whose end has not come.
    partial: Vec<u8>,
    /// There is such a frame; what goes on from no frame is thrown away.
    inside: bool,
    /// Its checksum was found right, as one of its parts says.
    partial_good: bool,
    broken: bool,
    unannounced: bool,
    pub rx_dropped: u64,
    pub tx_dropped: u64,
}

fn place(id: u32) -> (usize, usize) {
    let id = id as usize;
    match id.checked_sub(SMALL_COUNT) {
        None => (SMALL_OFFSET + id * SMALL, SMALL),
        Some(large) => (LARGE_OFFSET + large * LARGE, LARGE),
    }
}

fn entry(base: usize, position: u32, entries: u32, size: usize) -> usize {
    base + (position % entries) as usize * size
}

impl Rings {
    /// `large`: the memory has [`LEN_LARGE`] bytes, else [`LEN_SMALL`]. `canary`: a random number.
    pub fn new(memory: &impl SharedMemory, large: bool, canary: u64) -> Result<Self> {
        let mut rings = Self {
            large,
            tx_tail: 0,
            tx_head: 0,
            rx_tail: 0,
            rx_head: 0,
            free_small: Vec::new(),
            free_large: Vec::new(),
            in_flight: VecDeque::new(),
            given: vec![false; RX_ENTRIES as usize],
            canary: canary.to_le_bytes(),
            partial: Vec::new(),
            inside: false,
            partial_good: false,
            broken: false,
            unannounced: false,
            rx_dropped: 0,
            tx_dropped: 0,
        };
        rings.restart(memory)?;
        Ok(rings)
    }

    /// Clears the indices, submits again what was in flight, gives all receive buffers.
    pub fn restart(&mut self, memory: &impl SharedMemory) -> Result<()> {
        for at in [
            index::TX_SQ_TAIL,
            index::TX_SQ_HEAD,
            index::TX_CQ_TAIL,
            index::TX_CQ_HEAD,
            index::RX_SQ_TAIL,
            index::RX_SQ_HEAD,
            index::RX_CQ_TAIL,
            index::RX_CQ_HEAD,
            index::TX_WAKE,
        ] {
            memory.store_u32(at, 0)?;
        }
        (self.tx_tail, self.tx_head, self.rx_tail, self.rx_head) = (0, 0, 0, 0);
        (self.broken, self.partial, self.partial_good) = (false, Vec::new(), false);
        self.inside = false;
        let again = core::mem::take(&mut self.in_flight);
        let busy = |id: u32| again.iter().any(|transmit| transmit.id == id);
        self.free_small = (0..SMALL_COUNT as u32).rev().filter(|&id| !busy(id)).collect();
        self.free_large = if self.large {
            (SMALL_COUNT as u32..TX_ENTRIES).rev().filter(|&id| !busy(id)).collect()
        } else {
            Vec::new()
        };
        for transmit in again {
            self.submit(memory, transmit)?;
        }
        self.given.fill(false);
        for buffer in 0..RX_ENTRIES {
            self.give(memory, buffer)?;
        }
        self.publish(memory)
    }

    /// The driver broke the rules; only [`Rings::restart`] helps.
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// What the driver knows the frame submitted last by.
    pub fn newest(&self) -> Option<u32> {
        self.in_flight.back().map(|transmit| transmit.id)
    }

    /// Asks the driver to tell of buffers that come back, or not.
    pub fn want_room(&self, memory: &impl SharedMemory, wanted: bool) -> Result<()> {
        memory.store_u32(index::TX_WAKE, wanted.into())
    }

    pub fn has_room(&self) -> bool {
        !self.free_small.is_empty() && (!self.large || !self.free_large.is_empty())
    }

    fn submit(&mut self, memory: &impl SharedMemory, transmit: Transmit) -> Result<()> {
        let at = entry(TX_SQ_OFFSET, self.tx_tail, TX_ENTRIES, size_of::<Transmit>());
        memory.write(at, transmit.as_bytes())?;
        self.tx_tail = self.tx_tail.wrapping_add(1);
        self.in_flight.push_back(transmit);
        self.unannounced = true;
        Ok(())
    }

    fn give(&mut self, memory: &impl SharedMemory, buffer: u32) -> Result<()> {
        let offset = RX_OFFSET as u32 + buffer * RX_BUFFER;
        memory.write(offset as usize, &self.canary)?;
        let at = entry(RX_SQ_OFFSET, self.rx_tail, RX_ENTRIES, size_of::<Buffer>());
        memory.write(at, Buffer { offset, reserved: 0 }.as_bytes())?;
        self.rx_tail = self.rx_tail.wrapping_add(1);
        self.given[buffer as usize] = true;
        self.unannounced = true;
        Ok(())
    }

    /// Copies a frame into a buffer and submits it. `Again`: no room; `MsgSize`: too long.
    pub fn transmit(
        &mut self,
        memory: &impl SharedMemory,
        frame: &[u8],
        offload: &Offload,
    ) -> Result<()> {
        let pool = if frame.len() <= SMALL { &mut self.free_small } else { &mut self.free_large };
        if frame.len() > if self.large { LARGE } else { SMALL } {
            self.tx_dropped += 1;
            return Err(Error::MsgSize);
        }
        let Some(id) = pool.pop() else {
            self.tx_dropped += 1;
            return Err(Error::Again);
        };
        let (offset, _) = place(id);
        memory.write(offset, frame)?;
        let transmit = Transmit {
            id,
            offset: offset as u32,
            len: frame.len() as u32,
            flags: offload.flags,
            header_len: offload.header_len,
            checksum_start: offload.checksum_start,
            checksum_offset: offload.checksum_offset,
            segment_size: offload.segment_size,
            flow: offload.flow,
            ..Transmit::default()
        };
        self.submit(memory, transmit)
    }

    /// Shows the driver what was submitted and given; true if it is to be told.
    pub fn publish_and_ask(&mut self, memory: &impl SharedMemory) -> Result<bool> {
        let told = self.unannounced;
        self.publish(memory)?;
        Ok(told)
    }

    fn publish(&mut self, memory: &impl SharedMemory) -> Result<()> {
        if core::mem::take(&mut self.unannounced) {
            memory.store_u32(index::TX_SQ_TAIL, self.tx_tail)?;
            memory.store_u32(index::RX_SQ_TAIL, self.rx_tail)?;
        }
        Ok(())
    }

    /// Takes back the buffers of frames that were sent. `Proto`: the driver lies.
    pub fn reap(&mut self, memory: &impl SharedMemory) -> Result<()> {
        let tail = memory.load_u32(index::TX_CQ_TAIL)?;
        let count = tail.wrapping_sub(self.tx_head);
        if count == 0 {
            return Ok(());
        }
        if count > TX_ENTRIES {
            return self.lied();
        }
        for _ in 0..count {
            let mut id = [0; 4];
            memory.read(entry(TX_CQ_OFFSET, self.tx_head, TX_ENTRIES, 4), &mut id)?;
            self.tx_head = self.tx_head.wrapping_add(1);
            let id = u32::from_le_bytes(id);
            // Completions come in order but for several queues: look from the front.
            let Some(at) = self.in_flight.iter().position(|transmit| transmit.id == id) else {
                return self.lied();
            };
            self.in_flight.remove(at);
            if (id as usize) < SMALL_COUNT { &mut self.free_small } else { &mut self.free_large }
                .push(id);
        }
        memory.store_u32(index::TX_CQ_HEAD, self.tx_head)
    }

    /// A device that says it has filled a buffer and has filled another (a wrong bit in a completion is
    /// enough), or none: what is there belongs to an older frame, whose checksum it may vouch for.
    fn is_untouched(&self, memory: &impl SharedMemory, buffer: u32, len: u16) -> Result<bool> {
        let mut there = [0; CANARY];
        memory.read(RX_OFFSET + (buffer * RX_BUFFER) as usize, &mut there)?;
        Ok(usize::from(len) >= CANARY && there == self.canary)
    }

    fn lied<T>(&mut self) -> Result<T> {
        self.broken = true;
        Err(Error::Proto)
    }

    /// The next whole frame replaces `frame`; `None`: there is none. True: its checksum was found
    /// right. `Proto`: the driver lies.
    pub fn receive(
        &mut self,
        memory: &impl SharedMemory,
        frame: &mut Vec<u8>,
    ) -> Result<Option<bool>> {
        loop {
            let tail = memory.load_u32(index::RX_CQ_TAIL)?;
            let count = tail.wrapping_sub(self.rx_head);
            if count == 0 {
                return Ok(None);
            }
            if count > RX_ENTRIES {
                return self.lied();
            }
            let mut head = Received::new_zeroed();
            let at = entry(RX_CQ_OFFSET, self.rx_head, RX_ENTRIES, size_of::<Received>());
            memory.read(at, head.as_mut_bytes())?;
            self.rx_head = self.rx_head.wrapping_add(1);
            memory.store_u32(index::RX_CQ_HEAD, self.rx_head)?;
            let place = head.offset.wrapping_sub(RX_OFFSET as u32);
            let buffer = place / RX_BUFFER;
            // A device's own header may stand in front of the frame.
            let valid = self.given.get(buffer as usize) == Some(&true)
                && place % RX_BUFFER + u32::from(head.len) <= RX_BUFFER;
            if !valid || self.is_untouched(memory, buffer, head.len)? {
                return self.lied();
            }
            self.given[buffer as usize] = false;
            if head.flags & received::CONTINUED == 0 {
                // One whose end never came is no beginning of this one.
                self.rx_dropped += u64::from(self.inside);
                (self.inside, self.partial_good) = (true, false);
                self.partial.clear();
            }
            let start = self.partial.len();
            if start + usize::from(head.len) > FRAME_MAX {
                // Thrown away with all that follows up to its end.
                self.rx_dropped += u64::from(self.inside);
                self.inside = false;
                self.partial.clear();
            } else if self.inside {
                self.partial.resize(start + usize::from(head.len), 0);
                memory.read(head.offset as usize, &mut self.partial[start..])?;
            }
            self.give(memory, buffer)?;
            self.partial_good |= head.flags & received::CHECKSUM_GOOD != 0;
            if head.flags & received::MORE == 0 && core::mem::take(&mut self.inside) {
                core::mem::swap(frame, &mut self.partial);
                self.partial.clear();
                return Ok(Some(core::mem::take(&mut self.partial_good)));
            }
        }
    }
}
