use super::*;
use crate::bus::Space;
use crate::device::{Action, GuestError, Op, Origin};
use crate::testing::{ManualClock, Pipe};
use crate::trace::Tracer;
use std::time::Duration;
use xinim_abi::hw::chipset::{PM_TIMER_HZ, PM1A_CONTROL, PM1A_EVENT};

struct Rig {
    bus: Bus,
    clock: Arc<ManualClock>,
    debug: Pipe,
}

impl Rig {
    fn new() -> Self {
        let mut bus = Bus::new(Tracer::off());
        let (clock, debug) = (ManualClock::new(Duration::ZERO), Pipe::new());
        install(&mut bus, clock.clone(), Box::new(debug.clone())).expect("ports are free");
        Self { bus, clock, debug }
    }

    fn read(&self, port: u16, size: u8) -> u64 {
        self.bus.access(Origin::default(), Space::Pio, port.into(), size, Op::Read).value
    }

    fn write(&self, port: u16, size: u8, value: u64) -> (Option<Action>, Option<GuestError>) {
        let op = Op::Write(value);
        let response = self.bus.access(Origin::default(), Space::Pio, port.into(), size, op);
        (response.action, response.error)
    }
}

#[test]
fn the_platform_ports_do_what_the_platform_says() {
    let rig = Rig::new();
    assert_eq!(rig.write(numbers::PORT_EXIT, 4, 0x43), (Some(Action::Exit(0x43)), None));
    assert_eq!(rig.write(numbers::PORT_EXIT, 1, 0x10), (Some(Action::Exit(0x10)), None));
    assert_eq!(rig.read(numbers::PORT_PVPANIC, 1), 1);
    assert_eq!(rig.write(numbers::PORT_PVPANIC, 1, 1), (Some(Action::Exit(0x43)), None));
    assert_eq!(rig.write(numbers::PORT_PVPANIC, 1, 2), (None, None), "another event");
    let frame = rig.write(numbers::PORT_TRACE_PAGE, 4, 0x1234);
    assert_eq!(frame, (Some(Action::TracePage(0x1234)), None));
    for byte in b"panic" {
        assert_eq!(rig.write(numbers::PORT_DEBUGCON, 1, u64::from(*byte)), (None, None));
    }
    assert_eq!(rig.debug.take(), b"panic");
    assert_eq!(rig.read(numbers::PORT_DEBUGCON, 1), 0xE9);
}

#[test]
fn s5_powers_off_and_other_sleeps_do_not() {
    let rig = Rig::new();
    let control = numbers::PM1A_CONTROL;
    assert_eq!(rig.write(control, 2, 5 << 10), (None, None), "type alone does nothing");
    assert_eq!(rig.write(control, 2, 1 << 13 | 5 << 10), (Some(Action::PowerOff), None));
    let other = rig.write(control, 2, 1 << 13 | 1 << 10);
    assert_eq!(other, (None, Some(GuestError::BadValue)));
    assert_eq!(rig.read(control, 2) & 0x2001, 1, "SCI_EN stays, SLP_EN reads as zero");
}

#[test]
fn acpi_registers_follow_their_tables() {
    for (base, table) in [(numbers::PM1A_EVENT, PM1A_EVENT), (numbers::PM1A_CONTROL, PM1A_CONTROL)]
    {
        for register in table {
            let rig = Rig::new();
            let port = base + register.offset as u16;
            assert_eq!(rig.read(port, register.width), register.reset, "{}", register.name);
            rig.write(port, register.width, register.mask());
            let expected = register.written(register.reset, register.mask()) | register.reset;
            assert_eq!(rig.read(port, register.width), expected, "{}", register.name);
        }
    }
}

#[test]
fn the_pm_timer_runs_at_its_frequency_in_24_bits() {
    let rig = Rig::new();
    assert_eq!(rig.read(numbers::PM_TIMER, 4), 0);
    rig.clock.advance(Duration::from_secs(1));
    assert_eq!(rig.read(numbers::PM_TIMER, 4), PM_TIMER_HZ);
    rig.clock.advance(Duration::from_secs(9));
    assert_eq!(rig.read(numbers::PM_TIMER, 4), (10 * PM_TIMER_HZ) & 0xFF_FFFF);
    assert_eq!(rig.write(numbers::PM_TIMER, 4, 0).1, Some(GuestError::ReadOnly));
}

#[test]
fn reset_wants_a_rising_edge() {
    let rig = Rig::new();
    assert_eq!(rig.write(numbers::PORT_RESET, 1, 2).0, None);
    assert_eq!(rig.write(numbers::PORT_RESET, 1, 6).0, Some(Action::Reset));
    assert_eq!(rig.write(numbers::PORT_RESET, 1, 6).0, None);
    assert_eq!(rig.read(numbers::PORT_RESET, 1), 6);
}

#[test]
fn the_keyboard_controller_passes_its_test_and_resets() {
    let rig = Rig::new();
    assert_eq!(rig.read(0x64, 1) & 3, 0, "nothing to read, ready to write");
    rig.write(0x64, 1, 0xAA);
    assert_eq!(rig.read(0x64, 1) & 1, 1);
    assert_eq!(rig.read(0x60, 1), 0x55);
    assert_eq!(rig.read(0x64, 1) & 1, 0);
    rig.write(0x64, 1, 0x60);
    rig.write(0x60, 1, 0x41);
    rig.write(0x64, 1, 0x20);
    assert_eq!(rig.read(0x60, 1), 0x41);
    rig.write(0x60, 1, 0xFF);
    assert_eq!(rig.read(0x64, 1) & 1, 0, "no keyboard answers");
    assert_eq!(rig.write(0x64, 1, 0xFE).0, Some(Action::Reset));
}
