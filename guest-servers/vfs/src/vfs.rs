//! A worker's view of VFS: the shared state, taken and put back, and calls to file systems.
//!
//! ```text
//!             Shared: a slot with the State
//!   worker A ── takes it ── works ── puts it back ── waits for a file system ── takes it ── …
//!   worker B ──────────────────────────────── takes it ── works ── puts it back ── …
//! ```
//! Whoever has the state is alone with it. It is put back only while a file-system server is asked,
//! so between two such questions an operation is atomic. Three rules keep it right across them:
//! * **Owning.** An operation owns a mount from its first question to its end; others that need the
//!   same mount are *parked* (given up, and done again from the start when the mount is free). They
//!   have changed nothing yet: only look-ups come before. So each mount sees one operation after the
//!   other, a mount whose server is slow or dead stops nobody else, and nobody waits in a circle.
//! * **Keeping.** Node and file numbers that an operation goes on using are kept until its end.
//! * Walking a path out of a mount gives the mount up first.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::ops::{Deref, DerefMut};

use spin::Mutex;
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::ipc::{Message, ReplyToken};
use xinim_abi::object::Handle;
use xinim_abi::services::fs::mounted;
use xinim_abi::services::vfs::mode;
use xinim_fs_kit::{FileSystem, Ino, Window};
use xinim_keep::Area;

use crate::files::FileId;
use crate::mounts::{MountId, ServerName};
use crate::process::Process;
use crate::state::State;
use crate::tree::{NEVER, Node, NodeId};

/// Instances of a server tried for one operation before it is an error.
pub(crate) const ATTEMPTS: u32 = 3;

/// What the surroundings give to VFS. On the host side of tests: plain memory. Every worker has a
/// clone; all mean the same.
pub trait Host: Clone {
    type Fs: FileSystem;
    type Window: Window;
    /// Memory that outlives VFS.
    type Area: Area;

    /// A fresh server for a file-system type (`fat`, `ramfs`, …). `NoDev`: no such type.
    fn start(&mut self, fs_type: &str) -> Result<Self::Fs>;
    /// The server is not needed any more.
    fn stop(&mut self, fs: Self::Fs);
    /// How to find the server again.
    fn describe(&mut self, fs: &mut Self::Fs) -> ServerName;
    /// The server that an earlier instance of VFS described, not asked anything yet; and whether it
    /// is the very instance that was described. One that is no more answers `ServerDied`.
    fn adopt(&mut self, server: &ServerName, fs_type: &str) -> Result<(Self::Fs, bool)>;
    /// Types to try for a device whose type nobody told.
    fn types(&self) -> &[&'static str];

    /// Maps a client's window and gives up the handle.
    fn map_window(&mut self, window: Handle, len: usize) -> Result<Self::Window>;
    /// An obituary of `pid` shall come. `Srch`: it is dead already.
    fn watch(&mut self, pid: u32) -> Result<()>;
    /// Answers a request whose reply waited.
    fn reply(&mut self, token: ReplyToken, message: &Message);
    fn close(&mut self, handle: Handle);
    /// Raises bits at an endpoint; it may be gone.
    fn notify(&mut self, endpoint: Handle, bits: u64);
    /// The endpoint of a service, as a handle to be closed. `NxIo`: it is not there.
    fn service(&mut self, name: &Name) -> Result<Handle>;
    /// Tells a service that nobody has this any more. May wait.
    fn close_attached(&mut self, server: &Name, cookie: u64);
    /// Tells a service as whom a process acts. May wait. `NxIo`: it is not there.
    fn vouch(&mut self, server: &Name, pid: u32, uid: u32) -> Result<()>;
    /// Memory to be shared with programs, mapped here as a window.
    fn share_memory(&mut self, len: usize) -> Result<(Self::Window, Handle)>;
    /// A handle to memory for a program.
    fn mint(&mut self, memory: Handle, writable: bool) -> Result<Handle>;
    /// A line for the log.
    fn log(&mut self, line: &str);
    /// Nanoseconds since 1970.
    fn now(&self) -> u64;
    /// Another worker holds what this one needs: lets it run, the `turn`th time in a row.
    fn pause(&self, turn: u32);
    /// This worker is about to wait for a file system. Somebody else should be there for clients.
    fn about_to_wait(&self);
}

/// Turns in a row for which the state may be another worker's: some seconds, as most turns are a sleep.
pub(crate) const TURNS_MAX: u32 = 5000;
/// Of these, turns without a sleep.
pub const QUICK_TURNS: u32 = 50;

/// Where the state is while no worker has it.
pub struct Shared<H: Host>(Mutex<Option<Box<State<H>>>>);

/// One worker's view. Between [`Vfs::enter`] and [`Vfs::leave`] it has the state.
pub struct Vfs<H: Host> {
    shared: Arc<Shared<H>>,
    state: Option<Box<State<H>>>,
    pub(crate) host: H,
    /// Mounts this operation owns.
    owned: Vec<MountId>,
    /// Nodes and files this operation keeps.
    kept: Vec<NodeId>,
    kept_files: Vec<FileId>,
    /// Why the operation is parked.
    wanted: Option<MountId>,
    /// The operation has done something that must not be done twice: it waits instead of parking.
    committed: bool,
    /// Whose request this is, 0 outside of one.
    pub(crate) caller: u32,
}

impl<H: Host> Deref for Vfs<H> {
    type Target = State<H>;
    fn deref(&self) -> &State<H> {
        self.state.as_deref().expect("the state is here between enter and leave")
    }
}

impl<H: Host> DerefMut for Vfs<H> {
    fn deref_mut(&mut self) -> &mut State<H> {
        self.state.as_deref_mut().expect("the state is here between enter and leave")
    }
}

impl<H: Host> Vfs<H> {
    /// Mounts `fs` as the root. The new view has the state already.
    pub fn new(
        mut host: H,
        mut fs: H::Fs,
        source: &str,
        fs_type: &str,
        flags: u32,
    ) -> core::result::Result<Self, (H, Error)> {
        let info = match fs.mount(source, flags) {
            Ok(info) => info,
            Err(error) => return Err((host, error)),
        };
        let server = host.describe(&mut fs);
        Ok(Self::with_state(host, State::new(fs, server, info, source, fs_type)))
    }

