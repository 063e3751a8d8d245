//! 16550A UART with its FIFOs (PC16550D data sheet), over a [`ByteStream`].
//!
//! The line has no speed: a byte written is at the host at once if the host takes it, and the
//! transmit FIFO stays full while it does not (back-pressure: THRE stays clear). Received bytes
//! are fetched only while the receive FIFO has room, so that the host's bytes never overrun. When
//! the stream is dry and the FIFO is below its trigger level, the four-character time-out is
//! taken to have passed. The modem inputs show a peer that is present and ready.
//!
//! Interrupts, highest priority first: line status, received data, character time-out,
//! transmitter empty, modem status; OUT2 gates the output, as on a PC.

use crate::backend::ByteStream;
use crate::device::{Access, Device, GuestError, Op, Outcome};
use crate::irq::IrqLine;
use crate::trace::{EventKind, Tracer};
use std::collections::VecDeque;
use std::sync::Arc;
use xinim_abi::hw::register::find;
use xinim_abi::hw::uart16550::{
    DIVISOR, DLL, FIFO_SIZE, Ier, LCR, LSR, Lsr, MCR, MSR, Mcr, Msr, RBR, REGISTERS, SCR, fcr, iir,
    lcr,
};

/// The device.
pub struct Uart<S> {
    // Fixed configuration
    name: String,
    // Glue
    stream: S,
    irq: Arc<dyn IrqLine>,
    tracer: Tracer,
    // Volatile state
    state: State,
    level: bool,
}

#[derive(Clone, Debug)]
struct State {
    ier: u8,
    lcr: u8,
    mcr: u8,
    scr: u8,
    divisor: [u8; 2],
    fifos: bool,
    trigger: usize,
    receive: VecDeque<u8>,
    transmit: VecDeque<u8>,
    /// Sticky LSR error bits.
    errors: Lsr,
    /// Delta bits of MSR.
    deltas: Msr,
    /// The transmitter-empty interrupt is due (it is cleared by reading IIR).
    transmitter_empty: bool,
}

impl State {
    fn new() -> Self {
        Self {
            ier: 0,
            lcr: 0,
            mcr: 0,
            scr: 0,
            divisor: [0; 2],
            fifos: false,
            trigger: 1,
            receive: VecDeque::with_capacity(FIFO_SIZE),
            transmit: VecDeque::with_capacity(FIFO_SIZE),
            errors: Lsr::empty(),
            deltas: Msr::empty(),
            transmitter_empty: false,
        }
    }

    fn depth(&self) -> usize {
        if self.fifos { FIFO_SIZE } else { 1 }
    }

    fn loopback(&self) -> bool {
        self.mcr & Mcr::LOOPBACK.bits() != 0
    }

    fn lsr(&self) -> Lsr {
        let mut lsr = self.errors;
        lsr.set(Lsr::DATA_READY, !self.receive.is_empty());
        lsr.set(Lsr::THR_EMPTY | Lsr::IDLE, self.transmit.is_empty());
        lsr
    }

    /// Modem inputs: the outputs looped back, or a peer that is ready.
    fn inputs(&self) -> Msr {
        if !self.loopback() {
            return Msr::CTS | Msr::DSR | Msr::DCD;
        }
        let mcr = Mcr::from_bits_truncate(self.mcr);
        let mut msr = Msr::empty();
        msr.set(Msr::DSR, mcr.contains(Mcr::DTR));
        msr.set(Msr::CTS, mcr.contains(Mcr::RTS));
        msr.set(Msr::RI, mcr.contains(Mcr::OUT1));
        msr.set(Msr::DCD, mcr.contains(Mcr::OUT2));
        msr
    }

