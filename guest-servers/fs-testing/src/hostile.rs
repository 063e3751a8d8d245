//! Damaged images: whatever they hold, a file system answers, with errors or with something.
//!
//! ```ignore
//! for seed in campaign(300) {
//!     let mut random = Random::new(seed);
//!     let image = hostile::damage(&good, &hot, &mut random);
//!     hostile::survive(seed, image, |image| MyFs::new(image, now));
//! }
//! ```
//! [`survive`] fails on a panic (with the seed), when more than [`ACCESSES`] accesses were made (a
//! loop that follows the image's lies), and when more than [`MEMORY`] bytes were allocated, if the
//! test counts them ([`crate::memory`]).

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use xinim_abi::services::vfs::mode;
use xinim_fs_kit::{DirBuffer, FileSystem, Ino, NewFile, SetAttributes, entries};

use crate::memory::peak_of;
use crate::{Image, Random};

/// Accesses to the image in one assault.
pub const ACCESSES: u64 = 4_000_000;
/// Bytes a file system may take in one assault beyond its image.
pub const MEMORY: usize = 64 << 20;
/// Files looked at.
const VISITS: usize = 300;
/// Directories looked at. One that contains itself makes paths of that length, and where a look-up
/// begins at the root the cost of the walk grows with the cube of this.
const DIRECTORIES: usize = 32;
/// Bytes read or written of one file.
const PIECE: usize = 8 * 1024;

/// A copy of a good image with some damage: single bytes and words, runs of noise, sectors moved
/// about, the end cut off. `hot` are byte ranges where the structures stand; most hits go there.
pub fn damage(good: &[u8], hot: &[std::ops::Range<usize>], random: &mut Random) -> Vec<u8> {
    let mut image = good.to_vec();
    for _ in 0..1 + random.below(24) {
        let at = place(&image, hot, random);
        match random.below(10) {
            0..4 => image[at] = interesting(random) as u8,
            4..7 => {
                let value = interesting(random).to_le_bytes();
                let width = 1 << random.below(4);
                let at = at & !(width - 1);
                let end = (at + width).min(image.len());
                image[at..end].copy_from_slice(&value[..end - at]);
            }
            7 => {
                let end = (at + 1 + random.below(64) as usize).min(image.len());
                image[at..end].fill_with(|| random.below(256) as u8);
            }
            8 => {
                // One sector becomes another: pointers to themselves, directories in inode tables.
                let from = place(&image, hot, random) / 512 * 512;
                let (at, len) = (at / 512 * 512, image.len());
                let count = 512.min(len - at).min(len - from);
                image.copy_within(from..from + count, at);
            }
            _ if random.below(20) == 0 => {
                image.truncate((at / 512 * 512).max(512));
            }
            _ => image[at] ^= 1 << random.below(8),
        }
    }
    image
}

fn place(image: &[u8], hot: &[std::ops::Range<usize>], random: &mut Random) -> usize {
    let range = match hot.get(random.below(hot.len() as u64 + 1) as usize) {
        Some(range) => range.start.min(image.len() - 1)..range.end.min(image.len()),
        None => 0..image.len(),
    };
    range.start + random.below((range.end - range.start).max(1) as u64) as usize
}

/// Numbers that tend to break arithmetic.
fn interesting(random: &mut Random) -> u64 {
    let edge = 1u64.checked_shl(random.below(64) as u32).unwrap_or(0);
    match random.below(6) {
        0 => 0,
        1 => u64::MAX,
        2 => edge,
        3 => edge.wrapping_sub(1),
        4 => random.below(256),
        _ => random.below(u64::from(u32::MAX)) * random.below(u64::from(u32::MAX)),
    }
}

/// Lets a file system loose on an image. Panics, naming `seed`, if it panics, loops or hoards.
pub fn survive<F: FileSystem>(seed: u64, image: Vec<u8>, open: impl FnOnce(Image) -> F) {
    let image = Image::new(image).budget(ACCESSES);
    let watched = image.clone();
    let assaulted = catch_unwind(AssertUnwindSafe(|| {
        peak_of(|| {
            let mut random = Random::new(seed ^ 0x5EED);
            assault(&mut open(image), &mut random);
        })
    }));
    match assaulted {
        Ok(((), peak)) => {
            assert!(!watched.exhausted(), "seed {seed}: more than {ACCESSES} accesses");
            assert!(peak <= MEMORY, "seed {seed}: {peak} bytes of memory");
        }
        Err(panic) => {
            eprintln!("panicked on the damaged image of seed {seed}");
            resume_unwind(panic);
        }
    }
}

