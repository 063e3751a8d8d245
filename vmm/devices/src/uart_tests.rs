use super::*;
use crate::testing::{IrqLog, Pipe};
use xinim_abi::hw::register::Direction;
use xinim_abi::hw::uart16550::{FCR, IER, IIR, THR};

struct Rig {
    uart: Uart<Pipe>,
    pipe: Pipe,
    irq: Arc<IrqLog>,
}

impl Rig {
    fn new() -> Self {
        let (pipe, irq) = (Pipe::new(), IrqLog::new());
        Self { uart: Uart::new("com1", pipe.clone(), irq.clone(), &Tracer::off()), pipe, irq }
    }

    /// FIFOs on with this trigger code, interrupts of `ier` on, OUT2 set.
    fn with_fifos(trigger: u8, ier: Ier) -> Self {
        let mut rig = Self::new();
        rig.write(FCR, fcr::ENABLE | trigger << fcr::TRIGGER_SHIFT);
        rig.write(MCR, (Mcr::OUT2 | Mcr::DTR | Mcr::RTS).bits());
        rig.write(IER, ier.bits());
        rig
    }

    fn read(&mut self, register: u16) -> u8 {
        self.uart.access(Access::read(u64::from(register), 1)).value as u8
    }

    fn write(&mut self, register: u16, value: u8) {
        self.uart.access(Access::write(u64::from(register), 1, u64::from(value)));
    }

    fn feed(&mut self, data: &[u8]) {
        self.pipe.feed(data);
        self.uart.input_ready();
    }
}

#[test]
fn registers_reset_and_mask_as_the_table_says() {
    for (table, dlab) in [(REGISTERS, 0), (DIVISOR, lcr::DLAB)] {
        for register in table {
            let at = register.offset as u16;
            let mut rig = Rig::new();
            if dlab != 0 {
                rig.write(LCR, dlab);
            }
            if register.direction != Direction::WriteOnly {
                assert_eq!(u64::from(rig.read(at)), register.reset, "{}", register.name);
            }
            if register.direction == Direction::ReadWrite {
                rig.write(at, 0xFF);
                assert_eq!(u64::from(rig.read(at)), register.writable, "{}", register.name);
            }
        }
    }
}

#[test]
fn divisor_and_data_share_offsets() {
    let mut rig = Rig::new();
    rig.write(LCR, lcr::DLAB | 3);
    rig.write(0, 12);
    rig.write(1, 0);
    assert_eq!((rig.read(0), rig.read(1)), (12, 0));
    rig.write(LCR, 3);
    rig.write(THR, b'x');
    assert_eq!(rig.pipe.take(), b"x");
    assert_eq!(rig.read(IER), 0);
}

#[test]
fn bytes_come_in_order_and_wait_for_room() {
    let mut rig = Rig::with_fifos(3, Ier::empty());
    let text: Vec<u8> = (0..40).collect();
    rig.feed(&text);
    assert_eq!(rig.pipe.unread(), 40 - FIFO_SIZE, "no more is fetched than fits");
    let seen: Vec<u8> = (0..40).map(|_| rig.read(RBR)).collect();
    assert_eq!(seen, text);
    assert_eq!(rig.read(LSR) & Lsr::DATA_READY.bits(), 0);
    assert_eq!(rig.read(RBR), 0);
}

#[test]
fn trigger_levels_tell_data_from_time_out() {
    for (code, level) in fcr::TRIGGER_LEVELS.into_iter().enumerate() {
        let mut rig = Rig::with_fifos(code as u8, Ier::RECEIVED_DATA);
        rig.feed(&vec![1; level]);
        assert_eq!(rig.read(IIR), iir::RECEIVED_DATA | iir::FIFOS, "level {level}");
        assert!(rig.irq.level());
        rig.read(RBR);
        let below = if level > 1 { iir::CHARACTER_TIMEOUT } else { iir::NONE };
        assert_eq!(rig.read(IIR), below | iir::FIFOS, "level {level}");
        while rig.read(LSR) & 1 != 0 {
            rig.read(RBR);
        }
        assert!(!rig.irq.level());
    }
}

