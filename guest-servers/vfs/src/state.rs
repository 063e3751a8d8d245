//! Everything VFS knows, without the ways to its file systems (those are [`crate::vfs`]'s).

use alloc::collections::{BTreeMap, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::services::vfs::{Stat, mode};
use xinim_fs_kit::{Ino, MountInfo};

use crate::files::OpenFile;
use crate::keeping::Keeping;
use crate::locking::Key;
use crate::locks::Locks;
use crate::mounts::{Mount, MountId, ServerName};
use crate::pipe::{Pipe, PipeId};
use crate::polling::PollWait;
use crate::process::Process;
use crate::server::Parked;
use crate::sharing::Share;
use crate::slab::Slab;
use crate::tree::{NodeId, Tree};
use crate::vfs::Host;

/// Open files of all processes together.
const FILES_MAX: usize = 16 * 1024;

pub struct State<H: Host> {
    pub(crate) tree: Tree,
    pub(crate) mounts: Slab<Mount<H::Fs>>,
    pub(crate) root_mount: MountId,
    pub(crate) files: Slab<OpenFile>,
    pub(crate) pipes: Slab<Pipe>,
    /// FIFOs that somebody has open.
    pub(crate) fifos: BTreeMap<Key, PipeId>,
    /// Pipes whose waiting requests may be answerable now.
    pub(crate) touched: Vec<PipeId>,
    pub(crate) processes: BTreeMap<u32, Process>,
    /// Mounts made when somebody first comes by.
    pub(crate) later: Vec<Later>,
    /// Sources that are being mounted.
    pub(crate) mounting: Vec<String>,
    pub(crate) locks: Locks<Key>,
    pub(crate) polls: Vec<PollWait>,
    pub(crate) shares: Vec<Share<H::Window>>,
    /// Attached objects whose last descriptor is gone: their servers are to be told.
    pub(crate) closing: VecDeque<(Name, u64)>,
    /// Lazily unmounted file systems that are still in use.
    pub(crate) detached: u32,
    /// Somebody tells them just now.
    pub(crate) telling: bool,
    /// Clients' windows.
    pub(crate) windows: BTreeMap<u32, Arc<H::Window>>,
    /// Requests that were parked and may be tried again.
    pub(crate) ready: VecDeque<Parked>,
    pub(crate) keeping: Keeping<H::Area>,
    /// Processes that may have changed since they were last recorded.
    pub(crate) touched_processes: Vec<u32>,
}

/// A mount to be made when a path first leads to its directory, which is pinned.
#[derive(Clone, Debug)]
pub(crate) struct Later {
    pub covers: NodeId,
    pub fs_type: &'static str,
    /// Somebody is at it.
    pub starting: bool,
}

impl<H: Host> State<H> {
    pub(crate) fn new(
        fs: H::Fs,
        server: ServerName,
        info: MountInfo,
        source: &str,
        fs_type: &str,
    ) -> Self {
        let mut state = Self::empty();
        state.root_mount = state.add_mount(fs, server, info, None, source, fs_type);
        state
    }

    /// Without a root.
    pub(crate) fn empty() -> Self {
        Self {
            tree: Tree::new(),
            mounts: Slab::new(),
            root_mount: 0,
            files: Slab::new(),
            pipes: Slab::new(),
            fifos: BTreeMap::new(),
            locks: Locks::new(),
            polls: Vec::new(),
            shares: Vec::new(),
            closing: VecDeque::new(),
            telling: false,
            detached: 0,
            touched: Vec::new(),
            processes: BTreeMap::new(),
            later: Vec::new(),
            mounting: Vec::new(),
            windows: BTreeMap::new(),
            ready: VecDeque::new(),
            keeping: Keeping::new(),
            touched_processes: Vec::new(),
        }
    }

    // --- mounts ----------------------------------------------------------------------------

    pub(crate) fn add_mount(
        &mut self,
        fs: H::Fs,
        server: ServerName,
        info: MountInfo,
        covers: Option<NodeId>,
        source: &str,
        fs_type: &str,
    ) -> MountId {
        let id = self.mounts.insert(Mount::new(fs, info.flags, covers, source, fs_type));
        let root = self.tree.add_root(id, info.root);
        let mount = self.mount_mut(id);
        (mount.root, mount.server) = (root, server);
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

    /// The requests parked at each mount.
    pub(crate) fn mounts_mut(&mut self) -> impl Iterator<Item = (MountId, &mut VecDeque<Parked>)> {
        self.mounts.iter_mut().map(|(id, mount)| (id, &mut mount.parked))
    }

    pub(crate) fn is_mounted(&self, id: MountId) -> bool {
        self.mounts.get(id).is_some()
    }

    pub(crate) fn remove_mount(&mut self, id: MountId) -> Option<Mount<H::Fs>> {
        self.tree.remove_mount(id);
        let mut mount = self.mounts.remove(id)?;
        self.ready.append(&mut mount.parked);
        Some(mount)
    }

    /// Nobody owns the mount any more: who waited for it may try again.
    pub(crate) fn free_mount(&mut self, id: MountId) {
        let mount = self.mount_mut(id);
        mount.busy = false;
        let mut parked = core::mem::take(&mut mount.parked);
        self.ready.append(&mut parked);
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
        let process = self.processes.get_mut(&pid).ok_or(Error::Fault)?;
        self.touched_processes.push(pid);
        Ok(process)
    }

    /// `NFile` when there are too many open files.
    pub(crate) fn room_for_file(&self) -> Result<()> {
        if self.files.len() < FILES_MAX { Ok(()) } else { Err(Error::NFile) }
    }

    // --- nodes -----------------------------------------------------------------------------

    /// Remembers what a look-up in `dir` found.
    pub(crate) fn learn(&mut self, dir: NodeId, name: &[u8], stat: &Stat) -> Result<NodeId> {
        let kind = stat.mode & mode::TYPE_MASK;
        let known = [
            mode::DIRECTORY,
            mode::REGULAR,
            mode::SYMLINK,
            mode::CHARACTER,
            mode::BLOCK,
            mode::FIFO,
            mode::SOCKET,
        ];
        if !known.contains(&kind) {
            return Err(Error::BadReply);
        }
        let generation = self.mount_of(dir).generation;
        let child = match self.tree.child(dir, name) {
            Some(child) => {
                let node = self.tree.node(child);
                if node.ino == stat.ino && node.kind == kind && node.generation == generation {
                    child
                } else {
                    // Another instance of the server has the same file under another number.
                    let same = node.kind == kind && node.generation != generation;
                    let lost = same.then_some((node.losses, node.unsaved));
                    self.forget(child);
                    let child = self.tree.add_child(dir, name, stat.ino, kind, generation);
                    if let Some((losses, unsaved)) = lost {
                        let node = self.tree.node_mut(child);
                        (node.losses, node.unsaved) = (losses, unsaved);
                    }
                    child
                }
            }
            None => self.tree.add_child(dir, name, stat.ino, kind, generation),
        };
        self.note(child, stat);
        Ok(child)
    }

    /// Remembers a node's attributes.
    pub(crate) fn note(&mut self, id: NodeId, stat: &Stat) {
        self.tree.node_mut(id).note(stat);
    }

    /// A name does not mean this node any more.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.tree.detach(node);
        self.tree.free(node);
    }

    /// A file has another number at the next instance of its server.
    pub(crate) fn renumber(&mut self, mount: MountId, old: Ino, new: Ino) {
        self.locks.rename((mount, old), (mount, new));
        if old != new
            && let Some(pipe) = self.fifos.remove(&(mount, old))
        {
            self.fifos.insert((mount, new), pipe);
            if let Some(pipe) = self.pipes.get_mut(pipe) {
                pipe.fifo = Some((mount, new));
            }
        }
        for share in &mut self.shares {
            share.renumber((mount, old), new);
        }
    }
}
