//! TCP sockets.
//!
//! ```text
//!   idle ──listen──> listening ──(accept)──> new socket, connected
//!    └────connect──> connecting ──SYN|ACK──> connected ──FINs──> closed
//!                        └──RST, time-out──────┴──RST──> closed, with an error to tell once
//! ```
//! smoltcp's sockets are for one connection each, so a listening socket keeps some in the listening
//! state on each interface and replaces those that a SYN has taken. Half-open ones and those not yet
//! accepted count against the backlog; when it is full nobody listens until one is accepted, fails or
//! times out, so a flood of SYNs costs a bounded amount of memory.
//!
//! A closed socket whose connection is not done yet goes on as an [`Orphan`]. Sockets are as they were in the
//! next instance of the server: `record.rs` says what they are, `resume.rs` has connections go on.

use alloc::collections::VecDeque;
use alloc::vec;
use alloc::vec::Vec;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::{self, CongestionControl, State as Wire};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IpAddress, IpEndpoint, IpListenEndpoint};
use xinim_abi::error::{Error, Result};
use xinim_abi::services::socket::poll;

mod listening;
mod orphan;
mod record;
mod resume;

use listening::Listening;
use orphan::RESET_TIME;
pub use orphan::{Orphan, SuspendedOrphan};
pub use resume::Suspended;
use resume::{Kept, Resuming};

use crate::address;
use crate::socket::{Incoming, Options};
use crate::stack::Net;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a connection may go on without its socket.
const ORPHAN_TIME: Duration = Duration::from_secs(60);
const BACKLOG_MAX: u32 = 256;
/// Buffers of incoming connections, unless the program chose smaller ones.
const INCOMING_BUFFER: u64 = 64 * 1024;

/// A smoltcp socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    pub interface: usize,
    pub handle: SocketHandle,
}

struct Connection {
    at: At,
    remote: IpEndpoint,
    started: Instant,
    /// The state last seen, to tell a reset from an orderly end.
    seen: Wire,
    established: bool,
    /// The program sends no more; the end goes out once what is left has been sent.
    closing: bool,
    /// `None`: it ends with this server.
    kept: Option<Kept>,
    /// It is one of the last instance's, and not yet where that was.
    resuming: Option<Resuming>,
}

enum State {
    Idle,
    Listening(Listening),
    Connection(Connection),
    Closed,
    /// A connection of the last instance whose interface is not there.
    Suspended(Suspended),
    /// One that the last instance had begun: to whom.
    Again(IpEndpoint),
    /// What was not read of a connection that is over, and how much of it was by now.
    Rest(Vec<u8>, usize, Suspended),
    /// A connection that could not be kept over the death of the last instance.
    Lost,
}

pub struct Tcp {
    ipv6: bool,
    /// What it is bound to; the port is taken in [`Net::tcp_ports`].
    local: Option<IpListenEndpoint>,
    /// By the program, not by an incoming connection: counted in [`Net::tcp_bound`].
    bound: bool,
    /// The port is of no meaning to the program: connecting chose it.
    chosen: bool,
    state: State,
}

fn make(options: &Options, incoming: bool) -> tcp::Socket<'static> {
    let limit = if incoming { INCOMING_BUFFER } else { u64::MAX };
    let size = |size: u64| size.min(limit) as usize;
    let mut socket = make_sized(size(options.receive_buffer), size(options.send_buffer));
    tune(&mut socket, options);
    socket
}

/// With buffers of so many bytes.
fn make_sized(receive: usize, send: usize) -> tcp::Socket<'static> {
    let buffer = |len: usize| tcp::SocketBuffer::new(vec![0; len]);
    let mut socket = tcp::Socket::new(buffer(receive), buffer(send));
    // smoltcp 0.14 has CUBIC too, which needs floating-point functions that `core` lacks.
    socket.set_congestion_control(CongestionControl::Reno);
    // With a delay, a sender of few segments waits for it each time.
    socket.set_ack_delay(None);
    socket
}

