//! The state of VFS and how it talks to file systems, also across their deaths.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::ipc::{Message, ReplyToken};
use xinim_abi::object::Handle;
use xinim_abi::services::vfs::mode;
use xinim_fs_kit::{FileSystem, Ino, Window};

use crate::files::OpenFile;
use crate::mounts::{Mount, MountId};
use crate::pipe::Pipe;
use crate::process::Process;
use crate::slab::Slab;
use crate::tree::{NEVER, NodeId, Tree};

/// Instances of a server tried for one operation before it is an error.
const ATTEMPTS: u32 = 3;
/// Open files of all processes together.
const FILES_MAX: usize = 16 * 1024;

/// What the surroundings give to VFS. On the host side of tests: plain memory.
pub trait Host {
    type Fs: FileSystem;
    type Window: Window;

    /// A fresh server for a file-system type (`fat`, `ramfs`, …). `NoDev`: no such type.
    fn start(&mut self, fs_type: &str) -> Result<Self::Fs>;
    /// The server is not needed any more.
    fn stop(&mut self, fs: Self::Fs);
    /// Types to try for a device whose type nobody told.
    fn types(&self) -> &[&'static str];

    /// Maps a client's window and gives up the handle.
    fn map_window(&mut self, window: Handle, len: usize) -> Result<Self::Window>;
    /// An obituary of `pid` shall come. `Srch`: it is dead already.
    fn watch(&mut self, pid: u32) -> Result<()>;
    /// Answers a request whose reply waited.
    fn reply(&mut self, token: ReplyToken, message: &Message);
    fn close(&mut self, handle: Handle);
}

/// Everything VFS knows.
pub struct Vfs<H: Host> {
    pub(crate) host: H,
    pub(crate) tree: Tree,
    mounts: Slab<Mount<H::Fs>>,
    pub(crate) root_mount: MountId,
    pub(crate) files: Slab<OpenFile>,
    pub(crate) pipes: Slab<Pipe>,
    processes: BTreeMap<u32, Process>,
    /// Mounts made when somebody first comes by: (directory, pinned; type).
    pub(crate) later: Vec<(NodeId, &'static str)>,
}

impl<H: Host> Vfs<H> {
    /// Mounts `fs` as the root.
    pub fn new(
        host: H,
        mut fs: H::Fs,
        source: &str,
        fs_type: &str,
        flags: u32,
    ) -> core::result::Result<Self, (H, Error)> {
        let info = match fs.mount(source, flags) {
            Ok(info) => info,
            Err(error) => return Err((host, error)),
        };
        let mut vfs = Self {
            host,
            tree: Tree::new(),
            mounts: Slab::new(),
            root_mount: 0,
            files: Slab::new(),
            pipes: Slab::new(),
            processes: BTreeMap::new(),
            later: Vec::new(),
        };
        vfs.root_mount = vfs.add_mount(fs, info, None, source, fs_type);
        Ok(vfs)
    }

    pub fn host(&mut self) -> &mut H {
        &mut self.host
    }

    pub(crate) fn add_mount(
        &mut self,
        fs: H::Fs,
        info: xinim_fs_kit::MountInfo,
        covers: Option<NodeId>,
        source: &str,
        fs_type: &str,
    ) -> MountId {
        let mount = Mount {
            fs,
            root: 0,
            covers,
            flags: info.flags,
            source: String::from(source),
            fs_type: String::from(fs_type),
            generation: 0,
            detached: false,
        };
        let id = self.mounts.insert(mount);
        let root = self.tree.add_root(id, info.root);
        self.mount_mut(id).root = root;
        if let Some(covered) = covers {
            self.tree.node_mut(covered).covered_by = Some(id);
        }
        id
    }

    /// Ids come from nodes and end with them.
    pub(crate) fn mount(&self, id: MountId) -> &Mount<H::Fs> {
        self.mounts.get(id).expect("a node outlived its mount")
    }

