//! TCP: making and refusing connections, names, ports.

use xinim_abi::error::Error;
use xinim_abi::services::socket::Address;
use xinim_rt::net::{self, Socket, domain, flags, kind, option};
use xinim_rt::process;
use zerocopy::IntoBytes;

use super::{ERROR, HANG_UP, IN, MOMENT, OUT, PATIENCE};
use super::{connection, listener, local, name, receive, tcp, wait, wait_for};
use crate::World;
use crate::check::{Check, Entry, Must, same};
use crate::roles;

pub const CHECKS: &[Entry] = &[
    ("connection and names", false, names),
    ("connection refused", false, refused),
    ("non-blocking connect", false, non_blocking_connect),
    ("non-blocking connect refused", false, non_blocking_refused),
    ("backlog", false, backlog),
    ("accept without a connection", false, accept_nothing),
    ("address in use", false, address_in_use),
    ("address not available", false, address_not_available),
    ("what a socket is not ready for", false, wrong_state),
    ("poll of a listening socket", false, poll_listening),
    ("ports of root", false, reserved_ports),
    ("IPv6 and both", false, ipv6),
];

fn names(_: &World) -> Check {
    let (listener, address) = listener(1)?;
    same("the address", net::ipv4(&address), Some([127, 0, 0, 1]))?;
    same("a port was chosen", net::port(&address) >= 1024, true)?;
    let client = tcp()?;
    client.connect(&address).must("connect")?;
    let (server, peer) = listener.accept(0).must("accept")?;
    same("the client's peer", name(&client, true)?, address)?;
    same("the server's own", name(&server, false)?, address)?;
    same("the server's peer", name(&server, true)?, name(&client, false)?)?;
    same("accept's address", peer, name(&client, false)?.as_bytes().to_vec())?;
    same("connecting again", client.connect(&address), Err(Error::IsConn))
}

fn refused(_: &World) -> Check {
    let (listener, address) = listener(1)?;
    drop(listener);
    same("connect", tcp()?.connect(&address), Err(Error::ConnRefused))
}

fn non_blocking_connect(_: &World) -> Check {
    let (listener, address) = listener(1)?;
    let client = tcp()?;
    let first = client.connect_bytes(address.as_bytes(), flags::DONT_WAIT);
    same("connect", first, Err(Error::InProgress))?;
    wait_for("connected", &client, OUT)?;
    same("SO_ERROR", client.option(option::ERROR), Ok(0))?;
    let again = client.connect_bytes(address.as_bytes(), flags::DONT_WAIT);
    same("connecting again", again, Err(Error::IsConn))?;
    let (server, _) = listener.accept(0).must("accept")?;
    client.send_all(b"x").must("send")?;
    same("data", receive(&server, 8, 0), Ok(b"x".to_vec()))
}

fn non_blocking_refused(_: &World) -> Check {
    let (listener, address) = listener(1)?;
    drop(listener);
    let client = tcp()?;
    let first = client.connect_bytes(address.as_bytes(), flags::DONT_WAIT);
    same("connect", first, Err(Error::InProgress))?;
    let ready = wait(&client, OUT, PATIENCE)?;
    same("an error is there", ready & ERROR, ERROR)?;
    same("SO_ERROR", client.option(option::ERROR), Ok(Error::ConnRefused as u64))?;
    same("SO_ERROR once more", client.option(option::ERROR), Ok(0))
}

fn backlog(_: &World) -> Check {
    let (listener, address) = listener(2)?;
    let (first, second) = (tcp()?, tcp()?);
    first.connect(&address).must("the first")?;
    second.connect(&address).must("the second")?;
    // A third is refused or has to wait, but is not connected.
    let third = tcp()?;
    let begun = third.connect_bytes(address.as_bytes(), flags::DONT_WAIT);
    same("the third", begun, Err(Error::InProgress))?;
    let ready = wait(&third, OUT, MOMENT)?;
    same("the third is not there", ready == 0 || ready & ERROR != 0, true)?;
    first.send_all(b"1").must("send")?;
    second.send_all(b"2").must("send")?;
    // In the order in which they came.
    for expected in [b"1", b"2"] {
        let (server, _) = listener.accept(0).must("accept")?;
        same("who", receive(&server, 1, 0), Ok(expected.to_vec()))?;
    }
    let fourth = tcp()?;
    fourth.connect(&address).must("with room again")
}

fn accept_nothing(_: &World) -> Check {
    let (listener, _) = listener(1)?;
    let none =
        |result: xinim_rt::Result<(Socket, _)>| result.map(|_: (Socket, alloc::vec::Vec<u8>)| ());
    same("non-blocking", none(listener.accept(flags::DONT_WAIT)), Err(Error::Again))?;
    listener.set_option(option::RECEIVE_TIMEOUT, MOMENT).must("SO_RCVTIMEO")?;
    let start = xinim_rt::time::now_ns();
    same("with a time limit", none(listener.accept(0)), Err(Error::Again))?;
    same("it waited", xinim_rt::time::now_ns() - start >= MOMENT, true)
}

