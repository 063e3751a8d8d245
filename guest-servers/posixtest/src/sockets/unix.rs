//! Unix-domain sockets: streams and datagrams between paths.

use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::Error;
use xinim_rt::fs;
use xinim_rt::net::{Socket, flags, kind};

use super::{HANG_UP, IN, MOMENT, OUT, PATIENCE, READ_HANG_UP};
use super::{Made, receive, stream_pair, unix, wait, wait_for};
use crate::World;
use crate::check::{Check, Entry, Must, make, same};
use crate::roles;

pub const CHECKS: &[Entry] = &[
    ("a stream by path", true, stream),
    ("paths that lead nowhere", true, nowhere),
    ("permission of a path", true, permission),
    ("backlog of a path", true, backlog),
    ("socketpair", false, pair),
    ("half-close of a pair", false, half_close),
    ("datagrams by path", true, datagrams),
    ("a full queue", false, full),
];

/// An absolute path in the working directory.
fn place(file: &str) -> Made<alloc::string::String> {
    Ok(alloc::format!("{}/{file}", fs::getcwd().must("getcwd")?))
}

fn listening(path: &str, backlog: u32) -> Made<Socket> {
    let socket = unix(kind::STREAM)?;
    socket.bind_path(path).must("bind")?;
    socket.listen(backlog).must("listen")?;
    Ok(socket)
}

fn stream(_: &World) -> Check {
    let path = place("s")?;
    let listener = listening(&path, 4)?;
    let stat = fs::lstat(&path).must("stat")?;
    same("type", stat.mode & fs::mode::TYPE_MASK, fs::mode::SOCKET)?;
    same("bind again", unix(kind::STREAM)?.bind_path(&path), Err(Error::AddrInUse))?;
    same("getsockname", listener.name(false), Ok(Vec::from(path.as_bytes())))?;
    let client = unix(kind::STREAM)?;
    client.connect_path(&path).must("connect")?;
    let (server, _) = listener.accept(0).must("accept")?;
    same("getpeername", client.name(true), Ok(Vec::from(path.as_bytes())))?;
    client.send_all(b"to").must("send")?;
    server.send_all(b"fro").must("send")?;
    same("one way", receive(&server, 8, 0), Ok(b"to".to_vec()))?;
    same("the other", receive(&client, 8, 0), Ok(b"fro".to_vec()))?;
    same("connect again", client.connect_path(&path), Err(Error::IsConn))?;
    drop(server);
    same("the end", receive(&client, 8, 0), Ok(vec![]))?;
    same("EPIPE", client.send(b"x", 0), Err(Error::Pipe))?;
    drop(listener);
    // The name stays, nobody is behind it.
    let late = unix(kind::STREAM)?.connect_path(&path);
    same("a name left over", late, Err(Error::ConnRefused))?;
    fs::unlink(&path).must("unlink")
}

fn nowhere(_: &World) -> Check {
    let connect = |path: &str| unix(kind::STREAM)?.connect_path(path).must("connect");
    let missing = unix(kind::STREAM)?.connect_path(&place("missing")?);
    same("no such path", missing, Err(Error::NoEnt))?;
    make("file", b"")?;
    let file = unix(kind::STREAM)?.connect_path(&place("file")?);
    same("a file", file, Err(Error::ConnRefused))?;
    let path = place("bound")?;
    let bound = unix(kind::STREAM)?;
    bound.bind_path(&path).must("bind")?;
    let silent = unix(kind::STREAM)?.connect_path(&path);
    same("nobody listens", silent, Err(Error::ConnRefused))?;
    bound.listen(1).must("listen")?;
    connect(&path)?;
    let wrong = unix(kind::DATAGRAM)?.connect_path(&path);
    same("of another kind", wrong, Err(Error::ProtoType))?;
    same("listen without a name", unix(kind::STREAM)?.listen(1), Err(Error::DestAddrReq))?;
    let long = place(&"x".repeat(120))?;
    same("a long name", unix(kind::STREAM)?.bind_path(&long), Err(Error::NameTooLong))
}

fn permission(world: &World) -> Check {
    fs::chmod(".", 0o755).must("chmod")?;
    let path = place("closed")?;
    let _listener = listening(&path, 4)?;
    fs::chmod(&path, 0o600).must("chmod")?;
    let role = ["user-connect", path.as_str()];
    same("a user", roles::run(world, &role, &[(1, 1)])?, i32::from(Error::Access as u16) as u32)?;
    fs::chmod(&path, 0o666).must("chmod")?;
    same("with permission", roles::run(world, &role, &[(1, 1)])?, 0)
}

/// Role: as a user. The error's number.
pub fn user_connect(path: &str) -> xinim_rt::Result<()> {
    Socket::open(xinim_rt::net::domain::UNIX, kind::STREAM, 0)?.connect_path(path)
}

