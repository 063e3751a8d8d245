//! Services loaded at run time, live update.

use super::world::*;
use crate::*;
use xinim_abi::error::Error;
use xinim_abi::ipc::{ReplyToken, bits};
use xinim_abi::services::rs::control;

impl World {
    fn update(&mut self, label: &str, program: ProgramId) -> (ReplyToken, Option<Answer>) {
        let token = self.token();
        (token, self.core.update(&mut self.host, 0, 50, token, &name(label), program))
    }

    fn load(&mut self, label: &str, text: &str, program: ProgramId) -> Result<(), Refusal> {
        self.core.load(&mut self.host, 0, 50, &name(label), text, program)
    }

    fn program(&self, label: &str) -> ProgramId {
        self.host.programs[&self.id(label)]
    }
}

#[test]
fn an_update_that_holds() {
    let mut w = World::boot(&CHAIN);
    w.run();
    let (token, answer) = w.update("a", 7);
    assert_eq!(answer, None);
    assert_eq!(w.host.notified, [(w.id("a"), bits::TERMINATE | bits::SUCCEEDED)]);
    assert_eq!(w.update("a", 8).1, Some(Answer::Error(Error::Busy)), "one at a time");
    assert_eq!(w.host.dropped, [8]);
    w.exit("a", 0);
    assert_eq!(w.state("a"), "starting");
    assert_eq!(w.program("a"), 7);
    w.announce("a");
    assert!(!w.host.answers.contains_key(&token.0), "not before it has lived for a second");
    w.at(1000);
    let pid = w.slot("a").pid;
    assert_eq!(w.host.answers[&token.0], Answer::Updated { pid, rolled_back: false });
    // From here on it is the service's program.
    w.fault("a");
    w.run();
    assert_eq!(w.program("a"), 7);
    // And gives way to the next.
    let _ = w.update("a", 9);
    w.exit("a", 0);
    w.run();
    w.at(3000);
    assert_eq!((w.program("a"), w.host.dropped.as_slice()), (9, [8, 7].as_slice()));
}

#[test]
fn an_update_that_fails_is_rolled_back() {
    // Cannot be loaded; dies before it is up; never announces itself; dies in its first second.
    for way in 0..4 {
        let mut w = World::boot(&[("a", "start_timeout = 500"), ("b", ""), PROGRAMS]);
        w.run();
        if way == 0 {
            w.host.broken.push(7);
        }
        let (token, _) = w.update("a", 7);
        w.exit("a", 0);
        match way {
            0 => {}
            1 => w.fault("a"),
            2 => {
                w.at(500);
                w.reap();
            }
            _ => {
                w.announce("a");
                w.at(900);
                w.exit("a", 0);
            }
        }
        assert_eq!(w.host.answers[&token.0], Answer::Updated { pid: 0, rolled_back: true });
        assert_eq!((w.state("a"), w.program("a")), ("recovering", 0), "way {way}");
        assert_eq!(w.host.dropped, [7]);
        w.run();
        w.at(10_000);
        assert_eq!((w.state("a"), w.slot("a").failures), ("running", 0), "no crash of its own");
    }
}

#[test]
fn a_service_that_does_not_come_to_rest_is_killed() {
    let mut w = World::boot(&CHAIN);
    w.run();
    let (token, _) = w.update("a", 7);
    w.at(2000);
    w.reap();
    w.run();
    w.at(3000);
    assert!(matches!(w.host.answers[&token.0], Answer::Updated { rolled_back: false, .. }));
    assert_eq!(w.program("a"), 7);
}

#[test]
fn who_may_and_what() {
    let mut w = World::boot(&[("a", "start = \"first-use\""), ("programs", PROGRAMS.1)]);
    w.run();
    assert_eq!(w.update("a", 7).1, Some(Answer::Error(Error::Busy)), "it does not run");
    assert_eq!(w.update("rs", 7).1, Some(Answer::Error(Error::Perm)));
    assert_eq!(w.update("x", 7).1, Some(Answer::Error(Error::NoEnt)));
    let token = w.token();
    let stranger = w.core.update(&mut w.host, 99 << 8, 50, token, &name("a"), 7);
    assert_eq!(stranger, Some(Answer::Error(Error::Perm)));
    let load = w.core.load(&mut w.host, 99 << 8, 50, &name("n"), "", 3);
    assert_eq!(load, Err(Refusal::Error(Error::Perm)));
    assert_eq!(w.host.dropped, [7, 7, 7, 7, 3]);
}

#[test]
fn services_are_loaded_and_unloaded() {
    let mut w = World::boot(&CHAIN);
    w.run();
    let text = |refusal: Result<(), Refusal>| match refusal {
        Err(Refusal::Text(text)) => text,
        other => panic!("{other:?}"),
    };
    let refused = w.load("n", "colour = 1", 3);
    assert!(text(refused).starts_with("n.toml: line 1: unknown field `colour`"));
    let refused = w.load("n", "needs = [\"n\"]", 3);
    assert_eq!(text(refused), "services depend on each other: n -> n");
    let refused = w.load("a", "", 3);
    assert_eq!(text(refused), "a.toml: a second manifest \"a\"");
    assert_eq!(w.load("n", "needs = [\"b\"]\nheartbeat = 200", 4), Ok(()));
    assert_eq!((w.state("n"), w.program("n")), ("starting", 4));
    w.run();
    w.fault("n");
    w.run();
    assert_eq!((w.state("n"), w.program("n")), ("running", 4));
    let unload = |w: &mut World, label: &str| w.core.unload(&mut w.host, 0, 50, &name(label));
    assert_eq!(unload(&mut w, "n"), Err(Refusal::Error(Error::Busy)));
    assert_eq!(unload(&mut w, "a"), Err(Refusal::Error(Error::Perm)), "of the bundle");
    w.control(control::STOP, "n");
    w.exit("n", 0);
    assert_eq!(unload(&mut w, "n"), Ok(()));
    assert_eq!(w.host.dropped, [3, 3, 3, 4]);
    assert_eq!(unload(&mut w, "n"), Err(Refusal::Error(Error::NoEnt)));
    assert_eq!(w.load("n", "", 5), Ok(()), "again");
    w.run();
    assert_eq!(w.program("n"), 5);
}
