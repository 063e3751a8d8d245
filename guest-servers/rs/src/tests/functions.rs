//! PCI functions and their drivers.

use super::world::*;
use crate::*;
use alloc::string::ToString;
use xinim_abi::error::Error;
use xinim_abi::ipc::bits;
use xinim_abi::services::rs::{query, rs::AddFunction};

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
    let text = w.core.query(&w.host, query::FUNCTIONS, &name(""), 4096).unwrap();
    assert_eq!(text, "00:01.0\t1af4:1042\t010000\tdisk\n00:02.0\t1af4:1042\t010000\tdisk.1\n");
    let text = w.core.query(&w.host, query::CLASSES, &name(""), 4096).unwrap();
    assert_eq!(text, "block\tdisk\nblock\tdisk.1\n");
    // Whoever listens hears of the restart.
    w.host.notified.clear();
    w.fault("disk.1");
    let text = w.core.query(&w.host, query::CLASSES, &name(""), 4096).unwrap();
    assert_eq!(text, "block\tdisk\nblock\tdisk.1\n", "a look-up waits for it");
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

#[test]
fn whoever_is_starting_hears_of_a_peer_that_came_up() {
    let mut w = World::boot(&PCI);
    w.add(function(0x08, 10));
    w.done();
    w.run();
    // It dies, and what it listens to while it starts: that one may come up before it is done.
    w.fault("vfs");
    w.fault("disk");
    assert_eq!(w.state("vfs"), "recovering");
    w.host.notified.clear();
    w.announce("disk");
    assert_eq!(w.host.notified, [(w.id("vfs"), bits::PEER_UP)]);
}
