//! The machine's small fixed devices, and [`install`], which puts them where they belong.
//!
//! | ports | device |
//! |---|---|
//! | 0x60, 0x64 | [`I8042`] without keyboard |
//! | 0x70, 0x71 | [`Rtc`] |
//! | 0xE8, 0xE9 | [`PlatformPorts`]: trace page, debug console |
//! | 0xF4 | [`ExitDevice`] |
//! | 0x505 | [`PanicDevice`] |
//! | 0x600..0x60C | [`AcpiPm`]: PM1a event and control, PM timer |
//! | 0xCF9 | [`ResetControl`] |

mod acpi;
mod i8042;
mod platform;

pub use acpi::AcpiPm;
pub use i8042::I8042;
pub use platform::{ExitDevice, PanicDevice, PlatformPorts, ResetControl};

use crate::backend::{ByteStream, Clock};
use crate::bus::{Bus, BusError};
use crate::rtc::Rtc;
use std::sync::{Arc, Mutex};
use xinim_abi::hw::{chipset, rtc};
use xinim_abi::platform as numbers;

/// Adds all of them to a bus. What the guest writes to the debug console goes to `debug`.
pub fn install(
    bus: &mut Bus,
    clock: Arc<dyn Clock>,
    debug: Box<dyn ByteStream>,
) -> Result<(), BusError> {
    let keyboard = Arc::new(Mutex::new(I8042::new()));
    bus.add_ports_at(chipset::I8042_DATA, 1, 1, 0, keyboard.clone())?;
    bus.add_ports_at(chipset::I8042_COMMAND, 1, 1, 4, keyboard)?;
    let rtc = Arc::new(Mutex::new(Rtc::new(clock.clone())));
    bus.add_ports(rtc::PORT_INDEX, 2, 1, rtc)?;
    let ports = Arc::new(Mutex::new(PlatformPorts::new(debug)));
    bus.add_ports(numbers::PORT_TRACE_PAGE, 4, 4, ports)?;
    bus.add_ports(numbers::PORT_EXIT, 4, 4, Arc::new(Mutex::new(ExitDevice)))?;
    bus.add_ports(numbers::PORT_PVPANIC, 1, 1, Arc::new(Mutex::new(PanicDevice)))?;
    bus.add_ports(numbers::PM1A_EVENT, 12, 4, Arc::new(Mutex::new(AcpiPm::new(clock))))?;
    bus.add_ports(numbers::PORT_RESET, 1, 1, Arc::new(Mutex::new(ResetControl::default())))
}

#[cfg(test)]
#[path = "chipset_tests.rs"]
mod tests;
