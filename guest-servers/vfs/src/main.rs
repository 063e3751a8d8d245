//! The VFS service: file systems are servers reached by messages, clients' windows are mappings.
//!
//! Boot: `/` from ramfs (RS starts it first), `/dev`; then it announces itself. `/proc` is started
//! and mounted when a path first leads there. An instance after the first takes up the state that the
//! last one left in kept memory instead (see `keeping.rs`).
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};

use spin::Mutex;

use xinim_abi::error::{Error, Result};
use xinim_abi::interface::{Name, Request as Operation};
use xinim_abi::ipc::{Message, ReplyToken, bits};
use xinim_abi::object::{Handle, MemoryFlags, PAGE_SIZE, Protection, Rights};
use xinim_abi::services::fs::WINDOW_LEN;
use xinim_abi::services::rs::rs;
use xinim_abi::services::socket::socket;
use xinim_abi::services::vfs::vfs::Call;
use xinim_fs_kit::remote::{Remote, Transport};
use xinim_fs_server::SharedWindow;
use xinim_rt::handle::OwnedHandle;
use xinim_rt::ipc::{self, Service};
use xinim_rt::keep::{self, KeptArea};
use xinim_rt::memory::Memory;
use xinim_rt::server::{self, Request};
use xinim_rt::{kip, log, start, sys, thread};
use xinim_vfs::server::{Caller, Server};
use xinim_vfs::workers::as_high_as_allowed;
use xinim_vfs::{Host, QUICK_TURNS, ServerName, Vfs, has_state};

xinim_rt::program!(main);

/// Windows of servers that need less than [`WINDOW_LEN`]: every page costs boot time. The root is
/// mostly mapped in place; devices get what one client's window carries; procfs has short texts.
const MEMORY_WINDOW_LEN: usize = 68 * 1024;
const DEVICE_WINDOW_LEN: usize = 132 * 1024;
const TEXT_WINDOW_LEN: usize = 16 * 1024;

/// The kept journal, and its length: a large page or two.
const JOURNAL: u64 = 1;
const JOURNAL_LEN: u64 = 4 << 20;

/// A file-system server and the window shared with it.
struct FsServer {
    service: Service,
    window: SharedWindow,
    /// What goes with `Mount`.
    shared: OwnedHandle,
}

/// How much window a server of this type needs.
fn window_len(fs_type: &str) -> usize {
    match fs_type {
        "ramfs" | "tmpfs" => MEMORY_WINDOW_LEN,
        "devfs" => DEVICE_WINDOW_LEN,
        "procfs" => TEXT_WINDOW_LEN,
        _ => WINDOW_LEN,
    }
}

impl FsServer {
    fn new(service: Service, window_len: usize) -> Result<Self> {
        let memory = Memory::create(window_len as u64, MemoryFlags::empty())?;
        let window = SharedWindow::new(memory.map(Protection::READ | Protection::WRITE)?);
        let rights = Rights::READ | Rights::WRITE | Rights::TRANSFER;
        Ok(Self { service, window, shared: memory.handle().mint(rights, 0)? })
    }
}

impl Transport for FsServer {
    type Window = SharedWindow;

    fn call<R: Operation>(&mut self, request: &R) -> Result<R::Reply> {
        ipc::call(self.service.connect(true)?, request)
    }

    fn window(&self) -> &SharedWindow {
        &self.window
    }

    fn window_handle(&self) -> Handle {
        self.shared.raw()
    }

    fn reconnect(&mut self) -> Result<()> {
        self.service.disconnect();
        // Waits until RS has the next instance up, or gave up.
        self.service.connect(true).map(|_| ())
    }
}

#[derive(Clone)]
struct Machine {
    endpoint: Handle,
    workers: Arc<Workers>,
}

/// Threads that serve clients.
#[derive(Default)]
struct Workers {
    /// Not at work: waiting for a request, or about to.
    idle: AtomicU32,
    count: AtomicU32,
    /// What a new worker works with; set when service begins.
    server: Mutex<Option<VfsServer>>,
}

/// File systems that may be slow or dead at the same time before VFS is. The kernel's default limit
/// for threads of a process is 16.
const WORKERS_MAX: u32 = 15;
const STACK_LEN: usize = 64 * 1024;
/// A worker's sleep while another one has what it needs.
const PAUSE_NS: u64 = 1_000_000;