fn tune(socket: &mut tcp::Socket<'static>, options: &Options) {
    socket.set_nagle_enabled(!options.no_delay);
    socket.set_keep_alive(options.keep_alive.then_some(KEEP_ALIVE));
    socket.set_hop_limit(Some(options.hop_limit));
}

/// Ends this side's half of a connection; false: not yet. smoltcp 0.14 hears of no larger window any
/// more in LAST-ACK, where that leads to once the peer has ended its half: what is left to be sent
/// goes out before.
fn end(socket: &mut tcp::Socket<'static>) -> bool {
    if socket.state() == Wire::CloseWait && socket.send_queue() > 0 {
        return false;
    }
    socket.close();
    true
}

impl Net {
    pub fn tcp(&mut self, at: At) -> &mut tcp::Socket<'static> {
        self.interfaces[at.interface].sockets.get_mut(at.handle)
    }

    fn drop_tcp(&mut self, at: At) {
        self.interfaces[at.interface].sockets.remove(at.handle);
    }
}

impl Tcp {
    pub fn new(ipv6: bool) -> Self {
        Self { ipv6, local: None, bound: false, chosen: false, state: State::Idle }
    }

    /// `AddrInUse`: another socket has the port, or a connection that is ending (unless
    /// `SO_REUSEADDR`).
    pub fn bind(&mut self, net: &mut Net, options: &Options, bytes: &[u8]) -> Result<()> {
        if self.local.is_some() || !matches!(self.state, State::Idle) {
            return Err(Error::Inval);
        }
        let mut local = address::decode(bytes)?;
        if let Some(addr) = local.addr
            && !net.is_own(&addr)
        {
            return Err(Error::AddrNotAvail);
        }
        if local.port == 0 {
            local.port = net.tcp_ports.free(net.random.draw()).ok_or(Error::AddrInUse)?;
        } else if net.tcp_ports.is_used(local.port) {
            // Connections of the port's earlier listener may go on.
            if !options.reuse_address || net.tcp_bound.is_used(local.port) {
                return Err(Error::AddrInUse);
            }
        }
        net.tcp_ports.take(local.port);
        net.tcp_bound.take(local.port);
        self.bound = true;
        self.local = Some(local);
        Ok(())
    }

    /// It has no port any more.
    fn give_back(&mut self, net: &mut Net) {
        let Some(local) = self.local.take() else { return };
        net.tcp_ports.give_back(local.port);
        if core::mem::take(&mut self.bound) {
            net.tcp_bound.give_back(local.port);
        }
    }

    pub fn listen(&mut self, net: &mut Net, options: &Options, backlog: u32) -> Result<()> {
        let backlog = backlog.clamp(1, BACKLOG_MAX) as usize;
        match &mut self.state {
            State::Listening(listening) => listening.backlog = backlog,
            State::Idle => {
                if self.local.is_none() {
                    self.bind(net, options, &address::wildcard(self.ipv6, 0))?;
                }
                let local = self.local.ok_or(Error::Inval)?;
                let (waiting, ready) = (Vec::new(), VecDeque::new());
                self.state = State::Listening(Listening { local, backlog, waiting, ready });
                self.refresh(net, options);
            }
            // Connected, or over.
            _ => return Err(Error::Inval),
        }
        Ok(())
    }

    pub fn is_listening(&self) -> bool {
        matches!(self.state, State::Listening(_))
    }

