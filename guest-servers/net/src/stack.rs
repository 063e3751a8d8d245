//! All interfaces and sockets, and what programs do with them. Nothing here waits: what would
//! answers `Again`, and [`Stack::ready`] tells when to try again.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use smoltcp::time::Instant;
use smoltcp::wire::{IpAddress, IpCidr, Ipv4Address, Ipv4Cidr, Ipv6Address, Ipv6Cidr};
use xinim_abi::error::{Error, Result};
use xinim_abi::services::socket::{domain, flags, kind, option, poll};

pub use crate::common::{Net, Random};
use crate::icmp::Icmp;
use crate::lasting::{COOKIE_BITS, Lasting};
use crate::link::{Link, Loopback};
use crate::netif::{Changes, Netif, Origin};
use crate::packet::Packet;
use crate::ports::Ports;
use crate::resolver::{self, Lookup, Started};
use crate::route::Routes;
use crate::socket::{Body, Incoming, Options, Socket};
use crate::tcp::Tcp;
use crate::udp::Udp;
use crate::unix::{self, Unix};

/// What programs know a socket by.
pub type Cookie = u64;
pub type Sockets = BTreeMap<Cookie, Socket>;

/// Sockets of one process, and of all.
const OWNER_MAX: usize = 256;
const SOCKETS_MAX: usize = 2048;
/// Interfaces, the loopback included.
pub const INTERFACES_MAX: usize = 16;
/// Turns of the loopback before others have theirs.
const LOOPBACK_ROUNDS: usize = 64;
/// IP protocols a program may name.
const ICMP: u32 = 1;
const TCP: u32 = 6;
const UDP: u32 = 17;
const ICMPV6: u32 = 58;

pub struct Stack {
    pub net: Net,
    pub sockets: Sockets,
}

impl Stack {
    /// With nothing but the loopback.
    pub fn new(seed: [u64; 4], now: Instant) -> Self {
        let mut random = Random::new(seed);
        let mut lo = Netif::new("lo", Box::new(Loopback::default()), false, random.draw(), now);
        let v4 = Ipv4Cidr::new(Ipv4Address::LOCALHOST, 8);
        let v6 = Ipv6Cidr::new(Ipv6Address::LOCALHOST, 128);
        for cidr in [IpCidr::Ipv4(v4), IpCidr::Ipv6(v6)] {
            let _ = lo.add_address(cidr, Origin::Host);
        }
        // What is sent to any own address arrives here.
        lo.interface.set_any_ip(true);
        let _ = lo.interface.routes_mut().add_default_ipv4_route(Ipv4Address::LOCALHOST);
        let _ = lo.interface.routes_mut().add_default_ipv6_route(Ipv6Address::LOCALHOST);
        let net = Net {
            interfaces: [lo].into(),
            routes: Routes::default(),
            resolvers: Vec::new(),
            tcp_ports: Ports::default(),
            tcp_bound: Ports::default(),
            udp_ports: Ports::default(),
            icmp_idents: Ports::default(),
            orphans: Vec::new(),
            suspended: Vec::new(),
            lasting: Lasting::default(),
            random,
            now,
            changed: false,
        };
        Self { net, sockets: BTreeMap::new() }
    }

    /// Adds an Ethernet interface. `Exist`, `Limit`.
    pub fn add_interface(&mut self, name: &str, link: Box<dyn Link>, dhcp: bool) -> Result<usize> {
        if self.net.interface(name).is_ok() {
            return Err(Error::Exist);
        }
        if self.net.interfaces.len() >= INTERFACES_MAX {
            return Err(Error::Limit);
        }
        let seed = self.net.random.draw();
        let mut netif = Netif::new(name, link, true, seed, self.net.now);
        netif.set_dhcp(dhcp);
        self.net.interfaces.push(netif);
        self.net.changed = true;
        self.refresh();
        self.set_captures();
        Ok(self.net.interfaces.len() - 1)
    }

