//! The archive format: ustar headers (POSIX.1-2017, pax, "ustar Interchange Format"), pax extended
//! headers, and what GNU tar does for long names and large numbers.
//!
//! ```text
//! header (512 bytes) | data, padded to 512 | … | two blocks of zeros
//! 'x' header: records "LEN KEY=VALUE\n" for the next member       'L', 'K': its name, its link
//! ```

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

pub const BLOCK: usize = 512;
/// Longest extended header taken in.
pub const EXTENDED_MAX: u64 = 1 << 20;

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Nanoseconds since 1970.
    pub mtime: u64,
    /// Type flag: `0` file, `1` hard link, `2` symbolic link, `3` character, `4` block device, `5`
    /// directory, `6` FIFO.
    pub kind: u8,
    pub link: String,
    pub major: u32,
    pub minor: u32,
    /// Names of the owners, for people.
    pub user: String,
    pub group: String,
}

pub fn is_zero(block: &[u8]) -> bool {
    block.iter().all(|&byte| byte == 0)
}

/// Octal digits, or GNU's big-endian binary with the top bit set.
fn number(field: &[u8]) -> Option<u64> {
    if let [first, rest @ ..] = field
        && first & 0x80 != 0
    {
        let first = u64::from(first & 0x7F);
        return rest.iter().try_fold(first, |value, &byte| {
            value.checked_mul(256).map(|value| value | u64::from(byte))
        });
    }
    let text = core::str::from_utf8(field).ok()?.trim_matches(['\0', ' ']);
    if text.is_empty() { Some(0) } else { u64::from_str_radix(text, 8).ok() }
}

fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    String::from_utf8_lossy(&field[..end]).into_owned()
}

fn checksum(block: &[u8; BLOCK]) -> u64 {
    let sum = |range: core::ops::Range<usize>| -> u64 {
        block[range].iter().map(|&byte| u64::from(byte)).sum()
    };
    sum(0..148) + 8 * u64::from(b' ') + sum(156..BLOCK)
}

/// What a header says; an error is a sentence.
pub fn parse(block: &[u8; BLOCK]) -> Result<Member, &'static str> {
    if number(&block[148..156]) != Some(checksum(block)) {
        return Err("this is not a tar archive, or it is damaged");
    }
    let field = |range: core::ops::Range<usize>| {
        number(&block[range]).ok_or("a number in a header is malformed")
    };
    let small = |value: u64| u32::try_from(value).map_err(|_| "a number in a header is too large");
    let mut name = text(&block[..100]);
    // GNU's own format has other things where ustar has the prefix.
    if &block[257..263] == b"ustar\0" && block[345] != 0 {
        name = format!("{}/{name}", text(&block[345..500]));
    }
    let kind = if block[156] == 0 { b'0' } else { block[156] };
    let directory = kind == b'0' && name.ends_with('/');
    Ok(Member {
        name,
        mode: small(field(100..108)?)? & 0o7777,
        uid: small(field(108..116)?)?,
        gid: small(field(116..124)?)?,
        size: field(124..136)?,
        mtime: field(136..148)?.saturating_mul(1_000_000_000),
        kind: if directory { b'5' } else { kind },
        link: text(&block[157..257]),
        major: small(field(329..337)?)?,
        minor: small(field(337..345)?)?,
        user: text(&block[265..297]),
        group: text(&block[297..329]),
    })
}

/// Applies the records of an extended header to the member that follows it.
pub fn extend(member: &mut Member, records: &[u8]) -> Result<(), &'static str> {
    let malformed = "an extended header is malformed";
    let mut rest = records;
    while !rest.is_empty() {
        let space = rest.iter().position(|&byte| byte == b' ').ok_or(malformed)?;
        let len = core::str::from_utf8(&rest[..space]).ok().and_then(|text| text.parse().ok());
        let len: usize =
            len.filter(|len| (space + 2..=rest.len()).contains(len)).ok_or(malformed)?;
        let (record, tail) = rest.split_at(len);
        rest = tail;
        let record = record[space + 1..].strip_suffix(b"\n").ok_or(malformed)?;
        let at = record.iter().position(|&byte| byte == b'=').ok_or(malformed)?;
        let (key, value) = (&record[..at], String::from_utf8_lossy(&record[at + 1..]));
        let parsed = || value.parse::<u64>().map_err(|_| malformed);
        match key {
            b"path" => member.name = value.into_owned(),
            b"linkpath" => member.link = value.into_owned(),
            b"size" => member.size = parsed()?,
            b"uid" => member.uid = u32::try_from(parsed()?).map_err(|_| malformed)?,
            b"gid" => member.gid = u32::try_from(parsed()?).map_err(|_| malformed)?,
            b"mtime" => member.mtime = time(&value).ok_or(malformed)?,
            _ => {}
        }
    }
    Ok(())
}

