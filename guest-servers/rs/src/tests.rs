//! The logic on a pretended system.

use crate::*;
use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;
use proptest::prelude::*;
use xinim_abi::error::{Error, Result};
use xinim_abi::event::{Obituary, Registers, cause};
use xinim_abi::interface::Name;
use xinim_abi::ipc::{ReplyToken, bits};
use xinim_abi::object::Handle;
use xinim_abi::services::rs::control;
use xinim_abi::services::rs::query;
use xinim_abi::services::rs::rs::AddFunction;
use xinim_manifest::{Catalog, Manifest};

const MS: u64 = 1_000_000;

/// A system in which processes do what the test says.
#[derive(Default)]
struct Fake {
    now: u64,
    next_pid: u32,
    /// Live instances by slot: pid, cookie, label, incarnation, badge.
    live: BTreeMap<SlotId, (u32, u64, String, u32, u64)>,
    killed: Vec<SlotId>,
    notified: Vec<(SlotId, u64)>,
    answers: BTreeMap<u64, Answer>,
    missing: Vec<String>,
    closed: Vec<Handle>,
    retired: Vec<SlotId>,
    discarded: Vec<SlotId>,
    log: Vec<String>,
    end: Option<End>,
    started: Vec<String>,
}

impl Host for Fake {
    fn now(&self) -> u64 {
        self.now
    }
    fn launch(&mut self, launch: &Launch<'_>) -> Result<u32> {
        if self.missing.contains(&launch.manifest.program) {
            return Err(Error::NoEnt);
        }
        self.next_pid += 1;
        let pid = 100 + self.next_pid;
        let label = launch.label.to_string();
        self.started.push(label.clone());
        let instance = (pid, launch.cookie, label, launch.incarnation, launch.badge);
        assert!(self.live.insert(launch.slot, instance).is_none(), "two instances in a slot");
        Ok(pid)
    }
    fn kill(&mut self, slot: SlotId) {
        assert!(self.live.contains_key(&slot), "kill of nobody");
        self.killed.push(slot);
    }
    fn notify(&mut self, slot: SlotId, bits: u64) {
        assert!(self.live.contains_key(&slot), "notification to nobody");
        self.notified.push((slot, bits));
    }
    fn forget(&mut self, slot: SlotId) {
        assert!(self.live.remove(&slot).is_some(), "nobody to forget");
    }
    fn retire(&mut self, slot: SlotId) {
        self.retired.push(slot);
    }
    fn discard(&mut self, slot: SlotId) {
        self.discarded.push(slot);
    }
    fn close(&mut self, handle: Handle) {
        self.closed.push(handle);
    }
    fn answer(&mut self, token: ReplyToken, answer: Answer) {
        assert!(self.answers.insert(token.0, answer).is_none(), "two answers to {token:?}");
    }
    fn log(&mut self, line: core::fmt::Arguments<'_>) {
        self.log.push(line.to_string());
    }
    fn end(&mut self, end: End) {
        assert!(self.end.is_none(), "two ends");
        self.end = Some(end);
    }
}

struct World {
    core: Core,
    host: Fake,
    token: u64,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

impl World {
    fn new(files: &[(&str, &str)]) -> Self {
        let manifests = files.iter().map(|(l, text)| Manifest::parse(l, text).unwrap()).collect();
        let core = Core::new(Catalog::strict(manifests).unwrap(), 1);
        World { core, host: Fake::default(), token: 0 }
    }

    fn boot(files: &[(&str, &str)]) -> Self {
        let mut world = World::new(files);
        world.core.boot(&mut world.host);
        world
    }

    fn slot(&self, label: &str) -> &Slot {
        let found = self.core.slots().find(|(_, s)| s.label == name(label));
        found.unwrap_or_else(|| panic!("no {label}")).1
    }

    fn id(&self, label: &str) -> SlotId {
        self.core.slots().find(|(_, s)| s.label == name(label)).unwrap().0
    }

    fn state(&self, label: &str) -> &'static str {
        self.slot(label).state.name()
    }

    fn badge(&self, label: &str) -> (u64, u32) {
        let (pid, _, _, _, badge) = self.host.live[&self.id(label)];
        (badge, pid)
    }

    fn announce(&mut self, label: &str) {
        let (badge, pid) = self.badge(label);
        assert_eq!(self.core.announce(&mut self.host, badge, pid), Answer::Announced);
    }

