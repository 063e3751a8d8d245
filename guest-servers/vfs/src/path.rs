//! Paths: from text to nodes.
//!
//! One loop over the components; a symbolic link's target is put before what is left. Mounts are
//! entered at the node they cover and left by `..` at their root. Each directory must let the caller
//! search it.

use alloc::sync::Arc;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{NAME_MAX, PATH_MAX, SYMLINK_MAX, mode};
use xinim_fs_kit::FileSystem;

use crate::access::{Credentials, EXECUTE};
use crate::tree::NodeId;
use crate::vfs::{Host, Vfs};

/// Where a path leads.
#[derive(Debug)]
pub(crate) struct Found {
    /// Directory of the last component.
    pub parent: NodeId,
    /// The last component; empty if the path ends in `/`-only, `.` or `..`.
    pub name: Vec<u8>,
    /// What is there, mounts entered; `None`: the name is free.
    pub node: Option<NodeId>,
    /// A slash stands behind the last component: it must be a directory.
    pub trailing: bool,
}

impl Found {
    pub fn node(&self) -> Result<NodeId> {
        self.node.ok_or(Error::NoEnt)
    }
}

impl<H: Host> Vfs<H> {
    /// Resolves `path` from `start` as `who`. `follow`: a last symbolic link is followed. What is
    /// found is kept until the operation ends.
    pub(crate) fn resolve(
        &mut self,
        who: &Credentials,
        start: NodeId,
        path: &[u8],
        follow: bool,
    ) -> Result<Found> {
        let found = self.walk(who, start, path, follow)?;
        self.keep(found.parent);
        if let Some(node) = found.node {
            self.keep(node);
        }
        Ok(found)
    }

    fn walk(
        &mut self,
        who: &Credentials,
        start: NodeId,
        path: &[u8],
        follow: bool,
    ) -> Result<Found> {
        if path.is_empty() {
            return Err(Error::NoEnt);
        }
        if path.len() >= PATH_MAX {
            return Err(Error::NameTooLong);
        }
        if path.contains(&0) {
            return Err(Error::Inval);
        }
        let mut rest = path.to_vec();
        let mut dir = if path[0] == b'/' { self.root() } else { start };
        let mut links = 0;
        let mut at = 0;
        let mut mount = self.tree.node(dir).mount;
        loop {
            at = skip_slashes(&rest, at);
            if core::mem::replace(&mut mount, self.tree.node(dir).mount) != mount {
                // Into another mount: who waits for the last one need not wait for this one too.
                self.keep(dir);
                self.leave_mounts();
            }
            if self.tree.node(dir).kind != mode::DIRECTORY {
                return Err(Error::NotDir);
            }
            if at == rest.len() {
                return Ok(Found {
                    parent: dir,
                    name: Vec::new(),
                    node: Some(dir),
                    trailing: true,
                });
            }
            let end = rest[at..].iter().position(|&b| b == b'/').map_or(rest.len(), |n| at + n);
            let name = &rest[at..end];
            let last = skip_slashes(&rest, end) == rest.len();
            let trailing = last && end < rest.len();
            match name {
                b"." => {
                    at = end;
                    continue;
                }
                b".." => {
                    if !who.is_root() {
                        self.permit(who, dir, EXECUTE)?;
                    }
                    dir = self.parent_of(dir);
                    at = end;
                    continue;
                }
                name if name.len() > NAME_MAX => return Err(Error::NameTooLong),
                _ => {}
            }
            if !who.is_root() {
                self.permit(who, dir, EXECUTE)?;
            }
            let child = match self.child(dir, name) {
                Ok(child) => child,
                Err(Error::NoEnt) if last => {
                    return Ok(Found { parent: dir, name: name.to_vec(), node: None, trailing });
                }
                Err(error) => return Err(error),
            };
            if self.tree.node(child).kind == mode::SYMLINK && (!last || follow || trailing) {
                links += 1;
                if links > SYMLINK_MAX {
                    return Err(Error::Loop);
                }
                let target = self.link_target(child)?;
                if target.len() + rest.len() - end > 2 * PATH_MAX {
                    return Err(Error::NameTooLong);
                }
                if target[0] == b'/' {
                    dir = self.root();
                }
                rest = [&target, &rest[end..]].concat();
                at = 0;
                continue;
            }
            if !self.later.is_empty() {
                self.keep(child);
                self.mount_now(child);
            }
            let node = self.cover(child);
            if last {
                if trailing && self.tree.node(node).kind != mode::DIRECTORY {
                    return Err(Error::NotDir);
                }
                return Ok(Found { parent: dir, name: name.to_vec(), node: Some(node), trailing });
            }
            dir = node;
            at = end;
        }
    }

