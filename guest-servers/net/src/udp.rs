//! UDP sockets: one smoltcp socket on each interface.

use alloc::vec;
use alloc::vec::Vec;

use smoltcp::iface::SocketHandle;
use smoltcp::socket::udp;
use smoltcp::wire::{IpAddress, IpEndpoint, IpListenEndpoint, Ipv4Address};
use xinim_abi::error::{Error, Result};
use xinim_abi::services::socket::poll;
use xinim_keep::codec::{Reader, Writer};

use crate::address;
use crate::handles::Handles;
use crate::lasting::record;
use crate::socket::{Incoming, Options};
use crate::stack::Net;

/// Datagrams one smoltcp socket keeps each way.
const PACKETS: usize = 256;
/// Longest payload: 65535 less IPv4's and UDP's headers.
const PAYLOAD_MAX: usize = 65507;

pub struct Udp {
    ipv6: bool,
    /// Bound to; the port is taken in [`Net::udp_ports`].
    local: Option<IpListenEndpoint>,
    peer: Option<IpEndpoint>,
    /// By interface.
    handles: Handles,
    /// Where the next look for a datagram begins.
    turn: usize,
}

impl Net {
    fn udp(&mut self, interface: usize, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.interfaces[interface].sockets.get_mut(handle)
    }
}

impl Udp {
    pub fn new(ipv6: bool) -> Self {
        Self { ipv6, local: None, peer: None, handles: Handles::default(), turn: 0 }
    }

    pub fn bind(&mut self, net: &mut Net, options: &Options, bytes: &[u8]) -> Result<()> {
        if self.local.is_some() {
            return Err(Error::Inval);
        }
        let mut local = address::decode(bytes)?;
        if let Some(addr) = local.addr
            && !net.is_own(&addr)
            && !addr.is_multicast()
            && addr != IpAddress::Ipv4(Ipv4Address::BROADCAST)
        {
            return Err(Error::AddrNotAvail);
        }
        if local.port == 0 {
            local.port = net.udp_ports.free(net.random.draw()).ok_or(Error::AddrInUse)?;
        } else if net.udp_ports.is_used(local.port) && !options.reuse_address {
            return Err(Error::AddrInUse);
        }
        net.udp_ports.take(local.port);
        self.local = Some(local);
        self.refresh(net, options);
        Ok(())
    }

    /// For the next instance; datagrams that were not read are lost, as on a wire.
    pub fn put(&self, writer: Writer) -> Writer {
        let writer = record::put_local(writer.bool(self.ipv6), self.local, self.ipv6);
        record::put_remote(writer, self.peer)
    }

    pub fn get(reader: &mut Reader<'_>, net: &mut Net) -> Result<Self> {
        let mut udp = Self::new(reader.bool()?);
        (udp.local, udp.peer) = (record::local(reader)?, record::remote(reader)?);
        if let Some(local) = udp.local {
            net.udp_ports.take(local.port);
        }
        Ok(udp)
    }

    /// A socket on interfaces that have come since.
    pub fn refresh(&mut self, net: &mut Net, options: &Options) {
        let Some(local) = self.local else { return };
        self.handles.cover(net, |interface| {
            let buffer = |size: u64| {
                let metadata = vec![udp::PacketMetadata::EMPTY; PACKETS];
                udp::PacketBuffer::new(metadata, vec![0; size as usize])
            };
            // Only one interface carries much; the others' buffers are small.
            let part = if interface == 0 { 4 } else { 1 };
            let (receive, send) = (options.receive_buffer / part, options.send_buffer / part);
            let floor = (PAYLOAD_MAX as u64 + 1).next_power_of_two();
            let mut socket = udp::Socket::new(buffer(receive.max(floor)), buffer(send.max(floor)));
            socket.set_hop_limit(Some(options.hop_limit));
            // Cannot fail: the port is not 0 and the socket is fresh.
            let _ = socket.bind(local);
            socket
        });
    }

    /// Chooses (or with an unspecified address and port 0 forgets) the peer.
    pub fn connect(&mut self, net: &mut Net, options: &Options, bytes: &[u8]) -> Result<()> {
        let remote = address::decode_remote(bytes)?;
        net.way(&remote.addr)?;
        if self.local.is_none() {
            self.bind(net, options, &address::wildcard(self.ipv6, 0))?;
        }
        self.peer = Some(remote);
        Ok(())
    }

