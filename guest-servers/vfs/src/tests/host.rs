//! A host for VFS made of plain memory: file systems are ramfs logic that can be made to die.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Deref, DerefMut};
use std::prelude::v1::*;
use std::rc::Rc;
use std::vec;

use crate::{Host, ServerName, Transfer, Vfs};
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::Name;
use xinim_abi::ipc::{Message, ReplyToken};
use xinim_abi::object::Handle;
use xinim_abi::services::vfs::{Stat, StatFs, mode, open};
use xinim_fs_kit::{
    DirBuffer, FileSystem, Ino, Map, MountInfo, NewFile, SetAttributes, Window, check_name,
};
use xinim_keep::Area;
use xinim_ramfs::{RamFs, Settings};

pub const PID: u32 = 10;
pub const RW: u32 = open::READ_WRITE;
pub const NEW: u32 = open::READ_WRITE | open::CREATE;

pub fn ramfs() -> RamFs<'static> {
    RamFs::new(Settings { memory_limit: 64 << 20, clock: || 1_000_000_000 })
}

/// What a test may do to a file system behind VFS's back.
#[derive(Default)]
pub struct Control {
    /// Dies at the operation after so many.
    pub die_after: Cell<Option<u32>>,
    /// It does what was asked before it dies.
    pub dies_late: Cell<bool>,
    /// No next instance.
    pub failed: Cell<bool>,
    pub mounts: Cell<u32>,
    pub unmounts: Cell<u32>,
    pub lookups: Cell<u32>,
    pub holds: Cell<i32>,
    pub fsyncs: Cell<u32>,
    /// What unmounting answers.
    pub unmount_error: Cell<Option<Error>>,
    /// What the next mount answers; then nothing is mounted.
    pub mount_error: Cell<Option<Error>>,
    unmounted: Cell<bool>,
    dead: Cell<bool>,
    held: RefCell<Vec<Ino>>,
    /// VFS dies at the operation after so many; `true`: when it is done.
    pub kills_vfs: Cell<Option<(u32, bool)>>,
}

/// What a dying VFS says.
pub const KILLED: &str = "VFS is killed";

/// By name: file type, and whether another server serves it.
type Devices = BTreeMap<Vec<u8>, (u32, bool)>;

/// A "disk" that survives its servers. Each instance has other inode numbers and forgets what was
/// held.
#[derive(Clone)]
pub struct TestFs {
    disk: Rc<RefCell<RamFs<'static>>>,
    pub control: Rc<Control>,
    salt: u64,
    flags: u32,
    /// What a mount's source must be.
    source: String,
    /// Character and block devices.
    pub devices: Rc<RefCell<Devices>>,
    pub mount_flags: u32,
}

impl TestFs {
    pub fn new(source: &str) -> Self {
        Self {
            disk: Rc::new(RefCell::new(ramfs())),
            control: Rc::new(Control::default()),
            salt: 0x1000,
            flags: 0,
            source: source.into(),
            devices: Rc::default(),
            mount_flags: 0,
        }
    }

    fn out(&self, ino: Ino) -> Ino {
        ino + self.salt
    }

    fn inner(&self, ino: Ino) -> Ino {
        ino.wrapping_sub(self.salt)
    }

