//! Time: the TSC, its frequency, and nanoseconds since boot.

use core::cell::Cell;

use xinim_abi::platform::CPUID_FREQUENCIES;
use xinim_kernel_logic::calibration::{self, Reference};

use crate::apic;
use crate::arch::instructions::{cpuid, in8, out8, rdtsc};
use crate::global::Global;

/// `ns = (tsc - base) * MULT >> SHIFT`.
pub const SHIFT: u32 = 32;
/// The PIT's input clock in Hz, and how long a calibration takes.
const PIT_HZ: u64 = 1_193_182;
const CALIBRATION_HZ: u64 = 400;
/// What is assumed where nothing measures time.
const FALLBACK_HZ: u64 = 2_000_000_000;
/// Polls of the PIT before it is given up.
const PIT_POLLS: u32 = 2_000_000;

static BASE: Global<Cell<u64>> = Global::new(Cell::new(0));
static MULT: Global<Cell<u64>> = Global::new(Cell::new(0));
/// TSC ticks for a nanosecond, as a 32.32 fraction.
static TICKS: Global<Cell<u64>> = Global::new(Cell::new(0));

/// Starts the clock at `base` (TSC) and the timer. Frequencies come from the hypervisor (the
/// leaf that several share), from CPUID 0x15, or from counting against the PIT.
pub fn start(base: u64) {
    let deadline_mode = apic::has_tsc_deadline();
    let (tsc_hz, timer_hz) = match told(deadline_mode) {
        Some(frequencies) => frequencies,
        None => calibrate(deadline_mode),
    };
    BASE.set(base);
    MULT.set(((1_000_000_000u128 << SHIFT) / u128::from(tsc_hz)) as u64);
    TICKS.set(((u128::from(tsc_hz) << SHIFT) / 1_000_000_000) as u64);
    apic::start_timer(if deadline_mode { 0 } else { timer_hz / 16 }, tsc_hz);
}

/// TSC and timer frequency in Hz, if somebody says both.
fn told(deadline_mode: bool) -> Option<(u64, u64)> {
    let hypervisor = cpuid(1, 0)[2] & 1 << 31 != 0;
    if hypervisor && cpuid(0x4000_0000, 0)[0] >= CPUID_FREQUENCIES {
        let [tsc, timer, ..] = cpuid(CPUID_FREQUENCIES, 0);
        if tsc != 0 && (timer != 0 || deadline_mode) {
            return Some((u64::from(tsc) * 1000, u64::from(timer) * 1000));
        }
    }
    if deadline_mode && cpuid(0, 0)[0] >= 0x15 {
        let [denominator, numerator, crystal, _] = cpuid(0x15, 0).map(u64::from);
        if denominator != 0 && numerator != 0 && crystal != 0 {
            return Some((crystal * numerator / denominator, 0));
        }
    }
    None
}

/// Counts both against the PIT.
fn calibrate(deadline_mode: bool) -> (u64, u64) {
    let gate_off = in8(0x61) & 0xFC;
    let measured = calibration::measure(&mut Pit { deadline_mode, gate_off }, PIT_POLLS);
    out8(0x61, gate_off);
    // Below 10 MHz nothing was measured.
    let sensible = measured.filter(|measured| measured.tsc * CALIBRATION_HZ >= 10_000_000);
    let Some(measured) = sensible else { return (FALLBACK_HZ, FALLBACK_HZ / 2) };
    (measured.tsc * CALIBRATION_HZ, measured.timer * 16 * CALIBRATION_HZ)
}

/// Channel 2, which takes 2.5 ms.
struct Pit {
    deadline_mode: bool,
    /// What port 0x61 says with gate and speaker off.
    gate_off: u8,
}

impl Reference for Pit {
    fn tsc(&mut self) -> u64 {
        rdtsc()
    }

    fn prepare(&mut self) {
        let count = PIT_HZ / CALIBRATION_HZ;
        // Gate off, speaker off; mode 0, low byte then high byte; the count starts with the gate.
        out8(0x61, self.gate_off);
        out8(0x43, 0xB0);
        out8(0x42, count as u8);
        out8(0x42, (count >> 8) as u8);
    }

    fn start_timer(&mut self) {
        if !self.deadline_mode {
            apic::timer_count_down();
        }
    }

    fn timer(&mut self) -> u64 {
        if self.deadline_mode { 0 } else { u64::from(apic::timer_elapsed()) }
    }

    fn begin(&mut self) {
        out8(0x61, self.gate_off | 1);
    }

    fn is_over(&mut self) -> bool {
        in8(0x61) & 0x20 != 0
    }
}

/// `(base, mult, shift)` for the kernel information page.
pub fn parameters() -> (u64, u64, u32) {
    (BASE.get(), MULT.get(), SHIFT)
}

/// Nanoseconds of `ticks` TSC ticks.
pub fn nanoseconds(ticks: u64) -> u64 {
    ((u128::from(ticks) * u128::from(MULT.get())) >> SHIFT) as u64
}

/// Nanoseconds since boot.
pub fn now_ns() -> u64 {
    nanoseconds(rdtsc() - BASE.get())
}

/// TSC ticks of `ns` nanoseconds.
pub fn ticks(ns: u64) -> u64 {
    ((u128::from(ns) * u128::from(TICKS.get())) >> SHIFT) as u64
}

/// TSC at `ns` nanoseconds since boot; far ones saturate.
pub fn deadline(ns: u64) -> u64 {
    // Beyond some 58 years of a 5 GHz TSC there is no point in telling deadlines apart.
    ticks(ns.min(1 << 60)).saturating_add(BASE.get()).min(u64::MAX - 1)
}

/// Seconds since 1970 as the RTC says, 0 where it says nothing sensible.
pub fn read_rtc() -> u64 {
    let read = |register: u8| {
        out8(0x70, register);
        in8(0x71)
    };
    // Wait out an update in progress, not for ever.
    if (0..100).all(|_| read(0x0A) & 0x80 != 0) {
        return 0;
    }
    let status = read(0x0B);
    let mut fields = [0, 2, 4, 7, 8, 9].map(read);
    if status & 4 == 0 {
        let pm = fields[2] & 0x80;
        fields[2] &= 0x7F;
        fields = fields.map(|bcd| (bcd >> 4).wrapping_mul(10).wrapping_add(bcd & 15));
        fields[2] |= pm;
    }
    if status & 2 == 0 {
        // Twelve-hour clock: 12 AM is 0, PM adds 12.
        let pm = fields[2] & 0x80 != 0;
        fields[2] = (fields[2] & 0x7F) % 12 + if pm { 12 } else { 0 };
    }
    let [second, minute, hour, day, month, year] = fields.map(u64::from);
    if second > 60
        || minute > 59
        || hour > 23
        || !(1..=31).contains(&day)
        || !(1..=12).contains(&month)
    {
        return 0;
    }
    // Days since 1970 of a Gregorian date; years begin in March so that leap days come last.
    let year = 2000 + year - u64::from(month <= 2);
    let month = (month + 9) % 12;
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    (days - 719_468) * 86_400 + hour * 3600 + minute * 60 + second
}
