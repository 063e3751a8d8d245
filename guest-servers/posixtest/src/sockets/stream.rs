//! Connected streams: their ends, errors, flags, waiting.

use alloc::vec;

use xinim_abi::error::Error;
use xinim_rt::fs;
use xinim_rt::net::{Socket, flags, option};
use xinim_rt::time;

use super::{HANG_UP, IN, MOMENT, MS, OUT, PATIENCE, READ_HANG_UP};
use super::{connection, receive, tcp, wait, wait_for};
use crate::World;
use crate::check::{Check, Entry, Must, same};
use crate::roles;

pub const CHECKS: &[Entry] = &[
    ("half-close", false, half_close),
    ("shutdown for reading", false, shutdown_reading),
    ("EPIPE", false, broken),
    ("linger 0 resets", false, linger_resets),
    ("close with unread bytes resets", false, unread_resets),
    ("close sends what is left", false, close_sends),
    ("peek and wait for all", false, peek),
    ("non-blocking receive and time limits", false, non_blocking),
    ("back-pressure", false, back_pressure),
    ("poll of a connection", false, poll_connection),
    ("many connections", false, many),
    ("descriptors", false, descriptors),
    ("O_NONBLOCK", false, nonblock_flag),
    ("a socket of two processes", false, inherited),
];

fn half_close(_: &World) -> Check {
    let (client, server) = connection()?;
    client.send_all(b"question").must("send")?;
    client.shutdown(1).must("shutdown")?;
    same("the question", receive(&server, 64, flags::WAIT_ALL), Ok(b"question".to_vec()))?;
    same("its end", receive(&server, 64, 0), Ok(vec![]))?;
    server.send_all(b"answer").must("the other way")?;
    drop(server);
    same("the answer", receive(&client, 64, flags::WAIT_ALL), Ok(b"answer".to_vec()))?;
    same("its end", receive(&client, 64, 0), Ok(vec![]))?;
    same("sending after it", client.send(b"x", 0), Err(Error::Pipe))
}

fn shutdown_reading(_: &World) -> Check {
    let (client, server) = connection()?;
    client.shutdown(0).must("shutdown")?;
    same("reading", receive(&client, 8, 0), Ok(vec![]))?;
    same("ready", wait(&client, IN, PATIENCE)? & IN, IN)?;
    client.send_all(b"x").must("sending")?;
    same("the peer reads", receive(&server, 8, 0), Ok(b"x".to_vec()))
}

fn broken(_: &World) -> Check {
    let (client, server) = connection()?;
    drop(server);
    wait_for("the peer is gone", &client, READ_HANG_UP)?;
    // The first may still go out; the peer answers with a reset.
    let end = time::now_ns() + PATIENCE;
    loop {
        match client.send(b"x", 0) {
            Ok(_) if time::now_ns() < end => time::sleep_ns(MS),
            Err(Error::Pipe | Error::ConnReset) => break,
            other => return same("send", other, Err(Error::Pipe)),
        }
    }
    same("from then on", client.send(b"x", 0), Err(Error::Pipe))?;
    same("by descriptor", fs::write(client.fd(), b"x"), Err(Error::Pipe))
}

fn linger_resets(_: &World) -> Check {
    let (client, server) = connection()?;
    client.set_option(option::LINGER, 1).must("SO_LINGER 0")?;
    drop(client);
    wait_for("the reset", &server, IN)?;
    same("receive", receive(&server, 8, 0), Err(Error::ConnReset))?;
    same("the error is told once", receive(&server, 8, 0), Ok(vec![]))
}

fn unread_resets(_: &World) -> Check {
    let (client, server) = connection()?;
    client.send_all(b"nobody reads this").must("send")?;
    wait_for("it is there", &server, IN)?;
    drop(server);
    wait_for("the reset", &client, IN)?;
    same("receive", receive(&client, 8, 0), Err(Error::ConnReset))
}

fn close_sends(_: &World) -> Check {
    let (client, server) = connection()?;
    let data = vec![7; 100_000];
    client.send_all(&data).must("send")?;
    drop(client);
    let mut got = vec![0; data.len()];
    server.receive_exact(&mut got).must("receive")?;
    same("all of it", got == data, true)?;
    same("the end", receive(&server, 8, 0), Ok(vec![]))
}

fn peek(_: &World) -> Check {
    let (client, server) = connection()?;
    client.send_all(b"abc").must("send")?;
    wait_for("data", &server, IN)?;
    same("MSG_PEEK", receive(&server, 2, flags::PEEK), Ok(b"ab".to_vec()))?;
    same("FIONREAD", server.option(option::AVAILABLE), Ok(3))?;
    same("in part", receive(&server, 2, 0), Ok(b"ab".to_vec()))?;
    // The rest comes later.
    let world = (client, server);
    world.0.send_all(b"de").must("send")?;
    same("MSG_WAITALL", receive(&world.1, 3, flags::WAIT_ALL), Ok(b"cde".to_vec()))
}

fn non_blocking(_: &World) -> Check {
    let (client, server) = connection()?;
    same("MSG_DONTWAIT", receive(&server, 1, flags::DONT_WAIT), Err(Error::Again))?;
    server.set_option(option::RECEIVE_TIMEOUT, MOMENT).must("SO_RCVTIMEO")?;
    let start = time::now_ns();
    same("SO_RCVTIMEO", receive(&server, 1, 0), Err(Error::Again))?;
    same("it waited", time::now_ns() - start >= MOMENT, true)?;
    client.send_all(b"x").must("send")?;
    same("in time", receive(&server, 1, 0), Ok(b"x".to_vec()))
}

