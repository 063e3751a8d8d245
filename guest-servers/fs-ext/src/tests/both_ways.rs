//! What the host writes is read here, and what is written here the host reads.

use std::fs;
use std::path::Path;
use std::string::String;
use std::vec::Vec;

use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::symlink;

use xinim_abi::services::vfs::mode;
use xinim_fs_kit::{FileSystem, NewFile, SetAttributes};
use xinim_fs_testing::{Image, Random};

use super::{DIR, FILE, LINK, Tree, VARIANTS, arg, check, made, mounted, ready, tool, tree};

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..len).map(|_| random.below(256) as u8).collect()
}

/// A tree with everything that a file system must be able to keep.
fn host_tree(at: &Path) {
    for (seed, (name, len)) in
        [("empty", 0), ("one", 1), ("sub/block", 4096), ("sub/deeper/big", 2_300_001)]
            .into_iter()
            .enumerate()
    {
        let path = at.join(name);
        fs::create_dir_all(path.parent().expect("parent")).expect("directories");
        fs::write(path, noise(seed as u64, len)).expect("file");
    }
    fs::create_dir(at.join("many")).expect("directory");
    for index in 0..400 {
        let name = format!("many/a name that takes some room, number {index}");
        fs::write(at.join(name), format!("{index}")).expect("file");
    }
    symlink("sub/block", at.join("short link")).expect("link");
    symlink("x/".repeat(60), at.join("long link")).expect("link");
    let sparse = fs::File::create(at.join("sparse")).expect("file");
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", 3_000_000).expect("hole");
    fs::set_permissions(at.join("one"), fs::Permissions::from_mode(0o4711)).expect("mode");
}

/// The same of a directory on the host.
fn host_list(at: &Path) -> Tree {
    let mut all = Tree::new();
    let mut left = vec![(at.to_path_buf(), String::new())];
    while let Some((dir, path)) = left.pop() {
        for entry in fs::read_dir(dir).expect("directory") {
            let entry = entry.expect("entry");
            let name = entry.file_name().into_string().expect("UTF-8");
            let path = if path.is_empty() { name } else { path.clone() + "/" + &name };
            if path == "lost+found" {
                continue;
            }
            let meta = entry.metadata().expect("metadata");
            let content = if meta.is_dir() {
                left.push((entry.path(), path.clone()));
                Vec::new()
            } else if meta.is_symlink() {
                let target = fs::read_link(entry.path()).expect("target");
                target.into_os_string().into_encoded_bytes()
            } else {
                fs::read(entry.path()).expect("content")
            };
            all.insert(path, (meta.permissions().mode(), content));
        }
    }
    all
}