    /// Announces whoever starts, until nothing starts any more.
    fn run(&mut self) {
        while let Some(label) = {
            let starting = |s: &Slot| matches!(s.state.name(), "starting" | "recovering");
            self.core.slots().find(|(_, s)| starting(s)).map(|(_, s)| s.label.to_string())
        } {
            self.announce(&label);
        }
    }

    fn die(&mut self, label: &str, obituary: Obituary) {
        let id = self.id(label);
        let (pid, cookie, ..) = self.host.live[&id];
        let obituary = Obituary { pid, cookie, time: self.host.now, ..obituary };
        self.core.died(&mut self.host, &obituary);
    }

    fn fault(&mut self, label: &str) {
        let registers = Registers { rip: 0x40_1000, ..Default::default() };
        let fault = Obituary {
            cause: cause::FAULT,
            vector: 14,
            address: 0x10,
            registers,
            ..Default::default()
        };
        self.die(label, fault);
    }

    fn exit(&mut self, label: &str, code: i64) {
        self.die(label, Obituary { cause: cause::EXIT, code, ..Default::default() });
    }

    fn token(&mut self) -> ReplyToken {
        self.token += 1;
        ReplyToken(self.token)
    }

    fn lookup(
        &mut self,
        (badge, pid): (u64, u32),
        label: &str,
        wait: bool,
    ) -> (u64, Option<Answer>) {
        let token = self.token();
        (token.0, self.core.lookup(&mut self.host, badge, pid, token, &name(label), wait))
    }

    fn control(&mut self, operation: u32, label: &str) -> (u64, Option<Answer>) {
        let token = self.token();
        let answer = self.core.control(&mut self.host, 0, 77, token, operation, &name(label));
        (token.0, answer)
    }

    /// Kills of the host become deaths.
    fn reap(&mut self) {
        for id in core::mem::take(&mut self.host.killed) {
            if let Some((_, _, label, ..)) = self.host.live.get(&id).cloned() {
                self.die(&label, Obituary { cause: cause::KILLED, code: 9, ..Default::default() });
            }
        }
    }

    fn at(&mut self, ms: u64) {
        self.host.now = ms * MS;
        self.core.tick(&mut self.host);
    }
}

const PROGRAMS: (&str, &str) =
    ("programs", "instances = \"programs\"\ncalls = [\"a\"]\ncontrol = true");
const CHAIN: [(&str, &str); 4] = [
    ("a", ""),
    ("b", "needs = [\"a\"]"),
    ("c", "needs = [\"b\"]\nresources = [\"process\"]\ncalls = [\"a:admin\"]"),
    PROGRAMS,
];

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
fn lookups_wait_and_carry_badges() {
    let mut w = World::boot(&CHAIN);
    let program = (0, 50);
    let (early, answer) = w.lookup(program, "a", true);
    assert_eq!(answer, None);
    assert_eq!(w.lookup(program, "a", false).1, Some(Answer::Error(Error::Again)));
    assert_eq!(w.lookup(program, "b", true).1, Some(Answer::Error(Error::Access)));
    assert_eq!(w.lookup(program, "x", true).1, Some(Answer::Error(Error::NoEnt)));
    assert_eq!(w.lookup(program, "a:user", true).1, Some(Answer::Error(Error::Access)));
    assert_eq!(w.lookup(program, "rs", true).1, Some(Answer::Error(Error::Access)));
    w.run();
    let (slot, pid) = (w.id("a"), w.slot("a").pid);
    assert_eq!(w.host.answers[&early], Answer::Found { slot, pid, badge: 0 });
    let c = w.badge("c");
    let admin = (w.id("c") as u64 + 1) << 8 | 1;
    assert_eq!(w.lookup(c, "a", true).1, Some(Answer::Found { slot, pid, badge: admin }));
    assert_eq!(w.lookup(c, "a:user", true).1, Some(Answer::Found { slot, pid, badge: 0 }));
    assert_eq!(w.lookup(c, "rs", true).1, Some(Answer::FoundRs));
    // A badge in another process's hands is worth nothing.
    assert_eq!(w.lookup((c.0, 50), "a", true).1, Some(Answer::Error(Error::Access)));
    assert_eq!(w.lookup((999 << 8, 50), "a", true).1, Some(Answer::Error(Error::Access)));
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
    let text = w.core.query(query::HISTORY, &name(""), 4096, w.host.now).unwrap();
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
    let status = w.core.query(query::STATUS, &name("a"), 4096, w.host.now).unwrap();
    assert!(status.contains("reason: crashed 4 times in a row\n"), "{status}");
    // Programs may not control here, so it stays so.
    assert_eq!(w.control(control::START, "a").1, Some(Answer::Error(Error::Perm)));
}

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
    let text = w.core.query(query::HISTORY, &name("a"), 200, w.host.now).unwrap();
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
    let deadline = w.core.next_deadline(w.host.now).unwrap();
    w.at(deadline / MS);
    assert_eq!(w.host.killed, [w.id("b")]);
    w.reap();
    w.run();
    assert_eq!(w.host.answers[&restart], Answer::Controlled { pid: w.slot("b").pid });
    let text = w.core.query(query::HISTORY, &name("b"), 4096, w.host.now).unwrap();
    assert!(text.contains("stopped\tstatus 0") && text.contains("stop-timeout"), "{text}");
    assert_eq!(w.control(control::STOP, "nobody").1, Some(Answer::Error(Error::NoEnt)));
    assert_eq!(w.control(control::KILL, "rs").1, Some(Answer::Error(Error::Perm)));
    assert_eq!(w.control(99, "a").1, Some(Answer::Error(Error::Inval)));
}

