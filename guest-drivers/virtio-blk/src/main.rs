//! The virtio-blk driver's process: starts the device and serves `services::block` (unit 0).
//!
//! After a restart the new instance resets the device before anything else; then DEVICE_RESET_DONE
//! frees what the dead one had pinned, and only then is memory pinned anew.
#![no_std]
#![no_main]

extern crate alloc;

use xinim_block_service::server::{self, ATTENTION_BIT, INTERRUPT_BIT};
use xinim_driver_rt::{PciDevice, Registers, RtClock, RtDma, stand_by};
use xinim_rt::log;
use xinim_virtio::StartError;
use xinim_virtio_blk::{Disk, Vectors};

xinim_rt::program!(main, prepares);

/// Bytes of heap in use when the service is up, at most.
const START_HEAP: usize = 448 << 10;

/// Messages of the function: completions, and changes of configuration and status.
const QUEUES: u16 = 0;
const CONFIG: u16 = 1;

fn main() -> i32 {
    match start() {
        Ok((device, disk, vectors)) => {
            // Messages need no acknowledgement.
            server::run(device, &[], disk, vectors.config == vectors.queues)
        }
        Err(error) => {
            log!("{error}");
            1
        }
    }
}

type GuestDisk = Disk<Registers, RtDma, RtClock>;

fn start() -> Result<(PciDevice, GuestDisk, Vectors), StartError> {
    let device = PciDevice::from_start()?;
    let dma = RtDma::new(&device);
    stand_by(&device, &dma, START_HEAP)?;
    device.bind_interrupt(QUEUES.into(), INTERRUPT_BIT)?;
    // A function with a single message says everything with it.
    let own = device.bind_interrupt(CONFIG.into(), ATTENTION_BIT).is_ok();
    let vectors = Vectors { queues: Some(QUEUES), config: Some(if own { CONFIG } else { QUEUES }) };
    let disk = Disk::start(&device, &dma, RtClock, vectors)?;
    Ok((device, disk, vectors))
}