    pub(crate) fn with_state(host: H, state: State<H>) -> Self {
        Self::view(Arc::new(Shared(Mutex::new(None))), Some(Box::new(state)), host)
    }

    fn view(shared: Arc<Shared<H>>, state: Option<Box<State<H>>>, host: H) -> Self {
        Self {
            shared,
            state,
            host,
            owned: Vec::new(),
            kept: Vec::new(),
            kept_files: Vec::new(),
            wanted: None,
            committed: false,
            caller: 0,
        }
    }

    /// A view for another worker. It has not entered.
    pub fn another(&self) -> Self {
        Self::view(self.shared.clone(), None, self.host.clone())
    }

    pub fn host(&mut self) -> &mut H {
        &mut self.host
    }

    /// Takes the state. Nobody keeps it while he waits for others, so one that does not come back for
    /// [`TURNS_MAX`] turns was lost with a worker that went astray. Only a new instance helps then: it has what
    /// is kept.
    pub fn enter(&mut self) {
        for turn in 0.. {
            if self.state.is_some() {
                return;
            }
            self.state = self.shared.0.lock().take();
            if self.state.is_none() {
                assert!(turn < TURNS_MAX, "the state does not come back");
                self.host.pause(turn);
            }
        }
    }

    /// Puts the state back.
    pub fn leave(&mut self) {
        let state = self.state.take();
        *self.shared.0.lock() = state;
    }

    /// Does something without the state.
    pub(crate) fn unlocked<R>(&mut self, work: impl FnOnce(&mut H) -> R) -> R {
        self.leave();
        let result = work(&mut self.host);
        self.enter();
        result
    }

    /// Ends an operation: what it owned and kept is free again.
    pub fn finish(&mut self) {
        self.committed = true;
        while let Some(file) = self.kept_files.pop() {
            self.close_file(file);
        }
        self.drop_kept();
        self.give_up_mounts();
        if self.detached > 0 {
            self.end_detached();
        }
        self.committed = false;
        self.wanted = None;
    }

    /// The mount that an operation which ended with `error` has to wait for, if that is why.
    pub(crate) fn parked(&self, error: Error) -> Option<MountId> {
        self.wanted.filter(|_| error == Error::Intr)
    }

    /// From here on the operation cannot be done again from the start.
    pub(crate) fn commit(&mut self) {
        self.committed = true;
    }

    pub(crate) fn is_committed(&self) -> bool {
        self.committed
    }

    // --- mounts ----------------------------------------------------------------------------

    /// Makes this operation the one that talks to the mount's server. `Intr`: it is parked.
    pub(crate) fn own(&mut self, id: MountId) -> Result<()> {
        if self.owned.contains(&id) {
            return Ok(());
        }
        for turn in 0.. {
            if !self.mount(id).busy {
                break;
            }
            if !self.committed {
                self.wanted = Some(id);
                return Err(Error::Intr);
            }
            self.unlocked(|host| host.pause(turn));
        }
        self.mount_mut(id).busy = true;
        self.owned.push(id);
        Ok(())
    }

