//! A stack dies, and its connections, listeners and sockets go on with the next one.

use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use smoltcp::time::Duration;
use xinim_abi::error::Error;
use xinim_abi::services::socket::poll;

use super::stall::next;
use super::stream::pattern;
use super::wire::{A, B, Weather, World, ready, receive, v4};
use crate::stack::Random;

/// A program on one side: it sends its bytes, ends its half, and reads until the other has ended its.
struct Program {
    side: usize,
    cookie: u64,
    data: Vec<u8>,
    sent: usize,
    shut: bool,
    got: Vec<u8>,
    over: bool,
}

impl Program {
    fn new(side: usize, cookie: u64, data: Vec<u8>) -> Self {
        Self { side, cookie, data, sent: 0, shut: false, got: Vec::new(), over: false }
    }

    /// What it can do now. `dies`: its server does before it has committed what was asked last, so that
    /// it does not hear of it.
    fn step(&mut self, world: &mut World, dies: bool) {
        let (part, shut) = (self.data[self.sent..].len().min(9000), self.shut);
        let (data, cookie) = (&self.data[self.sent..self.sent + part], self.cookie);
        let stack = world.side(self.side);
        let mut sent = 0;
        if part > 0 {
            match stack.send(cookie, data, &[]) {
                Ok(count) => sent = count,
                Err(error) => assert_eq!(error, Error::Again),
            }
        } else if !shut {
            stack.shutdown(cookie, 1).unwrap();
        }
        let mut read = None;
        if !self.over {
            match receive(stack, cookie, 7000) {
                Ok(bytes) => read = Some(bytes),
                Err(error) => assert_eq!(error, Error::Again),
            }
        }
        if dies {
            return world.dies(self.side);
        }
        stack.commit().unwrap();
        self.sent += sent;
        self.shut = part == 0;
        if let Some(bytes) = read {
            self.over = bytes.is_empty();
            self.got.extend(bytes);
        }
    }

    fn is_done(&self) -> bool {
        self.shut && self.over
    }
}

/// Bytes both ways while stacks die, `often` of 256 times that a program does something.
fn carry(weather: Weather, len: usize, often: u8, seed: u64) -> (u32, Duration) {
    carry_in(World::new(weather), len, often, seed)
}

fn carry_in(mut world: World, len: usize, often: u8, seed: u64) -> (u32, Duration) {
    let mut random = Random::new([seed, 7, 7, 7]);
    let (client, server, _) = world.connection(80);
    world.a.commit().unwrap();
    world.b.commit().unwrap();
    let mut a = Program::new(0, client, pattern(len));
    let mut b = Program::new(1, server, pattern(len / 2 + 1));
    let (begin, mut deaths) = (world.now, 0);
    world.until(20_000, |w| {
        for program in [&mut a, &mut b] {
            let dice = random.draw().to_le_bytes();
            let dies = dice[0] < often;
            deaths += u32::from(dies);
            program.step(w, dies);
        }
        // At any other moment, too.
        if random.draw() as u8 <= often / 4 && often > 0 {
            deaths += 1;
            w.dies(random.draw() as usize & 1);
        }
        (a.is_done() && b.is_done()).then_some(())
    });
    assert!(b.got == a.data && a.got == b.data, "bytes differ");
    let took = world.now - begin;
    world.a.close(client);
    world.b.close(server);
    for side in 0..2 {
        world.side(side).commit().unwrap();
    }
    world.run(70_000);
    for side in 0..2 {
        let stack = world.side(side);
        stack.commit().unwrap();
        assert_eq!(stack.net.orphans.len(), 0);
        // The listener's is left, and of the memories the journal's.
        assert_eq!(stack.net.lasting.records().len(), side);
        assert_eq!(world.shelves[side].memories.borrow().len(), 1);
    }
    (deaths, took)
}

#[test]
fn nobody_dies() {
    assert_eq!(carry(Weather::default(), 500_000, 0, 1).0, 0);
}

#[test]
fn bytes_survive_any_number_of_deaths() {
    let (deaths, took) = carry(Weather::default(), 2_000_000, 6, 2);
    assert!(deaths > 10, "{deaths}");
    assert!(took < Duration::from_secs(60), "{took} for {deaths} deaths");
}

