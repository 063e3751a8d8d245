//! Checks with many names, all pairs of kinds, or no space left.

use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::Error;
use xinim_abi::services::vfs::mode;

use super::{Abilities, DIR, FILE, list};
use crate::{DirBuffer, FileSystem, Ino, NewFile, entries};

/// Most that is written to find the end of the space.
const FILL_MAX: u64 = 128 << 20;

fn numbered(prefix: &[u8], n: u32) -> Vec<u8> {
    let mut name = prefix.to_vec();
    name.extend((0..3).rev().map(|digit| b'0' + (n / 10u32.pow(digit) % 10) as u8));
    name
}

/// Names that are there all the time are read exactly once, whatever comes and goes meanwhile.
pub(super) fn reading_while_names_come_and_go<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let dir = fs.create(root, b"d", &NewFile::new(DIR)).expect("mkdir").ino;
    let file = NewFile::new(FILE);
    for n in 0..250 {
        fs.create(dir, &numbered(b"stay-", n), &file).expect("create");
        fs.create(dir, &numbered(b"go-", n), &file).expect("create");
    }
    let (mut cookie, mut round) = (0, 0);
    let mut seen: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut buffer = DirBuffer::new(400);
        fs.read_dir(dir, cookie, &mut buffer).expect("read_dir");
        let mut any = false;
        for entry in entries(buffer.bytes()) {
            (any, cookie) = (true, entry.next);
            if entry.name.starts_with(b"stay-") {
                seen.push(entry.name.to_vec());
            }
        }
        if !any {
            break;
        }
        if round < 250 {
            fs.unlink(dir, &numbered(b"go-", 249 - round), false).expect("unlink");
            fs.create(dir, &numbered(b"come-", round), &file).expect("create");
        }
        round += 1;
        assert!(round < 5_000, "reading a directory ends");
    }
    seen.sort();
    let expected: Vec<Vec<u8>> = (0..250).map(|n| numbered(b"stay-", n)).collect();
    assert!(seen == expected, "{} of 250 names, some may be there twice", seen.len());
}

/// What a name stands for in the matrix.
const KINDS: [&[u8]; 4] = [b"none", b"file", b"empty", b"full"];

fn make<F: FileSystem>(fs: &mut F, dir: Ino, name: &[u8], kind: usize) -> Option<Ino> {
    let ino = match kind {
        0 => return None,
        1 => fs.create(dir, name, &NewFile::new(FILE)).expect("create").ino,
        _ => fs.create(dir, name, &NewFile::new(DIR)).expect("mkdir").ino,
    };
    if kind == 3 {
        fs.create(ino, b"below", &NewFile::new(FILE)).expect("create");
    }
    Some(ino)
}

fn clear<F: FileSystem>(fs: &mut F, dir: Ino) {
    for (name, ino, kind) in list(fs, dir, 4096).expect("list") {
        if kind == mode::DIRECTORY {
            clear(fs, ino);
        }
        assert_eq!(fs.unlink(dir, &name, kind == mode::DIRECTORY), Ok(()));
    }
}

/// Source and target of every kind, in one directory and across.
pub(super) fn every_kind_renamed_over_every_kind<F: FileSystem>(
    fs: &mut F,
    root: Ino,
    _: &Abilities,
) {
    for (from, to, across) in (0..32).map(|n: usize| (n / 4 % 4, n % 4, n >= 16)) {
        let one = fs.create(root, b"one", &NewFile::new(DIR)).expect("mkdir").ino;
        let two = match across {
            true => fs.create(root, b"two", &NewFile::new(DIR)).expect("mkdir").ino,
            false => one,
        };
        make(fs, one, b"a", from);
        make(fs, two, b"b", to);
        let expected = match (from, to) {
            (0, _) => Err(Error::NoEnt),
            (_, 0) | (1, 1) | (2 | 3, 2) => Ok(()),
            (1, _) => Err(Error::IsDir),
            (_, 1) => Err(Error::NotDir),
            _ => Err(Error::NotEmpty),
        };
        let (kind, over) = (KINDS[from], KINDS[to]);
        let renamed = fs.rename((one, b"a"), (two, b"b"));
        assert_eq!(renamed, expected, "{kind:?} over {over:?}, across {across}");
        let gone = fs.lookup(one, b"a").is_err();
        assert_eq!(gone, from == 0 || expected.is_ok(), "{kind:?} over {over:?}");
        // Everything can be removed: no link count is wrong, nothing is hidden.
        clear(fs, root);
        assert!(list(fs, root, 4096).expect("list").is_empty());
    }
}

/// Without space everything fails with `NoSpc` and breaks nothing; what is freed can be used.
pub(super) fn a_full_volume_recovers<F: FileSystem>(fs: &mut F, root: Ino, _: &Abilities) {
    let keep = fs.create(root, b"keep", &NewFile::new(FILE)).expect("create").ino;
    assert_eq!(fs.write(keep, 0, &[5; 5000]), Ok(5000));
    let big = fs.create(root, b"big", &NewFile::new(FILE)).expect("create").ino;
    let chunk = vec![9; 256 << 10];
    let mut size = 0;
    let refused = loop {
        if size >= FILL_MAX {
            return; // larger than is worth filling
        }
        match fs.write(big, size, &chunk) {
            Ok(count) => {
                assert!(count > 0 && count <= chunk.len());
                size += count as u64;
            }
            Err(error) => break error,
        }
    };
    assert_eq!(refused, Error::NoSpc);
    assert_eq!(fs.attributes(big).map(|s| s.size), Ok(size));
    assert_eq!(fs.write(keep, 0, &[6; 5000]), Ok(5000), "what is there can be written again");
    let mut data = vec![0; 5001];
    assert_eq!(fs.read(keep, 0, &mut data), Ok(5000));
    assert!(data[..5000].iter().all(|&byte| byte == 6));
    assert_eq!(fs.unlink(root, b"big", false), Ok(()));
    assert_eq!(fs.sync(), Ok(()));
    let again = fs.create(root, b"again", &NewFile::new(FILE)).expect("create").ino;
    let half = vec![3; (size / 2) as usize];
    assert_eq!(fs.write(again, 0, &half), Ok(half.len()));
    let mut tail = [0; 100];
    assert_eq!(fs.read(again, half.len() as u64 - 100, &mut tail), Ok(100));
    assert_eq!(tail, [3; 100]);
}