/// `1700000000.25` in nanoseconds; before 1970 is 1970.
fn time(text: &str) -> Option<u64> {
    if text.starts_with('-') {
        return Some(0);
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let ns: u64 = digits.parse().ok()?;
    seconds.parse::<u64>().ok()?.checked_mul(1_000_000_000)?.checked_add(ns)
}

/// A member's header, with an extended one before it where ustar has no room.
pub fn header(member: &Member) -> Vec<u8> {
    let mut records = Vec::new();
    let (prefix, name) = split(&member.name).unwrap_or_else(|| {
        record(&mut records, "path", &member.name);
        ("", cut(&member.name))
    });
    if member.link.len() > 100 {
        record(&mut records, "linkpath", &member.link);
    }
    if member.size >= 1 << 33 {
        record(&mut records, "size", &format!("{}", member.size));
    }
    for (key, id) in [("uid", member.uid), ("gid", member.gid)] {
        if id >= 1 << 21 {
            record(&mut records, key, &format!("{id}"));
        }
    }
    let mut bytes = Vec::new();
    if !records.is_empty() {
        let name = format!("PaxHeaders/{}", cut(member.name.trim_end_matches('/')));
        let extended = Member {
            name: cut(&name).into(),
            size: records.len() as u64,
            kind: b'x',
            mode: 0o644,
            ..Member::default()
        };
        bytes.extend(block("", &extended.name, &extended));
        bytes.extend(&records);
        bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    }
    bytes.extend(block(prefix, name, member));
    bytes
}

/// Prefix and name where the whole is too long for the name alone. `None`: too long even so.
fn split(name: &str) -> Option<(&str, &str)> {
    if name.len() <= 100 {
        return Some(("", name));
    }
    let cuts = name.match_indices('/').map(|(at, _)| at);
    let mut fitting =
        cuts.filter(|&at| at > 0 && at <= 155 && (1..=100).contains(&(name.len() - at - 1)));
    fitting.next().map(|at| (&name[..at], &name[at + 1..]))
}

/// As much as fits a header.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(100);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The length of a record counts its own digits.
fn record(records: &mut Vec<u8>, key: &str, value: &str) {
    let rest = key.len() + value.len() + 3;
    let mut len = rest + 1;
    while format!("{len}").len() + rest != len {
        len = format!("{len}").len() + rest;
    }
    records.extend(format!("{len} {key}={value}\n").bytes());
}

fn block(prefix: &str, name: &str, member: &Member) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &[u8]| block[at..at + text.len()].copy_from_slice(text);
    let octal = |value: u64, digits: usize| {
        let top = 1u64 << (3 * digits);
        format!("{:0digits$o}", if value < top { value } else { 0 })
    };
    put(0, name.as_bytes());
    put(100, octal(member.mode.into(), 7).as_bytes());
    put(108, octal(member.uid.into(), 7).as_bytes());
    put(116, octal(member.gid.into(), 7).as_bytes());
    put(124, octal(member.size, 11).as_bytes());
    put(136, octal(member.mtime / 1_000_000_000, 11).as_bytes());
    put(156, &[member.kind]);
    put(157, cut(&member.link).as_bytes());
    put(257, b"ustar\x0000");
    for (at, name) in [(265, &member.user), (297, &member.group)] {
        // Longer names are left out: the numbers say the same.
        if name.len() < 32 {
            put(at, name.as_bytes());
        }
    }
    put(329, octal(member.major.into(), 7).as_bytes());
    put(337, octal(member.minor.into(), 7).as_bytes());
    put(345, prefix.as_bytes());
    let sum = format!("{:06o}\0 ", checksum(&block));
    block[148..156].copy_from_slice(sum.as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::prelude::v1::*;

    fn there_and_back(member: &Member) -> Member {
        let bytes = header(member);
        let mut blocks = bytes.as_chunks::<BLOCK>().0.iter();
        let first = parse(blocks.next().unwrap()).unwrap();
        if first.kind != b'x' {
            return first;
        }
        let records = &bytes[BLOCK..BLOCK + first.size as usize];
        let mut found = parse(bytes.as_chunks::<BLOCK>().0.last().unwrap()).unwrap();
        extend(&mut found, records).unwrap();
        found
    }

    #[test]
    fn headers() {
        let plain = Member {
            name: "dir/file".into(),
            mode: 0o4755,
            uid: 1000,
            gid: 3_000_000,
            size: 1 << 34,
            mtime: 1_700_000_000_000_000_000,
            kind: b'0',
            ..Member::default()
        };
        assert_eq!(there_and_back(&plain), plain);
        let long = "d/".repeat(60) + "name";
        let links = Member { name: long.clone(), link: long + "/x", kind: b'2', ..plain.clone() };
        assert_eq!(there_and_back(&links), links);
        let endless = Member { name: "n".repeat(255), kind: b'0', ..plain };
        assert_eq!(there_and_back(&endless), endless);
    }

    #[test]
    fn records_count_themselves() {
        for len in 0..130 {
            let mut records = Vec::new();
            record(&mut records, "path", &"x".repeat(len));
            let space = records.iter().position(|&b| b == b' ').unwrap();
            let said: usize = core::str::from_utf8(&records[..space]).unwrap().parse().unwrap();
            assert_eq!(said, records.len());
        }
    }

    #[test]
    fn damage() {
        let mut block = [0; BLOCK];
        block.copy_from_slice(&header(&Member { name: "f".into(), ..Member::default() }));
        block[0] ^= 1;
        assert!(parse(&block).is_err());
        let mut member = Member::default();
        for bad in ["5", "99 path=x\n", "0 a=b\n", "9 path=abc", "7 nokey\n", "12 size=abc\n\n"] {
            assert!(extend(&mut member, bad.as_bytes()).is_err(), "{bad}");
        }
        extend(&mut member, b"20 mtime=1.5\n").unwrap_err();
        extend(&mut member, b"13 mtime=1.5\n").unwrap();
        assert_eq!(member.mtime, 1_500_000_000);
    }
}
