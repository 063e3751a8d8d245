//! What POSIX says of sockets.

use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::Error;
use xinim_abi::services::socket::{flags, option, poll};

use super::wire::{A, B, Weather, World, ready, receive, v4};

fn world() -> World {
    World::new(Weather::default())
}

#[test]
fn half_close() {
    let mut w = world();
    let (client, server, _) = w.connection(80);
    w.a.send(client, b"question", &[]).unwrap();
    w.a.shutdown(client, 1).unwrap();
    assert_eq!(w.a.send(client, b"more", &[]), Err(Error::Pipe));
    let got = w.until(5, |w| ready(receive(&mut w.b, server, 100)));
    assert_eq!(got, b"question");
    // The end has come this way; the other way is open.
    let end = w.until(5, |w| ready(receive(&mut w.b, server, 100)));
    assert_eq!(end, b"");
    assert!(w.b.ready(server) & poll::READ_HANG_UP != 0);
    w.b.send(server, b"answer", &[]).unwrap();
    assert_eq!(w.until(5, |w| ready(receive(&mut w.a, client, 100))), b"answer");
    w.b.close(server);
    assert_eq!(w.until(5, |w| ready(receive(&mut w.a, client, 100))), b"");
    assert!(w.a.ready(client) & poll::HANG_UP != 0);
}

#[test]
fn nobody_listens() {
    let mut w = world();
    let client = w.a.open(2, 1, 0, 1).unwrap();
    assert_eq!(w.a.connect(client, &v4(B, 81)), Err(Error::InProgress));
    assert_eq!(w.a.connect(client, &v4(B, 81)), Err(Error::Already));
    assert_eq!(w.until(5, |w| w.a.connected(client)), Err(Error::ConnRefused));
    let far = w.a.open(2, 1, 0, 1).unwrap();
    assert_eq!(w.a.connect(far, &v4([192, 0, 2, 1], 80)), Err(Error::NetUnreach));
    // Nobody answers ARP there: it takes its time.
    let silent = w.a.open(2, 1, 0, 1).unwrap();
    assert_eq!(w.a.connect(silent, &v4([10, 0, 0, 77], 80)), Err(Error::InProgress));
    assert_eq!(w.until(90, |w| w.a.connected(silent)), Err(Error::TimedOut));
}

#[test]
fn reset() {
    let mut w = world();
    let (client, server, _) = w.connection(80);
    w.a.send(client, b"unread", &[]).unwrap();
    w.run(100);
    w.b.close(server); // with something unread
    w.until(5, |w| (w.a.ready(client) & poll::ERROR != 0).then_some(()));
    assert_eq!(receive(&mut w.a, client, 10), Err(Error::ConnReset));
    assert_eq!(receive(&mut w.a, client, 10), Ok(Vec::new()));
    assert_eq!(w.a.send(client, b"x", &[]), Err(Error::Pipe));
    assert_eq!(w.a.option(client, option::ERROR), Ok(0));

    let (client, server, _) = w.connection(82);
    w.a.set_option(client, option::LINGER, 1).unwrap();
    w.a.close(client);
    w.until(5, |w| (w.b.ready(server) & poll::ERROR != 0).then_some(()));
    assert_eq!(w.b.option(server, option::ERROR), Ok(Error::ConnReset as u64));
}

#[test]
fn ports_in_use() {
    let mut w = world();
    let (client, server, listener) = w.connection(80);
    let other = w.b.open(2, 1, 0, 1).unwrap();
    assert_eq!(w.b.bind(other, &v4([0; 4], 80)), Err(Error::AddrInUse));
    w.b.set_option(other, option::REUSE_ADDRESS, 1).unwrap();
    assert_eq!(w.b.bind(other, &v4([0; 4], 80)), Err(Error::AddrInUse), "somebody listens");
    w.b.close(listener);
    let plain = w.b.open(2, 1, 0, 1).unwrap();
    assert_eq!(w.b.bind(plain, &v4([0; 4], 80)), Err(Error::AddrInUse), "a connection goes on");
    assert_eq!(w.b.bind(other, &v4([0; 4], 80)), Ok(()));
    assert_eq!(w.b.bind(other, &v4([0; 4], 81)), Err(Error::Inval), "bound already");
    assert_eq!(w.b.bind(plain, &v4([192, 0, 2, 1], 90)), Err(Error::AddrNotAvail));
    w.a.close(client);
    w.b.close(server);
    w.b.close(other);
    w.run(30_000);
    assert_eq!(w.b.bind(plain, &v4([0; 4], 80)), Ok(()));
    // UDP's ports are others.
    let datagrams = w.b.open(2, 2, 0, 1).unwrap();
    assert_eq!(w.b.bind(datagrams, &v4([0; 4], 80)), Ok(()));
}

