//! DMA memory of a driver process, its own or a client's, pinned to the function's DMA domain.
//!
//! Large rings and pools are memory that RS keeps for the driver over its death, where its manifest has
//! `keep`: the next instance finds it made, as one large page, and a restart spends no time on hundreds of
//! frames. What is in it is the dead instance's and is cleared before use.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use xinim_abi::error::{Error, Result};
use xinim_abi::object::{Handle, LARGE_PAGE_SIZE, MemoryFlags, Protection};
use xinim_driver_kit::dma::{Constraints, Dma, DmaBuffer, DmaCounter, DmaStatistics, Segment};
use xinim_driver_kit::memory::SharedMemory;
use xinim_rt::memory::{Mapping, Memory};
use xinim_rt::sys;

/// Makes DMA buffers for one device.
#[derive(Clone, Debug)]
pub struct RtDma {
    device: Handle,
    counter: Rc<DmaCounter>,
    /// Key of the next kept memory.
    next_key: Rc<Cell<u64>>,
    /// Kept memory that was mapped ahead, from the first key on.
    ready: Rc<RefCell<VecDeque<(Memory, Mapping)>>>,
}

/// Buffers from this size on are kept memory, where there is some.
const KEPT_MIN: usize = 32 << 10;
/// RS's keys below this are the driver's own.
const FIRST_KEY: u64 = 1 << 32;

impl RtDma {
    pub fn new(device: &crate::PciDevice) -> Self {
        Self::in_domain(device.device())
    }

    /// In the DMA domain with this handle, which stays the caller's and open as long as this lives.
    pub fn in_domain(device: Handle) -> Self {
        Self {
            device,
            counter: Rc::default(),
            next_key: Rc::new(Cell::new(FIRST_KEY)),
            ready: Rc::default(),
        }
    }

    /// Maps what is kept, without touching what is in it: the present instance's device works with it.
    pub(crate) fn prepare(&self) {
        for key in FIRST_KEY.. {
            let Ok(memory) = xinim_rt::keep::existing(key) else { return };
            let Ok(mapping) = memory.map(Protection::READ | Protection::WRITE) else { return };
            for at in (0..mapping.len()).step_by(LARGE_PAGE_SIZE) {
                let _ = mapping.load_u32(at);
            }
            self.ready.borrow_mut().push_back((memory, mapping));
        }
    }

    /// Kept memory for a buffer; `None` where there is none that fits.
    fn kept(&self, len: usize, constraints: &Constraints) -> Option<PinnedMemory> {
        if len < KEPT_MIN {
            return None;
        }
        let size = len.checked_next_multiple_of(LARGE_PAGE_SIZE)?;
        // The same buffers in the same order as the instance before, so the same keys.
        let key = self.next_key.get();
        let (memory, mapping) = match self.ready.borrow_mut().pop_front() {
            Some(ready) => ready,
            None => {
                let memory = xinim_rt::keep::memory(key, size as u64).ok()?;
                let mapping = memory.map(Protection::READ | Protection::WRITE).ok()?;
                (memory, mapping)
            }
        };
        self.next_key.set(key + 1);
        if memory.len() < size as u64 {
            return None;
        }
        let mut buffer = PinnedMemory::pinned(self.device, memory, mapping).ok()?;
        let end = |run: &Run| run.address.saturating_add(run.len - 1);
        let reachable = buffer.runs.iter().all(|run| end(run) <= constraints.max_address);
        if !reachable || buffer.runs.len() != 1 || !buffer.shift(len, constraints) {
            return None;
        }
        buffer.mapping.fill(buffer.start, len, 0).ok()?;
        Some(buffer)
    }

    fn make(&self, len: usize, constraints: Constraints) -> Result<PinnedMemory> {
        constraints.check(len)?;
        if let Some(buffer) = self.kept(len, &constraints) {
            return Ok(buffer);
        }
        let mut flags = MemoryFlags::empty();
        flags.set(MemoryFlags::CONTIGUOUS, constraints.contiguous);
        flags.set(MemoryFlags::LARGE, len >= LARGE_PAGE_SIZE);
        flags.set(MemoryFlags::BELOW_4G, constraints.max_address <= u64::from(u32::MAX));
        flags.set(MemoryFlags::BELOW_16M, constraints.max_address <= 0xFF_FFFF);
        let mut pinned = len;
        loop {
            let memory = Memory::create(pinned as u64, flags)?;
            let mut buffer = PinnedMemory::new(self.device, memory)?;
            // What the flags cannot say is checked: other limits, and that the kernel obeyed.
            let end = |run: &Run| run.address.saturating_add(run.len - 1);
            let reachable = buffer.runs.iter().all(|run| end(run) <= constraints.max_address);
            let whole = !constraints.contiguous || buffer.runs.len() == 1;
            if !(reachable && whole) {
                return Err(Error::NoMem);
            }
            if !constraints.contiguous {
                buffer.len = len;
                buffer.cut(&constraints);
                return Ok(buffer);
            }
            if buffer.shift(len, &constraints) {
                return Ok(buffer);
            }
            // It lies across a boundary. In twice as much there is a place behind that.
            if pinned > len {
                return Err(Error::NoMem);
            }
            pinned = len.checked_mul(2).ok_or(Error::NoMem)?;
        }
    }
}

impl Dma for RtDma {
    type Buffer = PinnedMemory;