fn backlog(_: &World) -> Check {
    let path = place("few")?;
    let listener = listening(&path, 1)?;
    let first = unix(kind::STREAM)?;
    first.connect_path(&path).must("connect")?;
    let second = unix(kind::STREAM)?.connect_bytes(path.as_bytes(), flags::DONT_WAIT);
    same("one too many", second, Err(Error::Again))?;
    wait_for("somebody came", &listener, IN)?;
    let (_server, _) = listener.accept(0).must("accept")?;
    unix(kind::STREAM)?.connect_path(&path).must("with room again")?;
    // Closed before it was accepted: there all the same, and at its end.
    let (server, _) = listener.accept(0).must("accept")?;
    same("the end", receive(&server, 1, 0), Ok(vec![]))
}

fn pair(_: &World) -> Check {
    let (a, b) = stream_pair()?;
    same("nothing", receive(&a, 8, flags::DONT_WAIT), Err(Error::Again))?;
    b.send_all(b"one").must("send")?;
    b.send_all(b"two").must("send")?;
    same("peek", receive(&a, 2, flags::PEEK), Ok(b"on".to_vec()))?;
    same("a stream has no bounds", receive(&a, 8, 0), Ok(b"onetwo".to_vec()))?;
    same("poll", wait(&a, IN | OUT, PATIENCE)?, OUT)?;
    let (c, d) = Socket::pair(kind::DATAGRAM).must("socketpair")?;
    c.send(b"one", 0).must("send")?;
    c.send(b"two", 0).must("send")?;
    same("datagrams have", receive(&d, 8, 0), Ok(b"one".to_vec()))?;
    same("the second", receive(&d, 8, 0), Ok(b"two".to_vec()))?;
    drop(a);
    same("hang-up", wait(&b, IN, PATIENCE)? & HANG_UP, HANG_UP)?;
    same("the end", receive(&b, 8, 0), Ok(vec![]))?;
    same("EPIPE", b.send(b"x", 0), Err(Error::Pipe))?;
    drop(c);
    same("a datagram to nobody", d.send(b"x", 0), Err(Error::ConnRefused))
}

fn half_close(_: &World) -> Check {
    let (a, b) = stream_pair()?;
    a.send_all(b"question").must("send")?;
    a.shutdown(1).must("shutdown")?;
    same("the question", receive(&b, 64, 0), Ok(b"question".to_vec()))?;
    same("its end", receive(&b, 64, 0), Ok(vec![]))?;
    wait_for("it shows", &b, READ_HANG_UP)?;
    b.send_all(b"answer").must("send")?;
    same("the answer", receive(&a, 64, 0), Ok(b"answer".to_vec()))?;
    same("sending", a.send(b"x", 0), Err(Error::Pipe))?;
    b.shutdown(0).must("shutdown")?;
    same("reading", receive(&b, 8, 0), Ok(vec![]))
}

fn datagrams(_: &World) -> Check {
    let (at_a, at_b) = (place("a")?, place("b")?);
    let (a, b) = (unix(kind::DATAGRAM)?, unix(kind::DATAGRAM)?);
    a.bind_path(&at_a).must("bind")?;
    b.bind_path(&at_b).must("bind")?;
    a.send_to(b"hello", at_b.as_bytes(), 0).must("sendto")?;
    let mut bytes = [0; 8];
    let got = b.receive(&mut bytes, 0).must("recvfrom")?;
    same("data", &bytes[..got.count], b"hello")?;
    same("from", got.from, Vec::from(at_a.as_bytes()))?;
    b.connect_path(&at_a).must("connect")?;
    b.send(b"back", 0).must("send")?;
    same("the answer", receive(&a, 8, 0), Ok(b"back".to_vec()))?;
    same("no address", a.send(b"x", 0), Err(Error::DestAddrReq))?;
    same("accept", a.accept(0).map(drop), Err(Error::NotSup))?;
    drop(a);
    same("the peer is gone", b.send(b"x", 0), Err(Error::ConnRefused))
}

fn full(_: &World) -> Check {
    let (a, b) = stream_pair()?;
    let part = vec![1; 16 * 1024];
    let mut sent = 0;
    loop {
        match a.send(&part, flags::DONT_WAIT) {
            Ok(count) => sent += count,
            Err(Error::Again) => break,
            Err(error) => return Err(alloc::format!("send: {error}")),
        }
        same("memory is bounded", sent < 64 << 20, true)?;
    }
    same("not ready", wait(&a, OUT, MOMENT)? & OUT, 0)?;
    let mut got = vec![0; sent];
    b.receive_exact(&mut got).must("receive")?;
    same("ready", wait(&a, OUT, PATIENCE)? & OUT, OUT)
}
