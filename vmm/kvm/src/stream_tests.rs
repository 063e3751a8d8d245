use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use super::*;

const TOKENS: Tokens = Tokens { input: 1, output: 2 };

fn epoll() -> Arc<Epoll> {
    Arc::new(Epoll::new().unwrap())
}

fn next_token(epoll: &Epoll) -> Option<u64> {
    let mut events = [EpollEvent::default(); 1];
    match epoll.wait(1000, &mut events).unwrap() {
        0 => None,
        _ => Some(events[0].data()),
    }
}

/// Fills the stream, then reads everything at the other end: no byte may be lost or doubled.
fn fill_and_drain(epoll: &Epoll, mut stream: HostStream, mut other: impl Read) {
    let data: Vec<u8> = (0..1_000_000u32).map(|index| (index % 251) as u8).collect();
    let (mut written, mut received) = (0, Vec::new());
    let state = stream.output().unwrap();
    let mut buffer = vec![0; 30_000];
    while received.len() < data.len() {
        let accepted = stream.write(&data[written..]);
        written += accepted;
        assert_eq!(state.is_blocked(), written < data.len());
        let count = other.read(&mut buffer).unwrap();
        received.extend_from_slice(&buffer[..count]);
        if state.is_blocked() {
            while !ready(state.fd, libc::POLLOUT) {
                let count = other.read(&mut buffer).unwrap();
                received.extend_from_slice(&buffer[..count]);
            }
            assert_eq!(next_token(epoll), Some(TOKENS.output));
            state.unblock();
        }
    }
    assert!(received == data);
}

#[test]
fn a_full_socket_loses_nothing() {
    let epoll = epoll();
    let (ours, other) = UnixStream::pair().unwrap();
    let stream = HostStream::duplex(&epoll, TOKENS, ours.into()).unwrap();
    fill_and_drain(&epoll, stream, other);
}

#[test]
fn a_full_blocking_pipe_loses_nothing_and_never_blocks() {
    let epoll = epoll();
    let (reader, writer) = io::pipe().unwrap();
    let stream = HostStream::new(&epoll, TOKENS, None, Some(writer.into())).unwrap();
    fill_and_drain(&epoll, stream, reader);
}

#[test]
fn input_is_announced_and_left_until_taken() {
    let epoll = epoll();
    let (ours, mut other) = UnixStream::pair().unwrap();
    let mut stream = HostStream::duplex(&epoll, TOKENS, ours.into()).unwrap();
    let mut data = [0; 3];
    assert_eq!(stream.read(&mut data), 0);
    other.write_all(b"hello").unwrap();
    assert_eq!(next_token(&epoll), Some(TOKENS.input));
    assert_eq!((stream.read(&mut data), &data), (3, b"hel"));
    assert_eq!((stream.read(&mut data), &data[..2]), (2, &b"lo"[..]));
    assert_eq!(stream.read(&mut data), 0);
    other.write_all(b"!").unwrap();
    assert_eq!(next_token(&epoll), Some(TOKENS.input));
    assert_eq!(stream.read(&mut data), 1);
}

#[test]
fn a_vanished_peer_takes_everything_and_gives_nothing() {
    let epoll = epoll();
    let (ours, other) = UnixStream::pair().unwrap();
    let mut stream = HostStream::duplex(&epoll, TOKENS, ours.into()).unwrap();
    drop(other);
    assert_eq!(stream.write(b"anyone?"), 7);
    assert_eq!(stream.read(&mut [0; 8]), 0);
    assert!(!stream.output().unwrap().is_blocked());
}

#[test]
fn files_serve_as_streams() {
    let epoll = epoll();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(b"input").unwrap();
    let input = file.try_clone().unwrap();
    std::io::Seek::rewind(&mut file).unwrap();
    let mut stream = HostStream::new(&epoll, TOKENS, Some(input.into()), None).unwrap();
    let mut data = [0; 8];
    assert_eq!(stream.read(&mut data), 5);
    assert_eq!(stream.read(&mut data), 0);
    assert_eq!(stream.write(b"nowhere"), 7);
}
