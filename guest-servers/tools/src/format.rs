//! Values as people read them.

use alloc::format;
use alloc::string::String;

use xinim_os::mode;

/// `drwxr-xr-x`
pub fn mode_text(bits: u32) -> String {
    let kind = match bits & mode::TYPE_MASK {
        mode::DIRECTORY => 'd',
        mode::SYMLINK => 'l',
        mode::CHARACTER => 'c',
        mode::BLOCK => 'b',
        mode::FIFO => 'p',
        mode::SOCKET => 's',
        _ => '-',
    };
    let mut text = String::from(kind);
    for (shift, special, both) in
        [(6, mode::SET_UID, 's'), (3, mode::SET_GID, 's'), (0, mode::STICKY, 't')]
    {
        for (bit, letter) in [(4, 'r'), (2, 'w')] {
            text.push(if bits >> shift & bit != 0 { letter } else { '-' });
        }
        text.push(match (bits >> shift & 1 != 0, bits & special != 0) {
            (true, false) => 'x',
            (false, false) => '-',
            (true, true) => both,
            (false, true) => both.to_ascii_uppercase(),
        });
    }
    text
}

/// `regular file`, `directory`, …
pub fn kind_text(bits: u32) -> &'static str {
    match bits & mode::TYPE_MASK {
        mode::DIRECTORY => "directory",
        mode::SYMLINK => "symbolic link",
        mode::CHARACTER => "character special file",
        mode::BLOCK => "block special file",
        mode::FIFO => "fifo",
        mode::SOCKET => "socket",
        mode::REGULAR => "regular file",
        _ => "unknown",
    }
}

/// `532`, `4.0K`, `17M`
pub fn human_size(bytes: u64) -> String {
    let mut unit = 0;
    let mut tenths = u128::from(bytes) * 10;
    while tenths >= 10_240 && unit < 6 {
        tenths = tenths.div_ceil(1024);
        unit += 1;
    }
    if unit == 0 {
        return format!("{bytes}");
    }
    let letter = ["", "K", "M", "G", "T", "P", "E"][unit];
    match tenths {
        0..100 => format!("{}.{}{letter}", tenths / 10, tenths % 10),
        _ => format!("{}{letter}", tenths.div_ceil(10)),
    }
}

/// Year, month, day, hour, minute, second of nanoseconds since 1970, in UTC.
pub fn civil(ns: u64) -> (u64, u64, u64, u64, u64, u64) {
    let seconds = ns / 1_000_000_000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days since 1 March of year 0, in eras of 400 years (Hinnant, "chrono-compatible low-level
    // date algorithms").
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day, rest / 3600, rest / 60 % 60, rest % 60)
}

/// `2025-01-31 17:04`
pub fn date_time(ns: u64) -> String {
    let (year, month, day, hour, minute, _) = civil(ns);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
}

/// `1:02:03`, or `2 days 1:02:03`
pub fn duration(ns: u64) -> String {
    let seconds = ns / 1_000_000_000;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let clock = format!("{hours}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    match days {
        0 => clock,
        1 => format!("1 day {clock}"),
        days => format!("{days} days {clock}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        assert_eq!(mode_text(0o040755), "drwxr-xr-x");
        assert_eq!(mode_text(0o120777), "lrwxrwxrwx");
        assert_eq!(mode_text(0o107644), "-rwSr-Sr-T");
        assert_eq!(mode_text(0o041777), "drwxrwxrwt");
        assert_eq!(human_size(1023), "1023");
        assert_eq!(human_size(1024), "1.0K");
        assert_eq!(human_size(10 << 20), "10M");
        assert_eq!(human_size(u64::MAX), "16E");
        assert_eq!(date_time(0), "1970-01-01 00:00");
        assert_eq!(date_time(1_709_210_096_000_000_000), "2024-02-29 12:34");
        assert_eq!(date_time(4_102_444_799_000_000_000), "2099-12-31 23:59");
        assert_eq!(duration(93_784_000_000_000), "1 day 2:03:04");
    }
}
