//! Devices that fail by rule under our own drivers: what the guest's programs notice of it. On our engine; the
//! other has no rules, and says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::tempdir;
use xinim_tests::host::{arg, fat_image, fsck_fat, noise, tool};
use xinim_tests::machine::{Output, engines, exec, run, vmm};

/// The engine with rules, where there is one.
fn engine(test: &str) -> Option<&'static str> {
    engines(test).into_iter().find(|engine| *engine == "kvm")
}

/// An image with known contents, and their checksum.
fn image(directory: &Path) -> (PathBuf, String) {
    let path = directory.join("disk.img");
    fs::write(&path, noise(11, 4 << 20)).expect("image");
    let sum = tool("sha256sum", &[arg(&path)]);
    let sum = sum.split_once(' ').expect("sum and name").0.to_owned();
    (path, sum)
}

/// Reads the whole disk under these rules.
fn read(rules: &[&str], disk: &str, commands: &str) -> Output {
    let mut more = vec!["-v", "--disk", disk];
    for rule in rules {
        more.extend(["--fault", rule]);
    }
    exec("kvm", commands, &more).output()
}

/// How often a rule struck, by its number.
fn strikes(output: &Output, rule: usize) -> u64 {
    let text = output.err();
    let begin = format!("xinim-vmm: fault {rule} matched ");
    let line = text.lines().find(|line| line.starts_with(&begin)).expect("the rule is listed");
    let count = line.split(" struck ").nth(1).and_then(|rest| rest.split(' ').next());
    count.and_then(|count| count.parse().ok()).expect("a count")
}

#[test]
fn what_interrupts_doorbells_and_rings_lose_the_disk_driver_finds() {
    if engine("faults of a virtio disk").is_none() {
        return;
    }
    let dir = tempdir().expect("directory");
    let (disk, sum) = image(dir.path());
    for rule in [
        "device=virtio-blk.0,count=1,action=irq-lost",
        "device=virtio-blk.0,action=irq-late,time=30ms",
        "device=virtio-blk.0,action=irq-duplicate",
        "device=virtio-blk.0,queue=0-7,nth=3,action=drop",
        "device=disk0,op=read,every=5,action=delay,time=20ms",
        "device=disk0,op=read,every=4,action=reorder",
        "device=disk0,op=read,every=3,action=duplicate",
        "device=virtio-blk.0,on=dma,op=write,length=8,nth=9,action=corrupt,seed=4",
    ] {
        let output = read(&[rule], arg(&disk), "sha256sum /dev/vda").expect(0);
        assert!(output.out().contains(&sum), "{rule}: {}", output.out());
        assert!(strikes(&output, 1) > 0, "{rule}: {}", output.err());
    }
}

/// A device that stumbles over its first descriptors says that it needs a reset, and nobody waits for the answer
/// it will not give: not the driver that asks for the serial number, nor the one that sets its filters.
#[test]
fn a_device_that_needs_a_reset_at_its_start_is_not_waited_for() {
    if engine("a device that stumbles at its start").is_none() {
        return;
    }
    let dir = tempdir().expect("directory");
    let (disk, sum) = image(dir.path());
    let disk = format!("{},serial=S7", arg(&disk));
    let rules: Vec<String> = ["virtio-blk.0", "virtio-net.0"]
        .iter()
        .flat_map(|device| {
            (1..5).map(move |nth| {
                format!("device={device},on=dma,op=read,length=16,nth={nth},action=error")
            })
        })
        .collect();
    let mut more = vec!["-v", "--disk", &disk, "--net", "user"];
    rules.iter().for_each(|rule| more.extend(["--fault", rule]));
    let commands = "sha256sum /dev/vda; ls /dev/disk/by-id
        until ping -c 1 -W 1 10.0.2.2 > /dev/null; do true; done; cat /proc/uptime";
    let output = exec("kvm", commands, &more).output().expect(0);
    let text = output.out();
    assert!(text.contains(&sum) && text.contains("virtio-S7"), "{text}{}", output.err());
    // Two seconds for each of the first four and one for each of the others it was before.
    let up: f64 = text.lines().last().and_then(|l| l.split(' ').next()?.parse().ok()).expect("s");
    assert!(up < 6.0, "{text}{}", output.err());
    assert!((1..=8).all(|rule| strikes(&output, rule) > 0), "{}", output.err());
}

#[test]
fn a_ring_that_is_stuck_is_reset() {
    if engine("a stuck ring").is_none() {
        return;
    }
    let dir = tempdir().expect("directory");
    let (disk, sum) = image(dir.path());
    let rule = "device=virtio-blk.0,queue=0-7,nth=3,action=stick";
    let output = read(&[rule], arg(&disk), "sha256sum /dev/vda").expect(0);
    assert!(output.out().contains(&sum), "{}", output.out());
    assert_eq!(strikes(&output, 1), 1);
}