    /// As [`Vfs::resolve`] from the working directory of a process.
    pub(crate) fn resolve_for(&mut self, pid: u32, path: &[u8], follow: bool) -> Result<Found> {
        let process = self.process(pid)?;
        let (start, who) = (process.cwd, process.who.clone());
        self.resolve(&who, start, path, follow)
    }

    /// Others may go to the mounts this operation owned, if it only looked so far.
    fn leave_mounts(&mut self) {
        if !self.is_committed() {
            self.give_up_mounts();
        }
    }

    /// The root of what is mounted on `node`, or `node` itself.
    fn cover(&self, mut node: NodeId) -> NodeId {
        while let Some(mount) = self.tree.node(node).covered_by {
            node = self.mount(mount).root;
        }
        node
    }

    /// The root as processes see it.
    pub(crate) fn root(&self) -> NodeId {
        self.cover(self.mount(self.root_mount).root)
    }

    /// `..`: through the root of a mount to the directory around it; at the top, itself.
    fn parent_of(&self, mut node: NodeId) -> NodeId {
        loop {
            let parent = self.tree.node(node).parent;
            if parent != node {
                // Something may be mounted on the parent only if we came from below the cover.
                return self.cover(parent);
            }
            match self.mount(self.tree.node(node).mount).covers {
                Some(covered) => node = covered,
                None => return self.cover(node),
            }
        }
    }

    /// The node `name` in directory `dir`, mounts not entered.
    pub(crate) fn child(&mut self, dir: NodeId, name: &[u8]) -> Result<NodeId> {
        if self.tree.node(dir).gone {
            return Err(Error::NoEnt);
        }
        let known = self.tree.child(dir, name);
        let mount = self.mount(self.tree.node(dir).mount);
        if let Some(child) = known
            && !mount.volatile_kind(self.tree.node(child).kind)
        {
            if self.tree.node(child).generation == mount.generation {
                return Ok(child);
            }
            self.keep(child);
            // The server was reincarnated: the number may be another now, or the file gone.
            return self.live_ino(child).map(|_| child).map_err(|error| match error {
                Error::Stale => Error::NoEnt,
                error => error,
            });
        }
        let stat = match self.on(dir, |fs, ino| fs.lookup(ino, name)) {
            Ok(stat) => stat,
            Err(error) => {
                if let (Some(child), Error::NoEnt) = (known, error) {
                    self.forget(child);
                }
                return Err(error);
            }
        };
        self.learn(dir, name, &stat)
    }

    /// Where a symbolic link leads; never empty.
    pub(crate) fn link_target(&mut self, node: NodeId) -> Result<Arc<[u8]>> {
        if let Some(target) = &self.tree.node(node).target {
            return Ok(target.clone());
        }
        let target: Arc<[u8]> = self.on(node, |fs, ino| fs.read_link(ino))?.into();
        if target.is_empty() {
            return Err(Error::NoEnt);
        }
        if !self.mount(self.tree.node(node).mount).volatile_kind(mode::SYMLINK) {
            self.tree.node_mut(node).target = Some(target.clone());
        }
        Ok(target)
    }

    /// The path of a node from the root. `NoEnt` if its name or a parent's is gone.
    pub(crate) fn path_of(&self, mut id: NodeId) -> Result<Vec<u8>> {
        let mut parts: Vec<&[u8]> = Vec::new();
        loop {
            let node = self.tree.node(id);
            if node.gone {
                return Err(Error::NoEnt);
            }
            if node.parent != id {
                parts.push(&node.name);
                id = node.parent;
                continue;
            }
            match self.mount(node.mount).covers {
                Some(covered) => id = covered,
                None if node.mount == self.root_mount => break,
                None => return Err(Error::NoEnt),
            }
        }
        if parts.is_empty() {
            return Ok(b"/".to_vec());
        }
        let mut path = Vec::new();
        for part in parts.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(part);
        }
        Ok(path)
    }
}

fn skip_slashes(path: &[u8], at: usize) -> usize {
    at + path[at..].iter().take_while(|&&byte| byte == b'/').count()
}
