//! Tests on the host: e2fsprogs make the images, and judge what became of them.

mod both_ways;
mod conform;
mod crash;
mod fsck;
mod hostile;
mod kept;
mod make;

use std::boxed::Box;
use std::collections::BTreeMap;
use std::path::Path;
use std::string::String;
use std::sync::atomic::{AtomicU64, Ordering};
use std::vec::Vec;

use xinim_abi::services::vfs::mode;
use xinim_fs_kit::{FileSystem, Ino, conformance};
use xinim_fs_testing::{Image, run};

use crate::{Ext, Surroundings};

#[global_allocator]
static MEMORY: xinim_fs_testing::memory::Counting = xinim_fs_testing::memory::Counting;

pub const FILE: u32 = mode::REGULAR | 0o644;
pub const DIR: u32 = mode::DIRECTORY | 0o755;
pub const LINK: u32 = mode::SYMLINK | 0o777;

static CLOCK: AtomicU64 = AtomicU64::new(1_700_000_000_000_000_000);

/// Time passes with every look at the clock.
fn now() -> u64 {
    CLOCK.fetch_add(1_000_003, Ordering::Relaxed)
}

pub const AROUND: Surroundings = Surroundings { now, log: |message| println!("{message}") };

pub fn on(image: &Image) -> Ext {
    let image = image.clone();
    Ext::new(Box::new(move |_| Ok(Box::new(image.clone()))), AROUND)
}

pub fn mounted(image: &Image) -> (Ext, Ino) {
    let mut ext = on(image);
    let info = ext.mount("vda", 0).expect("mounted");
    (ext, info.root)
}

#[track_caller]
pub fn tool(program: &str, args: &[&str]) -> String {
    let (status, text) = run(program, args);
    assert_eq!(status, 0, "{program} {args:?}\n{text}");
    text
}

pub fn arg(path: &Path) -> &str {
    path.to_str().expect("UTF-8 path")
}

/// Bytes of an image of `mib` MiB made by mke2fs with these arguments.
#[track_caller]
pub fn made(mib: usize, args: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("image");
    std::fs::write(&path, vec![0; mib << 20]).expect("image");
    let mut all = vec!["-q", "-F"];
    all.extend_from_slice(args);
    all.push(arg(&path));
    tool("mke2fs", &all);
    std::fs::read(&path).expect("image")
}

/// As [`made`], without lost+found, which the conformance suite does not expect.
#[track_caller]
pub fn made_empty(mib: usize, args: &[&str]) -> Vec<u8> {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("image");
    std::fs::write(&path, made(mib, args)).expect("image");
    tool("debugfs", &["-w", "-R", "rmdir lost+found", arg(&path)]);
    std::fs::read(&path).expect("image")
}

/// e2fsck finds nothing to mend, and changes nothing.
#[track_caller]
pub fn check(disk: &[u8], what: &str) {
    let dir = tempfile::tempdir().expect("directory");
    let path = dir.path().join("image");
    std::fs::write(&path, disk).expect("image");
    let (status, text) = run("e2fsck", &["-fn", arg(&path)]);
    if status != 0
        && let Ok(keep) = std::env::var("XINIM_KEEP_IMAGE")
    {
        std::fs::copy(&path, &keep).expect("copy");
    }
    assert_eq!(status, 0, "{what}\n{text}");
}

/// What stands at a path: type and permissions, content or target.
pub type Tree = BTreeMap<String, (u32, Vec<u8>)>;

/// Everything below a directory but lost+found.
pub fn tree(ext: &mut Ext, root: Ino) -> Tree {
    let mut all = Tree::new();
    let mut left = vec![(root, String::new())];
    while let Some((dir, path)) = left.pop() {
        for (name, ino, _) in conformance::list(ext, dir, 4096).expect("list") {
            let name = String::from_utf8(name).expect("UTF-8");
            let path = if path.is_empty() { name } else { path.clone() + "/" + &name };
            if path == "lost+found" {
                continue;
            }
            let stat = ext.attributes(ino).expect("attributes");
            let content = match stat.mode & mode::TYPE_MASK {
                mode::DIRECTORY => {
                    left.push((ino, path.clone()));
                    Vec::new()
                }
                mode::SYMLINK => ext.read_link(ino).expect("target"),
                mode::REGULAR => {
                    let mut content = vec![0; stat.size as usize];
                    assert_eq!(ext.read(ino, 0, &mut content), Ok(content.len()));
                    content
                }
                _ => Vec::new(),
            };
            all.insert(path, (stat.mode, content));
        }
    }
    all
}

/// The feature sets in use: a name and mke2fs's arguments.
pub const VARIANTS: [(&str, &[&str]); 16] = [
    ("ext2", &["-t", "ext2", "-b", "1024"]),
    ("ext2, 128-byte inodes", &["-t", "ext2", "-b", "2048", "-I", "128"]),
    ("ext2, no features", &["-t", "ext2", "-b", "4096", "-I", "128", "-O", "none"]),
    ("ext2, revision 0", &["-t", "ext2", "-b", "1024", "-r", "0"]),
    ("ext3", &["-t", "ext3", "-b", "1024", "-J", "size=1"]),
    ("ext3, 4k", &["-t", "ext3", "-b", "4096", "-J", "size=4"]),
    ("ext3, no dir_index", &["-t", "ext3", "-b", "1024", "-O", "^dir_index", "-J", "size=1"]),
    ("ext4", &["-t", "ext4", "-b", "4096", "-J", "size=4"]),
    ("ext4, 1k", &["-t", "ext4", "-b", "1024", "-J", "size=2"]),
    ("ext4, 2k, 128-byte inodes", &["-t", "ext4", "-b", "2048", "-I", "128", "-J", "size=4"]),
    (
        "ext4, 32 bit, group checksums",
        &["-t", "ext4", "-b", "1024", "-O", "^64bit,^metadata_csum,uninit_bg", "-J", "size=2"],
    ),
    ("ext4, no checksums", &["-t", "ext4", "-b", "4096", "-O", "^metadata_csum", "-J", "size=4"]),
    ("ext4, no journal", &["-t", "ext4", "-b", "1024", "-O", "^has_journal"]),
    ("ext4, many groups", &["-t", "ext4", "-b", "1024", "-g", "1024", "-J", "size=1"]),
    (
        "ext4, meta_bg, sparse_super2, checksum seed, orphan file, large_dir",
        &[
            "-t",
            "ext4",
            "-b",
            "1024",
            "-J",
            "size=2",
            "-O",
            "meta_bg,^resize_inode,sparse_super2,metadata_csum_seed,orphan_file,large_dir",
        ],
    ),
    (
        "ext4, block maps, no flex_bg",
        &["-t", "ext4", "-b", "4096", "-O", "^flex_bg,^extent,^64bit", "-J", "size=4"],
    ),
];

/// Are the tools there? Else the test counts as skipped.
pub fn ready(test: &str) -> bool {
    xinim_fs_testing::require(test, &["mke2fs", "e2fsck", "debugfs"])
}
