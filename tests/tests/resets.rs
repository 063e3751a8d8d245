//! Machines with several CPUs that are reset while all of them work: they come up again, with their
//! devices, and what watches them goes on watching.

use std::thread;
use std::time::Duration;

use tempfile::tempdir;
use xinim_tests::gdb::{gdb, has_gdb};
use xinim_tests::host::{arg, disk_on_each_bus};
use xinim_tests::machine::{boots, engines, run};

/// Something for every CPU and both disks, under which the machine is reset.
const UNDER_LOAD: &str = "for n in 1 2 3 4; do while :; do :; done & done; \
    cat /dev/vda > /dev/null & cat /dev/sda > /dev/null & \
    ping -c 1 10.0.2.2 > /dev/null && echo up $((1 + 1)); reboot";
const LAST: &str = "dd if=/dev/vda of=/dev/null bs=64k count=4 2> /dev/null && \
    dd if=/dev/sda of=/dev/null bs=64k count=4 2> /dev/null && \
    ping -c 1 10.0.2.2 > /dev/null && echo last $((3 + 4)); poweroff";

#[test]
fn several_cpus_are_reset_under_load_and_come_up_again() {
    for engine in engines("several_cpus_are_reset_under_load_and_come_up_again") {
        let dir = tempdir().expect("directory");
        let [a, b] = disk_on_each_bus(dir.path());
        let args = ["--cpus", "4", "--disk", &a, "--disk", &b, "--net", "user"];
        let output = boots(engine, &args, &[UNDER_LOAD, UNDER_LOAD, UNDER_LOAD, LAST]);
        let text = output.out();
        assert_eq!(output.status, 0, "{engine}: {text}{}", output.err());
        assert_eq!(text.matches("\nup 2").count(), 3, "{engine}: {text}{}", output.err());
        assert!(text.contains("\nlast 7"), "{engine}: {text}{}", output.err());
    }
}

/// A recording and a trace are of the last boot: the one is replayed whole, every CPU is in the other. The
/// strict checker has nothing to say of drivers that find their devices reset.
#[test]
fn what_watches_a_machine_survives_its_resets() {
    if !engines("what_watches_a_machine_survives_its_resets").contains(&"kvm") {
        return;
    }
    let dir = tempdir().expect("directory");
    let [a, b] = disk_on_each_bus(dir.path());
    let (file, trace) = (dir.path().join("run.rec"), dir.path().join("run.bin"));
    let option = format!("{},format=bin", arg(&trace));
    let watch = ["--strict=stop", "--record", arg(&file), "--trace", &option];
    let machine = ["--cpus", "4", "--disk", &a, "--disk", &b, "--net", "user,model=e1000e"];
    let output = boots("kvm", &[&machine[..], &watch].concat(), &[UNDER_LOAD, UNDER_LOAD, LAST]);
    let (text, report) = (output.out(), output.err());
    assert_eq!(output.status, 0, "{text}{report}");
    assert_eq!(text.matches("\nup 2").count(), 2, "{text}{report}");
    assert!(text.contains("\nlast 7"), "{text}{report}");

    let replayed = run(&["replay", arg(&file)]).output().expect(0).out();
    for device in ["virtio-blk.0", "ahci.0", "e1000.0"] {
        let line = replayed.lines().find(|line| line.starts_with(device));
        assert!(line.is_some_and(|line| line.contains(": identical, ")), "{device}: {replayed}");
    }
    let show = |filter: &str| {
        let shown = run(&["trace", "show", arg(&trace), "--filter", filter]).output().expect(0);
        shown.out()
    };
    for cpu in 0..4 {
        assert!(!show(&format!("vcpu={cpu}")).is_empty(), "CPU {cpu} is not in the trace");
    }
    // One boot: the driver has announced itself to its device once.
    let begins = show("device=virtio-blk.0 and register=device_status and value=0x3");
    assert_eq!(begins.lines().count(), 1, "{begins}");
}

/// A boot's end is the end of gdb's session; the next boot waits for the next, at the same place.
#[test]
fn gdb_comes_again_after_each_reset() {
    let name = "gdb_comes_again_after_each_reset";
    if !has_gdb(name) || !engines(name).contains(&"kvm") {
        return;
    }
    let dir = tempdir().expect("directory");
    let address = format!("unix:{}", dir.path().join("gdb.socket").display());
    let option = format!("{address},wait");
    thread::scope(|scope| {
        let machine = scope.spawn(|| {
            let line =
                "for n in 1 2 3 4; do while :; do :; done & done; echo up $((1 + 1)); reboot";
            let args = ["--cpus", "4", "--gdb", &option];
            boots("kvm", &args, &[line, line, "echo last $((3 + 4)); poweroff"])
        });
        for boot in 1..=3 {
            let commands =
                ["hbreak xinim_kernel::trap::trap_entry", "continue", "delete", "continue"];
            let commands = [&["info threads"], &commands[..]].concat();
            let mut said = String::new();
            for _ in 0..200 {
                said = gdb(&address, &commands);
                if said.contains("Breakpoint 1") || machine.is_finished() {
                    break;
                }
                thread::sleep(Duration::from_millis(50));
            }
            assert!(said.contains("Thread 1.4"), "boot {boot}: {said}");
            assert!(said.contains("trap_entry") && said.contains("exited normally"), "{said}");
        }
        let output = machine.join().expect("the machine's thread");
        let text = output.out();
        assert!(text.matches("\nup 2").count() == 2 && text.contains("\nlast 7"), "{text}");
        assert_eq!(output.status, 0, "{text}{}", output.err());
    });
}