#[test]
fn an_error_is_told_to_who_asked_and_to_nobody_else() {
    if engine("an error of the disk").is_none() {
        return;
    }
    let dir = tempdir().expect("directory");
    let (disk, _) = image(dir.path());
    let commands = "dd if=/dev/vda bs=4096 count=100 of=/dev/null; echo first $?
        dd if=/dev/vda bs=4096 skip=500 count=100 of=/dev/null; echo second $?";
    let rule = "device=disk0,op=read,sector=4100-4101,action=error";
    let output = read(&[rule], arg(&disk), commands).expect(0);
    let text = output.out();
    assert!(text.contains("first 0") && text.contains("second 1"), "{text}");
    assert!(output.err().contains("input/output error"), "{}", output.err());
}

#[test]
fn a_disk_that_is_pulled_out_leaves_the_other_alone() {
    if engine("surprise removal").is_none() {
        return;
    }
    let dir = tempdir().expect("directory");
    let (disk, sum) = image(dir.path());
    let gone = dir.path().join("gone.img");
    fs::write(&gone, noise(3, 4 << 20)).expect("image");
    let commands = "sha256sum /dev/sdb; echo gone $?; sha256sum /dev/sda; ls /dev";
    let (first, second) = (format!("{},bus=ahci", arg(&disk)), format!("{},bus=ahci", arg(&gone)));
    let rule = "device=disk1,op=read,nth=12,action=unplug";
    let more = ["-v", "--disk", &first, "--disk", &second, "--fault", rule];
    let output = exec("kvm", commands, &more).output().expect(0);
    let text = output.out();
    assert!(text.contains("gone 1"), "{text}");
    assert!(text.contains(&format!("{sum}  /dev/sda")), "{text}");
    assert!(!text.lines().any(|line| line == "sdb"), "{text}");
    assert_eq!(strikes(&output, 1), 1);
}

#[test]
fn a_cable_that_is_out_for_a_while_costs_time_only() {
    if engine("link loss").is_none() {
        return;
    }
    for model in ["virtio", "e1000"] {
        let net = format!("user,model={model}");
        let commands = "until ping -c 1 -W 1 10.0.2.2 > /dev/null; do true; done
            ping -c 30 -i 0.1 -W 1 10.0.2.2";
        let rule = "device=net0,protocol=icmp,direction=out,nth=12,action=link-down,time=500ms";
        let output = exec("kvm", commands, &["-v", "--net", &net, "--fault", rule]).output();
        let output = output.expect(0);
        let text = output.out();
        let times = text.lines().filter_map(|line| line.strip_prefix("64 bytes from "));
        let times = times.filter_map(|line| line.split_once("time=")?.1.strip_suffix(" ms"));
        let times: Vec<f64> = times.map(|time| time.parse().expect("a time")).collect();
        assert!(times.len() >= 12, "{model}: {text}");
        // What was to be sent meanwhile waited for the link, or was lost on it.
        let late = times.iter().any(|&time| time > 200.0);
        assert!(late || times.len() < 30, "{model}: the cable was never out\n{text}");
        assert_eq!(strikes(&output, 1), 1, "{model}");
    }
}

