//! A socket as a record of the journal.
//!
//! ```text
//! version, domain, owner, flags, error, options, kind of body | what the body has
//! ```

use alloc::vec::Vec;

use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{IpEndpoint, IpListenEndpoint};
use xinim_abi::error::{Error, Result};
use xinim_keep::codec::{Reader, Writer};

use crate::address;
use crate::icmp::Icmp;
use crate::socket::{Body, Options, Socket};
use crate::stack::{Net, Stack};
use crate::tcp::{Suspended, Tcp};
use crate::udp::Udp;

const VERSION: u8 = 1;
const TCP: u8 = 1;
const UDP: u8 = 2;
const ICMP: u8 = 3;
/// A connection whose socket was closed.
const ORPHAN: u8 = 4;

pub fn put_local(writer: Writer, local: Option<IpListenEndpoint>, ipv6: bool) -> Writer {
    let bytes = match local {
        None => Vec::new(),
        Some(IpListenEndpoint { addr: Some(addr), port }) => address::bytes(addr, port),
        Some(IpListenEndpoint { addr: None, port }) => address::wildcard(ipv6, port),
    };
    writer.bytes(&bytes)
}

pub fn local(reader: &mut Reader<'_>) -> Result<Option<IpListenEndpoint>> {
    match reader.bytes()? {
        [] => Ok(None),
        bytes => address::decode(bytes).map(Some).map_err(|_| Error::BadMessage),
    }
}

pub fn put_remote(writer: Writer, remote: Option<IpEndpoint>) -> Writer {
    writer.bytes(&remote.map_or(Vec::new(), |end| address::bytes(end.addr, end.port)))
}

pub fn remote(reader: &mut Reader<'_>) -> Result<Option<IpEndpoint>> {
    match reader.bytes()? {
        [] => Ok(None),
        bytes => address::decode_remote(bytes).map(Some).map_err(|_| Error::BadMessage),
    }
}

impl Options {
    fn put(&self, writer: Writer) -> Writer {
        let flags =
            [self.reuse_address, self.keep_alive, self.no_delay, self.broadcast, self.non_blocking];
        let writer = flags.iter().fold(writer, |writer, &flag| writer.bool(flag));
        let numbers = [
            self.send_buffer,
            self.receive_buffer,
            self.linger,
            self.receive_timeout,
            self.send_timeout,
        ];
        numbers.iter().fold(writer, |writer, &number| writer.u64(number)).u8(self.hop_limit)
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        use crate::socket::{BUFFER_MAX, BUFFER_MIN};
        let options = Self {
            reuse_address: reader.bool()?,
            keep_alive: reader.bool()?,
            no_delay: reader.bool()?,
            broadcast: reader.bool()?,
            non_blocking: reader.bool()?,
            send_buffer: reader.u64()?,
            receive_buffer: reader.u64()?,
            linger: reader.u64()?,
            receive_timeout: reader.u64()?,
            send_timeout: reader.u64()?,
            hop_limit: reader.u8()?,
        };
        let sizes = [options.send_buffer, options.receive_buffer];
        let sane = sizes.iter().all(|size| (BUFFER_MIN..=BUFFER_MAX).contains(size));
        if sane && options.hop_limit > 0 { Ok(options) } else { Err(Error::BadMessage) }
    }
}

impl Socket {
    fn record(&self, net: &mut Net) -> Vec<u8> {
        let kind = match &self.body {
            // Those that are not kept are told apart from those that never were.
            Body::Tcp(_) | Body::Packet(_) | Body::Unix(_) => TCP,
            Body::Udp(_) => UDP,
            Body::Icmp(_) => ICMP,
        };
        let writer = Writer::new().u8(VERSION).u8(kind).u32(self.domain).u32(self.owner);
        let writer = writer.bool(self.read_shut).bool(self.write_shut).bool(self.kept);
        let writer = self.options.put(writer.u64(self.error.map_or(0, |error| error as u64)));
        let writer = match &self.body {
            Body::Tcp(tcp) => tcp.put(net, writer),
            Body::Udp(udp) => udp.put(writer),
            Body::Icmp(icmp) => icmp.put(writer),
            Body::Packet(_) | Body::Unix(_) => Tcp::lost().put(net, writer),
        };
        writer.done()
    }
}

/// What a record says.
enum Kept {
    Socket(Socket),
    Orphan(Suspended, Option<u16>, Instant),
}

fn read(record: &[u8], net: &mut Net) -> Result<Kept> {
    let mut reader = Reader::new(record);
    if reader.u8()? != VERSION {
        return Err(Error::BadMessage);
    }
    let kind = reader.u8()?;
    if kind == ORPHAN {
        let port = reader.option()?.map(|port| port as u16);
        let until = Instant::from_micros(reader.u64()? as i64);
        let suspended = Suspended::get(&mut reader, net)?;
        reader.end()?;
        return Ok(Kept::Orphan(suspended, port, until));
    }
    let (domain, owner) = (reader.u32()?, reader.u32()?);
    let (read_shut, write_shut, kept) = (reader.bool()?, reader.bool()?, reader.bool()?);
    let error = u16::try_from(reader.u64()?).ok().and_then(Error::from_code);
    let options = Options::read(&mut reader)?;
    let body = match kind {
        TCP => Body::Tcp(Tcp::get(&mut reader, net)?),
        UDP => Body::Udp(Udp::get(&mut reader, net)?),
        ICMP => Body::Icmp(Icmp::get(&mut reader, net)?),
        _ => return Err(Error::BadMessage),
    };
    reader.end()?;
    let mut socket = Socket { body, domain, options, error, read_shut, write_shut, owner, kept };
    if let Body::Tcp(tcp) = &socket.body
        && tcp.is_lost()
    {
        socket.error = Some(Error::ConnReset);
    }
    Ok(Kept::Socket(socket))
}

/// How long a connection without a socket may still take at most.
const ORPHAN_MAX: Duration = Duration::from_secs(60);

impl Stack {
    /// Makes the sockets of the last instance again. How many, and how many records made no sense.
    pub fn take_up(&mut self) -> (usize, usize) {
        let (mut made, mut bad) = (0, 0);
        for (cookie, record) in self.net.lasting.records() {
            match read(&record, &mut self.net) {
                Ok(Kept::Socket(socket)) => {
                    self.sockets.insert(cookie, socket);
                    made += 1;
                }
                Ok(Kept::Orphan(suspended, port, until)) => {
                    let until = until.min(self.net.now + ORPHAN_MAX);
                    self.net.suspend_orphan(cookie, suspended, port, until);
                }
                Err(_) => {
                    self.net.lasting.put(cookie, None);
                    bad += 1;
                }
            }
        }
        self.refresh();
        (made, bad)
    }

    /// Owners of sockets that have no descriptor yet.
    pub fn owners(&self) -> Vec<u32> {
        let mut owners: Vec<u32> =
            self.sockets.values().filter(|s| !s.kept).map(|socket| socket.owner).collect();
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// What was done to sockets outlives this server from here on.
    pub fn commit(&mut self) -> Result<()> {
        for cookie in self.net.lasting.take_dirty() {
            let record = match self.sockets.get(&cookie) {
                Some(socket) => Some(socket.record(&mut self.net)),
                None => self.net.orphan_record(cookie, Writer::new().u8(VERSION).u8(ORPHAN)),
            };
            self.net.lasting.put(cookie, record.as_deref());
        }
        self.net.lasting.commit()
    }
}