#[test]
fn a_service_that_does_not_announce_itself_is_killed() {
    let mut w =
        World::boot(&[("a", "start_timeout = 100"), ("b", "needs = [\"a\"]\nstart_timeout = 100")]);
    w.at(100);
    assert_eq!(w.host.killed, [w.id("a")]);
    w.at(150);
    w.reap();
    let text = w.core.query(query::HISTORY, &name("a"), 4096, w.host.now).unwrap();
    assert_eq!(text, "150000\ta\tstart-timeout\t-\t-\n");
    assert_eq!(w.state("a"), "recovering");
    // While what it needs is down, a start may take longer.
    w.announce("a");
    w.fault("a");
    w.at(250);
    assert_eq!(w.host.killed, []);
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

#[test]
fn a_critical_service_ends_the_system() {
    let mut w = World::boot(&[("a", "critical = true\nrestart = { policy = \"never\" }")]);
    w.run();
    w.fault("a");
    assert_eq!(w.host.end, Some(End::Panic));
}

const PCI: [(&str, &str); 5] = [
    ("pci", "resources = [\"hardware\"]"),
    (
        "disk",
        "class = \"block\"\ninstances = \"per-function\"\npci = [{ vendor = 0x1AF4, device = 0x1042 }]\nneeds = [\"pci\"]",
    ),
    ("fat", "instances = \"on-demand\"\ncalls = [\"class:block\"]"),
    (
        "vfs",
        "wants = [\"class:block\"]\ncalls = [\"fat:admin\"]\nspawns = [\"fat\"]\nnotify = [\"disk\"]",
    ),
    PROGRAMS_NONE,
];
const PROGRAMS_NONE: (&str, &str) =
    ("programs", "instances = \"programs\"\ncalls = [\"disk\"]\ncontrol = true");

fn function(location: u32, handle: Handle) -> AddFunction {
    AddFunction { location, id: 0x1042_1AF4, class: 0x01_00_00, device: handle, pci: handle + 1 }
}

impl World {
    fn add(&mut self, call: AddFunction) -> Answer {
        let (badge, pid) = self.badge("pci");
        self.core.add_function(&mut self.host, badge, pid, &call)
    }

    fn done(&mut self) {
        let (badge, pid) = self.badge("pci");
        let answer = self.core.functions_done(&mut self.host, badge, pid);
        assert_eq!(answer, Answer::FunctionsDone);
    }
}

#[test]
fn drivers_per_function() {
    let mut w = World::boot(&PCI);
    assert_eq!(w.host.started, ["pci"], "vfs waits for the block drivers there may be");
    let (first, _) = w.lookup((0, 50), "disk", true);
    let (second, _) = w.lookup((0, 50), "disk.1", true);
    let (third, _) = w.lookup((0, 50), "disk.2", true);
    assert_eq!(w.add(function(0x08, 10)), Answer::FunctionAdded);
    assert_eq!(w.add(function(0x10, 20)), Answer::FunctionAdded);
    w.announce("pci");
    w.run();
    assert!(!w.host.started.contains(&"vfs".to_string()));
    w.done();
    w.run();
    assert_eq!(w.host.started, ["pci", "disk", "disk.1", "vfs"]);
    assert!(matches!(w.host.answers[&first], Answer::Found { slot, .. } if slot == w.id("disk")));
    assert!(
        matches!(w.host.answers[&second], Answer::Found { slot, .. } if slot == w.id("disk.1"))
    );
    assert_eq!(w.host.answers[&third], Answer::Error(Error::NoEnt));
    let text = w.core.query(query::FUNCTIONS, &name(""), 4096, 0).unwrap();
    assert_eq!(text, "00:01.0\t1af4:1042\t010000\tdisk\n00:02.0\t1af4:1042\t010000\tdisk.1\n");
    let text = w.core.query(query::CLASSES, &name(""), 4096, 0).unwrap();
    assert_eq!(text, "block\tdisk\nblock\tdisk.1\n");
    // Whoever listens hears of the restart.
    w.host.notified.clear();
    w.fault("disk.1");
    w.run();
    assert_eq!(w.host.notified, [(w.id("vfs"), bits::PEER_UP)]);
    assert_eq!(w.slot("disk.1").function, Some(1));
}

#[test]
fn a_driver_waits_for_the_new_pci_service() {
    let mut w = World::boot(&PCI);
    w.add(function(0x08, 10));
    w.run();
    w.done();
    w.run();
    w.fault("pci");
    w.fault("disk");
    assert_eq!((w.state("pci"), w.state("disk")), ("recovering", "crashed"));
    w.announce("pci");
    assert_eq!(w.state("disk"), "crashed", "its function is not announced yet");
    assert_eq!(w.add(function(0x08, 30)), Answer::FunctionAdded);
    assert_eq!(w.host.closed, [10, 11], "the old handles");
    assert_eq!(w.state("disk"), "recovering");
    // A different function in the same place is refused, and its handles are closed.
    let other = AddFunction { id: 1, ..function(0x08, 40) };
    assert_eq!(w.add(other), Answer::Error(Error::Exist));
    assert_eq!(w.host.closed, [10, 11, 40, 41]);
    // Nobody else may announce functions.
    assert_eq!(
        w.core.add_function(&mut w.host, 0, 50, &function(0x18, 50)),
        Answer::Error(Error::Perm)
    );
}

impl World {
    fn spawn(&mut self, label: &str) -> (u64, Option<Answer>) {
        let (badge, pid) = self.badge("vfs");
        let token = self.token();
        (token.0, self.core.spawn(&mut self.host, badge, pid, token, &name(label)))
    }
}

#[test]
fn what_a_service_keeps_outlives_it() {
    let mut w = World::boot(&[
        ("vfs", "keep = 4\nspawns = [\"fat\"]\ncalls = [\"fat\"]"),
        ("fat", "instances = \"on-demand\"\nstop = \"kill\""),
        ("tty", ""),
    ]);
    w.run();
    let (badge, pid) = w.badge("vfs");
    assert_eq!(w.core.keeper(badge, pid), Ok((w.id("vfs"), 4 << 20)));
    assert_eq!(w.core.keeper(badge, pid + 1), Err(Error::Perm));
    let (tty, pid) = w.badge("tty");
    assert_eq!(w.core.keeper(tty, pid), Err(Error::Limit));
    w.spawn("fat");
    w.spawn("fat");
    w.run();
    // What it spawned goes on without it; the next instance takes up what it knows of.
    w.fault("vfs");
    assert_eq!((w.state("fat"), w.state("fat.1")), ("running", "running"));
    let (badge, pid) = w.badge("vfs");
    let token = w.token();
    let found = w.core.lookup(&mut w.host, badge, pid, token, &name("fat.1"), true);
    assert!(matches!(found, Some(Answer::Found { .. })));
    w.announce("vfs");
    assert_eq!((w.state("fat"), w.state("fat.1")), ("stopping", "running"));
    assert!(w.host.discarded.is_empty());
    // State that kills again and again is not handed on.
    let vfs = w.id("vfs");
    for _ in 0..KEEP_CRASHES - 1 {
        assert!(w.host.discarded.is_empty());
        w.fault("vfs");
        w.host.now += 60_000 * MS;
        w.core.tick(&mut w.host);
    }
    assert_eq!(w.host.discarded, [vfs]);
    // Nor does it outlive an orderly end.
    w.run();
    w.host.discarded.clear();
    let token = w.token();
    let (badge, pid) = (0, 999);
    w.core.control(&mut w.host, badge, pid, token, control::STOP, &name("vfs"));
    w.exit("vfs", 0);
    assert_eq!(w.host.discarded, [vfs]);
}

#[test]
fn spawned_instances() {
    let mut w = World::boot(&PCI);
    w.run();
    w.done();
    w.run();
    let (one, answer) = w.spawn("fat");
    assert_eq!(answer, None);
    let (two, _) = w.spawn("fat");
    w.run();
    let badge = (w.id("vfs") as u64 + 1) << 8 | 1;
    let (slot, pid) = (w.id("fat.1"), w.slot("fat.1").pid);
    let spawned = Answer::Spawned { slot, pid, label: name("fat.1"), badge };
    assert_eq!(w.host.answers[&two], spawned);
    assert!(matches!(w.host.answers[&one], Answer::Spawned { .. }));
    assert_eq!(w.spawn("disk").1, Some(Answer::Error(Error::Access)));
    assert_eq!(w.spawn("none").1, Some(Answer::Error(Error::NoEnt)));
    // A crash keeps the label, an orderly end frees it.
    w.fault("fat");
    assert_eq!(w.state("fat"), "recovering");
    w.run();
    let id = w.id("fat");
    w.exit("fat", 0);
    assert!(w.core.slots().all(|(_, s)| s.label != name("fat")));
    assert_eq!(w.host.retired, [id]);
    // One that dies before it is up is the spawner's to handle.
    let (three, _) = w.spawn("fat");
    w.exit("fat", 3);
    assert_eq!(w.host.answers[&three], Answer::Error(Error::ServerDied));
    assert!(w.core.slots().all(|(_, s)| s.label != name("fat")));
    // When the spawner dies they are asked to end.
    w.host.notified.clear();
    w.fault("vfs");
    assert!(w.host.notified.contains(&(slot, bits::TERMINATE)));
}

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
    assert_eq!(w.host.notified, []);
    w.reap();
    assert_eq!(w.host.notified, [(w.id("b"), bits::TERMINATE)]);
    w.exit("b", 0);
    assert_eq!(w.host.notified.last(), Some(&(w.id("a"), bits::TERMINATE)));
    assert_eq!(w.host.end, None);
    assert_eq!(w.lookup((0, 50), "a", true).1, Some(Answer::Error(Error::ServerDied)));
    let deadline = w.core.next_deadline(w.host.now).unwrap();
    w.at(deadline / MS);
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
    assert_eq!(w.host.killed, []);
    w.exit("a", 0);
    assert_eq!(w.host.end, Some(End::Reboot));
}