    /// Moves frames and time on. When to be called next, at the latest; `now` for at once.
    pub fn turn(&mut self, now: Instant) -> Option<Instant> {
        self.net.now = now;
        let mut more = false;
        for i in 0..self.net.interfaces.len() {
            let mut changes = Changes::default();
            more |= self.net.interfaces[i].turn(now, &mut changes);
            if let Some(lease) = &changes.lease {
                self.net.take_lease(i, lease);
            }
        }
        // The loopback's own answers, and what the others sent over it, until all is said.
        for _ in 0..LOOPBACK_ROUNDS {
            let mut changes = Changes::default();
            more |= self.net.interfaces[0].turn(now, &mut changes);
            if !self.net.interfaces[0].port.link_ref().is_waiting() {
                break;
            }
        }
        more |= self.net.interfaces[0].port.link_ref().is_waiting();
        self.refresh();
        self.net.sweep_orphans();
        self.deliver_captures();
        if more {
            return Some(now);
        }
        self.net.interfaces.iter_mut().filter_map(|netif| netif.due(now)).min()
    }

    /// Lets every socket see what the network did, and go on where the last instance was if its interface
    /// has come.
    pub fn refresh(&mut self) {
        self.net.resume_orphans();
        for (cookie, socket) in &mut self.sockets {
            match &mut socket.body {
                Body::Tcp(tcp) => {
                    let before = tcp.stage();
                    if let Some(error) = tcp.refresh(&mut self.net, &socket.options) {
                        socket.error = Some(error);
                    }
                    if tcp.stage() != before {
                        self.net.lasting.touch(*cookie);
                    }
                }
                Body::Udp(udp) => udp.refresh(&mut self.net, &socket.options),
                Body::Icmp(icmp) => icmp.refresh(&mut self.net, &socket.options),
                Body::Packet(_) | Body::Unix(_) => {}
            }
        }
    }

    fn set_captures(&mut self) {
        for (i, netif) in self.net.interfaces.iter_mut().enumerate() {
            let wanted = self
                .sockets
                .values()
                .any(|socket| matches!(&socket.body, Body::Packet(packet) if packet.wants(i)));
            netif.port.set_capturing(wanted);
        }
    }

    fn deliver_captures(&mut self) {
        for (i, netif) in self.net.interfaces.iter_mut().enumerate() {
            let captured = netif.port.take_captured();
            if captured.is_empty() {
                continue;
            }
            for socket in self.sockets.values_mut() {
                if let Body::Packet(packet) = &mut socket.body
                    && packet.wants(i)
                {
                    captured.iter().for_each(|frame| packet.take(i, frame));
                }
            }
        }
    }

    fn insert(&mut self, body: Body, domain: u32, owner: u32) -> Cookie {
        let socket = Socket {
            body,
            domain,
            options: Options::default(),
            error: None,
            read_shut: false,
            write_shut: false,
            owner,
            kept: false,
        };
        loop {
            let cookie = self.net.random.draw() >> (u64::BITS - COOKIE_BITS);
            if cookie != 0 && !self.sockets.contains_key(&cookie) {
                self.sockets.insert(cookie, socket);
                self.net.lasting.touch(cookie);
                return cookie;
            }
        }
    }

    fn check_room(&self, owner: u32) -> Result<()> {
        if self.sockets.len() >= SOCKETS_MAX {
            return Err(Error::NFile);
        }
        let own = self.sockets.values().filter(|socket| socket.owner == owner).count();
        if own >= OWNER_MAX { Err(Error::NoBufs) } else { Ok(()) }
    }

    /// `AfNoSup`, `ProtoNoSup`, `ProtoType`; `NoBufs` beyond a process's share.
    pub fn open(&mut self, domain: u32, kind: u32, protocol: u32, owner: u32) -> Result<Cookie> {
        self.check_room(owner)?;
        let ipv6 = domain == domain::INET6;
        let body = match (domain, kind, protocol) {
            (domain::UNIX, kind::STREAM | kind::DATAGRAM, 0) => {
                Body::Unix(Unix::new(kind == kind::STREAM))
            }
            (domain::INET | domain::INET6, kind::STREAM, 0 | TCP) => Body::Tcp(Tcp::new(ipv6)),
            (domain::INET | domain::INET6, kind::DATAGRAM, 0 | UDP) => Body::Udp(Udp::new(ipv6)),
            (domain::INET, kind::DATAGRAM, ICMP) | (domain::INET6, kind::DATAGRAM, ICMPV6) => {
                Body::Icmp(Icmp::new(ipv6))
            }
            (domain::PACKET, kind::RAW, _) => Body::Packet(Packet::new()),
            (domain::UNIX | domain::INET | domain::INET6 | domain::PACKET, 1..=3, _) => {
                return Err(Error::ProtoNoSup);
            }
            (domain::UNIX | domain::INET | domain::INET6 | domain::PACKET, ..) => {
                return Err(Error::ProtoType);
            }
            _ => return Err(Error::AfNoSup),
        };
        let cookie = self.insert(body, domain, owner);
        self.set_captures();
        Ok(cookie)
    }

