//! Account of the file system in a journal that outlives the server, and a server that goes on from it.
//!
//! ```text
//! HEAD            filled from the bundle or not, bytes of it
//! INODE | number  type, permissions, owner, links, times; a file's size and what it has of the bundle
//! NAME  | order   directory, name, inode
//! PAGE  | page    inode, page of the file
//! ```
//! Each operation is one commit, before it is answered. Bytes are written into their pages before that: a
//! write that was cut off is written again, as its request is. What is read back must fit together,
//! every name, page and link count, or the server begins anew.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt::Debug;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::NAME_MAX;
use xinim_fs_kit::{Ino, check_name};
use xinim_keep::codec::{Reader, Writer};
use xinim_keep::{Area, Journal};

use crate::file::{Content, PAGE};
use crate::inode::{Directory, Entry, Inode, Node, Table};
use crate::ramfs::{Bundle, INODE_COST, NAME_COST, ROOT, RamFs, Settings};
use crate::store::{Chunks, Store};

const HEAD: u64 = 1 << 56;
const INODE: u64 = 2 << 56;
const NAME: u64 = 3 << 56;
const PAGES: u64 = 4 << 56;
/// What is left of such a key.
const NUMBER: u64 = (1 << 56) - 1;
/// Room in the journal that one operation may need: a window full of pages, a few names.
const RESERVE: usize = 64 << 10;

/// Memory for the journal.
pub trait KeptMemory: Area + Debug + Send + Sync {}

impl<T: Area + Debug + Send + Sync> KeptMemory for T {}

/// See the module's head.
#[derive(Debug)]
pub struct Account(Journal<Box<dyn KeptMemory>>);

impl Account {
    /// What is in the memory; a journal that is damaged counts as none, `false`.
    pub fn open(memory: Box<dyn KeptMemory>) -> Result<(Self, bool)> {
        let (journal, found) = Journal::open(memory)?;
        Ok((Self(journal), found != xinim_keep::Found::Garbage))
    }

    fn range(&self, kind: u64) -> impl Iterator<Item = (u64, &[u8])> {
        self.0.range(kind..=kind | NUMBER).map(|(key, record)| (key & NUMBER, record))
    }
}

impl<'a> RamFs<'a> {
    /// A file system that goes on where the last instance was, if there was one. The error: its account
    /// makes no sense, and the file system is new.
    pub fn kept(
        bundle: Option<Bundle<'a>>,
        settings: Settings,
        mut account: Account,
        chunks: Box<dyn Chunks>,
    ) -> (Self, Result<()>) {
        let fresh = |chunks| Self { bundle, store: Store::new(chunks), ..Self::new(settings) };
        let mut fs = fresh(chunks);
        let Some(head) = account.0.get(HEAD).map(<[u8]>::to_vec) else {
            fs.account = Some(account);
            return (fs, Ok(()));
        };
        let result = fs.restore(&head, &account);
        if result.is_err() {
            // Chunks that may be half full of something stay open: they are taken page by page.
            let _ = account.0.clear();
            fs = fresh(fs.store.into_chunks());
        }
        fs.restored = result.is_ok();
        fs.account = Some(account);
        (fs, result)
    }

    fn restore(&mut self, head: &[u8], account: &Account) -> Result<()> {
        let mut reader = Reader::new(head);
        let filled = reader.bool()?;
        self.bundle_bytes = reader.u64()?;
        reader.end()?;
        let base = match self.bundle.filter(|_| filled) {
            Some(bundle) => {
                (self.memory, self.bundle) = (Some(bundle.memory), None);
                bundle.bytes
            }
            None if filled => return Err(Error::BadMessage),
            None => &[],
        };
        let mut inodes = BTreeMap::new();
        for (ino, record) in account.range(INODE) {
            inodes.insert(ino, inode(record, base)?);
        }
        let root = inodes.remove(&ROOT).ok_or(Error::BadMessage)?;
        self.table = Table::new(root);
        for (ino, inode) in inodes {
            self.budget.take(INODE_COST)?;
            if !self.table.adopt(ino, inode) {
                return Err(Error::BadMessage);
            }
        }
        for (order, record) in account.range(NAME) {
            self.budget.take(NAME_COST)?;
            self.table.adopt_name(order, entry(record)?)?;
        }
        self.check_names()?;
        for (page, record) in account.range(PAGES) {
            let page = u32::try_from(page).map_err(|_| Error::BadMessage)?;
            let (ino, at) = owner(record)?;
            self.budget.take(PAGE as u64)?;
            self.store.adopt(page)?;
            let content = self.table.file_mut(ino).map_err(|_| Error::BadMessage)?;
            if !content.adopt(at, page) {
                return Err(Error::BadMessage);
            }
        }
        // Files that were open without a name stay until the mount says who is still held.
        self.table.take_changes();
        Ok(())
    }

