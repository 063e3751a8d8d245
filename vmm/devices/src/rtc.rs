//! MC146818 real-time clock and CMOS RAM behind ports 0x70 and 0x71.
//!
//! Time comes from an injected [`Clock`]; a guest that sets the clock changes only its own offset.
//! Register C shows the update flag when a second has passed since it was last read. There is no
//! interrupt: alarm and periodic registers keep what is written and nothing more.

mod civil;

use crate::backend::Clock;
use crate::device::{Access, Device, GuestError, Op, Outcome};
use civil::Civil;
use std::sync::Arc;
use xinim_abi::hw::register::find;
use xinim_abi::hw::rtc::{
    A_UPDATE_IN_PROGRESS, B_24_HOUR, B_BINARY, B_SET, C_UPDATE, CENTURY, CMOS_SIZE, D_VALID,
    DAY_OF_MONTH, DAY_OF_WEEK, HOURS, INDEX_MASK, MINUTES, MONTH, PORTS, REGISTERS, SECONDS,
    STATUS_A, STATUS_B, STATUS_C, STATUS_D, YEAR,
};

/// Time before the end of a second during which UIP is set, in nanoseconds (table 6: t_BUC).
const UPDATE_NS: u32 = 244_000;
/// Hours register in 12-hour mode: afternoon.
const PM: u8 = 0x80;

/// The device: offset 0 is the index port, 1 the data port.
pub struct Rtc {
    // Glue
    clock: Arc<dyn Clock>,
    // Volatile state
    index: u8,
    ram: [u8; CMOS_SIZE],
    /// Guest time minus host time, in seconds.
    offset: i64,
    /// Time as set by the guest while updates are stopped.
    stopped: Option<Civil>,
    /// Guest second at the last read of register C.
    seen: i64,
}

