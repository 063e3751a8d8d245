//! No lost wake-ups: a driver thread and a device thread share a ring with EVENT_IDX, each sleeps
//! whenever the rules say the other will wake it, and all requests must come through.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;
use xinim_abi::hw::virtio::feature;
use xinim_abi::hw::virtio_blk::request;
use xinim_devices::bus::lock;
use xinim_devices::device::Origin;
use xinim_devices::dma::Dma;
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
    let block = Block::new(MemoryDisk::new(512), &BlockConfig::default());
    let setup = VirtioConfig::new("virtio-blk.0", memory.clone(), sink);
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
