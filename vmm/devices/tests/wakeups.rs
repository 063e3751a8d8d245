//! No lost wake-ups: a driver thread and a device thread share a ring with EVENT_IDX, each sleeps
//! whenever the rules say the other will wake it, and all requests must come through.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use xinim_abi::hw::virtio::feature;
use xinim_abi::hw::virtio_blk::request;
use xinim_devices::bus::lock;
use xinim_devices::device::Origin;
use xinim_devices::dma::{Dma, DmaError};
use xinim_devices::irq::{MsiMessage, MsiRoute, MsiSink};
use xinim_devices::pci::PciDevice;
use xinim_devices::testing::driver::{Driver, Ring};
use xinim_devices::testing::{FlatMemory, MemoryDisk};
use xinim_devices::virtio::{Block, BlockConfig, VirtioConfig, VirtioPci};

/// Passes the 16-bit wrap of every index.
const REQUESTS: usize = 70_000;
const HEADER: u64 = 0x8000;
const STATUS: u64 = 0x9000;
/// A wake-up that takes this long was lost.
const LOST: Duration = Duration::from_secs(10);

/// Interrupts as messages to the driver thread.
struct Interrupt(Mutex<Sender<u16>>);

impl MsiSink for Interrupt {
    fn route(&self, _vector: u16, _route: MsiRoute) {}
    fn signal(&self, vector: u16, _message: MsiMessage) {
        // The driver has gone when it has all it wants.
        let _gone = lock(&self.0).send(vector);
    }
}

/// Guest memory that now and then lets the other thread go first, just where races are.
struct Jittery {
    memory: Arc<FlatMemory>,
    random: AtomicU32,
}

impl Jittery {
    fn jitter(&self) {
        let next = |x: u32| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223));
        let old = self.random.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        match old.unwrap_or(0) >> 24 {
            0..3 => thread::sleep(Duration::from_micros(20)),
            3..40 => thread::yield_now(),
            _ => {}
        }
    }
}

impl Dma for Jittery {
    fn read(&self, address: u64, data: &mut [u8]) -> Result<(), DmaError> {
        self.memory.read(address, data)
    }
    fn write(&self, address: u64, data: &[u8]) -> Result<(), DmaError> {
        self.memory.write(address, data)
    }
    fn load_u16(&self, address: u64) -> Result<u16, DmaError> {
        let value = self.memory.load_u16(address);
        self.jitter();
        value
    }
    fn store_u16(&self, address: u64, value: u16) -> Result<(), DmaError> {
        self.jitter();
        self.memory.store_u16(address, value)
    }
    fn reaches(&self, address: u64, length: u64, write: bool) -> bool {
        self.memory.reaches(address, length, write)
    }
}

type Disk = Arc<Mutex<VirtioPci<Block<MemoryDisk>>>>;

fn serve(disk: &Disk, doorbell: &Receiver<()>) -> usize {
    let mut rings = 0;
    while doorbell.recv().is_ok() {
        rings += 1;
        while lock(disk).notify_queue(0, &Origin::default()) {}
    }
    rings
}

/// Runs all requests; returns how often it slept, or where it was when nobody woke it.
fn drive(
    memory: &FlatMemory,
    ring: &mut Ring,
    doorbell: &Sender<()>,
    interrupt: &Receiver<u16>,
) -> Result<usize, usize> {
    let (mut offered, mut done, mut slept) = (0, 0, 0);
    while done < REQUESTS {
        let room = usize::from(ring.size / 2) - (offered - done);
        // Batches of changing size, so that event indices are passed in all ways.
        let batch = room.min(REQUESTS - offered).min(1 + offered % 7);
        for _ in 0..batch {
            ring.offer(&[(HEADER, 16, false), (STATUS, 1, true)]);
        }
        offered += batch;
        if batch > 0 && ring.needs_notify(batch as u16) && doorbell.send(()).is_err() {
            return Err(done);
        }
        done += ring.completions().len();
        if offered - done < usize::from(ring.size / 2) && offered < REQUESTS {
            continue;
        }
        // Arm, look once more, sleep.
        ring.set_used_event(ring.taken());
        memory.full_barrier();
        let late = ring.completions().len();
        done += late;
        if late == 0 && done < REQUESTS {
            slept += 1;
            match interrupt.recv_timeout(LOST) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    return Err(done);
                }
            }
        }
    }
    Ok(slept)
}

#[test]
fn every_sleeper_is_woken() {
    let memory = FlatMemory::new(0, 0x1_0000);
    let (ring_bell, doorbell) = channel();
    let (interrupt_in, interrupt) = channel();
    let sink = Arc::new(Interrupt(Mutex::new(interrupt_in)));
    let jittery = Jittery { memory: memory.clone(), random: AtomicU32::new(1) };
    let block = Block::new(MemoryDisk::new(512), &BlockConfig::default());
    let setup = VirtioConfig::new("virtio-blk.0", Arc::new(jittery), sink);
    let mut function = VirtioPci::new(block, setup).expect("capabilities fit");
    let mut ring = Ring::new(&memory, 0, 16);
    memory.write(HEADER, &request::FLUSH.to_le_bytes()).expect("inside memory");
    let mut driver = Driver::new(&mut function);
    assert!(driver.negotiate(feature::EVENT_IDX));
    driver.enable_msix(2);
    driver.enable_queue(0, &ring);
    driver.driver_ok();

    let disk = Arc::new(Mutex::new(function));
    let (rings, slept) = thread::scope(|scope| {
        let served = disk.clone();
        let device = scope.spawn(move || serve(&served, &doorbell));
        let slept = drive(&memory, &mut ring, &ring_bell, &interrupt);
        drop(ring_bell);
        (device.join().expect("the device does not panic"), slept)
    });
    let slept = slept.map_err(|done| format!("asleep after {done} requests"));
    assert!(slept.is_ok(), "{slept:?}");
    assert_eq!(lock(&disk).device().backend().flushes, REQUESTS);
    assert!(rings < REQUESTS, "notifications were suppressed: {rings} for {REQUESTS}");
}
