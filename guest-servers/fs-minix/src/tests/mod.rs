//! Host tests: the suite of all file systems, the host's own tools, power cuts, damage.

mod crash;
mod host;

use std::boxed::Box;
use std::vec::Vec;

use proptest::prelude::*;
use xinim_abi::error::{Error, Result};
use xinim_abi::services::vfs::{mode, mount};
use xinim_fs_exerciser::{Can, FsTarget, run};
use xinim_fs_kit::conformance::{self, Abilities, deaths};
use xinim_fs_kit::{FileSystem, Ino, NewFile, SetAttributes};
use xinim_fs_testing::Image;

use crate::check::check;
use crate::format::{Options, format};
use crate::{Minix, Version};

pub const FILE: u32 = mode::REGULAR | 0o644;
pub const DIR: u32 = mode::DIRECTORY | 0o755;

pub fn now() -> u64 {
    1_750_000_000_000_000_000
}

/// Every version with its name lengths and block sizes.
pub fn kinds() -> Vec<Options> {
    let mut kinds = Vec::new();
    for version in [Version::V1, Version::V2] {
        for name_len in [14, 30] {
            kinds.push(Options { name_len, ..Options::new(version) });
        }
    }
    for block in [1024, 2048, 4096] {
        kinds.push(Options { block, ..Options::new(Version::V3) });
    }
    kinds
}

pub fn formatted(options: &Options, len: usize) -> Image {
    let image = Image::zeroed(len);
    format(&mut image.clone(), options).expect("format");
    image
}

pub fn on(image: &Image) -> Minix<Image> {
    let image = image.clone();
    Minix::new(Box::new(move |_: &str| -> Result<Image> { Ok(image.clone()) }), now)
}

pub fn mounted(image: &Image) -> (Minix<Image>, Ino) {
    let mut fs = on(image);
    let root = fs.mount("vda", 0).expect("mount").root;
    (fs, root)
}

fn abilities(options: &Options) -> Abilities {
    let first = options.version == Version::V1;
    Abilities {
        gid_max: if first { 0xFF } else { 0xFFFF },
        access_times: !first,
        name_max: options.name_len,
        time_step: 1_000_000_000,
        max_size: if first { 268_966_912 } else { 0x7FFF_FFFF },
        ..Abilities::default()
    }
}

/// Our own check finds nothing.
#[track_caller]
pub fn assert_clean(image: &Image) {
    let report = check(&mut image.clone(), false).expect("check");
    assert_eq!(report.problems, Vec::<std::string::String>::new());
}

