//! Who has to hear that a file-system server died with changes that were not durable yet.
//!
//! ```text
//! changed ──> unsaved ──fsync, sync──> saved
//!                │ the server dies
//!                v
//!          one loss more ──fsync of an open file that has not heard of it──> Io, once
//! ```
//! As Linux's errseq: a loss is counted at the node, an open file remembers up to which count it
//! has heard, and one opened after a loss hears of it only if nobody has yet. `sync` has its own mark
//! at the mount, which the next `sync` tells and clears. VFS does not learn what a server writes back
//! by itself, so a change counts as unsaved until `fsync` or `sync` has worked. Block devices
//! are not cached by devfs, so its death loses nothing of them, and nothing of it is ever told as lost. What was not told
//! yet is part of the state that outlives VFS (of many closed files: as far as there is room); what is unsaved is not, so that the next instance takes
//! everything it knows of for unsaved.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::mode;
use xinim_fs_kit::{FileSystem, Ino};
use xinim_keep::codec::{Reader, Writer};

use crate::files::FileId;
use crate::mounts::MountId;
use crate::tree::NodeId;
use crate::vfs::{Host, Vfs};

/// Losses of one file.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Losses {
    count: u32,
    /// Somebody has heard of the last one.
    told: bool,
}

impl Losses {
    pub fn untold(&self) -> bool {
        self.count != 0 && !self.told
    }

    /// What a file opened now need not hear of.
    pub fn at_open(&self) -> u32 {
        self.count.wrapping_sub(u32::from(self.untold()))
    }

    pub fn put(self, writer: Writer) -> Writer {
        writer.u32(self.count).bool(self.told)
    }

    pub fn get(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Self { count: reader.u32()?, told: reader.bool()? })
    }

    fn add(&mut self) {
        // Never back to 0, which would be "none".
        self.count = self.count.checked_add(1).unwrap_or(1);
        self.told = false;
    }
}

impl<H: Host> Vfs<H> {
    /// A file or directory was changed at its server.
    pub(crate) fn changed(&mut self, node: NodeId) {
        let node = self.tree.node_mut(node);
        if matches!(node.kind, mode::BLOCK | mode::CHARACTER) {
            return;
        }
        node.unsaved = true;
        let mount = node.mount;
        self.mount_mut(mount).unsaved = true;
    }

    /// The server of a mount died.
    pub(crate) fn count_losses(&mut self, id: MountId) {
        let mount = self.mount_mut(id);
        if !core::mem::replace(&mut mount.unsaved, false) || !mount.keeps_state() {
            return;
        }
        mount.lost = true;
        // A file is concerned by whichever of its names it was changed.
        let unsaved = self.tree.of_mount(id).filter(|node| node.unsaved);
        let lost: BTreeSet<Ino> = unsaved.map(|node| node.ino).collect();
        let nodes = self.tree.iter();
        let nodes: Vec<NodeId> = nodes
            .filter(|(_, node)| node.mount == id && lost.contains(&node.ino))
            .map(|(id, _)| id)
            .collect();
        for node in nodes {
            let node = self.tree.node_mut(node);
            node.unsaved = false;
            node.losses.add();
        }
    }

    /// `Io` if there is a loss of the file that nobody heard of through this open file.
    pub(crate) fn hear_of_losses(&mut self, id: FileId, node: NodeId) -> Result<()> {
        let losses = self.tree.node(node).losses;
        let Some(file) = self.files.get_mut(id) else { return Ok(()) };
        if core::mem::replace(&mut file.heard, losses.count) == losses.count {
            return Ok(());
        }
        self.tree.node_mut(node).losses.told = true;
        Err(Error::Io)
    }

    /// Writes what one file has to its device. `Io`, too: what was to be made durable is lost already.
    pub(crate) fn make_durable(&mut self, id: FileId, node: NodeId) -> Result<()> {
        let result = self.on(node, |fs, ino| fs.fsync(ino));
        if result.is_ok() {
            self.tree.node_mut(node).unsaved = false;
        }
        let heard = self.hear_of_losses(id, node);
        result.and(heard)
    }

    /// Writes everything of one file system. `Io`, once: its server died with changes.
    pub(crate) fn sync_mount(&mut self, id: MountId) -> Result<()> {
        let root = self.mount(id).root;
        let result = self.on(root, |fs, _| fs.sync());
        let mount = self.mount_mut(id);
        let lost = core::mem::replace(&mut mount.lost, false);
        if result.is_ok() && core::mem::replace(&mut mount.unsaved, false) {
            self.tree.of_mount(id).for_each(|node| node.unsaved = false);
        }
        result.and(if lost { Err(Error::Io) } else { Ok(()) })
    }
}
