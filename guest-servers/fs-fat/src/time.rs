//! FAT's dates (1980 to 2107, steps of two seconds, here UTC) and nanoseconds since 1970.

use lamfat::{Date, DateTime, Time, TimeProvider};

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400;

/// Where lamfat gets its time from: nanoseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Clock(pub fn() -> u64);

impl TimeProvider for Clock {
    fn get_current_date(&self) -> Date {
        self.get_current_date_time().date
    }

    fn get_current_date_time(&self) -> DateTime {
        from_ns((self.0)())
    }
}

/// Clamped to what FAT can say.
pub fn from_ns(ns: u64) -> DateTime {
    let seconds = ns / SECOND;
    let (year, month, day) = civil(seconds / DAY);
    if year < 1980 {
        return DateTime::new(Date::new(1980, 1, 1), Time::new(0, 0, 0, 0));
    }
    if year > 2107 {
        return DateTime::new(Date::new(2107, 12, 31), Time::new(23, 59, 58, 0));
    }
    let of_day = seconds % DAY;
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, (of_day % 60) & !1);
    DateTime::new(
        Date::new(year as u16, month as u16, day as u16),
        Time::new(hour as u16, minute as u16, second as u16, 0),
    )
}

/// What a hostile image says is taken as it is, without overflow.
pub fn to_ns(time: DateTime) -> u64 {
    let date = time.date;
    let days = days(date.year.into(), u64::from(date.month.clamp(1, 12)), date.day.max(1).into());
    let seconds =
        u64::from(time.time.hour) * 3600 + u64::from(time.time.min) * 60 + u64::from(time.time.sec);
    (days * DAY + seconds) * SECOND
}

/// Days since 1970 of a Gregorian date from 1970 on (years counted from March).
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year - 1 } else { year };
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let of_era = days % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn known_dates() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(11_016), (2000, 2, 29));
        assert_eq!(days(2000, 2, 29), 11_016);
        assert_eq!(to_ns(from_ns(951_827_697 * SECOND)), 951_827_696 * SECOND);
    }

    proptest! {
        #[test]
        fn there_and_back(ns in 315_532_800 * SECOND..4_354_819_199 * SECOND) {
            let back = to_ns(from_ns(ns));
            prop_assert!(back <= ns && ns - back < 2 * SECOND);
        }

        #[test]
        fn any_time_is_clamped(ns: u64) {
            let time = from_ns(ns);
            prop_assert!((1980..=2107).contains(&time.date.year));
        }
    }
}
