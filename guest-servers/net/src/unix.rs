//! Unix-domain sockets: streams and datagrams between processes of this machine. Names are
//! absolute paths; the program's library makes the file that shows them, so that a path's
//! permissions are VFS's to check.
//!
//! A socket has its own receive queue; sending puts into the peer's. Peers know each other by cookie.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use xinim_abi::error::{Error, Result};
use xinim_abi::services::socket::poll;

use crate::socket::{Body, Incoming, Socket};
use crate::stack::{Cookie, Sockets};

/// Bytes a receive queue holds, and datagrams.
const QUEUE_BYTES: usize = 256 * 1024;
const QUEUE_DATAGRAMS: usize = 512;
pub const DATAGRAM_MAX: usize = 128 * 1024;
const BACKLOG_MAX: u32 = 256;
const PATH_MAX: usize = 108;

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Listening {
        backlog: usize,
        /// Sockets made for connections that nobody has accepted.
        ready: VecDeque<Cookie>,
    },
    Connected(Cookie),
    /// The peer is gone; what it sent can still be read.
    Ended,
}

#[derive(Debug, Default)]
pub struct Unix {
    stream: bool,
    name: Vec<u8>,
    /// Of an accepted connection: its listener's name.
    listener: Vec<u8>,
    state: State,
    /// Datagrams with their senders' names; a stream has one growing datagram.
    queue: VecDeque<(Vec<u8>, Vec<u8>)>,
    bytes: usize,
    /// The peer sends no more.
    peer_done: bool,
}

impl Unix {
    pub fn new(stream: bool) -> Self {
        Self { stream, ..Self::default() }
    }

    pub fn is_stream(&self) -> bool {
        self.stream
    }

    pub fn is_listening(&self) -> bool {
        matches!(self.state, State::Listening { .. })
    }

    /// What `getsockname` says.
    fn shown(&self) -> &[u8] {
        if self.name.is_empty() { &self.listener } else { &self.name }
    }

    fn room(&self) -> bool {
        self.bytes < QUEUE_BYTES && (self.stream || self.queue.len() < QUEUE_DATAGRAMS)
    }

    pub fn receive(&mut self, out: &mut [u8], peek: bool) -> Result<Incoming> {
        let Some((data, from)) = self.queue.front_mut() else {
            return match (&self.state, self.peer_done) {
                (State::Ended, _) | (_, true) => Ok(Incoming::default()),
                (State::Idle | State::Listening { .. }, _) if self.stream => Err(Error::NotConn),
                _ => Err(Error::Again),
            };
        };
        let count = data.len().min(out.len());
        out[..count].copy_from_slice(&data[..count]);
        let (full, from) = (data.len(), from.clone());
        if !peek {
            if self.stream && count < full {
                data.drain(..count);
                self.bytes -= count;
            } else {
                self.bytes -= full;
                self.queue.pop_front();
            }
        }
        Ok(Incoming { count, full: if self.stream { count } else { full }, from })
    }

    fn put(&mut self, data: &[u8], from: &[u8]) -> Result<usize> {
        if !self.room() {
            return Err(Error::Again);
        }
        let count = if self.stream { data.len().min(QUEUE_BYTES - self.bytes) } else { data.len() };
        self.bytes += count;
        match self.queue.back_mut() {
            Some((last, _)) if self.stream => last.extend_from_slice(&data[..count]),
            _ => self.queue.push_back((data[..count].to_vec(), from.to_vec())),
        }
        Ok(count)
    }

    pub fn available(&self) -> u64 {
        let first = self.queue.front().map_or(0, |(data, _)| data.len());
        if self.stream { self.bytes as u64 } else { first as u64 }
    }

    pub fn describe(&self) -> (&'static str, usize, &[u8]) {
        let state = match self.state {
            State::Idle => "UNCONNECTED",
            State::Listening { .. } => "LISTEN",
            State::Connected(_) => "CONNECTED",
            State::Ended => "DISCONNECTED",
        };
        (state, self.bytes, self.shown())
    }
}