    pub fn send(
        &mut self,
        net: &mut Net,
        options: &Options,
        data: &[u8],
        to: &[u8],
    ) -> Result<usize> {
        let remote = match (to, self.peer) {
            ([], Some(peer)) => peer,
            ([], None) => return Err(Error::DestAddrReq),
            (to, _) => address::decode_remote(to)?,
        };
        if data.len() > PAYLOAD_MAX {
            return Err(Error::MsgSize);
        }
        if remote.addr == IpAddress::Ipv4(Ipv4Address::BROADCAST) && !options.broadcast {
            return Err(Error::Access);
        }
        let interface = net.way(&remote.addr)?;
        if data.len() + 28 > net.interfaces[interface].port.mtu() as usize
            && matches!(remote.addr, IpAddress::Ipv6(_))
        {
            return Err(Error::MsgSize); // not fragmented by a host
        }
        if self.local.is_none() {
            self.bind(net, options, &address::wildcard(self.ipv6, 0))?;
        }
        let handle = self.handles.get(interface).ok_or(Error::NetUnreach)?;
        let mut meta = udp::UdpMetadata::from(remote);
        if interface == 0 {
            meta.local_address = Some(remote.addr).filter(|addr| net.is_own(addr));
        }
        match net.udp(interface, handle).send_slice(data, meta) {
            Ok(()) => Ok(data.len()),
            Err(udp::SendError::BufferFull) => Err(Error::Again),
            Err(udp::SendError::Unaddressable) => Err(Error::DestAddrReq),
        }
    }

    pub fn receive(&mut self, net: &mut Net, out: &mut [u8], peek: bool) -> Result<Incoming> {
        for step in 0..self.handles.len() {
            let interface = (self.turn + step) % self.handles.len();
            let Some(handle) = self.handles.get(interface) else { continue };
            loop {
                let peer = self.peer;
                let socket = net.udp(interface, handle);
                let (data, from) = match socket.peek() {
                    Ok((data, meta)) => (data, meta.endpoint),
                    Err(_) => break,
                };
                if peer.is_some_and(|peer| peer != from) {
                    let _ = socket.recv();
                    continue;
                }
                let count = data.len().min(out.len());
                let full = data.len();
                out[..count].copy_from_slice(&data[..count]);
                if !peek {
                    let _ = socket.recv();
                    self.turn = interface;
                }
                return Ok(Incoming { count, full, from: address::bytes(from.addr, from.port) });
            }
        }
        Err(Error::Again)
    }

    pub fn ready(&self, net: &mut Net) -> u32 {
        let mut ready = if self.handles.is_empty() { poll::OUT } else { 0 };
        for (interface, handle) in self.handles.iter() {
            let socket = net.udp(interface, handle);
            ready |= if socket.can_recv() { poll::IN } else { 0 };
            ready |= if socket.can_send() { poll::OUT } else { 0 };
        }
        ready
    }

    pub fn name(&self, peer: bool) -> Result<Vec<u8>> {
        if peer {
            let peer = self.peer.ok_or(Error::NotConn)?;
            return Ok(address::bytes(peer.addr, peer.port));
        }
        Ok(match self.local {
            Some(IpListenEndpoint { addr: Some(addr), port }) => address::bytes(addr, port),
            Some(IpListenEndpoint { addr: None, port }) => address::wildcard(self.ipv6, port),
            None => address::wildcard(self.ipv6, 0),
        })
    }

    pub fn close(&mut self, net: &mut Net) {
        self.handles.remove(net);
        if let Some(local) = self.local.take() {
            net.udp_ports.give_back(local.port);
        }
    }

    /// Bytes that wait, received and to be sent.
    pub fn queues(&self, net: &Net) -> (usize, usize) {
        let parts = self.handles.iter().map(|(interface, handle)| {
            let socket = net.interfaces[interface].sockets.get::<udp::Socket>(handle);
            (socket.recv_queue(), socket.send_queue())
        });
        parts.fold((0, 0), |sum, part| (sum.0 + part.0, sum.1 + part.1))
    }
}
