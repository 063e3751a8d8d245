//! The debugger's end: gdb's remote protocol (crate gdbstub) over TCP or a unix socket.
//!
//! ```text
//!   gdb <--socket--> this thread --hold, jobs--> vCPU threads (halt.rs)
//!                        ^------ breakpoint, step -----+
//! ```
//!
//! Every vCPU is a thread, numbered from 1. Memory is read and written by virtual address through
//! the page tables of the thread's vCPU, or of the process picked with `monitor pick`. In
//! the kernel breakpoints are debug registers, in user space `int3` in memory ([`breakpoints`]).
//!
//! One debugger at a time. When it leaves, breakpoints go with it and the guest runs on.

mod breakpoints;
mod monitor;
mod registers;
mod target;

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use gdbstub::conn::{Connection, ConnectionExt};
use gdbstub::stub::{DisconnectReason, GdbStub};
use xinim_machine::{End, EngineError, GdbAddress, GdbSpec};

use crate::shared::Shared;
use target::{Debugger, EventLoop};

/// Between two looks for a debugger, or at whether the machine has ended.
const STEP: Duration = Duration::from_millis(20);

/// The socket, opened before anything else so that a mistake is told at once.
#[derive(Debug)]
pub struct Listener {
    kind: Kind,
    wait: bool,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Drop for Kind {
    fn drop(&mut self) {
        if let Kind::Unix(_, path) = self {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Listener {
    pub fn open(spec: &GdbSpec) -> Result<Self, EngineError> {
        let failed = |error: io::Error| {
            EngineError::Machine(format!("cannot listen for gdb at {}: {error}", spec.address))
        };
        let kind = match &spec.address {
            GdbAddress::Tcp(address) => {
                let listener = TcpListener::bind(address).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                Kind::Tcp(listener)
            }
            GdbAddress::Unix(path) => {
                let listener = UnixListener::bind(path).map_err(failed)?;
                listener.set_nonblocking(true).map_err(failed)?;
                let kind = Kind::Unix(listener, path.clone());
                let only_us = std::fs::Permissions::from_mode(0o600);
                std::fs::set_permissions(path, only_us).map_err(failed)?;
                kind
            }
        };
        Ok(Self { kind, wait: spec.wait })
    }

    /// Whether the guest's first instruction waits for the debugger.
    pub fn waits(&self) -> bool {
        self.wait
    }

    /// Serves debuggers until the machine ends. With `wait`, the machine is held already.
    pub fn start(self, shared: Arc<Shared>) -> io::Result<JoinHandle<()>> {
        std::thread::Builder::new().name("gdb".into()).spawn(move || {
            let mut first = self.wait;
            while !shared.ending.stopping() {
                match self.accept() {
                    Some(connection) => {
                        serve(&shared, connection, first);
                        first = false;
                    }
                    None => std::thread::sleep(STEP),
                }
            }
        })
    }

    fn accept(&self) -> Option<Box<dyn Peer>> {
        match &self.kind {
            Kind::Tcp(listener) => {
                let (stream, _) = listener.accept().ok()?;
                stream.set_nonblocking(false).ok()?;
                // Packets are small and answers waited for.
                let _ = stream.set_nodelay(true);
                Some(Box::new(stream))
            }
            Kind::Unix(listener, _) => {
                let (stream, _) = listener.accept().ok()?;
                stream.set_nonblocking(false).ok()?;
                Some(Box::new(stream))
            }
        }
    }
}

/// A connection of either kind.
pub trait Peer: ConnectionExt<Error = io::Error> + Send {}
impl Peer for TcpStream {}
impl Peer for UnixStream {}

/// Buffers what is written up to a flush: a packet is one segment.
pub struct Wire {
    peer: Box<dyn Peer>,
    buffer: Vec<u8>,
}

impl Connection for Wire {
    type Error = io::Error;

    fn write(&mut self, byte: u8) -> io::Result<()> {
        self.buffer.push(byte);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.peer.write_all(&self.buffer)?;
        self.buffer.clear();
        self.peer.flush()
    }
}

impl ConnectionExt for Wire {
    fn read(&mut self) -> io::Result<u8> {
        self.peer.read()
    }

    fn peek(&mut self) -> io::Result<Option<u8>> {
        self.peer.peek()
    }
}

fn serve(shared: &Arc<Shared>, peer: Box<dyn Peer>, held_already: bool) {
    shared.halt.watch(true);
    let mut debugger = Debugger::new(shared, held_already);
    let stub = GdbStub::new(Wire { peer, buffer: Vec::new() });
    let reason = stub.run_blocking::<EventLoop<'_>>(&mut debugger);
    debugger.leave();
    shared.halt.watch(false);
    match reason {
        Ok(DisconnectReason::Kill) => shared.ending.finish(Ok(End::PowerOff)),
        Ok(_) => {}
        // The machine goes on; whoever debugs it hears why the debugger lost it.
        Err(error) if error.is_connection_error() => {}
        Err(error) => eprintln!("xinim-vmm: the debugger was left: {error}"),
    }
}