    pub fn pair(&mut self, kind: u32, owner: u32) -> Result<(Cookie, Cookie)> {
        let first = self.open(domain::UNIX, kind, 0, owner)?;
        let second = match self.open(domain::UNIX, kind, 0, owner) {
            Ok(second) => second,
            Err(error) => {
                self.close(first);
                return Err(error);
            }
        };
        unix::join(&mut self.sockets, first, second)?;
        Ok((first, second))
    }

    fn get(&mut self, cookie: Cookie) -> Result<(&mut Socket, &mut Net)> {
        let (socket, net) = self.look(cookie)?;
        net.lasting.touch(cookie);
        Ok((socket, net))
    }

    /// As [`get`](Self::get), for what leaves the socket as it is.
    fn look(&mut self, cookie: Cookie) -> Result<(&mut Socket, &mut Net)> {
        let socket = self.sockets.get_mut(&cookie).ok_or(Error::BadF)?;
        Ok((socket, &mut self.net))
    }

    pub fn bind(&mut self, cookie: Cookie, address: &[u8]) -> Result<()> {
        let (socket, net) = self.get(cookie)?;
        match &mut socket.body {
            Body::Tcp(tcp) => tcp.bind(net, &socket.options, address),
            Body::Udp(udp) => udp.bind(net, &socket.options, address),
            Body::Icmp(_) => Err(Error::NotSup),
            Body::Packet(packet) => {
                packet.bind(net, address)?;
                self.set_captures();
                Ok(())
            }
            Body::Unix(_) => unix::bind(&mut self.sockets, cookie, address),
        }
    }

    pub fn listen(&mut self, cookie: Cookie, backlog: u32) -> Result<()> {
        let (socket, net) = self.get(cookie)?;
        match &mut socket.body {
            Body::Tcp(tcp) => tcp.listen(net, &socket.options, backlog),
            Body::Unix(_) => unix::listen(&mut self.sockets, cookie, backlog),
            _ => Err(Error::NotSup),
        }
    }

    /// `Again`: nobody has come yet.
    pub fn accept(&mut self, cookie: Cookie, owner: u32) -> Result<(Cookie, Vec<u8>)> {
        self.check_room(owner)?;
        let (socket, net) = self.get(cookie)?;
        let (domain, options) = (socket.domain, socket.options);
        match &mut socket.body {
            Body::Tcp(tcp) => {
                let (connection, peer) = tcp.accept(net, &options)?;
                let connection = self.insert(Body::Tcp(connection), domain, owner);
                if let Some(socket) = self.sockets.get_mut(&connection) {
                    socket.options = Options { non_blocking: false, ..options };
                }
                Ok((connection, peer))
            }
            Body::Unix(_) => {
                let (connection, peer) = unix::accept(&mut self.sockets, cookie)?;
                if let Some(socket) = self.sockets.get_mut(&connection) {
                    socket.owner = owner;
                }
                Ok((connection, peer))
            }
            _ => Err(Error::NotSup),
        }
    }

    /// `InProgress`: begun; [`Stack::connected`] tells the outcome.
    pub fn connect(&mut self, cookie: Cookie, address: &[u8]) -> Result<()> {
        let (socket, net) = self.get(cookie)?;
        let owner = socket.owner;
        match &mut socket.body {
            Body::Tcp(tcp) => tcp.connect(net, &socket.options, address),
            Body::Udp(udp) => udp.connect(net, &socket.options, address),
            Body::Icmp(icmp) => icmp.connect(net, address),
            Body::Packet(_) => Err(Error::NotSup),
            Body::Unix(_) => {
                self.check_room(owner)?;
                let fresh = self.insert(Body::Unix(Unix::new(true)), domain::UNIX, owner);
                let result = unix::connect(&mut self.sockets, cookie, address, fresh);
                if !matches!(result, Ok(true)) {
                    self.sockets.remove(&fresh);
                }
                result.map(drop)
            }
        }
    }

