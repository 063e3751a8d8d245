//! A 16550A (*PC16550D*, sections as in `xinim_abi::hw::uart16550`): 115200 8N1, FIFOs on.
//!
//! Received bytes come by interrupt. Bytes are sent in bursts of the FIFO's size whenever it is
//! empty: no byte is lost on a slow line, and a fast one (a virtual machine's) needs one look at
//! the line status per burst. An interrupt at "transmitter empty" is asked for only while
//! something is left to send.
//!
//! Nothing waits: a UART that is stuck keeps its bytes queued, and one that is not there
//! ([`Uart::probe`] answers `None`) is never asked again.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use xinim_abi::hw::uart16550::{
    DLL, DLM, FCR, FIFO_SIZE, IER, IIR, Ier, LCR, LSR, Lsr, MCR, Mcr, RBR, SCR, THR, fcr, iir, lcr,
};

/// Access to the device's ports by offset.
pub trait Ports {
    fn read(&mut self, offset: u16) -> u8;
    fn write(&mut self, offset: u16, value: u8);
    /// One port, byte by byte.
    fn write_bytes(&mut self, offset: u16, bytes: &[u8]);
    /// So many bytes of the queue are about to be given to the device.
    fn sending(&mut self, _count: usize) {}
}

/// Bytes taken at one interrupt, and causes looked at: a bound for a device that always has more.
const RECEIVE_MAX: usize = 4096;
const CAUSES_MAX: usize = 64;

#[derive(Debug)]
pub struct Uart<P> {
    ports: P,
    queue: VecDeque<u8>,
    ier: Ier,
    /// Received before the device was set up.
    early: Vec<u8>,
    /// Bytes the device takes at once.
    burst: usize,
}

impl<P: Ports> Uart<P> {
    /// Sets the device up from whatever state it is in. `None`: there is none.
    pub fn probe(mut ports: P) -> Option<Self> {
        ports.write(IER, 0);
        // Absent ports read as ones and keep nothing.
        for pattern in [0x5A, 0xA5] {
            ports.write(SCR, pattern);
            if ports.read(SCR) != pattern {
                return None;
            }
        }
        ports.write(LCR, lcr::DLAB);
        ports.write(DLL, 1);
        ports.write(DLM, 0);
        ports.write(LCR, lcr::WORD_LENGTH_MASK);
        // A trigger level of 8 of 16 bytes: the character time-out covers fewer.
        let fifo = fcr::ENABLE | fcr::CLEAR_TX | 2 << fcr::TRIGGER_SHIFT;
        // Switching the FIFOs on (section 8.5) throws away what is there. On a line that brings bytes
        // already (typed ahead, a script) they stay as they are, at the price of shorter bursts.
        let mut early = Vec::new();
        take(&mut ports, &mut early);
        let mut burst = if ports.read(IIR) & iir::FIFOS == iir::FIFOS { FIFO_SIZE } else { 1 };
        if early.is_empty() {
            ports.write(FCR, fifo);
            burst = FIFO_SIZE;
        }
        ports.write(MCR, (Mcr::DTR | Mcr::RTS | Mcr::OUT2).bits());
        let ier = Ier::RECEIVED_DATA;
        ports.write(IER, ier.bits());
        Some(Self { ports, queue: VecDeque::new(), ier, early, burst })
    }

    /// Bytes not yet given to the device.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.enqueue(bytes);
        self.transmit();
    }

    /// As [`Uart::send`], for the next [`Uart::transmit`].
    pub fn enqueue(&mut self, bytes: &[u8]) {
        self.queue.extend(bytes);
    }

    /// Bytes not yet given to the device.
    pub fn queue(&self) -> &VecDeque<u8> {
        &self.queue
    }

    /// Serves the device's interrupt: received bytes are appended to `received`.
    ///
    /// The interrupt line is edge-triggered: it rises again only after it fell, so causes are
    /// served until none is left.
    pub fn interrupt(&mut self, received: &mut Vec<u8>) {
        for _ in 0..CAUSES_MAX {
            match self.ports.read(IIR) & iir::ID_MASK {
                iir::RECEIVED_DATA | iir::CHARACTER_TIMEOUT | iir::LINE_STATUS => {
                    self.receive(received);
                }
                iir::TRANSMITTER_EMPTY => self.transmit(),
                iir::MODEM_STATUS => {}
                _ => return,
            }
        }
    }

    /// Takes what has come.
    pub fn receive(&mut self, received: &mut Vec<u8>) {
        received.append(&mut self.early);
        take(&mut self.ports, received);
    }

    /// Gives the device what it takes.
    pub fn transmit(&mut self) {
        while !self.queue.is_empty() {
            let status = Lsr::from_bits_retain(self.ports.read(LSR));
            if !status.contains(Lsr::THR_EMPTY) {
                break;
            }
            let count = self.queue.len().min(self.burst);
            let burst: Vec<u8> = self.queue.drain(..count).collect();
            self.ports.sending(count);
            self.ports.write_bytes(THR, &burst);
        }
        let mut ier = Ier::RECEIVED_DATA;
        ier.set(Ier::TRANSMITTER_EMPTY, !self.queue.is_empty());
        if ier != self.ier {
            self.ier = ier;
            self.ports.write(IER, ier.bits());
        }
    }
}

fn take(ports: &mut impl Ports, received: &mut Vec<u8>) {
    for _ in 0..RECEIVE_MAX {
        let status = Lsr::from_bits_retain(ports.read(LSR));
        if !status.contains(Lsr::DATA_READY) {
            return;
        }
        let byte = ports.read(RBR);
        // A break is no character.
        if !status.contains(Lsr::BREAK) {
            received.push(byte);
        }
    }
}

#[cfg(test)]
#[path = "uart_tests.rs"]
mod tests;
