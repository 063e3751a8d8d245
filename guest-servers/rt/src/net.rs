//! Sockets as programs use them.
//!
//! Requests go to the network server through the process's window. A socket is a descriptor too: VFS
//! passes it on to children and tells the server when its last copy is closed, and `fs::read`,
//! `fs::write` and `fs::poll` work on it.

use alloc::string::String;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use spin::Once;
use xinim_abi::error::{Error, Result};
use xinim_abi::interface::{Name, Request};
use xinim_abi::object::{MemoryFlags, Protection, Rights};
use xinim_abi::services::socket::{ADDRESS_MAX, Address, PORTS_OF_ALL, socket};
use xinim_abi::services::vfs::{mode, vfs};
use zerocopy::{FromBytes, IntoBytes};

use crate::fs::{self, File};
use crate::handle::OwnedHandle;
use crate::ipc::{self, Numbers, Service};
use crate::memory::Memory;
use crate::window::{self, Window};

pub use xinim_abi::services::socket::{domain, flags, kind, option, query};

const LABEL: &str = "net";
/// Bytes of one send or receive: the window less the place for an address.
pub const TRANSFER_MAX: usize = window::LEN - ADDRESS_MAX;
/// Longest answer to a query.
const QUERY_LEN: u64 = 256 * 1024;

struct Connection {
    net: Service,
    numbers: Numbers,
    /// Process id of the instance that knows our window.
    knows: AtomicU32,
}

static CONNECTION: Once<Connection> = Once::new();

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum As {
    Anybody,
    /// VFS tells the server who we are: for what only root may do.
    Oneself,
}

/// One request while `window` is held. Sockets go on when the network server dies: the request is repeated
/// at its next instance and done once (see `Service::call_through`).
fn ask<R: Request>(window: &Window, request: &R) -> Result<R::Reply> {
    ask_as(As::Anybody, window, &[], request)
}

/// As [`ask`]; before each attempt `text` is put at the start of the window.
fn ask_as<R: Request>(who: As, window: &Window, text: &[u8], request: &R) -> Result<R::Reply> {
    let connection = CONNECTION.call_once(|| Connection {
        net: Service::new(LABEL),
        numbers: Numbers::new(),
        knows: AtomicU32::new(0),
    });
    connection.net.call_through(&connection.numbers, request, |endpoint, _| {
        let pid = connection.net.known_pid();
        if connection.knows.load(Ordering::Relaxed) != pid {
            let shared = window.share()?;
            let len = window.mapping().len() as u64;
            ipc::call(endpoint, &socket::Attach { len, window: shared.raw() })?;
            connection.knows.store(pid, Ordering::Relaxed);
        }
        if who == As::Oneself {
            show_user(window)?;
        }
        window.mapping().copy_in(0, text)
    })
}

/// Has VFS tell the network server who we are, which it knows by our window.
fn show_user(window: &Window) -> Result<()> {
    match fs::ask(window, &vfs::Vouch { server: Name::new(LABEL)? }) {
        // It died since it was told of our window; the next one will be told again.
        Err(Error::NxIo | Error::Srch) => Err(Error::ServerDied),
        result => result.map(drop),
    }
}

/// IPv4 address and port.
pub fn v4(ip: [u8; 4], port: u16) -> Address {
    let mut bytes = [0; 16];
    bytes[10..12].fill(0xFF);
    bytes[12..].copy_from_slice(&ip);
    Address { family: 4, port: port.to_be_bytes(), ip: bytes, ..Address::default() }
}

/// The same address with another port.
pub fn with_port(address: Address, port: u16) -> Address {
    Address { port: port.to_be_bytes(), ..address }
}

pub fn port(address: &Address) -> u16 {
    u16::from_be_bytes(address.port)
}

/// The four bytes of an IPv4 address.
pub fn ipv4(address: &Address) -> Option<[u8; 4]> {
    let [.., a, b, c, d] = address.ip;
    (address.family == 4).then_some([a, b, c, d])
}

/// What was received.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Incoming {
    pub count: usize,
    /// Length of the whole datagram.
    pub full: usize,
    /// The sender's address, as long as it is.
    pub from: Vec<u8>,
}

impl Incoming {
    pub fn address(&self) -> Option<Address> {
        Address::read_from_bytes(&self.from).ok()
    }
}

/// A socket; its descriptor is closed on drop.
#[derive(Debug)]
pub struct Socket {
    file: File,
    cookie: u64,
}

