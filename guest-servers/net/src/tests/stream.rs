//! Bytes over TCP arrive whole and in order, whatever the wire does.

use alloc::vec::Vec;

use proptest::prelude::*;
use xinim_abi::error::Error;

use super::wire::{Weather, World, receive};

fn pattern(len: usize) -> Vec<u8> {
    (0..len as u32).map(|i| (i.wrapping_mul(2654435761) >> 24) as u8).collect()
}

/// Sends `len` bytes from `a` to `b` and half of it back at the same time.
fn carry(weather: Weather, len: usize) {
    let mut world = World::new(weather);
    let (client, server, _) = world.connection(80);
    let (there, back) = (pattern(len), pattern(len / 2));
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
    world.until(60, |w| receive(&mut w.b, server, 1).ok().filter(Vec::is_empty));
    world.a.close(client);
    world.b.close(server);
    world.run(70_000);
    assert_eq!((world.a.net.orphans.len(), world.b.net.orphans.len()), (0, 0));
}

#[test]
fn a_good_wire() {
    carry(Weather::default(), 2_000_000);
}

#[test]
fn a_bad_wire() {
    carry(Weather { lost: 8, doubled: 8, late: 16 }, 300_000);
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
