//! ACPI fixed hardware: PM1a event block, PM1a control block, PM timer (ACPI 4.8).
//!
//! One range of 12 ports: event at 0 (status, enable), control at 4, timer at 8. Entering S5
//! powers the machine off; other sleep types do nothing. No event is ever raised, so no SCI.

use crate::backend::Clock;
use crate::device::{Access, Action, Device, GuestError, Op, Outcome};
use std::sync::Arc;
use xinim_abi::hw::chipset::{
    PM_TIMER, PM_TIMER_HZ, PM_TIMER_MASK, PM1_SCI_ENABLE, PM1_SLEEP_ENABLE, PM1_SLEEP_TYPE_MASK,
    PM1_SLEEP_TYPE_SHIFT, PM1A_CONTROL, PM1A_EVENT, SLEEP_TYPE_S5,
};
use xinim_abi::hw::register::ones;

const CONTROL: u64 = 4;
const TIMER: u64 = 8;
const END: u64 = 12;

/// The device.
pub struct AcpiPm {
    // Glue
    clock: Arc<dyn Clock>,
    // Volatile state
    enable: u16,
    control: u16,
}

impl AcpiPm {
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, enable: 0, control: PM1_SCI_ENABLE }
    }

    /// Timer ticks now.
    fn ticks(&self) -> u32 {
        let now = self.clock.monotonic();
        let part = u64::from(now.subsec_nanos()) * PM_TIMER_HZ / 1_000_000_000;
        let ticks = now.as_secs().wrapping_mul(PM_TIMER_HZ).wrapping_add(part);
        ticks as u32 & PM_TIMER_MASK
    }

    /// Content of the block an offset lies in, with its start.
    fn block(&self, offset: u64) -> (u64, u64) {
        match offset {
            TIMER.. => (TIMER, u64::from(self.ticks())),
            CONTROL.. => (CONTROL, u64::from(self.control)),
            _ => (0, u64::from(self.enable) << 16),
        }
    }

    fn write(&mut self, start: u64, value: u64) -> Outcome {
        match start {
            TIMER => Outcome::done().with_error(GuestError::ReadOnly),
            CONTROL => {
                let new = PM1A_CONTROL[0].written(u64::from(self.control), value) as u16;
                // SCI_EN belongs to the firmware, SLP_EN always reads as zero.
                self.control = new | PM1_SCI_ENABLE;
                let kind = (new & PM1_SLEEP_TYPE_MASK) >> PM1_SLEEP_TYPE_SHIFT;
                let sleep = value as u16 & PM1_SLEEP_ENABLE != 0;
                if sleep && kind == SLEEP_TYPE_S5 {
                    return Outcome::done().with_action(Action::PowerOff);
                }
                let done = Outcome::done();
                if sleep { done.with_error(GuestError::BadValue) } else { done }
            }
            // Status bits are write-one-to-clear and never set here.
            _ => {
                let old = u64::from(self.enable);
                self.enable = PM1A_EVENT[1].written(old, value >> 16 & 0xFFFF) as u16;
                Outcome::done()
            }
        }
    }
}

impl Device for AcpiPm {
    fn name(&self) -> &str {
        "acpi"
    }

    fn access(&mut self, access: Access) -> Outcome {
        let (start, content) = self.block(access.offset);
        let within = access.offset - start;
        if access.offset + u64::from(access.size) > END || within + u64::from(access.size) > 4 {
            return Outcome::error(GuestError::BadSize, access.size);
        }
        let mask = ones(access.size * 8);
        let shift = 8 * within;
        let outcome = match access.op {
            Op::Read => Outcome::value(content >> shift & mask),
            Op::Write(value) => {
                let merged = content & !(mask << shift) | (value & mask) << shift;
                self.write(start, merged)
            }
        };
        let table = match start {
            TIMER => PM_TIMER,
            CONTROL => PM1A_CONTROL,
            _ => PM1A_EVENT,
        };
        outcome.at(table, within as u32)
    }

    fn reset(&mut self) {
        self.enable = 0;
        self.control = PM1_SCI_ENABLE;
    }
}
