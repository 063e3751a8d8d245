//! The end of the system.

use super::world::*;
use crate::*;
use xinim_abi::error::Error;
use xinim_abi::ipc::bits;

#[test]
fn shutdown_stops_users_first() {
    let mut w = World::boot(&[
        ("a", ""),
        ("b", "calls = [\"a\"]"),
        ("plain", "stop = \"kill\""),
        ("init", "calls = [\"b\"]\nstop = \"kill\"\ncontrol = true"),
        PROGRAMS,
    ]);
    w.run();
    assert_eq!(w.core.shut_down(&mut w.host, 0, 50, false), None);
    assert_eq!(w.host.killed, [w.id("init")], "it would see b vanish");
    assert!(w.host.notified.is_empty());
    w.reap();
    assert_eq!(w.host.notified, [(w.id("b"), bits::TERMINATE)]);
    w.exit("b", 0);
    assert_eq!(w.host.notified.last(), Some(&(w.id("a"), bits::TERMINATE)));
    assert_eq!(w.host.end, None);
    assert_eq!(w.lookup((0, 50), "a", true).1, Some(Answer::Error(Error::ServerDied)));
    w.at((w.host.now + STOP_TIMEOUT) / MS);
    w.reap();
    assert_eq!(w.host.end, Some(End::PowerOff), "plain is left to the end of the machine");
}

#[test]
fn whoever_waits_in_shutdown_is_left_alone() {
    let mut w =
        World::boot(&[("a", ""), ("init", "calls = [\"a\"]\nstop = \"kill\"\ncontrol = true")]);
    w.run();
    let (badge, pid) = w.badge("a");
    assert_eq!(w.core.shut_down(&mut w.host, badge, pid, true), Some(Answer::Error(Error::Perm)));
    let (badge, pid) = w.badge("init");
    assert_eq!(w.core.shut_down(&mut w.host, badge, pid, true), None);
    assert_eq!(w.host.killed, [0; 0]);
    w.exit("a", 0);
    assert_eq!(w.host.end, Some(End::Reboot));
}