/// Mounts, walks, reads, writes, unmounts. Any answer will do.
pub fn assault<F: FileSystem>(fs: &mut F, random: &mut Random) {
    let Ok(info) = fs.mount("hostile", 0) else { return };
    let (directories, files) = walk(fs, info.root);
    let mut buffer = vec![0; PIECE];
    for &ino in files.iter().chain(&directories) {
        let Ok(stat) = fs.attributes(ino) else { continue };
        let _ = fs.read_link(ino);
        for offset in [0, stat.size / 2, stat.size.saturating_sub(9), 1 << 33] {
            let _ = fs.read(ino, offset, &mut buffer);
        }
    }
    let _ = fs.statfs();
    for round in 0..24 {
        let pick = |list: &[Ino], random: &mut Random| {
            list.get(random.below(list.len().max(1) as u64) as usize).copied().unwrap_or(info.root)
        };
        let (dir, other) = (pick(&directories, random), pick(&directories, random));
        let file = pick(&files, random);
        let name = [b'n', b'0' + round % 10];
        match random.below(10) {
            0 => drop(fs.create(dir, &name, &NewFile::new(mode::REGULAR | 0o644))),
            1 => drop(fs.create(dir, &name, &NewFile::new(mode::DIRECTORY | 0o755))),
            2 => drop(fs.create(dir, &name, &NewFile::link(mode::SYMLINK | 0o777, b"somewhere"))),
            3 | 4 => {
                let bits = random.below(34);
                let offset = random.below(1 << bits);
                let _ =
                    fs.write(file, offset, &buffer[..1 + random.below(PIECE as u64 - 1) as usize]);
            }
            5 => {
                let bits = random.below(24);
                let size = Some(random.below(1 << bits));
                let _ = fs.set_attributes(file, &SetAttributes { size, ..Default::default() });
            }
            6 => {
                let listed = names(fs, dir);
                if let Some((name, ..)) = listed.first() {
                    let _ = fs.unlink(dir, name, random.below(2) == 0);
                }
            }
            7 => {
                let listed = names(fs, dir);
                if let Some((from, ..)) = listed.last() {
                    let _ = fs.rename((dir, from), (other, &name));
                }
            }
            8 => drop(fs.link(file, dir, &name)),
            _ => drop(fs.fsync(file)),
        }
    }
    let _ = fs.sync();
    let _ = fs.unmount();
}

/// Directories and other files found from the root on.
fn walk<F: FileSystem>(fs: &mut F, root: Ino) -> (Vec<Ino>, Vec<Ino>) {
    let (mut directories, mut files) = (vec![root], Vec::new());
    let mut at = 0;
    while let Some(&dir) = directories.get(at) {
        at += 1;
        for (name, ..) in names(fs, dir) {
            let Ok(stat) = fs.lookup(dir, &name) else { continue };
            let (list, most) = match stat.mode & mode::TYPE_MASK {
                mode::DIRECTORY => (&mut directories, DIRECTORIES),
                _ => (&mut files, VISITS),
            };
            if list.len() < most && !list.contains(&stat.ino) {
                list.push(stat.ino);
            }
        }
    }
    (directories, files)
}

/// The first names of a directory.
fn names<F: FileSystem>(fs: &mut F, dir: Ino) -> Vec<(Vec<u8>, Ino)> {
    let (mut found, mut cookie) = (Vec::new(), 0);
    for _ in 0..16 {
        let mut buffer = DirBuffer::new(4096);
        if fs.read_dir(dir, cookie, &mut buffer).is_err() {
            break;
        }
        let mut any = false;
        for entry in entries(buffer.bytes()) {
            (any, cookie) = (true, entry.next);
            if entry.name != b"." && entry.name != b".." && found.len() < VISITS {
                found.push((entry.name.to_vec(), entry.ino));
            }
        }
        if !any {
            break;
        }
    }
    found
}
