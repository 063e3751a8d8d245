//! The tools on this host: the exerciser judges its own model on the host's file system, mkfs and
//! fsck work on image files beside the host's.

use std::path::Path;
use std::string::String;
use std::vec::Vec;
use std::{format, fs, vec};

use tempfile::tempdir;
use xinim_fs_exerciser::{Can, OsTarget, run};
use xinim_fs_testing::{campaign, require};
use xinim_os_host::Linux;

/// Runs a tool: its status.
fn tool(words: &str) -> i32 {
    let args: Vec<String> = words.split(' ').map(String::from).collect();
    crate::run(&Linux::default(), &args, &[]).expect("a tool of this name")
}

fn arg(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn the_hosts_file_system_is_as_the_model_says() {
    for seed in campaign(3) {
        let dir = tempdir().expect("directory");
        let can = Can { time_step: 0, ..Can::default() };
        let os = Linux::default();
        let summary = run(&mut OsTarget::new(&os, arg(dir.path())), &can, seed, 4000);
        let summary = summary.unwrap_or_else(|failure| panic!("{failure}"));
        assert!(summary.refused > 500 && summary.no_space == 0, "{summary:?}");
        assert_eq!(fs::read_dir(dir.path()).expect("directory").count(), 0, "left as it was");
    }
}

#[test]
fn fstest_finds_out_what_there_is() {
    let dir = tempdir().expect("directory");
    assert_eq!(tool(&format!("fstest -s 7 -n 300 {}", arg(dir.path()))), 0);
    assert_eq!(fs::read_dir(dir.path()).expect("directory").count(), 0);
    assert_ne!(tool("fstest /nonexistent"), 0);
    assert_ne!(tool("fstest -n x /tmp"), 0);
}

#[test]
fn mkfs_and_fsck_of_minix_agree_with_the_hosts() {
    if !require("mkfs_and_fsck_of_minix", &["mkfs.minix", "fsck.minix"]) {
        return;
    }
    let dir = tempdir().expect("directory");
    let image = dir.path().join("image");
    for options in ["-1", "-1 -n 14", "-2", "-2 -n 14 -i 100", "-3", "-3 -i 2000"] {
        fs::write(&image, vec![0x5A; 3 << 20]).expect("image");
        assert_eq!(tool(&format!("mkfs.minix {options} {}", arg(&image))), 0, "{options}");
        let (status, text) = xinim_fs_testing::run("fsck.minix", &["-f", arg(&image)]);
        assert_eq!(status, 0, "{options}: {text}");
        assert_eq!(tool(&format!("fsck.minix -f -v -s {}", arg(&image))), 0);
        // A zone map with a bit too many: seen, repaired, gone.
        let mut bytes = fs::read(&image).expect("image");
        let byte = bytes.iter_mut().skip(3 * 1024).find(|byte| **byte == 0b11).expect("zone map");
        *byte |= 0b100;
        fs::write(&image, &bytes).expect("image");
        assert_eq!(tool(&format!("fsck.minix {}", arg(&image))), 0, "marked clean");
        assert_eq!(tool(&format!("fsck.minix -f {}", arg(&image))), 4, "{options}");
        assert_eq!(fs::read(&image).expect("image"), bytes, "only looked at");
        assert_eq!(tool(&format!("fsck.minix -f -a {}", arg(&image))), 3);
        assert_eq!(tool(&format!("fsck.minix -f {}", arg(&image))), 0);
        let (status, text) = xinim_fs_testing::run("fsck.minix", &["-f", arg(&image)]);
        assert_eq!(status, 0, "{options}: {text}");
    }
    fs::write(&image, vec![0; 4096]).expect("image");
    assert_eq!(tool(&format!("mkfs.minix {}", arg(&image))), 8, "too small");
    assert_eq!(tool(&format!("fsck.minix {}", arg(&image))), 8, "no file system");
    assert_eq!(tool("fsck.minix"), 16);
    assert_eq!(tool("mkfs.minix -n x /dev/null"), 16);
    assert_eq!(tool(&format!("mkfs.minix -n 17 {}", arg(&image))), 8);
}

#[test]
fn mkfs_and_fsck_of_ext_agree_with_the_hosts() {
    if !require("mkfs_and_fsck_of_ext", &["mke2fs", "e2fsck", "debugfs"]) {
        return;
    }
    let dir = tempdir().expect("directory");
    let image = dir.path().join("image");
    let e2fsck = || xinim_fs_testing::run("e2fsck", &["-fn", arg(&image)]);
    for (name, options) in [
        ("ext2", ""),
        ("ext3", "-b 1024 -L label"),
        ("ext4", "-b 4096 -i 16k -I 512"),
        ("ext4", "-J size=4 -b 2k"),
    ] {
        fs::write(&image, vec![0x5A; 16 << 20]).expect("image");
        let words: Vec<&str> = options.split_whitespace().collect();
        let command = [&[&*format!("mkfs.{name}")][..], &words, &[arg(&image)]].concat().join(" ");
        assert_eq!(tool(&command), 0, "{command}");
        let (status, text) = e2fsck();
        assert_eq!(status, 0, "{command}: {text}");
        assert_eq!(tool(&format!("fsck.{name} -f -v {}", arg(&image))), 0);
        // A used block that is marked free: seen, repaired, gone.
        let before = fs::read(&image).expect("image");
        xinim_fs_testing::run("debugfs", &["-w", "-R", "freei lost+found", arg(&image)]);
        let bytes = fs::read(&image).expect("image");
        assert_ne!(bytes, before);
        assert_eq!(tool(&format!("fsck.{name} -f -n {}", arg(&image))), 4, "{command}");
        assert_eq!(fs::read(&image).expect("image"), bytes, "only looked at");
        assert_eq!(tool(&format!("fsck.{name} -f -p {}", arg(&image))), 1, "{command}");
        assert_eq!(tool(&format!("fsck.{name} -f {}", arg(&image))), 0, "{command}");
        let (status, text) = e2fsck();
        assert_eq!(status, 0, "{command}: {text}");
    }
    fs::write(&image, vec![0; 40 << 10]).expect("image");
    assert_eq!(tool(&format!("mkfs.ext4 {}", arg(&image))), 1, "too small");
    assert_eq!(tool(&format!("fsck.ext4 {}", arg(&image))), 8, "no file system");
    assert_eq!(tool("fsck.ext4"), 16);
    assert_eq!(tool("fsck.ext4 -n -y x"), 16);
    assert_eq!(tool("mkfs.ext4"), 1);
    assert_eq!(tool(&format!("mkfs.ext2 -b 3000 {}", arg(&image))), 1);
    assert_eq!(tool(&format!("mkfs.ext2 -J 12 {}", arg(&image))), 1);
}

#[test]
fn mkfs_and_fsck_of_fat_agree_with_the_hosts() {
    if !require("mkfs_and_fsck_of_fat", &["fsck.fat"]) {
        return;
    }
    let dir = tempdir().expect("directory");
    let image = dir.path().join("image");
    for (options, len) in
        [("-F 12", 3 << 20), ("-F 16 -n label", 16 << 20), ("-F 32 -s 1", 40 << 20)]
    {
        fs::write(&image, vec![0x5A; len]).expect("image");
        assert_eq!(tool(&format!("mkfs.fat {options} {}", arg(&image))), 0, "{options}");
        let (status, text) = xinim_fs_testing::run("fsck.fat", &["-n", arg(&image)]);
        assert_eq!(status, 0, "{options}: {text}");
        assert_eq!(tool(&format!("fsck.fat {}", arg(&image))), 0, "{options}");
        // A cluster in use that no file has.
        let mut bytes = fs::read(&image).expect("image");
        let fat = usize::from(u16::from_le_bytes([bytes[14], bytes[15]])) * 512;
        bytes[fat + 40] = 0xFF;
        fs::write(&image, &bytes).expect("image");
        assert_eq!(tool(&format!("fsck.fat -n {}", arg(&image))), 1, "{options}");
        assert_eq!(fs::read(&image).expect("image"), bytes, "only looked at");
        assert_eq!(tool(&format!("fsck.fat -a {}", arg(&image))), 1, "{options}");
        assert_eq!(tool(&format!("fsck.fat {}", arg(&image))), 0, "{options}");
        let (status, text) = xinim_fs_testing::run("fsck.fat", &["-n", arg(&image)]);
        assert_eq!(status, 0, "{options}: {text}");
    }
    fs::write(&image, vec![0; 4096]).expect("image");
    assert_eq!(tool(&format!("mkfs.fat {}", arg(&image))), 1, "too small");
    assert_eq!(tool(&format!("fsck.fat {}", arg(&image))), 1, "no file system");
    assert_eq!(tool("fsck.fat"), 2);
    assert_eq!(tool("mkfs.fat -F 13 /nonexistent"), 1);
}

#[test]
fn fsbench_leaves_nothing_behind() {
    let dir = tempdir().expect("directory");
    assert_eq!(tool(&format!("fsbench -n 20 -m 1 {}", arg(dir.path()))), 0);
    assert_eq!(fs::read_dir(dir.path()).expect("directory").count(), 0);
    assert_ne!(tool("fsbench -n 0 /tmp"), 0);
    assert_ne!(tool("fsbench /nonexistent"), 0);
}

#[test]
fn fsdurable_knows_what_it_wrote() {
    let dir = tempdir().expect("directory");
    let at = arg(dir.path());
    assert_eq!(tool(&format!("fsdurable -n 20 {at}")), 0);
    assert!(!dir.path().join("f4").exists() && dir.path().join("f5").exists());
    assert_eq!(tool(&format!("fsdurable -c {at} 5 6 19 20")), 0);
    assert_eq!(tool(&format!("fsdurable -c {at} 4")), 0, "removed by step 20, which is there");
    assert_eq!(tool(&format!("fsdurable -c {at} 21")), 1, "never written");
    fs::write(dir.path().join("f7"), "other").expect("file");
    assert_eq!(tool(&format!("fsdurable -c {at} 6 7 8")), 1);
    assert_eq!(tool(&format!("fsdurable -n 2 {at} 20")), 0);
    assert_eq!(tool(&format!("fsdurable -c {at} 20 21 22")), 0);
    assert_eq!(tool(&format!("fsdurable -u {at}/f22 {at} 22")), 0, "at once");
    assert_ne!(tool(&format!("fsdurable {at} x")), 0);
    assert_ne!(tool("fsdurable"), 0);
}
