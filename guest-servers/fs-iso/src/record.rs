//! Directory records (ECMA-119, 9.1) and dates.
//!
//! | at | | at | |
//! |---|---|---|---|
//! | 0 | length of the record | 18 | date, seven bytes |
//! | 1 | blocks of extended attributes | 25 | flags |
//! | 2 | first block, both byte orders | 32 | length of the name |
//! | 10 | bytes, both byte orders | 33 | name, padded; then the system use area |

use alloc::vec::Vec;

const NAME_AT: usize = 33;
/// Flags.
const DIRECTORY: u8 = 2;
const ASSOCIATED: u8 = 4;
const MORE_EXTENTS: u8 = 128;

#[derive(Clone, Debug)]
pub struct Record {
    /// Of the whole record, bytes.
    pub len: usize,
    pub block: u32,
    pub size: u32,
    /// Nanoseconds since 1970.
    pub time: u64,
    flags: u8,
    /// Files in a form that nobody writes: extended attributes, interleaved.
    pub odd: bool,
    pub name: Vec<u8>,
    pub system_use: Vec<u8>,
}

/// A number in both byte orders; `None` where they differ.
pub fn both(raw: &[u8]) -> Option<u32> {
    let little = u32::from_le_bytes(raw.get(..4)?.try_into().ok()?);
    let big = u32::from_be_bytes(raw.get(4..8)?.try_into().ok()?);
    (little == big).then_some(little)
}

impl Record {
    /// The record at the start of `raw`. `None` where there is none, or no whole one.
    pub fn parse(raw: &[u8]) -> Option<Self> {
        let len = usize::from(*raw.first()?);
        let raw = raw.get(..len)?;
        let name_len = usize::from(*raw.get(32)?);
        let name = raw.get(NAME_AT..NAME_AT + name_len)?;
        // The system use area begins at an even offset.
        let system_use = raw.get(NAME_AT + name_len + usize::from(name_len % 2 == 0)..);
        Some(Self {
            len,
            block: both(&raw[2..])?,
            size: both(&raw[10..])?,
            time: short_date(raw.get(18..25)?),
            flags: raw[25],
            odd: raw[1] != 0 || raw[26] != 0 || raw[27] != 0,
            name: name.to_vec(),
            system_use: system_use.unwrap_or_default().to_vec(),
        })
    }

    pub fn is_directory(&self) -> bool {
        self.flags & DIRECTORY != 0
    }

    /// A second file of the same name (resource forks): not shown.
    pub fn is_associated(&self) -> bool {
        self.flags & ASSOCIATED != 0
    }

    /// Another record of the same file follows.
    pub fn continues(&self) -> bool {
        self.flags & MORE_EXTENTS != 0
    }

    pub fn is_dot(&self) -> bool {
        self.name == [0]
    }

    pub fn is_dot_dot(&self) -> bool {
        self.name == [1]
    }
}

/// Days since 1970 of a Gregorian date (years counted from March); 0 for anything before.
fn days(year: u64, month: u64, day: u64) -> u64 {
    let year = if month <= 2 { year.saturating_sub(1) } else { year };
    let from_march = (month + 9) % 12;
    let day_of_year = (153 * from_march + 2) / 5 + day - 1;
    (365 * year + year / 4 - year / 100 + year / 400 + day_of_year).saturating_sub(719_468)
}

/// Nanoseconds since 1970 of a date; what is out of range is brought into it.
fn nanoseconds(year: u64, parts: [u64; 5], zone: u8) -> u64 {
    let [month, day, hour, minute, second] = parts;
    let days = days(year, month.clamp(1, 12), day.clamp(1, 31));
    let seconds = days * 86_400 + hour.min(23) * 3600 + minute.min(59) * 60 + second.min(59);
    // Local time, in quarters of an hour east of Greenwich.
    let offset = i64::from(zone as i8).clamp(-48, 52) * 900;
    seconds.saturating_add_signed(-offset).saturating_mul(1_000_000_000)
}

/// Seven bytes (9.1.5); 0 where the date is not given.
pub fn short_date(raw: &[u8]) -> u64 {
    let &[year, month, day, hour, minute, second, zone] = raw else { return 0 };
    if month == 0 {
        return 0;
    }
    nanoseconds(1900 + u64::from(year), [month, day, hour, minute, second].map(u64::from), zone)
}

/// Sixteen digits and the zone (8.4.26.1); 0 where the date is not given.
pub fn long_date(raw: &[u8]) -> u64 {
    let Some((digits, [zone])) = raw.split_last_chunk::<1>().filter(|_| raw.len() == 17) else {
        return 0;
    };
    let number = |from: usize, to: usize| {
        digits[from..to].iter().try_fold(0u64, |sum, digit| match digit {
            b'0'..=b'9' => Some(sum * 10 + u64::from(digit - b'0')),
            _ => None,
        })
    };
    let parts = || {
        let year = number(0, 4)?;
        let parts =
            [number(4, 6)?, number(6, 8)?, number(8, 10)?, number(10, 12)?, number(12, 14)?];
        Some((year, parts))
    };
    match parts() {
        Some((year, parts)) if year > 0 && parts[0] > 0 => nanoseconds(year, parts, *zone),
        _ => 0,
    }
}
