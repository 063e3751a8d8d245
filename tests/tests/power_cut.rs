//! The power fails, the file-system server dies, the disk driver dies: what was synced before is
//! there afterwards, and the volume is whole.
//!
//! ```text
//! guest: mounts (repair, journal replay), compares what was done before, unmounts, "whole"
//! host:  fsck has nothing to say; "go"
//! guest: fsdurable: write, fsync, rename, fsync, "done n" ──┐ SIGKILL at a random instant
//! host:  reads how far it came ─────────────────────────────┘ and so on, on the same volume
//! ```
//! Mostly on our own engine, sometimes on QEMU, which then is the VMM that dies.
//! A few rounds by default. `XINIM_CUTS=1000` cuts that often over all formats and both buses,
//! `XINIM_KILLS=1000` kills that often over all formats and victims; `XINIM_SEED` repeats the choices of a
//! run (not the instants, which are the machine's), `XINIM_FORMAT=Fat32` keeps to one format. With
//! `--nocapture` each round is told.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::tempdir;
use xinim_tests::host::{arg, fat_image, fsck_fat, tool};
use xinim_tests::machine::{engines, exec};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    Minix1,
    Minix2,
    Minix3,
    Fat12,
    Fat16,
    Fat32,
    Ext2,
    Ext3,
    Ext4,
}

const FORMATS: [Format; 9] = [
    Format::Ext4,
    Format::Minix3,
    Format::Fat32,
    Format::Ext3,
    Format::Minix1,
    Format::Fat16,
    Format::Ext2,
    Format::Minix2,
    Format::Fat12,
];

impl Format {
    fn make(self, path: &Path) {
        let megabytes = if self == Format::Fat32 { 36 } else { 12 };
        let _ = fs::remove_file(path);
        let len = megabytes << 20;
        fs::File::create(path).and_then(|file| file.set_len(len)).expect("image");
        let make = |program, options: &[&str]| {
            tool(program, &[options, &[arg(path)]].concat());
        };
        match self {
            Format::Minix1 => make("mkfs.minix", &["-1"]),
            Format::Minix2 => make("mkfs.minix", &["-2"]),
            Format::Minix3 => make("mkfs.minix", &["-3"]),
            Format::Fat12 => fat_image(path, len, 12),
            Format::Fat16 => fat_image(path, len, 16),
            Format::Fat32 => fat_image(path, len, 32),
            Format::Ext2 => make("mkfs.ext2", &["-q", "-F"]),
            Format::Ext3 => make("mkfs.ext3", &["-q", "-F"]),
            Format::Ext4 => make("mkfs.ext4", &["-q", "-F"]),
        }
    }

    /// The service that serves it.
    fn server(self) -> &'static str {
        match self {
            Format::Minix1 | Format::Minix2 | Format::Minix3 => "fs-minix",
            Format::Fat12 | Format::Fat16 | Format::Fat32 => "fs-fat",
            Format::Ext2 | Format::Ext3 | Format::Ext4 => "fs-ext",
        }
    }

    /// Nothing is wrong with the volume.
    fn check(self, path: &Path) {
        match self.server() {
            "fs-minix" => {
                let text = tool("fsck.minix", &["-f", "-s", arg(path)]);
                for word in ["Warning", "ad ", "used", "Clear"] {
                    assert!(!text.contains(word), "{self:?}: {text}");
                }
            }
            "fs-fat" => fsck_fat(path),
            _ => drop(tool("e2fsck", &["-f", "-n", arg(path)])),
        }
    }

    /// What its user has to do after a power cut, because a mount does not.
    fn mend(self, path: &Path) {
        if self == Format::Ext2 {
            // Status 1: mended.
            let _ = std::process::Command::new("e2fsck").args(["-f", "-y", arg(path)]).output();
        }
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect(variable))
}

/// Choices from a seed.
struct Chance(u64);

impl Chance {
    /// From `XINIM_SEED`, or different from run to run: where a cut falls is to be found out over
    /// time.
    fn new() -> Self {
        use std::hash::{BuildHasher, Hasher};
        let fresh = || std::collections::hash_map::RandomState::new().build_hasher().finish();
        let seed = number("XINIM_SEED").unwrap_or_else(fresh);
        println!("XINIM_SEED={seed}");
        Self(seed | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16) % bound
    }
}

