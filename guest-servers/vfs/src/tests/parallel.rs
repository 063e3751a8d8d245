//! Several workers at once: a file system that does not answer stops nobody else.

use std::collections::BTreeMap;
use std::prelude::v1::*;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::{format, thread, vec};

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::{Name, Request, decode_reply};
use xinim_abi::ipc::{Message, ReplyToken};
use xinim_abi::object::Handle;
use xinim_abi::services::vfs::vfs as api;
use xinim_abi::services::vfs::{Stat, StatFs, open};
use xinim_fs_kit::{DirBuffer, FileSystem, Ino, MountInfo, NewFile, SetAttributes, Window};
use xinim_ramfs::RamFs;

use super::host::ramfs;
use crate::server::{Caller, Server};
use crate::{Host, QUICK_TURNS, ServerName, Vfs};

/// Lets nobody pass while it is shut.
#[derive(Default)]
struct Gate {
    shut: Mutex<bool>,
    changed: Condvar,
    waiting: AtomicU32,
}

impl Gate {
    fn set(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.changed.notify_all();
    }
    fn pass(&self) {
        let mut shut = self.shut.lock().unwrap();
        while *shut {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            shut = self.changed.wait(shut).unwrap();
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }
    }
    fn await_somebody(&self) {
        while self.waiting.load(Ordering::SeqCst) == 0 {
            thread::yield_now();
        }
    }
}

/// A file system behind a gate. It is asked one thing at a time.
struct Gated {
    fs: RamFs<'static>,
    gate: Arc<Gate>,
    asked: AtomicBool,
}

impl Gated {
    fn run<R>(&mut self, operation: impl FnOnce(&mut RamFs<'static>) -> Result<R>) -> Result<R> {
        assert!(!self.asked.swap(true, Ordering::SeqCst), "asked two things at once");
        self.gate.pass();
        let result = operation(&mut self.fs);
        self.asked.store(false, Ordering::SeqCst);
        result
    }
}

macro_rules! forward {
    ($($name:ident($($arg:ident: $ty:ty),*) -> $result:ty;)*) => {
        $(fn $name(&mut self, $($arg: $ty),*) -> Result<$result> {
            self.run(|fs| fs.$name($($arg),*))
        })*
    };
}

impl FileSystem for Gated {
    forward! {
        mount(source: &str, flags: u32) -> MountInfo;
        unmount() -> ();
        sync() -> ();
        lookup(dir: Ino, name: &[u8]) -> Stat;
        attributes(ino: Ino) -> Stat;
        set_attributes(ino: Ino, set: &SetAttributes) -> Stat;
        read(ino: Ino, offset: u64, out: &mut [u8]) -> usize;
        write(ino: Ino, offset: u64, data: &[u8]) -> usize;
        create(dir: Ino, name: &[u8], new: &NewFile<'_>) -> Stat;
        unlink(dir: Ino, name: &[u8], directory: bool) -> ();
        rename(from: (Ino, &[u8]), to: (Ino, &[u8])) -> ();
        link(ino: Ino, dir: Ino, name: &[u8]) -> ();
        read_link(ino: Ino) -> Vec<u8>;
        read_dir(dir: Ino, cookie: u64, out: &mut DirBuffer) -> ();
        hold(ino: Ino) -> ();
        release(ino: Ino) -> ();
        statfs() -> StatFs;
        fsync(ino: Ino) -> ();
    }
}

struct Memory(Mutex<Vec<u8>>);

impl Window for Memory {
    fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        let bytes = self.0.lock().unwrap();
        out.copy_from_slice(bytes.get(at..at + out.len()).ok_or(Error::Fault)?);
        Ok(())
    }
    fn write(&self, at: usize, data: &[u8]) -> Result<()> {
        let mut bytes = self.0.lock().unwrap();
        bytes.get_mut(at..at + data.len()).ok_or(Error::Fault)?.copy_from_slice(data);
        Ok(())
    }
}

#[derive(Default)]
struct World {
    replies: Mutex<BTreeMap<u64, Message>>,
    windows: Mutex<BTreeMap<Handle, Arc<Memory>>>,
    gates: Mutex<BTreeMap<String, Arc<Gate>>>,
}

#[derive(Clone, Default)]
struct Machine(Arc<World>);

struct Shared(Arc<Memory>);

impl Window for Shared {
    fn len(&self) -> usize {
        self.0.len()
    }
    fn read(&self, at: usize, out: &mut [u8]) -> Result<()> {
        self.0.read(at, out)
    }
    fn write(&self, at: usize, data: &[u8]) -> Result<()> {
        self.0.write(at, data)
    }
}

/// Nothing is kept here.
struct Nowhere;

impl xinim_keep::Area for Nowhere {
    fn len(&self) -> usize {
        0
    }
    fn read(&self, _: usize, _: &mut [u8]) -> Result<()> {
        Err(Error::Fault)
    }
    fn write(&self, _: usize, _: &[u8]) -> Result<()> {
        Err(Error::Fault)
    }
}

impl Host for Machine {
    type Fs = Gated;
    type Window = Shared;
    type Area = Nowhere;

