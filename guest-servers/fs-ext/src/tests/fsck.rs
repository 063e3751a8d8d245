//! Our check beside e2fsck's: what one finds sound so does the other, and what is damaged both see.

use xinim_fs_kit::{FileSystem, NewFile, conformance};
use xinim_fs_testing::{Image, Random, campaign, run};

use super::{AROUND, DIR, FILE, VARIANTS, arg, check as e2fsck, made, mounted, ready, tool};
use crate::check::{Failure, check, is_clean};

/// A volume that has been lived in.
fn used(args: &[&str]) -> Image {
    let image = Image::new(made(10, args));
    let (mut ext, root) = mounted(&image);
    let dir = ext.create(root, b"dir", &NewFile::new(DIR)).expect("mkdir").ino;
    conformance::model::exercise(&mut ext, dir, &Default::default(), 5, 80);
    for index in 0..200u8 {
        let name = [&[b'n'; 30][..], &[b'0' + index / 10, b'0' + index % 10]].concat();
        let ino = ext.create(dir, &name, &NewFile::new(FILE)).expect("create").ino;
        assert_eq!(ext.write(ino, 0, &[index; 3000]), Ok(3000));
    }
    let far = ext.create(root, b"far", &NewFile::new(FILE)).expect("create").ino;
    for offset in [0, 70_000, 3 << 20, 200 << 20] {
        ext.write(far, offset, b"somewhere").expect("write");
    }
    ext.unmount().expect("unmounted");
    image
}

#[track_caller]
fn problems(image: &Image, repair: bool) -> (u64, u64) {
    let report = check(&mut image.clone(), repair, AROUND).expect("checked");
    for problem in &report.problems {
        println!("{problem}");
    }
    (report.found, report.unrepaired)
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    if !ready("nothing_is_found_where_nothing_is_wrong") {
        return;
    }
    for (name, args) in VARIANTS {
        let image = used(args);
        let before = image.bytes();
        assert_eq!(is_clean(&mut image.clone()), Ok(true), "{name}");
        assert_eq!(problems(&image, false), (0, 0), "{name}");
        assert!(image.bytes() == before, "{name}: only looked at");
        let report = check(&mut image.clone(), true, AROUND).expect("checked");
        assert_eq!((report.found, report.replayed > 1), (0, false), "{name}");
        e2fsck(&image.bytes(), name);
    }
}

/// A command in which `{far}` and `{dir}` became the first block of these, `{free}` a free one.
fn filled(command: &str, path: &std::path::Path) -> std::string::String {
    let first = |request: &str| {
        let text = tool("debugfs", &["-R", request, arg(path)]);
        let mut numbers = text.split_whitespace().filter(|word| word.parse::<u64>().is_ok());
        std::string::String::from(numbers.next().expect(request))
    };
    command
        .replace("{far}", &first("blocks far"))
        .replace("{dir}", &first("blocks dir"))
        .replace("{free}", &first("ffb 1"))
}

#[test]
fn what_can_be_computed_is_repaired() {
    if !ready("what_can_be_computed_is_repaired") {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("image");
    // Set a link count, give blocks and an inode away and take others: all through debugfs, which
    // keeps the checksums right.
    let damages: [&[&str]; 5] = [
        &["set_inode_field far links_count 3"],
        &["freeb {far}", "freeb {dir} 1"],
        &["setb {free} 4"],
        &["freei dir"],
        &["set_bg 0 free_blocks_count 17", "set_bg 0 checksum calc", "ssv free_blocks_count 99"],
    ];
    for (name, args) in VARIANTS.into_iter().step_by(4) {
        let good = used(args).bytes();
        for commands in damages {
            let what = format!("{name}: {commands:?}");
            std::fs::write(&path, &good).expect("image");
            for command in commands {
                let command = filled(command, &path);
                tool("debugfs", &["-w", "-R", &command, arg(&path)]);
            }
            let image = Image::new(std::fs::read(&path).expect("image"));
            let (found, unrepaired) = problems(&image, false);
            assert!(found > 0 && unrepaired == found, "{what}: {found}, {unrepaired}");
            let (found, unrepaired) = problems(&image, true);
            assert!(found > 0 && unrepaired == 0, "{what}: {found}, {unrepaired}");
            assert_eq!(problems(&image, false), (0, 0), "{what}");
            e2fsck(&image.bytes(), &what);
        }
    }
}

#[test]
fn damage_is_seen_by_both() {
    if !ready("damage_is_seen_by_both") {
        return;
    }
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("image");
    let commands: [&str; 6] = [
        "set_inode_field far block[2] 1",
        "clri dir",
        "unlink far",
        "link dir second",
        "set_inode_field far block[5] 70000000",
        "set_inode_field far blocks 2",
    ];
    for (name, args) in VARIANTS.into_iter().skip(1).step_by(3) {
        let good = used(args).bytes();
        for command in commands {
            std::fs::write(&path, &good).expect("image");
            tool("debugfs", &["-w", "-R", command, arg(&path)]);
            let bytes = std::fs::read(&path).expect("image");
            let (status, text) = run("e2fsck", &["-fn", arg(&path)]);
            let judged = check(&mut Image::new(bytes), false, AROUND);
            let ours = judged.map_or(1, |report| report.found);
            assert_eq!(ours > 0, status != 0, "{name}: {command}\n{text}");
        }
    }
}

#[test]
fn a_dirty_journal_is_replayed_by_a_repair() {
    if !ready("a_dirty_journal_is_replayed_by_a_repair") {
        return;
    }
    for (name, args) in VARIANTS {
        if name.starts_with("ext2") || name.contains("no journal") {
            continue;
        }
        let image = Image::new(made(10, args));
        let (mut ext, root) = mounted(&image);
        let ino = ext.create(root, b"kept", &NewFile::new(FILE)).expect("create").ino;
        ext.write(ino, 0, &[7; 50_000]).expect("write");
        ext.fsync(ino).expect("fsync");
        drop(ext);
        assert_eq!(is_clean(&mut image.clone()), Ok(false), "{name}");
        assert!(problems(&image, false).0 > 0, "{name}: it is told");
        let report = check(&mut image.clone(), true, AROUND).expect("checked");
        assert!(report.replayed > 0 && report.repaired(), "{name}: {report:?}");
        assert_eq!(is_clean(&mut image.clone()), Ok(true), "{name}");
        e2fsck(&image.bytes(), name);
    }
}

#[test]
fn a_check_of_anything_ends() {
    if !ready("a_check_of_anything_ends") {
        return;
    }
    for (_, args) in VARIANTS.into_iter().step_by(3) {
        let good = used(args).bytes();
        let hot = [1024..2048, 2048..(64 << 10), (64 << 10)..(512 << 10)];
        for seed in campaign(25) {
            let mut random = Random::new(seed);
            let mut bytes = xinim_fs_testing::hostile::damage(&good, &hot, &mut random);
            if seed % 2 == 0 {
                super::hostile::without_checksums(&mut bytes);
            }
            let image = Image::new(bytes).budget(2_000_000);
            let repair = seed % 3 == 0;
            let _ = check(&mut image.clone(), repair, AROUND);
            assert!(!image.exhausted(), "seed {seed}");
        }
    }
    assert_eq!(check(&mut Image::zeroed(1 << 20), false, AROUND).err(), Some(Failure::Foreign));
    assert_eq!(check(&mut Image::zeroed(100), true, AROUND).err(), Some(Failure::Foreign));
}
