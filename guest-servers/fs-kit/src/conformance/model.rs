//! Random operations on a file system and on a plain model; both must agree after each.
//!
//! Three directories, a handful of names and small files, so that operations meet each other.
//! Deterministic for a seed: tests feed seeds from proptest.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use xinim_abi::error::Error;
use xinim_abi::services::vfs::mode;

use super::{Abilities, DIR, FILE, Random, list};
use crate::{FileSystem, Ino, NewFile, SetAttributes};

const DIRS: usize = 3;
const NAMES: [&[u8]; 6] =
    [b"a", b"b", b"some-longer-name.txt", b"d", b"With Spaces And Dots.tar.gz", b"f"];
/// Longest file the exercise makes.
const MAX_LEN: u64 = 40_000;

fn pick_name(random: &mut Random, can: &Abilities) -> &'static [u8] {
    match NAMES[random.below(NAMES.len() as u64) as usize] {
        name if name.len() <= can.name_max => name,
        _ => NAMES[0],
    }
}

type Files = BTreeMap<(usize, &'static [u8]), usize>;

/// Does `steps` random operations below `root` and compares. Panics where they differ.
pub fn exercise<F: FileSystem>(fs: &mut F, root: Ino, can: &Abilities, seed: u64, steps: usize) {
    let mut random = Random::new(seed);
    let dirs: Vec<Ino> = (0..DIRS)
        .map(|n| fs.create(root, &[b'D', b'0' + n as u8], &NewFile::new(DIR)).expect("mkdir").ino)
        .collect();
    let mut files: Files = BTreeMap::new();
    // File bodies; names point into it, so that hard links share one.
    let mut bodies: Vec<Vec<u8>> = Vec::new();
    for step in 0..steps {
        let place = (random.below(DIRS as u64) as usize, pick_name(&mut random, can));
        let (dir, name) = (dirs[place.0], place.1);
        match random.below(9) {
            0 | 1 => match fs.create(dir, name, &NewFile::new(FILE)) {
                Ok(_) => {
                    assert!(!files.contains_key(&place), "step {step}: created over a file");
                    files.insert(place, bodies.len());
                    bodies.push(Vec::new());
                }
                Err(error) => {
                    assert_eq!(error, Error::Exist, "step {step}");
                    assert!(files.contains_key(&place), "step {step}");
                }
            },
            2 | 3 => {
                let Some(&body) = files.get(&place) else { continue };
                let ino = fs.lookup(dir, name).expect("lookup").ino;
                let offset = random.below(MAX_LEN / 2);
                let data = vec![random.below(255) as u8 + 1; random.below(MAX_LEN / 2) as usize];
                assert_eq!(fs.write(ino, offset, &data), Ok(data.len()), "step {step}");
                let (start, end) = (offset as usize, offset as usize + data.len());
                let body = &mut bodies[body];
                if !data.is_empty() {
                    body.resize(body.len().max(end), 0);
                    body[start..end].copy_from_slice(&data);
                }
            }
            4 => {
                let Some(&body) = files.get(&place) else { continue };
                let ino = fs.lookup(dir, name).expect("lookup").ino;
                let size = random.below(MAX_LEN);
                let set = SetAttributes { size: Some(size), ..SetAttributes::default() };
                assert_eq!(fs.set_attributes(ino, &set).map(|s| s.size), Ok(size), "step {step}");
                bodies[body].resize(size as usize, 0);
            }
            5 => {
                let expected = files.remove(&place).map(|_| ()).ok_or(Error::NoEnt);
                assert_eq!(fs.unlink(dir, name, false), expected, "step {step}");
            }
            6 | 7 => {
                let to = (random.below(DIRS as u64) as usize, pick_name(&mut random, can));
                let result = fs.rename((dir, name), (dirs[to.0], to.1));
                match files.get(&place).copied() {
                    None => assert_eq!(result, Err(Error::NoEnt), "step {step}"),
                    Some(body) => {
                        assert_eq!(result, Ok(()), "step {step}");
                        if files.get(&to) != Some(&body) {
                            files.remove(&place);
                            files.insert(to, body);
                        }
                    }
                }
            }
            _ => {
                let to = (random.below(DIRS as u64) as usize, pick_name(&mut random, can));
                let Some(&body) = files.get(&place) else { continue };
                let ino = fs.lookup(dir, name).expect("lookup").ino;
                match fs.link(ino, dirs[to.0], to.1) {
                    Ok(()) => {
                        assert!(can.hard_links && !files.contains_key(&to), "step {step}");
                        files.insert(to, body);
                    }
                    Err(Error::Exist) => assert!(files.contains_key(&to), "step {step}"),
                    Err(error) => assert!(!can.hard_links, "step {step}: {error}"),
                }
            }
        }
        compare(fs, &dirs, &files, &bodies, step);
    }
}

fn compare<F: FileSystem>(
    fs: &mut F,
    dirs: &[Ino],
    files: &Files,
    bodies: &[Vec<u8>],
    step: usize,
) {
    for (index, &dir) in dirs.iter().enumerate() {
        let names: Vec<_> = list(fs, dir, 512).expect("list").into_iter().map(|e| e.0).collect();
        let mut expected: Vec<_> =
            files.keys().filter(|key| key.0 == index).map(|key| key.1.to_vec()).collect();
        expected.sort();
        assert_eq!(names, expected, "step {step}: names of directory {index}");
    }
    for (&(dir, name), &body) in files {
        let stat = fs.lookup(dirs[dir], name).expect("lookup");
        assert_eq!(stat.mode & mode::TYPE_MASK, mode::REGULAR);
        assert_eq!(stat.size, bodies[body].len() as u64, "step {step}: size");
        let mut data = vec![0; bodies[body].len() + 1];
        assert_eq!(fs.read(stat.ino, 0, &mut data), Ok(bodies[body].len()), "step {step}");
        data.pop();
        assert!(data == bodies[body], "step {step}: content of {name:?}");
    }
}
