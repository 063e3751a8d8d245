//! Services that hang, hog, lie or cannot run, and what the Reincarnation Server makes of them.

use std::fs;

use tempfile::tempdir;
use xinim_tests::host::{arg, fat_image, noise, tool};
use xinim_tests::machine::{engines, exec};

/// A FAT image with one file `::/file`, and the file's SHA-256.
fn disk(dir: &std::path::Path, len: usize) -> (std::path::PathBuf, String) {
    let (image, file) = (dir.join("disk.img"), dir.join("file"));
    fat_image(&image, 32 << 20, 16);
    fs::write(&file, noise(5, len)).expect("file");
    tool("mcopy", &["-i", arg(&image), arg(&file), "::/file"]);
    let sum = tool("sha256sum", &[arg(&file)]);
    (image, sum.split_once(' ').expect("sum and name").0.to_owned())
}

#[test]
fn hung_drivers_are_found_and_nothing_is_lost() {
    let dir = tempdir().expect("directory");
    let (image, sum) = disk(dir.path(), 8 << 20);
    for engine in engines("hung_drivers_are_found_and_nothing_is_lost") {
        // The file system reads through a driver that will not answer again. Each read is of a fresh
        // mount, so that nothing of it is cached.
        let script = "for kind in --hang --block; do
                mount /dev/vda /mnt || exit 9
                service kill $kind virtio-blk
                sha256sum /mnt/file
                umount /mnt
            done
            service history | grep hung | while read time name cause rest; do echo $name $cause; done
            service status virtio-blk | grep causes";
        let output = exec(engine, script, &["--disk", arg(&image)]).output();
        let read = format!("{sum}  /mnt/file\n");
        let expected = format!("{read}{read}virtio-blk hung\nvirtio-blk hung\ncauses: hung 2\n");
        assert_eq!(output.out(), expected, "{engine}: {}", output.err());
        assert_eq!(output.err(), "", "{engine}");
    }
}

/// Each of these dies of a hang, comes back, and the system goes on.
#[test]
fn every_kind_of_service_is_watched() {
    let dir = tempdir().expect("directory");
    let (image, sum) = disk(dir.path(), 1 << 20);
    for engine in engines("every_kind_of_service_is_watched") {
        let script = "mount /dev/vda /mnt || exit 9
            for name in devfs pci virtio-console fs-fat; do
                service kill --hang $name
                until service history $name | grep -q hung; do sleep 0.1; done
                sha256sum /mnt/file
            done
            service list | grep -c running";
        let output = exec(engine, script, &["--disk", arg(&image)]).output();
        let text = output.out();
        let sums = text.lines().filter(|line| *line == format!("{sum}  /mnt/file")).count();
        assert_eq!(sums, 4, "{engine}: {text}{}", output.err());
    }
}

/// A server of several threads, of which one spins while the others come.
#[test]
fn a_thread_that_spins_is_found() {
    let dir = tempdir().expect("directory");
    let (image, sum) = disk(dir.path(), 1 << 20);
    for engine in engines("a_thread_that_spins_is_found") {
        // Requests that wait for the disk make VFS have more threads.
        let script = "mount /dev/vda /mnt || exit 9
            for n in 1 2 3; do sha256sum /mnt/file > /tmp/$n & done
            cat /dev/vda > /dev/null; wait
            service status vfs | grep threads
            service kill --hang vfs
            for n in 1 2 3 4 5 6 7 8 9 10; do
                ls /mnt > /dev/null; sleep 0.3; service history vfs | grep -q hung && break
            done
            service history vfs | grep -c hung
            sha256sum /mnt/file";
        let output = exec(engine, script, &["--disk", arg(&image)]).output();
        let text = output.out();
        let [threads, found, read] = text.lines().collect::<Vec<_>>()[..] else {
            panic!("{engine}: {text}{}", output.err());
        };
        let number = threads.rsplit(' ').find_map(|word| word.parse::<u32>().ok());
        assert!(number.is_some_and(|number| number > 1), "{engine}: {threads}");
        assert_eq!((found, read), ("1", format!("{sum}  /mnt/file").as_str()), "{engine}");
    }
}

