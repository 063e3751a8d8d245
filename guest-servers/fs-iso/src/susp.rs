//! The system use area of a record: SUSP (IEEE P1281) fields with what Rock Ridge (IEEE P1282) says in
//! them.
//!
//! | field | |
//! |---|---|
//! | CE | the area goes on elsewhere |
//! | NM | name, in parts |
//! | PX | mode, links, uid, gid |
//! | PN | device number |
//! | SL | target of a symbolic link, in components |
//! | TF | times |
//! | CL, PL, RE | a directory that lies too deep stands elsewhere: child, parent, "not here" |
//! | ZF | compressed |

use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{NAME_MAX, PATH_MAX};
use xinim_block_client::Storage;

use crate::record::{both, long_date, short_date};

/// Continuation areas followed for one record.
const AREAS_MAX: usize = 32;

/// What a record says beyond ISO 9660.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RockRidge {
    pub name: Option<Vec<u8>>,
    pub mode: Option<u32>,
    pub links: u32,
    pub uid: u32,
    pub gid: u32,
    pub rdev: Option<u32>,
    pub target: Option<Vec<u8>>,
    /// Nanoseconds since 1970.
    pub atime: Option<u64>,
    pub mtime: Option<u64>,
    pub ctime: Option<u64>,
    /// Block of the directory that this entry stands for.
    pub child: Option<u32>,
    /// Block of the parent that this `..` stands for.
    pub parent: Option<u32>,
    /// This directory is shown elsewhere.
    pub relocated: bool,
    pub compressed: bool,
}

/// Bytes to skip at the start of each system use area, if the root's `.` says that the protocol is
/// used.
pub fn skip_of(system_use: &[u8]) -> Option<usize> {
    match system_use {
        [b'S', b'P', 7, 1, 0xBE, 0xEF, skip, ..] => Some(usize::from(*skip)),
        _ => None,
    }
}

/// State while the fields of one record are read.
#[derive(Default)]
struct Link {
    target: Vec<u8>,
    /// The next component is part of the last one.
    joined: bool,
    /// Something stands before the next component.
    any: bool,
}

impl RockRidge {
    /// Reads all fields of a record, areas elsewhere included. `Io`: they contradict themselves.
    pub fn read(
        storage: &mut dyn Storage,
        block_len: u64,
        system_use: &[u8],
        skip: usize,
    ) -> Result<Self> {
        let mut found = Self::default();
        let mut link = None;
        let mut area = system_use.get(skip..).unwrap_or_default().to_vec();
        for _ in 0..AREAS_MAX {
            let Some((block, offset, len)) = found.fields(&area, &mut link) else {
                found.target = link.map(|link: Link| link.target);
                return Ok(found);
            };
            // An area lies within one block.
            let at = u64::from(block) * block_len + u64::from(offset);
            if u64::from(offset) + u64::from(len) > block_len {
                return Err(Error::Io);
            }
            area = vec![0; len as usize];
            storage.read(at, &mut area).map_err(|_| Error::Io)?;
        }
        Err(Error::Io)
    }

    /// The fields of one area; where the next one is.
    fn fields(&mut self, mut area: &[u8], link: &mut Option<Link>) -> Option<(u32, u32, u32)> {
        let mut next = None;
        while let &[a, b, len, _, ..] = area {
            let Some(field) = area.get(4..usize::from(len)) else { break };
            area = &area[usize::from(len)..];
            match &[a, b] {
                b"ST" => break,
                b"CE" => next = continuation(field),
                b"NM" => self.name_part(field),
                b"PX" => self.posix(field),
                b"PN" => {
                    let (high, low) = (number(field, 0), number(field, 8));
                    // A 64-bit number in two halves, or major and minor: the low half decides.
                    let (major, minor) =
                        if high == 0 { (low >> 8, low & 0xFF) } else { (high, low) };
                    self.rdev = Some((major & 0xFFFF) << 16 | minor & 0xFFFF);
                }
                b"SL" => target_part(link.get_or_insert_default(), field),
                b"TF" => self.times(field),
                b"CL" => self.child = both(field),
                b"PL" => self.parent = both(field),
                b"RE" => self.relocated = true,
                b"ZF" => self.compressed = true,
                _ => {}
            }
        }
        next
    }

    fn name_part(&mut self, field: &[u8]) {
        let Some((flags, part)) = field.split_first() else { return };
        // Flags 2 and 4: `.` and `..`, which ISO 9660 has already.
        if flags & 6 == 0 {
            let name = self.name.get_or_insert_default();
            if name.len() + part.len() <= NAME_MAX {
                name.extend_from_slice(part);
            }
        }
    }

    fn posix(&mut self, field: &[u8]) {
        self.mode = field.get(..8).and_then(both);
        self.links = number(field, 8);
        self.uid = number(field, 16);
        self.gid = number(field, 24);
    }

    fn times(&mut self, field: &[u8]) {
        let Some((flags, mut dates)) = field.split_first() else { return };
        let width = if flags & 0x80 != 0 { 17 } else { 7 };
        for bit in 0..7 {
            if flags & 1 << bit == 0 {
                continue;
            }
            let Some((date, rest)) = dates.split_at_checked(width) else { return };
            dates = rest;
            let time = Some(if width == 17 { long_date(date) } else { short_date(date) });
            match bit {
                1 => self.mtime = time,
                2 => self.atime = time,
                3 => self.ctime = time,
                _ => {}
            }
        }
    }
}

/// A number in both byte orders, 0 where there is none.
fn number(field: &[u8], at: usize) -> u32 {
    field.get(at..at + 8).and_then(both).unwrap_or(0)
}

fn continuation(field: &[u8]) -> Option<(u32, u32, u32)> {
    Some((both(field)?, both(field.get(8..)?)?, both(field.get(16..)?)?))
}

/// One SL field: components with flags and length each.
fn target_part(link: &mut Link, field: &[u8]) {
    let mut components = field.get(1..).unwrap_or_default();
    while let Some((&[flags, len], rest)) = components.split_first_chunk::<2>() {
        let Some((text, rest)) = rest.split_at_checked(len.into()) else { return };
        components = rest;
        if link.any && !link.joined && link.target.last() != Some(&b'/') {
            link.target.push(b'/');
        }
        match flags & !1 {
            2 => link.target.push(b'.'),
            4 => link.target.extend_from_slice(b".."),
            8 => link.target = vec![b'/'],
            _ => link.target.extend_from_slice(text),
        }
        link.target.truncate(PATH_MAX);
        (link.any, link.joined) = (true, flags & 1 != 0);
    }
}