/// The device and the argument for `--disk`.
fn bus(ahci: bool, disk: &Path) -> (&'static str, String) {
    match ahci {
        true => ("/dev/sda", format!("{},bus=ahci", arg(disk))),
        false => ("/dev/vda", arg(disk).to_owned()),
    }
}

/// The number behind the last "done".
fn last_done(text: &str) -> Option<u64> {
    let done = text.lines().filter_map(|line| line.strip_prefix("done "));
    done.filter_map(|number| number.trim().parse().ok()).next_back()
}

/// Processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("threads");
    let listed = threads.filter_map(|thread| {
        fs::read_to_string(thread.expect("thread").path().join("children")).ok()
    });
    listed
        .flat_map(|text| text.split(' ').filter_map(|n| n.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// A volume that loses its power again and again.
struct Victim {
    format: Format,
    disk: PathBuf,
    /// The step that was known to be done.
    done: u64,
}

impl Victim {
    fn new(format: Format, dir: &Path) -> Self {
        let disk = dir.join(format!("{format:?}.img"));
        format.make(&disk);
        Self { format, disk, done: 0 }
    }

    /// Checks what the last cut left, works on, and is cut.
    fn round(&mut self, engine: &str, ahci: bool, chance: &mut Chance) {
        let Self { format, done, .. } = *self;
        // A copy for whoever wants to see what a failure looked like.
        let before = self.disk.with_extension("before");
        fs::copy(&self.disk, &before).expect("copy");
        format.mend(&self.disk);
        let (device, disk) = bus(ahci, &self.disk);
        let steps: String = (done.saturating_sub(8)..done).map(|n| format!(" {}", n + 1)).collect();
        let script = format!(
            "mount {device} /mnt || {{ dmesg; service history; exit 9; }}
            fsdurable -c /mnt {steps} || exit 7
            umount /mnt || exit 8; echo whole; read go; mount {device} /mnt || exit 9
            fsdurable /mnt {done}"
        );
        let mut child = exec(engine, &script, &["--disk", &disk]).spawn();
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let said = lines.next().map(|line| line.expect("text")).unwrap_or_default();
        if said != "whole" {
            let kept = std::env::temp_dir().join(format!("xinim-power-cut-{format:?}.img"));
            fs::copy(&before, &kept).expect("copy");
            let more: Vec<String> = lines.map_while(Result::ok).collect();
            let output = child.wait_with_output().expect("output");
            panic!(
                "{engine} {format:?}, ahci: {ahci}, cut behind {done} (image: {}): {}: {said}\n{}\n{}",
                kept.display(),
                output.status,
                more.join("\n"),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        format.check(&self.disk);
        writeln!(child.stdin.as_mut().expect("piped"), "go").expect("the guest listens");
        let mut text = String::new();
        let wanted = done + 1 + chance.below(20);
        while last_done(&text).unwrap_or(done) < wanted {
            let Some(line) = lines.next() else {
                let output = child.wait_with_output().expect("output");
                let err = String::from_utf8_lossy(&output.stderr);
                panic!("{engine} {format:?}, ahci: {ahci}: {}: {text}{err}", output.status);
            };
            text += &(line.expect("text") + "\n");
        }
        std::thread::sleep(Duration::from_micros(chance.below(40_000)));
        // QEMU dies with its parent, but a moment later: until then it still writes.
        let engines = children(child.id());
        child.kill().expect("kill");
        child.wait().expect("wait");
        for engine in engines {
            while fs::read_link(format!("/proc/{engine}/exe")).is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        for line in lines {
            text += &(line.expect("text") + "\n");
        }
        self.done = last_done(&text).unwrap_or(done);
        println!("{engine} {format:?} ahci: {ahci} cut behind {}", self.done);
    }
}

/// Cuts, and looks at what the last one left as well.
fn cuts(test: &str, formats: &[Format], count: u64) {
    let engines = engines(test);
    let (dir, mut chance) = (tempdir().expect("directory"), Chance::new());
    let mut victims: Vec<_> = formats.iter().map(|&f| Victim::new(f, dir.path())).collect();
    for round in 0..count + formats.len() as u64 {
        let victim = &mut victims[round as usize % formats.len()];
        // The first is KVM where there is one.
        let engine = if chance.below(3) > 0 { engines[0] } else { engines[engines.len() - 1] };
        victim.round(engine, chance.below(3) == 0, &mut chance);
    }
    println!("{count} cuts survived");
}

#[test]
fn what_was_synced_survives_power_cuts() {
    let count = number("XINIM_CUTS").unwrap_or(6);
    let mut formats = if count < 20 { FORMATS[..3].to_vec() } else { FORMATS.to_vec() };
    if let Ok(wanted) = std::env::var("XINIM_FORMAT") {
        formats = FORMATS.into_iter().filter(|format| format!("{format:?}") == wanted).collect();
        assert!(!formats.is_empty(), "XINIM_FORMAT is one of {FORMATS:?}");
    }
    cuts("what_was_synced_survives_power_cuts", &formats, count);
}

/// `victim` is killed `count` times while the workload runs. Says how many steps were done.
fn killed(engine: &str, format: Format, ahci: bool, victim: &str, count: u64, chance: &mut Chance) {
    let dir = tempdir().expect("directory");
    let disk = dir.path().join("disk.img");
    format.make(&disk);
    let (device, option) = bus(ahci, &disk);
    let mut pauses = String::new();
    for _ in 0..count {
        pauses += &format!(" 0.{:03}", 50 + chance.below(600));
    }
    let script = format!(
        "mount {device} /mnt || exit 9
        (for t in {pauses}; do sleep $t; service kill {victim}; done; touch /tmp/over) 2>/dev/null &
        fsdurable -u /tmp/over /mnt > /tmp/log; wait; sync
        cat /tmp/log; fsdurable -n 3 /mnt 100000 || echo not again; fsdurable -c /mnt $(grep done /tmp/log | tail -n 8 | tr -d 'a-z ')
        umount /mnt; echo whole $?"
    );
    let output = exec(engine, &script, &["--disk", &option]).output().expect(0);
    let text = output.out();
    let what = format!("{engine} {format:?} ahci: {ahci} without {victim}: {text}{}", output.err());
    // It goes on after the last death.
    assert!(text.contains("done 100003\n"), "{what}");
    let last = text.lines().last().unwrap_or_default();
    assert_eq!(last, "whole 0", "{what}");
    assert!(!text.contains("lost"), "{what}");
    // Nobody's death costs anything.
    assert!(!text.lines().any(|line| line.starts_with("failed ")), "{what}");
    let done = text.lines().filter(|line| line.starts_with("done ")).count();
    format.check(&disk);
    println!("{engine} {format:?} ahci: {ahci}: {victim} killed {count} times, {done} steps done");
}

#[test]
fn what_was_synced_survives_servers_and_drivers() {
    let test = "what_was_synced_survives_servers_and_drivers";
    let mut chance = Chance::new();
    let Some(mut left) = number("XINIM_KILLS") else {
        for engine in engines(test) {
            killed(engine, Format::Minix3, false, "fs-minix", 4, &mut chance);
            killed(engine, Format::Ext4, true, "fs-ext", 4, &mut chance);
            killed(engine, Format::Fat32, false, "virtio-blk", 4, &mut chance);
        }
        return;
    };
    let all = engines(test);
    for round in 0.. {
        let format = FORMATS[round % FORMATS.len()];
        let ahci = chance.below(2) == 0;
        let driver = if ahci { "ahci" } else { "virtio-blk" };
        let victim = if round % 2 == 0 { format.server() } else { driver };
        let engine = all[round / 2 % all.len()];
        // Each death costs more where ring 0 is emulated, and one machine has its time-out.
        let count = left.min(if engine == "kvm" { 6 } else { 20 });
        killed(engine, format, ahci, victim, count, &mut chance);
        left -= count;
        if left == 0 {
            return;
        }
    }
}
