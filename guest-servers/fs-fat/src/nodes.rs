//! Inode numbers: places in the tree, by parent and name.
//!
//! Numbers count up and are never reused. Names compare as FAT does, without case. Nodes that VFS
//! does not hold are forgotten, oldest first, when there are many.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_fs_kit::Ino;

pub const ROOT: Ino = 1;
/// Nodes kept before the table is thinned out.
const MANY: usize = 16 * 1024;

#[derive(Clone, Debug)]
pub struct Node {
    pub parent: Ino,
    pub name: String,
    pub directory: bool,
    pub holds: u32,
    /// Removed while held; lives under a hidden name in the root.
    pub orphan: bool,
    /// Its entry has been checked.
    pub sound: bool,
    used: u64,
}

#[derive(Debug)]
pub struct Nodes {
    by_ino: BTreeMap<Ino, Node>,
    by_place: BTreeMap<(Ino, String), Ino>,
    next: Ino,
    clock: u64,
}

fn key(parent: Ino, name: &str) -> (Ino, String) {
    (parent, name.to_lowercase())
}

impl Nodes {
    pub fn new() -> Self {
        let root = Node {
            parent: ROOT,
            name: String::new(),
            directory: true,
            holds: 0,
            orphan: false,
            sound: true,
            used: 0,
        };
        Self {
            by_ino: BTreeMap::from([(ROOT, root)]),
            by_place: BTreeMap::new(),
            next: ROOT + 1,
            clock: 0,
        }
    }

    pub fn get(&self, ino: Ino) -> Result<&Node> {
        self.by_ino.get(&ino).ok_or(Error::Stale)
    }

    pub fn get_mut(&mut self, ino: Ino) -> Result<&mut Node> {
        self.by_ino.get_mut(&ino).ok_or(Error::Stale)
    }

    /// The node of a directory; `NotDir` for anything else.
    pub fn directory(&self, ino: Ino) -> Result<&Node> {
        let node = self.get(ino)?;
        if node.directory { Ok(node) } else { Err(Error::NotDir) }
    }

    /// Whether what stands at a place was found sound when it was looked up.
    pub fn is_sound(&self, parent: Ino, name: &str) -> bool {
        let ino = self.by_place.get(&key(parent, name));
        ino.and_then(|ino| self.by_ino.get(ino)).is_some_and(|node| node.sound)
    }

    /// The number of what stands at a place, a new one if it was never seen.
    pub fn intern(&mut self, parent: Ino, name: &str, directory: bool) -> Ino {
        self.clock += 1;
        let used = self.clock;
        if let Some(&ino) = self.by_place.get(&key(parent, name))
            && let Some(node) = self.by_ino.get_mut(&ino)
        {
            node.used = used;
            node.directory = directory;
            return ino;
        }
        if self.by_ino.len() > MANY {
            self.thin_out(parent);
        }
        let ino = self.next;
        self.next += 1;
        let node = Node {
            parent,
            name: name.into(),
            directory,
            holds: 0,
            orphan: false,
            sound: false,
            used,
        };
        self.by_ino.insert(ino, node);
        self.by_place.insert(key(parent, name), ino);
        ino
    }

    /// A file without a name that the instance before held, under the same number.
    pub fn hold_again(&mut self, ino: Ino, name: &str) {
        let used = self.clock;
        let node = self.by_ino.entry(ino).or_insert_with(|| Node {
            parent: ROOT,
            name: name.into(),
            directory: false,
            holds: 0,
            orphan: true,
            sound: false,
            used,
        });
        node.holds += 1;
        self.by_place.insert(key(ROOT, name), ino);
        self.next = self.next.max(ino.saturating_add(1));
    }

    /// Whether somebody holds what stands at a place.
    pub fn is_held(&self, parent: Ino, name: &str) -> bool {
        let ino = self.by_place.get(&key(parent, name));
        ino.and_then(|ino| self.by_ino.get(ino)).is_some_and(|node| node.holds > 0)
    }

    /// Nobody holds anything any more.
    pub fn release_all(&mut self) {
        self.by_ino.values_mut().for_each(|node| node.holds = 0);
    }

    /// Names from the root down to `ino`.
    pub fn path(&self, mut ino: Ino) -> Result<Vec<&str>> {
        let mut names = Vec::new();
        while ino != ROOT {
            let node = self.get(ino)?;
            names.push(node.name.as_str());
            ino = node.parent;
        }
        names.reverse();
        Ok(names)
    }

    /// Is `ino` `above` or somewhere below it?
    pub fn is_below(&self, mut ino: Ino, above: Ino) -> bool {
        loop {
            if ino == above {
                return true;
            }
            match self.by_ino.get(&ino) {
                Some(node) if ino != ROOT => ino = node.parent,
                _ => return false,
            }
        }
    }

    /// The file now stands elsewhere.
    pub fn moved(&mut self, ino: Ino, parent: Ino, name: &str) {
        let Some(node) = self.by_ino.get_mut(&ino) else { return };
        self.by_place.remove(&key(node.parent, &node.name));
        (node.parent, node.name) = (parent, name.into());
        self.by_place.insert(key(parent, name), ino);
    }

    /// The file is gone.
    pub fn forget(&mut self, ino: Ino) {
        if let Some(node) = self.by_ino.remove(&ino) {
            self.by_place.remove(&key(node.parent, &node.name));
        }
    }

    /// Drops the older half of what nobody holds and nothing stands below.
    fn thin_out(&mut self, keep: Ino) {
        let mut parents: Vec<Ino> = self.by_ino.values().map(|node| node.parent).collect();
        parents.sort_unstable();
        let limit = self.clock.saturating_sub(MANY as u64 / 2);
        let idle = self.by_ino.iter().filter(|&(ino, node)| {
            node.holds == 0
                && node.used < limit
                && *ino != ROOT
                && *ino != keep
                && parents.binary_search(ino).is_err()
        });
        let idle: Vec<Ino> = idle.map(|(&ino, _)| ino).collect();
        for ino in idle {
            self.forget(ino);
        }
    }
}
