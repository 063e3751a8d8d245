//! TCP of the user network. A connection of the guest ends here, in smoltcp; its bytes go on
//! through a host socket.
//!
//! ```text
//!   SYN kept -> host connects -> socket made, SYN given to it -> bytes both ways, half-closes too
//!                 `-> refused: SYN given to nobody, which smoltcp answers with RST
//!   published port: host accepts -> we connect to the guest
//! ```
//! Back-pressure goes through: what the host does not take stays in the socket's window, what the
//! guest does not take stays with the host's socket.

use std::collections::{HashMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::num::{NonZeroU16, NonZeroUsize};
use std::time::{Duration, Instant};

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with, sockopt};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Checksum, Device, DeviceCapabilities, Medium, PacketMeta, RxToken, TxToken};
use smoltcp::socket::tcp::{CongestionControl, Socket, SocketBuffer, State};
use smoltcp::time::{Duration as StackDuration, Instant as StackInstant};
use smoltcp::wire::{HardwareAddress, IpAddress, IpCidr, IpEndpoint, TcpPacket};
use xinim_devices::net::Offloads;
use xinim_machine::net::user;
use xinim_tcp_recovery::{Recovery, Verdict};

use super::{Outbox, token};
use crate::reactor::Reactor;

/// Connections at a time, those being made and closed included.
pub const FLOWS_MAX: usize = 512;
/// Each direction of a connection; memory is touched only as it fills.
const BUFFER: usize = 512 << 10;
/// A guest that does not answer a published port's connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Turns of stack and sockets in one call.
const ROUNDS: usize = 16;
/// Bytes in one packet with segmentation offload; IP's length has 16 bits.
const LARGE: usize = 65_000;
const PORT_BASE: u16 = 32_768;

/// All connections.
pub struct Tcp {
    start: Instant,
    interface: Interface,
    wire: Wire,
    sockets: SocketSet<'static>,
    flows: HashMap<u64, Flow>,
    /// By guest and remote address.
    keys: HashMap<(SocketAddr, SocketAddr), u64>,
    next: u64,
    next_port: u16,
    listeners: Vec<(TcpListener, u16)>,
}

struct Flow {
    host: TcpStream,
    key: (SocketAddr, SocketAddr),
    /// `None` while the host connects.
    handle: Option<SocketHandle>,
    /// The guest's packet that opens the connection.
    syn: Vec<u8>,
    readable: bool,
    writable: bool,
    /// The guest's end of data has been passed on.
    shut: bool,
    /// The host's end of data has been seen.
    ended: bool,
}

impl Tcp {
    pub fn new(start: Instant) -> Self {
        let mut wire = Wire::default();
        let interface = new_interface(&mut wire);
        Self {
            start,
            interface,
            wire,
            sockets: SocketSet::new(Vec::new()),
            flows: HashMap::new(),
            keys: HashMap::new(),
            next: 0,
            next_port: PORT_BASE,
            listeners: Vec::new(),
        }
    }

    pub fn len(&self) -> usize {
        self.flows.len()
    }

    pub fn accept_offloads(&mut self, offloads: Offloads) {
        let large = offloads.contains(Offloads::TSO4);
        if large != self.wire.large {
            self.wire.large = large;
            // It asks for the wire's capabilities once; connections are not kept in it.
            self.interface = new_interface(&mut self.wire);
        }
    }

    pub fn publish(
        &mut self,
        host: SocketAddr,
        port: u16,
        reactor: &Reactor,
    ) -> std::io::Result<()> {
        let listener = TcpListener::bind(host)?;
        listener.set_nonblocking(true)?;
        reactor.add(&listener, token::TCP_LISTENER | self.listeners.len() as u64)?;
        self.listeners.push((listener, port));
        Ok(())
    }

    pub fn published(&self) -> Vec<u16> {
        let ports = self.listeners.iter();
        ports.filter_map(|(listener, _)| listener.local_addr().ok()).map(|a| a.port()).collect()
    }

    fn now(&self) -> StackInstant {
        StackInstant::from_micros(self.start.elapsed().as_micros() as i64)
    }

