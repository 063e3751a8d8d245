//! FAT volumes between host and guest: what one writes the other reads, and fsck.fat is content.

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::tempdir;
use xinim_tests::host::{arg, fat_image, fsck_fat, noise, tool};
use xinim_tests::machine::{engines, exec};

/// Name and length of the files exchanged; the last is larger than the server's cache.
const FILES: [(&str, usize); 6] = [
    ("empty", 0),
    ("one", 1),
    ("A long Name, with spaces and dots.tar.gz", 70_000),
    ("dir/inner.bin", 4096),
    ("dir/deeper/still/naïve ümläut.txt", 12_345),
    ("big.bin", 20 << 20),
];

fn tree(at: &Path) {
    for (seed, (name, len)) in FILES.iter().enumerate() {
        let path = at.join(name);
        fs::create_dir_all(path.parent().expect("parent")).expect("directories");
        fs::write(path, noise(seed as u64, *len)).expect("file");
    }
}

/// The files at the top of a volume come out as they should.
#[track_caller]
fn compare(at: &Path) {
    for (seed, (name, len)) in FILES.iter().enumerate() {
        let found = fs::read(at.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(found.len(), *len, "length of {name}");
        assert!(found == noise(seed as u64, *len), "content of {name}");
    }
}

#[test]
fn what_the_guest_writes_the_host_reads() {
    for engine in engines("what_the_guest_writes_the_host_reads") {
        for width in [16, 32] {
            let dir = tempdir().expect("directory");
            let (source, image) = (dir.path().join("source.img"), dir.path().join("target.img"));
            let host_tree = dir.path().join("tree");
            tree(&host_tree);
            fat_image(&source, 64 << 20, 32);
            fat_image(&image, 64 << 20, width);
            for entry in fs::read_dir(&host_tree).expect("tree") {
                let path = entry.expect("entry").path();
                tool("mcopy", &["-s", "-i", arg(&source), arg(&path), "::/"]);
            }
            // A file is overwritten, one moved, one removed while others are new: not only fresh
            // allocation.
            let script = "mkdir /mnt/a /mnt/b && mount /dev/vda /mnt/a && mount /dev/vdb /mnt/b &&
                dd if=/dev/zero of=/mnt/b/scratch bs=4096 count=300 2>/dev/null &&
                cp -r /mnt/a/* /mnt/b/ && rm /mnt/b/scratch &&
                mkdir /mnt/b/other && mv /mnt/b/dir /mnt/b/other/dir && mv /mnt/b/other/dir /mnt/b/dir &&
                rmdir /mnt/b/other && cp /mnt/b/one /mnt/b/empty && cp /mnt/a/empty /mnt/b/empty &&
                umount /mnt/b && umount /mnt/a";
            let read_only = format!("{},ro", arg(&source));
            let output =
                exec(engine, script, &["--disk", &read_only, "--disk", arg(&image)]).output();
            let output = output.expect(0);
            assert_eq!((output.out(), output.err()), Default::default(), "{engine}");
            fsck_fat(&image);
            let copied = dir.path().join("copied");
            fs::create_dir(&copied).expect("directory");
            tool("mcopy", &["-s", "-n", "-i", arg(&image), "::/*", arg(&copied)]);
            compare(&copied);
        }
    }
}

#[test]
fn what_the_host_writes_the_guest_reads() {
    let dir = tempdir().expect("directory");
    let host_tree = dir.path().join("tree");
    tree(&host_tree);
    for width in [12, 16, 32] {
        let image = dir.path().join(format!("fat{width}.img"));
        // 12-bit FATs hold no 20 MiB file in small clusters; mkfs.fat chooses 16 KiB ones.
        fat_image(&image, 48 << 20, width);
        for entry in fs::read_dir(&host_tree).expect("tree") {
            let path = entry.expect("entry").path();
            tool("mcopy", &["-s", "-i", arg(&image), arg(&path), "::/"]);
        }
        for engine in engines("what_the_host_writes_the_guest_reads") {
            let mut script = "mount -t fat /dev/vda /mnt".to_owned();
            let mut expected = String::new();
            for (name, _) in FILES {
                script += &format!(" && sha256sum '/mnt/{name}'");
                let line = tool("sha256sum", &[arg(&host_tree.join(name))]);
                let sum = line.split_once(' ').expect("sum and name").0.to_owned();
                expected += &format!("{sum}  /mnt/{name}\n");
            }
            let disk = format!("{},ro", arg(&image));
            let output = exec(engine, &script, &["--disk", &disk]).output().expect(0);
            assert_eq!(output.out(), expected, "{engine}, FAT{width}");
        }
    }
}

#[test]
fn partitions_have_numbers() {
    let dir = tempdir().expect("directory");
    let (image, volume) = (dir.path().join("disk.img"), dir.path().join("volume.img"));
    fat_image(&volume, 9 << 20, 16);
    fs::write(dir.path().join("hello"), "from a partition\n").expect("file");
    tool("mcopy", &["-i", arg(&volume), arg(&dir.path().join("hello")), "::/"]);
    for label in ["dos", "gpt"] {
        let table = format!("label: {label}\nstart=2048, size=2048\nstart=8192, size=18432\n");
        fs::write(&image, vec![0; 20 << 20]).expect("image");
        fs::write(dir.path().join("table"), table).expect("table");
        let table = arg(&dir.path().join("table")).to_owned();
        tool("sh", &["-c", &format!("sfdisk -q {} < {table}", arg(&image))]);
        let mut disk = fs::read(&image).expect("image");
        disk[8192 * 512..][..9 << 20].copy_from_slice(&fs::read(&volume).expect("volume"));
        fs::write(&image, disk).expect("image");
        for engine in engines("partitions_have_numbers") {
            let script =
                "ls /dev | grep vda; mount /dev/vda2 /mnt && cat /mnt/hello; mount /dev/vda1 /mnt";
            let output = exec(engine, script, &["--disk", arg(&image)]).output();
            assert_eq!(output.out(), "vda\nvda1\nvda2\nfrom a partition\n", "{engine} {label}");
            assert_ne!(output.status, 0, "there is no file system in vda1");
            assert!(output.err().starts_with("mount:"), "{}", output.err());
        }
    }
}

/// Long work on what is in memory does not look like a hang to RS: the check of a volume that was in
/// use, with a file of two million clusters.
#[test]
fn a_long_check_is_no_hang() {
    const CLUSTERS: u32 = 2_000_000;
    for engine in engines("a_long_check_is_no_hang") {
        let dir = tempdir().expect("directory");
        let image = dir.path().join("large.img");
        let file = fs::File::create(&image).expect("image");
        file.set_len(u64::from(CLUSTERS) * 512 + (32 << 20)).expect("length");
        tool("mkfs.fat", &["-F", "32", "-s", "1", "-f", "1", arg(&image)]);
        let mut boot = [0; 512];
        file_at(&image, |file| file.read_exact(&mut boot));
        let word = |at: usize| u32::from_le_bytes(boot[at..at + 4].try_into().expect("four"));
        let (fat, sectors) = (u64::from(word(14) & 0xFFFF) * 512, word(36));
        // Entry 1 says "in use"; 2 is the root, the file follows.
        let chain = (3..3 + CLUSTERS).map(|n| if n < 2 + CLUSTERS { n + 1 } else { 0x0FFF_FFFF });
        let entries = [0x0FFF_FFF8, 0x07FF_FFFF, 0x0FFF_FFFF].into_iter().chain(chain);
        let table: Vec<u8> = entries.flat_map(u32::to_le_bytes).collect();
        let mut slot = *b"LARGE   BIN\x20____________________";
        slot[12..].fill(0);
        slot[26] = 3;
        slot[28..32].copy_from_slice(&(CLUSTERS * 512).to_le_bytes());
        file_at(&image, |file| {
            file.seek(SeekFrom::Start(fat))?;
            file.write_all(&table)?;
            file.seek(SeekFrom::Start(fat + u64::from(sectors) * 512))?;
            file.write_all(&slot)
        });
        let script =
            "mount /dev/vda /mnt && stat -c %s /mnt/large.bin; service history | grep -c hung
            umount /mnt";
        let output = exec(engine, script, &["--disk", arg(&image)]).output().expect(0);
        assert_eq!(output.out(), format!("{}\n0\n", CLUSTERS * 512), "{engine}: {}", output.err());
        fsck_fat(&image);
    }
}

fn file_at(path: &Path, work: impl FnOnce(&mut fs::File) -> std::io::Result<()>) {
    let opened = fs::OpenOptions::new().read(true).write(true).open(path);
    opened.and_then(|mut file| work(&mut file)).expect("image");
}
