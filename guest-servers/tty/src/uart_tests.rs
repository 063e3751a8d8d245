use super::*;
use proptest::prelude::*;

/// A UART with a transmit FIFO that drains only when told to, and loses what does not fit.
#[derive(Default)]
struct Model {
    registers: [u8; 8],
    divisor: [u8; 2],
    input: VecDeque<u8>,
    fifo: Vec<u8>,
    sent: Vec<u8>,
    lost: usize,
    /// Bytes that leave at once.
    fast: bool,
    absent: bool,
}

impl Ports for &mut Model {
    fn read(&mut self, offset: u16) -> u8 {
        if self.absent {
            return 0xFF;
        }
        match offset {
            RBR => self.input.pop_front().unwrap_or(0),
            IIR => {
                let ier = Ier::from_bits_retain(self.registers[usize::from(IER)]);
                if ier.contains(Ier::RECEIVED_DATA) && !self.input.is_empty() {
                    iir::RECEIVED_DATA
                } else if ier.contains(Ier::TRANSMITTER_EMPTY) && self.fifo.is_empty() {
                    iir::TRANSMITTER_EMPTY
                } else {
                    iir::NONE
                }
            }
            LSR => {
                let mut status = Lsr::empty();
                status.set(Lsr::DATA_READY, !self.input.is_empty());
                status.set(Lsr::THR_EMPTY, self.fifo.is_empty());
                status.bits()
            }
            offset => self.registers[usize::from(offset)],
        }
    }

    fn write(&mut self, offset: u16, value: u8) {
        let divisor = self.registers[usize::from(LCR)] & lcr::DLAB != 0;
        match offset {
            DLL | DLM if divisor => self.divisor[usize::from(offset)] = value,
            THR if self.fifo.len() == FIFO_SIZE => self.lost += 1,
            THR if self.fast => self.sent.push(value),
            THR => self.fifo.push(value),
            offset => self.registers[usize::from(offset)] = value,
        }
    }

    fn write_bytes(&mut self, offset: u16, bytes: &[u8]) {
        for &byte in bytes {
            self.write(offset, byte);
        }
    }
}

#[test]
fn absent() {
    let mut model = Model { absent: true, ..Model::default() };
    assert!(Uart::probe(&mut model).is_none());
}

#[test]
fn set_up_and_fast_output() {
    let mut model = Model { fast: true, ..Model::default() };
    let mut uart = Uart::probe(&mut model).unwrap();
    uart.send(&[7; 100]);
    assert_eq!(uart.queued(), 0);
    assert_eq!(model.sent, [7; 100]);
    assert_eq!(model.divisor, [1, 0]);
    assert_eq!(model.registers[usize::from(LCR)], 3);
    assert_eq!(model.registers[usize::from(IER)], Ier::RECEIVED_DATA.bits());
}

proptest! {
    #[test]
    fn a_slow_line_loses_nothing(
        output in prop::collection::vec(any::<u8>(), 0..300),
        steps in prop::collection::vec((0usize..20, prop::option::of(any::<u8>())), 0..200),
    ) {
        let mut model = Model::default();
        let mut uart = Uart::probe(&mut model).unwrap();
        uart.send(&output);
        let (mut typed, mut received) = (Vec::new(), Vec::new());
        for (drained, input) in steps {
            let model = &mut uart.ports;
            let count = drained.min(model.fifo.len());
            let gone: Vec<u8> = model.fifo.drain(..count).collect();
            model.sent.extend(gone);
            typed.extend(input);
            model.input.extend(input);
            uart.interrupt(&mut received);
        }
        let queued = uart.queued();
        let asks = uart.ports.registers[usize::from(IER)] & Ier::TRANSMITTER_EMPTY.bits() != 0;
        prop_assert_eq!(asks, queued > 0);
        prop_assert_eq!(&received, &typed);
        prop_assert_eq!(model.lost, 0);
        let mut all = model.sent;
        all.extend(&model.fifo);
        prop_assert_eq!(&all[..], &output[..output.len() - queued]);
    }
}
