//! What a trace of a whole machine shows: every format, the chain of one read from the program to the
//! host and back, the switch at run time, the tools for the file.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use xinim_tests::host::{arg, fat_image, noise, tool};
use xinim_tests::machine::{engines, exec, run, skip, vmm};

const READ: &str = "mount /dev/vda /mnt && cat /mnt/big > /dev/null";

/// A disk with a file that no read-ahead of a mount has brought in.
fn disk(dir: &Path) -> String {
    let image = dir.join("disk.img");
    fat_image(&image, 32 << 20, 16);
    std::fs::write(dir.join("big"), noise(1, 300_000)).expect("file");
    tool("mcopy", &["-i", arg(&image), arg(&dir.join("big")), "::big"]);
    image.to_str().expect("UTF-8").to_owned()
}

fn kvm(test: &str) -> bool {
    engines(test).contains(&"kvm")
}

fn trace(args: &[&str]) -> String {
    let mut all = vec!["trace"];
    all.extend(args);
    run(&all).output().expect(0).out()
}

/// Python with the modules that a test needs, or the test is skipped (and said).
fn python(test: &str) -> Option<String> {
    for python in ["python3", "/opt/xinim-test-tools/bin/python3"] {
        let has = Command::new(python).args(["-c", "import perfetto.protos"]).output();
        if has.is_ok_and(|output| output.status.success()) {
            return Some(python.into());
        }
    }
    skip(test, "Python's perfetto package (scripts/install-test-tools.sh installs it)");
    None
}

