//! MINIX volumes between host and guest: what the host's mkfs makes the guest writes, fsck.minix is
//! content, an independent reader finds the same bytes; and the other way round.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tempfile::tempdir;
use xinim_tests::host::{arg, noise, tool};
use xinim_tests::machine::{engines, exec};

/// The reader and writer that knows nothing of our code.
const SCRIPT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../guest-servers/fs-minix/tests/minix_image.py");

/// An empty image of `len` bytes with what mkfs.minix makes of `options`.
fn image(path: &Path, len: u64, options: &[&str]) {
    fs::File::create(path).and_then(|file| file.set_len(len)).expect("image");
    tool("mkfs.minix", &[options, &[arg(path)]].concat());
}

#[track_caller]
fn fsck(path: &Path) {
    let text = tool("fsck.minix", &["-f", "-s", arg(path)]);
    for word in ["Warning", "ad ", "used", "Clear"] {
        assert!(!text.contains(word), "{text}");
    }
}

/// sha256sum's lines of the files below `dir`, by path.
fn sums(dir: &Path, mount: &str) -> BTreeMap<String, String> {
    let script = format!("cd {} && find . -type f -exec sha256sum {{}} +", arg(dir));
    parse(&tool("sh", &["-c", &script]).replace("  ./", &format!("  {mount}/")))
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let lines = text.lines().filter_map(|line| line.split_once("  "));
    lines.map(|(sum, path)| (path.to_owned(), sum.to_owned())).collect()
}

#[test]
fn what_the_guest_writes_the_host_reads() {
    for engine in engines("what_the_guest_writes_the_host_reads") {
        for options in [&["-1"][..], &["-2"], &["-3"]] {
            let dir = tempdir().expect("directory");
            let (disk, back) = (dir.path().join("disk.img"), dir.path().join("back"));
            image(&disk, 24 << 20, options);
            let script = "mount /dev/vda /mnt && fstest -s 5 -n 400 /mnt &&
                cp -r /etc /mnt/etc && cp /bin/tools /mnt/tools && rm /mnt/tools &&
                dd if=/bin/sh of=/mnt/sh bs=3000 2>/dev/null && mkdir /mnt/d && mv /mnt/etc /mnt/d &&
                ln -s d/etc /mnt/link && ln /mnt/sh /mnt/sh2 && seq 3000 > /mnt/seq &&
                sha256sum /mnt/sh /mnt/seq /mnt/d/etc/services/* && umount /mnt";
            let output = exec(engine, script, &["--disk", arg(&disk)]).output().expect(0);
            assert_eq!(output.err(), "", "{engine} {options:?}");
            let text = output.out();
            assert!(text.contains("400 operations as they should be"), "{engine}: {text}");
            fsck(&disk);
            tool("python3", &[SCRIPT, "read", arg(&disk), arg(&back)]);
            let (ours, theirs) = (parse(&text), sums(&back, "/mnt"));
            assert!(ours.len() > 8, "{text}");
            for (path, sum) in &ours {
                assert_eq!(theirs.get(path), Some(sum), "{engine} {options:?} {path}");
            }
            assert_eq!(theirs.get("/mnt/sh2"), ours.get("/mnt/sh"));
            let link = fs::read_link(back.join("link")).expect("link");
            assert_eq!(link, Path::new("d/etc"));
        }
    }
}

#[test]
fn what_the_host_writes_the_guest_reads() {
    let dir = tempdir().expect("directory");
    let tree = dir.path().join("tree");
    for (seed, len) in [0, 1, 1023, 70_000, 1_500_000].into_iter().enumerate() {
        let path = tree.join(format!("dir{}/file{len}", seed % 2));
        fs::create_dir_all(path.parent().expect("parent")).expect("directories");
        fs::write(path, noise(seed as u64, len)).expect("file");
    }
    let expected = sums(&tree, "/mnt");
    for options in [["-1"], ["-2"], ["-3"]] {
        let disk = dir.path().join("disk.img");
        image(&disk, 4 << 20, &options);
        tool("python3", &[SCRIPT, "write", arg(&disk), arg(&tree)]);
        fsck(&disk);
        for engine in engines("what_the_host_writes_the_guest_reads") {
            let script = "mount -t minix /dev/vda /mnt && sha256sum /mnt/dir0/* /mnt/dir1/*";
            let read_only = format!("{},ro", arg(&disk));
            let output = exec(engine, script, &["--disk", &read_only]).output().expect(0);
            assert_eq!(parse(&output.out()), expected, "{engine} {options:?}");
        }
    }
}

#[test]
fn the_guests_own_mkfs_and_fsck() {
    for engine in engines("the_guests_own_mkfs_and_fsck") {
        for options in ["-1", "-3 -B 4096", "-3"] {
            let dir = tempdir().expect("directory");
            let disk = dir.path().join("disk.img");
            fs::File::create(&disk).and_then(|file| file.set_len(8 << 20)).expect("image");
            let script = format!(
                "mkfs.minix {options} /dev/vda && fsck.minix -f /dev/vda && mount /dev/vda /mnt &&
                mkfs.minix /dev/vda; echo busy $?; seq 1000 > /mnt/seq; umount /mnt; fsck.minix -f /dev/vda; \
                echo clean $?"
            );
            let output = exec(engine, &script, &["--disk", arg(&disk)]).output().expect(0);
            let text = output.out();
            assert!(text.contains("busy 8") && text.ends_with("clean 0\n"), "{engine}: {text}");
            assert!(output.err().contains("is mounted"), "{engine}: {}", output.err());
            if !options.contains("4096") {
                fsck(&disk); // it knows blocks of 1024 bytes only
            }
        }
    }
}