impl Workers {
    /// One worker more, if all are busy and there is something to work with.
    fn grow(&self) {
        if self.idle.load(Ordering::Relaxed) > 0
            || self.count.load(Ordering::Relaxed) >= WORKERS_MAX
        {
            return;
        }
        let server = self.server.lock();
        let Some(server) = server.as_ref() else { return };
        self.idle.fetch_add(1, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
        let spawned = as_high_as_allowed(|priority| {
            let mut worker = server.another();
            thread::spawn(STACK_LEN, priority, move || server::serve(worker.endpoint, &mut worker))
        });
        if let Err(error) = spawned {
            self.idle.fetch_sub(1, Ordering::Relaxed);
            self.count.fetch_sub(1, Ordering::Relaxed);
            log!("no further worker: {error}");
        }
    }
}

impl Host for Machine {
    type Fs = Remote<FsServer>;
    type Window = SharedWindow;
    type Area = KeptArea;

    fn start(&mut self, fs_type: &str) -> Result<Self::Fs> {
        let program = match fs_type {
            "ramfs" | "tmpfs" => Name::new("ramfs"),
            "procfs" => Name::new("procfs"),
            // One server for all of them: the superblock says which it is.
            "ext2" | "ext3" | "ext4" => Name::new("fs-ext"),
            "iso9660" => Name::new("fs-iso"),
            other => Name::new(&format!("fs-{other}")),
        };
        let request = rs::Spawn { program: program.map_err(|_| Error::NoDev)? };
        let spawned = ipc::call(start::rs(), &request).map_err(|error| match error {
            Error::NoEnt | Error::Access => Error::NoDev,
            error => error,
        })?;
        let endpoint = OwnedHandle::from_raw(spawned.endpoint);
        let service = Service::with_instance(spawned.label.as_str(), endpoint, spawned.pid);
        Ok(Remote::new(FsServer::new(service, window_len(fs_type))?))
    }

    fn describe(&mut self, fs: &mut Self::Fs) -> ServerName {
        let (source, flags) = fs.mounted_with();
        let (source, service) = (String::from(source), &fs.transport().service);
        let label = String::from(service.label().as_str());
        // One that has died since is another one to the next instance in any case.
        let instance = service.known_pid();
        ServerName { label, instance, source, flags }
    }

    fn adopt(&mut self, server: &ServerName, fs_type: &str) -> Result<(Self::Fs, bool)> {
        let service = Service::with_name(Name::new(&server.label)?);
        // One that is being restarted is waited for; one that was given up stays an error.
        let same = service.pid().is_ok_and(|pid| pid == server.instance && pid != 0);
        let transport = FsServer::new(service, window_len(fs_type))?;
        Ok((Remote::adopted(transport, &server.source, server.flags), same))
    }

    fn log(&mut self, line: &str) {
        log!("{line}");
    }

    fn stop(&mut self, mut fs: Self::Fs) {
        // One that is dead already needs no notification.
        let _ = fs.transport().service.notify(xinim_abi::services::fs::END);
    }

    fn types(&self) -> &[&'static str] {
        &["fat", "minix", "iso", "ext"]
    }

    fn map_window(&mut self, window: Handle, len: usize) -> Result<SharedWindow> {
        let memory = Memory::from_handle(OwnedHandle::from_raw(window))?;
        let len = len.next_multiple_of(PAGE_SIZE) as u64;
        if memory.len() < len {
            return Err(Error::Inval);
        }
        let mapping = memory.map_range(0, len, Protection::READ | Protection::WRITE)?;
        Ok(SharedWindow::new(mapping))
    }

    fn watch(&mut self, pid: u32) -> Result<()> {
        sys::watch(pid, self.endpoint, pid.into())
    }

    fn reply(&mut self, token: ReplyToken, message: &Message) {
        // A caller that is gone is reported by its obituary.
        let _ = sys::reply(token, message);
    }

    fn close(&mut self, handle: Handle) {
        drop(OwnedHandle::from_raw(handle));
    }

    fn notify(&mut self, endpoint: Handle, raised: u64) {
        // Who does not wait any more need not be told.
        let _ = sys::notify(endpoint, raised);
    }

    fn service(&mut self, name: &Name) -> Result<Handle> {
        // One that has just died is waited for; what was kept there is its next instance's.
        let found = ipc::call(start::rs(), &rs::Lookup { name: *name, wait: true });
        found.map(|reply| reply.endpoint).map_err(|_| Error::NxIo)
    }

    fn close_attached(&mut self, server: &Name, cookie: u64) {
        // What it serves outlives it: one that dies is told again, once there is another.
        let _ = Service::with_name(*server).call(&socket::Close { cookie });
    }

    fn vouch(&mut self, server: &Name, pid: u32, uid: u32) -> Result<()> {
        let endpoint = OwnedHandle::from_raw(self.service(server)?);
        ipc::call(endpoint.raw(), &socket::Identify { pid, uid }).map(drop)
    }

