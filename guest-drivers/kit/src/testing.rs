//! Fakes of the kit's traits for tests in one host process.

use crate::clock::Clock;
use crate::dma::{Constraints, Dma, DmaBuffer, DmaCounter, DmaStatistics, Segment};
use crate::memory::SharedMemory;
use crate::mmio::Mmio;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use xinim_abi::error::{Error, Result};

/// A clock that moves only when someone pauses, and a microsecond whenever it is read.
#[derive(Debug, Default)]
pub struct FakeClock(Cell<u64>);

impl FakeClock {
    pub fn advance(&self, ns: u64) {
        self.0.set(self.0.get() + ns);
    }
}

impl Clock for FakeClock {
    fn now_ns(&self) -> u64 {
        self.advance(1000);
        self.0.get()
    }
    fn pause(&self, ns: u64) {
        self.advance(ns);
    }
}

/// Registers that are plain memory.
#[derive(Debug)]
pub struct FakeMmio(RefCell<Vec<u8>>);

impl FakeMmio {
    pub fn new(len: usize) -> Self {
        Self(RefCell::new(vec![0; len]))
    }

    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        assert!(at.is_multiple_of(N), "unaligned register");
        self.0.borrow()[at..at + N].try_into().unwrap_or([0; N])
    }

    fn set<const N: usize>(&self, at: usize, bytes: [u8; N]) {
        assert!(at.is_multiple_of(N), "unaligned register");
        self.0.borrow_mut()[at..at + N].copy_from_slice(&bytes);
    }
}

macro_rules! registers {
    ($($read:ident $write:ident $ty:ty;)*) => {$(
        fn $read(&self, offset: usize) -> $ty {
            <$ty>::from_le_bytes(self.get(offset))
        }
        fn $write(&self, offset: usize, value: $ty) {
            self.set(offset, value.to_le_bytes());
        }
    )*};
}

impl Mmio for FakeMmio {
    fn len(&self) -> usize {
        self.0.borrow().len()
    }
    registers! {
        read8 write8 u8;
        read16 write16 u16;
        read32 write32 u32;
        read64 write64 u64;
    }
}

/// Where the fake machine's RAM begins: not 0, so that offsets are never addresses by luck.
pub const FAKE_RAM_BASE: u64 = 0x10_0000;

/// Fake RAM handed out page by page. Contiguous buffers are runs; others get every second page, so
/// that no two neighbours are adjacent.
#[derive(Clone, Debug)]
pub struct FakeDma {
    ram: Rc<RefCell<Vec<u8>>>,
    used: Rc<RefCell<Vec<bool>>>,
    counter: Rc<DmaCounter>,
}

const PAGE: usize = 4096;

impl FakeDma {
    /// RAM of `len` bytes, whole pages.
    pub fn new(len: usize) -> Self {
        Self {
            ram: Rc::new(RefCell::new(vec![0; len])),
            used: Rc::new(RefCell::new(vec![false; len / PAGE])),
            counter: Rc::default(),
        }
    }

    /// What the device does: reads at a device address. `false` outside RAM.
    pub fn device_read(&self, address: u64, out: &mut [u8]) -> bool {
        let ram = self.ram.borrow();
        let Some(range) = range(address, out.len(), ram.len()) else { return false };
        out.copy_from_slice(&ram[range]);
        true
    }

    /// What the device does: writes at a device address. `false` outside RAM.
    pub fn device_write(&self, address: u64, data: &[u8]) -> bool {
        let mut ram = self.ram.borrow_mut();
        let Some(range) = range(address, data.len(), ram.len()) else { return false };
        ram[range].copy_from_slice(data);
        true
    }
}

fn range(address: u64, len: usize, ram: usize) -> Option<core::ops::Range<usize>> {
    let start = usize::try_from(address.checked_sub(FAKE_RAM_BASE)?).ok()?;
    let end = start.checked_add(len)?;
    (end <= ram).then_some(start..end)
}

impl Dma for FakeDma {
    type Buffer = FakeBuffer;

