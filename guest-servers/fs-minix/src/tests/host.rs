//! Against the host: mkfs.minix makes what we write, fsck.minix judges it, an independent reader and
//! writer (`minix_image.py`) says what stands there.

use std::format;
use std::fs;
use std::path::Path;
use std::string::{String, ToString};
use std::vec;
use std::vec::Vec;

use tempfile::tempdir;
use xinim_abi::services::vfs::mode;
use xinim_fs_kit::{FileSystem, Ino, NewFile, conformance};
use xinim_fs_testing::{Image, Random, require, run};

use super::{DIR, FILE, abilities, assert_clean, formatted, kinds, mounted};
use crate::Version;
use crate::check::check;
use crate::format::Options;

fn arg(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// fsck.minix -f has nothing to say against the image.
#[track_caller]
fn fsck(image: &Image, what: &str) {
    let dir = tempdir().expect("directory");
    let path = dir.path().join("image");
    fs::write(&path, image.bytes()).expect("image");
    let (status, text) = run("fsck.minix", &["-f", "-s", arg(&path)]);
    // It prints the path, and the random name in it may be one of the words.
    let text = text.replace(arg(&path), "the image");
    assert_eq!(status, 0, "{what}: {text}");
    for word in ["Warning", "Bad", "bad", "used in", "not used", "Clear", "unused", "marked"] {
        assert!(!text.contains(word), "{what}: {text}");
    }
}

fn mkfs(options: &Options, len: usize) -> Image {
    let dir = tempdir().expect("directory");
    let path = dir.path().join("image");
    fs::write(&path, vec![0; len]).expect("image");
    let version = match options.version {
        Version::V1 => "-1",
        Version::V2 => "-2",
        Version::V3 => "-3",
    };
    let name_len = options.name_len.to_string();
    let mut args = vec![version];
    if options.version != Version::V3 {
        args.extend(["-n", &name_len]);
    }
    args.push(arg(&path));
    let (status, text) = run("mkfs.minix", &args);
    assert_eq!(status, 0, "{text}");
    Image::new(fs::read(&path).expect("image"))
}

/// Kinds that the host's mkfs makes.
fn host_kinds() -> Vec<Options> {
    kinds().into_iter().filter(|options| options.block == 1024).collect()
}

#[test]
fn what_mkfs_makes_we_write_and_fsck_accepts() {
    if !require("minix_mkfs", &["mkfs.minix", "fsck.minix"]) {
        return;
    }
    for options in host_kinds() {
        for seed in 0..3 {
            let image = mkfs(&options, 5 << 20);
            assert_clean(&image);
            let (mut fs, root) = mounted(&image);
            conformance::model::exercise(&mut fs, root, &abilities(&options), seed, 150);
            special_files(&mut fs, root);
            fs.unmount().expect("unmount");
            assert_clean(&image);
            fsck(&image, &format!("{options:?} {seed}"));
        }
    }
}

fn special_files(fs: &mut super::Minix<Image>, root: Ino) {
    let device = |kind| NewFile { rdev: 8 << 16 | 17, ..NewFile::new(kind | 0o600) };
    fs.create(root, b"fifo", &NewFile::new(mode::FIFO | 0o644)).expect("fifo");
    fs.create(root, b"blk", &device(mode::BLOCK)).expect("block device");
    let made = fs.create(root, b"chr", &device(mode::CHARACTER)).expect("character device");
    assert_eq!(made.rdev, 8 << 16 | 17);
    let link = NewFile::link(mode::SYMLINK | 0o777, b"somewhere/else");
    fs.create(root, b"sym", &link).expect("symbolic link");
}

#[test]
fn what_our_mkfs_makes_fsck_accepts() {
    if !require("minix_format", &["fsck.minix"]) {
        return;
    }
    for options in host_kinds() {
        for len in [100 << 10, 360 << 10, (1 << 20) + 5000, 9 << 20, 70 << 20] {
            let image = formatted(&options, len);
            assert_clean(&image);
            fsck(&image, &format!("{options:?} {len}"));
        }
    }
}

/// A tree with what is likely to go wrong: sizes at the edges of blocks and of indirection.
fn fill(dir: &Path, options: &Options, random: &mut Random) {
    let block = options.block;
    let sizes = [0, 1, block - 1, block, block + 1, 7 * block, 7 * block + 1, 900_000];
    for (n, size) in sizes.into_iter().enumerate() {
        let below = dir.join(format!("dir{}", n % 3)).join("sub");
        fs::create_dir_all(&below).expect("directories");
        let data: Vec<u8> = (0..size).map(|_| random.below(256) as u8).collect();
        fs::write(below.join(format!("file{n}")), data).expect("file");
    }
    for n in 0..70 {
        fs::write(dir.join("dir1").join(format!("m{n}")), format!("{n}")).expect("file");
    }
    std::os::unix::fs::symlink("dir1/m3", dir.join("sym")).expect("symlink");
    fs::hard_link(dir.join("dir1/m5"), dir.join("hard")).expect("hard link");
}

fn python(args: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/minix_image.py");
    let all: Vec<&str> = [&[arg(&script)], args].concat();
    let (status, text) = run("python3", &all);
    assert_eq!(status, 0, "{text}");
}

#[test]
fn trees_pass_between_us_and_an_independent_reader_and_writer() {
    if !require("minix_trees", &["python3", "mkfs.minix", "fsck.minix"]) {
        return;
    }
    for options in kinds() {
        let mut random = Random::new(options.block as u64);
        let dir = tempdir().expect("directory");
        let (tree, image, back) =
            (dir.path().join("tree"), dir.path().join("image"), dir.path().join("back"));
        fill(&tree, &options, &mut random);
        // Theirs to us.
        fs::write(&image, formatted(&options, 6 << 20).bytes()).expect("image");
        python(&["write", arg(&image), arg(&tree)]);
        let theirs = Image::new(fs::read(&image).expect("image"));
        assert_clean(&theirs);
        if options.block == 1024 {
            fsck(&theirs, "the independent writer");
        }
        let (mut fs, root) = mounted(&theirs);
        compare(&mut fs, root, &tree);
        fs.unmount().expect("unmount");
        // Ours to them, onto what mkfs made where it can.
        let ours = if options.block == 1024 {
            mkfs(&options, 6 << 20)
        } else {
            formatted(&options, 6 << 20)
        };
        let (mut fs, root) = mounted(&ours);
        copy(&mut fs, root, &tree, &mut Vec::new());
        fs.unmount().expect("unmount");
        assert_clean(&ours);
        fs::write(&image, ours.bytes()).expect("image");
        python(&["read", arg(&image), arg(&back)]);
        let (status, text) = run("diff", &["-r", "--no-dereference", arg(&tree), arg(&back)]);
        assert_eq!((status, text.as_str()), (0, ""), "{options:?}");
    }
}

/// Hard links: host inode, our inode.
type Links = Vec<(u64, Ino)>;

fn copy(fs: &mut super::Minix<Image>, dir: Ino, from: &Path, links: &mut Links) {
    use std::os::unix::fs::MetadataExt;
    for entry in fs::read_dir(from).expect("directory") {
        let entry = entry.expect("entry");
        let (name, path) = (entry.file_name(), entry.path());
        let name = name.as_encoded_bytes();
        let meta = fs::symlink_metadata(&path).expect("metadata");
        if meta.is_dir() {
            let made = fs.create(dir, name, &NewFile::new(DIR)).expect("mkdir").ino;
            copy(fs, made, &path, links);
        } else if meta.is_symlink() {
            let target = fs::read_link(&path).expect("link");
            let target = target.as_os_str().as_encoded_bytes();
            let new = NewFile::link(mode::SYMLINK | 0o777, target);
            fs.create(dir, name, &new).expect("symlink");
        } else if let Some(&(_, ino)) = links.iter().find(|(host, _)| *host == meta.ino()) {
            fs.link(ino, dir, name).expect("link");
        } else {
            let ino = fs.create(dir, name, &NewFile::new(FILE)).expect("create").ino;
            links.push((meta.ino(), ino));
            for (n, part) in fs::read(&path).expect("file").chunks(3000).enumerate() {
                assert_eq!(fs.write(ino, n as u64 * 3000, part), Ok(part.len()));
            }
        }
    }
}

fn compare(fs: &mut super::Minix<Image>, dir: Ino, with: &Path) {
    let names = conformance::list(fs, dir, 4096).expect("list");
    let mut expected: Vec<String> = fs::read_dir(with)
        .expect("directory")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .collect();
    expected.sort();
    let found: Vec<String> =
        names.iter().map(|entry| String::from_utf8(entry.0.clone()).expect("UTF-8")).collect();
    assert_eq!(found, expected);
    for (name, ino, kind) in names {
        let path = with.join(String::from_utf8(name).expect("UTF-8"));
        match kind {
            mode::DIRECTORY => compare(fs, ino, &path),
            mode::SYMLINK => {
                let target = fs::read_link(&path).expect("link");
                assert_eq!(fs.read_link(ino).unwrap(), target.as_os_str().as_encoded_bytes());
            }
            _ => {
                let expected = fs::read(&path).expect("file");
                let mut data = vec![0; expected.len() + 1];
                assert_eq!(fs.read(ino, 0, &mut data), Ok(expected.len()), "{path:?}");
                assert!(data[..expected.len()] == expected, "{path:?}");
            }
        }
    }
}

#[test]
fn damage_that_we_repair_fsck_accepts() {
    if !require("minix_repair", &["fsck.minix"]) {
        return;
    }
    let (mut repaired, mut damaged) = (0, 0);
    for options in host_kinds() {
        let image = formatted(&options, 400 << 10);
        let (mut fs, root) = mounted(&image);
        conformance::model::exercise(&mut fs, root, &abilities(&options), 4, 120);
        fs.unmount().expect("unmount");
        let good = image.bytes();
        for seed in 0..40 {
            let mut random = Random::new(seed);
            let image = Image::new(good.clone());
            // Maps, inodes, directories: everything but the superblock.
            image.edit(|bytes| {
                for _ in 0..1 + random.below(90) {
                    let at = 2048 + random.below(120 << 10) as usize;
                    bytes[at] = random.below(256) as u8;
                }
            });
            let report = check(&mut image.clone(), true).expect("check");
            damaged += u64::from(report.found > 0);
            if report.repaired() {
                repaired += 1;
                assert_clean(&image);
                fsck(&image, &format!("{options:?} {seed}"));
            }
        }
    }
    assert!(repaired > 150 && damaged > 120, "{repaired} repaired, {damaged} damaged");
}