#[test]
fn transmitter_interrupt_is_raised_by_enabling_and_cleared_by_iir() {
    let mut rig = Rig::with_fifos(0, Ier::TRANSMITTER_EMPTY);
    assert!(rig.irq.level(), "enabled while empty");
    assert_eq!(rig.read(IIR), iir::TRANSMITTER_EMPTY | iir::FIFOS);
    assert_eq!(rig.read(IIR), iir::NONE | iir::FIFOS);
    assert!(!rig.irq.level());
    rig.write(THR, b'a');
    assert!(rig.irq.level(), "empty again");
    rig.write(IER, 0);
    assert!(!rig.irq.level());
}

#[test]
fn a_host_that_takes_nothing_holds_the_transmitter() {
    let mut rig = Rig::with_fifos(0, Ier::TRANSMITTER_EMPTY);
    rig.read(IIR);
    rig.pipe.limit(Some(0));
    for byte in 0..20 {
        rig.write(THR, byte);
    }
    assert_eq!(rig.read(LSR) & 0x60, 0, "neither THRE nor TEMT");
    assert!(!rig.irq.level());
    assert!(rig.uart.output_blocked());
    rig.pipe.limit(None);
    rig.uart.output_ready();
    assert_eq!(rig.pipe.take(), (0..16).collect::<Vec<u8>>(), "what did not fit is lost");
    assert_eq!(rig.read(LSR) & 0x60, 0x60);
    assert!(rig.irq.level());
}

#[test]
fn loopback_returns_bytes_and_modem_lines() {
    let mut rig = Rig::with_fifos(0, Ier::RECEIVED_DATA);
    rig.read(MSR);
    rig.write(MCR, (Mcr::LOOPBACK | Mcr::RTS | Mcr::OUT2).bits());
    let msr = Msr::from_bits_retain(rig.read(MSR));
    assert!(msr.contains(Msr::CTS | Msr::DCD | Msr::DELTA_DSR) && !msr.contains(Msr::DSR));
    assert_eq!(rig.read(MSR) & 0x0F, 0, "deltas are cleared by reading");
    rig.feed(b"from the host");
    rig.write(THR, b'L');
    assert_eq!((rig.read(RBR), rig.pipe.take()), (b'L', vec![]));
    assert_eq!(rig.read(LSR) & 1, 0, "the line is disconnected");
    for byte in 0..17 {
        rig.write(THR, byte);
    }
    assert_eq!(rig.read(LSR) & 2, 2, "overrun");
    assert_eq!(rig.read(LSR) & 2, 0, "cleared by reading");
}

#[test]
fn line_status_comes_before_data() {
    let mut rig = Rig::with_fifos(0, Ier::RECEIVED_DATA | Ier::LINE_STATUS);
    rig.write(MCR, (Mcr::LOOPBACK | Mcr::OUT2).bits());
    for byte in 0..17 {
        rig.write(THR, byte);
    }
    assert_eq!(rig.read(IIR) & iir::ID_MASK, iir::LINE_STATUS);
    rig.read(LSR);
    assert_eq!(rig.read(IIR) & iir::ID_MASK, iir::RECEIVED_DATA);
}

#[test]
fn fcr_clears_and_toggling_clears_both() {
    let mut rig = Rig::with_fifos(0, Ier::empty());
    rig.feed(b"abc");
    rig.write(FCR, fcr::ENABLE | fcr::CLEAR_RX);
    assert_eq!(rig.read(LSR) & 1, 0);
    rig.feed(b"abc");
    rig.write(FCR, 0);
    assert_eq!(rig.read(LSR) & 1, 0);
    assert_eq!(rig.read(IIR) & iir::FIFOS, 0);
    rig.feed(b"de");
    assert_eq!(rig.pipe.unread(), 1, "one byte deep without FIFOs");
    assert_eq!((rig.read(RBR), rig.read(RBR)), (b'd', b'e'));
}

#[test]
fn out2_gates_the_interrupt() {
    let mut rig = Rig::new();
    rig.write(IER, Ier::RECEIVED_DATA.bits());
    rig.feed(b"a");
    assert!(!rig.irq.level());
    rig.write(MCR, Mcr::OUT2.bits());
    assert!(rig.irq.level());
    rig.uart.reset();
    assert!(!rig.irq.level());
}

#[test]
fn wide_accesses_and_writes_to_status_are_mistakes() {
    let mut rig = Rig::new();
    assert_eq!(rig.uart.access(Access::read(0, 2)).error, Some(GuestError::BadSize));
    let outcome = rig.uart.access(Access::write(u64::from(LSR), 1, 0));
    assert_eq!(outcome.error, Some(GuestError::ReadOnly));
}