fn address_in_use(_: &World) -> Check {
    let (listener, address) = listener(5)?;
    same("a second bind", tcp()?.bind(&address), Err(Error::AddrInUse))?;
    let reuse = || {
        let socket = tcp()?;
        socket.set_option(option::REUSE_ADDRESS, 1).must("SO_REUSEADDR")?;
        Ok::<_, alloc::string::String>(socket)
    };
    same("beside a listener", reuse()?.bind(&address), Err(Error::AddrInUse))?;
    let client = tcp()?;
    client.connect(&address).must("connect")?;
    let (server, _) = listener.accept(0).must("accept")?;
    drop(listener);
    same("beside its connection", tcp()?.bind(&address), Err(Error::AddrInUse))?;
    reuse()?.bind(&address).must("with SO_REUSEADDR")?;
    // The server's end closes first and keeps the port for a while.
    drop(server);
    same("the end", receive(&client, 1, 0), Ok(alloc::vec![]))?;
    drop(client);
    let again = reuse()?;
    again.bind(&address).must("beside TIME_WAIT")?;
    again.listen(1).must("listen")
}

fn address_not_available(_: &World) -> Check {
    let foreign = net::v4([192, 0, 2, 7], 0);
    same("bind", tcp()?.bind(&foreign), Err(Error::AddrNotAvail))?;
    let socket = tcp()?;
    socket.bind(&local(0)).must("bind")?;
    same("bind again", socket.bind(&local(0)), Err(Error::Inval))?;
    let strange = Address { family: 9, ..Address::default() };
    same("a family nobody knows", tcp()?.bind(&strange), Err(Error::AfNoSup))
}

fn wrong_state(_: &World) -> Check {
    let socket = tcp()?;
    same("accept", socket.accept(0).map(drop), Err(Error::Inval))?;
    same("send", socket.send(b"x", 0), Err(Error::NotConn))?;
    same("receive", receive(&socket, 1, 0), Err(Error::NotConn))?;
    same("getpeername", socket.name(true), Err(Error::NotConn))?;
    same("shutdown", socket.shutdown(1), Err(Error::NotConn))?;
    let (listener, address) = listener(1)?;
    same("connect of a listener", listener.connect(&address), Err(Error::NotSup))?;
    let (client, server) = connection()?;
    same("listen of a connection", client.listen(1), Err(Error::Inval))?;
    same("accept from a connection", server.accept(0).map(drop), Err(Error::Inval))?;
    same("shutdown of nothing", client.shutdown(7), Err(Error::Inval))?;
    same("raw", Socket::open(domain::INET, kind::RAW, 255).map(drop), Err(Error::ProtoNoSup))?;
    let strange = Socket::open(77, kind::STREAM, 0).map(drop);
    same("a domain nobody knows", strange, Err(Error::AfNoSup))?;
    let strange = Socket::open(domain::INET, kind::STREAM, 17).map(drop);
    same("a stream of UDP", strange, Err(Error::ProtoNoSup))
}

fn poll_listening(_: &World) -> Check {
    let (listener, address) = listener(2)?;
    same("nothing yet", wait(&listener, IN, MOMENT)?, 0)?;
    let client = tcp()?;
    client.connect(&address).must("connect")?;
    wait_for("somebody came", &listener, IN)?;
    let (_server, _) = listener.accept(flags::DONT_WAIT).must("accept")?;
    same("nobody else", wait(&listener, IN, MOMENT)?, 0)?;
    // A socket that was never connected has hung up.
    same("a fresh socket", wait(&tcp()?, IN, MOMENT)? & HANG_UP, HANG_UP)
}

fn reserved_ports(world: &World) -> Check {
    let socket = tcp()?;
    socket.bind(&local(999)).must("root")?;
    same("a user", roles::run(world, &["user-port"], &[(1, 1)])?, 0)?;
    same("still root's", process::user_ids(0).must("ids")?.effective, 0)
}

/// Role: as a user.
pub fn user_port() -> Check {
    same("TCP", tcp()?.bind(&local(998)), Err(Error::Access))?;
    same("UDP", super::udp()?.bind(&local(998)), Err(Error::Access))?;
    tcp()?.bind(&local(0)).must("any port")?;
    let capture = Socket::open(domain::PACKET, kind::RAW, 0).map(drop);
    same("a capture", capture, Err(Error::Perm))?;
    same("configuring", net::configure("link set dev lo down"), Err(Error::Perm))
}

fn ipv6(_: &World) -> Check {
    let mut loopback = Address { family: 6, ..Address::default() };
    loopback.ip[15] = 1;
    let open = || Socket::open(domain::INET6, kind::STREAM, 0).must("socket");
    let server = open()?;
    // To no address: connections of both families.
    server.bind(&Address { family: 6, ..Address::default() }).must("bind")?;
    server.listen(4).must("listen")?;
    let port = net::port(&name(&server, false)?);
    let client = open()?;
    client.connect(&net::with_port(loopback, port)).must("connect to ::1")?;
    let (connection, _) = server.accept(0).must("accept")?;
    same("the address", name(&client, true)?.ip, loopback.ip)?;
    client.send_all(b"six").must("send")?;
    same("data", receive(&connection, 8, 0), Ok(b"six".to_vec()))?;
    let client = tcp()?;
    client.connect(&local(port)).must("connect to 127.0.0.1")?;
    let (connection, _) = server.accept(0).must("accept")?;
    client.send_all(b"four").must("send")?;
    same("data", receive(&connection, 8, 0), Ok(b"four".to_vec()))
}
