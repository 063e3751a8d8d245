//! i8042 keyboard controller with nothing plugged in: enough that a kernel which probes it finds
//! a controller that passes its self test, gets no answer from a keyboard, and can reset the
//! machine through it.

use crate::device::{Access, Action, Device, Op, Outcome};
use xinim_abi::hw::chipset::{
    I8042 as TABLE, I8042_CMD_RESET, I8042_COMMAND_WRITTEN, I8042_OUTPUT_FULL, I8042_SYSTEM,
};

/// Offset of the command and status port.
const COMMAND: u64 = 4;

const CMD_READ_CONFIG: u8 = 0x20;
const CMD_WRITE_CONFIG: u8 = 0x60;
const CMD_DISABLE_AUX: u8 = 0xA7;
const CMD_ENABLE_AUX: u8 = 0xA8;
const CMD_TEST_AUX: u8 = 0xA9;
const CMD_SELF_TEST: u8 = 0xAA;
const CMD_TEST_KEYBOARD: u8 = 0xAB;
const CMD_DISABLE_KEYBOARD: u8 = 0xAD;
const CMD_ENABLE_KEYBOARD: u8 = 0xAE;
const CMD_READ_OUTPUT_PORT: u8 = 0xD0;

const SELF_TEST_PASSED: u8 = 0x55;
const PORT_TEST_PASSED: u8 = 0x00;
/// Clock line stuck: no auxiliary port.
const PORT_TEST_FAILED: u8 = 0x01;
/// Output port: system not in reset, A20 on.
const OUTPUT_PORT: u8 = 0x03;

const CONFIG_KEYBOARD_OFF: u8 = 1 << 4;
const CONFIG_AUX_OFF: u8 = 1 << 5;
/// Configuration after power-on: system flag, both ports off.
const CONFIG_INITIAL: u8 = 1 << 2 | CONFIG_KEYBOARD_OFF | CONFIG_AUX_OFF;

/// The device: data at offset 0, command and status at 4.
#[derive(Clone, Copy, Debug)]
pub struct I8042 {
    // Volatile state
    config: u8,
    output: Option<u8>,
    /// The next data byte is the configuration.
    writing_config: bool,
    last_was_command: bool,
}

impl I8042 {
    pub fn new() -> Self {
        Self {
            config: CONFIG_INITIAL,
            output: None,
            writing_config: false,
            last_was_command: false,
        }
    }

    fn status(&self) -> u8 {
        let full = if self.output.is_some() { I8042_OUTPUT_FULL } else { 0 };
        let command = if self.last_was_command { I8042_COMMAND_WRITTEN } else { 0 };
        I8042_SYSTEM | full | command
    }

    fn command(&mut self, command: u8) -> Outcome {
        self.last_was_command = true;
        self.writing_config = command == CMD_WRITE_CONFIG;
        match command {
            CMD_READ_CONFIG => self.output = Some(self.config),
            CMD_SELF_TEST => {
                self.config = CONFIG_INITIAL;
                self.output = Some(SELF_TEST_PASSED);
            }
            CMD_TEST_KEYBOARD => self.output = Some(PORT_TEST_PASSED),
            CMD_TEST_AUX => self.output = Some(PORT_TEST_FAILED),
            CMD_DISABLE_AUX => self.config |= CONFIG_AUX_OFF,
            CMD_ENABLE_AUX => self.config &= !CONFIG_AUX_OFF,
            CMD_DISABLE_KEYBOARD => self.config |= CONFIG_KEYBOARD_OFF,
            CMD_ENABLE_KEYBOARD => self.config &= !CONFIG_KEYBOARD_OFF,
            CMD_READ_OUTPUT_PORT => self.output = Some(OUTPUT_PORT),
            I8042_CMD_RESET => return Outcome::done().with_action(Action::Reset),
            _ => {}
        }
        Outcome::done()
    }

    fn data(&mut self, value: u8) {
        self.last_was_command = false;
        // Anything else goes to a keyboard that is not there.
        if std::mem::take(&mut self.writing_config) {
            self.config = value;
        }
    }
}

impl Default for I8042 {
    fn default() -> Self {
        Self::new()
    }
}

impl Device for I8042 {
    fn name(&self) -> &str {
        "i8042"
    }

    fn access(&mut self, access: Access) -> Outcome {
        let outcome = match (access.offset, access.op) {
            (COMMAND, Op::Read) => Outcome::value(u64::from(self.status())),
            (COMMAND, Op::Write(value)) => self.command(value as u8),
            (_, Op::Read) => Outcome::value(u64::from(self.output.take().unwrap_or(0))),
            (_, Op::Write(value)) => {
                self.data(value as u8);
                Outcome::done()
            }
        };
        outcome.at(TABLE, access.offset as u32)
    }

    fn reset(&mut self) {
        *self = Self::new();
    }
}
