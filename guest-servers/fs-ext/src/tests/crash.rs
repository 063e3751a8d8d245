//! Power cuts. With a journal the volume is, after each, exactly as it was after one of the
//! operations since the last one that was made durable: for our own replay and for e2fsck's.

use std::string::String;
use std::vec::Vec;

use xinim_fs_kit::{FileSystem, Ino, NewFile, SetAttributes};
use xinim_fs_testing::{Image, Random, campaign, run};

use super::{DIR, FILE, LINK, Tree, arg, check, made, mounted, ready, tree};
use crate::Ext;

const JOURNALED: [(&str, &[&str]); 4] = [
    ("ext4", &["-t", "ext4", "-b", "4096", "-J", "size=4"]),
    ("ext4, 1k", &["-t", "ext4", "-b", "1024", "-J", "size=1", "-O", "orphan_file"]),
    ("ext3", &["-t", "ext3", "-b", "1024", "-J", "size=1"]),
    (
        "ext4, block maps, group checksums",
        &[
            "-t",
            "ext4",
            "-b",
            "2048",
            "-J",
            "size=2",
            "-O",
            "^extent,^64bit,^metadata_csum,uninit_bg",
        ],
    ),
];

/// The tree after each operation, and from which on the cut may have come back to.
struct History {
    trees: Vec<Tree>,
    /// By mark: the first and last tree that may be found.
    allowed: Vec<(usize, usize)>,
}

struct Worker<'a> {
    image: &'a Image,
    ext: Ext,
    root: Ino,
    history: History,
    durable: usize,
}

impl Worker<'_> {
    /// From here on the cut may show one operation more.
    fn about_to(&mut self) {
        let next = self.history.trees.len();
        self.history.allowed.push((self.durable, next));
        self.image.mark(self.history.allowed.len() as u64 - 1);
    }

    fn done(&mut self) {
        let tree = tree(&mut self.ext, self.root);
        self.history.trees.push(tree);
    }

    fn durable(&mut self) {
        self.durable = self.history.trees.len() - 1;
        self.history.allowed.push((self.durable, self.durable));
        self.image.mark(self.history.allowed.len() as u64 - 1);
    }

    fn step(&mut self, number: usize, random: &mut Random) {
        self.about_to();
        let synced = operation(&mut self.ext, self.root, number, random);
        self.done();
        if random.below(6) == 0 {
            let result = match (random.below(2), synced) {
                (0, Some(directory)) => self.ext.fsync(directory),
                _ => self.ext.sync(),
            };
            result.expect("synced");
            self.durable();
        }
    }
}

/// A file's or directory's number by its path.
fn find(ext: &mut Ext, root: Ino, path: &str) -> Option<Ino> {
    let mut here = root;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        here = ext.lookup(here, name.as_bytes()).ok()?.ino;
    }
    Some(here)
}

/// One random operation, with whatever result. The directory it was in, if there is one.
pub fn operation(ext: &mut Ext, root: Ino, number: usize, random: &mut Random) -> Option<Ino> {
    let directories = ["", "a", "a/b", "c"];
    let mut place = || {
        let dir = directories[random.below(4) as usize];
        (dir, format!("name-{}-of-some-length", random.below(30)))
    };
    let ((dir, name), (other, to)) = (place(), place());
    let Some(at) = find(ext, root, dir) else {
        make_directory(ext, root, dir);
        return None;
    };
    match random.below(12) {
        0..3 => {
            let _ = ext.create(at, name.as_bytes(), &NewFile::new(FILE));
        }
        3..6 => {
            // An append of any length; the old bytes stay.
            if let Ok(stat) = ext.lookup(at, name.as_bytes()) {
                let data = vec![number as u8; 1 + random.below(30_000) as usize];
                let _ = ext.write(stat.ino, stat.size, &data);
            }
        }
        6 => {
            // Whole blocks go: what is left was not touched.
            if let Ok(stat) = ext.lookup(at, name.as_bytes()) {
                let size = Some(random.below(4).min(stat.size / 4096) * 4096);
                let set = SetAttributes { size, ..SetAttributes::default() };
                let _ = ext.set_attributes(stat.ino, &set);
            }
        }
        7 => drop(ext.unlink(at, name.as_bytes(), false)),
        8 => {
            if let Some(target) = find(ext, root, other) {
                let _ = ext.rename((at, name.as_bytes()), (target, to.as_bytes()));
            }
        }
        9 => {
            let target = vec![b't'; 1 + random.below(200) as usize];
            let _ = ext.create(at, name.as_bytes(), &NewFile::link(LINK, &target));
        }
        10 => {
            if let (Ok(stat), Some(target)) =
                (ext.lookup(at, name.as_bytes()), find(ext, root, other))
            {
                let _ = ext.link(stat.ino, target, to.as_bytes());
            }
        }
        _ => drop(ext.rename((root, b"c"), (root, b"moved"))),
    }
    Some(at)
}

/// Or the first of those above it that is missing.
fn make_directory(ext: &mut Ext, root: Ino, path: &str) {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    match find(ext, root, parent) {
        Some(parent) => drop(ext.create(parent, name.as_bytes(), &NewFile::new(DIR))),
        None => make_directory(ext, root, parent),
    }
}