    pub(crate) fn own_node(&mut self, node: NodeId) -> Result<()> {
        self.own(self.tree.node(node).mount)
    }

    pub(crate) fn owns(&self, id: MountId) -> bool {
        self.owned.contains(&id)
    }

    /// Lets others at the mounts: so far the operation has only looked.
    pub(crate) fn give_up_mounts(&mut self) {
        while let Some(id) = self.owned.last().copied() {
            self.release_deferred(id);
            self.owned.pop();
            self.free_mount(id);
        }
    }

    /// What others wanted released while this operation owned the mount.
    fn release_deferred(&mut self, id: MountId) {
        while let Some((ino, generation)) = self.mount_mut(id).deferred.pop() {
            if generation == self.mount(id).generation {
                // A server that cannot release has died; its next instance holds nothing.
                let _ = self.with_fs(id, |fs| fs.release(ino));
            }
        }
    }

    /// The mount is gone; its numbers mean nothing any more.
    pub(crate) fn forget_mount(&mut self, id: MountId) {
        self.owned.retain(|&owned| owned != id);
        let tree = &self.state.as_deref().expect("entered").tree;
        self.kept.retain(|&node| tree.node(node).mount != id);
    }

    /// Asks the server of a mount that this operation owns.
    pub(crate) fn with_fs<R>(&mut self, id: MountId, ask: impl FnOnce(&mut H::Fs) -> R) -> R {
        let mut fs = self.mount_mut(id).fs.take().expect("only its owner asks a file system");
        let result = self.unlocked(|host| {
            host.about_to_wait();
            ask(&mut fs)
        });
        self.mount_mut(id).fs = Some(fs);
        result
    }

    // --- processes -------------------------------------------------------------------------

    /// Makes the process known, with `/` as its working directory. True if it is new.
    pub fn add_process(&mut self, pid: u32) -> bool {
        if self.processes.contains_key(&pid) {
            return false;
        }
        let root = self.root();
        self.pin(root);
        self.processes.insert(pid, Process::new(root));
        self.touched_processes.push(pid);
        true
    }

    /// Closes what a dead process had.
    pub fn remove_process(&mut self, pid: u32) {
        self.windows.remove(&pid);
        self.forget_requests_of(pid);
        if let Some(process) = self.processes.remove(&pid) {
            self.end_process(pid, process);
        }
    }

    pub(crate) fn end_process(&mut self, pid: u32, process: Process) {
        self.commit();
        self.drop_locks_of(pid);
        self.forget_polls_of(pid);
        for id in 0..self.pipes.end() {
            if let Some(pipe) = self.pipes.get_mut(id) {
                pipe.forget(pid);
            }
        }
        for (_, queue) in self.mounts_mut() {
            queue.retain(|parked| parked.caller.pid != pid);
        }
        self.drop_shares_of(pid);
        self.unpin(process.cwd);
        for file in process.files() {
            self.close_file(file);
        }
    }

    // --- nodes and files -------------------------------------------------------------------

    /// The node's number stays good until the operation ends.
    pub(crate) fn keep(&mut self, node: NodeId) {
        self.tree.node_mut(node).keeps += 1;
        self.kept.push(node);
    }

    /// What this operation kept need not be there any more.
    pub(crate) fn drop_kept(&mut self) {
        while let Some(node) = self.kept.pop() {
            self.unkeep(node);
        }
    }

    fn unkeep(&mut self, id: NodeId) {
        let node = self.tree.node_mut(id);
        node.keeps -= 1;
        if node.keeps == 0 && node.pins == 0 && node.gone {
            self.tree.free(id);
        }
    }

    /// As [`Vfs::keep`] for an open file, which also stays open.
    pub(crate) fn keep_file(&mut self, id: FileId) {
        if let Some(file) = self.files.get_mut(id) {
            file.refs += 1;
            self.kept_files.push(id);
        }
    }

    pub(crate) fn pin(&mut self, node: NodeId) {
        self.tree.node_mut(node).pins += 1;
    }

    pub(crate) fn unpin(&mut self, id: NodeId) {
        let node = self.tree.node_mut(id);
        node.pins -= 1;
        if node.pins == 0 {
            self.release(id);
        }
        // `release` may have let others in.
        let node = self.tree.node(id);
        if node.pins == 0 && node.gone {
            self.tree.free(id);
        }
    }

