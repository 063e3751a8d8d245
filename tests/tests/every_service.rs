//! Every service there is, killed in turn under load: nothing is lost without a word, nothing leaks.
//!
//! Who is killed is what `service list` says runs, so that a new service is among them without being
//! named here; but for those of [`SPARED`]. The load is on every file system, every block driver and the
//! network, processes come and go, and what the load says of itself is in
//! the file system in memory. Kernel objects, handles and frames are counted before and after.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tempfile::tempdir;
use xinim_tests::host::{arg, fat_image, fsck_fat, noise, tool};
use xinim_tests::machine::{engines, exec};
use xinim_tests::net::{serve, sha256};

/// Not declared survivable (docs/reliability.md): the machine ends with rs, this test's command with init.
const SPARED: [&str; 2] = ["rs", "init"];
/// Times that each is killed under load before the first count, and between the two.
const ROUNDS: [usize; 2] = [1, 1];
/// KiB that may be in use at one time and not at another: lines of the kernel's log, heaps of who has
/// worked a little longer.
const SLACK_KIB: i64 = 256;
/// Those that are not killed may have another piece of heap. Each service dies twice between the counts, so
/// that a leak shows as twice as many at least.
const SLACK_OBJECTS: i64 = 1;
const FILE: usize = 32 << 10;

/// A part of the load: its name, its command, the checksum it must come to.
fn loads(port: u16, sum: &str) -> Vec<(&'static str, String, String)> {
    let file = |name, command: String| (name, command, sum.to_owned());
    vec![
        file("fat", "workload copy /mnt/fat/src /mnt/fat/dst".into()),
        file("ext", "workload copy /mnt/ext/src /mnt/ext/dst".into()),
        file("minix", "workload copy /mnt/minix/src /mnt/minix/dst".into()),
        file("iso", format!("workload read /mnt/iso/src {FILE}")),
        file("fetch", format!("fetchload 10.0.2.2 {port} /src")),
        ("spawn", "workload spawn".into(), "right".into()),
    ]
}

/// What the guest runs: the load in the background, with its results in files of /tmp; rounds of kills; the
/// load ended, everybody killed once more in silence, counts. Nothing of it goes to the host before it is
/// over: who carries it is killed, too.
fn script(port: u16, sum: &str) -> String {
    let mut text = "
        mkdir /mnt/fat /mnt/ext /mnt/minix /mnt/iso
        mount /dev/vda /mnt/fat && mount /dev/sda /mnt/ext && mount /dev/vdb /mnt/minix &&
            mount /dev/vdc /mnt/iso || exit 9
        until ping -c 1 -W 1 10.0.2.2 > /dev/null; do true; done
        ls /proc > /dev/null; dmesg > /dev/null; service start tty
        for fs in fat ext minix; do cp /mnt/iso/src /mnt/$fs/src; done; sync
        names() { service list | while read name state rest; do
            if [ $state = running ]; then echo $name; fi; done; }
        each() { for name in $victims; do echo kill $name; echo wait $1; done | service batch; }
    "
    .to_owned();
    let spared = SPARED.map(|name| format!(" -e '^{name}$'")).concat();
    text += &format!("victims=$(names | grep -v{spared}); echo victims $victims\n");
    for rounds in ROUNDS {
        text += "ids=\n";
        for (name, command, _) in loads(port, sum) {
            text += &format!("{command} > /tmp/{name} < /dev/null & ids=\"$ids $!\"\n");
        }
        let round = "each 150\n".repeat(rounds);
        text += &format!("sleep 0.5\n{round}sleep 1; kill $ids; wait; each 30; sleep 0.5\n");
        for (name, ..) in loads(port, sum) {
            text += &format!("echo part {name}; cat /tmp/{name}; rm /tmp/{name}\n");
        }
        // A spare on its way has not all of its memory yet.
        text += "(echo settle; echo counts) | service batch\n";
    }
    text + "echo running $(names | wc -l)
        for fs in fat ext minix iso; do umount /mnt/$fs || exit 8; done; service alerts"
}

/// How a part's pieces of work ended.
#[derive(Debug, Default)]
struct Tally {
    right: u32,
    wrong: u32,
    told: u32,
}

/// Adds up the lines of a part: `copy 12034 0 SUM`, or an error in the place of the 0.
fn tally<'a>(lines: impl Iterator<Item = &'a str>, sum: &str) -> Tally {
    let mut tally = Tally::default();
    for line in lines {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            [_, _, "0", got] if got == sum => tally.right += 1,
            // Cut off by the kill that ended it.
            [_] | [_, _] | [_, _, "0"] => {}
            [_, _, "0", ..] => tally.wrong += 1,
            _ => tally.told += 1,
        }
    }
    tally
}

