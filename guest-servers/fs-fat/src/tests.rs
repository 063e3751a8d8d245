//! Host tests: the suite of all file systems, the host's own tools, power cuts, damage.

use std::boxed::Box;
use std::string::String;
use std::vec::Vec;
use std::{format, fs};

use proptest::prelude::*;
use tempfile::tempdir;
use xinim_abi::error::{Error, Result};
use xinim_block_client::Storage;
use xinim_fs_exerciser::{Can, FsTarget, run};
use xinim_fs_kit::conformance::{self, Abilities, deaths};
use xinim_fs_kit::{FileSystem, Ino, NewFile};
use xinim_fs_testing::{Image, Random, campaign, hostile, promises, require};

use crate::Fat;
use crate::check::check;
use crate::format::{Options, format as format_volume};

#[global_allocator]
static MEMORY: xinim_fs_testing::memory::Counting = xinim_fs_testing::memory::Counting;

fn now() -> u64 {
    1_750_000_000_000_000_000
}

fn formatted(width: u32, len: usize) -> Image {
    let image = Image::zeroed(len);
    let options = Options { width: Some(width), ..Options::default() };
    format_volume(&mut image.clone(), &options).expect("format");
    image
}

fn on(image: &Image) -> Fat {
    let image = image.clone();
    let open = move |_: &str| -> Result<Box<dyn Storage>> { Ok(Box::new(image.clone())) };
    Fat::new(Box::new(open), now)
}

fn mounted(image: &Image) -> (Fat, Ino) {
    let mut fat = on(image);
    let root = fat.mount("vda", 0).expect("mount").root;
    (fat, root)
}

/// Each width with a size that it is made for.
const SIZES: [(u32, usize); 3] = [(12, 4 << 20), (16, 16 << 20), (32, 40 << 20)];

/// Our own check finds nothing.
#[track_caller]
fn assert_clean(image: &Image) {
    let report = check(&mut image.clone(), false).expect("check");
    assert_eq!(report.problems, Vec::<String>::new());
}

/// fsck.fat finds nothing.
#[track_caller]
fn fsck(image: &Image, what: &str) {
    let dir = tempdir().expect("directory");
    let path = dir.path().join("image");
    fs::write(&path, image.bytes()).expect("image");
    let path = path.to_str().expect("UTF-8");
    let (status, text) = xinim_fs_testing::run("fsck.fat", &["-n", "-v", path]);
    assert_eq!(status, 0, "{what}: {text}");
    assert!(!text.contains("uninitialized"), "{what}: {text}");
}

fn abilities() -> Abilities {
    Abilities {
        symbolic_links: false,
        hard_links: false,
        modes: false,
        owners: false,
        access_times: false,
        special_files: false,
        case_sensitive: false,
        time_step: 2_000_000_000,
        max_size: u32::MAX.into(),
        sparse: false,
        ..Abilities::default()
    }
}