    /// Was a connection over TCP begun, however it does?
    pub fn is_begun(&self, cookie: Cookie) -> bool {
        match self.sockets.get(&cookie) {
            Some(Socket { body: Body::Tcp(tcp), .. }) => {
                tcp.connected() != Some(Err(Error::NotConn))
            }
            _ => false,
        }
    }

    /// How a connection that was begun does; `None`: not known yet.
    pub fn connected(&mut self, cookie: Cookie) -> Option<Result<()>> {
        match self.sockets.get_mut(&cookie) {
            Some(Socket { body: Body::Tcp(tcp), error, .. }) => match tcp.connected()? {
                Ok(()) => Some(Ok(())),
                Err(other) => Some(Err(error.take().unwrap_or(other))),
            },
            Some(_) => Some(Ok(())),
            None => Some(Err(Error::BadF)),
        }
    }

    pub fn send(&mut self, cookie: Cookie, data: &[u8], to: &[u8]) -> Result<usize> {
        let (socket, net) = self.get(cookie)?;
        if let Some(error) = socket.error.take() {
            return Err(error);
        }
        if socket.write_shut {
            return Err(Error::Pipe);
        }
        let options = socket.options;
        match &mut socket.body {
            Body::Tcp(tcp) => tcp.send(net, data),
            Body::Udp(udp) => udp.send(net, &options, data, to),
            Body::Icmp(icmp) => icmp.send(net, &options, data, to),
            Body::Packet(packet) => packet.send(net, data),
            Body::Unix(_) => unix::send(&mut self.sockets, cookie, data, to),
        }
    }

    pub fn receive(&mut self, cookie: Cookie, out: &mut [u8], how: u32) -> Result<Incoming> {
        let (socket, net) = self.get(cookie)?;
        let peek = how & flags::PEEK != 0;
        if socket.read_shut {
            return Ok(Incoming::default());
        }
        let result = match &mut socket.body {
            Body::Tcp(tcp) => tcp.receive(net, out, peek),
            Body::Udp(udp) => udp.receive(net, out, peek),
            Body::Icmp(icmp) => icmp.receive(net, out),
            Body::Packet(packet) => packet.receive(out),
            Body::Unix(unix) => unix.receive(out, peek),
        };
        // What came before an error is read first.
        match (&result, socket.error) {
            (Ok(Incoming { full: 0, .. }) | Err(_), Some(error)) => {
                socket.error = None;
                Err(error)
            }
            _ => result,
        }
    }

    /// `how`: 0 reading, 1 writing, 2 both.
    pub fn shutdown(&mut self, cookie: Cookie, how: u32) -> Result<()> {
        let (socket, net) = self.get(cookie)?;
        if how > 2 {
            return Err(Error::Inval);
        }
        let connected = match &mut socket.body {
            Body::Tcp(tcp) => tcp.name(true).map(drop),
            Body::Udp(udp) => udp.name(true).map(drop),
            Body::Unix(_) => Ok(()),
            Body::Icmp(_) | Body::Packet(_) => Err(Error::NotSup),
        };
        connected?;
        if how != 1 {
            socket.read_shut = true;
        }
        if how == 0 {
            return Ok(());
        }
        socket.write_shut = true;
        match &mut socket.body {
            Body::Tcp(tcp) => tcp.shut_write(net),
            Body::Unix(_) => unix::shut_write(&mut self.sockets, cookie),
            _ => Ok(()),
        }
    }

    pub fn set_option(&mut self, cookie: Cookie, option: u32, value: u64) -> Result<()> {
        let (socket, net) = self.get(cookie)?;
        socket.options.set(option, value)?;
        let options = socket.options;
        if let Body::Tcp(tcp) = &mut socket.body {
            tcp.apply(net, &options);
        }
        Ok(())
    }

