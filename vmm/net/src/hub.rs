//! A hub for the machines of one user on this host that name it: no program of its own, no rights.
//!
//! ```text
//! $XDG_RUNTIME_DIR/xinim-hub-NAME/     or /tmp/xinim-hub-UID-NAME/; mode 0700
//!     lock                              held while somebody joins
//!     PID-N                             a member listens (SOCK_SEQPACKET)
//! ```
//! Who joins listens first, then connects to all who are there: each pair of members has one
//! connection, over which frames go with their virtio header, offloads included. Frames to an
//! address that was seen go to its member, others to all. A member that does not take a frame now
//! misses it, as at a switch with full buffers. Hubs do not span users, containers or hosts.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with,
    bind, connect, listen, recv, send, socket_with, sockopt,
};
use xinim_abi::hw::virtio_net::{HEADER_SIZE, Header};
use xinim_devices::net::{Frame, MAX_FRAME, NetBackend, Offloads, Sent, offload};
use zerocopy::{FromBytes, IntoBytes};

use crate::Endpoint;
use crate::reactor::Reactor;

/// Members of a hub at most.
const MEMBERS_MAX: usize = 64;
/// Addresses remembered at most.
const ADDRESSES_MAX: usize = 1024;
/// Buffers of a connection: frames that one member may be behind.
const BUFFER: usize = 1 << 20;
const LISTENER: u64 = 0;

/// Our place in a hub.
#[derive(Debug)]
pub struct Hub {
    path: PathBuf,
    listener: OwnedFd,
    reactor: Reactor,
    members: HashMap<u64, OwnedFd>,
    next: u64,
    /// Which member an address was last seen from.
    addresses: HashMap<[u8; 6], u64>,
    buffer: Vec<u8>,
}

impl Hub {
    pub fn join(name: &str) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.len() > 32 || name.starts_with('.') || !name.chars().all(plain) {
            return Err(format!(
                "`{name}` cannot be the name of a hub: up to 32 letters, digits, - _ ."
            ));
        }
        let uid = rustix::process::getuid().as_raw();
        let directory = match std::env::var_os("XDG_RUNTIME_DIR") {
            Some(base) => Path::new(&base).join(format!("xinim-hub-{name}")),
            None => std::env::temp_dir().join(format!("xinim-hub-{uid}-{name}")),
        };
        Self::join_in(&directory).map_err(|error| {
            format!("hub {name} cannot be joined ({}): {error}", directory.display())
        })
    }

    /// Joins the hub of this directory, which is made if need be.
    pub fn join_in(directory: &Path) -> io::Result<Self> {
        match fs::DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => other?,
        }
        let metadata = fs::symlink_metadata(directory)?;
        let own = metadata.uid() == rustix::process::getuid().as_raw();
        if !metadata.is_dir() || !own || metadata.mode() & 0o077 != 0 {
            return Err(io::Error::other("it is not a directory of this user's alone"));
        }
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let own = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = directory.join(own);
        let lock = File::create(directory.join("lock"))?;
        lock.lock()?;
        let listener = socket()?;
        let _ = fs::remove_file(&path);
        bind(&listener, &SocketAddrUnix::new(&path)?)?;
        listen(&listener, MEMBERS_MAX as i32)?;
        let reactor = Reactor::new()?;
        reactor.add(&listener, LISTENER)?;
        let mut hub = Self {
            path,
            listener,
            reactor,
            members: HashMap::new(),
            next: LISTENER + 1,
            addresses: HashMap::new(),
            buffer: Vec::new(),
        };
        for entry in fs::read_dir(directory)?.flatten() {
            let other = entry.path();
            if other == hub.path || entry.file_name() == "lock" {
                continue;
            }
            let peer = socket()?;
            match connect(&peer, &SocketAddrUnix::new(&other)?) {
                Ok(()) => hub.add(peer)?,
                // A machine that was killed has left its name behind.
                Err(rustix::io::Errno::CONNREFUSED) => drop(fs::remove_file(&other)),
                Err(_) => {}
            }
        }
        Ok(hub)
    }

    fn add(&mut self, peer: OwnedFd) -> io::Result<()> {
        if self.members.len() >= MEMBERS_MAX {
            return Err(io::Error::other(format!("it has {MEMBERS_MAX} members")));
        }
        // Larger frames than the default allows in one piece; the limit is the host's.
        let _ = sockopt::set_socket_send_buffer_size(&peer, BUFFER);
        let token = self.next;
        self.reactor.add(&peer, token)?;
        self.next += 1;
        self.members.insert(token, peer);
        Ok(())
    }

    fn remove(&mut self, token: u64) {
        self.members.remove(&token);
        self.addresses.retain(|_, member| *member != token);
    }

    fn send_to(&mut self, token: u64) {
        let Some(peer) = self.members.get(&token) else { return };
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        // Another failure is a frame missed.
        let sent = send(peer, &self.buffer, flags);
        if let Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) = sent {
            self.remove(token);
        }
    }

    /// Lets in who knocks.
    fn accept_all(&mut self) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        while let Ok(peer) = accept_with(&self.listener, flags) {
            // Whoever is too many finds the connection closed.
            let _ = self.add(peer);
        }
    }
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?)
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

impl NetBackend for Hub {
    fn send(&mut self, frame: &Frame) -> Sent {
        self.accept_all();
        self.buffer.clear();
        self.buffer.extend_from_slice(frame.header.as_bytes());
        self.buffer.extend_from_slice(&frame.data);
        let to = frame.data.first_chunk::<6>();
        match to.and_then(|to| self.addresses.get(to)) {
            Some(member) => self.send_to(*member),
            None => {
                let all: Vec<u64> = self.members.keys().copied().collect();
                all.into_iter().for_each(|member| self.send_to(member));
            }
        }
        Sent::Done
    }

    fn receive(&mut self, frame: &mut Frame) -> bool {
        self.accept_all();
        self.reactor.poll();
        let mut tokens: Vec<u64> = self.members.keys().copied().collect();
        tokens.sort_unstable();
        for token in tokens {
            let Some(peer) = self.members.get(&token) else { continue };
            self.buffer.resize(HEADER_SIZE + MAX_FRAME, 0);
            let length = match recv(peer, &mut self.buffer[..], RecvFlags::DONTWAIT) {
                Ok((length, _)) if length > 0 => length,
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => continue,
                _ => {
                    self.remove(token);
                    continue;
                }
            };
            let Some(data) = self.buffer.get(HEADER_SIZE..length) else { continue };
            let Ok((header, _)) = Header::read_from_prefix(&self.buffer) else { continue };
            frame.header = Header { num_buffers: 0, ..header };
            frame.data.clear();
            frame.data.extend_from_slice(data);
            // Another machine's word: it is judged here, not trusted.
            if !offload::is_sound(frame) {
                frame.data.clear();
                continue;
            }
            if let Some(from) = frame.data[6..].first_chunk::<6>()
                && (self.addresses.len() < ADDRESSES_MAX || self.addresses.contains_key(from))
            {
                self.addresses.insert(*from, token);
            }
            return true;
        }
        false
    }

    fn offloads(&self) -> Offloads {
        Offloads::all()
    }
}

impl Endpoint for Hub {
    fn watch(&self) -> Option<BorrowedFd<'_>> {
        Some(self.reactor.fd())
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