#[test]
fn conforms_on_every_width() {
    for (width, len) in SIZES {
        let image = formatted(width, len).bytes();
        conformance::check_all(&abilities(), &mut || mounted(&Image::new(image.clone())));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn as_the_model(seed: u64) {
        let image = formatted(16, 16 << 20);
        let (mut fat, root) = mounted(&image);
        conformance::model::exercise(&mut fat, root, &abilities(), seed, 400);
        fat.unmount().expect("unmount");
        assert_clean(&image);
    }
}

#[test]
fn as_the_exerciser_wants() {
    let judge = require("fat_exerciser", &["fsck.fat"]);
    for (seed, (width, len)) in (0u64..).zip(SIZES) {
        // Every second run in want of space, on the widths that can be so small.
        let small = if width == 12 { 400 << 10 } else { len };
        for (len, seed) in [(len, seed), (small, 10 + seed)] {
            let image = formatted(width, len);
            let (fat, root) = mounted(&image);
            let mut target = FsTarget::new(fat, root);
            let done = run(&mut target, &Can::from(&abilities()), seed, 2000);
            let done = done.unwrap_or_else(|failure| panic!("FAT{width}: {failure}"));
            assert_eq!(done.no_space > 0, len < 1 << 20, "{done:?}");
            target.into_inner().unmount().expect("unmount");
            assert_clean(&image);
            if judge {
                fsck(&image, &format!("FAT{width} seed {seed}"));
            }
        }
    }
}

#[test]
fn a_power_cut_costs_nothing_that_was_fsynced() {
    let judge = require("fat_power_cut", &["fsck.fat"]);
    let mut cuts = 0;
    for seed in campaign(6) {
        let (width, len) = [(12, 2 << 20), (16, 6 << 20)][seed as usize % 2];
        let image = formatted(width, len);
        let (mut fat, root) = mounted(&image);
        let promises = promises::workload(&mut fat, root, &image, seed);
        let recording = image.recording();
        let mut random = Random::new(seed);
        for round in 0..30 {
            let cut = recording.cut(&mut random);
            let Some(&mark) = cut.marks.last() else { continue };
            let what = format!("FAT{width} seed {seed} round {round} step {} mark {mark}", cut.at);
            let image = Image::new(cut.image);
            let (mut fat, root) = mounted(&image);
            promises::assert_kept(&mut fat, root, &promises[mark as usize], &what);
            fat.unmount().expect("unmount");
            assert_clean(&image);
            if judge && round % 5 == 0 {
                fsck(&image, &what);
            }
            cuts += 1;
        }
    }
    assert!(cuts > 150, "{cuts}");
}

/// Whatever a volume holds: answers, no panic, no endless loop, bounded memory.
#[test]
fn damaged_volumes_end_in_errors() {
    for (width, len) in [(12, 2 << 20), (16, 6 << 20), (32, 35 << 20)] {
        let image = formatted(width, len);
        let (mut fat, root) = mounted(&image);
        conformance::model::exercise(&mut fat, root, &abilities(), 3, 100);
        fat.sync().expect("sync");
        fat.unmount().expect("unmount");
        let good = image.bytes();
        for seed in campaign(60) {
            let hot = [0..90, 512..4096, 4096..60_000];
            let damaged = hostile::damage(&good, &hot, &mut Random::new(seed));
            hostile::survive(seed, damaged, |image| on(&image));
        }
    }
}

#[test]
fn damage_that_we_repair_fsck_accepts() {
    if !require("fat_repair", &["fsck.fat"]) {
        return;
    }
    let mut damaged = 0;
    for (width, len) in [(12, 2 << 20), (16, 6 << 20), (32, 35 << 20)] {
        let image = formatted(width, len);
        let (mut fat, root) = mounted(&image);
        conformance::model::exercise(&mut fat, root, &abilities(), 3, 150);
        fat.unmount().expect("unmount");
        let good = image.bytes();
        for seed in 0..15 {
            let mut random = Random::new(seed);
            let image = Image::new(good.clone());
            // The FATs of FAT12 and 16; what stands behind the boot sectors of FAT32.
            let start = if width == 32 { 32 * 512 } else { 516 };
            image.edit(|bytes| {
                for _ in 0..1 + random.below(8) {
                    bytes[start + random.below(300) as usize] = random.below(256) as u8;
                }
            });
            let report = check(&mut image.clone(), true).expect("check");
            damaged += u32::from(report.found > 0);
            assert_clean(&image);
            fsck(&image, &format!("FAT{width} seed {seed}: {:?}", report.problems));
        }
    }
    assert!(damaged > 30, "{damaged}");
}

#[test]
fn what_our_mkfs_makes_fsck_accepts() {
    if !require("fat_format", &["fsck.fat"]) {
        return;
    }
    for (width, len) in [(12, 360 << 10), (12, 4 << 20), (16, 16 << 20), (32, 70 << 20)] {
        for cluster in [None, Some(if width == 12 { 8 } else { 1 })] {
            let image = Image::zeroed(len);
            let label = Some(*b"LABEL      ");
            let options = Options { width: Some(width), cluster, label, volume_id: 0x1234_5678 };
            match format_volume(&mut image.clone(), &options) {
                Ok(()) => {
                    assert_clean(&image);
                    fsck(&image, &format!("FAT{width} {len} {cluster:?}"));
                }
                // So small clusters are too many for the width.
                Err(error) => assert_eq!((error, cluster.is_some()), (Error::Inval, true)),
            }
        }
    }
    let wrong = Options { width: Some(13), ..Options::default() };
    assert_eq!(format_volume(&mut Image::zeroed(1 << 20), &wrong), Err(Error::Inval));
    let wrong = Options { cluster: Some(3), ..Options::default() };
    assert_eq!(format_volume(&mut Image::zeroed(1 << 20), &wrong), Err(Error::Inval));
    assert_eq!(format_volume(&mut Image::zeroed(4096), &Options::default()), Err(Error::NoSpc));
}

#[test]
fn other_contents_are_not_ours() {
    assert_eq!(on(&Image::zeroed(1 << 20)).mount("vda", 0).err(), Some(Error::Inval));
    assert_eq!(on(&Image::zeroed(100)).mount("vda", 0).err(), Some(Error::Inval));
}

#[test]
fn names_beyond_ascii() {
    let image = formatted(16, 16 << 20);
    let (mut fat, root) = mounted(&image);
    let names = [
        "a ümläut.txt",
        "ümläut.txt",
        "ü",
        "日本",
        "1日本語のファイル名.tar.gz",
        "日本語のとても長いファイル名です、十三文字より長い.tar.gz",
        "xÅÄÖ",
        "naïve café.md",
        "\u{1F980}",
        "x\u{1F980}y \u{1F600}.txt",
    ];
    let new = NewFile::new(0o100644);
    for name in names {
        let made = fat.create(root, name.as_bytes(), &new).expect(name).ino;
        assert_eq!(fat.write(made, 0, name.as_bytes()), Ok(name.len()));
        let found = fat.lookup(root, name.as_bytes()).expect(name);
        assert_eq!((found.ino, found.size), (made, name.len() as u64), "{name}");
    }
    let upper = "A ÜMLÄUT.TXT".as_bytes();
    assert_eq!(fat.create(root, upper, &new).err(), Some(Error::Exist));
    let dir = fat.create(root, "Ördner".as_bytes(), &NewFile::new(0o040755)).expect("mkdir").ino;
    for name in names {
        fat.rename((root, name.as_bytes()), (dir, name.as_bytes())).expect(name);
    }
    assert_eq!(conformance::list(&mut fat, root, 4096).expect("list").len(), 1);
    fat.unmount().expect("unmount");
    assert_clean(&image);
    if require("fat_names", &["fsck.fat"]) {
        fsck(&image, "names");
    }
    let (mut fat, root) = mounted(&image);
    let dir = fat.lookup(root, "Ördner".as_bytes()).expect("directory").ino;
    let listed = conformance::list(&mut fat, dir, 4096).expect("list");
    let mut listed: Vec<&[u8]> = listed.iter().map(|entry| entry.0.as_slice()).collect();
    let mut expected: Vec<&[u8]> = names.iter().map(|name| name.as_bytes()).collect();
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected);
    for name in names {
        let found = fat.lookup(dir, name.as_bytes()).expect(name).ino;
        let mut data = [0; 200];
        let count = fat.read(found, 0, &mut data).expect("read");
        assert_eq!(&data[..count], name.as_bytes());
        fat.unlink(dir, name.as_bytes(), false).expect(name);
    }
}