#[test]
fn conforms_in_every_version() {
    for options in kinds() {
        let image = core::cell::RefCell::new(Image::zeroed(0));
        conformance::check_all(&abilities(&options), &mut || {
            *image.borrow_mut() = formatted(&options, 8 << 20);
            mounted(&image.borrow())
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn as_the_model(seed: u64, kind in 0..7usize) {
        let options = kinds()[kind];
        let image = formatted(&options, 4 << 20);
        let (mut fs, root) = mounted(&image);
        conformance::model::exercise(&mut fs, root, &abilities(&options), seed, 300);
        fs.unmount().expect("unmount");
        assert_clean(&image);
    }
}

#[test]
fn as_the_exerciser_wants() {
    for (at, options) in kinds().iter().enumerate() {
        // Every second run in want of space.
        for (len, seed) in [(4 << 20, at as u64), (300 << 10, 100 + at as u64)] {
            let image = formatted(options, len);
            let (fs, root) = mounted(&image);
            let mut target = FsTarget::new(fs, root);
            let can = Can::from(&abilities(options));
            let summary = run(&mut target, &can, seed, 3000);
            let summary = summary.unwrap_or_else(|failure| panic!("{options:?}: {failure}"));
            assert_eq!(summary.no_space > 0, len < 1 << 20, "{summary:?}");
            target.into_inner().unmount().expect("unmount");
            assert_clean(&image);
        }
    }
}

#[test]
fn other_contents_are_not_ours() {
    assert_eq!(on(&Image::zeroed(1 << 20)).mount("vda", 0).err(), Some(Error::Inval));
    assert_eq!(on(&Image::zeroed(100)).mount("vda", 0).err(), Some(Error::Inval));
    // A superblock of a longer volume: the end is missing.
    let image = formatted(&Options::new(Version::V2), 1 << 20);
    let short = Image::new(image.bytes()[..900 << 10].to_vec());
    assert_eq!(on(&short).mount("vda", 0).err(), Some(Error::Inval));
}

#[test]
fn files_reach_through_all_levels_of_indirection() {
    for options in kinds() {
        let image = formatted(&options, 8 << 20);
        let (mut fs, root) = mounted(&image);
        let free = fs.statfs().expect("statfs").blocks_free;
        let ino = fs.create(root, b"far", &NewFile::new(FILE)).expect("create").ino;
        let mut size = 0;
        for power in 10..31 {
            let offset = (1u64 << power) - 3;
            let most = abilities(&options).max_size;
            if offset + 6 > most {
                assert_eq!(fs.write(ino, most, b"x").err(), Some(Error::FBig));
                let cut = fs.write(ino, most - 2, b"12345");
                assert_eq!(cut, Ok(2), "as much as fits");
                size = most;
                break;
            }
            assert_eq!(fs.write(ino, offset, b"abcdef"), Ok(6), "{options:?} {offset}");
            size = offset + 6;
        }
        assert_eq!(fs.attributes(ino).map(|s| s.size), Ok(size));
        let mut part = [9; 12];
        assert_eq!(fs.read(ino, (1 << 20) - 6, &mut part), Ok(12));
        assert_eq!(&part, b"\0\0\0abcdef\0\0\0");
        let cut = SetAttributes { size: Some((1 << 18) + 1), ..SetAttributes::default() };
        fs.set_attributes(ino, &cut).expect("shorter");
        assert_eq!(fs.read(ino, (1 << 18) - 3, &mut part), Ok(4));
        assert_eq!(&part[..4], b"abcd");
        fs.sync().expect("sync");
        fs.unlink(root, b"far", false).expect("unlink");
        assert_eq!(fs.statfs().expect("statfs").blocks_free, free, "all zones came back");
        fs.unmount().expect("unmount");
        assert_clean(&image);
    }
}

#[test]
fn a_full_volume_stays_whole() {
    for options in kinds() {
        let image = formatted(&Options { inodes: Some(96), ..options }, 600 << 10);
        let (mut fs, root) = mounted(&image);
        let free = fs.statfs().expect("statfs").blocks_free;
        let big = fs.create(root, b"big", &NewFile::new(FILE)).expect("create").ino;
        let mut size = 0;
        let refused = loop {
            match fs.write(big, size, &[7; 10_000]) {
                Ok(count) => size += count as u64,
                Err(error) => break error,
            }
        };
        assert_eq!(refused, Error::NoSpc);
        assert_eq!(fs.attributes(big).map(|s| s.size), Ok(size));
        assert_eq!(fs.create(root, b"d", &NewFile::new(DIR)).err(), Some(Error::NoSpc));
        // The root directory's block has room for these; then it would need another.
        let mut made = 0;
        let refused = loop {
            let name = std::format!("f{made}");
            match fs.create(root, name.as_bytes(), &NewFile::new(FILE)) {
                Ok(_) => made += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(refused, Error::NoSpc);
        fs.unlink(root, b"big", false).expect("unlink");
        // What was freed can be taken at once.
        let again = fs.create(root, b"again", &NewFile::new(FILE)).expect("create").ino;
        assert_eq!(fs.write(again, 0, &std::vec![1; size as usize / 2]), Ok(size as usize / 2));
        for n in 0..made {
            fs.unlink(root, std::format!("f{n}").as_bytes(), false).expect("unlink");
        }
        fs.unlink(root, b"again", false).expect("unlink");
        let grown = fs.attributes(root).expect("root").size.div_ceil(options.block as u64) - 1;
        assert_eq!(fs.statfs().expect("statfs").blocks_free + grown, free);
        fs.unmount().expect("unmount");
        assert_clean(&image);
    }
}

#[test]
fn read_only_mounts_change_nothing() {
    let image = formatted(&Options::new(Version::V3), 1 << 20);
    let (mut fs, root) = mounted(&image);
    let ino = fs.create(root, b"f", &NewFile::new(FILE)).expect("create").ino;
    fs.unmount().expect("unmount");
    let before = image.bytes();
    let mut fs = on(&image);
    assert_eq!(fs.mount("vda", mount::READ_ONLY).map(|info| info.flags), Ok(mount::READ_ONLY));
    assert_eq!(fs.create(root, b"g", &NewFile::new(FILE)).err(), Some(Error::RoFs));
    assert_eq!(fs.write(ino, 0, b"x").err(), Some(Error::RoFs));
    assert_eq!(fs.unlink(root, b"f", false), Err(Error::RoFs));
    assert_eq!(fs.sync(), Ok(()));
    assert_eq!(fs.remount(0), Ok(0));
    assert_eq!(fs.write(ino, 0, b"x"), Ok(1));
    assert_eq!(fs.remount(mount::READ_ONLY), Ok(mount::READ_ONLY));
    assert_eq!(fs.write(ino, 0, b"x").err(), Some(Error::RoFs));
    assert_clean(&image);
    fs.unmount().expect("unmount");
    assert_ne!(before, image.bytes());
    let device = Image::new(image.bytes()).read_only();
    let info = on(&device).mount("vda", 0).expect("mount");
    assert_eq!(info.flags, mount::READ_ONLY, "a device that cannot be written");
}

#[test]
fn errors_of_the_medium_are_reported_and_pass() {
    let image = formatted(&Options::new(Version::V2), 1 << 20);
    let (mut fs, root) = mounted(&image);
    let ino = fs.create(root, b"f", &NewFile::new(FILE)).expect("create").ino;
    image.fail_writes(true);
    assert_eq!(fs.write(ino, 0, b"x").err(), Some(Error::Io));
    assert_eq!(fs.fsync(ino), Err(Error::Io));
    assert_eq!(fs.create(root, b"g", &NewFile::new(FILE)).err(), Some(Error::Io));
    image.fail_writes(false);
    assert_eq!(fs.write(ino, 0, b"x"), Ok(1));
    assert_eq!(fs.fsync(ino), Ok(()));
}

#[test]
fn links_have_a_limit() {
    let image = formatted(&Options { inodes: Some(512), ..Options::new(Version::V1) }, 2 << 20);
    let (mut fs, root) = mounted(&image);
    let name = |n: u32| std::format!("n{n}").into_bytes();
    let ino = fs.create(root, &name(0), &NewFile::new(FILE)).expect("create").ino;
    for n in 1..250 {
        assert_eq!(fs.link(ino, root, &name(n)), Ok(()));
    }
    assert_eq!(fs.link(ino, root, &name(250)), Err(Error::MLink));
    for n in 0..248 {
        let name = std::format!("d{n}").into_bytes();
        fs.create(root, &name, &NewFile::new(DIR)).expect("mkdir");
    }
    assert_eq!(fs.create(root, b"more", &NewFile::new(DIR)).err(), Some(Error::MLink));
    fs.unmount().expect("unmount");
    assert_clean(&image);
}

#[test]
fn trimming_takes_free_zones_only() {
    for options in kinds() {
        let image = formatted(&options, 2 << 20);
        let (mut fs, root) = mounted(&image);
        let ino = fs.create(root, b"f", &NewFile::new(FILE)).expect("create").ino;
        fs.write(ino, 0, &[7; 30_000]).expect("write");
        let free = fs.statfs().map(|s| s.blocks_free * s.block_size).expect("statfs");
        assert_eq!(fs.trim(0, u64::MAX, 0), Ok(free));
        assert_eq!(fs.trim(0, u64::MAX, 1 << 30), Ok(0), "no run is that long");
        assert_eq!(fs.trim(1 << 40, 1 << 20, 0), Ok(0), "behind the end");
        let mut data = std::vec![0; 30_000];
        assert_eq!(fs.read(ino, 0, &mut data), Ok(30_000));
        assert!(data.iter().all(|&byte| byte == 7));
    }
}

#[test]
fn nameless_files_outlive_the_server() {
    for options in kinds() {
        let image = formatted(&options, 4 << 20).recovered();
        deaths::nameless_files_outlive_the_server("vda", || on(&image));
        assert_clean(&image);
    }
}
