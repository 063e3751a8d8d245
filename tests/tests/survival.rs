//! Services die in turn, and at random, and nobody above them notices: files, pipelines, statuses and
//! output come out as if nothing had happened, and nothing leaks.
//!
//! `XINIM_SURVIVAL_SECONDS=N` lets the random kills go on for about N seconds of the guest's time
//! (default: a short slice); `XINIM_SURVIVAL_SEED=S` chooses another course.

use std::fs;

use tempfile::tempdir;
use xinim_tests::host::{arg, fat_image, fsck_fat, noise, tool};
use xinim_tests::machine::{engines, exec, run};

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Open files, a working directory, positions shared by processes, an unlinked file, a pipeline and
/// a lock, over the death of `victim` in between.
fn state_script(victim: &str) -> String {
    format!(
        "mkdir /tmp/d; cd /tmp/d
        printf 'one\\ntwo\\nthree\\n' > f; exec 5< f 6>> log 7<> gone; read first <&5
        echo kept >&7; rm gone
        (n=0; while [ $n -lt 40 ]; do n=$((n + 1)); echo line $n; sleep 0.01; done) | cat > piped &
        service kill {victim}
        pwd; echo $first; read second <&5; echo $second
        echo a >&6; service kill {victim}; echo b >&6; cat <&5
        mkdir x; service kill {victim}; mv x y; ln f g; service kill {victim}; rm f
        (exit 7); echo status $?
        wait; wc -l < piped; cat log; ls
        exec 5<&- 6>&- 7>&-
        service history | grep -c {victim}"
    )
}

const STATE: &str = "/tmp/d\none\ntwo\nthree\nstatus 7\n40\na\nb\ng\nlog\npiped\ny\n4\n";

#[test]
fn state_is_the_same_after_the_death_of_those_who_keep_it() {
    for engine in engines("state_is_the_same_after_the_death_of_those_who_keep_it") {
        for victim in ["vfs", "pm", "devfs", "ramfs"] {
            let mut script = state_script(victim);
            if victim == "ramfs" {
                // A file without a name ends with the file system that has it.
                script = script.replace("rm gone", "mv gone /tmp/named");
            }
            let output = exec(engine, &script, &[]).output();
            assert_eq!(output.out(), STATE, "{engine}, {victim}: {}", output.err());
            assert_eq!((output.status, output.err().as_str()), (0, ""), "{engine}, {victim}");
        }
    }
}

/// Restarts and updates are orderly ends with a successor: programs, files and statuses go on as over a death.
#[test]
fn state_is_the_same_after_an_orderly_restart() {
    for engine in engines("state_is_the_same_after_an_orderly_restart") {
        for victim in ["vfs", "pm", "devfs", "ramfs"] {
            let mut script = state_script(victim).replace("service kill", "service restart");
            if victim == "ramfs" {
                script = script.replace("rm gone", "mv gone /tmp/named");
            }
            let output = exec(engine, &script, &[]).output();
            assert_eq!(output.out(), STATE, "{engine}, {victim}: {}", output.err());
            assert_eq!((output.status, output.err().as_str()), (0, ""), "{engine}, {victim}");
        }
        let script = "(sleep 3; exit 7) & child=$!; service update pm /sbin/pm; echo updated $?
            wait $child; echo status $?; service stop pm";
        let output = exec(engine, script, &[]).output();
        assert_eq!(output.out(), "updated 0\nstatus 7\n", "{engine}: {}", output.err());
        assert_eq!(output.status, 123, "no program outlives the end of all management");
    }
}

/// A copy from disk to disk, with everything between them dying: the file is the same, on the host too.
#[test]
fn a_copy_outlives_everybody_who_carries_it() {
    for engine in engines("a_copy_outlives_everybody_who_carries_it") {
        let dir = tempdir().expect("directory");
        let (source, target) = (dir.path().join("source.img"), dir.path().join("target.img"));
        fat_image(&source, 24 << 20, 16);
        fat_image(&target, 24 << 20, 16);
        let file = dir.path().join("file");
        fs::write(&file, noise(5, 8 << 20)).expect("file");
        tool("mcopy", &["-i", arg(&source), arg(&file), "::/file"]);
        let sum = tool("sha256sum", &[arg(&file)]);
        let sum = sum.split_once(' ').expect("sum and name").0.to_owned();
        let script = "mkdir /mnt/a /mnt/b
            mount /dev/vda /mnt/a && mount /dev/vdb /mnt/b || exit 9
            (for victim in vfs virtio-blk pm vfs devfs virtio-blk.1 vfs pm; do
                service kill $victim; sleep 0.2
            done) &
            cp /mnt/a/file /mnt/b/file; echo copied $?
            cat /mnt/b/file | cat | sha256sum
            wait; sync; umount /mnt/a; umount /mnt/b; echo status $?";
        let disks = ["--disk", arg(&source), "--disk", arg(&target)];
        let output = exec(engine, script, &disks).output();
        let expected = format!("copied 0\n{sum}  -\nstatus 0\n");
        assert_eq!(output.out(), expected, "{engine}: {}", output.err());
        fsck_fat(&target);
        let back = dir.path().join("back");
        tool("mcopy", &["-n", "-i", arg(&target), "::/file", arg(&back)]);
        assert!(fs::read(&back).expect("copied file") == fs::read(&file).expect("file"));
    }
}

