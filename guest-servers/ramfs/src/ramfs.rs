//! The operations: [`FileSystem`] over the inode table.

use alloc::boxed::Box;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::object::{Handle, PAGE_SIZE};
use xinim_abi::services::fs::mounted;
use xinim_abi::services::vfs::{self, NAME_MAX, Stat, StatFs, mode};
use xinim_fs_kit::{
    DirBuffer, FileSystem, Ino, Map, MountInfo, NewFile, SetAttributes, Sink, check_name,
};

use crate::file::{Budget, Content, PAGE};
use crate::inode::{Directory, Inode, Node, Table};
use crate::kept::Account;
use crate::store::{OwnChunks, Store};

pub(crate) const ROOT: Ino = 1;
/// What an inode and a name are reckoned to cost, beside the data.
pub(crate) const INODE_COST: u64 = 256;
pub(crate) const NAME_COST: u64 = 128;
pub(crate) const PERMISSIONS: u32 = 0o7777;
/// Mounted with this source, the contents are the system bundle's.
pub const BUNDLE_SOURCE: &str = "bundle";

/// The system bundle and the memory object it lies in.
#[derive(Clone, Copy, Debug)]
pub struct Bundle<'a> {
    pub bytes: &'a [u8],
    pub memory: Handle,
}

#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Bytes of memory it may take for what is written and made.
    pub memory_limit: u64,
    /// Nanoseconds since 1970.
    pub clock: fn() -> u64,
}

/// A file system in memory.
#[derive(Debug)]
pub struct RamFs<'a> {
    pub(crate) table: Table<'a>,
    pub(crate) budget: Budget,
    pub(crate) store: Store,
    /// Of what the next instance goes on with.
    pub(crate) account: Option<Account>,
    /// It was restored: everything is there that was answered by the instance before.
    pub(crate) restored: bool,
    pub(crate) settings: Settings,
    pub(crate) memory: Option<Handle>,
    /// Filled in at the first mount of [`BUNDLE_SOURCE`].
    pub(crate) bundle: Option<Bundle<'a>>,
    /// Bytes of the bundle's files, for the figures.
    pub(crate) bundle_bytes: u64,
    pub(crate) read_only: bool,
}

impl<'a> RamFs<'a> {
    /// An empty file system.
    pub fn new(settings: Settings) -> Self {
        let now = (settings.clock)();
        let root = Inode::new(Node::Directory(Directory::new(ROOT)), 0o755, now);
        Self {
            table: Table::new(root),
            budget: Budget { used: 0, limit: settings.memory_limit, full: false },
            store: Store::new(Box::new(OwnChunks::default())),
            account: None,
            restored: false,
            settings,
            memory: None,
            bundle: None,
            bundle_bytes: 0,
            read_only: false,
        }
    }

    /// Filled from a bundle when it is mounted with the source [`BUNDLE_SOURCE`].
    pub fn with_bundle(bundle: Bundle<'a>, settings: Settings) -> Self {
        Self { bundle: Some(bundle), ..Self::new(settings) }
    }

    /// A new inode under a name that is free.
    pub(crate) fn insert(
        &mut self,
        dir: Ino,
        name: &[u8],
        node: Node<'a>,
        permissions: u32,
    ) -> Result<Ino> {
        check_name(name)?;
        self.table.directory(dir)?;
        self.budget.take(INODE_COST + NAME_COST)?;
        let now = self.now();
        let ino = self.table.insert(Inode::new(node, permissions, now));
        self.table.add_entry(dir, name, ino)?;
        self.touch(dir);
        Ok(ino)
    }

    /// Another name, which is free, for a file.
    pub(crate) fn add_name(&mut self, dir: Ino, name: &[u8], ino: Ino) -> Result<()> {
        check_name(name)?;
        self.table.directory(dir)?;
        self.budget.take(NAME_COST)?;
        self.table.add_entry(dir, name, ino)?;
        self.table.get_mut(ino)?.links += 1;
        self.touch(dir);
        Ok(())
    }

    fn now(&self) -> u64 {
        (self.settings.clock)()
    }

    /// Sets the modification time of a directory whose entries changed.
    fn touch(&mut self, ino: Ino) {
        let now = self.now();
        if let Ok(inode) = self.table.get_mut(ino) {
            inode.mtime = now;
            inode.ctime = now;
        }
    }

    /// One name less; destroys what has neither names nor holders.
    fn drop_name(&mut self, ino: Ino) -> Result<()> {
        self.budget.give_back(NAME_COST);
        let now = self.now();
        let inode = self.table.get_mut(ino)?;
        inode.links = inode.links.saturating_sub(1);
        inode.ctime = now;
        self.reap(ino)
    }