    /// Tells the server that a number it holds is not needed any more: now, or, if somebody owns
    /// the mount, when that operation ends.
    fn release(&mut self, id: NodeId) {
        let node = self.tree.node_mut(id);
        if !core::mem::replace(&mut node.held, false) {
            return;
        }
        let (mount, ino, generation) = (node.mount, node.ino, node.generation);
        // If it still has a name, it was renamed: the number was good only while it was held.
        node.generation = NEVER;
        if generation != self.mount(mount).generation {
            return;
        }
        if self.owns(mount) || !self.mount(mount).busy {
            let owned = self.owns(mount);
            self.mount_mut(mount).busy = true;
            self.tree.node_mut(id).pins += 1;
            let _ = self.with_fs(mount, |fs| fs.release(ino));
            self.tree.node_mut(id).pins -= 1;
            if !owned {
                self.free_mount(mount);
            }
        } else {
            self.mount_mut(mount).deferred.push((ino, generation));
        }
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

    /// The server's number for a node, found again by name if the server was reincarnated. The
    /// operation owns the mount. `Stale`: it is not there any more.
    pub(crate) fn ino(&mut self, id: NodeId) -> Result<Ino> {
        let node = self.tree.node(id);
        let generation = self.mount(node.mount).generation;
        if node.generation == generation {
            return Ok(node.ino);
        }
        if node.gone {
            return Err(Error::Stale);
        }
        let (parent, name, kind, mount) = (node.parent, node.name.clone(), node.kind, node.mount);
        let dir = self.ino(parent)?;
        let found = match self.with_fs(mount, |fs| fs.lookup(dir, &name)) {
            Ok(stat) if stat.mode & mode::TYPE_MASK == kind => Ok(stat),
            Ok(_) | Err(Error::NoEnt | Error::NotDir) => Err(Error::Stale),
            Err(error) => Err(error),
        };
        let node = self.tree.node_mut(id);
        node.held = false;
        match found {
            Ok(stat) => {
                let old = core::mem::replace(&mut node.ino, stat.ino);
                node.generation = generation;
                self.renumber(mount, old, stat.ino);
                self.note(id, &stat);
            }
            Err(Error::Stale) => self.tree.detach(id),
            Err(_) => {}
        }
        found.map(|stat| stat.ino)
    }

    /// As [`Vfs::ino`], also when the server dies just now.
    pub(crate) fn live_ino(&mut self, id: NodeId) -> Result<Ino> {
        self.own_node(id)?;
        let node = self.tree.node(id);
        if node.generation == self.mount(node.mount).generation {
            return Ok(node.ino);
        }
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
        self.own(mount)?;
        self.keep(node);
        for attempt in 0..ATTEMPTS {
            let result = match self.ino(node) {
                Ok(ino) => self.with_fs(mount, |fs| operation(fs, ino, attempt > 0)),
                Err(error) => Err(error),
            };
            match result {
                Err(Error::ServerDied) => self.recover(mount)?,
                // An instance that could not mount its device when it came up, and may now.
                Err(Error::NoDev) if !self.mount(mount).source.is_empty() => self.recover(mount)?,
                Err(Error::BadReply | Error::BadMessage | Error::BadHandle | Error::Intr) => {
                    return Err(Error::Io);
                }
                result => return result,
            }
        }
        Err(Error::Io)
    }

    /// The server died: goes on with its next instance. `Io`: there is none.
    pub(crate) fn recover(&mut self, id: MountId) -> Result<()> {
        // What has a name is looked up again.
        let before = self.mount(id).generation;
        let nameless = |node: &Node| node.gone && node.held && node.generation == before;
        let nodes = self.tree.of_mount(id).filter(|node| nameless(node));
        let held: Vec<Ino> = nodes.map(|node| node.ino).collect();
        let recovered = self.with_fs(id, |fs| fs.recover(&held));
        if !recovered.is_ok_and(|info| info.flags & mounted::RESTORED != 0) {
            self.count_losses(id);
        }
        let info = recovered.map_err(|_| Error::Io)?;
        let state = self.state.as_deref_mut().expect("entered");
        let mount = state.mount_mut(id);
        if let Some(fs) = &mut mount.fs {
            mount.server = self.host.describe(fs);
        }
        mount.generation += 1;
        mount.flags |= info.flags & !(mounted::RESTORED | mounted::HELD);
        mount.deferred.clear();
        let (root, generation) = (mount.root, mount.generation);
        if info.flags & mounted::HELD != 0 {
            let nodes = self.tree.of_mount(id).filter(|node| nameless(node));
            nodes.for_each(|node| node.generation = generation);
        }
        let node = self.tree.node_mut(root);
        node.ino = info.root;
        node.generation = generation;
        Ok(())
    }
}
