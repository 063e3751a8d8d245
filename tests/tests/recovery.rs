//! The disk driver dies under load and nobody above it notices.

use std::fs;

use tempfile::tempdir;
use xinim_tests::host::{arg, fat_image, fsck_fat, noise, tool};
use xinim_tests::machine::{engines, exec};

/// A fast copy may be over after two deaths; it is repeated until there were so many.
const DEATHS: usize = 6;

/// Copies 64 MiB from one disk to another while both drivers are killed in turn every 100 ms, by
/// `service kill` and by a wild pointer.
fn copy_under_kills(engine: &str, kill: &str, cause: &str) {
    let dir = tempdir().expect("directory");
    let (source, target) = (dir.path().join("source.img"), dir.path().join("target.img"));
    fat_image(&source, 80 << 20, 32);
    fat_image(&target, 80 << 20, 32);
    let file = dir.path().join("file");
    fs::write(&file, noise(3, 64 << 20)).expect("file");
    tool("mcopy", &["-i", arg(&source), arg(&file), "::/file"]);
    let sum = tool("sha256sum", &[arg(&file)]);
    let sum = sum.split_once(' ').expect("sum and name").0.to_owned();

    // The killer runs beside the copy until the copy is done.
    let script = format!(
        "mkdir /mnt/a /mnt/b; mount /dev/vda /mnt/a && mount /dev/vdb /mnt/b || exit 9
        (while [ ! -f /tmp/done ]; do
            {kill} virtio-blk; sleep 0.1; [ -f /tmp/done ] || {kill} virtio-blk.1; sleep 0.1
        done) &
        cp /mnt/a/file /mnt/b/file; echo copied $?
        until [ $(service history | grep -c virtio-blk) -ge {DEATHS} ]; do
            cp /mnt/a/file /mnt/b/file || echo failed $?
        done
        sync; echo synced $?; touch /tmp/done; wait
        sha256sum /mnt/b/file
        umount /mnt/a && umount /mnt/b || exit 8
        service history | grep virtio-blk"
    );
    let disks = ["--disk", arg(&source), "--disk", arg(&target)];
    let output = exec(engine, &script, &disks).output().expect(0);
    let text = output.out();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("copied 0"), "{engine}: {text}{}", output.err());
    assert_eq!(lines.next(), Some("synced 0"), "{engine}: {text}");
    assert_eq!(lines.next(), Some(&*format!("{sum}  /mnt/b/file")), "{engine}: {text}");
    // Each death is there with its cause and how long the service was away.
    let deaths: Vec<&str> = lines.collect();
    assert!(deaths.len() >= DEATHS, "{engine}: the drivers died {} times: {text}", deaths.len());
    for death in &deaths {
        // time, label, cause, detail, down time; times in microseconds
        let fields: Vec<&str> = death.split_whitespace().collect();
        assert!(fields.len() >= 5, "{engine}: {death}");
        assert!(fields[0].parse::<u64>().is_ok(), "time in {death}");
        assert_eq!(fields[2], cause, "{engine}: {death}");
        assert!(fields[fields.len() - 1].parse::<u64>().is_ok(), "down time in {death}");
    }
    assert_eq!(output.err(), "", "{engine}");

    // And on the host: a clean volume with the same bytes.
    fsck_fat(&target);
    let back = dir.path().join("back");
    tool("mcopy", &["-n", "-i", arg(&target), "::/file", arg(&back)]);
    assert!(fs::read(&back).expect("copied file") == fs::read(&file).expect("file"));
}

#[test]
fn killed_drivers_lose_nothing() {
    for engine in engines("killed_drivers_lose_nothing") {
        copy_under_kills(engine, "service kill", "killed");
    }
}

#[test]
fn drivers_with_wild_pointers_lose_nothing() {
    for engine in engines("drivers_with_wild_pointers_lose_nothing") {
        copy_under_kills(engine, "service kill --wild", "injected");
    }
}

#[test]
fn services_are_listed_stopped_and_started() {
    let dir = tempdir().expect("directory");
    let image = dir.path().join("disk.img");
    fat_image(&image, 16 << 20, 16);
    for engine in engines("services_are_listed_stopped_and_started") {
        let state = "service list | grep virtio-blk | while read name state rest; do echo $name $state; done";
        let script = format!(
            "{state}; service stop virtio-blk; {state}; service start virtio-blk; {state}
            service restart virtio-blk && mount /dev/vda /mnt && service status virtio-blk | grep -c pid
            service kill no-such-service"
        );
        let output = exec(engine, &script, &["--disk", arg(&image)]).output();
        let expected = "virtio-blk running\nvirtio-blk dead\nvirtio-blk running\n1\n";
        assert_eq!(output.out(), expected, "{engine}: {}", output.err());
        assert_ne!(output.status, 0);
        assert!(output.err().contains("no-such-service"), "{}", output.err());
    }
}

