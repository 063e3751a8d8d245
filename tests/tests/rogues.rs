//! Services loaded to do harm (`breakout` as a service): they hog, lie, die and try to break out; each is
//! refused or ended, which is counted, and others go on.

use tempfile::tempdir;
use xinim_tests::host::{arg, fat_image};
use xinim_tests::machine::{engines, exec};

/// Commands that load `/bin/breakout` under a name with this manifest.
fn load(name: &str, manifest: &str) -> String {
    load_as(name, manifest, "/bin/breakout")
}

fn load_as(name: &str, manifest: &str, program: &str) -> String {
    format!(
        "printf '{}' > /tmp/{name}.toml; service load /tmp/{name}.toml {program} || exit 9\n",
        manifest.replace('\n', "\\n")
    )
}

/// Waits until a service is in a state.
fn until(name: &str, state: &str) -> String {
    format!("until service status {name} | grep -q 'state: {state}'; do sleep 0.05; done\n")
}

#[test]
fn a_memory_hog_ends_at_its_budget() {
    for engine in engines("a_memory_hog_ends_at_its_budget") {
        let manifest = "memory = 8\nargs = [\"memory\"]\nrestart = { limit = 1, backoff = 1 }";
        let script = format!(
            "ls /proc > /dev/null; dmesg > /dev/null; service list > /tmp/before; free | grep Mem
            {}{}service history hog | while read time name cause rest; do echo $cause; done
            service unload hog; free | grep Mem
            service list > /tmp/after; cmp /tmp/before /tmp/after && echo same services
            dmesg | grep 'breakout: has' | tail -n 1",
            load("hog", manifest),
            until("hog", "failed"),
        );
        let output = exec(engine, &script, &[]).output();
        let text = output.out();
        let all = format!("{engine}: {text}{}", output.err());
        let lines: Vec<&str> = text.lines().collect();
        let [before, "CAUSE", "exit", "exit", after, "same services", has] = lines[..] else {
            panic!("{all}")
        };
        let word = |line: &str, at| line.split_whitespace().nth(at).and_then(|w| w.parse().ok());
        let used = |line| -> i64 { word(line, 2).unwrap_or_else(|| panic!("{all}")) };
        // RS's heap, which has had the program in it, keeps its size.
        assert!(used(after) - used(before) < 2048, "{all}");
        let has = has.rsplit("has ").next().and_then(|rest| word(rest, 0));
        assert!(has.is_some_and(|mib: i64| (2..8).contains(&mib)), "{all}");
    }
}

/// The share of the processor that an honest program has beside it, of the guest's own time.
fn share_beside(engine: &str, what: &str, heartbeat: u32) {
    let manifest = format!(
        "cpu = {{ percent = 20, window = 1000 }}\nheartbeat = {heartbeat}\nargs = [\"{what}\"]
        restart = {{ limit = 2, backoff = 1 }}"
    );
    let script = format!(
        "breakout share 1000; (sleep 0.3; {}) & breakout share 6000; wait
        {}service history hog | while read time name cause rest; do echo $cause; done
        service list | grep -c failed",
        load("hog", &manifest).trim_end(),
        until("hog", "failed"),
    );
    let output = exec(engine, &script, &[]).output();
    let text = output.out();
    let all = format!("{engine}, {what}: {text}{}", output.err());
    let lines: Vec<&str> = text.lines().collect();
    let [alone, beside, ..] = lines[..] else { panic!("{all}") };
    assert_eq!(lines[2..], ["CAUSE", "cpu-hog", "cpu-hog", "cpu-hog", "1"], "{all}");
    let [alone, beside] = [alone, beside].map(|text| text.parse::<u32>().expect("percent"));
    // The budget, what loading it costs, and the same again for the looks in between.
    assert!(beside + 40 >= alone, "{all}");
}

#[test]
fn a_processor_hog_takes_no_more_than_its_budget() {
    for engine in engines("a_processor_hog_takes_no_more_than_its_budget") {
        // With a shorter one it counts as hung before it has used its share.
        share_beside(engine, "spin", 1000);
    }
}

#[test]
fn who_floods_rs_takes_no_more_than_its_budget() {
    for engine in engines("who_floods_rs_takes_no_more_than_its_budget") {
        share_beside(engine, "flood", 200);
    }
}