    /// Sees what the network did; `Some`: the connection failed.
    pub fn refresh(&mut self, net: &mut Net, options: &Options) -> Option<Error> {
        match &mut self.state {
            State::Listening(listening) => {
                listening.refresh(net, options);
                None
            }
            State::Connection(connection) => {
                let resumes = connection.resuming.is_some();
                let (error, over) = connection.refresh(net);
                if over {
                    // Kept until it is read empty and closed.
                    connection.seen = Wire::Closed;
                } else if resumes && connection.resuming.is_none() {
                    self.apply(net, options);
                }
                error
            }
            State::Suspended(suspended) => {
                let suspended = suspended.clone();
                self.go_on(net, options, &suspended)
            }
            State::Again(remote) => {
                let remote = *remote;
                self.state = State::Idle;
                // The peer may have a connection to that port by now, which nobody here knows.
                if self.chosen {
                    self.give_back(net);
                }
                let bytes = address::bytes(remote.addr, remote.port);
                if !matches!(self.connect(net, options, &bytes), Err(Error::InProgress)) {
                    self.state = State::Again(remote);
                }
                None
            }
            State::Idle | State::Closed | State::Rest(..) | State::Lost => None,
        }
    }

    /// Something that the next instance has to know changes by itself: the stage of the connection.
    pub fn stage(&self) -> u8 {
        match &self.state {
            State::Connection(c) => {
                1 + u8::from(c.established) + 2 * u8::from(c.seen == Wire::Closed)
            }
            _ => 0,
        }
    }

    pub fn accept(&mut self, net: &mut Net, options: &Options) -> Result<(Tcp, Vec<u8>)> {
        let State::Listening(listening) = &mut self.state else { return Err(Error::Inval) };
        let at = listening.ready.pop_front().ok_or(Error::Again)?;
        let port = listening.local.port;
        let now = net.now;
        let socket = net.tcp(at);
        tune(socket, options);
        socket.set_timeout(None);
        let (local, remote) = (socket.local_endpoint(), socket.remote_endpoint());
        let seen = socket.state();
        // Reset between its arrival and now: as if the peer had come and gone.
        let remote = remote.unwrap_or(IpEndpoint { addr: IpAddress::v4(0, 0, 0, 0), port: 0 });
        let local = local.map(|end| IpListenEndpoint { addr: Some(end.addr), port: end.port });
        net.tcp_ports.take(port);
        let kept = net.keep_connection(at);
        let connection = Connection {
            at,
            remote,
            started: now,
            seen,
            established: true,
            closing: false,
            kept,
            resuming: None,
        };
        let tcp = Tcp {
            ipv6: self.ipv6,
            local: Some(local.unwrap_or(IpListenEndpoint { addr: None, port })),
            bound: false,
            chosen: false,
            state: State::Connection(connection),
        };
        self.refresh(net, options);
        Ok((tcp, address::bytes(remote.addr, remote.port)))
    }

    /// Starts a connection, or looks how it does: `InProgress` for the first, `Already` later.
    pub fn connect(&mut self, net: &mut Net, options: &Options, bytes: &[u8]) -> Result<()> {
        match &self.state {
            State::Idle => {}
            State::Connection(connection) if !connection.established => return Err(Error::Already),
            State::Again(_) => return Err(Error::Already),
            State::Listening(_) => return Err(Error::NotSup),
            _ => return Err(Error::IsConn),
        }
        let remote = address::decode_remote(bytes)?;
        let interface = net.way(&remote.addr)?;
        if self.local.is_none() {
            self.bind(net, options, &address::wildcard(self.ipv6, 0))?;
            self.chosen = true;
        }
        let port = self.local.map_or(0, |local| local.port);
        let from = match self.local.and_then(|local| local.addr) {
            Some(addr) => addr,
            None => net.source(interface, &remote.addr).ok_or(Error::NetUnreach)?,
        };
        let mut socket = make(options, false);
        socket.set_timeout(Some(CONNECT_TIMEOUT));
        let netif = &mut net.interfaces[interface];
        let handle = netif.sockets.add(socket);
        let socket = netif.sockets.get_mut::<tcp::Socket>(handle);
        if socket.connect(netif.interface.context(), remote, (from, port)).is_err() {
            netif.sockets.remove(handle);
            return Err(Error::AddrNotAvail);
        }
        let (started, seen) = (net.now, Wire::SynSent);
        let at = At { interface, handle };
        self.local = Some(IpListenEndpoint { addr: Some(from), port });
        let (established, closing) = (false, false);
        let (kept, resuming) = (None, None);
        let connection =
            Connection { at, remote, started, seen, established, closing, kept, resuming };
        self.state = State::Connection(connection);
        Err(Error::InProgress)
    }