#[test]
fn what_the_host_writes_is_read() {
    if !ready("what_the_host_writes_is_read") {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let source = dir.path().join("tree");
    fs::create_dir(&source).expect("directory");
    host_tree(&source);
    let expected = host_list(&source);
    let inline: &[&str] = &["-t", "ext4", "-b", "4096", "-I", "512", "-O", "inline_data"];
    let more = [("ext4, inline data", inline)];
    for (name, args) in VARIANTS.into_iter().chain(more) {
        let args = [args, &["-d", arg(&source)]].concat();
        let image = Image::new(made(24, &args));
        let (mut ext, root) = mounted(&image);
        let found = tree(&mut ext, root);
        assert!(found.keys().eq(expected.keys()), "{name}: {:?}", found.keys());
        for (path, node) in &expected {
            assert!(found[path] == *node, "{name}: {path} {:o}", found[path].0);
        }
        if name.contains("inline") {
            let write = ext.create(root, b"new", &NewFile::new(FILE));
            assert_eq!(write.err(), Some(xinim_abi::error::Error::RoFs), "{name}");
            continue;
        }
        // All of it goes again, in directories that the host made.
        remove_all(&mut ext, root);
        assert!(tree(&mut ext, root).is_empty(), "{name}");
        ext.unmount().expect("unmounted");
        check(&image.bytes(), name);
    }
}

fn remove_all(ext: &mut crate::Ext, dir: u64) {
    for (name, ino, kind) in xinim_fs_kit::conformance::list(ext, dir, 4096).expect("list") {
        if name == b"lost+found" {
            continue;
        }
        let directory = kind == mode::DIRECTORY;
        if directory {
            remove_all(ext, ino);
        }
        ext.unlink(dir, &name, directory).expect("unlinked");
    }
}

#[test]
fn what_is_written_the_host_reads() {
    if !ready("what_is_written_the_host_reads") {
        return;
    }
    for (name, args) in VARIANTS {
        let image = Image::new(made(24, args));
        let (mut ext, root) = mounted(&image);
        let sub = ext.create(root, b"sub", &NewFile::new(DIR)).expect("mkdir").ino;
        // Two files that grow in turn, one with holes, one cut in the middle.
        let [one, two, holes, cut] = ["one", "two", "holes", "cut"]
            .map(|name| ext.create(sub, name.as_bytes(), &NewFile::new(FILE)).expect("create").ino);
        for part in 0..40u64 {
            for (seed, ino) in [(part, one), (1000 + part, two)] {
                assert_eq!(ext.write(ino, part * 7001, &noise(seed, 7001)), Ok(7001));
            }
        }
        for part in 0..12u64 {
            assert_eq!(ext.write(holes, part * 400_000, &noise(part, 5000)), Ok(5000), "{name}");
        }
        assert_eq!(ext.write(cut, 0, &noise(7, 900_000)), Ok(900_000));
        for size in [500_001, 600_000] {
            let set = SetAttributes { size: Some(size), ..SetAttributes::default() };
            ext.set_attributes(cut, &set).expect("truncated");
        }
        let many = ext.create(root, b"many", &NewFile::new(DIR)).expect("mkdir").ino;
        for index in 0..1500 {
            let file = format!("file number {index} in a directory of many");
            ext.create(many, file.as_bytes(), &NewFile::new(FILE)).expect("create");
        }
        for index in (0..1500).step_by(3) {
            let file = format!("file number {index} in a directory of many");
            ext.unlink(many, file.as_bytes(), false).expect("unlinked");
        }
        ext.create(root, b"short", &NewFile::link(LINK, b"sub/one")).expect("link");
        ext.create(root, b"long", &NewFile::link(LINK, &[b'x'; 200])).expect("link");
        ext.link(one, root, b"second name").expect("link");
        let special = NewFile { rdev: 4 << 16 | 65, ..NewFile::new(mode::CHARACTER | 0o620) };
        ext.create(root, b"tty", &special).expect("mknod");
        let owned = NewFile { uid: 100_000, gid: 70_000, ..NewFile::new(FILE) };
        ext.create(root, b"owned", &owned).expect("create");
        let mut expected = tree(&mut ext, root);
        ext.unmount().expect("unmounted");
        check(&image.bytes(), name);
        let dir = tempfile::tempdir().expect("directory");
        let (path, out) = (dir.path().join("image"), dir.path().join("out"));
        fs::write(&path, image.bytes()).expect("image");
        fs::create_dir(&out).expect("directory");
        tool("debugfs", &["-R", &format!("rdump / {}", arg(&out)), arg(&path)]);
        let stat = tool("debugfs", &["-R", "stat owned", arg(&path)]);
        let ids = stat.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(ids.contains("User: 100000 Group: 70000"), "{name}: {stat}");
        let stat = tool("debugfs", &["-R", "stat tty", arg(&path)]);
        assert!(stat.contains("character special") && stat.contains("04:65"), "{name}: {stat}");
        // Device nodes are not dumped.
        expected.remove("tty");
        let found = host_list(&out);
        assert!(found.keys().eq(expected.keys()), "{name}: {:?}", found.keys());
        for (path, node) in &expected {
            assert!(found[path].1 == node.1, "{name}: content of {path}");
        }
    }
}