#[test]
fn list() {
    let mut w = World::boot(&CHAIN);
    w.announce("a");
    let text = w.core.query(query::LIST, &name(""), 4096, 0).unwrap();
    assert_eq!(
        text,
        "rs\trunning\t1\t0\tsbin/rs\t-\na\trunning\t101\t0\tsbin/a\t-\n\
         b\tstarting\t102\t0\tsbin/b\t-\nc\twaiting\t0\t0\tsbin/c\t-\n"
    );
    let cut = w.core.query(query::LIST, &name(""), 40, 0).unwrap();
    assert_eq!(cut, "rs\trunning\t1\t0\tsbin/rs\t-\n", "whole lines");
    assert_eq!(w.core.query(99, &name(""), 50, 0), Err(Error::Inval));
}

#[derive(Clone, Debug)]
enum Step {
    Announce(usize),
    Fault(usize),
    Exit(usize, i64),
    Reap,
    Control(u32, usize),
    Lookup(usize, bool),
    Spawn,
    Function(u32),
    Done,
    Pass(u64),
    StaleObituary(u64, u32),
    Shutdown,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0usize..8).prop_map(Step::Announce),
        3 => (0usize..8).prop_map(Step::Fault),
        2 => (0usize..8, 0i64..2).prop_map(|(i, c)| Step::Exit(i, c)),
        4 => Just(Step::Reap),
        4 => (0u32..8, 0usize..8).prop_map(|(o, i)| Step::Control(o, i)),
        3 => (0usize..8, any::<bool>()).prop_map(|(i, w)| Step::Lookup(i, w)),
        2 => Just(Step::Spawn),
        2 => (0u32..4).prop_map(Step::Function),
        1 => Just(Step::Done),
        3 => (1u64..3000).prop_map(Step::Pass),
        1 => (any::<u64>(), any::<u32>()).prop_map(|(c, p)| Step::StaleObituary(c, p)),
        1 => Just(Step::Shutdown),
    ];
    proptest::collection::vec(step, 0..80)
}

