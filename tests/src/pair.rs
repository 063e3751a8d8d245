//! Driver logic face to face with device models: the driver kit's traits over the machine's own
//! bus and a RAM that both share. No virtual machine, no threads; every step is the test's.
//!
//! ```text
//! driver logic --Mmio--> BarMmio ----> Bus --> device model
//!              --Dma---> RamDma --> FlatMemory <--Dma--'
//!              --PciFunction--> the pci service's logic --ConfigAccess--> Bus
//! ```
//! A machine can hold doorbells back ([`Machine::defer_doorbells`]), so that requests are in flight
//! for as long as a test likes, and can change what the driver reads ([`Machine::lie`]).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use xinim_abi::error::{Error, Result};
use xinim_abi::hw::pci::Bdf;
use xinim_abi::platform::ECAM_BASE;
use xinim_devices::bus::{Bus, Space};
use xinim_devices::device::{Op, Origin};
use xinim_devices::dma::Dma as DeviceDma;
use xinim_devices::pci::{HostBridge, PciDevice};
use xinim_devices::testing::FlatMemory;
use xinim_devices::trace::Tracer;
use xinim_devices::virtio::pci::{NOTIFY_OFFSET, REGISTER_BAR};
use xinim_driver_kit::dma::{Constraints, Dma, DmaBuffer, DmaCounter, DmaStatistics, Segment};
use xinim_driver_kit::memory::SharedMemory;
use xinim_driver_kit::mmio::Mmio;
use xinim_driver_kit::pci::{Capability, PciFunction};
use xinim_pci::enumerate::{Found, enumerate};
use xinim_pci::function::{Function, Messages};
use xinim_pci::{ConfigAccess, interrupt};

const PAGE: u64 = 4096;
/// Where the machine's RAM begins; not 0, so that an offset is never an address by luck.
pub const RAM_BASE: u64 = 0x10_0000;

/// Whether a write at this offset of this BAR is a doorbell.
pub type Doorbell = fn(bar: u8, offset: u64) -> bool;

fn virtio_doorbell(bar: u8, offset: u64) -> bool {
    bar == REGISTER_BAR && offset >= NOTIFY_OFFSET
}

/// What a read of a register at this offset of its BAR gives instead of the value.
pub type Lie = Box<dyn FnMut(u64, u64) -> u64>;

struct State {
    bus: Bus,
    doorbell: Doorbell,
    resets: Cell<usize>,
    deferring: Cell<bool>,
    deferred: RefCell<Vec<(u64, u8, u64)>>,
    lie: RefCell<Option<Lie>>,
}

impl State {
    fn access(&self, address: u64, size: u8, op: Op) -> u64 {
        self.bus.access(Origin::default(), Space::Mmio, address, size, op).value
    }
}

/// A machine with one device beside its host bridge.
#[derive(Clone)]
pub struct Machine {
    state: Rc<State>,
    pub ram: RamDma,
    pub function: ModelFunction,
}

impl Machine {
    /// Builds it as firmware would leave it. `memory` is what the device, a virtio one, was made with.
    pub fn new(memory: &Arc<FlatMemory>, device: Arc<Mutex<dyn PciDevice>>) -> Self {
        Self::with_doorbell(memory, device, virtio_doorbell)
    }

    /// The same for a device with doorbells of its own.
    pub fn with_doorbell(
        memory: &Arc<FlatMemory>,
        device: Arc<Mutex<dyn PciDevice>>,
        doorbell: Doorbell,
    ) -> Self {
        let mut bus = Bus::new(Tracer::off());
        let expect = "a machine of two functions fits";
        bus.add_pci(Arc::new(Mutex::new(HostBridge::new()))).expect(expect);
        let bdf = bus.add_pci(device).expect(expect);
        bus.assign_bars().expect(expect);
        let (deferring, deferred) = (Cell::new(false), RefCell::default());
        let (resets, lie) = (Cell::new(0), RefCell::default());
        let state = Rc::new(State { bus, doorbell, resets, deferring, deferred, lie });
        let config = BusConfig(Rc::clone(&state));
        let found = enumerate(&config);
        let own = *found.iter().find(|f| f.bdf == bdf).expect("the device is found");
        let function = Rc::new(RefCell::new(Function::new(own)));
        let function = ModelFunction { state: Rc::clone(&state), function, found: found.into() };
        Self { state, ram: RamDma::new(memory), function }
    }

    /// A new driver process: nothing known of the function, all memory of the old one still its.
    pub fn fresh_function(&self) -> ModelFunction {
        let found = self.function.function.borrow().found;
        let function = Rc::new(RefCell::new(Function::new(found)));
        ModelFunction { function, ..self.function.clone() }
    }

    /// How often a driver promised that the device was reset.
    pub fn resets(&self) -> usize {
        self.state.resets.get()
    }