fn back_pressure(_: &World) -> Check {
    let (client, server) = connection()?;
    let part = vec![9; 16 * 1024];
    let mut sent = 0;
    let end = time::now_ns() + PATIENCE;
    // Until both buffers are full and stay so.
    loop {
        match client.send(&part, flags::DONT_WAIT) {
            Ok(count) => sent += count,
            Err(Error::Again) if wait(&client, OUT, MOMENT)? & OUT == 0 => break,
            Err(Error::Again) => {}
            Err(error) => return Err(alloc::format!("send: {error}")),
        }
        same("memory is bounded", sent < 64 << 20 && time::now_ns() < end, true)?;
    }
    client.set_option(option::SEND_TIMEOUT, MOMENT).must("SO_SNDTIMEO")?;
    same("SO_SNDTIMEO", client.send(b"x", 0), Err(Error::Again))?;
    let mut got = vec![0; sent];
    server.receive_exact(&mut got).must("receive")?;
    same("the bytes", got.iter().all(|byte| *byte == 9), true)?;
    wait_for("room again", &client, OUT)
}

fn poll_connection(_: &World) -> Check {
    let (client, server) = connection()?;
    same("idle", wait(&client, IN | OUT, PATIENCE)?, OUT)?;
    same("nothing to read", wait(&client, IN, MOMENT)?, 0)?;
    server.send_all(b"x").must("send")?;
    wait_for("data", &client, IN)?;
    same("no hang-up", wait(&client, IN | READ_HANG_UP, PATIENCE)?, IN)?;
    server.shutdown(1).must("shutdown")?;
    wait_for("half closed", &client, IN | READ_HANG_UP)?;
    same("not all", wait(&client, OUT, PATIENCE)? & HANG_UP, 0)?;
    same("data before the end", receive(&client, 8, 0), Ok(b"x".to_vec()))?;
    client.shutdown(1).must("shutdown")?;
    wait_for("both are done", &client, HANG_UP)
}

/// Many short connections one after the other and beside each other.
fn many(_: &World) -> Check {
    for round in 0..40u8 {
        let (client, server) = connection()?;
        let (other, far) = connection()?;
        client.send_all(&[round]).must("send")?;
        far.send_all(&[!round]).must("send")?;
        same("one", receive(&server, 1, 0), Ok(vec![round]))?;
        same("two", receive(&other, 1, 0), Ok(vec![!round]))?;
    }
    Ok(())
}

fn descriptors(_: &World) -> Check {
    let (client, server) = connection()?;
    let stat = fs::fstat(client.fd()).must("fstat")?;
    same("type", stat.mode & fs::mode::TYPE_MASK, fs::mode::SOCKET)?;
    same("lseek", fs::seek(client.fd(), 0, 0), Err(Error::SPipe))?;
    same("write", fs::write(client.fd(), b"hello"), Ok(5))?;
    let mut bytes = [0; 8];
    same("read", fs::read(server.fd(), &mut bytes), Ok(5))?;
    let copy = fs::dup(client.fd(), 10).must("dup")?;
    drop(client);
    same("by the duplicate", fs::write(copy, b"again"), Ok(5))?;
    same("read", fs::read(server.fd(), &mut bytes), Ok(5))?;
    fs::close(copy).must("close")?;
    same("the end", fs::read(server.fd(), &mut bytes), Ok(0))?;
    let (read, write) = fs::pipe().must("pipe")?;
    same("a pipe", Socket::from_fd(read).map(drop), Err(Error::NotSock))?;
    // from_fd closed nothing.
    fs::close(read).must("close")?;
    fs::close(write).must("close")
}

fn nonblock_flag(_: &World) -> Check {
    let (client, server) = connection()?;
    let set = |on: u32| fs::descriptor_control(server.fd(), 4, on.into()).must("O_NONBLOCK");
    set(fs::flags::NONBLOCK)?;
    let mut byte = [0];
    same("read", fs::read(server.fd(), &mut byte), Err(Error::Again))?;
    same("recv", receive(&server, 1, 0), Err(Error::Again))?;
    set(0)?;
    client.send_all(b"x").must("send")?;
    same("again without", fs::read(server.fd(), &mut byte), Ok(1))?;
    let socket = tcp()?;
    fs::descriptor_control(socket.fd(), 4, fs::flags::NONBLOCK.into()).must("O_NONBLOCK")?;
    let (_listener, address) = super::listener(1)?;
    same("connect", socket.connect(&address), Err(Error::InProgress))?;
    wait_for("connected", &socket, OUT)
}

fn inherited(world: &World) -> Check {
    let (client, server) = connection()?;
    let child = roles::start(world, &["say-hello"], &[(5, server.fd()), (1, 1)])?;
    drop(server);
    same("the child's words", receive(&client, 5, flags::WAIT_ALL), Ok(b"hello".to_vec()))?;
    client.send_all(b"x").must("send")?;
    same("the child", roles::wait(child)?, 0)?;
    same("the end, with the child", receive(&client, 5, 0), Ok(vec![]))
}

/// Role: descriptor 5 is a socket.
pub fn say_hello() -> Check {
    same("write", fs::write(5, b"hello"), Ok(5))?;
    let socket = Socket::from_fd(5).must("the socket")?;
    same("an answer", receive(&socket, 1, 0), Ok(b"x".to_vec()))
}
