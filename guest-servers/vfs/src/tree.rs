//! Nodes: the part of each file system's name tree that VFS knows.
//!
//! ```text
//! looked up ──> attached (in its parent's `children`) ──unlinked or replaced──> detached ("gone")
//!                 │ unpinned, no children: may be forgotten at any time            │ last pin
//!                 v                                                                v
//!               freed                                                            freed, released
//! ```
//! *Keeps* count operations under way that go on using the number. *Pins* count open files, working directories and file systems mounted on the node. A node whose
//! *generation* is not its mount's carries an inode number of a server that has died.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{Stat, mode};
use xinim_fs_kit::Ino;

use crate::losses::Losses;
use crate::mounts::MountId;
use crate::slab::Slab;

pub(crate) type NodeId = u32;

/// A generation no server has: the number must be looked up again.
pub(crate) const NEVER: u32 = u32::MAX;
/// Nodes remembered; beyond it, those not in use are forgotten.
const REMEMBERED: usize = 4096;
/// Beyond it, those too whose changes are not known to be durable.
const REMEMBERED_AT_MOST: usize = 4 * REMEMBERED;

#[derive(Debug)]
pub(crate) struct Node {
    pub mount: MountId,
    pub ino: Ino,
    /// Type bits of the mode.
    pub kind: u32,
    /// Itself for the root of a mount.
    pub parent: NodeId,
    pub name: Box<[u8]>,
    pub generation: u32,
    pub pins: u32,
    /// Operations under way that go on using this number.
    pub keeps: u32,
    /// Permissions and owners, if `known`.
    pub permissions: u32,
    pub uid: u32,
    pub gid: u32,
    pub known: bool,
    /// The next read sets the access time: it is not later than the last change ("relatime").
    pub read_counts: bool,
    /// The server was told to hold `ino`.
    pub held: bool,
    /// Unlinked or replaced: reachable through its pins only.
    pub gone: bool,
    pub covered_by: Option<MountId>,
    /// Where a symbolic link leads; it never changes.
    pub target: Option<Arc<[u8]>>,
    /// For a character device: whether another server serves it, once known.
    pub elsewhere: Option<bool>,
    /// Changed since it was last made durable, as far as VFS knows.
    pub unsaved: bool,
    /// What servers that died took of it.
    pub losses: Losses,
    children: BTreeMap<Box<[u8]>, NodeId>,
    /// Nodes whose parent this is, detached ones too.
    child_count: u32,
    /// Used since the last sweep.
    recent: bool,
}

#[derive(Debug)]
pub(crate) struct Tree {
    nodes: Slab<Node>,
}

impl Tree {
    pub fn new() -> Self {
        Self { nodes: Slab::new() }
    }

    /// The root node of a mount.
    pub fn add_root(&mut self, mount: MountId, ino: Ino) -> NodeId {
        let id = self.nodes.insert(Node::new(mount, ino, mode::DIRECTORY, 0, b""));
        self.node_mut(id).parent = id;
        id
    }

    pub fn add_child(
        &mut self,
        parent: NodeId,
        name: &[u8],
        ino: Ino,
        kind: u32,
        generation: u32,
    ) -> NodeId {
        let mut node = Node::new(self.node(parent).mount, ino, kind, parent, name);
        node.generation = generation;
        let id = self.nodes.insert(node);
        let parent = self.node_mut(parent);
        parent.child_count += 1;
        parent.children.insert(name.into(), id);
        id
    }