    /// When [`work`](Self::work) has something to do by itself.
    pub fn next_work(&mut self) -> Option<Instant> {
        let now = self.now();
        let delay = self.interface.poll_delay(now, &self.sockets);
        let overdue = self.wire.recovery.due().map(|at| match at > now {
            true => at - now,
            false => StackDuration::ZERO,
        });
        let delay = delay.into_iter().chain(overdue).min()?;
        Some(Instant::now() + Duration::from_micros(delay.total_micros()))
    }

    /// A packet from the guest, whose TCP header begins at `header`.
    pub fn input(
        &mut self,
        packet: &[u8],
        header: usize,
        guest: SocketAddr,
        remote: SocketAddr,
        target: Option<SocketAddr>,
        reactor: &Reactor,
    ) {
        let key = (guest, remote);
        if let Some(flow) = self.keys.get(&key).and_then(|number| self.flows.get(number)) {
            // While the host connects, a repeated SYN says nothing new.
            if flow.handle.is_some() {
                self.wire.input.push_back(packet.to_vec());
            }
            return;
        }
        let tcp = packet.get(header..).map(TcpPacket::new_checked);
        let syn = tcp.is_some_and(|tcp| tcp.is_ok_and(|tcp| tcp.syn() && !tcp.ack()));
        match target {
            Some(target) if syn => {
                if self.flows.len() < FLOWS_MAX
                    && self.connect(key, target, packet, reactor).is_ok()
                {
                    return;
                }
                // Refused at once, or too many.
                self.wire.input.push_back(packet.to_vec());
            }
            // Nobody has it: the stack answers with RST.
            _ => self.wire.input.push_back(packet.to_vec()),
        }
    }

    fn connect(
        &mut self,
        key: (SocketAddr, SocketAddr),
        target: SocketAddr,
        syn: &[u8],
        reactor: &Reactor,
    ) -> std::io::Result<()> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let family = AddressFamily::INET6;
        let family = if target.is_ipv6() { family } else { AddressFamily::INET };
        let socket = socket_with(family, SocketType::STREAM, flags, None)?;
        match rustix::net::connect(&socket, &target) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(error) => return Err(error.into()),
        }
        let host = TcpStream::from(socket);
        // Latency is the guest's to choose, by its own segments.
        let _ = host.set_nodelay(true);
        self.add(host, key, None, syn.to_vec(), reactor)
    }

    fn add(
        &mut self,
        host: TcpStream,
        key: (SocketAddr, SocketAddr),
        handle: Option<SocketHandle>,
        syn: Vec<u8>,
        reactor: &Reactor,
    ) -> std::io::Result<()> {
        let number = self.next;
        reactor.add(&host, token::TCP | number)?;
        self.next = (self.next + 1) & token::NUMBER;
        let flow = Flow {
            host,
            key,
            handle,
            syn,
            readable: true,
            writable: true,
            shut: false,
            ended: false,
        };
        self.flows.insert(number, flow);
        self.keys.insert(key, number);
        Ok(())
    }

    /// Somebody connected to a published port.
    pub fn accept(&mut self, number: u64, guest: Ipv4Addr, reactor: &Reactor) {
        loop {
            let Some((listener, port)) = self.listeners.get(number as usize) else { return };
            let Ok((host, _)) = listener.accept() else { return };
            let to = SocketAddr::from((guest, *port));
            if self.flows.len() >= FLOWS_MAX || host.set_nonblocking(true).is_err() {
                continue;
            }
            let _ = host.set_nodelay(true);
            let from = SocketAddr::from((user::GATEWAY, self.free_port(to)));
            let mut socket = new_socket();
            socket.set_timeout(Some(CONNECT_TIMEOUT.into()));
            let context = self.interface.context();
            if socket.connect(context, IpEndpoint::from(to), IpEndpoint::from(from)).is_ok() {
                let handle = self.sockets.add(socket);
                if self.add(host, (to, from), Some(handle), Vec::new(), reactor).is_err() {
                    self.sockets.remove(handle);
                }
            }
        }
    }

    fn free_port(&mut self, guest: SocketAddr) -> u16 {
        loop {
            self.next_port = self.next_port.checked_add(1).unwrap_or(PORT_BASE);
            let from = SocketAddr::from((user::GATEWAY, self.next_port));
            // There are more ports than connections.
            if !self.keys.contains_key(&(guest, from)) {
                return self.next_port;
            }
        }
    }

    /// A host socket has news.
    pub fn ready(&mut self, number: u64) {
        let Some(flow) = self.flows.get_mut(&number) else { return };
        flow.readable = true;
        flow.writable = true;
        if flow.handle.is_some() {
            return;
        }
        let connected = match flow.host.take_error() {
            Ok(None) => flow.host.peer_addr().is_ok(),
            _ => {
                // Refused or unreachable.
                let syn = std::mem::take(&mut flow.syn);
                self.remove(number);
                self.wire.input.push_back(syn);
                return;
            }
        };
        if connected {
            let mut socket = new_socket();
            if socket.listen(IpEndpoint::from(flow.key.1)).is_ok() {
                self.wire.input.push_back(std::mem::take(&mut flow.syn));
                flow.handle = Some(self.sockets.add(socket));
            }
        }
    }

    fn remove(&mut self, number: u64) {
        if let Some(flow) = self.flows.remove(&number) {
            self.keys.remove(&flow.key);
            if let Some(handle) = flow.handle {
                self.sockets.remove(handle);
            }
        }
    }

    /// Lets stack and sockets do what they can.
    pub fn work(&mut self, outbox: &mut Outbox, reactor: &Reactor) {
        for _ in 0..ROUNDS {
            let now = self.now();
            self.wire.room = !outbox.is_full();
            self.wire.recover(now);
            self.interface.poll(now, &mut self.wire, &mut self.sockets);
            let sent = !self.wire.output.is_empty();
            for (packet, segment) in self.wire.output.drain(..) {
                outbox.tcp(&packet, segment);
            }
            let mut moved = false;
            let mut finished = Vec::new();
            for (number, flow) in &mut self.flows {
                let Some(handle) = flow.handle else { continue };
                let socket = self.sockets.get_mut::<Socket>(handle);
                moved |= pump(flow, socket);
                if socket.state() == State::Closed {
                    if !(flow.shut && flow.ended) {
                        // The guest broke off, and so do we.
                        let _ = sockopt::set_socket_linger(&flow.host, Some(Duration::ZERO));
                    }
                    finished.push(*number);
                }
            }
            for number in finished {
                if let Some(flow) = self.flows.get(&number) {
                    reactor.remove(&flow.host);
                }
                self.remove(number);
            }
            if !(moved || sent) || outbox.is_full() {
                return;
            }
        }
        // There may be more; others come first.
        reactor.ring();
    }
}