fn get(sockets: &mut Sockets, cookie: Cookie) -> Result<&mut Unix> {
    match sockets.get_mut(&cookie) {
        Some(Socket { body: Body::Unix(unix), .. }) => Ok(unix),
        _ => Err(Error::NotConn),
    }
}

fn named(sockets: &mut Sockets, name: &[u8]) -> Option<Cookie> {
    sockets.iter().find_map(|(cookie, socket)| match &socket.body {
        Body::Unix(unix) if unix.name == name => Some(*cookie),
        _ => None,
    })
}

fn check(name: &[u8]) -> Result<()> {
    match name {
        [b'/', ..] if name.len() > PATH_MAX => Err(Error::NameTooLong),
        [b'/', _, ..] if !name.contains(&0) => Ok(()),
        _ => Err(Error::Inval),
    }
}

pub fn bind(sockets: &mut Sockets, cookie: Cookie, name: &[u8]) -> Result<()> {
    check(name)?;
    if named(sockets, name).is_some() {
        return Err(Error::AddrInUse);
    }
    let unix = get(sockets, cookie)?;
    if !unix.name.is_empty() {
        return Err(Error::Inval);
    }
    unix.name = name.to_vec();
    Ok(())
}

pub fn listen(sockets: &mut Sockets, cookie: Cookie, backlog: u32) -> Result<()> {
    let unix = get(sockets, cookie)?;
    if !unix.stream {
        return Err(Error::NotSup);
    }
    if unix.name.is_empty() {
        return Err(Error::DestAddrReq);
    }
    let limit = backlog.clamp(1, BACKLOG_MAX) as usize;
    match &mut unix.state {
        State::Idle => {
            unix.state = State::Listening { backlog: limit, ready: VecDeque::new() };
        }
        State::Listening { backlog, .. } => *backlog = limit,
        _ => return Err(Error::Inval),
    }
    Ok(())
}

/// Joins two fresh sockets.
pub fn join(sockets: &mut Sockets, first: Cookie, second: Cookie) -> Result<()> {
    get(sockets, first)?.state = State::Connected(second);
    get(sockets, second)?.state = State::Connected(first);
    Ok(())
}

/// A stream becomes connected at once, to `fresh`, which waits in the listener's backlog; a datagram
/// socket remembers its peer. Whether `fresh` is used is answered. `Again`: the backlog is full.
pub fn connect(sockets: &mut Sockets, cookie: Cookie, name: &[u8], fresh: Cookie) -> Result<bool> {
    check(name)?;
    let own = get(sockets, cookie)?;
    let (stream, idle) = (own.stream, own.state == State::Idle);
    if stream && !idle {
        return Err(Error::IsConn);
    }
    let target = named(sockets, name).ok_or(Error::ConnRefused)?;
    let peer = get(sockets, target)?;
    if peer.stream != stream {
        return Err(Error::ProtoType);
    }
    if !stream {
        get(sockets, cookie)?.state = State::Connected(target);
        return Ok(false);
    }
    let State::Listening { backlog, ready } = &mut peer.state else {
        return Err(Error::ConnRefused);
    };
    if ready.len() >= *backlog {
        return Err(Error::Again);
    }
    ready.push_back(fresh);
    let name = peer.name.clone();
    let accepted = get(sockets, fresh)?;
    accepted.stream = true;
    accepted.state = State::Connected(cookie);
    accepted.listener = name;
    get(sockets, cookie)?.state = State::Connected(fresh);
    Ok(true)
}

pub fn accept(sockets: &mut Sockets, cookie: Cookie) -> Result<(Cookie, Vec<u8>)> {
    let own = get(sockets, cookie)?;
    let State::Listening { ready, .. } = &mut own.state else {
        return Err(if own.stream { Error::Inval } else { Error::NotSup });
    };
    let connection = ready.pop_front().ok_or(Error::Again)?;
    let peer = match get(sockets, connection)?.state {
        State::Connected(peer) => get(sockets, peer).map(|unix| unix.name.clone()),
        _ => Ok(Vec::new()),
    };
    Ok((connection, peer.unwrap_or_default()))
}