/// A disk's driver that says it completed what nobody asked: its client reports it, RS restarts it.
#[test]
fn a_liar_is_reported_by_its_client() {
    for engine in engines("a_liar_is_reported_by_its_client") {
        let dir = tempdir().expect("directory");
        let image = dir.path().join("disk.img");
        fat_image(&image, 16 << 20, 16);
        let script = "service update virtio-blk /bin/breakout; echo updated $?
            mount -t fat /dev/vda /mnt 2> /dev/null; echo mounted $?
            service history virtio-blk | grep complaint | head -n 1 | while read time name cause by who rest; do
                echo $name $cause $who; done
            service update virtio-blk /sbin/virtio-blk; echo updated $?
            mount /dev/vda /mnt; echo mounted $?; echo whole > /mnt/f; sync; cat /mnt/f; umount /mnt
            service status virtio-blk | grep causes";
        let output = exec(engine, script, &["--disk", arg(&image)]).output();
        let text = output.out();
        let expected =
            "updated 0\nmounted 1\nvirtio-blk complaint fs-fat,\nupdated 0\nmounted 0\nwhole\n";
        let rest = text.strip_prefix(expected);
        let rest = rest.unwrap_or_else(|| panic!("{engine}: {text}{}", output.err()));
        assert!(rest.contains("complaint "), "{engine}: {rest}");
    }
}

/// A disk's driver that lives and completes nothing: its client reports it, too, and whoever waits is served by
/// the next one that works.
#[test]
fn a_driver_that_says_nothing_is_reported_by_its_client() {
    if !engines("a_driver_that_says_nothing_is_reported_by_its_client").contains(&"kvm") {
        return;
    }
    let dir = tempdir().expect("directory");
    let image = dir.path().join("disk.img");
    fat_image(&image, 16 << 20, 16);
    let script = "service update ahci /bin/breakout; echo updated $?
        mount -t fat /dev/sda /mnt 2> /dev/null &
        until service history ahci | grep -q complaint; do sleep 1; done; echo reported
        service update ahci /sbin/ahci; echo updated $?
        wait; mount /dev/sda /mnt; echo whole > /mnt/f; sync; cat /mnt/f; umount /mnt
        service history ahci | grep complaint | while read time name cause by who rest; do
            echo $name $cause $who; done";
    let disk = format!("{},bus=ahci", arg(&image));
    let output = exec("kvm", script, &["--disk", &disk]).output();
    let expected = "updated 0\nreported\nupdated 0\nwhole\nahci complaint fs-fat,\n";
    assert_eq!(output.out(), expected, "{}", output.err());
}

/// New programs that never come up, that die in their first second, and that are none.
#[test]
fn bad_updates_are_rolled_back() {
    for engine in engines("bad_updates_are_rolled_back") {
        let mut script = String::new();
        for (name, args) in [("early", "\"silent\""), ("late", "\"quits\", \"300\"")] {
            let manifest = format!("args = [{args}]\nstart_timeout = 700");
            script += &load_as(name, &manifest, "/sbin/log");
            script += &until(name, "running");
            script += &format!(
                "service update {name} /bin/breakout; echo {name} $?
                service update {name} /etc/services/log.toml; echo none $?\n"
            );
            script += &until(name, "running");
            script += &format!("service status {name} | grep 'crashes in a row'\n");
        }
        // The same program is taken where it lives.
        script += &load_as("good", "args = [\"idle\"]", "/sbin/log");
        script += &until("good", "running");
        script += "service update good /bin/breakout; echo good $?; service unload good";
        let output = exec(engine, &script, &[]).output();
        let expected = "early 1\nnone 1\ncrashes in a row: 0 of 8\nlate 1\nnone 1\n\
            crashes in a row: 0 of 8\ngood 0\n";
        assert_eq!(output.out(), expected, "{engine}: {}", output.err());
        for said in ["the new program failed; the old one runs again", "not an executable file"] {
            assert_eq!(output.err().matches(said).count(), 2, "{engine}: {}", output.err());
        }
    }
}

