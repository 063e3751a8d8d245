//! Where panic reports and, on request, the kernel log go: the debug console at port 0xE9, or COM1
//! where there is none. Bytes only; a byte costs an exit of the virtual machine.

use core::cell::Cell;
use core::fmt;

use xinim_abi::platform::{COM1, DEBUGCON_PRESENT, PORT_DEBUGCON};

use crate::arch::instructions::{in8, out8};
use crate::global::Global;

#[derive(Clone, Copy, PartialEq)]
enum Sink {
    Unknown,
    Debugcon,
    Com1,
}

static SINK: Global<Cell<Sink>> = Global::new(Cell::new(Sink::Unknown));

/// Spins for the transmitter at most this often; a UART that never gets ready loses bytes.
const TRANSMIT_SPINS: u32 = 100_000;

fn sink() -> Sink {
    if SINK.get() == Sink::Unknown {
        let present = in8(PORT_DEBUGCON) == DEBUGCON_PRESENT;
        SINK.set(if present { Sink::Debugcon } else { Sink::Com1 });
    }
    SINK.get()
}

/// Writes `bytes` where people will see them.
pub fn write(bytes: &[u8]) {
    match sink() {
        Sink::Debugcon => bytes.iter().for_each(|&byte| out8(PORT_DEBUGCON, byte)),
        _ => bytes.iter().for_each(|&byte| {
            let ready = (0..TRANSMIT_SPINS).any(|_| in8(COM1 + 5) & 0x20 != 0);
            if ready {
                out8(COM1, byte);
            }
        }),
    }
}

/// For `write!`; only the panic report formats.
pub struct Console;

impl fmt::Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        write(text.as_bytes());
        Ok(())
    }
}