#[test]
fn bytes_survive_deaths_on_a_bad_wire() {
    carry(Weather { lost: 4, doubled: 8, late: 16 }, 300_000, 6, 3);
}

/// Cards that cut segments at IP's level, all with one identification: what came in parts is kept, too,
/// and a part that is lost holds nothing up for long.
#[test]
fn segments_in_fragments_are_acknowledged() {
    for (lost, deaths) in [(0, 0), (0, 6), (4, 0), (4, 6)] {
        let world = World::new(Weather { lost, doubled: lost, late: 0 });
        world.fragment.set(600);
        let (_, took) = carry_in(world, 300_000, deaths, 4);
        assert!(took < Duration::from_secs(60), "{lost} {deaths}: {took}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn any_deaths_in_any_weather(
        lost in 0u8..8, doubled in 0u8..32, late in 0u8..32,
        len in 1usize..60_000, often in 0u8..60, seed in any::<u64>(),
    ) {
        carry(Weather { lost, doubled, late }, len, often, seed);
    }
}

/// Time goes on only by what stacks ask for and the sender's clock: whoever only reads is not woken by
/// anything of its own.
#[test]
fn who_only_reads_goes_on_without_other_wakeups() {
    for seed in 1..100u64 {
        let mut dice = Random::new([seed, 7, 7, 7]);
        let mut w = World::new(Weather::default());
        let (client, server, _) = w.connection(80);
        let data = pattern(600_000);
        let (mut sent, mut got) = (0, Vec::new());
        let (begin, pause) = (w.now, Duration::from_millis(1 + dice.draw() % 20));
        let mut clock = w.now;
        while got.len() < data.len() {
            got.extend(ready(receive(&mut w.a, client, 60_000)).unwrap_or_default());
            w.a.commit().unwrap();
            let mut dead = false;
            if w.now >= clock {
                clock = w.now + pause;
                let end = data.len().min(sent + 16_384);
                sent += ready(w.b.send(server, &data[sent..end], &[])).unwrap_or(0);
                dead = dice.draw().is_multiple_of(16);
            }
            let due = next(&mut w);
            if dead {
                w.lose(0);
                w.dies(0);
            }
            let later = (sent < data.len()).then_some(clock);
            let Some(at) = due.into_iter().chain(later).min() else { continue };
            w.now = w.now.max(at);
            assert!(w.now < begin + Duration::from_secs(20), "seed {seed}: {} bytes", got.len());
        }
        assert!(got == data, "bytes differ");
    }
}

/// All the memory there is for it is full on both sides of the wire, more than once.
#[test]
fn buffers_that_are_full_come_back_full() {
    let mut world = World::new(Weather::default());
    let (client, server, _) = world.connection(80);
    let data = pattern(1_000_000);
    let (mut sent, mut got) = (0, Vec::new());
    for round in 0..6 {
        for _ in 0..50 {
            sent += world.b.send(server, &data[sent..], &[]).unwrap_or(0);
            world.run(10);
        }
        if round % 2 == 0 {
            // Not a multiple of what windows are rounded to.
            got.extend(receive(&mut world.a, client, 9_999).unwrap());
        }
        for side in 0..2 {
            world.side(side).commit().unwrap();
            world.dies(side);
        }
    }
    world.until(60, |w| {
        sent += w.b.send(server, &data[sent..], &[]).unwrap_or(0);
        got.extend(ready(receive(&mut w.a, client, 9000)).unwrap_or_default());
        (got.len() == data.len()).then_some(())
    });
    assert!(got == data, "bytes differ");
}

#[test]
fn what_was_sent_before_the_socket_was_closed_arrives() {
    let mut world = World::new(Weather::default());
    let (client, server, _) = world.connection(80);
    let data = pattern(150_000);
    assert_eq!(world.a.send(client, &data, &[]), Ok(data.len()));
    world.a.close(client);
    world.a.commit().unwrap();
    world.dies(0);
    let mut got = Vec::new();
    world.until(60, |w| {
        let part = ready(receive(&mut w.b, server, 60_000))?;
        got.extend_from_slice(&part);
        part.is_empty().then_some(())
    });
    assert!(got == data, "bytes differ");
}

#[test]
fn what_came_before_the_connection_was_over_is_read_after_it() {
    let mut world = World::new(Weather::default());
    let (client, server, _) = world.connection(80);
    assert_eq!(world.b.send(server, b"last words", &[]), Ok(10));
    world.b.close(server);
    world.until(10, |w| (w.a.ready(client) & poll::READ_HANG_UP != 0).then_some(()));
    world.a.shutdown(client, 1).unwrap();
    world.run(1000);
    assert_eq!(receive(&mut world.a, client, 5).unwrap(), b"last ");
    for _ in 0..2 {
        world.a.commit().unwrap();
        world.dies(0);
    }
    assert_eq!(receive(&mut world.a, client, 50).unwrap(), b"words");
    world.a.commit().unwrap();
    world.dies(0);
    assert_eq!(receive(&mut world.a, client, 50).unwrap(), b"");
}

#[test]
fn listeners_and_connections_that_are_asked_for_go_on() {
    let mut world = World::new(Weather::default());
    let listener = world.b.open(2, 1, 0, 1).unwrap();
    world.b.bind(listener, &v4([0; 4], 80)).unwrap();
    world.b.listen(listener, 8).unwrap();
    world.b.commit().unwrap();
    world.dies(1);
    world.up.set(false);
    let client = world.a.open(2, 1, 0, 1).unwrap();
    assert_eq!(world.a.connect(client, &v4(B, 80)), Err(Error::InProgress));
    world.a.commit().unwrap();
    world.run(100);
    world.dies(0);
    world.up.set(true);
    assert_eq!(world.a.connect(client, &v4(B, 80)), Err(Error::Already));
    world.until(60, |w| w.a.connected(client)).unwrap();
    let (server, _) = world.until(60, |w| ready(w.b.accept(listener, 1)));
    // What comes before it is accepted is kept once it is.
    assert_eq!(world.a.send(client, b"early", &[]), Ok(5));
    world.run(100);
    world.b.commit().unwrap();
    world.dies(1);
    assert_eq!(world.until(10, |w| ready(receive(&mut w.b, server, 9))), b"early");
    // Their port is theirs still.
    let other = world.b.open(2, 1, 0, 1).unwrap();
    assert_eq!(world.b.bind(other, &v4([0; 4], 80)), Err(Error::AddrInUse));
}

/// Whenever a stack dies while it connects, its next instance does, and soon.
#[test]
fn a_connection_comes_about_whenever_its_stack_dies() {
    for steps in 0..30 {
        let mut world = World::new(Weather::default());
        let listener = world.b.open(2, 1, 0, 1).unwrap();
        world.b.bind(listener, &v4([0; 4], 80)).unwrap();
        world.b.listen(listener, 8).unwrap();
        let client = world.a.open(2, 1, 0, 1).unwrap();
        assert_eq!(world.a.connect(client, &v4(B, 80)), Err(Error::InProgress));
        world.a.commit().unwrap();
        for _ in 0..steps {
            // What it does in between it does not come to write down.
            world.step();
        }
        world.dies(0);
        world.until(5, |w| w.a.connected(client)).unwrap();
        assert_eq!(world.a.send(client, b"hello", &[]), Ok(5));
        world.until(5, |w| {
            let (server, _) = ready(w.b.accept(listener, 1))?;
            w.run(1000);
            ready(receive(&mut w.b, server, 9)).filter(|bytes| bytes == b"hello")
        });
    }
}

#[test]
fn datagram_sockets_go_on() {
    let mut world = World::new(Weather::default());
    let here = world.a.open(2, 2, 0, 1).unwrap();
    let there = world.b.open(2, 2, 0, 1).unwrap();
    let ping = world.a.open(2, 2, 1, 1).unwrap();
    world.a.connect(ping, &v4(B, 0)).unwrap();
    world.b.bind(there, &v4([0; 4], 53)).unwrap();
    world.a.connect(here, &v4(B, 53)).unwrap();
    let name = world.a.name(here, false).unwrap();
    for side in 0..2 {
        world.side(side).commit().unwrap();
        world.dies(side);
    }
    assert_eq!(world.a.name(here, false).unwrap(), name);
    world.until(10, |w| ready(w.a.send(here, b"question", &[])));
    assert_eq!(world.until(10, |w| ready(receive(&mut w.b, there, 99))), b"question");
    let echo = [8, 0, 0, 0, 0, 0, 0, 1, 42];
    world.until(10, |w| ready(w.a.send(ping, &echo, &[])));
    assert_eq!(world.until(10, |w| ready(receive(&mut w.a, ping, 99))).last(), Some(&42));
}

#[test]
fn a_connection_to_oneself_goes_on() {
    let mut world = World::new(Weather::default());
    let listener = world.a.open(2, 1, 0, 1).unwrap();
    world.a.bind(listener, &v4([127, 0, 0, 1], 80)).unwrap();
    world.a.listen(listener, 8).unwrap();
    let client = world.a.open(2, 1, 0, 1).unwrap();
    assert_eq!(world.a.connect(client, &v4([127, 0, 0, 1], 80)), Err(Error::InProgress));
    world.until(60, |w| w.a.connected(client)).unwrap();
    let (server, _) = world.until(60, |w| ready(w.a.accept(listener, 1)));
    let data = pattern(40_000);
    assert_eq!(world.a.send(client, &data, &[]), Ok(data.len()));
    world.a.commit().unwrap();
    world.dies(0);
    let mut got = Vec::new();
    world.until(60, |w| {
        got.extend(ready(receive(&mut w.a, server, 9000)).unwrap_or_default());
        (got.len() == data.len()).then_some(())
    });
    assert!(got == data, "bytes differ");
}

/// Without memory for it a connection ends with the server, and says so once.
#[test]
fn a_connection_without_memory_is_reset() {
    let mut world = World::new(Weather::default());
    world.shelves[0].limit = Some(1);
    world.dies(0);
    let (client, _, _) = world.connection(80);
    assert_eq!(world.a.net.lasting.refused, 1);
    world.a.commit().unwrap();
    world.dies(0);
    assert_eq!(receive(&mut world.a, client, 9), Err(Error::ConnReset));
    assert_eq!(receive(&mut world.a, client, 9), Ok(vec![]));
    assert_eq!(world.a.send(client, b"x", &[]), Err(Error::Pipe));
}

/// Those that are not kept say so once, and are no descriptors of nothing.
#[test]
fn unix_domain_sockets_and_captures_end() {
    let mut world = World::new(Weather::default());
    let (one, other) = world.a.pair(1, 1).unwrap();
    let capture = world.a.open(17, 3, 0, 1).unwrap();
    world.a.commit().unwrap();
    world.dies(0);
    for cookie in [one, capture] {
        assert_eq!(receive(&mut world.a, cookie, 9), Err(Error::ConnReset));
        assert_eq!(world.a.send(cookie, b"x", &[]), Err(Error::Pipe));
        world.a.close(cookie);
    }
    world.a.close(other);
    world.a.commit().unwrap();
    assert!(world.a.net.lasting.records().is_empty());
}

/// Any damage to what is kept is an error or a connection that ends; never more.
#[test]
fn damaged_memory_is_survived() {
    for at in (0..64).chain([70, 5000]) {
        let mut world = World::new(Weather::default());
        let (client, server, _) = world.connection(80);
        assert_eq!(world.a.send(client, b"hello", &[]), Ok(5));
        world.a.commit().unwrap();
        for (key, memory) in world.shelves[0].memories.borrow().iter() {
            if *key != 1 {
                memory.flip(at);
                memory.flip(at ^ 8);
            }
        }
        world.dies(0);
        world.run(3000);
        let _ = receive(&mut world.a, client, 9);
        let _ = receive(&mut world.b, server, 9);
    }
}

#[test]
fn a_peer_is_told_when_its_connection_is_gone() {
    let mut world = World::new(Weather::default());
    let (client, server, _) = world.connection(80);
    world.a.commit().unwrap();
    world.shelves[0].memories.borrow_mut().clear();
    world.dies(0);
    assert_eq!(world.a.send(client, b"x", &[]), Err(Error::BadF));
    assert_eq!(world.b.send(server, b"x", &[]), Ok(1));
    world.until(60, |w| (receive(&mut w.b, server, 1) == Err(Error::ConnReset)).then_some(()));
    let _ = A;
}
