//! Socket options.

use xinim_abi::error::Error;
use xinim_rt::net::{Socket, domain, kind, option};

use super::{connection, listener, tcp, udp, unix};
use crate::World;
use crate::check::{Check, Entry, Must, same};

pub const CHECKS: &[Entry] = &[
    ("options that can be set", false, settable),
    ("options that tell", false, telling),
    ("options there are none of", false, none),
    ("small buffers", false, small_buffers),
];

fn settable(_: &World) -> Check {
    let socket = tcp()?;
    for (name, which, default) in [
        ("SO_REUSEADDR", option::REUSE_ADDRESS, 0),
        ("SO_KEEPALIVE", option::KEEP_ALIVE, 0),
        ("TCP_NODELAY", option::NO_DELAY, 0),
        ("SO_BROADCAST", option::BROADCAST, 0),
    ] {
        same(name, socket.option(which), Ok(default))?;
        socket.set_option(which, 7).must(name)?;
        same(name, socket.option(which), Ok(1))?;
        socket.set_option(which, 0).must(name)?;
        same(name, socket.option(which), Ok(0))?;
    }
    for (name, which) in [
        ("SO_RCVTIMEO", option::RECEIVE_TIMEOUT),
        ("SO_SNDTIMEO", option::SEND_TIMEOUT),
        ("SO_LINGER", option::LINGER),
    ] {
        same(name, socket.option(which), Ok(0))?;
        socket.set_option(which, 12_345).must(name)?;
        same(name, socket.option(which), Ok(12_345))?;
    }
    socket.set_option(option::HOP_LIMIT, 3).must("IP_TTL")?;
    same("IP_TTL", socket.option(option::HOP_LIMIT), Ok(3))?;
    same("IP_TTL 0", socket.set_option(option::HOP_LIMIT, 0), Err(Error::Inval))
}

fn telling(_: &World) -> Check {
    let (listener, _) = listener(1)?;
    let (client, server) = connection()?;
    for (what, socket, expected) in
        [("a listener", &listener, 1), ("a client", &client, 0), ("an accepted one", &server, 0)]
    {
        same(what, socket.option(option::LISTENING), Ok(expected))?;
        same(what, socket.option(option::KIND), Ok(kind::STREAM.into()))?;
        same(what, socket.option(option::DOMAIN), Ok(domain::INET.into()))?;
        same(what, socket.option(option::ERROR), Ok(0))?;
    }
    same("a datagram's", udp()?.option(option::KIND), Ok(kind::DATAGRAM.into()))?;
    same("a path's", unix(kind::STREAM)?.option(option::DOMAIN), Ok(domain::UNIX.into()))?;
    let segment = client.option(option::MAX_SEGMENT).must("TCP_MAXSEG")?;
    same("TCP_MAXSEG", (536..65_536).contains(&segment), true)
}

fn none(_: &World) -> Check {
    let socket = tcp()?;
    same("get", socket.option(9999), Err(Error::NoProtoOpt))?;
    same("set", socket.set_option(9999, 1), Err(Error::NoProtoOpt))?;
    same("SO_TYPE cannot be set", socket.set_option(option::KIND, 1), Err(Error::NoProtoOpt))?;
    same("TCP_MAXSEG of UDP", udp()?.option(option::MAX_SEGMENT), Err(Error::NoProtoOpt))
}

fn small_buffers(_: &World) -> Check {
    let (listener, address) = listener(1)?;
    let client = Socket::tcp().must("socket")?;
    client.set_option(option::SEND_BUFFER, 8192).must("SO_SNDBUF")?;
    client.set_option(option::RECEIVE_BUFFER, 1).must("SO_RCVBUF")?;
    same("at least something", client.option(option::RECEIVE_BUFFER), Ok(4096))?;
    client.set_option(option::SEND_BUFFER, u64::MAX).must("SO_SNDBUF")?;
    same("at most so much", client.option(option::SEND_BUFFER), Ok(4 << 20))?;
    client.set_option(option::SEND_BUFFER, 8192).must("SO_SNDBUF")?;
    client.connect(&address).must("connect")?;
    let (server, _) = listener.accept(0).must("accept")?;
    // More than both hold, in small pieces.
    let data: alloc::vec::Vec<u8> = (0..50_000u32).map(|n| n as u8).collect();
    let (mut sent, mut got) = (0, alloc::vec::Vec::new());
    while got.len() < data.len() {
        if sent < data.len() {
            sent += match client.send(&data[sent..], xinim_rt::net::flags::DONT_WAIT) {
                Ok(count) => count,
                Err(Error::Again) => 0,
                Err(error) => return Err(alloc::format!("send: {error}")),
            };
        }
        got.extend(super::receive(&server, 4096, 0).must("receive")?);
    }
    same("the bytes", got == data, true)
}
