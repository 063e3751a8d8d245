use std::format;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;
use xinim_abi::error::Error;
use xinim_abi::services::vfs::mode;
use xinim_fs_kit::conformance::{self, Abilities};
use xinim_fs_kit::{FileSystem, Ino};

use crate::cpio::{Archive, Malformed};
use crate::ramfs::ROOT;
use crate::{BUNDLE_SOURCE, Bundle, RamFs, Settings};

pub(crate) fn settings(memory_limit: u64) -> Settings {
    Settings { memory_limit, clock: || 1_000_000_000_000 }
}

pub(crate) fn fresh() -> RamFs<'static> {
    let mut fs = RamFs::new(settings(64 << 20));
    fs.mount("", 0).unwrap();
    fs
}

fn bundled(bytes: &[u8]) -> RamFs<'_> {
    assert_eq!(Archive::new(bytes).find_map(Result::err), None);
    let mut fs = RamFs::with_bundle(Bundle { bytes, memory: 7 }, settings(1 << 20));
    assert_eq!(fs.mount(BUNDLE_SOURCE, 0).map(|info| info.root), Ok(ROOT));
    fs
}

/// One member in newc format.
fn member(ino: u32, mode: u32, links: u32, name: &str, data: &[u8]) -> Vec<u8> {
    let fields = [ino, mode, 0, 0, links, 1000, data.len() as u32, 0, 0, 0, 0];
    let mut out = b"070701".to_vec();
    for field in fields.into_iter().chain([name.len() as u32 + 1, 0]) {
        out.extend(format!("{field:08X}").bytes());
    }
    out.extend(name.bytes().chain([0]));
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(data);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

fn trailer() -> Vec<u8> {
    member(0, 0, 1, "TRAILER!!!", b"")
}

fn find(fs: &mut RamFs, path: &str) -> Option<Ino> {
    path.split('/').try_fold(ROOT, |dir, name| fs.lookup(dir, name.as_bytes()).ok().map(|s| s.ino))
}

fn content(fs: &mut RamFs, ino: Ino) -> Vec<u8> {
    let mut data = vec![0; fs.attributes(ino).unwrap().size as usize];
    assert_eq!(fs.read(ino, 0, &mut data), Ok(data.len()));
    data
}

#[test]
fn conforms() {
    conformance::check_all(&Abilities::default(), &mut || (fresh(), ROOT));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn behaves_as_the_model(seed: u64) {
        conformance::model::exercise(&mut fresh(), ROOT, &Abilities::default(), seed, 150);
    }

    #[test]
    fn any_bytes_are_an_archive_or_an_error(mut bytes: Vec<u8>, valid: bool) {
        if valid {
            bytes.splice(0..0, member(1, mode::REGULAR | 0o644, 1, "a", b"x"));
        }
        let members = Archive::new(&bytes).take_while(Result::is_ok).count();
        prop_assert!(members <= 1);
        let bundle = Bundle { bytes: &bytes, memory: 7 };
        let mut fs = RamFs::with_bundle(bundle, settings(1 << 20));
        prop_assert_eq!(fs.mount(BUNDLE_SOURCE, 0).is_ok(), valid, "what is left of it");
        prop_assert_eq!(find(&mut fs, "a").is_some(), valid);
    }

    #[test]
    fn damaged_archives_do_no_harm(at in 0usize..500, value: u8) {
        let mut bytes = sample();
        let at = at % bytes.len();
        bytes[at] = value;
        let bundle = Bundle { bytes: &bytes, memory: 7 };
        let mut fs = RamFs::with_bundle(bundle, settings(1 << 20));
        let _ = fs.mount(BUNDLE_SOURCE, 0);
        let _ = conformance::list(&mut fs, ROOT, 4096);
    }
}

pub(crate) fn sample() -> Vec<u8> {
    [
        member(1, mode::DIRECTORY | 0o755, 2, "bin", b""),
        member(2, mode::REGULAR | 0o755, 1, "bin/tool", b"program"),
        member(3, mode::SYMLINK | 0o777, 1, "bin/ls", b"tool"),
        member(4, mode::REGULAR | 0o644, 2, "etc/deep/one", b""),
        member(4, mode::REGULAR | 0o644, 2, "./etc/two", b"shared"),
        trailer(),
    ]
    .concat()
}

#[test]
fn bundle_becomes_a_tree() {
    let bytes = sample();
    let mut fs = bundled(&bytes);
    let tool = find(&mut fs, "bin/tool").unwrap();
    assert_eq!(content(&mut fs, tool), b"program");
    let stat = fs.attributes(tool).unwrap();
    assert_eq!((stat.mode, stat.mtime), (mode::REGULAR | 0o755, 1_000_000_000_000));
    let ls = find(&mut fs, "bin/ls").unwrap();
    assert_eq!(fs.read_link(ls).unwrap(), b"tool");
    let (one, two) = (find(&mut fs, "etc/deep/one"), find(&mut fs, "etc/two").unwrap());
    assert_eq!(one, Some(two), "hard links share the file");
    assert_eq!(content(&mut fs, two), b"shared");
    assert_eq!(fs.attributes(two).unwrap().links, 2);
}

#[test]
fn writing_copies_and_leaves_the_bundle() {
    let data: Vec<u8> = (0..10_000u32).map(|n| n as u8).collect();
    let bytes = [member(1, mode::REGULAR | 0o644, 1, "f", &data), trailer()].concat();
    let mut fs = bundled(&bytes);
    let ino = find(&mut fs, "f").unwrap();
    assert_eq!(fs.write(ino, 5_000, b"changed"), Ok(7));
    let mut expected = data.clone();
    expected[5_000..5_007].copy_from_slice(b"changed");
    assert!(content(&mut fs, ino) == expected);
    assert_eq!(fs.map(ino), Err(Error::NotSup), "a changed file has no place in the bundle");
    // Cut inside the bundle's bytes, grow again: zeros, not the old bytes.
    let cut = |size| xinim_fs_kit::SetAttributes { size: Some(size), ..Default::default() };
    fs.set_attributes(ino, &cut(100)).unwrap();
    fs.set_attributes(ino, &cut(9_000)).unwrap();
    let now = content(&mut fs, ino);
    assert_eq!(&now[..100], &data[..100]);
    assert!(now[100..].iter().all(|&byte| byte == 0));
}

#[test]
fn mapped_where_page_aligned() {
    let mut bytes = member(1, mode::REGULAR | 0o755, 1, "odd", b"not aligned");
    // The name is padded with zero bytes so that the data starts on a page, as the bundle's
    // writer does it.
    let fill = 4096 - (bytes.len() + 110) - "prog".len() - 1;
    let aligned =
        member(2, mode::REGULAR | 0o755, 1, &format!("prog{}", "\0".repeat(fill)), b"ELF");
    bytes.extend(aligned);
    bytes.extend(trailer());
    let mut fs = bundled(&bytes);
    let odd = find(&mut fs, "odd").unwrap();
    assert_eq!(fs.map(odd), Err(Error::NotSup));
    let prog = find(&mut fs, "prog").unwrap();
    let map = fs.map(prog).unwrap();
    assert_eq!((map.offset, map.len, map.memory), (4096, 3, 7));
    assert_eq!(fs.map(ROOT), Err(Error::IsDir));
}

#[test]
fn another_source_leaves_it_empty() {
    let bytes = sample();
    let bundle = Bundle { bytes: &bytes, memory: 7 };
    let mut fs = RamFs::with_bundle(bundle, settings(1 << 20));
    fs.mount("none", 0).unwrap();
    assert_eq!(find(&mut fs, "bin"), None);
}

#[test]
fn a_new_mount_forgets_holds() {
    let mut fs = fresh();
    let ino =
        fs.create(ROOT, b"f", &xinim_fs_kit::NewFile::new(mode::REGULAR | 0o644)).unwrap().ino;
    fs.hold(ino).unwrap();
    fs.unlink(ROOT, b"f", false).unwrap();
    assert!(fs.attributes(ino).is_ok());
    fs.mount("", 0).unwrap();
    assert_eq!(fs.attributes(ino), Err(Error::Stale));
}

#[test]
fn space_is_bounded() {
    let mut fs = RamFs::new(settings(10 * 4096));
    let ino =
        fs.create(ROOT, b"f", &xinim_fs_kit::NewFile::new(mode::REGULAR | 0o644)).unwrap().ino;
    let count = fs.write(ino, 0, &[1; 20 * 4096]).unwrap();
    assert_eq!(count, 9 * 4096, "what fits is written");
    assert_eq!(fs.write(ino, 1 << 20, b"x"), Err(Error::NoSpc));
    let full = (0..1000u32).find_map(|n| {
        fs.create(
            ROOT,
            format!("{n}").as_bytes(),
            &xinim_fs_kit::NewFile::new(mode::DIRECTORY | 0o755),
        )
        .err()
    });
    assert_eq!(full, Some(Error::NoSpc), "names cost too");
    let cut = xinim_fs_kit::SetAttributes { size: Some(0), ..Default::default() };
    fs.set_attributes(ino, &cut).unwrap();
    assert_eq!(fs.write(ino, 0, &[1; 4096]), Ok(4096), "cut space is there again");
}

#[test]
fn read_only_mounts_refuse_changes() {
    let mut fs = fresh();
    let ino =
        fs.create(ROOT, b"f", &xinim_fs_kit::NewFile::new(mode::REGULAR | 0o644)).unwrap().ino;
    fs.mount("", xinim_abi::services::vfs::mount::READ_ONLY).unwrap();
    assert_eq!(fs.write(ino, 0, b"x"), Err(Error::RoFs));
    assert_eq!(
        fs.create(ROOT, b"g", &xinim_fs_kit::NewFile::new(mode::REGULAR)).err(),
        Some(Error::RoFs)
    );
    assert_eq!(fs.unlink(ROOT, b"f", false), Err(Error::RoFs));
}

#[test]
fn cut_off_archives_say_where() {
    let whole = sample();
    let error = Archive::new(&whole[..whole.len() - 200]).find_map(Result::err);
    assert!(matches!(error, Some(Malformed::CutOff { .. })), "{error:?}");
    assert_eq!(
        Archive::new(&[b'x'; 200]).find_map(Result::err),
        Some(Malformed::Magic { offset: 0 })
    );
}

#[test]
fn as_the_exerciser_wants() {
    use xinim_fs_exerciser::{Can, FsTarget, run};
    for seed in 0..3 {
        let summary = run(&mut FsTarget::new(fresh(), ROOT), &Can::default(), seed, 4000);
        summary.unwrap_or_else(|failure| panic!("{failure}"));
    }
}