    pub(crate) fn mount_mut(&mut self, id: MountId) -> &mut Mount<H::Fs> {
        self.mounts.get_mut(id).expect("a node outlived its mount")
    }

    pub(crate) fn mount_of(&self, node: NodeId) -> &Mount<H::Fs> {
        self.mount(self.tree.node(node).mount)
    }

    pub(crate) fn mounts(&self) -> impl Iterator<Item = (MountId, &Mount<H::Fs>)> {
        self.mounts.iter()
    }

    pub(crate) fn remove_mount(&mut self, id: MountId) -> Option<Mount<H::Fs>> {
        self.tree.remove_mount(id);
        self.mounts.remove(id)
    }

    /// `RoFs` if the node's file system takes no changes.
    pub(crate) fn writable(&self, node: NodeId) -> Result<()> {
        if self.mount_of(node).read_only() { Err(Error::RoFs) } else { Ok(()) }
    }

    // --- processes -------------------------------------------------------------------------

    /// `Fault`: VFS does not know the process (it never connected).
    pub(crate) fn process(&self, pid: u32) -> Result<&Process> {
        self.processes.get(&pid).ok_or(Error::Fault)
    }

    pub(crate) fn process_mut(&mut self, pid: u32) -> Result<&mut Process> {
        self.processes.get_mut(&pid).ok_or(Error::Fault)
    }

    /// Makes the process known, with `/` as its working directory. True if it is new.
    pub fn add_process(&mut self, pid: u32) -> bool {
        if self.processes.contains_key(&pid) {
            return false;
        }
        let root = self.root();
        self.pin(root);
        self.processes.insert(pid, Process::new(root));
        true
    }

    /// Closes what a dead process had.
    pub fn remove_process(&mut self, pid: u32) {
        let Some(process) = self.processes.remove(&pid) else { return };
        for id in 0..self.pipes.end() {
            if let Some(pipe) = self.pipes.get_mut(id) {
                pipe.forget(pid);
            }
        }
        self.unpin(process.cwd);
        for file in process.into_files() {
            self.close_file(file);
        }
    }

    /// `NFile` when there are too many open files.
    pub(crate) fn room_for_file(&self) -> Result<()> {
        if self.files.len() < FILES_MAX { Ok(()) } else { Err(Error::NFile) }
    }

    // --- nodes -----------------------------------------------------------------------------

    pub(crate) fn pin(&mut self, node: NodeId) {
        self.tree.node_mut(node).pins += 1;
    }

    pub(crate) fn unpin(&mut self, id: NodeId) {
        let node = self.tree.node_mut(id);
        node.pins -= 1;
        let (mount, pins) = (node.mount, node.pins);
        if pins == 0 {
            self.release(id);
        }
        if pins == 0 && self.tree.node(id).gone {
            self.tree.free(id);
        }
        if self.mount(mount).detached && !self.tree.in_use(mount) {
            self.end_mount(mount);
        }
    }

    /// Tells the server that a number it holds is not needed any more.
    fn release(&mut self, id: NodeId) {
        let node = self.tree.node_mut(id);
        if !core::mem::replace(&mut node.held, false) {
            return;
        }
        let (mount, ino, generation) = (node.mount, node.ino, node.generation);
        let mount = self.mount_mut(mount);
        if generation == mount.generation {
            // A server that cannot release has died; its next instance holds nothing.
            let _ = mount.fs.release(ino);
        }
        // If it still has a name, it was renamed: the number was good only while it was held.
        self.tree.node_mut(id).generation = NEVER;
    }

    /// Makes the server keep the number of a node that is in use beyond its name.
    pub(crate) fn hold(&mut self, id: NodeId) -> Result<()> {
        let node = self.tree.node(id);
        if node.pins > 0 && !node.held {
            self.on(id, |fs, ino| fs.hold(ino))?;
            self.tree.node_mut(id).held = true;
        }
        Ok(())
    }

