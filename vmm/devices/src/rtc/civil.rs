//! Civil time from Unix seconds and back (proleptic Gregorian, UTC, no leap seconds).

const DAY: i64 = 86_400;

/// A date and time of day. Fields are in their ranges, but the day may be beyond its month's end
/// (it then counts into the next month).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Civil {
    pub year: i64,
    pub month: u8,
    pub day: u8,
    pub hour: u8,
    pub minute: u8,
    pub second: u8,
}

impl Civil {
    /// Times before year 0 and after 9999 are taken as those limits: the registers hold no more.
    pub fn from_unix(seconds: i64) -> Self {
        let seconds = seconds.clamp(-62_167_219_200, 253_402_300_799);
        let (days, rest) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
        let (year, month, day) = date_of(days);
        Self {
            year,
            month,
            day,
            hour: (rest / 3600) as u8,
            minute: (rest / 60 % 60) as u8,
            second: (rest % 60) as u8,
        }
    }

    pub fn to_unix(self) -> i64 {
        let time = i64::from(self.hour) * 3600 + i64::from(self.minute) * 60;
        self.days() * DAY + time + i64::from(self.second)
    }

    /// 1 = Sunday.
    pub fn weekday(self) -> u8 {
        // 1970-01-01 was a Thursday.
        ((self.days() + 4).rem_euclid(7) + 1) as u8
    }

    /// Days since 1970-01-01.
    fn days(self) -> i64 {
        // Years begin in March, so that the leap day is the last of its year.
        let year = self.year - i64::from(self.month <= 2);
        let month = (i64::from(self.month) + 9) % 12;
        let day_of_year = (153 * month + 2) / 5 + i64::from(self.day) - 1;
        let (era, year) = (year.div_euclid(400), year.rem_euclid(400));
        era * 146_097 + year * 365 + year / 4 - year / 100 + day_of_year - 719_468
    }
}

fn date_of(days: i64) -> (i64, u8, u8) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day_of_year = day - (365 * year + year / 4 - year / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    (era * 400 + year + i64::from(month <= 2), month as u8, day as u8)
}