#[test]
fn perfetto_shows_one_read_from_the_program_to_the_host_and_back() {
    if !kvm("perfetto") {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let image = disk(dir.path());
    let out = dir.path().join("out.perfetto");
    let option = format!("{},format=perfetto", arg(&out));
    let Some(python) = python("perfetto") else { return };
    complete(&python, &out, &[&["read"]], || {
        exec("kvm", READ, &["--disk", &image, "--trace", &option]).output().expect(0);
    });
}

/// Makes the trace until it shows these chains. The guest's times are right to a few microseconds: now
/// and then a driver's step is written behind the device's answer to it, and that chain has a gap.
fn complete(python: &str, out: &Path, chains: &[&[&str]], make: impl Fn()) {
    let check = concat!(env!("CARGO_MANIFEST_DIR"), "/perfetto_chain.py");
    let mut missing: Vec<&[&str]> = chains.to_vec();
    let mut said = String::new();
    for _ in 0..5 {
        make();
        missing.retain(|chain| {
            let check = Command::new(python).args([check, arg(out)]).args(*chain).output();
            let check = check.expect("python starts");
            said = String::from_utf8_lossy(&check.stdout).into_owned();
            said.push_str(&String::from_utf8_lossy(&check.stderr));
            eprintln!("{}", said.lines().last().unwrap_or(""));
            !check.status.success()
        });
        if missing.is_empty() {
            return;
        }
    }
    panic!("{missing:?}: {said}");
}

#[test]
fn perfetto_shows_frames_from_a_programs_send_to_the_wire_and_back() {
    if !kvm("perfetto, network") {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let out = dir.path().join("out.perfetto");
    let option = format!("{},format=perfetto", arg(&out));
    let Some(python) = python("perfetto, network") else { return };
    for (model, device) in [("virtio", "virtio-net.0"), ("e1000", "e1000.0")] {
        // With some way to go, so that answers find the program waiting.
        let net = format!("user,model={model},delay=20ms");
        let chains: [&[&str]; 2] = [&["send", device], &["receive", device]];
        complete(&python, &out, &chains, || {
            let more = ["--net", net.as_str(), "--trace", option.as_str()];
            exec("kvm", "ping -c 3 -i 0.2 10.0.2.2", &more).output().expect(0);
        });
    }
}

#[test]
fn a_binary_trace_is_shown_added_up_converted_and_compared() {
    if !kvm("binary trace") {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let image = disk(dir.path());
    let files = ["a", "b"].map(|name| dir.path().join(name));
    for file in &files {
        let option = format!("{},format=bin", arg(file));
        // Snapshot: both runs find the same disk.
        let disk = format!("{image},snapshot");
        let said = exec("kvm", READ, &["--disk", &disk, "--trace", &option]).output().expect(0);
        assert_eq!(said.err(), "", "nothing was lost");
    }
    let [a, b] = files.each_ref().map(|file| arg(file));
    let shown = trace(&["show", a, "--filter", "register=device_status and direction=write"]);
    assert!(shown.contains("device_status=0x3 {ACKNOWLEDGE DRIVER} was=0x1"), "{shown}");
    assert!(shown.contains("[") && shown.contains("virtio-blk] virtio-blk.0 w1 mmio"), "{shown}");
    for (filter, part) in [
        ("guest", "call vfs.Read from="),
        ("guest", "service vfs died"),
        ("dma and device=virtio-blk.0", "of=["),
        ("host", "host read start"),
        ("mask", "unmasked"),
        ("publish", "publish queue="),
        ("suppress", "notify off"),
        ("exit", "cost="),
        ("config", "bus_master"),
    ] {
        let shown = trace(&["show", a, "--filter", filter]);
        assert!(shown.contains(part), "{filter}: {}", &shown[..shown.len().min(3000)]);
    }
    let line = trace(&["show", a, "--json", "--filter", "register=queue_size and dir=write"]);
    let line: serde_json::Value =
        serde_json::from_str(line.lines().next().expect("a line")).expect("JSON");
    assert_eq!(line["registers"][0], "queue_size");

    let stat: serde_json::Value =
        serde_json::from_str(&trace(&["stat", a, "--json"])).expect("JSON");
    assert_eq!(stat["lost"], 0);
    let names = |list: &str, key: &str| -> Vec<String> {
        let list = stat[list].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|entry| entry[key].as_str().map(str::to_owned)).collect()
    };
    assert!(names("requests", "kind").contains(&"read".to_owned()), "{stat}");
    assert!(names("exits", "reason").contains(&"mmio-write".to_owned()), "{stat}");
    assert!(names("processes", "name").contains(&"virtio-blk".to_owned()), "{stat}");
    assert!(trace(&["stat", a]).contains("latency of requests"));

    let text = dir.path().join("t.txt");
    trace(&["convert", a, arg(&text), "--filter", "device=virtio-blk.0"]);
    let text = std::fs::read_to_string(text).expect("converted");
    assert!(text.lines().count() > 100 && text.lines().all(|line| line.contains(" virtio-blk.0 ")));

    // What the driver set up is the same twice.
    let setup = "device=virtio-blk.0 and config";
    let same = run(&["trace", "diff", a, b, "--filter", setup]).output().expect(0);
    assert_eq!(same.out(), "no difference that matters\n");
    let none = dir.path().join("none.bin");
    trace(&["convert", a, arg(&none), "--filter", "vcpu=99"]);
    let differs = run(&["trace", "diff", a, arg(&none)]).output().expect(1);
    assert!(differs.out().contains("nothing more"), "{}", differs.out());

    let damaged = dir.path().join("damaged");
    let mut bytes = std::fs::read(a).expect("trace");
    bytes.truncate(bytes.len() / 2);
    std::fs::write(&damaged, bytes).expect("file");
    let said = run(&["trace", "stat", arg(&damaged)]).output();
    assert!(said.status == 125 || said.status == 0, "{}", said.err());
    for command in ["show", "stat"] {
        let said = run(&["trace", command, &image]).output().expect(125);
        assert!(said.err().contains("no binary trace") && said.out().is_empty(), "{}", said.err());
    }
}

#[test]
fn tshark_reads_the_frames_of_all_cards() {
    if !kvm("pcapng") {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let out = dir.path().join("frames.pcapng");
    let option = format!("{},format=pcapng", arg(&out));
    let cards = ["--net", "user", "--net", "user,model=e1000", "--trace", &option];
    exec("kvm", "ping -c 2 10.0.2.2; true", &cards).output().expect(0);
    let fields = [
        "-T",
        "fields",
        "-e",
        "frame.interface_name",
        "-e",
        "frame.comment",
        "-e",
        "_ws.col.Protocol",
    ];
    let mut args = vec!["-r", arg(&out)];
    args.extend(fields);
    let read = tool("tshark", &args);
    assert!(read.contains("virtio-net.0") && read.contains("e1000.1"), "{read}");
    assert!(read.contains("DHCP") || read.contains("ARP"), "{read}");
}

#[test]
fn traces_are_switched_and_the_machine_is_watched_while_it_runs() {
    if !kvm("control of traces") {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let image = disk(dir.path());
    let (socket, out) = (dir.path().join("vm"), dir.path().join("t.txt"));
    let (socket, option) = (arg(&socket), format!("{},off", arg(&out)));
    let load = "mount /dev/vda /mnt; while true; do cp /mnt/big /tmp/x; rm /tmp/x; done";
    let more = ["--disk", &image, "--control", socket, "--trace", &option];
    let mut machine = exec("kvm", load, &more).spawn();
    let ctl = |args: &[&str]| {
        let mut all = vec!["ctl", socket];
        all.extend(args);
        run(&all).output()
    };
    let limit = Instant::now() + Duration::from_secs(120);
    let until = |what: &str, done: &mut dyn FnMut() -> bool| {
        while !done() {
            assert!(Instant::now() < limit, "{what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    };
    until("the control socket answers", &mut || ctl(&["info"]).status == 0);
    assert!(ctl(&["trace"]).expect(0).out().contains(" text off 0 events, 0 lost"));
    ctl(&["trace", "on"]).expect(0);
    until("events", &mut || !ctl(&["trace"]).out().contains(" 0 events"));
    let top = ["top", socket, "--once", "--json", "--interval", "0.5"];
    until("the disk at work", &mut || {
        let top = run(&top).output().expect(0).out();
        let top: serde_json::Value = serde_json::from_str(&top).expect("JSON");
        let devices = top["devices"].as_array().cloned().unwrap_or_default();
        let disk = devices.iter().find(|device| device["name"] == "virtio-blk.0");
        let processes = top["processes"].as_array().map_or(0, Vec::len);
        disk.is_some_and(|disk| !disk["queues"].as_array().is_none_or(Vec::is_empty))
            && processes > 1
    });
    let text = run(&["top", socket, "--once", "--interval", "0.2"]).output().expect(0).out();
    assert!(text.contains("virtio-blk.0") && text.contains("PROCESS"), "{text}");
    ctl(&["trace", "off"]).expect(0);
    // The text names who rang the doorbell: doorbells had become accesses.
    let said = ctl(&["trace", "on", "nowhere"]).expect(125);
    assert!(said.err().contains("no trace nowhere"), "{}", said.err());
    ctl(&["quit"]).expect(0);
    let _ = machine.wait();
    let text = std::fs::read_to_string(&out).expect("trace");
    assert!(
        text.contains("virtio-blk] virtio-blk.0 notify queue="),
        "{}",
        &text[..text.len().min(2000)]
    );
    assert!(vmm().exists());
}

#[test]
fn qemu_keeps_its_own_events_and_refuses_the_rest() {
    let dir = tempfile::tempdir().expect("directory");
    let option = format!("{},format=perfetto", arg(&dir.path().join("t")));
    let said = exec("qemu", "true", &["--trace", &option]).output().expect(125);
    assert!(said.err().contains("QEMU writes its own events, as text"), "{}", said.err());
}