    pub(crate) fn reap(&mut self, ino: Ino) -> Result<()> {
        let inode = self.table.get(ino)?;
        if ino != ROOT && inode.links == 0 && inode.holds == 0 {
            if let Some(Inode { node: Node::File(mut content), .. }) = self.table.remove(ino) {
                content.free((&mut self.budget, &mut self.store));
            }
            self.budget.give_back(INODE_COST);
        }
        Ok(())
    }

    fn stat(&self, ino: Ino) -> Result<Stat> {
        let inode = self.table.get(ino)?;
        let (size, bytes, links) = match &inode.node {
            Node::File(content) => (content.size(), content.bytes(), inode.links),
            // Directories below count through their `..` elsewhere; 2 stands for name and `.`.
            Node::Directory(directory) => (directory.len() as u64, 0, inode.links + 1),
            Node::Symlink(target) => (target.len() as u64, 0, inode.links),
            Node::Special { .. } => (0, 0, inode.links),
        };
        let rdev = if let Node::Special { rdev, .. } = inode.node { rdev } else { 0 };
        Ok(Stat {
            ino,
            size,
            blocks: bytes / 512,
            atime: inode.atime,
            mtime: inode.mtime,
            ctime: inode.ctime,
            mode: inode.kind() | inode.mode,
            links,
            uid: inode.uid,
            gid: inode.gid,
            rdev,
            block_size: PAGE as u32,
            ..Stat::default()
        })
    }

    fn writable(&self) -> Result<()> {
        if self.read_only { Err(Error::RoFs) } else { Ok(()) }
    }

    /// True if `dir` is `ancestor` or below it.
    fn is_below(&self, mut dir: Ino, ancestor: Ino) -> Result<bool> {
        while dir != ancestor {
            if dir == ROOT {
                return Ok(false);
            }
            dir = self.table.directory(dir)?.parent;
        }
        Ok(true)
    }

    /// A directory whose name is gone takes no new entries.
    fn live_directory(&self, dir: Ino) -> Result<&Directory> {
        let directory = self.table.directory(dir)?;
        if self.table.get(dir)?.links == 0 { Err(Error::NoEnt) } else { Ok(directory) }
    }
}

