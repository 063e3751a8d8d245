//! MC146818 real-time clock with its CMOS RAM. Sections are those of the *MC146818A* data sheet
//! (Motorola, 1984). Reached through an index port and a data port.

use super::register::{Field, OnRead, Register};

/// Index port; bit 7 is the PC's NMI mask and no part of the index.
pub const PORT_INDEX: u16 = 0x70;
pub const PORT_DATA: u16 = 0x71;
pub const INDEX_MASK: u8 = 0x7F;
/// Registers and RAM together.
pub const CMOS_SIZE: usize = 128;
/// First byte of RAM.
pub const RAM: u8 = 0x0E;

pub const SECONDS: u8 = 0x00;
pub const SECONDS_ALARM: u8 = 0x01;
pub const MINUTES: u8 = 0x02;
pub const MINUTES_ALARM: u8 = 0x03;
pub const HOURS: u8 = 0x04;
pub const HOURS_ALARM: u8 = 0x05;
/// 1 = Sunday.
pub const DAY_OF_WEEK: u8 = 0x06;
pub const DAY_OF_MONTH: u8 = 0x07;
pub const MONTH: u8 = 0x08;
pub const YEAR: u8 = 0x09;
pub const STATUS_A: u8 = 0x0A;
pub const STATUS_B: u8 = 0x0B;
pub const STATUS_C: u8 = 0x0C;
pub const STATUS_D: u8 = 0x0D;
/// Century in BCD, by PC convention (the FADT's CENTURY field names it).
pub const CENTURY: u8 = 0x32;

/// Register A: an update is in progress, or will begin within 244 us.
pub const A_UPDATE_IN_PROGRESS: u8 = 0x80;
/// Register A after reset on a PC: 32,768 Hz base, 1,024 Hz rate.
pub const A_DEFAULT: u8 = 0x26;
/// Register B: updates are stopped so that the time can be set.
pub const B_SET: u8 = 0x80;
pub const B_PERIODIC_INTERRUPT: u8 = 0x40;
pub const B_ALARM_INTERRUPT: u8 = 0x20;
pub const B_UPDATE_INTERRUPT: u8 = 0x10;
/// Register B: binary instead of BCD.
pub const B_BINARY: u8 = 0x04;
/// Register B: hours 0 to 23 instead of 1 to 12 with bit 7 for PM.
pub const B_24_HOUR: u8 = 0x02;
/// Register C: the interrupt output is asserted.
pub const C_INTERRUPT: u8 = 0x80;
pub const C_PERIODIC: u8 = 0x40;
pub const C_ALARM: u8 = 0x20;
pub const C_UPDATE: u8 = 0x10;
/// Register D: RAM and time are valid.
pub const D_VALID: u8 = 0x80;

/// The two ports.
pub const PORTS: &[Register] =
    &[Register::rw(0, "index", 1, "MC146818A 4"), Register::rw(1, "data", 1, "MC146818A 4")];

/// Registers by index. Reset values of the time registers depend on the time.
pub const REGISTERS: &[Register] =
    &[
        Register::rw(0x00, "seconds", 1, "MC146818A 8"),
        Register::rw(0x01, "seconds_alarm", 1, "MC146818A 8"),
        Register::rw(0x02, "minutes", 1, "MC146818A 8"),
        Register::rw(0x03, "minutes_alarm", 1, "MC146818A 8"),
        Register::rw(0x04, "hours", 1, "MC146818A 8"),
        Register::rw(0x05, "hours_alarm", 1, "MC146818A 8"),
        Register::rw(0x06, "day_of_week", 1, "MC146818A 8"),
        Register::rw(0x07, "day_of_month", 1, "MC146818A 8"),
        Register::rw(0x08, "month", 1, "MC146818A 8"),
        Register::rw(0x09, "year", 1, "MC146818A 8"),
        Register::rw(0x0A, "A", 1, "MC146818A 9.1").reset(A_DEFAULT as u64).writable(0x7F).fields(
            &[Field::span(0, 4, "rate"), Field::span(4, 3, "divider"), Field::bit(7, "uip")],
        ),
        Register::rw(0x0B, "B", 1, "MC146818A 9.2").reset(B_24_HOUR as u64).fields(&[
            Field::bit(0, "dse"),
            Field::bit(1, "24h"),
            Field::bit(2, "binary"),
            Field::bit(3, "square_wave"),
            Field::bit(4, "update_int"),
            Field::bit(5, "alarm_int"),
            Field::bit(6, "periodic_int"),
            Field::bit(7, "set"),
        ]),
        Register::ro(0x0C, "C", 1, "MC146818A 9.3").on_read(OnRead::Clears).fields(&[
            Field::bit(4, "update"),
            Field::bit(5, "alarm"),
            Field::bit(6, "periodic"),
            Field::bit(7, "irq"),
        ]),
        Register::ro(0x0D, "D", 1, "MC146818A 9.4").reset(D_VALID as u64),
        Register::rw(0x32, "century", 1, "PC/AT convention"),
    ];
