//! Power cuts and damaged images.

use std::collections::BTreeMap;
use std::format;
use std::string::String;
use std::vec;
use std::vec::Vec;

use xinim_fs_kit::{FileSystem, NewFile, conformance};
use xinim_fs_testing::{Image, Random, campaign, hostile};

use super::{DIR, FILE, abilities, assert_clean, formatted, kinds, mounted, on};

#[global_allocator]
static MEMORY: xinim_fs_testing::memory::Counting = xinim_fs_testing::memory::Counting;

/// What was fsynced: name in the root and content, by the mark set then. A name that is changed
/// afterwards is taken out by the next mark.
type Promises = Vec<BTreeMap<String, Vec<u8>>>;

/// A name is about to change: what was promised of it holds no longer.
fn withdraw(promise: &mut BTreeMap<String, Vec<u8>>, name: &str) {
    promise.retain(|names, _| names.split('|').all(|own| own != name));
}

/// A workload with fsyncs; the promise in force after mark `n` is element `n`.
fn workload(image: &Image, seed: u64) -> Promises {
    let mut random = Random::new(seed);
    let (mut fs, root) = mounted(image);
    image.record();
    let mut promises: Promises = vec![BTreeMap::new()];
    let mut now: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    image.mark(0);
    for step in 0..60 {
        let name = format!("f{}", random.below(8));
        let other = format!("f{}", random.below(8));
        let data = vec![step as u8 + 1; random.below(24_000) as usize];
        // From before the change until the next fsync a file may be old or new: no promise.
        let mut promise = promises.last().expect("one").clone();
        match random.below(8) {
            0..3 => {
                withdraw(&mut promise, &name);
                promises.push(promise);
                image.mark(promises.len() as u64 - 1);
                let ino = match fs.lookup(root, name.as_bytes()) {
                    Ok(stat) => stat.ino,
                    Err(_) => {
                        fs.create(root, name.as_bytes(), &NewFile::new(FILE)).expect("create").ino
                    }
                };
                let size = Some(0);
                let cut = xinim_fs_kit::SetAttributes { size, ..Default::default() };
                fs.set_attributes(ino, &cut).expect("truncate");
                assert_eq!(fs.write(ino, 0, &data), Ok(data.len()));
                now.insert(name.clone(), data);
                if random.below(2) == 0 {
                    fs.fsync(ino).expect("fsync");
                    promises.push(now.clone());
                    image.mark(promises.len() as u64 - 1);
                }
            }
            3 => {
                withdraw(&mut promise, &name);
                promises.push(promise);
                image.mark(promises.len() as u64 - 1);
                let _ = fs.unlink(root, name.as_bytes(), false);
                now.remove(&name);
            }
            4 | 5 => {
                // The old way to replace a file: write another, fsync it, rename it. The target is
                // one of the two at any time, so a promised target stays promised in some form;
                // what is checked here is that the file is not lost under both names.
                if name != other && now.contains_key(&name) {
                    let held = promise.get(&name) == now.get(&name);
                    withdraw(&mut promise, &name);
                    withdraw(&mut promise, &other);
                    if held {
                        promise.insert(format!("{name}|{other}"), now[&name].clone());
                    }
                    promises.push(promise);
                    image.mark(promises.len() as u64 - 1);
                    fs.rename((root, name.as_bytes()), (root, other.as_bytes())).expect("rename");
                    let data = now.remove(&name).expect("there");
                    now.insert(other, data);
                }
            }
            6 => {
                let _ = fs.create(root, format!("d{step}").as_bytes(), &NewFile::new(DIR));
            }
            _ => {
                fs.sync().expect("sync");
                promises.push(now.clone());
                image.mark(promises.len() as u64 - 1);
            }
        }
    }
    promises
}