    /// From now on doorbells wait for [`ring`](Self::ring).
    pub fn defer_doorbells(&self, on: bool) {
        self.state.deferring.set(on);
    }

    /// Delivers the doorbells held back; returns how many.
    pub fn ring(&self) -> usize {
        let deferred = self.state.deferred.take();
        for &(address, size, value) in &deferred {
            self.state.access(address, size, Op::Write(value));
        }
        deferred.len()
    }

    /// Loses the doorbells held back.
    pub fn lose_doorbells(&self) {
        self.state.deferred.take();
    }

    /// Lets `lie` change what the driver reads from registers; `None` ends it.
    pub fn lie(&self, lie: Option<Lie>) {
        *self.state.lie.borrow_mut() = lie;
    }
}

/// Configuration space through the machine's ECAM.
#[derive(Clone)]
pub struct BusConfig(Rc<State>);

impl ConfigAccess for BusConfig {
    fn read(&self, function: Bdf, offset: u8, size: u8) -> u32 {
        let address = ECAM_BASE + function.ecam_offset() + u64::from(offset);
        self.0.access(address, size, Op::Read) as u32
    }
    fn write(&self, function: Bdf, offset: u8, size: u8, value: u32) {
        let address = ECAM_BASE + function.ecam_offset() + u64::from(offset);
        self.0.access(address, size, Op::Write(value.into()));
    }
}

/// The device's function as the pci service's logic hands it to a driver.
#[derive(Clone)]
pub struct ModelFunction {
    state: Rc<State>,
    function: Rc<RefCell<Function>>,
    found: Rc<[Found]>,
}

impl ModelFunction {
    fn config(&self) -> BusConfig {
        BusConfig(Rc::clone(&self.state))
    }

    /// What the pci service does for `Interrupt`; the message is `data` sent to the local APIC.
    pub fn route(&self, index: u32, data: u32) -> Result<()> {
        let config = self.config();
        let mut function = self.function.borrow_mut();
        let bdf = function.found.bdf;
        let msix = match function.messages(&config) {
            Messages::Msix(msix) => msix,
            Messages::Msi(at) if index == 0 => {
                interrupt::program_msi(&config, bdf, at, 0xFEE0_0000, data as u16);
                return Ok(());
            }
            _ => return Err(Error::NoEnt),
        };
        let bar = function.bar(&config, msix.table_bar.into(), &self.found)?;
        let address = bar.address + u64::from(msix.table_offset) + u64::from(index) * 16;
        interrupt::enable(&config, bdf, false, None);
        let entry = BarMmio { state: Rc::clone(&self.state), address, len: 16, bar: u8::MAX };
        interrupt::program_entry(&entry, 0xFEE0_0000, data);
        msix.enable(&config, bdf);
        Ok(())
    }
}

impl PciFunction for ModelFunction {
    type Mmio = BarMmio;

    fn capability(&self, id: u8, index: usize) -> Result<Option<Capability>> {
        let mut function = self.function.borrow_mut();
        match function.capability(&self.config(), id.into(), index as u32) {
            Err(Error::NoEnt) => Ok(None),
            other => other.map(Some),
        }
    }

    fn bar(&self, index: u8) -> Result<BarMmio> {
        let config = self.config();
        let mut function = self.function.borrow_mut();
        let bar = function.memory_bar(&config, index.into(), &self.found)?;
        interrupt::enable(&config, function.found.bdf, false, None);
        let (address, len) = (bar.address, bar.len as usize);
        Ok(BarMmio { state: Rc::clone(&self.state), address, len, bar: index })
    }

    fn enable(&self, bus_master: bool) -> Result<()> {
        interrupt::enable(
            &self.config(),
            self.function.borrow().found.bdf,
            false,
            Some(bus_master),
        );
        Ok(())
    }

    fn reset_done(&self) -> Result<()> {
        self.state.resets.set(self.state.resets.get() + 1);
        Ok(())
    }
}

/// A BAR, reached over the bus.
pub struct BarMmio {
    state: Rc<State>,
    address: u64,
    len: usize,
    bar: u8,
}

impl BarMmio {
    fn read(&self, offset: usize, size: u8) -> u64 {
        self.check(offset, size);
        let value = self.state.access(self.address + offset as u64, size, Op::Read);
        match self.state.lie.borrow_mut().as_mut() {
            Some(lie) => lie(offset as u64, value),
            None => value,
        }
    }

    fn write(&self, offset: usize, size: u8, value: u64) {
        self.check(offset, size);
        let address = self.address + offset as u64;
        let doorbell = (self.state.doorbell)(self.bar, offset as u64);
        if doorbell && self.state.deferring.get() {
            self.state.deferred.borrow_mut().push((address, size, value));
        } else {
            self.state.access(address, size, Op::Write(value));
        }
    }