    /// `None`: still connecting.
    pub fn connected(&self) -> Option<Result<()>> {
        match &self.state {
            State::Connection(connection) if connection.established => Some(Ok(())),
            State::Connection(connection) if connection.seen != Wire::Closed => None,
            State::Again(_) => None,
            State::Suspended(_) => Some(Ok(())),
            State::Closed | State::Lost | State::Connection(_) => Some(Err(Error::ConnRefused)),
            _ => Some(Err(Error::NotConn)),
        }
    }

    fn connection(&self) -> Result<&Connection> {
        match &self.state {
            State::Connection(connection) if connection.resuming.is_some() => Err(Error::Again),
            State::Connection(connection) if connection.established => Ok(connection),
            State::Connection(connection) if connection.seen != Wire::Closed => Err(Error::Again),
            State::Suspended(_) | State::Again(_) => Err(Error::Again),
            State::Connection(_) | State::Closed | State::Rest(..) | State::Lost => {
                Err(Error::Pipe)
            }
            _ => Err(Error::NotConn),
        }
    }

    pub fn send(&mut self, net: &mut Net, data: &[u8]) -> Result<usize> {
        let &Connection { at, closing, kept, .. } = self.connection()?;
        let socket = net.tcp(at);
        if closing || !socket.may_send() {
            return Err(Error::Pipe);
        }
        match socket.send_slice(data) {
            Ok(0) if !data.is_empty() => Err(Error::Again),
            Ok(count) => {
                net.wrote(at, kept, &data[..count]);
                Ok(count)
            }
            Err(_) => Err(Error::Pipe),
        }
    }

    /// 0 bytes: the end of the stream.
    pub fn receive(&mut self, net: &mut Net, out: &mut [u8], peek: bool) -> Result<Incoming> {
        let connection = match &mut self.state {
            State::Connection(connection) => connection,
            State::Closed | State::Lost => return Ok(Incoming::default()),
            State::Rest(bytes, at, _) => {
                let left = &bytes[*at..];
                let count = left.len().min(out.len());
                out[..count].copy_from_slice(&left[..count]);
                *at += if peek { 0 } else { count };
                return Ok(Incoming { count, full: count, from: Vec::new() });
            }
            State::Suspended(_) | State::Again(_) => return Err(Error::Again),
            _ => return Err(Error::NotConn),
        };
        if connection.resuming.is_some() {
            return Err(Error::Again);
        }
        let (at, kept) = (connection.at, connection.kept);
        let socket = net.tcp(at);
        if socket.can_recv() {
            let result = if peek { socket.peek_slice(out) } else { socket.recv_slice(out) };
            let count = result.unwrap_or(0);
            if !peek {
                net.was_read(at, kept, count);
            }
            return Ok(Incoming { count, full: count, from: Vec::new() });
        }
        let connecting = !connection.established && connection.seen != Wire::Closed;
        if connecting || socket.may_recv() {
            return Err(Error::Again);
        }
        Ok(Incoming::default())
    }

    pub fn available(&self, net: &mut Net) -> u64 {
        match &self.state {
            State::Connection(connection) => net.tcp(connection.at).recv_queue() as u64,
            State::Rest(bytes, at, _) => (bytes.len() - at) as u64,
            _ => 0,
        }
    }

    pub fn shut_write(&mut self, net: &mut Net) -> Result<()> {
        match &mut self.state {
            State::Connection(connection) => {
                connection.closing = connection.resuming.is_some() || !end(net.tcp(connection.at));
            }
            State::Suspended(suspended) => suspended.closing = true,
            State::Rest(..) => {}
            _ => return Err(Error::NotConn),
        }
        Ok(())
    }