    fn allocate(&self, len: usize, constraints: Constraints) -> Result<FakeBuffer> {
        constraints.check(len)?;
        let pages = len.div_ceil(PAGE);
        let mut used = self.used.borrow_mut();
        let chosen: Option<Vec<usize>> = if constraints.contiguous {
            (0..used.len().saturating_sub(pages - 1))
                .find(|&first| {
                    let address = FAKE_RAM_BASE + (first * PAGE) as u64;
                    used[first..first + pages].iter().all(|&u| !u)
                        && constraints.up_to_boundary(address, len as u64) == len as u64
                })
                .map(|first| (first..first + pages).collect())
        } else {
            let free = (0..used.len()).filter(|&p| p % 2 == 0 && !used[p]);
            let pages: Vec<usize> = free.take(pages).collect();
            (pages.len() == len.div_ceil(PAGE)).then_some(pages)
        };
        let pages = chosen.filter(|pages| {
            pages.iter().all(|p| {
                FAKE_RAM_BASE + (p * PAGE) as u64 + (PAGE as u64 - 1) <= constraints.max_address
            })
        });
        let Some(pages) = pages else {
            self.counter.failed();
            return Err(Error::NoMem);
        };
        for &page in &pages {
            used[page] = true;
            self.ram.borrow_mut()[page * PAGE..(page + 1) * PAGE].fill(0);
        }
        self.counter.allocated(pages.len() * PAGE);
        Ok(FakeBuffer { dma: self.clone(), pages, len })
    }

    fn statistics(&self) -> DmaStatistics {
        self.counter.get()
    }
}

/// A buffer of [`FakeDma`].
#[derive(Debug)]
pub struct FakeBuffer {
    dma: FakeDma,
    pages: Vec<usize>,
    len: usize,
}

impl Drop for FakeBuffer {
    fn drop(&mut self) {
        for &page in &self.pages {
            self.dma.used.borrow_mut()[page] = false;
        }
        self.dma.counter.freed(self.pages.len() * PAGE);
    }
}

impl FakeBuffer {
    fn each(&self, at: usize, len: usize, mut run: impl FnMut(u64, core::ops::Range<usize>)) {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "outside the buffer");
        let mut done = 0;
        while done < len {
            let here = at + done;
            let take = (PAGE - here % PAGE).min(len - done);
            run(self.device_address(here).address, done..done + take);
            done += take;
        }
    }

    fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        assert!(at.is_multiple_of(N), "unaligned");
        let mut bytes = [0; N];
        self.read_bytes(at, &mut bytes);
        bytes
    }
}

impl SharedMemory for FakeBuffer {
    fn len(&self) -> usize {
        self.len
    }
    fn read_bytes(&self, at: usize, out: &mut [u8]) {
        self.each(at, out.len(), |address, range| {
            assert!(self.dma.device_read(address, &mut out[range]));
        });
    }
    fn write_bytes(&self, at: usize, data: &[u8]) {
        self.each(at, data.len(), |address, range| {
            assert!(self.dma.device_write(address, &data[range]));
        });
    }
    fn load_u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.get(at))
    }
    fn load_u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.get(at))
    }
    fn store_u16(&self, at: usize, value: u16) {
        self.write_bytes(at, &value.to_le_bytes());
    }
    fn store_u32(&self, at: usize, value: u32) {
        self.write_bytes(at, &value.to_le_bytes());
    }
}

impl DmaBuffer for FakeBuffer {
    fn device_address(&self, at: usize) -> Segment {
        assert!(at < self.len, "outside the buffer");
        let page = at / PAGE;
        let mut run = 1;
        while self.pages.get(page + run) == Some(&(self.pages[page] + run)) {
            run += 1;
        }
        let bytes = (run * PAGE - at % PAGE).min(self.len - at);
        let address = FAKE_RAM_BASE + (self.pages[page] * PAGE + at % PAGE) as u64;
        Segment { address, len: bytes as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_obey_their_constraints() {
        let dma = FakeDma::new(1 << 20);
        let filler = dma.allocate(3 * PAGE, Constraints::RING).unwrap();
        // The next three free pages lie across a boundary.
        let bounded = dma.allocate(3 * PAGE, Constraints::RING.within(4 * PAGE as u64)).unwrap();
        assert_eq!(filler.device_address(0).address, FAKE_RAM_BASE);
        let at = bounded.device_address(0);
        assert_eq!((at.address, at.len as usize), (FAKE_RAM_BASE + 4 * PAGE as u64, 3 * PAGE));
        let low = Constraints { max_address: FAKE_RAM_BASE + 0x8000, ..Constraints::DATA };
        assert_eq!(dma.allocate(0x4_0000, low).err(), Some(Error::NoMem));
        assert_eq!((dma.statistics().buffers, dma.statistics().failures), (2, 1));
    }
}