/// The gateway's address, and every other one to answer for.
fn new_interface(wire: &mut Wire) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = random_seed();
    let mut interface = Interface::new(config, wire, StackInstant::ZERO);
    interface.update_ip_addrs(|addresses| {
        // The list has room for several.
        let _ = addresses.push(IpCidr::new(IpAddress::Ipv4(user::GATEWAY), user::PREFIX));
        let _ = addresses.push(IpCidr::new(IpAddress::Ipv6(user::GATEWAY6), user::PREFIX6));
    });
    interface.set_any_ip(true);
    // With these routes every address is ours to answer for.
    let _ = interface.routes_mut().add_default_ipv4_route(user::GATEWAY);
    let _ = interface.routes_mut().add_default_ipv6_route(user::GATEWAY6);
    interface
}

/// Moves bytes between a connection's two sockets; whether anything moved.
fn pump(flow: &mut Flow, socket: &mut Socket<'_>) -> bool {
    let mut moved = false;
    while flow.writable && socket.can_recv() {
        let host = &mut flow.host;
        let result = socket.recv(|data| match host.write(data) {
            Ok(count) => (count, Ok(count)),
            Err(error) => (0, Err(error.kind())),
        });
        match result {
            Ok(Ok(_)) => moved = true,
            Ok(Err(ErrorKind::Interrupted)) => {}
            Ok(Err(ErrorKind::WouldBlock)) => flow.writable = false,
            _ => {
                socket.abort();
                return true;
            }
        }
    }
    let ended = matches!(
        socket.state(),
        State::CloseWait | State::LastAck | State::Closing | State::TimeWait
    );
    if ended && !socket.can_recv() && !flow.shut {
        flow.shut = true;
        let _ = flow.host.shutdown(std::net::Shutdown::Write);
    }
    while flow.readable && !flow.ended && socket.can_send() {
        let host = &mut flow.host;
        let result = socket.send(|room| match host.read(room) {
            Ok(count) => (count, Ok(count)),
            Err(error) => (0, Err(error.kind())),
        });
        match result {
            Ok(Ok(0)) => flow.ended = true,
            Ok(Ok(_)) => moved = true,
            Ok(Err(ErrorKind::Interrupted)) => {}
            Ok(Err(ErrorKind::WouldBlock)) => flow.readable = false,
            _ => {
                socket.abort();
                return true;
            }
        }
    }
    // smoltcp 0.14 hears of no larger window any more in LAST-ACK, where this leads to if the guest has
    // ended its half: nothing may be left to be sent.
    let last = socket.state() == State::CloseWait && socket.send_queue() > 0;
    if flow.ended && socket.may_send() && !last {
        socket.close();
        moved = true;
    }
    moved
}