    pub fn option(&mut self, cookie: Cookie, option: u32) -> Result<u64> {
        let (socket, net) = self.get(cookie)?;
        Ok(match option {
            option::ERROR => socket.error.take().map_or(0, |error| error as u64),
            option::KIND => socket.kind().into(),
            option::DOMAIN => socket.domain.into(),
            option::LISTENING => match &socket.body {
                Body::Tcp(tcp) => tcp.is_listening().into(),
                Body::Unix(unix) => unix.is_listening().into(),
                _ => 0,
            },
            option::AVAILABLE => match &socket.body {
                Body::Tcp(tcp) => tcp.available(net),
                Body::Unix(unix) => unix.available(),
                _ => return Err(Error::NoProtoOpt),
            },
            option::MAX_SEGMENT => match &socket.body {
                Body::Tcp(tcp) => tcp.max_segment(net),
                _ => return Err(Error::NoProtoOpt),
            },
            other => socket.options.get(other)?,
        })
    }

    pub fn name(&mut self, cookie: Cookie, peer: bool) -> Result<Vec<u8>> {
        let (socket, _) = self.look(cookie)?;
        match &socket.body {
            Body::Tcp(tcp) => tcp.name(peer),
            Body::Udp(udp) => udp.name(peer),
            Body::Icmp(icmp) => Ok(icmp.name()),
            Body::Packet(_) => Err(Error::NotSup),
            Body::Unix(_) => unix::name(&mut self.sockets, cookie, peer),
        }
    }

    /// The events of `poll` that are there.
    pub fn ready(&mut self, cookie: Cookie) -> u32 {
        let Ok((socket, net)) = self.look(cookie) else { return poll::ERROR };
        let extra = if socket.error.is_some() { poll::ERROR | poll::IN | poll::OUT } else { 0 };
        let shut = if socket.read_shut { poll::IN | poll::READ_HANG_UP } else { 0 };
        extra
            | shut
            | match &socket.body {
                Body::Tcp(tcp) => tcp.ready(net),
                Body::Udp(udp) => udp.ready(net),
                Body::Icmp(icmp) => icmp.ready(net),
                Body::Packet(packet) => packet.ready(),
                Body::Unix(_) => unix::ready(&mut self.sockets, cookie),
            }
    }

    /// Unknown cookies are no error: closing twice is as closing once.
    pub fn close(&mut self, cookie: Cookie) {
        let Some(mut socket) = self.sockets.remove(&cookie) else { return };
        self.net.lasting.touch(cookie);
        let linger = socket.options.linger;
        match &mut socket.body {
            Body::Tcp(tcp) => tcp.close(&mut self.net, cookie, linger),
            Body::Udp(udp) => udp.close(&mut self.net),
            Body::Icmp(icmp) => icmp.close(&mut self.net),
            Body::Packet(_) => self.set_captures(),
            Body::Unix(unix) => {
                let unix = core::mem::take(unix);
                for other in unix::closed(&mut self.sockets, cookie, unix) {
                    self.close(other);
                }
            }
        }
    }

    /// VFS has a descriptor for it.
    pub fn keep(&mut self, cookie: Cookie) -> Result<()> {
        self.get(cookie)?.0.kept = true;
        Ok(())
    }

    /// A process died: what it opened and has no descriptor ends.
    pub fn bury(&mut self, owner: u32) {
        let lost: Vec<Cookie> = self
            .sockets
            .iter()
            .filter(|(_, socket)| socket.owner == owner && !socket.kept)
            .map(|(cookie, _)| *cookie)
            .collect();
        lost.into_iter().for_each(|cookie| self.close(cookie));
    }

    /// Looks a name up; see [`resolver::start`].
    pub fn resolve(&mut self, name: &str, family: u32, running: usize) -> Result<Started> {
        resolver::start(&mut self.net, name, family, running)
    }

    /// `Again`: not yet.
    pub fn resolved(&mut self, lookup: &mut Lookup) -> Result<Vec<IpAddress>> {
        lookup.poll(&mut self.net)
    }

    pub fn cancel(&mut self, lookup: Lookup) {
        lookup.cancel(&mut self.net);
    }
}