    fn describe(&mut self, _: &mut Gated) -> ServerName {
        ServerName::default()
    }
    fn adopt(&mut self, _: &ServerName, _: &str) -> Result<(Gated, bool)> {
        Err(Error::ServerDied)
    }
    fn log(&mut self, _: &str) {}

    fn start(&mut self, _: &str) -> Result<Gated> {
        let gate = Arc::new(Gate::default());
        let mut gates = self.0.gates.lock().unwrap();
        let name = format!("{}", gates.len());
        gates.insert(name, gate.clone());
        Ok(Gated { fs: ramfs(), gate, asked: AtomicBool::new(false) })
    }
    fn stop(&mut self, _: Gated) {}
    fn types(&self) -> &[&'static str] {
        &[]
    }
    fn map_window(&mut self, window: Handle, _: usize) -> Result<Shared> {
        let windows = self.0.windows.lock().unwrap();
        windows.get(&window).cloned().map(Shared).ok_or(Error::BadHandle)
    }
    fn watch(&mut self, _: u32) -> Result<()> {
        Ok(())
    }
    fn reply(&mut self, token: ReplyToken, message: &Message) {
        assert!(self.0.replies.lock().unwrap().insert(token.0, *message).is_none());
    }
    fn close(&mut self, _: Handle) {}
    fn notify(&mut self, _: Handle, _: u64) {}
    fn service(&mut self, _: &Name) -> Result<Handle> {
        Err(Error::NxIo)
    }
    fn close_attached(&mut self, _: &Name, _: u64) {}
    fn vouch(&mut self, _: &Name, _: u32, _: u32) -> Result<()> {
        Err(Error::NxIo)
    }
    fn share_memory(&mut self, _: usize) -> Result<(Shared, Handle)> {
        Err(Error::NoMem)
    }
    fn mint(&mut self, memory: Handle, _: bool) -> Result<Handle> {
        Ok(memory)
    }
    fn now(&self) -> u64 {
        1
    }
    fn pause(&self, turn: u32) {
        match turn < QUICK_TURNS {
            true => thread::yield_now(),
            false => thread::sleep(std::time::Duration::from_millis(1)),
        }
    }
    fn about_to_wait(&self) {}
}

/// One worker and one client process, used by one thread.
struct Client {
    server: Server<Machine>,
    machine: Machine,
    pid: u32,
    window: Arc<Memory>,
    calls: u64,
}

impl Client {
    fn new(server: &Server<Machine>, machine: &Machine, pid: u32) -> Self {
        let window = Arc::new(Memory(Mutex::new(vec![0; 64 * 1024])));
        machine.0.windows.lock().unwrap().insert(pid, window.clone());
        let (server, machine) = (server.another(), machine.clone());
        let mut client = Self { server, machine, pid, window, calls: 0 };
        client.call(&api::Connect { len: 64 * 1024, window: pid }).unwrap();
        client
    }