    pub fn ready(&self, net: &mut Net) -> u32 {
        match &self.state {
            State::Idle => poll::OUT | poll::HANG_UP,
            State::Suspended(_) | State::Again(_) => 0,
            State::Connection(connection) if connection.resuming.is_some() => 0,
            State::Rest(..) | State::Closed | State::Lost => poll::IN | poll::OUT | poll::HANG_UP,
            State::Listening(listening) if listening.ready.is_empty() => 0,
            State::Listening(_) => poll::IN,
            State::Connection(connection) => {
                let (at, over) = (connection.at, connection.seen == Wire::Closed);
                if !connection.established && !over {
                    return 0;
                }
                let socket = net.tcp(at);
                let mut ready = 0;
                let ended = !socket.may_recv() && !socket.can_recv();
                if socket.can_recv() || ended {
                    ready |= poll::IN;
                }
                // Known before what came in front of it is read.
                let peer_done = matches!(
                    socket.state(),
                    Wire::CloseWait | Wire::LastAck | Wire::Closing | Wire::TimeWait | Wire::Closed
                );
                if peer_done {
                    ready |= poll::READ_HANG_UP;
                }
                if socket.can_send() || !socket.may_send() || connection.closing {
                    ready |= poll::OUT;
                }
                if peer_done && !socket.may_send() {
                    ready |= poll::HANG_UP;
                }
                ready
            }
        }
    }

    pub fn name(&self, peer: bool) -> Result<Vec<u8>> {
        if peer {
            let remote = match &self.state {
                State::Connection(connection) => connection.remote,
                State::Suspended(suspended) => suspended.remote(),
                _ => return Err(Error::NotConn),
            };
            return Ok(address::bytes(remote.addr, remote.port));
        }
        Ok(match self.local {
            Some(IpListenEndpoint { addr: Some(addr), port }) => address::bytes(addr, port),
            Some(IpListenEndpoint { addr: None, port }) => address::wildcard(self.ipv6, port),
            None => address::wildcard(self.ipv6, 0),
        })
    }

    /// Options that live in smoltcp's sockets.
    pub fn apply(&mut self, net: &mut Net, options: &Options) {
        if let State::Connection(connection) = &self.state {
            let socket = net.tcp(connection.at);
            tune(socket, options);
            if connection.established && connection.resuming.is_none() {
                socket.set_timeout(options.keep_alive.then_some(KEEP_ALIVE_TIMEOUT));
            }
        }
    }

    pub fn max_segment(&self, net: &Net) -> u64 {
        let interface = match &self.state {
            State::Connection(connection) => connection.at.interface,
            _ => return 536,
        };
        u64::from(net.interfaces[interface].port.mtu()).saturating_sub(40)
    }

    /// The socket is gone; what it had begun ends by itself within the time that `linger` says (see
    /// `option::LINGER`), or with a reset.
    pub fn close(&mut self, net: &mut Net, cookie: u64, linger: u64) {
        let time = match linger {
            0 => ORPHAN_TIME,
            ns => Duration::from_micros((ns - 1) / 1000).min(ORPHAN_TIME),
        };
        let port = self.local.map(|local| local.port);
        if let Some(port) = port
            && core::mem::take(&mut self.bound)
        {
            net.tcp_bound.give_back(port);
        }
        match core::mem::replace(&mut self.state, State::Closed) {
            State::Connection(Connection { at, kept, resuming, .. }) => {
                let socket = net.tcp(at);
                if resuming.is_some() {
                    // Only then.
                } else if linger == 1 || socket.can_recv() {
                    socket.abort();
                } else {
                    // What this leaves is done when the orphans are swept.
                    end(socket);
                }
                let time = if linger == 1 && resuming.is_none() { RESET_TIME } else { time };
                net.orphan(Orphan { cookie, at, until: net.now + time, port, kept, resuming });
                return;
            }
            State::Suspended(suspended) => {
                return net.suspend_orphan(cookie, suspended, port, net.now + time);
            }
            State::Listening(listening) => {
                for at in listening.waiting.into_iter().chain(listening.ready) {
                    let socket = net.tcp(at);
                    if socket.state() == Wire::Listen {
                        net.drop_tcp(at);
                    } else {
                        socket.abort();
                        net.orphan(Orphan {
                            cookie,
                            at,
                            until: net.now + RESET_TIME,
                            port: None,
                            kept: None,
                            resuming: None,
                        });
                    }
                }
            }
            State::Rest(_, _, suspended) => suspended.drop_it(net),
            State::Idle | State::Closed | State::Again(_) | State::Lost => {}
        }
        if let Some(port) = port {
            net.tcp_ports.give_back(port);
        }
    }

