//! Heartbeats, processor budgets, complaints.

use super::world::*;
use crate::*;
use alloc::string::String;
use xinim_abi::error::Error;
use xinim_abi::event::{Obituary, cause};
use xinim_abi::info::{Pulse, pulse, state};
use xinim_abi::services::rs::query;

/// Not fetched, doing `doing`; the other figures as given.
fn pending(doing: u32, system_calls: u64, cpu_ns: u64) -> (u64, Pulse) {
    (pulse::PENDING, Pulse { doing, waits_for: 0, system_calls, cpu_ns, spinning_ns: 0 })
}

impl World {
    /// Lets `ms` pass, in the steps in which RS wakes, with `label` giving these answers.
    fn pass(&mut self, ms: u64, label: &str, mut answer: impl FnMut(u64) -> (u64, Pulse)) {
        let id = self.id(label);
        let end = self.host.now + ms * MS;
        let mut step = 0;
        while let Some(next) = self.core.next_deadline(self.host.now).filter(|&next| next <= end) {
            self.host.pulses.insert(id, answer(step));
            step += 1;
            self.host.now = next.max(self.host.now);
            self.core.tick(&mut self.host);
            if !self.host.killed.is_empty() {
                break;
            }
        }
        self.host.now = self.host.now.max(if self.host.killed.is_empty() { end } else { 0 });
    }

    fn history(&self) -> String {
        self.core.query(&self.host, query::HISTORY, &name(""), 4096).unwrap()
    }
}

/// RAISED, then PENDING.
fn from_then_on(then: impl Fn(u64) -> (u64, Pulse)) -> impl FnMut(u64) -> (u64, Pulse) {
    move |step| if step == 0 { (pulse::RAISED, Pulse::default()) } else { then(step) }
}

#[test]
fn idle_services_cost_two_looks_a_heartbeat() {
    let mut w = World::boot(&[("a", "heartbeat = 1000"), ("b", ""), ("c", "heartbeat = 0")]);
    w.run();
    let mut times = alloc::vec::Vec::new();
    while let Some(next) = w.core.next_deadline(w.host.now).filter(|&next| next <= 3000 * MS) {
        times.push(next / MS);
        w.host.now = next;
        w.core.tick(&mut w.host);
    }
    assert_eq!(times, [500, 1000, 1500, 2000, 2500, 3000], "one timer for all");
    assert_eq!(w.host.probes, [6, 6], "and none without heartbeat");
}

#[test]
fn one_that_spins_is_killed_within_its_heartbeat_and_comes_back() {
    let mut w = World::boot(&[("a", "heartbeat = 400"), ("b", "")]);
    w.run();
    w.host.now = 1000 * MS;
    w.pass(1000, "a", from_then_on(|step| pending(state::READY, 7, step * 50 * MS)));
    assert_eq!(w.host.killed, [w.id("a")]);
    assert!(w.host.now <= 1400 * MS, "{}", w.host.now);
    w.reap();
    assert_eq!((w.state("a"), w.state("b")), ("recovering", "running"));
    assert!(w.history().contains("\ta\thung\t-\t"), "{}", w.history());
}

/// It comes to its endpoint; one of its threads has spun for so long.
fn spinning(ms: u64) -> (u64, Pulse) {
    (pulse::WAITING, Pulse { spinning_ns: ms * MS, ..Pulse::default() })
}

#[test]
fn one_whose_other_threads_still_come_is_killed_within_two_heartbeats() {
    let mut w = World::boot(&[("a", ""), ("b", "")]);
    w.run();
    w.host.now = 1000 * MS;
    w.pass(3000, "a", |step| spinning(step * 250));
    assert_eq!(w.host.killed, [w.id("a")]);
    assert!(w.host.now <= 3000 * MS, "{}", w.host.now);
    w.reap();
    assert!(w.history().contains("\ta\thung\t-\t"), "{}", w.history());
}