impl Socket {
    pub fn open(domain: u32, kind: u32, protocol: u32) -> Result<Self> {
        let cookie = {
            let window = window::lock()?;
            let who = if domain == domain::PACKET { As::Oneself } else { As::Anybody };
            ask_as(who, &window, &[], &socket::Open { domain, kind, protocol })?.cookie
        };
        Self::adopt(cookie)
    }

    pub fn tcp() -> Result<Self> {
        Self::open(domain::INET, kind::STREAM, 0)
    }

    pub fn udp() -> Result<Self> {
        Self::open(domain::INET, kind::DATAGRAM, 0)
    }

    /// A connected pair of Unix-domain sockets.
    pub fn pair(kind: u32) -> Result<(Self, Self)> {
        let reply = ask(&*window::lock()?, &socket::Pair { kind })?;
        Ok((Self::adopt(reply.first)?, Self::adopt(reply.second)?))
    }

    /// A descriptor for what the server keeps under `cookie`.
    fn adopt(cookie: u64) -> Result<Self> {
        let window = window::lock()?;
        let server = Name::new(LABEL)?;
        let made = fs::ask(&window, &vfs::Attach { server, cookie, flags: 0 });
        match made {
            Ok(reply) => {
                ask(&window, &socket::Keep { cookie })?;
                Ok(Self { file: File::from_fd(reply.fd), cookie })
            }
            Err(error) => {
                let _ = ask(&window, &socket::Close { cookie });
                Err(error)
            }
        }
    }

    /// A socket that was inherited. `NotSock`: another kind of descriptor.
    pub fn from_fd(fd: u32) -> Result<Self> {
        let window = window::lock()?;
        let found = fs::ask(&window, &vfs::Redirect { fd }).map_err(|_| Error::NotSock)?;
        drop(OwnedHandle::from_raw(found.endpoint));
        ask(&window, &socket::GetOption { cookie: found.cookie, option: option::KIND })
            .map_err(|_| Error::NotSock)?;
        Ok(Self { file: File::from_fd(fd), cookie: found.cookie })
    }

    pub fn fd(&self) -> u32 {
        self.file.fd()
    }

    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn bind(&self, address: &Address) -> Result<()> {
        let reserved = (1..PORTS_OF_ALL).contains(&port(address));
        let who = if reserved { As::Oneself } else { As::Anybody };
        self.bind_bytes(who, address.as_bytes())
    }

    /// Binds a Unix-domain socket to `path`, which must not exist and then shows it.
    pub fn bind_path(&self, path: &str) -> Result<()> {
        fs::mknod(path, mode::SOCKET | 0o777, 0).map_err(|error| match error {
            Error::Exist => Error::AddrInUse,
            other => other,
        })?;
        self.bind_bytes(As::Anybody, path.as_bytes())
    }

    fn bind_bytes(&self, who: As, bytes: &[u8]) -> Result<()> {
        let request = socket::Bind { cookie: self.cookie, len: bytes.len() as u32 };
        ask_as(who, &*window::lock()?, bytes, &request).map(drop)
    }

    pub fn listen(&self, backlog: u32) -> Result<()> {
        let request = socket::Listen { cookie: self.cookie, backlog };
        ask(&*window::lock()?, &request).map(drop)
    }

    /// The connection and the peer's address.
    pub fn accept(&self, flags: u32) -> Result<(Self, Vec<u8>)> {
        let (cookie, peer) = {
            let window = window::lock()?;
            let reply = ask(&window, &socket::Accept { cookie: self.cookie, flags })?;
            let len = (reply.address_len as usize).min(ADDRESS_MAX);
            (reply.connection, window.mapping().to_vec(0, len)?)
        };
        Ok((Self::adopt(cookie)?, peer))
    }

    pub fn connect(&self, address: &Address) -> Result<()> {
        self.connect_bytes(address.as_bytes(), 0)
    }

    pub fn connect_bytes(&self, address: &[u8], flags: u32) -> Result<()> {
        let request = socket::Connect { cookie: self.cookie, len: address.len() as u32, flags };
        ask_as(As::Anybody, &*window::lock()?, address, &request).map(drop)
    }

    /// To a Unix-domain socket whose file the process may write.
    pub fn connect_path(&self, path: &str) -> Result<()> {
        let stat = fs::stat(path)?;
        if stat.mode & mode::TYPE_MASK != mode::SOCKET {
            return Err(Error::ConnRefused);
        }
        fs::access(path, 2)?;
        self.connect_bytes(path.as_bytes(), 0)
    }

