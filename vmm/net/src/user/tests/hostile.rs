//! A guest that sends anything: no panic, bounded memory, nothing reached.

use super::*;
use crate::fuzz;
use std::net::TcpListener;

#[test]
fn random_frames_are_survived_within_bounds() {
    let mut random = 0x0123_4567_89AB_CDEF_u64;
    for _ in 0..200 {
        let data: Vec<u8> = (0..600)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random as u8
            })
            .collect();
        fuzz::gateway(&data);
    }
}

#[test]
fn a_flood_of_connections_is_bounded() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let mut guest = Guest::new(loopback());
    // Raw opening segments, far more than connections are allowed.
    for number in 0..3 * tcp_flows() as u16 {
        let frame = fuzz::opening(SocketAddrV4::new(user::GATEWAY, port), 10_000 + number);
        guest.card.port.send(Frame::plain(frame));
        guest.poll();
        assert!(guest.flows().0 <= tcp_flows());
    }
    // And as many UDP conversations.
    let handle = guest.udp(4000);
    for port in 1..2 * udp_flows() as u16 {
        guest.ask(handle, SocketAddrV4::new(user::GATEWAY, port), b"x");
        guest.poll();
        guest.poll();
    }
    assert!(guest.flows().1 <= udp_flows());
}

fn tcp_flows() -> usize {
    crate::user::tcp::FLOWS_MAX
}

fn udp_flows() -> usize {
    crate::user::udp::FLOWS_MAX
}

#[test]
fn frames_nobody_fetches_do_not_pile_up() {
    let mut gateway = Gateway::open(&UserNet::default(), GUEST_MAC).unwrap();
    let request = fuzz::echo_request(1400);
    let mut frame = Frame::default();
    let mut refused = 0;
    for _ in 0..10_000 {
        refused += usize::from(gateway.send(&Frame::plain(request.clone())) == Sent::Later);
    }
    assert!(refused > 0 && gateway.inbox_bytes <= QUEUE_BYTES + 2000);
    assert!(gateway.receive(&mut frame));
    assert!(gateway.outbox.bytes <= QUEUE_BYTES + 2000);
}

/// A host that sends more than the guest takes fills neither the queue nor the gateway's time.
#[test]
fn a_flood_of_datagrams_leaves_room() {
    let host = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = host.local_addr().unwrap().port();
    let mut guest = Guest::new(loopback());
    let handle = guest.udp(4000);
    guest.ask(handle, SocketAddrV4::new(user::GATEWAY, port), b"begin");
    host.set_nonblocking(true).unwrap();
    let peer = guest.until("the question", |_| host.recv_from(&mut [0; 16]).ok()).1;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flood = std::thread::spawn({
        let stop = stop.clone();
        move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = host.send_to(&[0; 1400], peer);
            }
        }
    });
    let mut frame = Frame::default();
    for _ in 0..2000 {
        let mut gateway = guest.gateway.0.lock().unwrap();
        gateway.receive(&mut frame);
        assert!(gateway.outbox.bytes <= BUSY_BYTES + 2000);
    }
    // The guest still gets through.
    let (data, _) = guest.answer(handle);
    assert_eq!(data.len(), 1400);
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    flood.join().unwrap();
}