#[test]
fn a_thread_that_works_for_a_while_or_gets_no_processor_does_not_spin() {
    let mut w = World::boot(&[("a", "")]);
    w.run();
    // It makes a system call before half a heartbeat is over, again and again.
    w.pass(20_000, "a", |step| spinning(step % 4 * 120));
    assert_eq!(w.host.killed, [0; 0]);
    // The machine stood still for ten seconds: one look only shows it.
    w.pass(20_000, "a", |step| spinning(if step % 2 == 0 { 10_000 } else { 0 }));
    assert_eq!(w.host.killed, [0; 0]);
    w.pass(20_000, "a", |_| spinning(300));
    assert_eq!(w.host.killed, [0; 0]);
}

#[test]
fn one_that_sleeps_for_ever_is_killed() {
    let mut w = World::boot(&[("a", "")]);
    w.run();
    w.pass(2000, "a", from_then_on(|_| pending(state::SLEEPING, 7, 5)));
    assert_eq!(w.host.killed, [w.id("a")]);
    assert!(w.host.now <= 1000 * MS);
}

#[test]
fn one_that_answers_late_is_well() {
    let mut w = World::boot(&[("a", "")]);
    w.run();
    // Two misses, then it fetched the bit.
    w.pass(20_000, "a", |step| match step % 4 {
        0 => (pulse::RAISED, Pulse::default()),
        n => pending(state::READY, 7, n * 100 * MS),
    });
    assert_eq!(w.host.killed, [0; 0], "never three in a row behind the first");
    w.pass(5000, "a", |_| (pulse::WAITING, Pulse::default()));
    assert_eq!(w.host.killed, [0; 0]);
}

#[test]
fn one_that_gets_no_processor_is_not_to_blame() {
    let mut w = World::boot(&[("a", "")]);
    w.run();
    w.pass(60_000, "a", from_then_on(|_| pending(state::READY, 7, 5)));
    assert_eq!(w.host.killed, [0; 0]);
}

#[test]
fn one_that_works_or_waits_has_patience() {
    for waits in [true, false] {
        let mut w = World::boot(&[("a", ""), ("b", "calls = [\"a\"]")]);
        w.run();
        let answer = |step| match waits {
            true => pending(state::AWAITING_REPLY, 7, 5),
            false => pending(state::READY, step, step * MS),
        };
        w.pass(29_000, "b", from_then_on(answer));
        assert_eq!(w.host.killed, [0; 0]);
        w.pass(4000, "b", answer);
        assert_eq!(w.host.killed, [w.id("b")], "but not for ever");
    }
}

#[test]
fn patience_does_not_run_out_while_another_is_down() {
    let mut w =
        World::boot(&[("a", "start_timeout = 600000"), ("b", "calls = [\"a\"]"), ("c", "")]);
    w.run();
    w.fault("a"); // and it takes its time to come back
    w.pass(120_000, "b", from_then_on(|_| pending(state::AWAITING_REPLY, 7, 5)));
    assert_eq!(w.host.killed, [0; 0]);
    assert_eq!(w.state("a"), "recovering");
}

#[test]
fn misses_do_not_count_while_a_need_is_down() {
    let mut w = World::boot(&[("a", "start_timeout = 600000"), ("b", "needs = [\"a\"]")]);
    w.run();
    w.fault("a");
    w.pass(60_000, "b", from_then_on(|step| pending(state::READY, 7, step * MS)));
    assert_eq!(w.host.killed, [0; 0]);
    w.run();
    w.pass(2000, "b", |step| pending(state::READY, 7, step * MS));
    assert_eq!(w.host.killed, [w.id("b")]);
}

#[test]
fn a_processor_hog_is_restarted() {
    let mut w = World::boot(&[("a", "cpu = { percent = 50, window = 2000 }")]);
    w.run();
    let id = w.id("a");
    for share in [40, 60] {
        for _ in 0..20 {
            let Some(next) = w.core.next_deadline(w.host.now) else { break };
            let passed = next - w.host.now;
            *w.host.cpu.entry(id).or_default() += passed * share / 100;
            w.host.now = next;
            w.core.tick(&mut w.host);
        }
        assert_eq!(w.host.killed.is_empty(), share == 40, "{share} %");
    }
    w.host.killed.truncate(1);
    w.reap();
    assert!(w.history().contains("\ta\tcpu-hog\t60 % of the processor\t"), "{}", w.history());
    assert_eq!(w.state("a"), "recovering");
}

