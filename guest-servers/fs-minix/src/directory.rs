//! Directories: files of fixed-size entries, an inode number and a name each; number 0 is a free
//! slot. A slot keeps its place while it is used, so a position in the file is a reading position
//! that survives changes.
//!
//! An entry never crosses a 512-byte sector, so changing one is atomic on the medium.

use alloc::vec;
use alloc::vec::Vec;
use core::ops::ControlFlow;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::mode;
use xinim_block_client::Storage;

use crate::layout::Inode;
use crate::volume::Volume;

/// A used slot: its byte offset in the directory and the inode it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    pub at: u64,
    pub ino: u32,
}

/// Outcome of a search.
pub enum Search {
    Found(Slot),
    /// Not there; the first free slot, maybe behind the end.
    Missing {
        free: u64,
    },
}

pub fn is_directory(inode: &Inode) -> bool {
    u32::from(inode.mode) & mode::TYPE_MASK == mode::DIRECTORY
}

/// The name in an entry: up to the first zero byte.
pub fn entry_name(raw: &[u8]) -> &[u8] {
    raw.split(|&byte| byte == 0).next().unwrap_or(raw)
}

impl<S: Storage> Volume<S> {
    /// Bytes of a directory that are looked at. `Io`: longer than the volume, so a lie.
    pub fn directory_len(&self, dir: &Inode) -> Result<u64> {
        let size = u64::from(dir.size);
        let most = u64::from(self.geometry.zones) * self.geometry.block as u64;
        if size > most { Err(Error::Io) } else { Ok(size) }
    }

    /// Shows every slot from byte `from` on: offset, inode number (0: free), name.
    pub fn scan(
        &mut self,
        dir: &Inode,
        from: u64,
        mut show: impl FnMut(u64, u32, &[u8]) -> ControlFlow<()>,
    ) -> Result<()> {
        let entry_len = self.geometry.entry_len() as u64;
        let (name_at, block) = (self.geometry.entry_name_at(), self.geometry.block);
        let end = self.directory_len(dir)?;
        if from >= end {
            return Ok(());
        }
        let mut at = from.next_multiple_of(entry_len);
        let mut buffer = vec![0; block];
        while at < end {
            let within = (at % block as u64) as usize;
            let part =
                &mut buffer[..(block - within).min(usize::try_from(end - at).unwrap_or(block))];
            self.read(dir, at, part)?;
            for raw in part.chunks_exact(entry_len as usize) {
                let mut number = [0; 4];
                number[..name_at].copy_from_slice(&raw[..name_at]);
                let name = entry_name(&raw[name_at..]);
                if show(at, u32::from_le_bytes(number), name).is_break() {
                    return Ok(());
                }
                at += entry_len;
            }
            // A last piece that holds no whole entry.
            if part.len() < entry_len as usize {
                break;
            }
        }
        Ok(())
    }

    pub fn search(&mut self, dir: &Inode, name: &[u8]) -> Result<Search> {
        let mut found = None;
        let mut free = None;
        self.scan(dir, 0, |at, ino, own| {
            if ino == 0 {
                free = free.or(Some(at));
            } else if own == name {
                found = Some(Slot { at, ino });
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        let end = u64::from(dir.size).next_multiple_of(self.geometry.entry_len() as u64);
        Ok(match found {
            Some(slot) => Search::Found(slot),
            None => Search::Missing { free: free.unwrap_or(end) },
        })
    }

    /// The slot of a name. `NoEnt`; `NameTooLong` for one that no slot can hold.
    pub fn find(&mut self, dir: &Inode, name: &[u8]) -> Result<Slot> {
        if name.len() > self.geometry.name_len {
            return Err(Error::NameTooLong);
        }
        match self.search(dir, name)? {
            Search::Found(slot) => Ok(slot),
            Search::Missing { .. } => Err(Error::NoEnt),
        }
    }

    /// Nothing but `.` and `..` in it?
    pub fn is_empty(&mut self, dir: &Inode) -> Result<bool> {
        let mut empty = true;
        self.scan(dir, 0, |_, ino, name| {
            if ino != 0 && name != b"." && name != b".." {
                empty = false;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok(empty)
    }

    pub fn encode_entry(&self, ino: u32, name: &[u8]) -> Vec<u8> {
        let name_at = self.geometry.entry_name_at();
        let mut raw = vec![0; self.geometry.entry_len()];
        raw[..name_at].copy_from_slice(&ino.to_le_bytes()[..name_at]);
        raw[name_at..name_at + name.len()].copy_from_slice(name);
        raw
    }

    /// Writes a slot that [`Volume::search`] found. The directory's inode may have changed and must
    /// be written.
    pub fn put_entry(&mut self, dir: &mut Inode, at: u64, ino: u32, name: &[u8]) -> Result<()> {
        let raw = self.encode_entry(ino, name);
        let index = at / self.geometry.block as u64;
        if at >= dir.size.into() && self.zone(dir, index)? == 0 {
            // A new block: on the medium, zeroed, before the directory has it.
            return match self.append_block(dir, at, &raw) {
                Ok(()) => Ok(()),
                Err(Error::FBig) => Err(Error::NoSpc),
                Err(error) => Err(error),
            };
        }
        match self.write(dir, at, &raw)? {
            count if count == raw.len() => Ok(()),
            _ => Err(Error::NoSpc),
        }
    }

    fn append_block(&mut self, dir: &mut Inode, at: u64, entry: &[u8]) -> Result<()> {
        // Through a copy: the inode that others read gets block and size together.
        let mut longer = *dir;
        let block = vec![0; self.geometry.block];
        let index = at / block.len() as u64;
        let written = self.write(&mut longer, index * block.len() as u64, &block);
        if written != Ok(block.len()) {
            // What was taken for it on the way.
            let cut = self.cut(&mut longer, index);
            self.prune_all(cut)?;
            return Err(written.err().unwrap_or(Error::NoSpc));
        }
        self.barrier()?;
        longer.size = (at + entry.len() as u64) as u32;
        *dir = longer;
        self.write(dir, at, entry).map(|_| ())
    }

    /// Makes a slot free.
    pub fn clear_entry(&mut self, dir: &mut Inode, at: u64) -> Result<()> {
        let number = [0; 4];
        let len = self.geometry.entry_name_at();
        // The name stays, as other systems leave it; the number decides.
        self.write(dir, at, &number[..len]).map(|_| ())
    }
}