/// The disks: FAT, ext4 on AHCI, MINIX, ISO 9660 with the file.
fn disks(dir: &Path, file: &[u8]) -> [String; 4] {
    let [fat, ext, minix, iso] =
        ["fat.img", "ext.img", "minix.img", "iso.img"].map(|name| dir.join(name));
    fat_image(&fat, 16 << 20, 16);
    for (image, mkfs, args) in
        [(&ext, "mke2fs", &["-q", "-F", "-t", "ext4"][..]), (&minix, "mkfs.minix", &["-3"])]
    {
        fs::File::create(image).and_then(|file| file.set_len(16 << 20)).expect("image");
        tool(mkfs, &[args, &[arg(image)]].concat());
    }
    let tree = dir.join("tree");
    fs::create_dir(&tree).and_then(|()| fs::write(tree.join("src"), file)).expect("a file");
    tool("xorriso", &["-as", "mkisofs", "-quiet", "-R", "-o", arg(&iso), arg(&tree)]);
    [
        arg(&fat).to_owned(),
        format!("{},bus=ahci", arg(&ext)),
        arg(&minix).to_owned(),
        format!("{},ro", arg(&iso)),
    ]
}

/// `counts NAME=N ...`
fn counts(line: &str) -> Vec<(&str, i64)> {
    let pairs = line.split_whitespace().skip(1).filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name, value.parse().expect("a number"))).collect()
}

#[test]
fn every_service_is_killed_in_turn_and_nothing_is_lost_or_leaks() {
    let file = noise(11, FILE);
    let sum = sha256(&file);
    let port = serve(file.clone(), Duration::ZERO);
    for engine in engines("every service killed in turn") {
        let dir = tempdir().expect("directory");
        let disks = disks(dir.path(), &file);
        // Plenty, so that what is left of it does not decide what spares make ahead.
        let mut args = vec!["--net", "user,model=virtio,host-loopback", "--memory", "256M"];
        args.extend(disks.iter().flat_map(|disk| ["--disk", disk]));
        let output = exec(engine, &script(port, &sum), &args).output();
        let text = output.out();
        let all = format!("{engine}: {text}{}", output.err());
        assert_eq!((output.status, output.err().as_str()), (0, ""), "{all}");
        let victims: Vec<&str> = text
            .lines()
            .find_map(|line| line.strip_prefix("victims "))
            .map(|names| names.split_whitespace().collect())
            .expect("names of services");
        for name in [
            "vfs",
            "pm",
            "pci",
            "ramfs",
            "devfs",
            "procfs",
            "log",
            "tty",
            "net",
            "virtio-blk",
            "virtio-blk.1",
            "ahci",
            "virtio-net",
            "virtio-console",
            "fs-fat",
            "fs-ext",
            "fs-minix",
            "fs-iso",
        ] {
            assert!(victims.contains(&name), "{name} does not run\n{all}");
        }
        // Everybody runs again, and nobody had to be told of a failure.
        let running = format!("running {}", victims.len() + SPARED.len());
        assert!(text.lines().any(|line| line == running), "{running} is not so\n{all}");
        assert!(text.ends_with("TIME  ALERT\n"), "{all}");
        let parts: Vec<&str> = text.split("part ").skip(1).collect();
        let expected = loads(port, &sum);
        assert_eq!(parts.len(), ROUNDS.len() * expected.len(), "{all}");
        for (part, (name, _, sum)) in parts.iter().zip(expected.iter().cycle()) {
            let lines = part.lines().skip(1).take_while(|line| !line.starts_with("counts "));
            let Tally { right, wrong, told } = tally(lines, sum);
            println!("{engine} {name}: {right} right, {told} told of an error");
            assert_eq!(wrong, 0, "{name}: a result was wrong\n{all}");
            assert_ne!(right, 0, "{name}: nothing was done\n{all}");
            assert_eq!(told, 0, "{name}: some were told of an error\n{all}");
        }
        let counted: Vec<_> =
            text.lines().filter(|line| line.starts_with("counts ")).map(counts).collect();
        let [before, after] = &counted[..] else { panic!("{all}") };
        assert!(before.len() >= 10, "{all}");
        for (&(name, before), &(_, after)) in before.iter().zip(after) {
            let most = match name {
                "memory_objects" => SLACK_OBJECTS,
                _ if name.ends_with("_kib") => SLACK_KIB,
                _ => 0,
            };
            assert!(
                (after - before).abs() <= most,
                "{name}: {before} before, {after} after\n{all}"
            );
        }
        fsck_fat(&dir.path().join("fat.img"));
        tool("e2fsck", &["-f", "-n", arg(&dir.path().join("ext.img"))]);
    }
}
