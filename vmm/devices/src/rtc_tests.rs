use super::*;
use crate::testing::ManualClock;
use proptest::prelude::*;
use std::time::Duration;

/// 2024-02-29 13:59:58 UTC, a Thursday.
const LEAP: u64 = 1_709_215_198;

fn rtc(seconds: u64) -> (Rtc, Arc<ManualClock>) {
    let clock = ManualClock::new(Duration::from_secs(seconds));
    (Rtc::new(clock.clone()), clock)
}

fn get(rtc: &mut Rtc, index: u8) -> u8 {
    rtc.access(Access::write(0, 1, u64::from(index)));
    rtc.access(Access::read(1, 1)).value as u8
}

fn put(rtc: &mut Rtc, index: u8, value: u8) -> Option<GuestError> {
    rtc.access(Access::write(0, 1, u64::from(index)));
    rtc.access(Access::write(1, 1, u64::from(value))).error
}

fn date(rtc: &mut Rtc) -> [u8; 8] {
    [CENTURY, YEAR, MONTH, DAY_OF_MONTH, DAY_OF_WEEK, HOURS, MINUTES, SECONDS]
        .map(|index| get(rtc, index))
}

#[test]
fn time_is_shown_in_bcd_by_default() {
    let (mut rtc, clock) = rtc(LEAP);
    assert_eq!(date(&mut rtc), [0x20, 0x24, 0x02, 0x29, 5, 0x13, 0x59, 0x58]);
    clock.advance(Duration::from_secs(2 + 36_000));
    assert_eq!(date(&mut rtc), [0x20, 0x24, 0x03, 0x01, 6, 0x00, 0x00, 0x00]);
}

#[test]
fn binary_and_twelve_hour_modes() {
    let (mut rtc, _) = rtc(LEAP);
    put(&mut rtc, STATUS_B, B_BINARY);
    assert_eq!((get(&mut rtc, YEAR), get(&mut rtc, HOURS)), (24, PM | 1));
    assert_eq!(put(&mut rtc, HOURS, 12), None);
    put(&mut rtc, STATUS_B, B_BINARY | B_24_HOUR);
    assert_eq!(get(&mut rtc, HOURS), 0, "12 am is midnight");
}

#[test]
fn setting_the_clock_changes_the_guest_only() {
    let (mut rtc, clock) = rtc(LEAP);
    put(&mut rtc, STATUS_B, B_SET | B_24_HOUR);
    for (index, value) in [(YEAR, 0x99), (CENTURY, 0x19), (MONTH, 0x12), (DAY_OF_MONTH, 0x31)] {
        assert_eq!(put(&mut rtc, index, value), None);
    }
    for (index, value) in [(HOURS, 0x23), (MINUTES, 0x59), (SECONDS, 0x59)] {
        assert_eq!(put(&mut rtc, index, value), None);
    }
    clock.advance(Duration::from_secs(100));
    assert_eq!(get(&mut rtc, SECONDS), 0x59, "stopped");
    put(&mut rtc, STATUS_B, B_24_HOUR);
    clock.advance(Duration::from_secs(1));
    assert_eq!(date(&mut rtc), [0x20, 0x00, 0x01, 0x01, 7, 0, 0, 0]);
}

#[test]
fn impossible_values_are_refused() {
    let (mut rtc, _) = rtc(LEAP);
    for (index, value) in [(SECONDS, 0x60), (MONTH, 0), (MONTH, 0x13), (HOURS, 0x24), (YEAR, 0xFF)]
    {
        assert_eq!(put(&mut rtc, index, value), Some(GuestError::BadValue), "{index}");
    }
    assert_eq!(put(&mut rtc, STATUS_D, 0), Some(GuestError::ReadOnly));
    assert_eq!(get(&mut rtc, SECONDS), 0x58);
}

#[test]
fn uip_is_set_just_before_the_second_turns() {
    let (mut rtc, clock) = rtc(LEAP);
    assert_eq!(get(&mut rtc, STATUS_A), 0x26);
    clock.advance(Duration::from_nanos(999_800_000));
    assert_eq!(get(&mut rtc, STATUS_A), 0xA6);
    clock.advance(Duration::from_nanos(200_000));
    assert_eq!(get(&mut rtc, STATUS_A), 0x26);
    assert_eq!((get(&mut rtc, STATUS_C), get(&mut rtc, STATUS_C)), (C_UPDATE, 0));
}

#[test]
fn ram_keeps_what_is_written() {
    let (mut rtc, _) = rtc(LEAP);
    for index in [0x0E, 0x40, 0x7F, 0xFF] {
        put(&mut rtc, index, index ^ 0x5A);
        assert_eq!(get(&mut rtc, index & 0x7F), index ^ 0x5A);
    }
    assert_eq!(get(&mut rtc, STATUS_D), D_VALID);
}

#[test]
fn registers_follow_their_table_after_reset() {
    let (mut rtc, _) = rtc(LEAP);
    for register in REGISTERS.iter().filter(|r| (0x0A..0x0E).contains(&r.offset)) {
        assert_eq!(
            u64::from(get(&mut rtc, register.offset as u8)),
            register.reset,
            "{}",
            register.name
        );
    }
}

proptest! {
    #[test]
    fn civil_time_is_a_bijection(seconds in 0i64..253_402_300_799) {
        let civil = Civil::from_unix(seconds);
        prop_assert_eq!(civil.to_unix(), seconds);
        prop_assert!((1..=12).contains(&civil.month) && (1..=31).contains(&civil.day));
        let next = Civil::from_unix(seconds + 86_400);
        prop_assert_eq!(next.weekday() % 7, (civil.weekday() + 1) % 7);
    }

    #[test]
    fn any_access_is_survived(accesses in proptest::collection::vec(any::<(u8, u8, bool)>(), 0..200)) {
        let (mut rtc, clock) = rtc(LEAP);
        for (index, value, write) in accesses {
            if write {
                put(&mut rtc, index, value);
            } else {
                get(&mut rtc, index);
            }
            clock.advance(Duration::from_millis(u64::from(value)));
        }
    }
}