pub fn send(sockets: &mut Sockets, cookie: Cookie, data: &[u8], to: &[u8]) -> Result<usize> {
    let own = get(sockets, cookie)?;
    let (stream, name) = (own.stream, own.name.clone());
    let target = match (&own.state, to) {
        (State::Connected(peer), []) => *peer,
        (State::Ended, []) if stream => return Err(Error::Pipe),
        (State::Ended, []) => return Err(Error::ConnRefused),
        (_, []) if stream => return Err(Error::NotConn),
        (_, []) => return Err(Error::DestAddrReq),
        (_, _) if stream => return Err(Error::IsConn),
        (_, to) => named(sockets, to).ok_or(Error::ConnRefused)?,
    };
    if !stream && data.len() > DATAGRAM_MAX {
        return Err(Error::MsgSize);
    }
    let gone = if stream { Error::Pipe } else { Error::ConnRefused };
    let shut = sockets.get(&target).is_some_and(|socket| socket.read_shut);
    let peer = get(sockets, target).map_err(|_| gone)?;
    if peer.stream != stream {
        return Err(Error::ProtoType);
    }
    if shut {
        return Err(Error::Pipe);
    }
    peer.put(data, &name)
}

/// The peer is told that no more comes.
pub fn shut_write(sockets: &mut Sockets, cookie: Cookie) -> Result<()> {
    match get(sockets, cookie)?.state {
        State::Connected(peer) => {
            if let Ok(unix) = get(sockets, peer) {
                unix.peer_done = true;
            }
            Ok(())
        }
        State::Ended => Ok(()),
        _ => Err(Error::NotConn),
    }
}

pub fn ready(sockets: &mut Sockets, cookie: Cookie) -> u32 {
    let Ok(unix) = get(sockets, cookie) else { return poll::ERROR };
    let mut ready = if unix.queue.is_empty() { 0 } else { poll::IN };
    let ended = unix.state == State::Ended || unix.peer_done;
    if unix.stream && ended {
        ready |= poll::IN | poll::READ_HANG_UP;
    }
    match &unix.state {
        State::Listening { ready: waiting, .. } => {
            return if waiting.is_empty() { 0 } else { poll::IN };
        }
        State::Ended => return ready | poll::OUT | poll::HANG_UP,
        State::Idle => return ready | if unix.stream { poll::HANG_UP } else { poll::OUT },
        State::Connected(peer) => {
            let peer = *peer;
            if get(sockets, peer).is_ok_and(|peer| peer.room()) {
                ready |= poll::OUT;
            }
        }
    }
    ready
}

pub fn name(sockets: &mut Sockets, cookie: Cookie, peer: bool) -> Result<Vec<u8>> {
    let own = get(sockets, cookie)?;
    if !peer {
        return Ok(own.shown().to_vec());
    }
    match own.state {
        State::Connected(peer) => {
            Ok(get(sockets, peer).map(|unix| unix.shown().to_vec()).unwrap_or_default())
        }
        State::Ended => Ok(Vec::new()),
        _ => Err(Error::NotConn),
    }
}

/// Ends what hung on the socket `unix`, which was taken out. Answers sockets to be closed with it:
/// connections nobody accepted.
pub fn closed(sockets: &mut Sockets, cookie: Cookie, unix: Unix) -> Vec<Cookie> {
    match unix.state {
        State::Connected(peer) if unix.stream => {
            if let Ok(peer) = get(sockets, peer) {
                peer.state = State::Ended;
            }
        }
        State::Listening { ready, .. } => return ready.into(),
        _ => {}
    }
    for socket in sockets.values_mut() {
        if let Body::Unix(other) = &mut socket.body
            && !other.stream
            && other.state == State::Connected(cookie)
        {
            other.state = State::Ended;
        }
    }
    Vec::new()
}
