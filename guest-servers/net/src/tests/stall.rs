//! Nobody waits for ever: time goes on only by what stacks ask for and what is on the wire.

use alloc::vec::Vec;

use smoltcp::time::{Duration, Instant};

use super::wire::{B, Weather, World, ready, receive, v4};
use crate::stack::Random;

/// When something happens next: at once while there are frames, else when a stack wants a turn.
pub fn next(w: &mut World) -> Option<Instant> {
    let due = [w.a.turn(w.now), w.b.turn(w.now)];
    if w.is_busy() {
        return Some(w.now + Duration::from_micros(100));
    }
    let soon = w.now + Duration::from_micros(1);
    due.into_iter().flatten().min().map(|at| at.max(soon))
}

#[test]
fn connections_come_about_over_a_bad_wire_without_other_wakeups() {
    for seed in 1..400u64 {
        let mut dice = Random::new([seed, 7, 7, 7]);
        let lost = (dice.draw() % 140) as u8;
        let mut w = World::new(Weather { lost, ..Weather::default() });
        let listener = w.b.open(2, 1, 0, 1).unwrap();
        w.b.bind(listener, &v4([0; 4], 7)).unwrap();
        w.b.listen(listener, 8).unwrap();
        let mut flaps: Vec<Instant> = Vec::new();
        let mut at = w.now;
        for _ in 0..dice.draw() % 6 {
            at += Duration::from_millis(1 + dice.draw() % 1500);
            flaps.push(at);
        }
        for round in 0..6 {
            let client = w.a.open(2, 1, 0, 1).unwrap();
            let _ = w.a.connect(client, &v4(B, 7));
            let (mut connected, mut server, mut got) = (false, None, 0);
            let (start, mut idle) = (w.now, false);
            while got == 0 {
                if !connected {
                    connected = w.a.connected(client).is_some_and(|result| result.is_ok());
                    if connected {
                        w.a.send(client, b"x", &[]).unwrap();
                    }
                }
                if server.is_none() {
                    server = ready(w.b.accept(listener, 1)).map(|(server, _)| server);
                }
                if let Some(server) = server {
                    got = ready(receive(&mut w.b, server, 10)).map_or(0, |data| data.len());
                }
                let due = next(&mut w);
                let flap = flaps.first().copied();
                let Some(at) = due.into_iter().chain(flap).min() else {
                    // What the last turn brought is looked at once more.
                    assert!(!idle, "seed {seed}, round {round}: nobody wants a turn; {connected}");
                    idle = true;
                    continue;
                };
                idle = false;
                if flap.is_some_and(|flap| at >= flap) {
                    flaps.remove(0);
                    let up = flaps.len().is_multiple_of(2);
                    w.up.set(up);
                }
                w.now = w.now.max(at);
                assert!(w.now < start + Duration::from_secs(600), "seed {seed}, round {round}");
            }
            w.a.close(client);
            w.b.close(server.unwrap_or_default());
        }
    }
}