/// The operations that change something, before account of it is kept.
impl RamFs<'_> {
    fn do_mount(&mut self, source: &str, flags: u32, held: &[Ino]) -> Result<MountInfo> {
        if source == BUNDLE_SOURCE
            && let Some(bundle) = self.bundle.take()
        {
            self.read_only = false;
            if self.fill(bundle).is_err() && self.table.len() == 1 {
                return Err(Error::Inval);
            }
        }
        // A VFS that came back holds what it says, and of an earlier instance of this server nothing else.
        self.table.release_all();
        let all = self.restored && held.iter().all(|&ino| self.table.get(ino).is_ok());
        for &ino in held.iter().filter(|_| all) {
            let inode = self.table.get_mut(ino)?;
            inode.holds = inode.holds.checked_add(1).ok_or(Error::Limit)?;
        }
        let nameless = self.table.iter().filter(|(ino, inode)| *ino != ROOT && inode.links == 0);
        for ino in nameless.map(|(ino, _)| ino).collect::<Vec<_>>() {
            self.reap(ino)?;
        }
        self.read_only = flags & vfs::mount::READ_ONLY != 0;
        let mut restored = if self.restored { mounted::RESTORED } else { 0 };
        if all && !held.is_empty() {
            restored |= mounted::HELD;
        }
        Ok(MountInfo { root: ROOT, flags: flags | restored })
    }

    fn do_set_attributes(&mut self, ino: Ino, set: &SetAttributes) -> Result<Stat> {
        self.writable()?;
        let now = self.now();
        self.table.get(ino)?;
        if let Some(size) = set.size {
            // Two fields at once, so the budget cannot be borrowed through `self`.
            let memory = (&mut self.budget, &mut self.store);
            self.table.file_mut(ino)?.set_size(size, memory)?;
        }
        let inode = self.table.get_mut(ino)?;
        if set.size.is_some() {
            inode.mtime = now;
        }
        if let Some(mode) = set.mode {
            inode.mode = mode & PERMISSIONS;
        }
        inode.uid = set.uid.unwrap_or(inode.uid);
        inode.gid = set.gid.unwrap_or(inode.gid);
        inode.atime = set.atime.unwrap_or(inode.atime);
        inode.mtime = set.mtime.unwrap_or(inode.mtime);
        if !set.only_atime() {
            inode.ctime = now;
        }
        self.stat(ino)
    }

    fn do_write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Result<usize> {
        self.writable()?;
        let now = self.now();
        let memory = (&mut self.budget, &mut self.store);
        let count = self.table.file_mut(ino)?.write(ino, offset, data, memory)?;
        let inode = self.table.get_mut(ino)?;
        inode.mtime = now;
        inode.ctime = now;
        Ok(count)
    }

    fn do_create(&mut self, dir: Ino, name: &[u8], new: &NewFile<'_>) -> Result<Stat> {
        self.writable()?;
        check_name(name)?;
        if self.live_directory(dir)?.get(name).is_some() {
            return Err(Error::Exist);
        }
        let node = match new.mode & mode::TYPE_MASK {
            mode::REGULAR => Node::File(Content::empty()),
            mode::DIRECTORY => Node::Directory(Directory::new(dir)),
            mode::SYMLINK if new.target.is_empty() => return Err(Error::NoEnt),
            mode::SYMLINK => Node::Symlink(new.target.to_vec()),
            kind @ (mode::FIFO | mode::SOCKET) => Node::Special { kind, rdev: 0 },
            kind @ (mode::CHARACTER | mode::BLOCK) => Node::Special { kind, rdev: new.rdev },
            _ => return Err(Error::Inval),
        };
        let ino = self.insert(dir, name, node, new.mode & PERMISSIONS)?;
        let inode = self.table.get_mut(ino)?;
        (inode.uid, inode.gid) = (new.uid, new.gid);
        self.stat(ino)
    }

    fn do_unlink(&mut self, dir: Ino, name: &[u8], directory: bool) -> Result<()> {
        self.writable()?;
        let ino = self.table.directory(dir)?.get(name).ok_or(Error::NoEnt)?;
        match (&self.table.get(ino)?.node, directory) {
            (Node::Directory(d), true) if !d.is_empty() => return Err(Error::NotEmpty),
            (Node::Directory(_), false) => return Err(Error::IsDir),
            (Node::Directory(_), true) | (_, false) => {}
            (_, true) => return Err(Error::NotDir),
        }
        self.table.remove_entry(dir, name)?;
        self.touch(dir);
        self.drop_name(ino)
    }

    fn do_rename(&mut self, from: (Ino, &[u8]), to: (Ino, &[u8])) -> Result<()> {
        self.writable()?;
        check_name(to.1)?;
        let ino = self.table.directory(from.0)?.get(from.1).ok_or(Error::NoEnt)?;
        let old = self.live_directory(to.0)?.get(to.1);
        if old == Some(ino) {
            return Ok(());
        }
        let is_directory = self.table.directory(ino).is_ok();
        if is_directory && self.is_below(to.0, ino)? {
            return Err(Error::Inval);
        }
        if let Some(old) = old {
            match (is_directory, &self.table.get(old)?.node) {
                (true, Node::Directory(d)) if !d.is_empty() => return Err(Error::NotEmpty),
                (false, Node::Directory(_)) => return Err(Error::IsDir),
                (true, Node::Directory(_)) | (false, _) => {}
                (true, _) => return Err(Error::NotDir),
            }
        }
        self.table.remove_entry(from.0, from.1)?;
        self.table.add_entry(to.0, to.1, ino)?;
        if is_directory {
            self.table.directory_mut(ino)?.parent = to.0;
        }
        self.touch(from.0);
        self.touch(to.0);
        match old {
            Some(old) => self.drop_name(old),
            None => Ok(()),
        }
    }

    fn do_link(&mut self, ino: Ino, dir: Ino, name: &[u8]) -> Result<()> {
        self.writable()?;
        match self.table.get(ino)? {
            Inode { node: Node::Directory(_), .. } => return Err(Error::Perm),
            Inode { links: 0, .. } => return Err(Error::NoEnt),
            Inode { links: u32::MAX, .. } => return Err(Error::MLink),
            _ => {}
        }
        if self.live_directory(dir)?.get(name).is_some() {
            return Err(Error::Exist);
        }
        self.add_name(dir, name, ino)
    }

    fn do_release(&mut self, ino: Ino) -> Result<()> {
        let inode = self.table.get_mut(ino)?;
        inode.holds = inode.holds.checked_sub(1).ok_or(Error::Inval)?;
        self.reap(ino)
    }
}