    /// The same instance with the same disk.
    fn run<R>(&self, operation: impl FnOnce(&mut RamFs<'static>) -> Result<R>) -> Result<R> {
        if self.control.dead.get() {
            return Err(Error::ServerDied);
        }
        if self.control.unmounted.get() {
            return Err(Error::NoDev);
        }
        match self.control.kills_vfs.get() {
            Some((0, late)) => {
                self.control.kills_vfs.set(None);
                if late {
                    let _ = operation(&mut self.disk.borrow_mut());
                }
                std::panic::panic_any(KILLED);
            }
            Some((n, late)) => self.control.kills_vfs.set(Some((n - 1, late))),
            None => {}
        }
        match self.control.die_after.get() {
            Some(0) => {
                self.control.die_after.set(None);
                self.control.dead.set(true);
                if self.control.dies_late.get() {
                    let _ = operation(&mut self.disk.borrow_mut());
                }
                return Err(Error::ServerDied);
            }
            Some(n) => self.control.die_after.set(Some(n - 1)),
            None => {}
        }
        operation(&mut self.disk.borrow_mut())
    }

    fn stat(&self, stat: Stat) -> Stat {
        Stat { ino: self.out(stat.ino), ..stat }
    }

    fn device(&self, ino: Ino) -> Option<(u32, bool)> {
        self.devices.borrow().values().nth(ino.checked_sub(1 << 40)? as usize).copied()
    }
}

impl FileSystem for TestFs {
    fn mount(&mut self, source: &str, flags: u32) -> Result<MountInfo> {
        if source != self.source {
            return Err(Error::Inval);
        }
        self.control.mounts.set(self.control.mounts.get() + 1);
        self.flags = flags;
        if let Some(error) = self.control.mount_error.take() {
            self.control.unmounted.set(true);
            return Err(error);
        }
        self.control.unmounted.set(false);
        let info = self.run(|fs| fs.mount(source, flags))?;
        Ok(MountInfo { root: self.out(info.root), flags: flags | self.mount_flags })
    }
    fn unmount(&mut self) -> Result<()> {
        self.control.unmounts.set(self.control.unmounts.get() + 1);
        match self.control.unmount_error.get() {
            Some(error) => self.run(|_| Err(error)),
            None => self.run(|fs| fs.unmount()),
        }
    }
    fn sync(&mut self) -> Result<()> {
        self.run(|fs| fs.sync())
    }
    fn lookup(&mut self, dir: Ino, name: &[u8]) -> Result<Stat> {
        check_name(name)?;
        self.control.lookups.set(self.control.lookups.get() + 1);
        if let Some(at) = self.devices.borrow().keys().position(|key| key == name) {
            let ino = (1 << 40) + at as u64;
            let kind = self.device(ino).unwrap().0;
            return self.run(|_| Ok(Stat { ino, mode: kind | 0o666, ..Stat::default() }));
        }
        self.run(|fs| fs.lookup(self.inner(dir), name)).map(|s| self.stat(s))
    }
    fn attributes(&mut self, ino: Ino) -> Result<Stat> {
        if let Some((kind, _)) = self.device(ino) {
            return Ok(Stat { ino, mode: kind | 0o666, size: 1 << 20, ..Stat::default() });
        }
        self.run(|fs| fs.attributes(self.inner(ino))).map(|s| self.stat(s))
    }
    fn set_attributes(&mut self, ino: Ino, set: &SetAttributes) -> Result<Stat> {
        self.run(|fs| fs.set_attributes(self.inner(ino), set)).map(|s| self.stat(s))
    }
    fn read(&mut self, ino: Ino, offset: u64, out: &mut [u8]) -> Result<usize> {
        if self.device(ino).is_some() {
            out.fill(b'z');
            return Ok(out.len());
        }
        self.run(|fs| fs.read(self.inner(ino), offset, out))
    }
    fn write(&mut self, ino: Ino, offset: u64, data: &[u8]) -> Result<usize> {
        if self.device(ino).is_some() {
            return Ok(data.len());
        }
        self.run(|fs| fs.write(self.inner(ino), offset, data))
    }
    fn create(&mut self, dir: Ino, name: &[u8], new: &NewFile<'_>) -> Result<Stat> {
        self.run(|fs| fs.create(self.inner(dir), name, new)).map(|s| self.stat(s))
    }
    fn unlink(&mut self, dir: Ino, name: &[u8], directory: bool) -> Result<()> {
        self.run(|fs| fs.unlink(self.inner(dir), name, directory))
    }
    fn rename(&mut self, from: (Ino, &[u8]), to: (Ino, &[u8])) -> Result<()> {
        self.run(|fs| fs.rename((self.inner(from.0), from.1), (self.inner(to.0), to.1)))
    }
    fn link(&mut self, ino: Ino, dir: Ino, name: &[u8]) -> Result<()> {
        self.run(|fs| fs.link(self.inner(ino), self.inner(dir), name))
    }
    fn read_link(&mut self, ino: Ino) -> Result<Vec<u8>> {
        self.run(|fs| fs.read_link(self.inner(ino)))
    }
    fn read_dir(&mut self, dir: Ino, cookie: u64, out: &mut DirBuffer) -> Result<()> {
        self.run(|fs| fs.read_dir(self.inner(dir), cookie, out))
    }
    fn hold(&mut self, ino: Ino) -> Result<()> {
        self.run(|fs| {
            self.control.held.borrow_mut().push(self.inner(ino));
            fs.hold(self.inner(ino))
        })?;
        self.control.holds.set(self.control.holds.get() + 1);
        Ok(())
    }
    fn release(&mut self, ino: Ino) -> Result<()> {
        self.run(|fs| {
            let mut held = self.control.held.borrow_mut();
            let at = held.iter().position(|&held| held == self.inner(ino));
            at.map(|at| held.swap_remove(at));
            fs.release(self.inner(ino))
        })?;
        self.control.holds.set(self.control.holds.get() - 1);
        Ok(())
    }
    fn statfs(&mut self) -> Result<StatFs> {
        self.run(|fs| fs.statfs())
    }
    fn fsync(&mut self, ino: Ino) -> Result<()> {
        self.control.fsyncs.set(self.control.fsyncs.get() + 1);
        self.run(|fs| fs.fsync(self.inner(ino)))
    }
    fn redirect(&mut self, ino: Ino) -> Result<(u64, Handle)> {
        match self.device(ino) {
            Some((mode::CHARACTER, true)) => Ok((5, 77)),
            _ => Err(Error::NotSup),
        }
    }
    fn map(&mut self, ino: Ino) -> Result<Map> {
        self.run(|fs| fs.map(self.inner(ino)))
    }
    fn attach(&mut self, held: &[Ino]) -> Result<MountInfo> {
        // As `Serve` does it.
        if self.control.dead.get() {
            return Err(Error::ServerDied);
        }
        let mut wanted: Vec<Ino> = held.iter().map(|&ino| self.inner(ino)).collect();
        let mut disk = self.disk.borrow_mut();
        for ino in self.control.held.take() {
            match wanted.iter().position(|&wanted| wanted == ino) {
                Some(at) => drop(wanted.swap_remove(at)),
                None => disk.release(ino)?,
            }
        }
        wanted.into_iter().try_for_each(|ino| disk.hold(ino))?;
        let held: Vec<Ino> = held.iter().map(|&ino| self.inner(ino)).collect();
        self.control.holds.set(held.len() as i32);
        *self.control.held.borrow_mut() = held;
        Ok(MountInfo { root: self.out(1), flags: self.flags })
    }
    fn recover(&mut self, _: &[Ino]) -> Result<MountInfo> {
        if self.control.failed.get() {
            return Err(Error::ServerDied);
        }
        // What was held ends with the instance; ramfs forgets it at the next mount.
        self.control.holds.set(0);
        self.control.held.borrow_mut().clear();
        self.salt += 0x10_0000;
        let source = self.source.clone();
        loop {
            self.control.dead.set(false);
            match self.mount(&source, self.flags) {
                Err(Error::ServerDied) => {}
                result => return result,
            }
        }
    }
}

#[derive(Clone)]
pub struct TestWindow(pub Rc<RefCell<Vec<u8>>>);

impl Window for TestWindow {
    fn len(&self) -> usize {
        self.0.borrow().len()
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        let bytes = self.0.borrow();
        let end = at.checked_add(out.len()).ok_or(Error::Fault)?;
        out.copy_from_slice(bytes.get(at..end).ok_or(Error::Fault)?);
        Ok(())
    }
    fn write(&self, at: usize, data: &[u8]) -> Result<()> {
        let mut bytes = self.0.borrow_mut();
        let end = at.checked_add(data.len()).ok_or(Error::Fault)?;
        bytes.get_mut(at..end).ok_or(Error::Fault)?.copy_from_slice(data);
        Ok(())
    }
}

#[derive(Clone, Default)]
pub struct TestHost(Rc<RefCell<Inner>>);

impl TestHost {
    pub fn inner(&self) -> RefMut<'_, Inner> {
        self.0.borrow_mut()
    }
}