    /// For `netstat`.
    pub fn describe(&self, net: &Net) -> (&'static str, usize, usize) {
        match &self.state {
            State::Idle | State::Closed | State::Lost => ("CLOSED", 0, 0),
            State::Again(_) => ("SYN_SENT", 0, 0),
            State::Suspended(_) => ("SUSPENDED", 0, 0),
            State::Rest(bytes, at, _) => ("CLOSED", bytes.len() - at, 0),
            State::Listening(listening) => ("LISTEN", listening.ready.len(), listening.backlog),
            State::Connection(Connection { at, .. }) => {
                let sockets = &net.interfaces[at.interface].sockets;
                let socket = sockets.get::<tcp::Socket>(at.handle);
                (state_name(socket.state()), socket.recv_queue(), socket.send_queue())
            }
        }
    }
}

fn state_name(state: Wire) -> &'static str {
    match state {
        Wire::Closed => "CLOSED",
        Wire::Listen => "LISTEN",
        Wire::SynSent => "SYN_SENT",
        Wire::SynReceived => "SYN_RECV",
        Wire::Established => "ESTABLISHED",
        Wire::FinWait1 => "FIN_WAIT1",
        Wire::FinWait2 => "FIN_WAIT2",
        Wire::CloseWait => "CLOSE_WAIT",
        Wire::Closing => "CLOSING",
        Wire::LastAck => "LAST_ACK",
        Wire::TimeWait => "TIME_WAIT",
    }
}

impl Connection {
    /// An error that came, and whether the connection is over.
    fn refresh(&mut self, net: &mut Net) -> (Option<Error>, bool) {
        let now = net.now;
        if let Some(still) = self.resuming
            && let Some(kept) = &self.kept
        {
            match net.resumed(self.at, kept, still) {
                None => return (None, false),
                Some(Ok(())) => self.resuming = None,
                Some(Err(error)) => {
                    self.resuming = None;
                    self.seen = Wire::Closed;
                    return (Some(error), true);
                }
            }
        }
        let socket = net.tcp(self.at);
        if self.closing {
            self.closing = !end(socket);
        }
        let state = socket.state();
        let before = core::mem::replace(&mut self.seen, state);
        if !self.established && !matches!(state, Wire::SynSent | Wire::SynReceived | Wire::Closed) {
            self.established = true;
            socket.set_timeout(None);
            self.kept = net.keep_connection(self.at);
        }
        if state != Wire::Closed || before == Wire::Closed {
            return (None, state == Wire::Closed);
        }
        let error = match before {
            Wire::SynSent | Wire::SynReceived if now >= self.started + CONNECT_TIMEOUT => {
                Some(Error::TimedOut)
            }
            Wire::SynSent | Wire::SynReceived => Some(Error::ConnRefused),
            Wire::LastAck | Wire::TimeWait | Wire::Closing => None,
            _ => Some(Error::ConnReset),
        };
        (error, true)
    }
}
