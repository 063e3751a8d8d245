//! Machines recorded at their device boundary, and the devices replayed from that.

use tempfile::tempdir;
use xinim_tests::host::{arg, disk_on_each_bus};
use xinim_tests::machine::{engines, exec, run};

const WORK: &str = "mkdir /tmp/a; mount /dev/vda /mnt && mount /dev/sda /tmp/a || exit 9
    dd if=/dev/zero of=/mnt/f bs=64k count=16 2>/dev/null; cp /mnt/f /tmp/a/f; sync
    service kill virtio-blk; service kill ahci; cmp /mnt/f /tmp/a/f || exit 8
    ping -c 3 10.0.2.2 > /dev/null || exit 7; echo done";

#[test]
fn every_device_is_replayed_bit_for_bit() {
    if !engines("every_device_is_replayed_bit_for_bit").contains(&"kvm") {
        return;
    }
    let dir = tempdir().expect("directory");
    let [a, b] = disk_on_each_bus(dir.path());
    let file = dir.path().join("run.rec");
    for (model, name) in [("virtio", "virtio-net.0"), ("e1000", "e1000.0"), ("e1000e", "e1000.0")] {
        let net = format!("user,model={model}");
        let args = ["--record", arg(&file), "--disk", &a, "--disk", &b, "--net", &net];
        assert_eq!(exec("kvm", WORK, &args).output().expect(0).out(), "done\n", "{model}");
        let text = run(&["replay", arg(&file)]).output().expect(0).out();
        for device in ["virtio-console.0", "virtio-blk.0", "ahci.0", name] {
            let line = text.lines().find(|line| line.starts_with(device));
            assert!(line.is_some_and(|line| line.contains(": identical, ")), "{model}: {text}");
        }
        let one = run(&["replay", arg(&file), "--device", "ahci.0"]).output().expect(0).out();
        assert_eq!(one.lines().count(), 1, "{one}");
    }
    run(&["replay", arg(&file), "--device", "nobody"]).output().expect(125);

    // What the file says is another byte now. Some are of no consequence; not all of them.
    let bytes = std::fs::read(&file).expect("recording");
    assert!(bytes.starts_with(b"XINIMREC"));
    let found = (1..12).any(|part| {
        let mut other = bytes.clone();
        let at = bytes.len() * part / 12;
        other[at] ^= 0x55;
        std::fs::write(&file, other).expect("recording");
        let status = run(&["replay", arg(&file)]).output().status;
        assert!([0, 1, 125].contains(&status), "{status}");
        status != 0
    });
    assert!(found, "a changed recording is not told from the true one");
}

/// The same with several CPUs that drive the devices at the same time, and a trace of it all.
#[test]
fn with_several_cpus_devices_are_recorded_and_traced() {
    if !engines("with_several_cpus_devices_are_recorded_and_traced").contains(&"kvm") {
        return;
    }
    let dir = tempdir().expect("directory");
    let [a, b] = disk_on_each_bus(dir.path());
    let (file, trace) = (dir.path().join("run.rec"), dir.path().join("run.bin"));
    let option = format!("{},format=bin", arg(&trace));
    let more = ["--cpus", "2", "--strict=stop", "--record", arg(&file), "--trace", &option];
    let args = [&more[..], &["--disk", &a, "--disk", &b, "--net", "user"]].concat();
    let output = exec("kvm", WORK, &args).output();
    let seen = (output.out(), output.err(), output.status);
    assert_eq!(seen, ("done\n".into(), String::new(), 0));
    let text = run(&["replay", arg(&file)]).output().expect(0).out();
    assert!(
        text.lines().count() >= 4 && text.lines().all(|l| l.contains(": identical, ")),
        "{text}"
    );
    // Both did something, and the trace says who.
    for cpu in ["0", "1"] {
        let filter = format!("vcpu={cpu} and access and device=virtio-*");
        let shown = run(&["trace", "show", arg(&trace), "--filter", &filter]).output().expect(0);
        let line = shown.out().lines().next().unwrap_or_default().to_owned();
        assert!(line.contains(&format!(" cpu{cpu} rip=")), "{cpu}: {line}");
    }
}

/// QEMU's devices, driven with what our drivers did to ours, do the same but for what is known.
#[test]
fn qemus_devices_differ_from_ours_only_where_it_is_known() {
    let name = "qemus_devices_differ_from_ours_only_where_it_is_known";
    if engines(name).len() < 2 {
        return;
    }
    let dir = tempdir().expect("directory");
    let [a, b] = disk_on_each_bus(dir.path());
    let cd = dir.path().join("cd.iso");
    std::fs::write(&cd, vec![7; 1 << 20]).expect("disc");
    let file = dir.path().join("run.rec");
    let work = format!("{WORK}; dd if=/dev/sr0 of=/dev/null bs=64k count=4 2>/dev/null");
    // Killed while what it has to do is not done: the same frames go out and come in again.
    let killed = "ping -c 3 10.0.2.2 > /dev/null || exit 7; service kill e1000; \
          ping -c 3 10.0.2.2 > /dev/null || exit 6; echo done";
    let nets = [
        ("virtio,queues=1", "virtio-net.0", WORK),
        ("e1000", "e1000.0", killed),
        ("e1000e", "e1000.0", killed),
    ];
    for (model, card, work_there) in nets {
        let net = format!("user,model={model}");
        let record = ["--record", arg(&file), "--net", &net];
        let mut all = record.to_vec();
        let (mut commands, mut devices) = (work_there, vec!["virtio-console.0", card]);
        if work_there == WORK {
            all.extend(["--disk", &a, "--disk", &b, "--cdrom", arg(&cd)]);
            commands = &work;
            devices.extend(["virtio-blk.0", "ahci.0"]);
        }
        assert_eq!(exec("kvm", commands, &all).output().expect(0).out(), "done\n", "{model}");
        let output = run(&["replay", arg(&file), "--against", "qemu", "--json"]).output();
        let text = output.out();
        assert_eq!(output.status, 0, "{model}: {text}");
        let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        for device in devices {
            let found =
                report.as_array().and_then(|all| all.iter().find(|d| d["device"] == device));
            let found = found.unwrap_or_else(|| panic!("{device}: {text}"));
            let count = |key: &str| found[key].as_u64().unwrap_or(0);
            assert!(count("compared") > 50 && found["ended"].is_null(), "{found:#}");
            // What it is about was looked at.
            match device {
                "virtio-blk.0" => assert!(count("requests") > 5 && count("completions") > 5),
                "ahci.0" => assert!(count("requests") > 5 && count("interrupts") > 5),
                "virtio-console.0" => assert!(count("completions") > 1),
                _ => assert!(count("frames") > 5, "{found:#}"),
            }
        }
    }

    // A person sees the same in words, for one device.
    let text = run(&["replay", arg(&file), "--against", "qemu", "--device", "e1000.0"]);
    let text = text.output().expect(0).out();
    assert!(text.starts_with("e1000.0: ") && text.contains(" 0 unknown\n"), "{text}");
    assert!(text.contains("82574-auto-mask, left to the device"), "{text}");
    // What cannot be repeated there is said, and is no success.
    let net = ["--record", arg(&file), "--net", "user,queues=2"];
    exec("kvm", "echo done", &net).output().expect(0);
    let output = run(&["replay", arg(&file), "--against", "qemu", "--device", "virtio-net.0"]);
    let output = output.output();
    assert!(output.status == 1 && output.out().contains("2 pairs of queues"), "{}", output.out());
}