    /// The token, and the answer if it came at once.
    fn send<R: Request>(&mut self, request: &R) -> (u64, Option<Message>) {
        self.calls += 1;
        let token = u64::from(self.pid) << 32 | self.calls;
        let caller = Caller { pid: self.pid, badge: 0, token: ReplyToken(token) };
        let answer = self.server.call(caller, &request.encode());
        (token, answer.or_else(|| self.machine.0.replies.lock().unwrap().remove(&token)))
    }

    fn call<R: Request>(&mut self, request: &R) -> Result<R::Reply> {
        let (token, mut answer) = self.send(request);
        while answer.is_none() {
            thread::yield_now();
            answer = self.machine.0.replies.lock().unwrap().remove(&token);
        }
        decode_reply(&answer.unwrap())
    }

    fn path(&self, path: &str) -> u32 {
        self.window.write(0, path.as_bytes()).unwrap();
        path.len() as u32
    }

    fn open(&mut self, path: &str, flags: u32) -> Result<u32> {
        let path_len = self.path(path);
        self.call(&api::Open { path_len, flags, mode: 0o644 }).map(|reply| reply.fd)
    }

    fn mkdir(&mut self, path: &str) -> Result<()> {
        let path_len = self.path(path);
        self.call(&api::Mkdir { path_len, mode: 0o755 }).map(drop)
    }