    fn share_memory(&mut self, len: usize) -> Result<(SharedWindow, Handle)> {
        let memory = Memory::create(len as u64, MemoryFlags::empty())?;
        let window = SharedWindow::new(memory.map(Protection::READ | Protection::WRITE)?);
        let write = Rights::READ | Rights::WRITE | Rights::TRANSFER;
        Ok((window, memory.handle().mint(write, 0)?.into_raw()))
    }

    fn mint(&mut self, memory: Handle, writable: bool) -> Result<Handle> {
        let write = if writable { Rights::WRITE } else { Rights::empty() };
        sys::handle_mint(memory, (Rights::READ | Rights::TRANSFER | write).bits(), 0)
    }

    fn now(&self) -> u64 {
        kip::wall_clock_ns()
    }

    fn pause(&self, turn: u32) {
        // Programs want to run, too, if it takes longer.
        let until = if turn < QUICK_TURNS { 0 } else { kip::now_ns() + PAUSE_NS };
        sys::thread_sleep(until);
    }

    fn about_to_wait(&self) {
        self.workers.grow();
    }
}

/// What one worker has.
struct VfsServer {
    server: Server<Machine>,
    endpoint: Handle,
    workers: Arc<Workers>,
}

impl VfsServer {
    fn another(&self) -> Self {
        let (server, workers) = (self.server.another(), self.workers.clone());
        Self { server, endpoint: self.endpoint, workers }
    }
}

impl server::Server for VfsServer {
    fn call(&mut self, request: Request) -> Option<Message> {
        if let Ok(Call::Connect(connect)) = Call::decode(&request.message) {
            // From here on the window is `map_window`'s.
            let _ = request.handle(connect.window).into_raw();
        }
        if let Ok(Call::Poll(poll)) = Call::decode(&request.message) {
            let _ = request.handle(poll.notify).into_raw();
        }
        let caller = Caller { pid: request.sender, badge: request.badge, token: request.token };
        self.server.call(caller, &request.message)
    }

    fn notified(&mut self, raised: u64) {
        if raised & bits::OBITUARY != 0 {
            while let Ok(Some(obituary)) = sys::event_next(self.endpoint) {
                self.server.process_died(obituary.pid);
            }
        }
    }

    /// Also while it carries out what RS asks: whoever hangs there is not idle.
    fn working(&mut self, works: bool) {
        if works {
            self.workers.idle.fetch_sub(1, Ordering::Relaxed);
        } else {
            self.workers.idle.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn terminate(&mut self) -> i32 {
        i32::from(self.server.with(|vfs| vfs.sync()).is_err())
    }
}

fn ready(label: &str) -> Result<Remote<FsServer>> {
    FsServer::new(Service::new(label), window_len(label)).map(Remote::new)
}

fn main() -> i32 {
    match boot() {
        Ok(mut server) => {
            let workers = server.workers.clone();
            workers.idle.store(1, Ordering::Relaxed);
            workers.count.store(1, Ordering::Relaxed);
            *workers.server.lock() = Some(server.another());
            server::run(&mut server)
        }
        Err(error) => {
            log!("cannot mount the root: {error}");
            1
        }
    }
}

fn boot() -> Result<VfsServer> {
    let endpoint = server::own_endpoint()?;
    let workers = Arc::new(Workers::default());
    let mut machine = Machine { endpoint, workers: workers.clone() };
    let mut kept = match keep::journal(JOURNAL, JOURNAL_LEN) {
        Ok((journal, _)) => Some(journal),
        Err(error) => {
            log!("no memory to keep state in: {error}");
            None
        }
    };
    if let Some(journal) = kept.take_if(|journal| has_state(journal)) {
        match Vfs::restore(machine, journal) {
            Ok(mut vfs) => {
                if vfs.mounted("procfs") == 0
                    && let Err(error) = vfs.mount_later(b"/proc", "procfs")
                {
                    log!("/proc is not mounted: {error}");
                }
                return Ok(VfsServer { server: Server::new(vfs), endpoint, workers });
            }
            Err((host, mut journal, error)) => {
                machine = host;
                keep::refused(&mut journal, error)?;
                kept = Some(journal);
            }
        }
    }
    let vfs = Vfs::new(machine, ready("ramfs")?, "bundle", "ramfs", 0);
    let mut vfs = vfs.map_err(|(_, error)| error)?;
    if let Some(journal) = kept {
        vfs.keep_in(journal);
    }
    let devices = ready("devfs");
    let mounted = devices.and_then(|fs| vfs.mount_ready(fs, "devfs", b"/dev", "devfs", 0));
    if let Err(error) = mounted {
        log!("/dev is not mounted: {error}");
    }
    if let Err(error) = vfs.mount_later(b"/proc", "procfs") {
        log!("/proc is not mounted: {error}");
    }
    Ok(VfsServer { server: Server::new(vfs), endpoint, workers })
}
