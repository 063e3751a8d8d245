//! Look-ups, badges, spawned instances.

use super::world::*;
use crate::*;
use xinim_abi::error::Error;
use xinim_abi::ipc::bits;
use xinim_abi::services::rs::control;

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
