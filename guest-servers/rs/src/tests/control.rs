//! The operator's hand.

use super::world::*;
use crate::*;
use xinim_abi::error::Error;
use xinim_abi::ipc::bits;
use xinim_abi::services::rs::{control, query};

#[test]
fn kills_by_hand_do_not_count_as_a_crash_loop() {
    let mut w = World::boot(&CHAIN);
    w.run();
    for i in 0..2000u64 {
        w.host.now += 100 * MS;
        let (operation, injected) = match i % 2 {
            0 => (control::KILL, false),
            _ => (control::INJECT_FAULT, true),
        };
        let (token, answer) = w.control(operation, "a");
        assert_eq!(answer, None);
        let pid = w.slot("a").pid;
        match injected {
            true => {
                let id = w.id("a");
                assert_eq!(w.host.notified.pop(), Some((id, bits::INJECT_FAULT)));
                w.fault("a");
            }
            false => w.reap(),
        }
        assert_eq!(w.host.answers[&token], Answer::Controlled { pid });
        assert_eq!(w.state("a"), "recovering");
        w.run();
    }
    assert_eq!(w.slot("a").restarts, 2000);
    assert_eq!(w.core.history().total(), 2000);
    // The newest lines stay where the room is short.
    let text = w.core.query(&w.host, query::HISTORY, &name("a"), 200).unwrap();
    assert!(text.len() <= 200 && text.lines().count() >= 3, "{text}");
    assert!(text.lines().last().unwrap().starts_with("200000000\ta\tinjected\t"), "{text}");
}

#[test]
fn stop_start_restart() {
    let mut w = World::boot(&CHAIN);
    w.run();
    let (stop, _) = w.control(control::STOP, "b");
    let id = w.id("b");
    assert_eq!(w.host.notified.pop(), Some((id, bits::TERMINATE)));
    assert!(!w.host.answers.contains_key(&stop));
    let pid = w.slot("b").pid;
    w.exit("b", 0);
    assert_eq!(w.host.answers[&stop], Answer::Controlled { pid });
    assert_eq!(w.state("b"), "dead");
    // The start of one that needs it starts it too.
    let (_, answer) = w.control(control::STOP, "c");
    assert_eq!(answer, None);
    w.exit("c", 0);
    let (start, answer) = w.control(control::START, "c");
    assert_eq!(answer, None);
    w.run();
    assert_eq!((w.state("b"), w.state("c")), ("running", "running"));
    assert_eq!(w.host.answers[&start], Answer::Controlled { pid: w.slot("c").pid });
    // One that does not listen is killed after 2 s.
    let (restart, _) = w.control(control::RESTART, "b");
    w.at((w.host.now + STOP_TIMEOUT) / MS);
    assert_eq!(w.host.killed, [w.id("b")]);
    w.reap();
    w.run();
    assert_eq!(w.host.answers[&restart], Answer::Controlled { pid: w.slot("b").pid });
    let text = w.core.query(&w.host, query::HISTORY, &name("b"), 4096).unwrap();
    assert!(text.contains("stopped\tstatus 0") && text.contains("stop-timeout"), "{text}");
    assert_eq!(w.control(control::STOP, "nobody").1, Some(Answer::Error(Error::NoEnt)));
    assert_eq!(w.control(control::STOP, "rs").1, Some(Answer::Error(Error::Perm)));
    assert_eq!(w.control(control::KILL, "rs").1, None);
    assert_eq!(w.host.end, Some(End::Fall));
    assert_eq!(w.control(99, "a").1, Some(Answer::Error(Error::Inval)));
}
