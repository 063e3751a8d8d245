//! ICMP echo sockets (domain INET or INET6, kind DATAGRAM, protocol ICMP): a program sends echo
//! requests and receives the answers to them. The identifier is the socket's, whatever the
//! program writes there.

use alloc::vec;
use alloc::vec::Vec;

use smoltcp::socket::icmp;
use xinim_abi::error::{Error, Result};
use xinim_abi::services::socket::poll;
use xinim_keep::codec::{Reader, Writer};

use crate::address;
use crate::handles::Handles;
use crate::socket::{Incoming, Options};
use crate::stack::Net;

const BUFFER: usize = 128 * 1024;
const PACKETS: usize = 64;
/// ICMP's and ICMPv6's echo request.
const ECHO4: u8 = 8;
const ECHO6: u8 = 128;
/// Type, code, checksum, identifier, sequence number.
const HEADER: usize = 8;
const MESSAGE_MAX: usize = 65507;

pub struct Icmp {
    ipv6: bool,
    ident: Option<u16>,
    handles: Handles,
    peer: Vec<u8>,
}

impl Icmp {
    pub fn new(ipv6: bool) -> Self {
        Self { ipv6, ident: None, handles: Handles::default(), peer: Vec::new() }
    }

    fn bind(&mut self, net: &mut Net) -> Result<u16> {
        if let Some(ident) = self.ident {
            return Ok(ident);
        }
        let ident = net.icmp_idents.free(net.random.draw()).ok_or(Error::AddrInUse)?;
        net.icmp_idents.take(ident);
        self.ident = Some(ident);
        Ok(ident)
    }

    /// For the next instance; answers that were not read are lost, as on a wire.
    pub fn put(&self, writer: Writer) -> Writer {
        writer.bool(self.ipv6).option(self.ident.map(u32::from)).bytes(&self.peer)
    }

    pub fn get(reader: &mut Reader<'_>, net: &mut Net) -> Result<Self> {
        let mut icmp = Self::new(reader.bool()?);
        icmp.ident = reader.option()?.map(|ident| ident as u16);
        icmp.peer = reader.bytes()?.to_vec();
        if let Some(ident) = icmp.ident {
            net.icmp_idents.take(ident);
        }
        Ok(icmp)
    }

    /// A socket on interfaces that have come since.
    pub fn refresh(&mut self, net: &mut Net, options: &Options) {
        let Some(ident) = self.ident else { return };
        self.handles.cover(net, |_| {
            let buffer = || {
                icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; PACKETS], vec![0; BUFFER])
            };
            let mut socket = icmp::Socket::new(buffer(), buffer());
            socket.set_hop_limit(Some(options.hop_limit));
            let _ = socket.bind(icmp::Endpoint::Ident(ident));
            socket
        });
    }

    pub fn connect(&mut self, net: &mut Net, bytes: &[u8]) -> Result<()> {
        let remote = address::decode(bytes)?.addr.ok_or(Error::DestAddrReq)?;
        net.way(&remote)?;
        self.peer = bytes.to_vec();
        Ok(())
    }

    pub fn send(
        &mut self,
        net: &mut Net,
        options: &Options,
        data: &[u8],
        to: &[u8],
    ) -> Result<usize> {
        let to = if to.is_empty() { self.peer.as_slice() } else { to };
        if to.is_empty() {
            return Err(Error::DestAddrReq);
        }
        let remote = address::decode(to)?.addr.ok_or(Error::DestAddrReq)?;
        let echo = if self.ipv6 { ECHO6 } else { ECHO4 };
        if data.len() < HEADER || data[0] != echo || data[1] != 0 {
            return Err(Error::Inval);
        }
        if data.len() > MESSAGE_MAX {
            return Err(Error::MsgSize);
        }
        if self.ipv6 != matches!(remote, smoltcp::wire::IpAddress::Ipv6(_)) {
            return Err(Error::AfNoSup);
        }
        let ident = self.bind(net)?;
        self.refresh(net, options);
        let interface = net.way(&remote)?;
        let handle = self.handles.get(interface).ok_or(Error::NetUnreach)?;
        let socket = net.interfaces[interface].sockets.get_mut::<icmp::Socket>(handle);
        let message = match socket.send(data.len(), remote) {
            Ok(message) => message,
            Err(icmp::SendError::BufferFull) => return Err(Error::Again),
            Err(icmp::SendError::Unaddressable) => return Err(Error::DestAddrReq),
        };
        message.copy_from_slice(data);
        message[4..6].copy_from_slice(&ident.to_be_bytes());
        Ok(data.len())
    }

    pub fn receive(&mut self, net: &mut Net, out: &mut [u8]) -> Result<Incoming> {
        for (interface, handle) in self.handles.iter() {
            let socket = net.interfaces[interface].sockets.get_mut::<icmp::Socket>(handle);
            if let Ok((data, from)) = socket.recv() {
                let count = data.len().min(out.len());
                out[..count].copy_from_slice(&data[..count]);
                return Ok(Incoming { count, full: data.len(), from: address::bytes(from, 0) });
            }
        }
        Err(Error::Again)
    }

    pub fn ready(&self, net: &mut Net) -> u32 {
        let can_receive = self.handles.iter().any(|(interface, handle)| {
            net.interfaces[interface].sockets.get::<icmp::Socket>(handle).can_recv()
        });
        if can_receive { poll::IN | poll::OUT } else { poll::OUT }
    }

    pub fn name(&self) -> Vec<u8> {
        address::wildcard(self.ipv6, self.ident.unwrap_or(0))
    }

    pub fn close(&mut self, net: &mut Net) {
        self.handles.remove(net);
        if let Some(ident) = self.ident.take() {
            net.icmp_idents.give_back(ident);
        }
    }
}
