//! Reader of the system bundle: cpio, format `newc` (cpio(5), "New ASCII Format").
//!
//! A name ends at its first zero byte: the packer lengthens it with zeros so that the data of
//! programs begins at a page.

/// Bytes of an entry's head.
const HEAD: usize = 110;
const MAGIC: &[u8] = b"070701";
/// Position of the fields used here: 8 hexadecimal digits each.
const MODE: usize = 14;
const FILE_SIZE: usize = 54;
const NAME_SIZE: usize = 94;

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    pub name: &'a str,
    /// POSIX mode with the file type.
    pub mode: u32,
    pub data: &'a [u8],
    /// Of the data, in the archive.
    pub offset: usize,
}

/// The entries up to the trailer, or to the first that is damaged.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    archive: &'a [u8],
    at: usize,
}

pub fn entries(archive: &[u8]) -> Entries<'_> {
    Entries { archive, at: 0 }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let head = self.archive.get(self.at..self.at.checked_add(HEAD)?)?;
        if !head.starts_with(MAGIC) {
            return None;
        }
        let name_start = self.at + HEAD;
        let name_end = name_start.checked_add(field(head, NAME_SIZE)?)?;
        let name = self.archive.get(name_start..name_end)?.split(|&b| b == 0).next()?;
        let name = core::str::from_utf8(name).ok()?;
        if name == "TRAILER!!!" {
            return None;
        }
        let offset = name_end.checked_next_multiple_of(4)?;
        let end = offset.checked_add(field(head, FILE_SIZE)?)?;
        let data = self.archive.get(offset..end)?;
        self.at = end.checked_next_multiple_of(4)?;
        let name = name.trim_start_matches("./").trim_start_matches('/');
        Some(Entry { name, mode: field(head, MODE)? as u32, data, offset })
    }
}

fn field(head: &[u8], at: usize) -> Option<usize> {
    let digits = core::str::from_utf8(head.get(at..at + 8)?).ok()?;
    u32::from_str_radix(digits, 16).ok().map(|value| value as usize)
}