/// A shell on the terminal, typed at while its terminal, its files and its manager die.
#[test]
fn a_terminal_session_goes_on() {
    for engine in engines("a_terminal_session_goes_on") {
        let output = run(&["run", "--engine", engine, "--timeout", "120s"])
            .stdin(
                "cd /tmp; A=$((40 + 2)); service kill tty; echo tty $A; service kill vfs; echo vfs $PWD
                service kill pm; (exit 3); echo pm $?; service kill tty; head -n 1\nhalf a line\n\
                echo over $((1 + 1)); poweroff\n",
            )
            .output()
            .expect(0);
        let text = output.out().replace('\r', "");
        for line in ["\ntty 42\n", "\nvfs /tmp\n", "\npm 3\n", "\nhalf a line\n", "\nover 2\n"] {
            assert!(text.contains(line), "{engine}: no {line:?} in {text}");
        }
    }
}

#[test]
fn the_log_keeps_its_lines() {
    for engine in engines("the_log_keeps_its_lines") {
        let script = "dmesg > /dev/null; echo mark > /dev/log; dmesg | grep -c mark
            service kill log; dmesg | grep -c mark; echo second > /dev/log; service kill log
            dmesg | grep -c mark; dmesg | grep -c second";
        let output = exec(engine, script, &[]).output().expect(0);
        assert_eq!(output.out(), "1\n1\n1\n1\n", "{engine}: {}", output.err());
    }
}

/// Kernel objects and frames before and after many deaths.
#[test]
fn deaths_leak_nothing() {
    for engine in engines("deaths_leak_nothing") {
        let script = "round() {
                for victim in vfs pm devfs log; do service kill $victim; ls / > /dev/null; done
            }
            counts() { echo settle | service batch; grep -e processes -e threads -e endpoints -e memory_objects /proc/stat; }
            dmesg > /dev/null; cat /proc/mounts > /dev/null; echo 1 > /tmp/x
            round; round; round; sleep 1; counts > /tmp/before
            round; round; round; round; round; sleep 1; counts > /tmp/after
            cmp /tmp/before /tmp/after && echo same || { cat /tmp/before; echo; cat /tmp/after; }";
        let output = exec(engine, script, &[]).output();
        assert_eq!(output.out(), "same\n", "{engine}: {}", output.err());
    }
}

/// Random services die while files are written, read back and compared, and pipelines run.
#[test]
fn random_deaths_lose_nothing() {
    let rounds = 12 + setting("XINIM_SURVIVAL_SECONDS", 0) * 4;
    let mut seed = setting("XINIM_SURVIVAL_SEED", 1);
    for engine in engines("random_deaths_lose_nothing") {
        let mut victims = String::new();
        for _ in 0..rounds {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            let all = ["vfs", "pm", "devfs", "log", "pci", "vfs", "virtio-blk", "pm"];
            victims += all[(seed >> 33) as usize % all.len()];
            victims.push(' ');
        }
        let dir = tempdir().expect("directory");
        let image = dir.path().join("disk.img");
        fat_image(&image, 32 << 20, 16);
        let script = format!(
            "mkdir /mnt/a; mount /dev/vda /mnt/a || exit 9; cd /mnt/a
            (for victim in {victims}; do service kill $victim; sleep 0.25; done; touch /tmp/done) &
            n=0; failed=0
            while [ ! -f /tmp/done ]; do
                n=$((n + 1)); echo $n >> list
                head -c 100000 /dev/zero | tr '\\0' x > data$((n % 4))
                [ $(cat data$((n % 4)) | wc -c) = 100000 ] || failed=$((failed + 1))
                mv data$((n % 4)) moved; [ -f moved ] && rm moved || failed=$((failed + 1))
            done
            wait; i=0; while read line; do i=$((i + 1)); [ $line = $i ] || failed=$((failed + 1)); done < list
            [ $i = $n ] || failed=$((failed + 1)); echo failed $failed
            cd /; umount /mnt/a; echo status $?"
        );
        let output = exec(engine, &script, &["--disk", arg(&image)]).output();
        let text = (output.out(), output.err());
        assert_eq!(text.0, "failed 0\nstatus 0\n", "{engine}, killed {victims}: {}", text.1);
        fsck_fat(&image);
    }
}
