//! The virtio-net driver's process: starts the device and serves `services::link`.
#![no_std]
#![no_main]

extern crate alloc;

use xinim_driver_rt::{Interrupt, PciDevice, Registers, RtClock, RtDma, stand_by};
use xinim_link_service::server::{self, ATTENTION_BIT, INTERRUPT_BIT};
use xinim_rt::{kip, log};
use xinim_virtio::StartError;
use xinim_virtio_net::{Net, PAIRS, Vectors};

xinim_rt::program!(main, prepares);

/// Bytes of heap in use when the service is up, at most.
const START_HEAP: usize = 192 << 10;

/// Messages of the function: frames, and changes of configuration and status.
const QUEUES: u16 = 0;
const CONFIG: u16 = 1;

type GuestNet = Net<Registers, RtDma, RtClock>;

fn main() -> i32 {
    match start() {
        Ok((device, net, interrupt, shared)) => {
            server::run("virtio-net", device, net, interrupt, shared)
        }
        Err(error) => {
            log!("virtio-net: {error}");
            1
        }
    }
}

fn start() -> Result<(PciDevice, GuestNet, Interrupt, bool), StartError> {
    let device = PciDevice::from_start()?;
    let dma = RtDma::new(&device);
    stand_by(&device, &dma, START_HEAP)?;
    let interrupt = device.bind_interrupt(QUEUES.into(), INTERRUPT_BIT)?;
    // A function with a single message says everything with it.
    let own = device.bind_interrupt(CONFIG.into(), ATTENTION_BIT).is_ok();
    let vectors = Vectors { queues: Some(QUEUES), config: Some(if own { CONFIG } else { QUEUES }) };
    // Locally administered, for a device without an address; told to the network server.
    let random = kip::random_u64().unwrap_or_else(kip::tsc).to_le_bytes();
    let made_up = [0x02, random[0], random[1], random[2], random[3], random[4]];
    // A pair for each CPU, and two where there is one: each costs a dozen register accesses at the start,
    // which is time that a restart takes.
    let pairs = kip::cpus().clamp(2, u32::from(PAIRS)) as u16;
    let net = Net::start(&device, &dma, RtClock, vectors, pairs, made_up)?;
    Ok((device, net, interrupt, !own))
}