#[derive(Default)]
pub struct Inner {
    /// Servers that `start` gives out, by type.
    pub servers: Vec<(&'static str, TestFs)>,
    pub stopped: u32,
    pub replies: VecDeque<(ReplyToken, Message)>,
    pub windows: BTreeMap<Handle, TestWindow>,
    pub closed: Vec<Handle>,
    pub dead: Vec<u32>,
    pub notified: Vec<(Handle, u64)>,
    pub attached_closed: Vec<(String, u64)>,
    pub vouched: Vec<(u32, u32)>,
    pub now: u64,
    pub log: Vec<String>,
    /// Servers by label, and the instance they are.
    pub known: BTreeMap<String, (TestFs, u32)>,
}

impl Inner {
    fn label(&self, control: &Rc<Control>) -> String {
        let same = |(_, (fs, _)): &(&String, &(TestFs, u32))| Rc::ptr_eq(&fs.control, control);
        let known = self.known.iter().find(same).map(|(label, _)| label.clone());
        known.unwrap_or_else(|| std::format!("fs-{}", self.known.len()))
    }
}

/// Memory that outlives VFS.
#[derive(Clone)]
pub struct TestArea(pub Rc<RefCell<Vec<u8>>>);

impl TestArea {
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new(vec![0; 1 << 20])))
    }
}

