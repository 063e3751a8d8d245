//! UDP: datagrams, whole and from whom.

use alloc::vec;

use xinim_abi::error::Error;
use xinim_abi::services::socket::Address;
use xinim_rt::net::{self, Socket, domain, flags, kind, option};
use zerocopy::IntoBytes;

use super::{IN, MOMENT, OUT, PATIENCE};
use super::{Made, local, name, receive, udp, wait};
use crate::World;
use crate::check::{Check, Entry, Must, same};

pub const CHECKS: &[Entry] = &[
    ("sendto and recvfrom", false, to_and_from),
    ("datagrams keep their bounds", false, bounds),
    ("a connected datagram socket", false, connected),
    ("what cannot be sent", false, refused),
    ("ports of datagrams", false, ports),
    ("datagrams over IPv6", false, ipv6),
];

/// Ports that are tried.
const PORTS: usize = 8;

fn bound() -> Made<(Socket, Address)> {
    let socket = udp()?;
    socket.bind(&local(0)).must("bind")?;
    let address = name(&socket, false)?;
    Ok((socket, address))
}

fn to_and_from(_: &World) -> Check {
    let (a, at_a) = bound()?;
    let (b, at_b) = bound()?;
    same("sendto", a.send_to(b"ping", at_b.as_bytes(), 0), Ok(4))?;
    let mut bytes = [0; 16];
    let got = b.receive(&mut bytes, 0).must("recvfrom")?;
    same("data", &bytes[..got.count], b"ping")?;
    same("from", got.address(), Some(at_a))?;
    b.send_to(b"pong", &got.from, 0).must("the answer")?;
    same("answer", receive(&a, 16, 0), Ok(b"pong".to_vec()))?;
    // One that was not bound gets a port when it sends.
    let c = udp()?;
    c.send_to(b"x", at_a.as_bytes(), 0).must("unbound")?;
    let got = a.receive(&mut bytes, 0).must("recvfrom")?;
    let port = got.address().map_or(0, |address| net::port(&address));
    same("its port", port, net::port(&name(&c, false)?))?;
    same("is one", port != 0, true)
}

fn bounds(_: &World) -> Check {
    let (a, _) = bound()?;
    let (b, at_b) = bound()?;
    for data in [&b"first"[..], b"", b"a longer third"] {
        a.send_to(data, at_b.as_bytes(), 0).must("send")?;
    }
    let mut bytes = [0; 5];
    same("peek", receive(&b, 16, flags::PEEK), Ok(b"first".to_vec()))?;
    same("first", receive(&b, 16, 0), Ok(b"first".to_vec()))?;
    let empty = b.receive(&mut bytes, 0).must("an empty one")?;
    same("empty", (empty.count, empty.from.is_empty()), (0, false))?;
    let cut = b.receive(&mut bytes, 0).must("a cut one")?;
    same("cut", (cut.count, cut.full, &bytes), (5, 14, b"a lon"))?;
    same("the rest is gone", receive(&b, 16, flags::DONT_WAIT), Err(Error::Again))?;
    let large = vec![3; 60_000];
    a.send_to(&large, at_b.as_bytes(), 0).must("60000 bytes")?;
    same("whole", receive(&b, 65_536, 0) == Ok(large), true)
}

fn connected(_: &World) -> Check {
    let (a, at_a) = bound()?;
    let (b, at_b) = bound()?;
    let (c, _) = bound()?;
    a.connect(&at_b).must("connect")?;
    same("getpeername", name(&a, true)?, at_b)?;
    c.send_to(b"stranger", at_a.as_bytes(), 0).must("send")?;
    b.send_to(b"friend", at_a.as_bytes(), 0).must("send")?;
    same("who is heard", receive(&a, 16, 0), Ok(b"friend".to_vec()))?;
    same("nobody else", wait(&a, IN, MOMENT)? & IN, 0)?;
    a.send(b"x", 0).must("send")?;
    same("without an address", receive(&b, 16, 0), Ok(b"x".to_vec()))?;
    same("ready to send", wait(&a, OUT, PATIENCE)? & OUT, OUT)
}

fn refused(_: &World) -> Check {
    let (a, at_a) = bound()?;
    same("no address", a.send(b"x", 0), Err(Error::DestAddrReq))?;
    same("too long", a.send_to(&[0; 65_508], at_a.as_bytes(), 0), Err(Error::MsgSize))?;
    let everybody = net::v4([255; 4], 9);
    same("broadcast", a.send_to(b"x", everybody.as_bytes(), 0), Err(Error::Access))?;
    same("listen", a.listen(1), Err(Error::NotSup))?;
    same("accept", a.accept(0).map(drop), Err(Error::NotSup))?;
    same("getpeername", a.name(true), Err(Error::NotConn))?;
    same("shutdown", a.shutdown(1), Err(Error::NotConn))?;
    same("nothing there", receive(&a, 8, flags::DONT_WAIT), Err(Error::Again))
}

fn ports(_: &World) -> Check {
    let (_a, at_a) = bound()?;
    same("a second bind", udp()?.bind(&at_a), Err(Error::AddrInUse))?;
    let b = udp()?;
    b.set_option(option::REUSE_ADDRESS, 1).must("SO_REUSEADDR")?;
    b.bind(&at_a).must("with SO_REUSEADDR")?;
    same("bind again", b.bind(&local(0)), Err(Error::Inval))?;
    let foreign = net::v4([192, 0, 2, 7], 0);
    same("a foreign address", udp()?.bind(&foreign), Err(Error::AddrNotAvail))?;
    // Ports of TCP are others; one may be in use there by a connection that has just ended.
    for _ in 0..PORTS {
        let (_socket, address) = bound()?;
        match super::tcp()?.bind(&address) {
            Err(Error::AddrInUse) => continue,
            other => return other.must("TCP"),
        }
    }
    Err("TCP: all ports that datagrams have are in use".into())
}

fn ipv6(_: &World) -> Check {
    let mut loopback = Address { family: 6, ..Address::default() };
    loopback.ip[15] = 1;
    let open = || Socket::open(domain::INET6, kind::DATAGRAM, 0).must("socket");
    let (a, b) = (open()?, open()?);
    a.bind(&loopback).must("bind")?;
    b.send_to(b"six", name(&a, false)?.as_bytes(), 0).must("send")?;
    let mut bytes = [0; 8];
    let got = a.receive(&mut bytes, 0).must("receive")?;
    same("data", &bytes[..got.count], b"six")?;
    same("from", got.address().map(|address| address.ip), Some(loopback.ip))
}
