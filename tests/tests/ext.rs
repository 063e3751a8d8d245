//! ext2, ext3 and ext4 between host and guest: what one writes the other reads, e2fsck is content,
//! and a guest that dies loses nothing that it had made durable.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;

use tempfile::tempdir;
use xinim_tests::host::{arg, noise, tool};
use xinim_tests::machine::{engines, exec};

/// Feature sets: mke2fs's arguments.
const VARIANTS: [(&str, &[&str]); 3] = [
    ("ext2", &["-t", "ext2", "-b", "1024"]),
    ("ext3", &["-t", "ext3", "-b", "4096"]),
    (
        "ext4",
        &[
            "-t",
            "ext4",
            "-O",
            "has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize",
        ],
    ),
];

/// Name and length of the files exchanged.
const FILES: [(&str, usize); 5] = [
    ("empty", 0),
    ("one", 1),
    ("A long name, with spaces and ümläuts.tar.gz", 70_000),
    ("dir/inner.bin", 4096),
    ("dir/deeper/still/big", 4 << 20),
];

fn tree(at: &Path) {
    for (seed, (name, len)) in FILES.iter().enumerate() {
        let path = at.join(name);
        fs::create_dir_all(path.parent().expect("parent")).expect("directories");
        fs::write(path, noise(seed as u64, *len)).expect("file");
    }
}

#[track_caller]
fn compare(at: &Path, what: &str) {
    for (seed, (name, len)) in FILES.iter().enumerate() {
        let found =
            fs::read(at.join(name)).unwrap_or_else(|error| panic!("{what} {name}: {error}"));
        assert!(found == noise(seed as u64, *len), "{what}: content of {name}");
    }
}

fn image(path: &Path, mib: u64, args: &[&str]) {
    fs::File::create(path).and_then(|file| file.set_len(mib << 20)).expect("image");
    tool("mke2fs", &[&["-q", "-F"], args, &[arg(path)]].concat());
}

/// e2fsck finds nothing to mend.
#[track_caller]
fn sound(path: &Path) {
    tool("e2fsck", &["-fn", arg(path)]);
}

