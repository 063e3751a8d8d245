//! The inode table. Numbers are never given out twice while the server lives, so a stale number is
//! recognised. It notes what changes, for who keeps account of it.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::mode;
use xinim_fs_kit::Ino;

use crate::file::Content;

#[derive(Debug)]
pub(crate) enum Node<'a> {
    File(Content<'a>),
    Directory(Directory),
    Symlink(Vec<u8>),
    /// FIFO, socket or device: type bits of the mode, device number.
    Special {
        kind: u32,
        rdev: u32,
    },
}

/// Entries by name, and by the order they were made in (counted over all directories): the position a
/// reader stands at is that order, so that it stays right when entries come and go.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub parent: Ino,
    by_name: BTreeMap<Vec<u8>, (u64, Ino)>,
    by_order: BTreeMap<u64, Vec<u8>>,
}

/// Orders up to here are `.` and `..`.
const FIRST_ORDER: u64 = 2;

impl Directory {
    pub fn new(parent: Ino) -> Self {
        Self { parent, ..Self::default() }
    }

    pub fn get(&self, name: &[u8]) -> Option<Ino> {
        self.by_name.get(name).map(|entry| entry.1)
    }

    fn insert(&mut self, name: &[u8], ino: Ino, order: u64) {
        self.by_order.insert(order, name.to_vec());
        self.by_name.insert(name.to_vec(), (order, ino));
    }

    /// Its order.
    fn remove(&mut self, name: &[u8]) -> Option<u64> {
        let (order, _) = self.by_name.remove(name)?;
        self.by_order.remove(&order);
        Some(order)
    }

    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Entries made after position `order`, oldest first.
    pub fn behind(&self, order: u64) -> impl Iterator<Item = (u64, &[u8], Ino)> {
        let start = order.saturating_add(1).max(FIRST_ORDER);
        self.by_order
            .range(start..)
            .filter_map(|(&order, name)| Some((order, name.as_slice(), self.by_name.get(name)?.1)))
    }
}

#[derive(Debug)]
pub(crate) struct Inode<'a> {
    pub node: Node<'a>,
    /// Permission bits.
    pub mode: u32,
    /// Names that lead here (a directory's `.` and `..` not counted).
    pub links: u32,
    /// How often VFS holds it.
    pub holds: u32,
    pub uid: u32,
    pub gid: u32,
    pub atime: u64,
    pub mtime: u64,
    pub ctime: u64,
}

impl<'a> Inode<'a> {
    /// With one name, of root's.
    pub fn new(node: Node<'a>, mode: u32, now: u64) -> Self {
        let (uid, gid) = (0, 0);
        Self { node, mode, links: 1, holds: 0, uid, gid, atime: now, mtime: now, ctime: now }
    }
}

impl Inode<'_> {
    pub fn kind(&self) -> u32 {
        match self.node {
            Node::File(_) => mode::REGULAR,
            Node::Directory(_) => mode::DIRECTORY,
            Node::Symlink(_) => mode::SYMLINK,
            Node::Special { kind, .. } => kind,
        }
    }
}

/// A name: directory, name, what it leads to.
pub(crate) type Entry = (Ino, Vec<u8>, Ino);

/// Since it was asked for last.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    /// Inodes that were made, may have changed, or are no more.
    pub inodes: BTreeSet<Ino>,
    /// Names by their order; `None`: gone.
    pub names: BTreeMap<u64, Option<Entry>>,
}

#[derive(Debug)]
pub(crate) struct Table<'a> {
    inodes: BTreeMap<Ino, Inode<'a>>,
    next: Ino,
    next_order: u64,
    changes: Changes,
}

impl<'a> Table<'a> {
    pub fn new(root: Inode<'a>) -> Self {
        let mut table = Self {
            inodes: BTreeMap::new(),
            next: crate::ramfs::ROOT,
            next_order: FIRST_ORDER,
            changes: Changes::default(),
        };
        table.insert(root);
        table
    }

    pub fn insert(&mut self, inode: Inode<'a>) -> Ino {
        let ino = self.next;
        self.next += 1;
        self.inodes.insert(ino, inode);
        self.changes.inodes.insert(ino);
        ino
    }

