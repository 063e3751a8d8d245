//! Reader of the system bundle: cpio archives in the "newc" format.
//!
//! Only what the kernel needs: find a file by name. The header is 110 bytes of ASCII hex; name and
//! data are padded to 4 bytes. The bundle pads names with zero bytes to align its data, so a name
//! ends at its first zero. Anything malformed ends the search.

const HEADER: usize = 110;

/// Where the data of file `name` is: offset and length in `archive`.
pub fn find(archive: &[u8], name: &[u8]) -> Option<(usize, usize)> {
    let mut at = 0usize;
    loop {
        let header = archive.get(at..at.checked_add(HEADER)?)?;
        if !matches!(&header[..6], b"070701" | b"070702") {
            return None;
        }
        let size = hex(&header[54..62])?;
        let name_size = hex(&header[94..102])?;
        let data = (at + HEADER).checked_add(name_size)?.checked_next_multiple_of(4)?;
        let field = archive.get(at + HEADER..at + HEADER + name_size)?;
        let end = data.checked_add(size)?;
        if end > archive.len() {
            return None;
        }
        if field.len() > name.len() && field.starts_with(name) && field[name.len()] == 0 {
            return Some((data, size));
        }
        if field.starts_with(b"TRAILER!!!\0") {
            return None;
        }
        at = end.checked_next_multiple_of(4)?;
    }
}

fn hex(digits: &[u8]) -> Option<usize> {
    digits.iter().try_fold(0usize, |value, &digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            b'A'..=b'F' => digit - b'A' + 10,
            _ => return None,
        };
        Some(value << 4 | usize::from(digit))
    })
}

#[cfg(test)]
#[path = "cpio_tests.rs"]
mod tests;
