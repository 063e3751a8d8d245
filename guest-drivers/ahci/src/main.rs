//! The AHCI driver's process: starts the HBA and serves `services::block`, unit n being port n.
//!
//! After a restart the new instance resets the HBA before anything else; then DEVICE_RESET_DONE frees
//! what the dead one had pinned, and only then is memory pinned anew.
#![no_std]
#![no_main]

extern crate alloc;

use xinim_abi::services::block::UNITS_MAX;
use xinim_ahci::{Hba, HbaError};
use xinim_block_service::BlockDevice;
use xinim_block_service::server::{self, INTERRUPT_BIT};
use xinim_driver_rt::{Interrupt, PciDevice, Registers, RtClock, RtDma, stand_by};
use xinim_rt::log;

xinim_rt::program!(main, prepares);

/// Bytes of heap in use when the service is up, at most.
const START_HEAP: usize = 192 << 10;

fn main() -> i32 {
    match start() {
        Ok((device, hba, interrupt)) => server::run(device, &[interrupt], hba, false),
        Err(error) => {
            log!("{error}");
            1
        }
    }
}

type GuestHba = Hba<Registers, RtDma, RtClock>;

fn start() -> Result<(PciDevice, GuestHba, Interrupt), HbaError> {
    let device = PciDevice::from_start()?;
    let dma = RtDma::new(&device);
    stand_by(&device, &dma, START_HEAP)?;
    let interrupt = device.bind_interrupt(0, INTERRUPT_BIT)?;
    let hba = Hba::start(&device, dma, RtClock)?;
    for number in 0..UNITS_MAX {
        if let Some(unit) = hba.unit(number) {
            let (model, sectors) = (unit.model.as_str(), unit.sectors);
            log!("port {number}: {model}, {sectors} sectors, {} at once", unit.depth);
        }
    }
    Ok((device, hba, interrupt))
}
