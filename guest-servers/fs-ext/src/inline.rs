//! Data kept within the inode (read only): 60 bytes in place of the block map, the rest in the
//! extended attribute `system.data`.

use alloc::vec::Vec;

use xinim_abi::error::Result;

use crate::groups::corrupt;
use crate::inode::Inode;
use crate::layout::{Le16, Le32, inode};
use crate::volume::Volume;

const MAGIC: u32 = 0xEA02_0000;
/// Index of names that begin with "system.".
const SYSTEM: u8 = 7;
const ENTRY: usize = 16;

impl Volume<'_> {
    /// All bytes that such an inode holds, at most its size.
    pub fn inline_data(&mut self, inode: &Inode) -> Result<Vec<u8>> {
        let mut data = inode.block().to_vec();
        data.extend_from_slice(system_data(inode)?);
        data.truncate(usize::try_from(inode.size(&self.geo)).unwrap_or(usize::MAX));
        Ok(data)
    }
}

fn system_data(inode: &Inode) -> Result<&[u8]> {
    let raw = &inode.raw;
    if raw.len() <= inode::SMALL {
        return Ok(&[]);
    }
    let start = inode::SMALL + usize::from(inode::EXTRA_ISIZE.get(raw));
    if start + 4 > raw.len() || Le32(start).get(raw) != MAGIC {
        return Ok(&[]);
    }
    // Values count from the first entry.
    let area = &raw[start + 4..];
    let mut at = 0;
    while at + ENTRY <= area.len() && Le32(at).get(area) != 0 {
        let (name_len, index) = (usize::from(area[at]), area[at + 1]);
        let name = area.get(at + ENTRY..at + ENTRY + name_len);
        if index == SYSTEM && name == Some(b"data") {
            let (from, len) = (usize::from(Le16(at + 2).get(area)), Le32(at + 8).get(area));
            let to = from.checked_add(len as usize);
            return to.and_then(|to| area.get(from..to)).map_or_else(corrupt, Ok);
        }
        at += (ENTRY + name_len).next_multiple_of(4);
    }
    Ok(&[])
}