    fn write_mcr(&mut self, value: u8) {
        let before = self.inputs();
        self.mcr = value;
        let after = self.inputs();
        let changed = before ^ after;
        self.deltas.set(
            Msr::DELTA_CTS,
            self.deltas.contains(Msr::DELTA_CTS) || changed.contains(Msr::CTS),
        );
        self.deltas.set(
            Msr::DELTA_DSR,
            self.deltas.contains(Msr::DELTA_DSR) || changed.contains(Msr::DSR),
        );
        self.deltas.set(
            Msr::DELTA_DCD,
            self.deltas.contains(Msr::DELTA_DCD) || changed.contains(Msr::DCD),
        );
        if before.contains(Msr::RI) && !after.contains(Msr::RI) {
            self.deltas |= Msr::TRAILING_RI;
        }
    }

    /// Identification of the most urgent interrupt enabled.
    fn pending(&self) -> u8 {
        let ier = Ier::from_bits_truncate(self.ier);
        if ier.contains(Ier::LINE_STATUS) && !self.errors.is_empty() {
            return iir::LINE_STATUS;
        }
        if ier.contains(Ier::RECEIVED_DATA) && !self.receive.is_empty() {
            let full = self.receive.len() >= self.trigger;
            return if full { iir::RECEIVED_DATA } else { iir::CHARACTER_TIMEOUT };
        }
        if ier.contains(Ier::TRANSMITTER_EMPTY) && self.transmitter_empty {
            return iir::TRANSMITTER_EMPTY;
        }
        if ier.contains(Ier::MODEM_STATUS) && !self.deltas.is_empty() {
            return iir::MODEM_STATUS;
        }
        iir::NONE
    }

    fn received(&mut self, byte: u8) {
        if self.receive.len() < self.depth() {
            self.receive.push_back(byte);
            return;
        }
        self.errors |= Lsr::OVERRUN;
        // Without FIFOs the new byte replaces the old; with them it is lost.
        if !self.fifos {
            self.receive[0] = byte;
        }
    }

    fn write_fcr(&mut self, value: u8) {
        let enable = value & fcr::ENABLE != 0;
        let toggled = enable != self.fifos;
        if toggled || value & fcr::CLEAR_RX != 0 {
            self.receive.clear();
        }
        if (toggled || value & fcr::CLEAR_TX != 0) && !self.transmit.is_empty() {
            self.transmit.clear();
            self.transmitter_empty = true;
        }
        self.fifos = enable;
        // The other bits take effect only together with the enable bit.
        let level = usize::from(value >> fcr::TRIGGER_SHIFT);
        self.trigger = if enable { fcr::TRIGGER_LEVELS[level & 3] } else { 1 };
    }

    fn write_ier(&mut self, value: u8) {
        let enabled = value & !self.ier & Ier::TRANSMITTER_EMPTY.bits() != 0;
        self.ier = value;
        // Enabling the interrupt while the transmitter is empty raises it.
        if enabled && self.transmit.is_empty() {
            self.transmitter_empty = true;
        }
    }
}

impl<S: ByteStream> Uart<S> {
    /// `tracer` is the bus's; it is renamed.
    pub fn new(name: &str, stream: S, irq: Arc<dyn IrqLine>, tracer: &Tracer) -> Self {
        let (name, tracer) = (name.to_owned(), tracer.named(name));
        Self { name, stream, irq, tracer, state: State::new(), level: false }
    }

    pub fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The host has bytes. Call on every edge: the device reads on by itself as its FIFO empties.
    pub fn input_ready(&mut self) {
        self.fill();
        self.update(&Access::read(0, 1));
    }

    /// The host takes bytes again.
    pub fn output_ready(&mut self) {
        self.drain();
        self.update(&Access::read(0, 1));
    }

    /// Whether the guest's output waits for the host.
    pub fn output_blocked(&self) -> bool {
        !self.state.transmit.is_empty()
    }

    fn fill(&mut self) {
        let state = &mut self.state;
        while !state.loopback() && state.receive.len() < state.depth() {
            let mut buffer = [0; FIFO_SIZE];
            let room = state.depth() - state.receive.len();
            let count = self.stream.read(&mut buffer[..room]).min(room);
            if count == 0 {
                return;
            }
            state.receive.extend(&buffer[..count]);
        }
    }

