//! Sockets: what POSIX promises of them, over the loopback. No network device is needed.
//!
//! Both ends are most often in this one process: a connection is made by the server before anybody
//! accepts it, and what must not wait asks not to.

mod options;
pub mod stream;
pub mod tcp;
mod udp;
pub mod unix;

use alloc::format;
use alloc::string::String;

use xinim_abi::error::Error;
use xinim_abi::services::socket::{Address, poll};
use xinim_rt::fs::{self, PollFd};
use xinim_rt::net::{self, Socket, domain, kind};
use xinim_rt::time;
use zerocopy::FromBytes;

use crate::check::{Check, Entry, Must};

pub const GROUPS: [&[Entry]; 5] =
    [tcp::CHECKS, stream::CHECKS, udp::CHECKS, unix::CHECKS, options::CHECKS];

type Made<T> = core::result::Result<T, String>;

const MS: u64 = 1_000_000;
/// Longer than anything takes that is to happen.
const PATIENCE: u64 = 20_000 * MS;
/// Something that must not happen has not within this time.
const MOMENT: u64 = 50 * MS;

const IN: u16 = poll::IN as u16;
const OUT: u16 = poll::OUT as u16;
const ERROR: u16 = poll::ERROR as u16;
const HANG_UP: u16 = poll::HANG_UP as u16;
const READ_HANG_UP: u16 = poll::READ_HANG_UP as u16;

fn local(port: u16) -> Address {
    net::v4([127, 0, 0, 1], port)
}

fn tcp() -> Made<Socket> {
    Socket::tcp().must("socket")
}

fn udp() -> Made<Socket> {
    Socket::udp().must("socket")
}

fn stream_pair() -> Made<(Socket, Socket)> {
    Socket::pair(kind::STREAM).must("socketpair")
}

/// The own or the peer's Internet address.
fn name(socket: &Socket, peer: bool) -> Made<Address> {
    let bytes = socket.name(peer).must(if peer { "getpeername" } else { "getsockname" })?;
    Address::read_from_bytes(&bytes).map_err(|_| format!("an address of {} bytes", bytes.len()))
}

/// A listening socket and its address.
fn listener(backlog: u32) -> Made<(Socket, Address)> {
    let socket = tcp()?;
    socket.bind(&local(0)).must("bind")?;
    socket.listen(backlog).must("listen")?;
    let address = name(&socket, false)?;
    Ok((socket, address))
}

/// Both ends of a connection.
fn connection() -> Made<(Socket, Socket)> {
    let (listener, address) = listener(5)?;
    let client = tcp()?;
    client.connect(&address).must("connect")?;
    let (server, _) = listener.accept(0).must("accept")?;
    Ok((client, server))
}

/// What of `events` (and errors) comes within `ns`.
fn wait(socket: &Socket, events: u16, ns: u64) -> Made<u16> {
    let mut fds = [PollFd { fd: socket.fd(), events, ready: 0 }];
    fs::poll(&mut fds, Some(time::now_ns() + ns)).must("poll")?;
    Ok(fds[0].ready)
}

/// Waits for all of `events`.
fn wait_for(what: &str, socket: &Socket, events: u16) -> Check {
    let end = time::now_ns() + PATIENCE;
    loop {
        let ready = wait(socket, events, PATIENCE)?;
        if ready & events == events {
            return Ok(());
        }
        if time::now_ns() >= end {
            return Err(format!("{what}: {ready:#x} of {events:#x}"));
        }
        time::sleep_ns(MS);
    }
}

/// What a receive gives: bytes, or the error.
fn receive(socket: &Socket, len: usize, flags: u32) -> Result<alloc::vec::Vec<u8>, Error> {
    let mut bytes = alloc::vec![0; len];
    let got = socket.receive(&mut bytes, flags)?;
    bytes.truncate(got.count);
    Ok(bytes)
}

fn unix(kind: u32) -> Made<Socket> {
    Socket::open(domain::UNIX, kind, 0).must("socket")
}
