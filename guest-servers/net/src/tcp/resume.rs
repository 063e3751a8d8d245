//! Connections that go on after this server died: how one is kept, and how the next instance has it again.
//!
//! ```text
//! established ──keep──> record and memory ──(death)──> Suspended ──interface is back──> resuming ──> as before
//! ```
//! A resuming connection has a new smoltcp socket, which [`Tap`](crate::lasting::tap::Tap) leads to where the
//! last one was; what was written and not acknowledged is written to it again.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use smoltcp::socket::tcp::{self, State as Wire};
use smoltcp::wire::IpEndpoint;
use xinim_abi::error::{Error, Result};
use xinim_keep::codec::{Reader, Writer};

use super::{At, CONNECT_TIMEOUT, Connection, State, Tcp, make_sized, tune};
use crate::common::Net;
use crate::lasting::flow::{Left, Peer};
use crate::lasting::record;
use crate::lasting::tap::Key;
use crate::socket::{BUFFER_MAX, BUFFER_MIN, Options};

/// More than windows are rounded by (RFC 7323, 2.3): their scale is 7 for the longest buffer.
const ROUNDING: usize = 256;

/// What of a connection outlives this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    pub key: Key,
    /// Its memory, and the lengths of the socket's buffers.
    memory: u64,
    out: usize,
    incoming: usize,
}

/// What a new smoltcp socket is still to have before it is where the last one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resuming {
    unread: usize,
    ended: bool,
}

/// A connection of the last instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspended {
    kept: Kept,
    left: Left,
    /// The driver of its interface; empty for the loopback.
    driver: String,
    /// The program sends no more.
    pub closing: bool,
    /// Nothing is left of it but what was not read.
    over: bool,
}

impl Net {
    fn tap(&mut self, at: At) -> &mut crate::lasting::tap::Tap {
        self.interfaces[at.interface].port.tap()
    }

    /// Has an established connection outlive this server. `None`: it does not.
    pub(super) fn keep_connection(&mut self, at: At) -> Option<Kept> {
        let socket = self.tcp(at);
        let (local, remote) = (socket.local_endpoint()?, socket.remote_endpoint()?);
        let (out, incoming) = (socket.send_capacity(), socket.recv_capacity());
        let key = Key::new(local, remote);
        let kept = self.lasting.make(out, incoming).and_then(|(memory, mirror)| {
            let kept = Kept { key, memory, out, incoming };
            match self.tap(at).keep(&key, mirror) {
                Ok(()) => Ok(kept),
                Err(error) => {
                    self.lasting.forget(memory);
                    Err(error)
                }
            }
        });
        if kept.is_err() {
            self.tap(at).forget(&key);
        }
        kept.ok()
    }

    /// The program wrote what the stack has taken.
    pub(super) fn wrote(&mut self, at: At, kept: Option<Kept>, bytes: &[u8]) {
        let Some(kept) = kept else { return };
        let tap = self.tap(at);
        if tap.flow(&kept.key).is_some_and(|flow| flow.wrote(bytes).is_err()) {
            tap.give_up(&kept.key);
        }
    }

    pub(super) fn was_read(&mut self, at: At, kept: Option<Kept>, count: usize) {
        if let Some(kept) = kept
            && let Some(flow) = self.tap(at).flow(&kept.key)
        {
            flow.was_read(count);
        }
    }

    /// The connection is no more.
    pub(super) fn release(&mut self, at: At, kept: Option<Kept>) {
        if let Some(kept) = kept {
            self.tap(at).forget(&kept.key);
            self.lasting.forget(kept.memory);
        }
    }

    /// A connection as the next instance is to have it. `None`: nothing of it is kept.
    pub(super) fn suspended(&mut self, at: At, kept: Kept, closing: bool) -> Option<Suspended> {
        let driver = self.interfaces[at.interface].port.link_ref().driver();
        let over = self.tcp(at).state() == Wire::Closed;
        let flow = self.tap(at).flow(&kept.key).filter(|flow| flow.is_kept())?;
        let left = Left { peer: flow.peer, written: flow.written, read: flow.read };
        Some(Suspended { kept, left, driver, closing, over })
    }

    /// Looks how a resuming connection does. `Some(Ok)`: it is as it was.
    pub(super) fn resumed(&mut self, at: At, kept: &Kept, still: Resuming) -> Option<Result<()>> {
        let socket = self.tcp(at);
        let ended = match socket.state() {
            Wire::SynSent => return None,
            Wire::Established => false,
            Wire::CloseWait => true,
            _ => return Some(Err(Error::ConnReset)),
        };
        if socket.recv_queue() < still.unread || ended != still.ended {
            return None;
        }
        let Some(flow) = self.tap(at).flow(&kept.key) else {
            return Some(Err(Error::ConnReset));
        };
        let unsent = flow.unsent();
        let socket = self.tcp(at);
        socket.set_timeout(None);
        let sent = unsent.map(|bytes| socket.send_slice(&bytes) == Ok(bytes.len()));
        if sent != Ok(true) {
            socket.abort();
            return Some(Err(Error::ConnReset));
        }
        self.tap(at).live(&kept.key);
        Some(Ok(()))
    }
}