/// What a promise says is there: under its name, or under either of two.
fn kept(image: &Image, promise: &BTreeMap<String, Vec<u8>>, what: &str) {
    let (mut fs, root) = mounted(image);
    for (names, data) in promise {
        let found = names.split('|').any(|name| {
            let Ok(stat) = fs.lookup(root, name.as_bytes()) else { return false };
            let mut content = vec![0; stat.size as usize];
            fs.read(stat.ino, 0, &mut content) == Ok(data.len()) && content == *data
        });
        assert!(found, "{what}: {names} with {} bytes was fsynced", data.len());
    }
    fs.unmount().expect("unmount");
    assert_clean(image);
}

#[test]
fn a_power_cut_costs_nothing_that_was_fsynced() {
    let mut cuts = 0;
    for seed in campaign(14) {
        let options = kinds()[seed as usize % kinds().len()];
        let image = formatted(&options, 1 << 20);
        let promises = workload(&image, seed);
        let recording = image.recording();
        let mut random = Random::new(seed);
        for round in 0..40 {
            let cut = recording.cut(&mut random);
            let Some(&mark) = cut.marks.last() else { continue };
            let what = format!("seed {seed} round {round} step {} mark {mark}", cut.at);
            // The mount repairs; nothing is lost, and the volume is clean afterwards.
            kept(&Image::new(cut.image), &promises[mark as usize], &what);
            cuts += 1;
        }
    }
    assert!(cuts > 400, "{cuts}");
}

#[test]
fn damaged_volumes_end_in_errors() {
    for options in kinds() {
        let image = formatted(&options, 600 << 10);
        let (mut fs, root) = mounted(&image);
        conformance::model::exercise(&mut fs, root, &abilities(&options), 9, 150);
        let far = fs.create(root, b"far", &NewFile::new(FILE)).expect("create").ino;
        for offset in [0, 40_000, 3 << 20, 80 << 20] {
            fs.write(far, offset, b"indirect").expect("write");
        }
        fs.unmount().expect("unmount");
        let good = image.bytes();
        let first = fs_start(&options);
        let hot = [1024..1056, 2048..first, first..first + (40 << 10)];
        for seed in campaign(60) {
            let damaged = hostile::damage(&good, &hot, &mut Random::new(seed));
            hostile::survive(seed, damaged, |image| on(&image));
        }
    }
}

/// Where the data zones of these small volumes begin, roughly.
fn fs_start(options: &crate::format::Options) -> usize {
    crate::format::plan(600 << 10, options).expect("plan").first_data as usize * options.block
}

#[test]
fn an_indirect_block_that_names_itself_ends() {
    for options in kinds() {
        let image = formatted(&options, 600 << 10);
        let (mut fs, root) = mounted(&image);
        let ino = fs.create(root, b"loop", &NewFile::new(FILE)).expect("create").ino;
        let block = options.block as u64;
        fs.write(ino, 8 * block, b"x").expect("write");
        fs.unmount().expect("unmount");
        // The data block of the only file, through its indirect block, becomes the indirect block.
        let geometry = crate::Geometry::read(&mut image.clone()).expect("geometry");
        let mut volume = crate::volume::Volume::open(image.clone()).expect("volume");
        let mut inode = volume.inode(ino as u32).expect("inode");
        let zone = inode.zones[7];
        image.edit(|bytes| {
            let start = zone as usize * options.block;
            for at in (0..options.block).step_by(geometry.pointer_len()) {
                let number = &zone.to_le_bytes()[..geometry.pointer_len()];
                bytes[start + at..start + at + number.len()].copy_from_slice(number);
            }
        });
        inode.zones[7 + geometry.levels() - 1] = zone;
        inode.size = 0x7000_0000;
        volume.put_inode(ino as u32, &inode).expect("inode");
        hostile::survive(0, image.bytes(), |image| on(&image));
        let name = geometry.version as u32;
        let report = crate::check::check(&mut image.clone(), true).expect("check");
        assert!(report.found > 0, "version {}", name);
        assert_clean(&image);
    }
}