/// A driver that is stopped by hand is an error for who needs it, at once; started again, everything
/// goes on, and what waited in the file system's cache is written.
#[test]
fn a_stopped_driver_fails_its_clients_and_started_serves_them_again() {
    for engine in engines("a_stopped_driver_fails_its_clients_and_started_serves_them_again") {
        let dir = tempdir().expect("directory");
        let (image, file) = (dir.path().join("disk.img"), dir.path().join("file"));
        fat_image(&image, 48 << 20, 32);
        fs::write(&file, noise(5, 8 << 20)).expect("file");
        tool("mcopy", &["-i", arg(&image), arg(&file), "::/file"]);
        let sum = tool("sha256sum", &[arg(&file)]);
        let sum = sum.split_once(' ').expect("sum and name").0.to_owned();
        // Stopped twice: while nothing waits for it, and in the middle of a copy.
        let script = "mount /dev/vda /mnt || exit 9
            echo kept > /mnt/kept
            service stop virtio-blk
            cat /mnt/file > /dev/null 2>&1; echo read $?
            sync 2> /dev/null; echo sync $?
            service start virtio-blk; sync; sync; echo sync $?
            (sleep 0.1; service stop virtio-blk) &
            i=0; while cp /mnt/file /mnt/copy 2> /dev/null && sync 2> /dev/null && [ $i -lt 50 ]; do
                i=$((i+1)); done
            wait; service start virtio-blk; sync
            cp /mnt/file /mnt/copy; sync; echo sync $?
            sha256sum /mnt/copy; cat /mnt/kept; umount /mnt; echo umount $?";
        let output = exec(engine, script, &["--disk", arg(&image)]).output().expect(0);
        let expected =
            format!("read 1\nsync 1\nsync 0\nsync 0\n{sum}  /mnt/copy\nkept\numount 0\n");
        assert_eq!(output.out(), expected, "{engine}: {}", output.err());
        fsck_fat(&image);
        let back = dir.path().join("back");
        tool("mcopy", &["-n", "-i", arg(&image), "::/copy", arg(&back)]);
        assert!(fs::read(&back).expect("copied file") == fs::read(&file).expect("file"));
    }
}

/// The next instance's process stands by while the driver runs, takes over when it dies, and is made anew; it
/// is quicker than a process that is made then.
#[test]
fn a_spare_takes_over_and_is_quicker() {
    for engine in engines("a_spare_takes_over_and_is_quicker") {
        // The second death of each pair comes before there can be another spare.
        let script = "twice() { for i in 1 2; do echo kill virtio-blk; echo start virtio-blk; done; }
            i=0; while [ $i -lt 8 ]; do
                until service status virtio-blk | grep 'spare: stands by' > /dev/null; do sleep 0.02; done
                twice | service batch; i=$((i+1))
            done
            service status virtio-blk | grep 'restarts:'; service restarts virtio-blk; dmesg | grep 'spare process' || true";
        let output = exec(engine, script, &["--disk", "new:16M"]).output().expect(0);
        let text = output.out();
        assert!(text.starts_with("restarts: 16\n"), "{engine}: {text}{}", output.err());
        assert!(!text.contains("its spare process died"), "{engine}: {text}");
        let mut times = [Vec::new(), Vec::new()];
        for line in text.lines().skip(2) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let [_, name, process, heard, waited, launch, up, down] = fields[..] else {
                panic!("{engine}: {line}")
            };
            assert_eq!(name, "virtio-blk", "{engine}: {line}");
            let us = |text: &str| text.parse::<u64>().expect("us");
            // Each is rounded down.
            let sum = us(heard) + us(waited) + us(launch) + us(up);
            assert!(us(down).abs_diff(sum) <= 4, "{engine}: the phases of {line}");
            match process {
                "new" => times[0].push(us(launch) + us(up)),
                "spare" => times[1].push(us(launch) + us(up)),
                // On a busy host the next one may have been on its way.
                other => assert_eq!(other, "ahead", "{engine}: {line}"),
            }
        }
        let [new, spare] = times;
        assert!(spare.len() >= 8 && !new.is_empty(), "{engine}: {text}");
        assert!(spare.iter().min() < new.iter().min(), "{engine}: {text}");
    }
}