#[test]
fn backlog() {
    let mut w = world();
    let listener = w.b.open(2, 1, 0, 1).unwrap();
    w.b.bind(listener, &v4(B, 80)).unwrap();
    w.b.listen(listener, 3).unwrap();
    let clients: Vec<u64> = (0..10)
        .map(|_| {
            let client = w.a.open(2, 1, 0, 1).unwrap();
            assert_eq!(w.a.connect(client, &v4(B, 80)), Err(Error::InProgress));
            client
        })
        .collect();
    w.run(500);
    let mut established = 0;
    while let Ok((_, peer)) = w.b.accept(listener, 1) {
        assert_eq!(peer[20..], A);
        established += 1;
        w.run(10);
    }
    assert!((3..10).contains(&established), "{established}");
    let refused = clients.iter().filter(|&&c| w.a.connected(c) == Some(Err(Error::ConnRefused)));
    assert_eq!(refused.count(), 10 - established);
}

#[test]
fn a_flood_of_syns_costs_little() {
    let mut w = world();
    let listener = w.b.open(2, 1, 0, 1).unwrap();
    w.b.bind(listener, &v4([0; 4], 80)).unwrap();
    w.b.listen(listener, 16).unwrap();
    // Connections whose peers vanish before the last ACK.
    for _ in 0..20 {
        for _ in 0..20 {
            let client = w.a.open(2, 1, 0, 1).unwrap();
            let _ = w.a.connect(client, &v4(B, 80));
            w.a.turn(w.now);
            w.a.close(client);
        }
        w.run(20);
    }
    let sockets: usize = w.b.net.interfaces.iter().map(|n| n.sockets.iter().count()).sum();
    assert!(sockets < 64, "{sockets}");
    w.run(20_000);
    let client = w.a.open(2, 1, 0, 1).unwrap();
    assert_eq!(w.a.connect(client, &v4(B, 80)), Err(Error::InProgress));
    assert_eq!(w.until(30, |w| w.a.connected(client)), Ok(()));
}

#[test]
fn datagrams() {
    let mut w = world();
    let server = w.b.open(2, 2, 0, 1).unwrap();
    w.b.bind(server, &v4([0; 4], 53)).unwrap();
    let client = w.a.open(2, 2, 0, 1).unwrap();
    assert_eq!(w.a.send(client, b"x", &[]), Err(Error::DestAddrReq));
    assert_eq!(w.a.send(client, &vec![1; 3000], &v4(B, 53)), Ok(3000), "in fragments");
    let mut small = [0; 10];
    let got = w.until(5, |w| ready(w.b.receive(server, &mut small, flags::PEEK)));
    assert_eq!((got.count, got.full), (10, 3000));
    let got = w.until(5, |w| ready(w.b.receive(server, &mut small, 0)));
    assert_eq!((got.count, got.full), (10, 3000));
    assert_eq!(w.b.receive(server, &mut small, 0), Err(Error::Again), "the rest is gone");
    w.b.send(server, b"back", &got.from).unwrap();
    assert_eq!(w.until(5, |w| ready(receive(&mut w.a, client, 100))), b"back");
    assert_eq!(w.a.send(client, &vec![1; 70_000], &v4(B, 53)), Err(Error::MsgSize));
    assert_eq!(w.a.send(client, b"x", &v4([255; 4], 53)), Err(Error::Access));
    // A connected socket hears its peer only.
    w.a.connect(client, &v4(B, 99)).unwrap();
    w.b.send(server, b"stranger", &got.from).unwrap();
    w.run(100);
    assert_eq!(receive(&mut w.a, client, 100), Err(Error::Again));
}

#[test]
fn echo() {
    let mut w = world();
    let ping = w.a.open(2, 2, 1, 1).unwrap();
    let mut message = vec![8, 0, 0, 0, 0, 0, 0, 7];
    message.extend_from_slice(&[0x5A; 56]);
    w.a.send(ping, &message, &v4(B, 0)).unwrap();
    let answer = w.until(5, |w| ready(receive(&mut w.a, ping, 100)));
    assert_eq!((answer[0], &answer[6..]), (0, &message[6..]));
    message[0] = 13;
    assert_eq!(w.a.send(ping, &message, &v4(B, 0)), Err(Error::Inval));
}

#[test]
fn what_is_not_there() {
    let mut w = world();
    assert_eq!(w.a.open(99, 1, 0, 1), Err(Error::AfNoSup));
    assert_eq!(w.a.open(2, 9, 0, 1), Err(Error::ProtoType));
    assert_eq!(w.a.open(2, 1, 132, 1), Err(Error::ProtoNoSup));
    assert_eq!(w.a.listen(12345, 1), Err(Error::BadF));
    let fresh = w.a.open(2, 1, 0, 1).unwrap();
    assert_eq!(w.a.accept(fresh, 1), Err(Error::Inval));
    assert_eq!(receive(&mut w.a, fresh, 1), Err(Error::NotConn));
    assert_eq!(w.a.send(fresh, b"x", &[]), Err(Error::NotConn));
    assert_eq!(w.a.shutdown(fresh, 2), Err(Error::NotConn));
    assert_eq!(w.a.name(fresh, true), Err(Error::NotConn));
    for bytes in [&[][..], &[4; 23], &[9; 24]] {
        assert!(w.a.bind(fresh, bytes).is_err());
    }
    let many: Vec<_> = (0..400).map_while(|_| w.a.open(2, 1, 0, 1).ok()).collect();
    assert!(many.len() < 400);
    assert_eq!(w.a.open(2, 1, 0, 1), Err(Error::NoBufs));
    assert!(w.a.open(2, 1, 0, 2).is_ok(), "another process has its own share");
}