#[test]
fn a_volume_that_met_errors_is_put_right_when_it_is_unmounted() {
    let mut wrong = 0;
    for seed in campaign(30) {
        let mut random = Random::new(seed);
        let image = formatted([12, 16][seed as usize % 2], 6 << 20);
        let (mut fat, root) = mounted(&image);
        conformance::model::exercise(&mut fat, root, &abilities(), seed, 40);
        // The device fails in the middle of something, and comes back.
        let fails_at = image.accesses() + random.below(400);
        drop(image.clone().budget(fails_at));
        for n in 0..8u8 {
            let Ok(stat) = fat.create(
                root,
                &[b'x', b'0' + n],
                &NewFile::new(xinim_abi::services::vfs::mode::REGULAR | 0o644),
            ) else {
                break;
            };
            if fat.write(stat.ino, 0, &[n; 9000]).is_err() || fat.sync().is_err() {
                break;
            }
        }
        assert!(image.exhausted(), "seed {seed}");
        drop(image.clone().budget(u64::MAX));
        wrong += u32::from(check(&mut image.clone(), false).is_ok_and(|report| report.found > 0));
        fat.unmount().expect("unmount");
        let report = check(&mut image.clone(), false).expect("check");
        assert_eq!(report.found, 0, "seed {seed}: {:?}", report.problems);
    }
    assert!(wrong > 0, "nothing was left half done: the test tests nothing");
}