    /// Each inode has as many names as it says, each directory one that its parent has, and all of them
    /// hang on the root.
    fn check_names(&self) -> Result<()> {
        let (mut names, mut below): (BTreeMap<Ino, u32>, BTreeMap<Ino, Vec<Ino>>) =
            Default::default();
        for (dir, inode) in self.table.iter() {
            let Node::Directory(directory) = &inode.node else { continue };
            for (_, _, ino) in directory.behind(0) {
                *names.entry(ino).or_default() += 1;
                if let Node::Directory(child) = &self.table.get(ino)?.node {
                    if child.parent != dir {
                        return Err(Error::BadMessage);
                    }
                    below.entry(dir).or_default().push(ino);
                }
            }
        }
        // The root has no name, and says one.
        let named = |ino: Ino| names.get(&ino).copied().unwrap_or(0) + u32::from(ino == ROOT);
        let directories = |inode: &Inode<'_>| matches!(inode.node, Node::Directory(_));
        let mut reached = 0;
        let mut queue = Vec::from([ROOT]);
        while let Some(dir) = queue.pop() {
            reached += 1;
            queue.extend(below.remove(&dir).unwrap_or_default());
        }
        let all = self.table.iter().filter(|(_, inode)| directories(inode) && inode.links > 0);
        let sound = self.table.iter().all(|(ino, inode)| {
            named(ino) == inode.links && (!directories(inode) || inode.links <= 1)
        });
        if sound && all.count() == reached { Ok(()) } else { Err(Error::BadMessage) }
    }

    /// Keeps account of what an operation has changed, whether it came to its end or not.
    pub(crate) fn settle<T>(&mut self, result: Result<T>) -> Result<T> {
        let (changes, pages) = (self.table.take_changes(), self.store.take_changes());
        if let Some(Account(journal)) = &mut self.account {
            let head = Writer::new().bool(self.memory.is_some()).u64(self.bundle_bytes);
            journal.put(HEAD, &head.done());
            for ino in changes.inodes {
                match self.table.get(ino) {
                    Ok(inode) => journal.put(INODE | ino, &inode_record(inode)),
                    Err(_) => journal.remove(INODE | ino),
                }
            }
            for (order, entry) in changes.names {
                match entry {
                    Some((dir, name, ino)) => {
                        let record = Writer::new().u64(dir).u64(ino).bytes(&name).done();
                        journal.put(NAME | order, &record);
                    }
                    None => journal.remove(NAME | order),
                }
            }
            for (page, owner) in pages {
                let key = PAGES | u64::from(page);
                match owner {
                    Some((ino, at)) => journal.put(key, &Writer::new().u64(ino).u64(at).done()),
                    None => journal.remove(key),
                }
            }
            // Where the memory itself fails, the next instance begins anew.
            if journal.commit().is_err() {
                self.account = None;
            } else {
                self.budget.full = journal.room() < RESERVE;
            }
        }
        self.store.give_up_empty();
        result
    }
}

/// Types of nodes in records.
const FILE: u8 = 0;
const DIRECTORY: u8 = 1;
const SYMLINK: u8 = 2;
const SPECIAL: u8 = 3;

fn inode_record(inode: &Inode<'_>) -> Vec<u8> {
    let Inode { mode, links, uid, gid, atime, mtime, ctime, .. } = *inode;
    let kind = match inode.node {
        Node::File(_) => FILE,
        Node::Directory(_) => DIRECTORY,
        Node::Symlink(_) => SYMLINK,
        Node::Special { .. } => SPECIAL,
    };
    let writer = Writer::new().u8(kind).u32(mode).u32(links).u32(uid).u32(gid);
    let writer = writer.u64(atime).u64(mtime).u64(ctime);
    match &inode.node {
        Node::File(content) => {
            let (offset, len) = (content.base_offset as u64, content.base.len() as u64);
            writer.u64(offset).u64(len).u64(content.size()).bool(content.changed)
        }
        Node::Directory(directory) => writer.u64(directory.parent),
        Node::Symlink(target) => writer.bytes(target),
        Node::Special { kind, rdev } => writer.u32(*kind).u32(*rdev),
    }
    .done()
}

/// An inode of an earlier instance; `bundle`: where its bytes may be.
fn inode<'a>(record: &[u8], bundle: &'a [u8]) -> Result<Inode<'a>> {
    let mut reader = Reader::new(record);
    let kind = reader.u8()?;
    let (mode, links, uid, gid) = (reader.u32()?, reader.u32()?, reader.u32()?, reader.u32()?);
    let (atime, mtime, ctime) = (reader.u64()?, reader.u64()?, reader.u64()?);
    let node = match kind {
        FILE => {
            let (offset, len) = (reader.u64()? as usize, reader.u64()? as usize);
            let end = offset.checked_add(len).ok_or(Error::BadMessage)?;
            let base = bundle.get(offset..end).ok_or(Error::BadMessage)?;
            let content = Content::restored(base, offset, reader.u64()?, reader.bool()?);
            Node::File(content.ok_or(Error::BadMessage)?)
        }
        DIRECTORY => Node::Directory(Directory::new(reader.u64()?)),
        SYMLINK => Node::Symlink(reader.bytes()?.to_vec()),
        SPECIAL => Node::Special { kind: reader.u32()?, rdev: reader.u32()? },
        _ => return Err(Error::BadMessage),
    };
    reader.end()?;
    Ok(Inode { node, mode, links, holds: 0, uid, gid, atime, mtime, ctime })
}

fn entry(record: &[u8]) -> Result<Entry> {
    let mut reader = Reader::new(record);
    let (dir, ino, name) = (reader.u64()?, reader.u64()?, reader.bytes()?);
    reader.end()?;
    if name.len() > NAME_MAX || check_name(name).is_err() {
        return Err(Error::BadMessage);
    }
    Ok((dir, name.to_vec(), ino))
}

fn owner(record: &[u8]) -> Result<(Ino, u64)> {
    let mut reader = Reader::new(record);
    let owner = (reader.u64()?, reader.u64()?);
    reader.end()?;
    Ok(owner)
}