impl Tcp {
    /// A connection of the last instance goes on, if its interface is there.
    pub(super) fn go_on(
        &mut self,
        net: &mut Net,
        options: &Options,
        suspended: &Suspended,
    ) -> Option<Error> {
        let (at, kept, resuming) = match suspended.resume(net)? {
            Ok(begun) => begun,
            Err(_) => {
                suspended.drop_it(net);
                self.state = State::Closed;
                return Some(Error::ConnReset);
            }
        };
        tune(net.tcp(at), options);
        self.state = State::Connection(Connection {
            at,
            remote: suspended.remote(),
            started: net.now,
            seen: Wire::SynSent,
            established: true,
            closing: suspended.closing,
            kept: Some(kept),
            resuming: Some(resuming),
        });
        None
    }
}

impl Suspended {
    pub fn put(&self, writer: Writer) -> Writer {
        let Self { kept, left, driver, closing, over } = self;
        let end = |(addr, port)| Some(IpEndpoint { addr, port });
        let writer = record::put_remote(writer, end(kept.key.local));
        let writer = record::put_remote(writer, end(kept.key.remote));
        writer
            .u64(kept.memory)
            .u32(kept.out as u32)
            .u32(kept.incoming as u32)
            .u32(left.written)
            .u32(left.read)
            .option(left.peer.max_segment.map(u32::from))
            .option(left.peer.scale.map(u32::from))
            .bool(left.peer.sack)
            .bytes(driver.as_bytes())
            .bool(*closing)
            .bool(*over)
    }

    /// The same, when the program has read so many bytes.
    pub fn put_rest(&self, writer: Writer, count: usize) -> Writer {
        let mut left = self.left;
        left.read = left.read.wrapping_add(count as u32);
        Self { left, ..self.clone() }.put(writer)
    }

    pub fn get(reader: &mut Reader<'_>, net: &mut Net) -> Result<Self> {
        let local = record::remote(reader)?.ok_or(Error::BadMessage)?;
        let remote = record::remote(reader)?.ok_or(Error::BadMessage)?;
        let memory = reader.u64()?;
        let (out, incoming) = (reader.u32()? as usize, reader.u32()? as usize);
        let sizes = BUFFER_MIN as usize..=BUFFER_MAX as usize;
        if !sizes.contains(&out) || !sizes.contains(&incoming) {
            return Err(Error::BadMessage);
        }
        let (written, read) = (reader.u32()?, reader.u32()?);
        let max_segment = reader.option()?.map(|size| size as u16);
        let scale = reader.option()?.map(|scale| scale.min(14) as u8);
        let peer = Peer { max_segment, scale, sack: reader.bool()? };
        let suspended = Self {
            kept: Kept { key: Key::new(local, remote), memory, out, incoming },
            left: Left { peer, written, read },
            driver: reader.str()?.to_owned(),
            closing: reader.bool()?,
            over: reader.bool()?,
        };
        net.lasting.reserve(memory);
        Ok(suspended)
    }

    pub fn remote(&self) -> IpEndpoint {
        let (addr, port) = self.kept.key.remote;
        IpEndpoint { addr, port }
    }

    /// What was not read of a connection that is over; `None`: it is not.
    pub fn rest(&self, net: &mut Net) -> Option<Result<Vec<u8>>> {
        self.over.then(|| {
            let Kept { memory, out, incoming, .. } = self.kept;
            let mirror = net.lasting.open(memory, out, incoming)?;
            let (_, given) = crate::lasting::flow::Flow::resume(&self.left, mirror)?;
            Ok(given.unread)
        })
    }

    /// Forgets it.
    pub fn drop_it(&self, net: &mut Net) {
        net.lasting.forget(self.kept.memory);
    }

    /// Begins to resume it, if its interface is there.
    pub fn resume(&self, net: &mut Net) -> Option<Result<(At, Kept, Resuming)>> {
        let interface = match self.driver.as_str() {
            "" => 0,
            name => {
                net.interfaces.iter().position(|netif| netif.port.link_ref().driver() == name)?
            }
        };
        let (addr, port) = self.kept.key.local;
        if interface > 0 && !net.interfaces[interface].has_address(&addr) {
            return None;
        }
        Some(self.resume_at(net, interface, IpEndpoint { addr, port }))
    }

    fn resume_at(
        &self,
        net: &mut Net,
        interface: usize,
        local: IpEndpoint,
    ) -> Result<(At, Kept, Resuming)> {
        let Kept { key, memory, out, incoming } = self.kept;
        let mirror = net.lasting.open(memory, out, incoming)?;
        let netif = &mut net.interfaces[interface];
        let (unread, ended) = netif.port.tap().resume(key, &self.left, mirror)?;
        // Of the lengths they had, as the scale of windows goes by them; a scaled window can be less than
        // the room there is, and all that was not read has to find its place again.
        let mut socket = make_sized(incoming + ROUNDING, out);
        socket.set_timeout(Some(CONNECT_TIMEOUT));
        let handle = netif.sockets.add(socket);
        let context = netif.interface.context();
        let socket = netif.sockets.get_mut::<tcp::Socket>(handle);
        if socket.connect(context, self.remote(), (local.addr, local.port)).is_err() {
            netif.sockets.remove(handle);
            netif.port.tap().forget(&key);
            return Err(Error::ConnReset);
        }
        Ok((At { interface, handle }, self.kept, Resuming { unread, ended }))
    }
}
