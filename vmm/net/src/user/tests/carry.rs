//! TCP and UDP, in and out.

use super::*;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::thread;
use xinim_machine::net::Publish;

pub(super) fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

/// Sends and receives until the peer has closed; what came.
pub(super) fn exchange(guest: &mut Guest, handle: SocketHandle, data: &[u8]) -> Vec<u8> {
    let (mut sent, mut got) = (0, Vec::new());
    guest.until("the bytes", |guest| {
        let socket = guest.socket(handle);
        if sent < data.len() && socket.can_send() {
            sent += socket.send_slice(&data[sent..]).unwrap();
            if sent == data.len() {
                socket.close();
            }
        }
        while socket.can_recv() {
            socket
                .recv(|part| {
                    got.extend_from_slice(part);
                    (part.len(), ())
                })
                .unwrap();
        }
        (sent == data.len() && !socket.may_recv()).then_some(())
    });
    got
}

#[test]
fn bytes_go_both_ways_and_ends_of_data_too() {
    for offloads in [Offloads::empty(), Offloads::all()] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let host = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            // Only after the guest's end: a half-closed connection still carries.
            stream.write_all(&pattern(3 << 20)).unwrap();
            got
        });
        let mut guest = Guest::new(loopback());
        guest.card.port.accept(offloads);
        let handle = guest.connect(SocketAddrV4::new(user::GATEWAY, port), 5000);
        let got = exchange(&mut guest, handle, &pattern(2 << 20));
        assert_eq!(guest.join(host), pattern(2 << 20));
        assert_eq!(got, pattern(3 << 20));
        assert_eq!(guest.card.large > 0, offloads == Offloads::all(), "segmentation is left");
        guest.until("the end", |guest| (guest.flows().0 == 0).then_some(()));
    }
}

#[test]
fn a_hundred_connections_at_a_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let host = thread::spawn(move || {
        let streams: Vec<_> = (0..100).map(|_| listener.accept().unwrap().0).collect();
        for mut stream in streams {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            stream.write_all(&byte).unwrap();
        }
    });
    let mut guest = Guest::new(loopback());
    let to = SocketAddrV4::new(user::GATEWAY, port);
    let handles: Vec<_> = (0..100u8).map(|i| guest.connect(to, 6000 + u16::from(i))).collect();
    let mut left: Vec<_> = handles.iter().zip(0u8..).collect();
    let mut asked = [false; 100];
    guest.until("all answers", |guest| {
        left.retain(|(handle, number)| {
            let socket = guest.socket(**handle);
            if !asked[usize::from(*number)] && socket.may_send() {
                asked[usize::from(*number)] = true;
                socket.send_slice(&[*number]).unwrap();
            }
            let mut byte = [0];
            !(socket.can_recv() && socket.recv_slice(&mut byte) == Ok(1) && byte[0] == *number)
        });
        left.is_empty().then_some(())
    });
    guest.join(host);
}

#[test]
fn what_the_host_refuses_the_guest_is_refused() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut guest = Guest::new(loopback());
    let handle = guest.connect(SocketAddrV4::new(user::GATEWAY, port), 5000);
    guest.until("a refusal", |guest| (!guest.socket(handle).is_open()).then_some(()));
    assert_eq!(guest.flows().0, 0);
}

#[test]
fn the_hosts_loopback_is_not_reached_unasked() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut guest = Guest::new(UserNet::default());
    for address in [user::GATEWAY, Ipv4Addr::LOCALHOST, user::DNS, Ipv4Addr::new(169, 254, 1, 1)] {
        let handle = guest.connect(SocketAddrV4::new(address, port), 5000);
        guest.until("a refusal", |guest| (!guest.socket(handle).is_open()).then_some(()));
    }
    assert!(listener.accept().is_err(), "nobody may have come");
}

#[test]
fn a_connection_that_is_reset_is_reset_on_the_other_side() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut guest = Guest::new(loopback());
    let to = SocketAddrV4::new(user::GATEWAY, port);
    let handle = guest.connect(to, 5000);
    guest.until("a connection", |guest| guest.socket(handle).may_send().then_some(()));
    let (mut stream, _) = listener.accept().unwrap();
    guest.socket(handle).abort();
    guest.until("its end", |guest| (guest.flows().0 == 0).then_some(()));
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let error = stream.read(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

#[test]
fn published_ports_lead_to_the_guest() {
    let publish = |udp, guest| Publish { udp, host: "127.0.0.1:0".parse().unwrap(), guest };
    let options = UserNet { publish: vec![publish(false, 80), publish(true, 53)], ..loopback() };
    let mut guest = Guest::new(options);
    let ports = guest.published();
    let handle = guest.tcp();
    guest.socket(handle).listen(80).unwrap();
    let port = ports[0];
    let client = thread::spawn(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(&pattern(300_000)).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut got = Vec::new();
        stream.read_to_end(&mut got).unwrap();
        got
    });
    guest.until("a connection", |guest| guest.socket(handle).may_send().then_some(()));
    assert_eq!(exchange(&mut guest, handle, &pattern(200_000)), pattern(300_000));
    assert_eq!(guest.join(client), pattern(200_000));

    let server = guest.udp(53);
    let clients =
        [UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap()];
    for (client, text) in clients.iter().zip([b"one", b"two"]) {
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.send_to(text, ("127.0.0.1", ports[1])).unwrap();
        let (data, alias) = guest.answer(server);
        assert_eq!(data, text);
        guest.ask(server, SocketAddrV4::new(user::GATEWAY, alias), &data);
        guest.poll();
        guest.poll();
        let mut buffer = [0; 16];
        let length = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..length], text);
    }
}

#[test]
fn datagrams_go_out_and_only_their_answers_come_back() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = server.local_addr().unwrap().port();
    let mut guest = Guest::new(loopback());
    let handle = guest.udp(4000);
    guest.ask(handle, SocketAddrV4::new(user::GATEWAY, port), b"question");
    guest.until("a conversation", |guest| (guest.flows().1 == 1).then_some(()));
    let mut buffer = [0; 64];
    let (length, peer) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"question");
    // Somebody else writes to the same port first.
    UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"forged", peer).unwrap();
    server.send_to(b"answer", peer).unwrap();
    assert_eq!(guest.answer(handle), (b"answer".to_vec(), port));
}

#[test]
fn names_are_asked_of_the_name_server() {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    server.set_read_timeout(Some(PATIENCE)).unwrap();
    let std::net::SocketAddr::V4(address) = server.local_addr().unwrap() else { panic!() };
    let mut guest =
        Guest::new(UserNet { dns: Some(address), restrict: true, ..UserNet::default() });
    let handle = guest.udp(4000);
    guest.ask(handle, SocketAddrV4::new(user::DNS, 53), b"who");
    guest.until("a conversation", |guest| (guest.flows().1 == 1).then_some(()));
    let mut buffer = [0; 64];
    let (length, peer) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"who");
    server.send_to(b"me", peer).unwrap();
    assert_eq!(guest.answer(handle), (b"me".to_vec(), 53));
}
