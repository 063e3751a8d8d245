//! The loopback, an own address, Unix-domain sockets.

use alloc::vec::Vec;

use xinim_abi::error::Error;
use xinim_abi::services::socket::{kind, poll};

use super::wire::{A, Weather, World, ready, receive, v4};
use crate::address;

#[test]
fn to_oneself() {
    for to in [[127, 0, 0, 1], [127, 9, 9, 9], A] {
        let mut w = World::new(Weather::default());
        let listener = w.a.open(2, 1, 0, 1).unwrap();
        w.a.bind(listener, &v4([0; 4], 8000)).unwrap();
        w.a.listen(listener, 4).unwrap();
        let client = w.a.open(2, 1, 0, 1).unwrap();
        assert_eq!(w.a.connect(client, &v4(to, 8000)), Err(Error::InProgress));
        w.until(5, |w| w.a.connected(client)).unwrap();
        let (server, peer) = w.until(5, |w| ready(w.a.accept(listener, 1)));
        assert_eq!(peer[20..], to);
        w.a.send(server, b"hello", &[]).unwrap();
        assert_eq!(w.until(5, |w| ready(receive(&mut w.a, client, 9))), b"hello");

        let (one, two) = (w.a.open(2, 2, 0, 1).unwrap(), w.a.open(2, 2, 0, 1).unwrap());
        w.a.bind(one, &v4([0; 4], 8000)).unwrap();
        w.a.send(two, b"datagram", &v4(to, 8000)).unwrap();
        assert_eq!(w.until(5, |w| ready(receive(&mut w.a, one, 9))), b"datagram");
    }
}

/// What goes over the loopback needs no time and nobody to wake the server: one turn for a handshake.
#[test]
fn at_once() {
    let mut w = World::new(Weather::default());
    let listener = w.a.open(2, 1, 0, 1).unwrap();
    w.a.bind(listener, &v4([127, 0, 0, 1], 8000)).unwrap();
    w.a.listen(listener, 4).unwrap();
    for _ in 0..3 {
        let client = w.a.open(2, 1, 0, 1).unwrap();
        assert_eq!(w.a.connect(client, &v4([127, 0, 0, 1], 8000)), Err(Error::InProgress));
        w.a.turn(w.now);
        assert_eq!(w.a.connected(client), Some(Ok(())));
        let (server, _) = w.a.accept(listener, 1).unwrap();
        w.a.send(client, &[7; 50_000], &[]).unwrap();
        w.a.turn(w.now);
        assert_eq!(receive(&mut w.a, server, 60_000).map(|data| data.len()), Ok(50_000));
        w.a.close(client);
        w.a.turn(w.now);
        assert_eq!(receive(&mut w.a, server, 10), Ok(Vec::new()));
    }
}

#[test]
fn over_ipv6() {
    let mut w = World::new(Weather::default());
    let listener = w.a.open(10, 1, 0, 1).unwrap();
    w.a.bind(listener, &address::wildcard(true, 80)).unwrap();
    w.a.listen(listener, 4).unwrap();
    // Over the wire, by link-local addresses.
    let link_local = w.a.net.interfaces[1].addresses();
    let own = link_local.iter().find(|(cidr, _)| cidr.prefix_len() == 64).unwrap().0.address();
    let client = w.b.open(10, 1, 0, 1).unwrap();
    assert_eq!(w.b.connect(client, &address::bytes(own, 80)), Err(Error::InProgress));
    w.until(10, |w| w.b.connected(client)).unwrap();
    let (server, _) = w.until(5, |w| ready(w.a.accept(listener, 1)));
    w.a.send(server, b"six", &[]).unwrap();
    assert_eq!(w.until(5, |w| ready(receive(&mut w.b, client, 9))), b"six");
}