fn new_socket() -> Socket<'static> {
    let buffer = || SocketBuffer::new(vec![0; BUFFER]);
    let mut socket = Socket::new(buffer(), buffer());
    // There is no wire between us and the guest to be congested.
    socket.set_congestion_control(CongestionControl::None);
    socket.set_ack_delay(None);
    socket.set_nagle_enabled(false);
    socket
}

fn random_seed() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::hash::RandomState::new().build_hasher().finish()
}

/// IP packets between the stack and the guest. What gets lost on the way (the guest's driver died, a
/// rule said so) is sent again by `recovery`.
struct Wire {
    input: VecDeque<Vec<u8>>,
    /// The end of the stream whose last bytes were taken in just now.
    end: Option<Vec<u8>>,
    output: Vec<(Vec<u8>, Option<u16>)>,
    /// Packets may be sent.
    room: bool,
    /// The guest takes large segments.
    large: bool,
    recovery: Recovery,
}

impl Default for Wire {
    fn default() -> Self {
        Self {
            input: VecDeque::new(),
            end: None,
            output: Vec::new(),
            room: false,
            large: false,
            recovery: Recovery::new(user::MTU.into()),
        }
    }
}

impl Wire {
    fn sending(&mut self, now: StackInstant) -> Sending<'_> {
        let Self { output, recovery, .. } = self;
        Sending { output, recovery, now, meta: PacketMeta::default() }
    }

    /// What nobody has acknowledged for too long goes to the guest again.
    fn recover(&mut self, now: StackInstant) {
        if self.room && self.recovery.due().is_some_and(|at| at <= now) {
            let mut again = Vec::new();
            self.recovery.expire(now, &mut again);
            self.output.extend(again.into_iter().map(|packet| (packet, None)));
        }
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, now: StackInstant) -> Option<(Received, Sending<'_>)> {
        if let Some(end) = self.end.take() {
            return Some((Received(end), self.sending(now)));
        }
        loop {
            let mut packet = self.input.pop_front()?;
            let mut again = Vec::new();
            let verdict = self.recovery.received(now, &packet, 0, &mut again);
            self.output.extend(again.into_iter().map(|packet| (packet, None)));
            if verdict == Verdict::Deliver {
                self.end = xinim_tcp_recovery::part_end(&mut packet, 0);
                return Some((Received(packet), self.sending(now)));
            }
        }
    }

    fn transmit(&mut self, now: StackInstant) -> Option<Sending<'_>> {
        let room = self.room && self.output.len() < 64;
        room.then(|| self.sending(now))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = user::MTU.into();
        // Filled in by whoever needs it (xinim_devices::net::offload).
        capabilities.checksum.tcp = Checksum::None;
        // Not with IPv6: smoltcp 0.14 drops what is longer than a packet there.
        capabilities.segmentation.tcpv4 = NonZeroUsize::new(LARGE).filter(|_| self.large);
        capabilities
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sending<'a> {
    output: &'a mut Vec<(Vec<u8>, Option<u16>)>,
    recovery: &'a mut Recovery,
    now: StackInstant,
    meta: PacketMeta,
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        let segment = self.meta.segmentation_offload_size.map(NonZeroU16::get);
        self.recovery.sent(self.now, &packet, 0);
        self.output.push((packet, segment));
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.meta = meta;
    }
}