impl Area for TestArea {
    fn len(&self) -> usize {
        self.0.borrow().len()
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        out.copy_from_slice(&self.0.borrow()[at..at + out.len()]);
        Ok(())
    }
    fn write(&self, at: usize, bytes: &[u8]) -> Result<()> {
        self.0.borrow_mut()[at..at + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}

impl Host for TestHost {
    type Fs = TestFs;
    type Window = TestWindow;
    type Area = TestArea;

    fn describe(&mut self, fs: &mut TestFs) -> ServerName {
        let (source, flags) = (fs.source.clone(), fs.flags);
        let label = self.inner().label(&fs.control);
        self.inner().known.insert(label.clone(), (fs.clone(), fs.salt as u32));
        ServerName { label, instance: fs.salt as u32, source, flags }
    }
    fn adopt(&mut self, server: &ServerName, _: &str) -> Result<(TestFs, bool)> {
        let inner = self.inner();
        let (fs, instance) = inner.known.get(&server.label).ok_or(Error::ServerDied)?;
        Ok((fs.clone(), *instance == server.instance))
    }
    fn log(&mut self, line: &str) {
        self.inner().log.push(line.into());
    }

    fn start(&mut self, fs_type: &str) -> Result<TestFs> {
        let servers = &mut self.inner().servers;
        let at = servers.iter().position(|server| server.0 == fs_type);
        Ok(servers.remove(at.ok_or(Error::NoDev)?).1)
    }
    fn stop(&mut self, _: TestFs) {
        self.inner().stopped += 1;
    }
    fn types(&self) -> &[&'static str] {
        &["other", "fat"]
    }
    fn map_window(&mut self, window: Handle, len: usize) -> Result<TestWindow> {
        let window = self.inner().windows.get(&window).ok_or(Error::BadHandle)?.clone();
        if window.len() < len { Err(Error::Inval) } else { Ok(window) }
    }
    fn watch(&mut self, pid: u32) -> Result<()> {
        if self.inner().dead.contains(&pid) { Err(Error::Srch) } else { Ok(()) }
    }
    fn reply(&mut self, token: ReplyToken, message: &Message) {
        self.inner().replies.push_back((token, *message));
    }
    fn close(&mut self, handle: Handle) {
        self.inner().closed.push(handle);
    }
    fn notify(&mut self, endpoint: Handle, bits: u64) {
        self.inner().notified.push((endpoint, bits));
    }
    fn service(&mut self, name: &Name) -> Result<Handle> {
        if name.as_str() == "net" { Ok(88) } else { Err(Error::NxIo) }
    }
    fn close_attached(&mut self, server: &Name, cookie: u64) {
        self.inner().attached_closed.push((server.as_str().into(), cookie));
    }
    fn vouch(&mut self, server: &Name, pid: u32, uid: u32) -> Result<()> {
        if server.as_str() != "net" {
            return Err(Error::NxIo);
        }
        self.inner().vouched.push((pid, uid));
        Ok(())
    }
    fn share_memory(&mut self, len: usize) -> Result<(TestWindow, Handle)> {
        let window = TestWindow(Rc::new(RefCell::new(vec![0; len])));
        let handle = 500 + self.inner().windows.len() as Handle;
        self.inner().windows.insert(handle, window.clone());
        Ok((window, handle))
    }
    fn mint(&mut self, memory: Handle, _writable: bool) -> Result<Handle> {
        Ok(memory)
    }
    fn now(&self) -> u64 {
        self.inner().now
    }
    fn pause(&self, _turn: u32) {}
    fn about_to_wait(&self) {}
}

/// VFS used directly: what an operation kept is free when the next one begins.
pub struct Direct(Vfs<TestHost>);

impl Deref for Direct {
    type Target = Vfs<TestHost>;
    fn deref(&self) -> &Vfs<TestHost> {
        &self.0
    }
}

impl DerefMut for Direct {
    fn deref_mut(&mut self) -> &mut Vfs<TestHost> {
        self.0.finish();
        self.0.flush();
        &mut self.0
    }
}

impl Direct {
    pub fn into_inner(mut self) -> Vfs<TestHost> {
        self.0.finish();
        self.0
    }
}

/// VFS with an empty root and one process.
pub fn vfs() -> (Direct, Rc<Control>) {
    let fs = TestFs::new("root");
    let control = fs.control.clone();
    let mut vfs = match Vfs::new(TestHost::default(), fs, "root", "ramfs", 0) {
        Ok(vfs) => Direct(vfs),
        Err((_, error)) => std::panic!("{error}"),
    };
    assert!(vfs.add_process(PID));
    (vfs, control)
}

/// Adds /dev with devices: vda (block), null (served by devfs), tty (served elsewhere).
pub fn with_devices(vfs: &mut Direct) -> Rc<Control> {
    vfs.mkdir(PID, b"/dev", 0o755).unwrap();
    let mut dev = TestFs::new("devfs");
    dev.mount_flags = xinim_abi::services::fs::mounted::VOLATILE_DISKS;
    let control = dev.control.clone();
    dev.devices.borrow_mut().extend([
        (b"null".to_vec(), (mode::CHARACTER, false)),
        (b"tty".to_vec(), (mode::CHARACTER, true)),
        (b"vda".to_vec(), (mode::BLOCK, false)),
    ]);
    vfs.mount_ready(dev, "devfs", b"/dev", "devfs", 0).unwrap();
    control
}

/// Adds a server for vda of type "fat".
pub fn add_fat(vfs: &mut Direct) -> Rc<Control> {
    let fat = TestFs::new("vda");
    let control = fat.control.clone();
    vfs.host().inner().servers.push(("fat", fat));
    control
}

/// Reads and writes with plain buffers; `Again` where a pipe would have to be asked.
pub trait Bytes {
    fn read_bytes(&mut self, pid: u32, fd: u32, offset: i64, len: usize) -> Result<Vec<u8>>;
    fn write_bytes(&mut self, pid: u32, fd: u32, offset: i64, data: &[u8]) -> Result<u64>;
}

impl Bytes for Direct {
    fn read_bytes(&mut self, pid: u32, fd: u32, offset: i64, len: usize) -> Result<Vec<u8>> {
        let mut out = vec![0; len];
        match self.read(pid, fd, offset, len, &mut &mut out[..])? {
            Transfer::Done(count) => {
                out.truncate(count as usize);
                Ok(out)
            }
            Transfer::Pipe { .. } => Err(Error::Again),
        }
    }

    fn write_bytes(&mut self, pid: u32, fd: u32, offset: i64, mut data: &[u8]) -> Result<u64> {
        match self.write(pid, fd, offset, data.len(), &mut data)? {
            Transfer::Done(count) => Ok(count),
            Transfer::Pipe { .. } => Err(Error::Again),
        }
    }
}