    pub fn remove(&mut self, ino: Ino) -> Option<Inode<'a>> {
        self.changes.inodes.insert(ino);
        self.inodes.remove(&ino)
    }

    pub fn take_changes(&mut self) -> Changes {
        core::mem::take(&mut self.changes)
    }

    /// An inode of an earlier instance. False: there is one of this number.
    pub fn adopt(&mut self, ino: Ino, inode: Inode<'a>) -> bool {
        self.next = self.next.max(ino + 1);
        self.inodes.insert(ino, inode).is_none()
    }

    /// A name of an earlier instance. `BadMessage`: it cannot have been.
    pub fn adopt_name(&mut self, order: u64, (dir, name, ino): Entry) -> Result<()> {
        self.get(ino).map_err(|_| Error::BadMessage)?;
        self.next_order = self.next_order.max(order);
        let bad = |_| Error::BadMessage;
        let Node::Directory(directory) = &mut self.get_mut(dir).map_err(bad)?.node else {
            return Err(Error::BadMessage);
        };
        if order <= FIRST_ORDER || directory.get(&name).is_some() {
            return Err(Error::BadMessage);
        }
        directory.insert(&name, ino, order);
        Ok(())
    }

    pub fn iter(&self) -> impl Iterator<Item = (Ino, &Inode<'a>)> {
        self.inodes.iter().map(|(&ino, inode)| (ino, inode))
    }

    /// A name in a directory, in the place of one that is there.
    pub fn add_entry(&mut self, dir: Ino, name: &[u8], ino: Ino) -> Result<()> {
        self.remove_entry(dir, name)?;
        self.next_order += 1;
        let order = self.next_order;
        self.directory_mut(dir)?.insert(name, ino, order);
        self.changes.names.insert(order, Some((dir, name.to_vec(), ino)));
        Ok(())
    }

    pub fn remove_entry(&mut self, dir: Ino, name: &[u8]) -> Result<()> {
        if let Some(order) = self.directory_mut(dir)?.remove(name) {
            self.changes.names.insert(order, None);
        }
        Ok(())
    }

    pub fn len(&self) -> usize {
        self.inodes.len()
    }

    /// Forgets all holds; answers the inodes that had some.
    pub fn release_all(&mut self) -> Vec<Ino> {
        let held = self.inodes.iter_mut().filter(|(_, inode)| inode.holds > 0);
        held.map(|(&ino, inode)| {
            inode.holds = 0;
            ino
        })
        .collect()
    }

    /// `Stale` for a number that is not in use.
    pub fn get(&self, ino: Ino) -> Result<&Inode<'a>> {
        self.inodes.get(&ino).ok_or(Error::Stale)
    }

    pub fn get_mut(&mut self, ino: Ino) -> Result<&mut Inode<'a>> {
        let inode = self.inodes.get_mut(&ino).ok_or(Error::Stale)?;
        self.changes.inodes.insert(ino);
        Ok(inode)
    }

    pub fn directory(&self, ino: Ino) -> Result<&Directory> {
        match &self.get(ino)?.node {
            Node::Directory(directory) => Ok(directory),
            _ => Err(Error::NotDir),
        }
    }

    pub fn directory_mut(&mut self, ino: Ino) -> Result<&mut Directory> {
        match &mut self.get_mut(ino)?.node {
            Node::Directory(directory) => Ok(directory),
            _ => Err(Error::NotDir),
        }
    }

    pub fn file(&self, ino: Ino) -> Result<&Content<'a>> {
        match &self.get(ino)?.node {
            Node::File(content) => Ok(content),
            Node::Directory(_) => Err(Error::IsDir),
            Node::Symlink(_) | Node::Special { .. } => Err(Error::Inval),
        }
    }

    pub fn file_mut(&mut self, ino: Ino) -> Result<&mut Content<'a>> {
        self.file(ino)?;
        match &mut self.get_mut(ino)?.node {
            Node::File(content) => Ok(content),
            _ => Err(Error::Inval),
        }
    }
}
