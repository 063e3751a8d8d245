//! 16550A UART. Sections are those of the *PC16550D* data sheet (National Semiconductor, 1995).
//!
//! Eight byte-wide registers. With DLAB (LCR bit 7) set, offsets 0 and 1 are the divisor latch
//! ([`DIVISOR`]) and the rest stays as in [`REGISTERS`].

use super::register::{Field, OnRead, Register};
use bitflags::bitflags;

/// Ports the device occupies.
pub const PORTS: u16 = 8;
/// Bytes in each FIFO.
pub const FIFO_SIZE: usize = 16;
/// Input clock over 16: the baud rate for divisor 1.
pub const BAUD_BASE: u32 = 115_200;

/// Receiver buffer (read).
pub const RBR: u16 = 0;
/// Transmitter holding (write).
pub const THR: u16 = 0;
/// Divisor latch, low byte (DLAB = 1).
pub const DLL: u16 = 0;
/// Interrupt enable.
pub const IER: u16 = 1;
/// Divisor latch, high byte (DLAB = 1).
pub const DLM: u16 = 1;
/// Interrupt identification (read).
pub const IIR: u16 = 2;
/// FIFO control (write).
pub const FCR: u16 = 2;
/// Line control.
pub const LCR: u16 = 3;
/// Modem control.
pub const MCR: u16 = 4;
/// Line status.
pub const LSR: u16 = 5;
/// Modem status.
pub const MSR: u16 = 6;
/// Scratch.
pub const SCR: u16 = 7;

bitflags! {
    /// Interrupt enable register (8.5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Ier: u8 {
        const RECEIVED_DATA = 1;
        const TRANSMITTER_EMPTY = 2;
        const LINE_STATUS = 4;
        const MODEM_STATUS = 8;
    }
}

/// Interrupt identification register (8.6): bits 3:0, highest priority first.
pub mod iir {
    pub const NONE: u8 = 0x1;
    pub const LINE_STATUS: u8 = 0x6;
    pub const RECEIVED_DATA: u8 = 0x4;
    pub const CHARACTER_TIMEOUT: u8 = 0xC;
    pub const TRANSMITTER_EMPTY: u8 = 0x2;
    pub const MODEM_STATUS: u8 = 0x0;
    pub const ID_MASK: u8 = 0xF;
    /// Both set when FIFOs are on.
    pub const FIFOS: u8 = 0xC0;
}

/// FIFO control register (8.4).
pub mod fcr {
    pub const ENABLE: u8 = 1;
    pub const CLEAR_RX: u8 = 2;
    pub const CLEAR_TX: u8 = 4;
    pub const TRIGGER_SHIFT: u8 = 6;
    /// Receive trigger levels in bytes by FCR bits 7:6.
    pub const TRIGGER_LEVELS: [usize; 4] = [1, 4, 8, 14];
}

/// Line control register (8.3).
pub mod lcr {
    pub const WORD_LENGTH_MASK: u8 = 3;
    pub const STOP_BITS: u8 = 4;
    pub const BREAK: u8 = 0x40;
    pub const DLAB: u8 = 0x80;
}

bitflags! {
    /// Modem control register (8.7).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Mcr: u8 {
        const DTR = 1;
        const RTS = 2;
        const OUT1 = 4;
        /// On a PC: gates the interrupt output.
        const OUT2 = 8;
        const LOOPBACK = 16;
    }
}

bitflags! {
    /// Line status register (8.4). Reading it clears the error bits.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Lsr: u8 {
        const DATA_READY = 1;
        const OVERRUN = 2;
        const PARITY = 4;
        const FRAMING = 8;
        const BREAK = 16;
        /// The holding register (the transmit FIFO) is empty.
        const THR_EMPTY = 32;
        /// Holding and shift register are empty.
        const IDLE = 64;
        const FIFO_ERROR = 128;
    }
}

bitflags! {
    /// Modem status register (8.8). Reading it clears the delta bits (3:0).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Msr: u8 {
        const DELTA_CTS = 1;
        const DELTA_DSR = 2;
        const TRAILING_RI = 4;
        const DELTA_DCD = 8;
        const CTS = 16;
        const DSR = 32;
        const RI = 64;
        const DCD = 128;
    }
}

/// Registers with DLAB = 0.
pub const REGISTERS: &[Register] = &[
    Register::ro(0, "RBR", 1, "PC16550D 8.0").on_read(OnRead::Pops),
    Register::wo(0, "THR", 1, "PC16550D 8.0"),
    Register::rw(1, "IER", 1, "PC16550D 8.5").writable(0x0F).fields(&[
        Field::bit(0, "rda"),
        Field::bit(1, "thre"),
        Field::bit(2, "line"),
        Field::bit(3, "modem"),
    ]),
    Register::ro(2, "IIR", 1, "PC16550D 8.6")
        .reset(iir::NONE as u64)
        .on_read(OnRead::Clears)
        .fields(&[Field::span(0, 4, "id"), Field::span(6, 2, "fifos")]),
    Register::wo(2, "FCR", 1, "PC16550D 8.4").fields(&[
        Field::bit(0, "enable"),
        Field::bit(1, "clear_rx"),
        Field::bit(2, "clear_tx"),
        Field::span(6, 2, "trigger"),
    ]),
    Register::rw(3, "LCR", 1, "PC16550D 8.1").fields(&[
        Field::span(0, 2, "word"),
        Field::bit(2, "stop"),
        Field::span(3, 3, "parity"),
        Field::bit(6, "break"),
        Field::bit(7, "dlab"),
    ]),
    Register::rw(4, "MCR", 1, "PC16550D 8.7").writable(0x1F).fields(&[
        Field::bit(0, "dtr"),
        Field::bit(1, "rts"),
        Field::bit(2, "out1"),
        Field::bit(3, "out2"),
        Field::bit(4, "loop"),
    ]),
    Register::ro(5, "LSR", 1, "PC16550D 8.4").reset(0x60).on_read(OnRead::Clears).fields(&[
        Field::bit(0, "dr"),
        Field::bit(1, "oe"),
        Field::bit(2, "pe"),
        Field::bit(3, "fe"),
        Field::bit(4, "bi"),
        Field::bit(5, "thre"),
        Field::bit(6, "temt"),
        Field::bit(7, "fifo_error"),
    ]),
    // DCD, DSR and CTS are inputs; the reset value shows a peer that is ready.
    Register::ro(6, "MSR", 1, "PC16550D 8.8").reset(0xB0).on_read(OnRead::Clears).fields(&[
        Field::bit(4, "cts"),
        Field::bit(5, "dsr"),
        Field::bit(6, "ri"),
        Field::bit(7, "dcd"),
    ]),
    Register::rw(7, "SCR", 1, "PC16550D 8.9"),
];

/// Offsets 0 and 1 with DLAB = 1.
pub const DIVISOR: &[Register] =
    &[Register::rw(0, "DLL", 1, "PC16550D 8.2"), Register::rw(1, "DLM", 1, "PC16550D 8.2")];