    fn check(&self, offset: usize, size: u8) {
        let size = usize::from(size);
        assert!(offset.is_multiple_of(size) && offset + size <= self.len, "bad access {offset:#x}");
    }
}

macro_rules! registers {
    ($($read:ident $write:ident $ty:ty;)*) => {$(
        fn $read(&self, offset: usize) -> $ty {
            self.read(offset, size_of::<$ty>() as u8) as $ty
        }
        fn $write(&self, offset: usize, value: $ty) {
            self.write(offset, size_of::<$ty>() as u8, value.into());
        }
    )*};
}

impl Mmio for BarMmio {
    fn len(&self) -> usize {
        self.len
    }
    registers! {
        read8 write8 u8;
        read16 write16 u16;
        read32 write32 u32;
        read64 write64 u64;
    }
}

/// DMA buffers in the RAM that the device sees. Scattered ones never get neighbouring pages.
#[derive(Clone)]
pub struct RamDma {
    memory: Arc<FlatMemory>,
    used: Rc<RefCell<Vec<bool>>>,
    counter: Rc<DmaCounter>,
}

/// RAM for a machine: `pages` of 4096 bytes.
pub fn ram(pages: usize) -> Arc<FlatMemory> {
    FlatMemory::new(RAM_BASE, pages * PAGE as usize)
}

impl RamDma {
    fn new(memory: &Arc<FlatMemory>) -> Self {
        let pages = memory.len() / PAGE as usize;
        let used = Rc::new(RefCell::new(vec![false; pages]));
        Self { memory: Arc::clone(memory), used, counter: Rc::default() }
    }

    fn choose(&self, pages: usize, contiguous: bool) -> Option<Vec<usize>> {
        let used = self.used.borrow();
        if contiguous {
            let first = (0..(used.len() + 1).saturating_sub(pages))
                .find(|&first| used[first..first + pages].iter().all(|&u| !u))?;
            return Some((first..first + pages).collect());
        }
        let chosen: Vec<_> =
            (1..used.len()).step_by(2).rev().filter(|&p| !used[p]).take(pages).collect();
        (chosen.len() == pages).then_some(chosen)
    }
}

impl Dma for RamDma {
    type Buffer = RamBuffer;

    fn allocate(&self, len: usize, constraints: Constraints) -> Result<RamBuffer> {
        constraints.check(len)?;
        let count = len.div_ceil(PAGE as usize);
        let pages = self.choose(count, constraints.contiguous).ok_or(Error::NoMem)?;
        for &page in &pages {
            self.used.borrow_mut()[page] = true;
            let address = self.memory.base() + page as u64 * PAGE;
            let cleared = self.memory.write(address, &[0; PAGE as usize]);
            assert!(cleared.is_ok());
        }
        self.counter.allocated(count * PAGE as usize);
        Ok(RamBuffer { dma: self.clone(), pages, len })
    }

    fn statistics(&self) -> DmaStatistics {
        self.counter.get()
    }
}

/// A buffer of [`RamDma`].
pub struct RamBuffer {
    dma: RamDma,
    pages: Vec<usize>,
    len: usize,
}

impl Drop for RamBuffer {
    fn drop(&mut self) {
        for &page in &self.pages {
            self.dma.used.borrow_mut()[page] = false;
        }
        self.dma.counter.freed(self.pages.len() * PAGE as usize);
    }
}

impl RamBuffer {
    fn each(&self, at: usize, len: usize, mut run: impl FnMut(u64, std::ops::Range<usize>)) {
        assert!(at.checked_add(len).is_some_and(|end| end <= self.len), "outside the buffer");
        let mut done = 0;
        while done < len {
            let here = at + done;
            let take = (PAGE as usize - here % PAGE as usize).min(len - done);
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

impl SharedMemory for RamBuffer {
    fn len(&self) -> usize {
        self.len
    }
    fn read_bytes(&self, at: usize, out: &mut [u8]) {
        self.each(at, out.len(), |address, range| {
            assert!(self.dma.memory.read(address, &mut out[range]).is_ok());
        });
    }
    fn write_bytes(&self, at: usize, data: &[u8]) {
        self.each(at, data.len(), |address, range| {
            assert!(self.dma.memory.write(address, &data[range]).is_ok());
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

impl DmaBuffer for RamBuffer {
    fn device_address(&self, at: usize) -> Segment {
        assert!(at < self.len, "outside the buffer");
        let (page, offset) = (at / PAGE as usize, at % PAGE as usize);
        let mut run = 1;
        while self.pages.get(page + run) == Some(&(self.pages[page] + run)) {
            run += 1;
        }
        let len = (run * PAGE as usize - offset).min(self.len - at);
        let address = self.dma.memory.base() + self.pages[page] as u64 * PAGE + offset as u64;
        Segment { address, len: len as u32 }
    }
}
