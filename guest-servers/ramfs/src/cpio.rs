//! Reader of cpio archives in the "newc" format (cpio(5)), in place.
//!
//! ```text
//! "070701" | 13 fields of 8 hex digits | name, NUL | pad to 4 | data | pad to 4     ... "TRAILER!!!"
//! ```
//! Nothing is trusted: every length is checked, and a malformed header ends the archive with an
//! error. The checksum variant (070702) is accepted, sums are not verified.

/// One member, borrowed from the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub ino: u32,
    /// Type and permissions as in `stat`.
    pub mode: u32,
    pub links: u32,
    /// Seconds since 1970.
    pub mtime: u32,
    /// Major << 16 | minor of the device it was on.
    pub device: u64,
    pub name: &'a [u8],
    pub data: &'a [u8],
    /// Where `data` starts in the archive.
    pub offset: usize,
}

/// Why reading stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// No magic number where a header must be.
    Magic { offset: usize },
    /// A header field that is not hexadecimal.
    Number { offset: usize },
    /// A name or data reaches past the end of the archive.
    CutOff { offset: usize },
}

const HEADER: usize = 110;
const TRAILER: &[u8] = b"TRAILER!!!";

/// Iterates the members; ends after the trailer or the first error.
#[derive(Clone, Debug)]
pub struct Archive<'a> {
    bytes: &'a [u8],
    at: usize,
    done: bool,
}

impl<'a> Archive<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, done: false }
    }

    fn read(&mut self) -> Result<Option<Entry<'a>>, Malformed> {
        let start = self.at;
        let cut_off = Malformed::CutOff { offset: start };
        let header = self.bytes.get(start..).and_then(|rest| rest.get(..HEADER)).ok_or(cut_off)?;
        if !matches!(&header[..6], b"070701" | b"070702") {
            return Err(Malformed::Magic { offset: start });
        }
        let mut fields = [0u32; 13];
        for (field, digits) in fields.iter_mut().zip(header[6..].as_chunks::<8>().0) {
            *field = hex(digits).ok_or(Malformed::Number { offset: start })?;
        }
        let [ino, mode, _uid, _gid, links, mtime, size, major, minor, _, _, name_len, _] = fields;

        let name_start = start + HEADER;
        let name_end = name_start.checked_add(name_len as usize).ok_or(cut_off)?;
        let name = self.bytes.get(name_start..name_end).ok_or(cut_off)?;
        let name = &name[..name.iter().position(|&byte| byte == 0).unwrap_or(name.len())];
        let offset = pad(name_end);
        let end = offset.checked_add(size as usize).ok_or(cut_off)?;
        let data = self.bytes.get(offset.min(end)..end).ok_or(cut_off)?;
        self.at = pad(end);
        if name == TRAILER {
            return Ok(None);
        }
        let device = u64::from(major) << 16 | u64::from(minor);
        Ok(Some(Entry { ino, mode, links, mtime, device, name, data, offset }))
    }
}

impl<'a> Iterator for Archive<'a> {
    type Item = Result<Entry<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let item = self.read().transpose();
        self.done = !matches!(item, Some(Ok(_)));
        item
    }
}

fn pad(offset: usize) -> usize {
    offset.next_multiple_of(4)
}

fn hex(digits: &[u8; 8]) -> Option<u32> {
    digits
        .iter()
        .try_fold(0, |value: u32, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}