#[test]
fn trimming_takes_free_clusters_only() {
    for (width, len) in [(12, 2 << 20), (16, 6 << 20), (32, 35 << 20)] {
        let image = formatted(width, len);
        let (mut fat, root) = mounted(&image);
        let new = NewFile::new(xinim_abi::services::vfs::mode::REGULAR | 0o644);
        let kept = fat.create(root, b"kept", &new).expect("create").ino;
        fat.write(kept, 0, &[7; 30_000]).expect("write");
        fat.create(root, b"gone", &new)
            .map(|stat| stat.ino)
            .and_then(|ino| fat.write(ino, 0, &[8; 50_000]))
            .expect("write");
        fat.write(kept, 30_000, &[7; 5_000]).expect("write");
        fat.unlink(root, b"gone", false).expect("unlink");
        let free = fat.statfs().map(|s| s.blocks_free * s.block_size).expect("statfs");
        assert_eq!(fat.trim(0, u64::MAX, 0), Ok(free), "FAT{width}");
        assert_eq!(fat.trim(0, u64::MAX, 1 << 30), Ok(0), "no run is that long");
        assert_eq!(fat.trim(1 << 40, 1 << 20, 0), Ok(0), "behind the end");
        let half = fat.trim(len as u64 / 2, len as u64 / 4, 0).expect("trim");
        assert!(half > 0 && half <= len as u64 / 4, "FAT{width}: {half}");
        let mut data = std::vec![0; 35_000];
        assert_eq!(fat.read(kept, 0, &mut data), Ok(35_000));
        assert!(data.iter().all(|&byte| byte == 7));
        fat.unmount().expect("unmount");
        assert_clean(&image);
    }
}

#[test]
fn nameless_files_outlive_the_server() {
    for (width, len) in SIZES {
        let image = formatted(width, len).recovered();
        deaths::nameless_files_outlive_the_server("vda", || on(&image));
        assert_clean(&image);
    }
}

#[test]
fn the_summary_is_right_after_a_sync_too() {
    let (width, len) = SIZES[2];
    for steps in 0..4 {
        let image = formatted(width, len);
        let (mut fat, root) = mounted(&image);
        for (step, name) in (0..=steps).zip([b"a", b"b", b"c", b"d"]) {
            let ino = fat.create(root, name, &NewFile::new(0o100644)).expect("created").ino;
            assert_eq!(fat.write(ino, 0, &[1; 9000]), Ok(9000));
            fat.sync().expect("synced");
            if step % 2 == 0 {
                fat.unlink(root, name, false).expect("unlinked");
            }
        }
        fat.unmount().expect("unmounted");
        fsck(&image, &format!("{steps} steps"));
    }
}
