//! Images of xorriso and genisoimage, read and compared with the trees they were made from; damage.

use std::boxed::Box;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::string::String;
use std::vec;
use std::vec::Vec;

use tempfile::tempdir;
use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{mode, mount};
use xinim_fs_kit::{FileSystem, Ino, NewFile, conformance};
use xinim_fs_testing::{Image, Random, campaign, hostile, require, run};

use crate::Iso;

#[global_allocator]
static MEMORY: xinim_fs_testing::memory::Counting = xinim_fs_testing::memory::Counting;

fn on(image: Image) -> Iso<Image> {
    Iso::new(Box::new(move |_: &str| -> Result<Image> { Ok(image.clone()) }))
}

fn mounted(bytes: Vec<u8>) -> (Iso<Image>, Ino) {
    let mut iso = on(Image::new(bytes));
    let info = iso.mount("sr0", 0).expect("mount");
    assert_eq!(info.flags, mount::READ_ONLY);
    (iso, info.root)
}

fn arg(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Sizes at the edges of blocks, long and Unicode names, many entries, deep directories.
fn tree(at: &Path) {
    let mut random = Random::new(1);
    for size in [0, 1, 2047, 2048, 2049, 100_000] {
        let data: Vec<u8> = (0..size).map(|_| random.below(256) as u8).collect();
        fs::create_dir_all(at.join("sizes")).expect("directory");
        fs::write(at.join("sizes").join(std::format!("size-{size}.bin")), data).expect("file");
    }
    fs::create_dir_all(at.join("many")).expect("directory");
    for n in 0..200 {
        let name = std::format!("a rather long name number {n} with {}.txt", "x".repeat(n % 60));
        fs::write(at.join("many").join(name), std::format!("{n}\n")).expect("file");
    }
    fs::write(at.join("naïve ümläut 日本語.txt"), "unicode\n").expect("file");
    fs::write(at.join("UPPER.TXT"), "upper\n").expect("file");
}

/// Needs two fields and a continuation; genisoimage writes that wrongly.
const LONG_LINK: &str = "longlink";

/// What only Rock Ridge can say.
fn posix_tree(at: &Path) {
    tree(at);
    let deep = at.join("1/2/3/4/5/6/7/8/9/10/11/12");
    fs::create_dir_all(&deep).expect("directories");
    fs::write(deep.join("bottom"), "deep\n").expect("file");
    for (n, target) in ["many", "../x/./y", "/absolute/path/to", "."].iter().enumerate() {
        std::os::unix::fs::symlink(target, at.join(std::format!("link{n}"))).expect("symlink");
    }
    let long = std::format!("{}/{}/end", "a".repeat(240), "b".repeat(250));
    std::os::unix::fs::symlink(&long, at.join(LONG_LINK)).expect("symlink");
    fs::hard_link(at.join("UPPER.TXT"), at.join("hard")).expect("link");
    let secret = at.join("secret");
    fs::write(&secret, "x").expect("file");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o640)).expect("mode");
    fs::write(at.join("n".repeat(248)), "long name\n").expect("file");
}

/// Directory `dir` is `with`, name for name and byte for byte. `posix`: modes, times and links too.
fn compare(iso: &mut Iso<Image>, dir: Ino, with: &Path, posix: bool) {
    let found = conformance::list(iso, dir, 3000).expect("list");
    let mut names: Vec<String> = fs::read_dir(with)
        .expect("directory")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    let shown: Vec<String> =
        found.iter().map(|entry| String::from_utf8(entry.0.clone()).expect("UTF-8")).collect();
    assert_eq!(shown, names, "{with:?}");
    for (name, ino, kind) in found {
        let stat = iso.lookup(dir, &name).expect("lookup");
        assert_eq!((stat.ino, stat.mode & mode::TYPE_MASK), (ino, kind));
        let path = with.join(String::from_utf8(name).expect("UTF-8"));
        let meta = fs::symlink_metadata(&path).expect("metadata");
        if posix {
            assert_eq!((stat.mode, stat.mtime / 1_000_000_000), (meta.mode(), meta.mtime() as u64));
            assert_eq!((stat.uid, stat.gid), (meta.uid(), meta.gid()), "{path:?}");
        }
        match kind {
            mode::DIRECTORY => {
                let parent = iso.lookup(ino, b"..").expect("..").ino;
                // In Joliet xorriso lets every `..` name its own directory.
                assert!(parent == dir || !posix, "{path:?}");
                compare(iso, ino, &path, posix);
            }
            mode::SYMLINK => {
                let target = fs::read_link(&path).expect("link");
                assert_eq!(iso.read_link(ino).unwrap(), target.as_os_str().as_encoded_bytes());
            }
            _ => {
                let expected = fs::read(&path).expect("file");
                let mut data = vec![0; expected.len() + 9];
                assert_eq!(iso.read(ino, 0, &mut data), Ok(expected.len()), "{path:?}");
                assert!(data[..expected.len()] == expected, "{path:?}");
                assert_eq!(iso.read(ino, u64::MAX, &mut data), Ok(0));
            }
        }
    }
}

