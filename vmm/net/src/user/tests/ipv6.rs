//! The same network by IPv6: addresses from the router, names, pings, TCP and UDP.

use super::carry::{exchange, pattern};
use super::*;
use smoltcp::wire::{Icmpv6Packet, Icmpv6Repr, Ipv6Address};
use std::io::{Read, Write};
use std::net::{Ipv6Addr, SocketAddrV6, TcpListener, UdpSocket};
use std::thread;

impl Guest {
    /// With nothing but what the router says.
    fn with_slaac(options: UserNet) -> Self {
        let mut guest = Self::without_address(options);
        let hardware = HardwareAddress::Ethernet(EthernetAddress(GUEST_MAC));
        let mut config = Config::new(hardware);
        config.slaac = true;
        guest.interface = Interface::new(config, &mut guest.card, StackInstant::ZERO);
        let link_local = Ipv6Address::new(0xFE80, 0, 0, 0, 0, 0xFF, 0xFE00, 1);
        guest.interface.update_ip_addrs(|list| {
            list.push(IpCidr::new(IpAddress::Ipv6(link_local), 64)).unwrap();
        });
        guest.until("an address", |guest| guest.address6());
        guest
    }

    fn address6(&mut self) -> Option<Ipv6Address> {
        self.interface.ip_addrs().iter().find_map(|cidr| match cidr.address() {
            IpAddress::Ipv6(address)
                if address.segments()[..4] == user::NETWORK6.segments()[..4] =>
            {
                Some(address)
            }
            _ => None,
        })
    }
}

fn at(address: Ipv6Addr, port: u16) -> SocketAddr {
    SocketAddrV6::new(address, port, 0, 0).into()
}

/// `None` on a host without IPv6 at all, not even ::1.
fn listener() -> Option<TcpListener> {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).ok()
}

#[test]
fn the_router_gives_the_prefix() {
    let mut guest = Guest::with_slaac(UserNet::default());
    let address = guest.address6().expect("an address");
    assert_eq!(address.segments()[4..], [0, 0xFF, 0xFE00, 1], "made from the Ethernet address");
}

#[test]
fn the_gateway_answers_pings() {
    let mut guest = Guest::with_slaac(UserNet::default());
    let from = guest.address6().expect("an address");
    let buffer = || icmp::PacketBuffer::new(vec![icmp::PacketMetadata::EMPTY; 4], vec![0; 8192]);
    let mut socket = icmp::Socket::new(buffer(), buffer());
    socket.bind(icmp::Endpoint::Ident(7)).unwrap();
    let handle = guest.sockets.add(socket);
    for address in [user::GATEWAY6, user::DNS6] {
        let request = Icmpv6Repr::EchoRequest { ident: 7, seq_no: 1, data: &[0xA5; 1000] };
        let mut message = vec![0; request.buffer_len()];
        let mut packet = Icmpv6Packet::new_unchecked(&mut message);
        request.emit(&from, &address, &mut packet, &Default::default());
        let socket = guest.sockets.get_mut::<icmp::Socket>(handle);
        socket.send_slice(&message, address.into()).unwrap();
        let (reply, from) = guest.until("an echo", |guest| {
            let socket = guest.sockets.get_mut::<icmp::Socket>(handle);
            socket.recv().ok().map(|(data, from)| (data.to_vec(), from))
        });
        assert_eq!((reply[0], &reply[8..], from), (129, &[0xA5; 1000][..], address.into()));
    }
}

#[test]
fn bytes_go_both_ways_to_the_host_s_loopback_when_asked_for() {
    for offloads in [Offloads::empty(), Offloads::all()] {
        let Some(listener) = listener() else { return no_ipv6() };
        let port = listener.local_addr().unwrap().port();
        let host = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut got = Vec::new();
            stream.read_to_end(&mut got).unwrap();
            stream.write_all(&pattern(1 << 20)).unwrap();
            got
        });
        let mut guest = Guest::with_slaac(loopback());
        guest.card.port.accept(offloads);
        let handle = guest.connect(at(user::GATEWAY6, port), 5000);
        let got = exchange(&mut guest, handle, &pattern(1 << 20));
        assert_eq!(guest.join(host), pattern(1 << 20));
        assert_eq!(got, pattern(1 << 20));
    }
}

#[test]
fn nothing_of_the_host_is_reached_unasked() {
    let Some(listener) = listener() else { return no_ipv6() };
    let port = listener.local_addr().unwrap().port();
    let mut guest = Guest::with_slaac(UserNet::default());
    let handle = guest.connect(at(user::GATEWAY6, port), 5000);
    guest.until("a refusal", |guest| (!guest.socket(handle).is_active()).then_some(()));
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err());
}

#[test]
fn datagrams_and_names() {
    let Ok(host) = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)) else { return no_ipv6() };
    let names = UdpSocket::bind("127.0.0.1:0").unwrap();
    let SocketAddr::V4(dns) = names.local_addr().unwrap() else { panic!("not IPv4") };
    let port = host.local_addr().unwrap().port();
    let mut guest = Guest::with_slaac(UserNet { dns: Some(dns), ..loopback() });
    let handle = guest.udp(4000);
    for (socket, to) in [(host, at(user::GATEWAY6, port)), (names, at(user::DNS6, 53))] {
        let echo = thread::spawn(move || {
            let mut buffer = [0; 100];
            let (length, from) = socket.recv_from(&mut buffer).unwrap();
            socket.send_to(&buffer[..length], from).unwrap();
        });
        guest.ask(handle, to, b"over here");
        assert_eq!(guest.answer(handle), (b"over here".to_vec(), to.port()));
        guest.join(echo);
    }
}

/// Said aloud, since nothing was tested.
fn no_ipv6() {
    eprintln!("skipped: this host has no IPv6, not even ::1");
}