fn workload(image: &Image, seed: u64, steps: usize) -> History {
    let (mut ext, root) = mounted(image);
    let history = History { trees: vec![tree(&mut ext, root)], allowed: Vec::new() };
    image.record();
    let mut worker = Worker { image, ext, root, history, durable: 0 };
    worker.durable();
    let mut random = Random::new(seed);
    for number in 0..steps {
        worker.step(number, &mut random);
    }
    worker.history
}

#[track_caller]
fn assert_allowed(image: &Image, history: &History, mark: u64, what: &str) {
    let (mut ext, root) = mounted(image);
    let found = tree(&mut ext, root);
    let (first, last) = history.allowed[mark as usize];
    let last = last.min(history.trees.len() - 1);
    assert!(
        history.trees[first..=last].contains(&found),
        "{what}: not as after any of the operations {first} to {last}: {:?}",
        found.keys().collect::<Vec<&String>>()
    );
    ext.unmount().expect("unmounted");
    check(&image.bytes(), what);
}

#[test]
fn a_power_cut_leaves_the_state_after_some_operation() {
    if !ready("a_power_cut_leaves_the_state_after_some_operation") {
        return;
    }
    let mut cuts = 0;
    for seed in campaign(4) {
        let (name, args) = JOURNALED[seed as usize % JOURNALED.len()];
        let image = Image::new(made(10, args));
        let history = workload(&image, seed, 250);
        let recording = image.recording();
        let mut random = Random::new(seed);
        for round in 0..40 {
            let cut = recording.cut(&mut random);
            let Some(&mark) = cut.marks.last() else { continue };
            let what = format!("{name}, seed {seed}, round {round}, step {}", cut.at);
            if round % 4 == 0 {
                let replayed = host_replay(&cut.image, &what);
                assert_allowed(&Image::new(replayed), &history, mark, &what);
            }
            assert_allowed(&Image::new(cut.image), &history, mark, &what);
            cuts += 1;
        }
    }
    assert!(cuts > 100, "{cuts}");
}

/// e2fsck replays the journal and finds nothing else.
fn host_replay(disk: &[u8], what: &str) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("image");
    std::fs::write(&path, disk).expect("image");
    // A superblock torn by the cut e2fsck takes from its copy, and only when it may ask.
    let torn = crate::superblock::Geometry::parse(&disk[1024..2048], disk.len() as u64).is_err();
    let how = if torn { "-fy" } else { "-p" };
    let (status, text) = run("e2fsck", &[how, arg(&path)]);
    assert!(status <= 1, "{what}: status {status}\n{text}");
    let (status, text) = run("e2fsck", &["-fn", arg(&path)]);
    assert_eq!(status, 0, "{what}\n{text}");
    std::fs::read(&path).expect("image")
}

#[test]
fn a_power_cut_without_a_journal_can_be_repaired() {
    if !ready("a_power_cut_without_a_journal_can_be_repaired") {
        return;
    }
    for seed in campaign(2) {
        let image = Image::new(made(8, &["-t", "ext2", "-b", "1024"]));
        workload(&image, seed, 150);
        let recording = image.recording();
        let mut random = Random::new(seed);
        for round in 0..12 {
            let cut = recording.cut(&mut random);
            let what = format!("seed {seed}, round {round}, step {}", cut.at);
            let dir = tempfile::tempdir().expect("directory");
            let path = dir.path().join("image");
            std::fs::write(&path, &cut.image).expect("image");
            let (status, text) = run("e2fsck", &["-fy", arg(&path)]);
            assert!(status <= 1, "{what}: status {status}\n{text}");
            let image = Image::new(std::fs::read(&path).expect("image"));
            let (mut ext, root) = mounted(&image);
            tree(&mut ext, root);
            ext.unmount().expect("unmounted");
            check(&image.bytes(), &what);
        }
    }
}

#[test]
fn removed_but_held_files_are_freed_by_the_next_mount() {
    if !ready("removed_but_held_files_are_freed_by_the_next_mount") {
        return;
    }
    for (name, args) in JOURNALED {
        let image = Image::new(made(10, args));
        let (mut ext, root) = mounted(&image);
        let before = ext.statfs().expect("statfs");
        for index in 0..5u8 {
            let ino = ext.create(root, &[b'f', index + b'0'], &NewFile::new(FILE)).expect("f").ino;
            assert_eq!(ext.write(ino, 0, &[index; 200_000]), Ok(200_000));
            ext.hold(ino).expect("held");
            ext.unlink(root, &[b'f', index + b'0'], false).expect("unlinked");
            assert_eq!(ext.read(ino, 199_999, &mut [0; 4]), Ok(1));
            // Scattered, so that cutting takes several operations; it is still there afterwards.
            for at in 0..600u64 {
                ext.write(ino, 300_000 + at * 9000, b"scattered").expect("write");
            }
            let set = SetAttributes { size: Some(150_000), ..SetAttributes::default() };
            assert_eq!(ext.set_attributes(ino, &set).map(|stat| stat.size), Ok(150_000));
            assert_eq!(ext.read(ino, 149_999, &mut [0; 4]), Ok(1));
            if index == 2 {
                ext.release(ino).expect("released");
            }
        }
        ext.sync().expect("synced");
        drop(ext);
        let (mut ext, _) = mounted(&image);
        let after = ext.statfs().expect("statfs");
        assert_eq!(
            (before.blocks_free, before.files_free),
            (after.blocks_free, after.files_free),
            "{name}"
        );
        ext.unmount().expect("unmounted");
        check(&image.bytes(), name);
    }
}