fn make(program: &str, args: &[&str], tree: &Path) -> Vec<u8> {
    let image = tree.parent().expect("parent").join("image.iso");
    let mut all: Vec<&str> = if program == "xorriso" { vec!["-as", "mkisofs"] } else { vec![] };
    all.extend(["-quiet", "-o", arg(&image)]);
    all.extend(args);
    all.push(arg(tree));
    let (status, text) = run(program, &all);
    assert_eq!(status, 0, "{program} {args:?}: {text}");
    fs::read(&image).expect("image")
}

#[test]
fn rock_ridge_is_the_tree_it_was_made_from() {
    if !require("iso_rock_ridge", &["xorriso", "genisoimage"]) {
        return;
    }
    let dir = tempdir().expect("directory");
    let tree = dir.path().join("tree");
    posix_tree(&tree);
    for (program, args) in [
        ("xorriso", vec!["-R"]),
        ("xorriso", vec!["-R", "-J", "-joliet-long"]),
        ("genisoimage", vec!["-R", "-J", "-joliet-long", "-input-charset", "utf-8"]),
        ("genisoimage", vec!["-R", "-input-charset", "utf-8"]),
    ] {
        // genisoimage leaves its directory of relocated ones visible unless told otherwise.
        if program == "genisoimage" {
            let _ = fs::remove_file(tree.join(LONG_LINK));
        }
        let hide = if program == "genisoimage" { vec!["-hide-rr-moved"] } else { vec![] };
        let bytes = make(program, &[&args[..], &hide].concat(), &tree);
        let (mut iso, root) = mounted(bytes);
        if program == "genisoimage" {
            unhide(&mut iso, root, &tree);
            continue;
        }
        compare(&mut iso, root, &tree, true);
    }
}

/// As [`compare`], but for the directory that genisoimage keeps relocated directories in.
fn unhide(iso: &mut Iso<Image>, root: Ino, tree: &Path) {
    let moved = tree.join(".rr_moved");
    fs::create_dir_all(&moved).expect("directory");
    let found = iso.lookup(root, b".rr_moved").is_ok();
    if !found {
        fs::remove_dir(&moved).expect("directory");
    }
    // Its own permissions are genisoimage's.
    compare(iso, root, tree, false);
    let _ = fs::remove_dir(&moved);
}

#[test]
fn joliet_has_unicode_names() {
    if !require("iso_joliet", &["xorriso", "genisoimage"]) {
        return;
    }
    let dir = tempdir().expect("directory");
    let at = dir.path().join("tree");
    tree(&at);
    for (program, args) in [
        ("xorriso", vec!["-J", "-joliet-long"]),
        ("genisoimage", vec!["-J", "-joliet-long", "-input-charset", "utf-8"]),
    ] {
        // xorriso writes Rock Ridge unless it is told not to.
        let no_rr = if program == "xorriso" { vec!["--norock"] } else { vec![] };
        let (mut iso, root) = mounted(make(program, &[&args[..], &no_rr].concat(), &at));
        compare(&mut iso, root, &at, false);
        let stat = iso.lookup(root, b"UPPER.TXT").expect("lookup");
        assert_eq!((stat.mode, stat.uid), (mode::REGULAR | 0o555, 0));
    }
}

#[test]
fn plain_names_are_shown_in_lower_case() {
    if !require("iso_plain", &["genisoimage"]) {
        return;
    }
    let dir = tempdir().expect("directory");
    let at = dir.path().join("tree");
    fs::create_dir_all(at.join("SUB")).expect("directory");
    fs::write(at.join("SUB/FILE.TXT"), "one").expect("file");
    fs::write(at.join("NOEXT"), "two").expect("file");
    let (mut iso, root) = mounted(make("genisoimage", &[], &at));
    let names: Vec<_> = conformance::list(&mut iso, root, 4096).unwrap();
    let names: Vec<_> = names.into_iter().map(|entry| entry.0).collect();
    assert_eq!(names, [b"noext".to_vec(), b"sub".to_vec()]);
    let sub = iso.lookup(root, b"sub").expect("sub").ino;
    let file = iso.lookup(sub, b"file.txt").expect("file");
    let mut data = [0; 8];
    assert_eq!(iso.read(file.ino, 1, &mut data), Ok(2));
    assert_eq!(&data[..2], b"ne");
    assert_eq!(iso.lookup(root, b"FILE.TXT").err(), Some(Error::NoEnt));
}