impl FileSystem for RamFs<'_> {
    fn mount(&mut self, source: &str, flags: u32) -> Result<MountInfo> {
        self.mount_again(source, flags, &[])
    }

    fn mount_again(&mut self, source: &str, flags: u32, held: &[Ino]) -> Result<MountInfo> {
        let result = self.do_mount(source, flags, held);
        self.settle(result)
    }

    fn unmount(&mut self) -> Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn lookup(&mut self, dir: Ino, name: &[u8]) -> Result<Stat> {
        let ino = self.table.directory(dir)?.get(name).ok_or(Error::NoEnt)?;
        self.stat(ino)
    }

    fn attributes(&mut self, ino: Ino) -> Result<Stat> {
        self.stat(ino)
    }

    fn set_attributes(&mut self, ino: Ino, set: &SetAttributes) -> Result<Stat> {
        let result = self.do_set_attributes(ino, set);
        self.settle(result)
    }

    fn read(&mut self, ino: Ino, offset: u64, mut out: &mut [u8]) -> Result<usize> {
        let len = out.len();
        self.read_to(ino, offset, len, &mut out)
    }

    fn read_to(&mut self, ino: Ino, offset: u64, len: usize, out: &mut dyn Sink) -> Result<usize> {
        self.table.file(ino)?.read_to(offset, len, &self.store, out)
    }

    fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Result<usize> {
        let result = self.do_write(ino, offset, data);
        self.settle(result)
    }

    fn create(&mut self, dir: Ino, name: &[u8], new: &NewFile<'_>) -> Result<Stat> {
        let result = self.do_create(dir, name, new);
        self.settle(result)
    }

    fn unlink(&mut self, dir: Ino, name: &[u8], directory: bool) -> Result<()> {
        let result = self.do_unlink(dir, name, directory);
        self.settle(result)
    }

    fn rename(&mut self, from: (Ino, &[u8]), to: (Ino, &[u8])) -> Result<()> {
        let result = self.do_rename(from, to);
        self.settle(result)
    }

    fn link(&mut self, ino: Ino, dir: Ino, name: &[u8]) -> Result<()> {
        let result = self.do_link(ino, dir, name);
        self.settle(result)
    }

    fn read_link(&mut self, ino: Ino) -> Result<Vec<u8>> {
        match &self.table.get(ino)?.node {
            Node::Symlink(target) => Ok(target.clone()),
            _ => Err(Error::Inval),
        }
    }

    fn read_dir(&mut self, dir: Ino, cookie: u64, out: &mut DirBuffer) -> Result<()> {
        let directory = self.table.directory(dir)?;
        let dots = [(1, dir, b".".as_slice()), (2, directory.parent, b"..")];
        for (order, ino, name) in dots.into_iter().filter(|dot| dot.0 > cookie) {
            if !out.push(ino, order, mode::DIRECTORY, name) {
                return Ok(());
            }
        }
        for (order, name, ino) in directory.behind(cookie) {
            if !out.push(ino, order, self.table.get(ino)?.kind(), name) {
                break;
            }
        }
        Ok(())
    }

    fn hold(&mut self, ino: Ino) -> Result<()> {
        let inode = self.table.get_mut(ino)?;
        inode.holds = inode.holds.checked_add(1).ok_or(Error::Limit)?;
        Ok(())
    }

    fn release(&mut self, ino: Ino) -> Result<()> {
        let result = self.do_release(ino);
        self.settle(result)
    }

    fn remount(&mut self, flags: u32) -> Result<u32> {
        self.read_only = flags & vfs::mount::READ_ONLY != 0;
        Ok(flags)
    }

    fn map(&mut self, ino: Ino) -> Result<Map> {
        let memory = self.memory.ok_or(Error::NotSup)?;
        let (offset, len) = self.table.file(ino)?.place().ok_or(Error::NotSup)?;
        if offset % PAGE_SIZE != 0 {
            return Err(Error::NotSup);
        }
        Ok(Map { offset: offset as u64, len: len as u64, memory })
    }

    fn statfs(&mut self) -> Result<StatFs> {
        let page = PAGE as u64;
        let mut fs_type = [0; 16];
        fs_type[..5].copy_from_slice(b"ramfs");
        let blocks_free = (self.budget.limit - self.budget.used.min(self.budget.limit)) / page;
        Ok(StatFs {
            block_size: page,
            blocks: self.budget.limit / page + self.bundle_bytes / page,
            blocks_free,
            files: self.table.len() as u64 + blocks_free,
            files_free: blocks_free,
            name_max: NAME_MAX as u64,
            fs_type,
        })
    }

    fn fsync(&mut self, ino: Ino) -> Result<()> {
        self.table.get(ino).map(|_| ())
    }
}
