//! Bytes over TCP arrive whole and in order, whatever the wire does.

use alloc::vec::Vec;

use proptest::prelude::*;
use smoltcp::time::Duration;
use smoltcp::wire::{Ipv4Packet, TcpPacket};
use xinim_abi::error::Error;

use super::wire::{Weather, World, ready, receive};

pub fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2654435761) >> 24) as u8).collect()
}

/// Sends `len` bytes from `a` to `b` and half of it back at the same time; how long that takes.
fn carry(weather: Weather, len: usize) -> Duration {
    let mut world = World::new(weather);
    let (client, server, _) = world.connection(80);
    let (there, back) = (pattern(len), pattern(len / 2));
    let begin = world.now;
    let (mut sent, mut sent_back) = (0, 0);
    let (mut got, mut got_back) = (Vec::new(), Vec::new());
    world.until(3000, |w| {
        for (stack, cookie, data, at) in
            [(&mut w.a, client, &there, &mut sent), (&mut w.b, server, &back, &mut sent_back)]
        {
            if *at < data.len() {
                let end = data.len().min(*at + 20_000);
                match stack.send(cookie, &data[*at..end], &[]) {
                    Ok(count) => *at += count,
                    Err(error) => assert_eq!(error, Error::Again),
                }
                if *at == data.len() {
                    stack.shutdown(cookie, 1).unwrap();
                }
            }
        }
        for (stack, cookie, into) in
            [(&mut w.b, server, &mut got), (&mut w.a, client, &mut got_back)]
        {
            while let Ok(data) = receive(stack, cookie, 7000) {
                if data.is_empty() {
                    break;
                }
                into.extend(data);
            }
        }
        (got.len() >= there.len() && got_back.len() >= back.len()).then_some(())
    });
    assert!(got == there && got_back == back, "bytes differ");
    let took = world.now - begin;
    world.until(60, |w| receive(&mut w.b, server, 1).ok().filter(Vec::is_empty));
    world.a.close(client);
    world.b.close(server);
    world.run(70_000);
    assert_eq!((world.a.net.orphans.len(), world.b.net.orphans.len()), (0, 0));
    took
}

#[test]
fn a_good_wire() {
    carry(Weather::default(), 2_000_000);
}

#[test]
fn a_bad_wire() {
    carry(Weather { lost: 8, doubled: 8, late: 16 }, 300_000);
}

/// A loss costs round trips, not time-outs: two in a hundred frames are lost, and a time-out is a second
/// at least.
#[test]
fn losses_cost_little() {
    let took = carry(Weather { lost: 5, doubled: 0, late: 0 }, 2_000_000);
    assert!(took < Duration::from_secs(10), "{took}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_weather(lost in 0u8..16, doubled in 0u8..64, late in 0u8..64, len in 1usize..60_000) {
        carry(Weather { lost, doubled, late }, len);
    }
}

#[test]
fn the_link_goes_away_and_comes_back() {
    let mut world = World::new(Weather::default());
    let (client, server, _) = world.connection(80);
    world.up.set(false);
    let data = pattern(50_000);
    assert_eq!(world.a.send(client, &data, &[]), Ok(data.len()));
    world.run(3000);
    assert_eq!(receive(&mut world.b, server, 10), Err(Error::Again));
    world.up.set(true);
    let mut got = Vec::new();
    world.until(60, |w| {
        if let Ok(data) = receive(&mut w.b, server, 60_000) {
            got.extend(data);
        }
        (got.len() == data.len()).then_some(())
    });
    assert_eq!(got, data);
}