    fn mount(&mut self, path: &str) {
        self.mkdir(path).unwrap();
        let text = format!("none{path}tmpfs");
        self.path(&text);
        let (target_len, type_len) = (path.len() as u32, 5);
        let request = api::Mount { source_len: 4, target_len, type_len, flags: 0 };
        self.call(&request).unwrap();
    }
}

const NEW: u32 = open::READ_WRITE | open::CREATE;

fn world() -> (Server<Machine>, Machine) {
    let machine = Machine::default();
    let mut starter = machine.clone();
    let root = starter.start("ramfs").unwrap();
    let vfs = match Vfs::new(machine.clone(), root, "root", "ramfs", 0) {
        Ok(vfs) => vfs,
        Err((_, error)) => std::panic!("{error}"),
    };
    (Server::new(vfs), machine)
}

#[test]
fn a_silent_file_system_stops_nobody_else() {
    let (server, machine) = world();
    let mut one = Client::new(&server, &machine, 1);
    one.mount("/slow");
    let gate = machine.0.gates.lock().unwrap()["1"].clone();
    gate.set(true);
    thread::scope(|scope| {
        let stuck = scope.spawn(|| {
            let mut two = Client::new(&server, &machine, 2);
            two.open("/slow/a", NEW)
        });
        gate.await_somebody();
        // Another file system, pipes, and what VFS knows of the slow one by itself.
        let fd = one.open("/f", NEW).unwrap();
        let pipe = one.call(&api::Pipe {}).unwrap();
        let write = api::Write { fd: pipe.write, offset: -1, at: 0, len: 5 };
        assert_eq!(one.call(&write).unwrap().count, 5);
        let write = api::Write { fd, ..write };
        assert_eq!(one.call(&write).unwrap().count, 5);
        assert!(one.call(&api::Mounts {}).is_ok());
        // The slow one: parked, whoever asks, and this worker is free again.
        let path_len = one.path("/slow/b");
        let (parked, answer) = one.send(&api::Open { path_len, flags: NEW, mode: 0o644 });
        assert!(answer.is_none());
        assert!(one.mkdir("/d").is_ok());
        one.path("/slow/b");
        gate.set(false);
        assert!(stuck.join().unwrap().is_ok());
        let reply = loop {
            if let Some(reply) = machine.0.replies.lock().unwrap().remove(&parked) {
                break reply;
            }
            thread::yield_now();
        };
        assert!(decode_reply::<api::Opened>(&reply).is_ok());
    });
}

#[test]
fn a_client_that_dies_while_parked_is_forgotten() {
    let (server, machine) = world();
    let mut one = Client::new(&server, &machine, 1);
    one.mount("/slow");
    let gate = machine.0.gates.lock().unwrap()["1"].clone();
    gate.set(true);
    thread::scope(|scope| {
        let stuck = scope.spawn(|| Client::new(&server, &machine, 2).open("/slow/a", NEW));
        gate.await_somebody();
        let mut three = Client::new(&server, &machine, 3);
        let path_len = three.path("/slow/b");
        let (parked, _) = three.send(&api::Open { path_len, flags: NEW, mode: 0o644 });
        one.server.process_died(3);
        gate.set(false);
        assert!(stuck.join().unwrap().is_ok());
        assert_eq!(one.open("/slow/b", open::READ), Err(Error::NoEnt));
        assert!(!machine.0.replies.lock().unwrap().contains_key(&parked));
    });
}

/// Workers on three file systems: everybody finds what they left, appends are not lost, exactly one
/// creates a name.
#[test]
fn workers_do_not_get_in_each_others_way() {
    const WORKERS: u32 = 4;
    const ROUNDS: u32 = 60;
    let (server, machine) = world();
    let mut first = Client::new(&server, &machine, 1);
    for place in ["/a", "/b"] {
        first.mount(place);
    }
    first.open("/a/log", NEW).unwrap();
    let won = AtomicU32::new(0);
    thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (server, machine, won) = (&server, &machine, &won);
            scope.spawn(move || {
                let mut c = Client::new(server, machine, 10 + worker);
                let log = c.open("/a/log", open::WRITE | open::APPEND).unwrap();
                for round in 0..ROUNDS {
                    let place = ["", "/a", "/b"][(round + worker) as usize % 3];
                    let dir = format!("{place}/{worker}-{round}");
                    c.mkdir(&dir).unwrap();
                    let file = format!("{dir}/file");
                    let fd = c.open(&file, NEW).unwrap();
                    c.window.write(100, dir.as_bytes()).unwrap();
                    let len = dir.len() as u32;
                    let write = api::Write { fd, offset: 0, at: 100, len };
                    assert_eq!(c.call(&write).unwrap().count, u64::from(len));
                    // Open without a name, beside everybody else's renames.
                    let to = format!("{place}/moved");
                    let both = format!("{file}{to}");
                    c.path(&both);
                    let (from_len, to_len) = (file.len() as u32, to.len() as u32);
                    c.call(&api::Rename { from_len, to_len }).unwrap();
                    let read = api::Read { fd, offset: 0, at: 200, len: 100 };
                    assert_eq!(c.call(&read).unwrap().count, u64::from(len));
                    let mut text = vec![0; len as usize];
                    c.window.read(200, &mut text).unwrap();
                    assert_eq!(text, dir.as_bytes());
                    c.call(&api::Close { fd }).unwrap();
                    let path_len = c.path(&dir);
                    c.call(&api::Unlink { path_len, directory: true }).unwrap();
                    c.window.write(300, b"line").unwrap();
                    let append = api::Write { fd: log, offset: -1, at: 300, len: 4 };
                    assert_eq!(c.call(&append).unwrap().count, 4);
                    let name = format!("/b/once-{round}");
                    if c.open(&name, NEW | open::EXCLUSIVE).is_ok() {
                        won.fetch_add(1, Ordering::SeqCst);
                    }
                }
                c.server.process_died(10 + worker);
            });
        }
    });
    assert_eq!(won.load(Ordering::SeqCst), ROUNDS);
    let fd = first.open("/a/log", open::READ).unwrap();
    let size = first.call(&api::Seek { fd, offset: 0, whence: 2 }).unwrap().position;
    assert_eq!(size, u64::from(WORKERS * ROUNDS * 4));
    for place in ["/a", "/b"] {
        let path_len = first.path(place);
        let umount = api::Umount { path_len, lazy: true };
        first.call(&umount).unwrap();
    }
}