/// Statistics, the graph, alerts and JSON: shapes that scripts rely on.
#[test]
fn what_can_be_seen() {
    for engine in engines("what_can_be_seen") {
        let script = "service kill devfs; service statistics | grep -c devfs
            service --json list | head -n 2
            service graph | grep vfs | grep ramfs | grep needs
            service graph --dot | head -n 1
            service graph --dot | grep vfs | grep ramfs | grep -c style=bold
            service alerts; service --json alerts
            grep -c '^devfs' /proc/services
            cat /proc/services | while read name state pid crashes rest; do
                [ $name = devfs ] && echo $crashes crash; done; true";
        let output = exec(engine, script, &[]).output();
        let text = output.out();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "1", "{engine}: {text}{}", output.err());
        assert_eq!(lines[1], "[");
        assert!(
            lines[2].starts_with("  {\"name\": \"rs\", \"state\": \"running\", \"pid\": \"1\"")
        );
        let rest: Vec<String> =
            lines[3..].iter().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        let expected =
            ["vfs needs ramfs", "digraph services {", "1", "TIME ALERT", "[]", "1", "1 crash"];
        assert_eq!(rest, expected, "{engine}: {text}");
    }
}

/// A driver is replaced while a copy runs; a broken program is given up.
#[test]
fn drivers_are_updated_under_load() {
    let dir = tempdir().expect("directory");
    let (image, sum) = disk(dir.path(), 12 << 20);
    for engine in engines("drivers_are_updated_under_load") {
        let script = "mount /dev/vda /mnt || exit 9
            (cp /mnt/file /mnt/copy; echo copied $?; touch /tmp/copied) &
            service update virtio-blk /sbin/virtio-blk; echo updated $?
            service update virtio-blk /bin/sh; echo broken $?
            service update nobody /bin/sh; echo nobody $?
            wait
            sync; sha256sum /mnt/copy
            service history virtio-blk | grep -c stopped
            service status virtio-blk | grep state";
        let output = exec(engine, script, &["--disk", arg(&image)]).output();
        let text = output.out();
        let has = |line: &str| {
            assert!(text.lines().any(|l| l == line), "{engine}: {line}: {text}{}", output.err())
        };
        has("copied 0");
        has("updated 0");
        has("broken 1");
        has("nobody 1");
        has(&format!("{sum}  /mnt/copy"));
        has("state: running");
        // Both updates brought the driver to rest.
        has("2");
        let rolled_back = "virtio-blk: the new program failed; the old one runs again";
        assert!(output.err().contains(rolled_back), "{engine}: {}", output.err());
    }
}

#[test]
fn services_are_loaded_at_run_time() {
    for engine in engines("services_are_loaded_at_run_time") {
        let script = "cd /tmp
            echo 'needs = [\"vfs\"]\nheartbeat = 400' > extra.toml
            service load extra.toml /sbin/log; echo loaded $?
            until service status extra | grep -q 'state: running'; do sleep 0.05; done
            service kill --hang extra
            until service history extra | grep -q hung; do sleep 0.05; done
            until service status extra | grep -q 'state: running'; do sleep 0.05; done
            service unload extra; echo unloaded $?
            service status extra; echo gone $?
            echo 'needs = [\"ring\"]' > ring.toml; service load ring.toml /sbin/log
            echo 'colour = 1' > bad.toml; service load bad.toml /sbin/log
            echo 'restart = { limit = 1, backoff = 1 }\nescalate = \"alert\"' > loop.toml
            service load loop.toml /bin/sh
            until service status loop | grep -q 'state: failed'; do sleep 0.05; done
            service alerts | grep -c 'loop has failed: crashed 2 times in a row'
            service unload vfs";
        let output = exec(engine, script, &[]).output();
        let expected = "loaded 0\nunloaded 0\ngone 1\n1\n";
        assert_eq!(output.out(), expected, "{engine}: {}", output.err());
        for reason in [
            "ring.toml: services depend on each other: ring -> ring",
            "bad.toml: bad.toml: line 1: unknown field `colour`",
            "vfs: ",
        ] {
            assert!(output.err().contains(reason), "{engine}: {reason}: {}", output.err());
        }
    }
}