proptest! {
    /// Whatever happens: one process at most for each slot (asserted in `Fake`), only live
    /// slots have one, no request is answered twice, and at the end of the system every kept
    /// request has been answered.
    #[test]
    fn any_course_of_events(steps in steps()) {
        let mut w = World::boot(&PCI);
        let labels = |w: &World| -> Vec<String> {
            w.core.slots().map(|(_, s)| s.label.to_string()).collect()
        };
        let live = |w: &World, i: usize| -> Option<String> {
            let all: Vec<_> = w.host.live.values().map(|l| l.2.clone()).collect();
            all.get(i % all.len().max(1)).cloned()
        };
        let mut asked: Vec<u64> = Vec::new();
        let keep = |asked: &mut Vec<u64>, (token, answer): (u64, Option<Answer>)| {
            if answer.is_none() { asked.push(token) }
        };
        for step in steps {
            match step {
                Step::Announce(i) => if let Some(l) = live(&w, i) { w.announce(&l) },
                Step::Fault(i) => if let Some(l) = live(&w, i) { w.fault(&l) },
                Step::Exit(i, code) => if let Some(l) = live(&w, i) { w.exit(&l, code) },
                Step::Reap => w.reap(),
                Step::Control(operation, i) => {
                    let all = labels(&w);
                    let label = all[i % all.len()].clone();
                    let kept = w.control(operation, &label);
                    keep(&mut asked, kept);
                    // An injected fault is one.
                    for (id, b) in core::mem::take(&mut w.host.notified) {
                        if b == bits::INJECT_FAULT && let Some(l) = w.host.live.get(&id).cloned() {
                            w.fault(&l.2);
                        }
                    }
                }
                Step::Lookup(i, wait) => {
                    let label = ["disk", "disk.1", "disk.9"][i % 3];
                    let kept = w.lookup((0, 50), label, wait);
                    keep(&mut asked, kept);
                }
                Step::Spawn => if w.host.live.contains_key(&w.id("vfs")) {
                    let kept = w.spawn("fat");
                    keep(&mut asked, kept);
                },
                Step::Function(n) => if w.host.live.contains_key(&w.id("pci")) {
                    w.add(function(n << 3, 100 + 2 * n));
                },
                Step::Done => if w.host.live.contains_key(&w.id("pci")) { w.done() },
                Step::Pass(ms) => { let ms = w.host.now / MS + ms; w.at(ms) }
                Step::StaleObituary(cookie, pid) => {
                    let obituary = Obituary { cookie, pid, cause: cause::EXIT, ..Default::default() };
                    w.core.died(&mut w.host, &obituary);
                }
                Step::Shutdown => { let _ = w.core.shut_down(&mut w.host, 0, 50, false); }
            }
            for (id, slot) in w.core.slots() {
                prop_assert_eq!(slot.state.is_live(), w.host.live.contains_key(&id), "{:?}", slot);
                prop_assert_eq!(slot.pid != 0, slot.state.is_live());
            }
            prop_assert_eq!(w.host.live.len(), w.core.slots().filter(|(_, s)| s.pid != 0).count());
        }
        // At the end of the system nobody is left waiting.
        let _ = w.core.shut_down(&mut w.host, 0, 50, false);
        for _ in 0..16 {
            while let Some(label) = live(&w, 0) {
                w.exit(&label, 0);
            }
        }
        prop_assert_eq!(w.host.end, Some(End::PowerOff));
        for token in asked {
            prop_assert!(w.host.answers.contains_key(&token), "token {}", token);
        }
    }
}
