//! The E1000 driver's process: starts the device and serves `services::link`.
#![no_std]
#![no_main]

extern crate alloc;

use xinim_abi::error::Error;
use xinim_abi::hw::e1000::Model;
use xinim_abi::hw::pci::CAP_MSIX;
use xinim_driver_kit::pci::PciFunction;
use xinim_driver_rt::{Interrupt, PciDevice, Registers, RtClock, RtDma, stand_by};
use xinim_e1000::{Nic, StartError};
use xinim_link_service::server::{self, INTERRUPT_BIT};
use xinim_rt::{kip, log};

xinim_rt::program!(main, prepares);

/// Bytes of heap in use when the service is up, at most.
const START_HEAP: usize = 96 << 10;

/// The one message (or the pin) used.
const VECTOR: u32 = 0;

type GuestNic = Nic<Registers, RtDma, RtClock>;

fn main() -> i32 {
    match start() {
        Ok((device, nic, interrupt)) => server::run("e1000", device, nic, interrupt, true),
        Err(error) => {
            log!("e1000: {error}");
            1
        }
    }
}

fn start() -> Result<(PciDevice, GuestNic, Interrupt), StartError> {
    let device = PciDevice::from_start()?;
    let dma = RtDma::new(&device);
    stand_by(&device, &dma, START_HEAP)?;
    let model = Model::from_device_id(device.device_id()?).ok_or(Error::NoDev)?;
    let interrupt = device.bind_interrupt(VECTOR, INTERRUPT_BIT)?;
    let msix = device.capability(CAP_MSIX, 0)?.is_some() && !interrupt.is_pin();
    // Locally administered, for a card whose EEPROM has no address; told to the network server.
    let random = kip::random_u64().unwrap_or_else(kip::tsc).to_le_bytes();
    let made_up = [0x02, random[0], random[1], random[2], random[3], random[4]];
    let nic = Nic::start(&device, &dma, RtClock, model, msix, made_up)?;
    Ok((device, nic, interrupt))
}