#[test]
fn unix_streams() {
    let mut w = World::new(Weather::default());
    let s = &mut w.a;
    let listener = s.open(1, 1, 0, 1).unwrap();
    assert_eq!(s.bind(listener, b"relative"), Err(Error::Inval));
    s.bind(listener, b"/run/x").unwrap();
    s.listen(listener, 2).unwrap();
    let other = s.open(1, 1, 0, 1).unwrap();
    assert_eq!(s.bind(other, b"/run/x"), Err(Error::AddrInUse));
    assert_eq!(s.connect(other, b"/run/y"), Err(Error::ConnRefused));
    s.connect(other, b"/run/x").unwrap();
    s.send(other, b"early", &[]).unwrap();
    let (server, _) = s.accept(listener, 1).unwrap();
    assert_eq!(receive(s, server, 3).unwrap(), b"ear");
    assert_eq!(receive(s, server, 9).unwrap(), b"ly");
    assert_eq!(receive(s, server, 9), Err(Error::Again));
    // A queue has an end, and goes on when it is read.
    let data = [7; 50_000];
    let mut sent = 0;
    while let Ok(count) = s.send(server, &data, &[]) {
        sent += count;
    }
    assert_eq!(s.ready(server) & poll::OUT, 0);
    let mut got = 0;
    while let Ok(part) = receive(s, other, 9999) {
        got += part.len();
    }
    assert_eq!((sent, got), (got, 256 * 1024));
    assert!(s.ready(server) & poll::OUT != 0);
    s.send(server, b"last", &[]).unwrap();
    s.close(server);
    assert_eq!(receive(s, other, 9).unwrap(), b"last");
    assert_eq!(receive(s, other, 9).unwrap(), b"");
    assert_eq!(s.send(other, b"x", &[]), Err(Error::Pipe));
    // Connections nobody accepted die with the listener.
    let late: Vec<u64> = (0..3).map(|_| s.open(1, 1, 0, 1).unwrap()).collect();
    s.connect(late[0], b"/run/x").unwrap();
    s.connect(late[1], b"/run/x").unwrap();
    assert_eq!(s.connect(late[2], b"/run/x"), Err(Error::Again));
    s.close(listener);
    assert_eq!(receive(s, late[0], 9).unwrap(), b"");
    for cookie in late.into_iter().chain([other]) {
        s.close(cookie);
    }
    assert!(s.sockets.is_empty());
}

#[test]
fn unix_datagrams_and_pairs() {
    let mut w = World::new(Weather::default());
    let s = &mut w.a;
    let (one, two) = s.pair(kind::DATAGRAM, 1).unwrap();
    s.send(one, b"first", &[]).unwrap();
    s.send(one, b"second", &[]).unwrap();
    assert_eq!(receive(s, two, 3).unwrap(), b"fir", "the rest is lost");
    assert_eq!(receive(s, two, 99).unwrap(), b"second");
    s.close(one);
    assert_eq!(s.send(two, b"x", &[]), Err(Error::ConnRefused));
    let server = s.open(1, 2, 0, 1).unwrap();
    s.bind(server, b"/s").unwrap();
    let client = s.open(1, 2, 0, 1).unwrap();
    s.bind(client, b"/c").unwrap();
    s.send(client, b"hi", b"/s").unwrap();
    let mut out = [0; 9];
    let got = s.receive(server, &mut out, 0).unwrap();
    assert_eq!((got.count, got.from.as_slice()), (2, &b"/c"[..]));
    let stream = s.open(1, 1, 0, 1).unwrap();
    assert_eq!(s.connect(stream, b"/s"), Err(Error::ProtoType));
}

#[test]
fn captures() {
    let mut w = World::new(Weather::default());
    let capture = w.a.open(17, 3, 0, 1).unwrap();
    let ping = w.a.open(2, 2, 1, 1).unwrap();
    w.a.send(ping, &[8, 0, 0, 0, 0, 0, 0, 1], &v4([10, 0, 0, 2], 0)).unwrap();
    w.until(5, |w| ready(receive(&mut w.a, ping, 100)));
    let mut kinds = Vec::new();
    while let Ok(frame) = receive(&mut w.a, capture, 2000) {
        kinds.push((frame[12], u16::from_be_bytes([frame[16 + 12], frame[16 + 13]])));
    }
    // ARP there and back, the echo there and back, among neighbour discovery.
    for wanted in [(1, 0x0806), (0, 0x0806), (1, 0x0800), (0, 0x0800)] {
        assert!(kinds.contains(&wanted), "{wanted:?} in {kinds:?}");
    }
}
