//! A network on which nothing happens costs next to nothing.

use smoltcp::time::{Duration, Instant};

use super::wire::{Weather, World};

/// Router solicitations, DHCP and all else that nobody answers.
#[test]
fn nobody_is_there() {
    let mut world = World::new(Weather { lost: 255, ..Weather::default() });
    world.a.net.interfaces[1].set_dhcp(true);
    let (mut now, end) = (Instant::from_secs(1), Instant::from_secs(121));
    let mut turns = 0;
    while now < end {
        let due = world.a.turn(now).unwrap_or(end);
        turns += 1;
        assert!(turns < 1000, "{turns} turns until {now}");
        now = due.max(now + Duration::from_micros(100));
    }
}

/// A connection that is idle after a transfer does not keep the server busy.
#[test]
fn a_quiet_connection() {
    let mut world = World::new(Weather::default());
    let (client, server, _) = world.connection(80);
    world.a.send(client, &[1; 1000], &[]).unwrap();
    world.run(15_000);
    assert_eq!(super::wire::receive(&mut world.b, server, 2000).map(|data| data.len()), Ok(1000));
    let (mut now, end) = (world.now, world.now + Duration::from_secs(60));
    let mut turns = 0;
    while now < end {
        let due = [world.a.turn(now), world.b.turn(now)].into_iter().flatten().min();
        turns += 1;
        assert!(turns < 1000, "{turns} turns until {now}");
        now = due.unwrap_or(end).max(now + Duration::from_micros(100));
    }
}