/// Unknown keys, missing targets, cycles through a class: refused with the place or the path.
#[test]
fn manifests_that_are_wrong_are_refused_at_load() {
    for engine in engines("manifests_that_are_wrong_are_refused_at_load") {
        let wrong = |name: &str, text: &str| {
            format!(
                "printf '{text}' > /tmp/{name}.toml; service load /tmp/{name}.toml /bin/breakout; echo $?\n"
            )
        };
        let script = load("first", "class = \"ring\"\nstart = \"first-use\"")
            + &load("second", "needs = [\"class:ring\"]\nstart = \"first-use\"")
            + &wrong("third", "class = \"ring\"\\ncalls = [\"second\"]")
            + &wrong("key", "memory = 1\\ncolour = \"red\"")
            + &wrong("value", "priority = 24")
            + &wrong("target", "needs = [\"nobody\"]")
            + &wrong("twice", "instances = \"programs\"")
            + &wrong("vfs", "")
            + "service list | grep -c -e third -e key -e value -e target -e twice";
        let output = exec(engine, &script, &[]).output();
        assert_eq!(output.out(), "1\n1\n1\n1\n1\n1\n0\n", "{engine}: {}", output.err());
        for reason in [
            "services depend on each other: second -> third -> second",
            "key.toml: line 2: unknown field `colour`",
            "value.toml: priority: ",
            "target.toml: needs: ",
            "twice.toml: instances: ",
            "vfs",
        ] {
            assert!(output.err().contains(reason), "{engine}: {reason}: {}", output.err());
        }
    }
}

/// The break-out suite as a service that was granted nothing: an attempt an instance. Beside it a program
/// works through files, and comes to the right end.
#[test]
fn a_service_that_tries_to_break_out_is_refused_everything() {
    for engine in engines("a_service_that_tries_to_break_out_is_refused_everything") {
        let manifest = "args = [\"all\"]\nmemory = 16\nhandles = 64\n\
            restart = { policy = \"always\", stable = 0, backoff = 0, limit = 50 }";
        let script = format!(
            "dmesg > /dev/null; ls /proc > /dev/null; service list > /tmp/before
            text=$(cat /etc/passwd)
            (n=0; while [ ! -f /tmp/over ]; do
                [ \"$(cat /etc/passwd | cat)\" = \"$text\" ] && n=$((n + 1)) || echo differs
            done; echo worked $n) &
            {}until dmesg | grep -q 'breakout: over'; do sleep 0.3; done; touch /tmp/over; wait
            dmesg | grep 'breakout: '
            service statistics | grep rogue | while read name state pid crashes rest; do
                echo statistics $state $crashes $rest; done
            service unload rogue; service list > /tmp/after; cmp /tmp/before /tmp/after && echo same services",
            load("rogue", manifest),
        );
        let output = exec(engine, &script, &[]).output();
        let text = output.out();
        let all = format!("{engine}: {text}{}", output.err());
        assert_eq!((output.status, output.err().as_str()), (0, ""), "{all}");
        assert!(!text.contains("NOT REFUSED") && !text.contains("differs"), "{all}");
        let number =
            |line: &str, at| -> Option<u64> { line.split_whitespace().nth(at)?.parse().ok() };
        let find = |start: &str| text.lines().find(|line| line.contains(start)).expect(start);
        // Each attempt was refused with an error, or by the processor, which ended the instance.
        let tried = text.matches("breakout: tries ").count() as u64;
        let refused = text.matches("breakout: refused: ").count() as u64;
        let over =
            find("breakout: over, ").rsplit("over, ").next().and_then(|rest| number(rest, 0));
        assert_eq!(over, Some(tried), "{all}");
        assert!(tried >= 45 && refused >= 25, "{all}");
        let statistics = find("statistics ");
        let faults =
            statistics.split("fault ").nth(1).and_then(|rest| number(&rest.replace(',', " "), 0));
        assert_eq!(faults, Some(tried - refused), "{all}");
        // name, state, crashes, then restarts, down, longest, detection, cpu, memory, heartbeat, refused
        assert!(number(statistics, 10).is_some_and(|refused| refused > 500), "{all}");
        assert!(number(find("worked "), 1).is_some_and(|n| n >= 2), "{all}");
        assert!(text.ends_with("same services\n"), "{all}");
    }
}
