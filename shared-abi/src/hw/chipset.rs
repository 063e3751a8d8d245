//! Small fixed devices of the machine: ACPI power management, PM timer, i8042, reset control, and
//! XINIM's own ports (whose numbers are in [`crate::platform`]).
//!
//! ACPI sections are those of the *ACPI Specification* 6.5.

use super::register::{Field, Register};

/// PM1 status and enable bit: the power button (ACPI 4.8.3.1).
pub const PM1_POWER_BUTTON: u16 = 1 << 8;
/// PM1 control: SCI instead of SMI (ACPI 4.8.3.2).
pub const PM1_SCI_ENABLE: u16 = 1 << 0;
/// PM1 control: type of sleep to enter.
pub const PM1_SLEEP_TYPE_SHIFT: u16 = 10;
pub const PM1_SLEEP_TYPE_MASK: u16 = 7 << PM1_SLEEP_TYPE_SHIFT;
/// PM1 control: enter the sleep now.
pub const PM1_SLEEP_ENABLE: u16 = 1 << 13;
/// SLP_TYP value of S5 (soft off) in this machine's `_S5` object.
pub const SLEEP_TYPE_S5: u16 = 5;

/// PM timer frequency in Hz (ACPI 4.8.2.1).
pub const PM_TIMER_HZ: u64 = 3_579_545;
/// The PM timer counts 24 bits here (TMR_VAL_EXT clear).
pub const PM_TIMER_MASK: u32 = 0x00FF_FFFF;

/// PM1a event block: status, then enable.
pub const PM1A_EVENT: &[Register] = &[
    Register::rw(0, "pm1_status", 2, "ACPI 4.8.3.1.1").writable(0).w1c(0xCF31),
    Register::rw(2, "pm1_enable", 2, "ACPI 4.8.3.1.2")
        .writable(0x0721)
        .fields(&[Field::bit(8, "power_button")]),
];

/// PM1a control block.
pub const PM1A_CONTROL: &[Register] =
    &[Register::rw(0, "pm1_control", 2, "ACPI 4.8.3.2.1").writable(0x1C03).reset(1).fields(&[
        Field::bit(0, "sci"),
        Field::span(10, 3, "sleep_type"),
        Field::bit(13, "sleep_enable"),
    ])];

/// PM timer block.
pub const PM_TIMER: &[Register] = &[Register::ro(0, "pm_timer", 4, "ACPI 4.8.3.3")];

/// Reset control register (Intel ICH9 13.7.5).
pub const RESET: &[Register] = &[Register::rw(0, "reset_control", 1, "ICH9 13.7.5")
    .writable(0x0E)
    .fields(&[Field::bit(1, "system"), Field::bit(2, "reset"), Field::bit(3, "full")])];
/// Reset control: a rising edge of this bit resets the CPU.
pub const RESET_CPU: u8 = 1 << 2;

// i8042 keyboard controller.
pub const I8042_DATA: u16 = 0x60;
pub const I8042_COMMAND: u16 = 0x64;
/// Status: the output buffer has a byte for the CPU.
pub const I8042_OUTPUT_FULL: u8 = 1;
/// Status: system flag, set after the self test.
pub const I8042_SYSTEM: u8 = 4;
/// Status: the last write went to the command port.
pub const I8042_COMMAND_WRITTEN: u8 = 8;
/// Command: pulse the CPU's reset line.
pub const I8042_CMD_RESET: u8 = 0xFE;

/// Offsets from port 0x60: data at 0, command and status at 4.
pub const I8042: &[Register] = &[
    Register::rw(0, "i8042_data", 1, "IBM PS/2 TR keyboard controller"),
    Register::ro(4, "i8042_status", 1, "IBM PS/2 TR keyboard controller")
        .fields(&[Field::bit(0, "output_full"), Field::bit(1, "input_full")]),
    Register::wo(4, "i8042_command", 1, "IBM PS/2 TR keyboard controller"),
];

/// Type 1 PCI configuration ports, offsets from 0xCF8.
pub const PCI_CONFIG_PORTS: &[Register] = &[
    Register::rw(0, "config_address", 4, "PCI 3.2.2.3.2").writable(0x80FF_FFFC),
    Register::rw(4, "config_data", 4, "PCI 3.2.2.3.2"),
];

/// Debug console port.
pub const DEBUGCON: &[Register] = &[Register::rw(0, "debugcon", 1, "XINIM platform")
    .reset(crate::platform::DEBUGCON_PRESENT as u64)];
/// Exit device port.
pub const EXIT: &[Register] = &[Register::wo(0, "exit", 4, "XINIM platform")];
/// Panic device port.
pub const PVPANIC: &[Register] = &[Register::rw(0, "pvpanic", 1, "XINIM platform")
    .fields(&[Field::bit(0, "panicked")])
    .reset(crate::platform::PVPANIC_PANICKED as u64)];
/// Trace page port.
pub const TRACE_PAGE: &[Register] = &[Register::wo(0, "trace_page", 4, "XINIM platform")];
