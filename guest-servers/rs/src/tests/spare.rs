//! Processes made ahead: used, lost, refused, given up.

use super::world::*;
use crate::spare::{LOSSES_MAX, Spare};
use crate::*;
use xinim_abi::error::Error;
use xinim_abi::event::Obituary;
use xinim_abi::ipc::ReplyToken;
use xinim_abi::services::rs::{control, query};

/// `a` has a spare, `b` has none; both run, and so does the time until the spare is made.
fn world() -> World {
    let mut w = World::boot(&[("a", "spare = true\nkeep = 1"), ("b", ""), PROGRAMS]);
    w.run();
    let (a, b) = (w.id("a"), w.id("b"));
    assert!(w.host.spares.is_empty(), "not while others wait for it");
    assert_eq!(w.core.next_deadline(w.host.now), Some(w.host.now + SPARE_DELAY));
    later(&mut w, SPARE_DELAY);
    assert!(w.host.spares.contains_key(&a) && !w.host.spares.contains_key(&b));
    w
}

fn later(w: &mut World, time: u64) {
    w.host.now += time;
    w.core.tick(&mut w.host);
}

/// The spare of `a` comes to where it waits.
fn ready(w: &mut World) -> u32 {
    let (pid, _, badge, _) = w.host.spares[&w.id("a")];
    assert_eq!(w.core.stand_by(&mut w.host, badge, pid, ReplyToken(9000 + u64::from(pid))), None);
    pid
}

fn dies(w: &mut World) {
    let (pid, cookie, ..) = w.host.spares[&w.id("a")];
    w.core.died(&mut w.host, &Obituary { pid, cookie, ..Default::default() });
}

fn restarts(w: &World) -> alloc::string::String {
    w.core.query(&w.host, query::RESTARTS, &name("a"), 4096).unwrap()
}

#[test]
fn it_takes_over_and_is_made_anew() {
    let mut w = world();
    let (a, pid) = (w.id("a"), ready(&mut w));
    w.fault("a");
    assert_eq!((w.slot("a").pid, w.host.spared.as_slice()), (pid, [a].as_slice()));
    assert_eq!(w.host.answers[&(9000 + u64::from(pid))], Answer::Started);
    w.announce("a");
    assert_eq!(restarts(&w).split('\t').nth(2), Some("spare"));
    w.fault("a");
    assert_eq!(w.host.spared, [a], "there was no other");
    w.run();
    later(&mut w, BACKOFF_MAX);
    w.announce("a");
    assert_eq!(restarts(&w).lines().nth(1).unwrap().split('\t').nth(2), Some("new"));
    later(&mut w, SPARE_DELAY);
    assert!(w.host.spares.contains_key(&a));
    w.control(control::STOP, "a");
    w.exit("a", 0);
    assert!(w.host.spares.is_empty(), "nobody comes after one that was stopped");
    assert_eq!(w.slot("a").spare, Spare::None);
}

#[test]
fn one_that_is_on_its_way_is_told_when_it_asks() {
    let mut w = world();
    let (pid, _, badge, _) = w.host.spares[&w.id("a")];
    w.fault("a");
    assert_eq!(w.slot("a").pid, pid);
    let answer = w.core.stand_by(&mut w.host, badge, pid, ReplyToken(1));
    assert_eq!(answer, Some(Answer::Started));
    w.announce("a");
    assert_eq!(restarts(&w).split('\t').nth(2), Some("ahead"));
}

#[test]
fn it_may_look_at_what_is_kept_and_do_nothing_else() {
    let mut w = world();
    let (pid, _, badge, _) = w.host.spares[&w.id("a")];
    assert_eq!(w.core.keeper(badge, pid), Ok((w.id("a"), 0)));
    assert_eq!(w.core.announce(&mut w.host, badge, pid), Answer::Error(Error::Perm));
    assert!(w.core.lookup(&mut w.host, badge, pid, ReplyToken(1), &name("b"), true).is_some());
    assert_eq!(w.slot("a").state, State::Running);
    // Nobody else stands by.
    let stranger = w.core.stand_by(&mut w.host, badge, pid + 1000, ReplyToken(2));
    assert_eq!(stranger, Some(Answer::Error(Error::Perm)));
    assert_eq!(
        w.core.stand_by(&mut w.host, 0, pid, ReplyToken(3)),
        Some(Answer::Error(Error::Perm))
    );
}

#[test]
fn one_that_dies_is_made_again_later_and_at_last_not_started() {
    let mut w = world();
    let a = w.id("a");
    for lost in 0..LOSSES_MAX {
        assert!(w.host.spares[&a].3, "started");
        if lost == 1 {
            // It does not come to where it is to wait.
            later(&mut w, SPARE_TIMEOUT);
        } else {
            dies(&mut w);
        }
        assert!(w.host.spares.is_empty());
        assert_eq!(w.slot("a").state, State::Running, "its service does not care");
        later(&mut w, (SPARE_RETRY << lost) - 1);
        assert!(w.host.spares.is_empty(), "not at once");
        later(&mut w, 1);
    }
    assert!(!w.host.spares[&a].3, "that one cannot go wrong");
    assert_eq!(w.slot("a").spare.due(), u64::MAX);
    assert_eq!(w.slot("a").statistics.crashes, 0);
    w.fault("a");
    assert_eq!(w.host.spared, [a]);
}

#[test]
fn one_that_died_unnoticed_is_as_good_as_none() {
    let mut w = world();
    let a = w.id("a");
    let pid = ready(&mut w);
    w.host.dead_spares.push(a);
    w.fault("a");
    assert!(w.slot("a").state.is_live() && w.slot("a").pid != pid && w.host.spared.is_empty());
    w.announce("a");
    assert_eq!(restarts(&w).split('\t').nth(2), Some("new"));
}

#[test]
fn where_memory_is_short_there_are_none() {
    let mut w = world();
    ready(&mut w);
    w.host.short = true;
    later(&mut w, 500 * MS);
    assert!(w.host.spares.is_empty() && w.host.ready.is_empty());
    later(&mut w, SPARE_RETRY);
    assert!(w.host.spares.is_empty());
    w.host.short = false;
    later(&mut w, SPARE_RETRY);
    assert!(w.host.spares.contains_key(&w.id("a")), "there is more again");
    // A start that finds no memory takes that of the spares.
    w.host.no_memory = 1;
    w.fault("b");
    assert!(w.host.spares.is_empty());
    assert!(w.slot("b").state.is_live(), "{:?}", w.slot("b").state);
}

#[test]
fn an_update_does_not_start_the_old_program() {
    let mut w = world();
    let a = w.id("a");
    let old = ready(&mut w);
    let token = ReplyToken(500);
    assert!(w.core.update(&mut w.host, 0, 77, token, &name("a"), 7).is_none());
    w.exit("a", 0);
    assert!(w.slot("a").pid != old && w.host.spared.is_empty());
    assert_eq!(w.host.programs[&a], 7);
    w.announce("a");
    later(&mut w, SPARE_DELAY);
    assert!(w.host.spares.contains_key(&a), "of the new one");
}