    fn allocate(&self, len: usize, constraints: Constraints) -> Result<PinnedMemory> {
        match self.make(len, constraints) {
            Ok(mut buffer) => {
                self.counter.allocated(buffer.len);
                buffer.counter = Some(Rc::clone(&self.counter));
                Ok(buffer)
            }
            Err(error) => {
                self.counter.failed();
                Err(error)
            }
        }
    }

    fn statistics(&self) -> DmaStatistics {
        self.counter.get()
    }
}

/// A run of device addresses in a pinned memory.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Offset in the memory, ascending from run to run.
    offset: u64,
    address: u64,
    len: u64,
}

/// Memory mapped here and pinned to a device; unpinned when dropped. The owner drops it only when
/// the device has finished with it.
#[derive(Debug)]
pub struct PinnedMemory {
    device: Handle,
    mapping: Mapping,
    memory: Memory,
    /// Where the part in use begins in the mapping, and its bytes.
    start: usize,
    len: usize,
    runs: Vec<Run>,
    counter: Option<Rc<DmaCounter>>,
}

impl PinnedMemory {
    /// Pins `memory`, say a client's, to `device` and maps it for reading and writing; the device reaches
    /// it from now on. The errors of the system calls, `Quarantined` among them.
    pub fn new(device: Handle, memory: Memory) -> Result<Self> {
        let mapping = memory.map(Protection::READ | Protection::WRITE)?;
        Self::pinned(device, memory, mapping)
    }

    fn pinned(device: Handle, memory: Memory, mapping: Mapping) -> Result<Self> {
        let len = mapping.len();
        let (start, runs) = (0, Vec::new());
        let mut pinned = Self { device, mapping, memory, start, len, runs, counter: None };
        let total = len as u64;
        let mut offset = 0;
        while offset < total {
            let (address, run) = sys::device_pin(device, pinned.memory.raw(), offset)?;
            let run = run.min(total - offset);
            if run == 0 {
                return Err(Error::BadReply);
            }
            match pinned.runs.last_mut() {
                Some(last) if last.address + last.len == address => last.len += run,
                _ => pinned.runs.push(Run { offset, address, len: run }),
            }
            offset += run;
        }
        crate::grants::changed()?;
        Ok(pinned)
    }

    /// Uses `len` bytes of the one run that cross no boundary; false where there are none.
    fn shift(&mut self, len: usize, constraints: &Constraints) -> bool {
        let Some(run) = self.runs.first() else { return false };
        let before = constraints.up_to_boundary(run.address, len as u64) as usize;
        let start = if before < len { before } else { 0 };
        self.start = start;
        self.len = len;
        start + len <= self.mapping.len()
    }

    /// Cuts runs at boundaries.
    fn cut(&mut self, constraints: &Constraints) {
        let mut cut = Vec::new();
        for run in &self.runs {
            let mut run = *run;
            while run.len > 0 {
                let len = constraints.up_to_boundary(run.address, run.len);
                cut.push(Run { len, ..run });
                run.offset += len;
                run.address += len;
                run.len -= len;
            }
        }
        self.runs = cut;
    }

    /// Offset in the mapping. An offset beyond the mapping is refused there.
    fn at(&self, at: usize) -> usize {
        self.start.saturating_add(at)
    }
}

impl Drop for PinnedMemory {
    fn drop(&mut self) {
        // Fails only where nothing was pinned.
        let unpinned = sys::device_unpin(self.device, self.memory.raw());
        if unpinned.is_ok() {
            // Where this fails the memory stays the device's until the next change.
            let _ = crate::grants::changed();
        }
        if let Some(counter) = &self.counter {
            counter.freed(self.len);
        }
    }
}

#[cold]
#[inline(never)]
fn outside(at: usize) -> ! {
    panic!("access outside DMA memory or unaligned: {at:#x}")
}

impl SharedMemory for PinnedMemory {
    fn len(&self) -> usize {
        self.len
    }
    fn read_bytes(&self, at: usize, out: &mut [u8]) {
        self.mapping.copy_out(self.at(at), out).unwrap_or_else(|_| outside(at));
    }
    fn write_bytes(&self, at: usize, data: &[u8]) {
        self.mapping.copy_in(self.at(at), data).unwrap_or_else(|_| outside(at));
    }
    fn load_u16(&self, at: usize) -> u16 {
        self.mapping.load_u16(self.at(at)).unwrap_or_else(|_| outside(at))
    }
    fn load_u32(&self, at: usize) -> u32 {
        self.mapping.load_u32(self.at(at)).unwrap_or_else(|_| outside(at))
    }
    fn store_u16(&self, at: usize, value: u16) {
        self.mapping.store_u16(self.at(at), value).unwrap_or_else(|_| outside(at));
    }
    fn store_u32(&self, at: usize, value: u32) {
        self.mapping.store_u32(self.at(at), value).unwrap_or_else(|_| outside(at));
    }
}

impl DmaBuffer for PinnedMemory {
    fn device_address(&self, at: usize) -> Segment {
        if at >= self.len {
            outside(at);
        }
        let at64 = (self.start + at) as u64;
        // The last run that begins at or before `at`; there is one, as runs cover everything.
        let index = self.runs.partition_point(|run| run.offset <= at64).saturating_sub(1);
        let Some(run) = self.runs.get(index) else { outside(at) };
        let skip = at64 - run.offset;
        let len = (run.len - skip).min((self.len - at) as u64).min(u64::from(u32::MAX));
        Segment { address: run.address + skip, len: len as u32 }
    }
}