impl Rtc {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let mut rtc =
            Self { clock, index: 0, ram: [0; CMOS_SIZE], offset: 0, stopped: None, seen: 0 };
        rtc.reset();
        rtc
    }

    fn host_seconds(&self) -> i64 {
        i64::try_from(self.clock.wall().as_secs()).unwrap_or(0)
    }

    fn guest_seconds(&self) -> i64 {
        self.host_seconds().saturating_add(self.offset)
    }

    fn time(&self) -> Civil {
        self.stopped.unwrap_or_else(|| Civil::from_unix(self.guest_seconds()))
    }

    fn mode(&self, bit: u8) -> bool {
        self.ram[usize::from(STATUS_B)] & bit != 0
    }

    fn encode(&self, value: u8) -> u8 {
        if self.mode(B_BINARY) { value } else { to_bcd(value) }
    }

    fn decode(&self, value: u8) -> u8 {
        if self.mode(B_BINARY) { value } else { from_bcd(value) }
    }

    fn read(&mut self, index: u8) -> u8 {
        let time = self.time();
        match index {
            SECONDS => self.encode(time.second),
            MINUTES => self.encode(time.minute),
            HOURS if self.mode(B_24_HOUR) => self.encode(time.hour),
            HOURS => {
                let hour = self.encode((time.hour + 11) % 12 + 1);
                if time.hour >= 12 { hour | PM } else { hour }
            }
            DAY_OF_WEEK => self.encode(time.weekday()),
            DAY_OF_MONTH => self.encode(time.day),
            MONTH => self.encode(time.month),
            YEAR => self.encode((time.year % 100) as u8),
            CENTURY => self.encode((time.year / 100) as u8),
            STATUS_A => {
                let updating = self.stopped.is_none()
                    && self.clock.wall().subsec_nanos() >= 1_000_000_000 - UPDATE_NS;
                let uip = if updating { A_UPDATE_IN_PROGRESS } else { 0 };
                self.ram[usize::from(STATUS_A)] | uip
            }
            STATUS_C => {
                let now = self.guest_seconds();
                let flag = if now != self.seen && self.stopped.is_none() { C_UPDATE } else { 0 };
                self.seen = now;
                flag
            }
            STATUS_D => D_VALID,
            _ => self.ram[usize::from(index)],
        }
    }

    fn write(&mut self, index: u8, value: u8) -> Result<(), GuestError> {
        match index {
            SECONDS | MINUTES | HOURS | DAY_OF_MONTH | MONTH | YEAR | CENTURY => {
                let time = self.changed(index, value)?;
                match &mut self.stopped {
                    Some(stopped) => *stopped = time,
                    None => self.set(time),
                }
            }
            STATUS_B => {
                let was_stopped = self.stopped;
                self.ram[usize::from(STATUS_B)] = value;
                match (was_stopped, value & B_SET != 0) {
                    (None, true) => self.stopped = Some(Civil::from_unix(self.guest_seconds())),
                    (Some(time), false) => {
                        self.stopped = None;
                        self.set(time);
                    }
                    _ => {}
                }
            }
            STATUS_C | STATUS_D => return Err(GuestError::ReadOnly),
            // The weekday follows from the date.
            DAY_OF_WEEK => {}
            _ => {
                let at = usize::from(index);
                let register = find(REGISTERS, u32::from(index), true);
                self.ram[at] = register
                    .map_or(value, |r| r.written(u64::from(self.ram[at]), u64::from(value)) as u8);
            }
        }
        Ok(())
    }

    /// The time with one register replaced. While the clock is stopped the parts may disagree
    /// for a moment (31 in a month about to become January), so days are checked only loosely.
    fn changed(&self, index: u8, value: u8) -> Result<Civil, GuestError> {
        let mut time = self.time();
        let number = self.decode(value);
        let within = |low: u8, high: u8| {
            (low..=high).contains(&number).then_some(number).ok_or(GuestError::BadValue)
        };
        match index {
            SECONDS => time.second = within(0, 59)?,
            MINUTES => time.minute = within(0, 59)?,
            HOURS if self.mode(B_24_HOUR) => time.hour = within(0, 23)?,
            HOURS => {
                let hour = self.decode(value & !PM);
                if !(1..=12).contains(&hour) {
                    return Err(GuestError::BadValue);
                }
                time.hour = hour % 12 + if value & PM != 0 { 12 } else { 0 };
            }
            DAY_OF_MONTH => time.day = within(1, 31)?,
            MONTH => time.month = within(1, 12)?,
            YEAR => time.year = time.year / 100 * 100 + i64::from(within(0, 99)?),
            _ => time.year = time.year % 100 + 100 * i64::from(within(0, 99)?),
        }
        Ok(time)
    }

    fn set(&mut self, time: Civil) {
        self.offset = time.to_unix().saturating_sub(self.host_seconds());
    }
}

impl Device for Rtc {
    fn name(&self) -> &str {
        "rtc"
    }

    fn access(&mut self, access: Access) -> Outcome {
        if access.size != 1 {
            return Outcome::error(GuestError::BadSize, access.size);
        }
        if access.offset & 1 == 0 {
            return match access.op {
                Op::Read => Outcome::value(u64::from(self.index)),
                Op::Write(value) => {
                    self.index = value as u8;
                    Outcome::done()
                }
            }
            .at(PORTS, 0);
        }
        let index = self.index & INDEX_MASK;
        let outcome = match access.op {
            Op::Read => Outcome::value(u64::from(self.read(index))),
            Op::Write(value) => match self.write(index, value as u8) {
                Ok(()) => Outcome::done(),
                Err(error) => Outcome::done().with_error(error),
            },
        };
        outcome.at(REGISTERS, u32::from(index))
    }

    /// The clock runs on; RAM is battery-backed but starts empty with the machine.
    fn reset(&mut self) {
        self.index = 0;
        self.stopped = None;
        for register in REGISTERS {
            self.ram[register.offset as usize] = register.reset as u8;
        }
        self.seen = self.guest_seconds();
    }
}

fn to_bcd(value: u8) -> u8 {
    ((value / 10 % 10) << 4) | (value % 10)
}

/// Digits above 9 give numbers that the range checks refuse.
fn from_bcd(value: u8) -> u8 {
    (value >> 4) * 10 + (value & 15)
}

#[cfg(test)]
#[path = "rtc_tests.rs"]
mod tests;