/// Who takes all of the processor has the share of one window and the time to the next look, and then
/// comes back behind the programs until it has been good for a while.
#[test]
fn a_processor_hog_does_not_keep_others_waiting() {
    let manifest = "cpu = { percent = 20, window = 1000 }\nheartbeat = 200\npriority = 20
        restart = { stable = 1000, backoff = 0 }";
    let mut w = World::boot(&[("a", manifest)]);
    w.run();
    let id = w.id("a");
    let hog = |w: &mut World| {
        let begin = w.host.now;
        let used = w.host.cpu.get(&id).copied().unwrap_or(0);
        while w.host.killed.is_empty() {
            let next = w.core.next_deadline(w.host.now).expect("a heartbeat");
            w.host.cpu.insert(id, used + next - begin);
            w.host.now = next;
            w.core.tick(&mut w.host);
        }
        assert!(w.host.now - begin <= 300 * MS, "{} ms", (w.host.now - begin) / MS);
        w.host.cpu.clear();
        w.reap();
        w.run();
    };
    assert_eq!(w.host.priorities[&id], 20);
    hog(&mut w);
    assert_eq!(w.host.priorities[&id], 8);
    hog(&mut w);
    assert_eq!(w.host.priorities[&id], 8);
    // A crash of its own, after a time in which it was good.
    w.host.now += 2000 * MS;
    w.fault("a");
    w.run();
    assert_eq!(w.host.priorities[&id], 20);
}

#[test]
fn refusals_are_counted_over_all_instances() {
    let mut w = World::boot(&[("a", "")]);
    w.run();
    let (badge, pid) = w.badge("a");
    w.core.count_refusal(badge, pid);
    w.core.count_refusal(badge, pid + 1);
    let code = 1;
    w.die("a", Obituary { cause: cause::EXIT, code, refused: 40, ..Default::default() });
    w.run();
    let text = w.core.query(&w.host, query::STATISTICS, &name(""), 4096).unwrap();
    let fields: std::vec::Vec<&str> = text.trim_end().split('\t').collect();
    assert_eq!(fields[11..], ["41", "exit 1"], "{text}");
    assert!(
        w.core.query(&w.host, query::STATUS, &name("a"), 4096).unwrap().contains("refused: 41\n")
    );
}

const CLIENT: [(&str, &str); 4] = [
    ("disk", "class = \"block\""),
    ("fs", "calls = [\"disk\"]\ncomplains = [\"class:block\"]"),
    ("other", "calls = [\"disk\"]"),
    PROGRAMS_DISK,
];
const PROGRAMS_DISK: (&str, &str) = ("programs", "instances = \"programs\"\ncontrol = true");

#[test]
fn complaints() {
    let mut w = World::boot(&CLIENT);
    w.run();
    w.host.now = 10_000 * MS;
    let complain = |w: &mut World, (badge, pid): (u64, u32), accused: &str| {
        w.core.complain(&mut w.host, badge, pid, &name(accused), 3)
    };
    let fs = w.badge("fs");
    let access = Answer::Error(Error::Access);
    let other = w.badge("other");
    assert_eq!(complain(&mut w, other, "disk"), access, "not in its manifest");
    assert_eq!(complain(&mut w, (0, 50), "disk"), access, "a program");
    assert_eq!(complain(&mut w, (fs.0, 50), "disk"), access, "somebody else's badge");
    assert_eq!(complain(&mut w, fs, "other"), access, "not about that one");
    assert_eq!(complain(&mut w, fs, "nobody"), Answer::Error(Error::NoEnt));
    assert_eq!(w.host.killed, [0; 0]);
    assert_eq!(complain(&mut w, fs, "disk"), Answer::Complained);
    assert_eq!(complain(&mut w, fs, "disk"), Answer::Complained, "already done");
    assert_eq!(w.host.killed, [w.id("disk")]);
    w.reap();
    w.run();
    assert_eq!(w.state("disk"), "running");
    assert!(w.history().contains("\tdisk\tcomplaint\tby fs, code 3\t"), "{}", w.history());
    assert_eq!(complain(&mut w, fs, "disk"), Answer::Error(Error::Again), "not too often");
    w.host.now += 1000 * MS;
    assert_eq!(complain(&mut w, fs, "disk"), Answer::Complained);
}
