//! Start, death, restart, failure.

use super::world::*;
use crate::*;
use alloc::string::ToString;
use xinim_abi::error::Error;
use xinim_abi::services::rs::{control, query};

#[test]
fn services_start_when_what_they_need_is_up() {
    let mut w = World::boot(&CHAIN);
    assert_eq!(w.host.started, ["a"]);
    assert_eq!((w.state("a"), w.state("b"), w.state("c")), ("starting", "waiting", "waiting"));
    w.announce("a");
    assert_eq!(w.host.started, ["a", "b"]);
    w.run();
    assert_eq!(w.host.started, ["a", "b", "c"]);
    assert_eq!(w.state("c"), "running");
}

#[test]
fn first_use() {
    let mut w = World::boot(&[
        ("a", "start = \"first-use\""),
        ("b", "start = \"first-use\"\nneeds = [\"a\"]"),
        ("c", "wants = [\"a\", \"b\"]\ncalls = [\"b\"]"),
        ("d", "start = \"first-use\""),
        ("e", "needs = [\"d\"]"),
    ]);
    assert_eq!(w.host.started, ["c", "d"], "nobody waits for what it only wants; needs are met");
    w.run();
    assert_eq!((w.state("a"), w.state("b"), w.state("e")), ("idle", "idle", "running"));
    let (token, answer) = w.lookup(w.badge("c"), "b", true);
    assert_eq!(answer, None);
    w.run();
    assert_eq!(w.host.started, ["c", "d", "e", "a", "b"]);
    assert!(matches!(w.host.answers[&token], Answer::Found { .. }));
}

#[test]
fn a_crash_is_followed_by_a_restart_and_waiting_lookups_find_the_new_instance() {
    let mut w = World::boot(&CHAIN);
    w.run();
    w.host.now = 1000 * MS;
    w.fault("a");
    assert_eq!((w.state("a"), w.state("b")), ("recovering", "running"));
    assert_eq!(w.host.live[&w.id("a")].3, 1, "incarnation");
    let (token, answer) = w.lookup((0, 50), "a", true);
    assert_eq!(answer, None);
    w.host.now = 1003 * MS;
    w.announce("a");
    assert!(matches!(w.host.answers[&token], Answer::Found { pid, .. } if pid == w.slot("a").pid));
    let text = w.core.query(&w.host, query::HISTORY, &name(""), 4096).unwrap();
    assert_eq!(text, "1000000\ta\tfault\tpage fault at 0x10, rip 0x401000\t3000\n");
    assert_eq!(w.slot("a").restarts, 1);
}

#[test]
fn a_crash_loop_backs_off_and_fails_and_is_forgiven_when_stable() {
    let mut w =
        World::boot(&[("a", "restart = { limit = 3, backoff = 100, stable = 1000 }"), ("b", "")]);
    w.run();
    w.fault("a");
    w.run(); // the first restart is at once
    w.fault("a");
    assert_eq!(w.state("a"), "crashed");
    assert_eq!(w.core.next_deadline(w.host.now), Some(100 * MS));
    w.at(99);
    assert_eq!(w.state("a"), "crashed");
    w.at(100);
    w.run();
    // Up for a second: the next crash is the first again.
    w.at(1200);
    w.fault("a");
    assert_eq!(w.state("a"), "recovering");
    w.run();
    w.fault("a");
    assert_eq!(w.core.next_deadline(w.host.now), Some(1300 * MS));
    w.at(1300);
    w.run();
    w.fault("a");
    assert_eq!(w.core.next_deadline(w.host.now), Some(1500 * MS));
    w.at(1500);
    w.run();
    w.fault("a");
    assert_eq!((w.state("a"), w.state("b")), ("failed", "running"));
    let status = w.core.query(&w.host, query::STATUS, &name("a"), 4096).unwrap();
    assert!(status.contains("reason: crashed 4 times in a row\n"), "{status}");
    // Programs may not control here, so it stays so.
    assert_eq!(w.control(control::START, "a").1, Some(Answer::Error(Error::Perm)));
}

#[test]
fn a_service_that_does_not_announce_itself_is_killed() {
    let mut w =
        World::boot(&[("a", "start_timeout = 100"), ("b", "needs = [\"a\"]\nstart_timeout = 100")]);
    w.at(100);
    assert_eq!(w.host.killed, [w.id("a")]);
    w.at(150);
    w.reap();
    let text = w.core.query(&w.host, query::HISTORY, &name("a"), 4096).unwrap();
    assert_eq!(text, "150000\ta\tstart-timeout\t-\t-\n");
    assert_eq!(w.state("a"), "recovering");
    // While what it needs is down, a start may take longer.
    w.announce("a");
    w.fault("a");
    w.at(250);
    assert_eq!(w.host.killed, [0; 0]);
}

#[test]
fn policies() {
    let mut w = World::boot(&[
        ("always", "restart = { policy = \"always\" }"),
        ("failure", ""),
        ("never", "restart = { policy = \"never\" }"),
    ]);
    w.run();
    for label in ["always", "failure", "never"] {
        w.exit(label, 0);
    }
    assert_eq!(
        (w.state("always"), w.state("failure"), w.state("never")),
        ("recovering", "dead", "dead")
    );
    let mut w = World::boot(&[("never", "restart = { policy = \"never\" }"), ("failure", "")]);
    w.run();
    w.exit("failure", 1);
    w.exit("never", 1);
    assert_eq!((w.state("failure"), w.state("never")), ("recovering", "failed"));
}

#[test]
fn a_missing_program_fails_and_so_does_who_needs_it() {
    let mut w = World::new(&[("a", ""), ("b", "needs = [\"a\"]"), ("c", "wants = [\"a\"]")]);
    w.host.missing.push("sbin/a".to_string());
    w.core.boot(&mut w.host);
    assert_eq!((w.state("a"), w.state("b"), w.state("c")), ("failed", "failed", "starting"));
    assert!(w.host.log.iter().any(|l| l == "b has failed: needs a, which is not running"));
}
