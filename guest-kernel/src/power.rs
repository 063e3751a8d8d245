//! Switching off and resetting: the exit device, then what ACPI says, then force.

use xinim_abi::platform::{EXIT_POWEROFF, EXIT_REBOOT, PORT_EXIT, PORT_RESET};

use crate::arch::instructions::{halt_forever, out8, out16, out32};
use crate::arch::triple_fault;
use crate::firmware;
use crate::smp;

/// PM1 control: SLP_EN (ACPI 6.5, 4.8.3.2.1).
const SLEEP_ENABLE: u16 = 1 << 13;

pub fn off() -> ! {
    smp::stop_others();
    out32(PORT_EXIT, EXIT_POWEROFF);
    if let Some(power) = firmware::power()
        && power.pm1a_control != 0
    {
        out16(power.pm1a_control, power.sleep_type << 10 | SLEEP_ENABLE);
    }
    halt_forever()
}

pub fn reboot() -> ! {
    smp::stop_others();
    out32(PORT_EXIT, EXIT_REBOOT);
    if let Some((port, value)) = firmware::power().and_then(|power| power.reset) {
        out8(port, value);
    }
    out8(PORT_RESET, 2);
    out8(PORT_RESET, 6);
    triple_fault()
}