    fn drain(&mut self) {
        let state = &mut self.state;
        if state.transmit.is_empty() {
            return;
        }
        let bytes = state.transmit.make_contiguous();
        let accepted = self.stream.write(bytes).min(bytes.len());
        state.transmit.drain(..accepted);
        if state.transmit.is_empty() {
            state.transmitter_empty = true;
        }
    }

    fn transmit(&mut self, byte: u8) {
        let state = &mut self.state;
        state.transmitter_empty = false;
        if state.loopback() {
            state.received(byte);
            state.transmitter_empty = true;
            return;
        }
        // A byte written to a full FIFO is lost, as on the chip.
        if state.transmit.len() < state.depth() {
            state.transmit.push_back(byte);
        }
        self.drain();
    }

    fn read(&mut self, offset: u16) -> u8 {
        let state = &mut self.state;
        match offset {
            RBR => {
                let byte = state.receive.pop_front().unwrap_or(0);
                self.fill();
                byte
            }
            1 => state.ier,
            2 => {
                let id = state.pending();
                if id == iir::TRANSMITTER_EMPTY {
                    state.transmitter_empty = false;
                }
                if state.fifos { id | iir::FIFOS } else { id }
            }
            LCR => state.lcr,
            MCR => state.mcr,
            LSR => {
                let lsr = state.lsr();
                state.errors = Lsr::empty();
                lsr.bits()
            }
            MSR => (state.inputs() | std::mem::replace(&mut state.deltas, Msr::empty())).bits(),
            SCR => state.scr,
            _ => 0xFF,
        }
    }

    fn write(&mut self, offset: u16, value: u8) {
        let state = &mut self.state;
        match offset {
            RBR => self.transmit(value),
            1 => state.write_ier(value),
            2 => {
                state.write_fcr(value);
                self.fill();
            }
            LCR => state.lcr = value,
            MCR => {
                state.write_mcr(value);
                self.fill();
            }
            SCR => state.scr = value,
            _ => {}
        }
    }

    /// Makes the interrupt output follow the state.
    fn update(&mut self, access: &Access) {
        let gate = self.state.mcr & Mcr::OUT2.bits() != 0;
        let level = gate && self.state.pending() != iir::NONE;
        if level != self.level {
            self.level = level;
            self.tracer.emit(&access.origin, || EventKind::Line { level });
            self.irq.set(level);
        }
    }
}

impl<S: ByteStream> Device for Uart<S> {
    fn name(&self) -> &str {
        &self.name
    }

    fn access(&mut self, access: Access) -> Outcome {
        let offset = (access.offset & 7) as u16;
        let divisor = offset <= DLL + 1 && self.state.lcr & lcr::DLAB != 0;
        let table = if divisor { DIVISOR } else { REGISTERS };
        let outcome = match access.op {
            _ if access.size != 1 => return Outcome::error(GuestError::BadSize, access.size),
            Op::Read if divisor => {
                Outcome::value(u64::from(self.state.divisor[usize::from(offset)]))
            }
            Op::Read => Outcome::value(u64::from(self.read(offset))),
            Op::Write(value) if divisor => {
                self.state.divisor[usize::from(offset)] = value as u8;
                Outcome::done()
            }
            Op::Write(_) if matches!(offset, LSR | MSR) => {
                Outcome::done().with_error(GuestError::ReadOnly)
            }
            Op::Write(value) => {
                let mask = find(table, u32::from(offset), true).map_or(0, |r| r.writable);
                self.write(offset, (value & mask) as u8);
                Outcome::done()
            }
        };
        self.update(&access);
        outcome.at(table, u32::from(offset))
    }

    fn reset(&mut self) {
        self.state = State::new();
        self.update(&Access::read(0, 1));
    }
}

#[cfg(test)]
#[path = "uart_tests.rs"]
mod tests;
