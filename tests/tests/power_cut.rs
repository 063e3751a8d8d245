//! The power fails, the file-system server dies, the disk driver dies: what was synced before is
//! there afterwards, and the volume is whole.
//!
//! ```text
//! guest: write, sync, rename, sync, "done n" ──┐ SIGKILL at a random instant
//! host:  reads how far it came ────────────────┘
//! guest: mounts (repair, journal replay), compares what was done   host: fsck has nothing to say
//! ```
//! A few rounds by default; `XINIM_LONG=n` for n times as many.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use tempfile::tempdir;
use xinim_tests::host::{arg, fat_image, fsck_fat, tool};
use xinim_tests::machine::{engines, exec};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    Minix1,
    Minix3,
    Fat,
    Ext4,
}

const LEN: u64 = 40 << 20;

impl Format {
    fn make(self, path: &Path) {
        fs::File::create(path).and_then(|file| file.set_len(LEN)).expect("image");
        match self {
            Format::Minix1 => drop(tool("mkfs.minix", &["-1", arg(path)])),
            Format::Minix3 => drop(tool("mkfs.minix", &["-3", arg(path)])),
            Format::Fat => fat_image(path, LEN, 32),
            Format::Ext4 => drop(tool("mkfs.ext4", &["-q", "-F", arg(path)])),
        }
    }

    /// Nothing is wrong with the volume.
    fn check(self, path: &Path) {
        match self {
            Format::Minix1 | Format::Minix3 => {
                let text = tool("fsck.minix", &["-f", "-s", arg(path)]);
                for word in ["Warning", "ad ", "used", "Clear"] {
                    assert!(!text.contains(word), "{self:?}: {text}");
                }
            }
            Format::Fat => fsck_fat(path),
            Format::Ext4 => drop(tool("e2fsck", &["-f", "-n", arg(path)])),
        }
    }
}

/// Rounds of a test that takes its time.
fn rounds(short: u64) -> u64 {
    let factor = std::env::var("XINIM_LONG").ok().and_then(|text| text.parse::<u64>().ok());
    short * factor.unwrap_or(1).max(1)
}

/// A number that differs from run to run: where a cut falls is to be found out over time.
fn chance(bound: u64) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() % bound
}

/// Until the end of time, or `count` times: files that come whole and durable or not at all, the
/// older ones removed.
fn workload(count: &str) -> String {
    format!(
        "n=0; while [ $n -lt {count} ]; do n=$((n+1));
            seq $n $((n+400)) > /mnt/new && sync && mv /mnt/new /mnt/f$n && sync && echo done $n;
            [ $n -gt 15 ] && rm /mnt/f$((n-15)); done"
    )
}

/// Compares the last files before `done`. The very last removals may have been on their way.
fn compare(done: u64) -> String {
    format!(
        "n={}; while [ $n -lt {done} ]; do n=$((n+1));
            [ \"$(seq $n $((n+400)) | sha256sum)\" = \"$(sha256sum < /mnt/f$n)\" ] || echo lost $n;
        done",
        done.saturating_sub(8)
    )
}

/// The number behind the last "done".
fn last_done(text: &str) -> u64 {
    let done = text.lines().filter_map(|line| line.strip_prefix("done "));
    done.filter_map(|number| number.trim().parse().ok()).next_back().unwrap_or(0)
}

fn cut(format: Format, rounds: u64) {
    let dir = tempdir().expect("directory");
    let disk = dir.path().join("disk.img");
    for round in 0..rounds {
        format.make(&disk);
        let script = format!("mount /dev/vda /mnt && {}", workload("100000"));
        let mut child = exec("kvm", &script, &["--disk", arg(&disk)]).spawn();
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (mut text, wanted) = (String::new(), 2 + chance(30));
        while last_done(&text) < wanted {
            let line = lines.next().expect("the guest goes on").expect("text");
            text += &(line + "\n");
        }
        std::thread::sleep(Duration::from_micros(chance(40_000)));
        child.kill().expect("kill");
        child.wait().expect("wait");
        for line in lines {
            text += &(line.expect("text") + "\n");
        }
        let done = last_done(&text);
        // A copy for whoever wants to see what a failure looked like.
        let before = dir.path().join("before.img");
        fs::copy(&disk, &before).expect("copy");
        if format == Format::Fat {
            // Mends what FAT leaves: clusters without a file, the mark of disorder.
            let _ = std::process::Command::new("fsck.fat").args(["-a", arg(&disk)]).output();
        }
        let script = format!("mount /dev/vda /mnt && {}; umount /mnt; echo whole", compare(done));
        let output = exec("kvm", &script, &["--disk", arg(&disk)]).output();
        if output.out() != "whole\n" || output.status != 0 {
            let kept = std::env::temp_dir().join("xinim-power-cut.img");
            fs::copy(&before, &kept).expect("copy");
            panic!(
                "{format:?} round {round}: cut behind {done} (image: {}): {}{}",
                kept.display(),
                output.out(),
                output.err()
            );
        }
        format.check(&disk);
    }
}

/// Both engines carry the same guest: one of them, KVM's, is cut.
fn cuts(test: &str, format: Format, short: u64) {
    if engines(test).contains(&"kvm") {
        cut(format, rounds(short));
    }
}

#[test]
fn minix_1_survives_power_cuts() {
    cuts("minix_1_survives_power_cuts", Format::Minix1, 2);
}

#[test]
fn minix_3_survives_power_cuts() {
    cuts("minix_3_survives_power_cuts", Format::Minix3, 2);
}

#[test]
fn fat_survives_power_cuts() {
    cuts("fat_survives_power_cuts", Format::Fat, 2);
}

#[test]
fn ext4_survives_power_cuts() {
    cuts("ext4_survives_power_cuts", Format::Ext4, 2);
}

/// `victim` is killed again and again while the workload runs.
fn killed(test: &str, format: Format, victim: &str) {
    for engine in engines(test) {
        let dir = tempdir().expect("directory");
        let disk = dir.path().join("disk.img");
        format.make(&disk);
        let script = format!(
            "mount /dev/vda /mnt || exit 9
            (k=0; while [ ! -f /tmp/over ] && [ $k -lt 4 ]; do
                sleep 1; service kill {victim}; k=$((k+1)); echo $k > /tmp/kills
            done) 2>/dev/null &
            {}; touch /tmp/over; wait; {}; umount /mnt; echo whole after $(cat /tmp/kills)",
            workload("25"),
            compare(25)
        );
        let output = exec(engine, &script, &["--disk", arg(&disk)]).output().expect(0);
        let text = output.out();
        let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("done")).collect();
        let what = format!("{engine} {format:?} without {victim}: {text}{}", output.err());
        // Where a write or a sync met a dying server the shell says so, and goes on.
        let kills = kept.last().and_then(|line| line.strip_prefix("whole after "));
        let kills = kills.and_then(|number| number.parse::<u32>().ok()).expect(&what);
        assert!(kills >= 1, "{what}");
        // A sync that the server's death interrupts is repeated with the next instance, which knows
        // nothing of what the dead one had not written yet: one step of the workload per death.
        let lost = text.lines().filter(|line| line.starts_with("lost")).count() as u32;
        let allowed = if victim.starts_with("fs-") { kills } else { 0 };
        assert!(lost <= allowed, "{what}");
        format.check(&disk);
    }
}

#[test]
fn minix_survives_its_server() {
    killed("minix_survives_its_server", Format::Minix3, "fs-minix");
}

#[test]
fn minix_survives_the_driver() {
    killed("minix_survives_the_driver", Format::Minix3, "virtio-blk");
}
