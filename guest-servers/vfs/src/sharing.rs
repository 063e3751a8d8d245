//! Files mapped into memory and shared: one memory object for all that map a file.
//!
//! ```text
//! Share ── filled from the file ── handed out, read-only or writable
//!   write through VFS ── goes to file and memory        read through VFS ── memory is settled first
//!   settle (SyncMap, fsync, last process gone): what differs from the file is written to it
//! ```
//! VFS keeps no dirty bits: nobody tells it which pages a process wrote, so settling compares. It
//! never makes a file longer. Only memory that was handed out writable is settled.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::object::{Handle, PAGE_SIZE};
use xinim_abi::services::vfs::mode;
use xinim_fs_kit::{FileSystem, Sink, Source, Window};

use crate::files::Object;
use crate::locking::Key;
use crate::tree::NodeId;
use crate::vfs::{Host, Vfs};

/// Longest file that can be shared, and bytes of all together.
pub const SHARE_MAX: u64 = 64 << 20;
const TOTAL_MAX: u64 = 256 << 20;
/// Bytes compared at once.
const HOP: usize = 16 * 1024;

pub(crate) struct Share<W> {
    key: Key,
    /// Pinned.
    node: NodeId,
    window: Arc<W>,
    memory: Handle,
    len: u64,
    /// Processes that mapped it.
    users: Vec<u32>,
    /// Handed out writable.
    writable: bool,
}

impl<W> Share<W> {
    pub fn renumber(&mut self, old: Key, new: xinim_fs_kit::Ino) {
        if self.key == old {
            self.key.1 = new;
        }
    }
}

/// A window as a place for a file's bytes.
struct Whole<'a, W>(&'a W);

impl<W: Window> Sink for Whole<'_, W> {
    fn put(&mut self, at: usize, bytes: &[u8]) -> Result<()> {
        self.0.write(at, bytes)
    }
}

impl<H: Host> Vfs<H> {
    /// Length and a handle that is the caller's to close.
    pub fn share_file(&mut self, pid: u32, fd: u32, writable: bool) -> Result<(u64, Handle)> {
        let file = self.file(pid, fd)?;
        let Object::Node(node) = file.object else { return Err(Error::NoDev) };
        if !file.readable() || writable && !file.writable() {
            return Err(Error::Access);
        }
        if self.tree.node(node).kind != mode::REGULAR {
            return Err(Error::NoDev);
        }
        let stat = self.stat_of(node)?;
        let key = (self.tree.node(node).mount, stat.ino);
        if stat.size == 0 {
            return Err(Error::Inval);
        }
        let fits = |share: &Share<H::Window>| share.key == key && share.len >= stat.size;
        let at = match self.shares.iter().position(fits) {
            Some(at) => at,
            None => {
                let total: u64 = self.shares.iter().map(|share| share.len).sum();
                let len = stat.size.next_multiple_of(PAGE_SIZE as u64);
                if len > SHARE_MAX {
                    return Err(Error::FBig);
                }
                if total + len > TOTAL_MAX {
                    return Err(Error::NoMem);
                }
                self.settle_shares(node)?;
                let (window, memory) = self.host.share_memory(len as usize)?;
                let mut to = Whole(&window);
                let size = stat.size as usize;
                if let Err(error) = self.on(node, |fs, ino| fs.read_to(ino, 0, size, &mut to)) {
                    self.host.close(memory);
                    return Err(error);
                }
                self.was_read(node);
                self.pin(node);
                let (window, users) = (Arc::new(window), Vec::new());
                let share = Share { key, node, window, memory, len, users, writable: false };
                self.shares.push(share);
                self.shares.len() - 1
            }
        };
        let share = &mut self.shares[at];
        share.writable |= writable;
        if !share.users.contains(&pid) {
            share.users.push(pid);
        }
        let memory = share.memory;
        Ok((stat.size, self.host.mint(memory, writable)?))
    }

    /// What processes wrote to the memory of a file comes to the file.
    pub(crate) fn settle_shares(&mut self, node: NodeId) -> Result<()> {
        if self.shares.is_empty() {
            return Ok(());
        }
        self.own_node(node)?;
        let found = self.tree.node(node);
        let key = (found.mount, found.ino);
        let windows: Vec<_> = self.shares.iter().filter(|s| s.key == key && s.writable).collect();
        let windows: Vec<_> = windows.iter().map(|share| share.window.clone()).collect();
        for window in windows {
            self.settle(node, &window)?;
        }
        Ok(())
    }

    fn settle(&mut self, node: NodeId, window: &H::Window) -> Result<()> {
        let size = self.on(node, |fs, ino| fs.attributes(ino))?.size.min(window.len() as u64);
        let (mut mine, mut file) = (vec![0; HOP], vec![0; HOP]);
        for at in (0..size as usize).step_by(HOP) {
            let len = HOP.min(size as usize - at);
            window.read(at, &mut mine[..len])?;
            let count = self.on(node, |fs, ino| fs.read(ino, at as u64, &mut file[..len]))?;
            if count == len && mine[..len] != file[..len] {
                self.on(node, |fs, ino| fs.write(ino, at as u64, &mine[..len]))?;
                self.changed(node);
            }
        }
        Ok(())
    }

    pub fn sync_map(&mut self, pid: u32, fd: u32) -> Result<()> {
        let node = self.file_node(pid, fd)?;
        self.settle_shares(node)
    }

    /// Bytes were written to a file: its memory shows them.
    pub(crate) fn write_to_shares(
        &mut self,
        node: NodeId,
        to: u64,
        len: usize,
        data: &mut dyn Source,
    ) {
        let found = self.tree.node(node);
        let key = (found.mount, found.ino);
        let shares: Vec<_> = self.shares.iter().filter(|share| share.key == key).collect();
        let mut hop = vec![0; if shares.is_empty() { 0 } else { HOP }];
        for share in shares {
            let room = share.len.saturating_sub(to).min(len as u64) as usize;
            for at in (0..room).step_by(HOP) {
                let piece = &mut hop[..HOP.min(room - at)];
                if data.get(at, piece).is_ok() {
                    // In bounds: `room` says so.
                    let _ = share.window.write(to as usize + at, piece);
                }
            }
        }
    }

    /// A file was cut to `size`: its memory reads as zeros behind that.
    pub(crate) fn cut_shares(&mut self, node: NodeId, size: u64) {
        let found = self.tree.node(node);
        let key = (found.mount, found.ino);
        for share in self.shares.iter().filter(|share| share.key == key) {
            let zeros = [0; 4096];
            let mut at = size.min(share.len);
            while at < share.len {
                let len = (share.len - at).min(zeros.len() as u64) as usize;
                let _ = share.window.write(at as usize, &zeros[..len]);
                at += len as u64;
            }
        }
    }

    /// A process is gone, and with the last one the memory.
    pub(crate) fn drop_shares_of(&mut self, pid: u32) {
        while let Some(at) = self.shares.iter().position(|share| share.users.contains(&pid)) {
            let share = &mut self.shares[at];
            share.users.retain(|user| *user != pid);
            if !share.users.is_empty() {
                continue;
            }
            let share = self.shares.swap_remove(at);
            if share.writable {
                // Nobody is left to be told of an error.
                let _ = self.settle(share.node, &share.window);
            }
            self.host.close(share.memory);
            self.unpin(share.node);
        }
    }
}