#[test]
fn trees_pass_in_both_directions() {
    let dir = tempdir().expect("directory");
    let host_tree = dir.path().join("tree");
    tree(&host_tree);
    for engine in engines("trees_pass_in_both_directions") {
        for (name, args) in VARIANTS {
            let what = format!("{engine}, {name}");
            let (source, target) = (dir.path().join("source.img"), dir.path().join("target.img"));
            image(&source, 48, &[args, &["-d", arg(&host_tree)]].concat());
            image(&target, 48, args);
            // Files are overwritten, moved and removed, a directory grows beyond one block.
            let script = "mkdir /mnt/a /mnt/b && mount /dev/vda /mnt/a && mount /dev/vdb /mnt/b &&
                dd if=/dev/zero of=/mnt/b/scratch bs=4096 count=300 2>/dev/null &&
                cp -r /mnt/a/* /mnt/b/ && rm /mnt/b/scratch &&
                mkdir /mnt/b/other && mv /mnt/b/dir /mnt/b/other/dir && mv /mnt/b/other/dir /mnt/b/dir &&
                for n in $(seq 150); do echo $n > /mnt/b/other/number-$n-with-a-longer-name; done &&
                for n in $(seq 1 2 150); do rm /mnt/b/other/number-$n-with-a-longer-name; done &&
                ls /mnt/b/other | wc -l && cat /mnt/b/other/number-150-with-a-longer-name &&
                ln -s dir/inner.bin /mnt/b/link && cat /mnt/b/link > /mnt/b/copy &&
                ln /mnt/b/one /mnt/b/second && chmod 640 /mnt/b/one && stat /mnt/b/one | grep -c 0640 &&
                cp /mnt/b/one /mnt/b/empty && cp /mnt/a/empty /mnt/b/empty &&
                umount /mnt/b && umount /mnt/a && fsck.ext4 -f -n /dev/vdb >/dev/null && echo sound";
            let read_only = format!("{},ro", arg(&source));
            let output =
                exec(engine, script, &["--disk", &read_only, "--disk", arg(&target)]).output();
            let output = output.expect(0);
            assert_eq!(output.out().replace(' ', ""), "75\n150\n1\nsound\n", "{what}");
            assert_eq!(output.err(), "", "{what}");
            sound(&target);
            let copied = dir.path().join(format!("copied-{engine}-{name}"));
            fs::create_dir(&copied).expect("directory");
            tool("debugfs", &["-R", &format!("rdump / {}", arg(&copied)), arg(&target)]);
            compare(&copied, &what);
            assert_eq!(fs::read(copied.join("copy")).expect("copy"), noise(3, 4096), "{what}");
            assert_eq!(
                fs::read_link(copied.join("link")).expect("link"),
                Path::new("dir/inner.bin")
            );
        }
    }
}

#[test]
fn the_guest_makes_checks_and_uses_its_own() {
    for engine in engines("the_guest_makes_checks_and_uses_its_own") {
        let dir = tempdir().expect("directory");
        let path = dir.path().join("image");
        fs::File::create(&path).and_then(|file| file.set_len(24 << 20)).expect("image");
        let script = "mkfs.ext4 -b 2k -L made-here /dev/vda >/dev/null && fsck.ext4 -f /dev/vda >/dev/null &&
            mount /dev/vda /mnt && mount | grep /dev/vda | cut -d ' ' -f 3;
            fsck.ext4 -p /dev/vda 2>/dev/null; echo $? &&
            mkdir /mnt/d && fstest -s 5 -n 300 /mnt/d >/dev/null && echo hello > /mnt/file && umount /mnt &&
            fsck.ext4 -f /dev/vda >/dev/null && mount -t ext4 /dev/vda /mnt && cat /mnt/file";
        // `cut` is no tool of the guest.
        let script = script.replace(" | cut -d ' ' -f 3", " | wc -l");
        let output = exec(engine, &script, &["--disk", arg(&path)]).output().expect(0);
        assert_eq!(output.out().replace(' ', ""), "1\n8\nhello\n", "{engine}: {}", output.err());
        sound(&path);
        assert_eq!(tool("e2label", &[arg(&path)]).trim(), "made-here");
    }
}

#[test]
fn what_was_synced_survives_the_machine() {
    for engine in engines("what_was_synced_survives_the_machine") {
        for (name, args) in &VARIANTS[1..] {
            let dir = tempdir().expect("directory");
            let path = dir.path().join("image");
            image(&path, 24, args);
            let script =
                "mount /dev/vda /mnt && mkdir /mnt/kept && seq 20000 > /mnt/kept/numbers && sync &&
                echo synced && while true; do seq 100 > /mnt/later; rm /mnt/later; done";
            let mut machine = exec(engine, script, &["--disk", arg(&path)]).spawn();
            let mut said = String::new();
            let mut output = BufReader::new(machine.stdout.take().expect("piped"));
            output.read_line(&mut said).expect("readable");
            machine.kill().expect("killed");
            machine.wait().expect("ended");
            let what = format!("{engine}, {name}");
            assert_eq!(said.trim(), "synced", "{what}");
            // First the host's replay, of a copy.
            let copy = dir.path().join("copy");
            fs::copy(&path, &copy).expect("copy");
            let status = std::process::Command::new("e2fsck")
                .args(["-p", arg(&copy)])
                .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
                .output()
                .expect("e2fsck")
                .status;
            assert!(matches!(status.code(), Some(0 | 1)), "{what} {status}");
            sound(&copy);
            let script = "mount /dev/vda /mnt && wc -l /mnt/kept/numbers && umount /mnt";
            let output = exec(engine, script, &["--disk", arg(&path)]).output().expect(0);
            assert!(output.out().contains("20000"), "{what} {}", output.out());
            sound(&path);
        }
    }
}

#[test]
fn what_was_synced_survives_the_server() {
    for engine in engines("what_was_synced_survives_the_server") {
        for (name, args) in &VARIANTS[1..] {
            let dir = tempdir().expect("directory");
            let path = dir.path().join("image");
            image(&path, 24, args);
            let script = "mount /dev/vda /mnt || exit 9
                for n in 1 2 3 4; do
                    seq 3000 > /mnt/kept-$n; mkdir /mnt/dir-$n; sync; seq 100 > /mnt/perhaps-$n
                    service kill fs-ext || exit 8
                    cat /mnt/kept-$n | wc -l; ls -d /mnt/dir-$n
                done
                umount /mnt && fsck.ext4 -f /dev/vda > /dev/null && echo sound";
            let output = exec(engine, script, &["--disk", arg(&path)]).output().expect(0);
            let expected: String = (1..=4).map(|n| format!("3000\n/mnt/dir-{n}\n")).collect();
            let what = format!("{engine}, {name}: {}", output.err());
            assert_eq!(output.out().replace(' ', ""), expected + "sound\n", "{what}");
            sound(&path);
        }
    }
}
