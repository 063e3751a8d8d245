//! More datagrams than the program at their end reads.

use smoltcp::time::Duration;

use super::wire::{B, Weather, World, receive, v4};

/// The server stops to take them in for a while, so that the program can read; what it reads makes room.
#[test]
fn a_program_gets_its_turn() {
    let mut world = World::new(Weather::default());
    let reader = world.b.open(2, 2, 0, 1).unwrap();
    world.b.bind(reader, &v4([0; 4], 9)).unwrap();
    let sender = world.a.open(2, 2, 0, 1).unwrap();
    world.a.send(sender, b"first", &v4(B, 9)).unwrap();
    world.run(50);
    assert_eq!(receive(&mut world.b, reader, 100), Ok(b"first".to_vec()));

    let floods = |world: &World| world.b.net.interfaces[1].floods();
    let mut sent = 0;
    while floods(&world) == 0 {
        for _ in 0..50 {
            world.a.send(sender, &[7; 1000], &v4(B, 9)).unwrap();
            world.a.turn(world.now);
            sent += 1;
        }
        world.b.turn(world.now);
        assert!(sent < 10_000, "all of it was taken in");
    }
    // Nothing is taken in, whatever comes.
    let until = world.now + Duration::from_millis(1);
    let taken = world.b.net.interfaces[1].port.counters().rx_packets;
    world.a.send(sender, &[8; 1000], &v4(B, 9)).unwrap();
    world.a.turn(world.now);
    let due = world.b.turn(until).expect("a time to look again");
    assert_eq!(world.b.net.interfaces[1].port.counters().rx_packets, taken);
    assert!(due > until && due <= until + Duration::from_millis(10));
    // The program reads what waits, and the next is there for it soon.
    let mut read = 0;
    while receive(&mut world.b, reader, 2000).is_ok() {
        read += 1;
    }
    assert!(read >= 32, "{read} were kept");
    world.b.turn(world.now + Duration::from_millis(3));
    assert_eq!(receive(&mut world.b, reader, 2000), Ok([8; 1000].to_vec()));
    assert_eq!(floods(&world), 1);
}

/// Nobody listens: that takes no more of the server's time than a program that does not read.
#[test]
fn nobody_reads() {
    let mut world = World::new(Weather::default());
    let sender = world.a.open(2, 2, 0, 1).unwrap();
    let mut taken = 0;
    for _ in 0..1000 {
        for _ in 0..100 {
            let _ = world.a.send(sender, &[7; 1000], &v4(B, 9));
            world.a.turn(world.now);
        }
        world.b.turn(world.now);
        world.now += Duration::from_micros(100);
        taken = world.b.net.interfaces[1].port.counters().rx_packets;
    }
    // In 100 ms: once in two milliseconds a turn of 128, or two until it is known for a flood.
    assert!(taken > 128 && taken < 51 * 2 * 128, "{taken} in 100 ms");
    assert!(world.b.net.interfaces[1].floods() >= 10);
}