    /// Remembers what a look-up found.
    pub(crate) fn learn(
        &mut self,
        dir: NodeId,
        name: &[u8],
        ino: Ino,
        mode: u32,
    ) -> Result<NodeId> {
        let kind = mode & mode::TYPE_MASK;
        if ![mode::DIRECTORY, mode::REGULAR, mode::SYMLINK, mode::CHARACTER, mode::BLOCK]
            .contains(&kind)
        {
            return Err(Error::BadReply);
        }
        let generation = self.mount_of(dir).generation;
        if let Some(child) = self.tree.child(dir, name) {
            let node = self.tree.node_mut(child);
            if node.ino == ino && node.kind == kind && node.generation == generation {
                return Ok(child);
            }
            self.forget(child);
        }
        Ok(self.tree.add_child(dir, name, ino, kind, generation))
    }

    /// A name does not mean this node any more.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.tree.detach(node);
        self.tree.free(node);
    }

    /// The server's number for a node, found again by name if the server was reincarnated.
    /// `Stale`: it is not there any more.
    pub(crate) fn ino(&mut self, id: NodeId) -> Result<Ino> {
        let node = self.tree.node(id);
        let generation = self.mount(node.mount).generation;
        if node.generation == generation {
            return Ok(node.ino);
        }
        if node.gone {
            return Err(Error::Stale);
        }
        let (parent, name, kind) = (node.parent, node.name.clone(), node.kind);
        let dir = self.ino(parent)?;
        let mount = self.tree.node(id).mount;
        let found = match self.mount_mut(mount).fs.lookup(dir, &name) {
            Ok(stat) if stat.mode & mode::TYPE_MASK == kind => Ok(stat.ino),
            Ok(_) | Err(Error::NoEnt | Error::NotDir) => Err(Error::Stale),
            Err(error) => Err(error),
        };
        let node = self.tree.node_mut(id);
        node.held = false;
        match found {
            Ok(ino) => {
                node.ino = ino;
                node.generation = generation;
            }
            Err(Error::Stale) => self.tree.detach(id),
            Err(_) => {}
        }
        found
    }

    /// As [`Vfs::ino`], also when the server dies just now.
    pub(crate) fn live_ino(&mut self, id: NodeId) -> Result<Ino> {
        self.on(id, |_, ino| Ok(ino))
    }

    /// Does something with a node's file system. When the server dies meanwhile, it is done again
    /// on its next instance: `operation` must be idempotent.
    pub(crate) fn on<R>(
        &mut self,
        node: NodeId,
        mut operation: impl FnMut(&mut H::Fs, Ino) -> Result<R>,
    ) -> Result<R> {
        self.on_again(node, |fs, ino, _| operation(fs, ino))
    }

    /// As [`Vfs::on`]; the operation learns whether it may have been done already by an instance
    /// that died.
    pub(crate) fn on_again<R>(
        &mut self,
        node: NodeId,
        mut operation: impl FnMut(&mut H::Fs, Ino, bool) -> Result<R>,
    ) -> Result<R> {
        let mount = self.tree.node(node).mount;
        for attempt in 0..ATTEMPTS {
            let result = match self.ino(node) {
                Ok(ino) => operation(&mut self.mount_mut(mount).fs, ino, attempt > 0),
                Err(error) => Err(error),
            };
            match result {
                Err(Error::ServerDied) => self.recover(mount)?,
                Err(Error::BadReply | Error::BadMessage | Error::BadHandle) => {
                    return Err(Error::Io);
                }
                result => return result,
            }
        }
        Err(Error::Io)
    }

    /// The server died: goes on with its next instance. `Io`: there is none.
    pub(crate) fn recover(&mut self, id: MountId) -> Result<()> {
        let mount = self.mount_mut(id);
        let info = mount.fs.recover().map_err(|_| Error::Io)?;
        mount.generation += 1;
        mount.flags |= info.flags;
        let (root, generation) = (mount.root, mount.generation);
        let node = self.tree.node_mut(root);
        node.ino = info.root;
        node.generation = generation;
        Ok(())
    }
}