#[test]
fn rules_come_and_go_while_the_machine_runs() {
    if engine("rules at run time").is_none() {
        return;
    }
    let dir = tempdir().expect("directory");
    let (disk, sum) = image(dir.path());
    let socket = dir.path().join("socket");
    let commands = "until dd if=/dev/vda of=/dev/null bs=4096 count=1 2> /dev/null; do true; done
        while dd if=/dev/vda of=/tmp/x bs=65536 skip=1 count=60 2> /tmp/why; do true; done
        cat /tmp/why; until sha256sum /dev/vda 2> /dev/null; do true; done";
    let more = ["--disk", arg(&disk), "--control", arg(&socket)];
    let child = exec("kvm", commands, &more).spawn();
    let ctl = |words: &[&str]| {
        let mut command = Command::new(vmm());
        let output = command.arg("ctl").arg(&socket).arg("fault").args(words).output();
        let output = output.expect("xinim-vmm starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    };
    let until = |what: &dyn Fn() -> bool| {
        let end = Instant::now() + Duration::from_secs(120);
        while !what() {
            assert!(Instant::now() < end, "it does not happen");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let rule = "device=disk0,op=read,sector=128-4000,action=error";
    until(&|| ctl(&["add", rule]) == Some("1\n".into()));
    assert_eq!(ctl(&["add", "device=disk7,action=stick"]), None);
    assert_eq!(ctl(&["remove", "9"]), None);
    let hits = || {
        let list = ctl(&["list"]).expect("a list");
        let words: Vec<&str> = list.split_whitespace().collect();
        assert_eq!((words[0], words[3]), ("1", rule), "{list}");
        words[2].parse::<u64>().expect("hits")
    };
    until(&|| hits() > 0);
    assert_eq!(ctl(&["remove", "1"]), Some(String::new()));
    assert_eq!(ctl(&["list"]), Some(String::new()));
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("input/output error") && text.contains(&sum), "{text}");
}

#[test]
fn mistakes_are_refused_before_anything_runs() {
    let output = run(&["run", "--fault", "sector=1,action=explode"]).output().expect(125);
    assert!(output.err().contains("`explode` at character 17 is no action"), "{}", output.err());
    let output = run(&["run", "--fault", "help"]).output().expect(0);
    assert!(output.out().contains("action=link-down"), "{}", output.out());
    let output = run(&["run", "--engine", "qemu", "--fault", "sector=1,action=error"]).output();
    let output = output.expect(125);
    assert!(output.err().contains("kvm engine"), "{}", output.err());
    if engine("a rule for no device").is_some() {
        let rule = "device=disk5,action=stick";
        let output = run(&["run", "--engine", "kvm", "--fault", rule]).output().expect(125);
        assert!(output.err().contains("the machine has no device `disk5`"), "{}", output.err());
    }
}

#[test]
fn a_file_holds_rules_too_and_strikes_are_in_the_trace() {
    if engine("rules in a file").is_none() {
        return;
    }
    let dir = tempdir().expect("directory");
    let (disk, sum) = image(dir.path());
    let (file, trace) = (dir.path().join("machine.toml"), dir.path().join("trace.txt"));
    let rule = "device=disk0,op=read,nth=3,action=delay,time=5ms";
    fs::write(&file, format!("fault = [\"{rule}\"]\n")).expect("file");
    let more = ["--config", arg(&file), "--disk", arg(&disk), "--trace", arg(&trace)];
    let output = exec("kvm", "sha256sum /dev/vda", &more).output().expect(0);
    assert!(output.out().contains(&sum), "{}", output.out());
    let trace = fs::read_to_string(&trace).expect("trace");
    let event = format!("virtio-blk.0 fault rule=1: {rule}");
    assert_eq!(trace.lines().filter(|line| line.ends_with(&event)).count(), 1);
}

/// Each strike is an event of its device, in text and in a binary trace, which adds them up.
#[test]
fn strikes_are_in_the_trace() {
    if engine("faults in a trace").is_none() {
        return;
    }
    let dir = tempdir().expect("directory");
    let (disk, sum) = image(dir.path());
    let (text, binary) = (dir.path().join("t.txt"), dir.path().join("t.bin"));
    let rule = "device=disk0,op=read,every=4,action=delay,time=1ms";
    let traces = [format!("{},filter=fault", arg(&text)), format!("{},format=bin", arg(&binary))];
    let more = ["-v", "--disk", arg(&disk), "--fault", rule];
    let more = [&more[..], &["--trace", &traces[0], "--trace", &traces[1]]].concat();
    let output = exec("kvm", "sha256sum /dev/vda", &more).output().expect(0);
    assert!(output.out().contains(&sum), "{}", output.out());
    let struck = strikes(&output, 1);
    let text = fs::read_to_string(&text).expect("trace");
    let event = format!(" virtio-blk.0 fault rule=1: {rule}");
    let count = text.lines().filter(|line| line.ends_with(&event)).count() as u64;
    assert_eq!((count, text.lines().count() as u64), (struck, struck), "{text}");
    let stat = Command::new(vmm()).args(["trace", "stat", "--json", arg(&binary)]).output();
    let stat: serde_json::Value =
        serde_json::from_slice(&stat.expect("trace stat").stdout).expect("JSON");
    let counted = &stat["faults"][0];
    assert_eq!((&counted["device"], &counted["count"]), (&"virtio-blk.0".into(), &struck.into()));
}

/// A lost FLUSH holds a file system up for as long as its driver waits, 30 s. VFS, killed meanwhile, cannot go on with
/// that mount before; its state must not be given up for that.
#[test]
fn vfs_waits_for_a_file_system_whose_disk_is_stuck() {
    let Some(_) = engine("vfs_waits_for_a_file_system_whose_disk_is_stuck") else { return };
    let directory = tempdir().expect("directory");
    let disk = directory.path().join("disk.img");
    fat_image(&disk, 16 << 20, 16);
    let rule = "device=virtio-blk.0,op=flush,after=2500ms,count=1,action=drop";
    let script = "mount /dev/vda /mnt || exit 9
        exec 5> /mnt/x; echo a >&5; sync; sleep 3; echo b >&5
        sync & sleep 0.5; service kill vfs; echo c >&5; wait; cat /mnt/x; sync; echo $?
        service history | grep -c start-timeout";
    let output = exec("kvm", script, &["--disk", arg(&disk), "--fault", rule]).output();
    let what = format!("{}{}", output.out(), output.err());
    assert_eq!(output.out(), "a\nb\nc\n0\n0\n", "{what}");
    fsck_fat(&disk);
}