    /// Ids come from the tree itself and are pinned or fresh: they are always valid.
    pub fn node(&self, id: NodeId) -> &Node {
        self.nodes.get(id).expect("a node id outlived its node")
    }

    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(id).expect("a node id outlived its node")
    }

    /// `None`: there is no such node (in a record that makes no sense).
    pub fn get(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(id)
    }

    /// Nodes that were made, freed or may have changed.
    pub fn take_touched(&mut self) -> Vec<NodeId> {
        self.nodes.take_touched()
    }

    /// Puts back a node that another instance of VFS knew; [`Tree::mend`] follows.
    pub fn put_back(&mut self, id: NodeId, node: Node) -> bool {
        self.nodes.insert_at(id, node)
    }

    /// After [`Tree::put_back`]: children and their counts follow from the parents. `BadMessage`:
    /// a parent is not there, is no directory or of another mount, two children have one name, or
    /// parents go in a circle.
    pub fn mend(&mut self) -> Result<()> {
        self.nodes.mend();
        let ids: Vec<NodeId> = self.nodes.iter().map(|(id, _)| id).collect();
        for &id in &ids {
            let node = self.node(id);
            let (mount, parent, gone, name) =
                (node.mount, node.parent, node.gone, node.name.clone());
            if parent == id {
                continue;
            }
            let above = self.nodes.get_mut(parent).ok_or(Error::BadMessage)?;
            if above.mount != mount || above.kind != mode::DIRECTORY {
                return Err(Error::BadMessage);
            }
            above.child_count += 1;
            if !gone && above.children.insert(name, id).is_some() {
                return Err(Error::BadMessage);
            }
        }
        for &id in &ids {
            let (mut at, mut steps) = (id, 0);
            while self.node(at).parent != at {
                at = self.node(at).parent;
                steps += 1;
                if steps > ids.len() {
                    return Err(Error::BadMessage);
                }
            }
        }
        Ok(())
    }

    /// Forgets everything that nobody uses and nothing is to be told of.
    pub fn forget_unused(&mut self) {
        for id in 0..self.nodes.end() {
            if self.nodes.get(id).is_some_and(|node| node.gone || !node.losses.untold()) {
                self.free(id);
            }
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.nodes.iter()
    }

    pub fn child(&mut self, parent: NodeId, name: &[u8]) -> Option<NodeId> {
        let id = *self.node(parent).children.get(name)?;
        if !self.node(id).recent {
            self.node_mut(id).recent = true;
        }
        Some(id)
    }

    /// Attached children that carry this inode number (hard links; names that differ in case).
    pub fn aliases(&self, parent: NodeId, ino: Ino) -> Vec<NodeId> {
        let children = self.node(parent).children.values();
        children.copied().filter(|&id| self.node(id).ino == ino).collect()
    }

    /// Takes a node out of its parent: its name is gone or means something else now.
    pub fn detach(&mut self, id: NodeId) {
        let node = self.node_mut(id);
        if node.gone || node.parent == id {
            return;
        }
        node.gone = true;
        let (parent, name) = (node.parent, node.name.clone());
        self.node_mut(parent).children.remove(&name);
    }

    /// Gives an attached node another name. What had that name must be detached already.
    pub fn rename(&mut self, id: NodeId, parent: NodeId, name: &[u8]) {
        let node = self.node_mut(id);
        let (old_parent, old_name) = (node.parent, core::mem::replace(&mut node.name, name.into()));
        node.parent = parent;
        let old = self.node_mut(old_parent);
        old.children.remove(&old_name);
        old.child_count -= 1;
        let new = self.node_mut(parent);
        new.child_count += 1;
        new.children.insert(name.into(), id);
    }

    /// True if `id` is `ancestor` or below it in the same mount.
    pub fn is_below(&self, mut id: NodeId, ancestor: NodeId) -> bool {
        loop {
            if id == ancestor {
                return true;
            }
            let parent = self.node(id).parent;
            if parent == id {
                return false;
            }
            id = parent;
        }
    }

    /// Frees a node that nobody needs, with its parents if that was all they were kept for.
    /// False if it is needed.
    pub fn free(&mut self, id: NodeId) -> bool {
        let mut id = id;
        let mut freed = false;
        loop {
            let node = self.node(id);
            let used = node.pins > 0
                || node.keeps > 0
                || node.child_count > 0
                || node.covered_by.is_some();
            // Held nodes are released first; see `Vfs::unpin`.
            if used || node.held || node.parent == id {
                return freed;
            }
            self.detach(id);
            let parent = self.node(id).parent;
            self.nodes.remove(id);
            freed = true;
            let above = self.node_mut(parent);
            above.child_count -= 1;
            if !above.gone {
                return freed;
            }
            id = parent;
        }
    }

    /// Frees all nodes of a mount that is no more. None of them may be pinned.
    pub fn remove_mount(&mut self, mount: MountId) {
        for id in 0..self.nodes.end() {
            if self.nodes.get(id).is_some_and(|node| node.mount == mount) {
                self.nodes.remove(id);
            }
        }
    }

    /// True if a node of the mount is pinned, kept or covered.
    pub fn in_use(&self, mount: MountId) -> bool {
        let mut nodes = self.nodes.iter().filter(|(_, node)| node.mount == mount);
        nodes.any(|(_, node)| node.pins > 0 || node.keeps > 0 || node.covered_by.is_some())
    }

    /// Nodes of a mount.
    pub fn of_mount(&mut self, mount: MountId) -> impl Iterator<Item = &mut Node> {
        self.nodes.iter_mut().map(|(_, node)| node).filter(move |node| node.mount == mount)
    }

    /// Forgets nodes not used since the last sweep, when there are too many. What is to be told of
    /// a file goes with it only when there are far too many.
    pub fn trim(&mut self) {
        if self.nodes.len() <= REMEMBERED {
            return;
        }
        let pressed = self.nodes.len() > REMEMBERED_AT_MOST;
        for id in 0..self.nodes.end() {
            match self.nodes.get_mut(id) {
                Some(node) if node.recent => node.recent = false,
                Some(node) if !pressed && (node.unsaved || node.losses.untold()) => {}
                Some(_) => drop(self.free(id)),
                None => {}
            }
        }
    }
}

impl Node {
    /// Remembers attributes the server told.
    pub fn note(&mut self, stat: &Stat) {
        self.permissions = stat.mode & mode::PERMISSIONS;
        (self.uid, self.gid) = (stat.uid, stat.gid);
        self.known = true;
        self.read_counts = stat.atime <= stat.mtime.max(stat.ctime);
    }

    pub fn new(mount: MountId, ino: Ino, kind: u32, parent: NodeId, name: &[u8]) -> Self {
        Self {
            mount,
            ino,
            kind,
            parent,
            name: name.into(),
            generation: 0,
            pins: 0,
            keeps: 0,
            permissions: 0,
            uid: 0,
            gid: 0,
            known: false,
            read_counts: false,
            held: false,
            gone: false,
            covered_by: None,
            target: None,
            elsewhere: None,
            unsaved: false,
            losses: Losses::default(),
            children: BTreeMap::new(),
            child_count: 0,
            recent: true,
        }
    }
}
