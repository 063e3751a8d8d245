//! Who may do what: owners and permission bits (POSIX.1-2017, "File Access Permissions").
//!
//! Attributes come with look-ups and change only through VFS, so checks cost no message. Root
//! (uid 0) is not checked at all, but for execution, where somebody must be allowed to.

use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{Stat, mode};
use xinim_fs_kit::FileSystem;

use crate::tree::NodeId;
use crate::vfs::{Host, Vfs};

pub(crate) const READ: u32 = 4;
pub(crate) const WRITE: u32 = 2;
/// Of a directory: search.
pub(crate) const EXECUTE: u32 = 1;

/// Supplementary groups of one process.
pub const GROUPS_MAX: usize = 32;

/// As whom a process acts on files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
}

impl Credentials {
    pub fn is_root(&self) -> bool {
        self.uid == 0
    }

    pub fn in_group(&self, gid: u32) -> bool {
        self.gid == gid || self.groups.contains(&gid)
    }

    /// Are all bits of `want` granted by a file of these attributes?
    pub fn may(&self, want: u32, permissions: u32, uid: u32, gid: u32, directory: bool) -> bool {
        if self.is_root() {
            return want & EXECUTE == 0 || directory || permissions & 0o111 != 0;
        }
        let class = if self.uid == uid {
            permissions >> 6
        } else if self.in_group(gid) {
            permissions >> 3
        } else {
            permissions
        };
        class & want == want
    }
}

impl<H: Host> Vfs<H> {
    /// Makes sure that the node's attributes are known.
    pub(crate) fn know_attributes(&mut self, node: NodeId) -> Result<()> {
        if !self.tree.node(node).known {
            self.stat_of(node)?;
        }
        Ok(())
    }

    /// The server's attributes of a node, remembered.
    pub(crate) fn stat_of(&mut self, node: NodeId) -> Result<Stat> {
        let stat = self.on(node, |fs, ino| fs.attributes(ino))?;
        self.note(node, &stat);
        Ok(stat)
    }

    /// `Access` unless `who` may do all of `want` ([`READ`], [`WRITE`], [`EXECUTE`]).
    pub(crate) fn permit(&mut self, who: &Credentials, node: NodeId, want: u32) -> Result<()> {
        let directory = self.tree.node(node).kind == mode::DIRECTORY;
        if who.is_root() && (want & EXECUTE == 0 || directory) {
            return Ok(());
        }
        if self.mount_of(node).volatile() {
            self.stat_of(node)?;
        }
        self.know_attributes(node)?;
        let node = self.tree.node(node);
        match who.may(want, node.permissions, node.uid, node.gid, directory) {
            true => Ok(()),
            false => Err(Error::Access),
        }
    }

    /// `Perm` unless `who` owns the file.
    pub(crate) fn owner_only(&mut self, who: &Credentials, node: NodeId) -> Result<()> {
        if who.is_root() {
            return Ok(());
        }
        self.know_attributes(node)?;
        if self.tree.node(node).uid == who.uid { Ok(()) } else { Err(Error::Perm) }
    }

    /// May `who` take entry `child` out of `dir`? Besides write permission, in a directory with the
    /// sticky bit only the owner of either may (`Perm`).
    pub(crate) fn may_remove(
        &mut self,
        who: &Credentials,
        dir: NodeId,
        child: NodeId,
    ) -> Result<()> {
        self.permit(who, dir, WRITE | EXECUTE)?;
        if who.is_root() {
            return Ok(());
        }
        self.know_attributes(dir)?;
        let parent = self.tree.node(dir);
        if parent.permissions & mode::STICKY == 0 || parent.uid == who.uid {
            return Ok(());
        }
        self.owner_only(who, child)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes() {
        let user = Credentials { uid: 5, gid: 50, groups: Vec::from([51, 52]) };
        // The owner's bits count for the owner even if others may more.
        assert!(!user.may(READ, 0o077, 5, 50, false));
        assert!(user.may(READ | WRITE, 0o600, 5, 9, false));
        assert!(user.may(READ, 0o040, 6, 52, false) && !user.may(WRITE, 0o042, 6, 50, false));
        assert!(user.may(EXECUTE, 0o001, 6, 60, false) && !user.may(READ, 0o001, 6, 60, false));
        let root = Credentials::default();
        assert!(root.may(READ | WRITE, 0, 5, 5, false) && root.may(EXECUTE, 0, 5, 5, true));
        assert!(!root.may(EXECUTE, 0o666, 0, 0, false) && root.may(EXECUTE, 0o001, 5, 5, false));
    }
}