#[test]
fn nothing_can_be_changed() {
    if !require("iso_read_only", &["xorriso"]) {
        return;
    }
    let dir = tempdir().expect("directory");
    let at = dir.path().join("tree");
    fs::create_dir_all(&at).expect("directory");
    fs::write(at.join("f"), "one").expect("file");
    let (mut iso, root) = mounted(make("xorriso", &["-R"], &at));
    let file = iso.lookup(root, b"f").expect("lookup").ino;
    let new = NewFile::new(mode::REGULAR | 0o644);
    assert_eq!(iso.create(root, b"g", &new).err(), Some(Error::RoFs));
    assert_eq!(iso.write(file, 0, b"x").err(), Some(Error::RoFs));
    assert_eq!(iso.unlink(root, b"f", false), Err(Error::RoFs));
    assert_eq!(iso.rename((root, b"f"), (root, b"g")), Err(Error::RoFs));
    assert_eq!(iso.remount(0), Ok(mount::READ_ONLY));
    assert_eq!(iso.read(root, 0, &mut [0; 4]).err(), Some(Error::IsDir));
    assert_eq!(iso.lookup(file, b"x").err(), Some(Error::NotDir));
    assert_eq!(iso.attributes(u64::MAX).err(), Some(Error::Stale));
    assert_eq!((iso.sync(), iso.unmount(), iso.sync()), (Ok(()), Ok(()), Err(Error::NoDev)));
    assert_eq!(on(Image::zeroed(1 << 20)).mount("sr0", 0).err(), Some(Error::Inval));
    assert_eq!(on(Image::zeroed(100)).mount("sr0", 0).err(), Some(Error::Inval));
}

#[test]
fn files_of_several_extents_are_one() {
    if !require("iso_extents", &["xorriso"]) {
        return;
    }
    // Two neighbours made one by hand, as mkisofs does for files beyond 4 GiB: same name, the first
    // with the flag that another record follows.
    let dir = tempdir().expect("directory");
    let at = dir.path().join("tree");
    fs::create_dir_all(&at).expect("directory");
    fs::write(at.join("BIG1"), vec![1; 4096]).expect("file");
    fs::write(at.join("BIG2"), vec![2; 3000]).expect("file");
    let mut bytes = make("xorriso", &["--norock"], &at);
    let position = |bytes: &[u8], name: &[u8]| {
        bytes.windows(name.len()).position(|window| window == name).expect("record")
    };
    let (first, second) = (position(&bytes, b"BIG1."), position(&bytes, b"BIG2."));
    bytes[first - 33 + 25] |= 0x80;
    bytes[second + 3] = b'1';
    let (mut iso, root) = mounted(bytes);
    assert_eq!(conformance::list(&mut iso, root, 4096).unwrap().len(), 1);
    let stat = iso.lookup(root, b"big1").expect("lookup");
    assert_eq!(stat.size, 7096);
    let mut data = vec![0; 8000];
    assert_eq!(iso.read(stat.ino, 0, &mut data), Ok(7096));
    assert!(data[..4096].iter().all(|&b| b == 1) && data[4096..7096].iter().all(|&b| b == 2));
    assert_eq!(iso.read(stat.ino, 4090, &mut data[..12]), Ok(12));
    assert_eq!(&data[..12], [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2]);
}

#[test]
fn damaged_images_end_in_errors() {
    if !require("iso_hostile", &["xorriso"]) {
        return;
    }
    let dir = tempdir().expect("directory");
    let at = dir.path().join("tree");
    posix_tree(&at);
    let _ = fs::remove_dir_all(at.join("sizes"));
    for args in [vec!["-R"], vec!["-J", "-joliet-long", "--norock"]] {
        let good = make("xorriso", &args, &at);
        let end = good.len().min(120 << 10);
        for seed in campaign(150) {
            let hot = [32768..36864, 36864..end];
            let damaged = hostile::damage(&good, &hot, &mut Random::new(seed));
            hostile::survive(seed, damaged, on);
        }
    }
}
