//! XINIM's own ports (see `xinim_abi::platform`) and the chipset's reset control register.

use crate::backend::ByteStream;
use crate::device::{Access, Action, Device, GuestError, Op, Outcome};
use xinim_abi::hw::chipset::{self, RESET_CPU};
use xinim_abi::platform::{
    DEBUGCON_PRESENT, EXIT_PANIC, PORT_DEBUGCON, PORT_TRACE_PAGE, PVPANIC_PANICKED,
};

/// Offset of the debug console in [`PlatformPorts`].
const DEBUGCON: u64 = (PORT_DEBUGCON - PORT_TRACE_PAGE) as u64;

/// Trace page port (dword at offset 0) and debug console (byte at offset 1): one device, because
/// the dword covers the byte's port. Bytes the stream does not take are lost: it is a last resort
/// and must not stop a guest.
pub struct PlatformPorts<S> {
    // Glue
    debug: S,
}

impl<S: ByteStream> PlatformPorts<S> {
    pub fn new(debug: S) -> Self {
        Self { debug }
    }
}

impl<S: ByteStream> Device for PlatformPorts<S> {
    fn name(&self) -> &str {
        "platform"
    }

    fn access(&mut self, access: Access) -> Outcome {
        match (access.offset, access.size, access.op) {
            (0, 4, Op::Write(frame)) => {
                Outcome::done().at(chipset::TRACE_PAGE, 0).with_action(Action::TracePage(frame))
            }
            (DEBUGCON, 1, Op::Write(byte)) => {
                self.debug.write(&[byte as u8]);
                Outcome::done().at(chipset::DEBUGCON, 0)
            }
            (DEBUGCON, 1, Op::Read) => {
                Outcome::value(u64::from(DEBUGCON_PRESENT)).at(chipset::DEBUGCON, 0)
            }
            _ => Outcome::error(GuestError::NoRegister, access.size),
        }
    }

    fn reset(&mut self) {}
}

/// Exit device: a write of any width ends the machine with the value.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExitDevice;

impl Device for ExitDevice {
    fn name(&self) -> &str {
        "exit"
    }

    fn access(&mut self, access: Access) -> Outcome {
        let outcome = match (access.offset, access.op) {
            (0, Op::Write(value)) => Outcome::done().with_action(Action::Exit(value as u32)),
            (_, Op::Write(_)) => Outcome::done().with_error(GuestError::NoRegister),
            (_, Op::Read) => Outcome::error(GuestError::WriteOnly, access.size),
        };
        outcome.at(chipset::EXIT, access.offset as u32)
    }

    fn reset(&mut self) {}
}

/// Panic device: the guest says that it has panicked, which ends the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct PanicDevice;

impl Device for PanicDevice {
    fn name(&self) -> &str {
        "pvpanic"
    }

    fn access(&mut self, access: Access) -> Outcome {
        let outcome = match access.op {
            Op::Read => Outcome::value(u64::from(PVPANIC_PANICKED)),
            Op::Write(events) if events & u64::from(PVPANIC_PANICKED) != 0 => {
                Outcome::done().with_action(Action::Exit(EXIT_PANIC))
            }
            Op::Write(_) => Outcome::done(),
        };
        outcome.at(chipset::PVPANIC, 0)
    }

    fn reset(&mut self) {}
}

/// Reset control register: a rising edge of bit 2 resets the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct ResetControl {
    // Volatile state
    value: u8,
}

impl Device for ResetControl {
    fn name(&self) -> &str {
        "reset"
    }

    fn access(&mut self, access: Access) -> Outcome {
        let outcome = match access.op {
            Op::Read => Outcome::value(u64::from(self.value)),
            Op::Write(value) => {
                let new = chipset::RESET[0].written(u64::from(self.value), value) as u8;
                let rising = new & !self.value & RESET_CPU != 0;
                self.value = new;
                let done = Outcome::done();
                if rising { done.with_action(Action::Reset) } else { done }
            }
        };
        outcome.at(chipset::RESET, 0)
    }

    fn reset(&mut self) {
        self.value = 0;
    }
}