/// The peer has ended its half and reads slowly: its window closes and opens, which costs round trips and
/// no time-outs, also for what was still to be sent when this side ended its own.
#[test]
fn the_rest_goes_out_after_both_ends() {
    for orphan in [false, true] {
        let mut world = World::new(Weather::default());
        let (client, server, _) = world.connection(80);
        world.a.shutdown(client, 1).unwrap();
        world.until(10, |w| receive(&mut w.b, server, 1).ok().filter(Vec::is_empty));
        let data = pattern(200_000);
        let (mut sent, mut got) = (0, Vec::new());
        let begin = world.now;
        world.until(60, |w| {
            if sent < data.len() {
                sent += w.b.send(server, &data[sent..], &[]).unwrap_or(0);
                if sent == data.len() {
                    if orphan {
                        w.b.close(server);
                    } else {
                        w.b.shutdown(server, 1).unwrap();
                        assert_eq!(w.b.send(server, b"x", &[]), Err(Error::Pipe));
                    }
                }
                return None;
            }
            w.run(10);
            match receive(&mut w.a, client, 30_000) {
                Ok(part) if part.is_empty() => Some(()),
                Ok(part) => {
                    got.extend(part);
                    None
                }
                Err(error) => {
                    assert_eq!(error, Error::Again);
                    None
                }
            }
        });
        assert!(got == data, "bytes differ");
        let took = world.now - begin;
        assert!(took < Duration::from_secs(1), "{took}");
    }
}

#[test]
fn a_connection_that_is_asked_for_while_the_link_is_down_waits_for_it() {
    let mut world = World::new(Weather::default());
    world.connection(80);
    let listener = world.b.open(2, 1, 0, 1).unwrap();
    world.b.bind(listener, &super::wire::v4([0; 4], 81)).unwrap();
    world.b.listen(listener, 8).unwrap();
    world.up.set(false);
    let client = world.a.open(2, 1, 0, 1).unwrap();
    assert_eq!(
        world.a.connect(client, &super::wire::v4(super::wire::B, 81)),
        Err(Error::InProgress)
    );
    world.run(500);
    world.up.set(true);
    world.until(60, |w| w.a.connected(client)).unwrap();
}

/// The last bytes just fit into the window. One that is scaled shrinks by some bytes as it fills up, and
/// smoltcp 0.14 would take the end of a segment whose last bytes it has cut off.
#[test]
fn the_end_is_behind_the_last_byte() {
    const WINDOW: usize = 256 << 10;
    let mut world = World::new(Weather::default());
    let (client, server, _) = world.connection(80);
    // The window is full, and opens by what is left.
    let data = pattern(WINDOW + 4004);
    let mut sent = 0;
    while sent < data.len() {
        sent += world.b.send(server, &data[sent..], &[]).unwrap_or(0);
        world.run(100);
    }
    world.b.shutdown(server, 1).unwrap();
    world.run(1000);
    let mut got = receive(&mut world.a, client, 4004).unwrap();
    // The sender keeps to the smaller window. One that had sent all before it heard of that:
    world.until(60, |w| {
        w.edit(0, |frame| {
            let cut = data.len() - 4;
            let Some(part) = frame.get(HEADERS..).filter(|part| data[..cut].ends_with(part)) else {
                return false;
            };
            assert!(part.len() > 1000);
            frame.extend_from_slice(&data[cut..]);
            finish(frame);
            true
        })
    });
    world.until(60, |w| {
        let part = ready(receive(&mut w.a, client, WINDOW))?;
        got.extend(&part);
        part.is_empty().then_some(())
    });
    assert!(got == data, "{} of {} bytes", got.len(), data.len());
}

/// Bytes before a segment's own, without options.
const HEADERS: usize = 14 + 20 + 20;

/// Makes an Ethernet frame of a longer segment right, which ends its stream.
fn finish(frame: &mut [u8]) {
    let len = frame.len() as u16 - 14;
    let mut ip = Ipv4Packet::new_unchecked(&mut frame[14..]);
    ip.set_total_len(len);
    ip.fill_checksum();
    let (from, to) = (ip.src_addr().into(), ip.dst_addr().into());
    let mut tcp = TcpPacket::new_unchecked(ip.payload_mut());
    tcp.set_fin(true);
    tcp.fill_checksum(&from, &to);
}
