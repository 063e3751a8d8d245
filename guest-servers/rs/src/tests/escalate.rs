//! What follows a service that has failed.

use super::world::*;
use crate::*;
use xinim_abi::ipc::bits;
use xinim_abi::services::rs::{control, query};

const ONCE: &str = "restart = { limit = 1, backoff = 0 }\n";

/// Crashes `label` until it has failed, or `times`.
fn crash(w: &mut World, label: &str, times: u32) {
    for _ in 0..times {
        w.run();
        w.fault(label);
    }
}

#[test]
fn nothing_more() {
    let mut w = World::boot(&[("a", ONCE), ("b", "")]);
    crash(&mut w, "a", 2);
    assert_eq!((w.state("a"), w.state("b")), ("failed", "running"));
    assert_eq!(w.core.alerts().count(), 0);
}

#[test]
fn an_alert_is_kept_and_shown() {
    let mut w = World::boot(&[("a", &[ONCE, "escalate = \"alert\""].concat()), ("b", "")]);
    crash(&mut w, "a", 2);
    assert_eq!((w.state("a"), w.state("b")), ("failed", "running"));
    let wanted = "a has failed: crashed 2 times in a row";
    assert_eq!(w.core.alerts().next().map(|alert| alert.text.as_str()), Some(wanted));
    assert!(w.host.log.iter().any(|line| *line == ["ALERT: ", wanted].concat()));
    let text = w.core.query(&w.host, query::ALERTS, &name(""), 4096).unwrap();
    assert_eq!(text, ["0\t", wanted, "\n"].concat());
    let status = w.core.query(&w.host, query::STATUS, &name("a"), 4096).unwrap();
    assert!(status.contains("escalate: alert\n"), "{status}");
}

#[test]
fn dependents_are_restarted_once() {
    let mut w = World::boot(&[
        ("a", &[ONCE, "escalate = \"restart-dependents\""].concat()),
        ("b", "needs = [\"a\"]"),
        ("c", "needs = [\"b\"]\nstop = \"kill\""),
        ("d", "calls = [\"a\"]"),
    ]);
    crash(&mut w, "a", 2);
    let (b, c) = (w.id("b"), w.id("c"));
    assert_eq!(w.host.notified, [(b, bits::TERMINATE | bits::SUCCEEDED)]);
    assert_eq!(w.host.killed, [c]);
    w.exit("b", 0);
    w.reap();
    assert_eq!((w.state("a"), w.state("b")), ("recovering", "waiting"));
    w.run();
    for label in ["a", "b", "c", "d"] {
        assert_eq!(w.state(label), "running", "{label}");
    }
    assert_eq!(w.slot("d").incarnation, 0, "does not need it");
    // Not a second time.
    w.fault("a");
    assert_eq!(w.state("a"), "failed");
    assert_eq!(w.state("b"), "running", "it may get along");
}

#[test]
fn safe_mode() {
    let mut w = World::boot(&[
        ("a", &[ONCE, "escalate = \"safe-mode\""].concat()),
        ("base", ""),
        ("shell", "needs = [\"base\"]\nsafe = true"),
        ("extra", "stop = \"kill\""),
        ("lazy", "start = \"first-use\""),
        ("programs", "instances = \"programs\"\ncalls = [\"lazy\"]\ncontrol = true"),
    ]);
    crash(&mut w, "a", 2);
    assert!(w.core.is_safe_mode());
    w.reap();
    assert_eq!(
        (w.state("base"), w.state("shell"), w.state("extra")),
        ("running", "running", "dead")
    );
    let (_, answer) = w.lookup((0, 50), "lazy", true);
    assert_eq!(answer, Some(Answer::Error(xinim_abi::error::Error::ServerDied)));
    // What goes on is still brought back, and the operator may start what he likes.
    w.fault("base");
    assert_eq!(w.state("base"), "recovering");
    w.control(control::START, "extra");
    w.run();
    assert_eq!(w.state("extra"), "running");
    let text = w.core.query(&w.host, query::ALERTS, &name(""), 4096).unwrap();
    assert!(text.contains("safe mode: a has failed: crashed 2 times in a row"), "{text}");
}

#[test]
fn reboot_is_orderly() {
    let mut w = World::boot(&[("a", &[ONCE, "escalate = \"reboot\""].concat()), ("b", "")]);
    crash(&mut w, "a", 2);
    assert_eq!(w.host.notified, [(w.id("b"), bits::TERMINATE)]);
    assert_eq!(w.host.end, None);
    w.exit("b", 0);
    assert_eq!(w.host.end, Some(End::Reboot));
}

#[test]
fn a_missing_need_is_not_its_own_doing() {
    let mut w = World::boot(&[("a", ONCE), ("b", "needs = [\"a\"]\nescalate = \"reboot\"")]);
    w.fault("a");
    w.fault("a");
    assert_eq!((w.state("a"), w.state("b")), ("failed", "failed"));
    assert_eq!(w.host.end, None);
}