    /// How much was taken; a stream may take a part.
    pub fn send(&self, data: &[u8], flags: u32) -> Result<usize> {
        self.send_to(data, &[], flags)
    }

    pub fn send_to(&self, data: &[u8], to: &[u8], flags: u32) -> Result<usize> {
        let window = window::lock()?;
        let len = data.len().min(TRANSFER_MAX);
        window.mapping().copy_in(ADDRESS_MAX, &data[..len])?;
        let request = socket::Send {
            cookie: self.cookie,
            at: ADDRESS_MAX as u32,
            len: len as u32,
            address_len: to.len() as u32,
            flags,
        };
        Ok(ask_as(As::Anybody, &window, to, &request)?.count as usize)
    }

    /// All of it, of a stream.
    pub fn send_all(&self, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let count = self.send(data, 0)?;
            data = data.get(count..).ok_or(Error::BadReply)?;
        }
        Ok(())
    }

    pub fn receive(&self, out: &mut [u8], flags: u32) -> Result<Incoming> {
        let window = window::lock()?;
        let len = out.len().min(TRANSFER_MAX) as u32;
        let at = ADDRESS_MAX as u32;
        let request = socket::Receive { cookie: self.cookie, at, len, flags };
        let reply = ask(&window, &request)?;
        let count = reply.count as usize;
        let part = out.get_mut(..count).ok_or(Error::BadReply)?;
        window.mapping().copy_out(ADDRESS_MAX, part)?;
        let from = window.mapping().to_vec(0, (reply.address_len as usize).min(ADDRESS_MAX))?;
        Ok(Incoming { count, full: reply.full as usize, from })
    }

    /// Fills `out`; `ConnReset` if the stream ends before.
    pub fn receive_exact(&self, out: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < out.len() {
            match self.receive(&mut out[done..], flags::WAIT_ALL)?.count {
                0 => return Err(Error::ConnReset),
                count => done += count,
            }
        }
        Ok(())
    }

    /// `how`: 0 receiving, 1 sending, 2 both.
    pub fn shutdown(&self, how: u32) -> Result<()> {
        ask(&*window::lock()?, &socket::Shutdown { cookie: self.cookie, how }).map(drop)
    }

    pub fn set_option(&self, option: u32, value: u64) -> Result<()> {
        let request = socket::SetOption { cookie: self.cookie, option, value };
        ask(&*window::lock()?, &request).map(drop)
    }

    pub fn option(&self, option: u32) -> Result<u64> {
        let request = socket::GetOption { cookie: self.cookie, option };
        Ok(ask(&*window::lock()?, &request)?.value)
    }

    /// The own (or the peer's) address.
    pub fn name(&self, peer: bool) -> Result<Vec<u8>> {
        let window = window::lock()?;
        let reply = ask(&window, &socket::Name { cookie: self.cookie, peer })?;
        window.mapping().to_vec(0, (reply.address_len as usize).min(ADDRESS_MAX))
    }
}

/// Addresses of a host name, ports 0. `family` 4, 6 or 0.
pub fn resolve(name: &str, family: u32) -> Result<Vec<Address>> {
    let window = window::lock()?;
    if name.len() > window.mapping().len() {
        return Err(Error::NameTooLong);
    }
    let request = socket::Resolve { len: name.len() as u32, family };
    let reply = ask_as(As::Anybody, &window, name.as_bytes(), &request)?;
    let bytes = window.mapping().to_vec(0, reply.count as usize * size_of::<Address>())?;
    let (chunks, _) = bytes.as_chunks::<{ size_of::<Address>() }>();
    chunks.iter().map(|c| Address::read_from_bytes(c).map_err(|_| Error::BadReply)).collect()
}

/// Text of the server: see [`query`].
pub fn ask_about(kind: u32) -> Result<String> {
    let memory = Memory::create(QUERY_LEN, MemoryFlags::empty())?;
    let rights = Rights::READ | Rights::WRITE | Rights::TRANSFER;
    let shared = memory.handle().mint(rights, 0)?;
    let reply = ask(&*window::lock()?, &socket::Query { kind, memory: shared.raw() })?;
    let mapping = memory.map(Protection::READ | Protection::WRITE)?;
    let text = mapping.to_vec(0, reply.len as usize)?;
    String::from_utf8(text).map_err(|_| Error::BadReply)
}

/// A line of configuration, as `ip` takes it.
pub fn configure(line: &str) -> Result<()> {
    let request = socket::Configure { len: line.len() as u32 };
    ask_as(As::Oneself, &*window::lock()?, line.as_bytes(), &request).map(drop)
}
